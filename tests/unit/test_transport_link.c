/* SPDX-License-Identifier: Apache-2.0 */
/* Links between transports in one process: up and down, messages, blocks, limits, timers. */
#include "tests/support/run.h"
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

START_TEST(unknown_peers_and_sizes)
{
    node a;
    node b;
    start_pair(&a, &b, false, 1);
    uint8_t *bytes = calloc(1, 256 * 1024);
    ck_assert_int_eq(ab_transport_send_message(a.transport, 5, 1, (ab_bytes){bytes, 8}), AB_ENOTFOUND);
    ck_assert_int_eq(ab_transport_send_message(a.transport, 2, 1, (ab_bytes){bytes, 256 * 1024 - 7}),
                     AB_ETOOBIG);
    ab_buf *buf = ab_buf_new(NULL, AB_BLOCK_MAX + 1);
    buf->size = AB_BLOCK_MAX + 1;
    ck_assert_int_eq(ab_transport_send_block(a.transport, 2, buf), AB_ETOOBIG);
    buf->size = 10;
    ck_assert_int_eq(ab_transport_send_block(a.transport, 2, buf), AB_EINVAL);
    ck_assert_int_eq(ab_transport_send_block(a.transport, 9, buf), AB_ENOTFOUND);
    ab_transport_drop(a.transport, 9, AB_EPROTO, "nobody");
    ab_buf_unref(buf);
    free(bytes);
    /* the largest of both */
    ck_assert_int_eq(node_message(&a, 2, 1, 256 * 1024 - 8), AB_OK);
    buf = node_block(NULL, 1, 1, AB_BLOCK_MAX - AB_BLOCK_HEADER - 6);
    ck_assert_uint_eq(buf->size, AB_BLOCK_MAX);
    ck_assert_int_eq(ab_transport_send_block(a.transport, 2, buf), AB_OK);
    ab_buf_unref(buf);
    node_wait(&b, node_has_blocks, NODE_COUNT(1, 1), "largest block");
    node_wait(&b, node_has_messages, NODE_COUNT(1, 1), "largest message");
    node_stop(&a);
    node_stop(&b);
}
END_TEST

/* Fills the queue to a receiver that does not read. @return blocks that were taken */
static unsigned fill_queue(node *a, uint32_t peer, size_t size, unsigned first, unsigned most)
{
    unsigned sent = 0;
    int code = AB_OK;
    while (sent < most) {
        ab_buf *buf = node_block(&a->budget, 1, first + sent, size);
        code = ab_transport_send_block(a->transport, peer, buf);
        ab_buf_unref(buf);
        if (code != AB_OK) {
            ck_assert_int_eq(code, AB_EBUSY);
            break;
        }
        sent++;
    }
    return sent;
}

/* Waits until nothing more moves from a to b. */
static void settle(node *a, uint32_t peer)
{
    uint64_t before = UINT64_MAX;
    for (uint64_t now = 0; now != before;) {
        before = now;
        (void)node_wait_for(a, node_has_timers, 1, 50);
        now = node_status(a, peer).sent_bytes;
    }
}

START_TEST(pause_fills_and_messages_overtake)
{
    node a;
    node b;
    start_pair(&a, &b, false, 1);
    ab_transport_pause(b.transport, true);
    settle(&a, 2);
    unsigned sent = fill_queue(&a, 2, 300000, 1, 10000);
    settle(&a, 2);
    ck_assert_uint_gt(sent, 200);                       /* 64 MB */
    sent += fill_queue(&a, 2, 300000, sent + 1, 10000); /* where the kernel has taken some */
    ck_assert_uint_lt(sent, 400);
    ab_buf *more = node_block(NULL, 1, sent + 1, 300000);
    ck_assert_int_eq(ab_transport_send_block(a.transport, 2, more), AB_EBUSY);
    ab_buf_unref(more);
    ck_assert_uint_gt(node_status(&a, 2).queued_bytes, 60u << 20);
    ck_assert_int_eq(node_message(&a, 2, 1, 100), AB_OK); /* has a queue of its own */
    unsigned before = b.links[1].blocks;
    ck_assert_uint_lt(before, 30);
    ab_transport_pause(b.transport, false);
    node_wait(&b, node_has_messages, NODE_COUNT(1, 1), "message behind bulk");
    node_wait(&b, node_has_blocks, NODE_COUNT(1, sent), "all blocks");
    ck_assert_msg(b.links[1].blocks_before < sent / 3, "the message came after %u of %u blocks",
                  b.links[1].blocks_before, sent);
    ck_assert_uint_eq(a.links[2].downs, 0);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

START_TEST(message_queue_is_bounded)
{
    node a;
    node b;
    start_pair(&a, &b, false, 1);
    ab_transport_pause(b.transport, true);
    settle(&a, 2);
    uint64_t sent = 0;
    int code;
    while ((code = node_message(&a, 2, sent + 1, 250000)) == AB_OK) {
        sent++;
        ck_assert_uint_lt(sent, 1000);
    }
    ck_assert_int_eq(code, AB_EBUSY);
    ck_assert_uint_gt(a.budget.used, 50u << 20);
    ab_transport_pause(b.transport, false);
    node_wait(&b, node_has_messages, NODE_COUNT(1, sent), "messages");
    node_stop(&a);
    node_stop(&b);
}
END_TEST

static bool has_kept(node *n, uint64_t count)
{
    return n->kept_count >= count;
}

START_TEST(budget_stops_reading)
{
    node a;
    node b;
    ab_budget limit = {.limit = 1 << 20};
    ab_peer_config one = {.node_id = 1};
    ab_transport_config config = node_config(2, &one, 1);
    config.listen_host = "127.0.0.1";
    config.budget = &limit;
    node_start(&b, &config);
    b.keep_blocks = true;
    ab_peer_config two = {.node_id = 2, .host = "127.0.0.1", .port = ab_transport_port(b.transport)};
    config = node_config(1, &two, 1);
    node_start(&a, &config);
    node_wait(&a, node_is_up, 2, "up");
    ck_assert_uint_eq(fill_queue(&a, 2, 100000, 1, 100), 100);
    node_wait(&b, has_kept, 10, "what fits");
    /* A trickle is let through beyond the limit, up to a quarter more; then nothing moves. */
    node_wait(&b, has_kept, 13, "the trickle");
    ck_assert(!node_wait_for(&b, has_kept, 15, 600));
    ck_assert_uint_lt(b.budget.used, (1 << 20) + (1 << 18) + 200000);
    ck_assert_uint_eq(b.links[1].downs, 0);
    pthread_mutex_lock(&b.lock);
    b.keep_blocks = false;
    pthread_mutex_unlock(&b.lock);
    node_unkeep(&b);
    node_wait(&b, node_has_blocks, NODE_COUNT(1, 100), "the rest, once there is room");
    node_stop(&a);
    node_stop(&b);
}
END_TEST

START_TEST(drop_and_return)
{
    node a;
    node b;
    start_pair(&a, &b, _i == 1, 2);
    for (unsigned i = 1; i <= 3; i++) {
        ab_transport_drop(a.transport, 2, AB_EPROTO, "made no sense");
        node_wait(&a, node_has_downs, NODE_COUNT(2, i), "down");
        node_wait(&b, node_has_downs, NODE_COUNT(1, i), "down at the other side");
        node_wait(&a, node_is_up, 2, "up again");
        node_wait(&b, node_is_up, 1, "up again");
        ck_assert_int_eq(node_message(&a, 2, 1, 50), AB_OK);
        node_wait(&b, node_has_messages, NODE_COUNT(1, i), "message");
    }
    ck_assert_int_eq(a.links[2].down_code, AB_EPROTO);
    ck_assert_int_eq(b.links[1].down_code, AB_EPROTO);
    ck_assert_ptr_nonnull(strstr(b.links[1].down_reason, "made no sense"));
    ck_assert_ptr_nonnull(strstr(node_status(&b, 1).last_error, "made no sense"));
    node_stop(&a);
    node_stop(&b);
}
END_TEST

START_TEST(refused_message_drops)
{
    node a;
    node b;
    start_pair(&a, &b, false, 1);
    pthread_mutex_lock(&b.lock);
    b.message_code = AB_EPROTO;
    pthread_mutex_unlock(&b.lock);
    ck_assert_int_eq(node_message(&a, 2, 1, 50), AB_OK);
    node_wait(&a, node_has_downs, NODE_COUNT(2, 1), "down");
    ck_assert_int_eq(a.links[2].down_code, AB_EPROTO);
    node_stop(&a);
    node_stop(&b);
}
END_TEST

static bool has_failures(node *n, uint64_t peer)
{
    (void)peer;
    return n->logs > 0;
}

START_TEST(back_off_until_it_listens)
{
    node a;
    node b;
    ab_peer_config two = {.node_id = 2, .host = "localhost", .port = node_free_port()};
    ab_transport_config config = node_config(1, &two, 1);
    node_start(&a, &config);
    node_wait(&a, has_failures, 2, "a first failure");
    ck_assert_uint_eq(node_logged(&a, "localhost port", AB_LOG_WARN), 1);
    ab_link_status status;
    do {
        status = node_status(&a, 2);
        ck_assert_uint_le(status.retry_in_ms, 200);
    } while (status.failures < 5 && !node_wait_for(&a, node_is_up, 2, 20));
    ck_assert_int_eq(status.last_code, AB_EIO);
    ck_assert_ptr_nonnull(strstr(status.last_error, "refused"));
    ck_assert_uint_eq(status.silent_ms, UINT64_MAX);
    /* The same trouble is told once. */
    ck_assert_uint_eq(node_logged(&a, "localhost port", AB_LOG_WARN), 1);
    ab_peer_config one = {.node_id = 1};
    config = node_config(2, &one, 1);
    config.listen_host = "127.0.0.1";
    config.listen_port = two.port;
    node_start(&b, &config);
    node_wait(&a, node_is_up, 2, "up");
    ck_assert_uint_eq(node_status(&a, 2).failures, 0);
    node_stop(&b);
    node_stop(&a);
}
END_TEST

START_TEST(unknown_host)
{
    node a;
    ab_peer_config two = {.node_id = 2, .host = "no.such.host.invalid", .port = 1};
    ab_transport_config config = node_config(1, &two, 1);
    node_start(&a, &config);
    node_wait(&a, has_failures, 2, "a failure");
    ck_assert_ptr_nonnull(strstr(a.log[0], "no.such.host.invalid"));
    node_stop(&a); /* while another look-up may be under way */
}
END_TEST

START_TEST(ipv6)
{
    node a;
    node b;
    ab_message message;
    ab_peer_config one = {.node_id = 1};
    ab_transport_config config = node_config(2, &one, 1);
    config.listen_host = "::1";
    if (node_try_start(&b, &config, &message) != AB_OK) {
        return; /* no IPv6 here */
    }
    ab_peer_config two = {.node_id = 2, .host = "::1", .port = ab_transport_port(b.transport)};
    config = node_config(1, &two, 1);
    node_start(&a, &config);
    node_wait(&a, node_is_up, 2, "up");
    ck_assert_ptr_nonnull(strstr(node_status(&a, 2).address, "[::1]:"));
    node_stop(&a);
    node_stop(&b);
}
END_TEST

START_TEST(listening_errors)
{
    node a;
    node b;
    ab_message message;
    ab_transport_config config = node_config(1, NULL, 0);
    config.listen_host = "127.0.0.1";
    node_start(&a, &config);
    ck_assert_uint_ne(ab_transport_port(a.transport), 0);
    config = node_config(2, NULL, 0);
    config.listen_host = "127.0.0.1";
    config.listen_port = ab_transport_port(a.transport);
    ck_assert_int_eq(node_try_start(&b, &config, &message), AB_EIO);
    ck_assert_ptr_nonnull(strstr(message.text, "127.0.0.1 port"));
    ck_assert_ptr_nonnull(strstr(message.text, "address already in use"));
    config.listen_host = "192.0.2.1"; /* for documentation: nobody has it */
    ck_assert_int_eq(node_try_start(&b, &config, &message), AB_ECONFIG);
    config.listen_host = "no.such.host.invalid";
    ck_assert_int_eq(node_try_start(&b, &config, &message), AB_ECONFIG);
    ck_assert_ptr_nonnull(strstr(message.text, "no.such.host.invalid"));
    config.listen_host = NULL;
    config.node_id = 0;
    ck_assert_int_eq(node_try_start(&b, &config, &message), AB_ECONFIG);
    ab_peer_config twice[] = {{.node_id = 3}, {.node_id = 3}};
    config = node_config(1, twice, 2);
    ck_assert_int_eq(node_try_start(&b, &config, &message), AB_ECONFIG);
    node_stop(&a);
    config = node_config(1, NULL, 0);
    node_start(&a, &config);
    ck_assert_uint_eq(ab_transport_port(a.transport), 0);
    node_stop(&a);
}
END_TEST

START_TEST(timers)
{
    node a;
    ab_transport_config config = node_config(1, NULL, 0);
    node_start(&a, &config);
    uint64_t now = ab_monotonic_ns();
    ck_assert_int_eq(ab_transport_timer(a.transport, 1, now + 20000000), AB_OK);
    node_wait(&a, node_has_timers, 1, "timer");
    ck_assert_uint_ge(a.timer_at, now + 20000000);
    /* Later, then earlier, then not at all. */
    now = ab_monotonic_ns();
    ck_assert_int_eq(ab_transport_timer(a.transport, 2, now + 3600000000000u), AB_OK);
    ck_assert_int_eq(ab_transport_timer(a.transport, 2, now + 1000000), AB_OK);
    node_wait(&a, node_has_timers, 2, "moved timer");
    ck_assert_int_eq(ab_transport_timer(a.transport, 3, ab_monotonic_ns() + 30000000), AB_OK);
    ck_assert_int_eq(ab_transport_timer(a.transport, 3, AB_NEVER), AB_OK);
    ck_assert(!node_wait_for(&a, node_has_timers, 3, 60));
    ck_assert_int_eq(ab_transport_timer(a.transport, 4, 0), AB_OK); /* long past */
    node_wait(&a, node_has_timers, 3, "past timer");
    uint64_t keys = a.timer_keys;
    for (uint64_t key = 0; key < 10000; key++) {
        ck_assert_int_eq(ab_transport_timer(a.transport, key, ab_monotonic_ns() + key * 1000), AB_OK);
    }
    node_wait(&a, node_has_timers, 10003, "many");
    ck_assert_uint_eq(a.timer_keys - keys, 10000ull * 9999 / 2);
    node_stop(&a);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport");
    TCase *tcase = tcase_create("link");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, pair_both_ways, 0, 4);
    tcase_add_test(tcase, random_sizes);
    tcase_add_test(tcase, unknown_peers_and_sizes);
    tcase_add_test(tcase, pause_fills_and_messages_overtake);
    tcase_add_test(tcase, message_queue_is_bounded);
    tcase_add_test(tcase, budget_stops_reading);
    tcase_add_loop_test(tcase, drop_and_return, 0, 2);
    tcase_add_test(tcase, refused_message_drops);
    tcase_add_test(tcase, back_off_until_it_listens);
    tcase_add_test(tcase, unknown_host);
    tcase_add_test(tcase, ipv6);
    tcase_add_test(tcase, listening_errors);
    tcase_add_test(tcase, timers);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
