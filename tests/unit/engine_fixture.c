/* SPDX-License-Identifier: Apache-2.0 */
/* One node with a standalone group. One thread. */
#include "tests/unit/engine_fixture.h"

#include <check.h>

test_cluster cluster;
ab_group *group;
test_sm *sm;

void engine_open(void)
{
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    group = cluster.nodes[0].group;
}

void engine_setup(void)
{
    test_cluster_init(&cluster, 1);
    sm = &cluster.nodes[0].sm;
    engine_open();
}

void engine_teardown(void)
{
    test_cluster_free(&cluster);
}
