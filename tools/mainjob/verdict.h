/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file verdict.h
 * What the replicas must hold, from what was acknowledged alone: for each series, field and time the value of the
 * write with the greatest (hlc, node). One thread.
 */
#ifndef ANABRANCH_VERDICT_H
#define ANABRANCH_VERDICT_H

#include "tools/mainjob/feed.h"

typedef struct ab_verdict ab_verdict;

typedef struct ab_verdict_counts {
    size_t points;    /**< that must be there */
    size_t conflicts; /**< points written with different values through different nodes */
    size_t unclear;   /**< points that an unacknowledged batch may have changed */
    char error[512];  /**< the first thing that was wrong; empty if none */
} ab_verdict_counts;

/** `groups` as in the configuration: a series' group is one of 1 ... groups, by hash. NULL: out of memory. */
ab_verdict *ab_verdict_new(unsigned groups);
void ab_verdict_free(ab_verdict *verdict);

/** Takes a feed that has ended. @return false: counts->error says what cannot be judged */
bool ab_verdict_add(ab_verdict *verdict, const ab_feed *feed, ab_verdict_counts *counts);

/** Reads an export: each acknowledged point is there with the winner's value, and nothing else is.
 *  @return false: counts->error says the first difference */
bool ab_verdict_check(ab_verdict *verdict, const char *export_path, ab_verdict_counts *counts);

#endif
