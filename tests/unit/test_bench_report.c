/* SPDX-License-Identifier: Apache-2.0 */
/* The bench's report: ratios within a round, medians over rounds, table and JSON. One thread. */
#include "tests/support/run.h"
#include "tools/anabranch/bench_report.h"

#include <anabranch/node.h>
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Takes the place of the library's. */
const char *ab_version(void)
{
    return "1.2.3";
}

static struct ab_bench_opts opts;
static struct ab_bench_round rounds[4];
static struct ab_bench_report report;

static void set(unsigned round, enum ab_bench_column column, double per_second, double p50)
{
    double *figures = rounds[round].columns[column].figures;
    for (unsigned i = 0; i < AB_FIG_COUNT; i++) {
        figures[i] = NAN;
    }
    figures[AB_FIG_ENTRIES_PER_S] = per_second;
    figures[AB_FIG_P50_US] = p50;
}

static void setup(void)
{
    ab_bench_opts_init(&opts);
    memset(rounds, 0, sizeof rounds);
    report =
        (struct ab_bench_report){.opts = &opts, .dir = "/d", .fs = "ext4", .rounds = 3, .results = rounds};
    ab_bench_columns(&opts, report.columns);
    static const double loops[] = {1000, 2000, 4000};
    static const double many[] = {900, 1000, 1000};
    for (unsigned i = 0; i < 3; i++) {
        set(i, AB_COL_LOOPS, loops[i], 10);
        set(i, AB_COL_MANY, many[i], 20);
        rounds[i].columns[AB_COL_LOOPS].figures[AB_FIG_LOGGED] = 1.2;
        rounds[i].columns[AB_COL_MANY].figures[AB_FIG_LOGGED] = 1.5;
        set(i, AB_COL_ONE, 100, 30);
        set(i, AB_COL_LOOP_ONE, 50, 200);
        set(i, AB_COL_LATENCY, 25, 300);
        set(i, AB_COL_LOOP_RESTS, 20, 400);
        set(i, AB_COL_SILENCE, 20, 2000);
        set(i, AB_COL_TCP, 9000, NAN);
        ab_bench_ratios(report.columns, &rounds[i]);
    }
}

START_TEST(ratios_are_of_the_same_round)
{
    ck_assert_double_eq_tol(rounds[0].columns[AB_COL_MANY].figures[AB_FIG_RATIO], 0.9, 1e-9);
    ck_assert_double_eq_tol(rounds[1].columns[AB_COL_MANY].figures[AB_FIG_RATIO], 0.5, 1e-9);
    ck_assert_double_eq_tol(rounds[2].columns[AB_COL_MANY].figures[AB_FIG_RATIO], 0.25, 1e-9);
    ck_assert_double_eq_tol(ab_bench_median(&report, AB_COL_MANY, AB_FIG_RATIO), 0.5, 1e-9);
    ck_assert_double_eq_tol(ab_bench_median(&report, AB_COL_LATENCY, AB_FIG_LATENCY_RATIO), 1.5, 1e-9);
    ck_assert_double_eq_tol(ab_bench_median(&report, AB_COL_SILENCE, AB_FIG_LATENCY_RATIO), 5, 1e-9);
    ck_assert(isnan(ab_bench_median(&report, AB_COL_LOOPS, AB_FIG_RATIO)));
    ck_assert_double_eq_tol(ab_bench_median(&report, AB_COL_MANY, AB_FIG_LOGGED_RATIO), 1.25, 1e-9);
}
END_TEST

START_TEST(median_of_even_and_missing)
{
    rounds[3] = rounds[0];
    report.rounds = 4;
    ck_assert_double_eq_tol(ab_bench_median(&report, AB_COL_LOOPS, AB_FIG_ENTRIES_PER_S), 1500, 1e-9);
    rounds[0].columns[AB_COL_LOOPS].figures[AB_FIG_ENTRIES_PER_S] = NAN;
    ck_assert_double_eq_tol(ab_bench_median(&report, AB_COL_LOOPS, AB_FIG_ENTRIES_PER_S), 2000, 1e-9);
    report.rounds = 0;
    ck_assert(isnan(ab_bench_median(&report, AB_COL_LOOPS, AB_FIG_ENTRIES_PER_S)));
}
END_TEST

START_TEST(references_only_where_needed)
{
    bool columns[AB_COL_COUNT];
    memset(opts.cases, 0, sizeof opts.cases);
    opts.cases[AB_BENCH_LATENCY] = true;
    ab_bench_columns(&opts, columns);
    ck_assert(!columns[AB_COL_LOOPS] && !columns[AB_COL_MANY] && !columns[AB_COL_ONE]);
    ck_assert(columns[AB_COL_LOOP_ONE] && columns[AB_COL_LATENCY]);
    ck_assert(!columns[AB_COL_SILENCE] && !columns[AB_COL_LOOP_RESTS]);
    struct ab_bench_round round = rounds[0];
    ab_bench_ratios(columns, &round); /* columns that were not measured get none */
    ck_assert(isnan(round.columns[AB_COL_MANY].figures[AB_FIG_RATIO]));
}
END_TEST

START_TEST(table_shows_columns_and_spread)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    ck_assert_int_eq(ab_bench_print_table(&report, out), 0);
    fclose(out);
    ck_assert_msg(
        strstr(text, "anabranch 1.2.3 bench: 3 nodes, 1 group, payloads of 100 bytes, level local") &&
            strstr(text, "loops          many           one         loop1       latency     loop1rest       "
                         "silence           tcp") &&
            strstr(text, "ratio to one bare loop               -         0.500         0.050") &&
            strstr(text, "ratio of \"many\" over the rounds: 0.250 to 0.900") && !strstr(text, "wire bytes"),
        "%s", text);
    free(text);
}
END_TEST

START_TEST(json_has_it_all)
{
    char *text = NULL;
    size_t size = 0;
    double ratio = 0;
    const char *level = NULL;
    json_t *wire = NULL, *all = NULL;
    FILE *out = open_memstream(&text, &size);
    ck_assert_int_eq(ab_bench_print_json(&report, out), 0);
    fclose(out);
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    ck_assert_msg(root != NULL, "%s", error.text);
    ck_assert_msg(json_unpack_ex(root, &error, 0, "{s:{s:{s:f, s:o}}, s:{s:s}, s:o}", "median", "many",
                                 "ratio", &ratio, "wire_bytes_per_payload_byte", &wire, "load", "level",
                                 &level, "rounds", &all) == 0,
                  "%s", error.text);
    ck_assert_double_eq_tol(ratio, 0.5, 1e-6);
    ck_assert_str_eq(level, "local");
    ck_assert(json_is_null(wire)); /* not a number is not JSON */
    ck_assert_uint_eq(json_array_size(all), 3);
    json_decref(root);
    free(text);
}
END_TEST

START_TEST(a_full_disk_is_an_error)
{
    FILE *full = fopen("/dev/full", "w");
    ck_assert_ptr_nonnull(full);
    ck_assert_int_eq(ab_bench_print_table(&report, full), -1);
    fclose(full);
    full = fopen("/dev/full", "w");
    ck_assert_int_eq(ab_bench_print_json(&report, full), -1);
    fclose(full);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench report");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, ratios_are_of_the_same_round);
    tcase_add_test(tcase, median_of_even_and_missing);
    tcase_add_test(tcase, references_only_where_needed);
    tcase_add_test(tcase, table_shows_columns_and_spread);
    tcase_add_test(tcase, json_has_it_all);
    tcase_add_test(tcase, a_full_disk_is_an_error);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
