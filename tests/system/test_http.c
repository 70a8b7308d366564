/* SPDX-License-Identifier: Apache-2.0 */
/* A real anabranchd over HTTP: what it takes, what it refuses and how, connections, start and stop. One thread. */
#include "tests/support/run.h"
#include "tests/system/http_fixture.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/sockios.h> /* SIOCOUTQ */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void setup(void)
{
    setup_dir();
    start_with("  max_body: 65536\n  max_bodies: 131072\n");
}

static void setup_one_thread(void)
{
    setup_dir();
    start_with("  max_body: 65536\n  max_bodies: 131072\n  http_threads: 1\n");
}

START_TEST(takes_and_gives)
{
    post("/write", "m,b=2,a=1 f=1.5,s=\"x y\" 10\nn f=2i 20\nn f=3i 20\r\n# nothing\n\n", 204);
    ck_assert_ptr_nonnull(strstr(answer.writes, ":1."));
    get("/export", 200);
    ck_assert_uint_eq(answer.size, strlen("m,a=1,b=2 f=1.5 10\nm,a=1,b=2 s=\"x y\" 10\nn f=3i 20\n"));
    ck_assert_ptr_nonnull(strstr(answer.body, "m,a=1,b=2 f=1.5 10\nm,a=1,b=2 s=\"x y\" 10\n"));
    ck_assert_ptr_nonnull(strstr(answer.body, "n f=3i 20\n"));
    get("/digest", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"points\":3,"));
    get("/health", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"status\":\"pass\""));
    ck_assert(ab_httpc_request(&client, port(), "HEAD", "/health", NULL, "", 0, NULL, &answer));
    ck_assert_int_eq(answer.status, 200);
    get("/ping", 204);
    get("/ping?verbose=false", 204);
    get("/ping?verbose=true", 200);
    ck_assert_str_eq(answer.body, "{\"version\":\"1.8.0\"}");
    post("/write", "", 204);
    post("/write", "# only a comment\n", 204);
    ck_assert_uint_eq(client.connects, 1);
}
END_TEST

START_TEST(wrong_requests)
{
    get("/nothing", 404);
    post("/write/", "m f=1 1\n", 404);
    get("/write", 405);
    ck_assert_str_eq(answer.allow, "POST");
    post("/export", "m f=1 1\n", 405);
    ck_assert_str_eq(answer.allow, "GET");
    ck_assert(ab_httpc_request(&client, port(), "DELETE", "/write", NULL, "", 0, NULL, &answer));
    ck_assert_int_eq(answer.status, 405);
    ck_assert(ab_httpc_request(&client, port(), "POS", "/write", NULL, "", 0, NULL, &answer));
    ck_assert_int_eq(answer.status, 405);
    ck_assert_uint_eq(client.connects, 1);
    int fd = dial();
    say(fd, "NOT HTTP AT ALL\r\n\r\n\r\n");
    ck_assert_ptr_null(strstr(hear(fd, "\r\n\r\n"), "200 OK"));
    close(fd);
    get("/health", 200);
}
END_TEST

START_TEST(too_large)
{
    char *body = malloc(300001);
    memset(body, '#', 300000);
    body[300000] = '\0';
    post("/write", body, 413);
    body[65536] = '\0';
    post("/write", body, 204); /* exactly max_body: a comment */
    ck_assert_uint_eq(client.connects, 1);

    int fd = -1;
    const char *heard = "";
    do { /* in chunks, without a length before; again while the body before is still counted */
        fd = dial();
        say(fd, "POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (int i = 0; i < 20; i++) {
            char chunk[5100];
            int n = snprintf(chunk, sizeof chunk, "1388\r\n%.5000s\r\n", body);
            ck_assert_int_eq(send(fd, chunk, (size_t)n, MSG_NOSIGNAL), n);
        }
        say(fd, "0\r\n\r\n");
        heard = hear(fd, "max_bod");
        close(fd);
    } while (strncmp(heard, "HTTP/1.1 503 ", 13) == 0);
    ck_assert_msg(strncmp(heard, "HTTP/1.1 413 ", 13) == 0, "%s", heard);

    fd = dial(); /* asks before it sends */
    say(fd, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\nExpect: 100-continue\r\n\r\n");
    ck_assert_int_eq(strncmp(hear(fd, "max_body"), "HTTP/1.1 413 ", 13), 0);
    close(fd);
    fd = dial();
    say(fd, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\nExpect: 100-continue\r\n\r\n");
    ck_assert_int_eq(strncmp(hear(fd, "\r\n\r\n"), "HTTP/1.1 100 ", 13), 0);
    say(fd, "m f=1 1\n");
    ck_assert_int_eq(strncmp(hear(fd, "\r\n\r\n"), "HTTP/1.1 204 ", 13), 0);
    close(fd);
    free(body);
}
END_TEST

/* Returns once the daemon has counted what was said on all of `fds`. It has one thread here, and a first byte counts
 * the whole declared body: when all has reached its end of the connection, it reads it at the latest in the round of
 * its loop in which it reads a later request. The second of two answers is from a round after that one. */
static void wait_counted(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int left = 0;
        do {
            get("/health", 200);
            ck_assert_int_eq(ioctl(fds[i], SIOCOUTQ, &left), 0);
        } while (left > 0);
    }
    get("/health", 200);
    get("/health", 200);
}

/* Bodies that are not complete take memory: beyond max_bodies a new one is told to come again. */
START_TEST(too_many_bodies)
{
    int fds[2];
    char *most = malloc(40001);
    memset(most, '#', 40000);
    most[40000] = '\0';
    for (int i = 0; i < 2; i++) {
        fds[i] = dial();
        say(fds[i], "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n");
        say(fds[i], most);
    }
    wait_counted(fds, 2);
    post("/write", most, 503);
    ck_assert_int_eq(answer.retry_after, 1);
    ck_assert_ptr_nonnull(strstr(answer.body, "max_bodies"));
    for (int i = 0; i < 2; i++) { /* those that were there first are not harmed */
        say(fds[i], most + 30000);
        ck_assert_int_eq(strncmp(hear(fds[i], "\r\n\r\n"), "HTTP/1.1 204 ", 13), 0);
        close(fds[i]);
    }
    post("/write", "m f=1 1\n", 204);
    free(most);
}
END_TEST

START_TEST(keeps_connections)
{
    char line[64];
    for (int i = 0; i < 300; i++) {
        snprintf(line, sizeof line, "m,n=%d f=%d %d\n", i % 7, i, i);
        post("/write", line, 204);
    }
    ck_assert_uint_eq(client.connects, 1);
    get("/digest", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"points\":300,"));
}
END_TEST

START_TEST(many_connections)
{
    enum { COUNT = 300 };
    int fds[COUNT];
    for (int i = 0; i < COUNT; i++) {
        fds[i] = dial();
        say(fds[i], "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\nm,n=");
    }
    for (int i = 0; i < COUNT; i++) {
        char rest[32];
        snprintf(rest, sizeof rest, "%04d f=%04d 1\n", i, i);
        say(fds[i], rest);
    }
    for (int i = 0; i < COUNT; i++) {
        const char *text = hear(fds[i], "\r\n\r\n");
        ck_assert_msg(strncmp(text, "HTTP/1.1 204 ", 13) == 0, "%s", text);
        close(fds[i]);
    }
    get("/digest", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"points\":300,"));
}
END_TEST

/* Clients that go away in the middle of anything harm nobody. */
START_TEST(clients_vanish)
{
    for (int i = 0; i < 50; i++) {
        int fd = dial();
        if (i % 3 != 0) {
            say(fd, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nm f=1");
        }
        if (i % 3 == 2) {
            say(fd, " 1\n");
        }
        close(fd);
    }
    post("/write", "m f=2 2\n", 204);
    get("/health", 200);
}
END_TEST

/* An export of many pieces; one whose client stops reading is dropped without harm. */
START_TEST(long_export)
{
    size_t total = 0;
    char *body = malloc(65536);
    for (int i = 0; i < 60; i++) {
        size_t n = 0;
        for (int k = 0; k < 500; k++) {
            n += (size_t)snprintf(body + n, 65536 - n, "series,number=%d,k=%d value=%d.25 %d\n", i % 10, k, k,
                                  i);
        }
        total += n;
        post("/write", body, 204);
    }
    get("/export", 200);
    ck_assert_uint_eq(answer.size, total);
    size_t lines = 0;
    for (const char *p = answer.body; (p = strchr(p, '\n')) != NULL; p++) {
        lines++;
    }
    ck_assert_uint_eq(lines, 30000);
    int fd = dial();
    say(fd, "GET /export HTTP/1.1\r\nHost: x\r\n\r\n");
    ck_assert_int_eq(strncmp(hear(fd, "\r\n\r\n"), "HTTP/1.1 200 ", 13), 0);
    close(fd);
    get("/health", 200);
    free(body);
}
END_TEST

START_TEST(stops_in_order)
{
    post("/write", "m f=1 1\n", 204);
    int idle = dial();
    int busy = dial();
    say(busy, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nm f=1");
    int status = -1;
    uint64_t start = ab_now_ms();
    ck_assert_msg(ab_cluster_signal(&cluster, 0, SIGTERM, &status), "%s", cluster.error);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    ck_assert_uint_lt(ab_now_ms() - start, 10000);
    close(idle);
    close(busy);
    ck_assert_msg(ab_cluster_start(&cluster, 0), "%s", cluster.error);
    get("/export", 200);
    ck_assert_str_eq(answer.body, "m f=1 1\n");
    post("/write", "m f=2 2\n", 204);
    ck_assert(ab_cluster_signal(&cluster, 0, SIGINT, &status));
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

START_TEST(survives_kills)
{
    char line[64];
    char expected[1024] = "";
    for (int i = 0; i < 8; i++) {
        snprintf(line, sizeof line, "m f=%d %d\n", i, i);
        post("/write", line, 204);
        strcat(expected, line);
        if (i % 3 == 2) {
            get("/digest", 200); /* some of it is in the store already, the rest comes from the log */
        }
        ck_assert(ab_cluster_signal(&cluster, 0, SIGKILL, NULL));
        ck_assert_msg(ab_cluster_start(&cluster, 0), "%s", cluster.error);
    }
    get("/export", 200);
    ck_assert_str_eq(answer.body, expected);
}
END_TEST

#define NODE "node: {cluster: c, node_id: 1, data_dir: /nonexistent/x}\n"
/* Goes on with more keys or "}". */
#define THREE                                                                                                \
    "node: {cluster: c, node_id: 1, data_dir: /nonexistent/x, peers: [{node_id: 2, host: a, port: 1}]"

static const struct {
    const char *text;
    const char *says;
} bad_configs[] = {
    {"", ""},
    {"node: {cluster: c, node_id: 0, data_dir: x}\n", "node_id"},
    {NODE "application:\n  http_prt: 1\n", "test.yaml:3: application.http_prt: is not a known key"},
    {NODE "application:\n  http_port: 70000\n",
     "test.yaml:3: application.http_port: 70000 is out of range (0 to 65535)"},
    {NODE "application:\n  http_port: many\n", "application.http_port"},
    {NODE "application:\n  http_port: -1\n", "application.http_port: -1 is not a whole number (0 to 65535)"},
    {NODE "application:\n  timeout_ms: 10s\n", "application.timeout_ms: 10s is not a whole number"},
    {NODE "application:\n  http_port: 08086\n", "application.http_port: 08086 is not a whole number"},
    {NODE "application:\n  http_port:\n", "application.http_port"},
    {NODE "application:\n  max_body: 16MB\n", "application.max_body: 16MB is not a size"},
    {NODE "application:\n  max_body: 18446744073709551616\n",
     "application.max_body: 18446744073709551616 is"},
    {NODE "application:\n  max_body: 2GiB\n", "max_body: 2GiB is out of range (1KiB to 1GiB)"},
    {NODE "application:\n  groups: 0\n", "application.groups: 0 is out of range (1 to 4096)"},
    {NODE "application:\n  groups: [1]\n", "application.groups"},
    {NODE "application:\n  write_level: most\n",
     "application.write_level: is not one of default, memory, local, quorum, all"},
    {NODE "application:\n  http_host: ''\n", "application.http_host: is empty"},
    {NODE "application:\n  max_body: 2048\n  max_bodies: 1024\n",
     "application.max_bodies: must be at least max_body"},
    {NODE "application:\n  max_body: 10\n", "application.max_body: 10 is out of range"},
    {NODE "application:\n  http_host: 0.0.0.0\n", "application.http_host 0.0.0.0 is not a loopback address"},
    {NODE "application:\n  http_host: '::'\n", "application.http_host :: is not a loopback address"},
    {NODE "groups: [{id: 1, name: g, members: [1], backend: raft}]\n", "group g: no backend is called raft"},
    {THREE "}\napplication: {write_level: quorum}\n",
     "group shard-0: write_level quorum is not in this version (memory, local): application.write_level"},
    {THREE ", write_level: all}\napplication: {write_level: quorum}\n",
     "(memory, local): application.write_level"},
    {THREE ", write_level: all}\n",
     "group shard-0: node.write_level all is not in this version (memory, local)\""},
    {THREE "}\ngroups: [{id: 1, name: g, members: [1, 2], write_level: quorum}]\n",
     "group g: write_level quorum is not in this version"},
    {NODE "application: 5\n", "application"},
    {NODE "aplication: {}\n", "aplication"},
};

START_TEST(refuses_configs)
{
    char out[4096];
    const char *const arguments[] = {"anabranchd", "--config", write_file(bad_configs[_i].text), "--check",
                                     NULL};
    int code = run(arguments, out, sizeof out);
    ck_assert_msg(code == 2, "exit code %d: %s", code, out);
    ck_assert_msg(strstr(out, bad_configs[_i].says) != NULL, "'%s' not in: %s", bad_configs[_i].says, out);
}
END_TEST

/* What sounds like the above and is fine: one member alone is a majority, and a narrower level counts. */
static const char *const good_configs[] = {
    NODE "application: {write_level: quorum, http_host: '::1'}\n",
    NODE "application: {http_host: localhost}\n",
    NODE "application: {http_host: no.such.host.invalid}\n", /* for the start to say */
    THREE ", write_level: quorum}\napplication: {write_level: local}\n",
    THREE ", insecure: true}\napplication: {http_host: 0.0.0.0}\n",
};

START_TEST(takes_configs)
{
    char out[4096];
    const char *const arguments[] = {"anabranchd", "--config", write_file(good_configs[_i]), "--check", NULL};
    int code = run(arguments, out, sizeof out);
    ck_assert_msg(code == 0, "exit code %d: %s", code, out);
}
END_TEST

START_TEST(command_line)
{
    char out[4096];
    ck_assert_int_eq(run((const char *const[]){"anabranchd", "--help", NULL}, out, sizeof out), 0);
    ck_assert_ptr_nonnull(strstr(out, "usage: anabranchd"));
    ck_assert_int_eq(run((const char *const[]){"anabranchd", "--version", NULL}, out, sizeof out), 0);
    ck_assert_int_eq(strncmp(out, "anabranchd ", 11), 0);
    ck_assert_int_eq(run((const char *const[]){"anabranchd", NULL}, out, sizeof out), 2);
    ck_assert_int_eq(run((const char *const[]){"anabranchd", "--what", NULL}, out, sizeof out), 2);
    ck_assert_int_eq(run((const char *const[]){"anabranchd", "--config", "/no/such", NULL}, out, sizeof out),
                     2);
    const char *path = write_file(NODE);
    ck_assert_int_eq(
        run((const char *const[]){"anabranchd", "--config", path, "--check", NULL}, out, sizeof out), 0);
    path = write_file(NODE "application: {http_port: 0}\n");
    ck_assert_int_eq(run((const char *const[]){"anabranchd", "--config", path, NULL}, out, sizeof out), 1);
    ck_assert_ptr_nonnull(strstr(out, "/nonexistent"));
}
END_TEST

/* Started with standard input, output and error closed, as some supervisors do it: no file of the store may take their
 * numbers, or log lines go into it. */
START_TEST(closed_descriptors)
{
    char text[256];
    char ready[128];
    int status = -1;
    snprintf(ready, sizeof ready, "%s/ready", base);
    snprintf(text, sizeof text,
             "node: {cluster: c, node_id: 1, data_dir: %s/data}\napplication: {http_port: 0, groups: 1}\n",
             base);
    const char *config = write_file(text);
    pid_t pid = fork();
    if (pid == 0) {
        close(STDIN_FILENO);
        close(STDOUT_FILENO);
        close(STDERR_FILENO);
        execl(AB_BIN "/anabranchd", "anabranchd", "--config", config, "--ready-file", ready, NULL);
        _exit(127);
    }
    while (access(ready, F_OK) != 0) {
        ck_assert_int_eq(waitpid(pid, &status, WNOHANG), 0);
        ab_pause();
    }
    char target[3][256] = {""};
    for (int fd = 0; fd < 3; fd++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%ld/fd/%d", (long)pid, fd);
        ck_assert_int_gt(readlink(path, target[fd], sizeof target[fd] - 1), 0);
    }
    kill(pid, SIGTERM);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    for (int fd = 0; fd < 3; fd++) {
        ck_assert_str_eq(target[fd], "/dev/null");
    }
}
END_TEST

/* A configuration with the daemon's data directory, which is not running. */
static int run_with(const char *format, char *out, size_t room)
{
    char text[1024];
    int n = snprintf(text, sizeof text,
                     "node: {cluster: mainjob, node_id: 1, data_dir: %s/data}\napplication:\n%s",
                     cluster.nodes[0].dir, format);
    ck_assert_int_lt(n, (int)sizeof text);
    return run((const char *const[]){"anabranchd", "--config", write_file(text), NULL}, out, room);
}

START_TEST(refuses_to_start)
{
    char out[8192];
    post("/write", "m f=1 1\n", 204);
    ck_assert_int_eq(run_with("  http_port: 0\n", out, sizeof out), 1); /* the directory is in use */
    int taken = dial();
    char extra[64];
    ck_assert(ab_cluster_signal(&cluster, 0, SIGTERM, NULL));
    close(taken);
    ck_assert_int_eq(run_with("  http_port: 0\n  groups: 5\n", out, sizeof out), 2);
    ck_assert_ptr_nonnull(strstr(out, "groups"));
    ck_assert_int_eq(run_with("  http_port: 0\n  groups: 4\n  http_host: 0.0.0.0\n", out, sizeof out), 2);
    ck_assert_ptr_nonnull(strstr(out, "insecure"));
    ck_assert_int_eq(
        run_with("  http_port: 0\n  groups: 4\n  http_host: no.such.host.invalid\n", out, sizeof out), 2);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    ck_assert_int_eq(bind(listening, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listening, 1), 0);
    ck_assert_int_eq(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    snprintf(extra, sizeof extra, "  http_port: %u\n  groups: 4\n", (unsigned)ntohs(address.sin_port));
    ck_assert_int_eq(run_with(extra, out, sizeof out), 1);
    ck_assert_ptr_nonnull(strstr(out, "cannot listen"));
    close(listening);
    ck_assert_msg(ab_cluster_start(&cluster, 0), "%s", cluster.error); /* nothing was harmed */
    get("/export", 200);
    ck_assert_str_eq(answer.body, "m f=1 1\n");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http");
    TCase *c = tcase_create("daemon");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, takes_and_gives);
    tcase_add_test(c, wrong_requests);
    tcase_add_test(c, too_large);
    tcase_add_test(c, keeps_connections);
    tcase_add_test(c, many_connections);
    tcase_add_test(c, clients_vanish);
    tcase_add_test(c, long_export);
    tcase_add_test(c, stops_in_order);
    tcase_add_test(c, survives_kills);
    tcase_add_test(c, refuses_to_start);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    c = tcase_create("one_thread");
    tcase_add_checked_fixture(c, setup_one_thread, teardown);
    tcase_add_test(c, too_many_bodies);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    c = tcase_create("command");
    tcase_add_checked_fixture(c, setup_dir, teardown);
    tcase_add_loop_test(c, refuses_configs, 0, sizeof bad_configs / sizeof *bad_configs);
    tcase_add_loop_test(c, takes_configs, 0, sizeof good_configs / sizeof *good_configs);
    tcase_add_test(c, command_line);
    tcase_add_test(c, closed_descriptors);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_run(suite());
}
