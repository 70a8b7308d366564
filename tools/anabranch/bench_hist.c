/* SPDX-License-Identifier: Apache-2.0 */
/* Log-linear histogram, see bench_hist.h. One thread at a time. */
#include "tools/anabranch/bench_hist.h"

#define PART (1u << AB_HIST_BITS)

size_t ab_hist_bucket(uint64_t value)
{
    if (value < PART) {
        return (size_t)value;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - AB_HIST_BITS;
    return ((size_t)(shift + 1) << AB_HIST_BITS) + (size_t)((value >> shift) - PART);
}

uint64_t ab_hist_lowest(size_t bucket)
{
    if (bucket < PART) {
        return bucket;
    }
    unsigned shift = (unsigned)(bucket >> AB_HIST_BITS) - 1;
    return (uint64_t)(PART + (bucket & (PART - 1))) << shift;
}

uint64_t ab_hist_highest(size_t bucket)
{
    if (bucket < PART) {
        return bucket;
    }
    unsigned shift = (unsigned)(bucket >> AB_HIST_BITS) - 1;
    return ab_hist_lowest(bucket) + (((uint64_t)1 << shift) - 1);
}

void ab_hist_add(struct ab_hist *hist, uint64_t value)
{
    if (hist->total == 0 || value < hist->min) {
        hist->min = value;
    }
    if (value > hist->max) {
        hist->max = value;
    }
    hist->total++;
    hist->sum += value;
    hist->counts[ab_hist_bucket(value)]++;
}

void ab_hist_merge(struct ab_hist *into, const struct ab_hist *from)
{
    if (from->total == 0) {
        return;
    }
    if (into->total == 0 || from->min < into->min) {
        into->min = from->min;
    }
    if (from->max > into->max) {
        into->max = from->max;
    }
    into->total += from->total;
    into->sum += from->sum;
    for (size_t i = 0; i < AB_HIST_BUCKETS; i++) {
        into->counts[i] += from->counts[i];
    }
}

/* How many values must lie at or below the answer: the share rounded up, at least one. */
static uint64_t rank_of(uint64_t total, uint32_t ppm)
{
    uint64_t whole = total / 1000000u * ppm;
    uint64_t rest = total % 1000000u * ppm;
    uint64_t rank = whole + (rest + 999999u) / 1000000u;
    return rank > 0 ? rank : 1;
}

uint64_t ab_hist_percentile(const struct ab_hist *hist, uint32_t ppm)
{
    if (hist->total == 0) {
        return 0;
    }
    uint64_t rank = rank_of(hist->total, ppm < 1000000u ? ppm : 1000000u);
    uint64_t seen = 0;
    for (size_t i = 0; i < AB_HIST_BUCKETS; i++) {
        seen += hist->counts[i];
        if (seen >= rank) {
            uint64_t high = ab_hist_highest(i);
            return high < hist->max ? high : hist->max;
        }
    }
    return hist->max;
}

double ab_hist_mean(const struct ab_hist *hist)
{
    return hist->total ? (double)hist->sum / (double)hist->total : 0;
}
