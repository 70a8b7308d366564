/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks from a peer: once, without gaps, of the same history. Part of the multimaster core: one call at a time, no
 * I/O. */
#include "replication/multimaster/mm.h"

#include "replication/planted.h"

static bool makes_sense(const ab_block_info *block)
{
    for (size_t i = 0; i < block->dep_count; i++) {
        if (block->deps[i].stream.node == 0 || block->deps[i].stream.epoch == 0) {
            return false;
        }
    }
    return block->stream.node != 0 && block->stream.epoch != 0 && block->first > 0 &&
           block->last >= block->first && block->last < UINT64_MAX;
}

/* It is here already: its sender learns how far it is durable, now or when it is. */
static void duplicate(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, const ab_block_info *block)
{
    if (!ab_mm_same_history(stream, block->last, block->hash)) {
        ab_mm_diverge(mm, peer, stream, block->last, true);
        return;
    }
    if (ab_mm_known_hash(stream, block->last) == block->hash) {
        ab_mm_proven(stream, peer);
    }
    stream->confirm |= ab_mm_bit(peer);
    if (block->last > stream->o.durable) {
        stream->owed |= ab_mm_bit(peer);
    }
}

static int log_it(ab_mm_peer *peer, ab_mm_stream *stream, const ab_event *event, ab_actions *actions)
{
    const ab_block_info *block = event->block;
    ab_action log = {.type = AB_ACT_LOG,
                     .peer = peer->node,
                     .mark = {block->stream, block->last},
                     .first = block->first,
                     .hash = block->hash,
                     .token = event->token,
                     .write_level = AB_WRITE_LOCAL}; /* its origin has answered without us */
    int code = ab_actions_push(actions, &log);
    if (code != AB_OK) {
        return code;
    }
    stream->accepted = block->last;
    stream->accepted_hash = block->hash;
    stream->accepted_known = true;
    stream->gone = stream->o.broken = stream->broken_told = false;
    stream->owed |= ab_mm_bit(peer);
    return AB_OK;
}

/* The block after what we have, or a sign that something is wrong with one history. */
static int in_turn(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, const ab_event *event, uint64_t now,
                   ab_actions *actions)
{
    const ab_block_info *block = event->block;
    if (!stream->accepted_known || now < stream->refused_at) {
        return AB_OK; /* our own blocks of it are on their way into the log, or it takes none now: it comes again */
    }
    bool beyond = (stream->finished || stream->complete) && block->last > stream->o.ended;
    if (block->first != stream->accepted + 1 || beyond ||
        (block->prev_hash != stream->accepted_hash && !ab_planted(AB_PLANTED_NO_CHAIN))) {
        ab_mm_diverge(mm, peer, stream, block->first, true);
        return AB_OK;
    }
    ab_mm_proven(stream, peer);
    int code = ab_mm_rewind_note(mm, block, actions);
    if (code == AB_OK) {
        code = log_it(peer, stream, event, actions);
    }
    if (code == AB_OK) {
        ab_mm_want_progress(mm, stream, now);
    }
    return code;
}

int ab_mm_take_block(ab_mm *mm, ab_mm_peer *peer, const ab_event *event, uint64_t now, ab_actions *actions)
{
    const ab_block_info *block = event->block;
    if (!peer->up) {
        return AB_OK;
    }
    if (!makes_sense(block)) {
        return AB_EPROTO;
    }
    if (ab_folds_has(&mm->order.folds, block->stream)) {
        ab_mm_heard(mm, peer, now);
        ab_mm_owe_fold(mm, peer, block->stream.node); /* a duplicate: its sender learns how things are */
        return AB_OK;
    }
    ab_mm_stream *stream = NULL;
    int code = ab_mm_stream_of(mm, block->stream, &stream);
    if (code != AB_OK) {
        return code == AB_ETOOBIG ? AB_EPROTO : code;
    }
    ab_mm_heard(mm, peer, now);
    if ((stream->diverged & ab_mm_bit(peer)) != 0) {
        stream->diverged_tell |= ab_mm_bit(peer); /* it does not seem to know */
        return AB_OK;
    }
    if ((stream->behind & ab_mm_bit(peer)) != 0 || stream->frozen || ab_mm_is_disowned(mm, block)) {
        return AB_OK; /* of a history that is not ours, or not for long */
    }
    bool taken = false;
    code = ab_mm_repair_with(mm, peer, stream, event, actions, &taken);
    if (code != AB_OK || taken) {
        return code;
    }
    if (stream->own && block->last > stream->o.last) {
        code = ab_mm_claimed(mm, stream, block->last, now);
        if (code != AB_OK || stream == mm->current) {
            return code; /* first a new stream for our writes; the block comes again */
        }
    }
    if (block->last <= stream->accepted && !ab_planted(AB_PLANTED_SKIPPED_DEDUP)) {
        duplicate(mm, peer, stream, block);
        return AB_OK;
    }
    if (block->first > stream->accepted + 1) {
        stream->expect |= ab_mm_bit(peer);
        return AB_OK;
    }
    if (block->last <= stream->accepted) { /* only with the fault planted */
        return log_it(peer, stream, event, actions);
    }
    return in_turn(mm, peer, stream, event, now, actions);
}

/* Answers what came too early, once per step and stream. */
int ab_mm_pump_expect(ab_mm *mm, ab_mm_peer *peer, ab_actions *actions)
{
    uint64_t bit = ab_mm_bit(peer);
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        if ((stream->expect & bit) == 0) {
            continue;
        }
        ab_mm_message message = {
            .kind = AB_MM_EXPECT, .stream = stream->o.stream, .first = stream->accepted + 1};
        int code = peer->up ? ab_mm_send_message(&message, peer->node, actions) : AB_OK;
        if (code != AB_OK) {
            return code;
        }
        stream->expect &= ~bit;
    }
    return AB_OK;
}
