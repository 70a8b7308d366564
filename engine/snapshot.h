/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file snapshot.h
 * What stands behind the handles that a state machine's snapshot functions get: a function of whoever moves the bytes.
 * Used by one thread at a time.
 */
#ifndef ANABRANCH_ENGINE_SNAPSHOT_H
#define ANABRANCH_ENGINE_SNAPSHOT_H

#include <anabranch/statemachine.h>

struct ab_sink {
    int (*write)(void *ctx, const void *data, size_t size); /* takes all of it, or returns why not */
    void *ctx;
    int code; /* of the first write that failed: nothing is written after it */
};

struct ab_source {
    int (*read)(void *ctx, void *data, size_t size, size_t *got); /* *got = 0: the end */
    void *ctx;
    int code; /* of the first read that failed */
};

#endif
