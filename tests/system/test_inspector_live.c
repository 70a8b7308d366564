/* SPDX-License-Identifier: Apache-2.0 */
/* The inspector beside live nodes: three of them in this process, the real program asks their real sockets. */
#include "tests/support/run.h"
#include "tests/system/inspector_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
    static const char *const wrong[] = {"log --data \"$1\" --limit 0",
                                        "log --data \"$1\" --last 0",
                                        "log --data \"$1\" --to 0",
                                        "status --data \"$1\" --watch 1 --count 0",
                                        "quarantine list --data \"$1\" --index 0",
                                        "log --data \"$1\" --limit few",
                                        "report \"$1\" -o /dev/null --every 0"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        expect(wrong[i], 2, "needs a whole number of at least 1");
    }
    expect("log --data \"$1\" --from -1", 2, "needs a whole number of at least 0");
    expect("log --data \"$1\" --bytes 524289", 2, "--bytes: needs a whole number, 0 to 524288");
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
    ck_assert_int_eq(json_integer_value(json_object_get(group, "last_index")), INSPECTOR_ENTRIES / 3);
    json_decref(status);

    json_t *digest = inspect_json("digest --data \"$1\" --data \"$2\" --data \"$3\" --json", 0);
    group = json_array_get(json_object_get(digest, "groups"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(group, "result")), "equal");
    json_decref(digest);
    json_decref(inspect_json("peers --data \"$1\" --json", 0));
    json_decref(inspect_json("verify --data \"$1\" --json", 0));
}
END_TEST

START_TEST(log_of_a_live_node)
{
    test_sm_block(&cluster.nodes[0].sm, true); /* what is not applied is not trimmed */
    write_more(0, "fresh", 20);
    expect("log --data \"$1\" --bytes 100", 0, "fresh-19");
    expect("log --data \"$1\" --limit 3", 0, "PAYLOAD");
    ck_assert_uint_eq(lines(), 4);
    expect("log --data \"$1\" --limit 2 --json", 0, "\"payload_hex\":");
    ck_assert_uint_eq(lines(), 2);
    expect("log --data \"$1\" --group 1 --from 100000", 0, "no such entries");
    test_sm_block(&cluster.nodes[0].sm, false);
}
END_TEST

static void expect_of_group(const char *command, unsigned node, unsigned group, int code, const char *text)
{
    char line[160];
    snprintf(line, sizeof line, "%s --data \"$%u\" --group %u", command, node, group);
    expect(line, code, text);
}

/* One rule for every command, of a node that runs and of one that does not. */
START_TEST(a_group_that_is_not_there)
{
    static const char *const commands[] = {"status",          "groups",          "log",   "digest",
                                           "metrics",         "metrics nothing", "peers", "quarantine list",
                                           "quarantine show", "log --follow"};
    size_t count = sizeof commands / sizeof commands[0];
    for (size_t i = 0; i < count; i++) {
        expect_of_group(commands[i], 1, 9, 1, "group 9 is not open on this node");
        expect_of_group(commands[i], 1, 0, 2, "--group: needs a name, or an id of at least 1");
    }
    json_decref(inspect_json("metrics --data \"$1\" --group 9 --json", 1));
    expect("log --data \"$1\" --group nine", 1, "--group nine: no such group on these nodes");
    ck_assert_int_eq(test_cluster_close(&cluster, 2), AB_OK);
    for (size_t i = 0; i < count; i++) {
        bool live_only = strcmp(commands[i], "peers") == 0 || strcmp(commands[i], "log --follow") == 0;
        expect_of_group(commands[i], 3, 9, 1, live_only ? "not running" : ": has no group 9");
    }
    expect("log --data \"$3\" --group nine", 1, "--group nine: no such group on these nodes");
    expect("log --data \"$3/nowhere\" --group nine", 1,
           "--group nine: the name cannot be looked up (an id would do): ");
    ck_assert_ptr_nonnull(strstr(output, "no such directory"));
}
END_TEST

/* What is in the log can be looked at, though the others know of the group no more. */
START_TEST(log_of_a_group_that_is_not_open)
{
    test_node *node = &cluster.nodes[0];
    test_sm_block(&node->sm, true); /* what is not applied is not trimmed */
    write_more(0, "fresh", 5);
    test_sm_block(&node->sm, false);
    ck_assert_int_eq(ab_group_close(node->group), AB_OK);
    node->group = NULL;
    expect("log --data \"$1\" --group 1", 0, "");
    expect("groups --data \"$1\" --group 1", 1, "group 1 is not open on this node");
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
    test_sm_block(&cluster.nodes[0].sm, true); /* what is not applied is not trimmed */
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ab_write_result result;
        ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &numbers[i].payload, 1, NULL, &result), AB_OK);
        expect("log --data \"$1\" --last 1 --payload msgpack", 0, numbers[i].shown);
    }
    test_sm_block(&cluster.nodes[0].sm, false);
}
END_TEST

START_TEST(a_node_that_is_down)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 2), AB_OK);
    ck_assert(test_links_wait(&cluster.nodes[0], 1, INSPECTOR_WAIT_MS));
    ck_assert(test_links_wait(&cluster.nodes[1], 1, INSPECTOR_WAIT_MS));
    expect("status --data \"$1\" --data \"$2\" --data \"$3\"", 1, "link to node 3 is down");
    ck_assert_ptr_nonnull(strstr(output, "(node 3): is not running"));
    ck_assert_ptr_nonnull(strstr(output, "1/2"));
    expect("peers --data \"$1\"", 1, "link to node 3 is down");
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\"", 1,
           "(node 3): is not running: its digest is not known");
    ck_assert_ptr_nonnull(strstr(output, "equal")); /* the others */
    expect("verify --data \"$3\"", 0, ", 0 faults");
    ck_assert_int_eq(test_cluster_open(&cluster, 2), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[2].sm, INSPECTOR_ENTRIES, INSPECTOR_WAIT_MS));
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\" --timeout 30", 0, "All replicas are equal.");
}
END_TEST

START_TEST(a_replica_that_lags)
{
    test_sm_block(&cluster.nodes[1].sm, true);
    write_more(0, "more", 10);
    ck_assert(test_sm_wait(&cluster.nodes[0].sm, INSPECTOR_ENTRIES + 10, INSPECTOR_WAIT_MS));
    ck_assert(test_sm_wait_inside(&cluster.nodes[1].sm, INSPECTOR_WAIT_MS));
    expect("digest --data \"$1\" --data \"$2\" --timeout 3", 1, "apply is busy");
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
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, INSPECTOR_ENTRIES + 10, INSPECTOR_WAIT_MS));
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\" --timeout 3", 1,
           ": the link between it and node 1 is down: ");
    ck_assert_ptr_nonnull(strstr(output, "(node 3) lacks 10 entries of stream 1."));
    ck_assert_ptr_nonnull(strstr(output, "BEHIND"));
    ck_assert_ptr_nonnull(strstr(output, "ahead"));
    ck_assert_ptr_null(strstr(output, "moving"));
    json_t *document = inspect_json("digest --data \"$1\" --data \"$3\" --timeout 3 --json", 1);
    json_t *group = json_array_get(json_object_get(document, "groups"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(group, "result")), "behind");
    json_decref(document);

    ck_assert_int_eq(test_cluster_close(&cluster, 2), AB_OK);
    cluster.tune = NULL;
    ck_assert_int_eq(test_cluster_open(&cluster, 2), AB_OK);
    expect("digest --data \"$1\" --data \"$2\" --data \"$3\" --timeout 30", 0, "All replicas are equal.");
}
END_TEST

/* Waits until node `i` + 1 knows that its state machine returns `code`. */
static void wait_apply_code(size_t i, int code)
{
    ab_group_status status = {0};
    for (unsigned waited = 0; waited < INSPECTOR_WAIT_MS; waited++) {
        ab_group_get_status(cluster.nodes[i].group, &status);
        if (status.apply_code == code) {
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    ck_abort_msg("node %zu: apply is at %s", i + 1, ab_error_name(status.apply_code));
}

START_TEST(a_replica_whose_state_machine_fails)
{
    pthread_mutex_lock(&cluster.nodes[1].sm.lock);
    cluster.nodes[1].sm.fail_code = AB_ENOSPC;
    cluster.nodes[1].sm.fail_times = UINT32_MAX;
    pthread_mutex_unlock(&cluster.nodes[1].sm.lock);
    write_more(0, "more", 10);
    ck_assert(test_sm_wait(&cluster.nodes[0].sm, INSPECTOR_ENTRIES + 10, INSPECTOR_WAIT_MS));
    wait_apply_code(1, AB_ENOSPC);
    expect("status --data \"$2\"", 1, "no space");
    expect("digest --data \"$1\" --data \"$2\" --timeout 3", 1, ": its state machine fails: ");
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
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, INSPECTOR_ENTRIES + 1, INSPECTOR_WAIT_MS));
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
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, INSPECTOR_ENTRIES + 1, INSPECTOR_WAIT_MS));
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

int main(void)
{
    Suite *suite = suite_create("inspector_live");
    TCase *tc = tcase_create("live");
    tcase_add_checked_fixture(tc, inspector_setup, inspector_teardown);
    tcase_add_test(tc, healthy_cluster);
    tcase_add_test(tc, a_node_is_asked_once);
    tcase_add_test(tc, numbers_that_say_nothing);
    tcase_add_test(tc, tables_fit);
    tcase_add_test(tc, documents);
    tcase_add_test(tc, log_of_a_live_node);
    tcase_add_test(tc, a_group_that_is_not_there);
    tcase_add_test(tc, log_of_a_group_that_is_not_open);
    tcase_add_test(tc, numbers_in_msgpack);
    tcase_add_test(tc, a_node_that_is_down);
    tcase_add_test(tc, a_replica_that_lags);
    tcase_add_test(tc, a_replica_that_cannot_catch_up);
    tcase_add_test(tc, a_replica_whose_state_machine_fails);
    tcase_add_test(tc, a_replica_that_differs);
    tcase_add_test(tc, quarantine_shows);
    tcase_add_test(tc, quarantine_is_dropped);
    tcase_add_test(tc, groups_and_metrics);
    tcase_add_test(tc, nodes_of_a_configuration);
    tcase_set_timeout(tc, 90);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
