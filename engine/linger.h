/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file linger.h
 * How long a received block that nobody waits for waits for company before the log commits it. A commit for each block would
 * take the disk (where the peers share one) and the processor away from the writes that somebody does wait for; any wait
 * delays the block. So it lasts as long as more keep coming: until the next one is late, and not beyond a bound. Both follow
 * what a commit takes here: a fast disk makes nobody wait.
 *
 * Arrivals are noted and read under the log thread's lock, commits by whoever commits: one at a time.
 */
#ifndef ANABRANCH_ENGINE_LINGER_H
#define ANABRANCH_ENGINE_LINGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/** All zero: nothing came, no commit was seen. */
typedef struct ab_linger {
    uint64_t first_at;       /* monotonic ns: when the oldest block that waits came */
    uint64_t last_at;        /* and the newest */
    atomic_ullong commit_ns; /* smoothed; 0: there was none */
} ab_linger;

/** A commit took so long. */
void ab_linger_committed(ab_linger *self, uint64_t took_ns);

/** A block came; `first`: none was waiting. */
void ab_linger_came(ab_linger *self, bool first, uint64_t now_ns);

/** @return monotonic ns at which those that wait are committed */
uint64_t ab_linger_due(const ab_linger *self);

#endif
