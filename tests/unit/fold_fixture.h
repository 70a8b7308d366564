/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file fold_fixture.h
 * A multimaster core (member 1 of 1, 2, 3) that finds old streams of its own and of node 2. One thread.
 */
#ifndef ANABRANCH_TESTS_FOLD_FIXTURE_H
#define ANABRANCH_TESTS_FOLD_FIXTURE_H

#include "replication/folds.h"
#include "tests/unit/core_fixture.h"

#include <check.h>

#define OLD 100u

extern const ab_stream fold_own;
extern const ab_stream fold_first;
extern const ab_stream fold_second;
extern const ab_stream fold_current;
extern fixture f;

/** What was forgotten since fold_pass() began, and from which epoch on the state machine keeps marks. */
extern ab_stream fold_forgotten[8];
extern uint64_t fold_kept_from[8];
extern size_t fold_count;

/** A stream that is trimmed to its end. */
ab_stream_state fold_logged(ab_stream stream, uint64_t last);

/** A start in doubt with these streams, which the state machine has. */
void fold_open_with(const ab_stream_state *streams, size_t count, const ab_state_value *state, size_t states);

/** The same with old streams of the member and both of node 2. */
void fold_open(void);
void fold_close(void);

/** What a member says of a stream that is over. */
ab_mm_have fold_over(ab_stream stream, uint64_t end, uint32_t flags);

/** A HAVE of `peer` with streams and, if not NULL, one fold. */
void fold_give(uint32_t peer, uint32_t flags, const ab_mm_have *haves, uint32_t count,
               const ab_mm_folded *fold);

/** A link, and that as the first full HAVE. */
void fold_link(uint32_t peer, const ab_mm_have *haves, uint32_t count, const ab_mm_folded *fold);

/** Notes what the last step forgot; lets `ms` pass and notes it. */
void fold_note(void);
void fold_pass(uint64_t ms);

/** What the last step said to `peer` of the folded streams of `node`; false: nothing. */
bool fold_said(uint32_t peer, uint32_t node, ab_mm_folded *said);

/** Whether a session read with that token runs at once. */
bool fold_read_done(ab_mark token);

/** Whether the core knows the stream. */
bool fold_knows(ab_stream stream);

/** The record of streams, as it is kept and as it is said. */
ab_fold fold_record(uint32_t node, const ab_stream_state *streams, size_t count);
ab_mm_folded fold_wire(uint32_t node, const ab_stream_state *streams, size_t count);

/** What a core that folded both streams of node 2 asks to be kept. Valid until the next call. */
ab_state_value fold_state_of_both(void);
extern uint8_t fold_stored[AB_FOLD_BYTES];

/** Runs tests that each begin with fold_open(). @return what main() returns */
int fold_run(const char *name, const TTest *const *tests, size_t count);

#endif
