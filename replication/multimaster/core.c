/* SPDX-License-Identifier: Apache-2.0 */
/* Multimaster: events, what is due. A sans-I/O core: any thread, one call at a time. */
#include "replication/backends.h"
#include "replication/multimaster/mm.h"

#include "replication/planted.h"
#include <stdlib.h>
#include <string.h>

#define AGAIN_NS AB_MM_MS /* after an action could not be stored */

/* Small helpers of all files */

ab_mm_stream *ab_mm_at(const ab_mm *mm, uint32_t position)
{
    return (ab_mm_stream *)mm->order.streams[position];
}

ab_mm_stream *ab_mm_find(const ab_mm *mm, ab_stream stream)
{
    return (ab_mm_stream *)ab_order_find(&mm->order, stream);
}

uint64_t ab_mm_bit(const ab_mm_peer *peer)
{
    return UINT64_C(1) << peer->position;
}

ab_mm_peer *ab_mm_peer_of(ab_mm *mm, uint32_t node)
{
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        if (mm->peers[i].node == node) {
            return &mm->peers[i];
        }
    }
    return NULL;
}

int ab_mm_stream_of(ab_mm *mm, ab_stream name, ab_mm_stream **found)
{
    *found = ab_mm_find(mm, name);
    if (*found != NULL) {
        return AB_OK;
    }
    ab_mm_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return AB_ENOMEM;
    }
    stream->o.stream = name;
    stream->own = name.node == mm->self;
    stream->accepted_known = true; /* nothing, so far */
    int code = ab_order_add(&mm->order, &stream->o);
    if (code != AB_OK) {
        free(stream);
        return code;
    }
    *found = stream;
    return AB_OK;
}

/* splitmix64: good enough for jitter, and the seed is the driver's */
static uint64_t next_random(ab_mm *mm)
{
    uint64_t x = mm->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t ab_mm_jitter(ab_mm *mm, uint32_t ms)
{
    uint64_t quarter = ms * AB_MM_MS / 4;
    return 3 * quarter + next_random(mm) % (2 * quarter + 1);
}

uint32_t ab_mm_double(const ab_mm *mm, uint32_t ms)
{
    return ms > mm->retry_max_ms / 2 ? mm->retry_max_ms : ms * 2;
}

void ab_mm_heard(ab_mm *mm, ab_mm_peer *peer, uint64_t now)
{
    if (now - peer->heard > mm->retry_min_ms * AB_MM_MS) {
        ab_mm_sync_alive(mm, peer, now);
    }
    peer->heard = now;
}

int ab_mm_send_message(const ab_mm_message *message, uint32_t peer, ab_actions *actions)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + AB_MM_HAVE_BYTES];
    ab_action action = {.type = AB_ACT_MESSAGE, .peer = peer, .data = {data, ab_mm_encode(message, data)}};
    return ab_actions_push(actions, &action);
}

int ab_mm_report(ab_severity severity, int code, ab_mark mark, uint32_t peer, const char *text,
                 ab_actions *actions)
{
    ab_action report = {.type = AB_ACT_REPORT,
                        .severity = severity,
                        .code = code,
                        .mark = mark,
                        .peer = peer,
                        .data = {text, strlen(text)}};
    return ab_actions_push(actions, &report);
}

/* Events */

static void peer_up(ab_mm *mm, ab_mm_peer *peer, uint64_t now)
{
    peer->up = true;
    peer->full = false;
    peer->owe_full = true;
    peer->word_ms = mm->retry_min_ms;
    peer->word_at = AB_NEVER;
    peer->heard = now;
    peer->gossip_at = now;
    ab_mm_tell_again(mm, peer);
    ab_mm_forgive(mm, peer);
}

static void peer_down(ab_mm *mm, ab_mm_peer *peer)
{
    uint64_t others = ~ab_mm_bit(peer);
    peer->up = peer->full = peer->owe_full = peer->ask = false;
    peer->word_at = AB_NEVER;
    ab_mm_sync_down(peer);
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        stream->confirm &= others;
        stream->owed &= others;
        stream->gossip &= others;
        stream->expect &= others;
    }
}

/* A message about one stream that is known here. */
static void take_about(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, const ab_mm_message *message,
                       uint64_t now)
{
    if (message->kind == AB_MM_HISTORY) {
        ab_mm_take_history(mm, peer, stream, message);
    } else if (message->kind == AB_MM_POINTS) {
        ab_mm_take_points(peer, stream, message);
    } else if ((stream->behind & ab_mm_bit(peer)) != 0) {
        return; /* of another history */
    } else if (message->kind == AB_MM_EXPECT) {
        ab_mm_take_expect(peer, stream, message->first);
    } else if (message->kind == AB_MM_TRIMMED) {
        ab_mm_take_trimmed(peer, stream, message->first, message->last != 0);
        ab_mm_settle(mm, now);
    } else if (message->kind == AB_MM_LACK) {
        ab_mm_take_lack(peer, stream, message->first, now);
    } else if (message->last == stream->rewound) {
        ab_mm_diverge(mm, peer, stream, message->first, false);
    }
}

static int take_message(ab_mm *mm, ab_mm_peer *peer, ab_bytes bytes, uint64_t now)
{
    ab_mm_message message;
    int code = ab_mm_decode(bytes, &message);
    if (code == AB_EUNSUPPORTED || !peer->up) {
        return AB_OK;
    }
    if (code != AB_OK) {
        return code;
    }
    ab_mm_heard(mm, peer, now);
    if (message.kind == AB_MM_HAVE) {
        return ab_mm_take_have(mm, peer, &message, now);
    }
    if (message.kind == AB_MM_FETCH) {
        return ab_mm_take_fetch(mm, peer, &message);
    }
    ab_mm_stream *stream = ab_mm_find(mm, message.stream);
    if (stream != NULL) {
        take_about(mm, peer, stream, &message, now);
    }
    return AB_OK;
}

static int peer_event(ab_mm *mm, const ab_event *event, uint64_t now, ab_actions *actions)
{
    ab_mm_peer *peer = ab_mm_peer_of(mm, event->peer);
    if (peer == NULL) {
        return AB_EINVAL;
    }
    switch (event->type) {
    case AB_EV_PEER_UP:
        peer_up(mm, peer, now);
        return AB_OK;
    case AB_EV_PEER_DOWN:
        peer_down(mm, peer);
        return AB_OK;
    case AB_EV_MESSAGE:
        return take_message(mm, peer, event->bytes, now);
    case AB_EV_BLOCK:
        return event->block != NULL ? ab_mm_take_block(mm, peer, event, now, actions) : AB_EINVAL;
    default:
        ab_mm_sent(mm, peer, event, now);
        return AB_OK;
    }
}

/* Streams that a block depends on become known, so that the full HAVE names them: their origin, or nobody, has them. What
 * depends on more of our own than we ever wrote has seen what we lost: those indexes are taken. */
static void know_deps(ab_mm *mm, const ab_block_info *block)
{
    for (size_t i = 0; mm->causal && i < block->dep_count; i++) {
        ab_mm_stream *stream = ab_mm_find(mm, block->deps[i].stream);
        if (stream == NULL && !ab_folds_has(&mm->order.folds, block->deps[i].stream) &&
            ab_mm_stream_of(mm, block->deps[i].stream, &stream) == AB_OK) {
            ab_mm_spread(mm, stream);
        }
        mm->new_epoch |= stream != NULL && stream == mm->current && block->deps[i].index > stream->o.last &&
                         block->deps[i].index > stream->sealed;
    }
}

/* Nobody can have a block that we sealed and that is only now in our log: who claims its index has another one. */
static void check_claims(ab_mm *mm, ab_mm_stream *stream, const ab_block_info *block)
{
    for (uint32_t i = 0; stream->own && block->last <= stream->sealed && i < mm->peer_count; i++) {
        ab_mm_peer *peer = &mm->peers[i];
        if (ab_marks_get(&peer->marks, block->stream) >= block->first ||
            ab_marks_get(&peer->pending, block->stream) >= block->first) {
            ab_mm_diverge(mm, peer, stream, block->first, true);
        }
    }
}

static int logged(ab_mm *mm, ab_mm_stream *stream, const ab_block_info *block)
{
    if (block->first > stream->o.last + 1) {
        return AB_OK; /* what came before it was refused, so it will be, too */
    }
    if (block->last > stream->o.last) {
        check_claims(mm, stream, block);
    }
    ab_order_logged(&stream->o, block);
    ab_mm_learn(stream, block);
    ab_mm_rewind_copied(mm, block);
    if (block->last >= stream->accepted) {
        stream->accepted = block->last;
        stream->accepted_hash = block->hash;
        stream->accepted_known = true;
    }
    stream->refused = AB_OK;
    stream->refused_at = stream->refused_ms = 0;
    know_deps(mm, block);
    return AB_OK;
}

static void durable(ab_mm *mm, ab_mm_stream *stream, uint64_t index, uint64_t now)
{
    if (index <= stream->o.durable) {
        return;
    }
    stream->o.durable = index;
    stream->confirm |= stream->owed;
    if (index >= stream->accepted) {
        stream->owed = 0;
    }
    ab_mm_spread(mm, stream);
    stream->gossip &= ~stream->confirm;
    ab_mm_settle(mm, now);
    ab_mm_trim_soon(mm, now);
}

static int loaded(ab_mm *mm, ab_mm_stream *stream, const ab_event *event, uint64_t now, ab_actions *actions)
{
    bool probe = stream->probe != 0 && event->mark.index == stream->probe && stream->probe_again != 0;
    bool order = stream->o.load_at != 0 && event->mark.index == stream->o.load_at;
    if (probe) {
        ab_mm_probed(stream, event);
    }
    if (stream->o.ended != AB_NEVER) {
        ab_mm_trim_soon(mm, now); /* it may have been what held up the end of an old stream */
    }
    for (size_t i = 0; i < event->block_count; i++) {
        ab_mm_learn(stream, &event->blocks[i]);
        know_deps(mm, &event->blocks[i]);
    }
    ab_mm_prove_loaded(mm, stream, event);
    ab_mm_rewind_loaded(mm, event, now);
    int code = order ? ab_order_loaded(&stream->o, event, now) : AB_OK;
    if (code == AB_OK) {
        code = ab_mm_history_loaded(stream, event, actions);
    }
    return code == AB_OK ? ab_mm_fork_loaded(mm, stream, event, now, actions) : code;
}

static int stream_event(ab_mm *mm, const ab_event *event, uint64_t now, ab_actions *actions)
{
    bool with_block = event->type == AB_EV_LOGGED || event->type == AB_EV_BAD ||
                      event->type == AB_EV_REPAIRED || event->type == AB_EV_REFUSED;
    if (with_block && event->block == NULL) {
        return AB_EINVAL;
    }
    ab_stream name = with_block ? event->block->stream : event->mark.stream;
    ab_mm_stream *stream = ab_mm_find(mm, name);
    if (stream == NULL) { /* the driver may be late with answers about one that is folded */
        return ab_folds_has(&mm->order.folds, name) ? AB_OK : AB_EINVAL;
    }
    switch (event->type) {
    case AB_EV_LOGGED:
        return logged(mm, stream, event->block);
    case AB_EV_DURABLE:
        durable(mm, stream, event->mark.index, now);
        return AB_OK;
    case AB_EV_APPLIED:
        return ab_order_applied(&mm->order, &stream->o, event->mark.index);
    case AB_EV_LOADED:
        return loaded(mm, stream, event, now, actions);
    case AB_EV_BAD:
        return ab_mm_bad(mm, stream, event, now, actions);
    case AB_EV_REFUSED:
        ab_mm_refused(mm, stream, event, now);
        return AB_OK;
    case AB_EV_REWOUND:
        ab_mm_rewound(mm, stream, now);
        return AB_OK;
    default:
        ab_mm_repaired(mm, stream, event->block);
        return AB_OK;
    }
}

static void raise_checkpoints(ab_mm *mm, ab_frontier frontier, uint64_t now)
{
    for (size_t i = 0; i < frontier.count; i++) {
        ab_mm_stream *stream = ab_mm_find(mm, frontier.marks[i].stream);
        if (stream != NULL && frontier.marks[i].index > stream->o.checkpointed) {
            stream->o.checkpointed = frontier.marks[i].index;
            ab_mm_trim_soon(mm, now);
        }
    }
}

static int checkpointed(ab_mm *mm, ab_frontier frontier, uint64_t now)
{
    if (mm->rewinds == NULL) {
        raise_checkpoints(mm, frontier, now);
        return AB_OK;
    }
    ab_marks marks = {0};
    int code = ab_marks_copy(&marks, frontier);
    if (code == AB_OK) {
        code = ab_mm_translate(mm, &marks);
    }
    if (code == AB_OK) {
        ab_mm_rewinds_settle(mm, frontier);
        raise_checkpoints(mm, ab_marks_view(&marks), now);
    }
    ab_marks_free(&marks);
    return code;
}

static int read_barrier(ab_mm *mm, const ab_event *event, uint64_t now, ab_actions *actions)
{
    if (event->read_level == AB_READ_SESSION) {
        return ab_reads_add(&mm->reads, event->ticket, event->frontier, now, event->timeout_ns);
    }
    ab_action done = {.type = AB_ACT_READ_DONE,
                      .ticket = event->ticket,
                      .code = event->read_level == AB_READ_WEAK ? AB_OK : AB_EUNSUPPORTED};
    return ab_actions_push(actions, &done);
}

static int take(ab_mm *mm, const ab_event *event, uint64_t now, ab_actions *actions)
{
    switch (event->type) {
    case AB_EV_START:
        mm->started = true;
        ab_mm_settle(mm, now);
        return AB_OK;
    case AB_EV_TIMER:
        return AB_OK;
    case AB_EV_PEER_UP:
    case AB_EV_PEER_DOWN:
    case AB_EV_MESSAGE:
    case AB_EV_BLOCK:
    case AB_EV_SENT:
        return peer_event(mm, event, now, actions);
    case AB_EV_LOGGED:
    case AB_EV_DURABLE:
    case AB_EV_APPLIED:
    case AB_EV_LOADED:
    case AB_EV_BAD:
    case AB_EV_REPAIRED:
    case AB_EV_REFUSED:
    case AB_EV_REWOUND:
        return stream_event(mm, event, now, actions);
    case AB_EV_UNAPPLIED:
        ab_order_take_back(&mm->order, event->mark);
        ab_mm_set_limits(mm);
        return AB_OK;
    case AB_EV_CHECKPOINTED:
        return checkpointed(mm, event->frontier, now);
    case AB_EV_READ:
        return read_barrier(mm, event, now, actions);
    }
    return AB_EINVAL;
}

/* What is due */

static int pump_peer(ab_mm *mm, ab_mm_peer *peer, uint64_t now, ab_actions *actions)
{
    int code = ab_mm_pump_diverged(mm, peer, actions);
    if (code == AB_OK) {
        code = ab_mm_pump_have(mm, peer, now, actions);
    }
    if (code == AB_OK) {
        code = ab_mm_pump_expect(mm, peer, actions);
    }
    return code == AB_OK ? ab_mm_pump_send(mm, peer, now, actions) : code;
}

/* Whether somebody who is there has, as far as we heard, not the history that we have. */
static bool some_behind(const ab_mm *mm)
{
    uint64_t up = 0;
    for (uint32_t i = 0; mm->rewinds != NULL && i < mm->peer_count; i++) {
        up |= mm->peers[i].up ? ab_mm_bit(&mm->peers[i]) : 0;
    }
    for (uint32_t i = 0; up != 0 && i < mm->order.count; i++) {
        if ((ab_mm_at(mm, i)->behind & up) != 0) {
            return true;
        }
    }
    return false;
}

/* Whether blocks wait for what somebody may have: not for what only a snapshot will bring. */
static bool some_wait(ab_mm *mm)
{
    if (!mm->order.blocked || ab_planted(AB_PLANTED_RESTLESS)) {
        return mm->order.blocked;
    }
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        stream->o.stalled = ab_mm_is_stalled(mm, stream);
    }
    return ab_order_wants_news(&mm->order);
}

/* Blocks that wait for what does not come: gossip may have been lost, so frontiers are compared again, in full. */
static void compare_again(ab_mm *mm, uint64_t now)
{
    if (now < mm->stuck_at) {
        return;
    }
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        mm->peers[i].owe_full = mm->peers[i].ask = mm->peers[i].up;
    }
    mm->stuck_at = AB_NEVER;
}

/* At the end of a step, which may have found out that something waits. */
static void note_stuck(ab_mm *mm, uint64_t now)
{
    if (!some_wait(mm) && !ab_mm_wants_starve(mm) && !some_behind(mm)) {
        mm->stuck_at = AB_NEVER;
    } else if (mm->stuck_at == AB_NEVER) {
        mm->stuck_at = now + ab_mm_jitter(mm, mm->retry_max_ms);
    }
}

/* Which history streams have. */
static int pump_histories(ab_mm *mm, uint64_t now, ab_actions *actions)
{
    int code = ab_mm_pump_rewinds(mm, now, actions);
    for (uint32_t i = 0; code == AB_OK && i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        code = ab_mm_pump_prove(stream, now, actions);
        if (code == AB_OK) {
            code = ab_mm_pump_history(mm, stream, now, actions);
        }
        if (code == AB_OK) {
            code = ab_mm_pump_fork(mm, stream, now, actions);
        }
    }
    return code;
}

static int pump(ab_mm *mm, uint64_t now, ab_actions *actions)
{
    compare_again(mm, now);
    ab_mm_ask_again(mm, now);
    int code = ab_mm_pump_epoch(mm, actions);
    if (code == AB_OK) {
        code = pump_histories(mm, now, actions);
    }
    if (code == AB_OK) {
        code = ab_mm_pump_epoch(mm, actions); /* what was found out may have made one due */
    }
    if (code == AB_OK) {
        code = ab_mm_pump_acked(mm, actions);
    }
    for (uint32_t i = 0; code == AB_OK && i < mm->peer_count; i++) {
        code = pump_peer(mm, &mm->peers[i], now, actions);
    }
    if (code == AB_OK) {
        code = ab_order_pump(&mm->order, now, actions);
    }
    if (code == AB_OK) {
        code = ab_mm_pump_wants(mm, now, actions);
    }
    if (code == AB_OK) {
        code = ab_mm_pump_trim(mm, now, actions);
    }
    if (code == AB_OK && mm->order.blocked) { /* what they wait for may have turned out never to come */
        code = ab_order_pump(&mm->order, now, actions);
    }
    return code == AB_OK ? ab_reads_pump(&mm->reads, &mm->order, now, actions) : code;
}

static int step(void *opaque, const ab_event *event, uint64_t now, ab_actions *actions)
{
    ab_mm *mm = opaque;
    int taken = take(mm, event, now, actions);
    int pumped = mm->started ? pump(mm, now, actions) : AB_OK;
    note_stuck(mm, now);
    mm->again_at = pumped == AB_OK ? AB_NEVER : now + AGAIN_NS;
    return taken != AB_OK ? taken : pumped;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t deadline(const void *opaque)
{
    const ab_mm *mm = opaque;
    if (mm->again_at != AB_NEVER) {
        return mm->again_at;
    }
    uint64_t at = least(mm->stuck_at, mm->trim_at);
    at = least(at, least(ab_reads_deadline(&mm->reads), ab_order_deadline(&mm->order)));
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        at = least(at, ab_mm_have_deadline(mm, &mm->peers[i]));
        at = least(at, ab_mm_send_deadline(&mm->peers[i]));
    }
    for (uint32_t i = 0; i < mm->order.count; i++) {
        uint64_t again = ab_mm_at(mm, i)->refused_at;
        at = least(at, ab_mm_want_deadline(ab_mm_at(mm, i)));
        at = again != 0 ? least(at, again) : at;
        at = least(at, ab_mm_fork_deadline(ab_mm_at(mm, i)));
    }
    at = least(at, ab_mm_rewind_deadline(mm));
    return at;
}

static int seal(void *opaque, uint64_t first, uint64_t last, ab_frontier *deps)
{
    return ab_mm_seal(opaque, first, last, deps);
}

const ab_backend ab_backend_multimaster = {.version = AB_BACKEND_VERSION,
                                           .name = "multimaster",
                                           .create = ab_mm_create,
                                           .destroy = ab_mm_destroy,
                                           .step = step,
                                           .deadline = deadline,
                                           .seal = seal,
                                           .streams = ab_mm_streams,
                                           .peers = ab_mm_peers};
