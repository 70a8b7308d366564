/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: a member whose log ends before a block that no member has any more. */
#include "tests/support/run.h"
#include "tests/unit/member_fixture.h"
#include "wal/block.h"

#include <check.h>

static const ab_stream next_other = {2, 8}; /* where member 2 goes on after the loss */
static const ab_stream old_own = {1, 4000};
static size_t given;   /* APPLY, since the last question */
static size_t reports; /* of AB_ETRIMMED */

static void count_step(void)
{
    const ab_action *report = NULL;
    given += fix_count(&f, AB_ACT_APPLY);
    for (size_t i = 0; (report = fix_action(&f, AB_ACT_REPORT, i)) != NULL; i++) {
        reports += report->code == AB_ETRIMMED;
    }
}

/* Blocks that are given by the last step and for as long as a timer is wanted, 20 of them at most. */
static size_t given_now(void)
{
    given = 0;
    count_step();
    for (unsigned i = 0; i < 20 && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
        count_step();
    }
    return given;
}

static void say_gone(uint32_t peer, ab_stream stream, uint64_t upto, bool lost)
{
    fix_message(
        &f, peer,
        &(ab_mm_message){.kind = AB_MM_TRIMMED, .stream = stream, .first = upto, .last = lost ? upto : 0});
}

static bool find_code(void *arg, const ab_stream_status *status)
{
    if (ab_stream_compare(status->stream, member_other) == 0) {
        *(int *)arg = status->code;
    }
    return true;
}

static int code_of_other(void)
{
    int code = AB_OK;
    f.backend->streams(f.core, find_code, &code);
    return code;
}

/* Member 2 wrote three blocks, of which ours has the first; the second is lost. What was written after the third waits. */
static void end_before_a_loss(void)
{
    const ab_mark dep = {member_other, 3};
    ab_mm_have has = member_have(member_other, 3);
    reports = 0;
    fix_link(&f, 2);
    fix_link(&f, 3);
    member_log(member_other, 1, 1, NULL, 0);
    ck_assert_uint_eq(given_now(), 1);
    fix_mark(&f, AB_EV_APPLIED, member_other, 1);
    has.flags = AB_MM_ENDED;
    fix_have(&f, 2, 0, &has, 1);
    member_log(next_other, 1, 1, &dep, 1);
    ck_assert_uint_eq(given_now(), 0);
    member_log(member_third, 1, 1, &dep, 1);
    ck_assert_uint_eq(given_now(), 0);
}

START_TEST(what_follows_a_loss_is_not_waited_for)
{
    end_before_a_loss();
    say_gone(3, member_other, 2, true); /* its origin may yet have it */
    ck_assert_uint_eq(given_now(), 0);
    say_gone(2, member_other, 2, false); /* trimmed: a snapshot will bring it */
    ck_assert_uint_eq(given_now(), 0);
    ck_assert_uint_eq(reports, 0);
    say_gone(2, member_other, 2, true);
    ck_assert_uint_eq(given_now(), 2);
    ck_assert_uint_eq(reports, 1);
    ck_assert_uint_eq(f.backend->deadline(f.core), AB_NEVER);
    ck_assert_int_eq(code_of_other(), AB_ETRIMMED);
    say_gone(2, member_other, 2, true);
    ck_assert_uint_eq(given_now(), 0);
    ck_assert_uint_eq(reports, 1);
}
END_TEST

/* What is here is waited for as ever. */
START_TEST(what_came_before_a_loss_is_waited_for)
{
    const ab_mark dep = {member_other, 3};
    fix_link(&f, 2);
    fix_link(&f, 3);
    ab_block_info first = fix_info(member_other, 1, 1);
    fix_block(&f, AB_EV_BLOCK, 2, &first);
    fix_block(&f, AB_EV_LOGGED, 0, &first); /* not durable: not given */
    say_gone(2, member_other, 2, true);
    member_log(next_other, 1, 1, &dep, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0);
    fix_mark(&f, AB_EV_DURABLE, member_other, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 2);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->mark.stream.epoch, member_other.epoch);
}
END_TEST

/* A disk that is mended brings it after all: then the stream goes on, and is waited for again. */
START_TEST(what_comes_after_all_is_taken)
{
    const ab_mark dep = {member_other, 3};
    end_before_a_loss();
    say_gone(2, member_other, 2, true);
    ck_assert_uint_eq(given_now(), 2);
    fix_mark(&f, AB_EV_APPLIED, next_other, 1);
    fix_mark(&f, AB_EV_APPLIED, member_third, 1);
    member_log(member_other, 2, 2, NULL, 0);
    ck_assert_uint_eq(given_now(), 1);
    fix_mark(&f, AB_EV_APPLIED, member_other, 2);
    ck_assert_int_eq(code_of_other(), AB_OK);
    member_log(next_other, 2, 2, &dep, 1);
    ck_assert_uint_eq(given_now(), 0);
    member_log(member_other, 3, 3, NULL, 0);
    ck_assert_uint_eq(given_now(), 2);
}
END_TEST

/* A new link to its origin opens the question again. */
START_TEST(over_a_new_link_it_may_be_there)
{
    const ab_mark dep = {member_other, 3};
    ab_mm_have has = member_have(member_other, 3);
    end_before_a_loss();
    say_gone(2, member_other, 2, true);
    ck_assert_uint_eq(given_now(), 2);
    fix_simple(&f, AB_EV_PEER_DOWN, 2);
    fix_simple(&f, AB_EV_PEER_UP, 2);
    fix_have(&f, 2, AB_MM_FULL, &has, 1);
    member_log(member_third, 2, 2, &dep, 1);
    fix_mark(&f, AB_EV_APPLIED, member_third, 1);
    ck_assert_uint_eq(given_now(), 0);
    say_gone(2, member_other, 2, true);
    ck_assert_uint_eq(given_now(), 1);
}
END_TEST

/* The tail of our own old stream, which only member 2 has, stands behind what is lost: it ends before that, for us and for member 3. */
START_TEST(our_stream_ends_before_a_loss)
{
    const ab_stream_state streams[] = {{.stream = old_own, .last = 1, .last_hash = 400001}};
    const ab_mark applied[] = {{old_own, 1}};
    const ab_mark dep = {old_own, 3};
    ab_mm_have theirs = member_have(old_own, 3);
    ab_mm_have same = member_have(old_own, 1);
    ab_mm_message message;
    ab_mm_have said = {.flags = 0};
    ab_core_init init = fix_init(1);
    init.tail_safe = false;
    init.streams = streams;
    init.stream_count = 1;
    init.applied = (ab_frontier){applied, 1};
    fix_close(&f);
    fix_open(&f, &ab_backend_multimaster, &init);
    fix_simple(&f, AB_EV_START, 0);
    fix_simple(&f, AB_EV_PEER_UP, 3);
    fix_have(&f, 3, AB_MM_FULL, &same, 1);
    fix_simple(&f, AB_EV_PEER_UP, 2);
    fix_have(&f, 2, AB_MM_FULL, &theirs, 1);
    ck_assert(fix_said(&f, 2, AB_MM_FETCH, 0, &message));
    ck_assert_uint_eq(message.first, 2);
    member_log(member_other, 1, 1, &dep, 1);
    ck_assert_uint_eq(given_now(), 0);
    say_gone(2, old_own, 2, _i == 0);
    bool told = false;
    given = 0;
    for (unsigned i = 0; i < 20; i++) {
        given += fix_count(&f, AB_ACT_APPLY);
        told |= fix_said_have(&f, 3, old_own, &said) && (said.flags & AB_MM_ENDED) != 0 && said.accepted == 1;
        ck_assert_uint_eq(said.flags & AB_MM_OVER, 0); /* member 2 has more of it */
        if (f.backend->deadline(f.core) == AB_NEVER) {
            break;
        }
        fix_timer(&f);
    }
    ck_assert_uint_eq(given, _i == 0 ? 1 : 0);
    ck_assert(told == (_i == 0));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_lost");
    TCase *tcase = tcase_create("lost");
    tcase_add_checked_fixture(tcase, member_open, member_close);
    tcase_add_test(tcase, what_follows_a_loss_is_not_waited_for);
    tcase_add_test(tcase, what_came_before_a_loss_is_waited_for);
    tcase_add_test(tcase, what_comes_after_all_is_taken);
    tcase_add_test(tcase, over_a_new_link_it_may_be_there);
    tcase_add_loop_test(tcase, our_stream_ends_before_a_loss, 0, 2);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
