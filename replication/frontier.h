/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file frontier.h
 * Frontiers that grow: a sorted vector of marks, and questions about views of one. Pure values, one owner, no
 * locks.
 */
#ifndef ANABRANCH_REPLICATION_FRONTIER_H
#define ANABRANCH_REPLICATION_FRONTIER_H

#include <anabranch/error.h>
#include <anabranch/types.h>

/** Owned marks, sorted by stream, without duplicates and without index 0. All zero is empty. */
typedef struct ab_marks {
    ab_mark *marks;
    uint32_t count;
    uint32_t capacity;
} ab_marks;

void ab_marks_init(ab_marks *marks);
void ab_marks_free(ab_marks *marks);  /**< empty and usable afterwards */
void ab_marks_clear(ab_marks *marks); /**< keeps the memory */

/** Room for `count` marks in all, so that setting them cannot fail. @return AB_OK, AB_ENOMEM, AB_ETOOBIG
 * (above AB_MARKS_MAX) */
int ab_marks_reserve(ab_marks *marks, size_t count);

/** Sets the mark of its stream, forward or back; index 0 removes it. @return as ab_marks_reserve() */
int ab_marks_set(ab_marks *marks, ab_mark mark);

/** Sets the mark only where that moves it forward. @return as ab_marks_reserve() */
int ab_marks_raise(ab_marks *marks, ab_mark mark);

/** Raises to the greater of both, stream by stream; all or nothing. @return as ab_marks_reserve() */
int ab_marks_merge(ab_marks *marks, ab_frontier other);

/** Becomes a copy of `other`; unchanged on error. @return as ab_marks_reserve() */
int ab_marks_copy(ab_marks *marks, ab_frontier other);

/** Removes the marks of the node's streams below `epoch`. */
void ab_marks_drop(ab_marks *marks, uint32_t node, uint32_t epoch);

/** View, until the marks change. */
ab_frontier ab_marks_view(const ab_marks *marks);

/** Index of a stream, 0 if it has no mark. */
uint64_t ab_marks_get(const ab_marks *marks, ab_stream stream);
uint64_t ab_frontier_get(ab_frontier frontier, ab_stream stream);

/** Whether `frontier` has everything that `other` has. */
bool ab_frontier_covers(ab_frontier frontier, ab_frontier other);

/** Whether it is sorted, without duplicates, without index 0 and not above AB_MARKS_MAX. */
bool ab_frontier_valid(ab_frontier frontier);

#endif
