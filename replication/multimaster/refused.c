/* SPDX-License-Identifier: Apache-2.0 */
/* What the log does not take: its record of a stream is damaged, or its pages are. Part of the multimaster core: one call
 * at a time, no I/O.
 *
 * A received block is as if it had been lost on the way: it is asked for again, with growing pauses, for as long as it is
 * refused; the stream says so in its status. Of our own writes the stream is left, and a new one begun: what could not be
 * logged under the old name can be under another; of the copy of one (rewind.c) the same block is tried again. Only where
 * the very first block of a new stream is refused, too, writes stay refused until the group is opened again. */
#include "replication/multimaster/mm.h"

void ab_mm_refused(ab_mm *mm, ab_mm_stream *stream, const ab_event *event, uint64_t now)
{
    const ab_block_info *block = event->block;
    ab_mm_rewind *copying = ab_mm_rewind_of(mm, block->stream);
    copying = copying != NULL && copying->begun ? copying : NULL;
    if (ab_mm_repair_refused(mm, stream, block, now)) {
        return;
    }
    bool next_of_copy = copying != NULL && block->first == stream->accepted + 1; /* not before it is logged */
    if ((block->first > stream->accepted && !next_of_copy) || block->last <= stream->o.durable) {
        return; /* what came after a refused one, and may have come again since */
    }
    uint64_t last = block->first - 1;
    if (stream->o.last > last) {
        ab_order_cut(&stream->o, last, block->prev_hash);
    }
    stream->accepted = last;
    stream->accepted_hash = block->prev_hash;
    stream->accepted_known = true;
    stream->sealed = stream->sealed > last ? last : stream->sealed;
    stream->refused = event->code;
    stream->refused_ms = stream->refused_ms == 0 ? mm->retry_min_ms : ab_mm_double(mm, stream->refused_ms);
    stream->refused_at = now + ab_mm_jitter(mm, stream->refused_ms);
    if (copying != NULL) {
        copying->copy_again = stream->refused_at;
    }
    if (stream == mm->current) {
        mm->new_epoch = true;
        mm->closed = last == 0;
    }
}

/* Time to try again: whoever sent the block is told what comes next. */
void ab_mm_ask_again(ab_mm *mm, uint64_t now)
{
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        if (stream->refused_at != 0 && now >= stream->refused_at) {
            stream->refused_at = 0;
            stream->expect |= stream->owed;
        }
    }
}
