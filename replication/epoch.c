/* SPDX-License-Identifier: Apache-2.0 */
/* Which epoch a member writes in. Pure functions, any thread. */
#include "replication/epoch.h"

#include "replication/folds.h"
#include "replication/frontier.h"
#include "wal/bytes.h"
#include <string.h>

static int stored_epoch(const ab_core_init *init, uint32_t *epoch)
{
    *epoch = 0;
    for (size_t i = 0; i < init->state_count; i++) {
        const ab_state_value *state = &init->state[i];
        if (state->key.size != strlen(AB_EPOCH_KEY) ||
            memcmp(state->key.data, AB_EPOCH_KEY, state->key.size) != 0) {
            continue;
        }
        if (state->value.size != 4) {
            return AB_ECORRUPT;
        }
        *epoch = ab_get_le32(state->value.data);
        return *epoch == 0 ? AB_ECORRUPT : AB_OK;
    }
    return AB_OK;
}

static uint64_t last_in_log(const ab_core_init *init, ab_stream stream)
{
    for (size_t i = 0; i < init->stream_count; i++) {
        const ab_stream_state *state = &init->streams[i];
        if (state->stream.node == stream.node && state->stream.epoch == stream.epoch) {
            return state->last;
        }
    }
    return 0;
}

/* The highest epoch of ours that log or state machine has or that was folded away. */
static uint32_t highest_seen(const ab_core_init *init)
{
    uint32_t seen = ab_folds_stored(init, init->self);
    for (size_t i = 0; i < init->stream_count; i++) {
        ab_stream stream = init->streams[i].stream;
        seen = stream.node == init->self && stream.epoch > seen ? stream.epoch : seen;
    }
    for (size_t i = 0; i < init->applied.count; i++) {
        ab_stream stream = init->applied.marks[i].stream;
        seen = stream.node == init->self && stream.epoch > seen ? stream.epoch : seen;
    }
    return seen;
}

int ab_epoch_after(uint32_t current, uint32_t seen, uint32_t wall_seconds, uint32_t *epoch)
{
    uint32_t above = current > seen ? current : seen;
    if (above == UINT32_MAX) {
        return AB_ECORRUPT;
    }
    *epoch = above + 1 > wall_seconds ? above + 1 : wall_seconds;
    return AB_OK;
}

int ab_epoch_choose(const ab_core_init *init, uint32_t *epoch, bool *kept)
{
    uint32_t stored = 0;
    int code = stored_epoch(init, &stored);
    if (code != AB_OK) {
        return code;
    }
    uint32_t seen = highest_seen(init);
    ab_stream stream = {init->self, stored};
    *kept = init->tail_safe && stored != 0 && stored >= seen && stored > ab_folds_stored(init, init->self) &&
            ab_frontier_get(init->applied, stream) <= last_in_log(init, stream);
    if (*kept) {
        *epoch = stored;
        return AB_OK;
    }
    return ab_epoch_after(stored, seen, init->wall_seconds, epoch);
}

int ab_epoch_announce(ab_mark from, uint64_t hash, bool persist, ab_actions *actions)
{
    int code = AB_OK;
    if (persist) {
        uint8_t value[4];
        ab_put_le32(value, from.stream.epoch);
        ab_action keep = {.type = AB_ACT_PERSIST,
                          .key = {AB_EPOCH_KEY, strlen(AB_EPOCH_KEY)},
                          .data = {value, sizeof value}};
        code = ab_actions_push(actions, &keep);
    }
    if (code == AB_OK) {
        ab_action append = {.type = AB_ACT_APPEND, .mark = from, .hash = hash, .code = AB_OK};
        code = ab_actions_push(actions, &append);
    }
    return code;
}
