/* SPDX-License-Identifier: Apache-2.0 */
/* A disk image goes back under a node that is not told: the same file, its content of before, as after a virtual machine's
 * snapshot was put back. What the node writes then has names that its peers know for something else. */
#include "tests/support/nodes.h"
#include "tests/support/run.h"
#include "wal/wal.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define WAIT_MS 30000u

static test_cluster cluster;

static void setup(void)
{
    test_cluster_init(&cluster, 3);
    for (size_t i = 0; i < cluster.count; i++) { /* nothing is trimmed: what is there can be given again */
        cluster.nodes[i].sm.forgets = true;
        cluster.nodes[i].sm.keep_durable = false;
    }
}

static void teardown(void)
{
    test_cluster_free(&cluster);
}

/* Its state machine begins with nothing: what it keeps is the log's. */
static void open_node(size_t i)
{
    cluster.nodes[i].sm.count = cluster.nodes[i].sm.mark_count = 0;
    ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
}

static void close_node(size_t i)
{
    ck_assert_int_eq(test_cluster_close(&cluster, i), AB_OK);
}

static void write_some(size_t i, const char *prefix, unsigned count)
{
    ck_assert_int_eq(test_write_range(cluster.nodes[i].group, prefix, 0, count), AB_OK);
}

/* The content of one file into another, which stays the file it is. */
static void copy_into(const char *to_path, const char *from_path)
{
    static char block[65536];
    FILE *from = fopen(from_path, "rb");
    FILE *to = fopen(to_path, "wb");
    ck_assert(from != NULL && to != NULL);
    for (size_t size; (size = fread(block, 1, sizeof block, from)) > 0;) {
        ck_assert_uint_eq(fwrite(block, 1, size, to), size);
    }
    ck_assert_int_eq(fclose(from) | fclose(to), 0);
}

static void image_paths(size_t i, char *log, char *image, size_t size)
{
    snprintf(log, size, "%s/data.mdb", cluster.nodes[i].dir);
    snprintf(image, size, "%s/image", cluster.nodes[i].dir);
}

static void take_image(size_t i)
{
    char log[128];
    char image[128];
    image_paths(i, log, image, sizeof log);
    copy_into(image, log);
}

static void put_image_back(size_t i)
{
    char log[128];
    char image[128];
    image_paths(i, log, image, sizeof log);
    copy_into(log, image);
}

static size_t times(test_sm *sm, const char *text)
{
    size_t found = 0;
    pthread_mutex_lock(&sm->lock);
    for (size_t i = 0; i < sm->count; i++) {
        found += strcmp(sm->entries[i].text, text) == 0;
    }
    pthread_mutex_unlock(&sm->lock);
    return found;
}

/* Every node has what was written, once. */
static void expect_once(size_t entries, const char *const *prefixes, const unsigned *counts)
{
    char text[64];
    for (size_t i = 0; i < cluster.count; i++) {
        test_sm *sm = &cluster.nodes[i].sm;
        ck_assert_msg(test_sm_wait(sm, entries, WAIT_MS), "node %zu has %zu of %zu entries", i + 1,
                      test_sm_count(sm), entries);
        ck_assert_uint_eq(test_sm_count(sm), entries);
        for (size_t p = 0; prefixes[p] != NULL; p++) {
            for (unsigned k = 0; k < counts[p]; k++) {
                snprintf(text, sizeof text, "%s-%u", prefixes[p], k);
                ck_assert_msg(times(sm, text) == 1, "node %zu has %s %zu times", i + 1, text,
                              times(sm, text));
            }
        }
    }
}

static bool no_fault(void *arg, const ab_wal_fault *fault, uint64_t blocks, uint64_t total)
{
    (void)arg;
    (void)blocks;
    (void)total;
    ck_assert_msg(fault == NULL, "%s", fault != NULL ? fault->what : "");
    return true;
}

/* All start again from their logs alone, which are sound, and are equal by every name. */
static void expect_equal_logs(size_t entries)
{
    const ab_wal_options options = {.read_only = true};
    ab_digest digests[3];
    for (size_t i = 0; i < cluster.count; i++) {
        ab_wal *wal = NULL;
        ab_wal_origin origin;
        ab_message why;
        close_node(i);
        ck_assert_int_eq(ab_wal_open(cluster.nodes[i].dir, &options, &wal, &origin, &why), AB_OK);
        ck_assert_int_eq(ab_wal_verify(wal, no_fault, NULL), AB_OK);
        ab_wal_close(wal);
    }
    for (size_t i = 0; i < cluster.count; i++) {
        open_node(i);
    }
    for (size_t i = 0; i < cluster.count; i++) {
        test_node *node = &cluster.nodes[i];
        ck_assert(test_sm_wait(&node->sm, entries, WAIT_MS));
        ck_assert_uint_eq(test_sm_count(&node->sm), entries);
        ck_assert_int_eq(ab_group_digest(node->group, WAIT_MS, &digests[i], NULL), AB_OK);
        ck_assert_mem_eq(digests[i].bytes, digests[0].bytes, sizeof digests[0].bytes);
    }
}

static const char *const all[] = {"before", "lost", "since", "after", NULL};

/* Both others have what the image lacks, and nobody what was written since. */
START_TEST(what_was_written_since_is_logged_again)
{
    const unsigned counts[] = {50, 20, 15, 5};
    for (size_t i = 0; i < 3; i++) {
        open_node(i);
    }
    write_some(0, "before", 50);
    expect_once(50, (const char *[]){"before", NULL}, counts);
    close_node(0);
    take_image(0);
    open_node(0);
    write_some(0, "lost", 20);
    expect_once(70, (const char *[]){"before", "lost", NULL}, counts);
    for (size_t i = 0; i < 3; i++) {
        close_node(i);
    }
    put_image_back(0);
    open_node(0);
    write_some(0, "since", 15);
    open_node(1);
    open_node(2);
    expect_once(85, (const char *[]){"before", "lost", "since", NULL}, counts);
    write_some(0, "after", 5);
    expect_once(90, all, counts);
    expect_equal_logs(90);
}
END_TEST

/* One of the others has what the image lacks, the other one what was written since. */
START_TEST(peers_have_both_histories)
{
    const unsigned counts[] = {50, 20, 40, 5};
    for (size_t i = 0; i < 3; i++) {
        open_node(i);
    }
    write_some(0, "before", 50);
    expect_once(50, (const char *[]){"before", NULL}, counts);
    close_node(0);
    take_image(0);
    close_node(1);
    open_node(0);
    write_some(0, "lost", 20);
    ck_assert(test_sm_wait(&cluster.nodes[2].sm, 70, WAIT_MS));
    close_node(0);
    close_node(2);
    put_image_back(0);
    open_node(0);
    open_node(1);
    write_some(0, "since", 40);
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, 90, WAIT_MS));
    open_node(2);
    expect_once(110, (const char *[]){"before", "lost", "since", NULL}, counts);
    write_some(0, "after", 5);
    expect_once(115, all, counts);
    expect_equal_logs(115);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_rollback");
    TCase *tcase = tcase_create("rollback");
    tcase_set_timeout(tcase, 200);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_was_written_since_is_logged_again);
    tcase_add_test(tcase, peers_have_both_histories);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
