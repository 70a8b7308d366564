/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file core_fixture.h
 * A core under test: events in, actions out. One thread.
 */
#ifndef ANABRANCH_TESTS_CORE_FIXTURE_H
#define ANABRANCH_TESTS_CORE_FIXTURE_H

#include "replication/actions.h"
#include "replication/backends.h"
#include "replication/multimaster/message.h"

#define FIX_MS 1000000ull
#define FIX_WALL 5000u /* unix seconds at create */

typedef struct fixture {
    const ab_backend *backend;
    void *core;
    uint64_t now;
    ab_actions actions; /* of the last step */
    int code;           /* of the last step */
} fixture;

/** Defaults for a member of {1, 2, 3}: window of 4 blocks, retry 100 to 800 ms, gossip 20 ms. */
ab_core_init fix_init(uint32_t self);

/** Creates the core; fails the test if that fails. */
void fix_open(fixture *f, const ab_backend *backend, const ab_core_init *init);
void fix_close(fixture *f);

/** Steps; the actions of the step replace those of the one before. @return the step's code */
int fix_step(fixture *f, const ab_event *event);
int fix_simple(fixture *f, ab_event_type type, uint32_t peer);
int fix_mark(fixture *f, ab_event_type type, ab_stream stream, uint64_t index);
int fix_block(fixture *f, ab_event_type type, uint32_t peer, const ab_block_info *block);
int fix_message(fixture *f, uint32_t peer, const ab_mm_message *message);
int fix_have(fixture *f, uint32_t peer, uint32_t flags, const ab_mm_have *haves, uint32_t count);
int fix_sent(fixture *f, uint32_t peer, ab_stream stream, uint64_t upto, uint32_t blocks, int code);
/** Moves the time to the deadline (fails if there is none) and fires the timer. */
int fix_timer(fixture *f);

/** The n-th action (from 0) of that type of the last step; NULL if there is none. */
const ab_action *fix_action(const fixture *f, ab_action_type type, size_t n);
size_t fix_count(const fixture *f, ab_action_type type);
/** The n-th message of that kind to `peer` in the last step, decoded; false if there is none. */
bool fix_said(const fixture *f, uint32_t peer, ab_mm_kind kind, size_t n, ab_mm_message *message);
/** What the last message HAVE to `peer` says of a stream. */
bool fix_said_have(const fixture *f, uint32_t peer, ab_stream stream, ab_mm_have *have);

/** A block; hash 100 * epoch + last, prev_hash of the block that ends at first - 1 (0 for the first). */
ab_block_info fix_info(ab_stream stream, uint64_t first, uint64_t last);

/** A local block sealed, logged and durable: the actions are those of the LOGGED step. */
void fix_write(fixture *f, ab_stream stream, uint64_t first, uint64_t last);

/** Links up and full HAVEs taken from `peer`, which has nothing. */
void fix_link(fixture *f, uint32_t peer);

#endif
