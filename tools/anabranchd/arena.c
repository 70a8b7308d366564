/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that live and die together. One thread at a time. */
#include "tools/anabranchd/arena.h"

#include <stdlib.h>

#define CHUNK (64u * 1024)

struct ab_arena_chunk {
    ab_arena_chunk *next;
    size_t used;
    size_t capacity;
    char data[];
};

char *ab_arena_take(ab_arena *arena, size_t size)
{
    ab_arena_chunk *chunk = arena->chunks;
    if (chunk == NULL || chunk->capacity - chunk->used < size) {
        size_t capacity = size > CHUNK ? size : CHUNK;
        chunk = malloc(sizeof *chunk + capacity);
        if (chunk == NULL) {
            return NULL;
        }
        chunk->used = 0;
        chunk->capacity = capacity;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    char *bytes = chunk->data + chunk->used;
    chunk->used += size;
    arena->bytes += size;
    return bytes;
}

void ab_arena_clear(ab_arena *arena)
{
    while (arena->chunks != NULL) {
        ab_arena_chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
    arena->bytes = 0;
}
