/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file buf.h
 * Reference-counted bytes: a block is packed or received into one, and the log, the cache and the links share
 * it. Thread-safe counting; the bytes are written by one owner before they are shared, never after.
 */
#ifndef ANABRANCH_ENGINE_BUF_H
#define ANABRANCH_ENGINE_BUF_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/** Large buffers that are free at the moment, for those that are wanted next. */
typedef struct ab_pool ab_pool;

/** Counts the memory budget of a node. */
typedef struct ab_budget {
    _Atomic uint64_t used; /* what the pool keeps does not count */
    uint64_t limit;
    ab_pool *pool; /* may be NULL; outlives every buffer that counts here */
} ab_budget;

typedef struct ab_buf {
    _Atomic uint32_t refs;
    ab_budget *budget; /* may be NULL */
    size_t capacity;
    size_t size; /* bytes that hold data */
    uint8_t data[];
} ab_buf;

/** One reference; size 0. Counts its capacity in `budget` (which it may exceed: check before). With a pool, a large one
 * gets up to a quarter more capacity than was asked for. NULL: out of memory. */
ab_buf *ab_buf_new(ab_budget *budget, size_t capacity);
/** Only while there is one reference. May move it. @return AB_OK; AB_ENOMEM: `*buf` is as it was */
int ab_buf_grow(ab_buf **buf, size_t capacity);
ab_buf *ab_buf_ref(ab_buf *buf);
void ab_buf_unref(ab_buf *buf); /* NULL is allowed */

/** Keeps up to `limit` bytes. NULL: out of memory. */
ab_pool *ab_pool_new(size_t limit);
void ab_pool_free(ab_pool *pool); /* NULL is allowed */
/** Gives back what it keeps: memory is short. */
void ab_pool_drain(ab_pool *pool);

#endif
