/* SPDX-License-Identifier: Apache-2.0 */
/* How far streams may be trimmed. Part of the multimaster core: one call at a time, no I/O.
 *
 * Safe is what every active member has durable, we among them, and what our own state machine has durable. A member that
 * was never heard of a stream counts as having nothing of it, and so does one whose history may be another (prove.c). */
#include "replication/multimaster/mm.h"

#include "replication/planted.h"

uint64_t ab_mm_safe(const ab_mm *mm, const ab_mm_stream *stream)
{
    uint64_t safe = stream->o.durable < stream->o.checkpointed ? stream->o.durable : stream->o.checkpointed;
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        const ab_mm_peer *peer = &mm->peers[i];
        if (!peer->active || (i == 0 && ab_planted(AB_PLANTED_TRIM_BEYOND))) {
            continue;
        }
        uint64_t has = ab_mm_safe_at(mm, peer, stream);
        safe = has < safe ? has : safe;
    }
    return safe;
}

void ab_mm_trim_soon(ab_mm *mm, uint64_t now)
{
    if (mm->trim_at == AB_NEVER) {
        mm->trim_at = now + mm->gossip_ms * AB_MM_MS;
    }
}

/* The trim is the last thing that activity leads to: a group that goes idle keeps little. */
static void tidy(ab_mm *mm)
{
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        ab_mm_sync_tidy(&mm->peers[i]);
    }
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_quest_tidy(ab_mm_at(mm, i));
    }
    ab_marks_free(&mm->sealing);
}

int ab_mm_pump_trim(ab_mm *mm, uint64_t now, ab_actions *actions)
{
    if (now < mm->trim_at) {
        return AB_OK;
    }
    int code = ab_mm_look_at_folds(mm, actions);
    if (code != AB_OK) {
        return code;
    }
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        uint64_t safe = ab_mm_safe(mm, stream);
        if (safe <= stream->o.base || !ab_mm_may_trim(mm, stream)) {
            continue;
        }
        ab_action trim = {.type = AB_ACT_TRIM, .mark = {stream->o.stream, safe}};
        code = ab_actions_push(actions, &trim);
        if (code != AB_OK) {
            return code;
        }
        stream->o.base = safe;
        stream->o.base_hash = 0;
    }
    code = ab_mm_pump_fold(mm, now, actions);
    if (code != AB_OK) {
        return code;
    }
    mm->trim_at = AB_NEVER;
    tidy(mm);
    return AB_OK;
}
