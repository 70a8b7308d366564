/* SPDX-License-Identifier: Apache-2.0 */
/* The handles of snapshot functions: bytes pass in order, an error sticks. One thread. */
#include "engine/snapshot.h"
#include "tests/support/run.h"

#include <check.h>
#include <string.h>

typedef struct tape {
    char bytes[16];
    size_t size; /* written */
    size_t at;   /* read */
    int fail;    /* code of the next call */
    int calls;
} tape;

static int put(void *ctx, const void *data, size_t size)
{
    tape *t = ctx;
    t->calls++;
    if (t->fail != AB_OK) {
        return t->fail;
    }
    memcpy(t->bytes + t->size, data, size);
    t->size += size;
    return AB_OK;
}

static int take(void *ctx, void *data, size_t size, size_t *got)
{
    tape *t = ctx;
    t->calls++;
    *got = size < t->size - t->at ? size : t->size - t->at;
    memcpy(data, t->bytes + t->at, *got);
    t->at += *got;
    return t->fail;
}

START_TEST(bytes_pass_in_order)
{
    tape t = {.size = 0};
    ab_sink sink = {.write = put, .ctx = &t};
    ck_assert_int_eq(ab_sink_write(&sink, "abc", 3), AB_OK);
    ck_assert_int_eq(ab_sink_write(&sink, "", 0), AB_OK);
    ck_assert_int_eq(ab_sink_write(&sink, "de", 2), AB_OK);
    ab_source source = {.read = take, .ctx = &t};
    char out[8];
    size_t got = 99;
    ck_assert_int_eq(ab_source_read(&source, out, 4, &got), AB_OK);
    ck_assert_uint_eq(got, 4);
    ck_assert_mem_eq(out, "abcd", 4);
    ck_assert_int_eq(ab_source_read(&source, out, 4, &got), AB_OK);
    ck_assert_uint_eq(got, 1);
    ck_assert_int_eq(ab_source_read(&source, out, 4, &got), AB_OK);
    ck_assert_uint_eq(got, 0);
}
END_TEST

START_TEST(an_error_sticks)
{
    tape t = {.fail = AB_EIO};
    ab_sink sink = {.write = put, .ctx = &t};
    ck_assert_int_eq(ab_sink_write(&sink, "abc", 3), AB_EIO);
    t.fail = AB_OK;
    ck_assert_int_eq(ab_sink_write(&sink, "abc", 3), AB_EIO);
    ck_assert_int_eq(t.calls, 1);
    ck_assert_uint_eq(t.size, 0);

    t = (tape){.bytes = "abc", .size = 3, .fail = AB_ECORRUPT};
    ab_source source = {.read = take, .ctx = &t};
    char out[8];
    size_t got = 99;
    ck_assert_int_eq(ab_source_read(&source, out, 2, &got), AB_ECORRUPT);
    ck_assert_uint_eq(got, 0);
    t.fail = AB_OK;
    ck_assert_int_eq(ab_source_read(&source, out, 2, &got), AB_ECORRUPT);
    ck_assert_int_eq(t.calls, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot");
    TCase *tcase = tcase_create("handles");
    tcase_add_test(tcase, bytes_pass_in_order);
    tcase_add_test(tcase, an_error_sticks);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
