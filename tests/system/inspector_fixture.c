/* SPDX-License-Identifier: Apache-2.0 */
/* See inspector_fixture.h. */
#include "tests/system/inspector_fixture.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

test_cluster cluster;
char output[INSPECTOR_OUTPUT_MAX];

void inspector_setup(void)
{
    test_cluster_init(&cluster, 3);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(test_write_range(cluster.nodes[i].group, "entry", 0, INSPECTOR_ENTRIES / 3), AB_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        ck_assert(test_sm_wait(&cluster.nodes[i].sm, INSPECTOR_ENTRIES, INSPECTOR_WAIT_MS));
        ck_assert(test_links_wait(&cluster.nodes[i], 2, INSPECTOR_WAIT_MS));
    }
}

void inspector_teardown(void)
{
    test_cluster_free(&cluster);
}

int shell(const char *command)
{
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t size = fread(output, 1, sizeof output - 1, pipe);
    output[size] = '\0';
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int inspect(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "set -- '%s' '%s' '%s'; exec '%s' %s 2>&1", cluster.nodes[0].dir,
             cluster.nodes[1].dir, cluster.nodes[2].dir, ANABRANCH, arguments);
    return shell(command);
}

void expect(const char *arguments, int code, const char *text)
{
    int got = inspect(arguments);
    ck_assert_msg(got == code, "anabranch %s: exit code %d:\n%s", arguments, got, output);
    ck_assert_msg(strstr(output, text) != NULL, "anabranch %s: no \"%s\" in\n%s", arguments, text, output);
}

json_t *inspect_json(const char *arguments, int code)
{
    json_error_t error;
    int got = inspect(arguments);
    ck_assert_msg(got == code, "anabranch %s: exit code %d:\n%s", arguments, got, output);
    json_t *document = json_loads(output, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(document != NULL, "anabranch %s: %s in\n%s", arguments, error.text, output);
    return document;
}

void write_more(size_t i, const char *prefix, unsigned count)
{
    ck_assert_int_eq(test_write_range(cluster.nodes[i].group, prefix, 0, count), AB_OK);
}
