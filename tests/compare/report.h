/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of all rounds, medians, ratios, and how they are shown. Main thread. */
#ifndef ANABRANCH_TESTS_COMPARE_REPORT_H
#define ANABRANCH_TESTS_COMPARE_REPORT_H

#include "tests/compare/options.h"

enum ab_cmp_figure {
    AB_CMP_RATE = 0, /* entries per second, until the last replica had the last */
    AB_CMP_P50,      /* us */
    AB_CMP_P99,      /* us */
    AB_CMP_CPU,      /* seconds per million entries, all processes */
    AB_CMP_CATCH_UP, /* ms from the last acknowledgement until all are equal */
    AB_CMP_FIGURES
};

struct ab_cmp_cell {
    bool known;
    double figures[AB_CMP_FIGURES];
    double entries;
};

struct ab_cmp_round {
    struct ab_cmp_cell cells[AB_CMP_SYSTEMS][AB_CMP_CASES];
};

struct ab_cmp_report {
    const struct ab_cmp_options *options;
    const char *fs;
    char versions[AB_CMP_SYSTEMS][64];
    struct ab_cmp_round *rounds;
    uint32_t count; /* finished */
};

/* Medians over the rounds; NAN where nothing is known. The ratio is that of each round, its two runs close in time. */
double ab_cmp_median(const struct ab_cmp_report *report, enum ab_cmp_system system, enum ab_cmp_case which,
                     enum ab_cmp_figure figure);
double ab_cmp_ratio(const struct ab_cmp_report *report, enum ab_cmp_system system, enum ab_cmp_system to,
                    enum ab_cmp_case which, enum ab_cmp_figure figure);

/* @return 0 or -1: cannot be written */
int ab_cmp_print_table(const struct ab_cmp_report *report, FILE *out);
int ab_cmp_print_json(const struct ab_cmp_report *report, FILE *out);

#endif
