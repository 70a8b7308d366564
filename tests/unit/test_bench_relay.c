/* SPDX-License-Identifier: Apache-2.0 */
/* The bench's relay: bytes arrive as they were sent, as late as was asked for and no faster. One thread beside the
 * relay's. */
#include "tests/support/run.h"
#include "tools/anabranch/bench_relay.h"
#include "tools/anabranch/bench_sys.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 1000000u

static int listener, client, server;
static ab_bench_relay *relay;

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return name;
}

/* client - relay - server */
static void join(uint64_t delay_ns, uint64_t rate)
{
    struct sockaddr_in name = loopback(0);
    socklen_t size = sizeof name;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&name, &size), 0);
    relay = ab_bench_relay_start(ntohs(name.sin_port), delay_ns, rate);
    ck_assert_ptr_nonnull(relay);
    name = loopback(ab_bench_relay_port(relay));
    client = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&name, sizeof name), 0);
    server = accept(listener, NULL, NULL);
    ck_assert_int_ge(server, 0);
}

static void part(void)
{
    ab_bench_relay_stop(relay); /* with both ends still open */
    close(client);
    close(server);
    close(listener);
}

static void receive(int fd, uint8_t *bytes, size_t size)
{
    ck_assert_int_eq(recv(fd, bytes, size, MSG_WAITALL), (ssize_t)size);
}

START_TEST(delays_each_way)
{
    uint8_t byte = 7;
    join(20 * MS, 0);
    for (int i = 0; i < 3; i++) {
        uint64_t before = ab_bench_now();
        ck_assert_int_eq(send(client, &byte, 1, 0), 1);
        receive(server, &byte, 1);
        ck_assert_uint_ge(ab_bench_now() - before, 20 * MS);
        ck_assert_int_eq(send(server, &byte, 1, 0), 1);
        receive(client, &byte, 1);
        ck_assert_uint_ge(ab_bench_now() - before, 40 * MS);
        ck_assert_uint_eq(byte, 7);
    }
    part();
}
END_TEST

START_TEST(limits_the_rate)
{
    static uint8_t sent[300000], got[sizeof sent];
    for (size_t i = 0; i < sizeof sent; i++) {
        sent[i] = (uint8_t)(i * 31 >> 3);
    }
    join(0, 2000000);
    uint64_t before = ab_bench_now();
    ck_assert_int_eq(send(client, sent, sizeof sent, 0), (ssize_t)sizeof sent);
    receive(server, got, sizeof got);
    ck_assert_uint_ge(ab_bench_now() - before, 150 * MS);
    ck_assert_mem_eq(got, sent, sizeof sent);
    part();
}
END_TEST

/* What was sent before a closing arrives before it. */
START_TEST(passes_the_end_on)
{
    uint8_t bytes[3] = {1, 2, 3};
    join(5 * MS, 0);
    ck_assert_int_eq(send(client, bytes, sizeof bytes, 0), (ssize_t)sizeof bytes);
    shutdown(client, SHUT_WR);
    receive(server, bytes, sizeof bytes);
    ck_assert_int_eq(recv(server, bytes, 1, 0), 0);
    part();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench relay");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, delays_each_way);
    tcase_add_test(tcase, limits_the_rate);
    tcase_add_test(tcase, passes_the_end_on);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
