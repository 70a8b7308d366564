/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks from us to a peer: window, confirmation, retry. Part of the multimaster core: one call at a time, no I/O.
 *
 * Our own streams go to every peer from its mark on, for as long as the group lives; any stream goes to a peer that asked
 * for a part of it. At most one AB_ACT_SEND per peer and stream is under way; while it is, a rewind only marks its
 * outcome as stale. Nothing is sent before the peer's full HAVE has come over this link. */
#include "replication/multimaster/mm.h"

#include "replication/planted.h"
#include <stdlib.h>
#include <string.h>

#define RTT_MAX_MS 8191 /* that eighths of it fit */

ab_mm_sync *ab_mm_sync_of(const ab_mm_peer *peer, const ab_mm_stream *stream)
{
    for (uint32_t i = 0; i < peer->sync_count; i++) {
        if (peer->syncs[i].stream == stream) {
            return &peer->syncs[i];
        }
    }
    return NULL;
}

/* How long a confirmation may take before what was sent is sent again: what the last ones took, and how much they vary
 * (RFC 6298). A line with a long queue before it confirms late; sent again, everything would stand in that queue twice. */
static uint32_t patience(const ab_mm *mm, const ab_mm_peer *peer)
{
    uint32_t wait =
        peer->rtt / 8u + (peer->rtt_varies > 0 ? peer->rtt_varies : 1u); /* 4 times, in quarters */
    if (peer->rtt == 0 || wait < mm->retry_min_ms || ab_planted(AB_PLANTED_FIXED_RETRY)) {
        return mm->retry_min_ms;
    }
    return wait < mm->retry_max_ms ? wait : mm->retry_max_ms;
}

static void measured(ab_mm_peer *peer, uint64_t ns)
{
    int64_t ms = ns < AB_MM_MS ? 1 : ns / AB_MM_MS > RTT_MAX_MS ? RTT_MAX_MS : (int64_t)(ns / AB_MM_MS);
    if (peer->rtt == 0) {
        peer->rtt = (uint16_t)(ms * 8);
        peer->rtt_varies = (uint16_t)(ms * 2);
        return;
    }
    int64_t off = ms - peer->rtt / 8;
    int64_t varies = peer->rtt_varies + (off < 0 ? -off : off) - peer->rtt_varies / 4;
    peer->rtt = (uint16_t)(peer->rtt + off);
    peer->rtt_varies = (uint16_t)(varies < UINT16_MAX ? varies : UINT16_MAX);
}

static int add_sync(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, uint64_t mark, ab_mm_sync **added)
{
    ab_mm_sync *grown = realloc(peer->syncs, (peer->sync_count + 1) * sizeof *grown);
    if (grown == NULL) {
        return AB_ENOMEM;
    }
    peer->syncs = grown;
    *added = &grown[peer->sync_count++];
    **added = (ab_mm_sync){.stream = stream,
                           .mark = mark,
                           .next = mark + 1,
                           .limit = AB_NEVER,
                           .retry_at = AB_NEVER,
                           .wait_ms = patience(mm, peer)};
    return AB_OK;
}

static void remove_sync(ab_mm_peer *peer, ab_mm_sync *sync)
{
    size_t position = (size_t)(sync - peer->syncs);
    peer->sync_count--;
    memmove(sync, sync + 1, (peer->sync_count - position) * sizeof *sync);
    if (peer->sync_count == 0) {
        free(peer->syncs);
        peer->syncs = NULL;
    }
}

void ab_mm_sync_drop(ab_mm_peer *peer, const ab_mm_stream *stream)
{
    ab_mm_sync *sync = ab_mm_sync_of(peer, stream);
    if (sync != NULL) {
        remove_sync(peer, sync);
    }
}

/* Sends again from the confirmed mark, or `from` if that is beyond it. */
static void rewind_to(ab_mm_sync *sync, uint64_t from)
{
    sync->again = sync->next - 1 > sync->again ? sync->next - 1 : sync->again;
    sync->timed = 0;
    sync->next = from > sync->mark ? from : sync->mark + 1;
    sync->bytes = 0;
    sync->blocks = 0;
    sync->stale = sync->outstanding && !sync->once_out;
    sync->retry_at = AB_NEVER;
}

static void calm(const ab_mm *mm, const ab_mm_peer *peer, ab_mm_sync *sync)
{
    sync->retries = 0;
    sync->wait_ms = patience(mm, peer);
}

/* In flight is known in sum only: what a confirmation frees is its share by indexes. It is exact when all is
 * confirmed, and never less than what is left. */
static void release(ab_mm_sync *sync, uint64_t upto)
{
    uint64_t all = sync->next - 1 - sync->mark;
    uint64_t left = upto < sync->next - 1 ? sync->next - 1 - upto : 0;
    if (left == 0 || all == 0) {
        sync->bytes = 0;
        sync->blocks = 0;
        return;
    }
    double share = (double)left / (double)all;
    uint64_t bytes = (uint64_t)((double)sync->bytes * share) + 1;
    uint32_t blocks = (uint32_t)((double)sync->blocks * share) + 1;
    sync->bytes = bytes < sync->bytes ? bytes : sync->bytes;
    sync->blocks = blocks < sync->blocks ? blocks : sync->blocks;
}

void ab_mm_confirmed(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, uint64_t upto, bool back,
                     uint64_t now)
{
    ab_mm_sync *sync = ab_mm_sync_of(peer, stream);
    if (sync == NULL) {
        return;
    }
    if (back) { /* a new link: all that counts is what the peer says now */
        sync->mark = upto;
        sync->code = AB_OK;
        sync->told = false;
        sync->expected = 0;
        rewind_to(sync, upto + 1);
        calm(mm, peer, sync);
        return;
    }
    if (upto <= sync->mark) {
        return;
    }
    release(sync, upto);
    sync->mark = upto;
    if (sync->code == AB_ETRIMMED) { /* what it lacked came on another way: what follows may be here */
        sync->code = AB_OK;
        sync->told = false;
    }
    sync->expected = 0;
    if (sync->next <= upto) {
        sync->stale = sync->outstanding && !sync->once_out;
        sync->next = upto + 1;
    }
    sync->retries = 0;
    if (sync->timed != 0 && upto >= sync->timed) {
        measured(peer, now - sync->timed_at);
        sync->timed = 0;
    }
    if (upto >
        sync->again) { /* else it may confirm what was sent first, and the wait stays as long as it has become */
        calm(mm, peer, sync);
    }
    sync->busy_ms = 0;
    sync->hold_at = sync->outstanding ? sync->hold_at : 0;
    sync->retry_at = sync->next > upto + 1 ? now + ab_mm_jitter(mm, sync->wait_ms) : AB_NEVER;
}

/* What it waits for may be what is gone here, and the word of that may have got lost. */
void ab_mm_sync_asked(ab_mm_peer *peer)
{
    for (uint32_t i = 0; i < peer->sync_count; i++) {
        peer->syncs[i].once_gone |= peer->syncs[i].code == AB_ETRIMMED;
    }
}

/* A peer that had been silent is there again: do not wait out what its silence added up to. */
void ab_mm_sync_alive(ab_mm *mm, ab_mm_peer *peer, uint64_t now)
{
    for (uint32_t i = 0; i < peer->sync_count; i++) {
        ab_mm_sync *sync = &peer->syncs[i];
        sync->wait_ms = patience(mm, peer);
        uint64_t soon = now + ab_mm_jitter(mm, sync->wait_ms);
        if (sync->retry_at != AB_NEVER && sync->retry_at > soon) {
            sync->retry_at = soon;
        }
    }
}

void ab_mm_sync_down(ab_mm_peer *peer)
{
    for (uint32_t i = peer->sync_count; i-- > 0;) {
        ab_mm_sync *sync = &peer->syncs[i];
        sync->once = 0;
        rewind_to(sync, 0);
        if (sync->limit != AB_NEVER && !sync->outstanding) {
            remove_sync(peer, sync);
        }
    }
}

void ab_mm_sync_tidy(ab_mm_peer *peer)
{
    for (uint32_t i = peer->sync_count; i-- > 0;) {
        ab_mm_sync *sync = &peer->syncs[i];
        bool busy = sync->outstanding || sync->once != 0 || sync->once_gone || sync->once_lacks != 0 ||
                    sync->mark < sync->stream->o.last;
        if (!busy && sync->limit == AB_NEVER) {
            remove_sync(peer, sync);
        }
    }
    if (peer->pending.count == 0) {
        ab_marks_free(&peer->pending);
    }
}

/* Answers */

static void sent_once(ab_mm *mm, ab_mm_sync *sync, const ab_event *event, uint64_t now)
{
    sync->once_out = false;
    if (event->blocks_sent == 0 && (event->code == AB_EBUSY || event->code == AB_OK)) {
        sync->hold_at = now + ab_mm_jitter(mm, AB_MM_BUSY_MS);
        return;
    }
    sync->once_gone = event->code == AB_ETRIMMED;
    if (event->code == AB_ECORRUPT) {
        sync->once_lacks = sync->once;
        ab_mm_probe(sync->stream, sync->once); /* finds the range, and with it our own repair */
    }
    /* Damaged here too, or gone: the peer asks others, and again. */
    sync->once = event->blocks_sent > 0 && event->mark.index < sync->once_last ? event->mark.index + 1 : 0;
}

static void hold(ab_mm *mm, ab_mm_sync *sync, uint64_t now)
{
    uint32_t most = sync->code == AB_ECORRUPT ? mm->retry_max_ms : mm->retry_min_ms;
    sync->busy_ms = sync->busy_ms == 0 ? AB_MM_BUSY_MS : sync->busy_ms * 2;
    sync->busy_ms = sync->busy_ms > most ? most : sync->busy_ms;
    sync->hold_at = now + ab_mm_jitter(mm, sync->busy_ms);
}

static void stopped(ab_mm *mm, ab_mm_peer *peer, ab_mm_sync *sync, const ab_event *event, uint64_t now)
{
    switch (event->code) {
    case AB_OK:
        if (event->blocks_sent == 0) {
            hold(mm, sync, now); /* it cannot be read back yet */
        }
        break;
    case AB_ETRIMMED:
        sync->code = AB_ETRIMMED;
        sync->retry_at = AB_NEVER;
        break;
    case AB_EDIVERGED:
        ab_mm_diverge(mm, peer, sync->stream, sync->next, true);
        break;
    case AB_ECORRUPT: /* reading the info finds the range, and with it the repair */
        sync->code = AB_ECORRUPT;
        ab_mm_probe(sync->stream, sync->next);
        hold(mm, sync, now);
        peer->owe_full = peer->ask =
            true; /* it may have it, its word got lost, and sending again cannot show that */
        break;
    default:
        hold(mm, sync, now);
        break;
    }
}

void ab_mm_sent(ab_mm *mm, ab_mm_peer *peer, const ab_event *event, uint64_t now)
{
    ab_mm_stream *stream = ab_mm_find(mm, event->mark.stream);
    ab_mm_sync *sync = stream != NULL ? ab_mm_sync_of(peer, stream) : NULL;
    if (sync == NULL || !sync->outstanding) {
        return;
    }
    sync->outstanding = false;
    sync->hold_at = 0;
    if (sync->once_out) {
        sent_once(mm, sync, event, now);
        return;
    }
    if (sync->stale || !peer->up) {
        sync->stale = false;
        return;
    }
    if (event->blocks_sent > 0 && event->mark.index >= sync->next) {
        if (sync->timed == 0 && sync->next > sync->again) {
            sync->timed = event->mark.index;
            sync->timed_at = now;
        }
        sync->next = event->mark.index + 1;
        sync->bytes += event->bytes_sent;
        sync->blocks += event->blocks_sent;
        sync->busy_ms = 0;
        sync->code = AB_OK;
        if (sync->retry_at == AB_NEVER && !ab_planted(AB_PLANTED_LOST_RETRY)) {
            sync->retry_at = now + ab_mm_jitter(mm, sync->wait_ms);
        }
    }
    stopped(mm, peer, sync, event, now);
}

/* A gap at the peer. Obeyed once per position until something is confirmed or the retry comes: a burst of
 * blocks behind one gap asks many times for the same. */
void ab_mm_take_expect(ab_mm_peer *peer, ab_mm_stream *stream, uint64_t first)
{
    ab_mm_sync *sync = ab_mm_sync_of(peer, stream);
    if (sync == NULL || first <= sync->mark || first >= sync->next || first <= sync->expected) {
        return;
    }
    rewind_to(sync, first);
    sync->expected = first;
}

int ab_mm_take_fetch(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message)
{
    ab_mm_stream *stream = ab_mm_find(mm, message->stream);
    if (stream != NULL && (stream->behind & ab_mm_bit(peer)) != 0) {
        return AB_OK; /* of another history: it asks again when it has ours */
    }
    if (stream == NULL || message->first > stream->o.last) {
        if (stream != NULL) {
            stream->confirm |= ab_mm_bit(peer); /* not yet: this is how far we are */
        } else if (ab_folds_has(&mm->order.folds, message->stream)) {
            ab_mm_owe_fold(mm, peer, message->stream.node); /* says that it is trimmed */
        }
        return AB_OK;
    }
    if (peer->node == message->stream.node) {
        ab_mm_reconcile(mm, peer, stream); /* its origin found that they do not differ */
    } else if ((stream->diverged & ab_mm_bit(peer)) != 0) {
        stream->diverged_tell |= ab_mm_bit(peer);
        return AB_OK;
    }
    ab_mm_sync *sync = ab_mm_sync_of(peer, stream);
    bool repair = ab_marks_get(&peer->marks, message->stream) >= message->last;
    if (sync == NULL) {
        int code = add_sync(mm, peer, stream, message->first - 1, &sync);
        if (code != AB_OK) {
            return code;
        }
        sync->limit = repair ? 0 : message->last;
    }
    if (repair) {
        sync->once = message->first;
        sync->once_last = message->last;
    } else if (sync->limit != AB_NEVER && (message->first != sync->mark + 1 || sync->limit < message->last)) {
        sync->limit = message->last;
        sync->mark = message->first - 1;
        rewind_to(sync, message->first);
    }
    return AB_OK;
}

/* What is due */

static int send_trimmed(ab_mm_peer *peer, ab_mm_sync *sync, ab_actions *actions)
{
    uint64_t lost = sync->code == AB_ETRIMMED ? ab_mm_hopeless(sync->stream, sync->next) : 0;
    uint64_t base = sync->stream->o.base > 0 ? sync->stream->o.base : sync->next;
    ab_mm_message message = {.kind = AB_MM_TRIMMED,
                             .stream = sync->stream->o.stream,
                             .first = lost > 0 ? lost : base,
                             .last = lost > 0 && ab_mm_is_lost(sync->stream, sync->next) ? lost : 0};
    return ab_mm_send_message(&message, peer->node, actions);
}

/* What it needs is gone here. The peer is told if it asked, the operator if it should have had it from us. */
static int tell_trimmed(ab_mm_peer *peer, ab_mm_sync *sync, ab_actions *actions)
{
    int code = sync->once_gone ? send_trimmed(peer, sync, actions) : AB_OK;
    if (code == AB_OK) {
        sync->once_gone = false;
    }
    if (code == AB_OK && sync->once_lacks != 0) {
        ab_mm_message message = {
            .kind = AB_MM_LACK, .stream = sync->stream->o.stream, .first = sync->once_lacks};
        code = ab_mm_send_message(&message, peer->node, actions);
        sync->once_lacks = code == AB_OK ? 0 : sync->once_lacks;
    }
    if (code != AB_OK || sync->code != AB_ETRIMMED || sync->told) {
        return code;
    }
    code = send_trimmed(peer, sync, actions);
    if (code == AB_OK && sync->limit == AB_NEVER) {
        code = ab_mm_report(
            AB_LOG_ERROR, AB_ETRIMMED, (ab_mark){sync->stream->o.stream, sync->next}, peer->node,
            "the peer needs entries that are trimmed here, or lost: it needs a snapshot", actions);
    }
    sync->told = code == AB_OK;
    return code;
}

static void expire(ab_mm *mm, ab_mm_peer *peer, ab_mm_sync *sync, uint64_t now)
{
    if (now >= sync->hold_at) {
        sync->outstanding = sync->once_out = sync->stale = false;
        sync->hold_at = 0;
    }
    if (sync->code == AB_ECORRUPT && ab_mm_hopeless(sync->stream, sync->next) > 0) {
        sync->code = AB_ETRIMMED; /* damaged, and nobody can mend it: for the peer it is gone */
        sync->told = false;
        sync->retry_at = AB_NEVER;
    }
    if (now < sync->retry_at) {
        return;
    }
    sync->wait_ms = ab_mm_double(mm, sync->wait_ms);
    if (ab_marks_get(&peer->pending, sync->stream->o.stream) + 1 >= sync->next) {
        /* It has all of it, not durable yet, or the word of that got lost: ask instead of sending again. */
        sync->retry_at = now + ab_mm_jitter(mm, sync->wait_ms);
        peer->owe_full = peer->ask = true;
        return;
    }
    sync->retries++;
    sync->expected = 0;
    rewind_to(sync, 0);
}

static int send_some(ab_mm *mm, ab_mm_peer *peer, ab_mm_sync *sync, uint64_t now, ab_actions *actions)
{
    ab_mm_stream *stream = sync->stream;
    bool apart = ((stream->diverged | stream->behind) & ab_mm_bit(peer)) != 0;
    if (sync->outstanding || apart || now < sync->hold_at || !ab_mm_may_show(mm, stream)) {
        return AB_OK;
    }
    ab_action send = {.type = AB_ACT_SEND, .peer = peer->node, .mark = {stream->o.stream, sync->next}};
    bool once = sync->once != 0;
    if (once) {
        send.mark.index = sync->once;
        send.blocks = 1;
        send.bytes = mm->window_bytes;
    } else {
        uint64_t end = sync->limit < stream->o.last ? sync->limit : stream->o.last;
        if (sync->next > end || sync->code == AB_ETRIMMED || sync->blocks >= mm->window_blocks ||
            sync->bytes >= mm->window_bytes) {
            return AB_OK;
        }
        send.blocks = mm->window_blocks - sync->blocks;
        send.bytes = mm->window_bytes - sync->bytes;
    }
    int code = ab_actions_push(actions, &send);
    if (code == AB_OK) {
        sync->outstanding = true;
        sync->once_out = once;
        sync->stale = false;
        sync->hold_at = now + AB_MM_SEND_LOST_NS;
    }
    return code;
}

/* Our own streams need a sync as soon as the peer lacks something of them. */
static int add_own(ab_mm *mm, ab_mm_peer *peer)
{
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        uint64_t mark = ab_mm_has(peer, stream);
        bool behind = (stream->behind & ab_mm_bit(peer)) != 0;
        if (!stream->own || behind || mark >= stream->o.last || !ab_mm_may_show(mm, stream)) {
            continue;
        }
        ab_mm_sync *sync = ab_mm_sync_of(peer, stream);
        if (sync != NULL && sync->limit != AB_NEVER) {
            sync->limit = AB_NEVER; /* so far it was for a repair only */
            sync->mark = mark;
            rewind_to(sync, mark + 1);
        }
        int code = sync == NULL ? add_sync(mm, peer, stream, mark, &sync) : AB_OK;
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

static bool is_done(const ab_mm *mm, const ab_mm_sync *sync)
{
    if (sync->outstanding || sync->once != 0) {
        return false;
    }
    if (sync->limit == AB_NEVER) {
        return sync->stream != mm->current && sync->mark >= sync->stream->o.last;
    }
    return sync->mark >= sync->limit || (sync->code == AB_ETRIMMED && sync->told);
}

int ab_mm_pump_send(ab_mm *mm, ab_mm_peer *peer, uint64_t now, ab_actions *actions)
{
    if (!peer->up || !peer->full) {
        return AB_OK;
    }
    int code = add_own(mm, peer);
    for (uint32_t i = peer->sync_count; code == AB_OK && i-- > 0;) {
        ab_mm_sync *sync = &peer->syncs[i];
        expire(mm, peer, sync, now);
        code = tell_trimmed(peer, sync, actions);
        if (code == AB_OK && is_done(mm, sync)) {
            remove_sync(peer, sync);
        } else if (code == AB_OK) {
            code = send_some(mm, peer, sync, now, actions);
        }
    }
    return code;
}

uint64_t ab_mm_send_deadline(const ab_mm_peer *peer)
{
    uint64_t deadline = AB_NEVER;
    for (uint32_t i = 0; peer->up && peer->full && i < peer->sync_count; i++) {
        const ab_mm_sync *sync = &peer->syncs[i];
        uint64_t end = sync->limit < sync->stream->o.last ? sync->limit : sync->stream->o.last;
        bool waits = sync->outstanding || sync->once != 0 || (sync->next <= end && sync->code != AB_ETRIMMED);
        if (((sync->stream->diverged | sync->stream->behind) & ab_mm_bit(peer)) != 0) {
            continue;
        }
        if (waits && sync->hold_at != 0 && sync->hold_at < deadline) {
            deadline = sync->hold_at;
        }
        deadline = sync->retry_at < deadline ? sync->retry_at : deadline;
    }
    return deadline;
}
