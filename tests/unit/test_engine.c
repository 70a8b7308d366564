/* SPDX-License-Identifier: Apache-2.0 */
/* The engine through the public headers, one node with a standalone group: writes and their completions, reads,
 * misbehaving state machines, back-pressure. */
#include "engine/transport/transport.h"
#include "replication/backends.h"
#include "tests/support/run.h"
#include "tests/unit/engine_fixture.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Counts completions and keeps the last. */
typedef struct seen {
    atomic_uint count;
    atomic_uint failed;
    atomic_int last_code;
    atomic_ullong last_index;
    atomic_int order_errors;
} seen;

static void on_write(void *arg, const ab_write_result *result)
{
    seen *into = arg;
    if (result->code != AB_OK) {
        atomic_fetch_add(&into->failed, 1);
    } else if (result->first != atomic_load(&into->last_index) + 1) {
        atomic_fetch_add(&into->order_errors, 1);
    }
    if (result->last != 0) {
        atomic_store(&into->last_index, result->last);
    }
    atomic_store(&into->last_code, result->code);
    atomic_fetch_add(&into->count, 1);
}

START_TEST(write_is_applied_in_order)
{
    ck_assert_int_eq(test_write_range(group, "w", 0, 50), AB_OK);
    ck_assert(test_sm_wait(sm, 50, WAIT_MS));
    ck_assert_str_eq(sm->entries[0].text, "w-0");
    ck_assert_str_eq(sm->entries[49].text, "w-49");
    ck_assert_uint_eq(sm->entries[49].index, 50);
    ck_assert_int_eq(sm->order_errors, 0);
    for (size_t i = 1; i < 50; i++) {
        ck_assert(sm->entries[i].hlc > sm->entries[i - 1].hlc);
    }
}
END_TEST

START_TEST(every_asynchronous_write_completes_once)
{
    seen got = {0};
    char payload[100];
    memset(payload, 'x', sizeof payload);
    ab_bytes many[7];
    for (size_t i = 0; i < 7; i++) {
        many[i] = (ab_bytes){payload, i * 10};
    }
    ab_write_options options = {.wait_ms = WAIT_MS};
    for (unsigned i = 0; i < 5000; i++) {
        ck_assert_int_eq(ab_write(group, payload, sizeof payload, &options, on_write, &got), AB_OK);
        ck_assert_int_eq(ab_write_many(group, many, 7, &options, on_write, &got), AB_OK);
    }
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    ck_assert_uint_eq(atomic_load(&got.count), 10000);
    ck_assert_uint_eq(atomic_load(&got.failed), 0);
    ck_assert_int_eq(atomic_load(&got.order_errors), 0);
    ck_assert_uint_eq(atomic_load(&got.last_index), 40000);
}
END_TEST

START_TEST(results_say_where_it_went)
{
    ab_bytes three[3] = {{"a", 1}, {"b", 1}, {"", 0}};
    ab_write_result result;
    ck_assert_int_eq(ab_write_wait(group, three, 3, NULL, &result), AB_OK);
    ck_assert_int_eq(result.level, AB_WRITE_LOCAL);
    ck_assert_uint_eq(result.stream.node, 1);
    ck_assert_uint_eq(result.first, 1);
    ck_assert_uint_eq(result.last, 3);
    ck_assert(test_sm_wait(sm, 3, WAIT_MS));
    ck_assert_uint_eq(sm->entries[2].hlc, result.hlc);
    ck_assert_uint_eq(sm->entries[0].hlc, result.hlc - 2);
    ab_write_options memory = {.level = AB_WRITE_MEMORY};
    ck_assert_int_eq(ab_write_wait(group, three, 1, &memory, &result), AB_OK);
    ck_assert_int_eq(result.level, AB_WRITE_MEMORY);
}
END_TEST

START_TEST(bad_calls_are_refused)
{
    ab_bytes one = {"a", 1};
    char *big = calloc(1, AB_DEFAULT_PAYLOAD_MAX + 1);
    ck_assert_int_eq(ab_write(group, big, AB_DEFAULT_PAYLOAD_MAX + 1, NULL, NULL, NULL), AB_ETOOBIG);
    ck_assert_int_eq(ab_write_many(group, &one, 0, NULL, NULL, NULL), AB_EINVAL);
    ck_assert_int_eq(ab_write_many(NULL, &one, 1, NULL, NULL, NULL), AB_EINVAL);
    ab_write_options odd = {.level = (ab_write_level)99};
    ck_assert_int_eq(ab_write_many(group, &one, 1, &odd, NULL, NULL), AB_EINVAL);
    ab_group *second = NULL;
    ab_group_config config;
    ab_group_config_init(&config);
    config.id = 1;
    config.name = "again";
    config.backend = "standalone";
    ck_assert_int_eq(ab_group_open(cluster.nodes[0].node, &config, &test_statemachine, sm, &second, NULL),
                     AB_EEXIST);
    config.id = 2;
    config.backend = "nonesuch";
    ab_message message;
    ck_assert_int_eq(ab_group_open(cluster.nodes[0].node, &config, &test_statemachine, sm, &second, &message),
                     AB_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(message.text, "nonesuch"));
    free(big);
}
END_TEST

START_TEST(refused_entry_is_quarantined_and_the_rest_goes_on)
{
    sm->reject = "w-7";
    ck_assert_int_eq(test_write_range(group, "w", 0, 20), AB_OK);
    ck_assert(test_sm_wait(sm, 19, WAIT_MS));
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ab_group_status status;
    ab_group_get_status(group, &status);
    ck_assert_uint_eq(status.quarantined, 1);
    for (size_t i = 0; i < 19; i++) {
        ck_assert_str_ne(sm->entries[i].text, "w-7");
    }
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    engine_open();
    ab_group_get_status(group, &status);
    ck_assert_uint_eq(status.quarantined, 1);
}
END_TEST

START_TEST(last_entry_refused_moves_the_frontier)
{
    sm->reject = "w-4";
    ck_assert_int_eq(test_write_range(group, "w", 0, 5), AB_OK);
    ck_assert(test_sm_wait(sm, 4, WAIT_MS));
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    pthread_mutex_lock(&sm->lock);
    ck_assert_uint_eq(sm->mark_count, 1);
    ck_assert_uint_eq(sm->marks[0].index, 5);
    pthread_mutex_unlock(&sm->lock);
}
END_TEST

START_TEST(apply_that_asks_for_time_gets_it)
{
    pthread_mutex_lock(&sm->lock);
    sm->fail_code = AB_ERETRY;
    sm->fail_times = 3;
    pthread_mutex_unlock(&sm->lock);
    ck_assert_int_eq(test_write_range(group, "w", 0, 5), AB_OK);
    ck_assert(test_sm_wait(sm, 5, WAIT_MS));
    ck_assert_int_eq(sm->order_errors, 0);
    ab_group_status status;
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ab_group_get_status(group, &status);
    ck_assert_int_eq(status.apply_code, AB_OK);
}
END_TEST

/* A stuck apply holds up neither writers, nor the log, nor a group on another apply thread. */
START_TEST(stuck_apply_delays_nobody_else)
{
    test_sm other;
    test_sm_init(&other);
    ab_group_config config;
    ab_group_config_init(&config);
    config.id = 2;
    config.name = "other";
    config.backend = "standalone";
    ab_group *second = NULL;
    ck_assert_int_eq(ab_group_open(cluster.nodes[0].node, &config, &test_statemachine, &other, &second, NULL),
                     AB_OK);
    test_sm_block(sm, true);
    ck_assert_int_eq(test_write_range(group, "w", 0, 200), AB_OK);
    ck_assert_int_eq(test_write_range(second, "v", 0, 50), AB_OK);
    ck_assert(test_sm_wait(&other, 50, WAIT_MS));
    ck_assert_uint_eq(test_sm_count(sm), 0);
    test_sm_block(sm, false);
    ck_assert(test_sm_wait(sm, 200, WAIT_MS));
    ck_assert_int_eq(sm->order_errors, 0);
    ck_assert_int_eq(ab_group_close(second), AB_OK);
    test_sm_free(&other);
}
END_TEST

static void tiny_queue(ab_node_config *config)
{
    config->payload_max = 2048;
    config->queue_bytes = 4096;
}

START_TEST(full_queue_pushes_back)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    cluster.tune = tiny_queue;
    engine_open();
    seen got = {0};
    char payload[1000] = {0};
    unsigned busy = 0, accepted = 0;
    for (unsigned i = 0; i < 2000; i++) {
        int code = ab_write(group, payload, sizeof payload, NULL, on_write, &got);
        ck_assert(code == AB_OK || code == AB_EBUSY);
        busy += code == AB_EBUSY;
        accepted += code == AB_OK;
    }
    ck_assert_uint_gt(busy, 0);
    ab_write_options patient = {.wait_ms = WAIT_MS};
    for (unsigned i = 0; i < 50; i++) {
        ck_assert_int_eq(ab_write(group, payload, sizeof payload, &patient, on_write, &got), AB_OK);
    }
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    ck_assert_uint_eq(atomic_load(&got.count), accepted + 50);
    ck_assert_uint_eq(atomic_load(&got.failed), 0);
}
END_TEST

static void on_read(void *arg, const ab_read_result *result)
{
    seen *into = arg;
    atomic_store(&into->last_code, result->code);
    atomic_store(&into->last_index, result->frontier.count > 0 ? result->frontier.marks[0].index : 0);
    if (result->reply_size == 4 && memcmp(result->reply, "ping", 4) == 0) {
        atomic_fetch_add(&into->failed, 1); /* here: the query was echoed */
    }
    atomic_fetch_add(&into->count, 1);
}

START_TEST(reads_see_writes)
{
    ab_token *token = ab_token_new();
    ab_bytes one = {"a", 1};
    ab_write_result result;
    ck_assert_int_eq(ab_write_wait(group, &one, 1, NULL, &result), AB_OK);
    ck_assert_int_eq(ab_token_saw_write(token, &result), AB_OK);
    ab_read_options session = {.level = AB_READ_SESSION, .token = token, .timeout_ms = WAIT_MS};
    ck_assert_int_eq(ab_read_wait(group, &session), AB_OK);
    ck_assert_uint_eq(test_sm_count(sm), 1);
    seen got = {0};
    ck_assert_int_eq(ab_query(group, "ping", 4, &session, on_read, &got), AB_OK);
    ab_digest digest;
    ck_assert_int_eq(ab_group_digest(group, WAIT_MS, &digest, token), AB_OK); /* runs after the query */
    ck_assert_uint_eq(atomic_load(&got.failed), 1);
    ck_assert_uint_eq(atomic_load(&got.last_index), 1);
    test_sm_block(sm, true);
    ck_assert_int_eq(ab_write(group, "b", 1, NULL, NULL, NULL), AB_OK);
    result.first = result.last = 2;
    ck_assert_int_eq(ab_token_saw_write(token, &result), AB_OK);
    session.timeout_ms = 50;
    ck_assert_int_eq(ab_read_wait(group, &session), AB_ETIMEDOUT);
    test_sm_block(sm, false);
    ab_token_free(token);
}
END_TEST

START_TEST(closing_completes_reads)
{
    seen got = {0};
    ab_token *token = ab_token_new();
    ab_write_result far = {.stream = {1, 0}, .first = 9, .last = 9};
    ck_assert_int_eq(ab_write_wait(group, &(ab_bytes){"a", 1}, 1, NULL, &far), AB_OK);
    far.first = far.last = 1000;
    ck_assert_int_eq(ab_token_saw_write(token, &far), AB_OK);
    ab_read_options session = {.level = AB_READ_SESSION, .token = token};
    ck_assert_int_eq(ab_read_barrier(group, &session, on_read, &got), AB_OK);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    ck_assert_uint_eq(atomic_load(&got.count), 1);
    ck_assert_int_eq(atomic_load(&got.last_code), AB_ECLOSED);
    ab_token_free(token);
}
END_TEST

START_TEST(a_backend_of_the_user_serves_a_group)
{
    static ab_backend mine;
    mine = ab_backend_standalone;
    mine.name = "mine";
    ab_node *node = cluster.nodes[0].node;
    ck_assert_int_eq(ab_node_register_backend(node, &mine), AB_OK);
    ck_assert_int_eq(ab_node_register_backend(node, &mine), AB_EEXIST);
    ab_backend newer = mine;
    newer.version++;
    ck_assert_int_eq(ab_node_register_backend(node, &newer), AB_EVERSION);
    test_sm other;
    test_sm_init(&other);
    ab_group_config config;
    ab_group_config_init(&config);
    config.id = 7;
    config.name = "own";
    config.backend = "mine";
    ab_group *own = NULL;
    ck_assert_int_eq(ab_group_open(node, &config, &test_statemachine, &other, &own, NULL), AB_OK);
    ck_assert_ptr_eq(ab_group_find(node, 7), own);
    ck_assert_int_eq(test_write_range(own, "w", 0, 5), AB_OK);
    ck_assert(test_sm_wait(&other, 5, WAIT_MS));
    ab_group_status status;
    ab_group_get_status(own, &status);
    ck_assert_str_eq(status.backend, "mine");
    ck_assert_int_eq(ab_group_close(own), AB_OK);
    ck_assert_ptr_null(ab_group_find(node, 7));
    test_sm_free(&other);
}
END_TEST

static bool count_metric(void *arg, const ab_metric *metric)
{
    unsigned *count = arg;
    ck_assert_ptr_nonnull(metric->name);
    ck_assert_ptr_nonnull(metric->help);
    (*count)++;
    return true;
}

START_TEST(metrics_are_listed)
{
    unsigned count = 0;
    ab_node_metrics(cluster.nodes[0].node, count_metric, &count);
    ck_assert_uint_gt(count, 20);
}
END_TEST

static bool take_slowest(void *arg, const ab_metric *metric)
{
    if (strcmp(metric->name, "write_ack_max_seconds") == 0) {
        *(double *)arg = metric->value;
    }
    return true;
}

/* Whoever has the answer to a write finds it in the latency. */
START_TEST(latency_is_counted)
{
    double slowest = -1;
    ab_node_metrics(cluster.nodes[0].node, take_slowest, &slowest);
    ck_assert(slowest == 0);
    uint64_t began = ab_monotonic_ns();
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "w", 0, 1), AB_OK);
    double took = (double)(ab_monotonic_ns() - began) / 1e9;
    ab_node_metrics(cluster.nodes[0].node, take_slowest, &slowest);
    ck_assert(slowest > 0 && slowest <= took);
}
END_TEST

static void default_levels(ab_node_config *config)
{
    config->write_level = AB_WRITE_DEFAULT;
    config->read_level = AB_READ_DEFAULT;
}

/* A file may say `default` for the node, too, where nothing is left to follow. */
START_TEST(a_node_of_default_levels_takes_writes_and_reads)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    cluster.tune = default_levels;
    cluster.backend = "multimaster"; /* which looks at the level of a read */
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "w", 0, 1), AB_OK);
    ck_assert_int_eq(ab_read_wait(cluster.nodes[0].group, NULL), AB_OK);
}
END_TEST

/* What the daemon says of a file without opening anything. */
START_TEST(a_group_is_checked_for_its_node)
{
    static const uint32_t both[] = {1, 2}, others[] = {2}, three[] = {1, 2, 3};
    static const struct {
        const char *backend;
        const uint32_t *members;
        size_t count;
        ab_write_level node_level, level;
        const char *says; /* NULL: it fits */
    } cases[] = {
        {"multimaster", both, 2, AB_WRITE_LOCAL, AB_WRITE_DEFAULT, NULL},
        {"multimaster", both, 2, AB_WRITE_DEFAULT, AB_WRITE_DEFAULT, NULL},
        {"standalone", NULL, 0, AB_WRITE_QUORUM, AB_WRITE_DEFAULT, NULL},
        {"multimaster", both, 1, AB_WRITE_LOCAL, AB_WRITE_ALL, NULL},
        {"multimaster", both, 2, AB_WRITE_ALL, AB_WRITE_MEMORY, NULL},
        {"raft", both, 2, AB_WRITE_LOCAL, AB_WRITE_DEFAULT, "called raft (standalone, multimaster)"},
        {"multimaster", others, 1, AB_WRITE_LOCAL, AB_WRITE_DEFAULT, "this node (1) is not among"},
        {"multimaster", three, 3, AB_WRITE_LOCAL, AB_WRITE_DEFAULT, "member 3 is neither"},
        {"multimaster", both, 2, AB_WRITE_ALL, AB_WRITE_DEFAULT,
         "g: node.write_level all is not in this version (memory, local)"},
        {"multimaster", both, 2, AB_WRITE_LOCAL, AB_WRITE_QUORUM, "g: write_level quorum is not"},
        {"", both, 2, AB_WRITE_LOCAL, AB_WRITE_DEFAULT, "backend: is missing or empty"},
    };
    static const ab_peer_config peer = {.node_id = 2};
    ab_node_config node;
    ab_node_config_init(&node);
    node.cluster = "c";
    node.node_id = 1;
    node.data_dir = "/nonexistent";
    node.peers = &peer;
    node.peer_count = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ab_message message = {""};
        ab_group_config config;
        ab_group_config_init(&config);
        config.id = 1;
        config.name = "g";
        config.backend = cases[i].backend;
        config.members = cases[i].members;
        config.member_count = cases[i].count;
        config.write_level = cases[i].level;
        node.write_level = cases[i].node_level;
        int code = ab_group_config_fits(&config, &node, &message);
        ck_assert_msg(code == (cases[i].says != NULL ? AB_ECONFIG : AB_OK), "%zu: %d %s", i, code,
                      message.text);
        ck_assert_msg(cases[i].says == NULL || strstr(message.text, cases[i].says) != NULL, "%zu: %s", i,
                      message.text);
        ck_assert_int_eq(ab_group_config_fits(&config, &node, NULL), code);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("standalone");
    tcase_add_checked_fixture(tcase, engine_setup, engine_teardown);
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, write_is_applied_in_order);
    tcase_add_test(tcase, every_asynchronous_write_completes_once);
    tcase_add_test(tcase, results_say_where_it_went);
    tcase_add_test(tcase, bad_calls_are_refused);
    tcase_add_test(tcase, a_node_of_default_levels_takes_writes_and_reads);
    tcase_add_test(tcase, a_group_is_checked_for_its_node);
    tcase_add_test(tcase, refused_entry_is_quarantined_and_the_rest_goes_on);
    tcase_add_test(tcase, last_entry_refused_moves_the_frontier);
    tcase_add_test(tcase, apply_that_asks_for_time_gets_it);
    tcase_add_test(tcase, stuck_apply_delays_nobody_else);
    tcase_add_test(tcase, full_queue_pushes_back);
    tcase_add_test(tcase, reads_see_writes);
    tcase_add_test(tcase, closing_completes_reads);
    tcase_add_test(tcase, a_backend_of_the_user_serves_a_group);
    tcase_add_test(tcase, metrics_are_listed);
    tcase_add_test(tcase, latency_is_counted);
    Suite *suite = suite_create("engine");
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
