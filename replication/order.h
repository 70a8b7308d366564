/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file order.h
 * In which order logged blocks are given to the state machine: per stream in order, across streams by the
 * dependency marks. Part of a core: one call at a time, no I/O.
 *
 * A block is given (AB_ACT_APPLY) when it is durable here, the next of its stream, and everything it depends on was
 * given before. "Durable here" costs nothing under `sync` and at most one interval under `interval`; in return
 * a state machine never has more durable than its log could have, and a dependency mark never names an entry
 * that its origin could lose in a crash (replication/README.md has the argument).
 *
 * Only HELD infos per stream are kept, and only GIVEN blocks are with the state machine at a time. The rest stays in
 * the log and is read back with AB_ACT_LOAD: recovery and a slow state machine are one mechanism, and a stuck
 * one costs bounded memory.
 */
#ifndef ANABRANCH_REPLICATION_ORDER_H
#define ANABRANCH_REPLICATION_ORDER_H

#include "replication/folds.h"
#include <anabranch/backend.h>

#define AB_ORDER_HELD 128u                   /* infos held per stream */
#define AB_ORDER_GIVEN 32u                   /* blocks given and not yet applied, per group */
#define AB_ORDER_GIVEN_BYTES (8ull << 20)    /* the same in bytes; one block may exceed it */
#define AB_ORDER_LOAD_BLOCKS 64u             /* infos asked for at once */
#define AB_ORDER_RELOAD_NS 100000000ull      /* wait after a read that gave nothing */
#define AB_ORDER_LOAD_LOST_NS 60000000000ull /* an answer that takes longer will not come */

/** A logged block that was not given yet. */
typedef struct ab_order_info {
    uint64_t first;
    uint64_t last;
    uint64_t hash;
    uint64_t prev_hash;
    ab_mark *deps; /* owned */
    uint32_t dep_count;
    uint32_t bytes;
} ab_order_info;

/** One stream as its log and its state machine have it. Freed with free() after ab_order_stream_clear(). */
typedef struct ab_order_stream {
    ab_stream stream;
    uint64_t base;      /* trimmed up to when the group was opened, or asked to be trimmed since */
    uint64_t base_hash; /* 0: not known */
    uint64_t last;      /* logged up to */
    uint64_t last_hash;
    uint64_t durable;
    uint64_t given;
    uint64_t applied;
    uint64_t checkpointed;
    uint64_t bad_first;  /* lowest damaged range, 0: none; not given beyond it */
    uint64_t ended;      /* nothing of it exists beyond, or ever will; AB_NEVER: it goes on */
    uint64_t load_at;    /* an AB_ACT_LOAD from here is under way; 0: none */
    uint64_t load_again; /* not before; while one is under way: given up then */
    ab_order_info *held; /* consecutive, the first one holds given + 1 */
    uint16_t held_start;
    uint16_t held_count;
    uint16_t held_capacity;
    bool shut : 1;    /* nothing of it is given for now; in bits: idle groups keep little */
    bool ignored : 1; /* histories differ: what depends on it does not wait */
    bool broken : 1;  /* what follows its end here is lost: what depends on that does not wait */
    bool stalled : 1; /* what it lacks nobody can give: for ab_order_wants_news() */
} ab_order_stream;

typedef struct ab_order_given {
    ab_order_stream *stream;
    uint64_t last;
    uint32_t bytes;
} ab_order_given;

typedef struct ab_order {
    ab_order_stream **streams; /* sorted */
    uint32_t count;
    uint32_t capacity;
    ab_folds folds;       /* old streams that are no longer among them */
    ab_order_given *ring; /* of AB_ORDER_GIVEN; NULL while nothing is given */
    uint32_t ring_start;
    uint32_t ring_count;
    uint64_t ring_bytes;
    uint32_t turn; /* stream that is looked at first */
    bool causal;
    bool blocked; /* something is there that waits for what is not: set by ab_order_pump() */
    bool force;   /* nobody will bring what is missing: dependencies on absent entries do not count */
} ab_order;

/** Frees what it holds, not the streams' own memory: the caller frees each after ab_order_stream_clear(). */
void ab_order_free(ab_order *order);
void ab_order_stream_clear(ab_order_stream *stream);

/** NULL if unknown. */
ab_order_stream *ab_order_find(const ab_order *order, ab_stream stream);

/** Adds a stream (zeroed but for `stream`, allocated by the caller). @return AB_OK, AB_ENOMEM, AB_ETOOBIG */
int ab_order_add(ab_order *order, ab_order_stream *stream);

/** Takes a stream out; the caller clears and frees it. Nothing of it may be with the state machine. */
void ab_order_remove(ab_order *order, const ab_order_stream *stream);

/** Whether the stream has ended, and log and state machine have all of it for good. */
bool ab_order_is_over(const ab_order *order, const ab_order_stream *stream);

/** Sets a stream from what the log has when the group is opened. */
void ab_order_open(ab_order_stream *stream, const ab_stream_state *state);

/** Tells the operator of streams whose beginning is trimmed while the state machine does not have it.
 * @return AB_OK, AB_ENOMEM */
int ab_order_report_gaps(const ab_order *order, ab_actions *actions);

/** Whether that is so. */
bool ab_order_has_gap(const ab_order_stream *stream);

/** Notes a logged block that follows `last`; holds its info if there is room. Cannot fail: what is not held
 * is read back. */
void ab_order_logged(ab_order_stream *stream, const ab_block_info *block);

/** The log took back what it had announced beyond `last`, which was not durable. */
void ab_order_cut(ab_order_stream *stream, uint64_t last, uint64_t last_hash);

/** Goes on after first ... last, which nobody has any more, once the state machine has all before it.
 *  @return false: not yet */
bool ab_order_pass(ab_order_stream *stream, uint64_t first, uint64_t last);

/** The driver let go of all blocks that were given and are not applied: they will be given again. Of the oldest the state
 * machine may have a part: it has that block's stream up to `has`. */
void ab_order_take_back(ab_order *order, ab_mark has);

/** The stream has another history beyond `index` from now on, where `hash` ends it: what was known of it beyond, and what
 * the state machine had of it, counts no more. Nothing of it may be with the state machine or asked for. */
void ab_order_rewind(ab_order_stream *stream, uint64_t index, uint64_t hash);

/** The state machine has the stream up to `index` already, of which nothing was given yet. */
void ab_order_skip(ab_order_stream *stream, uint64_t index, uint64_t checkpointed);

/** Takes the answer to AB_ACT_LOAD. @return AB_OK, AB_EINVAL (no such question) */
int ab_order_loaded(ab_order_stream *stream, const ab_event *event, uint64_t now);

/** Moves the stream's applied mark and makes room. @return AB_OK, AB_EINVAL (more than was given) */
int ab_order_applied(ab_order *order, ab_order_stream *stream, uint64_t index);

/** Gives what may be given and asks for what must be read back. @return AB_OK, AB_ENOMEM */
int ab_order_pump(ab_order *order, uint64_t now, ab_actions *actions);

/** Whether a block waits for what is not in the log here, and may come: not where a stream is `stalled`, nor for what is here
 * and waits itself. */
bool ab_order_wants_news(const ab_order *order);

/** When ab_order_pump() should be called without another reason. */
uint64_t ab_order_deadline(const ab_order *order);

/** Whether the local state machine has applied all of `frontier`; what is lost for good never is. */
bool ab_order_has_applied(const ab_order *order, ab_frontier frontier);

/** Infos held over all streams. */
size_t ab_order_held(const ab_order *order);

#endif
