/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file announce.h
 * What the cores and the writers are told of the blocks of a batch: logged, durable, or refused. Log thread only.
 */
#ifndef ANABRANCH_ENGINE_ANNOUNCE_H
#define ANABRANCH_ENGINE_ANNOUNCE_H

#include "engine/batch.h"

/* Blocks that have their place in the log; `committed`: and are in it. Each is announced once. */
void ab_announce_logged(ab_node *node, ab_batch *batch, bool committed);
/* How far streams survive a crash, after the commit. */
void ab_announce_durable(ab_node *node, const ab_batch *batch);
/* One operation that can never succeed: takes it out of the batch, so that it does not stop everybody else. */
void ab_batch_refuse(ab_node *node, ab_batch *batch, size_t failed, int code);
/* What follows a refused block of `batch` in its stream leaves the next batch and is refused with it. */
void ab_batch_refuse_followers(ab_node *node, ab_batch *batch, ab_batch *next);
/* Streams that went back, after the commit. */
void ab_announce_rewound(ab_node *node, const ab_batch *batch);
/* The blocks among them, after the commit of the others: to their cores and writers. */
void ab_announce_refusals(ab_node *node, const ab_batch *batch);

#endif
