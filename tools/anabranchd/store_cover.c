/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a tombstone covers a point that comes late. Tombstones are found by measurement and first tag: a series that has
 * few tags is held against a few of them, however many there are. The thread that applies. */
#include "tools/anabranchd/store_internal.h"

#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static uint64_t hash_of(ab_bytes measurement, ab_bytes tag)
{
    uint64_t seed = tag.size > 0 ? XXH3_64bits(tag.data, tag.size) : 0;
    return XXH3_64bits_withSeed(measurement.data, measurement.size, seed);
}

static int compare_places(const void *left, const void *right)
{
    const ab_tombstone_place *a = left;
    const ab_tombstone_place *b = right;
    if (a->hash != b->hash) {
        return a->hash < b->hash ? -1 : 1;
    }
    return (a->position > b->position) - (a->position < b->position);
}

int ab_cover_begin(ab_store *store, size_t most)
{
    store->candidates_of = UINT32_MAX;
    store->place_count = 0;
    if (store->candidate_capacity >= most) {
        return AB_OK;
    }
    uint32_t *candidates = realloc(store->candidates, 2 * most * sizeof *candidates);
    if (candidates == NULL) {
        return AB_ENOMEM;
    }
    store->candidates = candidates;
    ab_tombstone_place *places = realloc(store->places, 2 * most * sizeof *places);
    if (places == NULL) {
        return AB_ENOMEM;
    }
    store->places = places;
    store->candidate_capacity = 2 * most;
    return AB_OK;
}

static void sort_places(ab_store *store, const ab_tombstones *all)
{
    for (size_t i = 0; i < all->count; i++) {
        const ab_selection *selection = &all->list[i].selection;
        ab_bytes none = {"", 0};
        uint64_t hash = hash_of(selection->measurement, selection->tag_count > 0 ? selection->tags[0] : none);
        store->places[i] = (ab_tombstone_place){hash, (uint32_t)i};
    }
    qsort(store->places, all->count, sizeof *store->places, compare_places);
    store->place_count = all->count;
}

static void take_places(ab_store *store, const ab_tombstones *all, ab_bytes series, uint64_t hash)
{
    size_t from = 0;
    size_t end = store->place_count;
    while (from < end) {
        size_t middle = from + (end - from) / 2;
        if (store->places[middle].hash < hash) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    for (; from < store->place_count && store->places[from].hash == hash; from++) {
        uint32_t position = store->places[from].position;
        /* Hashes that happen to be equal bring one twice: no harm. */
        if (store->candidate_count < all->count &&
            ab_selection_has_series(&all->list[position].selection, series)) {
            store->candidates[store->candidate_count++] = position;
        }
    }
}

static int compare_positions(const void *left, const void *right)
{
    const uint32_t *a = left;
    const uint32_t *b = right;
    return (*a > *b) - (*a < *b);
}

void ab_cover_choose(ab_store *store, ab_bytes series)
{
    const ab_tombstones *all = ab_tombstones_current(store);
    ab_bytes none = {"", 0};
    ab_bytes measurement = none;
    ab_bytes tag = none;
    size_t at = 0;
    store->candidates_of = UINT32_MAX;
    store->candidate_count = 0;
    if (store->place_count == 0) {
        sort_places(store, all);
    }
    ab_series_next(series, &at, &measurement);
    do { /* first no tag, then each */
        take_places(store, all, series, hash_of(measurement, tag));
        take_places(store, all, series, hash_of(none, tag));
    } while (ab_series_next(series, &at, &tag));
    qsort(store->candidates, store->candidate_count, sizeof *store->candidates, compare_positions);
}

bool ab_tombstones_cover(ab_store *store, const ab_pending *point)
{
    const ab_tombstones *all = ab_tombstones_current(store);
    /* A write is nearly always later than every delete. */
    if (all->count == 0 || ab_stamp_compare(point->stamp, all->list[all->count - 1].stamp) > 0) {
        return false;
    }
    if (store->candidates_of != point->position) {
        const ab_column *column = &store->columns.list[point->position];
        ab_cover_choose(store, ab_column_series(column->text, column->size));
        store->candidates_of = point->position;
    }
    for (size_t i = store->candidate_count; i > 0; i--) {
        const ab_tombstone *t = &all->list[store->candidates[i - 1]];
        if (ab_stamp_compare(t->stamp, point->stamp) < 0) {
            return false;
        }
        if (point->time >= t->selection.start && point->time <= t->selection.stop) {
            return true;
        }
    }
    return false;
}
