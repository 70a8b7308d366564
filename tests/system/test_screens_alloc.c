/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch report` and `anabranch top`, in this process, with each allocation failing in turn (jansson's among them). The
 * nodes that they look at live in another process. */
#define _GNU_SOURCE
#include "tests/support/alloc_fail.h"
#include "tests/support/nodes.h"
#include "tools/anabranch/command.h"

#include <check.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define WAIT_MS 30000u

static char dirs[2][300]; /* of a node that runs, and of one that does not */
static int quiet;         /* /dev/null */

/* jansson is a library of its own: its calls come here this way. */
static void *json_malloc(size_t size)
{
    return malloc(size);
}

static void json_free(void *memory)
{
    free(memory);
}

/* Runs a command with its output in `out`. Nothing in here may use Check, which allocates, too. */
static int run(const command *c, int argc, const char *const *argv, int out)
{
    fflush(stdout);
    int before_out = dup(STDOUT_FILENO);
    int before_err = dup(STDERR_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(quiet, STDERR_FILENO);
    int code = c->run(argc, (char **)(uintptr_t)argv);
    fflush(stdout);
    dup2(before_out, STDOUT_FILENO);
    dup2(before_err, STDERR_FILENO);
    close(before_out);
    close(before_err);
    return code;
}

/* Rows of the page's tables; 0: it is not whole. (How many plots have anything to show is a matter of time.) */
static unsigned rows_of(const char *path)
{
    char line[4096] = "";
    unsigned rows = 0;
    bool whole = false;
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        rows += strstr(line, "<tr>") != NULL;
        whole = strcmp(line, "</html>\n") == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return whole ? rows : 0;
}

/* Without memory a report says so and leaves no half of a page, unless it could do without and nothing is missing. */
static void try_report(const char *const *argv, int argc, const char *page, int expected)
{
    unsigned long n = 0;
    unlink(page);
    ck_assert_int_eq(run(command_find("report"), argc, argv, quiet), expected);
    unsigned rows = rows_of(page);
    ck_assert_uint_gt(rows, 3);
    for (bool failed = true; failed;) {
        unlink(page);
        alloc_fail_at(++n);
        int code = run(command_find("report"), argc, argv, quiet);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        bool there = access(page, F_OK) == 0;
        ck_assert_msg(code == expected || (failed && code == 1), "N = %lu: exit code %d", n, code);
        ck_assert_msg(!there || rows_of(page) > 0, "N = %lu: half a page", n);
        ck_assert_msg(code != 0 || rows_of(page) == rows, "N = %lu: %u of %u rows", n, rows_of(page), rows);
    }
    ck_assert_uint_gt(n, 100);
}

START_TEST(report_of_live_nodes)
{
    char page[400];
    const char *argv[] = {"report", dirs[0], "--for", "0", "-o", page, NULL};
    snprintf(page, sizeof page, "%s/page.html", dirs[0]);
    try_report(argv, 6, page, 0);
}
END_TEST

START_TEST(report_of_a_log)
{
    char page[400];
    const char *argv[] = {"report", dirs[1], "--for", "0", "-o", page, NULL};
    snprintf(page, sizeof page, "%s/page.html", dirs[0]);
    try_report(argv, 6, page, 1);
}
END_TEST

/* Takes what is painted, and throws it away. */
static void *drain(void *arg)
{
    char bytes[4096];
    while (read(*(int *)arg, bytes, sizeof bytes) > 0) {
    }
    return NULL;
}

START_TEST(top)
{
    const char *argv[] = {"top", dirs[0], dirs[1], NULL};
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    int master;
    int slave;
    pthread_t reader;
    unsigned long n = 0;
    setenv("TERM", "vt52", 1);
    ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, &size), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, drain, &master), 0);
    dup2(slave, STDIN_FILENO);
    for (bool failed = true; failed;) {
        tcflush(slave, TCIFLUSH);
        bool asked = write(master, "q", 1) == 1; /* after the first screen */
        alloc_fail_at(++n);
        int code = run(command_find("top"), 3, argv, slave);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert(asked);
        /* One that could not be asked for want of memory is shown so: the next look may find more. */
        ck_assert_msg(code == 0 || (failed && code == 1), "N = %lu: exit code %d", n, code);
    }
    ck_assert_uint_gt(n, 100);
    dup2(quiet, STDIN_FILENO);
    close(slave); /* the last of it: what is read at the other end ends */
    ck_assert_int_eq(pthread_join(reader, NULL), 0);
    close(master);
}
END_TEST

/* The other process: two nodes that run, and the log of one that does not. */
static void serve(int told, int until)
{
    static const size_t counts[] = {2, 1};
    test_cluster clusters[2];
    char byte;
    bool good = true;
    for (size_t i = 0; i < 2; i++) {
        test_cluster_init(&clusters[i], counts[i]);
        for (size_t k = 0; k < counts[i]; k++) {
            good = good && test_cluster_open(&clusters[i], k) == AB_OK;
        }
        test_node *node = &clusters[i].nodes[0];
        good = good && test_write_range(node->group, "entry", 0, 20) == AB_OK &&
               test_sm_wait(&clusters[i].nodes[counts[i] - 1].sm, 20, WAIT_MS);
        snprintf(dirs[i], sizeof dirs[i], "%s", node->dir);
    }
    good = good && test_cluster_close(&clusters[1], 0) == AB_OK;
    good = good && write(told, dirs, sizeof dirs) == sizeof dirs;
    good = read(until, &byte, 1) == 0 && good;
    for (size_t i = 0; i < 2; i++) {
        test_cluster_free(&clusters[i]);
    }
    _exit(good ? 0 : 1);
}

int main(void)
{
    int told[2];
    int until[2];
    int status = 1;
    if (pipe2(told, O_CLOEXEC) != 0 || pipe2(until, O_CLOEXEC) != 0) {
        return EXIT_FAILURE;
    }
    pid_t child = fork();
    if (child == 0) {
        close(until[1]);
        serve(told[1], until[0]);
    }
    close(told[1]);
    quiet = open("/dev/null", O_WRONLY);
    bool good = child > 0 && read(told[0], dirs, sizeof dirs) == sizeof dirs;
    json_set_alloc_funcs(json_malloc, json_free);
    Suite *suite = suite_create("screens_alloc");
    TCase *tcase = tcase_create("failing allocations");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, report_of_live_nodes);
    tcase_add_test(tcase, report_of_a_log);
    tcase_add_test(tcase, top);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    if (good) {
        srunner_run_all(runner, CK_NORMAL);
    }
    good = good && srunner_ntests_failed(runner) == 0;
    srunner_free(runner);
    close(until[1]);
    good = waitpid(child, &status, 0) == child && status == 0 && good;
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
