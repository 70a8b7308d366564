/* SPDX-License-Identifier: Apache-2.0 */
/* Samples in any order become families, each once, in base units. One thread. */
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include "tools/anabranchd/exposition.h"

#include <check.h>
#include <math.h>
#include <string.h>

static ab_exposition all;
static char written[65536];

static void setup(void)
{
    all = (ab_exposition){.list = NULL};
}

static void teardown(void)
{
    ab_exposition_free(&all);
}

/* Writes to a buffer of its own: nothing is allocated by the stream. */
static void write_all(void)
{
    memset(written, 0, sizeof written);
    FILE *out = fmemopen(written, sizeof written, "w");
    ck_assert_ptr_nonnull(out);
    ab_exposition_write(&all, "x_", out);
    fclose(out);
}

START_TEST(groups_families)
{
    ab_exposition_put(&all, AB_METRIC_COUNTER, "b_total", "Bs.", "peer", "1", 1);
    ab_exposition_put(&all, AB_METRIC_GAUGE, "a", "As.", NULL, NULL, -0.5);
    ab_exposition_put(&all, AB_METRIC_COUNTER, "b_total", "Bs.", "peer", "2", 12345678901.0);
    ab_exposition_put(&all, AB_METRIC_GAUGE, "process_open_fds", "Files.", NULL, NULL, 7);
    write_all();
    ck_assert_str_eq(written, "# HELP x_a As.\n# TYPE x_a gauge\nx_a -0.5\n"
                              "# HELP x_b_total Bs.\n# TYPE x_b_total counter\nx_b_total{peer=\"1\"} 1\n"
                              "x_b_total{peer=\"2\"} 12345678901\n"
                              "# HELP process_open_fds Files.\n# TYPE process_open_fds gauge\n"
                              "process_open_fds 7\n");
}
END_TEST

START_TEST(odd_values)
{
    char longest[400];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    ab_exposition_put(&all, AB_METRIC_GAUGE, "a", "A.", "l", "say \"\\\"\n", NAN);
    ab_exposition_put(&all, AB_METRIC_GAUGE, "a", "A.", "l", "plus", INFINITY);
    ab_exposition_put(&all, AB_METRIC_GAUGE, "a", "A.", "l", "minus", -INFINITY);
    ab_exposition_put(&all, AB_METRIC_GAUGE, "a", "A.", "l", "third", 1.0 / 3);
    ab_exposition_put(&all, AB_METRIC_GAUGE, "z", "Z.", "l", longest, 1e300);
    write_all();
    ck_assert_ptr_nonnull(strstr(written, "\nx_a{l=\"say \\\"\\\\\\\"\\n\"} NaN\n"));
    ck_assert_ptr_nonnull(strstr(written, "\nx_a{l=\"plus\"} +Inf\n"));
    ck_assert_ptr_nonnull(strstr(written, "\nx_a{l=\"minus\"} -Inf\n"));
    ck_assert_ptr_nonnull(strstr(written, "\nx_a{l=\"third\"} 0.33333333333333331\n"));
    ck_assert_ptr_nonnull(strstr(written, "nnn\"} 1.0000000000000001e+300\n"));
}
END_TEST

/* Samples of two histograms by group, added in turns, stand together in the order of their buckets. */
START_TEST(keeps_order_of_buckets)
{
    static const char *const bounds[] = {"0.5", "1", "+Inf"};
    for (int i = 0; i < 3; i++) {
        ab_sample sample = {.family = "h_seconds",
                            .suffix = "_bucket",
                            .help = "H.",
                            .type = AB_METRIC_HISTOGRAM,
                            .value = i};
        snprintf(sample.labels, sizeof sample.labels, "le=\"%s\"", bounds[i]);
        ab_exposition_add(&all, &sample);
        ab_exposition_put(&all, AB_METRIC_GAUGE, "other", "O.", "l", bounds[i], i);
    }
    write_all();
    ck_assert_ptr_nonnull(strstr(written,
                                 "# TYPE x_h_seconds histogram\nx_h_seconds_bucket{le=\"0.5\"} 0\n"
                                 "x_h_seconds_bucket{le=\"1\"} 1\nx_h_seconds_bucket{le=\"+Inf\"} 2\n"
                                 "# HELP x_other"));
}
END_TEST

START_TEST(failing_allocations)
{
    for (unsigned long n = 1;; n++) {
        ab_exposition mine = {.list = NULL};
        FILE *out = fmemopen(written, sizeof written, "w");
        alloc_fail_at(n);
        for (int i = 0; i < 300; i++) {
            ab_exposition_put(&mine, AB_METRIC_GAUGE, "a", "A.", NULL, NULL, i);
        }
        ab_exposition_write(&mine, "x_", out);
        bool happened = alloc_fail_happened();
        alloc_fail_at(0);
        fclose(out);
        ck_assert(mine.failed == happened);
        ab_exposition_free(&mine);
        if (!happened) {
            ck_assert_uint_gt(n, 3);
            return;
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("exposition");
    TCase *c = tcase_create("exposition");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, groups_families);
    tcase_add_test(c, odd_values);
    tcase_add_test(c, keeps_order_of_buckets);
    tcase_add_test(c, failing_allocations);
    suite_add_tcase(s, c);
    return test_run(s);
}
