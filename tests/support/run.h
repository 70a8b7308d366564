/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file run.h
 * The end of every test's main.
 */
#ifndef ANABRANCH_TESTS_RUN_H
#define ANABRANCH_TESTS_RUN_H

#include <check.h>

/** Runs the suite and frees it, as talkative as $CK_VERBOSITY says. @return the exit status: whether all of it passed */
int test_run(Suite *suite);

#endif
