/* SPDX-License-Identifier: Apache-2.0 */
/* Pending points to LMDB: sorted, in one transaction with the frontier and the digest. The thread that applies. */
#include "tools/anabranchd/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int compare_pending(const void *left, const void *right)
{
    const ab_pending *a = left;
    const ab_pending *b = right;
    if (a->column != b->column) {
        return a->column < b->column ? -1 : 1;
    }
    if (a->time != b->time) {
        return a->time < b->time ? -1 : 1;
    }
    int order = ab_stamp_compare(a->stamp, b->stamp);
    return order != 0 ? order : (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

static int write_columns(const ab_store *store, MDB_txn *txn, ab_counters *counters)
{
    ab_trie trie = {txn, store->columns_dbi};
    for (size_t i = 0; i < store->columns.fresh_count; i++) {
        const ab_column *column = &store->columns.list[store->columns.fresh[i]];
        int rc = ab_trie_put(&trie, column->text, column->size, column->id, &counters->next_node);
        if (rc != MDB_SUCCESS) {
            return rc;
        }
    }
    return MDB_SUCCESS;
}

static int pack(ab_store *store, const ab_pending *point, MDB_val *data)
{
    size_t size = ab_point_size(&point->value);
    if (store->packed_capacity < size) {
        uint8_t *packed = realloc(store->packed, size * 2);
        if (packed == NULL) {
            return ENOMEM;
        }
        store->packed = packed;
        store->packed_capacity = size * 2;
    }
    ab_point_pack(&point->value, point->stamp, store->packed);
    *data = (MDB_val){size, store->packed};
    return MDB_SUCCESS;
}

int ab_store_count_point(ab_store *store, ab_sum column_hash, int64_t time, const MDB_val *data, bool add,
                         ab_sum *digest)
{
    ab_sum hash;
    if (ab_point_hash(&store->hasher, column_hash, time, data, &hash) != AB_OK) {
        return ENOMEM;
    }
    if (add) {
        ab_sum_add(digest, hash);
    } else {
        ab_sum_subtract(digest, hash);
    }
    return MDB_SUCCESS;
}

static int add_hash(ab_store *store, const ab_pending *point, const MDB_val *data, bool add, ab_sum *digest)
{
    ab_sum column = store->columns.list[point->position].key_hash;
    return ab_store_count_point(store, column, point->time, data, add, digest);
}

/* The same point is stored already: the greater stamp stays. */
static int resolve(ab_store *store, MDB_cursor *cursor, const ab_pending *point, MDB_val *key, MDB_val *data,
                   const MDB_val *old, ab_counters *counters)
{
    ab_value value;
    ab_stamp stamp;
    if (!ab_point_unpack(old, &value, &stamp)) {
        return MDB_CORRUPTED;
    }
    if (ab_stamp_compare(stamp, point->stamp) > 0) {
        return MDB_SUCCESS;
    }
    int rc = add_hash(store, point, old, false, &counters->digest);
    rc = rc == MDB_SUCCESS ? add_hash(store, point, data, true, &counters->digest) : rc;
    return rc == MDB_SUCCESS ? mdb_cursor_put(cursor, key, data, 0) : rc;
}

static int write_point(ab_store *store, MDB_cursor *cursor, const ab_pending *point, ab_counters *counters)
{
    uint8_t bytes[AB_POINT_KEY_SIZE];
    MDB_val key = {sizeof bytes, bytes};
    MDB_val data;
    ab_point_key_pack(point->column, point->time, bytes);
    int rc = pack(store, point, &data);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    MDB_val stored = data;
    rc = mdb_cursor_put(cursor, &key, &stored, MDB_NOOVERWRITE);
    if (rc == MDB_KEYEXIST) {
        return resolve(store, cursor, point, &key, &data, &stored, counters);
    }
    counters->points++;
    return rc == MDB_SUCCESS ? add_hash(store, point, &data, true, &counters->digest) : rc;
}

static bool same_point(const ab_pending *a, const ab_pending *b)
{
    return a->column == b->column && a->time == b->time;
}

int ab_store_first_point(MDB_cursor *cursor, uint32_t column)
{
    uint8_t bytes[AB_POINT_KEY_SIZE];
    MDB_val key = {sizeof bytes, bytes};
    MDB_val data;
    uint32_t id = 0;
    int64_t time = 0;
    ab_point_key_pack(column, INT64_MIN, bytes);
    int rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
    if (rc == MDB_SUCCESS && !ab_point_key_unpack(&key, &id, &time)) {
        return MDB_CORRUPTED;
    }
    return rc == MDB_SUCCESS && id != column ? MDB_NOTFOUND : rc;
}

/* The points of one column, pending[from] to pending[end - 1]. */
static int write_run(ab_store *store, MDB_cursor *cursor, size_t from, size_t end, ab_counters *counters)
{
    ab_column *column = &store->columns.list[store->pending[from].position];
    uint64_t before = counters->points;
    bool live = column->live == store->columns.live;
    int rc = live ? MDB_SUCCESS : ab_store_first_point(cursor, column->id);
    live = rc == MDB_SUCCESS;
    rc = rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
    for (size_t i = from; i < end && rc == MDB_SUCCESS; i++) {
        /* Of one point's values the last in this order wins. */
        if (i + 1 < end && same_point(&store->pending[i], &store->pending[i + 1])) {
            continue;
        }
        if (!ab_tombstones_cover(store, &store->pending[i])) {
            rc = write_point(store, cursor, &store->pending[i], counters);
        }
    }
    bool grown = counters->points != before;
    counters->columns += grown && !live ? 1 : 0;
    column->live = live || grown ? store->columns.live : 0;
    return rc;
}

static int write_points(ab_store *store, MDB_txn *txn, ab_counters *counters)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(txn, store->points_dbi, &cursor);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    for (size_t from = 0, end = 0; from < store->pending_count && rc == MDB_SUCCESS; from = end) {
        while (end < store->pending_count && store->pending[end].column == store->pending[from].column) {
            end++;
        }
        rc = write_run(store, cursor, from, end, counters);
    }
    mdb_cursor_close(cursor);
    return rc;
}

int ab_store_write(ab_store *store, ab_counters *counters)
{
    MDB_txn *txn = NULL;
    if (store->pending_count > 1) {
        qsort(store->pending, store->pending_count, sizeof *store->pending, compare_pending);
    }
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = write_columns(store, txn, counters);
    rc = rc == MDB_SUCCESS ? ab_tombstones_write(store, txn, counters) : rc;
    rc = rc == MDB_SUCCESS ? write_points(store, txn, counters) : rc;
    rc = rc == MDB_SUCCESS ? ab_store_meta_save(store, txn, counters) : rc;
    if (rc == MDB_SUCCESS) {
        rc = mdb_txn_commit(txn);
    } else {
        mdb_txn_abort(txn);
    }
    /* What was learnt of columns holds only if it is stored. */
    store->columns.live += rc != MDB_SUCCESS ? 1 : 0;
    return rc;
}
