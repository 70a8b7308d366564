/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file latency.h
 * How long writes took to their local acknowledgement, over the last seconds: a ring of log-linear histograms, one per
 * second. One thread adds (the log thread); any thread reads, and may see a second half forgotten.
 */
#ifndef ANABRANCH_ENGINE_LATENCY_H
#define ANABRANCH_ENGINE_LATENCY_H

#include <stdatomic.h>
#include <stdint.h>

/* Microseconds: below 16 each counts by itself, each doubling above is split in 16, to 2^36 us (19 hours). */
#define AB_LATENCY_BITS 4u
#define AB_LATENCY_BUCKETS ((36u - AB_LATENCY_BITS + 1u) << AB_LATENCY_BITS)
#define AB_LATENCY_SECONDS 10u

typedef struct ab_latency_second {
    atomic_ullong second; /* of the monotonic clock, plus 1; 0: empty */
    atomic_uint counts[AB_LATENCY_BUCKETS];
    atomic_uint max_us;
} ab_latency_second;

/** All zero: empty. */
typedef struct ab_latency {
    ab_latency_second seconds[AB_LATENCY_SECONDS];
} ab_latency;

typedef struct ab_latency_summary {
    uint64_t count;
    double p50, p99, p999, max; /* seconds, too high by at most 1/16; 0 where count is 0 */
} ab_latency_summary;

/** Constant time, but for the first call in a second. */
void ab_latency_add(ab_latency *self, uint64_t now_ns, uint64_t took_ns);
/** Of the second that `now_ns` lies in and the nine before it. */
void ab_latency_read(const ab_latency *self, uint64_t now_ns, ab_latency_summary *summary);

#endif
