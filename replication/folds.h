/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file folds.h
 * Old streams that are folded away: per origin one record says "all its streams up to this epoch are over, and every
 * member had all of them". Part of a core: one call at a time, no I/O.
 *
 * Streams of an origin are folded in the order of their epochs. A fold is kept with AB_ACT_PERSIST, and only then
 * AB_ACT_FORGET removes the stream from the log: in whatever state between the two a crash leaves the log, the next
 * start goes by the record.
 */
#ifndef ANABRANCH_REPLICATION_FOLDS_H
#define ANABRANCH_REPLICATION_FOLDS_H

#include "replication/frontier.h"
#include <anabranch/backend.h>

/** Keys under which AB_ACT_PERSIST keeps folds: this and the origin's node id in decimal. */
#define AB_FOLD_KEY "folded/"
#define AB_FOLD_BYTES 32u

/** What is left of an origin's old streams. The bit sets have one bit per member, by position. */
typedef struct ab_fold {
    uint32_t node;
    uint32_t epoch;      /* its streams up to this one are folded; 0: none */
    uint32_t mark_epoch; /* the highest of them that has entries; 0: none has */
    uint64_t mark_index; /* ... and where it ended */
    uint64_t total;      /* entries in all of them */
    uint64_t hash;       /* over the ends and last hashes of those with entries */
    uint64_t tell;       /* members that do not know it yet */
    uint64_t owe;        /* members that wait for an answer */
    bool gap;            /* the state machine does not have all of them */
    bool lacks;          /* a member folded streams of which this one does not have all */
    bool told;           /* the operator, of that */
} ab_fold;

/** Sorted by node. All zero is empty. */
typedef struct ab_folds {
    ab_fold *items;
    uint32_t count;
    uint32_t capacity;
} ab_folds;

void ab_folds_free(ab_folds *folds);

/** NULL if nothing is known of the origin. Valid until the next ab_folds_of(). */
ab_fold *ab_folds_find(const ab_folds *folds, uint32_t node);

/** Makes the record if needed. @return AB_OK, AB_ENOMEM, AB_ETOOBIG */
int ab_folds_of(ab_folds *folds, uint32_t node, ab_fold **found);

/** Whether the stream is folded. */
bool ab_folds_has(const ab_folds *folds, ab_stream stream);

/** Whether it is, and the local state machine has all of it: what depends on it need not wait. */
bool ab_folds_hold(const ab_folds *folds, ab_stream stream);

/** Whether the local state machine has `mark` of a folded stream: false where it is known that nobody had so much. */
bool ab_folds_cover(const ab_folds *folds, ab_mark mark);

/** The record once a stream that ended at `last` is folded, too. */
void ab_fold_add(ab_fold *fold, uint32_t epoch, uint64_t last, uint64_t last_hash);

/** Reads what earlier runs kept. `left` gets what log and frontier of the state machine still have of folded streams:
 * their AB_ACT_FORGET is due again. @return AB_OK, AB_ENOMEM, AB_ETOOBIG, AB_ECORRUPT (a record cannot be read) */
int ab_folds_load(ab_folds *folds, const ab_core_init *init, ab_marks *left);

/** The epoch up to which streams of `node` were folded by earlier runs. */
uint32_t ab_folds_stored(const ab_core_init *init, uint32_t node);

/** At the start: forgets again what a crash left, and tells the operator of what the state machine lacks. Frees `left`.
 * @return AB_OK, AB_ENOMEM */
int ab_folds_push_left(const ab_folds *folds, ab_marks *left, ab_actions *actions);

/** Keeps the record `fold`, then forgets the stream, the last one that went into it. @return AB_OK, AB_ENOMEM */
int ab_fold_push(const ab_fold *fold, ab_actions *actions);

#endif
