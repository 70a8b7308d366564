/* SPDX-License-Identifier: Apache-2.0 */
/* The block cache: a hash table and a queue from oldest to newest. Any thread; one mutex, held for a constant time
 * but for evictions, which each entry pays once. */
#include "engine/cache.h"

#include <stdlib.h>
#include <string.h>

/* Without this a failed allocation inside the hash table would end the process. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* Small blocks must not make the table large: 64 bytes of bookkeeping each, 8 MiB at most. */
#define CACHE_MAX_ENTRIES 65536u

typedef struct cache_key {
    uint64_t group;
    uint64_t first;
    ab_stream stream;
} cache_key;

struct ab_cache_entry {
    cache_key key;
    ab_buf *buf;
    bool pinned;
    struct ab_cache_entry *older, *newer;
    UT_hash_handle hh;
};

static cache_key key_of(uint64_t group, ab_stream stream, uint64_t first)
{
    return (cache_key){.group = group, .first = first, .stream = stream};
}

void ab_cache_init(ab_cache *cache, uint64_t limit)
{
    memset(cache, 0, sizeof *cache);
    pthread_mutex_init(&cache->lock, NULL);
    cache->limit = limit;
}

static void unlink_entry(ab_cache *cache, struct ab_cache_entry *entry)
{
    if (entry->older != NULL) {
        entry->older->newer = entry->newer;
    } else {
        cache->oldest = entry->newer;
    }
    if (entry->newer != NULL) {
        entry->newer->older = entry->older;
    } else {
        cache->newest = entry->older;
    }
    HASH_DEL(cache->table, entry);
    cache->bytes -= entry->buf->capacity;
    cache->entries--;
    ab_buf_unref(entry->buf);
    free(entry);
}

void ab_cache_free(ab_cache *cache)
{
    while (cache->oldest != NULL) {
        unlink_entry(cache, cache->oldest);
    }
    pthread_mutex_destroy(&cache->lock);
}

static void evict(ab_cache *cache, uint64_t bytes, uint64_t entries)
{
    struct ab_cache_entry *entry = cache->oldest;
    while (entry != NULL && (cache->bytes > bytes || cache->entries > entries)) {
        struct ab_cache_entry *newer = entry->newer;
        if (!entry->pinned) {
            unlink_entry(cache, entry);
        }
        entry = newer;
    }
}

static struct ab_cache_entry *find(ab_cache *cache, uint64_t group, ab_stream stream, uint64_t first)
{
    struct ab_cache_entry *entry = NULL;
    cache_key key = key_of(group, stream, first);
    HASH_FIND(hh, cache->table, &key, sizeof key, entry);
    return entry;
}

int ab_cache_put(ab_cache *cache, uint64_t group, ab_stream stream, uint64_t first, ab_buf *buf, bool pinned)
{
    struct ab_cache_entry *entry = calloc(1, sizeof *entry);
    if (entry == NULL) {
        return pinned ? AB_ENOMEM : AB_OK;
    }
    entry->key = key_of(group, stream, first);
    entry->buf = ab_buf_ref(buf);
    entry->pinned = pinned;
    pthread_mutex_lock(&cache->lock);
    struct ab_cache_entry *old = find(cache, group, stream, first);
    if (old != NULL) {
        unlink_entry(cache, old);
    }
    HASH_ADD(hh, cache->table, key, sizeof entry->key, entry);
    if (entry->hh.tbl == NULL) {
        pthread_mutex_unlock(&cache->lock);
        ab_buf_unref(entry->buf);
        free(entry);
        return pinned ? AB_ENOMEM : AB_OK;
    }
    entry->older = cache->newest;
    if (cache->newest != NULL) {
        cache->newest->newer = entry;
    } else {
        cache->oldest = entry;
    }
    cache->newest = entry;
    cache->bytes += buf->capacity;
    cache->entries++;
    evict(cache, cache->limit, CACHE_MAX_ENTRIES);
    pthread_mutex_unlock(&cache->lock);
    return AB_OK;
}

ab_buf *ab_cache_get(ab_cache *cache, uint64_t group, ab_stream stream, uint64_t first)
{
    pthread_mutex_lock(&cache->lock);
    struct ab_cache_entry *entry = find(cache, group, stream, first);
    ab_buf *buf = entry != NULL ? ab_buf_ref(entry->buf) : NULL;
    pthread_mutex_unlock(&cache->lock);
    return buf;
}

void ab_cache_cut(ab_cache *cache, uint64_t group, ab_mark from)
{
    pthread_mutex_lock(&cache->lock);
    struct ab_cache_entry *entry = cache->oldest;
    while (entry != NULL) {
        struct ab_cache_entry *newer = entry->newer;
        cache_key key = key_of(group, from.stream, entry->key.first);
        if (entry->key.first > from.index && memcmp(&key, &entry->key, sizeof key) == 0) {
            unlink_entry(cache, entry);
        }
        entry = newer;
    }
    pthread_mutex_unlock(&cache->lock);
}

void ab_cache_relieve(ab_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    evict(cache, 0, 0);
    pthread_mutex_unlock(&cache->lock);
}

void ab_cache_unpin(ab_cache *cache, uint64_t group, ab_stream stream, uint64_t first)
{
    pthread_mutex_lock(&cache->lock);
    struct ab_cache_entry *entry = find(cache, group, stream, first);
    if (entry != NULL) {
        entry->pinned = false;
    }
    evict(cache, cache->limit, CACHE_MAX_ENTRIES);
    pthread_mutex_unlock(&cache->lock);
}
