/* SPDX-License-Identifier: Apache-2.0 */
/* Action lists, frontiers and the hybrid logical clock. */
#include "replication/actions.h"
#include "replication/frontier.h"
#include "replication/hlc.h"
#include "tests/support/run.h"

#include <check.h>
#include <string.h>

START_TEST(actions_copy_what_they_are_given)
{
    ab_actions list;
    char key[] = "epoch";
    char data[5000];
    memset(data, 7, sizeof data);
    ab_actions_init(&list);
    for (unsigned i = 0; i < 300; i++) {
        ab_action action = {
            .type = AB_ACT_PERSIST, .ticket = i, .key = {key, 5}, .data = {data, i * 16 % 5000}};
        ck_assert_int_eq(ab_actions_push(&list, &action), AB_OK);
    }
    memset(key, 'x', sizeof key);
    memset(data, 9, sizeof data);
    for (unsigned i = 0; i < 300; i++) {
        const ab_action *action = ab_actions_at(&list, i);
        ck_assert_uint_eq(action->ticket, i);
        ck_assert_mem_eq(action->key.data, "epoch", 5);
        ck_assert_uint_eq(action->data.size, i * 16 % 5000);
        size_t wrong = 0; /* one assertion: each costs a write to a file */
        for (size_t k = 0; k < action->data.size; k++) {
            wrong += ((const char *)action->data.data)[k] != 7;
        }
        ck_assert_uint_eq(wrong, 0);
    }
    ab_actions_clear(&list);
    ck_assert_uint_eq(list.count, 0);
    ck_assert_int_eq(ab_actions_push(&list, &(ab_action){.type = AB_ACT_LOG}), AB_OK);
    ab_actions_free(&list);
}
END_TEST

START_TEST(actions_refuse_nonsense)
{
    ab_actions list = {0};
    char key[AB_STATE_KEY_MAX + 1] = {0};
    ck_assert_int_eq(ab_actions_push(&list, NULL), AB_EINVAL);
    ck_assert_int_eq(ab_actions_push(&list, &(ab_action){.key = {key, sizeof key}}), AB_EINVAL);
    ck_assert_uint_eq(list.count, 0);
    ab_actions_free(&list);
}
END_TEST

/* Against a plain table: whatever order marks are set in, the vector is sorted and says the same. */
START_TEST(marks_agree_with_a_table)
{
    ab_marks marks = {0};
    uint64_t table[8][8] = {{0}};
    uint32_t seed = (uint32_t)_i + 1;
    for (unsigned i = 0; i < 2000; i++) {
        seed = seed * 1664525u + 1013904223u;
        ab_mark mark = {{1 + (seed >> 8) % 7, 1 + (seed >> 16) % 7}, (seed >> 24) % 5};
        uint64_t *cell = &table[mark.stream.node][mark.stream.epoch];
        if (i % 2 == 0) {
            ck_assert_int_eq(ab_marks_set(&marks, mark), AB_OK);
            *cell = mark.index;
        } else {
            ck_assert_int_eq(ab_marks_raise(&marks, mark), AB_OK);
            *cell = mark.index > *cell ? mark.index : *cell;
        }
        ck_assert(ab_frontier_valid(ab_marks_view(&marks)));
    }
    for (uint32_t node = 0; node < 8; node++) {
        for (uint32_t epoch = 0; epoch < 8; epoch++) {
            ck_assert_uint_eq(ab_marks_get(&marks, (ab_stream){node, epoch}), table[node][epoch]);
        }
    }
    ab_marks_free(&marks);
}
END_TEST

START_TEST(marks_merge_copy_cover)
{
    const ab_mark left[] = {{{1, 1}, 5}, {{2, 1}, 7}};
    const ab_mark right[] = {{{1, 1}, 6}, {{3, 9}, 1}};
    ab_frontier l = {left, 2};
    ab_frontier r = {right, 2};
    ab_marks marks = {0};
    ck_assert_int_eq(ab_marks_copy(&marks, l), AB_OK);
    ck_assert(ab_frontier_covers(ab_marks_view(&marks), l));
    ck_assert(!ab_frontier_covers(ab_marks_view(&marks), r));
    ck_assert_int_eq(ab_marks_merge(&marks, r), AB_OK);
    ck_assert(ab_frontier_covers(ab_marks_view(&marks), l));
    ck_assert(ab_frontier_covers(ab_marks_view(&marks), r));
    ck_assert_uint_eq(marks.count, 3);
    ck_assert_uint_eq(ab_marks_get(&marks, (ab_stream){1, 1}), 6);
    ck_assert(!ab_frontier_valid((ab_frontier){(const ab_mark[]){{{2, 1}, 1}, {{1, 1}, 1}}, 2}));
    ck_assert(!ab_frontier_valid((ab_frontier){(const ab_mark[]){{{1, 1}, 0}}, 1}));
    ck_assert(!ab_frontier_valid((ab_frontier){(const ab_mark[]){{{1, 1}, 1}, {{1, 1}, 2}}, 2}));
    ab_marks_free(&marks);
}
END_TEST

START_TEST(marks_have_a_bound)
{
    ab_marks marks = {0};
    for (uint32_t i = 1; i <= AB_MARKS_MAX; i++) {
        ck_assert_int_eq(ab_marks_set(&marks, (ab_mark){{i, 1}, 1}), AB_OK);
    }
    ck_assert_int_eq(ab_marks_set(&marks, (ab_mark){{AB_MARKS_MAX + 1, 1}, 1}), AB_ETOOBIG);
    ck_assert_uint_eq(marks.count, AB_MARKS_MAX);
    ab_marks_free(&marks);
}
END_TEST

START_TEST(hlc_never_goes_back)
{
    uint64_t hlc = 0;
    const uint64_t walls[] = {1000, 1000, 999, 5, 1001, 1001, 500000, 1};
    for (size_t i = 0; i < sizeof walls / sizeof walls[0]; i++) {
        uint64_t next = ab_hlc_now(hlc, walls[i]);
        ck_assert_uint_gt(next, hlc);
        ck_assert_uint_ge(ab_hlc_ms(next), walls[i]);
        hlc = next;
    }
    /* A full counter carries into the milliseconds. */
    uint64_t full = ab_hlc_from_ms(7) | 0xffff;
    ck_assert_uint_eq(ab_hlc_now(full, 7), ab_hlc_from_ms(8));
    ck_assert_uint_eq(ab_hlc_now(UINT64_MAX, 7), UINT64_MAX);
}
END_TEST

START_TEST(hlc_merges_within_the_skew)
{
    bool skewed = true;
    uint64_t last = ab_hlc_from_ms(1000);
    ck_assert_uint_eq(ab_hlc_merge(last, ab_hlc_from_ms(1500), 1000, 500, &skewed), ab_hlc_from_ms(1500));
    ck_assert(!skewed);
    ck_assert_uint_eq(ab_hlc_merge(last, ab_hlc_from_ms(1501), 1000, 500, &skewed), last);
    ck_assert(skewed);
    ck_assert_uint_eq(ab_hlc_merge(last, ab_hlc_from_ms(3), 1000, 500, &skewed), last);
    ck_assert(!skewed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_values");
    TCase *tcase = tcase_create("values");
    tcase_add_test(tcase, actions_copy_what_they_are_given);
    tcase_add_test(tcase, actions_refuse_nonsense);
    tcase_add_loop_test(tcase, marks_agree_with_a_table, 0, 8);
    tcase_add_test(tcase, marks_merge_copy_cover);
    tcase_add_test(tcase, marks_have_a_bound);
    tcase_add_test(tcase, hlc_never_goes_back);
    tcase_add_test(tcase, hlc_merges_within_the_skew);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
