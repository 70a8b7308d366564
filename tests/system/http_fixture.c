/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of one daemon share. One thread. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "tests/system/http_fixture.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONVERGE_MS 60000u

char base[64];
ab_cluster cluster;
ab_httpc client;
ab_httpc_answer answer;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

void start_nodes(size_t count, const char *node_extra, const char *application_extra)
{
    ab_cluster_options options = {.bin = AB_BIN,
                                  .dir = base,
                                  .count = count,
                                  .groups = 4,
                                  .node_extra = node_extra,
                                  .application_extra = application_extra};
    ck_assert_msg(ab_cluster_init(&cluster, &options), "%s", cluster.error);
    for (size_t i = 0; i < count; i++) {
        ck_assert_msg(ab_cluster_start(&cluster, i), "%s", cluster.error);
    }
}

void start_with(const char *application_extra)
{
    start_nodes(1, NULL, application_extra);
}

void setup_dir(void)
{
    snprintf(base, sizeof base, "/tmp/test_http_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    ck_assert(ab_httpc_init(&client));
}

void teardown(void)
{
    ab_httpc_free(&client);
    ab_cluster_stop(&cluster);
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

uint16_t port(void)
{
    return ab_cluster_http_port(&cluster, 0);
}

/* Where there was no answer: says what the daemon said last, it may be gone. */
static void expect_answer(bool answered, size_t node, const char *path)
{
    int code = errno;
    char name[400];
    char text[4096] = "";
    if (answered) {
        return;
    }
    snprintf(name, sizeof name, "%s/log", cluster.nodes[node].dir);
    FILE *log = fopen(name, "re");
    if (log != NULL) {
        (void)fseek(log, -(long)(sizeof text - 1), SEEK_END); /* a shorter log is read from its beginning */
        text[fread(text, 1, sizeof text - 1, log)] = '\0';
        fclose(log);
    }
    ck_abort_msg("%s: no answer: %s; the daemon's log ends so:\n%s", path, strerror(code), text);
}

void post(const char *path, const char *body, int status)
{
    errno = 0;
    expect_answer(ab_httpc_post(&client, port(), path, body, strlen(body), &answer), 0, path);
    ck_assert_msg(answer.status == status, "%s: status %d, not %d: %s", path, answer.status, status,
                  answer.body);
}

void post_to(size_t node, const char *path, const char *body)
{
    uint16_t to = ab_cluster_http_port(&cluster, node);
    errno = 0;
    expect_answer(ab_httpc_post(&client, to, path, body, strlen(body), &answer), node, path);
    ck_assert_msg(answer.status == 204, "%s: %d %s", path, answer.status, answer.body);
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

const char *sorted(void)
{
    static char out[65536];
    char *lines[1000];
    size_t count = 0;
    size_t n = 0;
    char *text = strdup(answer.size > 0 ? answer.body : "");
    for (char *line = strtok(text, "\n"); line != NULL && count < 1000; line = strtok(NULL, "\n")) {
        lines[count++] = line;
    }
    qsort(lines, count, sizeof *lines, compare_lines);
    out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(out + n, sizeof out - n, "%s\n", lines[i]);
    }
    free(text);
    return out;
}

void check_everywhere(const char *expected)
{
    ck_assert_msg(ab_cluster_converge(&cluster, CONVERGE_MS, NULL), "%s", cluster.error);
    for (size_t i = 0; i < cluster.count; i++) {
        uint16_t from = ab_cluster_http_port(&cluster, i);
        errno = 0;
        expect_answer(ab_httpc_get(&client, from, "/export", &answer), i, "/export");
        ck_assert_int_eq(answer.status, 200);
        ck_assert_msg(strcmp(sorted(), expected) == 0, "node %zu has\n%s", i + 1, sorted());
    }
}

void post_bytes(const char *path, const char *head, const void *body, size_t size, int status)
{
    errno = 0;
    expect_answer(ab_httpc_request(&client, port(), "POST", path, head, body, size, NULL, &answer), 0, path);
    ck_assert_msg(answer.status == status, "%s: status %d, not %d: %s", path, answer.status, status,
                  answer.body);
}

void get(const char *path, int status)
{
    errno = 0;
    expect_answer(ab_httpc_get(&client, port(), path, &answer), 0, path);
    ck_assert_msg(answer.status == status, "%s: status %d, not %d: %s", path, answer.status, status,
                  answer.body);
}

int dial(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port()), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval timeout = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    ck_assert_msg(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "%s", strerror(errno));
    return fd;
}

void say(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

const char *hear(int fd, const char *until)
{
    static char text[16384];
    size_t size = 0;
    text[0] = '\0';
    while (strstr(text, until) == NULL && size + 1 < sizeof text) {
        ssize_t n = recv(fd, text + size, sizeof text - 1 - size, 0);
        if (n <= 0) {
            break;
        }
        size += (size_t)n;
        text[size] = '\0';
    }
    return text;
}

int run(const char *const *arguments, char *out, size_t room)
{
    int ends[2];
    size_t size = 0;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execv(AB_BIN "/anabranchd", (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t n = 0; (n = read(ends[0], out + size, room - 1 - size)) > 0;) {
        size += (size_t)n;
    }
    out[size] = '\0';
    close(ends[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const char *write_file(const char *text)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/test.yaml", base);
    FILE *file = fopen(path, "we");
    fputs(text, file);
    fclose(file);
    return path;
}

long anonymous_kib(void)
{
    char path[64];
    char line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)cluster.nodes[0].pid);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    while (kib < 0 && fgets(line, sizeof line, file) != NULL) {
        kib = strncmp(line, "RssAnon:", 8) == 0 ? strtol(line + 8, NULL, 10) : -1;
    }
    fclose(file);
    return kib;
}
