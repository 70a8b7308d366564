/* SPDX-License-Identifier: Apache-2.0 */
/* The apply thread: what it sleeps over, and what is left alone when a state machine comes back too late. The reads of the log go
 * through this file (linked with --wrap), which finds one block damaged. Nodes of one process on loopback. */
#include "engine/apply.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define WAIT_MS 30000u

static test_cluster cluster;
static ab_wal *_Atomic unreadable;  /* whose block ... */
static atomic_ullong unreadable_at; /* ... with this index of node 1's stream is damaged */
static atomic_bool reading, let_go; /* a read that stays on its apply thread */

int __real_ab_wal_read(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, ab_wal_alloc_fn alloc,
                       void *arg, ab_block_header *header, void **data, size_t *size);
int __wrap_ab_wal_read(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, ab_wal_alloc_fn alloc,
                       void *arg, ab_block_header *header, void **data, size_t *size);

int __wrap_ab_wal_read(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, ab_wal_alloc_fn alloc,
                       void *arg, ab_block_header *header, void **data, size_t *size)
{
    if (wal == atomic_load(&unreadable) && index == atomic_load(&unreadable_at) && stream.node == 1) {
        *header = (ab_block_header){.first = index, .last = index};
        *data = NULL;
        return AB_ECORRUPT;
    }
    return __real_ab_wal_read(wal, group, stream, index, alloc, arg, header, data, size);
}

static void wait_until(bool (*holds)(test_node *node), test_node *node)
{
    uint64_t deadline = ab_monotonic_ns() + WAIT_MS * 1000000ull;
    while (!holds(node)) {
        ck_assert_uint_lt(ab_monotonic_ns(), deadline);
        sched_yield();
    }
}

static void teardown(void)
{
    atomic_store(&let_go, true);
    test_cluster_free(&cluster);
}

static void expect_entries(size_t node, size_t count)
{
    test_sm *sm = &cluster.nodes[node].sm;
    ck_assert_msg(test_sm_wait(sm, count, WAIT_MS), "node %zu has %zu of %zu entries", node + 1,
                  test_sm_count(sm), count);
    ck_assert_int_eq(sm->order_errors, 0);
}

static void stay(void *arg, const ab_read_result *result)
{
    (void)arg;
    (void)result;
    atomic_store(&reading, true);
    while (!atomic_load(&let_go)) {
        sched_yield();
    }
}

static bool is_reading(test_node *node)
{
    (void)node;
    return atomic_load(&reading);
}

/* It has found the damaged block, given its queue back, and looked again in vain. */
static bool has_given_up(test_node *node)
{
    ab_group *group = node->group;
    pthread_mutex_lock(&group->apply_thread->lock);
    bool idle = !group->apply_running && !group->apply_listed && !group->retry_listed;
    pthread_mutex_unlock(&group->apply_thread->lock);
    return idle && atomic_load(&node->node->counters.apply_retries) > 0;
}

static bool has_blocks(test_node *node)
{
    return atomic_load(&node->group->apply_blocks) > 0;
}

static bool has_another_block(test_node *node)
{
    return atomic_load(&node->group->apply_blocks) > 1; /* beside the one that is being applied */
}

static void no_checkpoints(ab_node_config *config)
{
    config->checkpoint_ms = 600000; /* the thread would look after the group then */
}

/* A damaged block makes the group wait; nothing is there to apply when its time is over. What is given to it after that, while
 * the thread is busy with a read, is applied when the read is done. */
START_TEST(what_comes_during_a_read_is_not_forgotten)
{
    test_cluster_init(&cluster, 2);
    cluster.apply_order = AB_APPLY_ARRIVAL;
    cluster.tune = no_checkpoints;
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK);
    test_node *node = &cluster.nodes[1];
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 3), AB_OK);
    expect_entries(1, 3);
    test_sm_block(&node->sm, true);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "b", 0, 1), AB_OK);
    ck_assert(test_sm_wait_inside(&node->sm, WAIT_MS));
    atomic_store(&unreadable_at, 5);
    atomic_store(&unreadable, ab_node_wal(node->node));
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "b", 1, 2), AB_OK);
    wait_until(has_another_block, node);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK); /* nobody repairs it */
    ab_cache_relieve(&node->node->cache);
    test_sm_block(&node->sm, false);
    wait_until(has_given_up, node);
    ab_read_options weak = {.level = AB_READ_WEAK};
    ck_assert_int_eq(ab_read_barrier(node->group, &weak, stay, NULL), AB_OK);
    wait_until(is_reading, node);
    ck_assert_int_eq(test_write_range(node->group, "c", 0, 1), AB_OK);
    wait_until(has_blocks, node);
    atomic_store(&let_go, true);
    expect_entries(1, 5);
}
END_TEST

static void short_stop(ab_node_config *config)
{
    config->stop_timeout_ms = 200;
}

static ab_node *volatile left_behind; /* on purpose: somebody is still in its state machine */

static bool has_left(test_node *node)
{
    (void)node;
    ab_apply_thread *thread = &left_behind->apply_threads[0];
    pthread_mutex_lock(&thread->lock);
    bool exited = thread->exited;
    pthread_mutex_unlock(&thread->lock);
    return exited;
}

/* The node is closed while its state machine applies these entries; then that goes on. */
static void close_during_apply(const ab_bytes *payloads, size_t count)
{
    test_sm *sm = &cluster.nodes[0].sm;
    cluster.tune = short_stop;
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    left_behind = cluster.nodes[0].node;
    test_sm_block(sm, true);
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, payloads, count, NULL, NULL), AB_OK);
    ck_assert(test_sm_wait_inside(sm, WAIT_MS));
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_ETIMEDOUT);
    test_sm_block(sm, false);
    wait_until(has_left, NULL);
    ck_assert_uint_eq(sm->applies, 1);
}

/* A state machine that comes back when its node has been closed and left behind is not called again, and nothing that it
 * answers is carried out: neither log nor state machine are the thread's any more. */
START_TEST(an_answer_that_comes_too_late_is_not_carried_out)
{
    const ab_bytes payloads[] = {{"w-0", 3}, {"w-1", 3}, {"w-2", 3}};
    test_cluster_init(&cluster, 1);
    cluster.nodes[0].sm.reject = "w-1";
    close_during_apply(payloads, 3);
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK); /* all of it is done again */
    expect_entries(0, 2);
}
END_TEST

/* Nor does it get the rest of a block that takes several calls. */
START_TEST(what_is_left_of_a_block_waits_for_the_next_start)
{
    static ab_bytes payloads[20000];
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        payloads[i] = (ab_bytes){"w", 1};
    }
    test_cluster_init(&cluster, 1);
    close_during_apply(payloads, sizeof payloads / sizeof payloads[0]);
    ck_assert_uint_lt(test_sm_count(&cluster.nodes[0].sm), sizeof payloads / sizeof payloads[0]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_apply");
    TCase *tc = tcase_create("apply");
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_add_test(tc, what_comes_during_a_read_is_not_forgotten);
    tcase_add_test(tc, an_answer_that_comes_too_late_is_not_carried_out);
    tcase_add_test(tc, what_is_left_of_a_block_waits_for_the_next_start);
    tcase_set_timeout(tc, 90);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
