/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file engine_fixture.h
 * One node with a standalone group, on a directory of its own. One thread.
 */
#ifndef ANABRANCH_TESTS_ENGINE_FIXTURE_H
#define ANABRANCH_TESTS_ENGINE_FIXTURE_H

#include "tests/support/nodes.h"

#define WAIT_MS 20000u

extern test_cluster cluster;
extern ab_group *group;
extern test_sm *sm;

/** Opens the node (again). */
void engine_open(void);

void engine_setup(void);
void engine_teardown(void);

#endif
