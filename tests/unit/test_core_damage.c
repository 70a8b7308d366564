/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: blocks that the log refuses, and blocks that are damaged in it. */
#include "tests/support/run.h"
#include "tests/unit/member_fixture.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

/* What the log refuses */

static void refuse(const ab_block_info *block)
{
    fix_step(&f, &(ab_event){.type = AB_EV_REFUSED, .block = block, .code = AB_ECORRUPT});
}

static int stream_code;

static bool find_code(void *arg, const ab_stream_status *status)
{
    const ab_stream *stream = arg;
    if (status->stream.node == stream->node) {
        stream_code = status->code;
    }
    return true;
}

static int code_of(ab_stream stream)
{
    f.backend->streams(f.core, find_code, &stream);
    return stream_code;
}

START_TEST(a_refused_block_is_asked_for_again)
{
    ab_mm_message message;
    fix_link(&f, 2);
    ab_block_info a = fix_info(member_other, 1, 2);
    ab_block_info b = fix_info(member_other, 3, 5);
    ab_block_info c = fix_info(member_other, 6, 6);
    fix_block(&f, AB_EV_BLOCK, 2, &a);
    fix_block(&f, AB_EV_BLOCK, 2, &b);
    fix_block(&f, AB_EV_BLOCK, 2, &c);
    fix_block(&f, AB_EV_LOGGED, 0, &a);
    fix_mark(&f, AB_EV_DURABLE, member_other, 2);
    uint64_t pause = 0;
    for (unsigned times = 0; times < 5; times++) {
        refuse(&b);
        refuse(&c);
        ck_assert_int_eq(code_of(member_other), AB_ECORRUPT);
        fix_block(&f, AB_EV_BLOCK, 2, &b);
        ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0); /* not now */
        uint64_t before = f.now;
        while (!fix_said(&f, 2, AB_MM_EXPECT, 0, &message)) {
            fix_timer(&f);
        }
        ck_assert_uint_eq(message.first, 3);
        ck_assert_uint_gt(f.now - before, pause / 2); /* growing pauses, with jitter */
        pause = f.now - before;
        fix_block(&f, AB_EV_BLOCK, 2, &b);
        ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    }
    fix_block(&f, AB_EV_LOGGED, 0, &b);
    ck_assert_int_eq(code_of(member_other), AB_OK);
    fix_block(&f, AB_EV_BLOCK, 2, &c);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
}
END_TEST

/* Under `interval` it was announced before the commit. */
START_TEST(a_refusal_takes_back_what_was_announced)
{
    fix_link(&f, 2);
    ab_block_info a = fix_info(member_other, 1, 2);
    ab_block_info b = fix_info(member_other, 3, 5);
    fix_block(&f, AB_EV_BLOCK, 2, &a);
    fix_block(&f, AB_EV_BLOCK, 2, &b);
    fix_block(&f, AB_EV_LOGGED, 0, &a);
    fix_block(&f, AB_EV_LOGGED, 0, &b);
    fix_mark(&f, AB_EV_DURABLE, member_other, 2);
    refuse(&b);
    fix_mark(&f, AB_EV_APPLIED, member_other, 2);
    f.now += 200 * FIX_MS;
    fix_block(&f, AB_EV_BLOCK, 2, &b);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    fix_block(&f, AB_EV_LOGGED, 0, &b);
    fix_mark(&f, AB_EV_DURABLE, member_other, 5);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->first, 3);
}
END_TEST

START_TEST(own_writes_leave_a_refused_stream)
{
    ab_frontier deps;
    fix_link(&f, 2);
    member_write(1, 2);
    ck_assert_int_eq(f.backend->seal(f.core, 3, 4, &deps), AB_OK);
    ck_assert_int_eq(f.backend->seal(f.core, 5, 5, &deps), AB_OK);
    ab_block_info a = fix_info(member_own, 3, 4);
    ab_block_info b = fix_info(member_own, 5, 5);
    refuse(&a);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPEND, 0)->mark.stream.epoch, FIX_WALL + 1);
    ck_assert_int_eq(fix_action(&f, AB_ACT_APPEND, 0)->code, AB_OK);
    refuse(&b);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPEND), 0);
    const ab_stream next = {1, FIX_WALL + 1};
    ck_assert_int_eq(f.backend->seal(f.core, 1, 1, &deps), AB_OK);
    ab_block_info c = fix_info(next, 1, 1);
    refuse(&c);
    ck_assert_int_eq(fix_action(&f, AB_ACT_APPEND, 0)->code, AB_ECORRUPT); /* no third one */
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPEND, 0)->mark.stream.epoch, FIX_WALL + 1);
}
END_TEST

START_TEST(a_refused_repair_is_tried_again)
{
    ab_mm_message message;
    fix_link(&f, 2);
    ab_block_info a = fix_info(member_other, 1, 2);
    ab_block_info b = fix_info(member_other, 3, 3);
    fix_block(&f, AB_EV_BLOCK, 2, &a);
    fix_block(&f, AB_EV_BLOCK, 2, &b);
    fix_block(&f, AB_EV_LOGGED, 0, &a);
    fix_block(&f, AB_EV_LOGGED, 0, &b);
    fix_mark(&f, AB_EV_DURABLE, member_other, 3);
    ab_mm_have has = member_have(member_other, 3);
    fix_have(&f, 2, 0, &has, 1);
    fix_block(&f, AB_EV_BAD, 0, &a);
    fix_step(&f,
             &(ab_event){.type = AB_EV_LOADED, .mark = {member_other, 3}, .blocks = &b, .block_count = 1});
    ck_assert(fix_said(&f, 2, AB_MM_FETCH, 0, &message));
    fix_block(&f, AB_EV_BLOCK, 2, &a);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPAIR), 1);
    refuse(&a);
    while (!fix_said(&f, 2, AB_MM_FETCH, 0, &message)) {
        fix_timer(&f);
    }
    fix_block(&f, AB_EV_BLOCK, 2, &a);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPAIR), 1);
    fix_block(&f, AB_EV_REPAIRED, 0, &a);
    ck_assert_int_eq(code_of(member_other), AB_OK);
}
END_TEST

/* What was given is let go of: all of it is given again but for the stream that is damaged. */
START_TEST(what_the_state_machine_let_go_of_is_given_again)
{
    fix_link(&f, 2);
    fix_link(&f, 3);
    member_log(member_other, 1, 2, NULL, 0);
    member_log(member_third, 1, 1, NULL, 0);
    const ab_mark dep = {member_other, 2};
    member_log(member_third, 2, 2, &dep, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    ab_block_info damaged = fix_info(member_other, 1, 2);
    fix_block(&f, AB_EV_BAD, 0, &damaged);
    ck_assert_int_eq(fix_simple(&f, AB_EV_UNAPPLIED, 0), AB_OK);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOAD), 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_LOAD, 0)->mark.stream.node, 3);
    ab_block_info infos[2] = {fix_info(member_third, 1, 1), fix_info(member_third, 2, 2)};
    infos[1].deps = &dep;
    infos[1].dep_count = 1;
    fix_step(&f,
             &(ab_event){.type = AB_EV_LOADED, .mark = {member_third, 1}, .blocks = infos, .block_count = 2});
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1); /* the other one waits for what is damaged */
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->mark.index, 1);
    fix_mark(&f, AB_EV_APPLIED, member_third, 1);
    fix_block(&f, AB_EV_REPAIRED, 0, &damaged);
    fix_step(&f, &(ab_event){
                     .type = AB_EV_LOADED, .mark = {member_other, 1}, .blocks = &damaged, .block_count = 1});
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 2);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->mark.stream.node, 2);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 1)->mark.stream.node, 3);
}
END_TEST

/* The state machine has a part of the damaged block: a write that is sealed now may have seen it, and it is given from there. */
START_TEST(what_it_has_of_a_block_is_not_let_go_of)
{
    fix_link(&f, 2);
    fix_link(&f, 3);
    member_log(member_other, 1, 4, NULL, 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    ab_block_info damaged = fix_info(member_other, 1, 4);
    ab_frontier deps = {0};
    fix_block(&f, AB_EV_BAD, 0, &damaged);
    fix_step(&f, &(ab_event){.type = AB_EV_UNAPPLIED, .mark = {member_other, 3}});
    ck_assert_int_eq(f.backend->seal(f.core, 1, 1, &deps), AB_OK);
    ck_assert_uint_eq(deps.count, 1);
    ck_assert_uint_eq(deps.marks[0].index, 3);
    fix_block(&f, AB_EV_REPAIRED, 0, &damaged);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_LOAD, 0)->mark.index, 4);
    fix_step(&f, &(ab_event){
                     .type = AB_EV_LOADED, .mark = {member_other, 4}, .blocks = &damaged, .block_count = 1});
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->first, 4);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->mark.index, 4);
}
END_TEST

/* What nobody has */

static void lose_first(void)
{
    ab_block_info damaged = fix_info(member_other, 1, 2);
    ab_block_info after = fix_info(member_other, 3, 3);
    ab_mm_have has = member_have(member_other, 3);
    fix_link(&f, 2);
    fix_link(&f, 3);
    fix_block(&f, AB_EV_BLOCK, 2, &damaged);
    fix_block(&f, AB_EV_BLOCK, 2, &after);
    fix_block(&f, AB_EV_LOGGED, 0, &damaged);
    fix_block(&f, AB_EV_BAD, 0, &damaged);
    fix_block(&f, AB_EV_LOGGED, 0, &after);
    fix_mark(&f, AB_EV_DURABLE, member_other, 3);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0);
    fix_have(&f, 2, 0, &has, 1);
    fix_have(&f, 3, 0, &has, 1);
}

/* Node 3 comes again and has it now: it is asked, and what it gives goes into the log. @return the block */
static ab_block_info mended_by_a_new_link(void)
{
    ab_block_info good = fix_info(member_other, 1, 2);
    ab_mm_have has = member_have(member_other, 3);
    ab_mm_message message;
    fix_simple(&f, AB_EV_PEER_DOWN, 3);
    fix_simple(&f, AB_EV_PEER_UP, 3);
    fix_have(&f, 3, AB_MM_FULL, &has, 1);
    while (!fix_said(&f, 3, AB_MM_FETCH, 0, &message)) {
        fix_timer(&f);
    }
    fix_block(&f, AB_EV_BLOCK, 3, &good);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPAIR), 1);
    return good;
}

static void say_lack(uint32_t peer)
{
    ab_mm_message message;
    while (!fix_said(&f, peer, AB_MM_FETCH, 0, &message)) {
        fix_timer(&f);
    }
    fix_message(&f, peer,
                &(ab_mm_message){.kind = AB_MM_LACK, .stream = member_other, .first = 1, .last = 2});
}

/* Lets two seconds pass. @return whether the loss was reported */
static bool is_reported(void)
{
    uint64_t end = f.now + 2000 * FIX_MS;
    while (f.backend->deadline(f.core) <= end) {
        fix_timer(&f);
        const ab_action *report = fix_action(&f, AB_ACT_REPORT, 0);
        char text[256] = "";
        if (report != NULL) {
            snprintf(text, sizeof text, "%.*s", (int)report->data.size, (const char *)report->data.data);
        }
        if (strstr(text, "lost") != NULL) {
            ck_assert_int_eq(report->code, AB_ECORRUPT);
            return true;
        }
    }
    f.now = end;
    return false;
}

START_TEST(what_nobody_has_is_passed)
{
    lose_first();
    say_lack(3);
    ck_assert(!is_reported()); /* 2 has not said so */
    say_lack(2);
    ck_assert(is_reported());
    while (fix_count(&f, AB_ACT_LOAD) == 0) {
        fix_timer(&f);
    }
    ck_assert_uint_eq(fix_action(&f, AB_ACT_LOAD, 0)->mark.index, 3);
    ab_block_info after = fix_info(member_other, 3, 3);
    fix_step(
        &f, &(ab_event){.type = AB_EV_LOADED, .mark = {member_other, 3}, .blocks = &after, .block_count = 1});
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->first, 3);
    ck_assert_int_eq(code_of(member_other), AB_ECORRUPT);
    ck_assert(!is_reported());
    /* A member comes back with its disk mended: the log gets it after all. */
    ab_block_info good = mended_by_a_new_link();
    fix_block(&f, AB_EV_REPAIRED, 0, &good);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0); /* its turn is over */
    ck_assert_int_eq(code_of(member_other), AB_OK);
}
END_TEST

/* A member that trimmed it has it in its state machine, and one that is not there may have it. */
START_TEST(what_somebody_may_have_is_waited_for)
{
    lose_first();
    say_lack(2);
    fix_message(&f, 3, &(ab_mm_message){.kind = AB_MM_TRIMMED, .stream = member_other, .first = 2});
    ck_assert(!is_reported());
    fix_simple(&f, AB_EV_PEER_DOWN, 3);
    ck_assert(!is_reported());
    fix_simple(&f, AB_EV_PEER_UP, 3);
    ck_assert(!is_reported());
}
END_TEST

/* What only a snapshot will bring */

/* Fires timers until none is wanted. @return false: one always is */
static bool comes_to_rest(void)
{
    for (unsigned i = 0; i < 200 && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
    }
    return f.backend->deadline(f.core) == AB_NEVER;
}

static bool needs_snapshot(void)
{
    const ab_action *report = NULL;
    for (size_t i = 0; (report = fix_action(&f, AB_ACT_REPORT, i)) != NULL; i++) {
        if (report->code == AB_ETRIMMED) {
            return true;
        }
    }
    return false;
}

static void say_trimmed(uint32_t peer, ab_stream stream, uint64_t upto)
{
    fix_message(&f, peer, &(ab_mm_message){.kind = AB_MM_TRIMMED, .stream = stream, .first = upto});
}

/* A timer for ever would bring nothing: a new link does. */
START_TEST(what_all_have_trimmed_costs_no_timer)
{
    lose_first();
    say_trimmed(2, member_other, 2);
    ck_assert(!needs_snapshot());
    ck_assert(!comes_to_rest()); /* 3 has not said so */
    if (_i == 0) {
        say_trimmed(3, member_other, 2);
    } else {
        fix_message(&f, 3, &(ab_mm_message){.kind = AB_MM_LACK, .stream = member_other, .first = 1});
    }
    ck_assert(needs_snapshot());
    ck_assert(comes_to_rest());
    (void)mended_by_a_new_link();
}
END_TEST

/* Who had nothing of it when it was asked may have got it before the others trimmed: it must say so once more. */
START_TEST(who_lacked_it_before_it_was_trimmed_is_asked_once_more)
{
    ab_block_info damaged = fix_info(member_other, 1, 2);
    ab_mm_have has = member_have(member_other, 2);
    fix_link(&f, 2);
    fix_link(&f, 3); /* has nothing */
    member_log(member_other, 1, 2, NULL, 0);
    fix_have(&f, 2, 0, &has, 1);
    fix_block(&f, AB_EV_BAD, 0, &damaged);
    fix_have(&f, 3, AB_MM_FULL, NULL, 0);
    say_trimmed(2, member_other, 2);
    ck_assert(!needs_snapshot());
    ck_assert(!comes_to_rest());
    fix_have(&f, 3, AB_MM_FULL, NULL, 0);
    ck_assert(needs_snapshot());
    ck_assert(comes_to_rest());
}
END_TEST

/* It trimmed what all had: who could not read it when it was asked has been mended since, or says so again. */
START_TEST(who_could_not_read_it_before_it_was_trimmed_is_asked_once_more)
{
    ab_mm_message message;
    lose_first();
    say_lack(3);
    say_trimmed(2, member_other, 2);
    bool asked = fix_said(&f, 3, AB_MM_FETCH, 0, &message);
    for (unsigned i = 0; i < 20 && !asked; i++) {
        ck_assert(!needs_snapshot());
        fix_timer(&f);
        asked = fix_said(&f, 3, AB_MM_FETCH, 0, &message);
    }
    ck_assert(asked);
    ck_assert_uint_eq(message.first, 1);
    if (_i == 0) {
        say_lack(3);
        ck_assert(needs_snapshot());
        ck_assert(comes_to_rest());
    } else {
        ab_block_info good = fix_info(member_other, 1, 2);
        fix_block(&f, AB_EV_BLOCK, 3, &good);
        ck_assert_uint_eq(fix_count(&f, AB_ACT_REPAIR), 1);
    }
}
END_TEST

/* Of two damaged blocks in a row the second tells the hash of the first: while only a snapshot will bring that one, neither is looked
 * at again and again. */
START_TEST(what_stands_before_it_costs_no_timer)
{
    ab_block_info blocks[] = {fix_info(member_other, 1, 2), fix_info(member_other, 3, 3),
                              fix_info(member_other, 4, 4)};
    ab_mm_have has = member_have(member_other, 4);
    fix_link(&f, 2);
    fix_link(&f, 3);
    for (size_t i = 0; i < 3; i++) {
        fix_block(&f, AB_EV_BLOCK, 2, &blocks[i]);
        fix_block(&f, AB_EV_LOGGED, 0, &blocks[i]);
    }
    fix_block(&f, AB_EV_BAD, 0, &blocks[0]);
    fix_block(&f, AB_EV_BAD, 0, &blocks[1]);
    fix_mark(&f, AB_EV_DURABLE, member_other, 4);
    fix_have(&f, 2, 0, &has, 1);
    fix_have(&f, 3, 0, &has, 1);
    say_trimmed(2, member_other, 3);
    fix_message(&f, 3, &(ab_mm_message){.kind = AB_MM_LACK, .stream = member_other, .first = 3});
    ck_assert(needs_snapshot());
    for (unsigned i = 0; i < 200 && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
        if (fix_count(&f, AB_ACT_LOAD) > 0) {
            uint64_t from = fix_action(&f, AB_ACT_LOAD, 0)->mark.index;
            fix_block(&f, AB_EV_BAD, 0, &blocks[from < 3 ? 0 : 1]); /* as ever */
            fix_step(&f, &(ab_event){.type = AB_EV_LOADED, .mark = {member_other, from}});
        }
    }
    ck_assert_uint_eq(f.backend->deadline(f.core), AB_NEVER);
}
END_TEST

/* What another stream depends on is gone at its origin. */
START_TEST(what_waits_for_trimmed_entries_costs_no_timer)
{
    const ab_mark dep = {member_other, 5};
    ab_mm_have has = member_have(member_other, 5);
    fix_link(&f, 3);
    fix_simple(&f, AB_EV_PEER_UP, 2);
    fix_have(&f, 2, AB_MM_FULL, &has, 1);
    member_log(member_third, 1, 1, &dep, 1);
    ck_assert(!comes_to_rest());
    say_trimmed(2, member_other, 3);
    ck_assert(comes_to_rest());
    member_log(member_third, 2, 2, NULL, 0);
    ck_assert(comes_to_rest());
    fix_simple(&f, AB_EV_PEER_DOWN, 2); /* over a new link it may be there again */
    fix_simple(&f, AB_EV_PEER_UP, 2);
    fix_have(&f, 2, AB_MM_FULL, &has, 1);
    ck_assert(!comes_to_rest());
}
END_TEST

/* The word that something is trimmed may get lost: who asks how things are is told again. */
START_TEST(who_asks_hears_again_what_is_trimmed)
{
    const ab_stream_state streams[] = {{.stream = {1, 4000}, .base = 5, .last = 5, .last_hash = 9}};
    const ab_mark applied[] = {{{1, 4000}, 5}};
    ab_mm_message message;
    ab_core_init init = fix_init(1);
    init.streams = streams;
    init.stream_count = 1;
    init.applied = (ab_frontier){applied, 1};
    fix_close(&f);
    fix_open(&f, &ab_backend_multimaster, &init);
    fix_simple(&f, AB_EV_START, 0);
    fix_link(&f, 2); /* has nothing */
    fix_sent(&f, 2, streams[0].stream, 0, 0, AB_ETRIMMED);
    ck_assert(fix_said(&f, 2, AB_MM_TRIMMED, 0, &message));
    ck_assert_uint_eq(message.first, 5);
    ck_assert_uint_eq(message.last, 0);
    ck_assert(needs_snapshot());
    fix_have(&f, 2, AB_MM_FULL | AB_MM_ASK, NULL, 0);
    ck_assert(fix_said(&f, 2, AB_MM_TRIMMED, 0, &message));
    ck_assert_uint_eq(message.first, 5);
    ck_assert(!needs_snapshot()); /* once is enough */
}
END_TEST

START_TEST(who_cannot_read_it_says_so)
{
    ab_mm_message message;
    ab_mm_have has = member_have(member_own, 2);
    member_write(1, 2);
    fix_link(&f, 2);
    fix_simple(&f, AB_EV_PEER_UP, 3);
    fix_have(&f, 3, AB_MM_FULL, &has, 1);
    fix_message(&f, 3, &(ab_mm_message){.kind = AB_MM_FETCH, .stream = member_own, .first = 1, .last = 1});
    ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->peer, 3);
    fix_sent(&f, 3, member_own, 0, 0, AB_ECORRUPT);
    ck_assert(fix_said(&f, 3, AB_MM_LACK, 0, &message));
    ck_assert_uint_eq(message.first, 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_LOAD, 0)->mark.index, 1); /* which leads to our own repair */
}
END_TEST

/* A peer that lacks what is lost of our stream could never get what comes after it. */
START_TEST(writes_leave_a_stream_that_not_all_can_follow)
{
    ab_mm_have has = member_have(member_own, 2);
    ab_mm_message message;
    member_write(1, 3);
    fix_link(&f, 2); /* has nothing */
    fix_simple(&f, AB_EV_PEER_UP, 3);
    fix_have(&f, 3, AB_MM_FULL, &has, 1);
    ab_block_info damaged = fix_info(member_own, 2, 2);
    fix_block(&f, AB_EV_BAD, 0, &damaged);
    ab_block_info after = fix_info(member_own, 3, 3);
    fix_step(&f,
             &(ab_event){.type = AB_EV_LOADED, .mark = {member_own, 3}, .blocks = &after, .block_count = 1});
    fix_message(&f, 3, &(ab_mm_message){.kind = AB_MM_LACK, .stream = member_own, .first = 2});
    for (unsigned i = 0; i < 12; i++) { /* the other one is silent: it may have got it by now */
        ck_assert_uint_eq(fix_count(&f, AB_ACT_APPEND), 0);
        fix_timer(&f);
    }
    fix_have(&f, 2, AB_MM_FULL, NULL, 0);
    while (fix_count(&f, AB_ACT_APPEND) == 0) {
        fix_timer(&f);
    }
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPEND, 0)->mark.stream.epoch, FIX_WALL + 1);
    /* What it cannot have it is told of, once, and not tried again and again. */
    fix_sent(&f, 2, member_own, 1, 1, AB_OK);
    has = member_have(member_own, 1);
    fix_have(&f, 2, 0, &has, 1);
    fix_sent(&f, 2, member_own, 1, 0, AB_ECORRUPT);
    ck_assert(fix_said(&f, 2, AB_MM_TRIMMED, 0, &message));
    ck_assert_uint_eq(message.first, 2);
    ck_assert_uint_eq(message.last, 2);                                       /* not trimmed: lost */
    fix_step(&f, &(ab_event){.type = AB_EV_LOADED, .mark = {member_own, 2}}); /* it cannot be read */
    has = member_have(member_own, 3);
    fix_sent(&f, 3, member_own, 3, 1, AB_OK);
    fix_have(&f, 3, 0, &has, 1);
    ck_assert(comes_to_rest());
    fix_block(&f, AB_EV_REPAIRED, 0, &damaged); /* after all */
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->mark.index, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_damage");
    TCase *tc = tcase_create("damage");
    tcase_add_checked_fixture(tc, member_open, member_close);
    tcase_add_test(tc, a_refused_block_is_asked_for_again);
    tcase_add_test(tc, a_refusal_takes_back_what_was_announced);
    tcase_add_test(tc, own_writes_leave_a_refused_stream);
    tcase_add_test(tc, a_refused_repair_is_tried_again);
    tcase_add_test(tc, what_the_state_machine_let_go_of_is_given_again);
    tcase_add_test(tc, what_it_has_of_a_block_is_not_let_go_of);
    tcase_add_test(tc, what_nobody_has_is_passed);
    tcase_add_test(tc, what_somebody_may_have_is_waited_for);
    tcase_add_loop_test(tc, what_all_have_trimmed_costs_no_timer, 0, 2);
    tcase_add_test(tc, who_lacked_it_before_it_was_trimmed_is_asked_once_more);
    tcase_add_loop_test(tc, who_could_not_read_it_before_it_was_trimmed_is_asked_once_more, 0, 2);
    tcase_add_test(tc, what_stands_before_it_costs_no_timer);
    tcase_add_test(tc, what_waits_for_trimmed_entries_costs_no_timer);
    tcase_add_test(tc, who_asks_hears_again_what_is_trimmed);
    tcase_add_test(tc, who_cannot_read_it_says_so);
    tcase_add_test(tc, writes_leave_a_stream_that_not_all_can_follow);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
