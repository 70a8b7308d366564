/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a configuration with each allocation failing in turn: of the loader and of libcyaml, which allocates through
 * it. (libyaml takes no allocator.) */
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include <anabranch/config.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char good[] =
    "node:\n  cluster: plant\n  node_id: 1\n  data_dir: /d\n"
    "  peers: [{node_id: 2, host: b, port: 1}, {node_id: 3}]\n"
    "groups:\n- {id: 1, name: a, members: [1, 2, 3]}\n- {id: 2, name: b, members: [1]}\n"
    "application: {x: [1, 2]}\n";
static const char bad[] = "node:\n  cluster: plant\n  node_id: 1\n  data_dir: /d\n"
                          "  peers: [{node_id: 2, host: b, port: 1}, {node_id: 2}]\n";
static const char unknown[] = "node:\n  cluster: plant\n  node_id: 1\n  peers: [{node_id: 2, hots: b}]\n";

static void fail_each(const char *text, int expected)
{
    unsigned long n = 0;
    for (bool failed = true; failed;) {
        ab_config *config = NULL;
        ab_message message;
        alloc_fail_at(++n);
        int code = ab_config_parse("f.yaml", text, strlen(text), &config, &message);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_msg(code == (failed ? AB_ENOMEM : expected), "allocation %lu: %s: %s", n,
                      ab_error_name(code), message.text);
        ck_assert_int_eq(config != NULL, code == AB_OK);
        ab_config_free(config);
    }
    ck_assert_uint_gt(n, 5);
}

START_TEST(good_file)
{
    fail_each(good, AB_OK);
}
END_TEST

START_TEST(bad_files)
{
    fail_each(bad, AB_ECONFIG);
    fail_each(unknown, AB_ECONFIG);
}
END_TEST

START_TEST(from_disk)
{
    char path[] = "/tmp/anabranch-config-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, good, sizeof good - 1), (ssize_t)sizeof good - 1);
    char comment[8192];
    memset(comment, '#', sizeof comment); /* so that the buffer has to grow */
    ck_assert_int_eq(write(fd, comment, sizeof comment), (ssize_t)sizeof comment);
    close(fd);
    unsigned long n = 0;
    for (bool failed = true; failed;) {
        ab_config *config = NULL;
        alloc_fail_at(++n);
        int code = ab_config_load(path, &config, NULL);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_int_eq(code, failed ? AB_ENOMEM : AB_OK);
        ab_config_free(config);
    }
    unlink(path);
}
END_TEST

static bool count_value(void *arg, const ab_config_value *value)
{
    (*(size_t *)arg)++;
    return value->path[0] != '\0';
}

START_TEST(values)
{
    ab_config *config;
    unsigned long n = 0;
    ck_assert_int_eq(ab_config_parse("f.yaml", good, strlen(good), &config, NULL), AB_OK);
    for (bool failed = true; failed;) {
        size_t count = 0;
        alloc_fail_at(++n);
        int code = ab_config_each(config, count_value, &count);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_int_eq(code, failed ? AB_ENOMEM : AB_OK);
        ck_assert(failed ? count == 0 : count > 20);
    }
    ck_assert_uint_gt(n, 3);
    ab_config_free(config);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_alloc");
    TCase *tc = tcase_create("alloc");
    tcase_add_test(tc, good_file);
    tcase_add_test(tc, bad_files);
    tcase_add_test(tc, from_disk);
    tcase_add_test(tc, values);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
