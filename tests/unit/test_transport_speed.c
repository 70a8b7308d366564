/* SPDX-License-Identifier: Apache-2.0 */
/* How fast one link on loopback moves blocks, and that idle links cost nothing. Prints its figures; the bounds are far
 * below them, for busy machines and sanitizers. */
#include "tests/support/run.h"
#include "tests/unit/transport_node.h"

#include <anabranch/error.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define BLOCK 300000u

static double seconds_of_cpu(void)
{
    struct rusage use;
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &use), 0);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void start_two(node *a, node *b)
{
    ab_peer_config two = {.node_id = 2};
    ab_transport_config config = node_config(1, &two, 1);
    config.listen_host = "127.0.0.1";
    node_start(a, &config);
    ab_peer_config one = {.node_id = 1, .host = "127.0.0.1", .port = ab_transport_port(a->transport)};
    config = node_config(2, &one, 1);
    node_start(b, &config);
    node_wait(a, node_is_up, 2, "up");
    node_wait(b, node_is_up, 1, "up");
}

START_TEST(blocks_per_second)
{
    enum { DIFFERENT = 64 };
    node a;
    node b;
    start_two(&a, &b);
    const char *text = getenv("AB_SPEED_BLOCKS");
    unsigned total = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 4000;
    ab_buf *blocks[DIFFERENT];
    a.only_count = a.trust = true;
    for (unsigned i = 0; i < DIFFERENT; i++) {
        blocks[i] = node_block(NULL, 2, i + 1, BLOCK);
    }
    double cpu = seconds_of_cpu();
    uint64_t start = ab_monotonic_ns();
    unsigned sent = 0;
    for (; sent < total; sent++) {
        while (ab_transport_send_block(b.transport, 1, blocks[sent % DIFFERENT]) == AB_EBUSY) {
            node_wait(&a, node_has_blocks, NODE_COUNT(2, sent - 100), "room");
        }
    }
    node_wait(&a, node_has_blocks, NODE_COUNT(2, sent), "all");
    double took = (double)(ab_monotonic_ns() - start) / 1e9;
    cpu = seconds_of_cpu() - cpu;
    double bytes = (double)a.links[2].block_bytes;
    (void)printf("%u blocks of %u bytes: %.2f GB/s, %.2f CPU s per GB \n", sent, BLOCK, bytes / took / 1e9,
                 cpu / bytes * 1e9);
    ck_assert_uint_eq(a.links[2].downs, 0);
    ck_assert(bytes / took > 20e6);
    node_stop(&a);
    node_stop(&b);
    for (unsigned i = 0; i < DIFFERENT; i++) {
        ab_buf_unref(blocks[i]);
    }
}
END_TEST

static bool never(node *n, uint64_t arg)
{
    (void)n;
    (void)arg;
    return false;
}

START_TEST(idle_costs_nothing)
{
    node a;
    node b;
    start_two(&a, &b);
    (void)node_wait_for(&a, never, 0, 100);
    struct rusage before;
    struct rusage after;
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &before), 0);
    (void)node_wait_for(&a, never, 0, 2000);
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &after), 0);
    long wakes = after.ru_nvcsw - before.ru_nvcsw;
    (void)printf("two idle nodes: %ld wakes in 2 s\n", wakes);
    ck_assert_int_le(wakes, 60); /* ThreadSanitizer has a thread that wakes by itself */
    node_stop(&a);
    node_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport-speed");
    TCase *tcase = tcase_create("speed");
    tcase_set_timeout(tcase, 110);
    tcase_add_test(tcase, blocks_per_second);
    tcase_add_test(tcase, idle_costs_nothing);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
