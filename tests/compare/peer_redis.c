/* SPDX-License-Identifier: Apache-2.0 */
/* redis-server: a master with two replicas. An entry is an element of a list, one list per writer: RPUSH with one or
 * many values, pipelined. Main thread. */
#include "tests/compare/peers.h"
#include "tests/compare/resp.h"
#include "tools/anabranch/bench_sys.h"

#include <stdlib.h>
#include <string.h>

#define POLL_MS 1u

/* --- writing --- */

/* Replies come in order: of RPUSHs, and with WAIT after each flight of them the one that acknowledges the flight. */
struct writer {
    uint32_t flight;   /* requests per WAIT; 0: no WAIT */
    uint32_t open;     /* requests made since the last WAIT */
    uint64_t answered; /* RPUSHs answered, not yet acknowledged by a WAIT */
    uint32_t next;     /* slot whose reply is next */
};

static int open_plain(struct ab_cmp_conn *conn)
{
    conn->state = calloc(1, sizeof(struct writer));
    return conn->state ? 0 : -1;
}

/* Half of the window per WAIT: the other half is on its way meanwhile. */
static int open_waiting(struct ab_cmp_conn *conn)
{
    if (open_plain(conn) != 0) {
        return -1;
    }
    struct writer *w = conn->state;
    w->flight = conn->slots > 1 ? conn->slots / 2 : 1;
    return 0;
}

static void put_wait(struct ab_cmp_conn *conn)
{
    struct writer *w = conn->state;
    if (w->flight > 0 && w->open > 0) {
        ab_resp_line(&conn->out, "WAIT 2 30000");
        w->open = 0;
    }
}

static bool request(struct ab_cmp_conn *conn, uint32_t slot, uint64_t first, uint32_t count)
{
    (void)slot;
    struct writer *w = conn->state;
    char key[AB_CMP_KEY_MAX];
    int length = snprintf(key, sizeof key, "log:%u", conn->number);
    ab_resp_head(&conn->out, 2 + (size_t)count);
    ab_resp_word(&conn->out, "RPUSH", 5);
    ab_resp_word(&conn->out, key, (size_t)length);
    for (uint32_t i = 0; i < count; i++) {
        ab_resp_word(&conn->out, ab_cmp_payload(conn, first + i), conn->payload_size);
    }
    w->open++;
    if (w->open == w->flight) {
        put_wait(conn);
    }
    return true;
}

static void acknowledge(struct ab_cmp_conn *conn, struct writer *w)
{
    ab_cmp_acked(conn, w->next);
    w->next = (w->next + 1) % conn->slots;
}

/* Whether the next reply is that of a WAIT: it follows each whole flight, and the last request of all. */
static bool wait_is_next(const struct ab_cmp_conn *conn, const struct writer *w)
{
    uint64_t acknowledged = conn->given - conn->slots;
    bool all_answered = w->open == 0 && acknowledged + w->answered == conn->taken;
    return w->flight > 0 && w->answered > 0 && (w->answered == w->flight || all_answered);
}

/* The number in a reply is the length of the list, or how many replicas have the writes before a WAIT. */
static bool take(struct ab_cmp_conn *conn, struct writer *w, const struct ab_resp *reply)
{
    bool wait = wait_is_next(conn, w);
    uint64_t expected = wait ? 2 : conn->acked + (w->answered + 1) * conn->batch;
    if (reply->type != AB_RESP_INTEGER) {
        snprintf(conn->error, sizeof conn->error, "redis answered: %.*s", (int)reply->size, reply->text);
        return false;
    }
    if ((uint64_t)reply->integer != expected) {
        snprintf(conn->error, sizeof conn->error, "redis answered %lld to %s, not %llu",
                 (long long)reply->integer, wait ? "WAIT" : "RPUSH", (unsigned long long)expected);
        return false;
    }
    w->answered++;
    if (w->flight > 0 && !wait) {
        return true;
    }
    for (w->answered -= wait; w->answered > 0; w->answered--) {
        acknowledge(conn, w);
    }
    return true;
}

static ptrdiff_t replies(struct ab_cmp_conn *conn, const uint8_t *data, size_t size)
{
    size_t at = 0;
    for (;;) {
        struct ab_resp reply;
        ptrdiff_t n = ab_resp_parse(data + at, size - at, &reply);
        if (n < 0) {
            snprintf(conn->error, sizeof conn->error, "redis: an answer that is no RESP");
            return -1;
        }
        if (n == 0) {
            return (ptrdiff_t)at;
        }
        if (!take(conn, conn->state, &reply)) {
            return -1;
        }
        at += (size_t)n;
    }
}

static const struct ab_cmp_proto proto_plain = {.open = open_plain, .request = request, .replies = replies};
static const struct ab_cmp_proto proto_wait = {
    .open = open_waiting, .request = request, .finish = put_wait, .replies = replies};

/* --- asking --- */

/* Sends a command, waits for its reply, which stays valid until the line is used again. */
static int ask(struct ab_cmp_site *site, struct ab_cmp_line *line, const char *command, struct ab_resp *reply)
{
    struct ab_cmp_bytes out = {0};
    ab_cmp_bytes_consume(&line->in, ab_cmp_bytes_size(&line->in));
    ab_resp_line(&out, command);
    int rc = ab_cmp_line_send(site, line, &out);
    ab_cmp_bytes_free(&out);
    ptrdiff_t n = 0;
    while (rc == 0 && n == 0) {
        rc = ab_cmp_line_receive(site, line);
        n = ab_resp_parse(ab_cmp_bytes_data(&line->in), ab_cmp_bytes_size(&line->in), reply);
    }
    return rc == 0 && n < 0 ? ab_cmp_fail(site, "redis: an answer that is no RESP") : rc;
}

/* A number from INFO. @return 0 or -1; *number is 0 where INFO has no such line */
static int info(struct ab_cmp_site *site, struct ab_cmp_line *line, const char *name, uint64_t *number)
{
    struct ab_resp reply;
    *number = 0;
    if (ask(site, line, "INFO replication", &reply) != 0) {
        return -1;
    }
    if (reply.type == AB_RESP_BULK) {
        ab_resp_info_number(reply.text, reply.size, name, number);
    }
    return 0;
}

static int open_lines(struct ab_cmp_site *site, struct ab_cmp_line lines[AB_CMP_NODES], uint64_t until)
{
    for (uint32_t i = 0; i < AB_CMP_NODES; i++) {
        lines[i] = (struct ab_cmp_line){.fd = -1};
    }
    for (uint32_t i = 0; i < AB_CMP_NODES; i++) {
        while ((lines[i].fd = ab_cmp_dial(site->ports[i])) < 0) {
            if (ab_cmp_pause(site, 10, until, "redis: starting") != 0) {
                return -1;
            }
        }
    }
    return 0;
}

static void close_lines(struct ab_cmp_line lines[AB_CMP_NODES])
{
    for (uint32_t i = 0; i < AB_CMP_NODES; i++) {
        ab_cmp_line_close(&lines[i]);
    }
}

/* --- running --- */

static int write_config(struct ab_cmp_site *site, uint32_t node, const char *fsync)
{
    char text[1024], replica[64] = "";
    if (node > 0) {
        snprintf(replica, sizeof replica, "replicaof 127.0.0.1 %u\n", site->ports[0]);
    }
    snprintf(text, sizeof text,
             "bind 127.0.0.1\n"
             "port %u\n"
             "daemonize no\n"
             "appendonly yes\n"
             "appendfsync %s\n"
             "save \"\"\n"
             "auto-aof-rewrite-percentage 0\n"
             "repl-diskless-sync-delay 0\n"
             "%s",
             site->ports[node], fsync, replica);
    return ab_cmp_site_file(site, node, "redis.conf", text);
}

/* The master counts replicas that are in step; offsets start to move then. */
static int await_replicas(struct ab_cmp_site *site, uint64_t until)
{
    struct ab_cmp_line lines[AB_CMP_NODES];
    struct ab_resp reply;
    int rc = open_lines(site, lines, until);
    bool ready = false;
    while (rc == 0 && !ready) {
        rc = ask(site, &lines[0], "WAIT 2 100", &reply);
        ready = rc == 0 && reply.type == AB_RESP_INTEGER && reply.integer == 2;
        if (rc == 0 && !ready) {
            rc = ab_cmp_pause(site, 10, until, "redis: replicas joining");
        }
    }
    close_lines(lines);
    return rc;
}

static int start(struct ab_cmp_site *site, uint16_t *port, const char *fsync)
{
    char *argv[] = {(char *)"redis-server", (char *)"redis.conf", NULL};
    uint64_t until = ab_bench_now() + AB_CMP_STARTUP_NS;
    for (uint32_t i = 0; i < AB_CMP_NODES; i++) {
        if (write_config(site, i, fsync) != 0 || ab_cmp_site_start(site, argv) != 0) {
            return -1;
        }
    }
    *port = site->ports[0];
    return await_replicas(site, until);
}

static int start_always(struct ab_cmp_site *site, uint16_t *port)
{
    return start(site, port, "always");
}

static int start_everysec(struct ab_cmp_site *site, uint16_t *port)
{
    return start(site, port, "everysec");
}

/* Until both replicas have processed as many bytes of the replication stream as the master has sent. */
static int settle(struct ab_cmp_site *site, const struct ab_cmp_load_result *result)
{
    (void)result;
    struct ab_cmp_line lines[AB_CMP_NODES];
    uint64_t until = ab_bench_now() + AB_CMP_SETTLE_NS, all = 0, has = 0;
    int rc = open_lines(site, lines, until);
    rc = rc == 0 ? info(site, &lines[0], "master_repl_offset", &all) : rc;
    for (uint32_t i = 1; i < AB_CMP_NODES && rc == 0; i++) {
        for (;;) {
            rc = info(site, &lines[i], "slave_repl_offset", &has);
            if (rc != 0 || has >= all) {
                break;
            }
            rc = ab_cmp_pause(site, POLL_MS, until, "redis: replicas catching up");
            if (rc != 0) {
                break;
            }
        }
    }
    close_lines(lines);
    return rc;
}

static int verify_node(struct ab_cmp_site *site, struct ab_cmp_line *line, uint32_t node,
                       const struct ab_cmp_load_result *result)
{
    char command[64];
    struct ab_resp reply;
    for (uint32_t i = 0; i < result->conns; i++) {
        snprintf(command, sizeof command, "LLEN log:%u", i);
        if (ask(site, line, command, &reply) != 0) {
            return -1;
        }
        if (reply.type != AB_RESP_INTEGER || (uint64_t)reply.integer != result->written[i]) {
            return ab_cmp_fail(site, "redis: node %u has %lld entries of writer %u, not %llu", node + 1,
                               (long long)reply.integer, i, (unsigned long long)result->written[i]);
        }
        snprintf(command, sizeof command, "LINDEX log:%u -1", i);
        uint64_t number = 0;
        if (ask(site, line, command, &reply) != 0) {
            return -1;
        }
        if (reply.type == AB_RESP_BULK && reply.size >= 16) {
            memcpy(&number, reply.text + 8, sizeof number);
        }
        if (reply.type != AB_RESP_BULK || reply.size != site->options->load.payload ||
            number + 1 != result->written[i]) {
            return ab_cmp_fail(site, "redis: node %u: the last entry of writer %u is another", node + 1, i);
        }
    }
    return 0;
}

static int verify(struct ab_cmp_site *site, const struct ab_cmp_load_result *result)
{
    struct ab_cmp_line lines[AB_CMP_NODES];
    int rc = open_lines(site, lines, ab_bench_now() + AB_CMP_STARTUP_NS);
    for (uint32_t i = 0; i < AB_CMP_NODES && rc == 0; i++) {
        rc = verify_node(site, &lines[i], i, result);
    }
    close_lines(lines);
    return rc;
}

const struct ab_cmp_peer ab_cmp_redis_always = {
    .many = true, .proto = &proto_plain, .start = start_always, .settle = settle, .verify = verify};
const struct ab_cmp_peer ab_cmp_redis_everysec = {
    .many = true, .proto = &proto_plain, .start = start_everysec, .settle = settle, .verify = verify};
const struct ab_cmp_peer ab_cmp_redis_wait = {
    .many = true, .proto = &proto_wait, .start = start_always, .settle = settle, .verify = verify};
