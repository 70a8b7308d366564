/* SPDX-License-Identifier: Apache-2.0 */
/* The one monotonic clock. Safe on any thread. */
#include "engine/transport/transport.h"

#include <time.h>

uint64_t ab_monotonic_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock on the systems we run on */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
