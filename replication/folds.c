/* SPDX-License-Identifier: Apache-2.0 */
/* Old streams that are folded away. Part of a core: one call at a time, no I/O. */
#include "replication/folds.h"

#include "wal/block.h"
#include "wal/bytes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_PREFIX (sizeof AB_FOLD_KEY - 1)

void ab_folds_free(ab_folds *folds)
{
    free(folds->items);
    memset(folds, 0, sizeof *folds);
}

static uint32_t lower_bound(const ab_folds *folds, uint32_t node)
{
    uint32_t position = 0; /* a group has few members */
    while (position < folds->count && folds->items[position].node < node) {
        position++;
    }
    return position;
}

ab_fold *ab_folds_find(const ab_folds *folds, uint32_t node)
{
    uint32_t position = lower_bound(folds, node);
    return position < folds->count && folds->items[position].node == node ? &folds->items[position] : NULL;
}

int ab_folds_of(ab_folds *folds, uint32_t node, ab_fold **found)
{
    *found = ab_folds_find(folds, node);
    if (*found != NULL) {
        return AB_OK;
    }
    if (folds->count == AB_MARKS_MAX) {
        return AB_ETOOBIG;
    }
    if (folds->count == folds->capacity) {
        uint32_t capacity = folds->capacity == 0 ? 1 : folds->capacity * 2;
        ab_fold *items = realloc(folds->items, capacity * sizeof *items);
        if (items == NULL) {
            return AB_ENOMEM;
        }
        folds->items = items;
        folds->capacity = capacity;
    }
    uint32_t position = lower_bound(folds, node);
    ab_fold *fold = &folds->items[position];
    memmove(fold + 1, fold, (folds->count - position) * sizeof *fold);
    folds->count++;
    *fold = (ab_fold){.node = node};
    *found = fold;
    return AB_OK;
}

bool ab_folds_has(const ab_folds *folds, ab_stream stream)
{
    const ab_fold *fold = ab_folds_find(folds, stream.node);
    return fold != NULL && stream.epoch <= fold->epoch;
}

bool ab_folds_hold(const ab_folds *folds, ab_stream stream)
{
    const ab_fold *fold = ab_folds_find(folds, stream.node);
    return fold != NULL && stream.epoch <= fold->epoch && !fold->gap;
}

bool ab_folds_cover(const ab_folds *folds, ab_mark mark)
{
    const ab_fold *fold = ab_folds_find(folds, mark.stream.node);
    if (fold == NULL || mark.stream.epoch > fold->epoch || fold->gap) {
        return false;
    }
    if (mark.stream.epoch >= fold->mark_epoch) {
        return mark.index <= (mark.stream.epoch == fold->mark_epoch ? fold->mark_index : 0);
    }
    return mark.index <= fold->total;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

void ab_fold_add(ab_fold *fold, uint32_t epoch, uint64_t last, uint64_t last_hash)
{
    fold->epoch = epoch;
    if (last > 0) { /* one without entries is not known to everybody, and makes no difference */
        fold->mark_epoch = epoch;
        fold->mark_index = last;
        fold->total += last;
        fold->hash = mix(mix(mix(fold->hash, epoch), last), last_hash);
    }
}

/* What is kept: epoch, mark epoch, mark index, total, hash; little-endian */

static void encode(const ab_fold *fold, uint8_t value[AB_FOLD_BYTES])
{
    ab_put_le32(value, fold->epoch);
    ab_put_le32(value + 4, fold->mark_epoch);
    ab_put_le64(value + 8, fold->mark_index);
    ab_put_le64(value + 16, fold->total);
    ab_put_le64(value + 24, fold->hash);
}

static bool decode(ab_bytes value, ab_fold *fold)
{
    const uint8_t *from = value.data;
    if (value.size != AB_FOLD_BYTES) {
        return false;
    }
    fold->epoch = ab_get_le32(from);
    fold->mark_epoch = ab_get_le32(from + 4);
    fold->mark_index = ab_get_le64(from + 8);
    fold->total = ab_get_le64(from + 16);
    fold->hash = ab_get_le64(from + 24);
    return fold->epoch != 0 && fold->mark_epoch <= fold->epoch && fold->mark_index <= fold->total &&
           (fold->mark_epoch == 0) == (fold->mark_index == 0);
}

/* Whether the key is that of a fold, of which node; 0: the key makes no sense. */
static bool is_fold(ab_bytes key, uint32_t *node)
{
    const char *digits = (const char *)key.data + KEY_PREFIX;
    uint64_t number = 0;
    if (key.size < KEY_PREFIX || memcmp(key.data, AB_FOLD_KEY, KEY_PREFIX) != 0) {
        return false;
    }
    *node = 0;
    for (size_t i = 0; i < key.size - KEY_PREFIX; i++) {
        if (digits[i] < '0' || digits[i] > '9' || number > UINT32_MAX) {
            return true;
        }
        number = number * 10 + (uint64_t)(digits[i] - '0');
    }
    *node = number <= UINT32_MAX ? (uint32_t)number : 0;
    return true;
}

uint32_t ab_folds_stored(const ab_core_init *init, uint32_t node)
{
    uint32_t of = 0;
    ab_fold fold = {.node = node};
    for (size_t i = 0; i < init->state_count; i++) {
        if (is_fold(init->state[i].key, &of) && of == node && decode(init->state[i].value, &fold)) {
            return fold.epoch;
        }
    }
    return 0;
}

static int load_record(ab_folds *folds, const ab_state_value *state)
{
    uint32_t node = 0;
    ab_fold *fold = NULL;
    if (!is_fold(state->key, &node)) {
        return AB_OK;
    }
    if (node == 0) {
        return AB_ECORRUPT;
    }
    int code = ab_folds_of(folds, node, &fold);
    if (code == AB_OK && !decode(state->value, fold)) {
        code = AB_ECORRUPT;
    }
    return code;
}

/* The frontier that the state machine was given keeps, of the folded streams of an origin, the mark of the last one that has
 * entries: so one that has lost them shows. Marks of earlier ones are there until the driver has forgotten them. */
static int look_at_frontier(ab_folds *folds, ab_frontier applied, ab_marks *left)
{
    int code = AB_OK;
    for (uint32_t i = 0; i < folds->count; i++) {
        ab_fold *fold = &folds->items[i];
        fold->gap = ab_frontier_get(applied, (ab_stream){fold->node, fold->mark_epoch}) < fold->mark_index;
    }
    for (size_t i = 0; code == AB_OK && i < applied.count; i++) {
        const ab_fold *fold = ab_folds_find(folds, applied.marks[i].stream.node);
        if (fold != NULL && applied.marks[i].stream.epoch < fold->mark_epoch) {
            code = ab_marks_set(left, (ab_mark){{fold->node, fold->epoch}, 1});
        }
    }
    return code;
}

int ab_folds_load(ab_folds *folds, const ab_core_init *init, ab_marks *left)
{
    int code = AB_OK;
    for (size_t i = 0; code == AB_OK && i < init->state_count; i++) {
        code = load_record(folds, &init->state[i]);
    }
    if (code == AB_OK) {
        code = look_at_frontier(folds, init->applied, left);
    }
    for (size_t i = 0; code == AB_OK && i < init->stream_count; i++) {
        if (ab_folds_has(folds, init->streams[i].stream)) {
            code = ab_marks_set(left, (ab_mark){init->streams[i].stream, 1});
        }
    }
    return code;
}

static int push_forget(const ab_fold *fold, ab_stream stream, ab_actions *actions)
{
    ab_action forget = {.type = AB_ACT_FORGET, .mark = {stream, 0}, .first = fold->mark_epoch};
    return ab_actions_push(actions, &forget);
}

static int report_gap(const ab_fold *fold, ab_actions *actions)
{
    static const char text[] = "old streams up to this one are folded away, and the state machine does not "
                               "have them: it needs a snapshot";
    ab_action report = {.type = AB_ACT_REPORT,
                        .severity = AB_LOG_ERROR,
                        .code = AB_ETRIMMED,
                        .mark = {{fold->node, fold->mark_epoch}, fold->mark_index},
                        .data = {text, sizeof text - 1}};
    return fold->gap ? ab_actions_push(actions, &report) : AB_OK;
}

int ab_folds_push_left(const ab_folds *folds, ab_marks *left, ab_actions *actions)
{
    int code = AB_OK;
    for (uint32_t i = 0; code == AB_OK && i < left->count; i++) {
        ab_stream stream = left->marks[i].stream;
        code = push_forget(ab_folds_find(folds, stream.node), stream, actions);
    }
    for (uint32_t i = 0; code == AB_OK && i < folds->count; i++) {
        code = report_gap(&folds->items[i], actions);
    }
    if (code == AB_OK) {
        ab_marks_free(left);
    }
    return code;
}

int ab_fold_push(const ab_fold *fold, ab_actions *actions)
{
    uint8_t value[AB_FOLD_BYTES];
    char key[AB_STATE_KEY_MAX];
    encode(fold, value);
    int length = snprintf(key, sizeof key, AB_FOLD_KEY "%u", fold->node);
    ab_action keep = {.type = AB_ACT_PERSIST, .key = {key, (size_t)length}, .data = {value, sizeof value}};
    int code = ab_actions_push(actions, &keep);
    return code == AB_OK ? push_forget(fold, (ab_stream){fold->node, fold->epoch}, actions) : code;
}
