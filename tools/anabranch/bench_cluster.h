/* SPDX-License-Identifier: Apache-2.0 */
/* One run: starts the child processes, leads them through it, checks that they agree, sums up what they measured.
 * Main thread of the bench. */
#ifndef ANABRANCH_TOOLS_BENCH_CLUSTER_H
#define ANABRANCH_TOOLS_BENCH_CLUSTER_H

#include "tools/anabranch/bench_opts.h"

#include <stdio.h>

/* What is measured; NAN where it does not apply or the system does not tell. */
enum ab_bench_figure {
    AB_FIG_ENTRIES_PER_S = 0, /* replicated to all; of bare loops: logged, mean of one */
    AB_FIG_RATIO,             /* entries/s to one bare loop's of the same round */
    AB_FIG_ACKED_PER_S,
    AB_FIG_CATCH_UP_MS, /* from the last acknowledgement to the last apply */
    AB_FIG_P50_US,
    AB_FIG_P99_US,
    AB_FIG_P999_US,
    AB_FIG_MAX_US,
    AB_FIG_LATENCY_RATIO, /* p50 to the bare loop's with one entry per commit */
    AB_FIG_CPU_S,         /* all processes, per million entries */
    AB_FIG_WIRE,          /* bytes sent per payload byte and peer */
    AB_FIG_LOGGED,        /* bytes in write calls to files, per payload byte and node */
    AB_FIG_LOGGED_RATIO,  /* that to the bare loops' */
    AB_FIG_DISK,          /* bytes that the kernel counts as written to storage, per payload byte and node */
    AB_FIG_PEAK_MIB,      /* of the largest process */
    AB_FIG_OPENED_S,      /* idle: until node and groups were open, slowest node */
    AB_FIG_CORE_PERCENT,  /* idle: CPU of the busiest node, of one core */
    AB_FIG_RESIDENT_MIB,  /* idle: of the largest node */
    AB_FIG_MORE_MIB,      /* idle: of many groups, more than of one */
    AB_FIG_ENTRIES,       /* all nodes together */
    AB_FIG_BUSY,          /* calls that found the queue full for a second */
    AB_FIG_COUNT
};

struct ab_bench_result {
    double figures[AB_FIG_COUNT];
};

/* Where runs happen. */
struct ab_bench_site {
    const struct ab_bench_opts *opts;
    const char *dir; /* below it each run makes its own and removes it */
    int cancel_fd;   /* readable: give up */
    FILE *err;
};

/* All nodes of the cluster. @return 0, or 1: what went wrong was said */
int ab_bench_run_cluster(const struct ab_bench_site *site, enum ab_bench_case which, uint32_t round,
                         struct ab_bench_result *result);

/* All nodes with that many groups, to which nothing is written. */
int ab_bench_run_idle(const struct ab_bench_site *site, uint32_t groups, uint32_t round,
                      struct ab_bench_result *result);

/* One loopback TCP connection. */
int ab_bench_run_tcp(const struct ab_bench_site *site, uint32_t round, struct ab_bench_result *result);

/* Bare loops at once. */
struct ab_bench_loops {
    const char *name; /* for their directory */
    uint32_t count;
    struct ab_bench_ref ref;
};

int ab_bench_run_loops(const struct ab_bench_site *site, const struct ab_bench_loops *loops, uint32_t round,
                       struct ab_bench_result *result);

#endif
