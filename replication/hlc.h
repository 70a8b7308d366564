/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hlc.h
 * The hybrid logical clock as pure functions: 48 bits of milliseconds since 1970, 16 bits of counter. No
 * state; the caller keeps the last value and brings the wall clock.
 */
#ifndef ANABRANCH_REPLICATION_HLC_H
#define ANABRANCH_REPLICATION_HLC_H

#include <stdbool.h>
#include <stdint.h>

/** The hlc that a wall clock of `wall_ms` shows, counter 0. */
uint64_t ab_hlc_from_ms(uint64_t wall_ms);

/** Milliseconds of an hlc. */
uint64_t ab_hlc_ms(uint64_t hlc);

/** Stamp of a write: the greater of the wall clock and `last` + 1. Never goes back, whatever the clock does. */
uint64_t ab_hlc_now(uint64_t last, uint64_t wall_ms);

/**
 * The last hlc known after `remote` was seen: the greater of both; but a remote one that is more than
 * `max_skew_ms` ahead of our wall clock is not merged, sets `*skewed` and leaves `last`.
 */
uint64_t ab_hlc_merge(uint64_t last, uint64_t remote, uint64_t wall_ms, uint64_t max_skew_ms, bool *skewed);

#endif
