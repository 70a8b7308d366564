/* SPDX-License-Identifier: Apache-2.0 */
/* Three nodes of one process on loopback: everything reaches everybody, in order, across stops and restarts. */
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_MS 30000u

static test_cluster cluster;

static void setup(void)
{
    test_cluster_init(&cluster, 3);
}

static void teardown(void)
{
    test_cluster_free(&cluster);
}

static void open_all(void)
{
    for (size_t i = 0; i < cluster.count; i++) {
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
}

static void expect_equal(size_t entries)
{
    ab_digest digests[3];
    for (size_t i = 0; i < cluster.count; i++) {
        test_node *node = &cluster.nodes[i];
        ck_assert_msg(test_sm_wait(&node->sm, entries, WAIT_MS), "node %zu has %zu of %zu entries", i + 1,
                      test_sm_count(&node->sm), entries);
        ck_assert_int_eq(ab_group_digest(node->group, WAIT_MS, &digests[i], NULL), AB_OK);
        ck_assert_uint_eq(test_sm_count(&node->sm), entries);
        ck_assert_int_eq(node->sm.order_errors, 0);
        ck_assert_mem_eq(digests[i].bytes, digests[0].bytes, sizeof digests[0].bytes);
    }
}

static void write_everywhere(const char *prefix, unsigned count)
{
    for (unsigned k = 0; k < count; k++) {
        for (size_t i = 0; i < cluster.count; i++) {
            ck_assert_int_eq(test_write_range(cluster.nodes[i].group, prefix, k, k + 1), AB_OK);
        }
    }
}

START_TEST(all_writes_reach_all)
{
    open_all();
    write_everywhere("w", 100);
    expect_equal(300);
}
END_TEST

START_TEST(one_that_was_away_catches_up)
{
    open_all();
    write_everywhere("w", 20);
    expect_equal(60);
    ck_assert_int_eq(test_cluster_close(&cluster, 1), AB_OK);
    for (unsigned k = 0; k < 200; k++) {
        ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", k, k + 1), AB_OK);
        ck_assert_int_eq(test_write_range(cluster.nodes[2].group, "c", k, k + 1), AB_OK);
    }
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[1].group, "b", 0, 10), AB_OK);
    expect_equal(470);
}
END_TEST

static atomic_uint replaced;

static void count_replaced(void *ctx, ab_severity severity, const char *text)
{
    test_log(ctx, severity, text);
    atomic_fetch_add(&replaced, strstr(text, "came back with another store") != NULL);
}

static void tune_replaced(ab_node_config *config)
{
    config->log = count_replaced;
}

/* It is noticed once by each of the others, also by one that was down meanwhile. */
START_TEST(a_replaced_disk_is_noticed)
{
    cluster.tune = tune_replaced;
    open_all();
    write_everywhere("w", 5);
    expect_equal(15);
    for (size_t i = 0; i < cluster.count; i++) {
        ck_assert_int_eq(test_cluster_close(&cluster, i), AB_OK);
    }
    open_all(); /* the same ones: nothing to say */
    write_everywhere("x", 5);
    expect_equal(30);
    ck_assert_uint_eq(atomic_load(&replaced), 0);
    ck_assert_int_eq(test_cluster_close(&cluster, 1), AB_OK);
    ck_assert_int_eq(test_cluster_close(&cluster, 2), AB_OK);
    test_remove(cluster.nodes[1].dir);
    test_directory(cluster.nodes[1].dir, sizeof cluster.nodes[1].dir);
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK);
    ck_assert_int_eq(test_cluster_open(&cluster, 2), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[1].group, "y", 0, 1), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[0].sm, 31, WAIT_MS));
    ck_assert(test_sm_wait(&cluster.nodes[2].sm, 31, WAIT_MS));
    for (size_t i = 0; i < cluster.count; i++) { /* all lines are out */
        ck_assert_int_eq(test_cluster_close(&cluster, i), AB_OK);
    }
    ck_assert_uint_eq(atomic_load(&replaced), 2);
}
END_TEST

START_TEST(everybody_restarts)
{
    open_all();
    for (unsigned round = 0; round < 3; round++) {
        write_everywhere("w", 20);
        expect_equal((round + 1) * 60);
        for (size_t i = 0; i < cluster.count; i++) {
            ck_assert_int_eq(test_cluster_close(&cluster, i), AB_OK);
        }
        open_all();
    }
    write_everywhere("z", 1);
    expect_equal(183);
}
END_TEST

/* A new epoch is the time in seconds: a directory made within the second of the lost one would take its epoch. No
 * machine loses its disk and is set up again that fast; a test is. */
static void next_second(void)
{
    struct timespec moment = {.tv_nsec = 10000000};
    for (time_t now = time(NULL); time(NULL) == now;) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
    }
}

/* A node whose directory is lost comes back empty under a new epoch: its writes reach everybody. (What had been
 * trimmed before comes back with a snapshot only.) */
START_TEST(lost_directory_starts_a_new_epoch)
{
    open_all();
    write_everywhere("w", 30);
    expect_equal(90);
    ck_assert_int_eq(test_cluster_close(&cluster, 2), AB_OK);
    test_remove(cluster.nodes[2].dir);
    test_sm_free(&cluster.nodes[2].sm);
    test_sm_init(&cluster.nodes[2].sm);
    next_second();
    ck_assert_int_eq(test_cluster_open(&cluster, 2), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[2].group, "new", 0, 5), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[0].sm, 95, WAIT_MS));
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, 95, WAIT_MS));
}
END_TEST

static void interval_mode(ab_node_config *config)
{
    config->durability = AB_DURABILITY_INTERVAL;
    config->durability_interval_ms = 20;
}

START_TEST(interval_durability_replicates)
{
    cluster.tune = interval_mode;
    open_all();
    write_everywhere("w", 300);
    expect_equal(900);
}
END_TEST

static bool find_trimmed(void *arg, const ab_stream_status *status)
{
    uint64_t *trimmed = arg;
    *trimmed += status->base;
    return true;
}

static void expect_trimmed(size_t i, uint64_t entries)
{
    uint64_t trimmed = 0;
    for (unsigned k = 0; trimmed < entries && k < 600; k++) {
        struct timespec moment = {.tv_nsec = 50000000};
        trimmed = 0;
        ab_group_streams(cluster.nodes[i].group, find_trimmed, &trimmed);
        if (trimmed < entries) {
            clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
        }
    }
    ck_assert_uint_eq(trimmed, entries);
}

/* What all members have durable, in log and state machine, leaves every log. */
START_TEST(logs_are_trimmed)
{
    open_all();
    write_everywhere("w", 100);
    expect_equal(300);
    for (size_t i = 0; i < cluster.count; i++) {
        expect_trimmed(i, 300);
    }
    write_everywhere("v", 10);
    expect_equal(330);
}
END_TEST

static bool find_lag(void *arg, const ab_sync_status *status)
{
    uint64_t *lag = arg;
    *lag += status->lag_entries;
    return true;
}

static bool find_lag_bytes(void *arg, const ab_sync_status *status)
{
    uint64_t *bytes = arg;
    *bytes += status->lag_bytes;
    return true;
}

/* What waits has a size after a start, too, when nothing was logged since. */
START_TEST(what_waits_has_a_size_after_a_start)
{
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "w", 0, 50), AB_OK);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t bytes = 0;
        ab_group_syncs(cluster.nodes[0].group, find_lag_bytes, &bytes);
        ck_assert_uint_ge(bytes, 2 * 50 * 3); /* two peers, payloads of three bytes and more */
        ck_assert_uint_le(bytes, 2 * 50 * 300);
        ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
        ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    }
}
END_TEST

static bool find_blocks_kept(void *arg, const ab_metric *metric)
{
    double *kept = arg;
    if (strcmp(metric->name, "log_blocks_total") == 0) {
        *kept += metric->value;
    } else if (strcmp(metric->name, "log_trimmed_blocks_total") == 0) {
        *kept -= metric->value;
    }
    return true;
}

/* The log removes what the group let go a few blocks at a time, and a close leaves the rest to the next start. */
static void expect_empty_log(size_t i)
{
    double kept = 1;
    for (unsigned k = 0; kept != 0 && k < 600; k++) {
        kept = 0;
        ab_node_metrics(cluster.nodes[i].node, find_blocks_kept, &kept);
        if (kept != 0) {
            clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 50000000}, NULL);
        }
    }
    ck_assert_msg(kept == 0, "%g blocks are still there", kept);
}

/* After a start nobody was heard, but what was trimmed everybody had. */
START_TEST(nobody_is_behind_with_what_is_trimmed)
{
    open_all();
    write_everywhere("w", 100);
    expect_equal(300);
    expect_trimmed(0, 300);
    expect_empty_log(0);
    for (size_t i = 0; i < cluster.count; i++) {
        ck_assert_int_eq(test_cluster_close(&cluster, i), AB_OK);
    }
    uint64_t lag = 0;
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    ab_group_syncs(cluster.nodes[0].group, find_lag, &lag);
    ck_assert_uint_eq(lag, 0);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "v", 0, 10), AB_OK);
    ab_group_syncs(cluster.nodes[0].group, find_lag, &lag);
    ck_assert_uint_eq(lag, 20); /* two peers */
}
END_TEST

static void low_ceiling(ab_node_config *config)
{
    config->log_max_bytes = 16u << 20;
}

static void count_done(void *arg, const ab_write_result *result)
{
    if (result->code == AB_OK) {
        atomic_fetch_add((atomic_uint *)arg, 1);
    }
}

/* Writes until `stop` is what comes back; counts what was accepted. */
static unsigned write_until(ab_group *group, int stop, atomic_uint *done)
{
    static char payload[100000];
    struct timespec moment = {.tv_nsec = 2000000};
    unsigned accepted = 0;
    for (unsigned i = 0; i < WAIT_MS / 2; i++) {
        int code = ab_write(group, payload, sizeof payload, NULL, count_done, done);
        ck_assert_msg(code == AB_OK || code == AB_EBUSY || code == AB_ENOSPC, "%s", ab_error_name(code));
        accepted += code == AB_OK;
        if (code == stop) {
            return accepted;
        }
        clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL); /* paces the writes */
    }
    ck_abort_msg("writes never came to %s", ab_error_name(stop));
    return accepted;
}

/* A peer that is away keeps the log from being trimmed: at its ceiling it refuses writes, loses nothing, and takes
 * writes again when the peer is back. */
START_TEST(full_log_refuses_and_recovers)
{
    atomic_uint done = 0;
    cluster.tune = low_ceiling;
    open_all();
    ck_assert_int_eq(test_cluster_close(&cluster, 1), AB_OK);
    unsigned accepted = write_until(cluster.nodes[0].group, AB_ENOSPC, &done);
    ck_assert_uint_gt(accepted, 100);
    ab_node_status status;
    ab_node_get_status(cluster.nodes[0].node, &status);
    ck_assert_int_eq(status.log_code, AB_ENOSPC);
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK);
    accepted += write_until(cluster.nodes[0].group, AB_OK, &done);
    expect_equal(accepted);
    ck_assert_uint_eq(atomic_load(&done), accepted);
}
END_TEST

static bool add_commits(void *arg, const ab_metric *metric)
{
    if (strcmp(metric->name, "log_commits_total") == 0) {
        *(double *)arg += metric->value;
    }
    return true;
}

static double commits_of(size_t i)
{
    double commits = 0;
    ab_node_metrics(cluster.nodes[i].node, add_commits, &commits);
    return commits;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Blocks that come one by one, and that nobody waits for there, share commits: one in 2 ms at most, and those of small
 * state. (On a disk that takes longer for a commit they do anyway.) */
START_TEST(received_blocks_share_commits)
{
    open_all();
    write_everywhere("w", 1);
    expect_equal(3);
    double before = commits_of(1);
    double start = seconds_now();
    for (unsigned k = 0; k < 500; k++) {
        ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "w", k, k + 1), AB_OK);
    }
    expect_equal(503);
    double seconds = seconds_now() - start;
    double commits = commits_of(1) - before;
    ck_assert_msg(commits <= seconds * 550 + 20, "%.0f commits in %.3f s", commits, seconds);
}
END_TEST

typedef struct writing {
    pthread_t thread;
    ab_group *group;
    char prefix[8];
    bool waits;
    atomic_uint done;
    int code;
} writing;

static void *write_some(void *arg)
{
    writing *w = arg;
    char payload[32];
    for (unsigned k = 0; k < 300 && w->code == AB_OK; k++) {
        ab_bytes one = {payload, (size_t)snprintf(payload, sizeof payload, "%s-%u", w->prefix, k)};
        if (w->waits) {
            w->code = ab_write_wait(w->group, &one, 1, NULL, NULL);
        } else {
            w->code = ab_write(w->group, one.data, one.size, &(ab_write_options){.wait_ms = WAIT_MS},
                               count_done, &w->done);
        }
    }
    return NULL;
}

/* Writers that wait take the log thread's turn from it and from each other, beside others that do not wait. */
START_TEST(writers_take_turns)
{
    static writing all[6];
    open_all();
    for (size_t i = 0; i < 6; i++) {
        all[i] = (writing){.group = cluster.nodes[i % 2].group, .waits = i % 3 != 2};
        snprintf(all[i].prefix, sizeof all[i].prefix, "t%zu", i);
        ck_assert_int_eq(pthread_create(&all[i].thread, NULL, write_some, &all[i]), 0);
    }
    for (size_t i = 0; i < 6; i++) {
        pthread_join(all[i].thread, NULL);
        ck_assert_int_eq(all[i].code, AB_OK);
    }
    expect_equal(6 * 300);
}
END_TEST

/* The round that a waiting writer does itself may fail: the log thread goes on with it, the writer gets its answer. */
START_TEST(full_log_under_a_waiting_writer)
{
    static char payload[100000];
    ab_bytes one = {payload, sizeof payload};
    ab_write_options options = {.timeout_ms = 100};
    unsigned stored = 0;
    int code = AB_OK;
    cluster.tune = low_ceiling;
    open_all();
    ck_assert_int_eq(test_cluster_close(&cluster, 1), AB_OK);
    for (unsigned i = 0; i < 1000 && code != AB_ENOSPC; i++) {
        code = ab_write_wait(cluster.nodes[0].group, &one, 1, &options, NULL);
        ck_assert_msg(code == AB_OK || code == AB_ETIMEDOUT || code == AB_ENOSPC, "%s", ab_error_name(code));
        stored += code != AB_ENOSPC; /* what timed out is queued, and stored when there is room */
    }
    ck_assert_int_eq(code, AB_ENOSPC);
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK);
    options.timeout_ms = WAIT_MS;
    for (unsigned i = 0; i < 500 && code == AB_ENOSPC; i++) {
        code = ab_write_wait(cluster.nodes[0].group, &one, 1, &options, NULL);
        if (code == AB_ENOSPC) {
            clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 20000000}, NULL);
        }
    }
    ck_assert_int_eq(code, AB_OK);
    expect_equal(stored + 1);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("cluster");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, all_writes_reach_all);
    tcase_add_test(tcase, one_that_was_away_catches_up);
    tcase_add_test(tcase, everybody_restarts);
    tcase_add_test(tcase, a_replaced_disk_is_noticed);
    tcase_add_test(tcase, lost_directory_starts_a_new_epoch);
    tcase_add_test(tcase, interval_durability_replicates);
    tcase_add_test(tcase, logs_are_trimmed);
    tcase_add_test(tcase, nobody_is_behind_with_what_is_trimmed);
    tcase_add_test(tcase, what_waits_has_a_size_after_a_start);
    tcase_add_test(tcase, full_log_refuses_and_recovers);
    tcase_add_test(tcase, received_blocks_share_commits);
    tcase_add_test(tcase, writers_take_turns);
    tcase_add_test(tcase, full_log_under_a_waiting_writer);
    Suite *suite = suite_create("cluster");
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
