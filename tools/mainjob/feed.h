/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file feed.h
 * Lines in batches to the nodes of a cluster, and what was acknowledged. A feed's own thread fills its batches; others
 * may look at `acknowledged` meanwhile and at the batches once it has ended.
 */
#ifndef ANABRANCH_FEED_H
#define ANABRANCH_FEED_H

#include "tools/mainjob/cluster.h"

#include <pthread.h>

/** Where a batch went in one group: what decides who wins a conflict. */
typedef struct ab_receipt {
    uint64_t group;
    uint32_t node;
    uint32_t epoch;
    uint64_t first;
    uint64_t last;
    uint64_t hlc;
} ab_receipt;

typedef struct ab_feed_batch {
    const char *text;
    size_t size;
    bool acknowledged;
    unsigned attempts;
    ab_receipt *receipts;
    size_t receipt_count;
} ab_feed_batch;

typedef struct ab_feed {
    const ab_cluster *cluster;
    size_t node; /**< position in the cluster */
    char *text;  /**< owned: all lines */
    size_t size;
    size_t capacity;
    size_t lines;
    ab_feed_batch *batches;
    size_t batch_count;
    unsigned timeout_ms; /**< gives up when no batch was acknowledged for so long */
    pthread_t thread;
    atomic_size_t acknowledged; /**< batches */
    atomic_size_t refused;      /**< answers of 503: sent again */
    atomic_bool running;
    atomic_bool stop; /**< set by others: end after the batch under way */
    char error[256];  /**< why it gave up; empty if it did not */
} ab_feed;

/** Adds a line (with its newline). @return whether there is memory */
bool ab_feed_add(ab_feed *feed, const char *line, size_t size);

/** Cuts the lines into batches and starts the thread. */
bool ab_feed_start(ab_feed *feed, size_t lines_per_batch);

/** Waits for the end. @return whether all batches were acknowledged (or it was told to stop) */
bool ab_feed_join(ab_feed *feed);

void ab_feed_free(ab_feed *feed);

#endif
