/* SPDX-License-Identifier: Apache-2.0 */
/* The list of actions of one step. One owner at a time, no locks. */
#include "replication/actions.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 2048u /* holds the messages and keys of an ordinary step */
#define KEEP_ITEMS 256u   /* a cleared list shrinks back to this */

struct ab_actions_chunk {
    ab_actions_chunk *next;
    size_t capacity;
    size_t used;
    unsigned char bytes[];
};

void ab_actions_init(ab_actions *actions)
{
    memset(actions, 0, sizeof *actions);
}

void ab_actions_clear(ab_actions *actions)
{
    while (actions->chunks != NULL &&
           (actions->chunks->next != NULL || actions->chunks->capacity > CHUNK_BYTES)) {
        ab_actions_chunk *chunk = actions->chunks;
        actions->chunks = chunk->next;
        free(chunk);
    }
    if (actions->chunks != NULL) {
        actions->chunks->used = 0;
    }
    if (actions->capacity > KEEP_ITEMS) {
        free(actions->items);
        actions->items = NULL;
        actions->capacity = 0;
    }
    actions->count = 0;
}

void ab_actions_free(ab_actions *actions)
{
    while (actions->chunks != NULL) {
        ab_actions_chunk *chunk = actions->chunks;
        actions->chunks = chunk->next;
        free(chunk);
    }
    free(actions->items);
    ab_actions_init(actions);
}

const ab_action *ab_actions_at(const ab_actions *actions, size_t position)
{
    return &actions->items[position];
}

static int make_room(ab_actions *actions)
{
    if (actions->count < actions->capacity) {
        return AB_OK;
    }
    size_t capacity = actions->capacity == 0 ? 16 : actions->capacity * 2;
    ab_action *items = realloc(actions->items, capacity * sizeof *items);
    if (items == NULL) {
        return AB_ENOMEM;
    }
    actions->items = items;
    actions->capacity = capacity;
    return AB_OK;
}

/* A chunk with `size` free bytes at its end, or NULL. */
static ab_actions_chunk *chunk_for(ab_actions *actions, size_t size)
{
    ab_actions_chunk *chunk = actions->chunks;
    if (chunk != NULL && chunk->capacity - chunk->used >= size) {
        return chunk;
    }
    size_t capacity = size > CHUNK_BYTES ? size : CHUNK_BYTES;
    chunk = malloc(sizeof *chunk + capacity);
    if (chunk == NULL) {
        return NULL;
    }
    chunk->next = actions->chunks;
    chunk->capacity = capacity;
    chunk->used = 0;
    actions->chunks = chunk;
    return chunk;
}

static ab_bytes keep(ab_actions_chunk *chunk, ab_bytes bytes)
{
    ab_bytes kept = {NULL, bytes.size};
    if (bytes.size > 0) {
        unsigned char *to = chunk->bytes + chunk->used;
        memcpy(to, bytes.data, bytes.size);
        chunk->used += bytes.size;
        kept.data = to;
    }
    return kept;
}

int ab_actions_push(ab_actions *actions, const ab_action *action)
{
    if (actions == NULL || action == NULL) {
        return AB_EINVAL;
    }
    if (action->key.size > AB_STATE_KEY_MAX || action->data.size > AB_BLOCK_MAX) {
        return AB_EINVAL;
    }
    int code = make_room(actions);
    if (code != AB_OK) {
        return code;
    }
    ab_action stored = *action;
    size_t size = action->key.size + action->data.size;
    if (size > 0) {
        ab_actions_chunk *chunk = chunk_for(actions, size);
        if (chunk == NULL) {
            return AB_ENOMEM;
        }
        stored.key = keep(chunk, action->key);
        stored.data = keep(chunk, action->data);
    }
    actions->items[actions->count++] = stored;
    return AB_OK;
}
