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

/** Counts the memory budget of a node. */
typedef struct ab_budget {
    _Atomic uint64_t used;
    uint64_t limit;
} ab_budget;

typedef struct ab_buf {
    _Atomic uint32_t refs;
    ab_budget *budget; /* may be NULL */
    size_t capacity;
    size_t size; /* bytes that hold data */
    uint8_t data[];
} ab_buf;

/** One reference; size 0. Counts `capacity` in `budget` (which it may exceed: check before). NULL: out of
 * memory. */
ab_buf *ab_buf_new(ab_budget *budget, size_t capacity);
/** Only while there is one reference. May move it. @return AB_OK; AB_ENOMEM: `*buf` is as it was */
int ab_buf_grow(ab_buf **buf, size_t capacity);
ab_buf *ab_buf_ref(ab_buf *buf);
void ab_buf_unref(ab_buf *buf); /* NULL is allowed */

#endif
