/* SPDX-License-Identifier: Apache-2.0 */
/* Where two histories of a stream of ours part. Part of the multimaster core: one call at a time, no I/O.
 *
 * The origin asks a peer whose history differs for the ends and hashes of its blocks, some at a time, and looks for the last
 * one that its own log has, too: equal hashes mean equal histories up to there. */
#include "replication/multimaster/mm.h"

#include <stdlib.h>

/* A peer that can tell: of those whose history differs, the first. */
static ab_mm_peer *who_differs(ab_mm *mm, const ab_mm_stream *stream)
{
    uint64_t open = stream->diverged & ~stream->behind & ~ab_mm_fork_failed(stream);
    for (uint32_t i = 0; open != 0 && i < mm->peer_count; i++) {
        ab_mm_peer *peer = &mm->peers[i];
        if (peer->up && peer->full && (open & ab_mm_bit(peer)) != 0) {
            return peer;
        }
    }
    return NULL;
}

ab_mm_quest *ab_mm_quest_of(ab_mm_stream *stream)
{
    if (stream->quest == NULL) {
        stream->quest = calloc(1, sizeof *stream->quest);
    }
    return stream->quest;
}

void ab_mm_quest_tidy(ab_mm_stream *stream)
{
    const ab_mm_quest *quest = stream->quest;
    if (quest != NULL && quest->fork == NULL && quest->fork_failed == 0 && quest->prove_index == 0 &&
        quest->history_peer == 0) {
        ab_mm_quest_free(stream);
    }
}

void ab_mm_quest_free(ab_mm_stream *stream)
{
    ab_mm_fork_free(stream);
    free(stream->quest);
    stream->quest = NULL;
}

uint64_t ab_mm_fork_failed(const ab_mm_stream *stream)
{
    return stream->quest != NULL ? stream->quest->fork_failed : 0;
}

void ab_mm_fork_free(ab_mm_stream *stream)
{
    if (stream->quest != NULL) {
        free(stream->quest->fork);
        stream->quest->fork = NULL;
    }
}

static ab_mm_fork *fork_of(const ab_mm_stream *stream)
{
    return stream->quest != NULL ? stream->quest->fork : NULL;
}

/* Asking */

static void ask_from(ab_mm *mm, ab_mm_fork *fork, uint64_t first)
{
    fork->first = first;
    fork->count = 0;
    fork->look_at = 0;
    fork->again = 0;
    fork->wait_ms = mm->retry_min_ms;
}

static int begin(ab_mm *mm, ab_mm_stream *stream, const ab_mm_peer *peer)
{
    ab_mm_quest *quest = ab_mm_quest_of(stream);
    if (quest == NULL || (quest->fork = calloc(1, sizeof *quest->fork)) == NULL) {
        return AB_ENOMEM;
    }
    quest->fork->peer = peer->node;
    ask_from(mm, quest->fork, stream->o.base + 1);
    return AB_OK;
}

static int ask(ab_mm *mm, ab_mm_stream *stream, uint64_t now, ab_actions *actions)
{
    ab_mm_fork *fork = fork_of(stream);
    ab_mm_message question = {
        .kind = AB_MM_HISTORY, .stream = stream->o.stream, .first = fork->first, .last = stream->rewound};
    int code = ab_mm_send_message(&question, fork->peer, actions);
    if (code == AB_OK) {
        fork->again = now + ab_mm_jitter(mm, fork->wait_ms);
        fork->wait_ms = ab_mm_double(mm, fork->wait_ms);
    }
    return code;
}

/* The peer's points are here: ours from the same place on. */
static int look(ab_mm_stream *stream, uint64_t now, ab_actions *actions)
{
    ab_mm_fork *fork = fork_of(stream);
    uint64_t from = fork->points[0].index > stream->o.base ? fork->points[0].index : stream->o.base;
    ab_action load = {
        .type = AB_ACT_LOAD, .mark = {stream->o.stream, from + 1}, .blocks = AB_MM_POINT_BLOCKS};
    int code = ab_actions_push(actions, &load);
    if (code == AB_OK) {
        fork->look_at = from + 1;
        fork->again = now + AB_ORDER_LOAD_LOST_NS;
    }
    return code;
}

/* What goes must be here in full before it goes: nobody has more of it than we have, and nobody has let it go already. */
static bool have_all(const ab_mm *mm, const ab_mm_stream *stream)
{
    uint64_t may_have = 0; /* of those whose history is not known to differ */
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        const ab_mm_peer *peer = &mm->peers[i];
        bool more = ab_marks_get(&peer->marks, stream->o.stream) > stream->o.last ||
                    ab_marks_get(&peer->pending, stream->o.stream) > stream->o.last;
        may_have |= more ? ab_mm_bit(peer) & ~stream->diverged : 0;
        if (!peer->met) {
            return false;
        }
    }
    for (const ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (!want->repair && (may_have & ~want->trimmed) != 0) {
            return false;
        }
    }
    return stream->behind == 0;
}

int ab_mm_pump_fork(ab_mm *mm, ab_mm_stream *stream, uint64_t now, ab_actions *actions)
{
    if (!stream->own || stream->diverged == 0) {
        ab_mm_fork_free(stream);
        return AB_OK;
    }
    const ab_mm_peer *peer = ab_mm_rewind_pending(mm, stream) == NULL ? who_differs(mm, stream) : NULL;
    if (peer != NULL && !have_all(mm, stream)) {
        mm->new_epoch |= stream == mm->current; /* new writes need not wait until we have */
        peer = NULL;
    }
    if (peer == NULL || (fork_of(stream) != NULL && fork_of(stream)->peer != peer->node)) {
        ab_mm_fork_free(stream);
    }
    if (peer == NULL) {
        return AB_OK;
    }
    int code = fork_of(stream) == NULL ? begin(mm, stream, peer) : AB_OK;
    if (code != AB_OK || now < fork_of(stream)->again) {
        return code;
    }
    return fork_of(stream)->count > 0 ? look(stream, now, actions) : ask(mm, stream, now, actions);
}

void ab_mm_take_points(const ab_mm_peer *peer, ab_mm_stream *stream, const ab_mm_message *message)
{
    ab_mm_fork *fork = fork_of(stream);
    if (fork == NULL || fork->peer != peer->node || fork->count > 0 || message->first != fork->first ||
        message->last != stream->rewound) {
        return;
    }
    fork->count = message->point_count;
    for (uint32_t i = 0; i < fork->count; i++) {
        fork->points[i] = message->points[i];
    }
    fork->again = 0;
}

/* Comparing */

static bool has_point(const ab_mm_fork *fork, ab_mm_point point)
{
    for (uint32_t i = 0; i < fork->count; i++) {
        if (fork->points[i].index == point.index) {
            return fork->points[i].hash == point.hash;
        }
    }
    return false;
}

static ab_mm_point own_point(const ab_event *event, size_t i)
{
    const ab_block_info *blocks = event->blocks;
    return i == 0 ? (ab_mm_point){blocks[0].first - 1, blocks[0].prev_hash}
                  : (ab_mm_point){blocks[i - 1].last, blocks[i - 1].hash};
}

static int give_up(ab_mm *mm, ab_mm_stream *stream, const ab_mm_peer *peer, uint64_t now, ab_actions *actions)
{
    stream->quest->fork_failed |= ab_mm_bit(peer);
    mm->new_epoch |= stream == mm->current;
    ab_mm_fork_free(stream);
    ab_mm_settle(mm, now);
    return ab_mm_report(
        AB_LOG_ERROR, AB_ETRIMMED, (ab_mark){stream->o.stream, stream->o.base}, peer->node,
        "where the two histories part is trimmed: they stay apart, one member needs a snapshot", actions);
}

/* One history, as far as both go. What the peer has more of is asked for: it may have heard late that we differ, and then sends
 * nothing of the stream until its origin asks. */
static int same_after_all(ab_mm *mm, const ab_mm_peer *peer, ab_mm_stream *stream, uint64_t now)
{
    uint64_t has = ab_marks_get(&peer->marks, stream->o.stream);
    int code = has > stream->accepted ? ab_mm_want_tail(mm, stream, has, now) : AB_OK;
    if (code == AB_OK) {
        ab_mm_reconcile(mm, peer, stream);
        ab_mm_fork_free(stream);
    }
    return code;
}

static int compare(ab_mm *mm, ab_mm_stream *stream, const ab_event *event, uint64_t now, ab_actions *actions)
{
    ab_mm_fork *fork = fork_of(stream);
    const ab_mm_peer *peer = ab_mm_peer_of(mm, fork->peer);
    bool found = false;
    ab_mm_point same = {0, 0};
    for (size_t i = 0; i <= event->block_count; i++) {
        ab_mm_point point = own_point(event, i);
        if (has_point(fork, point)) {
            same = point;
            found = true;
        }
    }
    if (!found) {
        return give_up(mm, stream, peer, now, actions);
    }
    bool whole = fork->count == AB_MM_POINTS_MAX;
    bool their_end = same.index == fork->points[fork->count - 1].index;
    bool our_end = same.index == own_point(event, event->block_count).index;
    if (same.index == stream->o.last || (their_end && !whole)) {
        return same_after_all(mm, peer, stream, now);
    }
    if (their_end || our_end) {
        ask_from(mm, fork, same.index + 1);
        return AB_OK;
    }
    uint64_t next = 0; /* hash of our first block that goes: ours do not end at the fork */
    for (size_t i = 0; i < event->block_count; i++) {
        next = event->blocks[i].first == same.index + 1 ? event->blocks[i].hash : next;
    }
    ab_block_origin origin = {.fork = same.index, .fork_hash = same.hash, .hash = next};
    int code = ab_mm_rewind_begin(mm, stream, origin);
    if (code == AB_OK) {
        ab_mm_fork_free(stream);
        code = ab_mm_report(
            AB_LOG_WARN, AB_EDIVERGED, (ab_mark){stream->o.stream, same.index}, peer->node,
            "our disk went back unnoticed: what we wrote since is logged again in a new stream", actions);
    }
    return code;
}

int ab_mm_fork_loaded(ab_mm *mm, ab_mm_stream *stream, const ab_event *event, uint64_t now,
                      ab_actions *actions)
{
    ab_mm_fork *fork = fork_of(stream);
    if (fork == NULL || fork->look_at == 0 || fork->look_at != event->mark.index) {
        return AB_OK;
    }
    fork->look_at = 0;
    fork->again = now + AB_ORDER_RELOAD_NS;
    if (event->block_count > 0) {
        return compare(mm, stream, event, now, actions);
    }
    return event->mark.index > stream->o.last
               ? give_up(mm, stream, ab_mm_peer_of(mm, fork->peer), now, actions)
               : AB_OK;
}

/* Telling */

void ab_mm_take_history(ab_mm *mm, const ab_mm_peer *peer, ab_mm_stream *stream, const ab_mm_message *message)
{
    if (message->last != stream->rewound || stream->o.last == 0) {
        return;
    }
    ab_mm_reconcile(mm, peer, stream); /* its origin looks after it */
    ab_mm_quest *quest = ab_mm_quest_of(stream);
    if (quest != NULL) { /* else it asks again */
        quest->history_peer = peer->node;
        quest->history_first = message->first;
        quest->history_again = 0;
    }
}

static uint64_t history_from(const ab_mm_stream *stream)
{
    uint64_t first =
        stream->quest->history_first > stream->o.base ? stream->quest->history_first : stream->o.base + 1;
    return first > stream->o.last ? stream->o.last : first;
}

static int tell(const ab_mm_stream *stream, const ab_event *event, ab_actions *actions)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + AB_MM_POINTS_MAX * AB_MM_POINT_BYTES];
    ab_mm_message answer = {.kind = AB_MM_POINTS,
                            .stream = stream->o.stream,
                            .first = stream->quest->history_first,
                            .last = stream->rewound};
    for (size_t i = 0; i <= event->block_count && i < AB_MM_POINTS_MAX; i++) {
        answer.points[answer.point_count++] = own_point(event, i);
    }
    ab_action message = {.type = AB_ACT_MESSAGE,
                         .peer = stream->quest->history_peer,
                         .data = {data, ab_mm_encode_points(&answer, data)}};
    return ab_actions_push(actions, &message);
}

int ab_mm_pump_history(ab_mm *mm, ab_mm_stream *stream, uint64_t now, ab_actions *actions)
{
    ab_mm_quest *quest = stream->quest;
    if (quest == NULL || quest->history_peer == 0 || now < quest->history_again) {
        return AB_OK;
    }
    const ab_mm_peer *peer = ab_mm_peer_of(mm, quest->history_peer);
    if (!peer->up || stream->o.last <= stream->o.base) {
        ab_mm_point end = {stream->o.last, stream->o.last_hash};
        ab_block_info none = {.first = end.index + 1, .prev_hash = end.hash};
        ab_event event = {.blocks = &none};
        int code = peer->up ? tell(stream, &event, actions) : AB_OK;
        quest->history_peer = code == AB_OK ? 0 : quest->history_peer;
        return code;
    }
    ab_action load = {
        .type = AB_ACT_LOAD, .mark = {stream->o.stream, history_from(stream)}, .blocks = AB_MM_POINT_BLOCKS};
    int code = ab_actions_push(actions, &load);
    if (code == AB_OK) {
        quest->history_again = now + AB_ORDER_LOAD_LOST_NS;
    }
    return code;
}

int ab_mm_history_loaded(ab_mm_stream *stream, const ab_event *event, ab_actions *actions)
{
    ab_mm_quest *quest = stream->quest;
    if (quest == NULL || quest->history_peer == 0 || quest->history_again == 0 ||
        event->mark.index != history_from(stream) || event->block_count == 0) {
        return AB_OK;
    }
    int code = tell(stream, event, actions);
    quest->history_peer = code == AB_OK ? 0 : quest->history_peer;
    quest->history_again = 0;
    return code;
}

uint64_t ab_mm_fork_deadline(const ab_mm_stream *stream)
{
    const ab_mm_quest *quest = stream->quest;
    uint64_t deadline = AB_NEVER;
    if (quest == NULL) {
        return deadline;
    }
    if (quest->history_peer != 0) {
        deadline = quest->history_again;
    }
    if (quest->prove_index != 0 && quest->prove_again < deadline) {
        deadline = quest->prove_again;
    }
    return quest->fork != NULL && quest->fork->again < deadline ? quest->fork->again : deadline;
}
