/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file statemachine.h
 * The table of functions through which a group drives the user's code.
 *
 * Read this first:
 *  - All functions of one state machine are called one at a time; most on an apply thread of the node, `open`
 * on the thread that calls ab_group_open(), `close` on the thread that closes the group. None needs a lock of
 * its own against the others.
 *  - A slow `apply` delays only groups on the same apply thread; never the log, the network or the callers of
 * writes.
 *  - Exactly once: store the frontier `after` in the same transaction as the data, return it from `open`. One
 * that stores nothing returns an empty frontier and gets everything again that the log still has.
 *  - None of these functions may close the node or the group, or make a blocking call (ab_write_wait,
 *    ab_read_wait) on its own group: that deadlocks.
 */
#ifndef ANABRANCH_STATEMACHINE_H
#define ANABRANCH_STATEMACHINE_H

#include <anabranch/error.h>
#include <anabranch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ab_group ab_group;

/** Collects marks; the library owns it. Used by `open` and `checkpoint` to hand over a frontier. */
typedef struct ab_frontier_out ab_frontier_out;

/** Adds one mark; any order. @return AB_OK, AB_ENOMEM, AB_EINVAL (a second mark for the same stream) */
AB_API int ab_frontier_add(ab_frontier_out *out, ab_mark mark);

/** Collects an answer; the library owns it. Used by `query`. */
typedef struct ab_reply ab_reply;

/** Appends bytes (copied) to the answer. @return AB_OK or AB_ENOMEM */
AB_API int ab_reply_append(ab_reply *reply, const void *data, size_t size);

/** Where `snapshot_save` writes to. */
typedef struct ab_sink ab_sink;

/** Writes a piece of a snapshot; may block while the receiver is slow. @return AB_OK, AB_ECLOSED, AB_EIO */
AB_API int ab_sink_write(ab_sink *sink, const void *data, size_t size);

/** Where `snapshot_load` reads from. */
typedef struct ab_source ab_source;

/** Reads up to `size` bytes; *got = 0 at the end. May block. @return AB_OK, AB_ECLOSED, AB_ECORRUPT, AB_EIO
 */
AB_API int ab_source_read(ab_source *source, void *data, size_t size, size_t *got);

/** Version of struct ab_statemachine that this header describes. */
#define AB_STATEMACHINE_VERSION 1u

/** A digest: equal on two members if and only if (to 2^-64) their states are equal. */
typedef struct ab_digest {
    uint8_t bytes[16];
} ab_digest;

/** The state machine's table. `ctx` is what was given to ab_group_open(). Entries marked optional may be
 * NULL. */
typedef struct ab_statemachine {
    uint32_t version; /**< AB_STATEMACHINE_VERSION */

    /** Opens it; adds to `durable` what it has durable (nothing: start from the beginning of the log).
     *  Optional. @return AB_OK or an error, which ab_group_open() returns. */
    int (*open)(void *ctx, ab_group *group, ab_frontier_out *durable);

    /** Applies `count` entries in order (0: only the frontier moves). `after` is the frontier once all of
     * them are applied (store it whole in the place of the one before: of an origin's old streams that every
     * member has for good only the last one stays in it). All or nothing: when it returns an error, nothing of
     * the call may have taken effect.
     *  @param failed  on error: position in `entries` of the entry at fault (0 if none in particular)
     *  @return AB_OK;
     *          AB_EREJECT: that entry can never be applied: it is quarantined (kept, counted, shown), the
     * others follow; ab_quarantine_retry() brings it again, alone, with an `after` that contains it already;
     *          AB_ERETRY or any other error: the same entries come again after a back-off (10 ms doubling to
     * 5 s). */
    int (*apply)(void *ctx, const ab_entry *entries, size_t count, ab_frontier after, size_t *failed);

    /** Answers a query that ab_query() brought; bytes in, bytes out. Optional (AB_EUNSUPPORTED). */
    int (*query)(void *ctx, const void *request, size_t size, ab_reply *reply);

    /** Makes durable what was applied so far and adds the frontier that is durable now. Until it is called,
     * `apply` need not sync. The log is trimmed only below this. Optional: nothing is ever durable, nothing
     * trimmed. */
    int (*checkpoint)(void *ctx, ab_frontier_out *durable);

    /** Writes the whole state as a stream of bytes. Optional; not called by this version. */
    int (*snapshot_save)(void *ctx, ab_sink *sink, ab_frontier_out *frontier);

    /** Replaces the whole state by what `source` gives, with `frontier`. Optional; not called by this
     * version. */
    int (*snapshot_load)(void *ctx, ab_source *source, ab_frontier frontier);

    /** Digest of the whole state, independent of the order in which entries came. Optional (AB_EUNSUPPORTED).
     */
    int (*digest)(void *ctx, ab_digest *digest);

    /** The last call. Optional. */
    void (*close)(void *ctx);
} ab_statemachine;

#ifdef __cplusplus
}
#endif
#endif
