/* SPDX-License-Identifier: Apache-2.0 */
/* What one commit carries. Log thread only; trim targets are read under the groups' core locks. */
#include "engine/batch.h"

#include <stdlib.h>

/* Blocks of one stream that one commit trims at most. Twice what a commit usually adds to a stream, and a little: keeps
 * pace with writers without one long stall (DESIGN: trimming a few in each commit made appends faster). */
#define TRIM_LIMIT 32u
/* Blocks of a stream to be forgotten that one commit removes at most: few are left once it was trimmed. */
#define FORGET_LIMIT 256u

/* Opening thousands of groups stores state for each at once; the room for that is not kept. */
#define OPS_KEPT 1024u

static int grow(void **array, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) {
        return AB_OK;
    }
    size_t more = *capacity == 0 ? 32 : *capacity * 2;
    while (more < need) {
        more *= 2;
    }
    void *bigger = realloc(*array, more * size);
    if (bigger == NULL) {
        return AB_ENOMEM;
    }
    *array = bigger;
    *capacity = more;
    return AB_OK;
}

int ab_batch_reserve(ab_batch *batch, size_t blocks)
{
    void *array = batch->blocks;
    int code = grow(&array, &batch->block_capacity, batch->block_count + blocks, sizeof *batch->blocks);
    batch->blocks = array;
    return code;
}

int ab_batch_add(ab_batch *batch, const ab_batch_block *block)
{
    int code = ab_batch_reserve(batch, 1);
    if (code != AB_OK) {
        return code;
    }
    batch->blocks[batch->block_count++] = *block;
    batch->bytes += block->buf->size;
    return AB_OK;
}

static int add_op(ab_batch *batch, const ab_wal_op *op)
{
    void *ops = batch->ops;
    int code = grow(&ops, &batch->op_capacity, batch->op_count + 1, sizeof *op);
    batch->ops = ops;
    if (code == AB_OK) {
        batch->ops[batch->op_count++] = *op;
    }
    return code;
}

int ab_batch_add_trimming(ab_batch *batch, ab_group *group)
{
    void *groups = batch->trimming;
    int code = grow(&groups, &batch->trimming_capacity, batch->trimming_count + 1, sizeof *batch->trimming);
    batch->trimming = groups;
    if (code == AB_OK) {
        batch->trimming[batch->trimming_count++] = group;
    }
    return code;
}

/* The clock of a group is stored along with what is trimmed: the log's last entry no longer tells it afterwards. */
static int add_hlc(ab_group *group, ab_batch *batch)
{
    pthread_mutex_lock(&group->append_lock);
    group->hlc_stored = group->hlc;
    pthread_mutex_unlock(&group->append_lock);
    ab_wal_op op = {.type = AB_WAL_PUT_STATE,
                    .group = group->id,
                    .key = {AB_KEY_HLC, sizeof AB_KEY_HLC - 1},
                    .data = {&group->hlc_stored, sizeof group->hlc_stored}};
    return add_op(batch, &op);
}

static int add_trims(ab_group *group, ab_batch *batch)
{
    size_t before = batch->op_count;
    int code = AB_OK;
    pthread_mutex_lock(&group->core_lock);
    for (size_t i = 0; i < group->trim_count && code == AB_OK; i++) {
        const ab_trim_target *trim = &group->trims[i];
        if (trim->done < trim->upto.index) {
            ab_wal_op op = {.type = AB_WAL_TRIM,
                            .group = group->id,
                            .stream = trim->upto.stream,
                            .index = trim->upto.index,
                            .limit = TRIM_LIMIT};
            code = add_op(batch, &op);
        }
    }
    pthread_mutex_unlock(&group->core_lock);
    return code == AB_OK && batch->op_count > before ? add_hlc(group, batch) : code;
}

static int add_contents(ab_batch *batch)
{
    int code = AB_OK;
    for (const ab_state_put *put = batch->state_head; put != NULL && code == AB_OK; put = put->next) {
        ab_wal_op op = {.type = put->forget != NULL    ? AB_WAL_FORGET
                                : put->value_size == 0 ? AB_WAL_DEL_STATE
                                                       : AB_WAL_PUT_STATE,
                        .group = put->group,
                        .stream = put->stream,
                        .limit = put->forget != NULL ? FORGET_LIMIT : 0,
                        .key = {put->bytes, put->key_size},
                        .data = {put->bytes + put->key_size, put->value_size}};
        code = add_op(batch, &op);
        ab_wal_op back = {.type = AB_WAL_REWIND,
                          .group = put->group,
                          .stream = put->mark.stream,
                          .index = put->mark.index,
                          .hash = put->hash,
                          .key = {put->bytes, put->key_size}};
        if (code == AB_OK && put->rewound != NULL) {
            code = add_op(batch, &back);
        }
    }
    for (size_t i = 0; i < batch->block_count && code == AB_OK; i++) {
        const ab_batch_block *block = &batch->blocks[i];
        ab_wal_op op = {.type = block->repair ? AB_WAL_REPLACE_BLOCK : AB_WAL_PUT_BLOCK,
                        .group = block->header.group,
                        .stream = {block->header.node, block->header.epoch},
                        .data = {block->buf->data, block->buf->size}};
        code = add_op(batch, &op);
    }
    return code;
}

int ab_batch_build(ab_batch *batch, bool trims_only)
{
    batch->op_count = 0;
    int code = trims_only ? AB_OK : add_contents(batch);
    for (size_t i = 0; i < batch->trimming_count && code == AB_OK; i++) {
        code = add_trims(batch->trimming[i], batch);
    }
    return code;
}

/* Whether the group has something left to trim; it leaves the list under the same lock if not. */
static bool note_trims(ab_group *group, const ab_batch *batch)
{
    bool left = false;
    pthread_mutex_lock(&group->core_lock);
    for (size_t i = 0; i < group->trim_count; i++) {
        ab_trim_target *trim = &group->trims[i];
        for (size_t k = 0; k < batch->op_count; k++) {
            const ab_wal_op *op = &batch->ops[k];
            if (op->type == AB_WAL_TRIM && op->group == group->id &&
                ab_stream_compare(trim->upto.stream, op->stream) == 0) {
                /* Fewer than the limit: what is left is part of a block that reaches beyond the target. */
                trim->done = op->done < op->limit ? op->index : op->done_index;
            }
        }
        left = left || trim->done < trim->upto.index;
    }
    group->trims_listed = left;
    pthread_mutex_unlock(&group->core_lock);
    return left;
}

void ab_batch_trimmed(ab_node *node, ab_batch *batch)
{
    for (size_t i = 0; i < batch->op_count; i++) {
        if (batch->ops[i].type == AB_WAL_TRIM) {
            atomic_fetch_add(&node->counters.trimmed_blocks, batch->ops[i].done);
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < batch->trimming_count; i++) {
        ab_group *group = batch->trimming[i];
        if (note_trims(group, batch) && !atomic_load(&group->closing)) {
            batch->trimming[kept++] = group;
        } else {
            ab_group_unref(group);
        }
    }
    batch->trimming_count = kept;
}

/* Of `stream`, or of all the group's. */
static void skip_trims(ab_batch *batch, uint64_t id, const ab_stream *stream)
{
    for (size_t i = 0; i < batch->trimming_count; i++) {
        ab_group *group = batch->trimming[i];
        pthread_mutex_lock(&group->core_lock);
        for (size_t k = 0; group->id == id && k < group->trim_count; k++) {
            ab_trim_target *trim = &group->trims[k];
            if (stream == NULL || ab_stream_compare(trim->upto.stream, *stream) == 0) {
                trim->done = trim->upto.index;
            }
        }
        pthread_mutex_unlock(&group->core_lock);
    }
}

void ab_batch_skip_trim(ab_batch *batch, const ab_wal_op *op)
{
    skip_trims(batch, op->group, &op->stream);
}

void ab_batch_forgotten(ab_batch *batch)
{
    for (const ab_state_put *put = batch->state_head; put != NULL; put = put->next) {
        for (size_t i = 0; put->forget != NULL && i < batch->op_count; i++) {
            const ab_wal_op *op = &batch->ops[i];
            if (op->type != AB_WAL_FORGET || op->key.data != put->bytes) {
                continue;
            }
            if (op->done == op->limit) {
                ab_wal_thread_forget(put->forget, put->stream, put->keep);
            } else {
                ab_apply_drop(put->forget, put->stream.node, put->keep);
            }
        }
    }
}

/* Without a value that could not be stored no stream of its group may be forgotten: the next start does it. */
static bool is_dropped(const ab_state_put *put, const ab_wal_op *op)
{
    return put->bytes == op->key.data ||
           (op->type != AB_WAL_FORGET && put->forget != NULL && put->group == op->group);
}

void ab_batch_drop_state(ab_batch *batch, const ab_wal_op *op)
{
    const ab_wal_op dropped = *op;
    ab_state_put **link = &batch->state_head;
    bool found = false;
    batch->state_tail = NULL;
    while (*link != NULL) {
        ab_state_put *put = *link;
        found = found || put->bytes == dropped.key.data;
        if (is_dropped(put, &dropped)) {
            *link = put->next;
            ab_state_put_free(put);
        } else {
            batch->state_tail = put;
            link = &put->next;
        }
    }
    if (!found) { /* the clock of a group, which goes with its trims */
        skip_trims(batch, dropped.group, NULL);
    }
}

void ab_batch_clear(ab_batch *batch)
{
    for (size_t i = 0; i < batch->block_count; i++) {
        ab_buf_unref(batch->blocks[i].buf);
        ab_group_unref(batch->blocks[i].group);
    }
    while (batch->state_head != NULL) {
        ab_state_put *put = batch->state_head;
        batch->state_head = put->next;
        ab_state_put_free(put);
    }
    while (batch->refused_head != NULL) {
        ab_refused *refused = batch->refused_head;
        batch->refused_head = refused->next;
        ab_buf_unref(refused->block.buf);
        ab_group_unref(refused->block.group);
        free(refused);
    }
    batch->state_tail = NULL;
    batch->refused_tail = NULL;
    if (batch->op_capacity > OPS_KEPT) {
        free(batch->ops);
        batch->ops = NULL;
        batch->op_capacity = 0;
    }
    batch->block_count = batch->announced = batch->op_count = 0;
    batch->bytes = 0;
}

void ab_batch_free(ab_batch *batch)
{
    ab_batch_clear(batch);
    while (batch->trimming_count > 0) {
        ab_group_unref(batch->trimming[--batch->trimming_count]);
    }
    free(batch->trimming);
    free(batch->blocks);
    free(batch->ops);
    *batch = (ab_batch){0};
}
