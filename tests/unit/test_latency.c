/* SPDX-License-Identifier: Apache-2.0 */
/* Latency of the last seconds: percentiles are never too low and at most 1/16 too high, old seconds are forgotten, a
 * reader beside the writer sees numbers that make sense. */
#include "engine/latency.h"
#include "tests/support/run.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#define SECOND 1000000000ull

static ab_latency *fresh(void)
{
    ab_latency *latency = calloc(1, sizeof *latency);
    ck_assert_ptr_nonnull(latency);
    return latency;
}

static void expect_about(double value, double exact)
{
    ck_assert_msg(value >= exact - 1.1e-6 && value <= exact * (1 + 1.0 / 16) + 1e-6, "%g for %g", value,
                  exact);
}

START_TEST(nothing)
{
    ab_latency *latency = fresh();
    ab_latency_summary s = {.count = 7, .max = 7};
    ab_latency_read(latency, 5 * SECOND, &s);
    ck_assert_uint_eq(s.count, 0);
    ck_assert(s.p50 == 0 && s.max == 0);
    free(latency);
}
END_TEST

START_TEST(percentiles)
{
    ab_latency *latency = fresh();
    ab_latency_summary s;
    for (uint64_t us = 1; us <= 1000; us++) {
        ab_latency_add(latency, 100 * SECOND, us * 1000);
    }
    ab_latency_read(latency, 100 * SECOND, &s);
    ck_assert_uint_eq(s.count, 1000);
    expect_about(s.p50, 500e-6);
    expect_about(s.p99, 990e-6);
    expect_about(s.p999, 999e-6);
    ck_assert(s.max == 1000e-6);
    free(latency);
}
END_TEST

/* Each magnitude, and what no bucket is large enough for. */
START_TEST(magnitudes)
{
    for (uint64_t ns = 1; ns < UINT64_MAX / 3; ns = ns * 3 + 1) {
        ab_latency *latency = fresh();
        ab_latency_summary s;
        ab_latency_add(latency, SECOND, ns);
        ab_latency_read(latency, SECOND, &s);
        ck_assert_uint_eq(s.count, 1);
        double exact = ns / 1000 < UINT32_MAX ? (double)(ns / 1000) / 1e6 : (double)UINT32_MAX / 1e6;
        ck_assert(s.max == exact);
        ck_assert(s.p50 <= s.max);
        expect_about(s.p50, exact);
        free(latency);
    }
}
END_TEST

START_TEST(forgetting)
{
    ab_latency *latency = fresh();
    ab_latency_summary s;
    ab_latency_add(latency, 100 * SECOND, 9000000);
    ab_latency_add(latency, 105 * SECOND, 1000000);
    ab_latency_read(latency, 109 * SECOND, &s);
    ck_assert_uint_eq(s.count, 2);
    ck_assert(s.max == 9e-3);
    ab_latency_read(latency, 110 * SECOND, &s);
    ck_assert_uint_eq(s.count, 1);
    ck_assert(s.max == 1e-3);
    ab_latency_add(latency, 110 * SECOND, 2000000); /* in the place of second 100 */
    ab_latency_read(latency, 110 * SECOND, &s);
    ck_assert_uint_eq(s.count, 2);
    ck_assert(s.max == 2e-3);
    ab_latency_read(latency, 200 * SECOND, &s);
    ck_assert_uint_eq(s.count, 0);
    free(latency);
}
END_TEST

static void *add_many(void *arg)
{
    for (uint64_t i = 0; i < 300000; i++) {
        ab_latency_add(arg, SECOND + i * 100000, 50000 + i % 1000 * 1000);
    }
    return NULL;
}

START_TEST(reader_beside_writer)
{
    ab_latency *latency = fresh();
    ab_latency_summary s = {0};
    pthread_t writer;
    ck_assert_int_eq(pthread_create(&writer, NULL, add_many, latency), 0);
    for (uint64_t i = 0; i < 300; i++) {
        ab_latency_read(latency, SECOND + i * 100000000, &s);
        ck_assert(s.p50 <= s.p99 && s.p99 <= s.p999 && s.max <= 1050e-6);
    }
    ck_assert_int_eq(pthread_join(writer, NULL), 0);
    ab_latency_read(latency, 30 * SECOND, &s);
    ck_assert_uint_eq(s.count, 100000);
    free(latency);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("latency");
    TCase *tests = tcase_create("latency");
    tcase_add_test(tests, nothing);
    tcase_add_test(tests, percentiles);
    tcase_add_test(tests, magnitudes);
    tcase_add_test(tests, forgetting);
    tcase_add_test(tests, reader_beside_writer);
    suite_add_tcase(suite, tests);
    return test_run(suite);
}
