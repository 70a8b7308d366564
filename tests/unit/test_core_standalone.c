/* SPDX-License-Identifier: Apache-2.0 */
/* The standalone core by itself: logging, recovery, reads, damage. */
#include "tests/support/run.h"
#include "tests/unit/core_fixture.h"

#include <check.h>

static const ab_stream own = {1, FIX_WALL};
static fixture f;

static ab_core_init alone(void)
{
    ab_core_init init = fix_init(1);
    init.members = NULL;
    init.member_count = 0;
    return init;
}

static void open_new(void)
{
    ab_core_init init = alone();
    fix_open(&f, &ab_backend_standalone, &init);
    ck_assert_int_eq(fix_simple(&f, AB_EV_START, 0), AB_OK);
}

static void close_it(void)
{
    fix_close(&f);
}

START_TEST(writes_are_acknowledged_and_applied)
{
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPEND, 0)->mark.stream.epoch, FIX_WALL);
    fix_write(&f, own, 1, 3);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_ACKED), 0); /* the new epoch is not kept yet */
    fix_mark(&f, AB_EV_DURABLE, own, 3);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_ACKED, 0)->mark.index, 3);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->first, 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->mark.index, 3);
    fix_write(&f, own, 4, 4);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_ACKED, 0)->mark.index, 4);
}
END_TEST

START_TEST(trims_what_the_state_machine_keeps)
{
    const ab_mark applied = {own, 2};
    fix_write(&f, own, 1, 3);
    fix_mark(&f, AB_EV_DURABLE, own, 3);
    fix_mark(&f, AB_EV_APPLIED, own, 3);
    fix_step(&f, &(ab_event){.type = AB_EV_CHECKPOINTED, .frontier = {&applied, 1}});
    f.now += 1000 * FIX_MS;
    fix_simple(&f, AB_EV_TIMER, 0);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_TRIM, 0)->mark.index, 2);
    ck_assert_uint_eq(f.backend->deadline(f.core), AB_NEVER);
}
END_TEST

START_TEST(reads_see_what_was_logged_before)
{
    fix_write(&f, own, 1, 3);
    fix_mark(&f, AB_EV_DURABLE, own, 3);
    fix_step(&f, &(ab_event){
                     .type = AB_EV_READ, .ticket = 5, .read_level = AB_READ_STRONG, .timeout_ns = AB_NEVER});
    ck_assert_uint_eq(fix_count(&f, AB_ACT_READ_DONE), 0);
    fix_mark(&f, AB_EV_APPLIED, own, 3);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_READ_DONE, 0)->ticket, 5);
    ck_assert_int_eq(fix_action(&f, AB_ACT_READ_DONE, 0)->code, AB_OK);
}
END_TEST

START_TEST(peers_are_a_mistake)
{
    ck_assert_int_eq(fix_simple(&f, AB_EV_PEER_UP, 2), AB_EINVAL);
    ck_assert_int_eq(fix_mark(&f, AB_EV_DURABLE, (ab_stream){8, 8}, 1), AB_EINVAL);
    ck_assert_int_eq(fix_mark(&f, AB_EV_APPLIED, own, 9), AB_EINVAL);
}
END_TEST

START_TEST(recovers_older_streams_before_newer_ones)
{
    fixture g;
    const ab_stream_state log[] = {{.stream = {1, 3}, .last = 2, .last_hash = 1003002},
                                   {.stream = {1, 4}, .last = 1, .last_hash = 1004001}};
    const ab_mark dep = {{1, 3}, 2};
    ab_core_init init = alone();
    init.streams = log;
    init.stream_count = 2;
    init.tail_safe = false;
    fix_open(&g, &ab_backend_standalone, &init);
    fix_simple(&g, AB_EV_START, 0);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_LOAD), 2);
    ab_block_info newer = fix_info((ab_stream){1, 4}, 1, 1);
    newer.deps = &dep;
    newer.dep_count = 1;
    fix_step(&g, &(ab_event){.type = AB_EV_LOADED, .mark = {{1, 4}, 1}, .blocks = &newer, .block_count = 1});
    ck_assert_uint_eq(fix_count(&g, AB_ACT_APPLY), 0);
    ab_block_info older = fix_info((ab_stream){1, 3}, 1, 2);
    fix_step(&g, &(ab_event){.type = AB_EV_LOADED, .mark = {{1, 3}, 1}, .blocks = &older, .block_count = 1});
    ck_assert_uint_eq(fix_count(&g, AB_ACT_APPLY), 2);
    ck_assert_uint_eq(fix_action(&g, AB_ACT_APPLY, 0)->mark.stream.epoch, 3);
    /* The next stream of this member comes after both. */
    ab_frontier deps;
    ck_assert_int_eq(g.backend->seal(g.core, 1, 1, &deps), AB_OK);
    ck_assert_uint_eq(deps.count, 2);
    ck_assert_int_eq(g.backend->seal(g.core, 2, 2, &deps), AB_OK);
    ck_assert_uint_eq(deps.count, 0);
    fix_close(&g);
}
END_TEST

START_TEST(what_nobody_can_bring_is_not_waited_for)
{
    fixture g;
    const ab_stream_state log = {.stream = {2, 3}, .last = 1, .last_hash = 2003001};
    const ab_mark dep = {{3, 9}, 50};
    ab_core_init init = alone();
    init.streams = &log;
    init.stream_count = 1;
    fix_open(&g, &ab_backend_standalone, &init);
    fix_simple(&g, AB_EV_START, 0);
    ab_block_info info = fix_info((ab_stream){2, 3}, 1, 1);
    info.deps = &dep;
    info.dep_count = 1;
    fix_step(&g, &(ab_event){.type = AB_EV_LOADED, .mark = {{2, 3}, 1}, .blocks = &info, .block_count = 1});
    ck_assert_uint_eq(fix_count(&g, AB_ACT_APPLY), 1);
    fix_close(&g);
}
END_TEST

START_TEST(damage_is_reported_and_passed)
{
    fixture g;
    const ab_stream_state log = {.stream = {1, FIX_WALL - 1}, .last = 4, .last_hash = 1};
    ab_core_init init = alone();
    init.streams = &log;
    init.stream_count = 1;
    fix_open(&g, &ab_backend_standalone, &init);
    fix_simple(&g, AB_EV_START, 0);
    ab_block_info bad = fix_info(log.stream, 1, 2);
    fix_block(&g, AB_EV_BAD, 0, &bad);
    ck_assert_int_eq(fix_action(&g, AB_ACT_REPORT, 0)->code, AB_ECORRUPT);
    fix_step(&g, &(ab_event){.type = AB_EV_LOADED, .mark = {log.stream, 1}});
    fix_block(&g, AB_EV_BAD, 0, &bad);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_REPORT), 0);
    while (fix_count(&g, AB_ACT_LOAD) == 0) {
        fix_timer(&g);
    }
    ck_assert_uint_eq(fix_action(&g, AB_ACT_LOAD, 0)->mark.index, 3);
    ab_block_info good = fix_info(log.stream, 3, 4);
    fix_step(&g,
             &(ab_event){.type = AB_EV_LOADED, .mark = {log.stream, 3}, .blocks = &good, .block_count = 1});
    ck_assert_uint_eq(fix_action(&g, AB_ACT_APPLY, 0)->first, 3);
    fix_block(&g, AB_EV_BAD, 0,
              &good); /* damaged on its way to the state machine: found out, let go of, passed */
    ck_assert_uint_eq(fix_count(&g, AB_ACT_REPORT), 1);
    fix_simple(&g, AB_EV_UNAPPLIED, 0);
    ck_assert_uint_eq(fix_action(&g, AB_ACT_LOAD, 0)->mark.index, 3);
    fix_block(&g, AB_EV_BAD, 0, &good);
    fix_step(&g, &(ab_event){.type = AB_EV_LOADED, .mark = {log.stream, 3}});
    ck_assert_uint_eq(fix_count(&g, AB_ACT_APPLY), 0);
    ck_assert_uint_eq(g.backend->deadline(g.core), AB_NEVER);
    fix_close(&g);
}
END_TEST

START_TEST(a_state_machine_older_than_the_trim_is_reported)
{
    fixture g;
    const ab_stream_state log = {.stream = {1, 9}, .base = 5, .base_hash = 3, .last = 8, .last_hash = 1};
    ab_core_init init = alone();
    init.streams = &log;
    init.stream_count = 1;
    fix_open(&g, &ab_backend_standalone, &init);
    fix_simple(&g, AB_EV_START, 0);
    ck_assert_int_eq(fix_action(&g, AB_ACT_REPORT, 0)->code, AB_ETRIMMED);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_LOAD), 0);
    fix_close(&g);
}
END_TEST

START_TEST(old_streams_of_its_own_are_folded)
{
    fixture g;
    const ab_stream_state log[] = {{.stream = {1, 7}, .base = 5, .base_hash = 1, .last = 5, .last_hash = 1},
                                   {.stream = {1, 9}, .base = 2, .base_hash = 3, .last = 8, .last_hash = 4},
                                   {.stream = {2, 5}, .base = 4, .base_hash = 5, .last = 4, .last_hash = 5}};
    const ab_mark applied[] = {{{1, 7}, 5}, {{1, 9}, 8}, {{2, 5}, 4}};
    ab_core_init init = alone();
    init.tail_safe = false;
    init.streams = log;
    init.stream_count = 3;
    init.applied = (ab_frontier){applied, 3};
    fix_open(&g, &ab_backend_standalone, &init);
    fix_simple(&g, AB_EV_START, 0);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_TRIM), 1); /* what is left of the younger one */
    ck_assert_uint_eq(fix_count(&g, AB_ACT_FORGET), 2);
    ck_assert_uint_eq(fix_action(&g, AB_ACT_FORGET, 0)->mark.stream.epoch, 7);
    ck_assert_uint_eq(fix_action(&g, AB_ACT_FORGET, 1)->mark.stream.epoch, 9);
    ck_assert_uint_eq(fix_action(&g, AB_ACT_FORGET, 1)->first, 9);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_PERSIST), 3); /* the new epoch, and each fold */
    ck_assert_uint_eq(g.backend->deadline(g.core), AB_NEVER);
    const ab_mark token = {{1, 9}, 8};
    ab_event read = {.type = AB_EV_READ,
                     .ticket = 5,
                     .read_level = AB_READ_SESSION,
                     .frontier = {&token, 1},
                     .timeout_ns = AB_NEVER};
    fix_step(&g, &read);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_READ_DONE), 1);
    fix_close(&g);
}
END_TEST

START_TEST(an_epoch_that_may_come_back_is_not_folded)
{
    /* The tail is safe, but the state machine has more of the stream than the log: a new epoch, and a crash before it is on
     * disk may find another state machine. */
    fixture g;
    const uint8_t value[4] = {9, 0, 0, 0};
    const ab_state_value state = {{"epoch", 5}, {value, 4}};
    const ab_stream_state log = {.stream = {1, 9}, .base = 8, .base_hash = 4, .last = 8, .last_hash = 4};
    const ab_mark applied = {{1, 9}, 9};
    ab_core_init init = alone();
    init.state = &state;
    init.state_count = 1;
    init.streams = &log;
    init.stream_count = 1;
    init.applied = (ab_frontier){&applied, 1};
    fix_open(&g, &ab_backend_standalone, &init);
    fix_simple(&g, AB_EV_START, 0);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_FORGET), 0);
    fix_write(&g, own, 1, 1);
    fix_mark(&g, AB_EV_DURABLE, own, 1);
    fix_timer(&g);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_FORGET), 1);
    fix_close(&g);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_standalone");
    TCase *tcase = tcase_create("standalone");
    tcase_add_checked_fixture(tcase, open_new, close_it);
    tcase_add_test(tcase, writes_are_acknowledged_and_applied);
    tcase_add_test(tcase, trims_what_the_state_machine_keeps);
    tcase_add_test(tcase, reads_see_what_was_logged_before);
    tcase_add_test(tcase, peers_are_a_mistake);
    tcase_add_test(tcase, recovers_older_streams_before_newer_ones);
    tcase_add_test(tcase, what_nobody_can_bring_is_not_waited_for);
    tcase_add_test(tcase, damage_is_reported_and_passed);
    tcase_add_test(tcase, a_state_machine_older_than_the_trim_is_reported);
    tcase_add_test(tcase, old_streams_of_its_own_are_folded);
    tcase_add_test(tcase, an_epoch_that_may_come_back_is_not_folded);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
