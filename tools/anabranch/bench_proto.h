/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the bench and its child processes: same program on both ends, so plain structs over a socket pair.
 * It is the child's standard input, both ways. One thread per end. */
#ifndef ANABRANCH_TOOLS_BENCH_PROTO_H
#define ANABRANCH_TOOLS_BENCH_PROTO_H

#include "tools/anabranch/bench_hist.h"
#include "tools/anabranch/bench_opts.h"
#include "tools/anabranch/bench_sys.h"

#include <stdbool.h>
#include <stdint.h>

enum ab_bench_msg_type {
    AB_BENCH_MSG_SETUP = 1, /* to a child, first: struct ab_bench_setup */
    AB_BENCH_MSG_READY,     /* from it: struct ab_bench_ready */
    AB_BENCH_MSG_LINK,      /* wait until all links stand; answered by LINK */
    AB_BENCH_MSG_GO,        /* struct ab_bench_go */
    AB_BENCH_MSG_DONE,      /* from it: struct ab_bench_done */
    AB_BENCH_MSG_AWAIT,     /* struct ab_bench_await */
    AB_BENCH_MSG_EQUAL,     /* from it: struct ab_bench_equal */
    AB_BENCH_MSG_STATS,     /* asks; answered by STATS: struct ab_bench_stats */
    AB_BENCH_MSG_QUIT,      /* answered by QUIT after an orderly close */
    AB_BENCH_MSG_ERROR      /* from it, at any time: text; then it exits */
};

#define AB_BENCH_TEXT_MAX 1024u

enum ab_bench_role { AB_BENCH_ROLE_NODE = 1, AB_BENCH_ROLE_LOOP = 2, AB_BENCH_ROLE_TCP = 3 };

struct ab_bench_setup {
    enum ab_bench_role role;
    uint32_t id;                        /* 1, 2, ... */
    uint16_t ports[AB_BENCH_NODES_MAX]; /* of the nodes before it, which it dials; the others dial it */
    enum ab_bench_case which;           /* of a node */
    bool writes;                        /* whether this node has writers in this run */
    bool verbose;
    struct ab_bench_load load;
    struct ab_bench_ref ref;
    char dir[AB_BENCH_PATH_MAX]; /* exists and is empty */
};

struct ab_bench_ready {
    uint16_t port;
    uint64_t opened_ns; /* what opening the node and its groups took */
};

struct ab_bench_go {
    uint64_t start; /* ab_bench_now() of the first write */
    uint64_t mark;  /* of the end of the warm-up: from here on it is measured */
};

struct ab_bench_done {
    uint64_t entries;  /* acknowledged, or committed by a loop */
    uint64_t before;   /* of them in the warm-up */
    uint64_t calls;    /* acknowledged calls, or commits */
    uint64_t busy;     /* calls that found the queue full even after waiting, and were repeated */
    uint64_t last_ack; /* when the last of them was */
};

struct ab_bench_await {
    uint64_t entries;
    uint64_t timeout_ns;
};

struct ab_bench_equal {
    uint64_t entries; /* applied */
    uint64_t before;  /* of them in the warm-up */
    uint64_t digest[2];
    uint64_t last_apply; /* when the last was */
};

struct ab_bench_stats {
    struct ab_bench_usage usage; /* since the mark */
    uint64_t sent_bytes;         /* on all links since the mark */
    struct ab_hist latency;      /* ns */
    uint32_t arrivals;           /* of writes before a silence */
    uint32_t arrival_us[AB_BENCH_SILENCES_MAX];
};

struct ab_bench_msg {
    uint32_t type;
    uint32_t size;
    union {
        struct ab_bench_setup setup;
        struct ab_bench_ready ready;
        struct ab_bench_go go;
        struct ab_bench_done done;
        struct ab_bench_await await;
        struct ab_bench_equal equal;
        struct ab_bench_stats stats;
        char text[AB_BENCH_TEXT_MAX];
    } as;
};

/* @return 0 or -1 (the other end is gone) */
int ab_bench_send(int fd, enum ab_bench_msg_type type, const void *body, size_t size);

enum ab_bench_recv {
    AB_BENCH_RECV_OK = 0,
    AB_BENCH_RECV_GONE,     /* end of file, or a message that makes no sense */
    AB_BENCH_RECV_TIMEOUT,  /* nothing by `until` */
    AB_BENCH_RECV_CANCELLED /* `cancel_fd` became readable */
};

/* Reads one message. `until` is in terms of ab_bench_now(), UINT64_MAX waits for ever; `cancel_fd` may be -1. */
enum ab_bench_recv ab_bench_receive(int fd, struct ab_bench_msg *msg, uint64_t until, int cancel_fd);

#endif
