/* SPDX-License-Identifier: Apache-2.0 */
/* What is fetched from peers: the tail of a stream of ours that we lost, and blocks that are damaged here. Part of the
 * multimaster core: one call at a time, no I/O.
 *
 * A fetched block goes over a damaged one only if its hash is what the block after it, or our own record of
 * the stream's end, says it must be; the hash covers the block's own link to the one before it. So a run of damaged blocks is
 * mended from its end. Nobody is waited for: peers are asked in turn, with growing pauses. */
#include "replication/multimaster/mm.h"

#include "replication/planted.h"
#include <stdlib.h>

static ab_mm_want *add_want(ab_mm *mm, ab_mm_stream *stream, uint64_t first, uint64_t last, uint64_t now)
{
    ab_mm_want *want = calloc(1, sizeof *want);
    if (want != NULL) {
        want->first = first;
        want->last = last;
        want->at = now;
        want->wait_ms = mm->retry_min_ms;
        want->next = stream->wants;
        stream->wants = want;
    }
    return want;
}

void ab_mm_wants_free(ab_mm_stream *stream)
{
    while (stream->wants != NULL) {
        ab_mm_want *next = stream->wants->next;
        free(stream->wants);
        stream->wants = next;
    }
}

bool ab_mm_damaged(const ab_mm_stream *stream)
{
    const ab_mm_want *want = stream->wants;
    while (want != NULL && !want->repair) {
        want = want->next;
    }
    return want != NULL;
}

/* The state machine gets nothing from the lowest damaged block on that it does not have already. */
void ab_mm_set_limit(ab_mm_stream *stream)
{
    stream->o.bad_first = 0;
    for (const ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        bool lower = stream->o.bad_first == 0 || want->first < stream->o.bad_first;
        if (want->repair && want->last > stream->o.given && lower) {
            stream->o.bad_first = want->first;
        }
    }
}

void ab_mm_set_limits(ab_mm *mm)
{
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_set_limit(ab_mm_at(mm, i));
    }
}

uint64_t ab_mm_hopeless(const ab_mm_stream *stream, uint64_t index)
{
    for (const ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (want->repair && (want->lost || want->told) && index >= want->first && index <= want->last) {
            return want->last;
        }
    }
    return 0;
}

/* Whether what the stream lacks here nobody can give any more: it waits for a snapshot, and news of others do not help. */
bool ab_mm_is_stalled(const ab_mm *mm, const ab_mm_stream *stream)
{
    const ab_fold *fold = ab_folds_find(&mm->order.folds, stream->o.stream.node);
    for (uint32_t i = 0; fold != NULL && fold->lacks && fold->told && i < mm->peer_count; i++) {
        if (ab_folds_has(&mm->peers[i].folds, stream->o.stream)) {
            return true;
        }
    }
    for (const ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (want->told && (!want->repair || want->last > stream->o.given)) {
            return true;
        }
    }
    return stream->gone || ab_order_has_gap(&stream->o);
}

/* Events */

int ab_mm_want_tail(ab_mm *mm, ab_mm_stream *stream, uint64_t upto, uint64_t now)
{
    for (ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (!want->repair) {
            want->last = upto > want->last ? upto : want->last;
            return AB_OK;
        }
    }
    return add_want(mm, stream, 0, upto, now) != NULL ? AB_OK : AB_ENOMEM;
}

int ab_mm_bad(ab_mm *mm, ab_mm_stream *stream, const ab_event *event, uint64_t now, ab_actions *actions)
{
    uint64_t first = event->block->first;
    uint64_t last = event->block->last;
    if (first == 0 || last < first || first > stream->o.last) {
        return AB_EINVAL;
    }
    for (const ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (want->repair && first <= want->last && last >= want->first) {
            return AB_OK; /* known */
        }
    }
    int code = ab_mm_report(AB_LOG_ERROR, AB_ECORRUPT, (ab_mark){stream->o.stream, first}, 0,
                            "a damaged block: it is fetched from the other members", actions);
    if (code != AB_OK) {
        return code;
    }
    ab_mm_want *want = add_want(mm, stream, first, last, now);
    if (want == NULL) {
        return AB_ENOMEM;
    }
    want->repair = true;
    ab_mm_set_limit(stream);
    return AB_OK;
}

/* A good block tells the hash of the damaged one before it. */
void ab_mm_learn(ab_mm_stream *stream, const ab_block_info *block)
{
    for (ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (want->repair && want->last + 1 == block->first) {
            want->expected = block->prev_hash;
            want->expected_known = true;
            want->at = want->putting ? want->at : 0;
        }
    }
}

static bool is_wanted(const ab_mm_stream *stream, const ab_mm_want *want, const ab_mm_peer *peer,
                      const ab_block_info *block)
{
    if (!want->repair || want->putting || block->first != want->first || block->last != want->last) {
        return false;
    }
    if (want->expected_known) {
        return block->hash == want->expected;
    }
    if (ab_mm_next_is_lost(stream, want)) {
        return true; /* the log looks at the block before it */
    }
    /* The end of the log, and its record of the hash may be damaged with it: the origin knows. */
    bool end = block->last == stream->o.last && block->last == stream->accepted;
    return end && (block->hash == stream->o.last_hash || peer->node == block->stream.node);
}

int ab_mm_repair_with(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, const ab_event *event,
                      ab_actions *actions, bool *taken)
{
    (void)mm;
    for (ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (!is_wanted(stream, want, peer, event->block)) {
            continue;
        }
        ab_action repair = {.type = AB_ACT_REPAIR,
                            .peer = peer->node,
                            .mark = {stream->o.stream, event->block->last},
                            .first = event->block->first,
                            .hash = event->block->hash,
                            .token = event->token};
        int code = ab_actions_push(actions, &repair);
        if (code == AB_OK) {
            want->putting = *taken = true;
        }
        return code;
    }
    return AB_OK;
}

/* The log did not take it: another peer may have a better one, or the log is better later. */
bool ab_mm_repair_refused(ab_mm *mm, ab_mm_stream *stream, const ab_block_info *block, uint64_t now)
{
    for (ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (want->putting && want->first == block->first && want->last == block->last) {
            want->putting = false;
            want->at = now + ab_mm_jitter(mm, want->wait_ms);
            want->wait_ms = ab_mm_double(mm, want->wait_ms);
            return true;
        }
    }
    return false;
}

static void drop_want(ab_mm_stream *stream, ab_mm_want **link)
{
    ab_mm_want *want = *link;
    *link = want->next;
    free(want);
    ab_mm_set_limit(stream);
}

void ab_mm_repaired(ab_mm *mm, ab_mm_stream *stream, const ab_block_info *block)
{
    for (ab_mm_want **link = &stream->wants; *link != NULL; link = &(*link)->next) {
        if ((*link)->repair && (*link)->first == block->first) {
            drop_want(stream, link);
            break;
        }
    }
    ab_mm_learn(stream, block);
    if (stream->o.load_at == 0) {
        stream->o.load_again = 0; /* what could not be read back can be now */
    }
    if (block->last == stream->o.last) {
        stream->o.last_hash = block->hash;
        if (block->last == stream->accepted) {
            stream->accepted_hash = block->hash;
            stream->accepted_known = true;
        }
    }
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        ab_mm_sync *sync = ab_mm_sync_of(&mm->peers[i], stream);
        bool lost = sync != NULL && sync->code == AB_ETRIMMED && sync->next > stream->o.base;
        if (sync != NULL && (sync->code == AB_ECORRUPT || lost)) {
            sync->code = AB_OK;
            sync->hold_at = sync->outstanding ? sync->hold_at : 0;
        }
    }
}

void ab_mm_probe(ab_mm_stream *stream, uint64_t index)
{
    if (stream->probe == 0) {
        stream->probe = index;
        stream->probe_again = 0;
    }
}

void ab_mm_probed(ab_mm_stream *stream, const ab_event *event)
{
    if (event->block_count > 0) {
        ab_mm_learn(stream, &event->blocks[0]);
    }
    stream->probe = stream->probe_again = 0;
}

/* The peer has the stream only beyond `base`; if `lost`, then so has everybody. That may answer a question from before we had what
 * we have now. */
void ab_mm_take_trimmed(const ab_mm_peer *peer, ab_mm_stream *stream, uint64_t base, bool lost)
{
    uint64_t bit = ab_mm_bit(peer);
    if (peer->node == stream->o.stream.node && base > stream->accepted) {
        stream->gone = true;
        stream->o.broken = lost;
    }
    for (ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        bool gone = want->repair ? base >= want->last : base > stream->accepted;
        if (gone && (want->trimmed & bit) == 0) {
            want->trimmed |= bit; /* what all had: who had not, or could not read it, may have it since */
            want->said = want->lacked = 0;
        }
        if (gone && lost && !want->repair) {
            want->lacked |= bit;
        }
    }
}

/* A block of the stream came in turn: the tail is on its way, do not ask again yet. */
void ab_mm_want_progress(ab_mm *mm, ab_mm_stream *stream, uint64_t now)
{
    for (ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (!want->repair) {
            want->wait_ms = mm->retry_min_ms;
            want->trimmed = 0; /* what follows may be there where the beginning was gone */
            want->at = now + ab_mm_jitter(mm, want->wait_ms);
        }
    }
}

/* A peer said what it has: it may be one to ask. Over a new link everything is open again. */
void ab_mm_wants_wake(ab_mm *mm, const ab_mm_peer *peer, bool new_link, bool full, uint64_t now)
{
    for (uint32_t i = 0; i < mm->order.count; i++) {
        for (ab_mm_want *want = ab_mm_at(mm, i)->wants; want != NULL; want = want->next) {
            want->said |= full ? ab_mm_bit(peer) : 0;
            want->trimmed &= new_link ? ~ab_mm_bit(peer) : UINT64_MAX;
            want->lacked &= new_link ? ~ab_mm_bit(peer) : UINT64_MAX;
            want->at = want->at == AB_NEVER ? now : want->at;
        }
    }
}

/* What is due */

/* Whether its hash is only to be had from a block that only a snapshot will bring: the damaged ones after it, up to that. */
static bool waits_for_snapshot(const ab_mm_stream *stream, const ab_mm_want *want)
{
    uint64_t last = want->last;
    for (const ab_mm_want *next = stream->wants; want->repair && next != NULL;) {
        if (!next->repair || next->first != last + 1) {
            next = next->next;
        } else if (next->told) {
            return true;
        } else {
            last = next->last;
            next = stream->wants;
        }
    }
    return false;
}

/* Whether something is wanted that no peer is known to have, while there are peers to ask what they have. Not where all have
 * answered that they cannot give it: then only a new link, or what a peer says by itself, makes a difference. */
bool ab_mm_wants_starve(const ab_mm *mm)
{
    bool up = false;
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        up |= mm->peers[i].up;
    }
    for (uint32_t i = 0; up && i < mm->order.count; i++) {
        const ab_mm_stream *stream = ab_mm_at(mm, i);
        for (const ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
            bool told = want->told || (!want->expected_known && waits_for_snapshot(stream, want));
            bool answered = want->lost || (told && !ab_planted(AB_PLANTED_RESTLESS));
            if (want->at == AB_NEVER && !answered) {
                return true;
            }
        }
    }
    return false;
}

static uint64_t most_claimed(const ab_mm *mm, const ab_mm_stream *stream)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        uint64_t has = ab_marks_get(&mm->peers[i].marks, stream->o.stream);
        uint64_t pending = ab_marks_get(&mm->peers[i].pending, stream->o.stream);
        has = pending > has ? pending : has;
        if ((stream->diverged & ab_mm_bit(&mm->peers[i])) == 0) {
            most = has > most ? has : most;
        }
    }
    return most;
}

static bool is_settled(const ab_mm *mm, ab_mm_stream *stream, ab_mm_want *want)
{
    if (want->repair) {
        return want->last <= stream->o.base; /* it is trimmed, nobody needs it */
    }
    uint64_t claimed = most_claimed(mm, stream);
    want->last = claimed > want->last && claimed > stream->o.last ? claimed : want->last;
    return want->last <= stream->o.last || claimed <= stream->o.last;
}

/* The next peer in turn that has it; NULL if none is there. */
static const ab_mm_peer *choose_peer(const ab_mm *mm, const ab_mm_stream *stream, ab_mm_want *want)
{
    uint64_t need = want->repair ? want->last : stream->accepted + 1;
    for (uint32_t i = 1; i <= mm->peer_count; i++) {
        uint32_t position = (want->asked + i) % mm->peer_count;
        const ab_mm_peer *peer = &mm->peers[position];
        uint64_t has = ab_marks_get(&peer->marks, stream->o.stream);
        uint64_t pending = ab_marks_get(&peer->pending, stream->o.stream);
        has = pending > has ? pending : has;
        uint64_t out = want->trimmed | want->lacked | stream->diverged | stream->behind;
        if (peer->up && peer->full && has >= need && (out & ab_mm_bit(peer)) == 0) {
            want->asked = position;
            return peer;
        }
    }
    return NULL;
}

static bool can_give(const ab_mm *mm, const ab_mm_stream *stream, const ab_mm_want *want,
                     const ab_mm_peer *peer)
{
    uint64_t bit = ab_mm_bit(peer);
    if ((want->trimmed & bit) != 0) {
        return false;
    }
    if (!want->repair) {
        return ab_marks_get(&peer->marks, stream->o.stream) > stream->o.last;
    }
    bool never = (want->said & bit) != 0 && ab_mm_never_had(mm, peer, stream, want);
    return ((want->lacked | stream->diverged) & bit) == 0 && !never;
}

/* Nobody can give it, and somebody trimmed it: only a snapshot will have it. */
static bool all_trimmed(const ab_mm *mm, const ab_mm_stream *stream, const ab_mm_want *want)
{
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        if (can_give(mm, stream, want, &mm->peers[i])) {
            return false;
        }
    }
    return want->trimmed != 0;
}

static int tell_trimmed(const ab_mm *mm, const ab_mm_stream *stream, ab_mm_want *want, ab_actions *actions)
{
    if (want->told || !all_trimmed(mm, stream, want)) {
        return AB_OK;
    }
    uint64_t index = want->repair ? want->first : stream->o.last;
    int code = ab_mm_report(
        AB_LOG_ERROR, AB_ETRIMMED, (ab_mark){stream->o.stream, index}, 0,
        "entries that are missing here are trimmed everywhere: this member needs a snapshot", actions);
    want->told = code == AB_OK;
    return code;
}

/* Reads back the info at `probe`; also what a repair needs to know first. */
static int probe(ab_mm_stream *stream, uint64_t now, ab_actions *actions)
{
    if (stream->probe == 0 || now < stream->probe_again) {
        return AB_OK;
    }
    ab_action load = {.type = AB_ACT_LOAD, .mark = {stream->o.stream, stream->probe}, .blocks = 1};
    int code = ab_actions_push(actions, &load);
    if (code == AB_OK) {
        stream->probe_again = now + AB_ORDER_LOAD_LOST_NS;
    }
    return code;
}

static int ask(ab_mm *mm, ab_mm_stream *stream, ab_mm_want *want, uint64_t now, ab_actions *actions)
{
    if (now < want->at || want->putting || (!want->repair && stream->sealed > stream->o.last)) {
        return AB_OK;
    }
    if (want->told && all_trimmed(mm, stream, want)) {
        want->at = AB_NEVER;
        return AB_OK;
    }
    if (want->repair && !want->expected_known && want->last < stream->o.last &&
        !ab_mm_next_is_lost(stream, want)) {
        if (waits_for_snapshot(stream, want) && !ab_planted(AB_PLANTED_RESTLESS)) {
            want->at = AB_NEVER;
            return AB_OK;
        }
        ab_mm_probe(stream, want->last + 1); /* what comes before its hash is known could not be judged */
        want->at = now + ab_mm_jitter(mm, want->wait_ms);
        want->wait_ms =
            ab_mm_double(mm, want->wait_ms); /* the block after it may be damaged, too, and stay so */
        return AB_OK;
    }
    const ab_mm_peer *peer = choose_peer(mm, stream, want);
    if (peer == NULL) {
        want->at = AB_NEVER;
        return AB_OK;
    }
    ab_mm_message message = {.kind = AB_MM_FETCH,
                             .stream = stream->o.stream,
                             .first = want->repair ? want->first : stream->accepted + 1,
                             .last = want->last};
    if (message.first > message.last) { /* all of it is on its way into the log */
        want->at = now + ab_mm_jitter(mm, want->wait_ms);
        return AB_OK;
    }
    int code = ab_mm_send_message(&message, peer->node, actions);
    if (code == AB_OK) {
        want->at = now + ab_mm_jitter(mm, want->wait_ms);
        want->wait_ms = ab_mm_double(mm, want->wait_ms);
    }
    return code;
}

static int pump_stream(ab_mm *mm, ab_mm_stream *stream, uint64_t now, ab_actions *actions)
{
    for (ab_mm_want **link = &stream->wants; *link != NULL;) {
        if (is_settled(mm, stream, *link)) {
            drop_want(stream, link);
            ab_mm_settle(mm, now);
            ab_mm_trim_soon(mm, now);
            continue;
        }
        int code = ask(mm, stream, *link, now, actions);
        if (code == AB_OK) {
            code = tell_trimmed(mm, stream, *link, actions);
        }
        if (code != AB_OK) {
            return code;
        }
        link = &(*link)->next;
    }
    int code = ab_mm_pump_lost(mm, stream, now, actions);
    if (code != AB_OK) {
        return code;
    }
    return probe(stream, now, actions);
}

int ab_mm_pump_wants(ab_mm *mm, uint64_t now, ab_actions *actions)
{
    int code = AB_OK;
    for (uint32_t i = 0; code == AB_OK && i < mm->order.count; i++) {
        code = pump_stream(mm, ab_mm_at(mm, i), now, actions);
    }
    return code;
}

uint64_t ab_mm_want_deadline(const ab_mm_stream *stream)
{
    uint64_t deadline = stream->probe != 0 ? stream->probe_again : AB_NEVER;
    for (const ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (want->lost_at != 0 && !want->lost && want->lost_at < deadline) {
            deadline = want->lost_at;
        }
        bool waits = want->putting || (!want->repair && stream->sealed > stream->o.last);
        if (!waits && want->at < deadline) {
            deadline = want->at;
        }
    }
    return deadline;
}
