/* SPDX-License-Identifier: Apache-2.0 */
/* How much of the log each group takes. Any thread; no transaction outlives a piece of the walk. */
#include "wal/wal_internal.h"

#include "wal/bytes.h"
#include <string.h>

/* Keys looked at in one transaction: some 0.1 ms, so that a walk over a long log does not keep pages from being reused. */
#define PIECE 1024u

typedef struct walk {
    ab_wal_group_size size; /* of the group under way; no blocks: none */
    uint8_t key[AB_WAL_BLOCK_KEY];
    bool begun; /* `key` was counted */
    bool end;
    ab_wal_size_fn fn;
    void *arg;
} walk;

/* Adds a block. @return false: `fn` wants no more */
static bool add(walk *w, uint64_t group, size_t bytes)
{
    if (w->size.blocks > 0 && w->size.group != group) {
        ab_wal_group_size done = w->size;
        w->size = (ab_wal_group_size){0};
        if (!w->fn(w->arg, &done)) {
            return false;
        }
    }
    w->size.group = group;
    w->size.blocks++;
    w->size.bytes += bytes;
    return true;
}

/* The sizes of a piece, copied out: `fn` runs outside of the transaction. */
typedef struct piece {
    struct {
        uint64_t group;
        size_t bytes;
    } blocks[PIECE];
    size_t count;
} piece;

static int read_piece(ab_wal *wal, walk *w, uint64_t group, piece *p)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key = {sizeof w->key, w->key};
    MDB_val value;
    int code = ab_wal_read_begin(wal, &txn);
    if (code != AB_OK) {
        return code;
    }
    p->count = 0;
    int rc = mdb_cursor_open(txn, wal->blocks_db, &cursor);
    if (rc == MDB_SUCCESS) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc == MDB_SUCCESS && w->begun && memcmp(key.mv_data, w->key, sizeof w->key) == 0) {
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        while (rc == MDB_SUCCESS && key.mv_size == sizeof w->key && p->count < PIECE &&
               (group == 0 || ab_get_be64(key.mv_data) == group)) {
            p->blocks[p->count].group = ab_get_be64(key.mv_data);
            p->blocks[p->count++].bytes = value.mv_size;
            memcpy(w->key, key.mv_data, sizeof w->key);
            w->begun = true;
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    ab_wal_read_end(wal, txn);
    w->end = p->count < PIECE;
    return rc == MDB_SUCCESS || rc == MDB_NOTFOUND ? AB_OK
                                                   : ab_wal_lmdb_fail(wal, rc, "read the sizes of blocks");
}

int ab_wal_group_sizes(ab_wal *wal, uint64_t group, ab_wal_size_fn fn, void *arg)
{
    walk w = {.fn = fn, .arg = arg};
    piece p;
    ab_wal_block_key(w.key, group, (ab_stream){0, 0}, 0);
    while (!w.end) {
        int code = read_piece(wal, &w, group, &p);
        if (code != AB_OK) {
            return code;
        }
        for (size_t i = 0; i < p.count; i++) {
            if (!add(&w, p.blocks[i].group, p.blocks[i].bytes)) {
                return AB_OK;
            }
        }
    }
    if (w.size.blocks > 0) {
        (void)fn(arg, &w.size);
    }
    return AB_OK;
}
