/* SPDX-License-Identifier: Apache-2.0 */
/* See linger.h. The factors and bounds were found by trial (docs/PERFORMANCE.md): a writer that waits for each of its writes
 * sends a block every 1.2 commits or so, and later where the peers share its disk. */
#include "engine/linger.h"

/* The next block is late after two commits. */
#define LATE_COMMITS 2u
#define LATE_MOST_NS 1000000u
/* While they keep coming, the oldest waits for sixteen: committing them is a small part of what the disk does then. */
#define WAIT_COMMITS 16u
#define WAIT_MOST_NS 8000000u
#define SMOOTHING 8u /* as the round trip of TCP is smoothed: RFC 6298, alpha */

static uint64_t at_most(uint64_t value, uint64_t most)
{
    return value < most ? value : most;
}

void ab_linger_committed(ab_linger *self, uint64_t took_ns)
{
    uint64_t smoothed = atomic_load_explicit(&self->commit_ns, memory_order_relaxed);
    took_ns = at_most(took_ns, LATE_MOST_NS); /* more makes no difference, and a stall passes */
    smoothed = smoothed == 0 ? took_ns : smoothed - smoothed / SMOOTHING + took_ns / SMOOTHING;
    atomic_store_explicit(&self->commit_ns, smoothed, memory_order_relaxed);
}

void ab_linger_came(ab_linger *self, bool first, uint64_t now_ns)
{
    self->first_at = first ? now_ns : self->first_at;
    self->last_at = now_ns;
}

uint64_t ab_linger_due(const ab_linger *self)
{
    uint64_t commit_ns = atomic_load_explicit(&self->commit_ns, memory_order_relaxed);
    uint64_t late = self->last_at + at_most(LATE_COMMITS * commit_ns, LATE_MOST_NS);
    uint64_t last = self->first_at + at_most(WAIT_COMMITS * commit_ns, WAIT_MOST_NS);
    return at_most(late, last);
}
