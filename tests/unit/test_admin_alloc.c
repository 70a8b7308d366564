/* SPDX-License-Identifier: Apache-2.0 */
/* The admin endpoint with each allocation failing in turn: starting it, and the way of rows to the socket. */
#include "engine/admin/answer.h"
#include "engine/admin/server.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"

#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static size_t files_in(const char *path)
{
    size_t count = 0;
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

START_TEST(starting)
{
    char dir[] = "/tmp/anabranch-admin-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    unsigned long n = 0;
    for (bool failed = true; failed;) {
        ab_admin *admin = NULL;
        ab_message message = {{0}};
        alloc_fail_at(++n);
        int code =
            ab_admin_start(NULL, dir, NULL, &admin, &message); /* no client: the node is not looked at */
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_int_eq(code, failed ? AB_ENOMEM : AB_OK);
        ck_assert_int_eq(message.text[0] != '\0', failed);
        ck_assert_uint_eq(files_in(dir), failed ? 2 : 3);
        ab_admin_stop(admin);
        ck_assert_uint_eq(files_in(dir), 2);
    }
    ck_assert_uint_gt(n, 1);
    rmdir(dir);
}
END_TEST

typedef struct outcome {
    bool arrived; /* everything */
    bool failed;  /* and the reader of the pipe was told if not */
    size_t bytes;
} outcome;

/* Makes rows and takes them at the other end. No assertion in here: Check allocates too. */
static outcome send_rows(int wake_fd)
{
    static const char payload[100];
    outcome result = {0};
    ab_answer answer;
    ab_out out;
    if (ab_answer_init(&answer, wake_fd) != AB_OK) {
        return result;
    }
    ab_out_init(&out);
    bool good = true;
    for (unsigned i = 0; i < 200 && good; i++) {
        ab_out_begin(&answer.rows, "test");
        ab_out_uint(&answer.rows, "n", i);
        ab_out_bin(&answer.rows, "x", payload, sizeof payload);
        ab_out_end(&answer.rows);
        good = i % 50 != 49 || ab_answer_flush(&answer);
    }
    ab_answer_finish(&answer);
    bool finished = ab_answer_take(&answer, &out);
    result = (outcome){
        .arrived = good && finished && !out.failed, .failed = out.failed, .bytes = ab_out_waiting(&out)};
    ab_out_release(&out);
    ab_answer_free(&answer);
    return result;
}

START_TEST(rows)
{
    int wake_fd = eventfd(0, EFD_NONBLOCK);
    unsigned long n = 0;
    for (bool failed = true; failed;) {
        alloc_fail_at(++n);
        outcome result = send_rows(wake_fd);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_int_eq(result.arrived, !failed);
        ck_assert_int_eq(result.failed, failed);
        ck_assert(failed || result.bytes > 20000);
    }
    ck_assert_uint_gt(n, 5);
    close(wake_fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admin_alloc");
    TCase *tc = tcase_create("alloc");
    tcase_add_test(tc, starting);
    tcase_add_test(tc, rows);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
