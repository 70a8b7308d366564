/* SPDX-License-Identifier: Apache-2.0 */
/* The protocols of tests/compare over canned bytes, whole and byte by byte, and what it makes of figures. One thread. */
#include "tests/compare/grpc.h"
#include "tests/compare/nats_text.h"
#include "tests/compare/options.h"
#include "tests/compare/ours.h"
#include "tests/compare/report.h"
#include "tests/compare/resp.h"
#include "tests/support/run.h"

#include <check.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t *bytes_of(const char *text)
{
    return (const uint8_t *)text;
}

static void ck_bytes(const struct ab_cmp_bytes *bytes, const char *expected)
{
    ck_assert_uint_eq(ab_cmp_bytes_size(bytes), strlen(expected));
    ck_assert_mem_eq(ab_cmp_bytes_data(bytes), expected, strlen(expected));
}

/* --- bytes --- */

START_TEST(bytes_grow_and_shrink)
{
    struct ab_cmp_bytes bytes = {0};
    for (uint32_t i = 0; i < 10000; i++) {
        ab_cmp_bytes_number(&bytes, i % 10);
        if (i % 3 == 2) {
            ck_assert_uint_eq(ab_cmp_bytes_data(&bytes)[0], '0' + (i / 3) % 10);
            ab_cmp_bytes_consume(&bytes, 1);
        }
    }
    ck_assert_uint_eq(ab_cmp_bytes_size(&bytes), 10000 - 3333);
    ck_assert(!bytes.failed);
    ab_cmp_bytes_free(&bytes);
}
END_TEST

/* --- RESP --- */

START_TEST(resp_replies)
{
    static const char *const text = "+OK\r\n:1001\r\n$5\r\nab\r\nc\r\n-ERR no\r\n$-1\r\n:-1\r\n";
    static const enum ab_resp_type types[] = {AB_RESP_STATUS, AB_RESP_INTEGER, AB_RESP_BULK,
                                              AB_RESP_ERROR,  AB_RESP_NULL,    AB_RESP_INTEGER};
    struct ab_resp reply;
    size_t at = 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        size_t size = 1;
        ptrdiff_t n = 0;
        while (n == 0) { /* a byte more each time: it says "not yet" until it is whole */
            ck_assert_uint_le(at + size, strlen(text));
            n = ab_resp_parse(bytes_of(text) + at, size++, &reply);
        }
        ck_assert_int_eq(n, (ptrdiff_t)size - 1);
        ck_assert_int_eq(reply.type, types[i]);
        if (i == 1) {
            ck_assert_int_eq(reply.integer, 1001);
        } else if (i == 2) {
            ck_assert_uint_eq(reply.size, 5);
            ck_assert_mem_eq(reply.text, "ab\r\nc", 5);
        }
        at += (size_t)n;
    }
    ck_assert_int_eq(reply.integer, -1);
    ck_assert_uint_eq(at, strlen(text));
}
END_TEST

START_TEST(resp_refuses)
{
    static const char *const bad[] = {"x\r\n", ":12a\r\n", ":\r\n", "$-2\r\n", "$3\r\nabcde", "*1\r\n"};
    struct ab_resp reply;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(ab_resp_parse(bytes_of(bad[i]), strlen(bad[i]), &reply), -1);
    }
}
END_TEST

START_TEST(resp_commands)
{
    struct ab_cmp_bytes out = {0};
    ab_resp_line(&out, "WAIT 2 30000");
    ck_bytes(&out, "*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$5\r\n30000\r\n");
    ab_cmp_bytes_free(&out);
    static const char *const info =
        "# Replication\r\nrole:slave\r\nslave_repl_offset:4711\r\nmaster_repl_offset:12\r\n";
    uint64_t number = 0;
    ck_assert(ab_resp_info_number(info, strlen(info), "slave_repl_offset", &number));
    ck_assert_uint_eq(number, 4711);
    ck_assert(!ab_resp_info_number(info, strlen(info), "repl_offset", &number));
}
END_TEST

/* --- NATS --- */

START_TEST(nats_events)
{
    static const char *const text =
        "INFO {\"server_id\":\"x\"}\r\nPING\r\nMSG a.0.17 1 27\r\n"
        "{\"stream\":\"C\", \"seq\":12345}\r\n-ERR 'Slow'\r\nMSG a.0.3 1 r.x 0\r\n\r\nPONG\r\n+OK\r\n";
    static const enum ab_nats_op ops[] = {AB_NATS_INFO, AB_NATS_PING, AB_NATS_MSG, AB_NATS_ERR,
                                          AB_NATS_MSG,  AB_NATS_PONG, AB_NATS_OK};
    struct ab_nats_event event;
    uint64_t slot = 0;
    size_t at = 0;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        size_t size = 1;
        ptrdiff_t n = 0;
        while (n == 0) {
            ck_assert_uint_le(at + size, strlen(text));
            n = ab_nats_parse(bytes_of(text) + at, size++, &event);
        }
        ck_assert_int_eq(n, (ptrdiff_t)size - 1);
        ck_assert_int_eq(event.op, ops[i]);
        if (i == 2) {
            ck_assert(ab_nats_acknowledged(event.payload, event.size));
            ck_assert(ab_nats_tail(event.subject, event.subject_size, &slot));
            ck_assert_uint_eq(slot, 17);
        }
        at += (size_t)n;
    }
    ck_assert_uint_eq(at, strlen(text));
}
END_TEST

START_TEST(nats_refuses)
{
    static const char *const bad[] = {"HMSG a 1 2 3\r\n", "MSG a\r\n", "MSG a 1 x\r\n", "PING\n"};
    struct ab_nats_event event;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(ab_nats_parse(bytes_of(bad[i]), strlen(bad[i]), &event), -1);
    }
    static const char *const error = "{\"error\":{\"code\":503},\"stream\":\"C\",\"seq\":0}";
    ck_assert(!ab_nats_acknowledged(error, strlen(error)));
    uint64_t number = 0;
    ck_assert(!ab_nats_tail("17", 2, &number));
    ck_assert(!ab_nats_tail("a.", 2, &number));
}
END_TEST

/* --- gRPC --- */

struct heard {
    char data[64];
    size_t size;
    uint32_t ended;
    bool failed;
};

static void on_data(void *arg, uint32_t stream, const uint8_t *data, size_t size)
{
    struct heard *heard = arg;
    ck_assert_uint_eq(stream, 1);
    ck_assert_uint_le(heard->size + size, sizeof heard->data);
    memcpy(heard->data + heard->size, data, size);
    heard->size += size;
}

static void on_end(void *arg, uint32_t stream, bool failed)
{
    struct heard *heard = arg;
    heard->ended = stream;
    heard->failed = failed;
}

/* What a server sends for a call that succeeds: settings, window, headers, a padded message, trailers. */
static const uint8_t answer[] = {
    0, 0, 6,  4, 0, 0, 0, 0, 0, 0,    4, 0,  1, 0, 0, /* SETTINGS: initial window 65,536 */
    0, 0, 4,  8, 0, 0, 0, 0, 0, 0,    0, 16, 0,       /* WINDOW_UPDATE of the connection: 4,096 */
    0, 0, 1,  1, 4, 0, 0, 0, 1, 0x88,                 /* HEADERS */
    0, 0, 10, 0, 8, 0, 0, 0, 1, 2,    0, 0,  0, 0, 2, 'h', 'i', 0, 0, /* DATA, two bytes of padding */
    0, 0, 8,  6, 0, 0, 0, 0, 0, 1,    2, 3,  4, 5, 6, 7,   8,         /* PING */
    0, 0, 1,  1, 5, 0, 0, 0, 1, 0x88,                                 /* trailers, END_STREAM */
};

START_TEST(grpc_call_and_answer)
{
    struct ab_cmp_bytes out = {0};
    struct heard heard = {0};
    struct ab_grpc grpc = {.on_data = on_data, .on_end = on_end, .arg = &heard};
    ab_grpc_start(&grpc, &out);
    ck_assert_uint_eq(ab_grpc_call(&grpc, "/etcdserverpb.KV/Put", "abc", 3), 1);
    ck_assert_uint_eq(grpc.next_stream, 3);
    ck_assert_int_eq(grpc.window, 65535 - 8);
    size_t at = 0;
    for (size_t size = 1; size <= sizeof answer; size++) {
        ptrdiff_t used = ab_grpc_input(&grpc, answer + at, size - at);
        ck_assert_int_ge(used, 0);
        at += (size_t)used;
    }
    ck_assert_uint_eq(at, sizeof answer);
    ck_assert_uint_eq(heard.size, 7);
    ck_assert_mem_eq(heard.data + 5, "hi", 2);
    ck_assert_uint_eq(heard.ended, 1);
    ck_assert(!heard.failed);
    ck_assert_uint_eq(grpc.stream_window, 65536);
    ck_assert_int_eq(grpc.window, 65535 - 8 + 4096);
    /* the last things we say: settings seen, and the ping's bytes */
    static const uint8_t said[] = {0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 8, 6,
                                   1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    ck_assert_mem_eq(ab_cmp_bytes_data(&out) + ab_cmp_bytes_size(&out) - sizeof said, said, sizeof said);
    ab_cmp_bytes_free(&out);
}
END_TEST

/* A message longer than a frame: parts of at most 16,384 bytes, the last ends the stream. */
START_TEST(grpc_long_message)
{
    struct ab_cmp_bytes out = {0};
    struct ab_grpc grpc = {.on_data = on_data, .on_end = on_end};
    enum { SIZE = 40000 };
    uint8_t *message = calloc(1, SIZE);
    ck_assert_ptr_nonnull(message);
    ab_grpc_start(&grpc, &out);
    ck_assert(ab_grpc_fits(&grpc, SIZE));
    ab_cmp_bytes_consume(&out, ab_cmp_bytes_size(&out));
    ab_grpc_call(&grpc, "/x", message, SIZE);
    ck_assert(!ab_grpc_fits(&grpc, SIZE)); /* the first window is used up */
    size_t sum = 0, frames = 0;
    bool ended = false;
    while (ab_cmp_bytes_size(&out) > 0) {
        const uint8_t *head = ab_cmp_bytes_data(&out);
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        ck_assert(!ended);
        ck_assert_uint_le(length, 16384);
        if (head[3] == 0) {
            sum += length;
            frames++;
            ended = head[4] & 1;
        }
        ab_cmp_bytes_consume(&out, 9 + length);
    }
    ck_assert_uint_eq(sum, SIZE + 5);
    ck_assert_uint_eq(frames, 3);
    ck_assert(ended);
    free(message);
    ab_cmp_bytes_free(&out);
}
END_TEST

START_TEST(grpc_refuses)
{
    static const uint8_t bad[][16] = {
        {1, 0, 0, 0, 0, 0, 0, 0, 1},         /* a frame of 65,536 bytes */
        {0, 0, 0, 7, 0, 0, 0, 0, 0},         /* GOAWAY */
        {0, 0, 1, 4, 0, 0, 0, 0, 0, 0},      /* SETTINGS of one byte */
        {0, 0, 2, 0, 8, 0, 0, 0, 1, 200, 1}, /* padding longer than the frame */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ab_cmp_bytes out = {0};
        struct ab_grpc grpc = {.on_data = on_data, .on_end = on_end};
        ab_grpc_start(&grpc, &out);
        ck_assert_int_eq(ab_grpc_input(&grpc, bad[i], sizeof bad[i]), -1);
        ck_assert_ptr_nonnull(grpc.error);
        ab_cmp_bytes_free(&out);
    }
}
END_TEST

START_TEST(protocol_buffers)
{
    struct ab_cmp_bytes out = {0};
    const uint8_t *found = NULL;
    size_t length = 0;
    uint64_t number = 0;
    ab_pb_number(&out, 7, 300);
    ab_pb_bytes(&out, 2, "value", 5);
    ab_pb_number(&out, 9, UINT64_MAX);
    const uint8_t *data = ab_cmp_bytes_data(&out);
    size_t size = ab_cmp_bytes_size(&out);
    ck_assert_mem_eq(data, "\x38\xac\x02\x12\x05value\x48", 11);
    ck_assert(ab_pb_find_number(data, size, 9, &number));
    ck_assert_uint_eq(number, UINT64_MAX);
    ck_assert(ab_pb_find_number(data, size, 7, &number));
    ck_assert_uint_eq(number, 300);
    ck_assert(ab_pb_find_bytes(data, size, 2, &found, &length));
    ck_assert_uint_eq(length, 5);
    ck_assert_mem_eq(found, "value", 5);
    ck_assert(!ab_pb_find_number(data, size, 3, &number));
    ck_assert(!ab_pb_find_bytes(data, 8, 2, &found, &length)); /* cut in the middle of it */
    ck_assert_uint_eq(ab_pb_varint_size(127), 1);
    ck_assert_uint_eq(ab_pb_varint_size(128), 2);
    ab_cmp_bytes_free(&out);
}
END_TEST

/* --- figures --- */

START_TEST(reads_bench)
{
    static const char *const text =
        "{\"median\":{\"loops\":{\"entries_per_s\":1e6,\"p50_us\":800,\"p99_us\":1300,\"cpu_s_per_million\":"
        "0.5,"
        "\"catch_up_ms\":null,\"entries\":5},\"many\":{\"entries_per_s\":2e6,\"p50_us\":4000,\"p99_us\":9000,"
        "\"cpu_s_per_million\":0.75,\"catch_up_ms\":1.5,\"entries\":6}}}";
    struct ab_cmp_options options;
    struct ab_cmp_round round = {0};
    const char *why = NULL;
    ab_cmp_options_init(&options);
    ck_assert_int_eq(ab_cmp_ours_read(text, strlen(text), &options, &round, &why), -1);
    ck_assert_str_eq(why, "one");
    options.cases[AB_CMP_ONE] = options.cases[AB_CMP_LATENCY] = false;
    ck_assert_int_eq(ab_cmp_ours_read(text, strlen(text), &options, &round, &why), 0);
    struct ab_cmp_report report = {.options = &options, .rounds = &round, .count = 1};
    ck_assert_double_eq(ab_cmp_ratio(&report, AB_CMP_OURS, AB_CMP_LOOP, AB_CMP_MANY, AB_CMP_RATE), 2);
    ck_assert_double_eq(ab_cmp_ratio(&report, AB_CMP_LOOP, AB_CMP_OURS, AB_CMP_MANY, AB_CMP_P50), 0.2);
    ck_assert(isnan(ab_cmp_median(&report, AB_CMP_LOOP, AB_CMP_MANY, AB_CMP_CATCH_UP)));
    ck_assert(isnan(ab_cmp_ratio(&report, AB_CMP_ETCD, AB_CMP_OURS, AB_CMP_MANY, AB_CMP_RATE)));
}
END_TEST

START_TEST(median_of_ratios)
{
    struct ab_cmp_options options;
    struct ab_cmp_round rounds[3] = {0};
    static const double ours[] = {100, 400, 50}, etcd[] = {10, 20, 20};
    ab_cmp_options_init(&options);
    for (int i = 0; i < 3; i++) {
        rounds[i].cells[AB_CMP_OURS][AB_CMP_ONE] = (struct ab_cmp_cell){.known = true, .figures = {ours[i]}};
        rounds[i].cells[AB_CMP_ETCD][AB_CMP_ONE] = (struct ab_cmp_cell){.known = true, .figures = {etcd[i]}};
    }
    struct ab_cmp_report report = {.options = &options, .rounds = rounds, .count = 3};
    ck_assert_double_eq(ab_cmp_median(&report, AB_CMP_OURS, AB_CMP_ONE, AB_CMP_RATE), 100);
    ck_assert_double_eq_tol(ab_cmp_ratio(&report, AB_CMP_ETCD, AB_CMP_OURS, AB_CMP_ONE, AB_CMP_RATE), 0.1,
                            1e-9);
}
END_TEST

static int parse(struct ab_cmp_options *options, const char *first, const char *second)
{
    char *argv[] = {(char *)"compare", (char *)first, (char *)second, NULL};
    FILE *null = fopen("/dev/null", "w");
    ck_assert_ptr_nonnull(null);
    ab_cmp_options_init(options);
    optind = 1;
    int rc = ab_cmp_options_parse(second ? 3 : 2, argv, options, null);
    fclose(null);
    return rc;
}

START_TEST(options)
{
    struct ab_cmp_options o;
    ck_assert_int_eq(parse(&o, "--systems", "nats,redis-wait"), 0);
    ck_assert(o.systems[AB_CMP_NATS] && o.systems[AB_CMP_REDIS_WAIT] && o.systems[AB_CMP_OURS]);
    ck_assert(!o.systems[AB_CMP_ETCD] && !o.systems[AB_CMP_REDIS_ALWAYS]);
    ck_assert_int_eq(parse(&o, "--duration", "0.5"), 0);
    ck_assert_uint_eq(o.load.duration_ns, 500000000u);
    ck_assert_int_eq(parse(&o, "--systems", "anabranch"), 2); /* it always takes part */
    ck_assert_int_eq(parse(&o, "--cases", "one,"), 2);
    ck_assert_int_eq(parse(&o, "--payload", "15"), 2);
    ck_assert_int_eq(parse(&o, "--batch", "129"), 2); /* etcd */
    ck_assert_int_eq(parse(&o, "surplus", NULL), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compare");
    TCase *tcase = tcase_create("compare");
    tcase_add_test(tcase, bytes_grow_and_shrink);
    tcase_add_test(tcase, resp_replies);
    tcase_add_test(tcase, resp_refuses);
    tcase_add_test(tcase, resp_commands);
    tcase_add_test(tcase, nats_events);
    tcase_add_test(tcase, nats_refuses);
    tcase_add_test(tcase, grpc_call_and_answer);
    tcase_add_test(tcase, grpc_long_message);
    tcase_add_test(tcase, grpc_refuses);
    tcase_add_test(tcase, protocol_buffers);
    tcase_add_test(tcase, reads_bench);
    tcase_add_test(tcase, median_of_ratios);
    tcase_add_test(tcase, options);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
