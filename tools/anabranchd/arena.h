/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file arena.h
 * Bytes that are kept together and freed together; what was handed out never moves. One thread at a time.
 */
#ifndef ANABRANCHD_ARENA_H
#define ANABRANCHD_ARENA_H

#include <stddef.h>

typedef struct ab_arena_chunk ab_arena_chunk;

/** Zero it to begin. */
typedef struct ab_arena {
    ab_arena_chunk *chunks;
    size_t bytes; /**< handed out */
} ab_arena;

/** @return `size` bytes, not aligned; NULL: out of memory */
char *ab_arena_take(ab_arena *arena, size_t size);

/** Frees everything. */
void ab_arena_clear(ab_arena *arena);

#endif
