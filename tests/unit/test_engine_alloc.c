/* SPDX-License-Identifier: Apache-2.0 */
/* The Nth allocation of the engine fails, for all N: whatever happens, calls either fail cleanly with AB_ENOMEM or do
 * their work, nothing acknowledged is lost, nothing hangs, nothing leaks (the sanitizer build looks). */
#include "tests/support/alloc_fail.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRITES 12u

static atomic_uint completed;
static atomic_uint acknowledged;

static void on_write(void *arg, const ab_write_result *result)
{
    (void)arg;
    atomic_fetch_add(&completed, 1);
    atomic_fetch_add(&acknowledged, result->code == AB_OK);
}

static void on_read(void *arg, const ab_read_result *result)
{
    (void)result;
    atomic_fetch_add((atomic_uint *)arg, 1);
}

/* What a run did, looked at when allocations work again: the test library allocates too. */
typedef struct outcome {
    int open_code;
    int odd_code; /* of a write or query: neither AB_OK nor AB_ENOMEM */
    unsigned accepted, asked;
    atomic_uint answered;
} outcome;

/* Everything a caller does in a life of a node. */
static void scenario(test_cluster *cluster, outcome *seen)
{
    seen->open_code = test_cluster_open(cluster, 0);
    ab_group *group = seen->open_code == AB_OK ? cluster->nodes[0].group : NULL;
    for (unsigned i = 0; i < WRITES && group != NULL; i++) {
        char text[16];
        ab_bytes payload = {text, (size_t)snprintf(text, sizeof text, "w-%u", i)};
        ab_write_options options = {.timeout_ms = i % 3 == 0 ? 60000 : 0};
        int code = ab_write_many(group, &payload, 1, &options, on_write, NULL);
        seen->accepted += code == AB_OK;
        seen->odd_code = code != AB_OK && code != AB_ENOMEM ? code : seen->odd_code;
    }
    if (group != NULL) {
        int code = ab_query(group, "q", 1, NULL, on_read, &seen->answered);
        seen->asked = code == AB_OK;
        seen->odd_code = code != AB_OK && code != AB_ENOMEM ? code : seen->odd_code;
        ab_group_status status;
        ab_group_get_status(group, &status);
    }
    (void)test_cluster_close(cluster, 0);
}

/* Without failures: the node works, and what was acknowledged is there. */
static void aftermath(test_cluster *cluster, unsigned expected)
{
    test_sm *sm = &cluster->nodes[0].sm;
    ck_assert_int_eq(test_cluster_open(cluster, 0), AB_OK);
    ck_assert_int_eq(ab_read_wait(cluster->nodes[0].group, NULL), AB_OK);
    ck_assert_int_eq(test_write_range(cluster->nodes[0].group, "after", 0, 1), AB_OK);
    ck_assert(test_sm_wait(sm, expected + 1, 20000));
    ck_assert_int_eq(sm->order_errors, 0);
    ck_assert_int_eq(test_cluster_close(cluster, 0), AB_OK);
}

START_TEST(every_allocation_may_fail)
{
    for (unsigned long n = 1;; n++) {
        test_cluster cluster;
        test_cluster_init(&cluster, 1);
        outcome seen = {.open_code = AB_OK};
        atomic_store(&completed, 0);
        atomic_store(&acknowledged, 0);
        alloc_fail_at(n);
        scenario(&cluster, &seen);
        bool failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_msg(seen.open_code == AB_OK || seen.open_code == AB_ENOMEM, "allocation %lu: open: %s", n,
                      ab_error_name(seen.open_code));
        ck_assert_msg(seen.odd_code == AB_OK, "allocation %lu: %s", n, ab_error_name(seen.odd_code));
        ck_assert_uint_eq(atomic_load(&completed), seen.accepted);
        ck_assert_uint_eq(atomic_load(&seen.answered), seen.asked);
        unsigned expected = atomic_load(&acknowledged);
        aftermath(&cluster, expected);
        test_cluster_free(&cluster);
        if (!failed) {
            break;
        }
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("allocations");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, every_allocation_may_fail);
    Suite *suite = suite_create("engine_alloc");
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
