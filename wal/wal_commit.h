/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file wal_commit.h
 * A write transaction and what the operations in it share. The one writer's thread.
 */
#ifndef ANABRANCH_WAL_COMMIT_H
#define ANABRANCH_WAL_COMMIT_H

#include "wal/wal_internal.h"

/** One call of ab_wal_commit(), one attempt. */
typedef struct ab_commit {
    ab_wal *wal;
    MDB_txn *txn;
    bool appends;       /* must respect the ceiling */
    bool changed;       /* there is something to commit */
    uint64_t bytes;     /* of blocks put */
    int rc;             /* what LMDB said, where an operation failed of it */
    const uint8_t *map; /* where the file is mapped; NULL: unknown */
} ab_commit;

/** A stored block and the key behind it. */
typedef struct ab_neighbours {
    MDB_val value;
    uint64_t first;
    uint64_t last;      /* by the next key, or by the record */
    bool has_next;      /* in this stream */
    uint64_t next_prev; /* what the next block says is this one's hash */
    MDB_val next;
} ab_neighbours;

/* wal_commit.c. Each returns an error code, with the message set. */
int ab_commit_lmdb_fail(ab_commit *c, int rc, const char *what);
int ab_commit_invalid(ab_commit *c, const ab_block_header *h, const char *what);
/* @return AB_OK with a zero record where the stream is new */
int ab_commit_record(ab_commit *c, uint64_t group, ab_stream stream, ab_wal_record *record);
int ab_commit_record_store(ab_commit *c, uint64_t group, ab_stream stream, const ab_wal_record *record);
/* The header of the block that `op` brings. */
int ab_commit_block_read(ab_commit *c, const ab_wal_op *op, ab_block_header *header);
int ab_commit_block_write(ab_commit *c, const ab_block_header *header, ab_bytes data);
int ab_commit_block_delete(ab_commit *c, uint64_t group, ab_stream stream, const ab_neighbours *n);
/* First block of the stream at or behind `from`; the stream's last index is `end`. @return AB_OK, AB_ENOTFOUND */
int ab_commit_look(ab_commit *c, uint64_t group, ab_stream stream, uint64_t from, uint64_t end,
                   ab_neighbours *found);
/* The record says where the stream ends. A key behind that can only be a damaged one: it would stand in the way. */
int ab_commit_clear_behind(ab_commit *c, uint64_t group, ab_stream stream, uint64_t last);

/* wal_repair.c */
int ab_commit_replace_block(ab_commit *c, const ab_wal_op *op);
int ab_commit_rewind(ab_commit *c, const ab_wal_op *op);

#endif
