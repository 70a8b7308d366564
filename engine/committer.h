/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file committer.h
 * Commits a batch: in place, or beside the log thread (interval durability).
 */
#ifndef ANABRANCH_ENGINE_COMMITTER_H
#define ANABRANCH_ENGINE_COMMITTER_H

#include "engine/batch.h"

/** Commits the batch, if `patient` however long it takes: what was sealed is never dropped, so no index is skipped.
 *  @return AB_OK, or the last failure when the node gives up or the caller is not patient */
int ab_commit_batch(ab_node *node, ab_batch *batch, bool patient);

/** The thread for interval durability. */
int ab_committer_start(ab_node *node);
void ab_committer_stop(ab_node *node); /* after what it was given */
/** Hands it the log thread's batch, with an empty one in return. It must be idle. `flush`: the last request that is met
 *  with it. */
void ab_committer_give(ab_node *node, uint64_t flush);
/** Waits until it is not busy. @return whether it is done with something that the log thread has to see to */
bool ab_committer_wait(ab_node *node);

#endif
