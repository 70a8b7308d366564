/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a transport refuses and how: wrong greetings, duplicates, garbage, half-open connections; nobody else is hurt. */
#include "engine/transport/frame.h"
#include "engine/transport/hello.h"
#include "tests/support/run.h"
#include "tests/unit/transport_node.h"
#include "wal/bytes.h"

#include <anabranch/error.h>
#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Node 1 listens and has a good link with node 2 (which must survive everything); 3 is configured and free. */
static void start_good(node *a, node *b, uint32_t ping_ms)
{
    ab_peer_config others[] = {{.node_id = 2}, {.node_id = 3}, {.node_id = 4}};
    ab_transport_config config = node_config(1, others, 3);
    config.listen_host = "127.0.0.1";
    config.threads = 2;
    config.ping_ms = ping_ms;
    node_start(a, &config);
    ab_peer_config one = {.node_id = 1, .host = "127.0.0.1", .port = ab_transport_port(a->transport)};
    config = node_config(2, &one, 1);
    config.ping_ms = ping_ms;
    node_start(b, &config);
    node_wait(a, node_is_up, 2, "good link");
    node_wait(b, node_is_up, 1, "good link");
}

/* The good link still works and never fell. */
static void check_good(node *a, node *b)
{
    ck_assert_int_eq(node_message(a, 2, 1, 1000), AB_OK);
    ck_assert_int_eq(node_message(b, 1, 1, 1000), AB_OK);
    node_wait(a, node_has_messages, NODE_COUNT(2, 1), "message on the good link");
    node_wait(b, node_has_messages, NODE_COUNT(1, 1), "message on the good link");
    ck_assert(!node_wait_for(a, node_has_downs, NODE_COUNT(2, 1), 0));
    node_stop(b);
    node_stop(a);
}

static int raw_connect(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void raw_send(int fd, const void *data, size_t size)
{
    ck_assert_int_eq(send(fd, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* Reads until the other side closes. @return the code of its GOODBYE, AB_OK if there was none */
static int raw_read_end(int fd, char reason[AB_REASON_SIZE], int *frames)
{
    ab_reader reader;
    uint8_t data[4096];
    int result = AB_OK;
    ssize_t size;
    ab_reader_init(&reader, NULL);
    *frames = 0;
    while ((size = recv(fd, data, sizeof(data), 0)) > 0) {
        ab_bytes input = {data, (size_t)size};
        ab_frame frame;
        while (ab_reader_next(&reader, &input, &frame) == AB_OK) {
            (*frames)++;
            reader.handshake = reader.handshake && frame.type != AB_FRAME_READY;
            if (frame.type == AB_FRAME_GOODBYE) {
                ab_goodbye_decode(frame.body, &result, reason);
            }
        }
    }
    ck_assert_msg(size == 0 || size == -1, "recv");
    ab_reader_clear(&reader);
    (void)close(fd);
    return result;
}

static ab_hello good_hello(uint32_t node_id)
{
    ab_hello hello = {.protocol = AB_PROTOCOL_VERSION,
                      .block_version = AB_BLOCK_VERSION,
                      .cluster = "test",
                      .node_id = node_id,
                      .store_id = {(uint8_t)node_id, 1, 2, 3},
                      .nonce = 1000 + node_id};
    return hello;
}

static size_t hello_frame(const ab_hello *hello, uint8_t *frame)
{
    size_t size = ab_hello_encode(hello, frame + AB_FRAME_HEADER);
    ab_frame_seal(frame, AB_FRAME_HELLO, size);
    return AB_FRAME_HEADER + size;
}

static int greet(uint16_t port, const ab_hello *hello)
{
    uint8_t frame[AB_FRAME_HEADER + AB_HELLO_SIZE];
    int fd = raw_connect(port);
    raw_send(fd, frame, hello_frame(hello, frame));
    return fd;
}

typedef struct refusal {
    void (*spoil)(ab_hello *hello);
    int code;
    const char *text;
} refusal;

static void spoil_cluster(ab_hello *hello)
{
    memcpy(hello->cluster, "other", 6);
}
static void spoil_protocol(ab_hello *hello)
{
    hello->protocol = 2;
}
static void spoil_block(ab_hello *hello)
{
    hello->block_version = 9;
}
static void spoil_required(ab_hello *hello)
{
    hello->required = 1;
}
static void spoil_own_id(ab_hello *hello)
{
    hello->node_id = 1;
}
static void spoil_unknown_id(ab_hello *hello)
{
    hello->node_id = 77;
}
static void spoil_duplicate(ab_hello *hello)
{
    hello->node_id = 2;
    hello->store_id[5] = 9;
}

static const refusal refusals[] = {
    {spoil_cluster, AB_EIDENTITY, "cluster 'other', here 'test'"},
    {spoil_protocol, AB_EVERSION, "protocol version 2"},
    {spoil_block, AB_EVERSION, "block format version 9"},
    {spoil_required, AB_EVERSION, "requires features 0x1"},
    {spoil_own_id, AB_EIDENTITY, "node id 1 is this node's own"},
    {spoil_unknown_id, AB_EIDENTITY, "node 77 is not in the configuration of node 1"},
    {spoil_duplicate, AB_EIDENTITY, "node id 2 is in use by a live node with another data directory"},
};

START_TEST(wrong_greetings)
{
    node a;
    node b;
    start_good(&a, &b, 0);
    char reason[AB_REASON_SIZE] = "";
    int frames;
    ab_hello hello = good_hello(3);
    refusals[_i].spoil(&hello);
    int fd = greet(ab_transport_port(a.transport), &hello);
    ck_assert_int_eq(raw_read_end(fd, reason, &frames), refusals[_i].code);
    ck_assert_int_eq(frames, 1);
    ck_assert_msg(strstr(reason, refusals[_i].text) != NULL, "%s", reason);
    ck_assert_uint_eq(node_logged(&a, refusals[_i].text, AB_LOG_WARN), 1);
    ck_assert_uint_eq(node_logged(&a, "", AB_LOG_WARN), 1);
    ck_assert_uint_eq(a.links[3].ups, 0);
    check_good(&a, &b);
}
END_TEST

/* Who dials gets the wrong node, or one that it may not talk to. */
START_TEST(wrong_answers)
{
    node a;
    node b;
    node c;
    start_good(&a, &b, 0);
    /* Node 3 (or 6, unknown there) means to dial node 5 and gets node 1. */
    ab_peer_config five = {.node_id = 5, .host = "127.0.0.1", .port = ab_transport_port(a.transport)};
    ab_transport_config config = node_config(_i == 0 ? 3 : 6, &five, 1);
    node_start(&c, &config);
    const char *text =
        _i == 0 ? "dialled node 5, got node 1" : "node 6 is not in the configuration of node 1";
    while (node_logged(&c, text, AB_LOG_WARN) == 0) {
        (void)node_wait_for(&c, node_is_up, 5, 5);
    }
    ck_assert_uint_eq(c.links[5].ups, 0);
    ck_assert_int_eq(node_status(&c, 5).last_code, AB_EIDENTITY);
    node_stop(&c);
    check_good(&a, &b);
}
END_TEST

/* --- bytes that are no greeting --- */

START_TEST(garbage)
{
    node a;
    node b;
    start_good(&a, &b, 0);
    uint16_t port = ab_transport_port(a.transport);
    uint64_t seed = (uint64_t)_i + 1;
    uint8_t data[600];
    char reason[AB_REASON_SIZE];
    int frames;
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)node_random(&seed);
    }
    int fd = raw_connect(port);
    switch (_i) {
    case 0:
        raw_send(fd, data, sizeof(data));
        break;
    case 1:
        raw_send(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 28);
        break;
    case 2: /* announces too much */
        ab_frame_seal(data, AB_FRAME_HELLO, 100);
        ab_put_le32(data + 8, 1u << 30);
        raw_send(fd, data, 116);
        break;
    case 3: /* a block before the handshake */
        ab_frame_block_header(data, 300000);
        raw_send(fd, data, 16);
        break;
    case 4: /* a READY that nobody asked for */
        ab_frame_seal(data, AB_FRAME_READY, 8);
        raw_send(fd, data, 24);
        break;
    case 5: /* a greeting that is none */
        ab_frame_seal(data, AB_FRAME_HELLO, 100);
        raw_send(fd, data, 116);
        break;
    default: /* a damaged greeting */
    {
        ab_hello hello = good_hello(3);
        size_t size = hello_frame(&hello, data);
        data[40] ^= 1;
        raw_send(fd, data, size);
    }
    }
    int code = raw_read_end(fd, reason, &frames);
    ck_assert_msg(code == AB_OK || code == AB_EPROTO || code == AB_ETOOBIG || code == AB_ECORRUPT, "%d",
                  code);
    node_wait(&a, node_is_up, 2, "good link");
    while (node_logged(&a, "refused", AB_LOG_WARN) == 0) {
        (void)node_wait_for(&a, node_is_up, 3, 5);
    }
    ck_assert_uint_eq(node_logged(&a, "", AB_LOG_WARN), 1);
    check_good(&a, &b);
}
END_TEST

/* Connections that say nothing, or stop in the middle, are closed in time, and many of them do not matter. */
START_TEST(silent_strangers)
{
    node a;
    node b;
    start_good(&a, &b, 1000);
    uint8_t frame[AB_FRAME_HEADER + AB_HELLO_SIZE];
    ab_hello hello = good_hello(3);
    size_t size = hello_frame(&hello, frame);
    int fds[200];
    char reason[AB_REASON_SIZE];
    for (size_t i = 0; i < 200; i++) {
        fds[i] = raw_connect(ab_transport_port(a.transport));
        if (i < 100) {
            raw_send(fds[i], frame, i * size / 100);
        }
        if (i == 50) {
            (void)close(fds[i]); /* leaves in the middle */
        }
    }
    for (size_t i = 0; i < 200; i++) {
        int frames;
        if (i != 50) {
            int code = raw_read_end(fds[i], reason, &frames);
            ck_assert_msg(code == AB_ETIMEDOUT || code == AB_OK, "%d", code);
        }
    }
    ck_assert_uint_eq(node_logged(&a, "too many connections without a greeting", AB_LOG_ERROR), 1);
    /* and now somebody with manners */
    int fd = greet(ab_transport_port(a.transport), &hello);
    node_wait(&a, node_is_up, 3, "a proper greeting");
    (void)close(fd);
    node_wait(&a, node_is_down, 3, "end");
    check_good(&a, &b);
}
END_TEST

/* --- on a standing link --- */

static int raw_link(node *a, uint32_t id)
{
    ab_hello hello = good_hello(id);
    int fd = greet(ab_transport_port(a->transport), &hello);
    node_wait(a, node_is_up, id, "raw link");
    return fd;
}

START_TEST(garbage_on_a_link)
{
    node a;
    node b;
    start_good(&a, &b, 0);
    uint8_t data[4096] = {0};
    char reason[AB_REASON_SIZE] = "";
    int frames;
    int fd = raw_link(&a, 3);
    ab_buf *block = node_block(NULL, 3, 1, 2000);
    static const int codes[] = {AB_EPROTO,   AB_ETOOBIG, AB_ECORRUPT, AB_ECORRUPT,
                                AB_EVERSION, AB_EPROTO,  AB_EVERSION, AB_ECLOSED};
    switch (_i) {
    case 0:
        memset(data, 'z', sizeof(data));
        raw_send(fd, data, 100);
        break;
    case 1:
        ab_frame_seal(data, AB_FRAME_MESSAGE, 100);
        ab_put_le32(data + 8, AB_FRAME_CONTROL_MAX + 1);
        raw_send(fd, data, 116);
        break;
    case 2: /* damaged message */
        ab_frame_seal(data, AB_FRAME_MESSAGE, 100);
        data[60] ^= 4;
        raw_send(fd, data, 116);
        break;
    case 3: /* damaged block */
        ab_frame_block_header(data, block->size);
        memcpy(data + AB_FRAME_HEADER, block->data, block->size);
        data[AB_FRAME_HEADER + 1000] ^= 4;
        raw_send(fd, data, AB_FRAME_HEADER + block->size);
        break;
    case 4: /* block of another version */
        ab_frame_block_header(data, block->size);
        memcpy(data + AB_FRAME_HEADER, block->data, block->size);
        data[AB_FRAME_HEADER + 4] = 9;
        raw_send(fd, data, AB_FRAME_HEADER + block->size);
        break;
    case 5: {
        ab_hello hello = good_hello(3);
        raw_send(fd, data, hello_frame(&hello, data));
        break;
    }
    case 6:
        ab_frame_seal(data, AB_FRAME_PING, 8);
        data[5] = 0x80;
        raw_send(fd, data, 24);
        break;
    default: /* in the middle of a block */
        ab_frame_block_header(data, block->size);
        memcpy(data + AB_FRAME_HEADER, block->data, block->size);
        raw_send(fd, data, AB_FRAME_HEADER + 500);
        (void)shutdown(fd, SHUT_WR);
        break;
    }
    node_wait(&a, node_is_down, 3, "down");
    ck_assert_int_eq(a.links[3].down_code, codes[_i]);
    int code = raw_read_end(fd, reason, &frames);
    ck_assert_int_eq(code, _i == 7 ? AB_OK : codes[_i]);
    ck_assert_uint_eq(node_logged(&a, "node 3: link down", AB_LOG_WARN), 1);
    ck_assert_uint_eq(node_logged(&a, "", AB_LOG_WARN), 1);
    ck_assert_uint_eq(a.links[3].blocks, 0);
    ab_buf_unref(block);
    check_good(&a, &b);
}
END_TEST

/* A peer that is silent for ever is pinged and given up; one that answers stays. */
START_TEST(dead_peer)
{
    node a;
    node b;
    start_good(&a, &b, 500);
    uint8_t ping[24] = {0};
    int fd = raw_link(&a, 3);
    ab_frame_seal(ping, AB_FRAME_PING, 8);
    raw_send(fd, ping, 24); /* a first sign of life */
    node_wait(&a, node_is_down, 3, "given up");
    ck_assert_int_eq(a.links[3].down_code, AB_ETIMEDOUT);
    char reason[AB_REASON_SIZE];
    int frames;
    ck_assert_int_eq(raw_read_end(fd, reason, &frames), AB_ETIMEDOUT);
    ck_assert_int_ge(frames, 5); /* HELLO, READY, PONG, a PING or more, GOODBYE */
    /* One that says nothing at all after the handshake goes sooner. */
    fd = raw_link(&a, 3);
    node_wait(&a, node_is_down, 3, "given up");
    ck_assert_ptr_nonnull(strstr(a.links[3].down_reason, "after the handshake"));
    ck_assert_int_eq(raw_read_end(fd, reason, &frames), AB_ETIMEDOUT);
    check_good(&a, &b); /* silent as well, but alive */
}
END_TEST

/* A paused node is no dead node, for either side. */
START_TEST(pause_is_no_death)
{
    node a;
    node b;
    start_good(&a, &b, 700);
    ab_transport_pause(_i == 0 ? a.transport : b.transport, true);
    ck_assert(!node_wait_for(&a, node_is_down, 2, 3000));
    ck_assert(!node_wait_for(&b, node_is_down, 1, 10));
    ab_transport_pause(_i == 0 ? a.transport : b.transport, false);
    check_good(&a, &b);
}
END_TEST

/* An arbiter that chose and then says nothing may be one that does not read for now, and so does not answer either: it is
 * given up no sooner than at any other time. */
START_TEST(silent_arbiter)
{
    node n;
    ab_peer_config others[] = {{.node_id = 1}};
    ab_transport_config config = node_config(2, others, 1);
    config.listen_host = "127.0.0.1";
    config.ping_ms = 200;
    node_start(&n, &config);
    ab_hello hello = good_hello(1);
    int fd = greet(ab_transport_port(n.transport), &hello);
    uint8_t ready[AB_FRAME_HEADER + 8] = {0};
    ready[AB_FRAME_HEADER] = 1; /* the number of the link */
    ab_frame_seal(ready, AB_FRAME_READY, 8);
    raw_send(fd, ready, sizeof ready);
    node_wait(&n, node_is_up, 1, "chosen");
    node_wait(&n, node_is_down, 1, "given up");
    ck_assert_msg(strstr(n.links[1].down_reason, "nothing heard for") != NULL, "%s", n.links[1].down_reason);
    (void)close(fd);
    node_stop(&n);
}
END_TEST

/* The peer's process was restarted and dials again while its old connection still seems to stand. */
START_TEST(half_open_is_replaced)
{
    node a;
    node b;
    char reason[AB_REASON_SIZE] = "";
    int frames;
    start_good(&a, &b, 0);
    int old = raw_link(&a, 3);
    ab_hello hello = good_hello(3);
    hello.nonce++;
    int fd = greet(ab_transport_port(a.transport), &hello);
    node_wait(&a, node_has_downs, NODE_COUNT(3, 1), "old link down");
    node_wait(&a, node_is_up, 3, "new link up");
    ck_assert_int_eq(raw_read_end(old, reason, &frames), AB_OK);
    /* The same process, which never saw its link stand, is told to wait ... */
    int third = greet(ab_transport_port(a.transport), &hello);
    ck_assert_int_eq(raw_read_end(third, reason, &frames), AB_EBUSY);
    ck_assert_uint_eq(a.links[3].downs, 1);
    /* ... and one that saw it and lost it replaces it. */
    ab_reader reader;
    ab_frame frame = {.type = AB_FRAME_PONG};
    ab_reader_init(&reader, NULL);
    while (frame.type != AB_FRAME_READY) {
        size_t room;
        void *space = ab_reader_space(&reader, &room);
        ssize_t size = recv(fd, space, room, 0);
        ck_assert_int_gt(size, 0);
        ab_reader_added(&reader, (size_t)size);
        ab_bytes none = {NULL, 0};
        (void)ab_reader_next(&reader, &none, &frame);
    }
    hello.seen = ab_get_le64(frame.body.data);
    ab_reader_clear(&reader);
    third = greet(ab_transport_port(a.transport), &hello);
    node_wait(&a, node_has_downs, NODE_COUNT(3, 2), "second link down");
    node_wait(&a, node_is_up, 3, "third link up");
    (void)close(fd);
    (void)close(third);
    node_wait(&a, node_is_down, 3, "down");
    check_good(&a, &b);
}
END_TEST

/* What an unlinked socket of the peer leaves: a reset in the middle of everything. */
START_TEST(reset)
{
    node a;
    node b;
    start_good(&a, &b, 0);
    for (int i = 0; i < 20; i++) {
        int fd = raw_link(&a, 3);
        struct linger hard = {.l_onoff = 1};
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
        for (uint64_t m = 1; m < 20; m++) {
            (void)node_message(&a, 3, m, 100000);
        }
        (void)close(fd);
        node_wait(&a, node_is_down, 3, "down");
    }
    ck_assert_uint_eq(a.links[3].ups, 20);
    check_good(&a, &b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport-refuse");
    TCase *tcase = tcase_create("refuse");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, wrong_greetings, 0, (int)(sizeof(refusals) / sizeof(refusals[0])));
    tcase_add_loop_test(tcase, wrong_answers, 0, 2);
    tcase_add_loop_test(tcase, garbage, 0, 7);
    tcase_add_test(tcase, silent_strangers);
    tcase_add_loop_test(tcase, garbage_on_a_link, 0, 8);
    tcase_add_test(tcase, dead_peer);
    tcase_add_loop_test(tcase, pause_is_no_death, 0, 2);
    tcase_add_test(tcase, silent_arbiter);
    tcase_add_test(tcase, half_open_is_replaced);
    tcase_add_test(tcase, reset);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
