/* SPDX-License-Identifier: Apache-2.0 */
/* etcd: three members. An entry is a key of its own; Put over gRPC, or a Txn with many of them. Main thread. */
#include "tests/compare/grpc.h"
#include "tests/compare/peers.h"
#include "tools/anabranch/bench_sys.h"

#include <stdlib.h>
#include <string.h>

#define POLL_MS 1u
#define GRPC_HEAD 5u
#define KEY_SIZE 16u

/* Fields of etcd's messages (rpc.proto). */
enum { PUT_KEY = 1, PUT_VALUE = 2 };
enum { TXN_SUCCESS = 2, OP_PUT = 2 };
enum { RANGE_KEY = 1, RANGE_END = 2, RANGE_SERIALIZABLE = 7, RANGE_COUNT_ONLY = 9 };
enum { ANSWER_HEADER = 1, HEADER_MEMBER = 2, HEADER_REVISION = 3, RANGE_COUNT = 4, STATUS_LEADER = 4 };

/* Of site->ports: for clients, between members. */
static uint16_t client_port(const struct ab_cmp_site *site, uint32_t node)
{
    return site->ports[2 * node];
}

static uint16_t peer_port(const struct ab_cmp_site *site, uint32_t node)
{
    return site->ports[2 * node + 1];
}

/* --- writing --- */

/* A call that is not answered. Answers come in any order: found by the number of its stream. */
struct call {
    uint32_t slot;
    uint32_t answer; /* bytes of its answer so far */
    bool open;
};

struct writer {
    struct ab_grpc grpc;
    struct ab_cmp_bytes message;
    struct call *calls;
    uint32_t mask; /* of `calls`, a power of two less one */
};

static struct call *call_of(const struct writer *w, uint32_t stream)
{
    return &w->calls[(stream / 2) & w->mask];
}

static void on_data(void *arg, uint32_t stream, const uint8_t *data, size_t size)
{
    (void)data;
    struct ab_cmp_conn *conn = arg;
    call_of(conn->state, stream)->answer += (uint32_t)size;
}

/* A call that failed has no message in its answer. */
static void on_end(void *arg, uint32_t stream, bool failed)
{
    struct ab_cmp_conn *conn = arg;
    struct call *call = call_of(conn->state, stream);
    if (!call->open || failed || call->answer <= GRPC_HEAD) {
        snprintf(
            conn->error, sizeof conn->error,
            "etcd refused a write (when more than 5,000 are not applied yet, it wants fewer: --in-flight)");
        return;
    }
    call->open = false;
    ab_cmp_acked(conn, call->slot);
}

static int open_writer(struct ab_cmp_conn *conn)
{
    struct writer *w = calloc(1, sizeof *w);
    if (!w) {
        return -1;
    }
    conn->state = w;
    uint32_t size = 4;
    while (size < 4 * conn->slots) {
        size *= 2;
    }
    w->mask = size - 1;
    w->calls = calloc(size, sizeof w->calls[0]);
    w->grpc = (struct ab_grpc){.on_data = on_data, .on_end = on_end, .arg = conn};
    ab_grpc_start(&w->grpc, &conn->out);
    return w->calls && !conn->out.failed ? 0 : -1;
}

static void close_writer(struct ab_cmp_conn *conn)
{
    struct writer *w = conn->state;
    ab_cmp_bytes_free(&w->message);
    free(w->calls);
}

static void put_entry(struct ab_cmp_conn *conn, struct ab_cmp_bytes *out, uint64_t number)
{
    char key[AB_CMP_KEY_MAX];
    snprintf(key, sizeof key, "%03u/%012llu", conn->number, (unsigned long long)number);
    ab_pb_bytes(out, PUT_KEY, key, KEY_SIZE);
    ab_pb_bytes(out, PUT_VALUE, ab_cmp_payload(conn, number), conn->payload_size);
}

static size_t field_size(size_t size)
{
    return 1 + ab_pb_varint_size(size) + size;
}

static bool request(struct ab_cmp_conn *conn, uint32_t slot, uint64_t first, uint32_t count)
{
    struct writer *w = conn->state;
    struct call *call = call_of(w, w->grpc.next_stream);
    size_t put = field_size(KEY_SIZE) + field_size(conn->payload_size);
    size_t size = count == 1 ? put : count * field_size(field_size(put));
    if (call->open || !ab_grpc_fits(&w->grpc, size)) {
        return false;
    }
    ab_cmp_bytes_consume(&w->message, ab_cmp_bytes_size(&w->message));
    for (uint32_t i = 0; i < count; i++) {
        if (count > 1) {
            ab_pb_head(&w->message, TXN_SUCCESS, field_size(put));
            ab_pb_head(&w->message, OP_PUT, put);
        }
        put_entry(conn, &w->message, first + i);
    }
    if (w->message.failed) {
        conn->out.failed = true;
        return false;
    }
    const char *path = count > 1 ? "/etcdserverpb.KV/Txn" : "/etcdserverpb.KV/Put";
    ab_grpc_call(&w->grpc, path, ab_cmp_bytes_data(&w->message), ab_cmp_bytes_size(&w->message));
    *call = (struct call){.slot = slot, .open = true};
    return true;
}

static ptrdiff_t replies(struct ab_cmp_conn *conn, const uint8_t *data, size_t size)
{
    struct writer *w = conn->state;
    ptrdiff_t used = ab_grpc_input(&w->grpc, data, size);
    if (used < 0) {
        snprintf(conn->error, sizeof conn->error, "etcd: %s", w->grpc.error);
    }
    return conn->error[0] ? -1 : used;
}

static const struct ab_cmp_proto proto = {
    .open = open_writer, .request = request, .replies = replies, .close = close_writer};

/* --- asking --- */

struct answer {
    struct ab_cmp_bytes bytes;
    bool ended;
};

static void collect(void *arg, uint32_t stream, const uint8_t *data, size_t size)
{
    (void)stream;
    struct answer *answer = arg;
    ab_cmp_bytes_put(&answer->bytes, data, size);
}

static void ended(void *arg, uint32_t stream, bool failed)
{
    (void)stream;
    (void)failed;
    struct answer *answer = arg;
    answer->ended = true;
}

/* One call on a connection of its own. `answer` is the message without its head: empty where the call failed or nobody
 * listens yet. @return 0, or -1: hopeless, see site->error */
static int ask(struct ab_cmp_site *site, uint32_t node, const char *path, const struct ab_cmp_bytes *message,
               struct ab_cmp_bytes *answer)
{
    struct answer got = {0};
    struct ab_cmp_bytes out = {0};
    struct ab_grpc grpc = {.on_data = collect, .on_end = ended, .arg = &got};
    struct ab_cmp_line line = {.fd = ab_cmp_dial(client_port(site, node))};
    if (line.fd < 0) {
        return 0;
    }
    ab_grpc_start(&grpc, &out);
    ab_grpc_call(&grpc, path, ab_cmp_bytes_data(message), ab_cmp_bytes_size(message));
    int rc = 0;
    while (rc == 0 && !got.ended) {
        rc = ab_cmp_line_send(site, &line, &out);
        rc = rc == 0 ? ab_cmp_line_receive(site, &line) : rc;
        ptrdiff_t used =
            rc == 0 ? ab_grpc_input(&grpc, ab_cmp_bytes_data(&line.in), ab_cmp_bytes_size(&line.in)) : 0;
        if (used < 0) {
            rc = ab_cmp_fail(site, "etcd: %s", grpc.error);
        } else {
            ab_cmp_bytes_consume(&line.in, (size_t)used);
        }
    }
    if (ab_cmp_bytes_size(&got.bytes) >= GRPC_HEAD) {
        ab_cmp_bytes_consume(&got.bytes, GRPC_HEAD);
    }
    *answer = got.bytes;
    ab_cmp_bytes_free(&out);
    ab_cmp_line_close(&line);
    return rc;
}

/* A number of the header that each answer has, 0 where there is none. */
static uint64_t header_number(const struct ab_cmp_bytes *answer, uint32_t field)
{
    const uint8_t *header = NULL;
    size_t size = 0;
    uint64_t number = 0;
    if (ab_pb_find_bytes(ab_cmp_bytes_data(answer), ab_cmp_bytes_size(answer), ANSWER_HEADER, &header,
                         &size)) {
        ab_pb_find_number(header, size, field, &number);
    }
    return number;
}

/* What a member has by itself: its revision, and how many keys begin with those of a writer. */
static int look(struct ab_cmp_site *site, uint32_t node, uint32_t writer, uint64_t *revision, uint64_t *keys)
{
    struct ab_cmp_bytes message = {0}, answer = {0};
    char key[AB_CMP_KEY_MAX];
    snprintf(key, sizeof key, "%03u/", writer);
    ab_pb_bytes(&message, RANGE_KEY, key, 4);
    if (keys) {
        key[3]++;
        ab_pb_bytes(&message, RANGE_END, key, 4);
    }
    ab_pb_number(&message, RANGE_SERIALIZABLE, 1);
    ab_pb_number(&message, RANGE_COUNT_ONLY, 1);
    int rc = message.failed ? ab_cmp_fail(site, "out of memory")
                            : ask(site, node, "/etcdserverpb.KV/Range", &message, &answer);
    *revision = header_number(&answer, HEADER_REVISION);
    if (keys) {
        *keys = 0;
        ab_pb_find_number(ab_cmp_bytes_data(&answer), ab_cmp_bytes_size(&answer), RANGE_COUNT, keys);
    }
    ab_cmp_bytes_free(&message);
    ab_cmp_bytes_free(&answer);
    return rc;
}

/* --- running --- */

static int start_member(struct ab_cmp_site *site, uint32_t node, const char *members)
{
    char name[16], client[64], peer[64];
    snprintf(name, sizeof name, "node%u", node + 1);
    snprintf(client, sizeof client, "http://127.0.0.1:%u", client_port(site, node));
    snprintf(peer, sizeof peer, "http://127.0.0.1:%u", peer_port(site, node));
    char *argv[] = {(char *)"etcd",
                    (char *)"--name",
                    name,
                    (char *)"--data-dir",
                    (char *)"data",
                    (char *)"--listen-client-urls",
                    client,
                    (char *)"--advertise-client-urls",
                    client,
                    (char *)"--listen-peer-urls",
                    peer,
                    (char *)"--initial-advertise-peer-urls",
                    peer,
                    (char *)"--initial-cluster",
                    (char *)members,
                    (char *)"--initial-cluster-state",
                    (char *)"new",
                    (char *)"--quota-backend-bytes",
                    (char *)"8589934592",
                    NULL};
    return ab_cmp_site_start(site, argv);
}

/* The member that leads, asked from each about itself. @return 0 or -1; *leader is AB_CMP_NODES: nobody yet */
static int find_leader(struct ab_cmp_site *site, uint32_t *leader)
{
    uint32_t serving = 0;
    *leader = AB_CMP_NODES;
    for (uint32_t node = 0; node < AB_CMP_NODES; node++) {
        struct ab_cmp_bytes message = {0}, answer = {0};
        uint64_t who = 0;
        int rc = ask(site, node, "/etcdserverpb.Maintenance/Status", &message, &answer);
        uint64_t member = header_number(&answer, HEADER_MEMBER);
        ab_pb_find_number(ab_cmp_bytes_data(&answer), ab_cmp_bytes_size(&answer), STATUS_LEADER, &who);
        ab_cmp_bytes_free(&answer);
        if (rc != 0) {
            return -1;
        }
        serving += who != 0;
        *leader = who != 0 && who == member ? node : *leader;
    }
    *leader = serving == AB_CMP_NODES ? *leader : AB_CMP_NODES;
    return 0;
}

static int start(struct ab_cmp_site *site, uint16_t *port)
{
    char members[256];
    uint64_t until = ab_bench_now() + AB_CMP_STARTUP_NS;
    snprintf(members, sizeof members,
             "node1=http://127.0.0.1:%u,node2=http://127.0.0.1:%u,node3=http://127.0.0.1:%u",
             peer_port(site, 0), peer_port(site, 1), peer_port(site, 2));
    for (uint32_t i = 0; i < AB_CMP_NODES; i++) {
        if (start_member(site, i, members) != 0) {
            return -1;
        }
    }
    uint32_t leader = AB_CMP_NODES;
    while (find_leader(site, &leader) == 0 && leader == AB_CMP_NODES) {
        if (ab_cmp_pause(site, 50, until, "etcd: electing a leader") != 0) {
            return -1;
        }
    }
    *port = client_port(site, leader % AB_CMP_NODES);
    return site->error[0] ? -1 : 0;
}

/* Each write and each transaction is a revision; a fresh store has the first. */
static int settle(struct ab_cmp_site *site, const struct ab_cmp_load_result *result)
{
    uint64_t until = ab_bench_now() + AB_CMP_SETTLE_NS;
    for (uint32_t node = 0; node < AB_CMP_NODES; node++) {
        uint64_t revision = 0;
        while (look(site, node, 0, &revision, NULL) == 0 && revision < result->requests + 1) {
            if (ab_cmp_pause(site, POLL_MS, until, "etcd: members catching up") != 0) {
                return -1;
            }
        }
    }
    return site->error[0] ? -1 : 0;
}

static int verify(struct ab_cmp_site *site, const struct ab_cmp_load_result *result)
{
    for (uint32_t node = 0; node < AB_CMP_NODES; node++) {
        for (uint32_t writer = 0; writer < result->conns; writer++) {
            uint64_t revision = 0, keys = 0;
            if (look(site, node, writer, &revision, &keys) != 0) {
                return -1;
            }
            if (keys != result->written[writer] || revision != result->requests + 1) {
                return ab_cmp_fail(
                    site, "etcd: member %u has %llu keys of writer %u at revision %llu, not %llu at %llu",
                    node + 1, (unsigned long long)keys, writer, (unsigned long long)revision,
                    (unsigned long long)result->written[writer], (unsigned long long)result->requests + 1);
            }
        }
    }
    return 0;
}

const struct ab_cmp_peer ab_cmp_etcd = {
    .many = true, .proto = &proto, .start = start, .settle = settle, .verify = verify};
