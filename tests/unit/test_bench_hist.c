/* SPDX-License-Identifier: Apache-2.0 */
/* The bench's histogram against sorted values: buckets tile the numbers, percentiles keep their bound. One thread. */
#include "tests/support/run.h"
#include "tools/anabranch/bench_hist.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define VALUES 20000u

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static struct ab_hist *new_hist(void)
{
    struct ab_hist *hist = calloc(1, sizeof *hist);
    ck_assert_ptr_nonnull(hist);
    return hist;
}

START_TEST(buckets_tile_all_numbers)
{
    ck_assert_uint_eq(ab_hist_lowest(0), 0);
    for (size_t i = 0; i + 1 < AB_HIST_BUCKETS; i++) {
        ck_assert_uint_eq(ab_hist_highest(i) + 1, ab_hist_lowest(i + 1));
    }
    ck_assert_uint_eq(ab_hist_highest(AB_HIST_BUCKETS - 1), UINT64_MAX);
}
END_TEST

START_TEST(ends_of_a_bucket_belong_to_it)
{
    for (size_t i = 0; i < AB_HIST_BUCKETS; i++) {
        uint64_t low = ab_hist_lowest(i);
        uint64_t high = ab_hist_highest(i);
        ck_assert_uint_eq(ab_hist_bucket(low), i);
        ck_assert_uint_eq(ab_hist_bucket(high), i);
        /* never wider than 1/128 of what is in it */
        ck_assert_uint_le(high - low, low >> AB_HIST_BITS);
    }
}
END_TEST

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The definition: the least value such that at least that share is not above it. */
static uint64_t exact_percentile(const uint64_t *sorted, size_t count, uint32_t ppm)
{
    uint64_t rank = ((uint64_t)count * ppm + 999999u) / 1000000u;
    return sorted[rank > 0 ? rank - 1 : 0];
}

START_TEST(percentiles_keep_their_bound)
{
    static const uint32_t shares[] = {0, 1, 1000, 100000, 500000, 900000, 990000, 999000, 999999, 1000000};
    uint64_t *values = malloc(VALUES * sizeof values[0]);
    struct ab_hist *hist = new_hist();
    uint64_t seed = (uint64_t)_i + 1;
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < VALUES; i++) {
        /* all magnitudes alike */
        values[i] = next_random(&seed) >> (next_random(&seed) % 64);
        ab_hist_add(hist, values[i]);
    }
    qsort(values, VALUES, sizeof values[0], compare);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        uint64_t exact = exact_percentile(values, VALUES, shares[i]);
        uint64_t given = ab_hist_percentile(hist, shares[i]);
        ck_assert_msg(given >= exact && given - exact <= exact >> AB_HIST_BITS,
                      "seed %d, ppm %u: %lu for %lu", _i + 1, shares[i], (unsigned long)given,
                      (unsigned long)exact);
    }
    ck_assert_uint_eq(ab_hist_percentile(hist, 1000000), values[VALUES - 1]);
    ck_assert_uint_eq(hist->min, values[0]);
    free(values);
    free(hist);
}
END_TEST

START_TEST(small_values_are_exact)
{
    struct ab_hist *hist = new_hist();
    for (uint64_t v = 1; v <= 100; v++) {
        ab_hist_add(hist, v);
    }
    ck_assert_uint_eq(ab_hist_percentile(hist, 500000), 50);
    ck_assert_uint_eq(ab_hist_percentile(hist, 990000), 99);
    ck_assert_uint_eq(ab_hist_percentile(hist, 991000), 100);
    ck_assert_uint_eq(ab_hist_percentile(hist, 5000000), 100);
    ck_assert(ab_hist_mean(hist) > 50.49 && ab_hist_mean(hist) < 50.51);
    free(hist);
}
END_TEST

START_TEST(empty)
{
    struct ab_hist *hist = new_hist();
    ck_assert_uint_eq(ab_hist_percentile(hist, 500000), 0);
    ck_assert(ab_hist_mean(hist) == 0);
    free(hist);
}
END_TEST

START_TEST(merge_is_as_if_added_to_one)
{
    struct ab_hist *all = new_hist();
    struct ab_hist *parts[3] = {new_hist(), new_hist(), new_hist()};
    struct ab_hist *merged = new_hist();
    uint64_t seed = 7;
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t value = next_random(&seed) >> (next_random(&seed) % 64);
        ab_hist_add(all, value);
        ab_hist_add(parts[i % 2], value); /* the third stays empty */
    }
    for (unsigned i = 0; i < 3; i++) {
        ab_hist_merge(merged, parts[2 - i]);
        free(parts[2 - i]);
    }
    ck_assert_mem_eq(merged, all, sizeof *all);
    free(all);
    free(merged);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench histogram");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, buckets_tile_all_numbers);
    tcase_add_test(tcase, ends_of_a_bucket_belong_to_it);
    tcase_add_loop_test(tcase, percentiles_keep_their_bound, 0, 10);
    tcase_add_test(tcase, small_values_are_exact);
    tcase_add_test(tcase, empty);
    tcase_add_test(tcase, merge_is_as_if_added_to_one);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
