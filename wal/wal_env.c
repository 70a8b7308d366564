/* SPDX-License-Identifier: Apache-2.0 */
/* The LMDB environment: opening, growing, reopening. Called by whoever opens the log, then by the writer only. */
#include "wal/wal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1024ull * 1024)
/* Beside max_bytes: freed pages that wait for reuse, gaps between runs, and trims and state at the ceiling. */
#define MAP_SLACK (256 * MIB)
#define MAP_UNLIMITED (1ull << 40)
#define MAP_LIMIT_32 (1536 * MIB)
#define MAP_FIRST_32 (64 * MIB)
#define READERS_MAX 510

/* A map of address space costs nothing on 64 bits, so it is made large once; on 32 bits it grows. */
static void map_sizes(const ab_wal_options *options, uint64_t *first, uint64_t *limit)
{
    uint64_t max = options->max_bytes;
    *limit = max == 0 || max > MAP_UNLIMITED ? MAP_UNLIMITED : 2 * max + MAP_SLACK;
    if (sizeof(void *) < 8 && *limit > MAP_LIMIT_32) {
        *limit = MAP_LIMIT_32;
    }
    *first = options->map_bytes;
    if (*first == 0) {
        *first = sizeof(void *) < 8 ? MAP_FIRST_32 : *limit;
    }
    if (*first > *limit) {
        *limit = *first;
    }
    *first = (*first + 65535) & ~65535ull;
}

static int env_create(ab_wal *wal, uint64_t map, MDB_env **env)
{
    unsigned flags = MDB_NOTLS;
    if (wal->options.read_only) {
        flags |= MDB_RDONLY | MDB_NOLOCK;
    }
    if (wal->options.durability == AB_DURABILITY_NONE) {
        flags |= MDB_NOSYNC;
    }
    int rc = mdb_env_create(env);
    if (rc != MDB_SUCCESS) {
        *env = NULL;
        return rc;
    }
    if ((rc = mdb_env_set_maxdbs(*env, 2)) == MDB_SUCCESS &&
        (rc = mdb_env_set_maxreaders(*env, READERS_MAX)) == MDB_SUCCESS &&
        (map == 0 || (rc = mdb_env_set_mapsize(*env, (size_t)map)) == MDB_SUCCESS)) {
        rc = mdb_env_open(*env, wal->dir, flags, 0600);
    }
    if (rc != MDB_SUCCESS) {
        mdb_env_close(*env);
        *env = NULL;
    }
    return rc;
}

/* Where the process may not have that much address space, less will do until it is needed. */
static int env_open_smaller(ab_wal *wal, uint64_t needed)
{
    uint64_t map = 0;
    if (!wal->options.read_only) {
        map_sizes(&wal->options, &map, &wal->map_limit);
    }
    for (;;) {
        int rc = env_create(wal, map, &wal->env);
        if (rc != ENOMEM || map / 2 < needed + 16 * MIB) {
            return rc;
        }
        map /= 2;
    }
}

static int databases_make(ab_wal *wal)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(wal->env, NULL, 0, &txn);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    if ((rc = mdb_dbi_open(txn, NULL, 0, &wal->main_db)) == MDB_SUCCESS &&
        (rc = mdb_dbi_open(txn, "blocks", MDB_CREATE, &wal->blocks_db)) == MDB_SUCCESS &&
        (rc = mdb_dbi_open(txn, "state", MDB_CREATE, &wal->state_db)) == MDB_SUCCESS) {
        return ab_wal_txn_finish(wal, txn);
    }
    mdb_txn_abort(txn);
    return rc;
}

static int databases_find(ab_wal *wal)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(wal->env, NULL, MDB_RDONLY, &txn);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    if ((rc = mdb_dbi_open(txn, NULL, 0, &wal->main_db)) == MDB_SUCCESS &&
        (rc = mdb_dbi_open(txn, "blocks", 0, &wal->blocks_db)) == MDB_SUCCESS &&
        (rc = mdb_dbi_open(txn, "state", 0, &wal->state_db)) == MDB_SUCCESS) {
        return mdb_txn_commit(txn); /* keeps the handles */
    }
    mdb_txn_abort(txn);
    return rc;
}

static int check_file(ab_wal *wal, ab_check_report *report, ab_message *message)
{
    size_t size = strlen(wal->dir) + sizeof("/data.mdb");
    char *path = malloc(size);
    if (path == NULL) {
        return AB_ENOMEM;
    }
    snprintf(path, size, "%s/data.mdb", wal->dir);
    int code = ab_check_file(path, AB_CHECK_BUDGET, report, message);
    if (code == AB_OK && report->empty && wal->options.read_only) {
        ab_wal_say(message,
                   access(path, F_OK) == 0
                       ? "%s: there is no log: nothing was ever committed to its data.mdb, or it was emptied"
                       : "%s: there is no log: it has no data.mdb",
                   wal->dir);
        code = AB_ENOTFOUND;
    }
    wal->bad_state = report->bad_states > 0;
    if (code == AB_OK && wal->bad_state && !wal->options.read_only) {
        ab_wal_say(
            message,
            "%s: small state is damaged: %s%s; restore the directory from a copy, or move it away and start "
            "empty (members of multimaster groups get everything from the others); the inspector shows what "
            "can still be read",
            path, report->bad_name, report->bad_states > 1 ? " and more" : "");
        code = AB_ECORRUPT;
    }
    free(path);
    return code;
}

int ab_wal_env_open(ab_wal *wal, bool *created, ab_message *message)
{
    ab_check_report report;
    int code = check_file(wal, &report, message);
    if (code != AB_OK) {
        return code;
    }
    *created = report.empty;
    int rc = env_open_smaller(wal, report.empty ? 0 : (report.last_page + 1) * report.page_size);
    if (rc == MDB_SUCCESS) {
        rc = report.empty ? databases_make(wal) : databases_find(wal);
    }
    MDB_stat stat;
    MDB_envinfo info;
    if (rc == MDB_SUCCESS && (rc = mdb_env_stat(wal->env, &stat)) == MDB_SUCCESS &&
        (rc = mdb_env_info(wal->env, &info)) == MDB_SUCCESS) {
        wal->page_size = stat.ms_psize;
        atomic_store(&wal->map_bytes, info.me_mapsize);
        return AB_OK;
    }
    ab_wal_say(message, "%s/data.mdb: cannot open: %s", wal->dir, mdb_strerror(rc));
    ab_wal_env_close(wal);
    return ab_wal_code(rc);
}

void ab_wal_env_close(ab_wal *wal)
{
    ab_wal_idle_drop(wal);
    if (wal->env != NULL) {
        mdb_env_close(wal->env);
        wal->env = NULL;
    }
}

int ab_wal_env_note(ab_wal *wal, MDB_txn *txn)
{
    int fd = -1;
    int rc = mdb_env_get_fd(wal->env, &fd);
    wal->meta_at = (mdb_txn_id(txn) & 1) * wal->page_size;
    if (rc == MDB_SUCCESS &&
        pread(fd, wal->meta, sizeof(wal->meta), (off_t)wal->meta_at) != sizeof(wal->meta)) {
        return EIO;
    }
    return rc;
}

/*
 * Where LMDB cannot write a meta page, it puts back the old transaction id, but leaves the roots of the failed
 * commit beside it; that could not be told from a damaged page. So the whole page is put back here.
 */
static int meta_restore(ab_wal *wal)
{
    size_t size = strlen(wal->dir) + sizeof("/data.mdb");
    char *path = malloc(size);
    if (path == NULL) {
        return AB_ENOMEM;
    }
    snprintf(path, size, "%s/data.mdb", wal->dir);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    free(path);
    bool good = fd >= 0 && pwrite(fd, wal->meta, sizeof(wal->meta), (off_t)wal->meta_at) == sizeof(wal->meta);
    if (good) {
        (void)fdatasync(fd); /* a disk that cannot do it now is asked again by the next commit */
    }
    if (fd >= 0) {
        close(fd);
    }
    return good ? AB_OK : AB_EIO;
}

int ab_wal_env_reopen(ab_wal *wal)
{
    ab_message message;
    bool created = false;
    ab_wal_say(&message, "%s/data.mdb: cannot be written: %s", wal->dir, strerror(errno));
    ab_wal_env_lock(wal);
    ab_wal_env_close(wal);
    int code = meta_restore(wal);
    if (code == AB_OK) {
        code = ab_wal_env_open(wal, &created, &message);
    }
    wal->env_failed = code != AB_OK;
    ab_wal_env_unlock(wal);
    if (code == AB_OK || code == AB_ENOMEM) {
        return code;
    }
    return ab_wal_fail(wal, code == AB_ENOSPC ? code : AB_EIO, "%s", message.text);
}

int ab_wal_env_grow(ab_wal *wal)
{
    uint64_t now = atomic_load(&wal->map_bytes);
    uint64_t next = now * 2 < wal->map_limit ? now * 2 : wal->map_limit;
    if (next <= now) {
        return ab_wal_fail(
            wal, AB_ENOSPC,
            "%s: the file has grown as far as max_bytes allows; nothing was lost, trim or raise it",
            wal->dir);
    }
    ab_wal_env_lock(wal);
    ab_wal_idle_drop(wal);
    int rc = mdb_env_set_mapsize(wal->env, (size_t)next);
    ab_wal_env_unlock(wal);
    if (rc != MDB_SUCCESS) {
        return ab_wal_lmdb_fail(wal, rc, "enlarge the map");
    }
    atomic_store(&wal->map_bytes, next);
    return AB_OK;
}

int ab_wal_used_bytes(ab_wal *wal, MDB_txn *txn, uint64_t *used)
{
    /* Database 0 is LMDB's list of free pages. Counting what is in use needs no walk through it. */
    const MDB_dbi dbs[] = {0, wal->main_db, wal->blocks_db, wal->state_db};
    uint64_t pages = 2;
    for (size_t i = 0; i < sizeof(dbs) / sizeof(dbs[0]); i++) {
        MDB_stat stat;
        int rc = mdb_stat(txn, dbs[i], &stat);
        if (rc != MDB_SUCCESS) {
            return rc;
        }
        pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    }
    *used = pages * wal->page_size;
    return MDB_SUCCESS;
}
