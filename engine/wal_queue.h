/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file wal_queue.h
 * What the log thread shares with those who hand it work.
 */
#ifndef ANABRANCH_ENGINE_WAL_QUEUE_H
#define ANABRANCH_ENGINE_WAL_QUEUE_H

#include "engine/engine.h"

/** Small state and trims without a block wait this long for one to travel with: a commit of their own costs two flushes. */
#define AB_WAL_LAZY_NS (500 * 1000000ull)

/** With so much small state queued, who opens groups waits until the log thread has taken it. */
#define AB_WAL_STATE_MOST 2048u

void ab_dirty_add(ab_dirty_list *list, ab_group *group); /* the reference goes with it */
ab_group *ab_dirty_pop(ab_dirty_list *list);             /* NULL: it is empty */

/** Takes received blocks up to `bytes` (one at least), for which the batch then has room, and gives back the groups in `left`. */
ab_incoming *ab_wal_take_incoming(ab_node *node, uint64_t bytes, ab_dirty_list *left);

/** Groups with something to trim, into the batch. The lock is held. */
void ab_wal_take_trimming(ab_wal_thread *self, struct ab_batch *batch);

/** Wakes the log thread if it sleeps. Its lock is held. */
void ab_wal_wake(ab_wal_thread *self);

#endif
