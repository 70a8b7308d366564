/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file cache.h
 * The blocks that were logged last, by group, stream and first index, within a share of the memory budget. What is
 * not committed yet (interval durability) is pinned: it is nowhere else. Thread-safe.
 */
#ifndef ANABRANCH_ENGINE_CACHE_H
#define ANABRANCH_ENGINE_CACHE_H

#include "engine/buf.h"
#include "wal/block.h"
#include <pthread.h>

struct ab_cache_entry;

typedef struct ab_cache {
    pthread_mutex_t lock;
    struct ab_cache_entry *table;
    struct ab_cache_entry *oldest, *newest;
    uint64_t bytes;
    uint64_t limit;
    uint64_t entries;
} ab_cache;

void ab_cache_init(ab_cache *cache, uint64_t limit);
void ab_cache_free(ab_cache *cache);

/** Keeps a reference of its own. A cache that is out of memory or full of pinned blocks just does not keep it.
 *  @return AB_OK or, only for a pinned one, AB_ENOMEM */
int ab_cache_put(ab_cache *cache, uint64_t group, ab_stream stream, uint64_t first, ab_buf *buf, bool pinned);

/** The block that starts at `first`, with a reference for the caller; NULL if it is not here. */
ab_buf *ab_cache_get(ab_cache *cache, uint64_t group, ab_stream stream, uint64_t first);

/** Lets go of everything that is not pinned: memory is short. */
void ab_cache_relieve(ab_cache *cache);

/** It is in the log now. */
void ab_cache_cut(ab_cache *cache, uint64_t group,
                  ab_mark from); /* drops what comes after it in its stream */
void ab_cache_unpin(ab_cache *cache, uint64_t group, ab_stream stream, uint64_t first);

#endif
