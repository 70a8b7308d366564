/* SPDX-License-Identifier: Apache-2.0 */
/* Reading blocks by any index, and the use of space. Any thread; no transaction outlives a call. */
#include "wal/wal_internal.h"

#include "wal/bytes.h"
#include <sys/stat.h>

int ab_wal_block_check(const MDB_val *key, const MDB_val *value, ab_block_header *header)
{
    int code = ab_block_check(value->mv_data, value->mv_size, header);
    if (code != AB_OK) {
        return code;
    }
    const ab_stream stream = {header->node, header->epoch};
    return ab_wal_block_key_is(key, header->group, stream) && ab_wal_block_key_first(key) == header->first
               ? AB_OK
               : AB_ECORRUPT;
}

/* The block whose key is the last at or below `index`, and where it ends by the next key. */
typedef struct place {
    MDB_val key;
    MDB_val value;
    bool found;
    uint64_t end; /* up to where this block, or the hole where it should be, reaches */
} place;

static int find_place(ab_wal *wal, MDB_cursor *cursor, uint64_t group, ab_stream stream, uint64_t index,
                      place *p)
{
    uint8_t bytes[AB_WAL_BLOCK_KEY];
    ab_wal_block_key(bytes, group, stream, index);
    p->key = (MDB_val){sizeof(bytes), bytes};
    p->found = false;
    int rc = mdb_cursor_get(cursor, &p->key, &p->value, MDB_SET_RANGE);
    MDB_cursor_op back = MDB_PREV;
    if (rc == MDB_SUCCESS && ab_wal_block_key_is(&p->key, group, stream)) {
        if (ab_wal_block_key_first(&p->key) == index) {
            MDB_val next;
            MDB_val unused;
            p->found = true;
            if (mdb_cursor_get(cursor, &next, &unused, MDB_NEXT) == MDB_SUCCESS &&
                ab_wal_block_key_is(&next, group, stream)) {
                p->end = ab_wal_block_key_first(&next) - 1;
            }
            return AB_OK;
        }
        p->end = ab_wal_block_key_first(&p->key) - 1;
    } else if (rc == MDB_NOTFOUND) {
        back = MDB_LAST;
    } else if (rc != MDB_SUCCESS) {
        return ab_wal_lmdb_fail(wal, rc, "read a block");
    }
    rc = mdb_cursor_get(cursor, &p->key, &p->value, back);
    if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND) {
        return ab_wal_lmdb_fail(wal, rc, "read a block");
    }
    p->found = rc == MDB_SUCCESS && ab_wal_block_key_is(&p->key, group, stream);
    return AB_OK;
}

static int damaged(ab_wal *wal, uint64_t group, ab_stream stream, ab_block_header *header, uint64_t first,
                   uint64_t last)
{
    *header = (ab_block_header){
        .group = group, .node = stream.node, .epoch = stream.epoch, .first = first, .last = last};
    return ab_wal_fail(wal, AB_ECORRUPT, "%s: group %llu, stream %u/%u, %llu to %llu is damaged or missing",
                       wal->dir, (unsigned long long)group, stream.node, stream.epoch,
                       (unsigned long long)first, (unsigned long long)last);
}

static int copy_out(ab_wal *wal, const MDB_val *value, ab_wal_alloc_fn alloc, void *arg, void **data,
                    size_t *size)
{
    *data = alloc(arg, value->mv_size);
    if (*data == NULL) {
        return ab_wal_fail(wal, AB_ENOMEM, "out of memory for a block of %zu bytes", value->mv_size);
    }
    memcpy(*data, value->mv_data, value->mv_size);
    *size = value->mv_size;
    return AB_OK;
}

static int read_in(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_stream stream, uint64_t index,
                   MDB_val *value, ab_block_header *header)
{
    ab_wal_record record;
    MDB_cursor *cursor;
    int code = ab_wal_txn_record_get(wal, txn, group, stream, &record);
    if (code == AB_ECORRUPT) {
        return damaged(wal, group, stream, header, index, index);
    }
    if (code != AB_OK || index > record.last) {
        return code != AB_OK ? code : AB_ENOTFOUND;
    }
    if (index <= record.base) {
        return AB_ETRIMMED;
    }
    int rc = mdb_cursor_open(txn, wal->blocks_db, &cursor);
    if (rc != MDB_SUCCESS) {
        return ab_wal_lmdb_fail(wal, rc, "read a block");
    }
    place p = {.end = record.last};
    code = find_place(wal, cursor, group, stream, index, &p);
    mdb_cursor_close(cursor);
    if (code != AB_OK) {
        return code;
    }
    if (!p.found) {
        return damaged(wal, group, stream, header, record.base + 1, p.end);
    }
    uint64_t first = ab_wal_block_key_first(&p.key);
    if (ab_wal_block_check(&p.key, &p.value, header) != AB_OK || header->last > p.end) {
        return damaged(wal, group, stream, header, first, p.end);
    }
    if (header->last < index) {
        return damaged(wal, group, stream, header, header->last + 1, p.end);
    }
    *value = p.value;
    return AB_OK;
}

int ab_wal_read(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, ab_wal_alloc_fn alloc,
                void *arg, ab_block_header *header, void **data, size_t *size)
{
    MDB_txn *txn;
    MDB_val value = {0, NULL};
    *header = (ab_block_header){.group = group};
    *data = NULL;
    *size = 0;
    int code = ab_wal_read_begin(wal, &txn);
    if (code != AB_OK) {
        return code;
    }
    code = read_in(wal, txn, group, stream, index, &value, header);
    if (code == AB_OK) {
        code = copy_out(wal, &value, alloc, arg, data, size);
    }
    ab_wal_read_end(wal, txn);
    return code;
}

void ab_wal_usage_get(ab_wal *wal, ab_wal_usage *usage)
{
    MDB_txn *txn;
    struct stat st;
    int fd = -1;
    *usage = (ab_wal_usage){.commits = atomic_load(&wal->commits), .map_bytes = atomic_load(&wal->map_bytes)};
    if (ab_wal_read_begin(wal, &txn) != AB_OK) {
        return;
    }
    if (ab_wal_used_bytes(wal, txn, &usage->used_bytes) != MDB_SUCCESS) {
        usage->used_bytes = 0;
    }
    if (mdb_env_get_fd(wal->env, &fd) == MDB_SUCCESS && fstat(fd, &st) == 0) {
        usage->file_bytes = (uint64_t)st.st_size;
    }
    ab_wal_read_end(wal, txn);
}
