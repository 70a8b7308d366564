/* SPDX-License-Identifier: Apache-2.0 */
/* Reference-counted buffers and what they count in the memory budget. Safe on any thread; one owner writes.
 *
 * Large ones come from and go back to a pool of the node: blocks come and go by the hundred a second, and the C library
 * would give each back to the system and have the next one faulted in page by page, which takes longer than to fill it. */
#include "engine/buf.h"

#include <anabranch/error.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Classes of size in the pool: four to each doubling, from POOL_LEAST on. */
#define POOL_LEAST_BITS 15u
#define POOL_LEAST (1u << POOL_LEAST_BITS)
#define POOL_CLASSES 36u /* up to 14 MiB */

/* A free buffer in the pool. */
typedef struct pooled {
    struct pooled *next;
} pooled;

struct ab_pool {
    pthread_mutex_t lock;
    size_t limit;
    size_t kept;
    unsigned next_out; /* class of which one goes next where there is no room */
    pooled *free[POOL_CLASSES];
};

/* Capacity of a class. */
static size_t class_size(unsigned class)
{
    return (size_t)(4 + class % 4) << (POOL_LEAST_BITS - 2 + class / 4);
}

/* The least class that takes `capacity`; POOL_CLASSES: none, it is too small or too large for the pool. */
static unsigned class_of(size_t capacity)
{
    if (capacity < POOL_LEAST || capacity > class_size(POOL_CLASSES - 1)) {
        return POOL_CLASSES;
    }
    unsigned class = 0;
    while (class_size(class) < capacity) {
        class += class_size(class + 4) < capacity ? 4 : 1;
    }
    return class;
}

ab_pool *ab_pool_new(size_t limit)
{
    ab_pool *pool = calloc(1, sizeof(*pool));
    if (pool != NULL && pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        return NULL;
    }
    if (pool != NULL) {
        pool->limit = limit;
    }
    return pool;
}

static void free_list(pooled *each)
{
    while (each != NULL) {
        pooled *next = each->next;
        free(each);
        each = next;
    }
}

void ab_pool_drain(ab_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    for (unsigned class = 0; class < POOL_CLASSES; class ++) {
        pthread_mutex_lock(&pool->lock);
        pooled *each = pool->free[class];
        pool->free[class] = NULL;
        for (pooled *p = each; p != NULL; p = p->next) {
            pool->kept -= class_size(class);
        }
        pthread_mutex_unlock(&pool->lock);
        free_list(each);
    }
}

void ab_pool_free(ab_pool *pool)
{
    if (pool != NULL) {
        ab_pool_drain(pool);
        pthread_mutex_destroy(&pool->lock);
        free(pool);
    }
}

/* @return NULL if it has none */
static void *pool_take(ab_pool *pool, unsigned class)
{
    pthread_mutex_lock(&pool->lock);
    pooled *found = pool->free[class];
    if (found != NULL) {
        pool->free[class] = found->next;
        pool->kept -= class_size(class);
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

/* Takes buffers of other classes out, going round them, until there is room for one of `class`: what nobody wants any
 * more must not keep out what is wanted now. Holds the lock. @return what was taken out */
static pooled *make_room(ab_pool *pool, unsigned class)
{
    pooled *out = NULL;
    for (unsigned tried = 0; tried < POOL_CLASSES && pool->kept + class_size(class) > pool->limit;) {
        unsigned other = pool->next_out;
        pooled *found = other != class ? pool->free[other] : NULL;
        if (found == NULL) {
            pool->next_out = (other + 1) % POOL_CLASSES;
            tried++;
            continue;
        }
        pool->free[other] = found->next;
        pool->kept -= class_size(other);
        found->next = out;
        out = found;
    }
    return out;
}

/* @return false: it is full */
static bool pool_give(ab_pool *pool, unsigned class, void *memory)
{
    pooled *given = memory;
    pthread_mutex_lock(&pool->lock);
    pooled *out = make_room(pool, class);
    bool room = pool->kept + class_size(class) <= pool->limit;
    if (room) {
        given->next = pool->free[class];
        pool->free[class] = given;
        pool->kept += class_size(class);
    }
    pthread_mutex_unlock(&pool->lock);
    free_list(out);
    return room;
}

ab_buf *ab_buf_new(ab_budget *budget, size_t capacity)
{
    if (capacity > SIZE_MAX - sizeof(ab_buf)) {
        return NULL;
    }
    unsigned class = budget != NULL && budget->pool != NULL ? class_of(capacity) : POOL_CLASSES;
    ab_buf *buf = NULL;
    if (class < POOL_CLASSES) {
        capacity = class_size(class);
        buf = pool_take(budget->pool, class);
    }
    if (buf == NULL) {
        buf = malloc(sizeof(*buf) + capacity);
    }
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

/* The last reference is gone. */
static void release(ab_buf *buf)
{
    ab_budget *budget = buf->budget;
    if (budget != NULL) {
        atomic_fetch_sub_explicit(&budget->used, buf->capacity, memory_order_relaxed);
    }
    if (budget != NULL && budget->pool != NULL) {
        unsigned class = class_of(buf->capacity);
        if (class < POOL_CLASSES && class_size(class) == buf->capacity &&
            pool_give(budget->pool, class, buf)) {
            return;
        }
    }
    free(buf);
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
    if (old->budget != NULL && old->budget->pool != NULL && capacity >= POOL_LEAST) {
        ab_buf *grown = ab_buf_new(old->budget, capacity);
        if (grown == NULL) {
            return AB_ENOMEM;
        }
        memcpy(grown->data, old->data, old->size);
        grown->size = old->size;
        release(old);
        *buf = grown;
        return AB_OK;
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
    if (atomic_fetch_sub_explicit(&buf->refs, 1, memory_order_acq_rel) == 1) {
        release(buf);
    }
}
