/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file mainjob.h
 * The main job's steps. The main thread.
 */
#ifndef ANABRANCH_MAINJOB_H
#define ANABRANCH_MAINJOB_H

#include "tools/mainjob/feed.h"

#define AB_MAINJOB_NODES 3u
#define AB_MAINJOB_INPUTS_MAX 64u

typedef struct ab_mainjob {
    const char *bin;
    const char *dir;
    const char *inputs[AB_MAINJOB_INPUTS_MAX];
    size_t input_count;
    uint64_t lines;
    uint64_t seed;
    uint64_t batch;
    uint64_t groups;
    ab_cluster cluster;
    ab_feed feeds[AB_MAINJOB_NODES];
    char error[700];
} ab_mainjob;

/** Runs it and tells on standard output. @return whether every check held; else `error` says which did not */
bool ab_mainjob_run(ab_mainjob *job);

#endif
