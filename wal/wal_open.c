/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing the log; who the data belongs to and how the last run ended. One thread. */
#include "wal/wal_internal.h"

#include "wal/bytes.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* "tail": how the run wrote, and whether it was closed in order. */
#define TAIL_SIZE 2u
#define FILE_SIZE 16u
#define STORE_ID_SIZE 16u

static ab_bytes name_of(const char *text)
{
    return (ab_bytes){text, strlen(text)};
}

static int sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int rc = fsync(fd);
    close(fd);
    return rc;
}

/* The directory's own name must survive a power cut, too. */
static void sync_parent(const char *dir)
{
    char *copy = strdup(dir);
    if (copy == NULL) {
        return;
    }
    size_t size = strlen(copy);
    while (size > 1 && copy[size - 1] == '/') {
        copy[--size] = '\0';
    }
    char *slash = strrchr(copy, '/');
    if (slash != NULL) {
        slash[slash == copy ? 1 : 0] = '\0';
    }
    (void)sync_dir(slash != NULL ? copy : ".");
    free(copy);
}

static int make_dir(const char *dir, bool read_only, ab_message *message)
{
    struct stat st;
    bool there = stat(dir, &st) == 0;
    if (there && S_ISDIR(st.st_mode)) {
        return AB_OK;
    }
    if (read_only && !there && errno != ENOENT && errno != ENOTDIR) {
        ab_wal_say(message, "%s: cannot look at it: %s", dir, strerror(errno));
        return AB_EIO;
    }
    if (read_only) {
        ab_wal_say(message, there ? "%s: is no directory: name the data directory" : "%s: no such directory",
                   dir);
        return AB_ENOTFOUND;
    }
    if (mkdir(dir, 0700) != 0) {
        ab_wal_say(message, "%s: cannot make the directory: %s", dir, strerror(errno));
        return errno == ENOSPC || errno == EDQUOT ? AB_ENOSPC : AB_EIO;
    }
    sync_parent(dir);
    return AB_OK;
}

static int file_identity(const ab_wal *wal, uint8_t data[FILE_SIZE], ab_message *message)
{
    struct stat st;
    int fd = -1;
    if (mdb_env_get_fd(wal->env, &fd) != MDB_SUCCESS || fstat(fd, &st) != 0) {
        ab_wal_say(message, "%s/data.mdb: cannot stat: %s", wal->dir, strerror(errno));
        return AB_EIO;
    }
    ab_put_le64(data, (uint64_t)st.st_dev);
    ab_put_le64(data + 8, (uint64_t)st.st_ino);
    return AB_OK;
}

static int check_format(ab_wal *wal, MDB_txn *txn, ab_message *message)
{
    ab_bytes value;
    int code = ab_wal_txn_state_get(wal, txn, 0, name_of("format"), &value);
    uint32_t format = code == AB_OK && value.size == 4 ? ab_get_le32(value.data) : 0;
    if (code == AB_OK && format != AB_WAL_FORMAT) {
        ab_wal_say(message, "%s: the log has format %u, this version reads format %u only", wal->dir, format,
                   AB_WAL_FORMAT);
        return AB_EVERSION;
    }
    if (code != AB_OK) {
        ab_wal_say(message, "%s: the record of the format is missing or damaged", wal->dir);
    }
    return code == AB_ENOTFOUND ? AB_ECORRUPT : code;
}

/* What the last run left. */
static int read_origin(ab_wal *wal, const uint8_t file[FILE_SIZE], ab_wal_origin *origin, ab_message *message)
{
    MDB_txn *txn;
    int code = ab_wal_read_begin(wal, &txn);
    if (code != AB_OK) {
        ab_wal_message(wal, message);
        return code;
    }
    ab_bytes id;
    ab_bytes tail;
    ab_bytes last_file;
    code = check_format(wal, txn, message);
    if (code == AB_OK && ab_wal_txn_state_get(wal, txn, 0, name_of("store_id"), &id) == AB_OK &&
        id.size == STORE_ID_SIZE && ab_wal_txn_state_get(wal, txn, 0, name_of("tail"), &tail) == AB_OK &&
        tail.size == TAIL_SIZE && ab_wal_txn_state_get(wal, txn, 0, name_of("file"), &last_file) == AB_OK &&
        last_file.size == FILE_SIZE) {
        const uint8_t *p = tail.data;
        memcpy(origin->store_id, id.data, STORE_ID_SIZE);
        origin->tail_safe =
            (p[0] == AB_DURABILITY_SYNC || p[1] != 0) && memcmp(last_file.data, file, FILE_SIZE) == 0;
    } else if (code == AB_OK) {
        ab_wal_say(message, "%s: the records of the log's identity are missing or damaged", wal->dir);
        code = AB_ECORRUPT;
    }
    ab_wal_read_end(wal, txn);
    return code;
}

/* Writes who we are and that this run is not closed; on disk when it returns. */
static int write_origin(ab_wal *wal, const uint8_t file[FILE_SIZE], ab_wal_origin *origin)
{
    uint8_t format[4];
    const uint8_t tail[TAIL_SIZE] = {(uint8_t)wal->options.durability, 0};
    ab_put_le32(format, AB_WAL_FORMAT);
    ab_wal_op ops[4] = {
        {.type = AB_WAL_PUT_STATE, .key = name_of("tail"), .data = {tail, sizeof(tail)}},
        {.type = AB_WAL_PUT_STATE, .key = name_of("file"), .data = {file, FILE_SIZE}},
        {.type = AB_WAL_PUT_STATE, .key = name_of("format"), .data = {format, sizeof(format)}},
        {.type = AB_WAL_PUT_STATE, .key = name_of("store_id"), .data = {origin->store_id, STORE_ID_SIZE}},
    };
    int code = ab_wal_commit(wal, ops, origin->created ? 4 : 2, NULL);
    return code == AB_OK ? ab_wal_lmdb_fail(wal, mdb_env_sync(wal->env, 1), "sync") : code;
}

static int random_id(uint8_t id[STORE_ID_SIZE], ab_message *message)
{
    if (getrandom(id, STORE_ID_SIZE, 0) != (ssize_t)STORE_ID_SIZE) {
        ab_wal_say(message, "no random bytes: %s", strerror(errno));
        return AB_EIO;
    }
    return AB_OK;
}

static int identify(ab_wal *wal, bool made, ab_wal_origin *origin, ab_message *message)
{
    uint8_t file[FILE_SIZE];
    int code = file_identity(wal, file, message);
    if (code != AB_OK) {
        return code;
    }
    /* A crash between the first two commits leaves databases without a name: nothing was stored yet. */
    MDB_stat stat = {.ms_entries = 0};
    MDB_txn *txn;
    code = ab_wal_read_begin(wal, &txn);
    if (code == AB_OK) {
        code = ab_wal_lmdb_fail(wal, mdb_stat(txn, wal->state_db, &stat), "open");
        ab_wal_read_end(wal, txn);
    }
    if (code != AB_OK) {
        ab_wal_message(wal, message);
        return code;
    }
    origin->created = made || (stat.ms_entries == 0 && !wal->options.read_only);
    code = origin->created ? random_id(origin->store_id, message) : read_origin(wal, file, origin, message);
    if (code != AB_OK || wal->options.read_only) {
        return code;
    }
    code = write_origin(wal, file, origin);
    if (code != AB_OK) {
        ab_wal_message(wal, message);
    } else if (origin->created && sync_dir(wal->dir) != 0) {
        ab_wal_say(message, "%s: cannot sync the directory: %s", wal->dir, strerror(errno));
        code = AB_EIO;
    }
    return code;
}

static void wal_free(ab_wal *wal)
{
    ab_wal_env_close(wal);
    if (wal->lock_fd >= 0) {
        close(wal->lock_fd);
    }
    pthread_mutex_destroy(&wal->turnstile);
    pthread_rwlock_destroy(&wal->env_lock);
    pthread_mutex_destroy(&wal->idle_lock);
    pthread_mutex_destroy(&wal->message_lock);
    free(wal->dir);
    free(wal);
}

static ab_wal *wal_new(const char *dir, const ab_wal_options *options)
{
    ab_wal *wal = calloc(1, sizeof(*wal));
    if (wal == NULL) {
        return NULL;
    }
    wal->dir = strdup(dir);
    if (wal->dir == NULL) {
        free(wal);
        return NULL;
    }
    wal->options = *options;
    wal->lock_fd = -1;
    pthread_mutex_init(&wal->turnstile, NULL);
    pthread_rwlock_init(&wal->env_lock, NULL);
    pthread_mutex_init(&wal->idle_lock, NULL);
    pthread_mutex_init(&wal->message_lock, NULL);
    return wal;
}

int ab_wal_open(const char *dir, const ab_wal_options *options, ab_wal **wal, ab_wal_origin *origin,
                ab_message *message)
{
    ab_wal_origin found = {.created = false};
    bool made = false;
    ab_message unused;
    if (message == NULL) {
        message = &unused;
    }
    ab_wal_say(message, "%s: out of memory", dir);
    *wal = NULL;
    ab_wal *w = wal_new(dir, options);
    if (w == NULL) {
        return AB_ENOMEM;
    }
    int code = make_dir(dir, options->read_only, message);
    if (code == AB_OK) {
        code = ab_wal_lock_take(dir, options->read_only, &w->lock_fd, message);
    }
    if (code == AB_OK) {
        code = ab_wal_env_open(w, &made, message);
    }
    if (code == AB_OK) {
        code = identify(w, made, &found, message);
    }
    if (code != AB_OK) {
        wal_free(w);
        return code;
    }
    w->ready = true;
    message->text[0] = '\0';
    *wal = w;
    if (origin != NULL) {
        *origin = found;
    }
    return AB_OK;
}

/* The mark comes after everything else is on disk, or it would promise too much. */
static void mark_closed(ab_wal *wal)
{
    const uint8_t tail[TAIL_SIZE] = {(uint8_t)wal->options.durability, 1};
    ab_wal_op op = {.type = AB_WAL_PUT_STATE, .key = name_of("tail"), .data = {tail, sizeof(tail)}};
    if (wal->env != NULL && mdb_env_sync(wal->env, 1) == MDB_SUCCESS &&
        ab_wal_commit(wal, &op, 1, NULL) == AB_OK) {
        (void)mdb_env_sync(wal->env, 1);
    }
}

void ab_wal_close(ab_wal *wal)
{
    if (wal == NULL) {
        return;
    }
    if (wal->ready && !wal->options.read_only) {
        mark_closed(wal);
    }
    wal_free(wal);
}

void ab_wal_abandon(ab_wal *wal)
{
    if (wal != NULL) {
        wal_free(wal);
    }
}
