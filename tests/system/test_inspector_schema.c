/* SPDX-License-Identifier: Apache-2.0 */
/* What `anabranch --json` prints, of live nodes, of a stopped one, of ruined directories, against the tables of
 * docs/INSPECTOR.md; and every key of those tables is really printed by something. */
#include "tests/support/run.h"
#include "tests/support/schema.h"
#include "tests/system/inspector_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static schema *known;
static char made[64]; /* a directory with fixed content */

static void setup(void)
{
    char why[512];
    char command[512];
    test_cluster_init(&cluster, 2);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
    known = schema_load(INSPECTOR_MD, why, sizeof why);
    ck_assert_msg(known != NULL, "%s", why);
    test_directory(made, sizeof made);
    snprintf(
        command, sizeof command,
        "cd '%s' && '%s' good && cp -a good torn && truncate -s 20480 torn/data.mdb && cp -a good flipped && "
        "perl -pi -e 's/DAMAGE-ME/damage-me/' flipped/data.mdb && "
        "printf 'node: {cluster: plant, node_id: 1, data_dir: good}\\n"
        "groups: [{id: 1, name: a, backend: standalone}]\\n' >good.yaml",
        made, MAKELOG);
    ck_assert_int_eq(system(command), 0);
}

static void teardown(void)
{
    char command[128];
    schema_free(known);
    test_cluster_free(&cluster);
    snprintf(command, sizeof command, "rm -rf '%s'", made);
    ck_assert_int_eq(system(command), 0);
}

/* Runs "anabranch ARGS --json" in the directory that was made; $1 and $2 are the nodes'. Checks each line, or all of it, to
 * be of `kind`. @return exit code */
static int check(const char *arguments, const char *kind, bool by_line)
{
    char command[1024];
    char why[256];
    snprintf(command, sizeof command, "cd '%s' && set -- '%s' '%s' && exec '%s' %s --json 2>/dev/null", made,
             cluster.nodes[0].dir, cluster.nodes[1].dir, ANABRANCH, arguments);
    int code = shell(command);
    ck_assert_msg(output[0] != '\0', "anabranch %s prints nothing", arguments);
    for (char *text = output; text != NULL && text[0] != '\0';) {
        char *end = by_line ? strchr(text, '\n') : NULL;
        json_error_t error;
        json_t *value = json_loadb(text, end != NULL ? (size_t)(end - text) : strlen(text),
                                   JSON_REJECT_DUPLICATES, &error);
        ck_assert_msg(value != NULL, "anabranch %s: %s", arguments, error.text);
        ck_assert_msg(schema_check(known, kind, value, why, sizeof why), "anabranch %s: %s in\n%s", arguments,
                      why, output);
        json_decref(value);
        text = end != NULL ? end + 1 : NULL;
    }
    return code;
}

static void live(void)
{
    cluster.nodes[1].sm.reject = "poison-0";
    test_sm_block(&cluster.nodes[0].sm, true); /* what is not applied is not trimmed */
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "entry", 0, 30), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "poison", 0, 1), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "poison", 0, 1), AB_OK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "after", 0, 1), AB_OK);
    ck_assert(test_sm_wait(&cluster.nodes[1].sm, 31, INSPECTOR_WAIT_MS));
    check("status --streams --data \"$1\" --data \"$2\"", "document", false);
    check("groups --data \"$1\" --data \"$2\"", "document", false);
    check("peers --all --data \"$1\" --data \"$2\"", "document", false);
    check("metrics --data \"$1\"", "document", false);
    check("metrics --data \"$1\" --watch 0.02 --count 3", "document", true);
    check("groups --data \"$1\" --watch 0.02 --count 2", "document", true);
    check("verify --data \"$1\"", "document", false);
    check("digest --data \"$1\" --timeout 0.1", "document", false);
    check("log --data \"$1\"", "line", true);
    check("log --data \"$1\" --last 2 --payload text", "line", true);
    test_sm_block(&cluster.nodes[0].sm, false);
    check("digest --data \"$1\" --data \"$2\"", "document", false);
    ck_assert_int_eq(check("quarantine list --data \"$1\" --data \"$2\"", "document", false), 1);
    check("quarantine show --data \"$2\" --payload text", "document", false);
    ck_assert_int_eq(check("quarantine retry --data \"$2\" --group 1 --all", "document", false), 1);
    ck_assert_int_eq(check("quarantine drop --data \"$2\" --group 1 --all", "document", false), 0);
    check("status --group 9 --data \"$1\"", "document", false);
}

static void offline(const char *dir)
{
    static const char *const commands[] = {"status --streams", "groups", "peers",          "metrics",
                                           "verify",           "digest", "quarantine list"};
    char command[128];
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        snprintf(command, sizeof command, "%s --data %s", commands[i], dir);
        check(command, "document", false);
    }
    snprintf(command, sizeof command, "log --data %s", dir);
    check(command, "line", true);
    snprintf(command, sizeof command, "log --data %s --payload msgpack", dir);
    check(command, "line", true);
}

START_TEST(outputs_are_as_documented)
{
    char unseen[1024];
    live();
    ck_assert_int_eq(test_cluster_close(&cluster, 1), AB_OK);
    check("status --data \"$1\" --data \"$2\"", "document", false);
    offline("good");
    offline("flipped");
    offline("torn");
    check("status --data nowhere", "document", false);
    check("config check good.yaml nowhere.yaml", "document", false);
    check("config show good.yaml nowhere.yaml", "document", false);
    check("config reference", "document", false);
    schema_unseen(known, unseen, sizeof unseen);
    ck_assert_msg(unseen[0] == '\0', "docs/INSPECTOR.md has keys that nothing prints: %s", unseen);
}
END_TEST

/* The check can fail. */
START_TEST(schema_finds_faults)
{
    static const char *const wrong[] = {
        "{\"format\": 1, \"command\": \"x\"}",
        "{\"format\": 1, \"command\": \"x\", \"ok\": 1}",
        "{\"format\": -1, \"command\": \"x\", \"ok\": true}",
        "{\"format\": 1, \"command\": \"x\", \"ok\": true, \"more\": 1}",
        "{\"format\": 1, \"command\": \"x\", \"ok\": true, \"problems\": [1]}",
        "{\"format\": 1, \"command\": \"x\", \"ok\": true, \"nodes\": [{\"data\": \"d\"}]}",
        "{\"format\": 1, \"command\": \"x\", \"ok\": true, \"groups\": {}}",
        "[]",
    };
    char why[256];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        json_t *value = json_loads(wrong[i], 0, NULL);
        ck_assert_ptr_nonnull(value);
        ck_assert_msg(!schema_check(known, "document", value, why, sizeof why), "%s", wrong[i]);
        json_decref(value);
    }
    json_t *right = json_loads("{\"format\": 1, \"command\": \"x\", \"ok\": true}", 0, NULL);
    ck_assert(schema_check(known, "document", right, why, sizeof why));
    json_decref(right);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inspector_schema");
    TCase *tc = tcase_create("schema");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, outputs_are_as_documented);
    tcase_add_test(tc, schema_finds_faults);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
