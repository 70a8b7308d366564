/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file reads.h
 * Reads that wait until the local state machine has applied a frontier. Part of a core: one call at a time.
 */
#ifndef ANABRANCH_REPLICATION_READS_H
#define ANABRANCH_REPLICATION_READS_H

#include "replication/order.h"

typedef struct ab_read_wait ab_read_wait;

/** Oldest first. All zero is empty. */
typedef struct ab_reads {
    ab_read_wait *head;
    ab_read_wait *tail;
} ab_reads;

/** Waits for `frontier` (copied) until `timeout_ns` from now; AB_NEVER: for ever. @return AB_OK, AB_ENOMEM */
int ab_reads_add(ab_reads *reads, uint64_t ticket, ab_frontier frontier, uint64_t now, uint64_t timeout_ns);

/** Answers what holds or has waited long enough. @return AB_OK, AB_ENOMEM (the rest stays for the next call)
 */
int ab_reads_pump(ab_reads *reads, const ab_order *order, uint64_t now, ab_actions *actions);

uint64_t ab_reads_deadline(const ab_reads *reads);

void ab_reads_free(ab_reads *reads);

#endif
