/* SPDX-License-Identifier: Apache-2.0 */
/* Latency of the last seconds, see latency.h. One thread adds, any thread reads. */
#include "engine/latency.h"

#define NS_PER_SECOND 1000000000u
#define PART (1u << AB_LATENCY_BITS)

static unsigned bucket_of(uint64_t us)
{
    if (us < PART) {
        return (unsigned)us;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(us) - AB_LATENCY_BITS;
    unsigned bucket = ((shift + 1) << AB_LATENCY_BITS) + (unsigned)((us >> shift) - PART);
    return bucket < AB_LATENCY_BUCKETS ? bucket : AB_LATENCY_BUCKETS - 1;
}

/* The highest value that falls into the bucket. */
static uint64_t end_of(unsigned bucket)
{
    if (bucket < PART) {
        return bucket;
    }
    unsigned shift = (bucket >> AB_LATENCY_BITS) - 1;
    return ((uint64_t)(PART + (bucket & (PART - 1)) + 1) << shift) - 1;
}

static void forget(ab_latency_second *slot)
{
    for (unsigned i = 0; i < AB_LATENCY_BUCKETS; i++) {
        atomic_store_explicit(&slot->counts[i], 0, memory_order_relaxed);
    }
    atomic_store_explicit(&slot->max_us, 0, memory_order_relaxed);
}

void ab_latency_add(ab_latency *self, uint64_t now_ns, uint64_t took_ns)
{
    uint64_t second = now_ns / NS_PER_SECOND + 1;
    uint64_t us = took_ns / 1000;
    ab_latency_second *slot = &self->seconds[second % AB_LATENCY_SECONDS];
    if (atomic_load_explicit(&slot->second, memory_order_relaxed) != second) {
        forget(slot);
        atomic_store_explicit(&slot->second, second, memory_order_release);
    }
    atomic_fetch_add_explicit(&slot->counts[bucket_of(us)], 1, memory_order_relaxed);
    if (us > atomic_load_explicit(&slot->max_us, memory_order_relaxed)) {
        unsigned most = us < UINT32_MAX ? (unsigned)us : UINT32_MAX;
        atomic_store_explicit(&slot->max_us, most, memory_order_relaxed);
    }
}

static uint64_t percentile(const uint64_t *counts, uint64_t total, unsigned per_mille, uint64_t max_us)
{
    uint64_t rank = (total * per_mille + 999) / 1000;
    uint64_t seen = 0;
    unsigned bucket = 0;
    while (bucket + 1 < AB_LATENCY_BUCKETS && (seen += counts[bucket]) < rank) {
        bucket++;
    }
    return end_of(bucket) < max_us ? end_of(bucket) : max_us;
}

void ab_latency_read(const ab_latency *self, uint64_t now_ns, ab_latency_summary *summary)
{
    uint64_t counts[AB_LATENCY_BUCKETS] = {0};
    uint64_t now = now_ns / NS_PER_SECOND + 1;
    uint64_t max_us = 0;
    *summary = (ab_latency_summary){0};
    for (unsigned i = 0; i < AB_LATENCY_SECONDS; i++) {
        const ab_latency_second *slot = &self->seconds[i];
        uint64_t second = atomic_load_explicit(&slot->second, memory_order_acquire);
        if (second == 0 || second + AB_LATENCY_SECONDS <= now || second > now) {
            continue;
        }
        for (unsigned k = 0; k < AB_LATENCY_BUCKETS; k++) {
            unsigned count = atomic_load_explicit(&slot->counts[k], memory_order_relaxed);
            counts[k] += count;
            summary->count += count;
        }
        unsigned most = atomic_load_explicit(&slot->max_us, memory_order_relaxed);
        max_us = most > max_us ? most : max_us;
    }
    if (summary->count > 0) {
        summary->p50 = (double)percentile(counts, summary->count, 500, max_us) / 1e6;
        summary->p99 = (double)percentile(counts, summary->count, 990, max_us) / 1e6;
        summary->p999 = (double)percentile(counts, summary->count, 999, max_us) / 1e6;
        summary->max = (double)max_us / 1e6;
    }
}
