/* SPDX-License-Identifier: Apache-2.0 */
/* What the cores and the writers are told of the blocks of a batch: logged, durable, or refused. Log thread only. */
#include "engine/announce.h"

#include <stdlib.h>
#include <string.h>

static void note_logged(ab_node *node, const ab_batch_block *block)
{
    ab_group *group = block->group;
    atomic_fetch_add_explicit(&node->counters.blocks_logged, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&node->counters.entries_logged, block->header.count, memory_order_relaxed);
    atomic_fetch_add_explicit(&node->counters.bytes_logged, block->buf->size, memory_order_relaxed);
    atomic_fetch_add_explicit(&group->logged_bytes, block->buf->size, memory_order_relaxed);
    atomic_fetch_add_explicit(&group->logged_entries, block->header.count, memory_order_relaxed);
    if (block->local) {
        ab_append_logged(group, block->queued_bytes, block->header.count);
    } else {
        ab_append_merge_hlc(group, block->header.hlc_last);
    }
}

/* Tells the core of one block. */
static void announce_block(ab_node *node, const ab_batch_block *block, bool pinned)
{
    ab_block_info info;
    ab_mark few[16];
    ab_mark *marks = few;
    if (block->header.mark_count > sizeof few / sizeof few[0]) {
        marks = ab_alloc_patiently(node, block->header.mark_count * sizeof *marks);
    }
    ab_block_info_read(block->buf->data, &block->header, marks, &info);
    while (!block->repair && ab_cache_put(&node->cache, block->header.group, info.stream, info.first,
                                          block->buf, pinned) != AB_OK) {
        ab_node_relieve(node); /* a pinned block is nowhere else yet */
    }
    if (block->local) { /* before its writes complete: who has the answer finds it in the metric */
        uint64_t now = ab_monotonic_ns();
        ab_latency_add(&node->latency, now, now - block->opened_ns);
    }
    ab_event event = {.type = block->repair ? AB_EV_REPAIRED : AB_EV_LOGGED, .block = &info};
    (void)ab_group_step(block->group, &event);
    if (!block->repair) {
        note_logged(node, block);
    }
    if (marks != few) {
        free(marks);
    }
}

static bool same_stream(const ab_block_header *a, const ab_block_header *b)
{
    return a->group == b->group && a->node == b->node && a->epoch == b->epoch;
}

/* Tells the cores how far their streams survive a crash; runs of one stream make one event. */
void ab_announce_durable(ab_node *node, const ab_batch *batch)
{
    for (size_t i = 0; i < batch->block_count; i++) {
        const ab_batch_block *block = &batch->blocks[i];
        ab_stream stream = {block->header.node, block->header.epoch};
        if (node->config.durability == AB_DURABILITY_INTERVAL) {
            ab_cache_unpin(&node->cache, block->header.group, stream, block->header.first);
        }
        bool more = i + 1 < batch->block_count && !batch->blocks[i + 1].repair &&
                    same_stream(&block->header, &batch->blocks[i + 1].header);
        if (!block->repair && !more) {
            ab_event event = {.type = AB_EV_DURABLE, .mark = {stream, block->header.last}};
            (void)ab_group_step(block->group, &event);
        }
    }
}

/* Between commits of interval durability new blocks are announced; a repair only ever after its commit, for it can be
 * read back from nowhere before. */
void ab_announce_logged(ab_node *node, ab_batch *batch, bool committed)
{
    bool interval = node->config.durability == AB_DURABILITY_INTERVAL;
    for (size_t i = 0; i < batch->announced && committed; i++) {
        if (batch->blocks[i].repair) {
            announce_block(node, &batch->blocks[i], false);
        }
    }
    for (; batch->announced < batch->block_count; batch->announced++) {
        const ab_batch_block *block = &batch->blocks[batch->announced];
        if (committed || !block->repair) {
            announce_block(node, block, interval && !committed);
        }
    }
}

/* The refusal of a block that stands before `block` in its stream; NULL: none. */
static const ab_refused *refused_before(const ab_batch *batch, const ab_batch_block *block)
{
    const ab_refused *refused = block->repair ? NULL : batch->refused_head;
    while (refused != NULL &&
           (refused->block.repair || !same_stream(&refused->block.header, &block->header) ||
            refused->block.header.first >= block->header.first)) {
        refused = refused->next;
    }
    return refused;
}

/* Block `i` of `from` goes to the refused ones of `batch`. */
static void move_refused(ab_node *node, ab_batch *from, size_t i, ab_batch *batch, int code)
{
    ab_batch_block *block = &from->blocks[i];
    atomic_fetch_add(&node->counters.refused_blocks, 1);
    ab_refused *refused = ab_alloc_patiently(node, sizeof *refused);
    *refused = (ab_refused){.block = *block, .code = code, .announced = i < from->announced};
    *(batch->refused_tail != NULL ? &batch->refused_tail->next : &batch->refused_head) = refused;
    batch->refused_tail = refused;
    from->bytes -= block->buf->size;
    memmove(block, block + 1, (from->block_count - i - 1) * sizeof *block);
    from->block_count--;
    from->announced -= from->announced > i;
}

/* A block that the log will not take. What follows it in its stream will not fit either: only that stream stops. */
static void drop_block(ab_node *node, ab_batch *batch, const ab_wal_op *op, int code, const char *why)
{
    size_t i = 0;
    while (i < batch->block_count && batch->blocks[i].buf->data != op->data.data) {
        i++;
    }
    if (i == batch->block_count) {
        return;
    }
    const ab_batch_block *block = &batch->blocks[i];
    bool follows = refused_before(batch, block) != NULL; /* then that is the news, not this one */
    ab_node_log(node, follows ? AB_LOG_DEBUG : AB_LOG_ERROR,
                "group %s: the log refused block %llu-%llu of stream %u.%u: %s", block->group->name,
                (unsigned long long)block->header.first, (unsigned long long)block->header.last,
                block->header.node, block->header.epoch, why);
    move_refused(node, batch, i, batch, code);
}

void ab_batch_refuse_followers(ab_node *node, ab_batch *batch, ab_batch *next)
{
    size_t i = 0;
    while (batch->refused_head != NULL && i < next->block_count) {
        const ab_refused *before = refused_before(batch, &next->blocks[i]);
        if (before != NULL) {
            move_refused(node, next, i, batch, before->code);
        } else {
            i++;
        }
    }
}

/* A refused local block: its writers are told. A core that does not know the event would write on in the stream. */
static void refuse_writers(const ab_refused *refused, bool known)
{
    ab_group *group = refused->block.group;
    const ab_block_header *header = &refused->block.header;
    ab_mark from = {{header->node, header->epoch}, header->first};
    if (!refused->announced) {
        ab_append_logged(group, refused->block.queued_bytes, header->count);
    }
    if (!known) {
        pthread_mutex_lock(&group->append_lock);
        group->append_code = AB_EINTERNAL;
        pthread_mutex_unlock(&group->append_lock);
    }
    ab_append_refused(group, from, refused->code == AB_EINVAL ? AB_EINTERNAL : refused->code);
}

void ab_announce_refusals(ab_node *node, const ab_batch *batch)
{
    for (const ab_refused *refused = batch->refused_head; refused != NULL; refused = refused->next) {
        const ab_block_header *header = &refused->block.header;
        ab_block_info info = {.stream = {header->node, header->epoch},
                              .first = header->first,
                              .last = header->last,
                              .hash = header->checksum,
                              .prev_hash = header->prev_hash};
        if (refused->announced) {
            ab_cache_unpin(&node->cache, header->group, info.stream, info.first);
        }
        ab_event event = {.type = AB_EV_REFUSED, .block = &info, .code = refused->code};
        int code = ab_group_step(refused->block.group, &event);
        if (refused->block.local) {
            refuse_writers(refused, code == AB_OK);
        }
    }
}

/* One operation that can never succeed (damage in the log, or a bug) must not stop everybody else. */
void ab_batch_refuse(ab_node *node, ab_batch *batch, size_t failed, int code)
{
    const ab_wal_op *op = &batch->ops[failed];
    ab_message why;
    ab_wal_message(node->wal, &why);
    if (op->type == AB_WAL_PUT_BLOCK || op->type == AB_WAL_REPLACE_BLOCK) {
        drop_block(node, batch, op, code, why.text);
        return;
    }
    ab_node_log(node, AB_LOG_ERROR, "group %llu, stream %u.%u: the log could not %s: %s",
                (unsigned long long)op->group, op->stream.node, op->stream.epoch,
                op->type == AB_WAL_TRIM     ? "trim: it stays as long as it is"
                : op->type == AB_WAL_FORGET ? "forget it: it stays until the next start"
                                            : "store small state",
                why.text);
    if (op->type == AB_WAL_TRIM) {
        ab_batch_skip_trim(batch, op);
    } else {
        ab_batch_drop_state(batch, op);
    }
}

void ab_announce_rewound(ab_node *node, const ab_batch *batch)
{
    for (const ab_state_put *put = batch->state_head; put != NULL; put = put->next) {
        if (put->rewound != NULL) {
            ab_cache_cut(&node->cache, put->group, put->mark);
            ab_event event = {.type = AB_EV_REWOUND, .mark = put->mark};
            (void)ab_group_step(put->rewound, &event);
        }
    }
}
