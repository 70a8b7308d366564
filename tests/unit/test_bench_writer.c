/* SPDX-License-Identifier: Apache-2.0 */
/* The bench's writers against a made-up group: everything written once, never more calls outstanding than allowed,
 * repeats when busy, stops at a failure. The made-up group completes on a thread of its own. */
#include "tests/support/run.h"
#include "tools/anabranch/bench_sys.h"
#include "tools/anabranch/bench_writer.h"

#include <check.h>
#include <pthread.h>
#include <string.h>

#define QUEUE 64u
#define NUMBERS 4096u

/* Takes the place of the library's group: a queue of completions and a thread that gives them. */
struct ab_group {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool stop;
    size_t queued;
    struct {
        ab_write_fn fn;
        void *arg;
        int code;
    } queue[QUEUE];
    size_t most; /* outstanding at once */
    uint64_t calls;
    uint64_t entries;
    uint64_t busy_every; /* refuse every nth call */
    uint64_t fail_at;    /* complete the nth call with an error */
    uint64_t refuse_at;  /* refuse the nth call */
    size_t payload;
    uint8_t seen[NUMBERS]; /* by the number in the stamp */
};

static void *complete(void *arg)
{
    ab_group *group = arg;
    pthread_mutex_lock(&group->lock);
    for (;;) {
        while (group->queued == 0 && !group->stop) {
            pthread_cond_wait(&group->changed, &group->lock);
        }
        if (group->queued == 0) {
            break;
        }
        /* the latest first: a writer must not rely on an order */
        size_t last = group->queued - 1;
        ab_write_fn fn = group->queue[last].fn;
        void *its = group->queue[last].arg;
        ab_write_result result = {.code = group->queue[last].code};
        group->queued--;
        pthread_mutex_unlock(&group->lock);
        fn(its, &result);
        pthread_mutex_lock(&group->lock);
    }
    pthread_mutex_unlock(&group->lock);
    return NULL;
}

static int take(ab_group *group, const ab_bytes *payloads, size_t count, ab_write_fn fn, void *arg)
{
    int rc = AB_OK;
    pthread_mutex_lock(&group->lock);
    uint64_t call = ++group->calls;
    if (call == group->refuse_at) {
        rc = AB_ENOSPC;
    } else if (group->busy_every && call % group->busy_every == 0) {
        rc = AB_EBUSY;
    } else {
        for (size_t i = 0; i < count; i++) {
            uint64_t number;
            ck_assert_uint_eq(payloads[i].size, group->payload);
            memcpy(&number, (const uint8_t *)payloads[i].data + 8, sizeof number);
            if (number < NUMBERS) {
                group->seen[number]++;
            }
        }
        group->entries += count;
        ck_assert_uint_lt(group->queued, QUEUE);
        group->queue[group->queued].fn = fn;
        group->queue[group->queued].arg = arg;
        group->queue[group->queued++].code = call == group->fail_at ? AB_EIO : AB_OK;
        group->most = group->queued > group->most ? group->queued : group->most;
        pthread_cond_signal(&group->changed);
    }
    pthread_mutex_unlock(&group->lock);
    return rc;
}

int ab_write(ab_group *group, const void *payload, size_t size, const ab_write_options *options,
             ab_write_fn fn, void *arg)
{
    ab_bytes bytes = {payload, size};
    ck_assert_int_eq(options->level, AB_WRITE_LOCAL);
    return take(group, &bytes, 1, fn, arg);
}

int ab_write_many(ab_group *group, const ab_bytes *payloads, size_t count, const ab_write_options *options,
                  ab_write_fn fn, void *arg)
{
    ck_assert_int_eq(options->level, AB_WRITE_LOCAL);
    return take(group, payloads, count, fn, arg);
}

int ab_write_wait(ab_group *group, const ab_bytes *payloads, size_t count, const ab_write_options *options,
                  ab_write_result *result)
{
    (void)payloads;
    (void)options;
    (void)result;
    group->calls++;
    group->entries += count;
    return group->calls == group->fail_at ? AB_EIO : AB_OK;
}

static ab_group group;
static struct ab_bench_load load;

static void setup(void)
{
    memset(&group, 0, sizeof group);
    pthread_mutex_init(&group.lock, NULL);
    pthread_cond_init(&group.changed, NULL);
    group.payload = 32;
    load = (struct ab_bench_load){.groups = 1,
                                  .writers = 1,
                                  .batch = 7,
                                  .in_flight = 35,
                                  .payload = 32,
                                  .entries = 1000,
                                  .level = AB_WRITE_LOCAL};
    ck_assert_int_eq(pthread_create(&group.thread, NULL, complete, &group), 0);
}

/* Runs one writer to its end. The caller frees it. */
static ab_bench_writer *run(enum ab_bench_case which)
{
    static ab_group *groups[1];
    static struct ab_bench_work work;
    groups[0] = &group;
    uint64_t now = ab_bench_now();
    work = (struct ab_bench_work){.load = &load,
                                  .which = which,
                                  .node = 1,
                                  .groups = groups,
                                  .start = now,
                                  .mark = now + load.warmup_ns};
    ab_bench_writer *writer = ab_bench_writer_new(&work, 0);
    ck_assert_ptr_nonnull(writer);
    ck_assert_int_eq(ab_bench_writer_start(writer), 0);
    ab_bench_writer_join(writer);
    pthread_mutex_lock(&group.lock);
    group.stop = true;
    pthread_cond_signal(&group.changed);
    pthread_mutex_unlock(&group.lock);
    pthread_join(group.thread, NULL);
    return writer;
}

static void check_all_once(uint64_t entries)
{
    for (uint64_t i = 0; i < NUMBERS; i++) {
        ck_assert_uint_eq(group.seen[i], i < entries);
    }
}

START_TEST(many_writes_each_once_within_the_window)
{
    ab_bench_writer *writer = run(AB_BENCH_MANY);
    const struct ab_bench_tally *tally = ab_bench_writer_tally(writer);
    ck_assert_int_eq(tally->code, AB_OK);
    ck_assert_uint_eq(tally->entries, 1000);
    ck_assert_uint_eq(tally->calls, 143); /* the last one of 6 */
    ck_assert_uint_eq(tally->latency.total, 143);
    ck_assert_uint_le(group.most, 5);
    check_all_once(1000);
    ab_bench_writer_free(writer);
}
END_TEST

START_TEST(one_writes_each_once_within_the_window)
{
    load.in_flight = (uint32_t)_i;
    ab_bench_writer *writer = run(AB_BENCH_ONE);
    const struct ab_bench_tally *tally = ab_bench_writer_tally(writer);
    ck_assert_int_eq(tally->code, AB_OK);
    ck_assert_uint_eq(tally->entries, 1000);
    ck_assert_uint_eq(tally->latency.total, 125); /* every eighth is timed */
    ck_assert_uint_le(group.most, (uint64_t)_i);
    check_all_once(1000);
    ab_bench_writer_free(writer);
}
END_TEST

START_TEST(busy_is_repeated)
{
    group.busy_every = 3;
    ab_bench_writer *writer = run(AB_BENCH_MANY);
    const struct ab_bench_tally *tally = ab_bench_writer_tally(writer);
    ck_assert_int_eq(tally->code, AB_OK);
    ck_assert_uint_eq(tally->entries, 1000);
    ck_assert_uint_eq(tally->busy, 71);
    check_all_once(1000);
    ab_bench_writer_free(writer);
}
END_TEST

START_TEST(a_failed_completion_stops_the_writer)
{
    group.fail_at = 10;
    load.entries = 1000000000;
    ab_bench_writer *writer = run(AB_BENCH_MANY);
    const struct ab_bench_tally *tally = ab_bench_writer_tally(writer);
    ck_assert_int_eq(tally->code, AB_EIO);
    ck_assert_uint_eq(tally->entries, group.entries - 7);
    ab_bench_writer_free(writer);
}
END_TEST

START_TEST(a_refused_call_stops_the_writer)
{
    group.refuse_at = 10;
    ab_bench_writer *writer = run(AB_BENCH_ONE);
    const struct ab_bench_tally *tally = ab_bench_writer_tally(writer);
    ck_assert_int_eq(tally->code, AB_ENOSPC);
    ck_assert_uint_eq(tally->entries, 9);
    ck_assert_uint_eq(group.calls, 10);
    ab_bench_writer_free(writer);
}
END_TEST

START_TEST(duration_ends_it)
{
    load.entries = 0;
    load.duration_ns = 20000000;
    ab_bench_writer *writer = run(AB_BENCH_MANY);
    const struct ab_bench_tally *tally = ab_bench_writer_tally(writer);
    ck_assert_int_eq(tally->code, AB_OK);
    ck_assert_uint_gt(tally->entries, 0);
    ck_assert_uint_eq(tally->entries, group.entries);
    ab_bench_writer_free(writer);
}
END_TEST

START_TEST(the_warm_up_counts_apart)
{
    load.entries = 0;
    load.warmup_ns = 300000000;
    load.duration_ns = 500000000;
    ab_bench_writer *writer = run(AB_BENCH_MANY);
    const struct ab_bench_tally *tally = ab_bench_writer_tally(writer);
    ck_assert(tally->warm);
    ck_assert_uint_gt(tally->before, 0);
    ck_assert_uint_gt(tally->entries, tally->before);
    /* calls that were due before it, five outstanding and one waiting for room, are not measured */
    ck_assert_uint_le(tally->latency.total, (tally->entries - tally->before) / 7);
    ck_assert_uint_ge(tally->latency.total + 6, (tally->entries - tally->before) / 7);
    ck_assert_uint_eq(tally->entries, group.entries);
    ab_bench_writer_free(writer);
}
END_TEST

START_TEST(a_rate_is_kept)
{
    load.batch = 10;
    load.rate = 10000;
    load.entries = 500;
    uint64_t before = ab_bench_now();
    ab_bench_writer *writer = run(AB_BENCH_MANY);
    /* the last of 50 calls is due 49 ms after the start */
    ck_assert_uint_ge(ab_bench_now() - before, 49000000u);
    ck_assert_uint_eq(ab_bench_writer_tally(writer)->entries, 500);
    ab_bench_writer_free(writer);
}
END_TEST

START_TEST(one_at_a_time)
{
    group.fail_at = (uint64_t)_i;
    ab_bench_writer *writer = run(AB_BENCH_LATENCY);
    const struct ab_bench_tally *tally = ab_bench_writer_tally(writer);
    ck_assert_int_eq(tally->code, _i ? AB_EIO : AB_OK);
    ck_assert_uint_eq(tally->entries, _i ? (uint64_t)_i - 1 : 1000);
    ck_assert_uint_eq(tally->latency.total, tally->entries);
    ab_bench_writer_free(writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench writers");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, many_writes_each_once_within_the_window, 0, 20);
    tcase_add_loop_test(tcase, one_writes_each_once_within_the_window, 1, 20);
    tcase_add_test(tcase, busy_is_repeated);
    tcase_add_test(tcase, a_failed_completion_stops_the_writer);
    tcase_add_test(tcase, a_refused_call_stops_the_writer);
    tcase_add_test(tcase, duration_ends_it);
    tcase_add_test(tcase, the_warm_up_counts_apart);
    tcase_add_test(tcase, a_rate_is_kept);
    tcase_add_loop_test(tcase, one_at_a_time, 0, 2);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
