/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file types.h
 * The vocabulary of Anabranch: streams, indexes, frontiers, entries, levels. Plain values, no functions that
 * block, no dependency on anything else of the library; every layer may include it.
 */
#ifndef ANABRANCH_TYPES_H
#define ANABRANCH_TYPES_H

#include <anabranch/export.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The writes of one origin in one group. In raft the group's single log is the stream {0, 1}. */
typedef struct ab_stream {
    uint32_t node; /**< node_id of the origin, not 0 (0 only for raft's single log) */
    uint32_t
        epoch; /**< changes when the origin may have lost its tail; an index is never reused in one epoch */
} ab_stream;

/** A position in a stream: everything from 1 up to and with `index`. */
typedef struct ab_mark {
    ab_stream stream;
    uint64_t index; /**< 1, 2, 3, ... without gaps; 0 means "nothing" */
} ab_mark;

/**
 * A frontier: for each stream the highest index up to which a member has everything. A view: `marks` is
 * borrowed from whoever made it, sorted by (node, epoch), without duplicates and without marks of index 0.
 */
typedef struct ab_frontier {
    const ab_mark *marks;
    size_t count;
} ab_frontier;

/** One entry as a state machine or an inspector sees it. `payload` is borrowed for the duration of the call.
 */
typedef struct ab_entry {
    ab_stream stream;
    uint64_t index;
    uint64_t hlc;  /**< hybrid logical clock: milliseconds since 1970 << 16 | counter; (hlc, stream.node) is a
                      total order */
    uint64_t term; /**< raft only, else 0 */
    const void *payload;
    size_t size; /**< bytes in payload; 0 is allowed */
} ab_entry;

/** A run of bytes that somebody else owns. */
typedef struct ab_bytes {
    const void *data;
    size_t size;
} ab_bytes;

/** When a write returns. Narrower settings win: call over group over node. */
typedef enum ab_write_level {
    AB_WRITE_DEFAULT = 0, /**< as set for the group, else for the node, else `local` */
    AB_WRITE_MEMORY = 1,  /**< queued on this node; survives nothing */
    AB_WRITE_LOCAL = 2,   /**< durable on this node (as far as its durability setting goes) */
    AB_WRITE_QUORUM = 3,  /**< durable on a majority of active members */
    AB_WRITE_ALL = 4      /**< durable on all active members */
} ab_write_level;

/** What a read may see. Narrower settings win: call over group over node. */
typedef enum ab_read_level {
    AB_READ_DEFAULT = 0,   /**< as set for the group, else for the node, else `weak` */
    AB_READ_WEAK = 1,      /**< local state as it is */
    AB_READ_SESSION = 2,   /**< local state includes everything the caller's token has seen */
    AB_READ_BOUNDED = 3,   /**< not staler than a bound, or AB_ESTALE */
    AB_READ_MONOTONIC = 4, /**< no read ever goes back, across clients and failures */
    AB_READ_MID = 5,       /**< strong for the timeout, then local state marked possibly stale */
    AB_READ_STRONG = 6     /**< includes every write acknowledged at quorum or all before the read began */
} ab_read_level;

/** How hard the log of a node is written. */
typedef enum ab_durability {
    AB_DURABILITY_SYNC = 0, /**< every commit reaches the disk before anyone is told */
    AB_DURABILITY_INTERVAL =
        1,                 /**< one commit per interval; a crash of any kind loses at most what came since */
    AB_DURABILITY_NONE = 2 /**< never forced to disk: a power cut may lose or damage everything */
} ab_durability;

/** In which order a multimaster group applies entries of different streams. */
typedef enum ab_apply_order {
    AB_APPLY_CAUSAL = 0, /**< an entry never overtakes what its origin had applied before it (default) */
    AB_APPLY_ARRIVAL = 1 /**< as they arrive; only the order inside each stream holds */
} ab_apply_order;

/** Severity of a log line. */
typedef enum ab_severity { AB_LOG_DEBUG = 0, AB_LOG_INFO = 1, AB_LOG_WARN = 2, AB_LOG_ERROR = 3 } ab_severity;

/** Largest payload that any configuration may allow, bytes. Blocks and frames are sized after it. */
#define AB_PAYLOAD_MAX (16u * 1024 * 1024)

/** Largest encoded block, bytes: one maximal payload plus header, entry framing and a frontier of
 * AB_MARKS_MAX. */
#define AB_BLOCK_MAX (AB_PAYLOAD_MAX + 512u * 1024)

/** Most marks in one frontier (members x epochs not yet folded away). */
#define AB_MARKS_MAX 4096u

/** Most members of one group. */
#define AB_MEMBERS_MAX 64u

/** Longest group, cluster or backend name, bytes without the NUL. */
#define AB_NAME_MAX 63u

#ifdef __cplusplus
}
#endif
#endif
