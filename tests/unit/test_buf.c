/* SPDX-License-Identifier: Apache-2.0 */
/* Reference-counted buffers: counting, budget, growth, failing allocations. One thread, and one test of
 * eight. */
#include "engine/buf.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"

#include <anabranch/error.h>
#include <check.h>
#include <pthread.h>
#include <string.h>

START_TEST(budget_counts_capacity)
{
    ab_budget budget = {.limit = 100};
    ab_buf *a = ab_buf_new(&budget, 60);
    ab_buf *b = ab_buf_new(&budget, 70);
    ck_assert_ptr_nonnull(a);
    ck_assert_uint_eq(a->size, 0);
    ck_assert_uint_eq(a->capacity, 60);
    ck_assert_uint_eq(budget.used, 130); /* may exceed */
    ab_buf *again = ab_buf_ref(a);
    ab_buf_unref(a);
    ck_assert_uint_eq(budget.used, 130);
    ab_buf_unref(again);
    ck_assert_uint_eq(budget.used, 70);
    ab_buf_unref(b);
    ck_assert_uint_eq(budget.used, 0);
    ab_buf_unref(NULL);
}
END_TEST

START_TEST(without_budget)
{
    ab_buf *buf = ab_buf_new(NULL, 0);
    ck_assert_ptr_nonnull(buf);
    ck_assert_int_eq(ab_buf_grow(&buf, 10), AB_OK);
    ck_assert_uint_eq(buf->capacity, 10);
    ab_buf_unref(buf);
}
END_TEST

START_TEST(grow_keeps_bytes)
{
    ab_budget budget = {.limit = 0};
    ab_buf *buf = ab_buf_new(&budget, 8);
    memcpy(buf->data, "abcdefgh", 8);
    buf->size = 8;
    ck_assert_int_eq(ab_buf_grow(&buf, 4), AB_OK); /* never smaller */
    ck_assert_uint_eq(buf->capacity, 8);
    ck_assert_int_eq(ab_buf_grow(&buf, 1 << 20), AB_OK);
    ck_assert_uint_eq(budget.used, 1 << 20);
    ck_assert_mem_eq(buf->data, "abcdefgh", 8);
    ck_assert_uint_eq(buf->size, 8);
    ab_buf_unref(buf);
    ck_assert_uint_eq(budget.used, 0);
}
END_TEST

START_TEST(pool_keeps_large_buffers)
{
    ab_pool *pool = ab_pool_new(300000);
    ab_budget budget = {.limit = 0, .pool = pool};
    ck_assert_ptr_nonnull(pool);
    for (size_t capacity = 30000; capacity < 20000000; capacity += capacity / 7) {
        ab_buf *buf = ab_buf_new(&budget, capacity);
        ck_assert_ptr_nonnull(buf);
        ck_assert_uint_ge(buf->capacity, capacity);
        ck_assert_uint_le(buf->capacity, capacity + capacity / 4);
        ck_assert_uint_eq(budget.used, buf->capacity);
        memset(buf->data, 1, buf->capacity);
        ab_buf_unref(buf);
        ck_assert_uint_eq(budget.used, 0);
    }
    ab_buf *first = ab_buf_new(&budget, 100000);
    ab_buf *second = ab_buf_new(&budget, 100000);
    const void *there = first;
    ab_buf_unref(first);
    ab_buf *again = ab_buf_new(&budget, 110000); /* of the same class */
    ck_assert_ptr_eq(again, there);
    ck_assert_uint_eq(again->size, 0);
    memcpy(again->data, "abc", 3);
    again->size = 3;
    ck_assert_int_eq(ab_buf_grow(&again, 200000), AB_OK);
    ck_assert_mem_eq(again->data, "abc", 3);
    ck_assert_uint_eq(again->size, 3);
    ck_assert_uint_eq(budget.used, again->capacity + second->capacity);
    ab_pool_drain(pool);
    ab_buf_unref(again);
    ab_buf_unref(second);
    ck_assert_uint_eq(budget.used, 0);
    ab_pool_free(pool);
    ab_pool_drain(NULL);
    ab_pool_free(NULL);
}
END_TEST

START_TEST(failing_allocations)
{
    ab_budget budget = {.limit = 0};
    alloc_fail_at(1);
    ck_assert_ptr_null(ab_buf_new(&budget, 8));
    ck_assert_uint_eq(budget.used, 0);
    alloc_fail_at(0);
    ab_buf *buf = ab_buf_new(&budget, 8);
    ab_buf *before = buf;
    alloc_fail_at(1);
    ck_assert_int_eq(ab_buf_grow(&buf, 100), AB_ENOMEM);
    alloc_fail_at(0);
    ck_assert_ptr_eq(buf, before);
    ck_assert_uint_eq(budget.used, 8);
    ck_assert_int_eq(ab_buf_grow(&buf, SIZE_MAX), AB_ENOMEM);
    ab_buf_unref(buf);
    ck_assert_ptr_null(ab_buf_new(&budget, SIZE_MAX - 4));
    ck_assert_uint_eq(budget.used, 0);
}
END_TEST

static void *ref_and_unref(void *arg)
{
    ab_buf *buf = arg;
    for (int i = 0; i < 20000; i++) {
        ab_buf_unref(ab_buf_ref(buf));
    }
    ab_buf_unref(buf);
    return NULL;
}

START_TEST(threads_share)
{
    ab_budget budget = {.limit = 0};
    ab_buf *buf = ab_buf_new(&budget, 64);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ref_and_unref, ab_buf_ref(buf)), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    ck_assert_uint_eq(buf->refs, 1);
    ab_buf_unref(buf);
    ck_assert_uint_eq(budget.used, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("buf");
    TCase *tcase = tcase_create("buf");
    tcase_add_test(tcase, budget_counts_capacity);
    tcase_add_test(tcase, without_budget);
    tcase_add_test(tcase, grow_keeps_bytes);
    tcase_add_test(tcase, pool_keeps_large_buffers);
    tcase_add_test(tcase, failing_allocations);
    tcase_add_test(tcase, threads_share);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
