/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file rewind_fixture.h
 * A multimaster core (member 1 of 1, 2, 3) with a stream whose origin's disk went back unnoticed. One thread.
 */
#ifndef ANABRANCH_TESTS_REWIND_FIXTURE_H
#define ANABRANCH_TESTS_REWIND_FIXTURE_H

#include "tests/unit/core_fixture.h"

#define LAST 10u
#define FORK 5u
#define OTHER 500000u /* added to a hash: of another history */

extern const ab_stream rewind_own;
extern const ab_stream rewind_theirs; /* of member 2, and its copy */
extern const ab_stream rewind_copy;
extern fixture f;

/** Of a block of one entry; 0 before the first. */
uint64_t rewind_hash_of(ab_stream stream, uint64_t index);

/** What a step asks to keep, for the next rewind_open_with(). */
void rewind_keep(ab_bytes key, ab_bytes value);

/** Every step goes through here: what it asks to keep is kept. */
void rewind_step(const ab_event *event);
void rewind_simple(ab_event_type type, uint32_t peer);
void rewind_mark(ab_event_type type, ab_stream stream, uint64_t index);
ab_stream_state rewind_state_of(ab_stream stream, uint64_t base, uint64_t last);

/** A start of node 1 in doubt, with what was kept. */
void rewind_open_with(const ab_stream_state *streams, size_t count, const ab_mark *applied, size_t marks);

/** Nothing is kept; rewind_done() closes the core. */
void rewind_fresh(void);
void rewind_done(void);
ab_mm_have rewind_has(ab_stream stream, uint64_t upto, uint64_t hash, uint32_t rewound);

/** A HAVE of `peer`; rewind_link_with(): a link, and that as the first full one. */
void rewind_have(uint32_t peer, uint32_t flags, const ab_mm_have *haves, uint32_t count);
void rewind_link_with(uint32_t peer, const ab_mm_have *haves, uint32_t count);

/** The LOAD of that place in the last step; NULL: none. */
const ab_action *rewind_load_at(ab_stream stream, uint64_t index);

/** Blocks of one entry, from `first` to `last` of the stream, as an answer to a LOAD of `first`. */
void rewind_loaded(ab_stream stream, uint64_t first, uint64_t last);

/** Lets time pass; counts actions, or messages of that kind to `peer` (0: actions), that must not come again. */
size_t rewind_count_in(uint64_t ms, ab_action_type type, uint32_t peer, ab_mm_kind kind);

/** A block of a copy, ours or theirs. */
ab_block_info rewind_copy_info(ab_stream copy, uint64_t index, uint64_t fork);

/** The last step asked to take the stream back to the fork. */
void rewind_assert_taken_back(ab_stream stream, uint64_t fork);

/** The last step moved the state machine's frontier into the copy's terms. */
void rewind_assert_moved(ab_stream copy, uint64_t of_copy, ab_stream stream, uint64_t fork);

#endif
