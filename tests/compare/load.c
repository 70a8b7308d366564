/* SPDX-License-Identifier: Apache-2.0 */
/* The load on a peer, see load.h. Main thread. */
#include "tests/compare/load.h"
#include "tools/anabranch/bench_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_BYTES (256u << 10)
#define DRAIN_NS 60000000000u /* for the last answers */

struct load {
    struct ab_cmp_site *site;
    struct ab_cmp_conn *conns;
    struct pollfd *fds; /* of the connections, then of cancelling */
    uint32_t count;
    uint64_t start;
    uint64_t end;
    bool ending; /* no more requests */
    struct ab_cmp_load_result *result;
};

void ab_cmp_acked(struct ab_cmp_conn *conn, uint32_t slot)
{
    struct ab_cmp_load_result *result = conn->result;
    if (conn->due[slot] >= conn->mark) {
        ab_hist_add(&result->latency, conn->now - conn->due[slot]);
    }
    conn->acked += conn->batch;
    result->entries += conn->batch;
    result->requests++;
    result->last_ack = conn->now;
    conn->free[conn->given++ % conn->slots] = slot;
}

const uint8_t *ab_cmp_payload(struct ab_cmp_conn *conn, uint64_t number)
{
    memcpy(conn->payload + 8, &number, sizeof number);
    return conn->payload;
}

static int open_conn(struct load *load, const struct ab_cmp_proto *proto, uint16_t port, uint32_t number,
                     enum ab_cmp_case which)
{
    const struct ab_cmp_load *wanted = &load->site->options->load;
    struct ab_cmp_conn *conn = &load->conns[number];
    conn->proto = proto;
    conn->number = number;
    conn->result = load->result;
    conn->mark = load->result->mark;
    conn->batch = which == AB_CMP_MANY ? wanted->batch : 1;
    conn->slots = which == AB_CMP_LATENCY ? 1 : wanted->in_flight / conn->batch;
    conn->slots = conn->slots > 0 ? conn->slots : 1;
    conn->payload_size = wanted->payload;
    conn->fd = ab_cmp_dial(port);
    if (conn->fd < 0 || fcntl(conn->fd, F_SETFL, O_NONBLOCK) != 0) {
        return ab_cmp_fail(load->site, "connecting to port %u: %s", port, strerror(errno));
    }
    conn->free = calloc(conn->slots, sizeof conn->free[0]);
    conn->due = calloc(conn->slots, sizeof conn->due[0]);
    conn->payload = malloc(conn->payload_size);
    if (!conn->free || !conn->due || !conn->payload) {
        return ab_cmp_fail(load->site, "out of memory");
    }
    for (uint32_t i = 0; i < conn->slots; i++) {
        conn->free[i] = i;
    }
    conn->given = conn->slots;
    memset(conn->payload, 'x', conn->payload_size);
    memcpy(conn->payload, &number, sizeof number);
    return proto->open(conn) == 0 ? 0 : ab_cmp_fail(load->site, "out of memory");
}

static void close_conn(struct ab_cmp_conn *conn)
{
    if (conn->fd >= 0) {
        close(conn->fd);
    }
    if (conn->state && conn->proto->close) {
        conn->proto->close(conn);
    }
    ab_cmp_bytes_free(&conn->in);
    ab_cmp_bytes_free(&conn->out);
    free(conn->state);
    free(conn->free);
    free(conn->due);
    free(conn->payload);
}

/* Requests as long as there are slots; begins when a quarter of them is free: one wake for many replies. */
static void fill(struct ab_cmp_conn *conn, uint64_t now)
{
    uint32_t quarter = conn->slots / 4;
    if (conn->given - conn->taken < (quarter > 0 ? quarter : 1)) {
        return;
    }
    while (conn->taken < conn->given && !conn->out.failed) {
        uint32_t slot = conn->free[conn->taken % conn->slots];
        if (!conn->proto->request(conn, slot, conn->written, conn->batch)) {
            break;
        }
        conn->due[slot] = now;
        conn->taken++;
        conn->written += conn->batch;
    }
}

static int flush(struct load *load, struct ab_cmp_conn *conn)
{
    if (conn->out.failed) {
        return ab_cmp_fail(load->site, "out of memory");
    }
    while (ab_cmp_bytes_size(&conn->out) > 0) {
        ssize_t n =
            send(conn->fd, ab_cmp_bytes_data(&conn->out), ab_cmp_bytes_size(&conn->out), MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return 0;
        }
        if (n < 0) {
            return ab_cmp_fail(load->site, "writing: %s", strerror(errno));
        }
        ab_cmp_bytes_consume(&conn->out, (size_t)n);
    }
    return 0;
}

static int receive(struct load *load, struct ab_cmp_conn *conn)
{
    uint8_t *room = ab_cmp_bytes_room(&conn->in, RECEIVE_BYTES);
    if (!room) {
        return ab_cmp_fail(load->site, "out of memory");
    }
    ssize_t n = recv(conn->fd, room, RECEIVE_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (n <= 0) {
        return ab_cmp_fail(load->site, "reading answers: %s",
                           n == 0 ? "the server hung up" : strerror(errno));
    }
    ab_cmp_bytes_grow(&conn->in, (size_t)n);
    conn->now = ab_bench_now();
    ptrdiff_t used = conn->proto->replies(conn, ab_cmp_bytes_data(&conn->in), ab_cmp_bytes_size(&conn->in));
    if (used < 0) {
        return ab_cmp_fail(load->site, "%s", conn->error);
    }
    ab_cmp_bytes_consume(&conn->in, (size_t)used);
    return 0;
}

static void pass_mark(struct load *load, uint64_t now)
{
    struct ab_cmp_load_result *result = load->result;
    if (result->cpu_at_mark == 0 && now >= result->mark) {
        result->mark = now;
        result->before = result->entries;
        result->cpu_at_mark = ab_cmp_site_cpu_ns(load->site);
        for (uint32_t i = 0; i < load->count; i++) {
            load->conns[i].mark = now;
        }
    }
}

static bool drained(const struct load *load)
{
    for (uint32_t i = 0; i < load->count; i++) {
        if (load->conns[i].given - load->conns[i].taken != load->conns[i].slots) {
            return false;
        }
    }
    return true;
}

/* Passes the mark, makes requests or stops making them, sends. */
static int push(struct load *load)
{
    uint64_t now = ab_bench_now();
    pass_mark(load, now);
    bool last = !load->ending && now >= load->end;
    load->ending = load->ending || last;
    for (uint32_t i = 0; i < load->count; i++) {
        struct ab_cmp_conn *conn = &load->conns[i];
        if (last && conn->proto->finish) {
            conn->proto->finish(conn);
        } else if (!load->ending) {
            fill(conn, now);
        }
        if (flush(load, conn) != 0) {
            return -1;
        }
        load->fds[i] = (struct pollfd){
            .fd = conn->fd, .events = (short)(POLLIN | (ab_cmp_bytes_size(&conn->out) > 0 ? POLLOUT : 0))};
    }
    return now < load->end + DRAIN_NS ? 0 : ab_cmp_fail(load->site, "no answer to the last requests");
}

static int loop(struct load *load)
{
    for (;;) {
        if (push(load) != 0) {
            return -1;
        }
        if (load->ending && drained(load)) {
            return 0;
        }
        uint64_t now = ab_bench_now();
        uint64_t next = load->result->cpu_at_mark == 0 ? load->result->mark : load->end;
        int ms = load->ending || next <= now ? 1000 : (int)((next - now) / 1000000u) + 1;
        if (poll(load->fds, load->count + 1, ms) < 0 && errno != EINTR) {
            return ab_cmp_fail(load->site, "poll: %s", strerror(errno));
        }
        if (load->fds[load->count].revents) {
            load->site->cancelled = true;
            return ab_cmp_fail(load->site, "interrupted");
        }
        for (uint32_t i = 0; i < load->count; i++) {
            if (load->fds[i].revents & (POLLIN | POLLHUP | POLLERR) && receive(load, &load->conns[i]) != 0) {
                return -1;
            }
        }
    }
}

static int run(struct load *load, const struct ab_cmp_proto *proto, uint16_t port, enum ab_cmp_case which)
{
    for (uint32_t i = 0; i < load->count; i++) {
        load->conns[i].fd = -1;
    }
    for (uint32_t i = 0; i < load->count; i++) {
        if (open_conn(load, proto, port, i, which) != 0) {
            return -1;
        }
    }
    load->fds[load->count] = (struct pollfd){.fd = load->site->cancel_fd, .events = POLLIN};
    int rc = loop(load);
    for (uint32_t i = 0; i < load->count; i++) {
        load->result->written[i] = load->conns[i].written;
    }
    return rc;
}

int ab_cmp_load_run(struct ab_cmp_site *site, const struct ab_cmp_proto *proto, uint16_t port,
                    enum ab_cmp_case which, struct ab_cmp_load_result *result)
{
    const struct ab_cmp_load *wanted = &site->options->load;
    struct load load = {.site = site, .result = result, .start = ab_bench_now()};
    load.count = which == AB_CMP_LATENCY ? 1 : wanted->writers * AB_CMP_NODES;
    load.end = load.start + wanted->warmup_ns + wanted->duration_ns;
    memset(result, 0, sizeof *result);
    result->conns = load.count;
    result->mark = load.start + wanted->warmup_ns;
    load.conns = calloc(load.count, sizeof load.conns[0]);
    load.fds = calloc(load.count + 1, sizeof load.fds[0]);
    int rc = load.conns && load.fds ? run(&load, proto, port, which) : ab_cmp_fail(site, "out of memory");
    for (uint32_t i = 0; load.conns && i < load.count; i++) {
        close_conn(&load.conns[i]);
    }
    free(load.conns);
    free(load.fds);
    return rc;
}
