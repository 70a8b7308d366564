/* SPDX-License-Identifier: Apache-2.0 */
/* The child processes of one run: start, order, await, end. Main thread of the bench. */
#ifndef ANABRANCH_TOOLS_BENCH_CREW_H
#define ANABRANCH_TOOLS_BENCH_CREW_H

#include "tools/anabranch/bench_proto.h"

#include <stdio.h>
#include <sys/types.h>

struct ab_bench_member {
    pid_t pid; /* 0: none */
    int fd;
    struct ab_bench_msg last; /* its latest message */
};

struct ab_bench_crew {
    const char *what; /* "node", "loop": for messages */
    int cancel_fd;
    FILE *err;
    uint32_t count;
    struct ab_bench_member members[AB_BENCH_NODES_MAX];
};

/* NULL: out of memory */
struct ab_bench_crew *ab_bench_crew_new(const char *what, int cancel_fd, FILE *err);

/* Starts one more process of this program and waits until it is ready. @return 0, or 1: what went wrong was said */
int ab_bench_crew_add(struct ab_bench_crew *crew, const struct ab_bench_setup *setup);

/* Sends all the same order. */
void ab_bench_crew_order(struct ab_bench_crew *crew, enum ab_bench_msg_type type, const void *body,
                         size_t size);

/* Waits for a message of that type from each. */
int ab_bench_crew_await(struct ab_bench_crew *crew, enum ab_bench_msg_type type, uint64_t timeout_ns);

/* Has all leave in order. @return 0, or 1: one did not, or its exit status is not 0; that was said */
int ab_bench_crew_dismiss(struct ab_bench_crew *crew);

/* Ends all: those that do not leave by themselves in time are killed. */
void ab_bench_crew_free(struct ab_bench_crew *crew);

#endif
