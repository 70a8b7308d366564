/* SPDX-License-Identifier: Apache-2.0 */
/* anabranchd as a service: log lines, what SIGHUP changes and what not, what it tells its manager, how long it takes to
 * stop. One thread. */
#include "tests/support/run.h"
#include "tests/system/http_fixture.h"

#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char notify_path[128];
static int notify_fd = -1;

/* The daemon tells us, as it would tell systemd. */
static void setup_manager(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = 20};
    setup_dir();
    snprintf(notify_path, sizeof notify_path, "%s/notify", base);
    memcpy(address.sun_path, notify_path, strlen(notify_path));
    notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(notify_fd, (struct sockaddr *)&address, sizeof address), 0);
    setsockopt(notify_fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setenv("NOTIFY_SOCKET", notify_path, 1);
    start_with(NULL);
    unsetenv("NOTIFY_SOCKET");
}

static void teardown_manager(void)
{
    close(notify_fd);
    teardown();
}

static void setup(void)
{
    setup_dir();
    start_with("  max_body: 4096\n");
}

static char *read_text(const char *name)
{
    static char text[1 << 20];
    char path[400];
    snprintf(path, sizeof path, "%s/%s", cluster.nodes[0].dir, name);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = '\0';
    return text;
}

/* How often the log has it. */
static size_t count_in_log(const char *what)
{
    size_t count = 0;
    for (const char *p = read_text("log"); (p = strstr(p, what)) != NULL; p++) {
        count++;
    }
    return count;
}

static void wait_for_log(const char *what, size_t times)
{
    uint64_t start = ab_now_ms();
    while (count_in_log(what) < times) {
        ck_assert_msg(ab_now_ms() - start < 20000, "no '%s' in the log:\n%s", what, read_text("log"));
        ab_pause();
    }
}

/* Replaces the first `old` of the configuration; an empty `old`: at its end. */
static void edit(const char *old, const char *new)
{
    static char text[8192];
    char path[400];
    snprintf(text, sizeof text, "%s", read_text("config.yaml"));
    char *at = old[0] != '\0' ? strstr(text, old) : text + strlen(text);
    ck_assert_msg(at != NULL, "no '%s' in %s", old, text);
    snprintf(path, sizeof path, "%s/config.yaml", cluster.nodes[0].dir);
    FILE *file = fopen(path, "we");
    fprintf(file, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
    fclose(file);
}

static void reload(const char *until)
{
    size_t before = count_in_log(until);
    ck_assert(ab_cluster_signal(&cluster, 0, SIGHUP, NULL));
    wait_for_log(until, before + 1);
}

static void write_comment(size_t size, int status)
{
    char *body = malloc(size + 1);
    memset(body, '#', size);
    body[size] = '\0';
    post("/write", body, status);
    free(body);
}

START_TEST(reloads)
{
    write_comment(4096, 204);
    write_comment(4097, 413);
    ck_assert_uint_eq(count_in_log("level=debug"), 0);
    ck_assert_uint_eq(count_in_log(" level=info from=daemon msg=\"ready\" http_host=127.0.0.1 http_port="),
                      1);
    edit("max_body: 4096", "max_body: 8KiB");
    edit("durability: sync\n", "durability: sync\n  log_severity: debug\n");
    edit("", "  token: secret\n  timeout_ms: 1234\n");
    reload("msg=\"configuration read again\"");
    ck_assert_uint_eq(count_in_log("needs a restart"), 0);
    post("/write", "m f=1 1\n", 401);
    post_bytes("/write", "Authorization: Token secret\r\n", "m f=1 1\n", 8, 204);
    wait_for_log("level=debug from=daemon msg=\"request\" method=POST path=/write status=204 body_bytes=8 ",
                 1);
    edit("  token: secret\n", "");
    reload("msg=\"configuration read again\"");
    write_comment(8192, 204);
    write_comment(8193, 413);
    get("/export", 200);
    ck_assert_str_eq(answer.body, "m f=1 1\n");
    ck_assert_uint_eq(client.connects, 1);
}
END_TEST

START_TEST(names_what_needs_a_restart)
{
    edit("groups: 4", "groups: 5");
    edit("durability: sync\n", "durability: none\n  gossip_ms: 100\n  peers: [{node_id: 9}]\n");
    edit("http_port: 0", "http_port: 1234");
    reload("level=warn from=daemon msg=\"what changed here needs a restart\" keys=\"node.durability "
           "node.gossip_ms "
           "node.peers application.http_port application.groups\"");
    post("/write", "m f=1 1\n", 204);
}
END_TEST

START_TEST(keeps_what_it_has)
{
    edit("max_body: 4096", "max_body: 8192\n  max_boddy: 1");
    reload("level=error from=daemon msg=\"the configuration stays as it is\" error=\"");
    ck_assert_uint_eq(count_in_log("max_boddy: is not a known key"), 1);
    write_comment(4097, 413);
    edit("\n  max_boddy: 1", "");
    edit("http_host: 127.0.0.1", "http_host: 0.0.0.0"); /* it would not start with that */
    reload("level=error from=daemon msg=\"the configuration stays as it is\" error=\"");
    ck_assert_uint_eq(count_in_log("0.0.0.0 is not a loopback address"), 1);
    write_comment(4097, 413);
    edit("cluster: mainjob", "cluster: [");
    reload("msg=\"the configuration stays as it is\"");
    write_comment(4096, 204);
    ck_assert_int_eq(unlink(strcat(strcpy((char[400]){0}, cluster.nodes[0].dir), "/config.yaml")), 0);
    reload("msg=\"the configuration stays as it is\"");
    write_comment(4096, 204);
}
END_TEST

/* Every line is an object with the same four members, whatever it says. */
START_TEST(logs_json)
{
    edit("", "  log_format: json\n");
    edit("durability: sync\n", "durability: sync\n  log_severity: debug\n");
    reload("configuration read again");
    get("/health", 200);
    edit("", "  say \"what\": 1\n");
    reload("the configuration stays as it is");
    ck_assert(ab_cluster_signal(&cluster, 0, SIGTERM, NULL));
    wait_for_log("\"msg\":\"stopped\"", 1);
    char *text = read_text("log");
    size_t lines = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (line[0] != '{') {
            ck_assert_msg(strncmp(line, "time=20", 7) == 0, "not from before either: %s", line);
            continue;
        }
        json_error_t error;
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        ck_assert_msg(object != NULL, "%s: %s", error.text, line);
        ck_assert_uint_eq(strlen(json_string_value(json_object_get(object, "time"))), 24);
        ck_assert_ptr_nonnull(json_string_value(json_object_get(object, "level")));
        ck_assert_ptr_nonnull(json_string_value(json_object_get(object, "from")));
        ck_assert_ptr_nonnull(json_string_value(json_object_get(object, "msg")));
        if (strcmp(json_string_value(json_object_get(object, "msg")), "request") == 0) {
            ck_assert_int_eq(json_integer_value(json_object_get(object, "status")), 200);
        }
        json_decref(object);
        lines++;
    }
    ck_assert_uint_ge(lines, 5);
}
END_TEST

static void expect_notice(const char *what)
{
    char text[256];
    ssize_t n = recv(notify_fd, text, sizeof text - 1, 0);
    ck_assert_msg(n > 0, "no '%s': %s", what, strerror(errno));
    text[n] = '\0';
    ck_assert_msg(strncmp(text, what, strlen(what)) == 0, "'%s', not '%s'", text, what);
}

START_TEST(tells_its_manager)
{
    expect_notice("READY=1\n");
    ck_assert(ab_cluster_signal(&cluster, 0, SIGHUP, NULL));
    expect_notice("RELOADING=1\n");
    expect_notice("READY=1\n");
    ck_assert(ab_cluster_signal(&cluster, 0, SIGTERM, NULL));
    expect_notice("STOPPING=1\n");
}
END_TEST

/* A write that waits for a peer that is not there, a body that does not end, an export that nobody reads: SIGTERM ends
 * all of them within stop_timeout_ms. */
START_TEST(stops_in_time)
{
    ab_cluster_options options = {.bin = AB_BIN,
                                  .dir = base,
                                  .count = 2,
                                  .groups = 4,
                                  .node_extra = "  stop_timeout_ms: 3000\n",
                                  .application_extra = "  timeout_ms: 600000\n"};
    ck_assert_msg(ab_cluster_init(&cluster, &options), "%s", cluster.error);
    ck_assert_msg(ab_cluster_start(&cluster, 0), "%s", cluster.error);
    char *body = malloc(5000000);
    size_t n = 0;
    for (int i = 0; i < 100000; i++) {
        n += (size_t)snprintf(body + n, 5000000 - n, "m,n=%d f=%d %d\n", i % 10, i, i);
    }
    post_bytes("/write", NULL, body, n, 204);
    free(body);
    int half = dial();
    say(half, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nm f=1");
    int unread = dial();
    say(unread, "GET /export HTTP/1.1\r\nHost: x\r\n\r\n");
    hear(unread, "\r\n\r\n");
    int status = -1;
    uint64_t start = ab_now_ms();
    ck_assert_msg(ab_cluster_signal(&cluster, 0, SIGTERM, &status), "%s", cluster.error);
    ck_assert_uint_lt(ab_now_ms() - start, 3000 + 1000);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d\n%s", status, read_text("log"));
    close(half);
    close(unread);
}
END_TEST

typedef struct hammer {
    pthread_t thread;
    size_t kind;
    atomic_size_t answered;
} hammer;

static void *run_hammer(void *arg)
{
    static const struct {
        const char *method;
        const char *path;
        const char *body;
    } kinds[] = {{"POST", "/write", "m,n=1 f=1\nm,n=2 f=1\n"},
                 {"GET", "/health", ""},
                 {"GET", "/metrics", ""},
                 {"GET", "/export", ""},
                 {"POST", "/delete?measurement=m", ""},
                 {"GET", "/digest", ""}};
    hammer *h = arg;
    ab_httpc mine;
    ab_httpc_answer got = {.status = 200};
    uint16_t to = port();
    const char *body = kinds[h->kind].body;
    if (!ab_httpc_init(&mine)) {
        return NULL;
    }
    while (ab_httpc_request(&mine, to, kinds[h->kind].method, kinds[h->kind].path, NULL, body, strlen(body),
                            NULL, &got) &&
           got.status != 503) {
        atomic_fetch_add(&h->answered, 1);
    }
    ab_httpc_free(&mine);
    return NULL;
}

/* Stopped while requests of every kind come in, and one whose body ends meanwhile. */
START_TEST(stops_under_load)
{
    enum { KINDS = 6 };
    for (int round = 0; round < 5; round++) {
        static hammer hammers[KINDS];
        int status = -1;
        int late = dial();
        say(late, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nm f=");
        for (size_t i = 0; i < KINDS; i++) {
            hammers[i].kind = i;
            atomic_store(&hammers[i].answered, 0);
            ck_assert_int_eq(pthread_create(&hammers[i].thread, NULL, run_hammer, &hammers[i]), 0);
        }
        for (size_t i = 0; i < KINDS; i++) {
            while (atomic_load(&hammers[i].answered) < 3) {
                ab_pause();
            }
        }
        size_t stops = count_in_log("msg=\"stopping\"");
        ck_assert_int_eq(kill(cluster.nodes[0].pid, SIGTERM), 0);
        wait_for_log("msg=\"stopping\"", stops + 1);
        send(late, "1 1\n", 4, MSG_NOSIGNAL);
        ck_assert_ptr_null(strstr(hear(late, "\r\n\r\n"), "500"));
        close(late);
        ck_assert_msg(ab_cluster_signal(&cluster, 0, SIGTERM, &status), "%s", cluster.error);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d\n%s", status,
                      read_text("log"));
        for (size_t i = 0; i < KINDS; i++) {
            pthread_join(hammers[i].thread, NULL);
        }
        ck_assert_msg(ab_cluster_start(&cluster, 0), "%s", cluster.error);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("service");
    TCase *c = tcase_create("reload");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, reloads);
    tcase_add_test(c, names_what_needs_a_restart);
    tcase_add_test(c, keeps_what_it_has);
    tcase_add_test(c, logs_json);
    tcase_add_test(c, stops_under_load);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    c = tcase_create("manager");
    tcase_add_checked_fixture(c, setup_manager, teardown_manager);
    tcase_add_test(c, tells_its_manager);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    c = tcase_create("stop");
    tcase_add_checked_fixture(c, setup_dir, teardown);
    tcase_add_test(c, stops_in_time);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    return test_run(s);
}
