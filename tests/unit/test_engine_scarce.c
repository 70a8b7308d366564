/* SPDX-License-Identifier: Apache-2.0 */
/* Memory is short for a moment in places where nobody can be told: the engine neither forgets what was to be done there nor asks
 * again and again without a pause. Timers are set through this file (linked with --wrap), which may find no memory for them. */
#include "engine/batch.h"
#include "engine/wal_queue.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_int no_timers; /* so many calls fail */

int __real_ab_transport_timer(ab_transport *transport, uint64_t key, uint64_t when);
int __wrap_ab_transport_timer(ab_transport *transport, uint64_t key, uint64_t when);

int __wrap_ab_transport_timer(ab_transport *transport, uint64_t key, uint64_t when)
{
    if (atomic_load(&no_timers) > 0) {
        atomic_fetch_sub(&no_timers, 1);
        return AB_ENOMEM;
    }
    return __real_ab_transport_timer(transport, key, when);
}

static void gossip_rarely(ab_node_config *config)
{
    config->gossip_ms = 60000;
}

/* The core has something to do later: its timer is armed, if not at the first try. */
START_TEST(a_timer_is_armed_in_the_end)
{
    test_cluster cluster;
    test_cluster_init(&cluster, 2);
    cluster.tune = gossip_rarely;
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK);
    ab_group *group = cluster.nodes[0].group;
    ck_assert_int_eq(test_write_range(group, "a", 0, 1), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, 1, 20000));
    atomic_store(&no_timers, 2);
    ab_group_timer(group);
    pthread_mutex_lock(&group->core_lock);
    uint64_t deadline = group->backend->deadline(group->core), armed = group->armed;
    pthread_mutex_unlock(&group->core_lock);
    ck_assert_uint_ne(deadline, AB_NEVER);
    ck_assert_uint_le(armed, deadline);
    ck_assert_int_eq(atomic_load(&no_timers), 0);
    test_cluster_free(&cluster);
}
END_TEST

/* As much of a node as what is tried here needs. */
static ab_node *new_node(void)
{
    ab_node *node = calloc(1, sizeof *node);
    ck_assert_ptr_nonnull(node);
    pthread_mutex_init(&node->log.lock, NULL);
    ab_completions_init(node);
    ab_cache_init(&node->cache, 1u << 20);
    node->config.memory_budget = 1u << 20;
    node->log.batch = calloc(1, sizeof *node->log.batch);
    ck_assert_ptr_nonnull(node->log.batch);
    return node;
}

static void free_node(ab_node *node)
{
    ab_batch_free(node->log.batch);
    free(node->log.batch);
    ab_cache_free(&node->cache);
    ab_completions_free(node);
    pthread_mutex_destroy(&node->log.lock);
    free(node);
}

/* Else the log thread would find them there again at once, and again. */
START_TEST(received_blocks_are_taken_when_there_is_room_for_them)
{
    ab_node *node = new_node();
    ab_incoming *incoming = calloc(1, sizeof *incoming);
    ck_assert_ptr_nonnull(incoming);
    incoming->buf = ab_buf_new(NULL, 100);
    ck_assert_ptr_nonnull(incoming->buf);
    node->log.incoming_head = node->log.incoming_tail = incoming;
    node->log.incoming_count = 1;
    ab_dirty_list none = {NULL, NULL};
    alloc_fail_at(1);
    ab_incoming *taken = ab_wal_take_incoming(node, 1000, &none);
    bool failed = alloc_fail_happened();
    alloc_fail_at(0);
    ck_assert(failed);
    ck_assert_ptr_eq(taken, incoming);
    ck_assert_uint_ge(node->log.batch->block_capacity, 1);
    ab_incoming_free(taken);
    free_node(node);
}
END_TEST

/* A write whose time is up, and no memory to say so: the completion thread tries again, but not at once. */
START_TEST(expired_writes_are_looked_at_again_after_a_pause)
{
    ab_node *node = new_node();
    ab_group *group = calloc(1, sizeof *group);
    ab_open_block *open = calloc(1, sizeof *open);
    ck_assert(group != NULL && open != NULL);
    ab_waiter waiter = {.turn = false};
    uint64_t now = ab_monotonic_ns();
    ck_assert_int_eq(sem_init(&waiter.done, 0, 0), 0);
    pthread_mutex_init(&group->append_lock, NULL);
    group->node = node;
    group->open = open;
    group->timed = 1;
    ck_assert_int_eq(ab_ticket_reserve(&open->done.list), AB_OK);
    ab_ticket_add(&open->done.list, &(ab_ticket){.waiter = &waiter, .deadline = now});
    alloc_fail_at(2); /* of the list of what is due */
    ab_append_expire(group, now);
    bool failed = alloc_fail_happened();
    alloc_fail_at(0);
    ck_assert(failed);
    ck_assert_int_ne(sem_trywait(&waiter.done), 0);
    ck_assert_uint_gt(node->completions.next_deadline, now);
    ck_assert_uint_lt(node->completions.next_deadline, now + 1000000000u);
    ab_append_expire(group, now + 1000000000u);
    ck_assert_int_eq(sem_trywait(&waiter.done), 0);
    ck_assert_int_eq(waiter.result.code, AB_ETIMEDOUT);
    ab_open_block_free(open);
    pthread_mutex_destroy(&group->append_lock);
    sem_destroy(&waiter.done);
    free(group);
    free_node(node);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_scarce");
    TCase *tc = tcase_create("memory");
    tcase_add_test(tc, a_timer_is_armed_in_the_end);
    tcase_add_test(tc, received_blocks_are_taken_when_there_is_room_for_them);
    tcase_add_test(tc, expired_writes_are_looked_at_again_after_a_pause);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
