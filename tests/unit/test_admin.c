/* SPDX-License-Identifier: Apache-2.0 */
/* The admin endpoint of a real node over its real socket: the protocol, and clients that behave badly. */
#define _GNU_SOURCE /* POLLRDHUP */
#include "engine/admin/server.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <msgpack.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MS 20000

static test_cluster cluster;
static char other_dir[64]; /* for endpoints with limits of their own */

static void setup(void)
{
    test_cluster_init(&cluster, 1);
    ck_assert_int_eq(test_cluster_open(&cluster, 0), AB_OK);
    test_directory(other_dir, sizeof other_dir);
}

static void teardown(void)
{
    test_cluster_free(&cluster);
    test_remove(other_dir);
}

static int dial(const char *dir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/admin.sock", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_msg(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "%s", strerror(errno));
    return fd;
}

static void send_bytes(int fd, const void *data, size_t size)
{
    ck_assert_int_eq(send(fd, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* Fills in the length in front of what the packer wrote. */
static void send_frame(int fd, const msgpack_sbuffer *body)
{
    uint8_t header[4];
    for (unsigned i = 0; i < 4; i++) {
        header[i] = (uint8_t)(body->size >> 8 * i);
    }
    send_bytes(fd, header, sizeof header);
    send_bytes(fd, body->data, body->size);
}

static void pack_text(msgpack_packer *p, const char *text)
{
    msgpack_pack_str(p, strlen(text));
    msgpack_pack_str_body(p, text, strlen(text));
}

/* A request with version, command and up to one more number. */
static void ask(int fd, unsigned version, const char *command, const char *key, uint64_t value)
{
    msgpack_sbuffer body;
    msgpack_packer p;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&p, &body, msgpack_sbuffer_write);
    msgpack_pack_map(&p, key != NULL ? 3 : 2);
    pack_text(&p, "v");
    msgpack_pack_uint64(&p, version);
    pack_text(&p, "cmd");
    pack_text(&p, command);
    if (key != NULL) {
        pack_text(&p, key);
        msgpack_pack_uint64(&p, value);
    }
    send_frame(fd, &body);
    msgpack_sbuffer_destroy(&body);
}

/* Receives exactly `size` bytes. @return false at the end of the stream */
static bool receive(int fd, void *data, size_t size)
{
    for (size_t got = 0; got < size;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ck_assert_int_eq(poll(&p, 1, ANSWER_MS), 1);
        ssize_t n = recv(fd, (char *)data + got, size - got, 0);
        if (n <= 0) {
            return false;
        }
        got += (size_t)n;
    }
    return true;
}

/* The row refers to memory that the next call uses again. */
static bool receive_row(int fd, msgpack_unpacked *row)
{
    static char data[1u << 20];
    uint8_t header[4];
    if (!receive(fd, header, sizeof header)) {
        return false;
    }
    size_t size =
        (size_t)header[0] | (size_t)header[1] << 8 | (size_t)header[2] << 16 | (size_t)header[3] << 24;
    ck_assert_uint_lt(size, sizeof data);
    ck_assert(receive(fd, data, size));
    size_t offset = 0;
    ck_assert_int_eq(msgpack_unpack_next(row, data, size, &offset), MSGPACK_UNPACK_SUCCESS);
    ck_assert_uint_eq(offset, size);
    ck_assert_int_eq(row->data.type, MSGPACK_OBJECT_MAP);
    return true;
}

static const msgpack_object *field(const msgpack_unpacked *row, const char *key)
{
    const msgpack_object_map *map = &row->data.via.map;
    for (uint32_t i = 0; i < map->size; i++) {
        if (map->ptr[i].key.via.str.size == strlen(key) &&
            memcmp(map->ptr[i].key.via.str.ptr, key, strlen(key)) == 0) {
            return &map->ptr[i].val;
        }
    }
    return NULL;
}

static bool text_is(const msgpack_unpacked *row, const char *key, const char *text)
{
    const msgpack_object *value = field(row, key);
    return value != NULL && value->type == MSGPACK_OBJECT_STR && value->via.str.size == strlen(text) &&
           memcmp(value->via.str.ptr, text, strlen(text)) == 0;
}

static uint64_t number(const msgpack_unpacked *row, const char *key)
{
    const msgpack_object *value = field(row, key);
    ck_assert_msg(value != NULL && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER, "%s", key);
    return value->via.u64;
}

/* Reads to the end; checks hello and the code of the end. @return rows of `type` */
static size_t expect_answer(int fd, const char *code, const char *type)
{
    size_t rows = 0;
    bool first = true;
    for (;;) {
        msgpack_unpacked row;
        msgpack_unpacked_init(&row);
        ck_assert_msg(receive_row(fd, &row), "closed before the end of the answer");
        if (first) {
            ck_assert(text_is(&row, "type", "hello"));
            ck_assert_uint_eq(number(&row, "v"), 1);
            ck_assert_uint_eq(number(&row, "pid"), (uint64_t)getpid());
            ck_assert(text_is(&row, "version", ab_version()));
        }
        first = false;
        rows += type != NULL && text_is(&row, "type", type);
        bool end = text_is(&row, "type", "end");
        if (end) {
            ck_assert_msg(text_is(&row, "code", code), "%.*s: %.*s", (int)field(&row, "code")->via.str.size,
                          field(&row, "code")->via.str.ptr, (int)field(&row, "message")->via.str.size,
                          field(&row, "message")->via.str.ptr);
        }
        msgpack_unpacked_destroy(&row);
        if (end) {
            return rows;
        }
    }
}

static void write_entries(size_t count, size_t size)
{
    char *payload = calloc(1, size);
    ab_bytes *payloads = calloc(256, sizeof *payloads);
    ck_assert(payload != NULL && payloads != NULL);
    for (size_t i = 0; i < 256; i++) {
        payloads[i] = (ab_bytes){payload, size};
    }
    while (count > 0) {
        size_t batch = count < 256 ? count : 256;
        ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, payloads, batch, NULL, NULL), AB_OK);
        count -= batch;
    }
    free(payloads);
    free(payload);
}

START_TEST(every_command_answers)
{
    int fd = dial(cluster.nodes[0].dir);
    test_sm_block(&cluster.nodes[0].sm, true); /* nothing is trimmed meanwhile */
    write_entries(10, 100);
    ask(fd, 1, "status", NULL, 0);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "group"), 1);
    ask(fd, 1, "status", "group", 1);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "node"), 1);
    ask(fd, 1, "groups", NULL, 0);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "group"), 1);
    ask(fd, 1, "groups", "group", 99);
    expect_answer(fd, "AB_ENOTFOUND", "node");
    ask(fd, 1, "peers", NULL, 0);
    expect_answer(fd, "AB_OK", "link");
    ask(fd, 1, "metrics", NULL, 0);
    ck_assert_uint_gt(expect_answer(fd, "AB_OK", "metric"), 5);
    ask(fd, 1, "log", NULL, 0);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "entry"), 10);
    ask(fd, 1, "log", "limit", 3);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "entry"), 3);
    ask(fd, 1, "log", "from", 8);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "entry"), 3);
    ask(fd, 1, "log", "group", 99);
    ck_assert_uint_eq(expect_answer(fd, "AB_ENOTFOUND", "entry"), 0);
    ask(fd, 1, "log", "group", 1);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "entry"), 10);
    ask(fd, 1, "metrics", "group", 99);
    ck_assert_uint_eq(expect_answer(fd, "AB_ENOTFOUND", "metric"), 0);
    ask(fd, 1, "metrics", "group", 1);
    ck_assert_uint_gt(expect_answer(fd, "AB_OK", "metric"), 5);
    ask(fd, 1, "verify", NULL, 0);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "verified"), 1);
    ask(fd, 1, "digest", "timeout_ms", 1);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "digest"), 1); /* says AB_ETIMEDOUT: apply is stuck */
    test_sm_block(&cluster.nodes[0].sm, false);
    ask(fd, 1, "digest", NULL, 0);
    ck_assert_uint_eq(expect_answer(fd, "AB_OK", "digest"), 1);
    close(fd);
}
END_TEST

START_TEST(refusals)
{
    int fd = dial(cluster.nodes[0].dir);
    ask(fd, 1, "dance", NULL, 0);
    expect_answer(fd, "AB_EUNSUPPORTED", NULL);
    ask(fd, 2, "status", NULL, 0);
    expect_answer(fd, "AB_EVERSION", NULL);
    ask(fd, 1, "status", "colour", 3);
    expect_answer(fd, "AB_EINVAL", NULL);
    ask(fd, 1, "status", "detail", 3);
    expect_answer(fd, "AB_EINVAL", NULL);
    ask(fd, 1, "log", "stream", 3);
    expect_answer(fd, "AB_EINVAL", NULL);
    ask(fd, 1, "a command that is longer than any", NULL, 0);
    expect_answer(fd, "AB_EINVAL", NULL);
    ask(fd, 1, "status", "group", 99);
    expect_answer(fd, "AB_ENOTFOUND", NULL);
    static const char *const nonsense[] = {"\x93\x01\x02\x03", "\xc1", "\x81", "\x80\x80", "hello"};
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        msgpack_sbuffer body = {.size = strlen(nonsense[i]), .data = (char *)(uintptr_t)nonsense[i]};
        send_frame(fd, &body);
        expect_answer(fd, "AB_EPROTO", NULL);
    }
    msgpack_sbuffer empty_map = {.size = 1, .data = (char[]){(char)0x80}};
    send_frame(fd, &empty_map);
    expect_answer(fd, "AB_EVERSION", NULL);
    ask(fd, 1, "status", NULL, 0); /* and the connection still serves */
    expect_answer(fd, "AB_OK", NULL);
    close(fd);
}
END_TEST

START_TEST(deep_nesting_is_refused)
{
    int fd = dial(cluster.nodes[0].dir);
    char deep[4000];
    memset(deep, 0x91, sizeof deep);
    msgpack_sbuffer body = {.size = sizeof deep, .data = deep};
    send_frame(fd, &body);
    expect_answer(fd, "AB_EPROTO", NULL);
    close(fd);
}
END_TEST

START_TEST(impossible_sizes_close)
{
    static const uint8_t sizes[][4] = {{0, 0, 0, 0}, {1, 16, 0, 0}, {255, 255, 255, 255}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t byte;
        int fd = dial(cluster.nodes[0].dir);
        send_bytes(fd, sizes[i], sizeof sizes[i]);
        ck_assert(!receive(fd, &byte, 1));
        close(fd);
    }
}
END_TEST

START_TEST(requests_in_pieces_and_in_a_row)
{
    int fd = dial(cluster.nodes[0].dir);
    static const uint8_t frame[] = {0x0d, 0,   0,   0,    0x82, 0xa1, 'v', 0x01, 0xa3,
                                    'c',  'm', 'd', 0xa4, 'p',  'e',  'e', 'r'};
    for (size_t i = 0; i < sizeof frame; i++) {
        send_bytes(fd, &frame[i], 1);
    }
    expect_answer(fd, "AB_EUNSUPPORTED", NULL); /* "peer" */
    for (int i = 0; i < 5; i++) {
        ask(fd, 1, "status", NULL, 0);
    }
    for (int i = 0; i < 5; i++) {
        ck_assert_uint_eq(expect_answer(fd, "AB_OK", "node"), 1);
    }
    close(fd);
}
END_TEST

START_TEST(more_clients_than_places)
{
    int fds[3 * AB_ADMIN_CLIENTS_MAX];
    size_t count = sizeof fds / sizeof fds[0];
    for (size_t i = 0; i < count; i++) {
        fds[i] = dial(cluster.nodes[0].dir);
        ask(fds[i], 1, "status", NULL, 0);
    }
    for (size_t i = 0; i < count; i++) {
        expect_answer(fds[i], "AB_OK", "node");
        close(fds[i]); /* makes room for the next */
    }
}
END_TEST

static ab_admin *start_limited(uint32_t idle_ms, uint32_t stall_ms, uint32_t clients)
{
    ab_admin_limits limits = {.idle_ms = idle_ms, .stall_ms = stall_ms, .clients = clients};
    ab_admin *admin = NULL;
    ab_message message = {{0}};
    int code = ab_admin_start_limited(cluster.nodes[0].node, other_dir, NULL, &limits, &admin, &message);
    ck_assert_msg(code == AB_OK, "%s", message.text);
    return admin;
}

START_TEST(silent_clients_are_let_go)
{
    ab_admin *admin = start_limited(30, 60000, 1);
    uint8_t byte;
    int silent = dial(other_dir);
    int half = dial(other_dir);
    int waiting = dial(other_dir);
    send_bytes(half, "\x20\0\0\0x", 5);
    ask(waiting, 1, "status", NULL, 0);
    ck_assert(!receive(silent, &byte, 1));
    ck_assert(!receive(half, &byte, 1));
    expect_answer(waiting, "AB_OK", "node"); /* the only place was free again */
    close(silent);
    close(half);
    close(waiting);
    ab_admin_stop(admin);
}
END_TEST

START_TEST(a_reader_that_stalls_is_let_go_and_hurts_nobody)
{
    test_sm_block(&cluster.nodes[0].sm, true);
    write_entries(20000, 300); /* more than the socket and the pipe hold */
    ab_admin *admin = start_limited(60000, 2000, 4);
    int stalled = dial(other_dir);
    int reader = dial(other_dir);
    ask(stalled, 1, "log", "payload_max", 300);
    ask(reader, 1, "log", "payload_max", 300);
    ck_assert_uint_eq(expect_answer(reader, "AB_OK", "entry"), 20000);
    struct pollfd p = {.fd = stalled, .events = POLLRDHUP}; /* does not read, and so does not wake it up */
    ck_assert_int_eq(poll(&p, 1, ANSWER_MS), 1);
    /* It was cut off: what it finds now is the beginning of the answer without its end. */
    size_t entries = 0;
    uint8_t header[4];
    while (receive(stalled, header, sizeof header)) {
        char data[1024];
        size_t size = (size_t)header[0] | (size_t)header[1] << 8;
        ck_assert_uint_lt(size, sizeof data);
        if (!receive(stalled, data, size)) {
            break;
        }
        entries++;
    }
    ck_assert_uint_gt(entries, 0);
    ck_assert_uint_lt(entries, 20000);
    close(stalled);
    close(reader);
    ab_admin_stop(admin);
    test_sm_block(&cluster.nodes[0].sm, false);
}
END_TEST

START_TEST(stop_with_answers_under_way)
{
    test_sm_block(&cluster.nodes[0].sm, true);
    write_entries(20000, 300);
    ab_admin *admin = start_limited(60000, 60000, 8);
    int fds[8];
    static const char *const commands[] = {"log",    "log", "verify", "digest",
                                           "status", "log", "digest", "peers"};
    for (size_t i = 0; i < 8; i++) {
        uint8_t byte;
        fds[i] = dial(other_dir);
        ask(fds[i], 1, commands[i], strcmp(commands[i], "digest") == 0 ? "timeout_ms" : NULL, 3600000);
        if (strcmp(commands[i], "digest") != 0) {
            ck_assert(receive(fds[i], &byte, 1)); /* it is being worked on */
        }
    }
    ab_admin_stop(admin); /* returns though nobody reads and apply is stuck */
    struct stat info;
    char path[128];
    snprintf(path, sizeof path, "%s/admin.sock", other_dir);
    ck_assert_int_eq(stat(path, &info), -1);
    for (size_t i = 0; i < 8; i++) {
        close(fds[i]);
    }
    test_sm_block(&cluster.nodes[0].sm, false);
}
END_TEST

START_TEST(the_socket_file)
{
    struct stat info;
    char path[128];
    snprintf(path, sizeof path, "%s/admin.sock", cluster.nodes[0].dir);
    ck_assert_int_eq(lstat(path, &info), 0);
    ck_assert(S_ISSOCK(info.st_mode));
    ck_assert_uint_eq(info.st_mode & 07777, 0600);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    ck_assert_int_eq(lstat(path, &info), -1);
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(what_is_in_the_way_of_the_socket)
{
    char path[128];
    ab_message message = {{0}};
    ab_admin *admin = NULL;
    ab_admin *second = NULL;
    ab_node *node = cluster.nodes[0].node;
    snprintf(path, sizeof path, "%s/admin.sock", other_dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    ck_assert_int_eq(ab_admin_start(node, other_dir, NULL, &admin, &message), AB_EEXIST);
    ck_assert_ptr_null(admin);
    ck_assert_ptr_nonnull(strstr(message.text, "/admin.sock: is in the way and no socket (move it away)"));
    unlink(path);

    struct sockaddr_un address = {.sun_family = AF_UNIX}; /* as a dead process leaves it */
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    ck_assert_int_eq(ab_admin_start(node, other_dir, NULL, &admin, &message), AB_OK);

    ck_assert_int_eq(ab_admin_start(node, other_dir, NULL, &second, &message), AB_ELOCKED);
    ck_assert_ptr_nonnull(strstr(message.text, "is served by another process (stop it first)"));
    fd = dial(other_dir); /* the first still serves */
    ask(fd, 1, "status", NULL, 0);
    expect_answer(fd, "AB_OK", "node");
    close(fd);
    ab_admin_stop(admin);
    ck_assert_int_eq(ab_admin_start(node, "/nowhere", NULL, &admin, &message), AB_EIO);
    ck_assert_str_eq(message.text,
                     "/nowhere/admin.sock: its directory cannot be opened: No such file or directory");
    ab_admin_stop(NULL);
}
END_TEST

START_TEST(a_path_longer_than_a_socket_address)
{
    char path[512];
    size_t used = (size_t)snprintf(path, sizeof path, "%s", other_dir);
    for (int i = 0; i < 3; i++) {
        memset(path + used, 'x', 101);
        path[used] = '/';
        used += 101;
        path[used] = '\0';
        ck_assert_int_eq(mkdir(path, 0700), 0);
    }
    ab_admin *admin = NULL;
    ck_assert_int_eq(ab_admin_start(cluster.nodes[0].node, path, NULL, &admin, NULL), AB_OK);
    int dir = open(path, O_RDONLY | O_DIRECTORY);
    char near[64];
    snprintf(near, sizeof near, "/proc/self/fd/%d", dir);
    int fd = dial(near);
    ask(fd, 1, "status", NULL, 0);
    expect_answer(fd, "AB_OK", "node");
    close(fd);
    close(dir);
    ab_admin_stop(admin);
}
END_TEST

START_TEST(starting_and_stopping_leaks_no_descriptor)
{
    int before = open("/dev/null", O_RDONLY);
    close(before);
    for (int i = 0; i < 200; i++) {
        ab_admin *admin = start_limited(1000, 1000, 8);
        int fd = dial(other_dir);
        ask(fd, 1, "status", NULL, 0);
        expect_answer(fd, "AB_OK", "node");
        close(fd);
        ab_admin_stop(admin);
    }
    int after = open("/dev/null", O_RDONLY);
    close(after);
    ck_assert_int_eq(before, after);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admin");
    TCase *tc = tcase_create("admin");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, every_command_answers);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, deep_nesting_is_refused);
    tcase_add_test(tc, impossible_sizes_close);
    tcase_add_test(tc, requests_in_pieces_and_in_a_row);
    tcase_add_test(tc, more_clients_than_places);
    tcase_add_test(tc, silent_clients_are_let_go);
    tcase_add_test(tc, a_reader_that_stalls_is_let_go_and_hurts_nobody);
    tcase_add_test(tc, stop_with_answers_under_way);
    tcase_add_test(tc, the_socket_file);
    tcase_add_test(tc, what_is_in_the_way_of_the_socket);
    tcase_add_test(tc, a_path_longer_than_a_socket_address);
    tcase_add_test(tc, starting_and_stopping_leaks_no_descriptor);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
