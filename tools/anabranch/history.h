/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at several nodes over a time, as series to draw. Main thread. */
#ifndef ANABRANCH_TOOLS_HISTORY_H
#define ANABRANCH_TOOLS_HISTORY_H

#include "tools/anabranch/sample.h"

/* One value per look; not a number where there is none. */
typedef struct history_peer {
    uint32_t peer;
    double *lag_entries;
    double *lag_seconds;
    double *confirmed;
} history_peer;

typedef struct history_node {
    const char *data_dir;
    node_sample last;
    double *figures[FIGURE_COUNT]; /* totals as rates per second */
    history_peer *peers;
    size_t peer_count;
    size_t missed; /* looks at which it was not there or did not answer */
} history_node;

typedef struct history {
    history_node *nodes;
    size_t node_count;
    double *at; /* seconds since the first look */
    size_t count;
    size_t capacity;
    uint64_t began_ms;
} history;

/* The directories must stay; one that is named twice counts once. @return false: out of memory, and nothing is held */
bool history_init(history *h, const char *const *data_dirs, size_t node_count, size_t capacity);
void history_free(history *h);

/* Looks at each node. No more than `capacity` times. @return false: out of memory */
bool history_look(history *h, bool whole);

/* As sample_catch_up(), from the last look and one at least two seconds before it, or the first. */
double history_catch_up(const history *h, size_t node, uint32_t peer);

/* The mean of a series; not a number if it has no values. */
double history_mean(const history *h, const double *series);

#endif
