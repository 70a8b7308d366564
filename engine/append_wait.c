/* SPDX-License-Identifier: Apache-2.0 */
/* Writers that wait: for room in their group's queue, or with a deadline for what they wrote. All under the group's append lock; the
 * completion thread looks after the deadlines. */
#include "engine/engine.h"

#include <stdlib.h>

#define NS_PER_MS 1000000ull
#define SCARCE_NS (10 * NS_PER_MS) /* out of memory: looked at again then */

/* AB_OK, or why a write cannot be taken now. */
static int refusal(const ab_group *group)
{
    if (atomic_load(&group->closing)) {
        return AB_ECLOSED;
    }
    if (group->append_code != AB_OK) {
        return group->append_code;
    }
    return atomic_load(&group->node->log_code);
}

/* Room in the group's queue, and in the node's memory budget: over it, a group may still queue one call at a time. Holds
 * the append lock. */
static bool has_room(ab_group *group, size_t packed)
{
    if (group->queued_bytes == 0) {
        return true;
    }
    if (group->queued_bytes + packed > group->node->config.queue_bytes) {
        return false;
    }
    const ab_budget *budget = &group->node->budget;
    if (atomic_load_explicit(&budget->used, memory_order_relaxed) > budget->limit) {
        ab_cache_relieve(&group->node->cache); /* what it kept is read from the log instead */
    }
    return atomic_load_explicit(&budget->used, memory_order_relaxed) <= budget->limit;
}

/* One wait, until there may be room. Holds the append lock. @return false: out of memory */
static bool wait_for_room(ab_group *group, uint64_t deadline)
{
    if (group->room == NULL) {
        ab_room *room = calloc(1, sizeof *room);
        if (room == NULL) {
            return false;
        }
        ab_cond_init(&room->freed);
        group->room = room;
    }
    group->room->waiters++;
    ab_cond_wait_until(&group->room->freed, &group->append_lock, deadline);
    group->room->waiters--;
    if (atomic_load(&group->closing)) {
        pthread_cond_broadcast(&group->room->freed); /* ab_append_leave() counts */
    }
    return true;
}

/* The clock is read only where there is no room: it would be a fifth of what a small write costs. */
int ab_append_admit(ab_group *group, size_t packed, uint64_t wait_ms)
{
    uint64_t deadline = wait_ms == AB_NEVER ? AB_NEVER : 0;
    for (;;) {
        int code = refusal(group);
        if (code != AB_OK) {
            return code;
        }
        if (has_room(group, packed)) {
            return AB_OK;
        }
        if (wait_ms == 0 || (deadline != 0 && deadline != AB_NEVER && ab_monotonic_ns() >= deadline)) {
            return AB_EBUSY;
        }
        if (deadline == 0) {
            deadline = ab_monotonic_ns() + wait_ms * NS_PER_MS;
        }
        if (!wait_for_room(group, deadline)) {
            return AB_ENOMEM;
        }
    }
}

void ab_append_wake(ab_group *group)
{
    pthread_mutex_lock(&group->append_lock);
    if (group->room != NULL) {
        pthread_cond_broadcast(&group->room->freed);
    }
    pthread_mutex_unlock(&group->append_lock);
}

void ab_append_leave(ab_group *group)
{
    pthread_mutex_lock(
        &group->append_lock); /* whoever still writes has seen `closing`, or is in the queue now */
    if (group->room != NULL) {
        pthread_cond_broadcast(&group->room->freed);
    }
    while (group->room != NULL && group->room->waiters > 0) {
        pthread_cond_wait(&group->room->freed, &group->append_lock);
    }
    pthread_mutex_unlock(&group->append_lock);
}

/* Moves the tickets of `list` that are due into `done`; returns the earliest deadline that is left. */
static uint64_t collect_due(ab_ticket_list *list, uint64_t now, ab_done *done)
{
    uint64_t next = AB_NEVER;
    for (uint32_t i = 0; i < list->count && list->timed > 0; i++) {
        ab_ticket *ticket = &list->tickets[i];
        if (ticket->deadline > now) {
            next = ticket->deadline < next ? ticket->deadline : next;
            continue;
        }
        if (ab_ticket_reserve(&done->list) != AB_OK) {
            return now + SCARCE_NS;
        }
        ab_ticket_add(&done->list, ticket);
        list->waiters -= ticket->waiter != NULL;
        list->timed--;
        *ticket = (ab_ticket){.last = ticket->last, .count = ticket->count, .deadline = AB_NEVER};
    }
    return next;
}

/* One block: tickets that are due complete with what is known of the block. */
static uint64_t expire_block(ab_group *group, ab_open_block *block, uint64_t now, ab_done **all)
{
    if (block->done.list.timed == 0) {
        return AB_NEVER;
    }
    ab_done *done = calloc(1, sizeof *done);
    if (done == NULL) {
        return now + SCARCE_NS;
    }
    uint64_t next = collect_due(&block->done.list, now, done);
    if (done->list.count == 0) {
        free(done);
        return next;
    }
    done->code = AB_ETIMEDOUT;
    done->level = AB_WRITE_MEMORY;
    done->stream = block->done.stream;
    done->first = block->done.first;
    group->timed -= done->list.timed;
    done->next = *all;
    *all = done;
    return next;
}

void ab_append_expire(ab_group *group, uint64_t now)
{
    uint64_t next = AB_NEVER;
    ab_done *all = NULL;
    pthread_mutex_lock(&group->append_lock);
    if (group->timed > 0) {
        ab_open_block *lists[] = {group->waiting_head, group->closed_head, group->open};
        for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
            for (ab_open_block *block = lists[i]; block != NULL; block = block->next) {
                uint64_t due = expire_block(group, block, now, &all);
                next = due < next ? due : next;
            }
        }
    }
    pthread_mutex_unlock(&group->append_lock);
    while (all != NULL) {
        ab_done *done = all;
        all = done->next;
        ab_completions_push(group->node, done);
    }
    if (next != AB_NEVER) {
        ab_completions_deadline(group->node, next);
    }
}
