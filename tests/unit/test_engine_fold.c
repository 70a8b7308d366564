/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that start new epochs again and again: old streams go, nothing of them is lost, and a name is never used twice. */
#include "tests/support/nodes.h"
#include "tests/support/run.h"
#include "wal/wal.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WAIT_MS 30000u
#define ROUNDS 24u

static test_cluster cluster;

static void setup(void)
{
    test_cluster_init(&cluster, 3);
}

static void teardown(void)
{
    test_cluster_free(&cluster);
}

/* Puts a copy in the place of the log: its tail may be missing, so the next start chooses a new epoch. */
static void replace_log(size_t i)
{
    char path[128];
    char copy[128];
    static char block[65536];
    snprintf(path, sizeof path, "%s/data.mdb", cluster.nodes[i].dir);
    snprintf(copy, sizeof copy, "%s/copy", cluster.nodes[i].dir);
    FILE *from = fopen(path, "rb");
    FILE *to = fopen(copy, "wb");
    ck_assert(from != NULL && to != NULL);
    for (size_t size; (size = fread(block, 1, sizeof block, from)) > 0;) {
        ck_assert_uint_eq(fwrite(block, 1, size, to), size);
    }
    ck_assert_int_eq(fclose(from) | fclose(to), 0);
    ck_assert_int_eq(rename(copy, path), 0);
}

static bool count_stream(void *arg, const ab_stream_status *status)
{
    (void)status;
    ++*(size_t *)arg;
    return true;
}

static size_t known(size_t i)
{
    size_t count = 0;
    ab_group_streams(cluster.nodes[i].group, count_stream, &count);
    return count;
}

/* Each node knows but the streams that are written to. */
static void wait_folded(unsigned round)
{
    for (unsigned waited = 0; waited < WAIT_MS; waited += 5) {
        size_t most = 0;
        for (size_t i = 0; i < cluster.count; i++) {
            most = known(i) > most ? known(i) : most;
        }
        if (most <= cluster.count) {
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    ck_abort_msg("round %u: %zu, %zu, %zu streams are known", round, known(0), known(1),
                 cluster.count > 2 ? known(2) : 0);
}

static void expect_equal(size_t entries)
{
    ab_digest digests[3];
    for (size_t i = 0; i < cluster.count; i++) {
        test_node *node = &cluster.nodes[i];
        ck_assert_msg(test_sm_wait(&node->sm, entries, WAIT_MS), "node %zu has %zu of %zu entries", i + 1,
                      test_sm_count(&node->sm), entries);
        ck_assert_int_eq(ab_group_digest(node->group, WAIT_MS, &digests[i], NULL), AB_OK);
        ck_assert_uint_eq(test_sm_count(&node->sm), entries);
        ck_assert_int_eq(node->sm.order_errors, 0);
        ck_assert_mem_eq(digests[i].bytes, digests[0].bytes, sizeof digests[0].bytes);
    }
}

static bool count_record(void *arg, uint64_t group, const ab_stream_state *state)
{
    (void)group;
    (void)state;
    ++*(size_t *)arg;
    return true;
}

static bool go_on(void *arg, const ab_wal_fault *fault, uint64_t blocks, uint64_t total)
{
    (void)arg;
    (void)blocks;
    (void)total;
    return fault == NULL;
}

/* The logs know no more streams than the nodes did; the frontiers that the state machines were given last have of each
 * origin also the mark of the stream folded last, and perhaps that of the one before. */
static void expect_small_logs(void)
{
    const ab_wal_options options = {.read_only = true};
    for (size_t i = 0; i < cluster.count; i++) {
        ab_wal *wal = NULL;
        size_t records = 0;
        ck_assert_int_eq(test_cluster_close(&cluster, i), AB_OK);
        ck_assert_int_eq(ab_wal_open(cluster.nodes[i].dir, &options, &wal, NULL, NULL), AB_OK);
        ck_assert_int_eq(ab_wal_streams(wal, 1, count_record, &records), AB_OK);
        ck_assert_int_eq(ab_wal_verify(wal, go_on, NULL), AB_OK);
        ab_wal_close(wal);
        ck_assert_uint_eq(records, cluster.count);
        ck_assert_uint_le(cluster.nodes[i].sm.mark_count, 3 * cluster.count);
    }
}

static void restart_with_new_epochs(void)
{
    size_t entries = 0;
    uint32_t epochs = 0;
    for (size_t i = 0; i < cluster.count; i++) {
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t i = round % cluster.count;
        ck_assert_int_eq(test_cluster_close(&cluster, i), AB_OK);
        replace_log(i);
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
        for (size_t k = 0; k < cluster.count; k++) {
            ck_assert_int_eq(test_write_range(cluster.nodes[k].group, "w", round, round + 2), AB_OK);
        }
        entries += 2 * cluster.count;
        expect_equal(entries);
        wait_folded(round);
    }
    for (size_t e = 1; e < cluster.nodes[0].sm.count; e++) {
        const test_entry *entry = cluster.nodes[0].sm.entries;
        epochs += entry[e].stream.epoch != entry[e - 1].stream.epoch;
    }
    ck_assert_uint_ge(epochs, ROUNDS / 2); /* else nothing was tried */
    expect_small_logs();
    for (size_t i = 0; i < cluster.count; i++) { /* and all of it is still known to be there */
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "end", 0, 1), AB_OK);
    expect_equal(entries + 1);
}

START_TEST(streams_stay_few)
{
    restart_with_new_epochs();
}
END_TEST

START_TEST(without_durability)
{
    cluster.durability = AB_DURABILITY_NONE;
    restart_with_new_epochs();
}
END_TEST

/* One that is alone folds, too. */
START_TEST(standalone)
{
    cluster.count = 1;
    cluster.backend = "standalone";
    restart_with_new_epochs();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_fold");
    TCase *tcase = tcase_create("fold");
    tcase_set_timeout(tcase, 200);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, streams_stay_few);
    tcase_add_test(tcase, without_durability);
    tcase_add_test(tcase, standalone);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
