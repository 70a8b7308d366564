/* SPDX-License-Identifier: Apache-2.0 */
/* Our own streams: which one is written to, what its blocks depend on, and when an old one has ended. Part of the
 * multimaster core: one call at a time, no I/O. */
#include "replication/epoch.h"

#include "replication/multimaster/mm.h"

static int announce(ab_mm *mm, ab_actions *actions)
{
    ab_mm_stream *current = mm->current;
    int code = ab_epoch_announce((ab_mark){current->o.stream, current->o.last}, current->o.last_hash,
                                 !mm->kept, actions);
    if (code == AB_OK) {
        code = ab_order_report_gaps(&mm->order, actions);
    }
    if (code == AB_OK) {
        code = ab_folds_push_left(&mm->order.folds, &mm->left, actions);
    }
    mm->announced = code == AB_OK;
    return code;
}

/* Not even the first block of a new stream goes into the log: no writes until the group is opened again. */
static int close_writes(ab_mm *mm, ab_actions *actions)
{
    ab_action append = {
        .type = AB_ACT_APPEND, .mark = {mm->current->o.stream, 0}, .code = mm->current->refused};
    int code = ab_actions_push(actions, &append);
    mm->new_epoch = code != AB_OK;
    return code;
}

/* Leaves the current stream as it is and goes on in a new one. What was sealed for the old one and is still on its way
 * into the log stays part of the old one. */
static int start_new(ab_mm *mm, ab_actions *actions)
{
    uint32_t epoch = 0;
    ab_mm_stream *stream = NULL;
    const ab_mm_stream *left = mm->current;
    int code = ab_epoch_after(mm->current->o.stream.epoch, mm->seen_epoch, mm->wall_seconds, &epoch);
    if (code == AB_OK) {
        code = ab_mm_stream_of(mm, (ab_stream){mm->self, epoch}, &stream);
    }
    if (code == AB_OK) {
        code = ab_epoch_announce((ab_mark){stream->o.stream, 0}, 0, true, actions);
    }
    if (code != AB_OK) {
        return code;
    }
    mm->current = stream;
    mm->kept = mm->certain = false;
    mm->seen_epoch = epoch;
    mm->new_epoch = false;
    ab_marks_clear(&mm->carried);
    const char *why =
        left->refused != AB_OK ? "the log refuses more of our stream: new writes go to a new one"
        : ab_mm_has_lost(left) ? "a block of our stream is lost that not all have: new writes go to a new one"
                               : "peers know more of our writes than our log: new writes go to a new stream";
    (void)ab_mm_report(AB_LOG_WARN, left->refused, (ab_mark){stream->o.stream, 0}, 0, why, actions);
    return AB_OK;
}

int ab_mm_pump_epoch(ab_mm *mm, ab_actions *actions)
{
    int code = mm->announced ? AB_OK : announce(mm, actions);
    if (code == AB_OK && mm->new_epoch) {
        code = mm->closed ? close_writes(mm, actions) : start_new(mm, actions);
    }
    return code;
}

/* A peer says that it has our stream up to `upto`. More than our log has: we lost a tail. */
int ab_mm_claimed(ab_mm *mm, ab_mm_stream *stream, uint64_t upto, uint64_t now)
{
    uint32_t epoch = stream->o.stream.epoch;
    bool made_here = stream->sealed > 0 || stream->o.last > 0;
    if (epoch > mm->current->o.stream.epoch &&
        !made_here) { /* our clock went back and our disk is another one */
        if (epoch == UINT32_MAX) {
            return AB_EPROTO; /* nothing could follow it */
        }
        mm->seen_epoch = epoch > mm->seen_epoch ? epoch : mm->seen_epoch;
        mm->new_epoch = true;
    }
    if (upto <= stream->o.last) {
        return AB_OK;
    }
    mm->new_epoch |= stream == mm->current;
    return ab_mm_want_tail(mm, stream, upto, now);
}

/* Up to where anybody has the old stream of ours; AB_NEVER if that is not known yet. */
static uint64_t end_of(const ab_mm *mm, const ab_mm_stream *stream)
{
    bool searched =
        (stream->diverged & ~ab_mm_fork_failed(stream)) != 0; /* its history may yet be another one */
    if (!stream->own || stream == mm->current || stream->sealed > stream->o.last || searched ||
        ab_mm_rewind_pending(mm, stream) != NULL) {
        return AB_NEVER;
    }
    if (stream->complete) {
        return stream->accepted;
    }
    uint64_t cannot = ab_mm_behind_lost(stream);
    uint64_t end = stream->accepted; /* what is fetched back counts from when it is on its way into the log */
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        const ab_mm_peer *peer = &mm->peers[i];
        uint64_t has = ab_marks_get(&peer->marks, stream->o.stream);
        uint64_t pending = ab_marks_get(&peer->pending, stream->o.stream);
        bool behind = (stream->behind & ab_mm_bit(peer)) != 0;
        if (!peer->met || behind || ab_folds_has(&peer->folds, stream->o.stream)) {
            return AB_NEVER; /* not heard; or it knew the end, and whether we have all is looked at elsewhere */
        }
        has = pending > has ? pending : has;
        if (((stream->diverged | cannot) & ab_mm_bit(peer)) != 0) {
            continue; /* of another history, or behind what is lost: nobody gets it from us */
        }
        end = has > end ? has : end;
    }
    return end;
}

/* An old stream of ours ends where the longest log of it ends, once every member was heard of it since we started: nobody
 * writes to it, and it reaches nobody but through us. Entries beyond, that some block may depend on, are lost for
 * good, and the others need not wait for them. */
void ab_mm_settle(ab_mm *mm, uint64_t now)
{
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        uint64_t end = end_of(mm, stream);
        if (stream->own && end != stream->o.ended) {
            stream->o.ended = end;
            ab_mm_spread(mm, stream);
            ab_mm_trim_soon(mm, now);
        }
    }
}

/* Adds to mm->sealing what the state machine has applied of `stream` if blocks did not carry it yet. The block that it is
 * applying now counts: a query may have seen a part of it. Of older streams of our own everything that is durable counts:
 * their writers had been answered before the new stream began. */
static int add_dep(ab_mm *mm, const ab_mm_stream *stream)
{
    uint64_t index = stream->o.applied;
    if (mm->order.ring_count > 0 && mm->order.ring[mm->order.ring_start].stream == &stream->o) {
        index = mm->order.ring[mm->order.ring_start].last;
    }
    if (stream->own && stream->o.durable > index) {
        index = stream->o.durable;
    }
    if (stream->own) {
        index = ab_mm_rewind_dep(mm, stream, index);
    }
    if (stream == mm->current || index <= ab_marks_get(&mm->carried, stream->o.stream)) {
        return AB_OK;
    }
    return ab_marks_set(&mm->sealing, (ab_mark){stream->o.stream, index});
}

int ab_mm_seal(ab_mm *mm, uint64_t first, uint64_t last, ab_frontier *deps)
{
    ab_mm_stream *current = mm->current;
    if (last < first || first <= current->o.last || first > current->sealed + 1) {
        return AB_EINVAL;
    }
    if (mm->new_epoch) {
        return AB_EBUSY; /* the next step announces another stream */
    }
    if (first <= current->sealed) {
        ab_marks_clear(&mm->carried); /* the driver gave up a sealed block: carry everything again */
    }
    ab_marks_clear(&mm->sealing);
    int code = AB_OK;
    for (uint32_t i = 0; code == AB_OK && mm->causal && i < mm->order.count; i++) {
        code = add_dep(mm, ab_mm_at(mm, i));
    }
    if (code == AB_OK) {
        code = ab_marks_merge(&mm->carried, ab_marks_view(&mm->sealing));
    }
    if (code != AB_OK) {
        return code;
    }
    current->sealed = last;
    current->accepted = last;
    current->accepted_known = false;
    *deps = ab_marks_view(&mm->sealing);
    return AB_OK;
}

/* Whether anybody outside may see indexes of the stream. Until a commit has kept something of a new epoch, the epoch itself
 * may be lost in a crash, and chosen again: so its indexes are not shown before. Under `sync` this costs nothing. */
bool ab_mm_may_show(const ab_mm *mm, const ab_mm_stream *stream)
{
    return stream != mm->current || mm->kept || stream->o.durable > 0;
}

/* Level `local` holds when a block is announced as logged: what that survives is the driver's durability. */
int ab_mm_pump_acked(ab_mm *mm, ab_actions *actions)
{
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        uint64_t upto = stream->o.last < stream->sealed ? stream->o.last : stream->sealed;
        if (!stream->own || upto <= stream->acked || !ab_mm_may_show(mm, stream)) {
            continue;
        }
        ab_action acked = {
            .type = AB_ACT_ACKED, .write_level = AB_WRITE_LOCAL, .mark = {stream->o.stream, upto}};
        int code = ab_actions_push(actions, &acked);
        if (code != AB_OK) {
            return code;
        }
        stream->acked = upto;
    }
    return AB_OK;
}
