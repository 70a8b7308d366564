/* SPDX-License-Identifier: Apache-2.0 */
/* Results of all rounds, their medians, and how they are shown. Main thread. */
#ifndef ANABRANCH_TOOLS_BENCH_REPORT_H
#define ANABRANCH_TOOLS_BENCH_REPORT_H

#include "tools/anabranch/bench_cluster.h"

#include <stdio.h>

/* In the order in which they are run and shown. */
enum ab_bench_column {
    AB_COL_LOOPS = 0, /* the reference: one bare loop per node, at once */
    AB_COL_MANY,
    AB_COL_ONE,
    AB_COL_LOOP_ONE, /* the reference for latency: one bare loop, one entry per commit */
    AB_COL_LATENCY,
    AB_COL_LOOP_RESTS, /* what the disk alone takes for the last commit before a silence */
    AB_COL_SILENCE,
    AB_COL_TCP, /* the other reference: one loopback connection */
    AB_COL_IDLE_ONE,
    AB_COL_IDLE,
    AB_COL_COUNT
};

struct ab_bench_round {
    struct ab_bench_result columns[AB_COL_COUNT];
};

struct ab_bench_report {
    const struct ab_bench_opts *opts;
    const char *dir;
    const char *fs;
    bool columns[AB_COL_COUNT]; /* measured */
    uint32_t rounds;            /* finished */
    struct ab_bench_round *results;
};

/* Which columns the options ask for. */
void ab_bench_columns(const struct ab_bench_opts *opts, bool columns[AB_COL_COUNT]);
const char *ab_bench_column_name(enum ab_bench_column column);

/* Fills in the ratios of a round, once all its columns are measured. */
void ab_bench_ratios(const bool columns[AB_COL_COUNT], struct ab_bench_round *round);

/* Median over the rounds of a figure (mean of the middle two); NAN where no round has it. */
double ab_bench_median(const struct ab_bench_report *report, enum ab_bench_column column,
                       enum ab_bench_figure figure);

/* @return 0, or -1: out of memory or `out` cannot be written */
int ab_bench_print_table(const struct ab_bench_report *report, FILE *out);
int ab_bench_print_json(const struct ab_bench_report *report, FILE *out);

/* Plots of the medians, with the spread over the rounds: opts->svg names the files. @return 0, or -1: that was said */
int ab_bench_plot(const struct ab_bench_report *report, FILE *err);

/* Least and greatest of a figure over the rounds. @return false: no round has it */
bool ab_bench_spread(const struct ab_bench_report *report, enum ab_bench_column column,
                     enum ab_bench_figure figure, double *low, double *high);

#endif
