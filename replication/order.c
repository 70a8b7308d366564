/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which blocks are given to the state machine. Part of a core: one call at a time, no I/O. */
#include "replication/order.h"

#include "replication/planted.h"
#include "wal/block.h"
#include <stdlib.h>
#include <string.h>

void ab_order_free(ab_order *order)
{
    free(order->streams);
    free(order->ring);
    ab_folds_free(&order->folds);
    memset(order, 0, sizeof *order);
}

static ab_order_info *held_at(const ab_order_stream *stream, size_t position)
{
    return &stream->held[stream->held_start + position];
}

static void drop_held(ab_order_stream *stream)
{
    for (size_t i = 0; i < stream->held_count; i++) {
        free(held_at(stream, i)->deps);
    }
    free(stream->held);
    stream->held = NULL;
    stream->held_start = stream->held_count = stream->held_capacity = 0;
}

void ab_order_stream_clear(ab_order_stream *stream)
{
    drop_held(stream);
}

static size_t lower_bound(const ab_order *order, ab_stream stream)
{
    size_t low = 0;
    size_t high = order->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ab_stream_compare(order->streams[middle]->stream, stream) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

ab_order_stream *ab_order_find(const ab_order *order, ab_stream stream)
{
    size_t position = lower_bound(order, stream);
    if (position == order->count || ab_stream_compare(order->streams[position]->stream, stream) != 0) {
        return NULL;
    }
    return order->streams[position];
}

int ab_order_add(ab_order *order, ab_order_stream *stream)
{
    if (order->count == AB_MARKS_MAX) {
        return AB_ETOOBIG;
    }
    if (order->count == order->capacity) {
        uint32_t capacity = order->capacity == 0 ? 3 : order->capacity * 2;
        ab_order_stream **streams = realloc(order->streams, capacity * sizeof(ab_order_stream *));
        if (streams == NULL) {
            return AB_ENOMEM;
        }
        order->streams = streams;
        order->capacity = capacity;
    }
    size_t position = lower_bound(order, stream->stream);
    memmove(&order->streams[position + 1], &order->streams[position],
            (order->count - position) * sizeof(ab_order_stream *));
    order->streams[position] = stream;
    order->count++;
    stream->ended = AB_NEVER;
    return AB_OK;
}

void ab_order_remove(ab_order *order, const ab_order_stream *stream)
{
    size_t position = lower_bound(order, stream->stream);
    order->count--;
    memmove(&order->streams[position], &order->streams[position + 1],
            (order->count - position) * sizeof(ab_order_stream *));
}

bool ab_order_is_over(const ab_order *order, const ab_order_stream *stream)
{
    uint64_t end = stream->ended;
    if (stream->last != end || stream->durable != end || stream->checkpointed < end ||
        stream->applied < end || stream->given < end) {
        return false;
    }
    for (uint32_t i = 0; i < order->ring_count; i++) {
        if (order->ring[(order->ring_start + i) % AB_ORDER_GIVEN].stream == stream) {
            return false;
        }
    }
    return stream->held_count == 0 && stream->load_at == 0 && stream->bad_first == 0 && !stream->ignored;
}

void ab_order_open(ab_order_stream *stream, const ab_stream_state *state)
{
    stream->base = state->base;
    stream->base_hash = state->base_hash;
    stream->last = state->last;
    stream->last_hash = state->last_hash;
    stream->durable = state->last;
}

bool ab_order_has_gap(const ab_order_stream *stream)
{
    return stream->given < stream->base;
}

int ab_order_report_gaps(const ab_order *order, ab_actions *actions)
{
    static const char text[] = "the log is trimmed beyond what the state machine has: it needs a snapshot";
    for (uint32_t i = 0; i < order->count; i++) {
        const ab_order_stream *stream = order->streams[i];
        ab_action report = {.type = AB_ACT_REPORT,
                            .severity = AB_LOG_ERROR,
                            .code = AB_ETRIMMED,
                            .mark = {stream->stream, stream->given},
                            .data = {text, sizeof text - 1}};
        int code = ab_order_has_gap(stream) ? ab_actions_push(actions, &report) : AB_OK;
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

/* The index after what is given and held. */
static uint64_t next_wanted(const ab_order_stream *stream)
{
    return stream->held_count > 0 ? held_at(stream, stream->held_count - 1u)->last + 1 : stream->given + 1;
}

static bool make_room(ab_order_stream *stream)
{
    if (stream->held_start + stream->held_count < stream->held_capacity) {
        return true;
    }
    if (stream->held_start > 0) {
        memmove(stream->held, held_at(stream, 0), stream->held_count * sizeof *stream->held);
        stream->held_start = 0;
        return true;
    }
    uint16_t capacity = stream->held_capacity == 0 ? 4 : (uint16_t)(stream->held_capacity * 2);
    ab_order_info *held = realloc(stream->held, capacity * sizeof *held);
    if (held == NULL) {
        return false;
    }
    stream->held = held;
    stream->held_capacity = capacity;
    return true;
}

/* Holds the info if it is the one wanted next and there is room: false leaves it to be read back. */
static bool hold(ab_order_stream *stream, const ab_block_info *block)
{
    uint64_t next = next_wanted(stream);
    if (block->first > next || block->last < next || stream->held_count >= AB_ORDER_HELD ||
        !make_room(stream)) {
        return false;
    }
    ab_mark *deps = NULL;
    if (block->dep_count > 0) {
        deps = malloc(block->dep_count * sizeof *deps);
        if (deps == NULL) {
            return false;
        }
        memcpy(deps, block->deps, block->dep_count * sizeof *deps);
    }
    *held_at(stream, stream->held_count) = (ab_order_info){.first = block->first,
                                                           .last = block->last,
                                                           .hash = block->hash,
                                                           .prev_hash = block->prev_hash,
                                                           .deps = deps,
                                                           .dep_count = (uint32_t)block->dep_count,
                                                           .bytes = block->bytes};
    stream->held_count++;
    return true;
}

void ab_order_logged(ab_order_stream *stream, const ab_block_info *block)
{
    if (block->last <= stream->last || block->first > stream->last + 1) {
        return; /* the second: what came before it was refused, so it will be, too */
    }
    stream->last = block->last;
    stream->last_hash = block->hash;
    (void)hold(stream, block);
}

void ab_order_cut(ab_order_stream *stream, uint64_t last, uint64_t last_hash)
{
    while (stream->held_count > 0 && held_at(stream, stream->held_count - 1u)->last > last) {
        stream->held_count--;
        free(held_at(stream, stream->held_count)->deps);
    }
    if (stream->held_count == 0) {
        drop_held(stream);
    }
    stream->last = last;
    stream->last_hash = last_hash;
}

bool ab_order_pass(ab_order_stream *stream, uint64_t first, uint64_t last)
{
    if (stream->given != stream->applied || stream->given + 1 < first || last > stream->durable) {
        return false;
    }
    if (last > stream->given) {
        stream->given = stream->applied = last;
        drop_held(stream);
        stream->load_again = stream->load_at == 0 ? 0 : stream->load_again;
    }
    return true;
}

void ab_order_take_back(ab_order *order, ab_mark has)
{
    ab_order_stream *part = ab_order_find(order, has.stream);
    if (part != NULL && has.index > part->applied && has.index <= part->given &&
        !ab_planted(AB_PLANTED_WHOLE_BLOCKS)) {
        part->applied = has.index; /* it may be durable there, and a later write may have seen it */
    }
    free(order->ring);
    order->ring = NULL;
    order->ring_start = order->ring_count = 0;
    order->ring_bytes = 0;
    for (uint32_t i = 0; i < order->count; i++) {
        ab_order_stream *stream = order->streams[i];
        if (stream->given > stream->applied) {
            stream->given = stream->applied;
            drop_held(stream); /* what is wanted next comes before them */
            stream->load_again = stream->load_at == 0 ? 0 : stream->load_again;
        }
    }
}

int ab_order_loaded(ab_order_stream *stream, const ab_event *event, uint64_t now)
{
    if (stream->load_at == 0 || event->mark.index != stream->load_at) {
        return AB_EINVAL;
    }
    uint64_t before = next_wanted(stream);
    for (size_t i = 0; i < event->block_count; i++) {
        const ab_block_info *block = &event->blocks[i];
        if (block->last > stream->durable) {
            break;
        }
        (void)hold(stream, block);
    }
    stream->load_at = 0;
    stream->load_again = next_wanted(stream) == before ? now + AB_ORDER_RELOAD_NS : 0;
    return AB_OK;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void ab_order_rewind(ab_order_stream *stream, uint64_t index, uint64_t hash)
{
    drop_held(stream);
    if (stream->last > index) {
        stream->last = index;
        stream->last_hash = hash;
    }
    if (stream->base > index) {
        stream->base = index;
        stream->base_hash = hash;
    }
    stream->durable = least(stream->durable, index);
    stream->given = least(stream->given, index);
    stream->applied = least(stream->applied, index);
    stream->checkpointed = least(stream->checkpointed, index);
    stream->bad_first = stream->bad_first > index ? 0 : stream->bad_first;
    stream->load_again = 0;
    stream->ended = AB_NEVER;
}

void ab_order_skip(ab_order_stream *stream, uint64_t index, uint64_t checkpointed)
{
    drop_held(stream);
    stream->given = stream->applied = index;
    stream->checkpointed = checkpointed;
    stream->load_again = 0;
}

static void ring_pop(ab_order *order)
{
    order->ring_bytes -= order->ring[order->ring_start].bytes;
    order->ring_start = (order->ring_start + 1) % AB_ORDER_GIVEN;
    order->ring_count--;
    if (order->ring_count == 0) {
        free(order->ring);
        order->ring = NULL;
    }
}

int ab_order_applied(ab_order *order, ab_order_stream *stream, uint64_t index)
{
    if (index > stream->given) {
        return AB_EINVAL;
    }
    if (index > stream->applied) {
        stream->applied = index;
    }
    while (order->ring_count > 0) {
        const ab_order_given *oldest = &order->ring[order->ring_start];
        if (oldest->stream->applied < oldest->last) {
            break;
        }
        ring_pop(order);
    }
    return AB_OK;
}

static bool dep_holds(const ab_order *order, ab_mark dep)
{
    const ab_order_stream *on = ab_order_find(order, dep.stream);
    if (on == NULL) {
        return order->force || ab_folds_hold(&order->folds, dep.stream);
    }
    uint64_t need = dep.index < on->ended ? dep.index : on->ended;
    if ((order->force || on->broken) && need > on->last) {
        need = on->last;
    }
    return on->ignored || on->given >= need;
}

/* Whether the dependency waits for an entry that somebody else may yet bring. */
static bool may_come(const ab_order *order, ab_mark dep)
{
    const ab_order_stream *on = ab_order_find(order, dep.stream);
    if (dep_holds(order, dep)) {
        return false;
    }
    if (on == NULL) {
        return !ab_folds_has(&order->folds, dep.stream);
    }
    uint64_t need = dep.index < on->ended ? dep.index : on->ended;
    return !on->stalled && (on->shut || need > on->last);
}

static bool deps_hold(const ab_order *order, const ab_order_stream *stream, const ab_order_info *info)
{
    if (!order->causal) {
        return true;
    }
    for (size_t i = 0; i < info->dep_count; i++) {
        bool own = ab_stream_compare(info->deps[i].stream, stream->stream) == 0;
        if (!own && !dep_holds(order, info->deps[i])) {
            return false;
        }
    }
    return true;
}

static bool room_for(const ab_order *order, uint32_t bytes)
{
    return order->ring_count == 0 ||
           (order->ring_count < AB_ORDER_GIVEN && order->ring_bytes + bytes <= AB_ORDER_GIVEN_BYTES);
}

static bool may_give(const ab_order *order, const ab_order_stream *stream)
{
    if (stream->held_count == 0) {
        return false;
    }
    const ab_order_info *info = held_at(stream, 0);
    bool damaged = stream->bad_first != 0 && info->last >= stream->bad_first;
    return info->last <= stream->durable && !damaged && !stream->shut && room_for(order, info->bytes) &&
           deps_hold(order, stream, info);
}

/* Gives the oldest held block of a stream. */
static int give(ab_order *order, ab_order_stream *stream, ab_actions *actions)
{
    const ab_order_info *info = held_at(stream, 0);
    if (order->ring == NULL) {
        order->ring = malloc(AB_ORDER_GIVEN * sizeof *order->ring);
        if (order->ring == NULL) {
            return AB_ENOMEM;
        }
        order->ring_start = 0;
    }
    ab_action apply = {
        .type = AB_ACT_APPLY, .mark = {stream->stream, info->last}, .first = stream->given + 1};
    int code = ab_actions_push(actions, &apply);
    if (code != AB_OK) {
        return code;
    }
    uint32_t end = (order->ring_start + order->ring_count) % AB_ORDER_GIVEN;
    order->ring[end] = (ab_order_given){stream, info->last, info->bytes};
    order->ring_count++;
    order->ring_bytes += info->bytes;
    stream->given = info->last;
    free(info->deps);
    stream->held_start++;
    stream->held_count--;
    if (stream->held_count == 0) {
        drop_held(stream);
    }
    return AB_OK;
}

static bool wants_load(const ab_order_stream *stream, uint64_t now)
{
    uint64_t next = next_wanted(stream);
    if (ab_order_has_gap(stream)) {
        return false;
    }
    if (next > stream->durable || stream->held_count > AB_ORDER_HELD / 8 || now < stream->load_again) {
        return false;
    }
    return stream->bad_first == 0 || next < stream->bad_first;
}

static int load(ab_order_stream *stream, uint64_t now, ab_actions *actions)
{
    if (!wants_load(stream, now)) {
        return AB_OK;
    }
    ab_action action = {
        .type = AB_ACT_LOAD, .mark = {stream->stream, next_wanted(stream)}, .blocks = AB_ORDER_LOAD_BLOCKS};
    int code = ab_actions_push(actions, &action);
    if (code == AB_OK) {
        stream->load_at = action.mark.index;
        stream->load_again = now + AB_ORDER_LOAD_LOST_NS;
    }
    return code;
}

int ab_order_pump(ab_order *order, uint64_t now, ab_actions *actions)
{
    bool progress = order->count > 0;
    while (progress) {
        progress = false;
        for (uint32_t i = 0; i < order->count; i++) {
            ab_order_stream *stream = order->streams[(order->turn + i) % order->count];
            if (!may_give(order, stream)) {
                continue;
            }
            int code = give(order, stream, actions);
            if (code != AB_OK) {
                return code;
            }
            progress = true;
        }
        if (progress) {
            order->turn = (order->turn + 1) % order->count;
        }
    }
    int code = AB_OK;
    order->blocked = false;
    for (uint32_t i = 0; code == AB_OK && i < order->count; i++) {
        const ab_order_stream *stream = order->streams[i];
        order->blocked |= stream->held_count > 0 && !deps_hold(order, stream, held_at(stream, 0));
        code = load(order->streams[i], now, actions);
    }
    return code;
}

bool ab_order_wants_news(const ab_order *order)
{
    for (uint32_t i = 0; order->causal && i < order->count; i++) {
        const ab_order_stream *stream = order->streams[i];
        const ab_order_info *info = stream->held_count > 0 ? held_at(stream, 0) : NULL;
        for (size_t k = 0; info != NULL && k < info->dep_count; k++) {
            bool own = ab_stream_compare(info->deps[k].stream, stream->stream) == 0;
            if (!own && may_come(order, info->deps[k])) {
                return true;
            }
        }
    }
    return false;
}

uint64_t ab_order_deadline(const ab_order *order)
{
    uint64_t deadline = AB_NEVER;
    for (uint32_t i = 0; i < order->count; i++) {
        const ab_order_stream *stream = order->streams[i];
        /* Past its time wants_load() decides; before it, it would but for the wait. */
        if (stream->load_again < deadline && wants_load(stream, UINT64_MAX)) {
            deadline = stream->load_again;
        }
    }
    return deadline;
}

bool ab_order_has_applied(const ab_order *order, ab_frontier frontier)
{
    for (size_t i = 0; i < frontier.count; i++) {
        ab_mark mark = frontier.marks[i];
        const ab_order_stream *stream = ab_order_find(order, mark.stream);
        bool applied = stream != NULL ? stream->applied >= mark.index : ab_folds_cover(&order->folds, mark);
        if (!applied) {
            return false;
        }
    }
    return true;
}

size_t ab_order_held(const ab_order *order)
{
    size_t held = 0;
    for (uint32_t i = 0; i < order->count; i++) {
        held += order->streams[i]->held_count;
    }
    return held;
}
