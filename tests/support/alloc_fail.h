/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file alloc_fail.h
 * Fails the Nth allocation that the objects under test make. Use: for N = 1, 2, 3, ... until a run had no failure:
 *
 *     for (unsigned long n = 1;; n++) {
 *         alloc_fail_at(n);
 *         run_the_scenario();            // must survive, leak nothing, and report AB_ENOMEM
 *         if (!alloc_fail_happened()) break;
 *     }
 *     alloc_fail_at(0);
 */
#ifndef ANABRANCH_TESTS_ALLOC_FAIL_H
#define ANABRANCH_TESTS_ALLOC_FAIL_H

#include <stdbool.h>

/** Counts from here; the nth call fails once. 0: never. All threads count together. */
void alloc_fail_at(unsigned long nth);

/** Whether the failure has been delivered since alloc_fail_at(). */
bool alloc_fail_happened(void);

#endif
