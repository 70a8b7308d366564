/* SPDX-License-Identifier: Apache-2.0 */
/* The relay itself, and transports with a relay between them: partitions, delays, damage. */
#include "tests/support/relay.h"
#include "tests/support/run.h"
#include "tests/unit/transport_node.h"

#include <anabranch/error.h>
#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- bare sockets --- */

static int listen_loopback(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(fd, 5), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static int connect_loopback(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void limit_wait(int fd, long ms)
{
    struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
}

/* Reads exactly `size` bytes, or fewer if the time or the stream ends. */
static size_t read_bytes(int fd, uint8_t *data, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t piece = recv(fd, data + got, size - got, 0);
        if (piece <= 0) {
            break;
        }
        got += (size_t)piece;
    }
    return got;
}

typedef struct ends {
    relay *r;
    int listener;
    int client;
    int server;
} ends;

static ends ends_make(void)
{
    ends e;
    uint16_t port;
    e.listener = listen_loopback(&port);
    e.r = relay_start(port);
    ck_assert_ptr_nonnull(e.r);
    e.client = connect_loopback(relay_port(e.r));
    e.server = accept(e.listener, NULL, NULL);
    ck_assert_int_ge(e.server, 0);
    limit_wait(e.client, 10000);
    limit_wait(e.server, 10000);
    return e;
}

static void ends_free(ends *e)
{
    relay_stop(e->r);
    (void)close(e->client);
    (void)close(e->server);
    (void)close(e->listener);
}

START_TEST(passes_both_ways)
{
    ends e = ends_make();
    uint8_t data[100];
    ck_assert_int_eq(send(e.client, "question", 8, 0), 8);
    ck_assert_uint_eq(read_bytes(e.server, data, 8), 8);
    ck_assert_mem_eq(data, "question", 8);
    ck_assert_int_eq(send(e.server, "answer", 6, 0), 6);
    ck_assert_int_eq(shutdown(e.server, SHUT_WR), 0);
    ck_assert_uint_eq(read_bytes(e.client, data, 100), 6); /* up to the end */
    ck_assert_int_eq(send(e.client, "more", 4, 0), 4);     /* the other way is open still */
    ck_assert_uint_eq(read_bytes(e.server, data, 4), 4);
    ck_assert_uint_eq(relay_bytes(e.r, RELAY_FORTH), 12);
    ck_assert_uint_eq(relay_bytes(e.r, RELAY_BACK), 6);
    ck_assert_uint_eq(relay_connections(e.r), 1);
    ends_free(&e);
}
END_TEST

START_TEST(cut_holds_back)
{
    ends e = ends_make();
    uint8_t data[100];
    relay_cut(e.r, RELAY_FORTH);
    ck_assert_int_eq(send(e.client, "held", 4, 0), 4);
    limit_wait(e.server, 100);
    ck_assert_uint_eq(read_bytes(e.server, data, 4), 0);
    ck_assert_int_eq(send(e.server, "back", 4, 0), 4); /* only one way is cut */
    ck_assert_uint_eq(read_bytes(e.client, data, 4), 4);
    (void)shutdown(e.client, SHUT_WR);
    ck_assert_uint_eq(read_bytes(e.server, data, 1), 0);
    int late = connect_loopback(relay_port(e.r)); /* nobody answers this one */
    ck_assert_int_eq(send(late, "late", 4, 0), 4);
    relay_cut(e.r, 0);
    limit_wait(e.server, 10000);
    ck_assert_uint_eq(read_bytes(e.server, data, 5), 4); /* and the end */
    ck_assert_mem_eq(data, "held", 4);
    int server = accept(e.listener, NULL, NULL);
    limit_wait(server, 10000);
    ck_assert_uint_eq(read_bytes(server, data, 4), 4);
    ck_assert_mem_eq(data, "late", 4);
    (void)close(late);
    (void)close(server);
    ends_free(&e);
}
END_TEST

START_TEST(delay_and_rate)
{
    ends e = ends_make();
    static uint8_t data[200000];
    relay_delay(e.r, RELAY_BOTH, 30000);
    uint64_t start = ab_monotonic_ns();
    ck_assert_int_eq(send(e.client, "x", 1, 0), 1);
    ck_assert_uint_eq(read_bytes(e.server, data, 1), 1);
    ck_assert_int_eq(send(e.server, "y", 1, 0), 1);
    ck_assert_uint_eq(read_bytes(e.client, data, 1), 1);
    ck_assert_uint_ge(ab_monotonic_ns() - start, 60000000u);
    relay_delay(e.r, RELAY_BOTH, 0);
    relay_rate(e.r, RELAY_FORTH, 1000000);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7);
    }
    start = ab_monotonic_ns();
    ck_assert_int_eq(send(e.client, data, sizeof(data), 0), (ssize_t)sizeof(data));
    memset(data, 0, sizeof(data));
    ck_assert_uint_eq(read_bytes(e.server, data, sizeof(data)), sizeof(data));
    uint64_t took = ab_monotonic_ns() - start;
    ck_assert_msg(took > 180000000u, "200 KB at 1 MB/s took %llu us", (unsigned long long)took / 1000);
    for (size_t i = 0; i < sizeof(data); i++) {
        ck_assert_uint_eq(data[i], (uint8_t)(i * 7));
    }
    ends_free(&e);
}
END_TEST

START_TEST(damage_drop_refuse)
{
    ends e = ends_make();
    uint8_t data[100];
    relay_corrupt(e.r, RELAY_FORTH, 5);
    ck_assert_int_eq(send(e.client, "0123456789", 10, 0), 10);
    ck_assert_uint_eq(read_bytes(e.server, data, 10), 10);
    ck_assert_mem_eq(data, "01234%6789", 10); /* '5' ^ 0x10 */
    ck_assert_uint_eq(relay_damaged(e.r), 1);
    relay_drop(e.r);
    ck_assert_uint_eq(read_bytes(e.client, data, 1), 0);
    ck_assert_uint_eq(read_bytes(e.server, data, 1), 0);
    ck_assert_uint_eq(relay_connections(e.r), 0);
    relay_refuse(e.r, true);
    int fd = connect_loopback(relay_port(e.r));
    limit_wait(fd, 10000);
    ck_assert_uint_eq(read_bytes(fd, data, 1), 0);
    (void)close(fd);
    ends_free(&e);
}
END_TEST

/* --- transports --- */

typedef struct wired {
    node a; /* 1, listens */
    node b; /* 2, dials through the relay; `swap`: the other way round */
    relay *r;
} wired;

static void wired_start(wired *w, bool swap)
{
    ab_peer_config dialler = {.node_id = swap ? 1 : 2};
    ab_transport_config config = node_config(swap ? 2 : 1, &dialler, 1);
    node *listening = swap ? &w->b : &w->a;
    config.listen_host = "127.0.0.1";
    config.ping_ms = 250;
    node_start(listening, &config);
    w->r = relay_start(ab_transport_port(listening->transport));
    ck_assert_ptr_nonnull(w->r);
    ab_peer_config listener = {.node_id = swap ? 2 : 1, .host = "127.0.0.1", .port = relay_port(w->r)};
    config = node_config(swap ? 1 : 2, &listener, 1);
    config.ping_ms = 250;
    node_start(swap ? &w->a : &w->b, &config);
    node_wait(&w->a, node_is_up, 2, "up");
    node_wait(&w->b, node_is_up, 1, "up");
}

static void wired_stop(wired *w)
{
    node_stop(&w->a);
    node_stop(&w->b);
    relay_stop(w->r);
}

/* Waits for a link that works both ways, whatever falls meanwhile. */
static void wired_check(wired *w)
{
    ab_buf *buf = node_block(NULL, 1, 1, 5000);
    w->a.only_count = w->b.only_count = true;
    for (int attempt = 0;; attempt++) {
        ck_assert_int_lt(attempt, 1000);
        node_wait(&w->a, node_is_up, 2, "up");
        node_wait(&w->b, node_is_up, 1, "up");
        unsigned count[2];
        pthread_mutex_lock(&w->a.lock);
        count[0] = w->a.links[2].blocks + 1;
        pthread_mutex_unlock(&w->a.lock);
        pthread_mutex_lock(&w->b.lock);
        count[1] = w->b.links[1].blocks + 1;
        pthread_mutex_unlock(&w->b.lock);
        (void)ab_transport_send_block(w->a.transport, 2, buf);
        (void)ab_transport_send_block(w->b.transport, 1, buf);
        if (node_wait_for(&w->a, node_has_blocks, NODE_COUNT(2, count[0]), 100) &&
            node_wait_for(&w->b, node_has_blocks, NODE_COUNT(1, count[1]), 100)) {
            break;
        }
    }
    ab_buf_unref(buf);
}

/* Both sides notice, whichever way is cut and whoever dialled, and find each other again. */
START_TEST(partition)
{
    static const int ways[] = {RELAY_BOTH, RELAY_FORTH, RELAY_BACK};
    wired w;
    wired_start(&w, _i >= 3);
    relay_cut(w.r, ways[_i % 3]);
    node_wait(&w.a, node_has_downs, NODE_COUNT(2, 1), "down by silence");
    node_wait(&w.b, node_has_downs, NODE_COUNT(1, 1), "down by silence");
    relay_cut(w.r, 0);
    wired_check(&w);
    wired_stop(&w);
}
END_TEST

/* One damaged byte anywhere is seen and costs the link at most; nothing damaged is delivered. */
START_TEST(damage_on_the_way)
{
    wired w;
    unsigned fell = 0;
    uint64_t seed = 5;
    wired_start(&w, false);
    for (unsigned i = 0; i < 60; i++) {
        wired_check(&w);
        unsigned damaged = relay_damaged(w.r);
        relay_corrupt(w.r, 1 << i % 2, i % 3 == 0 ? i / 3 : node_random(&seed) % 5000);
        while (relay_damaged(w.r) == damaged) {
            wired_check(&w);
        }
        pthread_mutex_lock(&w.a.lock);
        fell = w.a.links[2].downs;
        pthread_mutex_unlock(&w.a.lock);
    }
    ck_assert_uint_ge(fell, 30);
    wired_check(&w);
    wired_stop(&w);
}
END_TEST

START_TEST(drops_and_slow_line)
{
    wired w;
    wired_start(&w, true);
    relay_delay(w.r, RELAY_BOTH, 2000);
    relay_rate(w.r, RELAY_BOTH, 20000000);
    for (int i = 0; i < 10; i++) {
        wired_check(&w);
        relay_drop(w.r);
    }
    wired_check(&w);
    wired_stop(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("relay");
    TCase *tcase = tcase_create("relay");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, passes_both_ways);
    tcase_add_test(tcase, cut_holds_back);
    tcase_add_test(tcase, delay_and_rate);
    tcase_add_test(tcase, damage_drop_refuse);
    tcase_add_loop_test(tcase, partition, 0, 6);
    tcase_add_test(tcase, damage_on_the_way);
    tcase_add_test(tcase, drops_and_slow_line);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
