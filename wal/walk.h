/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file walk.h
 * A walk over the log's entries that can be stopped and resumed: for inspectors, live and offline. Holds a copy
 * of one block at a time and no transaction between calls. One walk: one thread; beside a writer it is fine.
 */
#ifndef ANABRANCH_WAL_WALK_H
#define ANABRANCH_WAL_WALK_H

#include "wal/wal.h"

/** What to walk over; all zero: everything. */
typedef struct ab_wal_walk_options {
    uint64_t group; /* 0: all groups */
    bool one_stream;
    ab_stream stream; /* for one_stream */
    uint64_t from;    /* indexes; 0: from the first there is */
    uint64_t to;      /* 0: to the last */
    uint64_t newest;  /* only so many of each stream, the latest ones; 0: all */
} ab_wal_walk_options;

/** One entry, or a range that cannot be read. */
typedef struct ab_wal_step {
    uint64_t group;
    ab_entry entry; /* AB_OK; payload valid until the next call */
    int code;       /* AB_OK; AB_ECORRUPT, AB_EVERSION: entry.stream, first ... last cannot be read;
                       AB_ETRIMMED: that range was trimmed while we walked */
    uint64_t first;
    uint64_t last;
} ab_wal_step;

typedef struct ab_wal_walk ab_wal_walk;

/** @return AB_OK, AB_ENOMEM, AB_EIO */
int ab_wal_walk_open(ab_wal *wal, const ab_wal_walk_options *options, ab_wal_walk **walk);

/** @return AB_OK (`step` is filled), AB_ENOTFOUND (the end), AB_ENOMEM, AB_EIO */
int ab_wal_walk_next(ab_wal_walk *walk, ab_wal_step *step);

/** After the end: goes on with what was appended since, streams that are new included. @return AB_OK, AB_ENOMEM, AB_EIO */
int ab_wal_walk_again(ab_wal_walk *walk);

void ab_wal_walk_close(ab_wal_walk *walk); /* NULL is allowed */

#endif
