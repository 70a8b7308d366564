/* SPDX-License-Identifier: Apache-2.0 */
/** @file apply.h The apply threads (apply.c) and how one block goes into a state machine (apply_block.c). */
#ifndef ANABRANCH_ENGINE_APPLY_H
#define ANABRANCH_ENGINE_APPLY_H

#include "engine/engine.h"
#include "engine/read.h"

/* Back-off of a state machine that asks to try again; the figures are part of its contract (statemachine.h). */
#define RETRY_MIN_MS 10u
#define RETRY_MAX_MS 5000u

typedef struct ab_apply_thread {
    ab_node *node;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_cond_t idle; /* a group stopped running, or the thread exited */
    bool sleeping;
    bool stop;
    bool exited;
    ab_group *head, *tail;                       /* groups with something to do */
    ab_group *checkpoint_head, *checkpoint_tail; /* by checkpoint_due */
    ab_group *retries;
    ab_entry *entries; /* scratch of ab_apply_item_run(), the thread's own */
    size_t entry_capacity;
} ab_apply_thread;

/** Calls the state machine's checkpoint and tells the core. Nobody else may be in the state machine.
 *  @return what it returned */
int ab_apply_checkpoint(ab_group *group);

/** What `open` and `checkpoint` of a state machine fill. */
struct ab_frontier_out {
    ab_marks set;
};

/** Whether the group goes on. Asked whenever user code has returned: a close may have given up on the thread meanwhile, and then
 *  neither the state machine nor the log may be touched any more. @return false: it closes, or is closed */
bool ab_apply_goes_on(ab_group *group);

/** Gives one block to the state machine and tells the core. On the group's apply thread.
 *  @return AB_OK (done), else to be tried again later; if its block is damaged it is gone with the whole queue */
int ab_apply_item_run(ab_apply_thread *self, ab_group *group, const ab_apply_item *item, uint64_t *bytes);
/** Lets go of everything in the group's queue and tells the core, which gives again what can be read. */
void ab_apply_give_back(ab_group *group, ab_stream stream);

#endif
