/* SPDX-License-Identifier: Apache-2.0 */
/* The other reference: what one loopback TCP connection carries while nothing else is done. Two threads of one child
 * process, one writes and one reads. */
#include "tools/anabranch/bench_child.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE (256u << 10)

struct transfer {
    int from;
    int to;
    _Atomic uint64_t received;
};

static void *receive_all(void *arg)
{
    struct transfer *transfer = arg;
    char *piece = malloc(PIECE);
    ssize_t size;
    while (piece && (size = recv(transfer->to, piece, PIECE, 0)) > 0) {
        atomic_fetch_add(&transfer->received, (uint64_t)size);
    }
    free(piece);
    shutdown(transfer->to, SHUT_RDWR); /* so that a sender cannot wait for ever */
    return NULL;
}

/* A connection of this process to itself. @return 0 or -1 */
static int connect_self(struct transfer *transfer)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t size = sizeof name;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) {
        return -1;
    }
    transfer->from = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (transfer->from >= 0 && bind(listener, (struct sockaddr *)&name, sizeof name) == 0 &&
        listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&name, &size) == 0 &&
        connect(transfer->from, (struct sockaddr *)&name, size) == 0) {
        transfer->to = accept(listener, NULL, NULL);
    }
    close(listener);
    return transfer->to >= 0 ? 0 : -1;
}

/* Sends from the start until the end; what arrives after the mark counts. @return 0 or -1 */
static int send_all(const struct ab_bench_setup *setup, struct transfer *transfer,
                    const struct ab_bench_go *go, struct ab_bench_done *done, struct ab_bench_usage *before)
{
    uint64_t end = go->mark + setup->load.duration_ns;
    char *piece = calloc(1, PIECE);
    int rc = piece ? 0 : -1;
    bool warm = false;
    ab_bench_sleep_until(go->start);
    for (uint64_t now = ab_bench_now(); rc == 0 && now < end; now = ab_bench_now()) {
        if (!warm && now >= go->mark) {
            warm = true;
            done->before = atomic_load(&transfer->received) / setup->load.payload;
            ab_bench_usage_get(before);
        }
        ssize_t sent = send(transfer->from, piece, PIECE, MSG_NOSIGNAL);
        rc = sent > 0 ? 0 : -1;
        done->calls++;
    }
    free(piece);
    done->entries = atomic_load(&transfer->received) / setup->load.payload;
    done->last_ack = ab_bench_now();
    return rc;
}

static int serve(const struct ab_bench_setup *setup, struct transfer *transfer, struct ab_bench_msg *msg,
                 struct ab_bench_stats *stats)
{
    struct ab_bench_ready ready = {0};
    struct ab_bench_done done = {0};
    struct ab_bench_usage before = {0};
    pthread_t receiver;
    ab_bench_answer(AB_BENCH_MSG_READY, &ready, sizeof ready);
    if (ab_bench_order(msg, AB_BENCH_MSG_GO) != 0) {
        return 1;
    }
    if (connect_self(transfer) != 0 || pthread_create(&receiver, NULL, receive_all, transfer) != 0) {
        return ab_bench_fail("TCP reference: no connection on loopback");
    }
    int rc = send_all(setup, transfer, &msg->as.go, &done, &before);
    ab_bench_usage_get(&stats->usage);
    ab_bench_usage_since(&stats->usage, &before);
    stats->usage.write_known = false; /* nothing is logged here */
    shutdown(transfer->from, SHUT_RDWR);
    pthread_join(receiver, NULL);
    if (rc != 0) {
        return ab_bench_fail("TCP reference: the connection broke");
    }
    ab_bench_answer(AB_BENCH_MSG_DONE, &done, sizeof done);
    if (ab_bench_order(msg, AB_BENCH_MSG_STATS) != 0) {
        return 1;
    }
    ab_bench_answer(AB_BENCH_MSG_STATS, stats, sizeof *stats);
    return ab_bench_order(msg, AB_BENCH_MSG_QUIT) == 0 ? 0 : 1;
}

int ab_bench_tcp_main(const struct ab_bench_setup *setup)
{
    struct transfer transfer = {.from = -1, .to = -1};
    struct ab_bench_msg *msg = calloc(1, sizeof *msg);
    struct ab_bench_stats *stats = calloc(1, sizeof *stats);
    int code = msg && stats ? serve(setup, &transfer, msg, stats) : ab_bench_fail("out of memory");
    if (transfer.from >= 0) {
        close(transfer.from);
    }
    if (transfer.to >= 0) {
        close(transfer.to);
    }
    free(msg);
    free(stats);
    if (code == 0) {
        ab_bench_answer(AB_BENCH_MSG_QUIT, NULL, 0);
    }
    return code;
}
