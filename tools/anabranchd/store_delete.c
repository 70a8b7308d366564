/* SPDX-License-Identifier: Apache-2.0 */
/* Tombstones: deletes that were applied, kept because a write that one of them covers may still come. The thread that
 * applies. */
#include "tools/anabranchd/bytes.h"
#include "tools/anabranchd/store_internal.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define KEY_SIZE 12u
/* So that the hash of a tombstone is never that of a point. */
#define HASH_SEED 1u

static int reserve(ab_tombstones *tombstones, size_t count)
{
    if (tombstones->capacity >= count) {
        return AB_OK;
    }
    size_t capacity = count * 2;
    ab_tombstone *list = realloc(tombstones->list, capacity * sizeof *list);
    if (list == NULL) {
        return AB_ENOMEM;
    }
    tombstones->list = list;
    tombstones->capacity = capacity;
    return AB_OK;
}

static int add(ab_tombstones *tombstones, ab_stamp stamp, const void *payload, size_t size, bool fresh)
{
    int code = reserve(tombstones, tombstones->count + 1);
    char *copy = code == AB_OK ? malloc(size) : NULL;
    if (copy == NULL) {
        return AB_ENOMEM;
    }
    memcpy(copy, payload, size);
    ab_tombstone *t = &tombstones->list[tombstones->count];
    *t = (ab_tombstone){.stamp = stamp, .payload = copy, .size = size, .fresh = fresh};
    code = ab_pack_read_delete(copy, size, &t->selection);
    if (code != AB_OK) {
        free(copy);
        return AB_ECORRUPT;
    }
    tombstones->count++;
    return AB_OK;
}

int ab_tombstones_hold(ab_store *store, const ab_entry *entry)
{
    ab_stamp stamp = {entry->hlc, entry->stream.node};
    return add(&store->deletes, stamp, entry->payload, entry->size, true);
}

void ab_tombstones_drop(ab_tombstones *tombstones, size_t count)
{
    while (tombstones->count > count) {
        free(tombstones->list[--tombstones->count].payload);
    }
}

/* All that is stored, in the order of keys, which is that of stamps. */
int ab_tombstones_load(ab_store *store)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val data;
    int code = AB_OK;
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (rc != MDB_SUCCESS) {
        return ab_store_code(rc);
    }
    rc = mdb_cursor_open(txn, store->tombstones_dbi, &cursor);
    rc = rc == MDB_SUCCESS ? mdb_cursor_get(cursor, &key, &data, MDB_FIRST) : rc;
    while (rc == MDB_SUCCESS && code == AB_OK) {
        const uint8_t *in = key.mv_data;
        if (key.mv_size != KEY_SIZE) {
            code = AB_ECORRUPT;
            break;
        }
        ab_stamp stamp = {ab_get_big(in, 8), (uint32_t)ab_get_big(in + 8, 4)};
        code = add(&store->tombstones, stamp, data.mv_data, data.mv_size, false);
        rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    if (cursor != NULL) {
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    store->counters.tombstones = store->tombstones.count;
    store->counters.oldest = store->tombstones.count > 0 ? store->tombstones.list[0].stamp.hlc : 0;
    return code == AB_OK && rc != MDB_SUCCESS && rc != MDB_NOTFOUND ? ab_store_code(rc) : code;
}

static bool is_later_and_covers(const ab_tombstone *later, const ab_tombstone *than)
{
    return ab_stamp_compare(later->stamp, than->stamp) > 0 &&
           ab_selection_covers(&later->selection, &than->selection);
}

/* Those of a sorted list from here on have no smaller stamp. */
static size_t lower_bound(const ab_tombstones *list, ab_stamp stamp)
{
    size_t from = 0;
    size_t end = list->count;
    while (from < end) {
        size_t middle = from + (end - from) / 2;
        if (ab_stamp_compare(list->list[middle].stamp, stamp) < 0) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    return from;
}

/* The tombstone at `at` of the deletes against those of a list: either may make the other needless. */
static void weigh(ab_tombstones *deletes, size_t at, ab_tombstones *list)
{
    ab_tombstone *t = &deletes->list[at];
    bool sorted = list != deletes;
    size_t bound = sorted ? lower_bound(list, t->stamp) : 0;
    for (size_t i = bound; i < list->count && !t->needless; i++) {
        ab_tombstone *other = &list->list[i];
        if (other == t || other->needless) {
            continue;
        }
        /* Stamps are unique; should two be equal all the same, the first stays. */
        bool twin = ab_stamp_compare(other->stamp, t->stamp) == 0 && (sorted || i < at);
        t->needless = twin || is_later_and_covers(other, t);
    }
    size_t end = sorted ? bound : list->count;
    for (size_t i = 0; i < end && !t->needless; i++) {
        list->list[i].needless = list->list[i].needless || is_later_and_covers(t, &list->list[i]);
    }
}

static int compare(const void *left, const void *right)
{
    const ab_tombstone *a = left;
    const ab_tombstone *b = right;
    return ab_stamp_compare(a->stamp, b->stamp);
}

static void keep(ab_tombstones *to, const ab_tombstones *from)
{
    for (size_t i = 0; i < from->count; i++) {
        if (!from->list[i].needless) {
            to->list[to->count++] = from->list[i];
        }
    }
}

const ab_tombstones *ab_tombstones_current(const ab_store *store)
{
    return store->merging ? &store->merged : &store->tombstones;
}

/* They stay in what this flush holds its points against: a delete and what made it needless may come in one flush. */
static void expire(ab_tombstones *merged, uint64_t horizon)
{
    for (size_t i = 0; i < merged->count; i++) {
        merged->list[i].expired = merged->list[i].stamp.hlc < horizon;
    }
}

int ab_tombstones_merge(ab_store *store)
{
    size_t most = store->tombstones.count + store->deletes.count;
    uint64_t horizon = ab_store_horizon(store);
    store->merged.count = 0;
    store->merging = store->deletes.count > 0 || (most > 0 && store->tombstones.list[0].stamp.hlc < horizon);
    if (ab_cover_begin(store, most) != AB_OK || reserve(&store->merged, most) != AB_OK) {
        return AB_ENOMEM;
    }
    if (!store->merging) {
        return AB_OK;
    }
    for (size_t i = 0; i < store->tombstones.count; i++) {
        store->tombstones.list[i].needless = false;
    }
    for (size_t i = 0; i < store->deletes.count; i++) {
        store->deletes.list[i].needless = false;
    }
    for (size_t i = 0; i < store->deletes.count; i++) {
        weigh(&store->deletes, i, &store->tombstones);
        weigh(&store->deletes, i, &store->deletes);
    }
    keep(&store->merged, &store->tombstones);
    keep(&store->merged, &store->deletes);
    qsort(store->merged.list, store->merged.count, sizeof *store->merged.list, compare);
    expire(&store->merged, horizon);
    return AB_OK;
}

ab_sum ab_tombstone_hash(const MDB_val *key, const MDB_val *payload)
{
    XXH128_hash_t k = XXH3_128bits_withSeed(key->mv_data, key->mv_size, HASH_SEED);
    XXH128_hash_t h = XXH3_128bits_withSeed(payload->mv_data, payload->mv_size, k.low64 ^ k.high64);
    return (ab_sum){h.low64, h.high64};
}

static MDB_val make_key(const ab_tombstone *t, uint8_t bytes[KEY_SIZE])
{
    ab_put_big(bytes, t->stamp.hlc, 8);
    ab_put_big(bytes + 8, t->stamp.node, 4);
    return (MDB_val){KEY_SIZE, bytes};
}

static int take_out(const ab_store *store, MDB_txn *txn, const ab_tombstone *t, ab_counters *counters)
{
    uint8_t bytes[KEY_SIZE];
    MDB_val key = make_key(t, bytes);
    MDB_val data = {t->size, t->payload};
    ab_sum_subtract(&counters->digest, ab_tombstone_hash(&key, &data));
    return mdb_del(txn, store->tombstones_dbi, &key, NULL);
}

static int put_in(const ab_store *store, MDB_txn *txn, const ab_tombstone *t, ab_counters *counters)
{
    uint8_t bytes[KEY_SIZE];
    MDB_val key = make_key(t, bytes);
    MDB_val data = {t->size, t->payload};
    ab_sum_add(&counters->digest, ab_tombstone_hash(&key, &data));
    return mdb_put(txn, store->tombstones_dbi, &key, &data, 0);
}

int ab_tombstones_write(ab_store *store, MDB_txn *txn, ab_counters *counters)
{
    int rc = MDB_SUCCESS;
    if (!store->merging) {
        return rc;
    }
    for (size_t i = 0; i < store->tombstones.count && rc == MDB_SUCCESS; i++) {
        const ab_tombstone *t = &store->tombstones.list[i];
        rc = t->needless ? take_out(store, txn, t, counters) : rc;
    }
    counters->tombstones = 0;
    counters->oldest = 0;
    for (size_t i = 0; i < store->merged.count && rc == MDB_SUCCESS; i++) {
        const ab_tombstone *t = &store->merged.list[i];
        if (t->expired) {
            rc = t->fresh ? MDB_SUCCESS : take_out(store, txn, t, counters);
            continue;
        }
        rc = t->fresh ? put_in(store, txn, t, counters) : MDB_SUCCESS;
        counters->oldest = counters->tombstones == 0 ? t->stamp.hlc : counters->oldest;
        counters->tombstones++;
    }
    return rc;
}

static void free_needless(ab_tombstones *tombstones)
{
    for (size_t i = 0; i < tombstones->count; i++) {
        if (tombstones->list[i].needless) {
            free(tombstones->list[i].payload);
        }
    }
    tombstones->count = 0;
}

void ab_tombstones_written(ab_store *store)
{
    if (!store->merging) {
        return;
    }
    free_needless(&store->deletes);
    free_needless(&store->tombstones);
    ab_tombstones stored = store->merged;
    size_t kept = 0;
    for (size_t i = 0; i < stored.count; i++) {
        if (stored.list[i].expired) {
            free(stored.list[i].payload);
            continue;
        }
        stored.list[kept] = stored.list[i];
        stored.list[kept++].fresh = false;
    }
    stored.count = kept;
    store->merged = store->tombstones;
    store->tombstones = stored;
    store->merging = false;
}
