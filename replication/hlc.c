/* SPDX-License-Identifier: Apache-2.0 */
/* Hybrid logical clock: pure functions, any thread. */
#include "replication/hlc.h"

#define COUNTER_BITS 16u
#define MS_MAX ((UINT64_C(1) << 48) - 1)

uint64_t ab_hlc_from_ms(uint64_t wall_ms)
{
    return (wall_ms > MS_MAX ? MS_MAX : wall_ms) << COUNTER_BITS;
}

uint64_t ab_hlc_ms(uint64_t hlc)
{
    return hlc >> COUNTER_BITS;
}

uint64_t ab_hlc_now(uint64_t last, uint64_t wall_ms)
{
    uint64_t wall = ab_hlc_from_ms(wall_ms);
    /* A full counter carries into the milliseconds: the order is what counts. */
    uint64_t next = last == UINT64_MAX ? last : last + 1;
    return wall > next ? wall : next;
}

uint64_t ab_hlc_merge(uint64_t last, uint64_t remote, uint64_t wall_ms, uint64_t max_skew_ms, bool *skewed)
{
    uint64_t remote_ms = ab_hlc_ms(remote);
    *skewed = remote_ms > wall_ms && remote_ms - wall_ms > max_skew_ms;
    return *skewed || remote < last ? last : remote;
}
