/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file batch.h
 * What one commit carries: sealed and received blocks, small state, trims. For whoever has the log thread's turn.
 */
#ifndef ANABRANCH_ENGINE_BATCH_H
#define ANABRANCH_ENGINE_BATCH_H

#include "engine/engine.h"

typedef struct ab_batch_block {
    ab_group *group; /* holds a reference */
    ab_buf *buf;
    ab_block_header header;
    bool local; /* written here: its bytes count in the group's queue */
    bool repair;
    uint64_t queued_bytes;
    uint64_t opened_ns; /* local: when its oldest entry came */
} ab_batch_block;

/** A block that the log will never take; its core is told after the commit of the others. */
typedef struct ab_refused {
    struct ab_refused *next;
    ab_batch_block block;
    int code;
    bool announced; /* interval durability: LOGGED was said */
} ab_refused;

typedef struct ab_batch {
    ab_batch_block *blocks;
    size_t block_count, block_capacity;
    size_t announced; /* blocks that were announced as logged (interval durability) */
    ab_refused *refused_head, *refused_tail;
    ab_state_put *state_head, *state_tail;
    ab_wal_op *ops;
    size_t op_count, op_capacity;
    ab_group **trimming; /* groups with something to trim; holds references; kept over commits */
    size_t trimming_count, trimming_capacity;
    uint64_t bytes;
} ab_batch;

/* Each returns AB_OK or AB_ENOMEM with the batch as it was. */
int ab_batch_add(ab_batch *batch, const ab_batch_block *block);
int ab_batch_reserve(ab_batch *batch, size_t blocks); /* room for that many ab_batch_add() */
int ab_batch_add_trimming(ab_batch *batch, ab_group *group);
/* Builds `ops` of everything in the batch (only the trims of it, if `trims_only`: to get room on a full disk). */
int ab_batch_build(ab_batch *batch, bool trims_only);
/* Notes how far the trims of a commit came and lets go of groups with nothing left to trim. */
void ab_batch_trimmed(ab_node *node, ab_batch *batch);
/* Goes on with what of the streams to be forgotten a commit left; tells the apply threads of the others. */
void ab_batch_forgotten(ab_batch *batch);
/* Gives up trimming what `op` could not trim, until the safe index has moved on. */
void ab_batch_skip_trim(ab_batch *batch, const ab_wal_op *op);
/* Gives up the value that `op` was to store, or the stream that it was to forget; a group's clock with what was to be trimmed of it. */
void ab_batch_drop_state(ab_batch *batch, const ab_wal_op *op);
/* Drops blocks and state, keeps the memory and the groups to trim. */
void ab_batch_clear(ab_batch *batch);
void ab_batch_free(ab_batch *batch);

#endif
