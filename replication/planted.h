/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file planted.h
 * Faults that the simulator's self-tests plant in the cores, to prove that its checker sees them. Compiled in
 * only with AB_PLANTED, into a second copy of the objects; in the library every question is a constant `false`.
 */
#ifndef ANABRANCH_REPLICATION_PLANTED_H
#define ANABRANCH_REPLICATION_PLANTED_H

#include <stdbool.h>

typedef enum ab_planted_fault {
    AB_PLANTED_NONE = 0,
    AB_PLANTED_SKIPPED_DEDUP, /* a block that is there already is logged again */
    AB_PLANTED_INDEX_REUSE,   /* the epoch is kept though the tail may be lost */
    AB_PLANTED_NO_CAUSAL,     /* dependency marks are not waited for */
    AB_PLANTED_LOST_RETRY,    /* what was sent and not confirmed is never sent again */
    AB_PLANTED_FIXED_RETRY,   /* what is not confirmed in a fixed time is sent again, whatever was measured */
    AB_PLANTED_TRIM_BEYOND,   /* one member does not count for trimming */
    AB_PLANTED_WHOLE_BLOCKS, /* what is taken back in the middle of a block is taken back from its beginning */
    AB_PLANTED_NO_CHAIN,     /* a block is logged whatever the hash of the block before it */
    AB_PLANTED_FOLD_EARLY,   /* an old stream is folded as soon as it is over here */
    AB_PLANTED_FOLD_WITHOUT_ONE, /* one member does not count for folding */
    AB_PLANTED_UNCOPIED,         /* what goes from a stream is dropped before the copy has all of it */
    AB_PLANTED_UNTRANSLATED,     /* a stored frontier is taken as it is, whatever history it is of */
    AB_PLANTED_RESTLESS,         /* who can only be helped by a snapshot goes on comparing frontiers */
    AB_PLANTED_COUNT
} ab_planted_fault;

#ifdef AB_PLANTED
extern ab_planted_fault ab_planted_now;

static inline bool ab_planted(ab_planted_fault question)
{
    return ab_planted_now == question;
}
#else
static inline bool ab_planted(ab_planted_fault question)
{
    (void)question;
    return false;
}
#endif

#endif
