/* SPDX-License-Identifier: Apache-2.0 */
/* Frontier exchange: who has what. Part of the multimaster core: one call at a time, no I/O.
 *
 * A full HAVE opens a link and is repeated until the peer's has come. After that a HAVE names what changed: at once to
 * whoever sent the blocks (the confirmation), to the others at most every gossip_ms. Marks of a peer only move
 * forward, except by the first full one of a link: between two links it may have lost its disk. */
#include "replication/multimaster/mm.h"

#include <stdlib.h>

void ab_mm_spread(ab_mm *mm, ab_mm_stream *stream)
{
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        if (mm->peers[i].up) {
            stream->gossip |= ab_mm_bit(&mm->peers[i]);
        }
    }
}

/* Taking */

/* Makes room first, so that taking the message in cannot stop half-way; no more than it needs, for idle groups keep it. */
static int prepare(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message, uint64_t now)
{
    size_t offset = 0;
    ab_mm_have have;
    uint32_t own = 0;
    uint32_t marks = 0;
    while (ab_mm_next_have(message, &offset, &have)) {
        ab_mm_stream *stream = NULL;
        marks += have.durable > 0 && ab_marks_get(&peer->marks, have.stream) == 0;
        if (have.stream.node != mm->self || ab_folds_has(&mm->order.folds, have.stream)) {
            continue;
        }
        own += have.accepted > have.durable;
        int code = ab_mm_stream_of(mm, have.stream, &stream);
        if (code == AB_OK && have.rewound == stream->rewound) {
            code = ab_mm_claimed(mm, stream, have.accepted, now);
        }
        if (code != AB_OK) {
            return code;
        }
    }
    int code = ab_marks_reserve(&peer->marks, peer->marks.count + marks);
    if (code == AB_OK) {
        code = ab_mm_prepare_folds(mm, peer, message);
    }
    return code == AB_OK && own > 0 ? ab_marks_reserve(&peer->pending, peer->pending.count + own) : code;
}

static void take_own(ab_mm_peer *peer, const ab_mm_have *have)
{
    uint64_t beyond = have->accepted > have->durable ? have->accepted : 0;
    (void)ab_marks_set(&peer->pending, (ab_mark){have->stream, beyond});
}

/* Whether what the peer says is of the history that we have. Where it has just come to have it, its marks begin anew. */
static bool of_our_history(ab_mm_stream *stream, const ab_mm_peer *peer, const ab_mm_have *have, bool *back)
{
    uint64_t bit = ab_mm_bit(peer);
    if (have->rewound != stream->rewound) {
        /* An older history than it had already is what a message says that was overtaken. */
        stream->behind |= *back || have->rewound > stream->rewound ? bit : 0;
        return false;
    }
    *back |= (stream->behind & bit) != 0;
    stream->behind &= ~bit;
    return true;
}

static void take_one(ab_mm *mm, ab_mm_peer *peer, const ab_mm_have *have, bool back, uint64_t now)
{
    uint64_t bit = ab_mm_bit(peer);
    ab_mark mark = {have->stream, have->durable};
    if (ab_folds_has(&mm->order.folds, have->stream)) {
        if ((have->flags & AB_MM_TELL) != 0) {
            ab_mm_owe_fold(mm, peer, have->stream.node);
        }
        return;
    }
    ab_mm_stream *known = ab_mm_find(mm, have->stream);
    if (known != NULL && !of_our_history(known, peer, have, &back)) {
        (void)ab_marks_set(&peer->marks, (ab_mark){have->stream, 0});
        return;
    }
    (void)(back ? ab_marks_set(&peer->marks, mark) : ab_marks_raise(&peer->marks, mark));
    if (have->stream.node == mm->self) {
        take_own(peer, have);
    }
    bool final = (have->flags & AB_MM_ENDED) != 0 && have->stream.node == peer->node;
    bool over = (have->flags & AB_MM_OVER) != 0;
    ab_mm_stream *stream = ab_mm_find(mm, have->stream);
    if (stream == NULL && (final || over)) {
        (void)ab_mm_stream_of(mm, have->stream, &stream); /* something may come to depend on it */
    }
    if (stream == NULL || (known == NULL && !of_our_history(stream, peer, have, &back))) {
        return;
    }
    ab_mm_check_point(mm, peer, stream, have->durable, have->hash);
    over &= (stream->diverged & bit) == 0;
    bool fits = stream->accepted <= have->accepted && stream->o.last <= have->accepted;
    if ((final || (over && !stream->own && !stream->complete)) && fits) {
        stream->o.ended = have->accepted;
    }
    stream->over |= over ? bit : 0;
    stream->sure |= over && fits;
    mm->new_epoch |= over && stream == mm->current; /* our disk went back: we were done with it */
    stream->tell &= (have->flags & AB_MM_SEEN) != 0 ? ~bit : UINT64_MAX;
    stream->confirm |= (have->flags & AB_MM_TELL) != 0 ? bit : 0;
    ab_mm_confirmed(mm, peer, stream, have->durable, back, now);
}

/* What a full HAVE does not name, the peer does not have. */
static void forget_missing(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message, uint64_t now)
{
    ab_marks_clear(&peer->pending);
    ab_mm_forget_folds(mm, peer);
    size_t offset = 0;
    ab_mm_have have = {.stream = {0, 0}};
    bool more = ab_mm_next_have(message, &offset, &have);
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        while (more &&
               (have.stream.node < stream->o.stream.node ||
                (have.stream.node == stream->o.stream.node && have.stream.epoch < stream->o.stream.epoch))) {
            more = ab_mm_next_have(message, &offset, &have);
        }
        bool named =
            more && have.stream.node == stream->o.stream.node && have.stream.epoch == stream->o.stream.epoch;
        if (!named) {
            stream->behind |= stream->rewound != 0 ? ab_mm_bit(peer) : 0;
            ab_mm_proven(stream, peer);
            ab_mm_confirmed(mm, peer, stream, 0, true, now);
        }
    }
    ab_marks_clear(&peer->marks);
}

int ab_mm_take_have(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message, uint64_t now)
{
    int code = prepare(mm, peer, message, now);
    if (code != AB_OK) {
        return code == AB_ETOOBIG ? AB_EPROTO : code;
    }
    bool first_full = (message->flags & AB_MM_FULL) != 0 && !peer->full;
    if (!peer->full && !first_full) {
        return AB_OK; /* it overtook the full one, which must not move back what this would move forward */
    }
    if (first_full) {
        ab_mm_doubt(mm, peer);
        forget_missing(mm, peer, message, now);
        peer->full = peer->met = true;
        peer->word_at = now;
        peer->word_ms = mm->retry_min_ms;
    }
    size_t offset = 0;
    ab_mm_have have;
    while (ab_mm_next_have(message, &offset, &have)) {
        take_one(mm, peer, &have, first_full, now);
    }
    ab_mm_take_folds(mm, peer, message, now);
    if ((message->flags & AB_MM_ASK) != 0) {
        peer->owe_full = true;
        ab_mm_sync_asked(peer);
    }
    ab_mm_settle(mm, now);
    ab_mm_wants_wake(mm, peer, first_full, (message->flags & AB_MM_FULL) != 0, now);
    ab_mm_trim_soon(mm, now);
    return AB_OK;
}

/* Sending */

static uint32_t flags_of(const ab_mm_stream *stream, const ab_mm_peer *peer)
{
    uint64_t bit = ab_mm_bit(peer);
    uint32_t flags = stream->own && stream->o.ended != AB_NEVER ? AB_MM_ENDED : 0;
    flags |= stream->finished ? AB_MM_OVER : 0;
    flags |= (stream->over & bit) != 0 ? AB_MM_SEEN : 0;
    return flags | (peer->full && stream->finished && (stream->tell & bit) != 0 ? AB_MM_TELL : 0);
}

static ab_mm_have have_of(const ab_mm *mm, const ab_mm_stream *stream, const ab_mm_peer *peer)
{
    uint64_t accepted = stream == mm->current ? stream->o.last : stream->accepted;
    accepted = ab_mm_may_show(mm, stream) ? accepted : 0;
    bool ended = stream->own && stream->o.ended != AB_NEVER;
    accepted = ended ? stream->o.ended : accepted;
    return (ab_mm_have){.stream = stream->o.stream,
                        .durable = stream->o.durable,
                        .hash = stream->o.durable > 0 ? ab_mm_known_hash(stream, stream->o.durable) : 0,
                        .accepted = accepted > stream->o.durable ? accepted : stream->o.durable,
                        .flags = flags_of(stream, peer),
                        .rewound = stream->rewound};
}

/* What a HAVE is to name: everything; what is owed; also what changed; also what the peer is to know is over here. */
typedef struct naming {
    uint64_t bit;
    bool full;
    bool gossip;
    bool tell;
} naming;

static bool is_named(const ab_mm_stream *stream, naming n)
{
    return n.full || (stream->confirm & n.bit) != 0 || (n.gossip && (stream->gossip & n.bit) != 0) ||
           (n.tell && (stream->tell & n.bit) != 0);
}

static bool is_fold_named(const ab_fold *fold, const ab_mm_peer *peer, naming n)
{
    const ab_fold *theirs = ab_folds_find(&peer->folds, fold->node);
    bool known = fold->epoch != 0 || (theirs != NULL && theirs->epoch != 0);
    return (n.full && known) || (fold->owe & n.bit) != 0 || (n.tell && (fold->tell & n.bit) != 0);
}

static void count_named(const ab_mm *mm, const ab_mm_peer *peer, naming n, uint32_t *streams, uint32_t *folds)
{
    *streams = *folds = 0;
    for (uint32_t i = 0; i < mm->order.count; i++) {
        *streams += is_named(ab_mm_at(mm, i), n);
    }
    for (uint32_t i = 0; i < mm->order.folds.count; i++) {
        *folds += is_fold_named(&mm->order.folds.items[i], peer, n);
    }
}

static size_t encode_named(const ab_mm *mm, const ab_mm_peer *peer, naming n, uint32_t folds, uint8_t *data)
{
    size_t size = 0;
    for (uint32_t i = 0; i < mm->order.count; i++) {
        if (is_named(ab_mm_at(mm, i), n)) {
            ab_mm_have have = have_of(mm, ab_mm_at(mm, i), peer);
            size += ab_mm_encode_have(&have, data + size);
        }
    }
    if (folds > 0) {
        size += ab_mm_encode_folds_begin(folds, data + size);
    }
    for (uint32_t i = 0; i < mm->order.folds.count; i++) {
        if (is_fold_named(&mm->order.folds.items[i], peer, n)) {
            ab_mm_folded folded = ab_mm_folded_of(&mm->order.folds.items[i], peer);
            size += ab_mm_encode_folded(&folded, data + size);
        }
    }
    return size;
}

static void note_sent(ab_mm *mm, ab_mm_peer *peer, naming n, uint64_t now)
{
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        if (is_named(stream, n)) {
            stream->confirm &= ~n.bit;
            stream->gossip &= ~n.bit;
        }
    }
    for (uint32_t i = 0; i < mm->order.folds.count; i++) {
        mm->order.folds.items[i].owe &= ~n.bit;
    }
    if (n.tell) {
        peer->word_at = now + ab_mm_jitter(mm, peer->word_ms);
        peer->word_ms = ab_mm_double(mm, peer->word_ms);
    }
}

static int send_have(ab_mm *mm, ab_mm_peer *peer, naming n, uint64_t now, ab_actions *actions)
{
    uint32_t count = 0;
    uint32_t folds = 0;
    count_named(mm, peer, n, &count, &folds);
    uint8_t *data =
        malloc(AB_MM_MESSAGE_BYTES + (size_t)count * AB_MM_HAVE_BYTES + (size_t)folds * AB_MM_FOLDED_BYTES);
    if (data == NULL) {
        return AB_ENOMEM;
    }
    uint32_t flags = (n.full ? AB_MM_FULL : 0) | (n.full && (!peer->full || peer->ask) ? AB_MM_ASK : 0);
    size_t size = ab_mm_encode_have_begin(flags, count, folds > 0, data);
    size += encode_named(mm, peer, n, folds, data + size);
    ab_action message = {.type = AB_ACT_MESSAGE, .peer = peer->node, .data = {data, size}};
    int code = ab_actions_push(actions, &message);
    free(data);
    if (code == AB_OK) {
        note_sent(mm, peer, n, now);
    }
    return code;
}

static uint64_t named_bits(const ab_mm *mm, bool gossip)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < mm->order.count; i++) {
        bits |= gossip ? ab_mm_at(mm, i)->gossip : ab_mm_at(mm, i)->confirm;
    }
    for (uint32_t i = 0; !gossip && i < mm->order.folds.count; i++) {
        bits |= mm->order.folds.items[i].owe;
    }
    return bits;
}

static int send_full(ab_mm *mm, ab_mm_peer *peer, uint64_t now, ab_actions *actions)
{
    naming all = {ab_mm_bit(peer), true, true, ab_mm_has_to_tell(mm, peer)};
    int code = send_have(mm, peer, all, now, actions);
    if (code != AB_OK) {
        return code;
    }
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        stream->diverged_tell |= stream->diverged & ab_mm_bit(peer); /* the word of it may have got lost */
    }
    peer->owe_full = peer->ask = false;
    if (!peer->full) {
        peer->word_at = now + ab_mm_jitter(mm, peer->word_ms);
        peer->word_ms = ab_mm_double(mm, peer->word_ms);
    }
    return AB_OK;
}

int ab_mm_pump_have(ab_mm *mm, ab_mm_peer *peer, uint64_t now, ab_actions *actions)
{
    if (!peer->up) {
        return AB_OK;
    }
    if (peer->owe_full || (!peer->full && now >= peer->word_at)) {
        return send_full(mm, peer, now, actions);
    }
    uint64_t bit = ab_mm_bit(peer);
    bool gossip = now >= peer->gossip_at && (named_bits(mm, true) & bit) != 0;
    bool tell = now >= peer->word_at && ab_mm_has_to_tell(mm, peer);
    if (!gossip && !tell && (named_bits(mm, false) & bit) == 0) {
        return AB_OK;
    }
    int code = send_have(mm, peer, (naming){bit, false, gossip, tell}, now, actions);
    if (code == AB_OK && gossip) {
        peer->gossip_at = now + mm->gossip_ms * AB_MM_MS;
    }
    return code;
}

uint64_t ab_mm_have_deadline(const ab_mm *mm, const ab_mm_peer *peer)
{
    if (!peer->up) {
        return AB_NEVER;
    }
    uint64_t gossip = (named_bits(mm, true) & ab_mm_bit(peer)) != 0 ? peer->gossip_at : AB_NEVER;
    bool word = !peer->full || ab_mm_has_to_tell(mm, peer);
    return word && peer->word_at < gossip ? peer->word_at : gossip;
}
