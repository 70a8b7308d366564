/* SPDX-License-Identifier: Apache-2.0 */
/* What the multimaster core shows of itself. Part of the core: one call at a time, no I/O. */
#include "replication/multimaster/mm.h"

static int stream_code(const ab_mm *mm, const ab_mm_stream *stream)
{
    if (stream->diverged != 0 || ab_mm_rewind_pending(mm, stream) != NULL) {
        return AB_EDIVERGED;
    }
    if (stream->refused != AB_OK) {
        return stream->refused;
    }
    if (ab_mm_damaged(stream)) {
        return AB_ECORRUPT;
    }
    if (ab_order_has_gap(&stream->o) || stream->gone) {
        return AB_ETRIMMED;
    }
    for (const ab_mm_want *want = stream->wants; want != NULL; want = want->next) {
        if (want->told) {
            return AB_ETRIMMED;
        }
    }
    const ab_fold *fold = ab_folds_find(&mm->order.folds, stream->o.stream.node);
    if (fold != NULL && fold->lacks && fold->told) {
        return AB_ETRIMMED; /* older ones of its origin, of which entries are missing here, are folded away elsewhere */
    }
    return AB_OK;
}

void ab_mm_streams(const void *core, ab_stream_status_fn fn, void *arg)
{
    const ab_mm *mm = core;
    for (uint32_t i = 0; i < mm->order.count; i++) {
        const ab_mm_stream *stream = ab_mm_at(mm, i);
        ab_stream_status status = {.stream = stream->o.stream,
                                   .base = stream->o.base,
                                   .logged = stream->o.last,
                                   .durable = stream->o.durable,
                                   .applied = stream->o.applied,
                                   .safe = ab_mm_safe(mm, stream),
                                   .code = stream_code(mm, stream)};
        if (!fn(arg, &status)) {
            return;
        }
    }
}

static ab_peer_status peer_status(const ab_mm_peer *peer, const ab_mm_stream *stream)
{
    uint64_t mark = ab_mm_has(peer, stream);
    mark = mark == AB_NEVER ? stream->o.last : mark;
    ab_peer_status status = {.peer = peer->node,
                             .stream = stream->o.stream,
                             .up = peer->up,
                             .sync_index = mark,
                             .next = mark + 1,
                             .code = (stream->diverged & ab_mm_bit(peer)) != 0 ? AB_EDIVERGED : AB_OK};
    const ab_mm_sync *sync = ab_mm_sync_of(peer, stream);
    if (sync != NULL && sync->limit != 0) {
        status.next = sync->next;
        status.in_flight_bytes = sync->bytes;
        status.in_flight_blocks = sync->blocks;
        status.retries = sync->retries;
        status.code = status.code != AB_OK ? status.code : sync->code;
    }
    return status;
}

void ab_mm_peers(const void *core, ab_peer_status_fn fn, void *arg)
{
    const ab_mm *mm = core;
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        for (uint32_t k = 0; k < mm->order.count; k++) {
            ab_peer_status status = peer_status(&mm->peers[i], ab_mm_at(mm, k));
            if (!fn(arg, &status)) {
                return;
            }
        }
    }
}
