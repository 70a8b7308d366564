/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file timer.h
 * One-shot timers by key: a heap of deadlines and a table from key to place in it. What is not armed takes no
 * memory. Pure; the owner serializes the calls.
 */
#ifndef ANABRANCH_ENGINE_TRANSPORT_TIMER_H
#define ANABRANCH_ENGINE_TRANSPORT_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ab_timer_entry {
    uint64_t when;
    uint64_t key;
} ab_timer_entry;

typedef struct ab_timers {
    ab_timer_entry *heap; /* least `when` first */
    size_t count;
    size_t capacity;
    uint32_t *slots;   /* open addressing: place in the heap + 1; 0: free */
    size_t slot_count; /* a power of two, at least twice the capacity */
} ab_timers;

void ab_timers_clear(ab_timers *timers);
/** Arms or re-arms. @return AB_OK, AB_ENOMEM (as before; never where the key is armed already) */
int ab_timers_set(ab_timers *timers, uint64_t key, uint64_t when);
void ab_timers_remove(ab_timers *timers, uint64_t key);
/** Least deadline, UINT64_MAX if none. */
uint64_t ab_timers_next(const ab_timers *timers);
/** Takes out one timer that is due at `now`. */
bool ab_timers_pop(ab_timers *timers, uint64_t now, uint64_t *key);

#endif
