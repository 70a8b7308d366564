/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of streams that got another history, and what a state machine's frontier of before means (rewind.c has the
 * rest). Part of the multimaster core: one call at a time, no I/O. */
#include "replication/multimaster/mm.h"

#include "replication/planted.h"
#include "wal/block.h"
#include "wal/bytes.h"
#include <stdlib.h>
#include <string.h>

#define KEY_PREFIX "rewind"
#define KEY_SIZE (sizeof KEY_PREFIX - 1 + 8)
#define VALUE_SIZE (AB_BLOCK_ORIGIN_BYTES + 9u) /* the origin, u64 applied, flags */
#define FLAG_DONE 1u
#define FLAG_BEGUN 2u

/* Records */

static void encode_key(const ab_mm_rewind *rewind, uint8_t key[KEY_SIZE])
{
    memcpy(key, KEY_PREFIX, sizeof KEY_PREFIX - 1);
    ab_put_le32(key + KEY_SIZE - 8, rewind->stream.node);
    ab_put_le32(key + KEY_SIZE - 4, rewind->epoch);
}

static void encode_value(const ab_mm_rewind *rewind, uint8_t value[VALUE_SIZE])
{
    ab_block_origin_write(value, &rewind->origin);
    ab_put_le64(value + AB_BLOCK_ORIGIN_BYTES, rewind->applied);
    value[VALUE_SIZE - 1] = (uint8_t)((rewind->done ? FLAG_DONE : 0) | (rewind->begun ? FLAG_BEGUN : 0));
}

int ab_mm_rewind_persist(const ab_mm_rewind *rewind, ab_actions *actions)
{
    uint8_t key[KEY_SIZE];
    uint8_t value[VALUE_SIZE];
    encode_key(rewind, key);
    encode_value(rewind, value);
    ab_action keep = {.type = AB_ACT_PERSIST, .key = {key, sizeof key}, .data = {value, sizeof value}};
    return ab_actions_push(actions, &keep);
}

static bool decode(const ab_state_value *state, ab_mm_rewind *rewind)
{
    const uint8_t *key = state->key.data;
    const uint8_t *value = state->value.data;
    if (state->value.size != VALUE_SIZE) {
        return false;
    }
    *rewind = (ab_mm_rewind){.epoch = ab_get_le32(key + KEY_SIZE - 4),
                             .applied = ab_get_le64(value + AB_BLOCK_ORIGIN_BYTES),
                             .done = (value[VALUE_SIZE - 1] & FLAG_DONE) != 0,
                             .begun = (value[VALUE_SIZE - 1] & FLAG_BEGUN) != 0,
                             .stored = true};
    ab_block_origin_read(value, &rewind->origin);
    rewind->stream = (ab_stream){ab_get_le32(key + KEY_SIZE - 8), rewind->origin.epoch};
    return rewind->stream.node != 0 && rewind->origin.epoch != 0 && rewind->epoch > rewind->origin.epoch;
}

ab_mm_rewind *ab_mm_rewind_of(const ab_mm *mm, ab_stream copy)
{
    ab_mm_rewind *rewind = mm->rewinds;
    while (rewind != NULL && (rewind->stream.node != copy.node || rewind->epoch != copy.epoch)) {
        rewind = rewind->next;
    }
    return rewind;
}

/* Adds a record, in the order of the copies' epochs, and its two streams. */
int ab_mm_rewind_add(ab_mm *mm, const ab_mm_rewind *record, ab_mm_rewind **added)
{
    ab_mm_stream *stream = NULL;
    ab_mm_stream *copy = NULL;
    int code = ab_mm_stream_of(mm, record->stream, &stream);
    if (code == AB_OK) {
        code = ab_mm_stream_of(mm, (ab_stream){record->stream.node, record->epoch}, &copy);
    }
    ab_mm_rewind *rewind = code == AB_OK ? malloc(sizeof *rewind) : NULL;
    if (rewind == NULL) {
        return code == AB_OK ? AB_ENOMEM : code;
    }
    ab_mm_rewind **link = &mm->rewinds;
    while (*link != NULL && (*link)->epoch < record->epoch) {
        link = &(*link)->next;
    }
    *rewind = *record;
    rewind->next = *link;
    *link = rewind;
    if (record->done) {
        stream->rewound = record->epoch > stream->rewound ? record->epoch : stream->rewound;
    } else {
        copy->o.shut = true;
    }
    *added = rewind;
    return AB_OK;
}

int ab_mm_rewinds_load(ab_mm *mm, const ab_core_init *init)
{
    for (size_t i = 0; i < init->state_count; i++) {
        const ab_state_value *state = &init->state[i];
        ab_mm_rewind record;
        ab_mm_rewind *added = NULL;
        if (state->key.size != KEY_SIZE || memcmp(state->key.data, KEY_PREFIX, sizeof KEY_PREFIX - 1) != 0) {
            continue;
        }
        if (!decode(state, &record)) {
            return AB_ECORRUPT;
        }
        bool folded =
            ab_folds_has(&mm->order.folds, record.stream); /* its forgetting did not get to the disk */
        int code = folded ? AB_OK : ab_mm_rewind_add(mm, &record, &added);
        if (code != AB_OK) {
            return code;
        }
        if (record.stream.node == mm->self && record.epoch > mm->seen_epoch) {
            mm->seen_epoch = record.epoch;
        }
    }
    return AB_OK;
}

void ab_mm_rewinds_resume(ab_mm *mm)
{
    for (const ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        ab_mm_stream *stream = ab_mm_find(mm, rewind->stream);
        if (!rewind->begun || rewind->done) {
            continue;
        }
        uint64_t end = rewind->origin.end != 0 ? rewind->origin.end : stream->o.last;
        ab_mm_find(mm, (ab_stream){mm->self, rewind->epoch})->sealed = end - rewind->origin.fork;
        mm->new_epoch |= stream == mm->current;
    }
}

void ab_mm_rewinds_free(ab_mm *mm)
{
    while (mm->rewinds != NULL) {
        ab_mm_rewind *next = mm->rewinds->next;
        free(mm->rewinds);
        mm->rewinds = next;
    }
}

int ab_mm_rewinds_drop(ab_mm *mm, ab_stream stream, ab_actions *actions)
{
    for (ab_mm_rewind **link = &mm->rewinds; *link != NULL;) {
        ab_mm_rewind *rewind = *link;
        if (ab_stream_compare(rewind->stream, stream) != 0) {
            link = &rewind->next;
            continue;
        }
        uint8_t key[KEY_SIZE];
        encode_key(rewind, key);
        ab_action forget = {.type = AB_ACT_PERSIST, .key = {key, sizeof key}};
        int code = ab_actions_push(actions, &forget);
        if (code != AB_OK) {
            return code;
        }
        *link = rewind->next;
        free(rewind);
    }
    return AB_OK;
}

ab_mm_rewind *ab_mm_rewind_pending(const ab_mm *mm, const ab_mm_stream *stream)
{
    for (ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        bool same = ab_stream_compare(rewind->stream, stream->o.stream) == 0;
        if (same && !rewind->done && rewind->origin.rewound == stream->rewound) {
            return rewind;
        }
    }
    return NULL;
}

/* What a state machine stored before the rewind is in the old history's terms: beyond the fork, without the copy. One that
 * had nothing beyond the fork then has stored nothing of the old history's. */
static bool is_of_old(const ab_mm_rewind *rewind, uint64_t index, uint64_t copied)
{
    return rewind->done && rewind->applied > rewind->origin.fork && index > rewind->origin.fork &&
           copied == 0 && !ab_planted(AB_PLANTED_UNTRANSLATED);
}

int ab_mm_translate(const ab_mm *mm, ab_marks *marks)
{
    int code = AB_OK;
    for (const ab_mm_rewind *rewind = mm->rewinds; code == AB_OK && rewind != NULL; rewind = rewind->next) {
        ab_stream copy = {rewind->stream.node, rewind->epoch};
        uint64_t index = ab_marks_get(marks, rewind->stream);
        if (!is_of_old(rewind, index, ab_marks_get(marks, copy))) {
            continue;
        }
        code = ab_marks_set(marks, (ab_mark){copy, index - rewind->origin.fork});
        if (code == AB_OK) {
            code = ab_marks_set(marks, (ab_mark){rewind->stream, rewind->origin.fork});
        }
    }
    return code;
}

/* A state machine that has, after a restart, nothing beyond the fork and nothing of the copy is given all of it again. What it
 * stores from then on may look like a frontier of the old history, so the record must stop saying that there is one: on
 * disk, before anything beyond the fork is given. */
static void void_if_stale(ab_mm *mm, ab_mm_rewind *rewind, ab_frontier applied)
{
    uint64_t fork = rewind->origin.fork;
    ab_stream copy = {rewind->stream.node, rewind->epoch};
    if (!rewind->done || rewind->applied <= fork || ab_frontier_get(applied, copy) > 0 ||
        ab_frontier_get(applied, rewind->stream) > fork) {
        return;
    }
    rewind->voiding = true;
    ab_mm_find(mm, rewind->stream)->o.shut = true;
}

int ab_mm_rewind_push(const ab_mm_rewind *record, uint64_t index, uint64_t hash, ab_actions *actions)
{
    uint8_t key[KEY_SIZE];
    uint8_t value[VALUE_SIZE];
    encode_key(record, key);
    encode_value(record, value);
    ab_action action = {.type = AB_ACT_REWIND,
                        .mark = {record->stream, index},
                        .hash = hash,
                        .key = {key, sizeof key},
                        .data = {value, sizeof value}};
    return ab_actions_push(actions, &action);
}

int ab_mm_rewind_pump_void(ab_mm_rewind *rewind, ab_actions *actions)
{
    ab_mm_rewind record = *rewind;
    record.applied = 0;
    int code = rewind->sent
                   ? AB_OK
                   : ab_mm_rewind_push(&record, AB_NEVER - 1, 0, actions); /* of nothing: for its answer */
    rewind->sent |= code == AB_OK;
    return code;
}

void ab_mm_rewind_voided(ab_mm *mm, ab_mm_rewind *rewind)
{
    rewind->voiding = rewind->sent = false;
    rewind->applied = 0;
    for (const ab_mm_rewind *other = mm->rewinds; other != NULL; other = other->next) {
        if (other->voiding && ab_stream_compare(other->stream, rewind->stream) == 0) {
            return; /* one after the other: the answers come in order */
        }
    }
    ab_mm_find(mm, rewind->stream)->o.shut = false;
}

/* After a restart: the driver counts as its state machine told it. */
void ab_mm_rewinds_recall(ab_mm *mm, ab_frontier applied)
{
    for (ab_mm_rewind *rewind = mm->rewinds; rewind != NULL; rewind = rewind->next) {
        ab_stream copy = {rewind->stream.node, rewind->epoch};
        const ab_mm_stream *stream = ab_mm_find(mm, copy);
        rewind->move =
            rewind->done && ab_frontier_get(applied, copy) == 0 && stream != NULL && stream->o.applied > 0;
        rewind->moved_to = rewind->move ? stream->o.applied : 0;
        void_if_stale(mm, rewind, applied);
    }
}
