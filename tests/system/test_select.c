/* SPDX-License-Identifier: Apache-2.0 */
/* Exports and deletes of a part of the points over HTTP: what they select, what they refuse; exports in constant memory;
 * deletes in a cluster, where writes come late. One thread. */
#include "tests/support/run.h"
#include "tests/system/http_fixture.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void setup(void)
{
    setup_dir();
    start_nodes(1, NULL, "  http_threads: 1\n");
}

static void setup_cluster(void)
{
    setup_dir();
    start_nodes(3, NULL, NULL);
}

static void check_get(const char *path, const char *expected)
{
    get(path, 200);
    ck_assert_msg(strcmp(sorted(), expected) == 0, "%s gave\n%s", path, sorted());
}

#define T "2026-11-21T08:00:0"
#define NS "179524800"

static void write_some(void)
{
    post("/write?precision=s",
         "cpu,host=a,core=1 use=1 " NS "0\ncpu,host=a,core=2 use=2 " NS "1\n"
         "cpu,host=b use=3 " NS "2\nmem,host=a use=4 " NS "3\nmy\\ mem,host=a\\ b use=5 " NS "4\n",
         204);
}

#define CPU1 "cpu,core=1,host=a use=1 " NS "0000000000\n"
#define CPU2 "cpu,core=2,host=a use=2 " NS "1000000000\n"
#define CPU3 "cpu,host=b use=3 " NS "2000000000\n"
#define MEM "mem,host=a use=4 " NS "3000000000\n"
#define MINE "my\\ mem,host=a\\ b use=5 " NS "4000000000\n"

static const struct {
    const char *query;
    const char *selected;
    const char *others;
} selections[] = {
    {"measurement=cpu", CPU1 CPU2 CPU3, MEM MINE},
    {"measurement=cpu&tag=host=a", CPU1 CPU2, CPU3 MEM MINE},
    {"tag=host=a", CPU1 CPU2 MEM, CPU3 MINE},
    {"tag=core=2&tag=host=a", CPU2, CPU1 CPU3 MEM MINE},
    {"measurement=my%20mem&tag=host=a+b", MINE, CPU1 CPU2 CPU3 MEM},
    {"predicate=_measurement%3D%22cpu%22%20AND%20host%3D%22b%22", CPU3, CPU1 CPU2 MEM MINE},
    {"start=" T "2Z", CPU3 MEM MINE, CPU1 CPU2},
    {"stop=" T "1Z", CPU1 CPU2, CPU3 MEM MINE},
    {"start=" T "1Z&stop=2026-11-21T09:00:03%2B01:00", CPU2 CPU3 MEM, CPU1 MINE},
    {"start=" NS "1000000001&stop=" NS "3000000000", CPU3 MEM, CPU1 CPU2 MINE},
    {"tag=host=c", "", CPU1 CPU2 CPU3 MEM MINE},
};

START_TEST(selects)
{
    char path[256];
    write_some();
    snprintf(path, sizeof path, "/export?%s", selections[_i].query);
    check_get(path, selections[_i].selected);
    check_get("/export?db=any", CPU1 CPU2 CPU3 MEM MINE);
    snprintf(path, sizeof path, "/delete?db=any&%s", selections[_i].query);
    post(path, "", 204);
    ck_assert_ptr_nonnull(strstr(answer.writes, ":1."));
    check_get("/export", selections[_i].others);
    write_some();
    check_get("/export", CPU1 CPU2 CPU3 MEM MINE);
}
END_TEST

static const struct {
    const char *path;
    const char *body;
    const char *says;
} refused[] = {
    {"/delete", "", "name what to delete"},
    {"/delete?db=x", "", "name what to delete"},
    {"/delete?stpo=0", "", "unknown parameter"},
    {"/delete?start=yesterday", "", "RFC 3339"},
    {"/delete?start=2&stop=1", "", "stop is before start"},
    {"/delete?start=1&start=2&stop=3", "", "more than one start"},
    {"/delete?stop=1&stop=2", "", "more than one stop"},
    {"/delete?predicate=", "", "name what to delete"},
    {"/delete?measurement=", "", "empty"},
    {"/delete?measurement=a&measurement=b", "", "more than one measurement"},
    {"/delete?tag=a", "", "key=value"},
    {"/delete?predicate=a!%3D1", "", "predicate must be"},
    {"/delete?measurement=cpu", "{}", "no body"},
    {"/api/v2/delete", "", "must be JSON"},
    {"/api/v2/delete", "[]", "must be JSON"},
    {"/api/v2/delete", "{\"start\":\"2026-01-01T00:00:00Z\"}", "must be JSON"},
    {"/api/v2/delete", "{\"start\":0,\"stop\":\"x\"}", "RFC 3339"},
    {"/api/v2/delete", "{\"start\":0,\"stop\":null}", "RFC 3339"},
    {"/api/v2/delete", "{\"start\":0,\"stop\":1,\"predicate\":1}", "unknown member"},
    {"/api/v2/delete", "{\"start\":0,\"stop\":1,\"predicat\":\"\"}", "unknown member"},
    {"/api/v2/delete", "{\"start\":0,\"stop\":1,\"stop\":2}", "must be JSON"},
    {"/api/v2/delete", "{\"start\":1,\"stop\":0}", "stop is before start"},
    {"/api/v2/delete?measurement=cpu", "{\"start\":0,\"stop\":1}", "belong into the body"},
    {"/api/v2/delete?stop=9223372036854775807", "{\"start\":0,\"stop\":1}", "belong into the body"},
};

START_TEST(refuses)
{
    write_some();
    post(refused[_i].path, refused[_i].body, 400);
    ck_assert_msg(strstr(answer.body, refused[_i].says) != NULL, "%s", answer.body);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"code\":\"invalid\""));
    check_get("/export", CPU1 CPU2 CPU3 MEM MINE);
}
END_TEST

/* Everything is everything, the first and the last nanosecond that there are included. */
START_TEST(all_of_time)
{
    static const char text[] = "m f=1 -9223372036854775808\nm f=2 9223372036854775807\n";
    post("/write", text, 204);
    check_get("/export", text);
    check_get("/export?start=9223372036854775807", "m f=2 9223372036854775807\n");
    post("/delete?start=-9223372036854775808", "", 204);
    check_get("/export", "");
    post("/write", text, 204);
    post("/delete?stop=9223372036854775807", "", 204);
    check_get("/export", "");
}
END_TEST

START_TEST(as_influxdb_2)
{
    write_some();
    post("/api/v2/delete?org=o&bucket=b",
         "{\"start\":\"" T "1Z\",\"stop\":\"" T "3.5Z\",\"predicate\":\"_measurement=\\\"cpu\\\" AND "
         "host=\\\"a\\\"\"}",
         204);
    check_get("/export", CPU1 CPU3 MEM MINE);
    post("/api/v2/delete", "{\"start\":\"" T "0Z\",\"stop\":\"" T "2Z\"}", 204);
    check_get("/export", MEM MINE);
    get("/export?end=1", 400);
    ck_assert_ptr_nonnull(strstr(answer.body, "unknown parameter"));
    get("/export?start=2&stop=1", 400);
    get("/delete?measurement=cpu", 405);
}
END_TEST

/* `count` points, one field each, of `series` series; times 0, 1, 2, ... */
static void write_many(unsigned count, unsigned series)
{
    enum { BATCH = 20000 };
    char *body = malloc(BATCH * 64);
    for (unsigned i = 0; i < count;) {
        size_t n = 0;
        for (unsigned k = 0; k < BATCH && i < count; k++, i++) {
            n += (size_t)snprintf(body + n, 64, "m,n=%05u value=%u.25 %u\n", i % series, i, i);
        }
        post_bytes("/write", NULL, body, n, 204);
    }
    free(body);
}

/* What finds little in much takes many turns, between which the only thread serves others. */
START_TEST(sparse_exports)
{
    write_many(200000, 100000);
    get("/digest", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"points\":200000,"));
    check_get("/export?measurement=m&start=199999", "m,n=99999 value=199999.25 199999\n");
    check_get("/export?tag=n=00007", "m,n=00007 value=100007.25 100007\nm,n=00007 value=7.25 7\n");
    check_get("/export?tag=n=none", "");
    int fd = dial();
    say(fd, "GET /export?tag=n=none HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 50; i++) {
        get("/health", 200);
    }
    ck_assert_ptr_nonnull(strstr(hear(fd, "\r\n0\r\n"), "HTTP/1.1 200 "));
    close(fd);
    post("/delete?tag=n=00007", "", 204);
    get("/digest", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"points\":199998,"));
    post("/delete?start=0&stop=199000", "", 204);
    get("/export", 200);
    size_t lines = 0;
    for (const char *p = answer.body; (p = strchr(p, '\n')) != NULL; p++) {
        lines++;
    }
    ck_assert_uint_eq(lines, 999);
}
END_TEST

START_TEST(constant_memory)
{
    char piece[65536];
    long most = 0;
    size_t total = 0;
    write_many(AB_POINTS, 1000);
    get("/export?stop=1000", 200);
    long before = anonymous_kib();
    int fd = dial();
    say(fd, "GET /export HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for (ssize_t n = 0; (n = recv(fd, piece, sizeof piece, 0)) > 0;) {
        if (total / 1000000 != (total + (size_t)n) / 1000000) {
            long now = anonymous_kib();
            most = now > most ? now : most;
        }
        total += (size_t)n;
    }
    close(fd);
    ck_assert_uint_gt(total, AB_POINTS * 25);
    ck_assert_msg(most < before + AB_GROWTH_KIB, "from %ld to %ld KiB", before, most);
}
END_TEST

/* A node writes while it is alone; what it wrote reaches the others after a delete that is later, which wins there as it
 * does at home. */
START_TEST(late_writes)
{
    post_to(0, "/write", "m,n=1 f=1 1\nm,n=2 f=1 1\n");
    check_everywhere("m,n=1 f=1 1\nm,n=2 f=1 1\n");
    ck_assert(ab_cluster_signal(&cluster, 0, SIGKILL, NULL));
    ck_assert(ab_cluster_signal(&cluster, 2, SIGKILL, NULL));
    post_to(1, "/write", "m,n=1 f=2 1\nm,n=3 f=2 1\nm,n=4 f=2 4\n");
    ck_assert(ab_cluster_signal(&cluster, 1, SIGKILL, NULL));
    ck_assert_msg(ab_cluster_start(&cluster, 0), "%s", cluster.error);
    ck_assert_msg(ab_cluster_start(&cluster, 2), "%s", cluster.error);
    post_to(0, "/delete?measurement=m&stop=3", "");
    post_to(2, "/write", "m,n=5 f=3 1\n");
    ck_assert_msg(ab_cluster_start(&cluster, 1), "%s", cluster.error);
    check_everywhere("m,n=4 f=2 4\nm,n=5 f=3 1\n");
    post_to(1, "/write", "m,n=1 f=4 1\n");
    check_everywhere("m,n=1 f=4 1\nm,n=4 f=2 4\nm,n=5 f=3 1\n");
}
END_TEST

static unsigned draw(unsigned *seed, unsigned below)
{
    *seed = *seed * 1103515245 + 12345;
    return (*seed >> 16) % below;
}

/* Writes and deletes of the same few series through all nodes, one of them killed meanwhile: equal in the end. */
START_TEST(converges)
{
    unsigned seed = 20261121;
    size_t down = 3;
    for (int i = 0; i < 600; i++) {
        size_t node = draw(&seed, 3);
        char text[512];
        if (i == 200 || i == 400) {
            down = node;
            ck_assert(ab_cluster_signal(&cluster, down, SIGKILL, NULL));
        }
        if (i == 300 || i == 500) {
            ck_assert_msg(ab_cluster_start(&cluster, down), "%s", cluster.error);
            down = 3;
        }
        node = node == down ? (node + 1) % 3 : node;
        if (draw(&seed, 5) == 0) {
            unsigned start = draw(&seed, 20);
            snprintf(text, sizeof text, "/delete?measurement=m%u&%sstart=%u&stop=%u", draw(&seed, 3),
                     draw(&seed, 2) == 0 ? "tag=a=1&" : "", start, start + draw(&seed, 10));
            post_to(node, text, "");
            continue;
        }
        size_t n = 0;
        for (int k = 0; k < 5; k++) {
            n += (size_t)snprintf(text + n, sizeof text - n, "m%u,a=%u,b=%u f=%d %u\n", draw(&seed, 3),
                                  draw(&seed, 2), draw(&seed, 5), i, draw(&seed, 30));
        }
        post_to(node, "/write", text);
    }
    char *digest = NULL;
    ck_assert_msg(ab_cluster_converge(&cluster, 30000, &digest), "%s", cluster.error);
    ck_assert_ptr_null(strstr(digest, "\"points\":0,\"groups\""));
    free(digest);
    char *first = NULL;
    for (size_t i = 0; i < 3; i++) {
        ck_assert(ab_httpc_get(&client, ab_cluster_http_port(&cluster, i), "/export", &answer));
        ck_assert_uint_gt(answer.size, 100);
        if (first == NULL) {
            first = strdup(answer.body);
        }
        ck_assert_str_eq(answer.body, first);
    }
    free(first);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("select");
    TCase *c = tcase_create("select");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, selects, 0, sizeof selections / sizeof *selections);
    tcase_add_loop_test(c, refuses, 0, sizeof refused / sizeof *refused);
    tcase_add_test(c, all_of_time);
    tcase_add_test(c, as_influxdb_2);
    tcase_add_test(c, sparse_exports);
    tcase_add_test(c, constant_memory);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    c = tcase_create("cluster");
    tcase_add_checked_fixture(c, setup_cluster, teardown);
    tcase_add_test(c, late_writes);
    tcase_add_test(c, converges);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    return test_run(s);
}
