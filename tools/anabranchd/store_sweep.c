/* SPDX-License-Identifier: Apache-2.0 */
/* Points that a fresh tombstone covers are taken away before it is stored, in transactions of bounded size: LMDB keeps a
 * list of the pages that a transaction touches. A crash in between is no harm: what is gone is gone by a delete that was
 * applied, which the log still has and brings again. The thread that applies. */
#include "tools/anabranchd/store_internal.h"

#include <errno.h>
#include <stdlib.h>

/* Points and columns looked at in one transaction. */
#define SHARE 50000u

typedef struct sweep {
    ab_store *store;
    const ab_tombstone *tombstone;
    ab_counters counters;
    char column[AB_COLUMN_KEY_MAX];
    size_t size;
    uint32_t id;  /* of the column; 0: look for the next */
    int64_t time; /* go on at this time */
    size_t share; /* left of this transaction's */
    bool done;
} sweep;

/* The cursor's point, if it is one that the tombstone covers. */
static int take_away(sweep *s, MDB_cursor *cursor, int64_t time, const MDB_val *data, size_t *taken)
{
    ab_value value;
    ab_stamp stamp;
    if (!ab_point_unpack(data, &value, &stamp)) {
        return MDB_CORRUPTED;
    }
    if (ab_stamp_compare(stamp, s->tombstone->stamp) > 0) {
        return MDB_SUCCESS;
    }
    int rc = ab_store_count_point(s->store, ab_column_hash(s->column, s->size), time, data, false,
                                  &s->counters.digest);
    rc = rc == MDB_SUCCESS ? mdb_cursor_del(cursor, 0) : rc;
    s->counters.points -= rc == MDB_SUCCESS ? 1 : 0;
    *taken += rc == MDB_SUCCESS ? 1 : 0;
    return rc;
}

/* Points of the column from s->time on, until its end or the end of the share. */
static int sweep_points(sweep *s, MDB_cursor *cursor, size_t *taken)
{
    uint8_t bytes[AB_POINT_KEY_SIZE];
    MDB_val key = {sizeof bytes, bytes};
    MDB_val data;
    ab_point_key_pack(s->id, s->time, bytes);
    int rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
    while (rc == MDB_SUCCESS) {
        uint32_t id = 0;
        int64_t time = 0;
        if (!ab_point_key_unpack(&key, &id, &time)) {
            return MDB_CORRUPTED;
        }
        if (id != s->id || time > s->tombstone->selection.stop) {
            s->id = 0;
            return MDB_SUCCESS;
        }
        if (s->share == 0) {
            s->time = time;
            return MDB_SUCCESS;
        }
        s->share--;
        rc = take_away(s, cursor, time, &data, taken);
        rc = rc == MDB_SUCCESS ? mdb_cursor_get(cursor, &key, &data, MDB_NEXT) : rc;
    }
    if (rc != MDB_NOTFOUND) {
        return rc;
    }
    s->id = 0;
    return MDB_SUCCESS;
}

static int sweep_column(sweep *s, MDB_txn *txn)
{
    MDB_cursor *cursor = NULL;
    size_t taken = 0;
    uint32_t id = s->id;
    int rc = mdb_cursor_open(txn, s->store->points_dbi, &cursor);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = sweep_points(s, cursor, &taken);
    if (rc == MDB_SUCCESS && taken > 0) {
        rc = ab_store_first_point(cursor, id);
        if (rc == MDB_NOTFOUND) {
            s->counters.columns--;
            rc = MDB_SUCCESS;
        }
    }
    mdb_cursor_close(cursor);
    return rc;
}

static int sweep_share(sweep *s, MDB_txn *txn)
{
    ab_trie trie = {txn, s->store->columns_dbi};
    int rc = MDB_SUCCESS;
    s->share = SHARE;
    while (rc == MDB_SUCCESS && s->share > 0) {
        if (s->id == 0) {
            rc = ab_trie_next(&trie, s->column, &s->size, &s->id);
            if (rc == MDB_NOTFOUND ||
                (rc == MDB_SUCCESS && ab_selection_is_before(&s->tombstone->selection, s->column, s->size))) {
                s->done = true;
                return MDB_SUCCESS;
            }
            s->time = s->tombstone->selection.start;
            s->share--;
            ab_bytes series = ab_column_series(s->column, s->size);
            if (rc == MDB_SUCCESS && !ab_selection_has_series(&s->tombstone->selection, series)) {
                s->id = 0;
                continue;
            }
        }
        rc = rc == MDB_SUCCESS ? sweep_column(s, txn) : rc;
    }
    return rc;
}

static int sweep_once(sweep *s)
{
    ab_store *store = s->store;
    MDB_txn *txn = NULL;
    s->counters = store->counters;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = sweep_share(s, txn);
    if (rc == MDB_SUCCESS && s->counters.points != store->counters.points) {
        rc = ab_store_counters_save(store, txn, &s->counters);
        if (rc == MDB_SUCCESS) {
            rc = mdb_txn_commit(txn);
            txn = NULL;
        }
        if (rc == MDB_SUCCESS) {
            ab_store_set_counters(store, &s->counters);
        }
        store->columns.live++;
    }
    if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    return rc;
}

int ab_store_sweep(ab_store *store)
{
    int rc = MDB_SUCCESS;
    if (store->deletes.count == 0 || store->counters.points == 0) {
        return rc;
    }
    sweep *s = malloc(sizeof *s);
    if (s == NULL) {
        return ENOMEM;
    }
    for (size_t i = 0; i < store->merged.count && rc == MDB_SUCCESS; i++) {
        const ab_tombstone *t = &store->merged.list[i];
        if (!t->fresh) {
            continue;
        }
        *s = (sweep){.store = store, .tombstone = t};
        s->size = ab_selection_begin(&t->selection, s->column);
        while (rc == MDB_SUCCESS && !s->done) {
            rc = sweep_once(s);
        }
    }
    free(s);
    return rc;
}
