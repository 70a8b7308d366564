/* SPDX-License-Identifier: Apache-2.0 */
/* Frames that wait to be sent, and what they count in queues and budget. Lists belong to whoever holds them; making
 * and freeing is safe on any thread.
 *
 * Control frames that find others waiting go behind them into the same piece of memory: when a link comes up, every group
 * has something to say, and ten thousand small pieces would leave the heap full of holes (and be as many pieces of a
 * system call). */
#include "engine/transport/internal.h"

#include <stdlib.h>
#include <string.h>

/* A control frame's memory is the transport's own and counted here; a block's buffer counts itself. */
static void count(ab_out *out, bool more)
{
    ab_peer *peer = out->peer;
    if (peer == NULL) {
        return;
    }
    _Atomic uint64_t *queue = out->buf != NULL ? &peer->queued_blocks : &peer->queued_control;
    ab_budget *budget = peer->transport->budget;
    uint64_t own = sizeof(*out) + out->capacity;
    if (more) {
        atomic_fetch_add_explicit(queue, out->size, memory_order_relaxed);
        if (budget != NULL) {
            atomic_fetch_add_explicit(&budget->used, own, memory_order_relaxed);
        }
        return;
    }
    atomic_fetch_sub_explicit(queue, out->size, memory_order_relaxed);
    if (budget != NULL) {
        atomic_fetch_sub_explicit(&budget->used, own, memory_order_relaxed);
    }
}

ab_out *ab_out_control(ab_peer *peer, ab_frame_type type, ab_bytes prefix, ab_bytes body)
{
    size_t size = AB_FRAME_HEADER + prefix.size + body.size;
    ab_out *out = malloc(sizeof(*out) + size);
    if (out == NULL) {
        return NULL;
    }
    *out = (ab_out){.peer = peer, .size = size, .head_size = size, .capacity = size};
    if (prefix.size > 0) {
        memcpy(out->head + AB_FRAME_HEADER, prefix.data, prefix.size);
    }
    if (body.size > 0) {
        memcpy(out->head + AB_FRAME_HEADER + prefix.size, body.data, body.size);
    }
    ab_frame_seal(out->head, type, prefix.size + body.size);
    count(out, true);
    return out;
}

ab_out *ab_out_block(ab_peer *peer, ab_buf *block)
{
    ab_out *out = malloc(sizeof(*out) + AB_FRAME_HEADER);
    if (out == NULL) {
        return NULL;
    }
    *out = (ab_out){.peer = peer,
                    .size = AB_FRAME_HEADER + block->size,
                    .head_size = AB_FRAME_HEADER,
                    .capacity = AB_FRAME_HEADER};
    ab_frame_block_header(out->head, block->size);
    out->buf = ab_buf_ref(block);
    count(out, true);
    return out;
}

void ab_out_free(ab_out *out)
{
    count(out, false);
    ab_buf_unref(out->buf);
    free(out);
}

bool ab_out_join(ab_out *last, const ab_out *out)
{
    if (last == NULL || last->buf != NULL || last->capacity - last->head_size < out->size) {
        return false;
    }
    memcpy(last->head + last->head_size, out->head, out->size);
    last->head_size += out->size;
    last->size += out->size;
    atomic_fetch_add_explicit(&last->peer->queued_control, out->size, memory_order_relaxed);
    return true;
}

ab_out *ab_out_widen(ab_out *out)
{
    if (out->size > AB_OUT_SHARED / 4 || out->capacity >= AB_OUT_SHARED) {
        return out;
    }
    ab_out *wide = realloc(out, sizeof(*out) + AB_OUT_SHARED);
    if (wide == NULL) {
        return out;
    }
    if (wide->peer->transport->budget != NULL) {
        atomic_fetch_add_explicit(&wide->peer->transport->budget->used, AB_OUT_SHARED - wide->capacity,
                                  memory_order_relaxed);
    }
    wide->capacity = AB_OUT_SHARED;
    return wide;
}

void ab_out_push(ab_out_list *list, ab_out *out)
{
    out->next = NULL;
    if (list->head == NULL) {
        list->head = out;
    } else {
        list->tail->next = out;
    }
    list->tail = out;
}

ab_out *ab_out_pop(ab_out_list *list)
{
    ab_out *out = list->head;
    if (out != NULL) {
        list->head = out->next;
        out->next = NULL;
    }
    return out;
}

void ab_out_append(ab_out_list *list, ab_out_list *more)
{
    if (more->head == NULL) {
        return;
    }
    if (list->head == NULL) {
        *list = *more;
    } else {
        list->tail->next = more->head;
        list->tail = more->tail;
    }
    *more = (ab_out_list){NULL, NULL};
}

void ab_out_clear(ab_out_list *list)
{
    ab_out *out;
    while ((out = ab_out_pop(list)) != NULL) {
        ab_out_free(out);
    }
}
