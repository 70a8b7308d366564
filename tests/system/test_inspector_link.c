/* SPDX-License-Identifier: Apache-2.0 */
/* The inspector's connections to live nodes: followers that stay and go, a socket that is gone, something else behind it,
 * a node that stops meanwhile. */
#include "tests/support/run.h"
#include "tests/system/inspector_fixture.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Reads lines of a pipe until one has the text. */
static void expect_line(FILE *pipe, const char *text)
{
    char line[512];
    do {
        ck_assert_msg(fgets(line, sizeof line, pipe) != NULL, "the output ended before \"%s\"", text);
    } while (strstr(line, text) == NULL);
}

typedef struct follower {
    pid_t pid;
    FILE *pipe;
} follower;

/* `anabranch log --follow` of node 1. */
static follower follow(const char *last)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    follower f = {.pid = fork()};
    ck_assert_int_ge(f.pid, 0);
    if (f.pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(ANABRANCH, "anabranch", "log", "--data", cluster.nodes[0].dir, "--follow", "--last", last,
              (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    f.pipe = fdopen(ends[0], "r");
    ck_assert_ptr_nonnull(f.pipe);
    return f;
}

/* Stops reading: its next row finds nobody. */
static void hang_up(follower f)
{
    int status = 0;
    fclose(f.pipe);
    write_more(0, "unseen", 1);
    ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

START_TEST(log_is_followed)
{
    test_sm_block(&cluster.nodes[0].sm, true); /* what is not applied is not trimmed */
    write_more(0, "now", 1);
    follower f = follow("1");
    expect_line(f.pipe, "now-0");
    write_more(0, "later", 20);
    expect_line(f.pipe, "later-19");
    write_more(1, "elsewhere", 20); /* another stream, which it knows or does not */
    expect_line(f.pipe, "elsewhere-19");
    hang_up(f);
    test_sm_block(&cluster.nodes[0].sm, false);
}
END_TEST

/* A follower that goes away lets go of its slot and its thread: there are eight. */
START_TEST(followers_go_away)
{
    test_sm_block(&cluster.nodes[0].sm, true);
    for (unsigned i = 0; i < 20; i++) {
        follower f = follow("1");
        write_more(0, "more", 1);
        expect_line(f.pipe, "more-0");
        hang_up(f);
    }
    expect("log --data \"$1\" --limit 1", 0, "PAYLOAD");
    follower f = follow("1"); /* and one is there when the node closes */
    write_more(0, "last", 1);
    expect_line(f.pipe, "last-0");
    test_sm_block(&cluster.nodes[0].sm, false);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    int status = 0;
    ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
    fclose(f.pipe); /* not before: what it still has to say would kill it */
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}
END_TEST

/* A running node whose socket is gone: the lock still keeps us off its files. */
START_TEST(no_socket)
{
    char path[128];
    snprintf(path, sizeof path, "%s/admin.sock", cluster.nodes[0].dir);
    ck_assert_int_eq(unlink(path), 0);
    expect("status --data \"$1\"", 1, "unreadable");
    char pid[32];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    ck_assert_msg(strstr(output, pid) != NULL, "%s", output);
    expect("log --data \"$1\"", 1, cluster.nodes[0].dir);
}
END_TEST

static int listen_in(const char *dir)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/admin.sock", dir);
    unlink(address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    return fd;
}

/* Something that listens where a node should, and answers nonsense. */
START_TEST(an_imposter)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } answers[] = {
        {"", 0, "the node hung up"},
        {"\x05\0\0\0ab", 6, "the node hung up"},
        {"\0\0\0\0", 4, "an answer of an impossible size"},
        {"\xff\xff\xff\xff", 4, "an answer of an impossible size"},
        {"\x01\0\0\0\xc1", 5, "an answer that is no msgpack map"},
        {"\x01\0\0\0\x93", 5, "an answer that is no msgpack map"},
        {"\x0a\0\0\0\x82\xa4type\xa3"
         "end",
         15, "an answer that is no msgpack map"},
        {"\x0f\0\0\0\x82\xa4type\xa5hello\xa1v\x07", 19, "the node is of release "},
        {"\x16\0\0\0\x82\xa4type\xa3"
         "end\xa4"
         "code\xa6"
         "AB_EIO",
         27, "input/output error"},
        {"\x1f\0\0\0\x83\xa4type\xa3"
         "end\xa4"
         "code\xa3\x1b[2\xa7message\xa3\xff\xfe\x1b",
         35, "\xef\xbf\xbd\xef\xbf\xbd\\x1b"},
    };
    char dir[64];
    char command[256];
    test_directory(dir, sizeof dir);
    snprintf(command, sizeof command, "status --data '%s'", dir);
    int fd = listen_in(dir);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            unsigned char request[4096]; /* all of it: closing with unread bytes would reset the connection */
            int client = accept(fd, NULL, NULL);
            ssize_t got = recv(client, request, 4, MSG_WAITALL);
            got = recv(client, request + 4, request[0] | (size_t)request[1] << 8, MSG_WAITALL);
            ssize_t sent = send(client, answers[i].bytes, answers[i].size, MSG_NOSIGNAL);
            _exit(got > 0 && sent == (ssize_t)answers[i].size ? 0 : 1);
        }
        int code = inspect(command);
        ck_assert_msg(code == 1 && strstr(output, answers[i].words) != NULL, "answer %zu: exit %d:\n%s", i,
                      code, output);
        ck_assert_ptr_null(strchr(output, 0x1b));
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
    }
    close(fd);
    test_remove(dir);
}
END_TEST

/* The node stops in time though an inspector hangs on it, and inspectors at work end with a word. */
START_TEST(stopping_under_inspection)
{
    pid_t children[6];
    static const char *const commands[] = {"verify", "log", "status", "digest", "peers", "log"};
    for (size_t i = 0; i < 6; i++) {
        children[i] = fork();
        ck_assert_int_ge(children[i], 0);
        if (children[i] == 0) {
            int null = open("/dev/null", O_WRONLY);
            dup2(null, STDOUT_FILENO);
            dup2(null, STDERR_FILENO);
            execl(ANABRANCH, "anabranch", commands[i], "--data", cluster.nodes[0].dir, (char *)NULL);
            _exit(127);
        }
    }
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    for (size_t i = 0; i < 6; i++) {
        int status;
        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inspector_link");
    TCase *tc = tcase_create("link");
    tcase_add_checked_fixture(tc, inspector_setup, inspector_teardown);
    tcase_add_test(tc, log_is_followed);
    tcase_add_test(tc, followers_go_away);
    tcase_add_test(tc, no_socket);
    tcase_add_test(tc, an_imposter);
    tcase_add_test(tc, stopping_under_inspection);
    tcase_set_timeout(tc, 90);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
