/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file selection.h
 * Which points an export or a delete is about: measurement, tags, time. Plain values, pure functions: any thread.
 */
#ifndef ANABRANCHD_SELECTION_H
#define ANABRANCHD_SELECTION_H

#include <anabranch/types.h>

#define AB_SELECTION_TAGS_MAX 16u

/** All of it must hold. Names are in their escaped form (lineprotocol.h). Everything is borrowed. */
typedef struct ab_selection {
    ab_bytes measurement;                 /**< size 0: any */
    ab_bytes tags[AB_SELECTION_TAGS_MAX]; /**< key=value, sorted, none twice */
    size_t tag_count;
    int64_t start; /**< ns, first and last time: both belong to it */
    int64_t stop;
} ab_selection;

/** All points. */
void ab_selection_init(ab_selection *selection);

/** Whether points of the series (a canonical series key) are in it, as far as their time is, too. */
bool ab_selection_has_series(const ab_selection *selection, ab_bytes series);

/** Whether every point of `narrow` is in `wide`: never true where it is not so. */
bool ab_selection_covers(const ab_selection *wide, const ab_selection *narrow);

/** The parts of a series key, one by one: the measurement, then each tag (key=value). *at: 0 to begin.
 * @return false: no more, `part` is as it was */
bool ab_series_next(ab_bytes series, size_t *at, ab_bytes *part);

/** The series key at the start of a column key (series key, space, field key). */
ab_bytes ab_column_series(const char *column, size_t size);

/** Column keys are sorted: those of the selection come after what this puts into `text` (room for AB_LP_KEY_MAX).
 * @return its size */
size_t ab_selection_begin(const ab_selection *selection, char *text);

/** Whether no column key from this one on is in it. */
bool ab_selection_is_before(const ab_selection *selection, const char *column, size_t size);

/** Compares as memcmp() does, the shorter of two with a common beginning first. */
int ab_bytes_compare(ab_bytes a, ab_bytes b);

#endif
