/* SPDX-License-Identifier: Apache-2.0 */
/* The bench's state machine: equal digests whatever the order, faults seen, checkpoints that come back or are refused.
 * One thread, and one test of two. */
#include "tests/support/run.h"
#include "tools/anabranch/bench_sm.h"
#include "tools/anabranch/bench_sys.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Takes the place of the library's. */
struct ab_frontier_out {
    ab_mark marks[AB_BENCH_MARKS_MAX];
    size_t count;
};

int ab_frontier_add(ab_frontier_out *out, ab_mark mark)
{
    out->marks[out->count++] = mark;
    return AB_OK;
}

static char dir[64];
static struct ab_bench_progress progress;

static void setup(void)
{
    strcpy(dir, "bench-sm-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(ab_bench_progress_init(&progress), 0);
}

static void teardown(void)
{
    ab_bench_progress_destroy(&progress);
    ck_assert_int_eq(ab_bench_remove_tree(dir), 0);
}

/* Applies entries `first` ... `last` of a node's stream; payloads are their names. */
static void apply(struct ab_bench_sm *sm, uint32_t node, uint64_t first, uint64_t last, ab_frontier after)
{
    for (uint64_t i = first; i <= last; i++) {
        char payload[40];
        int size = snprintf(payload, sizeof payload, "%u/%lu", node, (unsigned long)i);
        ab_entry entry = {.stream = {node, 1}, .index = i, .payload = payload, .size = (size_t)size};
        size_t failed = 0;
        ab_frontier then = after;
        ab_mark marks[2];
        memcpy(marks, after.marks, after.count * sizeof marks[0]);
        for (size_t m = 0; m < after.count; m++) {
            if (marks[m].stream.node == node) {
                marks[m].index = i;
            }
        }
        then.marks = marks;
        ck_assert_int_eq(ab_bench_statemachine.apply(sm, &entry, 1, then, &failed), AB_OK);
    }
}

static ab_frontier frontier(ab_mark marks[2], uint64_t one, uint64_t two)
{
    size_t count = 0;
    if (one) {
        marks[count++] = (ab_mark){{1, 1}, one};
    }
    if (two) {
        marks[count++] = (ab_mark){{2, 1}, two};
    }
    return (ab_frontier){marks, count};
}

static void init(struct ab_bench_sm *sm, uint64_t group)
{
    ck_assert_int_eq(ab_bench_sm_init(sm, &progress, group, dir), AB_OK);
}

START_TEST(digest_does_not_depend_on_the_order)
{
    struct ab_bench_sm a, b;
    ab_mark marks[2];
    ab_digest da, db;
    init(&a, 1);
    init(&b, 1);
    apply(&a, 1, 1, 5, frontier(marks, 5, 0));
    apply(&a, 2, 1, 7, frontier(marks, 5, 7));
    apply(&b, 2, 1, 7, frontier(marks, 0, 7));
    apply(&b, 1, 1, 5, frontier(marks, 5, 7));
    ck_assert_int_eq(ab_bench_statemachine.digest(&a, &da), AB_OK);
    ck_assert_int_eq(ab_bench_statemachine.digest(&b, &db), AB_OK);
    ck_assert_mem_eq(&da, &db, sizeof da);
    ck_assert_uint_eq(a.count, 12);
    ck_assert_uint_eq(progress.applied, 24);
    ck_assert_uint_eq(progress.faults, 0);
    apply(&b, 1, 6, 6, frontier(marks, 6, 7));
    ck_assert_int_eq(ab_bench_statemachine.digest(&b, &db), AB_OK);
    ck_assert_mem_ne(&da, &db, sizeof da);
}
END_TEST

START_TEST(digest_knows_its_group)
{
    struct ab_bench_sm a, b;
    ab_mark marks[2];
    init(&a, 1);
    init(&b, 2);
    apply(&a, 1, 1, 1, frontier(marks, 1, 0));
    apply(&b, 1, 1, 1, frontier(marks, 1, 0));
    ck_assert_mem_ne(a.digest, b.digest, sizeof a.digest);
}
END_TEST

START_TEST(gap_repeat_and_wrong_frontier_are_faults)
{
    struct ab_bench_sm sm;
    ab_mark marks[2];
    init(&sm, 1);
    apply(&sm, 1, 1, 3, frontier(marks, 3, 0));
    ck_assert_uint_eq(progress.faults, 0);
    apply(&sm, 1, 3, 3, frontier(marks, 3, 0)); /* again */
    ck_assert_uint_eq(progress.faults, 1);
    apply(&sm, 1, 5, 5, frontier(marks, 5, 0)); /* 4 is missing */
    ck_assert_uint_eq(progress.faults, 2);
    apply(&sm, 2, 1, 1, frontier(marks, 5, 0)); /* the frontier knows nothing of it */
    ck_assert_uint_eq(progress.faults, 3);
}
END_TEST

START_TEST(a_folded_stream_is_no_fault)
{
    struct ab_bench_sm sm;
    ab_mark marks[2];
    size_t failed = 0;
    init(&sm, 1);
    apply(&sm, 1, 1, 3, frontier(marks, 3, 0));
    const ab_mark both[] = {{{1, 1}, 3}, {{1, 2}, 1}};
    ab_entry entry = {.stream = {1, 2}, .index = 1, .payload = "x", .size = 1};
    ck_assert_int_eq(ab_bench_statemachine.apply(&sm, &entry, 1, (ab_frontier){both, 2}, &failed), AB_OK);
    const ab_mark later[] = {{{1, 2}, 2}};
    entry.index = 2;
    ck_assert_int_eq(ab_bench_statemachine.apply(&sm, &entry, 1, (ab_frontier){later, 1}, &failed), AB_OK);
    ck_assert_uint_eq(progress.faults, 0);
    ck_assert_uint_eq(sm.mark_count, 1);
}
END_TEST

START_TEST(what_was_applied_in_the_warm_up_is_kept)
{
    struct ab_bench_sm sm;
    ab_mark marks[2];
    init(&sm, 1);
    atomic_store(&progress.mark, UINT64_MAX);
    apply(&sm, 1, 1, 3, frontier(marks, 3, 0));
    ck_assert_uint_eq(progress.before, UINT64_MAX);
    atomic_store(&progress.mark, ab_bench_now());
    apply(&sm, 1, 4, 9, frontier(marks, 9, 0));
    ck_assert_uint_eq(progress.before, 3);
}
END_TEST

START_TEST(checkpoint_comes_back)
{
    struct ab_bench_sm a, b;
    ab_mark marks[2];
    ab_frontier_out saved = {.count = 0}, found = {.count = 0};
    init(&a, 9);
    ck_assert_int_eq(ab_bench_statemachine.open(&a, NULL, &found), AB_OK);
    ck_assert_uint_eq(found.count, 0); /* nothing there yet */
    apply(&a, 1, 1, 5, frontier(marks, 5, 0));
    apply(&a, 2, 1, 7, frontier(marks, 5, 7));
    ck_assert_int_eq(ab_bench_statemachine.checkpoint(&a, &saved), AB_OK);
    init(&b, 9);
    ck_assert_int_eq(ab_bench_statemachine.open(&b, NULL, &found), AB_OK);
    ck_assert_uint_eq(found.count, 2);
    ck_assert_mem_eq(found.marks, saved.marks, 2 * sizeof saved.marks[0]);
    ck_assert_uint_eq(b.count, 12);
    ck_assert_mem_eq(a.digest, b.digest, sizeof a.digest);
    apply(&b, 1, 6, 6, frontier(marks, 6, 7)); /* goes on where it was */
    ck_assert_uint_eq(progress.faults, 0);
}
END_TEST

/* Every byte of the file matters. */
START_TEST(damaged_checkpoint_is_refused)
{
    struct ab_bench_sm sm;
    ab_mark marks[2];
    ab_frontier_out out = {.count = 0};
    uint8_t bytes[4096];
    init(&sm, 1);
    apply(&sm, 1, 1, 5, frontier(marks, 5, 0));
    ck_assert_int_eq(ab_bench_statemachine.checkpoint(&sm, &out), AB_OK);
    int fd = open(sm.path, O_RDWR);
    ssize_t size = read(fd, bytes, sizeof bytes);
    ck_assert_int_gt(size, 0);
    for (ssize_t i = 0; i < size; i++) {
        uint8_t flipped = bytes[i] ^ 0x10;
        ck_assert_int_eq(pwrite(fd, &flipped, 1, i), 1);
        out.count = 0;
        ck_assert_int_eq(ab_bench_statemachine.open(&sm, NULL, &out), AB_ECORRUPT);
        ck_assert_uint_eq(out.count, 0);
        ck_assert_int_eq(pwrite(fd, &bytes[i], 1, i), 1);
        ck_assert_int_eq(ftruncate(fd, i), 0);
        ck_assert_int_eq(ab_bench_statemachine.open(&sm, NULL, &out), AB_ECORRUPT);
        ck_assert_int_eq(pwrite(fd, bytes, (size_t)size, 0), size);
    }
    close(fd);
    ck_assert_int_eq(ab_bench_statemachine.open(&sm, NULL, &out), AB_OK);
}
END_TEST

START_TEST(checkpoint_that_cannot_be_written_is_an_error)
{
    struct ab_bench_sm sm;
    ab_frontier_out out = {.count = 0};
    ck_assert_int_eq(ab_bench_sm_init(&sm, &progress, 1, "no/such/directory"), AB_OK);
    ck_assert_int_eq(ab_bench_statemachine.checkpoint(&sm, &out), AB_EIO);
    ck_assert_uint_eq(out.count, 0);
    char path[AB_BENCH_PATH_MAX];
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = '\0';
    ck_assert_int_eq(ab_bench_sm_init(&sm, &progress, 1, path), AB_EINVAL);
}
END_TEST

static void *apply_some(void *arg)
{
    ab_mark marks[2];
    apply(arg, 1, 1, 1000, frontier(marks, 1000, 0));
    return NULL;
}

START_TEST(waiter_is_woken)
{
    struct ab_bench_sm sm;
    pthread_t thread;
    init(&sm, 1);
    ck_assert(!ab_bench_progress_await(&progress, 1, 1000000));
    ck_assert_int_eq(pthread_create(&thread, NULL, apply_some, &sm), 0);
    ck_assert(ab_bench_progress_await(&progress, 1000, 60000000000u));
    ck_assert_uint_gt(progress.last, 0);
    pthread_join(thread, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench state machine");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, digest_does_not_depend_on_the_order);
    tcase_add_test(tcase, digest_knows_its_group);
    tcase_add_test(tcase, gap_repeat_and_wrong_frontier_are_faults);
    tcase_add_test(tcase, a_folded_stream_is_no_fault);
    tcase_add_test(tcase, what_was_applied_in_the_warm_up_is_kept);
    tcase_add_test(tcase, checkpoint_comes_back);
    tcase_add_test(tcase, damaged_checkpoint_is_refused);
    tcase_add_test(tcase, checkpoint_that_cannot_be_written_is_an_error);
    tcase_add_loop_test(tcase, waiter_is_woken, 0, 20);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
