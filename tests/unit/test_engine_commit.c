/* SPDX-License-Identifier: Apache-2.0 */
/* What one commit takes of what waits; under interval durability what goes on beside a commit, and what becomes of it when
 * that commit fails. The commits of node 1 go through this file (linked with --wrap), which looks at them, holds them up and lets
 * them fail. */
#include "engine/engine.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 30000u
#define WAIT_NS (WAIT_MS * 1000000ull)

static test_cluster cluster;
static ab_group *group;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    ab_wal *_Atomic wal;
    bool held;           /* a commit with blocks waits ... */
    bool waiting;        /* ... as one does now */
    bool impatient;      /* it waited for too long: the test fails */
    int code;            /* instead of being carried out it fails with this ... */
    int times;           /* ... so often ... */
    const void *failing; /* ... if this is its first block: the one that was held */
    bool passing;        /* as ENOSPC and EIO do; else for good, at the first block */
} gate;
static struct {
    size_t count;        /* commits with blocks */
    size_t shared;       /* of those, with a good part of each, own and received blocks */
    uint64_t largest;    /* bytes of blocks in one */
} seen;                  /* under the gate's lock */
static atomic_uint gaps; /* log lines about a block that follows nothing */

int __real_ab_wal_commit(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed);
int __wrap_ab_wal_commit(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed);

static size_t first_block(const ab_wal_op *ops, size_t count)
{
    size_t i = 0;
    while (i < count && ops[i].type != AB_WAL_PUT_BLOCK) {
        i++;
    }
    return i;
}

static void look_at(const ab_wal_op *ops, size_t count)
{
    uint64_t own = 0, others = 0;
    for (size_t i = 0; i < count; i++) {
        if (ops[i].type == AB_WAL_PUT_BLOCK) {
            *(ops[i].stream.node == 1 ? &own : &others) += ops[i].data.size;
        }
    }
    seen.count++;
    seen.shared += own > 256u << 10 && others > 256u << 10;
    uint64_t bytes = own + others;
    seen.largest = bytes > seen.largest ? bytes : seen.largest;
}

/* What is to become of a commit, once it may go on. */
static int pass_gate(const void *block)
{
    uint64_t deadline = ab_monotonic_ns() + WAIT_NS;
    pthread_mutex_lock(&gate.lock);
    while (gate.held && ab_monotonic_ns() < deadline) {
        gate.waiting = true;
        gate.failing = block;
        pthread_cond_broadcast(&gate.changed);
        ab_cond_wait_until(&gate.changed, &gate.lock, deadline);
    }
    gate.impatient = gate.impatient || gate.held;
    gate.waiting = false;
    bool fails = gate.times > 0 && block == gate.failing;
    int code = fails ? gate.code : AB_OK;
    gate.times -= fails;
    pthread_mutex_unlock(&gate.lock);
    return code;
}

int __wrap_ab_wal_commit(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed)
{
    size_t block = first_block(ops, count);
    if (wal != gate.wal || block == count) {
        return __real_ab_wal_commit(wal, ops, count, failed);
    }
    int code = pass_gate(ops[block].data.data);
    pthread_mutex_lock(&gate.lock);
    look_at(ops, count);
    pthread_mutex_unlock(&gate.lock);
    if (code == AB_OK) {
        return __real_ab_wal_commit(wal, ops, count, failed);
    }
    if (failed != NULL) {
        *failed = gate.passing ? count : block;
    }
    return code;
}

static void hold(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.held = true;
    pthread_mutex_unlock(&gate.lock);
}

static void fail_next(int code, int times, bool passing)
{
    pthread_mutex_lock(&gate.lock);
    gate.code = code;
    gate.times = times;
    gate.passing = passing;
    pthread_mutex_unlock(&gate.lock);
}

static void let_go(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.held = false;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void wait_until_held(void)
{
    uint64_t deadline = ab_monotonic_ns() + WAIT_NS;
    pthread_mutex_lock(&gate.lock);
    while (!gate.waiting && ab_monotonic_ns() < deadline) {
        ab_cond_wait_until(&gate.changed, &gate.lock, deadline);
    }
    ck_assert(gate.waiting);
    pthread_mutex_unlock(&gate.lock);
}

static void count_gaps(void *ctx, ab_severity severity, const char *text)
{
    test_log(ctx, severity, text);
    atomic_fetch_add(&gaps, strstr(text, "does not follow") != NULL);
}

static void tune(ab_node_config *config)
{
    config->block_bytes = 256u << 10;
    config->payload_max = 5u << 20;
    config->log = count_gaps;
    config->log_severity = AB_LOG_DEBUG;
}

static void tune_interval(ab_node_config *config)
{
    tune(config);
    config->durability = AB_DURABILITY_INTERVAL;
    config->durability_interval_ms = 1;
    config->queue_bytes = config->payload_max = 1u << 20;
}

static void open_node(size_t i)
{
    ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    if (i == 0) {
        pthread_mutex_lock(&gate.lock);
        gate.wal = ab_node_wal(cluster.nodes[0].node);
        pthread_mutex_unlock(&gate.lock);
        group = cluster.nodes[0].group;
    }
}

static void expect_entries(size_t node, size_t count)
{
    test_sm *sm = &cluster.nodes[node].sm;
    ck_assert_msg(test_sm_wait(sm, count, WAIT_MS), "node %zu has %zu of %zu entries", node + 1,
                  test_sm_count(sm), count);
    ck_assert_int_eq(sm->order_errors, 0);
}

static void setup(void)
{
    test_cluster_init(&cluster, 2);
    cluster.tune = tune;
    memset(&gate, 0, sizeof gate);
    memset(&seen, 0, sizeof seen);
    pthread_mutex_init(&gate.lock, NULL);
    ab_cond_init(&gate.changed);
    atomic_store(&gaps, 0);
}

static void tune_alone(ab_node_config *config)
{
    tune_interval(config);
    config->stop_timeout_ms = 1000; /* one test waits for it */
}

static void setup_interval(void)
{
    setup();
    cluster.tune = tune_interval;
}

static void setup_alone(void)
{
    setup();
    cluster.tune = tune_alone;
    cluster.count = 1;
    cluster.backend = "standalone";
    open_node(0);
    ck_assert_int_eq(test_write_range(group, "a", 0, 1),
                     AB_OK); /* nothing of a new epoch is acknowledged before one is durable */
    expect_entries(0, 1);
}

static void teardown(void)
{
    let_go();
    cluster.count = 2;
    test_cluster_free(&cluster);
    ck_assert(!gate.impatient);
}

/* A commit with one write in it is under way, and stays so. */
static void begin_commit(void)
{
    hold();
    ck_assert_int_eq(test_write_range(group, "first", 0, 1), AB_OK);
    wait_until_held();
}

static char payload[64 << 10];

static void write_blocks(ab_group *to, size_t bytes)
{
    ab_write_options patient = {.wait_ms = WAIT_MS};
    for (size_t i = 0; i < bytes / sizeof payload; i++) {
        ck_assert_int_eq(ab_write(to, payload, sizeof payload, &patient, NULL, NULL), AB_OK);
    }
}

static void wait_for_received(ab_node *node, uint64_t bytes)
{
    uint64_t deadline = ab_monotonic_ns() + WAIT_NS;
    uint64_t there = 0;
    while (there < bytes && ab_monotonic_ns() < deadline) {
        pthread_mutex_lock(&node->log.lock);
        there = node->log.incoming_bytes;
        pthread_mutex_unlock(&node->log.lock);
        sched_yield();
    }
    ck_assert_uint_ge(there, bytes);
}

/* Much that waits goes into several commits, own and received blocks into each; a block larger than a commit goes, too. */
START_TEST(a_commit_takes_so_much_and_of_everybody)
{
    static char large[4500000];
    open_node(0);
    open_node(1);
    ck_assert_int_eq(test_write_range(group, "a", 0, 1), AB_OK);
    expect_entries(1, 1);
    hold();
    ck_assert_int_eq(ab_write(group, "first", 5, NULL, NULL, NULL), AB_OK);
    wait_until_held();
    write_blocks(group, 6u << 20);
    ab_write_options patient = {.wait_ms = WAIT_MS};
    write_blocks(cluster.nodes[1].group, 3u << 20);
    wait_for_received(cluster.nodes[0].node, 2u << 20);
    pthread_mutex_lock(&gate.lock);
    size_t before = seen.count;
    pthread_mutex_unlock(&gate.lock);
    let_go();
    expect_entries(0, 2 + 3 * 48);
    expect_entries(1, 2 + 3 * 48);
    pthread_mutex_lock(&gate.lock);
    ck_assert_uint_ge(seen.count, before + 3);
    ck_assert_uint_ge(seen.shared, 2);
    ck_assert_uint_le(seen.largest, (4u << 20) + 2 * (256u << 10));
    pthread_mutex_unlock(&gate.lock);
    ck_assert_int_eq(ab_write(group, large, sizeof large, &patient, NULL, NULL), AB_OK);
    write_blocks(group, 1u << 20);
    expect_entries(1, 2 + 3 * 48 + 1 + 16);
}
END_TEST

/* Whatever waits when a group is closed is committed before it is. */
START_TEST(closing_commits_all_that_waits)
{
    open_node(0);
    hold();
    ck_assert_int_eq(ab_write(group, "first", 5, NULL, NULL, NULL), AB_OK);
    wait_until_held();
    write_blocks(group, 7u << 20);
    let_go();
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    open_node(0);
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    expect_entries(0, 1 + 112);
}
END_TEST

START_TEST(writes_are_acknowledged_beside_a_commit)
{
    begin_commit();
    ck_assert_int_eq(test_write_range(group, "beside", 0, 50), AB_OK);
    wait_until_held();                                         /* still */
    ck_assert_uint_eq(test_sm_count(&cluster.nodes[0].sm), 1); /* not before it is durable */
    let_go();
    expect_entries(0, 52);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    open_node(0);
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    expect_entries(0, 52);
}
END_TEST

/* One more batch is filled, and then the queues of the writers. */
START_TEST(what_is_taken_beside_a_commit_is_bounded)
{
    size_t taken = 0;
    ab_write_options options = {.wait_ms = 500};
    begin_commit();
    while (taken < 1000 && ab_write(group, payload, sizeof payload, &options, NULL, NULL) == AB_OK) {
        taken++;
    }
    ck_assert_uint_ge(taken * sizeof payload, 2u << 20);
    ck_assert_uint_le(taken * sizeof payload, 4u << 20);
    let_go();
    expect_entries(0, taken + 2);
}
END_TEST

/* What was written after the refused block has its place behind it: it is refused with it, and not offered to the log. */
START_TEST(what_follows_a_refused_block_goes_with_it)
{
    open_node(0);
    open_node(1);
    ck_assert_int_eq(test_write_range(group, "a", 0, 3), AB_OK);
    expect_entries(1, 3);
    begin_commit();
    ck_assert_int_eq(test_write_range(group, "b", 0, 5), AB_OK);
    fail_next(AB_ECORRUPT, 1, false);
    let_go();
    ck_assert(test_sm_wait(&cluster.nodes[0].sm, 3, WAIT_MS));
    while (test_write_range(group, "c", 0, 1) != AB_OK) {
    }
    ck_assert_int_eq(test_write_range(group, "d", 0, 5), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, 3 + 1 + 5, WAIT_MS));
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    ck_assert_uint_eq(atomic_load(&gaps), 0);
}
END_TEST

START_TEST(a_failing_commit_keeps_what_was_acknowledged)
{
    ab_write_options at_once = {.wait_ms = 0};
    begin_commit();
    ck_assert_int_eq(test_write_range(group, "beside", 0, 20), AB_OK);
    fail_next(AB_ENOSPC, 1000000, true);
    let_go();
    while (ab_write(group, "x", 1, &at_once, NULL, NULL) != AB_ENOSPC) {
        ck_assert_uint_lt(test_sm_count(&cluster.nodes[0].sm), 2);
        sched_yield();
    }
    fail_next(AB_OK, 0, true);
    while (ab_write(group, "y", 1, &at_once, NULL, NULL) == AB_ENOSPC) {
        sched_yield();
    }
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    size_t count = test_sm_count(&cluster.nodes[0].sm);
    ck_assert_uint_ge(count, 22);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    open_node(0);
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    expect_entries(0, count);
}
END_TEST

/* A node that closes while its log fails gives up on what is being committed and on all that follows: nothing is stored that
 * has a gap before it, and the next start knows that something is missing. */
START_TEST(what_was_given_up_leaves_no_gap)
{
    ab_write_result before, after;
    ab_bytes one = {"a", 1};
    ck_assert_int_eq(ab_write_wait(group, &one, 1, NULL, &before), AB_OK);
    expect_entries(0, 2);
    begin_commit();
    ck_assert_int_eq(test_write_range(group, "beside", 0, 20), AB_OK);
    fail_next(AB_EIO, 1000000, true);
    let_go();
    ck_assert_int_ne(test_cluster_close(&cluster, 0), AB_OK);
    ck_assert_uint_eq(atomic_load(&gaps), 0);
    fail_next(AB_OK, 0, true);
    open_node(0);
    ck_assert_int_eq(ab_write_wait(group, &one, 1, NULL, &after), AB_OK);
    expect_entries(0, 3);
    ck_assert_uint_gt(after.stream.epoch, before.stream.epoch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_commit");
    TCase *tc = tcase_create("bound");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_commit_takes_so_much_and_of_everybody);
    tcase_add_test(tc, closing_commits_all_that_waits);
    tcase_set_timeout(tc, 90);
    suite_add_tcase(suite, tc);
    tc = tcase_create("interval");
    tcase_add_checked_fixture(tc, setup_alone, teardown);
    tcase_add_test(tc, writes_are_acknowledged_beside_a_commit);
    tcase_add_test(tc, what_is_taken_beside_a_commit_is_bounded);
    tcase_add_test(tc, a_failing_commit_keeps_what_was_acknowledged);
    tcase_add_test(tc, what_was_given_up_leaves_no_gap);
    tcase_set_timeout(tc, 90);
    suite_add_tcase(suite, tc);
    tc = tcase_create("interval, two nodes");
    tcase_add_checked_fixture(tc, setup_interval, teardown);
    tcase_add_test(tc, what_follows_a_refused_block_goes_with_it);
    tcase_set_timeout(tc, 90);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
