/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file group.h
 * A group on this node: writes, reads, state.
 *
 * Read this first:
 *  - Writes are copied once, when they are called; the caller's memory is free when the call returns.
 *  - An asynchronous call that returns AB_OK completes exactly once, also when the group or the node is
 * closed, with AB_ECLOSED if its outcome is unknown. One that returns an error never calls back.
 *  - Completions run on the node's completion thread, one at a time: keep them short, never block in them.
 * Calling ab_write() from one is fine (with `wait_ms` 0).
 *  - Callbacks (completions, log lines, the `fn` of listings and metrics) are called without locks of the library and may
 * call whatever does not block: writes and reads with a completion, status, listings, messages. Not: opening and closing,
 * and what says "not from callbacks".
 *  - Closing completes what is pending on the thread that closes, reads too.
 *  - A state machine's `open` must not open another group of the same node.
 *  - AB_ETIMEDOUT is not a refusal: the write is queued or stored here, and goes on.
 */
#ifndef ANABRANCH_GROUP_H
#define ANABRANCH_GROUP_H

#include <anabranch/config.h>
#include <anabranch/error.h>
#include <anabranch/node.h>
#include <anabranch/statemachine.h>
#include <anabranch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Opens a group: state machine first, then what the log has beyond it is applied in the background. Reads from the disk;
 * where very many are opened in a row, waits for the log now and then, a tenth of a second at most.
 * @param config  copied
 * @param sm      the table; must stay valid until the group is closed
 * @param ctx     passed to the functions of `sm`
 * @return AB_OK, AB_ECONFIG, AB_EEXIST (open already), AB_ENOTFOUND (unknown backend), what `sm->open`
 * returned, AB_ECORRUPT, AB_EIO, AB_ENOMEM, AB_ECLOSED
 */
AB_API int ab_group_open(ab_node *node, const ab_group_config *config, const ab_statemachine *sm, void *ctx,
                         ab_group **group, ab_message *message);

/** Closes it: flushes what was written, takes a checkpoint, completes everything pending, calls `sm->close`.
 * Blocks. The handle is gone afterwards. ab_node_close() closes all groups that are still open.
 *  @return AB_OK; AB_ETIMEDOUT (see ab_node_close) */
AB_API int ab_group_close(ab_group *group);

AB_API uint64_t ab_group_id(const ab_group *group);
AB_API const char *ab_group_name(const ab_group *group); /**< valid as long as the handle */

/** Finds an open group by id. The handle is borrowed. NULL if there is none. */
AB_API ab_group *ab_group_find(ab_node *node, uint64_t id);

/** Result of a write. */
typedef struct ab_write_result {
    int code;             /**< AB_OK; AB_ETIMEDOUT; AB_ECLOSED (outcome unknown); AB_ENOSPC, AB_EIO, AB_EBUSY,
                               AB_ENOMEM (refused, nothing is stored); AB_ECORRUPT, AB_EINTERNAL (the log
                               will not take it; the next ones go to a new stream) */
    ab_write_level level; /**< highest level known to hold; AB_WRITE_DEFAULT if none */
    ab_stream stream;     /**< where it was put; zero where code says it was not, or is not known yet */
    uint64_t first;       /**< index of the first entry */
    uint64_t last;        /**< index of the last entry */
    uint64_t hlc;         /**< hlc of the last entry; entry k of n of one call has hlc - (n - 1 - k) */
} ab_write_result;

/** Completion of a write; `result` is borrowed for the call. */
typedef void (*ab_write_fn)(void *arg, const ab_write_result *result);

/** Options of a write. NULL stands for all zero. */
typedef struct ab_write_options {
    ab_write_level level;
    uint32_t timeout_ms; /**< complete with AB_ETIMEDOUT after it; 0: never */
    uint32_t wait_ms; /**< if the queue is full: wait up to this for room in the call; 0: AB_EBUSY at once */
} ab_write_options;

/**
 * Writes one entry / `count` entries (consecutive in the stream, one completion for all).
 * Does not block unless `wait_ms` says so. `fn` may be NULL: nobody wants to know.
 * @return AB_OK: `fn` will be called; AB_EBUSY: queue full, even after wait_ms; AB_ETOOBIG: a payload above
 *         payload_max, or a call above queue_bytes; AB_ENOSPC; AB_ECLOSED; AB_EUNSUPPORTED: level not offered
 * by the backend; AB_ENOTLEADER; AB_EINVAL; AB_ENOMEM. On error nothing was stored.
 */
AB_API int ab_write(ab_group *group, const void *payload, size_t size, const ab_write_options *options,
                    ab_write_fn fn, void *arg);
AB_API int ab_write_many(ab_group *group, const ab_bytes *payloads, size_t count,
                         const ab_write_options *options, ab_write_fn fn, void *arg);

/** Blocking convenience: writes and waits for the completion; a full queue is waited for (up to timeout_ms;
 * 0: for ever). Where the log is idle, the calling thread commits to it itself (durability `sync`), which is faster
 * than to have it done. `result` may be NULL. Not from callbacks. @return result->code, or an error as ab_write(). */
AB_API int ab_write_wait(ab_group *group, const ab_bytes *payloads, size_t count,
                         const ab_write_options *options, ab_write_result *result);

/** A session token: what its holder has seen. Sorted marks, owned by the caller; merge with ab_token_*. */
typedef struct ab_token ab_token;
AB_API ab_token *ab_token_new(void); /**< NULL: out of memory */
AB_API void ab_token_free(ab_token *token);
AB_API int ab_token_merge(ab_token *token, ab_frontier seen);                  /**< AB_OK, AB_ENOMEM */
AB_API int ab_token_saw_write(ab_token *token, const ab_write_result *result); /**< AB_OK, AB_ENOMEM */
AB_API ab_frontier ab_token_frontier(const ab_token *token); /**< view, until the token changes */

/** Options of a read. NULL stands for all zero. */
typedef struct ab_read_options {
    ab_read_level level;
    const ab_token *token; /**< for AB_READ_SESSION; copied */
    uint32_t timeout_ms;   /**< 0: never */
    uint32_t bound_ms;     /**< for AB_READ_BOUNDED */
} ab_read_options;

/** Result of a read. */
typedef struct ab_read_result {
    int code; /**< AB_OK, AB_ETIMEDOUT, AB_ESTALE, AB_ECLOSED, what the state machine's query returned */
    bool possibly_stale;  /**< AB_READ_MID fell back to local state */
    ab_frontier frontier; /**< applied when it ran; borrowed for the call */
    const void *reply;    /**< what `query` gave; borrowed; NULL for a barrier */
    size_t reply_size;
} ab_read_result;

typedef void (*ab_read_fn)(void *arg, const ab_read_result *result);

/** Calls `fn` once the local state machine satisfies the level. Does not block. `fn` runs on an apply thread.
 *  @return AB_OK: `fn` will be called; AB_EUNSUPPORTED: level not offered by the backend yet; AB_EINVAL;
 * AB_ECLOSED; AB_ENOMEM */
AB_API int ab_read_barrier(ab_group *group, const ab_read_options *options, ab_read_fn fn, void *arg);

/** The same, then asks the state machine's `query` (request copied). */
AB_API int ab_query(ab_group *group, const void *request, size_t size, const ab_read_options *options,
                    ab_read_fn fn, void *arg);

/** Blocking barrier. Not from callbacks. @return AB_OK or the result's code */
AB_API int ab_read_wait(ab_group *group, const ab_read_options *options);

/** Digest of the state machine and the frontier it stands for. Blocks while the apply thread gets to it.
 *  @param token  gets the frontier merged in; may be NULL
 *  @return AB_OK, AB_EUNSUPPORTED, AB_ETIMEDOUT, AB_ECLOSED, AB_ENOMEM, what `digest` returned */
AB_API int ab_group_digest(ab_group *group, uint32_t timeout_ms, ab_digest *digest, ab_token *token);

/** An entry that the state machine refused for good (AB_EREJECT), or a run of entries that cannot be decoded though the
 * checksum of their block holds (AB_ECORRUPT: the node that wrote them is at fault, and every replica has them so). A copy
 * of it is kept with the log, also when the log itself is trimmed; it survives restarts and crashes like any entry.
 * Quarantine belongs to this replica alone. */
typedef struct ab_quarantined {
    ab_entry entry; /**< AB_ECORRUPT: the first of the run; its payload is all that stands there, undecoded */
    uint64_t refused_ms; /**< when, by the wall clock; Unix time in ms */
    uint64_t last;       /**< index of the last entry of the run; else that of the entry */
    int code;            /**< AB_EREJECT, AB_ECORRUPT */
} ab_quarantined;

/** Takes one; `record` and the payload are borrowed for the call. False stops. */
typedef bool (*ab_quarantine_fn)(void *arg, const ab_quarantined *record);

/** Calls `fn` for each quarantined entry; those of one stream in order. Any thread; reads from disk, without locks: `fn`
 * may call the functions below. @return AB_OK; AB_ECORRUPT (some records are damaged, the others were listed);
 * AB_EINVAL; AB_ENOMEM; AB_EIO */
AB_API int ab_quarantine_list(const ab_group *group, ab_quarantine_fn fn, void *arg);

/** Calls `fn` with one quarantined entry. @return AB_OK; AB_ENOTFOUND: it is not in quarantine; AB_ECORRUPT; AB_EINVAL;
 * AB_ENOMEM; AB_EIO */
AB_API int ab_quarantine_get(const ab_group *group, ab_stream stream, uint64_t index, ab_quarantine_fn fn,
                             void *arg);

/**
 * Gives a quarantined entry to the state machine again: alone, on the apply thread, with the frontier as it is now, which
 * contains the entry already. Its place in the order is lost: entries that came after it were applied before it. A state
 * machine that decides conflicts by (hlc, node) ends as if it had come in time; one that goes by order does not. When
 * it was applied a checkpoint is taken and only then is it removed from quarantine: a crash or a close in between leaves
 * it there, and it may then be applied once more (at least once, not exactly once). Blocks. Not from callbacks.
 * @param timeout_ms  0: for ever
 * @return AB_OK: applied and removed; AB_EREJECT: refused again, stays; AB_ENOTFOUND: it is not in quarantine;
 *         AB_ETIMEDOUT: the apply thread is busy, it will still be tried, or applied and not yet removed; AB_ECLOSED;
 *         AB_ECORRUPT (damaged, or it cannot be decoded); AB_ENOMEM; AB_ENOSPC; AB_EIO; AB_EINVAL; what `apply` or `checkpoint` returned: stays
 */
AB_API int ab_quarantine_retry(ab_group *group, ab_stream stream, uint64_t index, uint32_t timeout_ms);

/**
 * Removes an entry from quarantine for good, after a checkpoint: this replica then never has it. (A state machine that
 * makes nothing durable gets it again with everything else after a restart, and may refuse it again.) Blocks. Not from
 * callbacks. @return as ab_quarantine_retry(), but never AB_EREJECT
 */
AB_API int ab_quarantine_drop(ab_group *group, ab_stream stream, uint64_t index, uint32_t timeout_ms);

/** State of a group on this node. */
typedef struct ab_group_status {
    uint64_t id;
    char name[AB_NAME_MAX + 1];
    char backend[AB_NAME_MAX + 1];
    uint32_t members;
    ab_stream stream;        /**< where local writes go */
    uint64_t last_index;     /**< of that stream, logged */
    uint64_t queued_entries; /**< written, not yet logged */
    uint64_t queued_bytes;
    uint64_t apply_blocks;    /**< logged, waiting for the state machine */
    uint64_t applied_entries; /**< since it was opened */
    uint64_t
        quarantined; /**< entries refused for good by the state machine, or not to be decoded, still kept */
    uint64_t skewed; /**< remote blocks whose clock was too far ahead to be merged */
    int write_code;  /**< AB_OK, or why writes are refused now */
    int apply_code;  /**< AB_OK, or what `apply` last returned while it is being retried */
} ab_group_status;

AB_API void ab_group_get_status(const ab_group *group, ab_group_status *status);

/** Streams of the group, and peers x streams, as the backend sees them (see backend.h). `fn` is called without
 * locks; what it gets was copied before. */
AB_API void ab_group_streams(const ab_group *group, ab_stream_status_fn fn, void *arg);

/** One peer and stream with its lag. */
typedef struct ab_sync_status {
    ab_peer_status peer;
    uint64_t lag_entries; /**< logged here, not confirmed by the peer; trimmed ones count as confirmed */
    uint64_t lag_bytes;   /**< of their blocks, approximately: by the mean size of entries */
    uint64_t lag_ms;      /**< age of the oldest unconfirmed entry; 0 if none */
} ab_sync_status;

typedef bool (*ab_sync_fn)(void *arg, const ab_sync_status *status);
AB_API void ab_group_syncs(const ab_group *group, ab_sync_fn fn, void *arg);

/** Calls `fn` for each group of the node that was open when this was called, until it returns false. `fn` is called without
 * locks, and `group` is valid for the call; it must not close groups. */
typedef bool (*ab_group_fn)(void *arg, ab_group *group);
AB_API void ab_group_list(ab_node *node, ab_group_fn fn, void *arg);

#ifdef __cplusplus
}
#endif
#endif
