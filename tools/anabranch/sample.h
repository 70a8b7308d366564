/* SPDX-License-Identifier: Apache-2.0 */
/* A look at a node: what it counts and how far its peers are, as numbers to compare with the next look. Main thread. */
#ifndef ANABRANCH_TOOLS_SAMPLE_H
#define ANABRANCH_TOOLS_SAMPLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum figure {
    /* Totals since the node was opened. */
    FIGURE_WRITTEN = 0, /* entries of its own, all groups */
    FIGURE_LOGGED,      /* entries, own and received */
    FIGURE_LOGGED_BYTES,
    FIGURE_APPLIED, /* entries, all groups */
    FIGURE_COMMITS,
    FIGURE_SENT_BYTES,
    FIGURE_RECEIVED_BYTES,
    FIGURE_CPU, /* seconds of its process */
    /* As it is. */
    FIGURE_ACK_P50, /* seconds; not a number while nothing is written */
    FIGURE_ACK_P99,
    FIGURE_ACK_P999,
    FIGURE_ACK_MAX,
    FIGURE_LOG_BYTES,
    FIGURE_MEMORY_BYTES,   /* caches and queues */
    FIGURE_RESIDENT_BYTES, /* of its process, pages of the mapped log among them */
    FIGURE_QUEUED_BYTES,   /* written, not yet logged */
    FIGURE_APPLY_BLOCKS,   /* logged, not yet given to state machines */
    FIGURE_COUNT
} figure;

/* A peer, over all groups and streams. */
typedef struct peer_sample {
    uint32_t peer;
    bool up;
    uint64_t lag_entries; /* that it has not confirmed */
    uint64_t lag_bytes;
    uint64_t lag_ms; /* age of the oldest of them */
    uint64_t confirmed;
    uint64_t queued_bytes;
    uint64_t sent_bytes;
    uint64_t received_bytes;
} peer_sample;

typedef struct group_sample {
    uint64_t group;
    char name[72];
    bool good;
    uint64_t last_index; /* of its own stream */
    uint64_t applied_entries;
    uint64_t queued_entries;
    uint64_t apply_blocks;
    uint64_t lag_entries; /* of the slowest peer */
    uint64_t lag_ms;
} group_sample;

typedef struct node_sample {
    uint64_t at_ms; /* monotonic */
    uint32_t node_id;
    double figures[FIGURE_COUNT]; /* not a number: not known */
    peer_sample *peers;
    size_t peer_count;
    group_sample *groups;
    size_t group_count;
    json_t *answer; /* as report_ask() gives it, with what `status`, `peers` and `metrics` say */
} node_sample;

/* Asks the node of the directory. `whole`: also for its streams, and the log of one that does not run; without, the
 * answer says only that it does not run. One that runs and says nothing for `silence_ms` gave no answer.
 * @return false: out of memory, and nothing is held */
bool sample_take(node_sample *s, const char *data_dir, bool whole, int silence_ms);
void sample_free(node_sample *s);

/* NULL: it has none. */
const peer_sample *sample_peer(const node_sample *s, uint32_t peer);
const group_sample *sample_group(const node_sample *s, uint64_t group);

/* What grew per second; not a number where it is not known, or the node began anew in between. */
double sample_rate(uint64_t before, uint64_t now, uint64_t ms);
double sample_figure_rate(const node_sample *before, const node_sample *now, figure f);

/* Seconds until the peer has everything, from two looks: 0 in step; about a second's worth or less under way counts as
 * that much; INFINITY it falls behind further; not a number: not known. */
double sample_catch_up(const peer_sample *before, const peer_sample *now, uint64_t ms);
/* "in step", "3m12s", "falling behind"; "link is down" where it is not `up`. */
void sample_catch_up_text(bool up, double seconds, char *text, size_t size);

uint64_t sample_now_ms(void);

#endif
