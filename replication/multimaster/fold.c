/* SPDX-License-Identifier: Apache-2.0 */
/* Old streams that are over everywhere are folded away. Part of the multimaster core: one call at a time, no I/O.
 *
 * A stream is over at a member when it has ended (its origin said where), the member's log has all of it, and its state machine
 * has all of it durable. Members tell each other, each until it hears that the other knows (AB_MM_TELL, AB_MM_SEEN):
 * gossip that got lost must not leave a stream there for ever. Where it is over at every active member, nobody can ever
 * miss anything of it: not an entry, nor that it came before another one. Then it is trimmed, kept as folded, and forgotten.
 *
 * One stream of an origin after the other, the oldest first: a member says that one is over only when it has folded all
 * older ones that it knows. So nobody folds a stream whose origin has an older one that it never heard of: the origin would
 * not be done with it. And the origin is the first to say it, when it cannot choose that epoch again: a block that comes
 * behind the end afterwards belongs to another history.
 *
 * Who folded streams says so with the sum of their entries and a hash over their histories. A member that still has some of
 * them compares: it has them all, and they ended there; or it lost some of them (another disk, an older copy) after it had
 * said otherwise, and nobody can give them any more: it needs a snapshot, and folds nothing of that origin. */
#include "replication/multimaster/mm.h"

#include "replication/planted.h"
#include <stdlib.h>

uint64_t ab_mm_has(const ab_mm_peer *peer, const ab_mm_stream *stream)
{
    bool folded = ab_folds_has(&peer->folds, stream->o.stream);
    return folded ? AB_NEVER : ab_marks_get(&peer->marks, stream->o.stream);
}

/* What counts for trimming. Where what others folded is not what we have, it is not known what they had. */
uint64_t ab_mm_safe_at(const ab_mm *mm, const ab_mm_peer *peer, const ab_mm_stream *stream)
{
    const ab_fold *ours = ab_folds_find(&mm->order.folds, stream->o.stream.node);
    return ours != NULL && ours->lacks ? ab_marks_get(&peer->marks, stream->o.stream)
                                       : ab_mm_has(peer, stream);
}

/* Taking */

int ab_mm_prepare_folds(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message)
{
    size_t offset = 0;
    ab_mm_folded folded;
    ab_fold *made = NULL;
    int code = AB_OK;
    while (code == AB_OK && ab_mm_next_folded(message, &offset, &folded)) {
        code = ab_folds_of(&mm->order.folds, folded.node, &made);
        if (code == AB_OK) {
            code = ab_folds_of(&peer->folds, folded.node, &made);
        }
    }
    return code;
}

/* A new link: all that counts is what the peer says now. */
void ab_mm_forget_folds(ab_mm *mm, ab_mm_peer *peer)
{
    for (uint32_t i = 0; i < peer->folds.count; i++) {
        peer->folds.items[i] = (ab_fold){.node = peer->folds.items[i].node};
    }
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_at(mm, i)->over &= ~ab_mm_bit(peer);
    }
}

/* The peer has everything of the streams that it folded, and can give nothing of them. */
static void take_streams(ab_mm *mm, ab_mm_peer *peer, const ab_mm_folded *folded, uint64_t now)
{
    uint64_t bit = ab_mm_bit(peer);
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        if (stream->o.stream.node == folded->node && stream->o.stream.epoch <= folded->epoch) {
            stream->over |= bit;
            stream->tell &= ~bit;
            stream->behind &= ~bit; /* whatever it had, it was what all had */
            stream->unproven &= ~bit;
            ab_mm_confirmed(mm, peer, stream, stream->o.last, false, now);
            ab_mm_take_trimmed(peer, stream, UINT64_MAX - 1, false);
        }
    }
}

static void take_folded(ab_mm *mm, ab_mm_peer *peer, const ab_mm_folded *folded, uint64_t now)
{
    uint64_t bit = ab_mm_bit(peer);
    ab_fold *ours = ab_folds_find(&mm->order.folds, folded->node);
    ab_fold *theirs = ab_folds_find(&peer->folds, folded->node);
    if (ours == NULL || theirs == NULL) {
        return;
    }
    if (folded->epoch > theirs->epoch) {
        theirs->epoch = folded->epoch;
        theirs->total = folded->total;
        theirs->hash = folded->hash;
    }
    take_streams(mm, peer, folded, now);
    if (folded->epoch >= ours->epoch || folded->heard >= ours->epoch) {
        ours->tell &= ~bit;
    }
    ours->owe |= (folded->flags & AB_MM_TELL) != 0 ? bit : 0;
    if (folded->node == mm->self && folded->epoch >= mm->current->o.stream.epoch) {
        /* Our clock went back and our disk is another one: what we wrote to it nobody would take. */
        mm->seen_epoch = folded->epoch > mm->seen_epoch ? folded->epoch : mm->seen_epoch;
        mm->new_epoch = true;
    }
}

void ab_mm_take_folds(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message, uint64_t now)
{
    size_t offset = 0;
    ab_mm_folded folded;
    while (ab_mm_next_folded(message, &offset, &folded)) {
        take_folded(mm, peer, &folded, now);
    }
}

/* The peer names a stream that is folded here: it learns that. */
void ab_mm_owe_fold(ab_mm *mm, const ab_mm_peer *peer, uint32_t node)
{
    ab_fold *fold = ab_folds_find(&mm->order.folds, node);
    if (fold != NULL) {
        fold->owe |= ab_mm_bit(peer);
    }
}

/* Telling */

void ab_mm_tell_again(ab_mm *mm, const ab_mm_peer *peer)
{
    uint64_t bit = ab_mm_bit(peer);
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        stream->tell |= stream->finished ? bit : 0;
    }
    for (uint32_t i = 0; i < mm->order.folds.count; i++) {
        ab_fold *fold = &mm->order.folds.items[i];
        fold->tell |= fold->epoch != 0 ? bit : 0;
    }
}

bool ab_mm_has_to_tell(const ab_mm *mm, const ab_mm_peer *peer)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < mm->order.count; i++) {
        bits |= ab_mm_at(mm, i)->tell;
    }
    for (uint32_t i = 0; i < mm->order.folds.count; i++) {
        bits |= mm->order.folds.items[i].tell;
    }
    return peer->up && peer->full && (bits & ab_mm_bit(peer)) != 0;
}

ab_mm_folded ab_mm_folded_of(const ab_fold *fold, const ab_mm_peer *peer)
{
    const ab_fold *theirs = ab_folds_find(&peer->folds, fold->node);
    bool tell = peer->full && (fold->tell & ab_mm_bit(peer)) != 0;
    return (ab_mm_folded){.node = fold->node,
                          .epoch = fold->epoch,
                          .total = fold->total,
                          .hash = fold->hash,
                          .heard = theirs != NULL ? theirs->epoch : 0,
                          .flags = tell ? AB_MM_TELL : 0};
}

/* What others folded and we did not */

typedef enum comparison { EQUAL, UNKNOWN, LESS, OTHER } comparison;

static bool is_between(const ab_mm_stream *stream, const ab_fold *ours, const ab_fold *theirs)
{
    ab_stream name = stream->o.stream;
    return name.node == ours->node && name.epoch > ours->epoch && name.epoch <= theirs->epoch;
}

static comparison compare(const ab_mm *mm, const ab_fold *ours, const ab_fold *theirs)
{
    ab_fold sum = *ours;
    for (uint32_t i = 0; i < mm->order.count; i++) {
        const ab_mm_stream *stream = ab_mm_at(mm, i);
        if (!is_between(stream, ours, theirs)) {
            continue;
        }
        if (stream == mm->current || stream->accepted != stream->o.last || stream->wants != NULL) {
            return UNKNOWN; /* something is on its way */
        }
        ab_fold_add(&sum, stream->o.stream.epoch, stream->o.last, stream->o.last_hash);
    }
    if (sum.total == theirs->total && sum.hash == theirs->hash) {
        return EQUAL;
    }
    return sum.total < theirs->total ? LESS : OTHER;
}

/* They ended where they end here. */
static void close_streams(ab_mm *mm, const ab_fold *ours, const ab_fold *theirs)
{
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        if (is_between(stream, ours, theirs)) {
            stream->complete = stream->sure = true;
            stream->o.ended = stream->o.last;
        }
    }
}

/* Whether nobody is left who would send us what is missing. */
static bool is_certain(ab_mm *mm, const ab_fold *ours)
{
    if (ours->node != mm->self) {
        const ab_mm_peer *origin = ab_mm_peer_of(mm, ours->node);
        const ab_fold *theirs = origin != NULL ? ab_folds_find(&origin->folds, ours->node) : NULL;
        return origin == NULL || (theirs != NULL && theirs->epoch > ours->epoch);
    }
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        if (!mm->peers[i].met) {
            return false;
        }
    }
    return true;
}

static int tell_operator(ab_mm *mm, ab_fold *ours, const ab_fold *theirs, comparison found, uint32_t peer,
                         ab_actions *actions)
{
    bool less = found == LESS;
    if (ours->told || found == UNKNOWN || !is_certain(mm, ours)) {
        return AB_OK;
    }
    int code = ab_mm_report(
        AB_LOG_ERROR, less ? AB_ETRIMMED : AB_EDIVERGED, (ab_mark){{ours->node, theirs->epoch}, 0}, peer,
        less ? "old streams up to this one are folded away at the peer, and entries of "
               "them are missing here: this member needs a snapshot"
             : "old streams up to this one are folded away at the peer, and it had another "
               "history of them: not merged",
        actions);
    ours->told = code == AB_OK;
    return code;
}

/* The others folded the origin's streams up to `upto` (0: none) with another history than ours: what ours lack of it nobody
 * will ever give, so that what depends on it does not wait. */
static void set_apart(ab_mm *mm, const ab_fold *ours, uint32_t upto)
{
    const ab_fold until = {.epoch = upto};
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        bool apart = is_between(stream, ours, &until);
        if (stream->o.stream.node == ours->node && stream->apart != apart) {
            stream->apart = apart;
            ab_mm_set_ignored(mm, stream);
        }
    }
}

static int look_at(ab_mm *mm, ab_fold *ours, ab_actions *actions)
{
    int code = AB_OK;
    uint32_t apart = 0;
    ours->lacks = false;
    for (uint32_t i = 0; code == AB_OK && i < mm->peer_count; i++) {
        const ab_fold *theirs = ab_folds_find(&mm->peers[i].folds, ours->node);
        if (theirs == NULL || theirs->epoch <= ours->epoch) {
            continue;
        }
        comparison found = compare(mm, ours, theirs);
        if (found == EQUAL) {
            close_streams(mm, ours, theirs);
        } else {
            ours->lacks = true;
            code = tell_operator(mm, ours, theirs, found, mm->peers[i].node, actions);
            bool other = found == OTHER && is_certain(mm, ours);
            apart = other && theirs->epoch > apart ? theirs->epoch : apart;
        }
    }
    set_apart(mm, ours, apart);
    return code;
}

/* Folding */

/* Until the epoch that we write in is kept, an older one might be chosen again after a crash. And of the others' streams
 * nobody is done with one before its origin is. */
static bool is_left_for_good(const ab_mm *mm, const ab_mm_stream *stream)
{
    return stream->own ? mm->certain || mm->current->o.durable > 0 : stream->sure;
}

static bool is_over(const ab_mm *mm, const ab_mm_stream *stream)
{
    return stream != mm->current && stream->o.stream.epoch < UINT32_MAX &&
           stream->accepted == stream->o.last && stream->wants == NULL && stream->probe == 0 &&
           stream->diverged == 0 && stream->behind == 0 && !ab_mm_rewind_pins(mm, stream) &&
           is_left_for_good(mm, stream) && ab_order_is_over(&mm->order, &stream->o);
}

static bool is_over_everywhere(const ab_mm *mm, const ab_mm_stream *stream)
{
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        const ab_mm_peer *peer = &mm->peers[i];
        if (!peer->active || (i == 0 && ab_planted(AB_PLANTED_FOLD_WITHOUT_ONE))) {
            continue;
        }
        if ((stream->over & ab_mm_bit(peer)) == 0 && !ab_folds_has(&peer->folds, stream->o.stream)) {
            return false;
        }
    }
    return stream->o.base == stream->o.ended;
}

static void finish(ab_mm *mm, ab_mm_stream *stream, uint64_t now)
{
    stream->finished = true;
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        ab_mm_peer *peer = &mm->peers[i];
        if (!ab_folds_has(&peer->folds, stream->o.stream)) {
            stream->tell |= ab_mm_bit(peer);
            peer->word_at = peer->full ? now + mm->gossip_ms * AB_MM_MS : peer->word_at;
            peer->word_ms = peer->full ? mm->retry_min_ms : peer->word_ms;
        }
    }
}

static void drop(ab_mm *mm, ab_mm_stream *stream)
{
    ab_stream name = stream->o.stream;
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        ab_mm_peer *peer = &mm->peers[i];
        ab_mm_sync_drop(peer, stream);
        ab_marks_drop(&peer->marks, name.node, name.epoch + 1);
        ab_marks_drop(&peer->pending, name.node, name.epoch + 1);
    }
    ab_marks_drop(&mm->carried, name.node, name.epoch + 1);
    ab_order_remove(&mm->order, &stream->o);
    ab_mm_wants_free(stream);
    ab_mm_quest_free(stream);
    ab_order_stream_clear(&stream->o);
    free(stream);
}

static int fold(ab_mm *mm, ab_mm_stream *stream, ab_actions *actions)
{
    ab_fold *ours = NULL;
    int code = ab_folds_of(&mm->order.folds, stream->o.stream.node, &ours);
    if (code != AB_OK) {
        return code;
    }
    ab_fold next = *ours;
    ab_fold_add(&next, stream->o.stream.epoch, stream->o.last, stream->o.last_hash);
    code = ab_mm_rewinds_drop(mm, stream->o.stream, actions);
    if (code == AB_OK) {
        code = ab_fold_push(&next, actions);
    }
    if (code != AB_OK) {
        return code;
    }
    next.tell |= stream->tell; /* who knows that it is over here needs no more */
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        bool knows = ab_folds_has(&mm->peers[i].folds, stream->o.stream);
        next.tell &= knows ? ~ab_mm_bit(&mm->peers[i]) : UINT64_MAX;
    }
    *ours = next;
    drop(mm, stream);
    return AB_OK;
}

/* The oldest stream of an origin. */
static int advance(ab_mm *mm, ab_mm_stream *stream, uint64_t now, ab_actions *actions, bool *folded)
{
    const ab_fold *ours = ab_folds_find(&mm->order.folds, stream->o.stream.node);
    if (!is_over(mm, stream) || (ours != NULL && ours->lacks)) {
        stream->finished = false;
        stream->tell = 0;
        return AB_OK;
    }
    if (!stream->finished) {
        finish(mm, stream, now);
    }
    if (!is_over_everywhere(mm, stream) && !ab_planted(AB_PLANTED_FOLD_EARLY)) {
        return AB_OK;
    }
    int code = fold(mm, stream, actions);
    *folded = code == AB_OK;
    return code;
}

int ab_mm_look_at_folds(ab_mm *mm, ab_actions *actions)
{
    int code = AB_OK;
    for (uint32_t i = 0; code == AB_OK && i < mm->order.folds.count; i++) {
        code = look_at(mm, &mm->order.folds.items[i], actions);
    }
    return code;
}

int ab_mm_pump_fold(ab_mm *mm, uint64_t now, ab_actions *actions)
{
    int code = AB_OK;
    uint32_t node = 0; /* of the stream before */
    for (uint32_t i = 0; code == AB_OK && i < mm->order.count;) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        bool oldest = stream->o.stream.node != node;
        bool folded = false;
        uint32_t origin = stream->o.stream.node;
        code = oldest ? advance(mm, stream, now, actions, &folded) : AB_OK;
        if (!folded) {
            node = origin;
            i++;
        }
    }
    return code;
}
