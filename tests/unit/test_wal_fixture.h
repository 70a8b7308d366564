/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file test_wal_fixture.h
 * One log per test, open in a directory of its own. One thread.
 */
#ifndef ANABRANCH_TESTS_WAL_FIXTURE_H
#define ANABRANCH_TESTS_WAL_FIXTURE_H

#include "tests/support/run.h"
#include "tests/unit/test_wal_support.h"

#include <check.h>

extern char *dir;
extern ab_wal *wal;
extern ab_wal_origin origin;
extern ab_message message;
extern const ab_stream s1;
extern const ab_stream s2;
extern const ab_wal_options sync_options;
extern const ab_wal_options read_options;

void setup(void);
void teardown(void);
/** Closes the log (in order) and opens it again. */
void reopen(const ab_wal_options *options);
/** Reads and checks the block that holds `index`. @return code */
int read_at(uint64_t group, ab_stream stream, uint64_t index, ab_block_header *header);
/** The stream is on record from base to last, and reads so. */
void assert_stream(uint64_t group, ab_stream stream, uint64_t base, uint64_t last);

/** Adds a case with the fixture. */
TCase *wal_case(Suite *suite, const char *name);

#endif
