/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file wal_check.h
 * What the two halves of the structural check share: wal_check.c (file and meta pages) and wal_check_tree.c
 * (B-trees). The layout is that of LMDB 0.9 (data version 1) on 64-bit hosts, in the host's byte order. One check:
 * one thread.
 */
#ifndef ANABRANCH_WAL_CHECK_H
#define ANABRANCH_WAL_CHECK_H

#include "wal/wal_internal.h"
#include <string.h>

#define PAGE_HEADER 16u
#define PAGE_SIZE_MAX 65536u
#define DB_SIZE 48u
#define NO_PAGE UINT64_MAX
#define DEPTH_MAX 32u

typedef enum tree_kind { TREE_FREE, TREE_MAIN, TREE_BLOCKS, TREE_STATE } tree_kind;

/* MDB_db */
typedef struct db_record {
    uint16_t flags;
    uint16_t depth;
    uint64_t branch;
    uint64_t leaf;
    uint64_t overflow;
    uint64_t entries;
    uint64_t root;
} db_record;

/* MDB_meta */
typedef struct meta_record {
    db_record free;
    db_record main;
    uint32_t page_size;
    uint64_t map_size;
    uint64_t last_page;
    uint64_t txnid;
} meta_record;

typedef struct check {
    int fd;
    uint32_t page_size;
    uint32_t node_max; /* a larger node has its data on overflow pages */
    uint64_t pages;    /* last page + 1 */
    uint64_t file_size;
    uint64_t txnid;
    uint8_t *seen;                /* a bit per page: reached or free; NULL: not kept */
    uint64_t accounted;           /* bits set */
    bool headers;                 /* read the headers of the blocks' overflow pages, too */
    unsigned bad_states;          /* values of small state that do not match their checksums */
    char bad_name[AB_CHECK_NAME]; /* the first of them */
    db_record blocks;
    db_record state;
    bool has_blocks;
    bool has_state;
    bool has_commit;
    unsigned strangers;           /* entries of the root directory that a log does not have */
    char stranger[AB_CHECK_NAME]; /* the first of them */
    uint64_t commit_txnid;
    uint64_t commit_blocks;
    uint64_t commit_state;
    uint8_t *level[DEPTH_MAX];
    const char *path;
    ab_message *message;
} check;

static inline uint16_t host16(const uint8_t *p)
{
    uint16_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static inline uint32_t host32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static inline uint64_t host64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

/* Sets the message. @return AB_ECORRUPT */
int ab_check_bad(check *c, uint64_t page, const char *what);
/* The same of a file that is whole as LMDB goes, and no log. */
int ab_check_foreign(check *c);
/* @return AB_OK, AB_EIO, AB_ECORRUPT (the file ends before) */
int ab_check_read(check *c, void *data, size_t size, uint64_t offset);

void ab_check_db_decode(const uint8_t *p, db_record *db);
/* Whether a root record makes sense by itself. */
int ab_check_db(check *c, const db_record *db, uint16_t flags);
/* Walks the tree: pages, nodes, order, counts; what its kind demands of each node. TREE_MAIN fills in blocks, state
 * and commit. */
int ab_check_tree(check *c, tree_kind kind, const db_record *db);

#endif
