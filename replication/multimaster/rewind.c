/* SPDX-License-Identifier: Apache-2.0 */
/* A stream that got another history. Part of the multimaster core: one call at a time, no I/O.
 *
 * A member whose disk went back unnoticed wrote a second history under its stream's name (fork.c finds where it began).
 * It logs what it wrote since then once more, in a stream of its own (the copy), and takes the stream back to the fork, from
 * where it gets what its peers have. Every member that holds a part of what was written since does the same once it has as much of
 * the copy durable: so nothing that anybody acknowledged is ever without a log. What its state machine had applied of the
 * stream beyond the fork it has, from then on, applied of the copy.
 *
 * The copy's blocks say what they repeat, so whoever gets the first one knows all of it, from wherever it came. Frontiers of
 * members count for each other only where both have the same history (`rewound`): the epoch of the copy names it. */
#include "replication/epoch.h"
#include "replication/multimaster/mm.h"

#include "replication/planted.h"
#include "wal/block.h"

bool ab_mm_is_disowned(const ab_mm *mm, const ab_block_info *block)
{
    for (const ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        if (rewind->done && block->first == rewind->origin.fork + 1 && block->hash == rewind->origin.hash &&
            ab_stream_compare(rewind->stream, block->stream) == 0) {
            return true;
        }
    }
    return false;
}

int ab_mm_rewind_note(ab_mm *mm, const ab_block_info *block, ab_actions *actions)
{
    ab_mm_rewind *rewind = ab_mm_rewind_of(mm, block->stream);
    if (block->origin.epoch == 0 || block->first != 1 || rewind != NULL) {
        return AB_OK;
    }
    ab_mm_rewind record = {.stream = {block->stream.node, block->origin.epoch},
                           .epoch = block->stream.epoch,
                           .origin = block->origin,
                           .stored = true};
    int code = ab_mm_rewind_persist(&record, actions);
    return code == AB_OK ? ab_mm_rewind_add(mm, &record, &rewind) : code;
}

int ab_mm_rewind_begin(ab_mm *mm, ab_mm_stream *stream, ab_block_origin origin)
{
    ab_mm_rewind record = {.stream = stream->o.stream, .begun = true};
    ab_mm_rewind *rewind = NULL;
    int code = ab_epoch_after(mm->current->o.stream.epoch, mm->seen_epoch, mm->wall_seconds, &record.epoch);
    record.origin = origin;
    record.origin.epoch = stream->o.stream.epoch;
    record.origin.rewound = stream->rewound;
    if (code == AB_OK) {
        code = ab_mm_rewind_add(mm, &record, &rewind);
    }
    if (code != AB_OK) {
        return code;
    }
    /* What we write from now on comes after all of it. */
    ab_mm_find(mm, (ab_stream){mm->self, record.epoch})->sealed = stream->sealed - origin.fork;
    mm->seen_epoch = record.epoch;
    mm->new_epoch |= stream == mm->current;
    return AB_OK;
}

uint64_t ab_mm_rewind_dep(const ab_mm *mm, const ab_mm_stream *stream, uint64_t index)
{
    for (const ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        if (!rewind->begun || rewind->done) {
            continue;
        }
        if (rewind->epoch == stream->o.stream.epoch && stream->own) {
            return stream->sealed;
        }
        if (ab_stream_compare(rewind->stream, stream->o.stream) == 0 && index > rewind->origin.fork) {
            return rewind->origin.fork;
        }
    }
    return index;
}

/* The flip: from one history to the next */

static void forget_peers(ab_mm *mm, ab_mm_stream *stream)
{
    stream->behind = stream->unproven = 0;
    stream->diverged = stream->diverged_tell = stream->diverged_report = 0;
    if (stream->quest != NULL) {
        stream->quest->fork_failed = 0;
    }
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        ab_mm_peer *peer = &mm->peers[i];
        stream->behind |= ab_mm_bit(peer);
        (void)ab_marks_set(&peer->marks, (ab_mark){stream->o.stream, 0});
        (void)ab_marks_set(&peer->pending, (ab_mark){stream->o.stream, 0});
        ab_mm_confirmed(mm, peer, stream, 0, true, 0);
        peer->owe_full = peer->ask = peer->up; /* they count anew */
    }
    stream->o.ignored = stream->o.broken = stream->gone = stream->apart = false;
}

/* The state machine's part: what it had of the stream it has of the copy. */
static void move_applied(ab_mm *mm, ab_mm_rewind *rewind, ab_mm_stream *stream, ab_mm_stream *copy)
{
    uint64_t fork = rewind->origin.fork;
    if (rewind->applied > fork) {
        uint64_t checkpointed = stream->o.checkpointed > fork ? stream->o.checkpointed - fork : 0;
        ab_order_skip(&copy->o, rewind->applied - fork, checkpointed);
        rewind->move = true;
        rewind->moved_to = copy->o.applied;
    }
    if (ab_marks_get(&mm->carried, stream->o.stream) > fork) {
        (void)ab_marks_set(&mm->carried, (ab_mark){stream->o.stream, fork});
    }
}

static void flip(ab_mm *mm, ab_mm_rewind *rewind, bool ours, uint64_t now)
{
    ab_mm_stream *stream = ab_mm_find(mm, rewind->stream);
    ab_mm_stream *copy = ab_mm_find(mm, (ab_stream){rewind->stream.node, rewind->epoch});
    uint64_t fork = rewind->origin.fork;
    rewind->done = true;
    rewind->sent = false;
    stream->rewound = rewind->epoch;
    stream->o.shut = copy->o.shut = false;
    stream->o.ended = AB_NEVER;
    stream->over = stream->tell = 0;
    stream->finished = stream->complete = stream->sure = false;
    stream->frozen = false;
    if (ours) {
        move_applied(mm, rewind, stream, copy);
        ab_order_rewind(&stream->o, fork, rewind->origin.fork_hash);
        ab_mm_wants_free(stream);
        stream->accepted = fork;
        stream->accepted_hash = rewind->origin.fork_hash;
        stream->accepted_known = true;
        stream->sealed = stream->sealed < fork ? stream->sealed : fork;
        stream->acked = stream->acked < fork ? stream->acked : fork;
        stream->probe = stream->probe_again = 0;
    }
    forget_peers(mm, stream);
    ab_mm_spread(mm, stream);
    ab_mm_settle(mm, now);
}

void ab_mm_rewound(ab_mm *mm, ab_mm_stream *stream, uint64_t now)
{
    for (ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        bool same = ab_stream_compare(rewind->stream, stream->o.stream) == 0;
        if (!same || !rewind->sent || (rewind->done && !rewind->voiding)) {
            continue;
        }
        if (rewind->voiding) {
            ab_mm_rewind_voided(mm, rewind);
        } else {
            flip(mm, rewind, true, now);
        }
        return;
    }
}

/* Tells the driver, before it gives the state machine anything more. */
static int pump_moves(ab_mm *mm, ab_actions *actions)
{
    int code = AB_OK;
    for (ab_mm_rewind *rewind = mm->rewinds; code == AB_OK && rewind != NULL; rewind = rewind->next) {
        if (!rewind->move) {
            continue;
        }
        ab_action copy = {.type = AB_ACT_FRONTIER,
                          .mark = {{rewind->stream.node, rewind->epoch}, rewind->moved_to}};
        ab_action stream = {.type = AB_ACT_FRONTIER, .mark = {rewind->stream, rewind->origin.fork}};
        code = ab_actions_push(actions, &copy);
        if (code == AB_OK) {
            code = ab_actions_push(actions, &stream);
        }
        rewind->move = code != AB_OK;
    }
    return code;
}

/* Copying, at the origin */

static bool is_quiet(const ab_mm *mm, const ab_mm_stream *stream)
{
    return stream != mm->current && stream->sealed <= stream->o.last && stream->accepted == stream->o.last &&
           stream->o.durable == stream->o.last;
}

/* The copy block by block, each after the one before is logged: a rollback is rare, and this can stop anywhere. */
static int pump_copy(ab_mm *mm, ab_mm_rewind *rewind, ab_mm_stream *stream, uint64_t now, ab_actions *actions)
{
    ab_mm_stream *copy = ab_mm_find(mm, (ab_stream){mm->self, rewind->epoch});
    if (rewind->origin.end == 0 && is_quiet(mm, stream)) {
        rewind->origin.end = stream->o.last;
        rewind->stored = false;
    }
    if (rewind->origin.end != 0) {
        copy->sealed = rewind->origin.end - rewind->origin.fork; /* what the log refused comes again */
    }
    if (!rewind->stored) {
        int code = ab_mm_rewind_persist(rewind, actions);
        if (code != AB_OK) {
            return code;
        }
        rewind->stored = true;
    }
    if (rewind->origin.end == 0 || copy->o.last >= rewind->origin.end - rewind->origin.fork ||
        copy->accepted != copy->o.last || now < rewind->copy_again) {
        return AB_OK;
    }
    ab_action again = {.type = AB_ACT_COPY,
                       .mark = {copy->o.stream, copy->o.last},
                       .hash = copy->o.last_hash,
                       .origin = rewind->origin};
    int code = ab_actions_push(actions, &again);
    if (code == AB_OK) {
        rewind->copy_again = now + AB_MM_SEND_LOST_NS;
    }
    return code;
}

void ab_mm_rewind_copied(ab_mm *mm, const ab_block_info *block)
{
    ab_mm_rewind *rewind = block->origin.epoch != 0 ? ab_mm_rewind_of(mm, block->stream) : NULL;
    if (rewind != NULL) {
        rewind->copy_again = 0;
    }
}

/* Whether our log has what goes */

/* Where to look: at the first block after the fork, or, where that is trimmed, at the copy's block that would repeat our last
 * one. @return 0: not yet */
static uint64_t place_to_look(const ab_mm_rewind *rewind, const ab_mm_stream *stream,
                              const ab_mm_stream *copy, ab_stream *in)
{
    uint64_t fork = rewind->origin.fork;
    uint64_t end = stream->o.last < rewind->origin.end ? stream->o.last : rewind->origin.end;
    bool trimmed = stream->o.base > fork;
    *in = trimmed ? copy->o.stream : stream->o.stream;
    if (trimmed) {
        return copy->o.durable >= end - fork ? end - fork : 0;
    }
    return fork + 1;
}

static int look(ab_mm_rewind *rewind, const ab_mm_stream *stream, const ab_mm_stream *copy, uint64_t now,
                ab_actions *actions)
{
    ab_action load = {.type = AB_ACT_LOAD, .blocks = 1};
    load.mark.index = place_to_look(rewind, stream, copy, &load.mark.stream);
    if (load.mark.index == 0 || now < rewind->look_again) {
        rewind->look_again =
            load.mark.index == 0 ? 0 : rewind->look_again; /* what is missing brings an event */
        return AB_OK;
    }
    int code = ab_actions_push(actions, &load);
    if (code == AB_OK) {
        rewind->looking = load.mark;
        rewind->look_again = now + AB_ORDER_LOAD_LOST_NS;
    }
    return code;
}

static void seen(ab_mm_rewind *rewind, const ab_mm_stream *stream, const ab_event *event, uint64_t now)
{
    rewind->looking.index = 0;
    rewind->look_again = now + AB_ORDER_RELOAD_NS;
    if (event->block_count == 0) {
        return; /* damaged: it is looked at again when it is mended */
    }
    const ab_block_info *block = &event->blocks[0];
    bool in_copy = block->origin.epoch != 0;
    rewind->known_at = stream->o.last;
    rewind->ours = in_copy ? block->last == stream->o.last - rewind->origin.fork &&
                                 block->origin.hash == stream->o.last_hash
                           : block->first == rewind->origin.fork + 1 && block->hash == rewind->origin.hash;
}

void ab_mm_rewind_loaded(ab_mm *mm, const ab_event *event, uint64_t now)
{
    for (ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        if (rewind->looking.index != 0 && rewind->looking.index == event->mark.index &&
            ab_stream_compare(rewind->looking.stream, event->mark.stream) == 0) {
            seen(rewind, ab_mm_find(mm, rewind->stream), event, now);
        }
    }
}

static bool nothing_under_way(const ab_mm_stream *stream)
{
    for (const ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (want->putting) {
            return false;
        }
    }
    return stream->o.given == stream->o.applied && stream->o.load_at == 0 && stream->probe_again == 0;
}

/* The copy stands for all of our part, or ended before: its origin lost the rest, and with it its only other log. */
static bool stands_for_all(const ab_mm_rewind *rewind, const ab_mm_stream *stream, const ab_mm_stream *copy)
{
    return copy->o.durable >= stream->o.last - rewind->origin.fork || copy->o.durable >= copy->o.ended ||
           ab_planted(AB_PLANTED_UNCOPIED);
}

static int tell_lost(const ab_mm_rewind *rewind, const ab_mm_stream *stream, const ab_mm_stream *copy,
                     ab_actions *actions)
{
    static const char text[] =
        "what follows was lost where it was written, and is in no stream any more: only the state "
        "machine here may have it";
    uint64_t upto = rewind->origin.fork + copy->o.durable;
    if (upto >= stream->o.last) {
        return AB_OK;
    }
    return ab_mm_report(AB_LOG_ERROR, AB_ETRIMMED, (ab_mark){stream->o.stream, upto}, 0, text, actions);
}

/* Takes our part of the old history out of the log, once the copy stands for all of it. */
static int drop_ours(ab_mm_rewind *rewind, ab_mm_stream *stream, const ab_mm_stream *copy,
                     ab_actions *actions)
{
    if (!stands_for_all(rewind, stream, copy)) {
        return AB_OK;
    }
    stream->frozen = true;
    stream->o.shut = true;
    if (stream->accepted != stream->o.last || stream->o.durable != stream->o.last ||
        !nothing_under_way(stream)) {
        return AB_OK;
    }
    uint64_t known = rewind->origin.fork + copy->o.durable;
    int code = tell_lost(rewind, stream, copy, actions);
    if (code != AB_OK) {
        return code;
    }
    rewind->applied = stream->o.applied < known ? stream->o.applied : known;
    ab_mm_rewind record = *rewind;
    record.done = true;
    code = ab_mm_rewind_push(&record, rewind->origin.fork, rewind->origin.fork_hash, actions);
    rewind->sent = code == AB_OK;
    return code;
}

static int keep_ours(ab_mm *mm, ab_mm_rewind *rewind, uint64_t now, ab_actions *actions)
{
    rewind->done = true;
    rewind->applied = 0;
    int code = ab_mm_rewind_persist(rewind, actions);
    rewind->done = false;
    if (code == AB_OK) {
        flip(mm, rewind, false, now);
    }
    return code;
}

static int pump_one(ab_mm *mm, ab_mm_rewind *rewind, uint64_t now, ab_actions *actions)
{
    ab_mm_stream *stream = ab_mm_find(mm, rewind->stream);
    ab_mm_stream *copy = ab_mm_find(mm, (ab_stream){rewind->stream.node, rewind->epoch});
    if (rewind->voiding) {
        return ab_mm_rewind_pump_void(rewind, actions);
    }
    if (rewind->done || rewind->sent || rewind->origin.rewound != stream->rewound) {
        return AB_OK;
    }
    int code = rewind->begun ? pump_copy(mm, rewind, stream, now, actions) : AB_OK;
    if (code != AB_OK || (stream->own && !is_quiet(mm, stream))) {
        return code;
    }
    if (rewind->origin.end == 0) {
        return AB_OK; /* what goes is not known yet */
    }
    if (stream->o.last <= rewind->origin.fork && stream->accepted <= rewind->origin.fork &&
        copy->o.last > 0) {
        return keep_ours(mm, rewind, now, actions);
    }
    if (stream->accepted != stream->o.last) {
        rewind->look_again = 0;
        return AB_OK;
    }
    if (rewind->known_at != stream->o.last) {
        return look(rewind, stream, copy, now, actions);
    }
    return rewind->ours ? drop_ours(rewind, stream, copy, actions) : keep_ours(mm, rewind, now, actions);
}

int ab_mm_pump_rewinds(ab_mm *mm, uint64_t now, ab_actions *actions)
{
    int code = pump_moves(mm, actions);
    for (ab_mm_rewind *rewind = mm->rewinds; code == AB_OK && rewind != NULL; rewind = rewind->next) {
        code = pump_one(mm, rewind, now, actions);
    }
    return code == AB_OK ? pump_moves(mm, actions) : code;
}

uint64_t ab_mm_rewind_deadline(const ab_mm *mm)
{
    uint64_t deadline = AB_NEVER;
    for (const ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        const ab_mm_stream *stream = ab_mm_find(mm, rewind->stream);
        if (rewind->done || rewind->sent || rewind->origin.rewound != stream->rewound) {
            continue;
        }
        if (rewind->look_again != 0 && rewind->known_at != stream->o.last && rewind->look_again < deadline) {
            deadline = rewind->look_again;
        }
        if (rewind->copy_again != 0 && rewind->copy_again < deadline) {
            deadline = rewind->copy_again;
        }
    }
    return deadline;
}

bool ab_mm_rewind_pins(const ab_mm *mm, const ab_mm_stream *stream)
{
    for (const ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        bool about =
            ab_stream_compare(rewind->stream, stream->o.stream) == 0 ||
            (rewind->stream.node == stream->o.stream.node && rewind->epoch == stream->o.stream.epoch);
        if (about && (!rewind->done || (rewind->applied > rewind->origin.fork && !rewind->settled))) {
            return true;
        }
    }
    return false;
}

void ab_mm_rewinds_settle(ab_mm *mm, ab_frontier frontier)
{
    for (ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        ab_stream copy = {rewind->stream.node, rewind->epoch};
        rewind->settled |= rewind->done && ab_frontier_get(frontier, copy) > 0;
    }
}
