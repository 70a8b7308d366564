/* SPDX-License-Identifier: Apache-2.0 */
/* anabranchd started where something is in its way: it says what, leaves nothing behind, and touches nothing of a daemon
 * that runs. One thread. */
#include "tests/support/run.h"
#include "tests/system/http_fixture.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char data[128]; /* the directory of the one that is started beside it */

static void setup(void)
{
    setup_dir();
    start_with(NULL);
    snprintf(data, sizeof data, "%s/other", base);
}

/* A configuration like that of the one that runs but for the directory. */
static const char *configuration(unsigned http_port)
{
    char text[512];
    snprintf(text, sizeof text,
             "node: {cluster: c, node_id: 1, data_dir: %s}\napplication: {http_port: %u, groups: 1}\n", data,
             http_port);
    return write_file(text);
}

/* Starts it, which must end at once with `status`. @return what it says */
static const char *fail_to_start(const char *config, const char *ready, int status)
{
    static char out[4096];
    const char *const arguments[] = {"anabranchd", "--config", config, ready != NULL ? "--ready-file" : NULL,
                                     ready,        NULL};
    int code = run(arguments, out, sizeof out);
    ck_assert_msg(code == status, "exit code %d: %s", code, out);
    return out;
}

/* Whoever mistypes a port has no data directory there afterwards, with an identity of its own. */
START_TEST(taken_port)
{
    const char *out = fail_to_start(configuration(port()), NULL, 1);
    ck_assert_msg(strstr(out, "another program has it") != NULL, "%s", out);
    ck_assert_int_ne(access(data, F_OK), 0);
}
END_TEST

/* Who waits for the file must not find that of an earlier run. */
START_TEST(old_ready_file)
{
    char ready[128];
    snprintf(ready, sizeof ready, "%s/ready", base);
    fclose(fopen(ready, "we"));
    (void)fail_to_start(configuration(port()), ready, 1);
    ck_assert_int_ne(access(ready, F_OK), 0);
}
END_TEST

static void read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    ck_assert_msg(file != NULL, "no %s", path);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* It is gone only with the daemon that wrote it, whatever that one's end. */
START_TEST(ready_file_of_another)
{
    char ready[256];
    char beside[300];
    char before[128];
    char after[128];
    snprintf(ready, sizeof ready, "%s/ready", cluster.nodes[0].dir);
    snprintf(beside, sizeof beside, "%s.new", ready);
    read_file(ready, before, sizeof before);
    const char *out = fail_to_start(configuration(0), ready, 1);
    ck_assert_msg(strstr(out, "another anabranchd that runs has written it") != NULL, "%s", out);
    (void)fail_to_start(configuration(port()), ready, 1);
    read_file(ready, after, sizeof after);
    ck_assert_str_eq(before, after);
    ck_assert_int_ne(access(beside, F_OK), 0);
    ck_assert_int_ne(access(data, F_OK), 0);
    ck_assert_msg(ab_cluster_signal(&cluster, 0, SIGKILL, NULL), "%s", cluster.error);
    ck_assert_int_eq(access(ready, F_OK), 0);
    snprintf(data, sizeof data, "/nonexistent/x");
    (void)fail_to_start(configuration(0), ready, 1);
    ck_assert_int_ne(access(ready, F_OK), 0);
}
END_TEST

/* Said before there is anything to take back. */
START_TEST(no_place_for_a_ready_file)
{
    char ready[256];
    snprintf(ready, sizeof ready, "%s/not/there", base);
    const char *out = fail_to_start(configuration(0), ready, 1);
    ck_assert_msg(strstr(out, "No such file or directory") != NULL, "%s", out);
    out = fail_to_start(configuration(0), cluster.nodes[0].dir, 1);
    ck_assert_msg(strstr(out, "is there and is no regular file") != NULL, "%s", out);
    ck_assert_int_ne(access(data, F_OK), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("start");
    TCase *c = tcase_create("beside");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, taken_port);
    tcase_add_test(c, old_ready_file);
    tcase_add_test(c, ready_file_of_another);
    tcase_add_test(c, no_place_for_a_ready_file);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    return test_run(s);
}
