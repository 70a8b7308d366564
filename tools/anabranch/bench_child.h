/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of child processes: a node with its writers, a bare log loop, a bare TCP transfer. Each talks to the bench over
 * its standard input (bench_proto.h) and ends when that does. Main thread of the child. */
#ifndef ANABRANCH_TOOLS_BENCH_CHILD_H
#define ANABRANCH_TOOLS_BENCH_CHILD_H

#include "tools/anabranch/bench_proto.h"

/* Reads SETUP and becomes what it says. @return exit code */
int ab_bench_child_main(void);

int ab_bench_node_main(const struct ab_bench_setup *setup);
int ab_bench_loop_main(const struct ab_bench_setup *setup);
int ab_bench_tcp_main(const struct ab_bench_setup *setup);

/* Waits for an order. @return 0, or -1: the input has ended or makes no sense, leave */
int ab_bench_order(struct ab_bench_msg *msg, enum ab_bench_msg_type expected);

/* Answers. @return 0 or -1 */
int ab_bench_answer(enum ab_bench_msg_type type, const void *body, size_t size);

/* Sends an ERROR. @return 1, the exit code */
__attribute__((format(printf, 1, 2))) int ab_bench_fail(const char *format, ...);

#endif
