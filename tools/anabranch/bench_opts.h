/* SPDX-License-Identifier: Apache-2.0 */
/* Options of `anabranch bench`. Main thread. */
#ifndef ANABRANCH_TOOLS_BENCH_OPTS_H
#define ANABRANCH_TOOLS_BENCH_OPTS_H

#include <anabranch/types.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define AB_BENCH_NODES_MAX 7u
#define AB_BENCH_PATH_MAX 1024u
#define AB_BENCH_SILENCES_MAX 4096u /* measured in a run */
/* Every fourth write is the last before a silence. */
#define AB_BENCH_BEFORE_SILENCE 4u
#define AB_BENCH_SILENCE_NS 20000000u

/* What is measured beside the reference loops. */
enum ab_bench_case {
    AB_BENCH_MANY = 0,    /* ab_write_many, `batch` entries a call */
    AB_BENCH_ONE = 1,     /* ab_write, one entry a call, many outstanding */
    AB_BENCH_LATENCY = 2, /* ab_write_wait of one entry, one writer on node 1 */
    AB_BENCH_SILENCE = 3, /* a few of those, then silence: until the last of them is applied everywhere */
    AB_BENCH_IDLE = 4,    /* nothing is written: what a group, and what many groups cost by being open */
    AB_BENCH_CASES = 5
};

/* How the nodes are loaded; a plain value, also sent to the child processes. */
struct ab_bench_load {
    uint32_t nodes;
    uint32_t groups;
    uint32_t writers;   /* per node */
    uint32_t batch;     /* entries per ab_write_many */
    uint32_t in_flight; /* outstanding entries per writer */
    uint32_t payload;   /* bytes */
    uint64_t warmup_ns; /* written but not measured */
    uint64_t duration_ns;
    uint64_t entries; /* per node, no warm-up; 0: until the duration is over */
    uint64_t rate;    /* entries per second and node; 0: as fast as it goes */
    ab_durability durability;
    ab_write_level level;
    ab_apply_order order;
    uint32_t dispatcher_threads;
    uint32_t apply_threads;
    uint32_t block_bytes;
    uint64_t queue_bytes;
    char backend[AB_NAME_MAX + 1];
};

/* The bare loops. */
struct ab_bench_ref {
    uint32_t block;   /* entries per commit */
    uint32_t backlog; /* blocks kept; the oldest beyond it goes in the same commit */
    bool rests;       /* writes in the rhythm of case "silence" */
};

struct ab_bench_opts {
    struct ab_bench_load load;
    struct ab_bench_ref ref;
    bool cases[AB_BENCH_CASES];
    uint32_t idle_groups;
    uint64_t link_delay_ns; /* each way, through a relay */
    uint64_t link_rate;     /* bytes a second each way, through a relay; 0: no limit */
    uint32_t rounds;
    bool json;
    bool keep;
    bool verbose;
    bool help;
    char dir[AB_BENCH_PATH_MAX]; /* empty: $TMPDIR, else the current directory */
    char svg[AB_BENCH_PATH_MAX]; /* what the names of plots begin with; empty: none */
};

void ab_bench_opts_init(struct ab_bench_opts *opts);

/* Reads the command line; argv[0] is skipped. What is wrong goes to `err`. @return 0, or 2 for wrong usage */
int ab_bench_opts_parse(int argc, char **argv, struct ab_bench_opts *opts, FILE *err);

void ab_bench_help(FILE *out);

const char *ab_bench_case_name(enum ab_bench_case which);

#endif
