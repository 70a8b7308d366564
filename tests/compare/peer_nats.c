/* SPDX-License-Identifier: Apache-2.0 */
/* nats-server with JetStream: a stream with three replicas in files. An entry is a message; the acknowledgement of the
 * stream comes to a subject that ends in the slot's number. Main thread. */
#include "tests/compare/nats_text.h"
#include "tests/compare/peers.h"
#include "tools/anabranch/bench_sys.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POLL_MS 2u
#define STREAM_CONFIG                                                                                        \
    "{\"name\":\"C\",\"subjects\":[\"c.*\"],\"retention\":\"limits\",\"storage\":\"file\",\"num_replicas\":" \
    "3,"                                                                                                     \
    "\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,\"discard\":\"old\"}"

/* Of site->ports: for clients, between nodes, for monitoring. */
static uint16_t client_port(const struct ab_cmp_site *site, uint32_t node)
{
    return site->ports[3 * node];
}

static uint16_t route_port(const struct ab_cmp_site *site, uint32_t node)
{
    return site->ports[3 * node + 1];
}

static uint16_t monitor_port(const struct ab_cmp_site *site, uint32_t node)
{
    return site->ports[3 * node + 2];
}

/* --- writing --- */

static int open_writer(struct ab_cmp_conn *conn)
{
    char text[64];
    ab_nats_connect(&conn->out);
    snprintf(text, sizeof text, "SUB a.%u.* 1\r\n", conn->number);
    ab_cmp_bytes_text(&conn->out, text);
    return conn->out.failed ? -1 : 0;
}

static bool request(struct ab_cmp_conn *conn, uint32_t slot, uint64_t first, uint32_t count)
{
    (void)count; /* one message per request */
    char subject[AB_CMP_KEY_MAX], reply[AB_CMP_KEY_MAX];
    snprintf(subject, sizeof subject, "c.%u", conn->number);
    snprintf(reply, sizeof reply, "a.%u.%u", conn->number, slot);
    ab_nats_publish(&conn->out, subject, reply, conn->payload_size);
    ab_cmp_bytes_put(&conn->out, ab_cmp_payload(conn, first), conn->payload_size);
    ab_cmp_bytes_text(&conn->out, "\r\n");
    return true;
}

static bool take(struct ab_cmp_conn *conn, const struct ab_nats_event *event)
{
    uint64_t slot = 0;
    switch (event->op) {
    case AB_NATS_PING:
        ab_cmp_bytes_text(&conn->out, "PONG\r\n");
        return true;
    case AB_NATS_MSG:
        if (ab_nats_acknowledged(event->payload, event->size) &&
            ab_nats_tail(event->subject, event->subject_size, &slot) && slot < conn->slots) {
            ab_cmp_acked(conn, (uint32_t)slot);
            return true;
        }
        break;
    case AB_NATS_ERR:
        break;
    default:
        return true;
    }
    snprintf(conn->error, sizeof conn->error, "nats answered: %.*s", (int)event->size, event->payload);
    return false;
}

static ptrdiff_t replies(struct ab_cmp_conn *conn, const uint8_t *data, size_t size)
{
    size_t at = 0;
    for (;;) {
        struct ab_nats_event event;
        ptrdiff_t n = ab_nats_parse(data + at, size - at, &event);
        if (n < 0) {
            snprintf(conn->error, sizeof conn->error, "nats: an answer that is not of its protocol");
            return -1;
        }
        if (n == 0) {
            return (ptrdiff_t)at;
        }
        if (!take(conn, &event)) {
            return -1;
        }
        at += (size_t)n;
    }
}

static const struct ab_cmp_proto proto = {.open = open_writer, .request = request, .replies = replies};

/* --- asking --- */

/* One request to JetStream's API. @return its answer as JSON, or NULL */
static json_t *ask_api(struct ab_cmp_site *site, uint16_t port, const char *subject, const char *body)
{
    struct ab_cmp_line line = {.fd = ab_cmp_dial(port)};
    struct ab_cmp_bytes out = {0};
    struct ab_nats_event event = {0};
    json_t *answer = NULL;
    ab_nats_connect(&out);
    ab_cmp_bytes_text(&out, "SUB r.1 1\r\n");
    ab_nats_publish(&out, subject, "r.1", strlen(body));
    ab_cmp_bytes_text(&out, body);
    ab_cmp_bytes_text(&out, "\r\n");
    int rc = line.fd < 0 ? ab_cmp_fail(site, "nats: connecting") : ab_cmp_line_send(site, &line, &out);
    while (rc == 0 && !answer) {
        ptrdiff_t n = ab_nats_parse(ab_cmp_bytes_data(&line.in), ab_cmp_bytes_size(&line.in), &event);
        if (n > 0 && event.op == AB_NATS_MSG) {
            answer = json_loadb(event.payload, event.size, 0, NULL);
        }
        if (n < 0 || event.op == AB_NATS_ERR || (event.op == AB_NATS_MSG && !answer)) {
            rc = ab_cmp_fail(site, "nats: an answer that makes no sense to %s", subject);
        } else if (n > 0) {
            ab_cmp_bytes_consume(&line.in, (size_t)n);
        } else {
            rc = ab_cmp_line_receive(site, &line);
        }
    }
    ab_cmp_bytes_free(&out);
    ab_cmp_line_close(&line);
    return answer;
}

/* GET of the monitoring port, which closes after the answer. @return JSON or NULL: not yet; fatal ones are in site->error */
static json_t *ask_monitor(struct ab_cmp_site *site, uint16_t port, const char *path)
{
    struct ab_cmp_line line = {.fd = ab_cmp_dial(port)};
    if (line.fd < 0) {
        return NULL; /* not there yet */
    }
    struct ab_cmp_bytes out = {0};
    json_t *answer = NULL;
    ab_cmp_bytes_text(&out, "GET ");
    ab_cmp_bytes_text(&out, path);
    ab_cmp_bytes_text(&out, " HTTP/1.0\r\n\r\n");
    int rc = ab_cmp_line_send(site, &line, &out);
    while (rc == 0 && !answer) {
        const char *text = (const char *)ab_cmp_bytes_data(&line.in);
        size_t size = ab_cmp_bytes_size(&line.in), at = 0;
        while (at + 4 <= size && memcmp(text + at, "\r\n\r\n", 4) != 0) {
            at++;
        }
        /* numbers as doubles: some of it is larger than an int64 */
        answer =
            at + 4 < size ? json_loadb(text + at + 4, size - at - 4, JSON_DECODE_INT_AS_REAL, NULL) : NULL;
        rc = answer ? 0 : ab_cmp_line_receive(site, &line);
    }
    ab_cmp_bytes_free(&out);
    ab_cmp_line_close(&line);
    return answer;
}

/* How many messages of the stream a node has stored itself. @return 0 or -1; -1 as the number: it does not say */
static int messages_of(struct ab_cmp_site *site, uint32_t node, int64_t *messages)
{
    json_t *answer = ask_monitor(site, monitor_port(site, node), "/jsz?streams=1");
    json_t *account = json_array_get(json_object_get(answer, "account_details"), 0);
    json_t *stream = json_array_get(json_object_get(account, "stream_detail"), 0);
    json_t *count = json_object_get(json_object_get(stream, "state"), "messages");
    *messages = json_is_number(count) ? (int64_t)json_number_value(count) : -1;
    json_decref(answer);
    return site->error[0] ? -1 : 0;
}

/* --- running --- */

static int write_config(struct ab_cmp_site *site, uint32_t node)
{
    char text[2048];
    snprintf(text, sizeof text,
             "server_name: node%u\n"
             "listen: \"127.0.0.1:%u\"\n"
             "http: \"127.0.0.1:%u\"\n"
             "jetstream {\n"
             "  store_dir: \"%s/node%u/js\"\n"
             "  max_file_store: 64G\n"
             "}\n"
             "cluster {\n"
             "  name: compare\n"
             "  listen: \"127.0.0.1:%u\"\n"
             "  routes: [\"nats://127.0.0.1:%u\", \"nats://127.0.0.1:%u\", \"nats://127.0.0.1:%u\"]\n"
             "}\n",
             node + 1, client_port(site, node), monitor_port(site, node), site->dir, node + 1,
             route_port(site, node), route_port(site, 0), route_port(site, 1), route_port(site, 2));
    return ab_cmp_site_file(site, node, "nats.conf", text);
}

/* Until the nodes have elected who leads them: JetStream's API answers nobody before. */
static int await_cluster(struct ab_cmp_site *site, uint64_t until)
{
    for (uint32_t node = 0; node < AB_CMP_NODES; node++) {
        for (bool ready = false; !ready;) {
            json_t *answer = ask_monitor(site, monitor_port(site, node), "/jsz");
            json_t *meta = json_object_get(answer, "meta_cluster");
            const char *leader = json_string_value(json_object_get(meta, "leader"));
            ready =
                leader && *leader && json_number_value(json_object_get(meta, "cluster_size")) >= AB_CMP_NODES;
            json_decref(answer);
            if (site->error[0] || (!ready && ab_cmp_pause(site, 20, until, "nats: electing a leader") != 0)) {
                return -1;
            }
        }
    }
    return 0;
}

/* The node that leads the stream, from an answer of the API, if its replicas are in step. @return -1: not yet */
static int leader_of(const json_t *answer)
{
    json_t *cluster = json_object_get(answer, "cluster");
    json_t *replicas = json_object_get(cluster, "replicas");
    const char *name = json_string_value(json_object_get(cluster, "leader"));
    if (!name || strncmp(name, "node", 4) != 0 || json_array_size(replicas) != AB_CMP_NODES - 1) {
        return -1;
    }
    for (size_t i = 0; i < AB_CMP_NODES - 1; i++) {
        if (!json_is_true(json_object_get(json_array_get(replicas, i), "current"))) {
            return -1;
        }
    }
    int node = name[4] - '1';
    return node >= 0 && node < (int)AB_CMP_NODES ? node : -1;
}

static int make_stream(struct ab_cmp_site *site, uint16_t *port, uint64_t until)
{
    const char *subject = "$JS.API.STREAM.CREATE.C", *body = STREAM_CONFIG;
    for (;;) {
        json_t *answer = ask_api(site, client_port(site, 0), subject, body);
        if (!answer) {
            return -1;
        }
        int leader = leader_of(answer);
        bool made = !json_object_get(answer, "error");
        json_decref(answer);
        if (leader >= 0) {
            *port = client_port(site, (uint32_t)leader);
            return 0;
        }
        if (made) {
            subject = "$JS.API.STREAM.INFO.C";
            body = "";
        }
        if (ab_cmp_pause(site, 50, until, "nats: making the stream") != 0) {
            return -1;
        }
    }
}

static int start(struct ab_cmp_site *site, uint16_t *port)
{
    char *argv[] = {(char *)"nats-server", (char *)"-c", (char *)"nats.conf", NULL};
    uint64_t until = ab_bench_now() + AB_CMP_STARTUP_NS;
    for (uint32_t i = 0; i < AB_CMP_NODES; i++) {
        if (write_config(site, i) != 0 || ab_cmp_site_start(site, argv) != 0) {
            return -1;
        }
    }
    if (await_cluster(site, until) != 0) {
        return -1;
    }
    return make_stream(site, port, until);
}

static int settle(struct ab_cmp_site *site, const struct ab_cmp_load_result *result)
{
    uint64_t until = ab_bench_now() + AB_CMP_SETTLE_NS;
    for (uint32_t node = 0; node < AB_CMP_NODES; node++) {
        int64_t messages = 0;
        while (messages_of(site, node, &messages) == 0 && messages < (int64_t)result->entries) {
            if (ab_cmp_pause(site, POLL_MS, until, "nats: replicas catching up") != 0) {
                return -1;
            }
        }
    }
    return site->error[0] ? -1 : 0;
}

static int verify(struct ab_cmp_site *site, const struct ab_cmp_load_result *result)
{
    for (uint32_t node = 0; node < AB_CMP_NODES; node++) {
        int64_t messages = 0;
        if (messages_of(site, node, &messages) != 0) {
            return -1;
        }
        if (messages != (int64_t)result->entries) {
            return ab_cmp_fail(site, "nats: node %u has %lld messages, not %llu", node + 1,
                               (long long)messages, (unsigned long long)result->entries);
        }
    }
    return 0;
}

const struct ab_cmp_peer ab_cmp_nats = {
    .many = false, .proto = &proto, .start = start, .settle = settle, .verify = verify};
