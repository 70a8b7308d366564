/* SPDX-License-Identifier: Apache-2.0 */
/* The point store: entries in, held in memory until a flush. The thread that applies; summaries from any. */
#include "tools/anabranchd/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* Beyond either, an apply flushes first: about a second of 150,000 points/s for a single group. */
#define PENDING_POINTS_MAX (128u * 1024)
#define PENDING_TEXT_MAX (8u << 20)
#define PENDING_DELETES_MAX 256u
/* Beyond it the cache of columns is forgotten after a flush and fills again from the trie. */
#define CACHED_COLUMNS_MAX (1u << 20)
/* A map that doubles 30 times from 16 MiB: more than any disk. */
#define GROWTHS_MAX 30

int ab_store_open(const char *dir, uint64_t group, ab_store **out, ab_message *message)
{
    ab_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return AB_ENOMEM;
    }
    store->group = group;
    store->dir = strdup(dir);
    pthread_rwlock_init(&store->lock, NULL);
    pthread_mutex_init(&store->summary_lock, NULL);
    int code = store->dir == NULL ? AB_ENOMEM : ab_store_env_open(store, message);
    code = code == AB_OK ? ab_store_meta_load(store, message) : code;
    code = code == AB_OK ? ab_tombstones_load(store) : code;
    if (code != AB_OK) {
        ab_store_free(store);
        return code;
    }
    *out = store;
    return AB_OK;
}

void ab_store_close(ab_store *store)
{
    pthread_rwlock_wrlock(&store->lock);
    if (store->env != NULL) {
        mdb_env_close(store->env);
        store->env = NULL;
    }
    store->closed = true;
    pthread_rwlock_unlock(&store->lock);
}

void ab_store_free(ab_store *store)
{
    if (store == NULL) {
        return;
    }
    ab_store_close(store);
    pthread_rwlock_destroy(&store->lock);
    pthread_mutex_destroy(&store->summary_lock);
    ab_columns_clear(&store->columns);
    ab_arena_clear(&store->texts);
    ab_tombstones_drop(&store->deletes, 0);
    ab_tombstones_drop(&store->tombstones, 0);
    free(store->deletes.list);
    free(store->tombstones.list);
    free(store->merged.list);
    free(store->candidates);
    free(store->places);
    free(store->heard);
    free(store->members);
    free(store->pending);
    free(store->durable.list);
    free(store->applied.list);
    free(store->hasher.bytes);
    free(store->packed);
    free(store->dir);
    free(store);
}

static int reserve_marks(ab_marks *marks, size_t count)
{
    if (marks->capacity >= count) {
        return AB_OK;
    }
    ab_mark *list = realloc(marks->list, count * sizeof *list);
    if (list == NULL) {
        return AB_ENOMEM;
    }
    marks->list = list;
    marks->capacity = count;
    return AB_OK;
}

/* There is room. */
static void set_marks(ab_marks *marks, const ab_mark *list, size_t count)
{
    if (count > 0) {
        memcpy(marks->list, list, count * sizeof *list);
    }
    marks->count = count;
}

/* A read transaction for columns that the cache does not have; begun when the first is missed. */
typedef struct lookup {
    ab_store *store;
    ab_trie trie;
} lookup;

static int find_column(lookup *look, const ab_point *point, uint64_t series_hash, uint32_t *position)
{
    ab_store *store = look->store;
    if (look->trie.txn == NULL && store->columns.next_id > 1) {
        if (store->env == NULL) {
            return AB_EIO;
        }
        int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &look->trie.txn);
        if (rc != MDB_SUCCESS) {
            return ab_store_code(rc);
        }
        look->trie.dbi = store->columns_dbi;
    }
    return ab_columns_find(&store->columns, &look->trie, point, series_hash, position);
}

static int hold_text(ab_store *store, ab_value *value)
{
    if (value->type != AB_VALUE_STRING) {
        return AB_OK;
    }
    char *copy = ab_arena_take(&store->texts, value->as.text.size);
    if (copy == NULL) {
        return AB_ENOMEM;
    }
    if (value->as.text.size > 0) {
        memcpy(copy, value->as.text.data, value->as.text.size);
    }
    value->as.text.data = copy;
    return AB_OK;
}

static int hold_point(lookup *look, const ab_point *point, uint64_t series_hash, const ab_entry *entry)
{
    ab_store *store = look->store;
    if (store->pending_count == store->pending_capacity) {
        size_t capacity = store->pending_capacity == 0 ? 1024 : store->pending_capacity * 2;
        ab_pending *pending = realloc(store->pending, capacity * sizeof *pending);
        if (pending == NULL) {
            return AB_ENOMEM;
        }
        store->pending = pending;
        store->pending_capacity = capacity;
    }
    ab_pending *held = &store->pending[store->pending_count];
    *held = (ab_pending){.time = point->time,
                         .stamp = {entry->hlc, entry->stream.node},
                         .sequence = (uint32_t)store->pending_count,
                         .value = point->value};
    int code = find_column(look, point, series_hash, &held->position);
    code = code == AB_OK ? hold_text(store, &held->value) : code;
    if (code != AB_OK) {
        return code;
    }
    held->column = store->columns.list[held->position].id;
    store->pending_count++;
    return AB_OK;
}

static int hold_entry(lookup *look, const ab_entry *entry)
{
    ab_pack_reader reader;
    ab_point point;
    uint64_t series_hash = 0;
    if (ab_pack_is_delete(entry->payload, entry->size)) {
        return ab_tombstones_hold(look->store, entry);
    }
    int code = ab_pack_read(&reader, entry->payload, entry->size);
    while (code == AB_OK) {
        code = ab_pack_next(&reader, &point);
        if (code != AB_OK) {
            break;
        }
        if (!point.same_series) {
            series_hash = XXH3_64bits(point.series.data, point.series.size);
        }
        code = hold_point(look, &point, series_hash, entry);
    }
    return code == AB_ENOTFOUND ? AB_OK : code;
}

/* Told apart here: payloads that nobody can read, and troubles of this replica. */
static bool entry_is_readable(const ab_entry *entry)
{
    ab_pack_reader reader;
    ab_point point;
    ab_selection selection;
    if (ab_pack_is_delete(entry->payload, entry->size)) {
        return ab_pack_read_delete(entry->payload, entry->size, &selection) == AB_OK;
    }
    int code = ab_pack_read(&reader, entry->payload, entry->size);
    while (code == AB_OK) {
        code = ab_pack_next(&reader, &point);
    }
    return code == AB_ENOTFOUND;
}

static bool is_full(const ab_store *store)
{
    return store->pending_count >= PENDING_POINTS_MAX || store->texts.bytes >= PENDING_TEXT_MAX ||
           store->deletes.count >= PENDING_DELETES_MAX;
}

int ab_store_apply(ab_store *store, const ab_entry *entries, size_t count, ab_frontier after, size_t *failed)
{
    int code = is_full(store) ? ab_store_flush(store) : AB_OK;
    for (size_t i = 0; i < count && code == AB_OK; i++) {
        if (!entry_is_readable(&entries[i])) {
            *failed = i;
            return AB_EREJECT;
        }
    }
    lookup look = {.store = store};
    size_t before = store->pending_count;
    size_t deletes_before = store->deletes.count;
    for (size_t i = 0; i < count && code == AB_OK; i++) {
        code = hold_entry(&look, &entries[i]);
    }
    if (look.trie.txn != NULL) {
        mdb_txn_abort(look.trie.txn);
    }
    code = code == AB_OK ? reserve_marks(&store->applied, after.count) : code;
    code = code == AB_OK ? ab_heard_reserve(store, entries, count) : code;
    if (code != AB_OK) {
        store->pending_count = before;
        ab_tombstones_drop(&store->deletes, deletes_before);
        *failed = 0;
        return code;
    }
    set_marks(&store->applied, after.marks, after.count);
    ab_heard_note(store, entries, count);
    store->dirty = true;
    return AB_OK;
}

void ab_store_set_counters(ab_store *store, const ab_counters *counters)
{
    pthread_mutex_lock(&store->summary_lock);
    store->counters = *counters;
    pthread_mutex_unlock(&store->summary_lock);
}

static void flushed(ab_store *store, const ab_counters *counters)
{
    ab_store_set_counters(store, counters);
    ab_tombstones_written(store);
    set_marks(&store->durable, store->applied.list, store->applied.count);
    store->pending_count = 0;
    store->columns.fresh_count = 0;
    store->dirty = false;
    ab_arena_clear(&store->texts);
    if (store->columns.count > CACHED_COLUMNS_MAX) {
        ab_columns_clear(&store->columns);
    }
}

/* Whether what a write of LMDB's came to is for want of room: it reports a short write, which is how a full disk often
 * shows, as an input/output error. */
static bool disk_is_full(const ab_store *store)
{
    const uint64_t margin = 1 << 20;
    struct statvfs fs;
    struct rlimit limit;
    struct stat st;
    int fd = -1;
    if (statvfs(store->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < margin) {
        return true;
    }
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           mdb_env_get_fd(store->env, &fd) == MDB_SUCCESS && fstat(fd, &st) == 0 &&
           (uint64_t)st.st_size + margin > limit.rlim_cur;
}

int ab_store_flush(ab_store *store)
{
    if (!store->dirty) {
        return AB_OK;
    }
    /* Room for what is remembered afterwards comes first: nothing may fail once it is committed. */
    int code = reserve_marks(&store->durable, store->applied.count);
    code = code == AB_OK ? ab_tombstones_merge(store) : code;
    if (code != AB_OK) {
        return code;
    }
    for (int growths = 0;; growths++) {
        code = store->env == NULL ? ab_store_env_reopen(store) : AB_OK;
        if (code != AB_OK) {
            return code;
        }
        int rc = ab_store_sweep(store);
        ab_counters counters = store->counters;
        rc = rc == MDB_SUCCESS ? ab_store_write(store, &counters) : rc;
        if (rc == MDB_SUCCESS) {
            flushed(store, &counters);
            return AB_OK;
        }
        if (rc == MDB_PANIC) {
            ab_store_env_reopen(store);
            return AB_EIO;
        }
        if (rc != MDB_MAP_FULL || growths == GROWTHS_MAX) {
            return ab_store_code(rc == EIO && disk_is_full(store) ? ENOSPC : rc);
        }
        code = ab_store_env_grow(store);
        if (code != AB_OK) {
            return code;
        }
    }
}

ab_frontier ab_store_durable(const ab_store *store)
{
    return (ab_frontier){store->durable.list, store->durable.count};
}

static void put_sum(ab_digest *digest, ab_sum sum)
{
    for (int i = 0; i < 8; i++) {
        digest->bytes[i] = (uint8_t)(sum.high >> (56 - 8 * i));
        digest->bytes[8 + i] = (uint8_t)(sum.low >> (56 - 8 * i));
    }
}

void ab_store_summarize(const ab_store *store, ab_store_summary *summary)
{
    ab_store *s = (ab_store *)(uintptr_t)store;
    pthread_mutex_lock(&s->summary_lock);
    ab_counters counters = s->counters;
    pthread_mutex_unlock(&s->summary_lock);
    *summary = (ab_store_summary){
        .points = counters.points, .columns = counters.columns, .tombstones = counters.tombstones};
    put_sum(&summary->digest, counters.digest);
}
