/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged blocks that nobody has any more. Part of the multimaster core: one call at a time, no I/O.
 *
 * Every member was heard and none can give it: it is damaged there, too, never came there, or belongs to another history. Then
 * waiting saves nothing, and would cost what comes after it: its stream, and all that depends on it. So the range is
 * reported as lost, stays in the stream's status, and the state machine goes on after it. Where a member has
 * trimmed it instead, that member's state machine has it for good: then we wait for its snapshot. While a member
 * is missing or silent, it may be the one that has it. The verdict takes a pause in which all of that must stay so, and in
 * which every one of them said in full what it has: what a member just received it has not confirmed yet. */
#include "replication/multimaster/mm.h"

bool ab_mm_next_is_lost(const ab_mm_stream *stream, const ab_mm_want *want)
{
    for (const ab_mm_want *other = stream->wants; other != NULL; other = other->next) {
        if (other->lost && other->first == want->last + 1) {
            return true;
        }
    }
    return false;
}

bool ab_mm_has_lost(const ab_mm_stream *stream)
{
    const ab_mm_want *want = stream->wants;
    while (want != NULL && !want->lost) {
        want = want->next;
    }
    return want != NULL;
}

bool ab_mm_is_lost(const ab_mm_stream *stream, uint64_t index)
{
    const ab_mm_want *want = stream->wants;
    while (want != NULL && !(want->lost && index >= want->first && index <= want->last)) {
        want = want->next;
    }
    return want != NULL;
}

/* Peers (bits) that cannot give the tail of our stream, because what comes first of it is lost. */
uint64_t ab_mm_behind_lost(const ab_mm_stream *stream)
{
    const ab_mm_want *want = stream->wants;
    while (want != NULL && want->repair) {
        want = want->next;
    }
    return want != NULL ? want->lacked : 0;
}

void ab_mm_take_lack(const ab_mm_peer *peer, ab_mm_stream *stream, uint64_t first, uint64_t now)
{
    for (ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (want->repair && !want->putting && first >= want->first && first <= want->last) {
            want->lacked |= ab_mm_bit(peer);
            want->at = now; /* the next one in turn */
        }
    }
}

bool ab_mm_never_had(const ab_mm *mm, const ab_mm_peer *peer, const ab_mm_stream *stream,
                     const ab_mm_want *want)
{
    return peer->met && ab_mm_safe_at(mm, peer, stream) < want->last &&
           ab_marks_get(&peer->pending, stream->o.stream) < want->last;
}

/* Whether no member can give it, as far as all of them were heard. */
static bool nobody_has(const ab_mm *mm, const ab_mm_stream *stream, const ab_mm_want *want)
{
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        const ab_mm_peer *peer = &mm->peers[i];
        bool cannot = ((want->lacked | stream->diverged) & ab_mm_bit(peer)) != 0;
        if (!cannot && !ab_mm_never_had(mm, peer, stream, want)) {
            return false;
        }
    }
    return true;
}

/* A mark is old news: who never had it must have said so, in full, since the question came up; who is silent may have it. */
static bool all_said_so(const ab_mm *mm, const ab_mm_stream *stream, const ab_mm_want *want)
{
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        const ab_mm_peer *peer = &mm->peers[i];
        if (((want->lacked | stream->diverged | want->said) & ab_mm_bit(peer)) == 0) {
            return false;
        }
    }
    return true;
}

static void wait_for_answers(ab_mm *mm, ab_mm_want *want, uint64_t now)
{
    want->lost_at = now + ab_mm_jitter(mm, mm->retry_max_ms);
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        ab_mm_peer *peer = &mm->peers[i];
        if (peer->up && (want->said & ab_mm_bit(peer)) == 0) {
            peer->owe_full = peer->ask = true;
        }
    }
}

static int declare(ab_mm *mm, ab_mm_stream *stream, ab_mm_want *want, ab_actions *actions)
{
    static const char text[] =
        "a damaged block that no member has any more: its entries are lost, the state machine "
        "goes on after it";
    int code =
        ab_mm_report(AB_LOG_ERROR, AB_ECORRUPT, (ab_mark){stream->o.stream, want->first}, 0, text, actions);
    want->lost = code == AB_OK;
    for (uint32_t i = 0; want->lost && i < mm->peer_count; i++) {
        ab_mm_sync *sync = ab_mm_sync_of(&mm->peers[i], stream);
        if (sync != NULL && sync->next >= want->first && sync->next <= want->last) {
            sync->told = false; /* so far it heard that it is trimmed */
        }
    }
    for (uint32_t i = 0; want->lost && stream == mm->current && i < mm->peer_count; i++) {
        mm->new_epoch |=
            ab_mm_never_had(mm, &mm->peers[i], stream, want); /* what follows would never reach that peer */
    }
    return code;
}

/* Our log ends before what is lost, and a chain has no holes. */
static int tell_broken(ab_mm_stream *stream, ab_actions *actions)
{
    static const char text[] =
        "entries that are missing here no member has any more, and what follows them cannot be "
        "taken: what depends on them goes on without, this member needs a snapshot";
    if (!stream->o.broken || stream->broken_told) {
        return AB_OK;
    }
    int code = ab_mm_report(AB_LOG_ERROR, AB_ETRIMMED, (ab_mark){stream->o.stream, stream->o.last}, 0, text,
                            actions);
    stream->broken_told = code == AB_OK;
    return code;
}

int ab_mm_pump_lost(ab_mm *mm, ab_mm_stream *stream, uint64_t now, ab_actions *actions)
{
    int code = tell_broken(stream, actions);
    for (ab_mm_want *want = stream->wants; want != NULL && code == AB_OK; want = want->next) {
        if (!want->repair || want->putting) {
            continue;
        }
        if (!nobody_has(mm, stream, want)) {
            want->lost_at = 0;
        } else if (want->lost_at == 0) {
            want->said = 0;
            wait_for_answers(mm, want, now);
        }
        if (!want->lost && want->lost_at != 0 && now >= want->lost_at) {
            if (all_said_so(mm, stream, want)) {
                code = declare(mm, stream, want, actions);
            } else {
                wait_for_answers(mm, want, now);
            }
        }
        if (want->lost && want->last > stream->o.given &&
            ab_order_pass(&stream->o, want->first, want->last)) {
            ab_mm_set_limit(stream);
        }
    }
    return code;
}
