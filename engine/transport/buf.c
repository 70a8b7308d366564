/* SPDX-License-Identifier: Apache-2.0 */
/* Reference-counted buffers and what they count in the memory budget. Safe on any thread; one owner writes.
 */
#include "engine/buf.h"

#include <anabranch/error.h>
#include <stdlib.h>

ab_buf *ab_buf_new(ab_budget *budget, size_t capacity)
{
    if (capacity > SIZE_MAX - sizeof(ab_buf)) {
        return NULL;
    }
    ab_buf *buf = malloc(sizeof(*buf) + capacity);
    if (buf == NULL) {
        return NULL;
    }
    atomic_init(&buf->refs, 1);
    buf->budget = budget;
    buf->capacity = capacity;
    buf->size = 0;
    if (budget != NULL) {
        atomic_fetch_add_explicit(&budget->used, capacity, memory_order_relaxed);
    }
    return buf;
}

int ab_buf_grow(ab_buf **buf, size_t capacity)
{
    ab_buf *old = *buf;
    if (capacity <= old->capacity) {
        return AB_OK;
    }
    if (capacity > SIZE_MAX - sizeof(ab_buf)) {
        return AB_ENOMEM;
    }
    size_t added = capacity - old->capacity;
    ab_buf *grown = realloc(old, sizeof(*grown) + capacity);
    if (grown == NULL) {
        return AB_ENOMEM;
    }
    grown->capacity = capacity;
    if (grown->budget != NULL) {
        atomic_fetch_add_explicit(&grown->budget->used, added, memory_order_relaxed);
    }
    *buf = grown;
    return AB_OK;
}

ab_buf *ab_buf_ref(ab_buf *buf)
{
    atomic_fetch_add_explicit(&buf->refs, 1, memory_order_relaxed);
    return buf;
}

void ab_buf_unref(ab_buf *buf)
{
    if (buf == NULL) {
        return;
    }
    /* Release: what this owner did with the bytes comes before the free; acquire: the last one sees all of
     * it. */
    if (atomic_fetch_sub_explicit(&buf->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (buf->budget != NULL) {
        atomic_fetch_sub_explicit(&buf->budget->used, buf->capacity, memory_order_relaxed);
    }
    free(buf);
}
