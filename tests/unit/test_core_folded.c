/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: what holds once streams are folded, here or elsewhere. */
#include "tests/unit/fold_fixture.h"

#include <check.h>
#include <string.h>

/* A start with both streams of node 2 folded, of which log and state machine still have `count`. */
static void open_folded(size_t count, size_t marks)
{
    static ab_stream_state streams[2];
    static ab_mark applied[2];
    static ab_state_value state;
    state = fold_state_of_both();
    streams[0] = fold_logged(fold_first, 5);
    streams[1] = fold_logged(fold_second, 2);
    applied[0] = (ab_mark){fold_first, 5};
    applied[1] = (ab_mark){fold_second, 2};
    fold_close();
    ab_core_init init = fix_init(1);
    init.streams = streams + 2 - count;
    init.stream_count = count;
    init.applied = (ab_frontier){applied + 2 - marks, marks};
    init.state = &state;
    init.state_count = 1;
    fix_open(&f, &ab_backend_multimaster, &init);
    ck_assert_int_eq(fix_simple(&f, AB_EV_START, 0), AB_OK);
    fold_count = 0;
    fold_note();
}

START_TEST(a_restart_forgets_what_is_left)
{
    open_folded(2, 2); /* nothing was forgotten yet */
    ck_assert_uint_eq(fold_count, 2);
    ck_assert(!fold_knows(fold_first) && !fold_knows(fold_second));
    open_folded(1, 2); /* the first was */
    ck_assert_uint_eq(fold_count, 1);
    ck_assert_uint_eq(fold_forgotten[0].epoch, 8);
    open_folded(0, 2); /* both, but the state machine stored its frontier before */
    ck_assert_uint_eq(fold_count, 1);
    ck_assert_uint_eq(fold_kept_from[0], 8);
    open_folded(0, 1);
    ck_assert_uint_eq(fold_count, 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 0);
    open_folded(0, 0); /* the state machine lost its data */
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 1);
    ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, 0)->code, AB_ETRIMMED);
    ck_assert(!fold_read_done((ab_mark){fold_second, 1}));
}
END_TEST

START_TEST(broken_records_are_refused)
{
    ab_state_value state = fold_state_of_both();
    ab_core_init init = fix_init(1);
    void *core = NULL;
    init.state = &state;
    init.state_count = 1;
    state.value.size--;
    ck_assert_int_eq(ab_backend_multimaster.create(&init, &core), AB_ECORRUPT);
    state = fold_state_of_both();
    state.key = (ab_bytes){"folded/x", 8};
    ck_assert_int_eq(ab_backend_multimaster.create(&init, &core), AB_ECORRUPT);
    state.key = (ab_bytes){"folded/99999999999", 18};
    ck_assert_int_eq(ab_backend_multimaster.create(&init, &core), AB_ECORRUPT);
    state = fold_state_of_both();
    memset(fold_stored, 0, 4);
    ck_assert_int_eq(ab_backend_multimaster.create(&init, &core), AB_ECORRUPT);
}
END_TEST

START_TEST(tokens_of_folded_streams_hold)
{
    open_folded(0, 1);
    ck_assert(fold_read_done((ab_mark){fold_first, 5}));
    ck_assert(fold_read_done((ab_mark){fold_second, 2}));
    ck_assert(!fold_read_done((ab_mark){fold_second, 3})); /* of what was lost nobody has anything */
    ck_assert(!fold_read_done((ab_mark){fold_current, 1}));
}
END_TEST

START_TEST(dependencies_on_folded_streams_hold)
{
    open_folded(0, 1);
    const ab_mark deps[] = {{fold_first, 5}, {fold_second, 4}};
    ab_block_info block = fix_info(fold_current, 1, 1);
    block.deps = deps;
    block.dep_count = 2;
    fix_link(&f, 2);
    fix_block(&f, AB_EV_BLOCK, 2, &block);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    fix_block(&f, AB_EV_LOGGED, 0, &block);
    fix_mark(&f, AB_EV_DURABLE, fold_current, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    ck_assert(!fold_knows(fold_first) && !fold_knows(fold_second));
}
END_TEST

START_TEST(late_blocks_and_questions_are_answered)
{
    ab_mm_folded said;
    open_folded(0, 1);
    fix_link(&f, 2);
    ab_block_info late = fix_info(fold_second, 1, 2);
    fix_block(&f, AB_EV_BLOCK, 2, &late);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    ck_assert(fold_said(2, 2, &said));
    ck_assert_uint_eq(said.epoch, 8);
    ck_assert_uint_eq(said.total, 7);
    ab_mm_message fetch = {.kind = AB_MM_FETCH, .stream = fold_first, .first = 1, .last = 5};
    fix_message(&f, 2, &fetch);
    ck_assert(fold_said(2, 2, &said));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    fold_give(2, 0, (ab_mm_have[]){fold_over(fold_second, 2, AB_MM_TELL)}, 1, NULL);
    ck_assert(fold_said(2, 2, &said));
    ck_assert(!fold_knows(fold_second));
    /* The driver may be late with answers, too. */
    ck_assert_int_eq(fix_step(&f, &(ab_event){.type = AB_EV_LOADED, .mark = {fold_second, 1}}), AB_OK);
    ck_assert_int_eq(fix_mark(&f, AB_EV_DURABLE, fold_second, 2), AB_OK);
    ck_assert_int_eq(fix_sent(&f, 2, fold_second, 2, 1, AB_OK), AB_OK);
    ck_assert_int_eq(fix_mark(&f, AB_EV_DURABLE, (ab_stream){2, 99}, 2), AB_EINVAL);
}
END_TEST

START_TEST(folded_epochs_are_not_chosen_again)
{
    uint8_t value[AB_FOLD_BYTES];
    const ab_stream_state streams[] = {fold_logged((ab_stream){1, 9000}, 5)};
    ab_fold fold = fold_record(1, streams, 1);
    ab_actions actions = {0};
    ck_assert_int_eq(ab_fold_push(&fold, &actions), AB_OK);
    memcpy(value, ab_actions_at(&actions, 0)->data.data, sizeof value);
    ab_actions_free(&actions);
    const uint8_t epoch[4] = {9000 & 0xff, 9000 >> 8, 0, 0};
    const ab_state_value state[] = {{{"epoch", 5}, {epoch, 4}}, {{"folded/1", 8}, {value, sizeof value}}};
    const ab_mark applied = {{1, 9000}, 5};
    fold_close();
    ab_core_init init = fix_init(1);
    init.state = state;
    init.state_count = 2;
    init.applied = (ab_frontier){&applied, 1};
    fix_open(&f, &ab_backend_multimaster, &init);
    fix_simple(&f, AB_EV_START, 0);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPEND, 0)->mark.stream.epoch, 9001);
}
END_TEST

/* What the others folded */

START_TEST(a_member_that_is_late_follows)
{
    /* Both others have folded both streams of node 2 and name them no more. */
    const ab_stream_state streams[] = {fold_logged(fold_first, 5), fold_logged(fold_second, 2)};
    ab_mm_folded folded = fold_wire(2, streams, 2);
    ab_mm_folded said;
    fold_link(2, NULL, 0, &folded);
    fold_link(3, NULL, 0, &folded);
    fold_pass(500);
    ck_assert_uint_eq(fold_count, 2);
    ck_assert(!fold_knows(fold_first) && !fold_knows(fold_second));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 0);
    folded.flags = AB_MM_TELL;
    fold_give(2, 0, NULL, 0, &folded);
    ck_assert(fold_said(2, 2, &said));
    ck_assert_uint_eq(said.epoch, 8);
    ck_assert_uint_eq(said.heard, 8);
    ck_assert_uint_eq(said.total, folded.total);
    ck_assert_uint_eq(said.hash, folded.hash);
}
END_TEST

static bool code_of_current(void *arg, const ab_stream_status *status)
{
    if (status->stream.node == fold_current.node && status->stream.epoch == fold_current.epoch) {
        *(int *)arg = status->code;
    }
    return true;
}

START_TEST(a_lost_disk_needs_a_snapshot)
{
    fold_close();
    fold_open_with(NULL, 0, NULL, 0);
    const ab_stream_state streams[] = {fold_logged(fold_first, 5), fold_logged(fold_second, 2)};
    ab_mm_folded folded = fold_wire(2, streams, 2);
    unsigned reports = 0;
    fold_link(3, NULL, 0, &folded);
    fold_link(2, NULL, 0, &folded);
    for (unsigned i = 0; i < 20 && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
        for (size_t k = 0; k < fix_count(&f, AB_ACT_REPORT); k++) {
            ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, k)->code, AB_ETRIMMED);
            reports++;
        }
        ck_assert_uint_eq(fix_count(&f, AB_ACT_FORGET), 0);
    }
    ck_assert_uint_eq(reports, 1);
    ck_assert_uint_eq(f.backend->deadline(f.core), AB_NEVER);
    /* Everything else goes on. */
    ab_block_info block = fix_info(fold_current, 1, 1);
    fix_block(&f, AB_EV_BLOCK, 2, &block);
    fix_block(&f, AB_EV_LOGGED, 0, &block);
    int code = AB_OK;
    f.backend->streams(f.core, code_of_current, &code); /* and shows, for as long as that is so */
    ck_assert_int_eq(code, AB_ETRIMMED);
    fix_mark(&f, AB_EV_DURABLE, fold_current, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
}
END_TEST

START_TEST(another_history_is_reported)
{
    const ab_stream_state streams[] = {fold_logged(fold_first, 5), fold_logged(fold_second, 2)};
    ab_mm_folded folded = fold_wire(2, streams, 2);
    int code = AB_OK;
    folded.hash++;
    fold_link(2, NULL, 0, &folded);
    for (unsigned i = 0; i < 20 && code == AB_OK && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
        code = fix_count(&f, AB_ACT_REPORT) > 0 ? fix_action(&f, AB_ACT_REPORT, 0)->code : AB_OK;
    }
    ck_assert_int_eq(code, AB_EDIVERGED);
    fold_link(3, NULL, 0, &folded);
    fold_pass(500);
    ck_assert_uint_eq(fold_count, 0);
}
END_TEST

/* A block depends on more than we have of an old stream, of which the others folded `end` entries: they say so, its origin last.
 * What we report then is `expected`, what is given `applied`. */
static void wait_for_folded(uint64_t end, int expected, size_t applied)
{
    const ab_stream_state theirs[] = {fold_logged(fold_first, end), fold_logged(fold_second, 2)};
    const ab_mark dep = {fold_first, 6};
    ab_mm_folded folded = fold_wire(2, theirs, 2);
    ab_block_info block = fix_info(fold_current, 1, 1);
    block.deps = &dep;
    block.dep_count = 1;
    fold_link(2, NULL, 0, NULL);
    fold_link(3, NULL, 0, NULL);
    fix_block(&f, AB_EV_BLOCK, 2, &block);
    fix_block(&f, AB_EV_LOGGED, 0, &block);
    fix_mark(&f, AB_EV_DURABLE, fold_current, 1);
    fold_pass(500);
    fold_give(3, 0, NULL, 0, &folded);
    size_t given = fix_count(&f, AB_ACT_APPLY);
    for (unsigned i = 0; i < 20 && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
        given += fix_count(&f, AB_ACT_APPLY);
    }
    ck_assert_uint_eq(given, 0); /* its origin may yet have more of it */
    fold_give(2, 0, NULL, 0, &folded);
    int code = AB_OK;
    given = fix_count(&f, AB_ACT_APPLY);
    for (unsigned i = 0; i < 20 && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
        const ab_action *report = fix_action(&f, AB_ACT_REPORT, 0);
        code = report != NULL ? report->code : code;
        given += fix_count(&f, AB_ACT_APPLY);
    }
    ck_assert_int_eq(code, expected);
    ck_assert_uint_eq(given, applied);
    ck_assert_uint_eq(fold_count, 0);
}

/* Our disk went back to what was lost, and folded as lost, meanwhile: what is missing of it no member will ever give. */
START_TEST(another_history_holds_up_nothing)
{
    wait_for_folded(3, AB_EDIVERGED, 1);
}
END_TEST

/* ... but this is in their state machines: a snapshot would bring it. */
START_TEST(where_the_others_have_more_it_waits)
{
    wait_for_folded(6, AB_ETRIMMED, 0);
}
END_TEST

START_TEST(our_own_epoch_was_folded)
{
    /* Another disk, and a clock that went back: what is written under that epoch nobody would take. */
    ab_mm_folded folded = {.node = 1, .epoch = FIX_WALL + 7, .total = 5, .hash = 5};
    fold_link(2, NULL, 0, &folded);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPEND, 0)->mark.stream.epoch, FIX_WALL + 8);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {a_restart_forgets_what_is_left,
                                  broken_records_are_refused,
                                  tokens_of_folded_streams_hold,
                                  dependencies_on_folded_streams_hold,
                                  late_blocks_and_questions_are_answered,
                                  folded_epochs_are_not_chosen_again,
                                  a_member_that_is_late_follows,
                                  a_lost_disk_needs_a_snapshot,
                                  another_history_is_reported,
                                  another_history_holds_up_nothing,
                                  where_the_others_have_more_it_waits,
                                  our_own_epoch_was_folded};
    return fold_run("core_folded", tests, sizeof tests / sizeof tests[0]);
}
