/* SPDX-License-Identifier: Apache-2.0 */
/* Three real nodes forget deletes: after the grace, once all were there, and not before. One thread. */
#include "tests/support/run.h"
#include "tests/system/http_fixture.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 3, WAIT_MS = 60000 };

static void setup(void)
{
    setup_dir();
    start_nodes(NODES, NULL, "  delete_grace_s: 1\n");
}

/* Over all groups. */
static long tombstones_of(size_t node)
{
    long sum = 0;
    ck_assert(ab_httpc_get(&client, ab_cluster_http_port(&cluster, node), "/digest", &answer));
    ck_assert_int_eq(answer.status, 200);
    for (const char *p = answer.body; (p = strstr(p, "\"tombstones\":")) != NULL; p++) {
        sum += strtol(p + strlen("\"tombstones\":"), NULL, 10);
    }
    return sum;
}

static void wait_until_forgotten(void)
{
    uint64_t start = ab_now_ms();
    for (size_t i = 0; i < NODES; i++) {
        while (tombstones_of(i) > 0) {
            ck_assert_msg(ab_now_ms() - start < WAIT_MS, "node %zu keeps some", i + 1);
            ab_pause();
        }
    }
}

/* Nodes that take no writes of their own give a sign of life; after it nobody keeps anything, and digests agree. */
START_TEST(forgets)
{
    post_to(0, "/write", "m,n=1 f=1 1\nm,n=2 f=1 1\n");
    post_to(0, "/delete?measurement=m&tag=n=1", "");
    post_to(0, "/delete?measurement=m&tag=n=3", "");
    ck_assert_int_eq(tombstones_of(0), 8); /* two in each of four groups */
    wait_until_forgotten();
    check_everywhere("m,n=2 f=1 1\n");
    post_to(1, "/write", "m,n=1 f=2 1\n");
    check_everywhere("m,n=1 f=2 1\nm,n=2 f=1 1\n");
}
END_TEST

/* What a member that is away has written stays deleted when it comes, however long the grace is over by then. */
START_TEST(waits_for_all)
{
    post_to(0, "/write", "m,n=2 f=1 1\n");
    check_everywhere("m,n=2 f=1 1\n");
    ck_assert(ab_cluster_signal(&cluster, 0, SIGKILL, NULL));
    ck_assert(ab_cluster_signal(&cluster, 2, SIGKILL, NULL));
    post_to(1, "/write", "m,n=1 f=1 1\n");
    ck_assert(ab_cluster_signal(&cluster, 1, SIGKILL, NULL));
    ck_assert_msg(ab_cluster_start(&cluster, 0), "%s", cluster.error);
    ck_assert_msg(ab_cluster_start(&cluster, 2), "%s", cluster.error);
    post_to(0, "/delete?measurement=m&tag=n=1", "");
    for (uint64_t start = ab_now_ms(); ab_now_ms() - start < 2500;) {
        post_to(2, "/write", "m,n=2 f=1 1\n");
        ck_assert_int_eq(tombstones_of(0), 4);
        ab_pause();
    }
    ck_assert_msg(ab_cluster_start(&cluster, 1), "%s", cluster.error);
    wait_until_forgotten();
    check_everywhere("m,n=2 f=1 1\n");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grace");
    TCase *c = tcase_create("three");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, forgets);
    tcase_add_test(c, waits_for_all);
    tcase_set_timeout(c, 240);
    suite_add_tcase(s, c);
    return test_run(s);
}
