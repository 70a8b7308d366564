/* SPDX-License-Identifier: Apache-2.0 */
/* POST /write and /api/v2/write as clients of InfluxDB send them: values, precisions, gzip, tokens, malformed lines,
 * back-pressure. One thread. */
#include "tests/support/run.h"
#include "tests/system/http_fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define GZIP "Content-Encoding: gzip\r\n"

static void setup(void)
{
    setup_dir();
    start_with("  max_body: 65536\n  max_bodies: 1048576\n");
}

static void setup_token(void)
{
    setup_dir();
    start_with("  token: opensesame\n");
}

static void setup_no_node(void)
{
    setup_dir();
}

/* One member of a gzip stream. @return its size */
static size_t gzip(const char *text, size_t size, char *out, size_t room)
{
    z_stream stream = {0};
    ck_assert_int_eq(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)text;
    stream.avail_in = (uInt)size;
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)room;
    ck_assert_int_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return room - stream.avail_out;
}

static void check_export(const char *expected)
{
    get("/export", 200);
    ck_assert_str_eq(answer.size == 0 ? "" : answer.body, expected);
}

static const struct {
    const char *line;
    const char *exported; /* NULL: refused */
} values[] = {
    {"m f=1i 1", "m f=1i 1"},
    {"m f=-9223372036854775808i 1", "m f=-9223372036854775808i 1"},
    {"m f=9223372036854775808i 1", NULL},
    {"m f=18446744073709551615u 1", "m f=18446744073709551615u 1"},
    {"m f=-1u 1", NULL},
    {"m f=1 1", "m f=1 1"},
    {"m f=-1.5e-3 1", "m f=-0.0015 1"},
    {"m f=1E+10 1", "m f=10000000000 1"},
    {"m f=6.02214076e23 1", "m f=6.02214076e+23 1"},
    {"m f=.5 1", "m f=0.5 1"},
    {"m f=5. 1", "m f=5 1"},
    {"m f=1e400 1", NULL},
    {"m f=NaN 1", NULL},
    {"m f=inf 1", NULL},
    {"m f=0x10 1", NULL},
    {"m f=t 1", "m f=true 1"},
    {"m f=T 1", "m f=true 1"},
    {"m f=true 1", "m f=true 1"},
    {"m f=True 1", "m f=true 1"},
    {"m f=TRUE 1", "m f=true 1"},
    {"m f=f 1", "m f=false 1"},
    {"m f=F 1", "m f=false 1"},
    {"m f=false 1", "m f=false 1"},
    {"m f=False 1", "m f=false 1"},
    {"m f=FALSE 1", "m f=false 1"},
    {"m f=tRUE 1", NULL},
    {"m f=\"\" 1", "m f=\"\" 1"},
    {"m f=\"a b,c=d\" 1", "m f=\"a b,c=d\" 1"},
    {"m f=\"quote \\\" backslash \\\\ other \\n\" 1", "m f=\"quote \\\" backslash \\\\ other \\\\n\" 1"},
    {"m f=\"two\nlines\" 1", "m f=\"two\nlines\" 1"},
    {"m f=\"\xc3\xa4\xe2\x82\xac\" 1", "m f=\"\xc3\xa4\xe2\x82\xac\" 1"},
    {"m f=\"open 1", NULL},
    {"m\\,a\\ b,k\\,e\\=y\\ 1=v\\,a\\=l\\ 1 f\\,i\\=e\\ ld=1 1",
     "m\\,a\\ b,k\\,e\\=y\\ 1=v\\,a\\=l\\ 1 f\\,i\\=e\\ ld=1 1"},
    {"m,b=2,a=1 f=1 1", "m,a=1,b=2 f=1 1"},
    {"m,a=1,a=2 f=1 1", NULL},
    {"m,a=1,a=1 f=1 1", NULL},
    {"m,a= f=1 1", NULL},
    {"m,=1 f=1 1", NULL},
    {"m, f=1 1", NULL},
    {"m", NULL},
    {"m f", NULL},
    {"m f= 1", NULL},
    {",a=1 f=1 1", NULL},
    {"m f=1 1 1", NULL},
    {"m f=1 1.5", NULL},
    {"m f=1 -1", "m f=1 -1"},
    {"m f=1,f=2 1", "m f=2 1"},
    {"  m f=1   1  ", "m f=1 1"},
    {"m f=1 1\r", "m f=1 1"},
    {"# comment\nm f=1 1", "m f=1 1"},
};

START_TEST(every_value)
{
    char expected[256] = "";
    post("/write", values[_i].line, values[_i].exported != NULL ? 204 : 400);
    if (values[_i].exported != NULL) {
        snprintf(expected, sizeof expected, "%s\n", values[_i].exported);
    }
    check_export(expected);
}
END_TEST

static const struct {
    const char *path;
    const char *time; /* of "m f=1 2"; NULL: refused */
} precisions[] = {
    {"/write", "2"},
    {"/write?precision=", "2"},
    {"/write?db=plant&rp=autogen&precision=ns", "2"},
    {"/write?precision=n", "2"},
    {"/write?precision=us", "2000"},
    {"/write?precision=u", "2000"},
    {"/write?precision=ms", "2000000"},
    {"/write?precision=s", "2000000000"},
    {"/write?precision=m", "120000000000"},
    {"/write?precision=h", "7200000000000"},
    {"/write?precision=d", NULL},
    {"/api/v2/write", "2"},
    {"/api/v2/write?org=o&bucket=b&precision=ns", "2"},
    {"/api/v2/write?precision=us", "2000"},
    {"/api/v2/write?precision=ms", "2000000"},
    {"/api/v2/write?precision=s", "2000000000"},
    {"/api/v2/write?precision=m", NULL},
    {"/api/v2/write?precision=u", NULL},
    {"/api/v2/write?precision=n", NULL},
};

START_TEST(every_precision)
{
    char expected[64] = "";
    post(precisions[_i].path, "m f=1 2\n", precisions[_i].time != NULL ? 204 : 400);
    if (precisions[_i].time != NULL) {
        snprintf(expected, sizeof expected, "m f=1 %s\n", precisions[_i].time);
    } else {
        ck_assert_ptr_nonnull(strstr(answer.body, "\"code\":\"invalid\""));
        ck_assert_ptr_nonnull(strstr(answer.body, "precision is one of"));
    }
    check_export(expected);
}
END_TEST

START_TEST(time_out_of_range)
{
    post("/write?precision=h", "m f=1 9223372036854775807\nm f=2 1\n", 400);
    check_export("m f=2 3600000000000\n");
}
END_TEST

START_TEST(server_time)
{
    struct timespec before;
    struct timespec after;
    clock_gettime(CLOCK_REALTIME, &before);
    post("/write", "m f=1\n", 204);
    clock_gettime(CLOCK_REALTIME, &after);
    get("/export", 200);
    ck_assert_int_eq(strncmp(answer.body, "m f=1 ", 6), 0);
    long long time = strtoll(answer.body + 6, NULL, 10);
    ck_assert_int_ge(time, before.tv_sec * 1000000000ll + before.tv_nsec);
    ck_assert_int_le(time, after.tv_sec * 1000000000ll + after.tv_nsec);
}
END_TEST

/* Where a write goes is not known when it is queued: then nothing is said of it. */
START_TEST(memory_level)
{
    post("/write", "m f=1 1\n", 204);
    ck_assert_ptr_nonnull(strstr(answer.writes, ":1."));
    teardown();
    setup_dir();
    start_with("  write_level: memory\n");
    post("/write", "m f=1 1\n", 204);
    ck_assert_str_eq(answer.writes, "");
}
END_TEST

/* As InfluxDB has it: whole units, so that two writes of one unit are one point. */
START_TEST(server_time_in_units)
{
    post("/write?precision=h", "m f=1\n", 204);
    post("/api/v2/write?precision=s", "n f=1\n", 204);
    get("/export?measurement=m", 200);
    ck_assert_int_eq(strncmp(answer.body, "m f=1 ", 6), 0);
    ck_assert_int_eq(strtoll(answer.body + 6, NULL, 10) % 3600000000000ll, 0);
    get("/export?measurement=n", 200);
    ck_assert_int_eq(strtoll(answer.body + 6, NULL, 10) % 1000000000, 0);
}
END_TEST

/* The good lines of a body are stored, the others named, in the words by which clients know not to send it again. */
START_TEST(malformed_lines)
{
    post("/write", "good f=1 1\nbad\n\nworse f=x 1\ngood f=\"a\nb\" 2\nbad\n", 400);
    ck_assert_ptr_nonnull(
        strstr(answer.body, "\"code\":\"invalid\",\"message\":\"partial write: unable to parse 3 of 5 lines, "
                            "the others are stored; line 2, column 4: missing fields\""));
    ck_assert_ptr_nonnull(strstr(answer.body, "\"error\":\"partial write: unable to parse"));
    ck_assert_ptr_nonnull(strstr(answer.body, "\"line\":2,\"stored\":2,\"malformed\":3,"));
    ck_assert_ptr_nonnull(strstr(answer.body, "{\"line\":2,\"column\":4,\"error\":\"missing fields\"}"));
    ck_assert_ptr_nonnull(strstr(answer.body, "{\"line\":4,\"column\":9,\"error\":\"invalid number\"}"));
    ck_assert_ptr_nonnull(strstr(answer.body, "{\"line\":7,\"column\":4,\"error\":\"missing fields\"}"));
    ck_assert_ptr_nonnull(strstr(answer.writes, ":1."));
    check_export("good f=1 1\ngood f=\"a\nb\" 2\n");
    post("/api/v2/write", "bad\n", 400);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"message\":\"unable to parse any line; line 1, column 4: "));
    ck_assert_ptr_null(strstr(answer.body, "\"error\":\"unable"));
    ck_assert_str_eq(answer.writes, "");
    char body[2048] = "";
    for (int i = 0; i < 200; i++) {
        strcat(body, "bad\n");
    }
    strcat(body, "good f=3 3\n");
    post("/write", body, 400);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"malformed\":200,"));
    ck_assert_ptr_nonnull(strstr(answer.body, "\"line\":100,"));
    ck_assert_ptr_null(strstr(answer.body, "\"line\":101,"));
    check_export("good f=1 1\ngood f=\"a\nb\" 2\ngood f=3 3\n");
    ck_assert_uint_eq(client.connects, 1);
}
END_TEST

START_TEST(takes_gzip)
{
    char packed[4096];
    size_t size = gzip("m f=1 1\n", 8, packed, sizeof packed);
    post_bytes("/write", GZIP, packed, size, 204);
    size = gzip("m f=2 2\nm f", 11, packed, sizeof packed); /* two members make one body */
    size += gzip("=3 3\n", 5, packed + size, sizeof packed - size);
    post_bytes("/api/v2/write", "Content-Encoding: GZIP\r\n", packed, size, 204);
    post_bytes("/write", "Content-Encoding: identity\r\n", "m f=4 4\n", 8, 204);
    post_bytes("/write", GZIP, "", 0, 204);
    check_export("m f=1 1\nm f=2 2\nm f=3 3\nm f=4 4\n");
    char *text = malloc(65537);
    for (int i = 0; i < 65536; i += 16) {
        snprintf(text + i, 17, "n,a=%03x f=1 %3d\n", (unsigned)i / 16 % 4096, 1);
    }
    char *large = malloc(65536);
    size = gzip(text, 65536, large, 65536); /* exactly max_body */
    post_bytes("/write", GZIP, large, size, 204);
    get("/digest", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"points\":4100,"));
    ck_assert_uint_eq(client.connects, 1);
    free(text);
    free(large);
}
END_TEST

START_TEST(refuses_gzip)
{
    char packed[4096];
    size_t size = gzip("m f=1 1\n", 8, packed, sizeof packed);
    post_bytes("/write", GZIP, packed, size - 1, 400);
    ck_assert_ptr_nonnull(strstr(answer.body, "too early"));
    post_bytes("/write", GZIP, "m f=1 1\n", 8, 400);
    ck_assert_ptr_nonnull(strstr(answer.body, "gzip"));
    memcpy(packed + size, "more", 4);
    post_bytes("/write", GZIP, packed, size + 4, 400);
    packed[size - 6] ^= 1; /* the checksum */
    post_bytes("/write", GZIP, packed, size, 400);
    post_bytes("/write", "Content-Encoding: br\r\n", "m f=1 1\n", 8, 415);
    check_export("");
    ck_assert_uint_eq(client.connects, 1);
}
END_TEST

/* 64 KiB that would become 64 MiB: refused where max_body is reached, without the memory for it. */
START_TEST(gzip_bomb)
{
    enum { SIZE = 64 << 20 };
    char *zeros = calloc(1, SIZE);
    char *packed = malloc(1 << 20);
    memset(zeros, '#', SIZE);
    size_t size = gzip(zeros, SIZE, packed, 1 << 20);
    ck_assert_uint_lt(size, 66000);
    size = size > 65536 ? 65536 : size;
    long before = anonymous_kib();
    for (int i = 0; i < 20; i++) {
        post_bytes("/write", GZIP, packed, size, 413);
        ck_assert_ptr_nonnull(strstr(answer.body, "max_body"));
    }
    ck_assert_int_lt(anonymous_kib(), before + 8192);
    size = gzip(zeros, 65537, packed, 1 << 20); /* one byte too many */
    post_bytes("/write", GZIP, packed, size, 413);
    size = gzip(zeros, 65536, packed, 1 << 20);
    post_bytes("/write", GZIP, packed, size, 204);
    post("/write", "m f=1 1\n", 204);
    free(zeros);
    free(packed);
}
END_TEST

/* What Telegraf's outputs influxdb and influxdb_v2 send, byte by byte, in pieces as small as they get. */
START_TEST(as_telegraf)
{
    static const char *const heads[] = {
        "POST /write?consistency=any&db=telegraf&rp=autogen HTTP/1.1\r\nHost: x\r\nUser-Agent: "
        "Telegraf/1.33.0 Go/1.23.4\r\nTransfer-Encoding: chunked\r\nAuthorization: Basic dXNlcjpwYXNz\r\n"
        "Content-Encoding: gzip\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
        "POST /api/v2/write?bucket=telegraf&org=plant HTTP/1.1\r\nHost: x\r\nUser-Agent: "
        "Telegraf/1.33.0 Go/1.23.4\r\nTransfer-Encoding: chunked\r\nAuthorization: Token secret\r\n"
        "Content-Encoding: gzip\r\nContent-Type: text/plain; charset=utf-8\r\nAccept: "
        "application/json\r\n\r\n"};
    for (size_t i = 0; i < 2; i++) {
        char packed[512];
        char line[64];
        char chunk[16];
        int n = snprintf(line, sizeof line, "cpu,host=a usage=%zu.5 %zu\n", i, i);
        size_t size = gzip(line, (size_t)n, packed, sizeof packed);
        int fd = dial();
        say(fd, heads[i]);
        for (size_t k = 0; k < size; k++) {
            memcpy(chunk, "1\r\n?\r\n", 6);
            chunk[3] = packed[k];
            ck_assert_int_eq(send(fd, chunk, 6, MSG_NOSIGNAL), 6);
        }
        say(fd, "0\r\n\r\n");
        ck_assert_int_eq(strncmp(hear(fd, "\r\n\r\n"), "HTTP/1.1 204 ", 13), 0);
        close(fd);
    }
    check_export("cpu,host=a usage=0.5 0\ncpu,host=a usage=1.5 1\n");
}
END_TEST

static const struct {
    const char *head;
    const char *path;
    int status;
} tokens[] = {
    {"", "/write", 401},
    {"Authorization: Token opensesame\r\n", "/api/v2/write", 204},
    {"Authorization: token opensesame\r\n", "/write", 204},
    {"Authorization: Bearer opensesame\r\n", "/write", 204},
    {"Authorization: Token opensesam\r\n", "/write", 401},
    {"Authorization: Token opensesameopensesame\r\n", "/write", 401},
    {"Authorization: Token \r\n", "/write", 401},
    {"Authorization: Basic dXNlcjpvcGVuc2VzYW1l\r\n", "/write", 204}, /* user:opensesame */
    {"Authorization: Basic dXNlcjpwYXNz\r\n", "/write", 401},         /* user:pass */
    {"Authorization: Basic !!!\r\n", "/write", 401},
    {"", "/write?u=user&p=opensesame", 204},
    {"", "/write?u=user&p=pass", 401},
};

START_TEST(asks_for_token)
{
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        post_bytes(tokens[i].path, tokens[i].head, "m f=1 1\n", 8, tokens[i].status);
        if (tokens[i].status == 401) {
            ck_assert_ptr_nonnull(strstr(answer.body, "\"code\":\"unauthorized\""));
        }
    }
    get("/export", 401);
    get("/digest", 401);
    get("/health", 200);
}
END_TEST

/* A log at its ceiling: clients are told to wait, reads go on. */
START_TEST(log_is_full)
{
    ab_cluster_options options = {.bin = AB_BIN,
                                  .dir = base,
                                  .count = 2,
                                  .groups = 1,
                                  .node_extra = "  log_max_bytes: 16MiB\n",
                                  .application_extra = "  timeout_ms: 500\n"};
    ck_assert_msg(ab_cluster_init(&cluster, &options), "%s", cluster.error);
    ck_assert_msg(ab_cluster_start(&cluster, 0), "%s",
                  cluster.error); /* its peer is away: nothing is trimmed */
    char *body = malloc(500000);
    unsigned seed = 1;
    bool refused = false;
    for (int i = 0; i < 200 && !refused; i++) {
        int n = snprintf(body, 100, "m f=\"");
        for (int k = 0; k < 200000; k++) {
            seed = seed * 1103515245 + 12345;
            body[n++] = (char)('a' + (seed >> 16) % 26);
        }
        n += snprintf(body + n, 100, "\" %d\n", i);
        ck_assert(ab_httpc_post(&client, port(), "/write", body, (size_t)n, &answer));
        /* The one that meets the ceiling is stored, and waits for room in vain; those after it are refused. */
        refused = answer.status != 204 && strstr(answer.body, "AB_ENOSPC") != NULL;
        ck_assert(refused || answer.status == 204 || strstr(answer.body, "AB_ETIMEDOUT") != NULL);
    }
    ck_assert_int_eq(answer.status, 503);
    ck_assert_uint_eq(answer.retry_after, 10);
    get("/ready", 503);
    ck_assert_uint_eq(answer.retry_after, 10);
    ck_assert_ptr_nonnull(strstr(answer.body, "takes no writes"));
    get("/health", 503);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"status\":\"fail\""));
    get("/export", 200);
    free(body);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ingest");
    TCase *c = tcase_create("lines");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, every_value, 0, sizeof values / sizeof *values);
    tcase_add_loop_test(c, every_precision, 0, sizeof precisions / sizeof *precisions);
    tcase_add_test(c, time_out_of_range);
    tcase_add_test(c, server_time);
    tcase_add_test(c, server_time_in_units);
    tcase_add_test(c, memory_level);
    tcase_add_test(c, malformed_lines);
    tcase_add_test(c, takes_gzip);
    tcase_add_test(c, refuses_gzip);
    tcase_add_test(c, gzip_bomb);
    tcase_add_test(c, as_telegraf);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    c = tcase_create("token");
    tcase_add_checked_fixture(c, setup_token, teardown);
    tcase_add_test(c, asks_for_token);
    suite_add_tcase(s, c);
    c = tcase_create("full");
    tcase_add_checked_fixture(c, setup_no_node, teardown);
    tcase_add_test(c, log_is_full);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_run(suite());
}
