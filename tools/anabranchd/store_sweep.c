/* SPDX-License-Identifier: Apache-2.0 */
/* Points that a fresh tombstone covers are taken away before it is stored, in transactions of bounded size: LMDB keeps a
 * list of the pages that a transaction touches. A crash in between is no harm: what is gone is gone by a delete that was
 * applied, which the log still has and brings again. The thread that applies. */
#include "tools/anabranchd/store_internal.h"

#include <errno.h>
#include <stdlib.h>

/* Points and columns looked at in one transaction. */
#define SHARE 50000u

/* One walk over the columns of a measurement, or over all, for all fresh tombstones of a flush: there may be hundreds that
 * select a series each. */
typedef struct sweep {
    ab_store *store;
    const ab_selection *bounds; /* where columns begin and end: of the measurement, or all */
    ab_counters counters;
    char column[AB_COLUMN_KEY_MAX];
    size_t size;
    uint32_t id;  /* of the column; 0: look for the next */
    int64_t time; /* go on at this time */
    size_t share; /* left of this transaction's */
    bool done;
} sweep;

static const ab_tombstone *candidate(const sweep *s, size_t i)
{
    return &s->store->merged.list[s->store->candidates[i]];
}

/* Leaves of the candidates those that are fresh. */
static void choose(sweep *s)
{
    ab_store *store = s->store;
    size_t kept = 0;
    ab_cover_choose(store, ab_column_series(s->column, s->size));
    for (size_t i = 0; i < store->candidate_count; i++) {
        if (candidate(s, i)->fresh) {
            store->candidates[kept++] = store->candidates[i];
        }
    }
    store->candidate_count = kept;
}

/* The first time from `time` on that is selected. @return false: there is none */
static bool next_time(const sweep *s, int64_t time, int64_t *next)
{
    bool found = false;
    for (size_t i = 0; i < s->store->candidate_count; i++) {
        const ab_selection *selection = &candidate(s, i)->selection;
        int64_t from = selection->start > time ? selection->start : time;
        if (from <= selection->stop && (!found || from < *next)) {
            *next = from;
            found = true;
        }
    }
    return found;
}

static bool is_covered(const sweep *s, int64_t time, ab_stamp stamp)
{
    for (size_t i = s->store->candidate_count; i > 0; i--) {
        const ab_tombstone *t = candidate(s, i - 1);
        if (ab_stamp_compare(stamp, t->stamp) > 0) {
            return false;
        }
        if (time >= t->selection.start && time <= t->selection.stop) {
            return true;
        }
    }
    return false;
}

/* The cursor's point, if it is one that a tombstone covers. */
static int take_away(sweep *s, MDB_cursor *cursor, int64_t time, const MDB_val *data, size_t *taken)
{
    ab_value value;
    ab_stamp stamp;
    if (!ab_point_unpack(data, &value, &stamp)) {
        return MDB_CORRUPTED;
    }
    if (!is_covered(s, time, stamp)) {
        return MDB_SUCCESS;
    }
    int rc = ab_store_count_point(s->store, ab_column_hash(s->column, s->size), time, data, false,
                                  &s->counters.digest);
    rc = rc == MDB_SUCCESS ? mdb_cursor_del(cursor, 0) : rc;
    s->counters.points -= rc == MDB_SUCCESS ? 1 : 0;
    *taken += rc == MDB_SUCCESS ? 1 : 0;
    return rc;
}

/* `bytes`: for the key that is looked for. */
static int seek(const sweep *s, MDB_cursor *cursor, int64_t time, uint8_t bytes[AB_POINT_KEY_SIZE],
                MDB_val *key, MDB_val *data)
{
    *key = (MDB_val){AB_POINT_KEY_SIZE, bytes};
    ab_point_key_pack(s->id, time, bytes);
    return mdb_cursor_get(cursor, key, data, MDB_SET_RANGE);
}

/* Points of the column from s->time on, until its end or the end of the share. */
static int sweep_points(sweep *s, MDB_cursor *cursor, size_t *taken)
{
    uint8_t bytes[AB_POINT_KEY_SIZE];
    MDB_val key;
    MDB_val data;
    int rc = seek(s, cursor, s->time, bytes, &key, &data);
    while (rc == MDB_SUCCESS) {
        uint32_t id = 0;
        int64_t time = 0;
        int64_t next = 0;
        if (!ab_point_key_unpack(&key, &id, &time)) {
            return MDB_CORRUPTED;
        }
        if (id != s->id || !next_time(s, time, &next)) {
            s->id = 0;
            return MDB_SUCCESS;
        }
        if (s->share == 0) {
            s->time = time;
            return MDB_SUCCESS;
        }
        s->share--;
        if (next > time) {
            rc = seek(s, cursor, next, bytes, &key, &data);
            continue;
        }
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
                (rc == MDB_SUCCESS && ab_selection_is_before(s->bounds, s->column, s->size))) {
                s->done = true;
                return MDB_SUCCESS;
            }
            if (rc != MDB_SUCCESS) {
                return rc;
            }
            s->share--;
            choose(s);
            if (!next_time(s, INT64_MIN, &s->time)) {
                s->id = 0;
                continue;
            }
        }
        rc = sweep_column(s, txn);
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

static int sweep_all(sweep *s, ab_store *store, const ab_selection *bounds)
{
    int rc = MDB_SUCCESS;
    *s = (sweep){.store = store, .bounds = bounds};
    s->size = ab_selection_begin(bounds, s->column);
    while (rc == MDB_SUCCESS && !s->done) {
        rc = sweep_once(s);
    }
    return rc;
}

static int compare_measurements(const void *left, const void *right)
{
    const ab_selection *const *a = left;
    const ab_selection *const *b = right;
    return ab_bytes_compare((*a)->measurement, (*b)->measurement);
}

/* The selections of fresh tombstones, by measurement: those of any come first. @return how many */
static size_t gather(const ab_store *store, const ab_selection **fresh)
{
    size_t count = 0;
    for (size_t i = 0; i < store->merged.count; i++) {
        if (store->merged.list[i].fresh) {
            fresh[count++] = &store->merged.list[i].selection;
        }
    }
    qsort(fresh, count, sizeof *fresh, compare_measurements);
    return count;
}

int ab_store_sweep(ab_store *store)
{
    int rc = MDB_SUCCESS;
    if (store->deletes.count == 0 || store->counters.points == 0) {
        return rc;
    }
    sweep *s = malloc(sizeof *s);
    const ab_selection **fresh = malloc(store->deletes.count * sizeof *fresh);
    if (s == NULL || fresh == NULL) {
        free(s);
        free(fresh);
        return ENOMEM;
    }
    size_t count = gather(store, fresh);
    size_t walks = count > 0 && fresh[0]->measurement.size == 0 ? 1 : count;
    for (size_t i = 0; i < walks && rc == MDB_SUCCESS; i++) {
        if (i == 0 || compare_measurements(&fresh[i - 1], &fresh[i]) != 0) {
            rc = sweep_all(s, store, fresh[i]);
        }
    }
    free(fresh);
    free(s);
    return rc;
}
