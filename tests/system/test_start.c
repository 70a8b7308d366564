/* SPDX-License-Identifier: Apache-2.0 */
/* anabranchd started where something is in its way: it says what, leaves nothing behind, and touches nothing of a daemon
 * that runs. One thread. */
#include "tests/support/run.h"
#include "tests/system/http_fixture.h"

#include <check.h>
#include <signal.h>
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

int main(void)
{
    Suite *s = suite_create("start");
    TCase *c = tcase_create("beside");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, taken_port);
    tcase_add_test(c, old_ready_file);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    return test_run(s);
}
