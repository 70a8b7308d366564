/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: a stream whose origin's disk went back unnoticed, at the other members. One thread. */
#include "tests/support/run.h"
#include "tests/unit/rewind_fixture.h"

#include <check.h>

static void open_member(uint64_t base, uint64_t last, uint64_t applied_upto)
{
    const ab_stream_state streams[] = {rewind_state_of(rewind_theirs, base, last)};
    const ab_mark applied[] = {{rewind_theirs, applied_upto}};
    rewind_fresh();
    rewind_open_with(streams, 1, applied, 1);
    rewind_link_with(2, NULL, 0);
    rewind_link_with(3, NULL, 0);
}

static void block(uint32_t peer, const ab_block_info *info)
{
    rewind_step(&(ab_event){.type = AB_EV_BLOCK, .peer = peer, .block = info, .token = 1});
}

/* A block of the copy arrives, is logged, durable. */
static void get_copy(uint64_t index)
{
    ab_block_info info = rewind_copy_info(rewind_copy, index, FORK);
    block(2, &info);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_PERSIST), index == 1 ? 1 : 0); /* known before it is logged */
    rewind_step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    rewind_mark(AB_EV_DURABLE, rewind_copy, index);
}

/* A block of the stream after the fork, of the history that goes or of the other one. */
static ab_block_info block_of(uint64_t index, bool goes)
{
    ab_block_info info = fix_info(rewind_theirs, index, index);
    info.hash += goes ? 0 : OTHER;
    return info;
}

START_TEST(a_member_lets_go_of_its_part)
{
    open_member(0, 8, 8);
    ab_block_info info = rewind_copy_info(rewind_copy, 1, FORK);
    block(2, &info);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    ck_assert_ptr_nonnull(rewind_load_at(rewind_theirs, FORK + 1));
    rewind_loaded(rewind_theirs, FORK + 1, FORK + 1);
    rewind_step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    rewind_mark(AB_EV_DURABLE, rewind_copy, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    get_copy(2);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0); /* it has three of them */
    get_copy(3);
    rewind_assert_taken_back(rewind_theirs, FORK);
    ab_block_info late = block_of(9, true);
    block(3, &late);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0); /* its end is about to go */
    rewind_mark(AB_EV_REWOUND, rewind_theirs, FORK);
    rewind_assert_moved(rewind_copy, 3, rewind_theirs, FORK);
    get_copy(4);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    rewind_done();
}
END_TEST

START_TEST(late_blocks_of_the_old_history)
{
    const ab_mm_have now[] = {
        rewind_has(rewind_theirs, FORK, rewind_hash_of(rewind_theirs, FORK), rewind_copy.epoch)};
    open_member(0, 8, 8);
    ab_block_info info = rewind_copy_info(rewind_copy, 1, FORK);
    block(2, &info);
    rewind_loaded(rewind_theirs, FORK + 1, FORK + 1);
    rewind_step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    rewind_mark(AB_EV_DURABLE, rewind_copy, 1);
    get_copy(2);
    get_copy(3);
    rewind_mark(AB_EV_REWOUND, rewind_theirs, FORK);
    ab_block_info late = block_of(FORK + 1, true);
    ab_block_info next = block_of(FORK + 1, false);
    block(2, &late);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    rewind_have(2, 0, now, 1); /* it has the new history, but this was on its way */
    block(2, &late);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    block(2, &next);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    rewind_done();
}
END_TEST

/* Where its part is trimmed up to beyond the fork, the copy's block that repeats its last one tells. */
START_TEST(a_trimmed_member_lets_go)
{
    open_member(7, 8, 8);
    get_copy(1);
    ck_assert_ptr_null(rewind_load_at(rewind_theirs, FORK + 1));
    get_copy(2);
    get_copy(3);
    ck_assert_ptr_nonnull(rewind_load_at(rewind_copy, 3));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ab_block_info info = rewind_copy_info(rewind_copy, 3, FORK);
    rewind_step(
        &(ab_event){.type = AB_EV_LOADED, .mark = {rewind_copy, 3}, .blocks = &info, .block_count = 1});
    rewind_assert_taken_back(rewind_theirs, FORK);
    rewind_mark(AB_EV_REWOUND, rewind_theirs, FORK);
    rewind_assert_moved(rewind_copy, 3, rewind_theirs, FORK);
    rewind_done();
}
END_TEST

/* Its blocks after the fork are the other history's already, or there are none. */
START_TEST(a_member_that_holds_none)
{
    bool beyond = _i == 1;
    ab_mm_have said;
    open_member(0, beyond ? 8 : FORK, beyond ? 8 : FORK);
    ab_block_info info = rewind_copy_info(rewind_copy, 1, FORK);
    if (beyond) {
        info.origin.hash += OTHER; /* what goes is not what it has */
    }
    block(2, &info);
    rewind_step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    if (beyond) {
        rewind_loaded(rewind_theirs, FORK + 1, FORK + 1);
    }
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_PERSIST), 1);
    ck_assert(fix_said_have(&f, 2, rewind_theirs, &said));
    ck_assert_uint_eq(said.rewound, rewind_copy.epoch);
    ck_assert_uint_eq(said.durable, beyond ? 8 : FORK);
    rewind_done();
}
END_TEST

/* Trimming */

START_TEST(marks_of_another_history_do_not_count)
{
    const ab_mm_have before[] = {rewind_has(rewind_theirs, 8, rewind_hash_of(rewind_theirs, 8), 0)};
    const ab_mm_have after[] = {
        rewind_has(rewind_theirs, 8, rewind_hash_of(rewind_theirs, 8), rewind_copy.epoch)};
    open_member(0, 8, 8);
    ab_block_info info = rewind_copy_info(rewind_copy, 1, FORK);
    info.origin.hash += OTHER;
    block(2, &info);
    rewind_step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    rewind_loaded(rewind_theirs, FORK + 1, FORK + 1);
    rewind_have(2, 0, before, 1);
    rewind_have(3, 0, before, 1);
    ck_assert_uint_eq(rewind_count_in(3000, AB_ACT_TRIM, 0, 0), 0);
    rewind_have(2, 0, after, 1);
    rewind_have(3, 0, before, 1);
    ck_assert_uint_eq(rewind_count_in(3000, AB_ACT_TRIM, 0, 0), 0);
    rewind_have(3, 0, after, 1);
    ck_assert_uint_eq(rewind_count_in(3000, AB_ACT_TRIM, 0, 0), 1);
    rewind_done();
}
END_TEST

START_TEST(nothing_is_trimmed_for_the_unproven)
{
    const ab_stream_state streams[] = {rewind_state_of(rewind_own, 0, LAST)};
    const ab_mark applied[] = {{rewind_own, LAST}};
    const ab_mm_have good[] = {rewind_has(rewind_own, LAST, rewind_hash_of(rewind_own, LAST), 0)};
    const ab_mm_have unknown[] = {rewind_has(rewind_own, LAST, 0, 0)};
    const ab_mm_have middle[] = {rewind_has(rewind_own, 4, rewind_hash_of(rewind_own, 4), 0)};
    rewind_fresh();
    rewind_open_with(streams, 1, applied, 1);
    rewind_link_with(2, good, 1);
    rewind_link_with(3, _i == 0 ? unknown : middle, 1);
    if (_i == 0) {
        ck_assert_uint_eq(rewind_count_in(3000, AB_ACT_TRIM, 0, 0), 0);
        rewind_have(3, 0, good, 1);
    } else {
        ck_assert_ptr_nonnull(rewind_load_at(rewind_own, 4)); /* our hash there is only in the log */
        ck_assert_uint_eq(rewind_count_in(3000, AB_ACT_TRIM, 0, 0), 0);
        rewind_loaded(rewind_own, 4, 4);
        rewind_have(3, 0, middle, 1);
    }
    ck_assert_uint_eq(rewind_count_in(3000, AB_ACT_TRIM, 0, 0), 1);
    rewind_done();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_rewind_member");
    TCase *tcase = tcase_create("rewind");
    tcase_add_test(tcase, a_member_lets_go_of_its_part);
    tcase_add_test(tcase, late_blocks_of_the_old_history);
    tcase_add_test(tcase, a_trimmed_member_lets_go);
    tcase_add_loop_test(tcase, a_member_that_holds_none, 0, 2);
    tcase_add_test(tcase, marks_of_another_history_do_not_count);
    tcase_add_loop_test(tcase, nothing_is_trimmed_for_the_unproven, 0, 2);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
