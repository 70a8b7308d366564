/* SPDX-License-Identifier: Apache-2.0 */
/* A writing thread of the bench: calls ab_write or ab_write_many with a bounded number of calls outstanding, or
 * ab_write_wait one at a time. Made, started and joined by one thread; the histogram and the counts belong to the
 * node's completion thread until the writer has been joined. */
#ifndef ANABRANCH_TOOLS_BENCH_WRITER_H
#define ANABRANCH_TOOLS_BENCH_WRITER_H

#include "tools/anabranch/bench_hist.h"
#include "tools/anabranch/bench_opts.h"

#include <anabranch/group.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the writers of a node share. */
struct ab_bench_work {
    const struct ab_bench_load *load;
    enum ab_bench_case which;
    uint32_t node;
    ab_group **groups;
    uint64_t start; /* ab_bench_now() of the first write */
    uint64_t mark;  /* and of the end of the warm-up */
};

struct ab_bench_tally {
    uint64_t entries; /* acknowledged */
    uint64_t before;  /* of them in the warm-up */
    bool warm;        /* the warm-up is over */
    uint64_t calls;
    uint64_t busy;     /* calls repeated because the queue stayed full */
    uint64_t last_ack; /* ab_bench_now() */
    uint32_t silences; /* how many were measured */
    int code;          /* first failure, else AB_OK */
    struct ab_hist latency;
};

typedef struct ab_bench_writer ab_bench_writer;

/* Makes writer `number` (0, 1, ...). NULL: out of memory. `work` must outlive it. */
ab_bench_writer *ab_bench_writer_new(const struct ab_bench_work *work, uint32_t number);
int ab_bench_writer_start(ab_bench_writer *writer); /* 0 or an errno */
/* Waits until it has written everything and every call has completed. */
void ab_bench_writer_join(ab_bench_writer *writer);
const struct ab_bench_tally *ab_bench_writer_tally(const ab_bench_writer *writer); /* once joined */
void ab_bench_writer_free(ab_bench_writer *writer); /* once joined; NULL is allowed */

#endif
