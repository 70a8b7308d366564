/* SPDX-License-Identifier: Apache-2.0 */
/** @file read.h Barriers, queries and digests: jobs that wait for the core, then run on the group's apply thread. */
#ifndef ANABRANCH_ENGINE_READ_H
#define ANABRANCH_ENGINE_READ_H

#include "engine/engine.h"

typedef struct ab_read_job {
    struct ab_read_job *next;
    uint64_t ticket;
    ab_read_fn fn;
    void *arg;
    bool query;
    bool digest;
    int (*work)(ab_group *group, const void *request); /* for ab_apply_call(); else NULL */
    int code;                                          /* of the core's answer */
    size_t request_size;
    uint8_t request[];
} ab_read_job;

/** Calls `work` on the group's apply thread with a copy of `arg`, where nobody else is in the state machine, and waits.
 *  @param timeout_ms  0: for ever
 *  @return what `work` returned; AB_ETIMEDOUT (it will still be called); AB_ECLOSED (it was not); AB_ENOMEM */
int ab_apply_call(ab_group *group, int (*work)(ab_group *group, const void *arg), const void *arg,
                  size_t size, uint32_t timeout_ms);

/** Bytes that a query answers with. */
struct ab_reply {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

#endif
