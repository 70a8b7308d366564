/* SPDX-License-Identifier: Apache-2.0 */
/* Timers by key: binary heap and hash table over one array. Pure; the owner serializes the calls. */
#include "engine/transport/timer.h"

#include <anabranch/error.h>
#include <stdlib.h>

#define CAPACITY_MIN 16u
#define CAPACITY_MAX (UINT32_MAX / 4)

void ab_timers_clear(ab_timers *timers)
{
    free(timers->heap);
    free(timers->slots);
    *timers = (ab_timers){0};
}

/* Keys are chosen by users and often small or regular: spread them (finalizer of splitmix64). */
static size_t home(const ab_timers *timers, uint64_t key)
{
    key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9u;
    key = (key ^ key >> 27) * 0x94d049bb133111ebu;
    return (size_t)(key ^ key >> 31) & (timers->slot_count - 1);
}

/* Slot that holds `key`, or the free one where it would go. There is always a free one. */
static size_t find_slot(const ab_timers *timers, uint64_t key)
{
    size_t at = home(timers, key);
    while (timers->slots[at] != 0 && timers->heap[timers->slots[at] - 1].key != key) {
        at = (at + 1) & (timers->slot_count - 1);
    }
    return at;
}

/* Frees a slot and moves up what probed past it. */
static void free_slot(ab_timers *timers, size_t gap)
{
    size_t mask = timers->slot_count - 1;
    for (size_t at = (gap + 1) & mask; timers->slots[at] != 0; at = (at + 1) & mask) {
        size_t start = home(timers, timers->heap[timers->slots[at] - 1].key);
        if (((at - start) & mask) >= ((at - gap) & mask)) {
            timers->slots[gap] = timers->slots[at];
            gap = at;
        }
    }
    timers->slots[gap] = 0;
}

static void place(ab_timers *timers, size_t at, ab_timer_entry entry, size_t slot)
{
    timers->heap[at] = entry;
    timers->slots[slot] = (uint32_t)at + 1;
}

/* Puts `entry`, whose slot is `slot`, where it belongs, starting from the hole `at`. */
static void sift(ab_timers *timers, size_t at, ab_timer_entry entry, size_t slot)
{
    while (at > 0 && timers->heap[(at - 1) / 2].when > entry.when) {
        ab_timer_entry parent = timers->heap[(at - 1) / 2];
        place(timers, at, parent, find_slot(timers, parent.key));
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < timers->count && timers->heap[child + 1].when < timers->heap[child].when) {
            child++;
        }
        if (child >= timers->count || timers->heap[child].when >= entry.when) {
            break;
        }
        ab_timer_entry least = timers->heap[child];
        place(timers, at, least, find_slot(timers, least.key));
        at = child;
    }
    place(timers, at, entry, slot);
}

static int grow(ab_timers *timers)
{
    size_t capacity = timers->capacity == 0 ? CAPACITY_MIN : timers->capacity * 2;
    if (capacity > CAPACITY_MAX) {
        return AB_ENOMEM;
    }
    uint32_t *slots = calloc(capacity * 2, sizeof(*slots));
    if (slots == NULL) {
        return AB_ENOMEM;
    }
    ab_timer_entry *heap = realloc(timers->heap, capacity * sizeof(*heap));
    if (heap == NULL) {
        free(slots);
        return AB_ENOMEM;
    }
    free(timers->slots);
    timers->heap = heap;
    timers->capacity = capacity;
    timers->slots = slots;
    timers->slot_count = capacity * 2;
    for (size_t i = 0; i < timers->count; i++) {
        timers->slots[find_slot(timers, heap[i].key)] = (uint32_t)i + 1;
    }
    return AB_OK;
}

int ab_timers_set(ab_timers *timers, uint64_t key, uint64_t when)
{
    if (timers->slot_count > 0) {
        size_t slot = find_slot(timers, key);
        if (timers->slots[slot] != 0) {
            sift(timers, timers->slots[slot] - 1, (ab_timer_entry){when, key}, slot);
            return AB_OK;
        }
    }
    if (timers->count == timers->capacity) {
        int code = grow(timers);
        if (code != AB_OK) {
            return code;
        }
    }
    size_t slot = find_slot(timers, key);
    timers->count++;
    sift(timers, timers->count - 1, (ab_timer_entry){when, key}, slot);
    return AB_OK;
}

static void remove_at(ab_timers *timers, size_t at)
{
    /* The slot goes first: while it is there the heap must still hold the key it stands for. */
    free_slot(timers, find_slot(timers, timers->heap[at].key));
    ab_timer_entry last = timers->heap[timers->count - 1];
    size_t slot = find_slot(timers, last.key);
    timers->count--;
    if (at < timers->count) {
        sift(timers, at, last, slot);
    }
}

void ab_timers_remove(ab_timers *timers, uint64_t key)
{
    if (timers->count == 0) {
        return;
    }
    size_t slot = find_slot(timers, key);
    if (timers->slots[slot] != 0) {
        remove_at(timers, timers->slots[slot] - 1);
    }
}

uint64_t ab_timers_next(const ab_timers *timers)
{
    return timers->count > 0 ? timers->heap[0].when : UINT64_MAX;
}

bool ab_timers_pop(ab_timers *timers, uint64_t now, uint64_t *key)
{
    if (timers->count == 0 || timers->heap[0].when > now) {
        return false;
    }
    *key = timers->heap[0].key;
    remove_at(timers, 0);
    return true;
}
