/* SPDX-License-Identifier: Apache-2.0 */
/* Quarantine through the public headers: entries that were refused are listed, tried again, dropped; they outlive
 * trimming, restarts and a state machine that changes its mind; damaged records; failing allocations. */
#include "tests/support/alloc_fail.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"
#include "wal/wal.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WAIT_MS 20000u

static test_cluster cluster;
static ab_group *group;
static ab_stream stream;
static test_sm *sm;

static void open_again(void)
{
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    group = cluster.nodes[0].group;
}

static void close_it(void)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
}

static void setup(void)
{
    test_cluster_init(&cluster, 1);
    sm = &cluster.nodes[0].sm;
    open_again();
    ab_group_status status;
    ab_group_get_status(group, &status);
    stream = status.stream;
}

static void teardown(void)
{
    alloc_fail_at(0);
    test_cluster_free(&cluster);
}

static void refuse(const char *payload)
{
    pthread_mutex_lock(&sm->lock);
    sm->reject = payload;
    pthread_mutex_unlock(&sm->lock);
}

static uint64_t quarantined(void)
{
    ab_group_status status;
    ab_group_get_status(group, &status);
    return status.quarantined;
}

typedef struct listing {
    size_t count;
    uint64_t index;
    uint64_t hlc;
    uint64_t refused_ms;
    char text[64];
    size_t stop_after;
} listing;

static bool take(void *arg, const ab_quarantined *record)
{
    listing *l = arg;
    l->count++;
    l->index = record->entry.index;
    l->hlc = record->entry.hlc;
    l->refused_ms = record->refused_ms;
    ck_assert_uint_lt(record->entry.size, sizeof l->text);
    memcpy(l->text, record->entry.payload, record->entry.size);
    l->text[record->entry.size] = '\0';
    return l->count != l->stop_after;
}

static size_t listed(void)
{
    listing l = {0};
    ck_assert_int_eq(ab_quarantine_list(group, take, &l), AB_OK);
    return l.count;
}

/* Writes 20, of which the eighth is refused. */
static void make_one(void)
{
    refuse("w-7");
    ck_assert_int_eq(test_write_range(group, "w", 0, 20), AB_OK);
    ck_assert(test_sm_wait(sm, 19, WAIT_MS));
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(quarantined(), 1);
}

static unsigned checkpoints(void)
{
    pthread_mutex_lock(&sm->lock);
    unsigned count = sm->checkpoints;
    pthread_mutex_unlock(&sm->lock);
    return count;
}

START_TEST(is_listed)
{
    listing l = {0};
    ck_assert_uint_eq(listed(), 0);
    make_one();
    ck_assert_int_eq(ab_quarantine_list(group, take, &l), AB_OK);
    ck_assert_uint_eq(l.count, 1);
    ck_assert_uint_eq(l.index, 8);
    ck_assert_str_eq(l.text, "w-7");
    ck_assert_uint_gt(l.hlc, sm->entries[6].hlc);
    ck_assert_uint_lt(l.hlc, sm->entries[7].hlc);
    ck_assert_uint_lt((uint64_t)time(NULL) - l.refused_ms / 1000, 60);
    l = (listing){0};
    ck_assert_int_eq(ab_quarantine_get(group, stream, 8, take, &l), AB_OK);
    ck_assert_str_eq(l.text, "w-7");
    ck_assert_int_eq(ab_quarantine_get(group, stream, 7, take, &l), AB_ENOTFOUND);
    ck_assert_uint_eq(l.count, 1);
}
END_TEST

START_TEST(listing_can_be_stopped)
{
    listing l = {.stop_after = 2};
    refuse("w-0");
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(test_write_range(group, "w", 0, 2), AB_OK);
    }
    ck_assert(test_sm_wait(sm, 3, WAIT_MS));
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(listed(), 3);
    ck_assert_int_eq(ab_quarantine_list(group, take, &l), AB_OK);
    ck_assert_uint_eq(l.count, 2);
    ck_assert_uint_eq(l.index, 3);
}
END_TEST

START_TEST(is_applied_when_tried_again)
{
    make_one();
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, WAIT_MS), AB_EREJECT);
    ck_assert_uint_eq(listed(), 1);
    refuse(NULL);
    unsigned before = checkpoints();
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, WAIT_MS), AB_OK);
    ck_assert_uint_eq(test_sm_count(sm), 20);
    ck_assert_str_eq(sm->entries[19].text, "w-7");
    ck_assert_uint_eq(sm->entries[19].index, 8);
    ck_assert_uint_gt(checkpoints(), before);
    ck_assert_uint_eq(sm->marks[0].index, 20); /* the frontier did not go back */
    ck_assert_uint_eq(quarantined(), 0);
    ck_assert_uint_eq(listed(), 0);
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, WAIT_MS), AB_ENOTFOUND);
    close_it();
    open_again();
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(quarantined(), 0);
    ck_assert_uint_eq(test_sm_count(sm), 20);
}
END_TEST

START_TEST(failures_leave_it_there)
{
    make_one();
    pthread_mutex_lock(&sm->lock);
    sm->reject = NULL;
    sm->fail_code = AB_ENOSPC;
    sm->fail_times = 1;
    pthread_mutex_unlock(&sm->lock);
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, WAIT_MS), AB_ENOSPC);
    ck_assert_uint_eq(listed(), 1);
    ck_assert_uint_eq(test_sm_count(sm), 19);
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, WAIT_MS), AB_OK);
    ck_assert_uint_eq(listed(), 0);
}
END_TEST

START_TEST(is_dropped)
{
    make_one();
    ck_assert_int_eq(ab_quarantine_drop(group, stream, 9, WAIT_MS), AB_ENOTFOUND);
    unsigned before = checkpoints();
    ck_assert_int_eq(ab_quarantine_drop(group, stream, 8, WAIT_MS), AB_OK);
    ck_assert_uint_gt(checkpoints(), before);
    ck_assert_uint_eq(quarantined(), 0);
    ck_assert_int_eq(ab_quarantine_drop(group, stream, 8, WAIT_MS), AB_ENOTFOUND);
    close_it();
    open_again();
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(quarantined(), 0);
    ck_assert_uint_eq(listed(), 0);
    ck_assert_uint_eq(test_sm_count(sm), 19);
}
END_TEST

static bool take_base(void *arg, const ab_stream_status *status)
{
    uint64_t *base = arg;
    *base = status->base > *base ? status->base : *base;
    return true;
}

START_TEST(outlives_its_block)
{
    uint64_t base = 0;
    make_one();
    refuse(NULL);
    for (unsigned i = 0; i < 2000 && base < 20; i++) { /* each write gives the trimming another chance */
        ck_assert_int_eq(test_write_range(group, "more", i, i + 1), AB_OK);
        ab_group_streams(group, take_base, &base);
    }
    ck_assert_uint_ge(base, 20);
    close_it();
    open_again();
    ck_assert_uint_eq(quarantined(), 1);
    listing l = {0};
    ck_assert_int_eq(ab_quarantine_get(group, stream, 8, take, &l), AB_OK);
    ck_assert_str_eq(l.text, "w-7");
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, WAIT_MS), AB_OK);
    ck_assert_uint_eq(listed(), 0);
}
END_TEST

/* A state machine that keeps nothing gets everything again; what it takes this time is quarantined no more. */
START_TEST(leaves_when_it_comes_again_and_is_taken)
{
    sm->forgets = true;
    sm->keep_durable = false;
    make_one();
    close_it();
    sm->mark_count = 0;
    open_again(); /* refused again: one record, not two */
    ck_assert(test_sm_wait(sm, 38, WAIT_MS));
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(quarantined(), 1);
    ck_assert_uint_eq(listed(), 1);
    close_it();
    sm->mark_count = 0;
    refuse(NULL);
    open_again();
    ck_assert(test_sm_wait(sm, 58, WAIT_MS));
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(quarantined(), 0);
    ck_assert_uint_eq(listed(), 0);
}
END_TEST

START_TEST(busy_state_machine)
{
    make_one();
    refuse(NULL);
    test_sm_block(sm, true);
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, 20), AB_ETIMEDOUT);
    ck_assert_uint_eq(listed(), 1);
    test_sm_block(sm, false);
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK); /* comes after it */
    ck_assert_uint_eq(test_sm_count(sm), 20);
    ck_assert_uint_eq(listed(), 0);
    ck_assert_uint_eq(quarantined(), 0);
}
END_TEST

START_TEST(closing_does_not_wait_for_it)
{
    make_one();
    refuse(NULL);
    test_sm_block(sm, true);
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, 20), AB_ETIMEDOUT);
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, 20),
                     AB_ETIMEDOUT); /* one runs, one has not begun */
    test_sm_block(sm, false);
    close_it();
    open_again();
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(test_sm_count(sm), 20);
    if (listed() > 0) { /* applied, and the close came before it was removed */
        ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, 0), AB_OK);
    }
    ck_assert_uint_eq(listed(), 0);
}
END_TEST

START_TEST(wrong_arguments)
{
    ck_assert_int_eq(ab_quarantine_list(NULL, take, NULL), AB_EINVAL);
    ck_assert_int_eq(ab_quarantine_list(group, NULL, NULL), AB_EINVAL);
    ck_assert_int_eq(ab_quarantine_get(NULL, stream, 1, take, NULL), AB_EINVAL);
    ck_assert_int_eq(ab_quarantine_get(group, stream, 1, NULL, NULL), AB_EINVAL);
    ck_assert_int_eq(ab_quarantine_retry(NULL, stream, 1, 0), AB_EINVAL);
    ck_assert_int_eq(ab_quarantine_drop(NULL, stream, 1, 0), AB_EINVAL);
}
END_TEST

static void put_state(ab_wal *wal, const char *key, const char *value)
{
    ab_wal_op op = {
        .type = AB_WAL_PUT_STATE, .group = 1, .key = {key, strlen(key)}, .data = {value, strlen(value)}};
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_OK);
}

START_TEST(damaged_records)
{
    make_one();
    close_it();
    ab_wal_options options = {.durability = AB_DURABILITY_SYNC};
    ab_wal_origin origin;
    ab_wal *wal;
    char key[80];
    ck_assert_int_eq(ab_wal_open(cluster.nodes[0].dir, &options, &wal, &origin, NULL), AB_OK);
    snprintf(key, sizeof key, "engine/quarantine/%u.%u.%020u", stream.node, stream.epoch, 3u);
    put_state(wal, key, "short");
    put_state(wal, "engine/quarantine/nonsense", "of a record that is long enough");
    put_state(wal, "engine/quarantine/1.2.3", "of a record that is long enough");
    ab_wal_close(wal);
    open_again();
    listing l = {0};
    ck_assert_uint_eq(quarantined(), 4);
    ck_assert_int_eq(ab_quarantine_list(group, take, &l), AB_ECORRUPT);
    ck_assert_uint_eq(l.count, 1); /* the sound one */
    ck_assert_int_eq(ab_quarantine_get(group, stream, 3, take, &l), AB_ECORRUPT);
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 3, WAIT_MS), AB_ECORRUPT);
    ck_assert_int_eq(ab_quarantine_drop(group, stream, 3, WAIT_MS), AB_OK);
    ck_assert_uint_eq(quarantined(), 3);
    refuse(NULL);
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 8, WAIT_MS), AB_OK);
}
END_TEST

static bool just_count(void *arg, const ab_quarantined *record)
{
    (*(size_t *)arg)++;
    return record != NULL;
}

START_TEST(allocations_fail)
{
    make_one();
    for (unsigned long n = 1;; n++) {
        size_t count = 0;
        alloc_fail_at(n);
        int lists = ab_quarantine_list(group, just_count, &count);
        int gets = ab_quarantine_get(group, stream, 8, just_count, &count);
        int retries = ab_quarantine_retry(group, stream, 8, 0);
        bool failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert(lists == AB_OK || lists == AB_ENOMEM);
        ck_assert(gets == AB_OK || gets == AB_ENOMEM);
        ck_assert_msg(retries == AB_EREJECT || retries == AB_ENOMEM, "%s", ab_error_name(retries));
        if (!failed) {
            break;
        }
    }
    for (unsigned long n = 1;; n++) {
        alloc_fail_at(n);
        int code = ab_quarantine_drop(group, stream, 8, 0);
        alloc_fail_at(0);
        ck_assert(code == AB_OK || code == AB_ENOMEM);
        if (code == AB_OK) {
            break;
        }
    }
    ck_assert_uint_eq(listed(), 0);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("quarantine");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, is_listed);
    tcase_add_test(tcase, listing_can_be_stopped);
    tcase_add_test(tcase, is_applied_when_tried_again);
    tcase_add_test(tcase, failures_leave_it_there);
    tcase_add_test(tcase, is_dropped);
    tcase_add_test(tcase, outlives_its_block);
    tcase_add_test(tcase, leaves_when_it_comes_again_and_is_taken);
    tcase_add_test(tcase, busy_state_machine);
    tcase_add_test(tcase, closing_does_not_wait_for_it);
    tcase_add_test(tcase, wrong_arguments);
    tcase_add_test(tcase, damaged_records);
    tcase_add_test(tcase, allocations_fail);
    Suite *suite = suite_create("quarantine");
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
