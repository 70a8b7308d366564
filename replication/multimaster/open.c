/* SPDX-License-Identifier: Apache-2.0 */
/* What a multimaster core starts from, and its end. Part of the multimaster core: one call at a time, no I/O. */
#include "replication/backends.h"
#include "replication/epoch.h"
#include "replication/multimaster/mm.h"

#include "replication/planted.h"
#include <stdlib.h>

void ab_mm_destroy(void *opaque)
{
    ab_mm *mm = opaque;
    if (mm == NULL) {
        return;
    }
    for (uint32_t i = 0; i < mm->order.count; i++) {
        ab_mm_stream *stream = ab_mm_at(mm, i);
        ab_mm_wants_free(stream);
        ab_mm_quest_free(stream);
        ab_order_stream_clear(&stream->o);
        free(stream);
    }
    for (uint32_t i = 0; i < mm->peer_count; i++) {
        free(mm->peers[i].syncs);
        ab_marks_free(&mm->peers[i].marks);
        ab_marks_free(&mm->peers[i].pending);
        ab_folds_free(&mm->peers[i].folds);
    }
    ab_mm_rewinds_free(mm);
    ab_order_free(&mm->order);
    ab_reads_free(&mm->reads);
    ab_marks_free(&mm->carried);
    ab_marks_free(&mm->sealing);
    ab_marks_free(&mm->left);
    free(mm);
}

static bool is_valid(const ab_core_init *init)
{
    bool member = false;
    for (size_t i = 0; i < init->member_count; i++) {
        if (init->members[i].node == 0 || (i > 0 && init->members[i - 1].node >= init->members[i].node)) {
            return false;
        }
        member |= init->members[i].node == init->self;
    }
    return member && init->member_count <= AB_MEMBERS_MAX && init->window_blocks > 0 &&
           init->window_bytes > 0 && init->retry_min_ms > 0 && init->retry_max_ms >= init->retry_min_ms &&
           ab_frontier_valid(init->applied);
}

static void make_peers(ab_mm *mm, const ab_core_init *init)
{
    for (size_t i = 0; i < init->member_count; i++) {
        if (init->members[i].node == init->self) {
            mm->self_position = (uint8_t)i;
            continue;
        }
        mm->peers[mm->peer_count++] = (ab_mm_peer){.node = init->members[i].node,
                                                   .position = (uint8_t)i,
                                                   .active = init->members[i].state == AB_MEMBER_ACTIVE,
                                                   .word_at = AB_NEVER};
    }
}

static int load_streams(ab_mm *mm, const ab_core_init *init, ab_frontier applied)
{
    ab_mm_stream *stream = NULL;
    for (size_t i = 0; i < init->stream_count; i++) {
        if (ab_folds_has(&mm->order.folds, init->streams[i].stream)) {
            continue;
        }
        int code = ab_mm_stream_of(mm, init->streams[i].stream, &stream);
        if (code != AB_OK) {
            return code;
        }
        ab_order_open(&stream->o, &init->streams[i]);
        stream->accepted = stream->sealed = stream->acked = stream->o.last;
        stream->accepted_hash = stream->o.last_hash;
    }
    for (size_t i = 0; i < applied.count; i++) {
        if (ab_folds_has(&mm->order.folds, applied.marks[i].stream)) {
            continue;
        }
        int code = ab_mm_stream_of(mm, applied.marks[i].stream, &stream);
        if (code != AB_OK) {
            return code;
        }
        stream->o.given = stream->o.applied = stream->o.checkpointed = applied.marks[i].index;
    }
    return AB_OK;
}

/* Streams as the log has them, and what the state machine has of them, which it may know by older names. */
static int load(ab_mm *mm, const ab_core_init *init)
{
    ab_marks applied = {0};
    int code = ab_mm_rewinds_load(mm, init);
    if (code == AB_OK) {
        code = ab_marks_copy(&applied, init->applied);
    }
    if (code == AB_OK) {
        code = ab_mm_translate(mm, &applied);
    }
    if (code == AB_OK) {
        code = load_streams(mm, init, ab_marks_view(&applied));
    }
    if (code == AB_OK) {
        ab_mm_rewinds_recall(mm, init->applied);
        ab_mm_rewinds_settle(mm, init->applied);
    }
    ab_marks_free(&applied);
    return code;
}

static int load_epoch(ab_mm *mm, const ab_core_init *init)
{
    uint32_t epoch = 0;
    ab_core_init trusting = *init;
    trusting.tail_safe |= ab_planted(AB_PLANTED_INDEX_REUSE);
    if (trusting.wall_seconds <=
        mm->seen_epoch) { /* a copy's epoch is taken, before anything of it is logged */
        trusting.wall_seconds = mm->seen_epoch + 1;
    }
    int code = ab_epoch_choose(&trusting, &epoch, &mm->kept);
    if (code == AB_OK) {
        code = ab_mm_stream_of(mm, (ab_stream){init->self, epoch}, &mm->current);
    }
    mm->seen_epoch = epoch > mm->seen_epoch ? epoch : mm->seen_epoch;
    mm->certain =
        mm->kept || !init->tail_safe; /* in doubt at the next start, too, unless this one is kept by then */
    return code;
}

int ab_mm_create(const ab_core_init *init, void **core)
{
    if (!is_valid(init)) {
        return AB_EINVAL;
    }
    ab_mm *mm = calloc(1, sizeof *mm + (init->member_count - 1) * sizeof mm->peers[0]);
    if (mm == NULL) {
        return AB_ENOMEM;
    }
    mm->self = init->self;
    mm->causal = init->apply_order == AB_APPLY_CAUSAL;
    mm->order.causal = mm->causal && !ab_planted(AB_PLANTED_NO_CAUSAL);
    mm->random = init->seed;
    mm->window_blocks = init->window_blocks;
    mm->window_bytes = init->window_bytes;
    mm->retry_min_ms = init->retry_min_ms;
    mm->retry_max_ms = init->retry_max_ms;
    mm->gossip_ms = init->gossip_ms;
    mm->wall_seconds = init->wall_seconds;
    mm->trim_at = mm->again_at = mm->stuck_at = AB_NEVER;
    make_peers(mm, init);
    int code = ab_folds_load(&mm->order.folds, init, &mm->left);
    if (code == AB_OK) {
        code = load(mm, init);
    }
    if (code == AB_OK) {
        code = load_epoch(mm, init);
    }
    if (code == AB_OK) {
        ab_mm_rewinds_resume(mm);
    }
    if (code != AB_OK) {
        ab_mm_destroy(mm);
        return code;
    }
    *core = mm;
    return AB_OK;
}
