/* SPDX-License-Identifier: Apache-2.0 */
/* The bench's state machine: counts entries, sums their hashes, checks that each stream comes without gap or repeat,
 * and keeps all that in a small file at each checkpoint, so that logs are trimmed as in real use. The table's
 * functions run on apply threads, one call at a time per group; the progress may be read and awaited anywhere. */
#ifndef ANABRANCH_TOOLS_BENCH_SM_H
#define ANABRANCH_TOOLS_BENCH_SM_H

#include "tools/anabranch/bench_opts.h"

#include <anabranch/statemachine.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What the payload of a write before a silence has behind the stamp. */
#define AB_BENCH_SILENCE_AT 16u
struct ab_bench_silence {
    uint64_t magic; /* AB_BENCH_SILENCE_MAGIC */
    uint64_t due;   /* ab_bench_now() of the call */
    uint64_t number;
};
#define AB_BENCH_SILENCE_MAGIC 0x65636e656c697320ull

/* What all groups of a process have applied together. */
struct ab_bench_progress {
    _Atomic uint64_t applied;
    _Atomic uint64_t target;    /* wake the waiter at this */
    _Atomic uint64_t last;      /* ab_bench_now() after the latest apply */
    _Atomic uint64_t mark;      /* ab_bench_now() of the end of the warm-up */
    _Atomic uint64_t before;    /* applied in the warm-up; UINT64_MAX: all, so far */
    _Atomic uint64_t faults;    /* entries that were not the next of their stream */
    _Atomic uint32_t *arrivals; /* us until a write before a silence was applied; NULL: not of interest */
    pthread_mutex_t lock;
    pthread_cond_t reached;
};

int ab_bench_progress_init(struct ab_bench_progress *progress); /* 0 or an errno */
void ab_bench_progress_destroy(struct ab_bench_progress *progress);
/* Waits until `target` entries are applied. @return false if that did not happen within the time */
bool ab_bench_progress_await(struct ab_bench_progress *progress, uint64_t target, uint64_t timeout_ns);

/* Streams in one group of the bench: nodes times epochs. */
#define AB_BENCH_MARKS_MAX 64u

struct ab_bench_sm {
    struct ab_bench_progress *progress;
    uint64_t group;
    char path[AB_BENCH_PATH_MAX]; /* of the checkpoint file */
    uint64_t count;
    uint64_t digest[2];
    size_t mark_count;
    ab_mark marks[AB_BENCH_MARKS_MAX];
};

/* Starts empty; `dir` is where the checkpoint file goes. @return AB_OK or AB_EINVAL (path too long) */
int ab_bench_sm_init(struct ab_bench_sm *sm, struct ab_bench_progress *progress, uint64_t group,
                     const char *dir);

/* The table; its ctx is a struct ab_bench_sm. */
extern const ab_statemachine ab_bench_statemachine;

#endif
