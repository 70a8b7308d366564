/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file member_fixture.h
 * A multimaster core (member 1 of 1, 2, 3) that starts with nothing, in doubt about its tail. One thread.
 */
#ifndef ANABRANCH_TESTS_MEMBER_FIXTURE_H
#define ANABRANCH_TESTS_MEMBER_FIXTURE_H

#include "tests/unit/core_fixture.h"

#include <check.h>

extern const ab_stream member_own;
extern const ab_stream member_other; /* of member 2 */
extern const ab_stream member_third; /* of member 3 */
extern fixture f;

void member_open(void);
void member_close(void);

/** What a peer says of a stream: all of it durable. */
ab_mm_have member_have(ab_stream stream, uint64_t durable);

/** Own blocks of one entry, logged and durable. */
void member_write(uint64_t first, uint64_t last);

/** A block of its origin, logged and durable; the actions are those of the last step. */
void member_log(ab_stream stream, uint64_t first, uint64_t last, const ab_mark *deps, size_t count);

/** A test case of tests that each begin with member_open(). */
void member_add(Suite *suite, const char *name, const TTest *const *tests, size_t count);

#define MEMBER_ADD(name, ...)                                                                                \
    do {                                                                                                     \
        const TTest *const tests[] = {__VA_ARGS__};                                                          \
        member_add(suite, name, tests, sizeof tests / sizeof tests[0]);                                      \
    } while (0)

#endif
