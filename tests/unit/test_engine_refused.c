/* SPDX-License-Identifier: Apache-2.0 */
/* The engine over a log that refuses blocks, and one whose blocks cannot be read: the calls of wal.h go through this file
 * (linked with --wrap). Nodes of one process on loopback. */
#include "engine/engine.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 30000u

static test_cluster cluster;
static ab_wal *_Atomic refusing;      /* whose commits ... */
static atomic_uint refused_origin;    /* ... refuse blocks of this node ... */
static atomic_int refusals;           /* ... so many times */
static ab_wal *_Atomic clockless;     /* whose small state has no place for the clock of a group ... */
static atomic_int clocks_refused;     /* ... so often until now */
static ab_wal *_Atomic forgetful;     /* whose small state does not take what is quarantined ... */
static atomic_int forgets;            /* ... so many times */
static ab_wal *_Atomic unreadable;    /* whose block ... */
static atomic_ullong unreadable_at;   /* ... with this index, of any stream, ... */
static atomic_int readable_times;     /* ... can be read so often before it is damaged */
static atomic_uint unreadable_origin; /* ... of this node */

int __real_ab_wal_commit(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed);
int __wrap_ab_wal_commit(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed);
int __real_ab_wal_read(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, ab_wal_alloc_fn alloc,
                       void *arg, ab_block_header *header, void **data, size_t *size);
int __wrap_ab_wal_read(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, ab_wal_alloc_fn alloc,
                       void *arg, ab_block_header *header, void **data, size_t *size);

/* A value, or its absence, under a name that begins so. */
static bool stores(const ab_wal_op *op, const char *name)
{
    return (op->type == AB_WAL_PUT_STATE || op->type == AB_WAL_DEL_STATE) && op->key.size >= strlen(name) &&
           memcmp(op->key.data, name, strlen(name)) == 0;
}

int __wrap_ab_wal_commit(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed)
{
    for (size_t i = 0; wal == atomic_load(&refusing) && i < count; i++) {
        bool block = ops[i].type == AB_WAL_PUT_BLOCK && ops[i].stream.node == atomic_load(&refused_origin);
        if (block && atomic_load(&refusals) > 0) {
            atomic_fetch_sub(&refusals, 1);
            *failed = i;
            return AB_ECORRUPT;
        }
    }
    for (size_t i = 0; wal == atomic_load(&forgetful) && atomic_load(&forgets) > 0 && i < count; i++) {
        if (stores(&ops[i], AB_KEY_QUARANTINE)) {
            atomic_fetch_sub(&forgets, 1);
            *failed = i;
            return AB_ECORRUPT;
        }
    }
    for (size_t i = 0; wal == atomic_load(&clockless) && i < count; i++) {
        if (stores(&ops[i], AB_KEY_HLC)) {
            atomic_fetch_add(&clocks_refused, 1);
            *failed = i;
            return AB_ECORRUPT;
        }
    }
    return __real_ab_wal_commit(wal, ops, count, failed);
}

int __wrap_ab_wal_read(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, ab_wal_alloc_fn alloc,
                       void *arg, ab_block_header *header, void **data, size_t *size)
{
    bool damaged = wal == atomic_load(&unreadable) && index == atomic_load(&unreadable_at) &&
                   stream.node == atomic_load(&unreadable_origin);
    if (damaged && atomic_fetch_sub(&readable_times, 1) <= 0) {
        *header = (ab_block_header){.first = index, .last = index};
        *data = NULL;
        return AB_ECORRUPT;
    }
    return __real_ab_wal_read(wal, group, stream, index, alloc, arg, header, data, size);
}

static void open_all(void)
{
    for (size_t i = 0; i < cluster.count; i++) {
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
}

static void setup(void)
{
    test_cluster_init(&cluster, 2);
}

static void teardown(void)
{
    test_cluster_free(&cluster);
}

static void refuse(size_t node, uint32_t origin, int times)
{
    atomic_store(&refusals, times);
    atomic_store(&refused_origin, origin);
    atomic_store(&refusing, ab_node_wal(cluster.nodes[node].node));
}

static void expect_entries(size_t node, size_t count)
{
    test_sm *sm = &cluster.nodes[node].sm;
    ck_assert_msg(test_sm_wait(sm, count, WAIT_MS), "node %zu has %zu of %zu entries", node + 1,
                  test_sm_count(sm), count);
    ck_assert_int_eq(sm->order_errors, 0);
}

START_TEST(a_received_block_that_is_refused_comes_again)
{
    open_all();
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 3), AB_OK);
    expect_entries(1, 3);
    refuse(1, 1, 2);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "b", 0, 5), AB_OK);
    expect_entries(1, 8);
    ck_assert_int_eq(atomic_load(&refusals), 0);
}
END_TEST

START_TEST(writes_go_on_in_a_new_stream)
{
    ab_write_result result;
    ab_bytes payload = {"x", 1};
    open_all();
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 3), AB_OK);
    refuse(0, 1, 1);
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, NULL, &result), AB_ECORRUPT);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "b", 0, 5), AB_OK);
    expect_entries(0, 8);
    expect_entries(1, 8);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "c", 0, 5), AB_OK);
    expect_entries(1, 13);
}
END_TEST

/* What the log refuses of a new stream it will refuse of the next one, too: no endless row of streams. */
START_TEST(a_log_that_takes_nothing_closes_the_group)
{
    ab_write_result result;
    ab_bytes payload = {"x", 1};
    open_all();
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 3), AB_OK);
    refuse(0, 1, 1000);
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, NULL, &result), AB_ECORRUPT);
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, NULL, &result), AB_ECORRUPT);
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, NULL, &result), AB_ECORRUPT);
    ck_assert_int_eq(atomic_load(&refusals), 998);
    ck_assert_int_eq(test_write_range(cluster.nodes[1].group, "b", 0, 3), AB_OK); /* the others' goes on */
    expect_entries(0, 6);
}
END_TEST

/* The clock of a group is stored with what is trimmed of it. Where that is refused for good, its log is not trimmed; all else goes on. */
START_TEST(a_clock_that_cannot_be_stored_stops_only_trimming)
{
    ab_write_options options = {.timeout_ms = WAIT_MS / 2};
    ab_bytes payload = {"x", 1};
    open_all();
    atomic_store(&clockless, ab_node_wal(cluster.nodes[0].node));
    uint64_t deadline = ab_monotonic_ns() + WAIT_MS * 1000000ull;
    while (atomic_load(&clocks_refused) == 0) {
        ck_assert_uint_lt(ab_monotonic_ns(), deadline);
        ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, &options, NULL), AB_OK);
    }
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, &options, NULL), AB_OK);
    ck_assert_uint_eq(atomic_load(&cluster.nodes[0].node->counters.trimmed_blocks), 0);
    atomic_store(&clockless, NULL);
    while (atomic_load(&cluster.nodes[0].node->counters.trimmed_blocks) == 0) {
        ck_assert_uint_lt(ab_monotonic_ns(), deadline);
        ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, &options, NULL), AB_OK);
    }
}
END_TEST

static bool count_quarantined(void *arg, const ab_quarantined *entry)
{
    *(size_t *)arg += entry->code == AB_EREJECT;
    return true;
}

static void expect_quarantined(size_t expected)
{
    size_t count = 0;
    ab_group_status status;
    ck_assert_int_eq(ab_quarantine_list(cluster.nodes[0].group, count_quarantined, &count), AB_OK);
    ck_assert_uint_eq(count, expected);
    ab_group_get_status(cluster.nodes[0].group, &status);
    ck_assert_uint_eq(status.quarantined, expected);
}

/* An entry that goes to quarantine is there before anything behind it is applied, also where the log did not keep it at first; and
 * leaves when that is so in the log. */
START_TEST(quarantine_is_not_what_the_log_did_not_keep)
{
    ab_write_result result;
    ab_bytes payload = {"bad", 3};
    cluster.nodes[0].sm.reject = "bad";
    open_all();
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 1), AB_OK);
    atomic_store(&forgets, 2);
    atomic_store(&forgetful, ab_node_wal(cluster.nodes[0].node));
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, NULL, &result), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 1, 2), AB_OK);
    expect_entries(0, 2);
    ck_assert_int_eq(atomic_load(&forgets), 0);
    expect_quarantined(1);
    atomic_store(&forgets, 1);
    ck_assert_int_ne(ab_quarantine_drop(cluster.nodes[0].group, result.stream, result.last, 0), AB_OK);
    expect_quarantined(1);
    ck_assert_int_eq(ab_quarantine_drop(cluster.nodes[0].group, result.stream, result.last, 0), AB_OK);
    expect_quarantined(0);
}
END_TEST

static void damage(size_t node, uint32_t origin, uint64_t index, int readable)
{
    atomic_store(&unreadable_origin, origin);
    atomic_store(&unreadable_at, index);
    atomic_store(&readable_times, readable);
    atomic_store(&unreadable, ab_node_wal(cluster.nodes[node].node));
}

/* Found damaged when it is about to be applied, with blocks of another stream behind it: those go on. Then it can be read
 * again (as after a repair), and all of it arrives. */
START_TEST(what_cannot_be_read_holds_up_its_stream_only)
{
    cluster.apply_order = AB_APPLY_ARRIVAL;
    open_all();
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 20), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[1].group, "b", 0, 20), AB_OK);
    expect_entries(1, 40);
    expect_entries(0, 40);
    test_sm *sm = &cluster.nodes[1].sm;
    test_sm_block(sm, true);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "c", 0, 1), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[0].sm, 41, WAIT_MS));
    damage(1, 1, 23, 0);
    for (unsigned i = 1; i < 5; i++) {
        ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "c", i, i + 1), AB_OK);
        ck_assert_int_eq(test_write_range(cluster.nodes[1].group, "d", i, i + 1), AB_OK);
    }
    ck_assert(test_sm_wait(&cluster.nodes[0].sm, 49, WAIT_MS));
    ab_cache_relieve(&cluster.nodes[1].node->cache);
    test_sm_block(sm, false);
    expect_entries(1, 40 + 2 + 4); /* all but what is damaged and behind it */
    atomic_store(&unreadable, NULL);
    expect_entries(1, 49);
}
END_TEST

/* Everything that may be called from a callback, from each kind of callback that is not a completion. */

static atomic_uint lines_seen;
static atomic_uint rows_seen;

static bool see_stream(void *arg, const ab_stream_status *status)
{
    ab_group_status group;
    ab_group_get_status(arg, &group);
    atomic_fetch_add(&rows_seen, status->logged > 0);
    return true;
}

static bool see_sync(void *arg, const ab_sync_status *status)
{
    ab_group_status group;
    ab_group_get_status(arg, &group);
    atomic_fetch_add(&rows_seen, status->peer.peer > 0);
    return true;
}

static bool see_group(void *arg, ab_group *group)
{
    ab_node_status status;
    ab_node_get_status(arg, &status);
    ab_group_streams(group, see_stream, group);
    ab_group_syncs(group, see_sync, group);
    ck_assert_ptr_eq(ab_group_find(arg, ab_group_id(group)), group);
    ck_assert_int_eq(ab_write(group, "from a callback", 15, NULL, NULL, NULL), AB_OK);
    return true;
}

static bool see_metric(void *arg, const ab_metric *metric)
{
    ab_node_status status;
    if (metric->group != 0) {
        ab_node_get_status(arg, &status);
    }
    return true;
}

static void look_around(ab_node *node)
{
    ab_message message;
    ab_node_message(node, &message);
    ab_node_metrics(node, see_metric, node);
    ab_group_list(node, see_group, node);
}

static void log_and_look(void *ctx, ab_severity severity, const char *text)
{
    test_node *node = ctx;
    test_log(ctx, severity, text);
    if (strstr(text, "the log refuses more of our stream") != NULL) { /* said under the lock of the core */
        look_around(node->node);
        atomic_fetch_add(&lines_seen, 1);
    }
}

static void look_at_lines(ab_node_config *config)
{
    config->log = log_and_look;
}

START_TEST(callbacks_may_call_the_node)
{
    ab_write_result result;
    ab_bytes payload = {"x", 1};
    cluster.tune = look_at_lines;
    open_all();
    look_around(cluster.nodes[0].node);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 3), AB_OK);
    refuse(0, 1, 1);
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, NULL, &result), AB_ECORRUPT);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "b", 0, 3), AB_OK);
    expect_entries(1, 8); /* one was written by each look around */
    ck_assert_uint_eq(atomic_load(&lines_seen), 1);
    ck_assert_uint_ge(atomic_load(&rows_seen), 2);
}
END_TEST

static void start_standalone(void)
{
    cluster.count = 1;
    cluster.backend = "standalone";
}

START_TEST(standalone_goes_on_in_a_new_stream)
{
    ab_write_result result;
    ab_bytes payload = {"x", 1};
    start_standalone();
    open_all();
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 3), AB_OK);
    refuse(0, 1, 1);
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, &payload, 1, NULL, &result), AB_ECORRUPT);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "b", 0, 5), AB_OK);
    expect_entries(0, 8);
    cluster.count = 2; /* for the teardown */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_refused");
    TCase *tc = tcase_create("log");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_received_block_that_is_refused_comes_again);
    tcase_add_test(tc, writes_go_on_in_a_new_stream);
    tcase_add_test(tc, a_log_that_takes_nothing_closes_the_group);
    tcase_add_test(tc, a_clock_that_cannot_be_stored_stops_only_trimming);
    tcase_add_test(tc, quarantine_is_not_what_the_log_did_not_keep);
    tcase_add_test(tc, what_cannot_be_read_holds_up_its_stream_only);
    tcase_add_test(tc, callbacks_may_call_the_node);
    tcase_add_test(tc, standalone_goes_on_in_a_new_stream);
    tcase_set_timeout(tc, 90);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
