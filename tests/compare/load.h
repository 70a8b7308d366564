/* SPDX-License-Identifier: Apache-2.0 */
/* The load on a peer: connections that each keep a window of entries outstanding, all in one thread around poll. What a
 * request and a reply look like is a table of functions of the protocol. Main thread. */
#ifndef ANABRANCH_TESTS_COMPARE_LOAD_H
#define ANABRANCH_TESTS_COMPARE_LOAD_H

#include "tests/compare/site.h"
#include "tools/anabranch/bench_hist.h"

#define AB_CMP_KEY_MAX 32u

struct ab_cmp_conn;

/* How a protocol writes entries. */
struct ab_cmp_proto {
    /* After connecting: greets, makes `state`. @return 0 or -1 */
    int (*open)(struct ab_cmp_conn *conn);
    /* Appends a request to conn->out: `count` entries, the first is number `first`. Its reply frees `slot`.
     * @return false: the server does not take it yet */
    bool (*request)(struct ab_cmp_conn *conn, uint32_t slot, uint64_t first, uint32_t count);
    /* No request will follow. May be NULL. */
    void (*finish)(struct ab_cmp_conn *conn);
    /* Takes whole replies, calls ab_cmp_acked for each. @return bytes taken, -1: conn->error says why */
    ptrdiff_t (*replies)(struct ab_cmp_conn *conn, const uint8_t *data, size_t size);
    /* Frees what `state` holds. May be NULL. */
    void (*close)(struct ab_cmp_conn *conn);
};

/* One writer. Slots are handed out in the order in which they came back: a protocol that answers in order sees them go
 * round. */
struct ab_cmp_conn {
    const struct ab_cmp_proto *proto;
    int fd;
    uint32_t number; /* from 0 */
    struct ab_cmp_bytes in;
    struct ab_cmp_bytes out;
    void *state; /* of the protocol, from malloc; freed with the connection */
    char error[256];
    uint32_t batch; /* entries per request */
    uint32_t slots; /* requests outstanding at most */
    uint32_t *free; /* ring of free slots */
    uint64_t taken;
    uint64_t given;
    uint64_t *due;    /* when the request of a slot was made */
    uint64_t written; /* entries */
    uint64_t acked;
    uint8_t *payload; /* of the entry that is being written */
    uint32_t payload_size;
    struct ab_cmp_load_result *result;
    uint64_t now;
    uint64_t mark;
};

struct ab_cmp_load_result {
    uint64_t entries;                    /* acknowledged */
    uint64_t before;                     /* of them by the mark */
    uint64_t written[AB_CMP_NODES * 64]; /* entries of each connection */
    uint32_t conns;
    uint64_t requests;
    uint64_t mark; /* end of the warm-up */
    uint64_t last_ack;
    uint64_t cpu_at_mark;
    struct ab_hist latency; /* ns, of requests made after the mark */
};

/* Writes to the server at `port` as `which` of the options says. All requests are answered when it returns 0. */
int ab_cmp_load_run(struct ab_cmp_site *site, const struct ab_cmp_proto *proto, uint16_t port,
                    enum ab_cmp_case which, struct ab_cmp_load_result *result);

/* For protocols: a reply came. */
void ab_cmp_acked(struct ab_cmp_conn *conn, uint32_t slot);
/* The payload of entry `number`: valid until the next. */
const uint8_t *ab_cmp_payload(struct ab_cmp_conn *conn, uint64_t number);

#endif
