/* SPDX-License-Identifier: Apache-2.0 */
/* A log-linear histogram of durations: constant memory, constant time, relative error below 1/128. A plain value;
 * one thread at a time. */
#ifndef ANABRANCH_TOOLS_BENCH_HIST_H
#define ANABRANCH_TOOLS_BENCH_HIST_H

#include <stddef.h>
#include <stdint.h>

/* Below 2^AB_HIST_BITS values count one by one, each doubling above it is split into 2^AB_HIST_BITS equal parts. */
#define AB_HIST_BITS 7u
#define AB_HIST_BUCKETS ((64u - AB_HIST_BITS + 1u) << AB_HIST_BITS)

/* All zero is an empty histogram; plain bytes that may be sent to another process of the same program. */
struct ab_hist {
    uint64_t total;
    uint64_t sum;
    uint64_t min; /* exact; 0 while empty */
    uint64_t max; /* exact */
    uint64_t counts[AB_HIST_BUCKETS];
};

void ab_hist_add(struct ab_hist *hist, uint64_t value);
void ab_hist_merge(struct ab_hist *into, const struct ab_hist *from);

/* The least bucket's upper end below which `ppm` millionths of the values lie: never below the exact percentile,
 * above it by less than 1/128 of it, never above the maximum. 0 if empty; ppm above a million counts as a million. */
uint64_t ab_hist_percentile(const struct ab_hist *hist, uint32_t ppm);
double ab_hist_mean(const struct ab_hist *hist);

/* Bucket of a value and the ends of a bucket, for tests. */
size_t ab_hist_bucket(uint64_t value);
uint64_t ab_hist_lowest(size_t bucket);
uint64_t ab_hist_highest(size_t bucket);

#endif
