/* SPDX-License-Identifier: Apache-2.0 */
/* The inspector beside live nodes: three of them in this process, the real program asks their real sockets. */
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX (1u << 20)
#define WAIT_MS 30000u
#define ENTRIES 150u

static test_cluster cluster;
static char output[OUTPUT_MAX];

static void setup(void)
{
    test_cluster_init(&cluster, 3);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(test_write_range(cluster.nodes[i].group, "entry", 0, ENTRIES / 3), AB_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        ck_assert(test_sm_wait(&cluster.nodes[i].sm, ENTRIES, WAIT_MS));
        ck_assert(test_links_wait(&cluster.nodes[i], 2, WAIT_MS));
    }
}

static void teardown(void)
{
    test_cluster_free(&cluster);
}

/* Runs "anabranch ARGS"; $1, $2, $3 are the nodes' directories. Both outputs go into `output`. @return exit code */
static int inspect(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "set -- '%s' '%s' '%s'; exec '%s' %s 2>&1", cluster.nodes[0].dir,
             cluster.nodes[1].dir, cluster.nodes[2].dir, ANABRANCH, arguments);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t size = fread(output, 1, sizeof output - 1, pipe);
    output[size] = '\0';
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect(const char *arguments, int code, const char *text)
{
    int got = inspect(arguments);
    ck_assert_msg(got == code, "anabranch %s: exit code %d:\n%s", arguments, got, output);
    ck_assert_msg(strstr(output, text) != NULL, "anabranch %s: no \"%s\" in\n%s", arguments, text, output);
}

static json_t *inspect_json(const char *arguments, int code)
{
    json_error_t error;
    int got = inspect(arguments);
    ck_assert_msg(got == code, "anabranch %s: exit code %d:\n%s", arguments, got, output);
    json_t *document = json_loads(output, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(document != NULL, "anabranch %s: %s in\n%s", arguments, error.text, output);
    return document;
}

static size_t lines(void)
{
    size_t count = 0;
    for (const char *p = output; (p = strchr(p, '\n')) != NULL; p++) {
        count++;
    }
    return count;
}

START_TEST(healthy_cluster)
{
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\"", 0, "All replicas are equal.");
    expect("status --data \"$1\" --data \"$2\" --data \"$3\"", 0, "No problems.");
    ck_assert_ptr_nonnull(strstr(output, "2/2"));
    expect("peers --data \"$1\" --data \"$2\" --data \"$3\"", 0, "All links are up.");
    expect("verify --data \"$1\" --data \"$2\"", 0, ", 0 faults");
    expect("status --data \"$1\" --streams --group 1", 0, "APPLIED");
    expect("status --data \"$1\" --group 9", 1, "group 9 is not open on this node");
    char which[160];
    snprintf(which, sizeof which, "  %s: group 9 is not open on this node\n", cluster.nodes[1].dir);
    expect("status --data \"$1\" --data \"$2\" --group 9", 1, which);
}
END_TEST

/* However often it is named: a node compared with itself would always be equal. */
START_TEST(a_node_is_asked_once)
{
    expect("digest --data \"$1\" --data \"$1\"", 0, "Only one replica was asked.");
    expect("digest --data \"$1\" --data \"$1/.\" --data \"$1/admin.sock\"", 0, "Only one replica was asked.");
    expect("digest --data \"$2/admin.sock\" --data \"$1\" --data \"$2\"", 0, "All replicas are equal.");
    ck_assert_uint_eq(lines(), 5);
    expect("verify --data \"$1\" --data \"$1/\"", 0, ", 0 faults");
    ck_assert_uint_eq(lines(), 1);
}
END_TEST

START_TEST(numbers_that_say_nothing)
{
    static const char *const wrong[] = {
        "log --data \"$1\" --limit 0", "log --data \"$1\" --last 0", "log --data \"$1\" --to 0",
        "status --data \"$1\" --watch 1 --count 0", "quarantine list --data \"$1\" --index 0"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        expect(wrong[i], 2, "needs a whole number of at least 1");
    }
    expect("status --data \"$1\" --count 2", 2, "--count: needs --watch");
}
END_TEST

START_TEST(tables_fit)
{
    static const char *const commands[] = {"status --data \"$1\" --data \"$2\" --data \"$3\"",
                                           "peers --data \"$1\" --data \"$2\" --data \"$3\" --all",
                                           "digest --data \"$1\" --data \"$2\" --data \"$3\"",
                                           "log --data \"$1\""};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        ck_assert_int_eq(inspect(commands[i]), 0);
        for (char *line = strtok(output, "\n"); line != NULL; line = strtok(NULL, "\n")) {
            ck_assert_msg(strlen(line) <= 120, "%s", line); /* 110 with short names of directories */
        }
    }
}
END_TEST

START_TEST(documents)
{
    json_t *status = inspect_json("status --data \"$1\" --data \"$2\" --json --streams", 0);
    ck_assert(json_is_true(json_object_get(status, "ok")));
    ck_assert_int_eq(json_integer_value(json_object_get(status, "format")), 1);
    json_t *nodes = json_object_get(status, "nodes");
    ck_assert_uint_eq(json_array_size(nodes), 2);
    json_t *first = json_array_get(nodes, 0);
    ck_assert(json_is_true(json_object_get(first, "running")));
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(first, "node"), "node_id")), 1);
    ck_assert_uint_eq(json_array_size(json_object_get(first, "links")), 2);
    ck_assert_uint_eq(json_array_size(json_object_get(first, "streams")), 3);
    json_t *group = json_array_get(json_object_get(first, "groups"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(group, "name")), "test");
    ck_assert_int_eq(json_integer_value(json_object_get(group, "last_index")), ENTRIES / 3);
    json_decref(status);

    json_t *digest = inspect_json("digest --data \"$1\" --data \"$2\" --data \"$3\" --json", 0);
    group = json_array_get(json_object_get(digest, "groups"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(group, "result")), "equal");
    json_decref(digest);
    json_decref(inspect_json("peers --data \"$1\" --json", 0));
    json_decref(inspect_json("verify --data \"$1\" --json", 0));
}
END_TEST

static void write_more(size_t i, const char *prefix, unsigned count)
{
    ck_assert_int_eq(test_write_range(cluster.nodes[i].group, prefix, 0, count), AB_OK);
}

START_TEST(log_of_a_live_node)
{
    test_sm_block(&cluster.nodes[0].sm, true); /* what is not applied is not trimmed */
    write_more(0, "fresh", 20);
    expect("log --data \"$1\" --bytes 100", 0, "fresh-19");
    expect("log --data \"$1\" --limit 3", 0, "PAYLOAD");
    ck_assert_uint_eq(lines(), 4);
    expect("log --data \"$1\" --limit 2 --json", 0, "\"payload_hex\":");
    ck_assert_uint_eq(lines(), 2);
    expect("log --data \"$1\" --group 5", 0, "no such entries");
    test_sm_block(&cluster.nodes[0].sm, false);
}
END_TEST

START_TEST(numbers_in_msgpack)
{
    static const struct {
        ab_bytes payload;
        const char *shown;
    } numbers[] = {{{"\xcb\x40\x35\x19\x99\x99\x99\x99\x9a", 9}, "  21.1\n"},
                   {{"\xca\x41\xa8\xcc\xcd", 5}, "  21.1\n"},
                   {{"\xcb\x3f\xd5\x55\x55\x55\x55\x55\x55", 9}, "  0.3333333333333333\n"},
                   {{"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", 9}, "  -inf\n"},
                   {{"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", 9}, "  nan\n"}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ab_write_result result;
        ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &numbers[i].payload, 1, NULL, &result), AB_OK);
        expect("log --data \"$1\" --last 1 --payload msgpack", 0, numbers[i].shown);
    }
}
END_TEST

START_TEST(a_node_that_is_down)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 2), AB_OK);
    ck_assert(test_links_wait(&cluster.nodes[0], 1, WAIT_MS));
    ck_assert(test_links_wait(&cluster.nodes[1], 1, WAIT_MS));
    expect("status --data \"$1\" --data \"$2\" --data \"$3\"", 1, "link to node 3 is down");
    ck_assert_ptr_nonnull(strstr(output, "(node 3): is not running"));
    ck_assert_ptr_nonnull(strstr(output, "1/2"));
    expect("peers --data \"$1\"", 1, "link to node 3 is down");
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\"", 1,
           "(node 3): is not running: its digest is not known");
    ck_assert_ptr_nonnull(strstr(output, "equal")); /* the others */
    expect("verify --data \"$3\"", 0, ", 0 faults");
    ck_assert_int_eq(test_cluster_open(&cluster, 2), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[2].sm, ENTRIES, WAIT_MS));
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\" --timeout 30", 0, "All replicas are equal.");
}
END_TEST

START_TEST(a_replica_that_lags)
{
    test_sm_block(&cluster.nodes[1].sm, true);
    write_more(0, "more", 10);
    ck_assert(test_sm_wait(&cluster.nodes[0].sm, ENTRIES + 10, WAIT_MS));
    ck_assert(test_sm_wait_inside(&cluster.nodes[1].sm, WAIT_MS));
    expect("digest --data \"$1\" --data \"$2\" --timeout 0.3", 1, "apply is busy");
    test_sm_block(&cluster.nodes[1].sm, false);
    expect("digest --data \"$1\" --data \"$2\" --timeout 30", 0, "All replicas are equal.");
}
END_TEST

/* Alone: it dials nobody, and listens where nobody looks for it. */
static void cut_off(ab_node_config *config)
{
    static ab_peer_config peers[2];
    for (size_t i = 0; i < 2; i++) {
        peers[i] = (ab_peer_config){.node_id = config->peers[i].node_id};
    }
    config->peers = peers;
    config->listen_port = 0;
}

START_TEST(a_replica_that_cannot_catch_up)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 2), AB_OK);
    cluster.tune = cut_off;
    ck_assert_int_eq(test_cluster_open(&cluster, 2), AB_OK);
    write_more(0, "more", 10);
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, ENTRIES + 10, WAIT_MS));
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\" --timeout 0.3", 1,
           ": the link between it and node 1 is down: ");
    ck_assert_ptr_nonnull(strstr(output, "(node 3) lacks 10 entries of stream 1."));
    ck_assert_ptr_nonnull(strstr(output, "BEHIND"));
    ck_assert_ptr_nonnull(strstr(output, "ahead"));
    ck_assert_ptr_null(strstr(output, "moving"));
    json_t *document = inspect_json("digest --data \"$1\" --data \"$3\" --timeout 0.1 --json", 1);
    json_t *group = json_array_get(json_object_get(document, "groups"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(group, "result")), "behind");
    json_decref(document);

    ck_assert_int_eq(test_cluster_close(&cluster, 2), AB_OK);
    cluster.tune = NULL;
    ck_assert_int_eq(test_cluster_open(&cluster, 2), AB_OK);
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\" --timeout 30", 0, "All replicas are equal.");
}
END_TEST

START_TEST(a_replica_whose_state_machine_fails)
{
    pthread_mutex_lock(&cluster.nodes[1].sm.lock);
    cluster.nodes[1].sm.fail_code = AB_ENOSPC;
    cluster.nodes[1].sm.fail_times = UINT32_MAX;
    pthread_mutex_unlock(&cluster.nodes[1].sm.lock);
    write_more(0, "more", 10);
    ck_assert(test_sm_wait(&cluster.nodes[0].sm, ENTRIES + 10, WAIT_MS));
    expect("status --data \"$2\"", 1, "no space");
    expect("digest --data \"$1\" --data \"$2\" --timeout 0.3", 1, ": its state machine fails: ");
    pthread_mutex_lock(&cluster.nodes[1].sm.lock);
    cluster.nodes[1].sm.fail_times = 0;
    pthread_mutex_unlock(&cluster.nodes[1].sm.lock);
    expect("digest --data \"$1\" --data \"$2\" --timeout 30", 0, "All replicas are equal.");
}
END_TEST

/* Changes what one replica has without the others: the very thing `digest` is for. */
START_TEST(a_replica_that_differs)
{
    pthread_mutex_lock(&cluster.nodes[1].sm.lock);
    cluster.nodes[1].sm.entries[0].text[0] ^= 1;
    pthread_mutex_unlock(&cluster.nodes[1].sm.lock);
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\"", 1,
           "(node 2) differs from the other replicas at the same frontier");
    ck_assert_ptr_nonnull(strstr(output, "DIFFERS"));
    expect("digest --data \"$1\" --data \"$2\"", 1, "replicas differ at the same frontier");
    json_t *document = inspect_json("digest --data \"$1\" --data \"$2\" --json", 1);
    json_t *group = json_array_get(json_object_get(document, "groups"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(group, "result")), "differs");
    json_decref(document);
}
END_TEST

START_TEST(quarantine_shows)
{
    cluster.nodes[1].sm.reject = "poison-0";
    write_more(0, "poison", 1);
    write_more(0, "after", 1);
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, ENTRIES + 1, WAIT_MS));
    expect("status --data \"$2\"", 1, "group 1 (test): entries in quarantine: 1");
    expect("groups --data \"$2\"", 1, "quarantine");
    expect("quarantine list --data \"$1\"", 0, "Nothing is in quarantine.");
    expect("quarantine list --data \"$1\" --data \"$2\"", 1, "entries in quarantine: 1");
    expect("quarantine show --data \"$2\"", 1, "payload  poison-0");
    json_t *document = inspect_json("quarantine list --data \"$2\" --json", 1);
    json_t *row = json_array_get(
        json_object_get(json_array_get(json_object_get(document, "nodes"), 0), "quarantined"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(row, "payload_hex")), "706f69736f6e2d30");
    char one[160];
    snprintf(one, sizeof one, "--data \"$2\" --group 1 --stream %s --index %d",
             json_string_value(json_object_get(row, "stream")),
             (int)json_integer_value(json_object_get(row, "index")));
    json_decref(document);

    char command[256];
    snprintf(command, sizeof command, "quarantine retry %s", one);
    expect(command, 1, "state machine will never accept this entry");
    expect("digest --data \"$1\" --data \"$2\"", 1, "differ");
    pthread_mutex_lock(&cluster.nodes[1].sm.lock);
    cluster.nodes[1].sm.reject = NULL;
    pthread_mutex_unlock(&cluster.nodes[1].sm.lock);
    expect(command, 0, "applied");
    expect(command, 1, "no such entry in quarantine");
    expect("digest --data \"$1\" --data \"$2\"", 0, "All replicas are equal.");
    expect("quarantine list --data \"$2\"", 0, "Nothing is in quarantine.");
}
END_TEST

START_TEST(quarantine_is_dropped)
{
    cluster.nodes[1].sm.reject = "poison-0";
    for (unsigned i = 0; i < 3; i++) {
        write_more(0, "poison", 1);
    }
    write_more(0, "after", 1);
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, ENTRIES + 1, WAIT_MS));
    expect("quarantine list --data \"$2\"", 1, "entries in quarantine: 3");
    expect("quarantine drop --data \"$2\" --group 9 --all", 1, "group 9 is not open on this node");
    json_t *document = inspect_json("quarantine drop --data \"$2\" --group 1 --all --json", 0);
    json_t *outcomes = json_object_get(json_array_get(json_object_get(document, "nodes"), 0), "outcomes");
    ck_assert_uint_eq(json_array_size(outcomes), 3);
    json_decref(document);
    expect("quarantine drop --data \"$2\" --group 1 --all", 0, "Done.");
    expect("quarantine list --data \"$2\"", 0, "Nothing is in quarantine.");
}
END_TEST

/* Reads lines of a pipe until one has the text. */
static void expect_line(FILE *pipe, const char *text)
{
    char line[512];
    do {
        ck_assert_msg(fgets(line, sizeof line, pipe) != NULL, "the output ended before \"%s\"", text);
    } while (strstr(line, text) == NULL);
}

typedef struct follower {
    pid_t pid;
    FILE *pipe;
} follower;

/* `anabranch log --follow` of node 1. */
static follower follow(const char *last)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    follower f = {.pid = fork()};
    ck_assert_int_ge(f.pid, 0);
    if (f.pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(ANABRANCH, "anabranch", "log", "--data", cluster.nodes[0].dir, "--follow", "--last", last,
              (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    f.pipe = fdopen(ends[0], "r");
    ck_assert_ptr_nonnull(f.pipe);
    return f;
}

/* Stops reading: its next row finds nobody. */
static void hang_up(follower f)
{
    int status = 0;
    fclose(f.pipe);
    write_more(0, "unseen", 1);
    ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

START_TEST(log_is_followed)
{
    test_sm_block(&cluster.nodes[0].sm, true); /* what is not applied is not trimmed */
    write_more(0, "now", 1);
    follower f = follow("1");
    expect_line(f.pipe, "now-0");
    write_more(0, "later", 20);
    expect_line(f.pipe, "later-19");
    write_more(1, "elsewhere", 20); /* another stream, which it knows or does not */
    expect_line(f.pipe, "elsewhere-19");
    hang_up(f);
    test_sm_block(&cluster.nodes[0].sm, false);
}
END_TEST

/* A follower that goes away lets go of its slot and its thread: there are eight. */
START_TEST(followers_go_away)
{
    test_sm_block(&cluster.nodes[0].sm, true);
    for (unsigned i = 0; i < 20; i++) {
        follower f = follow("1");
        write_more(0, "more", 1);
        expect_line(f.pipe, "more-0");
        hang_up(f);
    }
    test_sm_block(&cluster.nodes[0].sm, false);
    expect("log --data \"$1\" --limit 1", 0, "PAYLOAD");
    follower f = follow("1"); /* and one is there when the node closes */
    write_more(0, "last", 1);
    expect_line(f.pipe, "last-0");
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    int status = 0;
    fclose(f.pipe);
    ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}
END_TEST

/* The node of a configuration and those of its peers that it says how to ask; one by its socket. */
START_TEST(nodes_of_a_configuration)
{
    char path[96];
    snprintf(path, sizeof path, "%s/inspector.yaml", cluster.nodes[0].dir);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file,
            "node:\n  cluster: test\n  node_id: 1\n  data_dir: %s\n  peers:\n"
            "    - {node_id: 2, admin: %s/admin.sock}\n    - {node_id: 3, admin: %s}\n    - {node_id: 4}\n",
            cluster.nodes[0].dir, cluster.nodes[1].dir, cluster.nodes[2].dir);
    ck_assert_int_eq(fclose(file), 0);
    static const char *const commands[] = {"status",  "groups", "peers",
                                           "metrics", "digest", "quarantine list"};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char command[160];
        snprintf(command, sizeof command, "%s --config \"$1\"/inspector.yaml --json", commands[i]);
        json_t *document = inspect_json(command, 0);
        json_t *nodes = json_object_get(document, "nodes");
        ck_assert_uint_eq(json_array_size(nodes), 3);
        for (size_t k = 0; k < 3; k++) {
            json_t *node = json_object_get(json_array_get(nodes, k), "node");
            ck_assert_int_eq(json_integer_value(json_object_get(node, "node_id")), (json_int_t)k + 1);
        }
        json_decref(document);
    }
    expect("digest --config \"$1\"/inspector.yaml", 0, "All replicas are equal.");
    expect("status --data \"$2\"/admin.sock --data \"$3\"", 0, "No problems.");
    ck_assert_int_eq(test_cluster_close(&cluster, 1), AB_OK);
    expect("status --config \"$1\"/inspector.yaml", 1, "admin.sock: ");
    ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(groups_and_metrics)
{
    test_sm_block(&cluster.nodes[0].sm, true);
    write_more(0, "kept", 30);
    json_t *document = inspect_json("groups --data \"$1\" --json", 0);
    json_t *node = json_array_get(json_object_get(document, "nodes"), 0);
    json_t *group = json_array_get(json_object_get(node, "groups"), 0);
    ck_assert_int_ge(json_integer_value(json_object_get(group, "entries")), 30);
    ck_assert_int_ge(json_integer_value(json_object_get(group, "log_bytes")), 30 * 6);
    json_decref(document);
    test_sm_block(&cluster.nodes[0].sm, false);
    expect("groups --data \"$1\" --data \"$2\" --data \"$3\"", 0, "No problems.");
    expect("groups --data \"$1\" --group 9", 1, "group 9 is not open on this node");
    expect("metrics --data \"$1\" --data \"$2\"", 0, "log_commits_total");
    expect("metrics --data \"$1\" link_ --watch 0.05 --count 2", 0, "link_sent_bytes_total");
    ck_assert_ptr_null(strstr(output, "log_commits_total"));
    int got = inspect("metrics --data \"$1\" log_commits --watch 0.05 --count 3 --json");
    ck_assert_int_eq(got, 0);
    size_t runs = 0;
    for (char *line = strtok(output, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        document = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        node = json_array_get(json_object_get(document, "nodes"), 0);
        json_t *metric = json_array_get(json_object_get(node, "metrics"), 0);
        ck_assert(json_is_true(json_object_get(metric, "counter")));
        ck_assert((json_object_get(metric, "rate") != NULL) == (runs > 0));
        json_decref(document);
        runs++;
    }
    ck_assert_uint_eq(runs, 3);
}
END_TEST

/* A running node whose socket is gone: the lock still keeps us off its files. */
START_TEST(no_socket)
{
    char path[128];
    snprintf(path, sizeof path, "%s/admin.sock", cluster.nodes[0].dir);
    ck_assert_int_eq(unlink(path), 0);
    expect("status --data \"$1\"", 1, "unreadable");
    char pid[32];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    ck_assert_msg(strstr(output, pid) != NULL, "%s", output);
    expect("log --data \"$1\"", 1, cluster.nodes[0].dir);
}
END_TEST

static int listen_in(const char *dir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/admin.sock", dir);
    unlink(address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    return fd;
}

/* Something that listens where a node should, and answers nonsense. */
START_TEST(an_imposter)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } answers[] = {
        {"", 0, "the node hung up"},
        {"\x05\0\0\0ab", 6, "the node hung up"},
        {"\0\0\0\0", 4, "an answer of an impossible size"},
        {"\xff\xff\xff\xff", 4, "an answer of an impossible size"},
        {"\x01\0\0\0\xc1", 5, "an answer that is no msgpack map"},
        {"\x01\0\0\0\x93", 5, "an answer that is no msgpack map"},
        {"\x0a\0\0\0\x82\xa4type\xa3"
         "end",
         15, "an answer that is no msgpack map"},
        {"\x0f\0\0\0\x82\xa4type\xa5hello\xa1v\x07", 19, "the node is of release "},
        {"\x16\0\0\0\x82\xa4type\xa3"
         "end\xa4"
         "code\xa6"
         "AB_EIO",
         27, "input/output error"},
        {"\x1f\0\0\0\x83\xa4type\xa3"
         "end\xa4"
         "code\xa3\x1b[2\xa7message\xa3\xff\xfe\x1b",
         35, "\xef\xbf\xbd\xef\xbf\xbd\\x1b"},
    };
    char dir[64];
    char command[256];
    test_directory(dir, sizeof dir);
    snprintf(command, sizeof command, "status --data '%s'", dir);
    int fd = listen_in(dir);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            unsigned char request[4096]; /* all of it: closing with unread bytes would reset the connection */
            int client = accept(fd, NULL, NULL);
            ssize_t got = recv(client, request, 4, MSG_WAITALL);
            got = recv(client, request + 4, request[0] | (size_t)request[1] << 8, MSG_WAITALL);
            ssize_t sent = send(client, answers[i].bytes, answers[i].size, MSG_NOSIGNAL);
            _exit(got > 0 && sent == (ssize_t)answers[i].size ? 0 : 1);
        }
        int code = inspect(command);
        ck_assert_msg(code == 1 && strstr(output, answers[i].words) != NULL, "answer %zu: exit %d:\n%s", i,
                      code, output);
        ck_assert_ptr_null(strchr(output, 0x1b));
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
    }
    close(fd);
    test_remove(dir);
}
END_TEST

/* The node stops in time though an inspector hangs on it, and inspectors at work end with a word. */
START_TEST(stopping_under_inspection)
{
    pid_t children[6];
    static const char *const commands[] = {"verify", "log", "status", "digest", "peers", "log"};
    for (size_t i = 0; i < 6; i++) {
        children[i] = fork();
        ck_assert_int_ge(children[i], 0);
        if (children[i] == 0) {
            int null = open("/dev/null", O_WRONLY);
            dup2(null, STDOUT_FILENO);
            dup2(null, STDERR_FILENO);
            execl(ANABRANCH, "anabranch", commands[i], "--data", cluster.nodes[0].dir, (char *)NULL);
            _exit(127);
        }
    }
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    for (size_t i = 0; i < 6; i++) {
        int status;
        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inspector_live");
    TCase *tc = tcase_create("live");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, healthy_cluster);
    tcase_add_test(tc, a_node_is_asked_once);
    tcase_add_test(tc, numbers_that_say_nothing);
    tcase_add_test(tc, tables_fit);
    tcase_add_test(tc, documents);
    tcase_add_test(tc, log_of_a_live_node);
    tcase_add_test(tc, numbers_in_msgpack);
    tcase_add_test(tc, a_node_that_is_down);
    tcase_add_test(tc, a_replica_that_lags);
    tcase_add_test(tc, a_replica_that_cannot_catch_up);
    tcase_add_test(tc, a_replica_whose_state_machine_fails);
    tcase_add_test(tc, a_replica_that_differs);
    tcase_add_test(tc, quarantine_shows);
    tcase_add_test(tc, quarantine_is_dropped);
    tcase_add_test(tc, log_is_followed);
    tcase_add_test(tc, followers_go_away);
    tcase_add_test(tc, groups_and_metrics);
    tcase_add_test(tc, nodes_of_a_configuration);
    tcase_add_test(tc, no_socket);
    tcase_add_test(tc, an_imposter);
    tcase_add_test(tc, stopping_under_inspection);
    tcase_set_timeout(tc, 90);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
