/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file wal.h
 * The log of a node on LMDB. Knows blocks, small state and trimming; knows nothing of protocols, threads or
 * sockets.
 *
 * Read this first:
 *  - One writer: ab_wal_commit() must not run twice at a time. Reads may run on any thread beside it.
 *  - Everything in one ab_wal_commit() happens or nothing does; with AB_DURABILITY_SYNC it is on disk when it
 * returns.
 *  - No read transaction outlives a call: blocks are copied out.
 *  - Every read of a block checks its key against its header and its checksum.
 *
 * Files in the directory: data.mdb, lock.mdb (LMDB), LOCK (held with an open file description lock by the
 * process that has it open; contains its pid). Database "blocks": key (group u64, stream node u32, stream
 * epoch u32, first index u64) big-endian, value: the block. Database "state": key (group u64 big-endian,
 * name), value: bytes; group 0 is the node's own: "format", "store_id", "file" (device, inode), "tail" (how
 * the last run wrote and whether it was closed), ... and of a group, written by the log itself: "base/" +
 * stream: index and hash up to which the stream was trimmed.
 */
#ifndef ANABRANCH_WAL_WAL_H
#define ANABRANCH_WAL_WAL_H

#include "wal/block.h"
#include <anabranch/backend.h>
#include <anabranch/error.h>
#include <anabranch/types.h>

#define AB_WAL_FORMAT 1u

typedef struct ab_wal ab_wal;

typedef struct ab_wal_options {
    ab_durability durability; /**< SYNC: commits are synced. INTERVAL: commits are synced too (the caller
                                 spaces them). NONE: MDB_NOSYNC */
    uint64_t max_bytes; /**< ceiling of used bytes; appends beyond it are AB_ENOSPC, trims and state still
                           work in a reserve above it */
    uint64_t
        map_bytes;  /**< initial map; 0: chosen from max_bytes once for all (64-bit). When it is full the map
                       is  doubled and the commit repeated, up to what max_bytes needs: no commit fails of it */
    bool read_only; /**< offline inspection: changes not one byte, takes no lock file entry; refuses
                       (AB_ELOCKED) while another process has the directory open */
} ab_wal_options;

/** What the open found. */
typedef struct ab_wal_origin {
    uint8_t store_id[16];
    bool created;   /**< the directory was new */
    bool tail_safe; /**< the last run wrote `sync` throughout or was closed in order, and the data file is the
                       one it wrote (device and inode) */
} ab_wal_origin;

/**
 * Opens (and makes, unless read_only) the log in `dir`. Blocks; constant memory, time independent of the
 * log's size.
 * @return AB_OK, AB_ELOCKED (message: pid), AB_EVERSION, AB_ECORRUPT, AB_ENOTFOUND (read_only: no log there),
 *         AB_EIO, AB_ENOSPC, AB_ENOMEM
 */
int ab_wal_open(const char *dir, const ab_wal_options *options, ab_wal **wal, ab_wal_origin *origin,
                ab_message *message);

/** Closes; in order: the next open finds tail_safe. NULL is allowed. */
void ab_wal_close(ab_wal *wal);

/** Latest error in words (errno text, path, what to do). */
void ab_wal_message(const ab_wal *wal, ab_message *message);

typedef enum ab_wal_op_type {
    AB_WAL_PUT_BLOCK =
        1, /**< append `data` (a sealed block); must follow its stream's last in index and chain */
    AB_WAL_PUT_STATE = 2, /**< set `key` of `group` to `data` */
    AB_WAL_DEL_STATE = 3, /**< remove `key` of `group`; no error if it is not there */
    AB_WAL_TRIM = 4, /**< delete whole blocks of `stream` that end at or below `index`, oldest first, at most
                          `limit` blocks; moves the stream's base. `done` gets what was deleted */
    AB_WAL_REPLACE_BLOCK = 5 /**< put `data` over the block with the same key (repair of a damaged one): first
                                and last must agree with its neighbours and chain */
} ab_wal_op_type;

typedef struct ab_wal_op {
    ab_wal_op_type type;
    uint64_t group;
    ab_stream stream;
    uint64_t index;
    uint32_t limit;
    ab_bytes key;
    ab_bytes data;
    uint32_t done;       /**< out, TRIM: blocks deleted; less than `limit` means: nothing left to trim */
    uint64_t done_index; /**< out, TRIM: the stream's base now */
} ab_wal_op;

/**
 * Carries out `count` operations in one transaction.
 * @param failed  position of the operation at fault, or `count`; may be NULL
 * @return AB_OK; AB_ENOSPC (disk full or ceiling: nothing changed, try again when there is room); AB_EIO (the
 * same); AB_EINVAL (an operation breaks order or chain: a bug of the caller); AB_ENOMEM. On error nothing
 * changed.
 */
int ab_wal_commit(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed);

/** Where a read puts a block: returns `size` bytes of memory or NULL. Called once per block, outside of any
 *  transaction that the log could not retry. */
typedef void *(*ab_wal_alloc_fn)(void *arg, size_t size);

/**
 * Copies out the block that holds `index`. @return AB_OK; AB_ENOTFOUND (beyond the end, or unknown stream);
 * AB_ETRIMMED; AB_ECORRUPT (`header->first`, `last` tell the damaged range as far as it is known: from the
 * key to the next key); AB_ENOMEM; AB_EIO
 */
int ab_wal_read(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, ab_wal_alloc_fn alloc,
                void *arg, ab_block_header *header, void **data, size_t *size);

/** Calls `fn` with the state of every stream of every group (or of `group` if not 0), in key order, until it
 * returns false. Seeks from stream to stream: does not walk the blocks. */
typedef bool (*ab_wal_stream_fn)(void *arg, uint64_t group, const ab_stream_state *state);
int ab_wal_streams(ab_wal *wal, uint64_t group, ab_wal_stream_fn fn, void *arg);

/** Small state. `data` gets a malloc'ed copy. @return AB_OK, AB_ENOTFOUND, AB_ENOMEM, AB_EIO */
int ab_wal_state_get(ab_wal *wal, uint64_t group, ab_bytes key, void **data, size_t *size);
/** All state of `group` whose key begins with `prefix`; `fn` gets borrowed bytes, false stops. */
typedef bool (*ab_wal_state_fn)(void *arg, uint64_t group, ab_bytes key, ab_bytes value);
int ab_wal_state_each(ab_wal *wal, uint64_t group, ab_bytes prefix, ab_wal_state_fn fn, void *arg);

/** Groups that the log knows (by blocks or state), each once, ascending. */
typedef bool (*ab_wal_group_fn)(void *arg, uint64_t group);
int ab_wal_groups(ab_wal *wal, ab_wal_group_fn fn, void *arg);

/** Use of space. */
typedef struct ab_wal_usage {
    uint64_t used_bytes; /**< pages in use */
    uint64_t file_bytes; /**< size of data.mdb */
    uint64_t map_bytes;
    uint64_t commits; /**< since open */
} ab_wal_usage;
void ab_wal_usage_get(ab_wal *wal, ab_wal_usage *usage);

/** What verification found wrong at one place. */
typedef struct ab_wal_fault {
    uint64_t group;
    ab_stream stream;
    uint64_t first, last; /**< range of indexes concerned, as far as known */
    int code;             /**< AB_ECORRUPT, AB_EDIVERGED (chain), AB_EVERSION */
    const char *what;     /**< in words; borrowed */
} ab_wal_fault;
/** Return false to stop. `total` blocks is an estimate for progress. `fault` is NULL for a progress call. */
typedef bool (*ab_wal_verify_fn)(void *arg, const ab_wal_fault *fault, uint64_t blocks, uint64_t total);

/** Walks everything: key against header, checksum, continuity, chain, every entry; state: base marks against
 * blocks. Beside a writer it sees a consistent moment per short transaction.
 *  @return AB_OK (nothing wrong), AB_ECORRUPT (faults were reported), AB_ECLOSED (stopped by fn), AB_EIO,
 * AB_ENOMEM */
int ab_wal_verify(ab_wal *wal, ab_wal_verify_fn fn, void *arg);

#endif
