/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: operations, trimming, one transaction per call. The one writer's thread. */
#include "wal/wal_commit.h"

#include "wal/bytes.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PREV_HASH_OFFSET 72u
#define CHECKSUM_OFFSET 88u
#define PAGE_HEADER 16u
#define PAGE_OVERFLOW 0x04u

int ab_commit_lmdb_fail(ab_commit *c, int rc, const char *what)
{
    c->rc = rc;
    return ab_wal_lmdb_fail(c->wal, rc, what);
}

int ab_commit_invalid(ab_commit *c, const ab_block_header *h, const char *what)
{
    return ab_wal_fail(c->wal, AB_EINVAL, "group %llu, stream %u/%u, block %llu to %llu: %s",
                       (unsigned long long)h->group, h->node, h->epoch, (unsigned long long)h->first,
                       (unsigned long long)h->last, what);
}

int ab_commit_record(ab_commit *c, uint64_t group, ab_stream stream, ab_wal_record *record)
{
    *record = (ab_wal_record){.base = 0};
    int code = ab_wal_txn_record_get(c->wal, c->txn, group, stream, record);
    return code == AB_ENOTFOUND ? AB_OK : code;
}

int ab_commit_record_store(ab_commit *c, uint64_t group, ab_stream stream, const ab_wal_record *record)
{
    c->changed = true;
    return ab_commit_lmdb_fail(c, ab_wal_txn_record_put(c->wal, c->txn, group, stream, record),
                               "write a stream's record");
}

int ab_commit_block_read(ab_commit *c, const ab_wal_op *op, ab_block_header *header)
{
    int code = ab_block_header_read(op->data.data, op->data.size, header);
    if (code != AB_OK || ab_block_size(header) != op->data.size) {
        return ab_wal_fail(c->wal, code == AB_OK ? AB_EINVAL : code, "the block to be logged is malformed");
    }
    if (header->group == 0 || (op->group != 0 && op->group != header->group)) {
        return ab_commit_invalid(c, header, "is not of that group");
    }
    return AB_OK;
}

/* The same bytes under the same key: a commit whose outcome was unknown is being repeated. */
static bool already_there(ab_commit *c, const ab_block_header *header)
{
    uint8_t bytes[AB_WAL_BLOCK_KEY];
    ab_wal_block_key(bytes, header->group, (ab_stream){header->node, header->epoch}, header->first);
    MDB_val key = {sizeof(bytes), bytes};
    MDB_val value;
    return mdb_get(c->txn, c->wal->blocks_db, &key, &value) == MDB_SUCCESS &&
           value.mv_size == ab_block_size(header) &&
           ab_get_le64((const uint8_t *)value.mv_data + CHECKSUM_OFFSET) == header->checksum;
}

int ab_commit_block_write(ab_commit *c, const ab_block_header *header, ab_bytes data)
{
    uint8_t bytes[AB_WAL_BLOCK_KEY];
    ab_wal_block_key(bytes, header->group, (ab_stream){header->node, header->epoch}, header->first);
    MDB_val key = {sizeof(bytes), bytes};
    MDB_val value = {data.size, NULL};
    int rc = mdb_put(c->txn, c->wal->blocks_db, &key, &value, MDB_RESERVE | MDB_NOOVERWRITE);
    if (rc == MDB_SUCCESS) {
        memcpy(value.mv_data, data.data, data.size);
        c->changed = true;
    }
    return ab_commit_lmdb_fail(c, rc, "write a block");
}

static bool own_name(ab_bytes key)
{
    return key.size >= AB_WAL_STREAM_PREFIX_SIZE &&
           memcmp(key.data, AB_WAL_STREAM_PREFIX, AB_WAL_STREAM_PREFIX_SIZE) == 0;
}

static int put_state(ab_commit *c, const ab_wal_op *op)
{
    if (op->key.size == 0 || op->key.size > AB_WAL_STATE_KEY_MAX || own_name(op->key) ||
        op->data.size > AB_BLOCK_MAX - AB_WAL_STATE_SUM) {
        return ab_wal_fail(c->wal, AB_EINVAL,
                           "small state: a key or value of that name or size is not possible");
    }
    c->changed = true;
    if (op->type == AB_WAL_DEL_STATE) {
        return ab_commit_lmdb_fail(c, ab_wal_txn_state_del(c->wal, c->txn, op->group, op->key),
                                   "remove small state");
    }
    return ab_commit_lmdb_fail(c, ab_wal_txn_state_put(c->wal, c->txn, op->group, op->key, op->data),
                               "write small state");
}

int ab_commit_look(ab_commit *c, uint64_t group, ab_stream stream, uint64_t from, uint64_t end,
                   ab_neighbours *found)
{
    uint8_t bytes[AB_WAL_BLOCK_KEY];
    ab_wal_block_key(bytes, group, stream, from);
    MDB_val key = {sizeof(bytes), bytes};
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(c->txn, c->wal->blocks_db, &cursor);
    if (rc != MDB_SUCCESS) {
        return ab_commit_lmdb_fail(c, rc, "read blocks");
    }
    rc = mdb_cursor_get(cursor, &key, &found->value, MDB_SET_RANGE);
    if (rc == MDB_SUCCESS && !ab_wal_block_key_is(&key, group, stream)) {
        rc = MDB_NOTFOUND;
    }
    if (rc == MDB_SUCCESS) {
        found->first = ab_wal_block_key_first(&key);
        found->last = end;
        found->has_next = mdb_cursor_get(cursor, &key, &found->next, MDB_NEXT) == MDB_SUCCESS &&
                          ab_wal_block_key_is(&key, group, stream) && found->next.mv_size >= AB_BLOCK_HEADER;
        if (found->has_next) {
            found->last = ab_wal_block_key_first(&key) - 1;
            found->next_prev = ab_get_le64((const uint8_t *)found->next.mv_data + PREV_HASH_OFFSET);
        }
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? AB_ENOTFOUND : ab_commit_lmdb_fail(c, rc, "read blocks");
}

/* Hash of a block about to be trimmed: its own word and its follower's agree, or whichever proves to be sound. */
static int hash_of(ab_commit *c, const ab_neighbours *n, uint64_t record_last_hash, uint64_t *hash)
{
    ab_block_header header;
    uint64_t own = n->value.mv_size >= AB_BLOCK_HEADER
                       ? ab_get_le64((const uint8_t *)n->value.mv_data + CHECKSUM_OFFSET)
                       : 0;
    uint64_t other = n->has_next ? n->next_prev : record_last_hash;
    *hash = other;
    if (own == other || !n->has_next) {
        return AB_OK; /* the record has a checksum of its own */
    }
    if (ab_block_check(n->next.mv_data, n->next.mv_size, &header) == AB_OK) {
        return AB_OK;
    }
    *hash = own;
    if (ab_block_check(n->value.mv_data, n->value.mv_size, &header) == AB_OK) {
        return AB_OK;
    }
    return ab_wal_fail(c->wal, AB_ECORRUPT, "two neighbouring blocks are damaged: cannot trim between them");
}

/* LMDB does not tell where its map begins; a value on a page of the file and that page's number do. */
static const uint8_t *map_start(const ab_commit *c)
{
    MDB_val key = {AB_WAL_COMMIT_KEY_SIZE, (void *)AB_WAL_COMMIT_KEY};
    MDB_val value;
    uint64_t number;
    if (sizeof(size_t) != 8 || mdb_get(c->txn, c->wal->main_db, &key, &value) != MDB_SUCCESS) {
        return NULL;
    }
    const uint8_t *data = value.mv_data;
    const uint8_t *page = data - ((uintptr_t)data & (c->wal->page_size - 1));
    memcpy(&number, page, sizeof(number));
    return page - number * c->wal->page_size;
}

/*
 * LMDB frees the pages that the header of a block's first page names: a damaged one would give away live pages.
 * What has to stand there is known, so it is put right before LMDB looks at it.
 */
static int run_mend(ab_commit *c, const MDB_val *value)
{
    const uint8_t *page = (const uint8_t *)value->mv_data - PAGE_HEADER;
    uint32_t size = c->wal->page_size;
    if (c->map == NULL || page < c->map || page >= c->map + atomic_load(&c->wal->map_bytes) ||
        ((uintptr_t)page & (size - 1)) != 0) {
        return AB_OK; /* small, in a leaf page; or of this transaction */
    }
    uint8_t header[PAGE_HEADER];
    uint64_t number = (uint64_t)(page - c->map) / size;
    uint16_t flags = PAGE_OVERFLOW;
    uint32_t pages = (uint32_t)((PAGE_HEADER - 1 + value->mv_size) / size + 1);
    memcpy(header, page, sizeof(header));
    memcpy(header, &number, sizeof(number));
    memcpy(header + 10, &flags, sizeof(flags));
    memcpy(header + 12, &pages, sizeof(pages));
    if (memcmp(header, page, sizeof(header)) == 0) {
        return AB_OK;
    }
    int fd = -1;
    if (mdb_env_get_fd(c->wal->env, &fd) != MDB_SUCCESS ||
        pwrite(fd, header, sizeof(header), (off_t)(number * size)) != (ssize_t)sizeof(header)) {
        return ab_wal_fail(c->wal, AB_EIO, "%s/data.mdb: cannot repair the header of page %llu: %s",
                           c->wal->dir, (unsigned long long)number, strerror(errno));
    }
    return AB_OK;
}

int ab_commit_block_delete(ab_commit *c, uint64_t group, ab_stream stream, const ab_neighbours *n)
{
    uint8_t bytes[AB_WAL_BLOCK_KEY];
    ab_wal_block_key(bytes, group, stream, n->first);
    MDB_val key = {sizeof(bytes), bytes};
    int code = run_mend(c, &n->value);
    if (code != AB_OK) {
        return code;
    }
    c->changed = true;
    return ab_commit_lmdb_fail(c, mdb_del(c->txn, c->wal->blocks_db, &key, NULL), "remove a block");
}

int ab_commit_clear_behind(ab_commit *c, uint64_t group, ab_stream stream, uint64_t last)
{
    ab_neighbours n = {.first = 0};
    int code;
    while ((code = ab_commit_look(c, group, stream, last + 1, last, &n)) == AB_OK) {
        code = ab_commit_block_delete(c, group, stream, &n);
        if (code != AB_OK) {
            return code;
        }
    }
    return code == AB_ENOTFOUND ? AB_OK : code;
}

static int put_block(ab_commit *c, const ab_wal_op *op)
{
    ab_block_header header;
    ab_wal_record record;
    int code = ab_commit_block_read(c, op, &header);
    if (code != AB_OK) {
        return code;
    }
    const ab_stream stream = {header.node, header.epoch};
    code = ab_commit_record(c, header.group, stream, &record);
    if (code != AB_OK) {
        return code;
    }
    if (header.first != record.last + 1 || header.prev_hash != record.last_hash) {
        if (header.last <= record.last && already_there(c, &header)) {
            return AB_OK;
        }
        return ab_commit_invalid(c, &header, "does not follow the stream's last block");
    }
    code = ab_commit_clear_behind(c, header.group, stream, record.last);
    if (code == AB_OK) {
        code = ab_commit_block_write(c, &header, op->data);
    }
    if (code != AB_OK) {
        return code;
    }
    c->appends = true;
    c->bytes += op->data.size;
    record.last = header.last;
    record.last_hash = header.checksum;
    record.hlc_last = header.hlc_last;
    return ab_commit_record_store(c, header.group, stream, &record);
}

static int trim(ab_commit *c, ab_wal_op *op)
{
    ab_wal_record record;
    int code = ab_commit_record(c, op->group, op->stream, &record);
    op->done = 0;
    op->done_index = record.base;
    while (code == AB_OK && op->done < op->limit && record.base < op->index) {
        ab_neighbours n = {.first = 0};
        code = ab_commit_look(c, op->group, op->stream, record.base + 1, record.last, &n);
        if (code == AB_ENOTFOUND || (code == AB_OK && n.last > op->index)) {
            code = AB_OK;
            break;
        }
        if (code == AB_OK) {
            code = hash_of(c, &n, record.last_hash, &record.base_hash);
        }
        if (code == AB_OK) {
            code = ab_commit_block_delete(c, op->group, op->stream, &n);
        }
        record.base = n.last;
        op->done++;
    }
    if (code == AB_OK && op->done > 0) {
        op->done_index = record.base;
        code = ab_commit_record_store(c, op->group, op->stream, &record);
    }
    return code;
}

/* Blocks go by their keys, whatever their contents: nobody will read them again. */
static int forget(ab_commit *c, ab_wal_op *op)
{
    ab_neighbours n = {.first = 0};
    int code = AB_OK;
    op->done = 0;
    while (op->done < op->limit && (code = ab_commit_look(c, op->group, op->stream, 0, 0, &n)) == AB_OK) {
        code = ab_commit_block_delete(c, op->group, op->stream, &n);
        if (code != AB_OK) {
            return code;
        }
        op->done++;
    }
    if (code != AB_ENOTFOUND) {
        return code;
    }
    c->changed = true;
    return ab_commit_lmdb_fail(c, ab_wal_txn_record_del(c->wal, c->txn, op->group, op->stream),
                               "remove a stream's record");
}

static int carry_out(ab_commit *c, ab_wal_op *op)
{
    switch (op->type) {
    case AB_WAL_PUT_BLOCK:
        return put_block(c, op);
    case AB_WAL_PUT_STATE:
    case AB_WAL_DEL_STATE:
        return put_state(c, op);
    case AB_WAL_TRIM:
        return trim(c, op);
    case AB_WAL_REPLACE_BLOCK:
        return ab_commit_replace_block(c, op);
    case AB_WAL_FORGET:
        return forget(c, op);
    case AB_WAL_REWIND:
        return ab_commit_rewind(c, op);
    default:
        return ab_wal_fail(c->wal, AB_EINVAL, "unknown operation %d", (int)op->type);
    }
}

static int ceiling_check(ab_commit *c)
{
    uint64_t used = 0;
    if (!c->appends || c->wal->options.max_bytes == 0) {
        return AB_OK;
    }
    int rc = ab_wal_used_bytes(c->wal, c->txn, &used);
    if (rc != MDB_SUCCESS || used <= c->wal->options.max_bytes) {
        return ab_commit_lmdb_fail(c, rc, "count pages");
    }
    return ab_wal_fail(
        c->wal, AB_ENOSPC,
        "%s: the log is at its ceiling of %llu bytes; nothing was lost, trim it or raise max_bytes",
        c->wal->dir, (unsigned long long)c->wal->options.max_bytes);
}

int ab_wal_txn_finish(ab_wal *wal, MDB_txn *txn)
{
    MDB_stat blocks;
    MDB_stat state;
    int rc = mdb_stat(txn, wal->blocks_db, &blocks);
    if (rc == MDB_SUCCESS) {
        rc = mdb_stat(txn, wal->state_db, &state);
    }
    if (rc == MDB_SUCCESS) {
        uint8_t data[AB_WAL_COMMIT_RECORD];
        ab_wal_commit_record_encode(data, mdb_txn_id(txn), blocks.ms_entries, state.ms_entries);
        MDB_val key = {AB_WAL_COMMIT_KEY_SIZE, (void *)AB_WAL_COMMIT_KEY};
        MDB_val value = {sizeof(data), data};
        rc = mdb_put(txn, wal->main_db, &key, &value, 0);
    }
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

/* LMDB reports a short write, which is how a full disk often shows, as an input/output error. */
static bool disk_is_full(const ab_wal *wal, uint64_t needed)
{
    struct statvfs fs;
    struct rlimit limit;
    struct stat st;
    int fd = -1;
    if (statvfs(wal->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < needed) {
        return true;
    }
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           mdb_env_get_fd(wal->env, &fd) == MDB_SUCCESS && fstat(fd, &st) == 0 &&
           (uint64_t)st.st_size + needed > limit.rlim_cur;
}

/* The commit did not go through. Finds out whether the environment can go on, and opens it anew if not. */
static int commit_failed(ab_commit *c, int rc)
{
    ab_wal *wal = c->wal;
    MDB_txn *probe;
    const uint64_t margin = 1024 * 1024;
    if (rc == EIO && disk_is_full(wal, c->bytes + margin)) {
        rc = ENOSPC;
    }
    if (mdb_txn_begin(wal->env, NULL, 0, &probe) == MDB_SUCCESS) {
        mdb_txn_abort(probe);
    } else {
        wal->env_failed = true;
        (void)ab_wal_env_reopen(wal); /* if it fails, the next commit tries again */
    }
    return ab_wal_fail(wal, ab_wal_code(rc),
                       "%s/data.mdb: cannot write: %s; nothing was lost, it goes on when that is cured",
                       wal->dir, mdb_strerror(rc));
}

/* One attempt. *rc is MDB_MAP_FULL where a larger map would help. */
static int attempt(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed, int *rc)
{
    ab_commit c = {.wal = wal};
    *failed = count;
    *rc = mdb_txn_begin(wal->env, NULL, 0, &c.txn);
    if (*rc != MDB_SUCCESS) {
        return ab_wal_lmdb_fail(wal, *rc, "begin to write");
    }
    c.map = map_start(&c);
    int code = AB_OK;
    for (size_t i = 0; i < count && code == AB_OK; i++) {
        code = carry_out(&c, &ops[i]);
        *failed = code == AB_OK ? count : i;
    }
    if (code == AB_OK) {
        code = ceiling_check(&c);
    }
    if (code != AB_OK || !c.changed) {
        *rc = c.rc;
        mdb_txn_abort(c.txn);
        return code;
    }
    *rc = ab_wal_env_note(wal, c.txn);
    if (*rc != MDB_SUCCESS) {
        mdb_txn_abort(c.txn);
        return ab_wal_lmdb_fail(wal, *rc, "read a meta page");
    }
    *rc = ab_wal_txn_finish(wal, c.txn);
    if (*rc != MDB_SUCCESS && *rc != MDB_MAP_FULL) {
        code = commit_failed(&c, *rc);
    }
    return *rc == MDB_MAP_FULL ? AB_ENOSPC : code;
}

static int commit_all(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed)
{
    if (wal->options.read_only) {
        return ab_wal_fail(wal, AB_EINVAL, "%s: was opened for reading only", wal->dir);
    }
    if (wal->env_failed) {
        int code = ab_wal_env_reopen(wal);
        if (code != AB_OK) {
            return code;
        }
    }
    for (;;) {
        int rc = MDB_SUCCESS;
        int code = attempt(wal, ops, count, failed, &rc);
        if (code == AB_OK) {
            atomic_fetch_add(&wal->commits, 1);
            return AB_OK;
        }
        if (rc != MDB_MAP_FULL) {
            return code;
        }
        code = ab_wal_env_grow(wal);
        if (code != AB_OK) {
            return code;
        }
    }
}

int ab_wal_commit(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed)
{
    size_t at = count;
    int code = commit_all(wal, ops, count, &at);
    for (size_t i = 0; code != AB_OK && i < count; i++) {
        ops[i].done = 0;
        ops[i].done_index = 0;
    }
    if (failed != NULL) {
        *failed = at;
    }
    return code;
}
