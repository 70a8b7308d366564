/* SPDX-License-Identifier: Apache-2.0 */
/* What members tell each other of a group: that it is open, or closed, is said in the order in which it is so. What they send goes
 * through this file (linked with --wrap). Nodes of one process on loopback. */
#include "engine/engine.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <stdatomic.h>
#include <time.h>

#define WAIT_MS 30000u

static test_cluster cluster;
static ab_transport *_Atomic sender; /* of the node ... */
static ab_group *watched;            /* ... that says what this group is */
static atomic_uint opens, closes;    /* that were said of it */
static atomic_bool full;             /* the link takes no word of a close */
static atomic_uint unguarded; /* of them, while it could have been closed or said otherwise meanwhile */

int __real_ab_transport_send_message(ab_transport *transport, uint32_t node_id, uint64_t group,
                                     ab_bytes bytes);
int __wrap_ab_transport_send_message(ab_transport *transport, uint32_t node_id, uint64_t group,
                                     ab_bytes bytes);

int __wrap_ab_transport_send_message(ab_transport *transport, uint32_t node_id, uint64_t id, ab_bytes bytes)
{
    ab_group *group = watched;
    uint8_t kind = *(const uint8_t *)bytes.data;
    if (transport == atomic_load(&sender) && kind != 0) {
        bool open = kind == 1;
        bool guarded = pthread_mutex_trylock(&group->core_lock) != 0;
        if (!guarded) {
            pthread_mutex_unlock(&group->core_lock);
        }
        atomic_fetch_add(open ? &opens : &closes, 1);
        atomic_fetch_add(&unguarded, !guarded || (open && atomic_load(&group->closing)));
        if (!open && atomic_load(&full)) {
            return AB_EBUSY;
        }
    }
    return __real_ab_transport_send_message(transport, node_id, id, bytes);
}

static void setup(void)
{
    test_cluster_init(&cluster, 2);
}

static void teardown(void)
{
    atomic_store(&full, false);
    atomic_store(&sender, NULL);
    test_cluster_free(&cluster);
}

/* Who hears "open" last believes that, and sends blocks to nobody until the link falls. */
START_TEST(nobody_says_open_after_closed)
{
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    watched = cluster.nodes[0].group;
    atomic_store(&sender, watched->node->transport);
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK); /* the link comes up, and it asks */
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 1), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, 1, WAIT_MS));
    ck_assert_int_eq(ab_group_close(cluster.nodes[0].group), AB_OK);
    ck_assert_uint_ge(atomic_load(&opens), 1);
    ck_assert_uint_eq(atomic_load(&closes), 1);
    ck_assert_uint_eq(atomic_load(&unguarded), 0);
}
END_TEST

/* Else the peer would send to a group that is not there, and count on it for what it lacks, until the link falls. */
START_TEST(a_close_that_cannot_be_said_ends_the_link)
{
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 1), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, 1, WAIT_MS));
    ab_group_peer *closed = &cluster.nodes[1].group->peers[0];
    ck_assert(atomic_load(&closed->up));
    watched = cluster.nodes[0].group;
    atomic_store(&full, true);
    atomic_store(&sender, watched->node->transport);
    ck_assert_int_eq(ab_group_close(cluster.nodes[0].group), AB_OK);
    uint64_t give_up = ab_monotonic_ns() + WAIT_MS * 1000000ull;
    const struct timespec moment = {.tv_nsec = 1000000};
    while (atomic_load(&closed->up) && ab_monotonic_ns() < give_up) {
        nanosleep(&moment, NULL);
    }
    ck_assert(!atomic_load(&closed->up));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_links");
    TCase *tc = tcase_create("links");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, nobody_says_open_after_closed);
    tcase_add_test(tc, a_close_that_cannot_be_said_ends_the_link);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
