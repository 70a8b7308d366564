/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: old streams that are over everywhere are folded away. */
#include "tests/support/alloc_fail.h"
#include "tests/unit/fold_fixture.h"

#include <check.h>
#include <string.h>

/* Folding */

START_TEST(folded_when_over_everywhere)
{
    const ab_mm_have all[] = {fold_over(fold_own, 3, 0), fold_over(fold_first, 5, 0)};
    ab_mm_have said;
    fold_link(2, all, 2, NULL);
    fold_pass(100);
    ck_assert_uint_eq(fold_count, 0); /* member 3 was not heard */
    fold_link(3, all, 1, NULL);
    fold_pass(100);
    ck_assert_uint_eq(fold_count, 1);
    ck_assert_uint_eq(fold_forgotten[0].node, 1);
    ck_assert_uint_eq(fold_kept_from[0], OLD);
    ck_assert(!fold_knows(fold_own));
    ck_assert(fold_knows(fold_first));
    fold_give(3, 0, &all[1], 1, NULL);
    ck_assert(!fix_said_have(&f, 3, fold_own, &said));
    fold_pass(100);
    ck_assert_uint_eq(fold_count, 1);
    ck_assert_uint_eq(fold_forgotten[0].epoch, 7);
    ck_assert(!fold_knows(fold_first));
    ck_assert(fold_knows(fold_second)); /* nobody said that it is over */
}
END_TEST

START_TEST(kept_before_it_is_forgotten)
{
    const ab_mm_have all[] = {fold_over(fold_own, 3, 0)};
    fold_link(2, all, 1, NULL);
    fold_link(3, all, 1, NULL);
    while (fix_count(&f, AB_ACT_FORGET) == 0) {
        fix_timer(&f);
    }
    bool kept = false;
    for (size_t i = 0; i < f.actions.count; i++) {
        const ab_action *action = ab_actions_at(&f.actions, i);
        kept |= action->type == AB_ACT_PERSIST && action->key.size == strlen("folded/1") &&
                memcmp(action->key.data, "folded/1", 8) == 0;
        ck_assert(action->type != AB_ACT_FORGET || kept);
    }
    ck_assert(kept);
}
END_TEST

START_TEST(the_oldest_first)
{
    /* Of node 2 the younger stream is over everywhere, the older one is not. */
    const ab_mm_have younger[] = {fold_over(fold_second, 2, 0)};
    ab_mm_have said;
    fold_link(2, younger, 1, NULL);
    fold_link(3, younger, 1, NULL);
    fold_pass(100);
    ck_assert_uint_eq(fold_count, 0);
    ck_assert(fold_knows(fold_second));
    const ab_mm_have older[] = {fold_over(fold_first, 5, 0)};
    fold_give(2, 0, older, 1, NULL);
    fold_give(3, 0, older, 1, NULL);
    fold_pass(100);
    ck_assert_uint_eq(fold_count, 2);
    ck_assert_uint_eq(fold_forgotten[0].epoch, 7);
    ck_assert_uint_eq(fold_forgotten[1].epoch, 8);
    ck_assert_uint_eq(fold_kept_from[1], 8);
    ck_assert(!fix_said_have(&f, 2, fold_second, &said));
}
END_TEST

START_TEST(the_origin_first)
{
    /* Member 3 says that a stream of 2 is over, 2 itself only where it ended: then it may still choose the epoch again. */
    ab_mm_have ended = {.stream = fold_first, .durable = 5, .accepted = 5, .flags = AB_MM_ENDED};
    ab_mm_have said = {.flags = 0};
    fold_link(2, &ended, 1, NULL);
    ck_assert_int_eq(fix_simple(&f, AB_EV_PEER_UP, 3), AB_OK);
    fold_give(3, AB_MM_FULL | AB_MM_ASK, NULL, 0, NULL);
    fold_pass(200);
    fold_give(3, AB_MM_ASK, NULL, 0, NULL);
    ck_assert(fix_said_have(&f, 3, fold_first, &said));
    ck_assert_uint_eq(said.flags & AB_MM_OVER, 0);
    const ab_mm_have done[] = {fold_over(fold_first, 5, AB_MM_ENDED)};
    fold_give(2, 0, done, 1, NULL);
    fold_pass(200);
    fold_give(3, AB_MM_ASK, NULL, 0, NULL);
    ck_assert(fix_said_have(&f, 3, fold_first, &said));
    ck_assert_uint_eq(said.flags & AB_MM_OVER, AB_MM_OVER);
}
END_TEST

START_TEST(not_before_the_state_machine_has_it)
{
    fold_close();
    const ab_stream_state log[] = {fold_logged(fold_first, 5)};
    ab_core_init init = fix_init(1);
    const ab_mark some = {fold_first, 3};
    const ab_mark all = {fold_first, 5};
    ab_stream_state untrimmed = log[0];
    untrimmed.base = 0;
    untrimmed.base_hash = 0;
    init.tail_safe = false;
    init.streams = &untrimmed;
    init.stream_count = 1;
    init.applied = (ab_frontier){&some, 1};
    fix_open(&f, &ab_backend_multimaster, &init);
    fix_simple(&f, AB_EV_START, 0);
    const ab_mm_have done[] = {fold_over(fold_first, 5, 0)};
    fold_link(2, done, 1, NULL);
    fold_link(3, done, 1, NULL);
    fold_pass(100);
    ck_assert_uint_eq(fold_count, 0);
    const ab_block_info info = fix_info(fold_first, 4, 5);
    fix_step(&f,
             &(ab_event){.type = AB_EV_LOADED, .mark = {fold_first, 4}, .blocks = &info, .block_count = 1});
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    fix_mark(&f, AB_EV_APPLIED, fold_first, 5);
    fold_pass(100);
    ck_assert_uint_eq(fold_count, 0);
    fix_step(&f, &(ab_event){.type = AB_EV_CHECKPOINTED, .frontier = {&all, 1}});
    fold_pass(100);
    ck_assert_uint_eq(fold_count, 1);
}
END_TEST

START_TEST(told_until_it_is_known)
{
    ab_mm_have said = {.flags = 0};
    unsigned times = 0;
    const ab_mm_have done[] = {fold_over(fold_own, 3, 0)};
    const ab_mm_have has[] = {{.stream = fold_own, .durable = 3, .accepted = 3}};
    fold_link(2, has, 1, NULL);
    fold_link(3, done, 1, NULL); /* every member was heard: our old stream has ended */
    for (unsigned i = 0; i < 20 && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
        times += fix_said_have(&f, 2, fold_own, &said) && (said.flags & AB_MM_TELL) != 0;
    }
    ck_assert_uint_ge(times, 5);
    ck_assert_uint_eq(said.flags, AB_MM_ENDED | AB_MM_OVER | AB_MM_TELL);
    ab_mm_have seen[] = {{.stream = fold_own, .flags = AB_MM_SEEN}};
    fold_give(2, 0, seen, 1, NULL);
    fold_give(3, 0, (ab_mm_have[]){fold_over(fold_own, 3, AB_MM_SEEN)}, 1, NULL);
    fold_pass(5000);
    ck_assert_uint_eq(f.backend->deadline(f.core), AB_NEVER);
    /* Who asks is answered, and says so itself. */
    fold_give(2, 0, (ab_mm_have[]){fold_over(fold_own, 3, AB_MM_TELL | AB_MM_SEEN)}, 1, NULL);
    ck_assert(fix_said_have(&f, 2, fold_own, &said));
    ck_assert_uint_eq(said.flags, AB_MM_ENDED | AB_MM_OVER | AB_MM_SEEN);
    fold_pass(5000);
    ck_assert_uint_eq(fold_count, 1);
    ck_assert_uint_eq(f.backend->deadline(f.core), AB_NEVER);
}
END_TEST

START_TEST(a_block_behind_the_end_is_of_another_history)
{
    const ab_mm_have done[] = {fold_over(fold_first, 5, 0)};
    ab_block_info beyond = fix_info(fold_first, 6, 6);
    fold_link(2, done, 1, NULL);
    fold_pass(100);
    fix_block(&f, AB_EV_BLOCK, 2, &beyond);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, 0)->code, AB_EDIVERGED);
}
END_TEST

START_TEST(an_epoch_that_may_come_back_is_not_over)
{
    /* Kept at the start, left while running: until the new one is on disk a crash would bring it back. */
    fold_close();
    const uint8_t epoch[4] = {OLD, 0, 0, 0};
    const ab_state_value state = {{"epoch", 5}, {epoch, 4}};
    const ab_stream_state log = fold_logged(fold_own, 3);
    const ab_mark applied = {fold_own, 3};
    ab_core_init init = fix_init(1);
    init.streams = &log;
    init.stream_count = 1;
    init.applied = (ab_frontier){&applied, 1};
    init.state = &state;
    init.state_count = 1;
    fix_open(&f, &ab_backend_multimaster, &init);
    fix_simple(&f, AB_EV_START, 0);
    ab_mm_have done[] = {fold_over(fold_own, 3, 0)};
    fold_link(2, done, 1, NULL); /* over there: so we left it once */
    ab_stream next = fix_action(&f, AB_ACT_APPEND, 0)->mark.stream;
    ck_assert_uint_eq(next.epoch, FIX_WALL);
    fold_link(3, done, 1, NULL);
    fold_pass(300);
    ck_assert_uint_eq(fold_count, 0);
    fix_write(&f, next, 1, 1);
    fix_mark(&f, AB_EV_DURABLE, next, 1);
    fold_pass(300);
    ck_assert_uint_eq(fold_count, 1);
}
END_TEST

/* Memory */

static bool told_failure; /* some call said AB_ENOMEM */

static void try_step(const ab_event *event)
{
    for (unsigned i = 0; i < 5 && fix_step(&f, event) != AB_OK; i++) {
        told_failure = true;
        fold_note();
    }
    fold_note();
}

static void try_have(uint32_t peer, const ab_mm_have *haves, uint32_t count, const ab_mm_folded *fold)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + 8 * AB_MM_HAVE_BYTES + AB_MM_FOLDED_BYTES];
    try_step(&(ab_event){.type = AB_EV_PEER_UP, .peer = peer});
    size_t size = ab_mm_encode_have_begin(AB_MM_FULL, count, fold != NULL, data);
    for (uint32_t i = 0; i < count; i++) {
        size += ab_mm_encode_have(&haves[i], data + size);
    }
    if (fold != NULL) {
        size += ab_mm_encode_folds_begin(1, data + size);
        size += ab_mm_encode_folded(fold, data + size);
    }
    try_step(&(ab_event){.type = AB_EV_MESSAGE, .peer = peer, .bytes = {data, size}});
}

/* @return false if not even the core could be made */
static bool story(void)
{
    const ab_stream_state streams[] = {fold_logged(fold_own, 3), fold_logged(fold_first, 5),
                                       fold_logged(fold_second, 2)};
    const ab_mark marks[] = {{fold_own, 3}, {fold_first, 5}, {fold_second, 2}};
    const ab_mm_have all[] = {fold_over(fold_own, 3, 0)};
    ab_mm_folded folded = fold_wire(2, streams + 1, 2);
    ab_core_init init = fix_init(1);
    init.tail_safe = false;
    init.streams = streams;
    init.stream_count = 3;
    init.applied = (ab_frontier){marks, 3};
    memset(&f, 0, sizeof f);
    f.backend = &ab_backend_multimaster;
    f.now = 1000 * FIX_MS;
    fold_count = 0;
    if (f.backend->create(&init, &f.core) != AB_OK) {
        return false;
    }
    try_step(&(ab_event){.type = AB_EV_START});
    try_have(2, all, 1, &folded);
    try_have(3, all, 1, &folded);
    for (unsigned i = 0; i < 20; i++) {
        f.now += 100 * FIX_MS;
        try_step(&(ab_event){.type = AB_EV_TIMER});
    }
    return true;
}

START_TEST(every_failing_allocation_is_survived)
{
    unsigned long n = 1;
    bool failed = true;
    fold_close();
    for (; failed; n++) {
        alloc_fail_at(n);
        bool made = story();
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        if (made) {
            ck_assert_msg(!fold_knows(fold_own) && !fold_knows(fold_first) && !fold_knows(fold_second),
                          "N = %lu: not folded", n);
            ck_assert_msg(fold_count >= 3, "N = %lu: %zu forgotten", n, fold_count);
            fix_close(&f);
        }
    }
    ck_assert_uint_gt(n, 15);
    fold_open();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {folded_when_over_everywhere,
                                  kept_before_it_is_forgotten,
                                  the_oldest_first,
                                  the_origin_first,
                                  not_before_the_state_machine_has_it,
                                  told_until_it_is_known,
                                  a_block_behind_the_end_is_of_another_history,
                                  an_epoch_that_may_come_back_is_not_over,
                                  every_failing_allocation_is_survived};
    return fold_run("core_fold", tests, sizeof tests / sizeof tests[0]);
}
