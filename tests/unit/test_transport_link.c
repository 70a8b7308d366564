/* SPDX-License-Identifier: Apache-2.0 */
/* Links between transports in one process: up and down, messages, blocks, limits, timers. */
#include "tests/unit/transport_node.h"

#include <anabranch/error.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Node 1 listens and is only dialled, node 2 dials: the arbiter (1) accepts. Reversed with `swap`. */
static void start_pair(node *a, node *b, bool swap, uint32_t threads)
{
    uint32_t listener = swap ? 2 : 1;
    uint32_t dialler = swap ? 1 : 2;
    ab_peer_config to_dialler = {.node_id = dialler};
    ab_transport_config config = node_config(listener, &to_dialler, 1);
    config.listen_host = "127.0.0.1";
    config.threads = threads;
    node_start(swap ? b : a, &config);
    ab_peer_config to_listener = {
        .node_id = listener, .host = "127.0.0.1", .port = ab_transport_port((swap ? b : a)->transport)};
    config = node_config(dialler, &to_listener, 1);
    config.threads = threads;
    node_start(swap ? a : b, &config);
    node_wait(a, node_is_up, 2, "link up");
    node_wait(b, node_is_up, 1, "link up");
}

START_TEST(pair_both_ways)
{
    node a;
    node b;
    start_pair(&a, &b, _i % 2 == 1, _i < 2 ? 1 : 3);
    ck_assert_uint_eq(a.links[2].store_id[0], 2);
    ck_assert_uint_eq(b.links[1].store_id[0], 1);
    for (uint64_t i = 1; i <= 100; i++) {
        ck_assert_int_eq(node_message(&a, 2, i, 8 + i), AB_OK);
        ck_assert_int_eq(node_message(&b, 1, i, 8 + i * 100), AB_OK);
    }
    node_wait(&a, node_has_messages, NODE_COUNT(2, 100), "messages");
    node_wait(&b, node_has_messages, NODE_COUNT(1, 100), "messages");
    ab_link_status status = node_status(&a, 2);
    ck_assert(status.up);
    ck_assert(status.dialled == (_i % 2 == 1));
    ck_assert_uint_gt(status.sent_bytes, 1000);
    ck_assert_uint_gt(status.received_bytes, 100000);
    ck_assert_uint_lt(status.silent_ms, 20000);
    ck_assert_ptr_nonnull(strstr(status.address, "127.0.0.1:"));
    node_stop(&b);
    node_wait(&a, node_is_down, 2, "link down");
    ck_assert_int_eq(node_message(&a, 2, 101, 8), AB_ECLOSED);
    ck_assert_int_eq(a.links[2].down_code, AB_ECLOSED);
    node_stop(&a);
}
END_TEST

START_TEST(random_sizes)
{
    node a;
    node b;
    uint64_t seed = 42;
    start_pair(&a, &b, false, 2);
    uint64_t messages = 0;
    uint64_t blocks = 0;
    for (int i = 0; i < 600; i++) {
        node *from = node_random(&seed) % 2 == 0 ? &a : &b;
        (void)from;
        size_t size = (size_t)1 << node_random(&seed) % 18;
        size += node_random(&seed) % size;
        if (node_random(&seed) % 2 == 0) {
            size = size < 8 ? 8 : size > 256 * 1024 - 8 ? 256 * 1024 - 8 : size;
            messages++;
            ck_assert_int_eq(node_message(&a, 2, messages, size), AB_OK);
            ck_assert_int_eq(node_message(&b, 1, messages, size), AB_OK);
        } else {
            blocks++;
            ab_buf *buf = node_block(NULL, 1, blocks, size);
            ck_assert_int_eq(ab_transport_send_block(a.transport, 2, buf), AB_OK);
            ck_assert_int_eq(ab_transport_send_block(b.transport, 1, buf), AB_OK);
            ab_buf_unref(buf);
        }
    }
    node_wait(&a, node_has_messages, NODE_COUNT(2, messages), "messages");
    node_wait(&b, node_has_messages, NODE_COUNT(1, messages), "messages");
    node_wait(&a, node_has_blocks, NODE_COUNT(2, blocks), "blocks");
    node_wait(&b, node_has_blocks, NODE_COUNT(1, blocks), "blocks");
    ck_assert_uint_eq(a.links[2].block_bytes, b.links[1].block_bytes);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport");
    TCase *tcase = tcase_create("link");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, pair_both_ways, 0, 4);
    tcase_add_test(tcase, random_sizes);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
