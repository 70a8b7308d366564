/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file actions.h
 * The list of actions that a core fills and a driver carries out. One owner at a time, no locks.
 *
 * Keys and data are copied into chunks that never move, so what ab_actions_at() gives stays valid until the
 * list is cleared. A cleared list keeps a little memory: a driver reuses one list for all its steps.
 */
#ifndef ANABRANCH_REPLICATION_ACTIONS_H
#define ANABRANCH_REPLICATION_ACTIONS_H

#include <anabranch/backend.h>

typedef struct ab_actions_chunk ab_actions_chunk;

struct ab_actions {
    ab_action *items;
    size_t count;
    size_t capacity;
    ab_actions_chunk *chunks; /* newest first */
};

/** An empty list; allocates nothing. All zero is the same. */
void ab_actions_init(ab_actions *actions);

/** Forgets all actions; keeps memory for the next step unless it has grown large. */
void ab_actions_clear(ab_actions *actions);

/** Frees everything; the list is empty and usable afterwards. */
void ab_actions_free(ab_actions *actions);

/** The action at `position` (< actions->count), in the order of the pushes. */
const ab_action *ab_actions_at(const ab_actions *actions, size_t position);

#endif
