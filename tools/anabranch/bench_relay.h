/* SPDX-License-Identifier: Apache-2.0 */
/* A stretch of network between two nodes of the bench: a TCP relay on loopback that delays what passes and limits its
 * rate, each way for itself. Started and stopped by one thread; has threads of its own. */
#ifndef ANABRANCH_TOOLS_BENCH_RELAY_H
#define ANABRANCH_TOOLS_BENCH_RELAY_H

#include <stdint.h>

typedef struct ab_bench_relay ab_bench_relay;

/* Listens on a port of its own and forwards to `to`. `delay_ns` each way; `rate` in bytes a second each way, 0: as fast
 * as it goes. NULL: no memory, descriptor or thread. */
ab_bench_relay *ab_bench_relay_start(uint16_t to, uint64_t delay_ns, uint64_t rate);
uint16_t ab_bench_relay_port(const ab_bench_relay *relay);
void ab_bench_relay_stop(ab_bench_relay *relay); /* NULL is allowed */

#endif
