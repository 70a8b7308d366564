/* SPDX-License-Identifier: Apache-2.0 */
/* Drives a group's protocol core: one event in, its actions out and carried out in order. Any thread; the group's core
 * lock is held from the step until its actions stand in their queues, so the actions of one core never overtake each
 * other. */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What became of AB_ACT_SEND from the cache: told to the core once the list at hand is done. */
typedef struct follow_up {
    ab_event events[8];
    size_t count;
} follow_up;

static void set_append(ab_group *group, const ab_action *action)
{
    /* For the stream in use only the code is news: sealed blocks are already counted in append_last. */
    if (group->append_last == 0 || ab_stream_compare(group->append_stream, action->mark.stream) != 0) {
        group->append_stream = action->mark.stream;
        group->append_last = action->mark.index;
        group->append_hash = action->hash;
    }
    group->append_term = action->term;
    pthread_mutex_lock(&group->append_lock);
    group->append_code = action->code;
    pthread_mutex_unlock(&group->append_lock);
}

/* Sends what the cache has of the wanted run; false if it has nothing of it. */
static bool send_cached(ab_group *group, const ab_action *action, ab_event *sent)
{
    ab_node *node = group->node;
    *sent = (ab_event){.type = AB_EV_SENT, .peer = action->peer, .mark = action->mark, .code = AB_OK};
    sent->mark.index--;
    while (sent->blocks_sent < action->blocks) {
        ab_buf *buf = ab_cache_get(&node->cache, group->id, action->mark.stream, sent->mark.index + 1);
        if (buf == NULL) {
            break;
        }
        ab_block_header header;
        int code = ab_block_header_read(buf->data, buf->size, &header);
        if (code == AB_OK && sent->blocks_sent > 0 && sent->bytes_sent + buf->size > action->bytes) {
            ab_buf_unref(buf);
            break;
        }
        if (code == AB_OK) {
            code = ab_transport_send_block(node->transport, action->peer, buf);
        }
        if (code != AB_OK) {
            sent->code = code;
            ab_buf_unref(buf);
            return true;
        }
        sent->blocks_sent++;
        sent->bytes_sent += buf->size;
        sent->mark.index = header.last;
        ab_buf_unref(buf);
    }
    atomic_fetch_add_explicit(&node->counters.blocks_sent, sent->blocks_sent, memory_order_relaxed);
    return sent->blocks_sent > 0;
}

static void do_send(ab_group *group, const ab_action *action, follow_up *later)
{
    ab_event sent;
    if (later->count < sizeof later->events / sizeof later->events[0] && send_cached(group, action, &sent)) {
        later->events[later->count++] = sent;
        return;
    }
    ab_reader_push(group, action);
}

static void list_trims(ab_group *group)
{
    if (!group->trims_listed) {
        group->trims_listed = true;
        ab_wal_thread_trim(group);
    }
}

static void do_trim(ab_group *group, ab_mark upto)
{
    for (size_t i = 0; i < group->trim_count; i++) {
        if (ab_stream_compare(group->trims[i].upto.stream, upto.stream) == 0) {
            if (upto.index > group->trims[i].upto.index) {
                group->trims[i].upto.index = upto.index;
            }
            list_trims(group);
            return;
        }
    }
    if (group->trim_count == group->trim_capacity) {
        uint32_t capacity = group->trim_capacity == 0 ? 4 : group->trim_capacity * 2;
        ab_trim_target *trims = realloc(group->trims, capacity * sizeof *trims);
        if (trims == NULL) {
            return; /* a later safe index covers this one */
        }
        group->trims = trims;
        group->trim_capacity = capacity;
    }
    group->trims[group->trim_count++] = (ab_trim_target){.upto = upto};
    list_trims(group);
}

static void do_report(ab_group *group, const ab_action *action)
{
    if (action->code == AB_ECORRUPT) {
        atomic_fetch_add(&group->node->counters.damage_reports, 1);
    }
    char peer[32] = "";
    if (action->peer != 0) {
        snprintf(peer, sizeof peer, ", peer %u", action->peer);
    }
    ab_node_log(group->node, action->severity, "group %s, stream %u.%u, index %llu%s: %.*s (%s)", group->name,
                action->mark.stream.node, action->mark.stream.epoch, (unsigned long long)action->mark.index,
                peer, (int)action->data.size, (const char *)action->data.data, ab_error_name(action->code));
}

/* AB_ACT_PERSIST, and AB_ACT_REWIND, which stores a value with what it drops. */
static void do_persist(ab_group *group, const ab_action *action)
{
    uint8_t key[AB_STATE_KEY_MAX + sizeof AB_KEY_CORE];
    size_t prefix = sizeof AB_KEY_CORE - 1;
    if (action->key.size > AB_STATE_KEY_MAX) {
        return;
    }
    memcpy(key, AB_KEY_CORE, prefix);
    memcpy(key + prefix, action->key.data, action->key.size);
    ab_bytes name = {.data = key, .size = prefix + action->key.size};
    if (action->type == AB_ACT_REWIND) {
        ab_wal_thread_rewind(group, action->mark, action->hash, name, action->data);
    } else {
        ab_wal_thread_state(group->node, group->id, name, action->data, false);
    }
}

/* The record of the stream goes, and with it what it knew of the clock; and nobody trims it any more. */
static void do_forget(ab_group *group, const ab_action *action)
{
    if (atomic_load(&group->closing)) {
        return; /* the next start sees that it is folded */
    }
    pthread_mutex_lock(&group->append_lock);
    uint64_t hlc = group->hlc;
    pthread_mutex_unlock(&group->append_lock);
    ab_wal_thread_state(group->node, group->id, (ab_bytes){AB_KEY_HLC, sizeof AB_KEY_HLC - 1},
                        (ab_bytes){&hlc, sizeof hlc}, false);
    ab_wal_thread_forget(group, action->mark.stream, (uint32_t)action->first);
    uint32_t kept = 0;
    for (size_t i = 0; i < group->trim_count; i++) {
        if (ab_stream_compare(group->trims[i].upto.stream, action->mark.stream) != 0) {
            group->trims[kept++] = group->trims[i];
        }
    }
    group->trim_count = kept;
}

/* AB_ACT_LOG and AB_ACT_REPAIR name the block that came with this step. */
static void do_log(const ab_group *group, const ab_action *action)
{
    ab_incoming *incoming = (ab_incoming *)(uintptr_t)action->token;
    incoming->patient = action->write_level == AB_WRITE_LOCAL && group->write_level <= AB_WRITE_LOCAL;
    incoming->repair = action->type == AB_ACT_REPAIR;
    *incoming->taken = true; /* from here on it belongs to the log thread */
    ab_wal_thread_incoming(incoming);
}

static void carry_out(ab_group *group, const ab_action *action, follow_up *later)
{
    switch (action->type) {
    case AB_ACT_LOG:
    case AB_ACT_REPAIR:
        do_log(group, action);
        break;
    case AB_ACT_SEND:
        do_send(group, action, later);
        break;
    case AB_ACT_MESSAGE:
        (void)ab_group_send(group, action->peer, action->data); /* links lose messages; cores repeat them */
        break;
    case AB_ACT_APPLY:
        ab_apply_push(group, action->mark.stream, action->first, action->mark.index);
        break;
    case AB_ACT_LOAD:
    case AB_ACT_COPY:
        ab_reader_push(group, action);
        break;
    case AB_ACT_FRONTIER:
        ab_apply_move(group, action->mark);
        break;
    case AB_ACT_ACKED:
        ab_append_acked(group, action->write_level, action->mark);
        break;
    case AB_ACT_TRIM:
        do_trim(group, action->mark);
        break;
    case AB_ACT_PERSIST:
    case AB_ACT_REWIND:
        do_persist(group, action);
        break;
    case AB_ACT_APPEND:
        set_append(group, action);
        break;
    case AB_ACT_READ_DONE:
        (void)ab_read_done(group, action->ticket, action->code);
        break;
    case AB_ACT_REPORT:
        do_report(group, action);
        break;
    case AB_ACT_FORGET:
        do_forget(group, action);
        break;
    }
}

/* Arms the timer for the core's deadline. One that is armed too early stays: it fires, finds nothing due and is armed
 * again, which is cheaper than telling the dispatcher of every deadline that moves away. */
static void update_timer(ab_group *group)
{
    uint64_t deadline = group->backend->deadline(group->core);
    if (deadline >= group->armed) {
        return;
    }
    while (ab_transport_timer(group->node->transport, group->id, deadline) != AB_OK) {
        ab_node_relieve(group->node); /* without it a quiet group would not look again */
    }
    group->armed = deadline;
}

void ab_group_timer(ab_group *group)
{
    pthread_mutex_lock(&group->core_lock);
    group->armed = AB_NEVER;
    if (group->core != NULL && group->backend->deadline(group->core) <= ab_monotonic_ns()) {
        ab_event event = {.type = AB_EV_TIMER};
        (void)ab_group_step_locked(group, &event);
    } else if (group->core != NULL) {
        update_timer(group);
    }
    pthread_mutex_unlock(&group->core_lock);
}

int ab_group_step_locked(ab_group *group, const ab_event *event)
{
    ab_actions actions;
    ab_actions_init(&actions);
    follow_up later = {.count = 0};
    int code = group->backend->step(group->core, event, ab_monotonic_ns(), &actions);
    for (size_t next = 0;;) {
        for (size_t i = 0; i < actions.count; i++) {
            carry_out(group, ab_actions_at(&actions, i), &later);
        }
        if (next == later.count) {
            break;
        }
        ab_event follow = later.events[next++];
        if (next == later.count) {
            next = later.count = 0;
        }
        ab_actions_clear(&actions);
        while (group->backend->step(group->core, &follow, ab_monotonic_ns(), &actions) == AB_ENOMEM) {
            ab_node_relieve(group->node);
        }
    }
    ab_actions_free(&actions);
    update_timer(group);
    return code;
}

/* What a peer says may be lost; what happened here must reach the core. */
static bool may_be_lost(const ab_event *event)
{
    return event->type == AB_EV_MESSAGE || event->type == AB_EV_BLOCK;
}

int ab_group_step(ab_group *group, const ab_event *event)
{
    int code;
    for (;;) {
        pthread_mutex_lock(&group->core_lock);
        code = group->core != NULL ? ab_group_step_locked(group, event) : AB_ECLOSED;
        pthread_mutex_unlock(&group->core_lock);
        if (code != AB_ENOMEM || may_be_lost(event)) {
            break;
        }
        ab_node_relieve(group->node);
    }
    if (code != AB_OK && code != AB_ECLOSED && code != AB_EPROTO) {
        ab_node_log(group->node, AB_LOG_ERROR, "group %s: the %s protocol refused event %d: %s", group->name,
                    group->backend->name, (int)event->type, ab_strerror(code));
    }
    return code;
}

int ab_group_receive(ab_group *group, uint32_t peer, ab_incoming *incoming)
{
    const ab_block_header *header = &incoming->header;
    ab_mark *marks = NULL;
    if (header->mark_count > 0) {
        marks = malloc(header->mark_count * sizeof *marks);
        if (marks == NULL) {
            ab_incoming_free(incoming);
            return AB_OK; /* as if lost on the way: it comes again */
        }
    }
    ab_block_info info;
    ab_block_info_read(incoming->buf->data, header, marks, &info);
    ab_event event = {
        .type = AB_EV_BLOCK, .peer = peer, .block = &info, .token = (uint64_t)(uintptr_t)incoming};
    bool taken = false;
    incoming->group = group;
    incoming->taken = &taken;
    pthread_mutex_lock(&group->core_lock);
    int code = group->core != NULL ? ab_group_step_locked(group, &event) : AB_OK;
    pthread_mutex_unlock(&group->core_lock);
    free(marks);
    if (!taken) {
        ab_incoming_free(incoming);
    }
    return code;
}
