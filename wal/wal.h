/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file wal.h
 * The log of a node on LMDB. Knows blocks, small state and trimming; knows nothing of protocols, threads or
 * sockets.
 *
 * Read this first:
 *  - One writer: ab_wal_commit() must not run twice at a time. Reads may run on any thread beside it.
 *  - Everything in one ab_wal_commit() happens or nothing does; with AB_DURABILITY_SYNC it is on disk when it
 *    returns.
 *  - No read transaction outlives a call: blocks are copied out. Callbacks of listings run outside of any
 *    transaction and may call the log; a listing beside a writer is not one moment, each item is.
 *  - Every read of a block checks its key against its header and its checksum; every read of small state checks
 *    key and value against a checksum. What a stream's record says is the truth about its base and end: a block
 *    that is missing or damaged reads as AB_ECORRUPT, never as "the end".
 *  - Damage in LMDB's own pages is looked for at open, without LMDB (which would crash): the whole file's
 *    structure as long as the trees have at most 128 MB of pages (any log of blocks over a page; some 500,000
 *    blocks below that). Beyond it the tree of blocks is checked by ab_wal_verify() on a read_only log alone.
 *    Damage that comes to the file while it is open is seen in blocks and state, not in LMDB's pages.
 *  - A process that limits its file sizes (RLIMIT_FSIZE) has to ignore SIGXFSZ, or a full log ends it.
 *
 * Files in the directory: data.mdb, lock.mdb (LMDB), LOCK (held with an open file description lock by the
 * process that has it open; contains its pid). What is in them: docs/FORMATS.md.
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
    /** SYNC: commits are synced. INTERVAL: commits are synced, too (the caller spaces them). NONE: MDB_NOSYNC */
    ab_durability durability;
    /** Ceiling of bytes in use (pages; the file may be larger by pages that wait for reuse). Appends beyond it are
     * AB_ENOSPC; trims, repairs and state still work in a reserve above it. 0: no ceiling */
    uint64_t max_bytes;
    /** Initial map; 0: chosen from max_bytes once for all (64-bit). When it is full the map is doubled and the commit
     * repeated, up to what max_bytes needs: no commit fails of it */
    uint64_t map_bytes;
    /** Offline inspection: changes not one byte, takes no entry in LMDB's lock file. Refuses (AB_ELOCKED) while a
     * process has the directory open for writing, and keeps one from opening it; several may look at a time.
     * Opens with damaged small state, too: listings then end in AB_ECORRUPT */
    bool read_only;
} ab_wal_options;

/** What the open found. */
typedef struct ab_wal_origin {
    uint8_t store_id[16];
    bool created;   /**< there was no log */
    bool tail_safe; /**< the last run wrote `sync` throughout or was closed in order, and the data file is the
                       one it wrote (device and inode); false where `created` */
} ab_wal_origin;

/**
 * Opens (and makes, unless read_only) the log in `dir`. Blocks. Time: some 5 us per page of trees, at most about
 * 0.2 s; no block is read. Memory: one bit per page of the file while it runs.
 * @return AB_OK, AB_ELOCKED (message: pid), AB_EVERSION, AB_ECORRUPT, AB_ENOTFOUND (read_only: no log there),
 *         AB_EIO, AB_ENOSPC, AB_ENOMEM
 */
int ab_wal_open(const char *dir, const ab_wal_options *options, ab_wal **wal, ab_wal_origin *origin,
                ab_message *message);

/** Closes; in order: the next open finds tail_safe. NULL is allowed. */
void ab_wal_close(ab_wal *wal);

/** Closes as a crash would: something that others may have seen did not reach the log, so the next open must not find
 *  tail_safe (with AB_DURABILITY_SYNC it may: there nobody sees what is not in the log). NULL is allowed. */
void ab_wal_abandon(ab_wal *wal);

/** Latest error in words (errno text, path, what to do). */
void ab_wal_message(const ab_wal *wal, ab_message *message);

typedef enum ab_wal_op_type {
    /** Append `data` (a sealed block); must follow its stream's last in index and chain. Group and stream are the
     * block's own (`group` may be 0 or must agree). The very block that is in the log already counts as done, so that
     * a commit whose outcome is unknown can be repeated. Its checksum is not computed again */
    AB_WAL_PUT_BLOCK = 1,
    AB_WAL_PUT_STATE = 2, /**< set `key` (1 to 503 bytes, not "stream/...") of `group` to `data` */
    AB_WAL_DEL_STATE = 3, /**< remove `key` of `group`; no error if it is not there */
    /** Delete whole blocks of `stream` that end at or below `index`, oldest first, at most `limit` blocks; moves the
     * stream's base. `done` and `done_index` get what was done */
    AB_WAL_TRIM = 4,
    /** Put `data` in the place of a damaged or missing block (repair): first and last must agree with its neighbours
     * and with the chain as far as those are sound. A sound block is never replaced; the same one counts as done */
    AB_WAL_REPLACE_BLOCK = 5,
    /** Remove what is left of `stream`, sound or not: its blocks, at most `limit` of them, and, when none is left, its
     * record: then the log does not know it any more. `done` gets the number of blocks. No error if it is not there */
    AB_WAL_FORGET = 7,
    /** Delete all blocks of `stream` beyond `index`, where a block must end (or the trimmed part); `hash` is the hash
     * of that block. Where the stream is trimmed beyond `index` it is empty afterwards, with its base there. A
     * stream that ends at or before `index` stays as it is */
    AB_WAL_REWIND = 6
} ab_wal_op_type;

typedef struct ab_wal_op {
    ab_wal_op_type type;
    uint64_t group;
    ab_stream stream;
    uint64_t index;
    uint64_t hash; /**< REWIND */
    uint32_t limit;
    ab_bytes key;
    ab_bytes data;
    uint32_t done; /**< out, TRIM and FORGET: blocks deleted; less than `limit` means: nothing left to do */
    uint64_t done_index; /**< out, TRIM: the stream's base now */
} ab_wal_op;

/**
 * Carries out `count` operations in one transaction. Blocks for as long as the disk takes.
 * @param failed  position of the operation at fault, or `count`; may be NULL
 * @return AB_OK; AB_ENOSPC (disk full or ceiling: try again when there is room); AB_EIO (the same); AB_EINVAL (an
 * operation breaks order or chain: a bug of the caller); AB_ETOOBIG, AB_EVERSION, AB_ECORRUPT (a block to be put is
 * not well-formed; or what the operation builds on is damaged); AB_ENOMEM. On error nothing changed.
 */
int ab_wal_commit(ab_wal *wal, ab_wal_op *ops, size_t count, size_t *failed);

/** Where a read puts a block: returns `size` bytes of memory or NULL. Called once per read, only for a sound block,
 *  with a read transaction open: must not block or call the log. */
typedef void *(*ab_wal_alloc_fn)(void *arg, size_t size);

/**
 * Copies out the block that holds `index`. @return AB_OK; AB_ENOTFOUND (beyond the end, or unknown stream);
 * AB_ETRIMMED; AB_ECORRUPT (`header->first`, `last` tell the damaged or missing range as far as it is known: from
 * the key to the next key); AB_ENOMEM; AB_EIO. On error `*data` is NULL.
 */
int ab_wal_read(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, ab_wal_alloc_fn alloc,
                void *arg, ab_block_header *header, void **data, size_t *size);

/** Calls `fn` with the state of every stream of every group (or of `group` if not 0), in key order, until it
 * returns false. Reads the streams' records only, no block. @return AB_OK, AB_ECORRUPT (some small state is damaged,
 * the sound rest was listed), AB_ENOMEM, AB_EIO */
typedef bool (*ab_wal_stream_fn)(void *arg, uint64_t group, const ab_stream_state *state);
int ab_wal_streams(ab_wal *wal, uint64_t group, ab_wal_stream_fn fn, void *arg);

/** Small state. `data` gets a malloc'ed copy. @return AB_OK, AB_ENOTFOUND, AB_ECORRUPT, AB_ENOMEM, AB_EIO */
int ab_wal_state_get(ab_wal *wal, uint64_t group, ab_bytes key, void **data, size_t *size);
/** All state of `group` whose key begins with `prefix`, in key order, the log's own "stream/..." included; `fn` gets
 * borrowed bytes, false stops. @return as ab_wal_streams() */
typedef bool (*ab_wal_state_fn)(void *arg, uint64_t group, ab_bytes key, ab_bytes value);
int ab_wal_state_each(ab_wal *wal, uint64_t group, ab_bytes prefix, ab_wal_state_fn fn, void *arg);

/** Groups that the log knows (by blocks or state), each once, ascending. */
typedef bool (*ab_wal_group_fn)(void *arg, uint64_t group);
int ab_wal_groups(ab_wal *wal, ab_wal_group_fn fn, void *arg);

/** Blocks of a group and their bytes. */
typedef struct ab_wal_group_size {
    uint64_t group;
    uint64_t blocks;
    uint64_t bytes;
} ab_wal_group_size;
/** Calls `fn` for each group that has blocks (or for `group` alone if not 0), ascending, until it returns false. Looks
 * at every block's key, not at the blocks. @return AB_OK, AB_EIO */
typedef bool (*ab_wal_size_fn)(void *arg, const ab_wal_group_size *size);
int ab_wal_group_sizes(ab_wal *wal, uint64_t group, ab_wal_size_fn fn, void *arg);

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

/** Walks everything: key against header, checksum, continuity, chain, every entry; the streams' records against the
 * blocks; checksums of small state; on a read_only log also the structure of the file in full (memory: one bit per
 * page). Beside a writer it sees a consistent moment per block.
 *  @return AB_OK (nothing wrong), AB_ECORRUPT (faults were reported), AB_ECLOSED (stopped by fn), AB_EIO,
 * AB_ENOMEM */
int ab_wal_verify(ab_wal *wal, ab_wal_verify_fn fn, void *arg);

#endif
