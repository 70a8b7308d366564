/* SPDX-License-Identifier: Apache-2.0 */
/* Two histories under one stream name. Part of the multimaster core: one call at a time, no I/O.
 *
 * It happens where a disk was rolled back under a node that was not told. The stream stops on that link until its origin has
 * found out where the two part and has logged again what its peers do not have (fork.c, rewind.c), or for as long as it
 * cannot; nothing of it is merged, and everything else goes on. Blocks that depend on it do not wait for it: what they
 * would wait for may never come. */
#include "replication/multimaster/mm.h"

/* Without its origin's history a stream does not go on here. */
void ab_mm_set_ignored(ab_mm *mm, ab_mm_stream *stream)
{
    const ab_mm_peer *origin = ab_mm_peer_of(mm, stream->o.stream.node);
    uint64_t counts = origin != NULL ? ab_mm_bit(origin) : stream->own ? UINT64_MAX : 0;
    stream->o.ignored = stream->apart || (stream->diverged & counts) != 0;
}

void ab_mm_diverge(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, uint64_t index, bool tell)
{
    uint64_t bit = ab_mm_bit(peer);
    if ((stream->diverged & bit) != 0) {
        return;
    }
    stream->diverged |= bit;
    stream->diverged_report |= bit;
    stream->diverged_tell |= tell ? bit : 0;
    stream->diverged_at = index;
    ab_mm_set_ignored(mm, stream);
}

void ab_mm_reconcile(ab_mm *mm, const ab_mm_peer *peer, ab_mm_stream *stream)
{
    stream->diverged &= ~ab_mm_bit(peer);
    stream->diverged_tell &= ~ab_mm_bit(peer);
    ab_mm_set_ignored(mm, stream);
}

/* A new link: look at the histories again, the peer may have been mended. */
void ab_mm_forgive(ab_mm *mm, ab_mm_peer *peer)
{
    uint64_t bit = ab_mm_bit(peer);
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        stream->diverged &= ~bit;
        stream->diverged_tell &= ~bit;
        if (stream->o.stream.node == peer->node) {
            stream->gone = stream->o.broken = false;
        }
        if (stream->quest != NULL) {
            stream->quest->fork_failed &= ~bit;
        }
        ab_mm_set_ignored(mm, stream);
    }
}

uint64_t ab_mm_known_hash(const ab_mm_stream *stream, uint64_t index)
{
    uint64_t ours = 0;
    if (index == stream->o.last) {
        ours = stream->o.last_hash;
    } else if (index == stream->accepted && stream->accepted_known) {
        ours = stream->accepted_hash;
    } else if (index == stream->o.base) {
        ours = stream->o.base_hash;
    }
    for (size_t i = 0; ours == 0 && i < stream->o.held_count; i++) {
        const ab_order_info *info = &stream->o.held[stream->o.held_start + i];
        ours = info->last == index ? info->hash : 0;
    }
    return ours;
}

bool ab_mm_same_history(const ab_mm_stream *stream, uint64_t index, uint64_t hash)
{
    uint64_t ours = index > 0 && hash != 0 ? ab_mm_known_hash(stream, index) : 0;
    return ours == 0 || ours == hash;
}

static int tell(ab_mm_peer *peer, ab_mm_stream *stream, ab_actions *actions)
{
    if ((stream->diverged_tell & ab_mm_bit(peer)) == 0 || !peer->up) {
        return AB_OK;
    }
    ab_mm_message message = {.kind = AB_MM_DIVERGED,
                             .stream = stream->o.stream,
                             .first = stream->diverged_at > 0 ? stream->diverged_at : 1,
                             .last = stream->rewound,
                             .hash = stream->diverged_at == stream->o.last ? stream->o.last_hash : 0};
    int code = ab_mm_send_message(&message, peer->node, actions);
    if (code == AB_OK) {
        stream->diverged_tell &= ~ab_mm_bit(peer);
    }
    return code;
}

static int report(ab_mm_peer *peer, ab_mm_stream *stream, ab_actions *actions)
{
    if ((stream->diverged_report & ab_mm_bit(peer)) == 0) {
        return AB_OK;
    }
    int code = ab_mm_report(AB_LOG_ERROR, AB_EDIVERGED, (ab_mark){stream->o.stream, stream->diverged_at},
                            peer->node, "the peer has another history of this stream: not merged", actions);
    if (code == AB_OK) {
        stream->diverged_report &= ~ab_mm_bit(peer);
    }
    return code;
}

int ab_mm_pump_diverged(ab_mm *mm, ab_mm_peer *peer, ab_actions *actions)
{
    int code = AB_OK;
    for (uint32_t i = 0; code == AB_OK && i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        code = report(peer, stream, actions);
        if (code == AB_OK) {
            code = tell(peer, stream, actions);
        }
    }
    return code;
}
