/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch report` on three live nodes with a group whose name is full of markup, and on what is left of them. */
#define _GNU_SOURCE
#include "tests/support/markup_check.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 30000u
#define NAME "<script>alert(1)</script>&\"x'"

static test_cluster cluster;
static test_sm odd_sm;
static char *page;

static void setup(void)
{
    static const uint32_t self[] = {1};
    test_cluster_init(&cluster, 3);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
    ab_group_config odd;
    ab_group *group;
    ab_group_config_init(&odd);
    odd.id = 2, odd.name = NAME, odd.backend = "standalone", odd.members = self, odd.member_count = 1;
    test_sm_init(&odd_sm);
    ck_assert_int_eq(ab_group_open(cluster.nodes[0].node, &odd, &test_statemachine, &odd_sm, &group, NULL),
                     AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "entry", 0, 20), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[2].sm, 20, WAIT_MS));
    for (size_t i = 0; i < 3; i++) { /* a link that is not up yet is a problem */
        ck_assert(test_links_wait(&cluster.nodes[i], 2, WAIT_MS));
    }
}

static void teardown(void)
{
    test_cluster_free(&cluster);
    test_sm_free(&odd_sm);
    free(page);
    page = NULL;
}

/* Runs "anabranch report ARGS"; $1, $2, $3 are the nodes' directories. What it prints goes to $1/said. */
static int run(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "set -- '%s' '%s' '%s'; exec '%s' report >\"$1/said\" 2>&1 %s",
             cluster.nodes[0].dir, cluster.nodes[1].dir, cluster.nodes[2].dir, ANABRANCH, arguments);
    int status = system(command);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static char *read_all(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", cluster.nodes[0].dir, name);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s is not there", path);
    char *text = calloc(1, 1u << 20);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_gt(fread(text, 1, (1u << 20) - 1, file), 0);
    fclose(file);
    return text;
}

static void expect_code(const char *arguments, int code)
{
    int got = run(arguments);
    if (got != code) {
        ck_abort_msg("anabranch report %s: exit code %d: %s", arguments, got, read_all("said"));
    }
}

static void expect_page(void)
{
    size_t where;
    free(page);
    page = read_all("page.html");
    const char *problem = markup_check(page, &where);
    ck_assert_msg(problem == NULL, "%s: %.80s", problem, page + where);
    /* Nothing from elsewhere: the only address is the name of SVG. */
    for (const char *at = page; (at = strstr(at, "://")) != NULL; at++) {
        ck_assert_int_eq(strncmp(at, "://www.w3.org/2000/svg\"", 23), 0);
    }
}

static size_t times(const char *what)
{
    size_t count = 0;
    for (const char *at = page; (at = strstr(at, what)) != NULL; at++) {
        count++;
    }
    return count;
}

START_TEST(live)
{
    int code = run("\"$1\" \"$2\" --data \"$3\" \"$1\" --for 0.5 --every 50 -o \"$1/page.html\"");
    char *said = read_all("said");
    ck_assert_msg(code == 0, "exit code %d: %s", code, said);
    ck_assert_ptr_nonnull(strstr(said, "No problems."));
    free(said);
    expect_page();
    ck_assert_ptr_nonnull(strstr(page, "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;x&#39;"));
    ck_assert_ptr_nonnull(strstr(page, "3 of 3"));
    ck_assert_ptr_nonnull(strstr(page, "1 \xe2\x86\x92 2")); /* lag of a peer */
    ck_assert_uint_ge(times("<svg"), 10);
    ck_assert_uint_eq(times("<section"), 6);
    ck_assert_ptr_nonnull(strstr(page, "width=device-width"));
    ck_assert_ptr_nonnull(strstr(page, "in step"));
}
END_TEST

START_TEST(one_look_without_a_time)
{
    expect_code("\"$1\" --for 0 --output \"$1/page.html\"", 0);
    expect_page();
    ck_assert_uint_eq(times("<svg"), 0);
    ck_assert_ptr_nonnull(strstr(page, "one look"));
    expect_code("\"$1\" --for 0 -o - >\"$1/page.html\"", 0);
    expect_page();
}
END_TEST

/* Nodes that are not there, one of them with a log. The looking ends at once where nobody runs. */
START_TEST(stopped)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 1), AB_OK);
    ck_assert(test_links_wait(&cluster.nodes[0], 1, WAIT_MS));
    expect_code("\"$1\" \"$2\" --for 0.2 --every 50 -o \"$1/page.html\"", 1);
    expect_page();
    ck_assert_ptr_nonnull(strstr(page, "is not running"));
    ck_assert_ptr_nonnull(strstr(page, "link to node 2 is down"));
    ck_assert_ptr_nonnull(strstr(page, ">down<"));
    expect_code("\"$2\" \"$2/nothing\" --for 3600 --every 1000 -o \"$1/page.html\"", 1);
    expect_page();
    ck_assert_ptr_nonnull(strstr(page, "0 of 2"));
    ck_assert_ptr_nonnull(strstr(page, "unreadable"));
    ck_assert_ptr_nonnull(strstr(page, "stopped"));
    ck_assert_ptr_nonnull(strstr(page, "<b class=\"plain\">-</b>entries behind, slowest peer"));
    ck_assert_ptr_nonnull(strstr(page, "KiB</b>of logs, all nodes")); /* that of the one with a log */
    ck_assert_ptr_nonnull(strstr(page, "only running nodes tell of their links"));
}
END_TEST

START_TEST(wrong_usage)
{
    expect_code("\"$1\" --for 0", 2);
    expect_code("-o x", 2);
    expect_code("\"$1\" --for 86400 --every 1 -o x", 2);
    expect_code("\"$1\" --every x -o x", 2);
    expect_code("\"$1\" --for -1 -o x", 2);
    expect_code("\"$1\" --for 0 -o /nowhere/x", 1);
    expect_code("\"$1\" --for 0 -o - >/dev/full", 1);
    /* A file that cannot be written leaves no half of one. */
    expect_code("\"$1\" --for 0 -o \"$1\"", 1);
    char command[128];
    snprintf(command, sizeof command, "ls '%s'.*.part >/dev/null 2>&1", cluster.nodes[0].dir);
    ck_assert_int_ne(system(command), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("report");
    TCase *tests = tcase_create("report");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, live);
    tcase_add_test(tests, one_look_without_a_time);
    tcase_add_test(tests, stopped);
    tcase_add_test(tests, wrong_usage);
    suite_add_tcase(suite, tests);
    return test_run(suite);
}
