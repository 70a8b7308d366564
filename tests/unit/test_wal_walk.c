/* SPDX-License-Identifier: Apache-2.0 */
/* The resumable walk over the log: what it gives for which range, around trimmed, damaged and missing parts, and with
 * each allocation failing in turn. */
#include "test_wal_support.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include "wal/walk.h"

#include <check.h>
#include <string.h>

static const ab_stream first_stream = {1, 7};
static const ab_stream second_stream = {2, 7};
static char *dir;
static ab_wal *wal;

static void setup(void)
{
    ab_wal_options options = {.durability = AB_DURABILITY_NONE, .max_bytes = 64u << 20};
    ab_wal_origin origin;
    dir = wt_dir_new(true);
    ck_assert_int_eq(ab_wal_open(dir, &options, &wal, &origin, NULL), AB_OK);
    for (uint32_t i = 0; i < 4; i++) { /* 1-3, 4-6, 7-9, 10-12 */
        ck_assert_int_eq(wt_append(wal, 1, first_stream, 3, 20), AB_OK);
    }
    ck_assert_int_eq(wt_append(wal, 1, second_stream, 2, 20), AB_OK);
    ck_assert_int_eq(wt_append(wal, 5, first_stream, 1, 20), AB_OK);
}

static void teardown(void)
{
    ab_wal_close(wal);
    wt_dir_remove(dir);
}

/* Walks; checks the order; @return entries, and in `gaps` the ranges that could not be read. */
static size_t walk(const ab_wal_walk_options *options, size_t *gaps)
{
    ab_wal_walk *w;
    ab_wal_step step;
    size_t entries = 0;
    uint64_t group = 0, next = 0;
    ab_stream stream = {0, 0};
    int code;
    *gaps = 0;
    ck_assert_int_eq(ab_wal_walk_open(wal, options, &w), AB_OK);
    while ((code = ab_wal_walk_next(w, &step)) == AB_OK) {
        bool same = step.group == group && ab_stream_compare(step.entry.stream, stream) == 0;
        ck_assert(!same || step.first == next);
        ck_assert(same || step.group > group ||
                  (step.group == group && ab_stream_compare(step.entry.stream, stream) > 0));
        group = step.group;
        stream = step.entry.stream;
        next = step.last + 1;
        entries += step.code == AB_OK;
        *gaps += step.code != AB_OK;
        ck_assert(step.code != AB_OK || step.entry.size == 20);
    }
    ck_assert_int_eq(code, AB_ENOTFOUND);
    ck_assert_int_eq(ab_wal_walk_next(w, &step), AB_ENOTFOUND); /* and stays there */
    ab_wal_walk_close(w);
    return entries;
}

static void expect(ab_wal_walk_options options, size_t entries)
{
    size_t gaps;
    ck_assert_uint_eq(walk(&options, &gaps), entries);
    ck_assert_uint_eq(gaps, 0);
}

START_TEST(ranges)
{
    expect((ab_wal_walk_options){0}, 15);
    expect((ab_wal_walk_options){.group = 1}, 14);
    expect((ab_wal_walk_options){.group = 5}, 1);
    expect((ab_wal_walk_options){.group = 2}, 0);
    expect((ab_wal_walk_options){.one_stream = true, .stream = first_stream}, 13);
    expect((ab_wal_walk_options){.group = 1, .one_stream = true, .stream = second_stream}, 2);
    expect((ab_wal_walk_options){.one_stream = true, .stream = {9, 9}}, 0);
    expect((ab_wal_walk_options){.group = 1, .from = 5, .to = 8}, 4);
    expect((ab_wal_walk_options){.from = 12}, 1);
    expect((ab_wal_walk_options){.from = 13}, 0);
    expect((ab_wal_walk_options){.to = 1}, 3);
    expect((ab_wal_walk_options){.from = 8, .to = 5}, 0);
    expect((ab_wal_walk_options){.from = UINT64_MAX, .to = UINT64_MAX}, 0);
}
END_TEST

START_TEST(trimmed)
{
    ck_assert_int_eq(wt_trim(wal, 1, first_stream, 6, 10), 2);
    expect((ab_wal_walk_options){.group = 1, .one_stream = true, .stream = first_stream}, 6);
    expect((ab_wal_walk_options){.group = 1, .one_stream = true, .stream = first_stream, .from = 2, .to = 7},
           1);
    ck_assert_int_eq(wt_trim(wal, 1, first_stream, 12, 10), 2);
    expect((ab_wal_walk_options){.group = 1, .one_stream = true, .stream = first_stream}, 0);
}
END_TEST

START_TEST(trimmed_meanwhile)
{
    ab_wal_walk_options options = {.group = 1, .one_stream = true, .stream = first_stream};
    ab_wal_walk *w;
    ab_wal_step step;
    ck_assert_int_eq(ab_wal_walk_open(wal, &options, &w), AB_OK);
    ck_assert_int_eq(ab_wal_walk_next(w, &step), AB_OK);
    ck_assert_int_eq(wt_trim(wal, 1, first_stream, 9, 10), 3);
    for (uint64_t index = 2; index <= 3; index++) { /* its copy of the block is still whole */
        ck_assert_int_eq(ab_wal_walk_next(w, &step), AB_OK);
        ck_assert_int_eq(step.code, AB_OK);
        ck_assert_uint_eq(step.entry.index, index);
    }
    ck_assert_int_eq(ab_wal_walk_next(w, &step), AB_OK);
    ck_assert_int_eq(step.code, AB_ETRIMMED);
    ck_assert_uint_eq(step.first, 4);
    ck_assert_uint_eq(step.last, 9);
    ck_assert_int_eq(ab_wal_walk_next(w, &step), AB_OK);
    ck_assert_uint_eq(step.entry.index, 10);
    ab_wal_walk_close(w);
}
END_TEST

START_TEST(what_is_appended_meanwhile_is_not_walked)
{
    ab_wal_walk_options options = {.group = 5};
    ab_wal_walk *w;
    ab_wal_step step;
    ck_assert_int_eq(ab_wal_walk_open(wal, &options, &w), AB_OK);
    ck_assert_int_eq(wt_append(wal, 5, first_stream, 1, 20), AB_OK);
    ck_assert_int_eq(ab_wal_walk_next(w, &step), AB_OK);
    ck_assert_int_eq(ab_wal_walk_next(w, &step), AB_ENOTFOUND);
    ab_wal_walk_close(w);
}
END_TEST

/* No assertion in here: Check allocates too. */
static int count_entries(size_t *entries)
{
    static const ab_wal_walk_options options = {0};
    ab_wal_walk *w;
    ab_wal_step step;
    *entries = 0;
    int code = ab_wal_walk_open(wal, &options, &w);
    if (code != AB_OK) {
        return code;
    }
    while ((code = ab_wal_walk_next(w, &step)) == AB_OK && step.code == AB_OK) {
        (*entries)++;
    }
    ab_wal_walk_close(w);
    return code;
}

START_TEST(failing_allocations)
{
    unsigned long n = 0;
    for (bool failed = true; failed;) {
        size_t entries;
        alloc_fail_at(++n);
        int code = count_entries(&entries);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_int_eq(code, failed ? AB_ENOMEM : AB_ENOTFOUND);
        ck_assert(failed || entries == 15);
    }
    ck_assert_uint_gt(n, 6);
}
END_TEST

START_TEST(latest_only)
{
    size_t gaps;
    ck_assert_uint_eq(walk(&(ab_wal_walk_options){.newest = 2}, &gaps), 2 + 2 + 1);
    ck_assert_uint_eq(walk(&(ab_wal_walk_options){.newest = 1, .group = 5}, &gaps), 1);
    ck_assert_uint_eq(walk(&(ab_wal_walk_options){.newest = 2, .group = 1, .to = 7}, &gaps), 2 + 2);
    ck_assert_uint_eq(walk(&(ab_wal_walk_options){.newest = 5, .group = 1, .from = 10}, &gaps), 3);
    ck_assert_uint_eq(walk(&(ab_wal_walk_options){.newest = UINT64_MAX}, &gaps), 15);
}
END_TEST

/* Entries up to the end; each stream goes on where it stopped. */
static size_t rest_of(ab_wal_walk *w, uint64_t *last_of_first)
{
    ab_wal_step step;
    size_t entries = 0;
    while (ab_wal_walk_next(w, &step) == AB_OK) {
        ck_assert_int_eq(step.code, AB_OK);
        if (step.group == 1 && ab_stream_compare(step.entry.stream, first_stream) == 0) {
            ck_assert_uint_eq(step.entry.index, *last_of_first + 1);
            *last_of_first = step.entry.index;
        }
        entries++;
    }
    return entries;
}

START_TEST(goes_on_with_what_comes)
{
    ab_wal_walk *w;
    uint64_t last = 10;
    ab_wal_walk_options options = {.newest = 2};
    ck_assert_int_eq(ab_wal_walk_open(wal, &options, &w), AB_OK);
    ck_assert_uint_eq(rest_of(w, &last), 5);
    ck_assert_int_eq(ab_wal_walk_again(w), AB_OK);
    ck_assert_uint_eq(rest_of(w, &last), 0);
    ck_assert_int_eq(wt_append(wal, 1, first_stream, 5, 20), AB_OK);
    ck_assert_int_eq(wt_append(wal, 1, (ab_stream){1, 8}, 3, 20), AB_OK); /* between those that were there */
    ck_assert_int_eq(wt_append(wal, 9, first_stream, 1, 20), AB_OK);
    ck_assert_int_eq(ab_wal_walk_again(w), AB_OK);
    ck_assert_uint_eq(rest_of(w, &last), 9);
    ck_assert_uint_eq(last, 17);
    ck_assert_int_eq(wt_trim(wal, 1, second_stream, 2, 10), 1); /* a stream that is empty now */
    ck_assert_int_eq(ab_wal_walk_again(w), AB_OK);
    ck_assert_uint_eq(rest_of(w, &last), 0);
    ck_assert_int_eq(wt_append(wal, 1, second_stream, 1, 20), AB_OK);
    ck_assert_int_eq(ab_wal_walk_again(w), AB_OK);
    ck_assert_uint_eq(rest_of(w, &last), 1);
    ab_wal_walk_close(w);
}
END_TEST

START_TEST(going_on_without_memory)
{
    ab_wal_walk *w;
    uint64_t last = 0;
    ab_wal_walk_options options = {.group = 1};
    ck_assert_int_eq(ab_wal_walk_open(wal, &options, &w), AB_OK);
    ck_assert_uint_eq(rest_of(w, &last), 14);
    unsigned long n = 0;
    for (bool failed = true; failed;) {
        alloc_fail_at(++n);
        int code = ab_wal_walk_again(w);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_int_eq(code, failed ? AB_ENOMEM : AB_OK);
        ab_wal_step step;
        ck_assert_int_eq(ab_wal_walk_next(w, &step), AB_ENOTFOUND); /* nothing twice */
    }
    ab_wal_walk_close(w);
}
END_TEST

typedef struct sizes {
    ab_wal_group_size of[4];
    size_t count;
    size_t stop_after;
} sizes;

static bool take_size(void *arg, const ab_wal_group_size *size)
{
    sizes *s = arg;
    ck_assert_uint_lt(s->count, 4);
    s->of[s->count++] = *size;
    return s->count != s->stop_after;
}

START_TEST(sizes_of_groups)
{
    sizes s = {.count = 0};
    ck_assert_int_eq(wt_append(wal, UINT64_MAX, first_stream, 1, 20), AB_OK);
    for (uint32_t i = 0; i < 2500; i++) { /* more than the walk looks at in one transaction */
        ck_assert_int_eq(wt_append(wal, 7, first_stream, 1, 20), AB_OK);
    }
    ck_assert_int_eq(ab_wal_group_sizes(wal, 0, take_size, &s), AB_OK);
    ck_assert_uint_eq(s.count, 4);
    ck_assert_uint_eq(s.of[0].group, 1);
    ck_assert_uint_eq(s.of[0].blocks, 5);
    ck_assert_uint_eq(s.of[1].group, 5);
    ck_assert_uint_eq(s.of[1].blocks, 1);
    ck_assert_uint_eq(s.of[2].group, 7);
    ck_assert_uint_eq(s.of[2].blocks, 2500);
    ck_assert_uint_ge(s.of[2].bytes, 2500 * (AB_BLOCK_HEADER + 20));
    ck_assert_uint_lt(s.of[2].bytes, 2500 * (AB_BLOCK_HEADER + 40));
    ck_assert_uint_eq(s.of[3].group, UINT64_MAX);
    s = (sizes){.count = 0};
    ck_assert_int_eq(ab_wal_group_sizes(wal, 5, take_size, &s), AB_OK);
    ck_assert_uint_eq(s.count, 1);
    ck_assert_uint_eq(s.of[0].blocks, 1);
    s = (sizes){.count = 0};
    ck_assert_int_eq(ab_wal_group_sizes(wal, 6, take_size, &s), AB_OK);
    ck_assert_uint_eq(s.count, 0);
    s = (sizes){.count = 0, .stop_after = 2};
    ck_assert_int_eq(ab_wal_group_sizes(wal, 0, take_size, &s), AB_OK);
    ck_assert_uint_eq(s.count, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal_walk");
    TCase *tc = tcase_create("walk");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, ranges);
    tcase_add_test(tc, trimmed);
    tcase_add_test(tc, trimmed_meanwhile);
    tcase_add_test(tc, what_is_appended_meanwhile_is_not_walked);
    tcase_add_test(tc, failing_allocations);
    tcase_add_test(tc, sizes_of_groups);
    tcase_add_test(tc, latest_only);
    tcase_add_test(tc, goes_on_with_what_comes);
    tcase_add_test(tc, going_on_without_memory);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
