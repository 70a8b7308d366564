/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that hold connections, and clients of InfluxDB 1 that make their database first, at a real anabranchd. One
 * thread. */
#include "tests/support/run.h"
#include "tests/system/http_fixture.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PLACES = 8 };

/* With one thread of its own the daemon has noted that a connection waits before it takes the next one. */
static void setup(void)
{
    setup_dir();
    start_with("  max_connections: 8\n  idle_timeout_s: 600\n  http_threads: 1\n");
}

static void setup_impatient(void)
{
    setup_dir();
    start_with("  idle_timeout_s: 1\n");
}

#define PING "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"

static void ping(int fd)
{
    say(fd, PING);
    const char *text = hear(fd, "\r\n\r\n");
    ck_assert_msg(strncmp(text, "HTTP/1.1 204 ", 13) == 0, "%s", text);
}

/* Waits for the other side to hang up. */
static bool hangs_up(int fd)
{
    char byte = 0;
    return recv(fd, &byte, 1, 0) == 0 || errno == ECONNRESET;
}

static bool is_open(int fd)
{
    struct pollfd at = {.fd = fd, .events = POLLIN};
    return poll(&at, 1, 0) == 0;
}

/* Where all places are taken, the connection goes that has had no request for the longest time. */
START_TEST(idle_make_place)
{
    int fds[PLACES];
    for (int i = 0; i < PLACES; i++) {
        fds[i] = dial();
        ping(fds[i]);
    }
    ping(fds[0]); /* now the second has waited the longest */
    for (int i = 1; i < 4; i++) {
        int more = dial();
        ping(more);
        ck_assert(hangs_up(fds[i]));
        close(fds[i]);
        fds[i] = more;
    }
    ck_assert(is_open(fds[0]));
    for (int i = 4; i < PLACES; i++) {
        ck_assert(is_open(fds[i]));
    }
    for (int i = 0; i < PLACES; i++) {
        ping(fds[i]);
        close(fds[i]);
    }
    get("/metrics", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\nanabranch_http_connections_displaced_total 3\n"));
}
END_TEST

/* Heads that never end, many more than there are places: others are served all the same. */
START_TEST(slow_heads)
{
    int fds[5 * PLACES];
    for (int i = 0; i < 5 * PLACES; i++) {
        fds[i] = dial();
        say(fds[i], "GET /ping HT");
        if (i % PLACES == 0) {
            int other = dial();
            ping(other);
            close(other);
        }
    }
    post("/write", "m f=1 1\n", 204);
    ck_assert(hangs_up(fds[0]));
    for (int i = 0; i < 5 * PLACES; i++) {
        close(fds[i]);
    }
    get("/export", 200);
    ck_assert_str_eq(answer.body, "m f=1 1\n");
}
END_TEST

/* No request that is under way gives way to a new connection. */
START_TEST(busy_stay)
{
    int fds[PLACES];
    for (int i = 0; i < PLACES; i++) {
        fds[i] = dial();
        say(fds[i], "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\nExpect: 100-continue\r\n\r\n");
        ck_assert_int_eq(strncmp(hear(fds[i], "\r\n\r\n"), "HTTP/1.1 100 ", 13), 0);
    }
    int more = dial();
    ck_assert(hangs_up(more));
    close(more);
    for (int i = 0; i < PLACES; i++) {
        say(fds[i], "m f=1 1\n");
        const char *text = hear(fds[i], "\r\n\r\n");
        ck_assert_msg(strncmp(text, "HTTP/1.1 204 ", 13) == 0, "%s", text);
        close(fds[i]);
    }
}
END_TEST

/* A body that comes byte by byte never lets its connection be idle, and is cut off all the same. */
START_TEST(slow_body)
{
    int fd = dial();
    say(fd, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n");
    uint64_t start = ab_now_ms();
    while (is_open(fd)) {
        ck_assert_uint_lt(ab_now_ms() - start, 20000);
        ck_assert(send(fd, "#", 1, MSG_NOSIGNAL) == 1 || errno == EPIPE || errno == ECONNRESET);
        ab_pause();
    }
    ck_assert_uint_gt(ab_now_ms() - start, 1000);
    ck_assert(hangs_up(fd));
    close(fd);
    post("/write", "m f=1 1\n", 204);
}
END_TEST

static const struct {
    const char *head;
    int status;
} heads[] = {
    {"POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: br\r\n\r\n", 501},
    {"POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
    {"POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", 204},
    {"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
    {"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n", 400},
    {"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413},
    /* A proxy may have taken the other one of two ends of a body. */
    {"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", 400},
    {"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
    {"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400},
    {"POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
    {"BREW /write HTTP/1.1\r\nHost: x\r\n\r\n", 405},
    {"OPTIONS /write HTTP/1.1\r\nHost: x\r\n\r\n", 405},
    {"GET /ping HTTP/3.7\r\nHost: x\r\n\r\n", 505},
};

START_TEST(odd_heads)
{
    int fd = dial();
    say(fd, heads[_i].head);
    const char *text = hear(fd, "\r\n\r\n");
    ck_assert_msg(strncmp(text, "HTTP/1.1 ", 9) == 0 && atoi(text + 9) == heads[_i].status, "%s: %s",
                  heads[_i].head, text);
    close(fd);
}
END_TEST

/* What would follow the wrong end of a body is no request. */
START_TEST(two_ends)
{
    int fd = dial();
    say(fd, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 36\r\n\r\n"
            "GET /ping HTTP/1.1\r\nHost: smuggler\r\n\r\n");
    const char *text = hear(fd, "HTTP/1.1 204");
    ck_assert_msg(strstr(text, "HTTP/1.1 400") == text && strstr(text, "HTTP/1.1 204") == NULL, "%s", text);
    close(fd);
}
END_TEST

#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"
#define DONE "{\"results\":[{\"statement_id\":0}]}"

/* As influxdb-python and the shell `influx` ask (in the URL), and Telegraf (a form). */
START_TEST(databases)
{
    static const char *const refused[] = {
        "/query",
        "/query?q=",
        "/query?q=SHOW+DATABASES",
        "/query?q=SELECT+*+FROM+m",
        "/query?q=DROP+DATABASE+plant",
        "/query?q=CREATE+DATABASE",
        "/query?q=CREATE+DATABASE+%22%22",
        "/query?q=CREATE+DATABASE+%22plant",
        "/query?q=CREATE+DATABASE+plant+WITH+DURATION+30d",
        "/query?q=CREATE+DATABASE+plant%3B+DROP+DATABASE+plant",
    };
    static const char *const taken[] = {
        "/query?q=CREATE+DATABASE+plant&db=plant",
        "/query?q=CREATE+DATABASE+%22my+%5C%22plant%22%3B",
        "/query?q=create%20database%20plant-1",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        get(refused[i], 400);
        ck_assert_ptr_nonnull(strstr(answer.body, "\"error\":\"no queries here"));
        post(refused[i], "", 400);
    }
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        get(taken[i], 200);
        post(taken[i], "", 200);
        ck_assert_str_eq(answer.body, DONE);
    }
    const char *form = "db=x&q=CREATE+DATABASE+%22tele+graf%22&rp=";
    post_bytes("/query", FORM, form, strlen(form), 200);
    ck_assert_str_eq(answer.body, DONE);
    form = "aq=CREATE+DATABASE+x&q";
    post_bytes("/query", FORM, form, strlen(form), 400);
    form = "q=";
    post_bytes("/query", FORM, form, strlen(form), 400);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_clients");
    TCase *c = tcase_create("places");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, idle_make_place);
    tcase_add_test(c, slow_heads);
    tcase_add_test(c, busy_stay);
    tcase_add_test(c, databases);
    tcase_add_test(c, two_ends);
    tcase_add_loop_test(c, odd_heads, 0, sizeof heads / sizeof *heads);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    TCase *impatient = tcase_create("impatient");
    tcase_add_checked_fixture(impatient, setup_impatient, teardown);
    tcase_add_test(impatient, slow_body);
    tcase_set_timeout(impatient, 120);
    suite_add_tcase(s, impatient);
    return s;
}

int main(void)
{
    return test_run(suite());
}
