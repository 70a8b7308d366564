/* SPDX-License-Identifier: Apache-2.0 */
/* Start and stop a thousand times without a leak, and every allocation failing in turn. */
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include "tests/unit/transport_node.h"

#include <anabranch/error.h>
#include <check.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static unsigned entries(const char *path)
{
    unsigned count = 0;
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count;
}

static uint32_t run_pair(unsigned round)
{
    node a;
    node b;
    ab_peer_config two = {.node_id = 2};
    ab_transport_config config = node_config(1, &two, 1);
    config.listen_host = "127.0.0.1";
    config.threads = 1 + round % 3;
    config.retry_min_ms = 1;
    node_start(&a, &config);
    ab_peer_config one = {.node_id = 1,
                          .host = round % 8 == 0 ? "localhost" : "127.0.0.1",
                          .port = ab_transport_port(a.transport)};
    config = node_config(2, &one, 1);
    config.retry_min_ms = 1;
    node_start(&b, &config);
    if (round % 4 != 0) { /* else stopped in the middle of whatever there is */
        node_wait(&b, node_is_up, 1, "up");
    }
    if (round % 4 == 1) {
        (void)node_message(&b, 1, 1, 1000);
        ab_buf *buf = node_block(&b.budget, 2, 1, 100000);
        (void)ab_transport_send_block(b.transport, 1, buf);
        ab_buf_unref(buf);
        (void)ab_transport_timer(a.transport, 1, ab_monotonic_ns() + 1000000);
    }
    node_stop(round % 2 == 0 ? &a : &b);
    node_stop(round % 2 == 0 ? &b : &a);
    return b.links[1].ups;
}

START_TEST(thousand_cycles)
{
    unsigned ups = 0;
    for (unsigned i = 0; i < 20; i++) {
        ups += run_pair(i);
    }
    unsigned files = entries("/proc/self/fd");
    unsigned tasks = entries("/proc/self/task");
    for (unsigned i = 0; i < 1000; i++) {
        ups += run_pair(i);
    }
    ck_assert_uint_ge(ups, 700);
    ck_assert_uint_eq(entries("/proc/self/fd"), files);
    /* A look-up's thread may still be on its way out. */
    for (unsigned i = 0; i < 2000 && entries("/proc/self/task") != tasks; i++) {
        (void)sched_yield();
    }
    ck_assert_uint_le(entries("/proc/self/task"), tasks);
}
END_TEST

/* A failure at the start is told and leaves nothing behind; later it costs a link at most, which comes back. */
START_TEST(failing_allocations)
{
    node a;
    node b;
    ab_peer_config others[] = {{.node_id = 2}, {.node_id = 3}};
    ab_transport_config config = node_config(1, others, 2);
    config.listen_host = "127.0.0.1";
    config.retry_min_ms = 1;
    config.retry_max_ms = 5;
    config.ping_ms = 300;
    node_start(&a, &config);
    a.only_count = true;
    ab_buf *buf = node_block(NULL, 2, 1, 20000);
    ab_peer_config one = {.node_id = 1, .host = "127.0.0.1", .port = ab_transport_port(a.transport)};
    config = node_config(2, &one, 1);
    config.retry_min_ms = 1;
    config.retry_max_ms = 5;
    config.ping_ms = 300;
    config.listen_host = "127.0.0.1";
    unsigned long n;
    for (n = 1; n < 500; n++) {
        ab_message message = {""};
        alloc_fail_at(n);
        int code = node_try_start(&b, &config, &message);
        if (code != AB_OK) {
            bool failed = alloc_fail_happened();
            alloc_fail_at(0);
            ck_assert_int_eq(code, AB_ENOMEM);
            ck_assert(failed);
            ck_assert_ptr_nonnull(strstr(message.text, "out of memory"));
            continue;
        }
        bool done = false;
        for (int attempt = 0; attempt < 100 && !done; attempt++) {
            /* No assertions here: Check allocates for them. */
            (void)node_wait_for(&b, node_is_up, 1, 20000);
            (void)ab_transport_send_block(b.transport, 1, buf);
            (void)ab_transport_send_message(b.transport, 1, 8, (ab_bytes){"\1\0\0\0\0\0\0\0", 8});
            (void)ab_transport_timer(b.transport, 1, 0);
            done = node_wait_for(&a, node_has_blocks, NODE_COUNT(2, 1), 50);
        }
        bool failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_msg(done, "no block arrives after failure %lu", n);
        pthread_mutex_lock(&a.lock);
        a.links[2].blocks = 0;
        pthread_mutex_unlock(&a.lock);
        node_stop(&b);
        node_wait(&a, node_is_down, 2, "down");
        if (!failed) {
            break;
        }
    }
    ck_assert_uint_gt(n, 15);
    ck_assert_uint_lt(n, 500);
    ab_buf_unref(buf);
    node_stop(&a);
}
END_TEST

/* The application's signals go to its own threads; a write to a closed socket kills nobody. */
static volatile sig_atomic_t got_on_own;
static pthread_t own;

static void on_signal(int number)
{
    (void)number;
    got_on_own = pthread_equal(pthread_self(), own) ? 1 : -1;
}

START_TEST(signals)
{
    node a;
    own = pthread_self();
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    ab_transport_config config = node_config(1, NULL, 0);
    config.threads = 4;
    node_start(&a, &config);
    for (int i = 0; i < 50; i++) {
        got_on_own = 0;
        ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
        while (got_on_own == 0) {
        }
        ck_assert_int_eq(got_on_own, 1);
    }
    node_stop(&a);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport-life");
    TCase *tcase = tcase_create("life");
    tcase_set_timeout(tcase, 110);
    tcase_add_test(tcase, thousand_cycles);
    tcase_add_test(tcase, failing_allocations);
    tcase_add_test(tcase, signals);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
