/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a peer's history of a stream is ours, before anything is trimmed on its word. Part of the multimaster core: one
 * call at a time, no I/O.
 *
 * A mark is a number: it says nothing of the history that it counts in. Where a disk went back, numbers of two histories look
 * alike, and trimming by them would lose what only one of them has. So over each new link one hash is compared: of where the
 * peer says it is, or of the block before the first one that comes from it. Later blocks are checked by their chain.
 *
 * It is asked of the peers where a stream is our own, and of its origin where it is not: only they can have another one. */
#include "replication/multimaster/mm.h"

static bool concerns(const ab_mm_peer *peer, const ab_mm_stream *stream)
{
    return stream->own || stream->o.stream.node == peer->node;
}

void ab_mm_doubt(ab_mm *mm, ab_mm_peer *peer)
{
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        stream->unproven |= concerns(peer, stream) && stream->o.last > 0 ? ab_mm_bit(peer) : 0;
        if (stream->quest != NULL && stream->quest->prove_bit == ab_mm_bit(peer)) {
            stream->quest->prove_index = stream->quest->prove_bit = 0;
        }
    }
}

void ab_mm_proven(ab_mm_stream *stream, const ab_mm_peer *peer)
{
    stream->unproven &= ~ab_mm_bit(peer);
}

/* One at a time: what there is no room for comes with what the peer says next. */
static void look_for(ab_mm_stream *stream, uint64_t bit, uint64_t index, uint64_t hash)
{
    ab_mm_quest *quest = ab_mm_quest_of(stream);
    if (quest != NULL && quest->prove_index == 0) {
        quest->prove_index = index;
        quest->prove_hash = hash;
        quest->prove_bit = bit;
        quest->prove_again = 0;
    }
}

/* The peer has a block of `hash` that ends at `index`. */
void ab_mm_check_point(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, uint64_t index, uint64_t hash)
{
    uint64_t bit = ab_mm_bit(peer);
    uint64_t ours = index > 0 && hash != 0 ? ab_mm_known_hash(stream, index) : 0;
    /* It has nothing, so nothing else; or what was trimmed in this run, after it was proven. */
    bool nothing_else =
        index == 0 || (index == stream->o.base && hash != 0 && stream->o.base_hash == 0 && ours == 0);
    if (ours != 0 && ours != hash) {
        ab_mm_diverge(mm, peer, stream, index, true);
    } else if (ours != 0 || nothing_else) {
        ab_mm_proven(stream, peer);
    } else if ((stream->unproven & bit) != 0 && hash != 0 && index > stream->o.base &&
               index < stream->o.last) {
        look_for(stream, bit, index, hash);
    }
}

int ab_mm_pump_prove(ab_mm_stream *stream, uint64_t now, ab_actions *actions)
{
    ab_mm_quest *quest = stream->quest;
    if (quest == NULL || quest->prove_index == 0 || now < quest->prove_again) {
        return AB_OK;
    }
    ab_action load = {.type = AB_ACT_LOAD, .mark = {stream->o.stream, quest->prove_index}, .blocks = 1};
    int code = ab_actions_push(actions, &load);
    if (code == AB_OK) {
        quest->prove_again = now + AB_ORDER_LOAD_LOST_NS;
    }
    return code;
}

void ab_mm_prove_loaded(ab_mm *mm, ab_mm_stream *stream, const ab_event *event)
{
    ab_mm_quest *quest = stream->quest;
    if (quest == NULL || quest->prove_index == 0 || quest->prove_again == 0 ||
        event->mark.index != quest->prove_index) {
        return;
    }
    uint64_t index = quest->prove_index;
    for (uint32_t i = 0; event->block_count > 0 && i < mm->peer_count; i++) {
        ab_mm_peer *peer = &mm->peers[i];
        const ab_block_info *block = &event->blocks[0];
        if (ab_mm_bit(peer) != quest->prove_bit) {
            continue;
        }
        if (block->last == index && block->hash == quest->prove_hash) {
            ab_mm_proven(stream, peer);
        } else {
            ab_mm_diverge(mm, peer, stream, index, true);
        }
    }
    quest->prove_index = quest->prove_bit = 0;
    ab_mm_quest_tidy(stream);
}

bool ab_mm_may_trim(ab_mm *mm, const ab_mm_stream *stream)
{
    const ab_mm_peer *origin = stream->own ? NULL : ab_mm_peer_of(mm, stream->o.stream.node);
    bool cut_off = origin != NULL && (!origin->up || !origin->full);
    return !cut_off && stream->unproven == 0 && stream->diverged == 0 && stream->behind == 0 &&
           ab_mm_rewind_pending(mm, stream) == NULL;
}
