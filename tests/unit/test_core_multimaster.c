/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: epochs, handshake, sending. */
#include "tests/support/run.h"
#include "tests/unit/member_fixture.h"

#include <check.h>
#include <string.h>

/* Something durable in the new epoch, so that it may be shown. */
static void settle(void)
{
    fix_write(&f, member_own, 1, 1);
    ck_assert_int_eq(fix_mark(&f, AB_EV_DURABLE, member_own, 1), AB_OK);
}

/* Start and epochs */

START_TEST(start_announces_a_new_epoch)
{
    const ab_action *persist = fix_action(&f, AB_ACT_PERSIST, 0);
    const ab_action *append = fix_action(&f, AB_ACT_APPEND, 0);
    ck_assert_ptr_nonnull(persist);
    ck_assert_mem_eq(persist->key.data, "epoch", 5);
    ck_assert_ptr_nonnull(append);
    ck_assert_uint_eq(append->mark.stream.epoch, FIX_WALL);
    ck_assert_uint_eq(append->mark.index, 0);
    ck_assert_uint_eq(f.backend->deadline(f.core), AB_NEVER);
}
END_TEST

static uint32_t epoch_chosen(uint32_t stored, bool tail_safe, uint64_t log_last, uint64_t sm_has)
{
    fixture g;
    uint8_t value[4] = {(uint8_t)stored, (uint8_t)(stored >> 8), 0, 0};
    ab_state_value state = {{"epoch", 5}, {value, 4}};
    ab_stream_state log = {.stream = {1, stored}, .last = log_last, .last_hash = 1};
    ab_mark applied = {{1, stored}, sm_has};
    ab_core_init init = fix_init(1);
    init.tail_safe = tail_safe;
    init.state = &state;
    init.state_count = 1;
    init.streams = &log;
    init.stream_count = log_last > 0;
    init.applied = (ab_frontier){&applied, sm_has > 0};
    fix_open(&g, &ab_backend_multimaster, &init);
    ck_assert_int_eq(fix_simple(&g, AB_EV_START, 0), AB_OK);
    ab_mark append = fix_action(&g, AB_ACT_APPEND, 0)->mark;
    ck_assert_uint_eq(append.index, append.stream.epoch == stored ? log_last : 0);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_PERSIST), append.stream.epoch == stored ? 0 : 1);
    fix_close(&g);
    return append.stream.epoch;
}

START_TEST(epoch_is_kept_only_with_a_safe_tail)
{
    ck_assert_uint_eq(epoch_chosen(100, true, 5, 5), 100);
    ck_assert_uint_eq(epoch_chosen(100, false, 5, 5), FIX_WALL);
    ck_assert_uint_eq(epoch_chosen(9000, false, 5, 5), 9001);
    /* The state machine has more of it than the log: the tail was lost, whatever the log says of itself. */
    ck_assert_uint_eq(epoch_chosen(100, true, 5, 6), FIX_WALL);
}
END_TEST

START_TEST(nothing_of_a_new_epoch_is_shown_before_it_is_kept)
{
    ab_mm_have said;
    fix_link(&f, 2);
    fix_write(&f, member_own, 1, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_ACKED), 0);
    ck_assert_int_eq(fix_mark(&f, AB_EV_DURABLE, member_own, 1), AB_OK);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_ACKED, 0)->mark.index, 1);
    ck_assert(fix_said_have(&f, 2, member_own, &said));
    ck_assert_uint_eq(said.durable, 1);
    /* From now on a logged block is enough. */
    fix_write(&f, member_own, 2, 2);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_ACKED, 0)->mark.index, 2);
}
END_TEST

START_TEST(a_peer_with_more_of_ours_means_a_lost_tail)
{
    ab_mm_message message;
    settle();
    ab_mm_have more = member_have(member_own, 4);
    ck_assert_int_eq(fix_simple(&f, AB_EV_PEER_UP, 2), AB_OK);
    ck_assert_int_eq(fix_have(&f, 2, AB_MM_FULL, &more, 1), AB_OK);
    const ab_action *append = fix_action(&f, AB_ACT_APPEND, 0);
    ck_assert_ptr_nonnull(append);
    ck_assert_uint_eq(append->mark.stream.epoch, FIX_WALL + 1);
    ck_assert_ptr_nonnull(fix_action(&f, AB_ACT_PERSIST, 0));
    ck_assert(fix_said(&f, 2, AB_MM_FETCH, 0, &message));
    ck_assert_uint_eq(message.first, 2);
    ck_assert_uint_eq(message.last, 4);
    ab_block_info tail = fix_info(member_own, 2, 4);
    ck_assert_int_eq(fix_block(&f, AB_EV_BLOCK, 2, &tail), AB_OK);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    ck_assert_int_eq(fix_block(&f, AB_EV_LOGGED, 0, &tail), AB_OK);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_ACKED), 0);
    ck_assert_int_eq(fix_mark(&f, AB_EV_DURABLE, member_own, 4), AB_OK);
    ck_assert_uint_eq(f.backend->deadline(f.core) < AB_NEVER, 1); /* gossip and trim only: no more fetching */
    f.now += 1000 * FIX_MS;
    fix_simple(&f, AB_EV_TIMER, 0);
    ck_assert(!fix_said(&f, 2, AB_MM_FETCH, 0, &message));
}
END_TEST

START_TEST(a_lost_tail_that_is_trimmed_everywhere_is_reported)
{
    settle();
    ab_mm_have more = member_have(member_own, 4);
    fix_simple(&f, AB_EV_PEER_UP, 2);
    fix_have(&f, 2, AB_MM_FULL, &more, 1);
    ab_mm_message gone = {.kind = AB_MM_TRIMMED, .stream = member_own, .first = 4};
    ck_assert_int_eq(fix_message(&f, 2, &gone), AB_OK);
    ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, 0)->code, AB_ETRIMMED);
    fix_message(&f, 2, &gone);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 0);
}
END_TEST

START_TEST(a_block_logged_after_the_switch_is_no_secret)
{
    /* Sealed under the old stream, logged when a peer has claimed its index: two histories. */
    ab_frontier deps;
    settle();
    ck_assert_int_eq(f.backend->seal(f.core, 2, 2, &deps), AB_OK);
    ab_mm_have same = member_have(member_own, 2);
    fix_simple(&f, AB_EV_PEER_UP, 2);
    fix_have(&f, 2, AB_MM_FULL, &same, 1);
    ck_assert_ptr_nonnull(fix_action(&f, AB_ACT_APPEND, 0));
    ab_block_info late = fix_info(member_own, 2, 2);
    ck_assert_int_eq(fix_block(&f, AB_EV_LOGGED, 0, &late), AB_OK);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_ACKED, 0)->mark.index, 2);
    ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, 0)->code, AB_EDIVERGED);
}
END_TEST

START_TEST(seal_refuses_what_does_not_follow)
{
    ab_frontier deps;
    ck_assert_int_eq(f.backend->seal(f.core, 2, 2, &deps), AB_EINVAL);
    ck_assert_int_eq(f.backend->seal(f.core, 1, 0, &deps), AB_EINVAL);
    ck_assert_int_eq(f.backend->seal(f.core, 1, 3, &deps), AB_OK);
    ck_assert_int_eq(f.backend->seal(f.core, 4, 4, &deps), AB_OK);
    ck_assert_int_eq(f.backend->seal(f.core, 2, 2, &deps), AB_OK); /* the driver gave up a block */
}
END_TEST

/* Handshake */

START_TEST(full_frontiers_are_exchanged_until_both_have_them)
{
    ab_mm_message message;
    fix_simple(&f, AB_EV_PEER_UP, 2);
    ck_assert(fix_said(&f, 2, AB_MM_HAVE, 0, &message));
    ck_assert_uint_eq(message.flags, AB_MM_FULL | AB_MM_ASK);
    for (unsigned i = 0; i < 4; i++) {
        fix_timer(&f);
        ck_assert(fix_said(&f, 2, AB_MM_HAVE, 0, &message));
        ck_assert_uint_eq(message.flags, AB_MM_FULL | AB_MM_ASK);
    }
    fix_have(&f, 2, AB_MM_FULL | AB_MM_ASK, NULL, 0);
    ck_assert(fix_said(&f, 2, AB_MM_HAVE, 0, &message));
    ck_assert_uint_eq(message.flags, AB_MM_FULL);
    while (f.backend->deadline(f.core) != AB_NEVER) {
        fix_timer(&f);
        ck_assert_uint_eq(fix_count(&f, AB_ACT_MESSAGE), 0);
    }
}
END_TEST

START_TEST(nothing_is_sent_before_the_full_have)
{
    ab_mm_have none = member_have(member_own, 0);
    settle();
    fix_simple(&f, AB_EV_PEER_UP, 2);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    fix_have(&f, 2, 0, &none, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    fix_have(&f, 2, AB_MM_FULL, &none, 1);
    const ab_action *send = fix_action(&f, AB_ACT_SEND, 0);
    ck_assert_ptr_nonnull(send);
    ck_assert_uint_eq(send->mark.index, 1);
    ck_assert_uint_eq(send->blocks, 4);
}
END_TEST

START_TEST(marks_go_back_only_with_a_new_link)
{
    settle();
    ab_mm_have one = member_have(member_own, 1);
    ab_mm_have none = member_have(member_own, 0);
    fix_simple(&f, AB_EV_PEER_UP, 2);
    fix_have(&f, 2, AB_MM_FULL, &one, 1);
    fix_have(&f, 2, AB_MM_FULL, &none, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    fix_simple(&f, AB_EV_PEER_DOWN, 2);
    fix_simple(&f, AB_EV_PEER_UP, 2);
    fix_have(&f, 2, AB_MM_FULL, &none, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 1);
}
END_TEST

START_TEST(broken_messages_drop_the_link)
{
    fix_simple(&f, AB_EV_PEER_UP, 2);
    ck_assert_int_eq(fix_step(&f, &(ab_event){.type = AB_EV_MESSAGE, .peer = 2, .bytes = {"\xc1", 1}}),
                     AB_EPROTO);
    ab_block_info bad = fix_info(member_other, 1, 1);
    bad.last = 0;
    ck_assert_int_eq(fix_block(&f, AB_EV_BLOCK, 2, &bad), AB_EPROTO);
    ab_mm_have last_epoch = member_have((ab_stream){1, UINT32_MAX}, 1);
    ck_assert_int_eq(fix_have(&f, 2, AB_MM_FULL, &last_epoch, 1), AB_EPROTO);
    ck_assert_int_eq(fix_simple(&f, AB_EV_PEER_UP, 77), AB_EINVAL);
}
END_TEST

/* Sending */

START_TEST(the_window_opens_with_confirmations)
{
    member_write(1, 10);
    fix_link(&f, 2);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->blocks, 4);
    fix_sent(&f, 2, member_own, 4, 4, AB_OK);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    ab_mm_have two = member_have(member_own, 2);
    fix_have(&f, 2, 0, &two, 1);
    const ab_action *send = fix_action(&f, AB_ACT_SEND, 0);
    ck_assert_uint_eq(send->mark.index, 5);
    ck_assert_uint_ge(send->blocks, 1);
    ck_assert_uint_le(send->blocks, 2);
    fix_sent(&f, 2, member_own, 6, 2, AB_OK);
    ab_mm_have six = member_have(member_own, 6);
    fix_have(&f, 2, 0, &six, 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->mark.index, 7);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->blocks, 4);
}
END_TEST

START_TEST(one_send_at_a_time)
{
    fix_link(&f, 2);
    member_write(1, 1);
    member_write(2, 5);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    fix_sent(&f, 2, member_own, 1, 1, AB_OK);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->mark.index, 2);
}
END_TEST

START_TEST(silence_is_retried_with_growing_pauses)
{
    fix_link(&f, 2);
    member_write(1, 3);
    uint64_t before = 0;
    fix_sent(&f, 2, member_own, 3, 3, AB_OK);
    for (unsigned i = 0; i < 6; i++) {
        uint64_t from = f.now;
        do {
            fix_timer(&f);
        } while (fix_count(&f, AB_ACT_SEND) == 0);
        ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->mark.index, 1);
        uint64_t pause = f.now - from;
        ck_assert_uint_le(pause, 1000 * FIX_MS);
        if (i < 3) {
            ck_assert_uint_gt(pause, before); /* doubling is more than the jitter of a quarter */
        }
        before = pause;
        fix_sent(&f, 2, member_own, 3, 3, AB_OK);
    }
    ab_mm_have all = member_have(member_own, 3);
    fix_have(&f, 2, 0, &all, 1);
    while (f.backend->deadline(f.core) != AB_NEVER) {
        fix_timer(&f);
        ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    }
}
END_TEST

START_TEST(what_is_accepted_is_not_sent_again)
{
    /* Under `interval` the confirmation takes its time. */
    ab_mm_message message;
    fix_link(&f, 2);
    member_write(1, 3);
    fix_sent(&f, 2, member_own, 3, 3, AB_OK);
    ab_mm_have accepted = {.stream = member_own, .durable = 0, .accepted = 3};
    fix_have(&f, 2, 0, &accepted, 1);
    bool asked = false;
    for (unsigned i = 0; i < 8; i++) {
        fix_timer(&f);
        ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
        asked |= fix_said(&f, 2, AB_MM_HAVE, 0, &message) && (message.flags & AB_MM_ASK) != 0;
    }
    ck_assert(asked);
}
END_TEST

START_TEST(a_burst_of_gap_answers_is_one_resend)
{
    fix_link(&f, 2);
    member_write(1, 4);
    fix_sent(&f, 2, member_own, 4, 4, AB_OK);
    ab_mm_message expect = {.kind = AB_MM_EXPECT, .stream = member_own, .first = 2};
    unsigned sends = 0;
    for (unsigned i = 0; i < 5; i++) {
        fix_message(&f, 2, &expect);
        if (fix_count(&f, AB_ACT_SEND) > 0) {
            sends++;
            ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->mark.index, 2);
            fix_sent(&f, 2, member_own, 4, 3, AB_OK);
        }
    }
    ck_assert_uint_eq(sends, 1);
    expect.first = 9; /* not sent yet */
    fix_message(&f, 2, &expect);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
}
END_TEST

START_TEST(a_full_link_is_tried_again_soon)
{
    fix_link(&f, 2);
    member_write(1, 1);
    fix_sent(&f, 2, member_own, 0, 0, AB_EBUSY);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    uint64_t from = f.now;
    do {
        fix_timer(&f);
    } while (fix_count(&f, AB_ACT_SEND) == 0);
    ck_assert_uint_le(f.now - from, 50 * FIX_MS);
}
END_TEST

START_TEST(an_outcome_from_before_the_link_fell_does_not_count)
{
    member_write(1, 2);
    fix_link(&f, 2);
    fix_simple(&f, AB_EV_PEER_DOWN, 2);
    fix_link(&f, 2);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0); /* still under way */
    fix_sent(&f, 2, member_own, 2, 2, AB_OK);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->mark.index, 1);
}
END_TEST

START_TEST(a_peer_behind_the_trim_is_reported_once)
{
    member_write(1, 2);
    fix_link(&f, 2);
    fix_sent(&f, 2, member_own, 0, 0, AB_ETRIMMED);
    ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, 0)->code, AB_ETRIMMED);
    fix_link(&f, 3);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 1); /* to the other */
    ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->peer, 3);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 0);
}
END_TEST

START_TEST(any_stream_is_served_to_who_asks)
{
    ab_mm_message message;
    fix_link(&f, 2);
    fix_link(&f, 3);
    ab_block_info block = fix_info(member_other, 1, 5);
    fix_block(&f, AB_EV_BLOCK, 2, &block);
    ab_mm_message fetch = {.kind = AB_MM_FETCH, .stream = member_other, .first = 1, .last = 5};
    fix_message(&f, 3, &fetch);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    ck_assert(fix_said(&f, 3, AB_MM_HAVE, 0, &message)); /* pending: this is how far we are */
    fix_block(&f, AB_EV_LOGGED, 0, &block);
    fix_message(&f, 3, &fetch);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_SEND, 0)->mark.index, 1);
    fix_sent(&f, 3, member_other, 0, 0, AB_ETRIMMED);
    ck_assert(fix_said(&f, 3, AB_MM_TRIMMED, 0, &message));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 0); /* the asker tells its operator */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_multimaster");
    MEMBER_ADD("epochs", start_announces_a_new_epoch, epoch_is_kept_only_with_a_safe_tail,
               nothing_of_a_new_epoch_is_shown_before_it_is_kept, a_peer_with_more_of_ours_means_a_lost_tail,
               a_lost_tail_that_is_trimmed_everywhere_is_reported,
               a_block_logged_after_the_switch_is_no_secret, seal_refuses_what_does_not_follow);
    MEMBER_ADD("handshake", full_frontiers_are_exchanged_until_both_have_them,
               nothing_is_sent_before_the_full_have, marks_go_back_only_with_a_new_link,
               broken_messages_drop_the_link);
    MEMBER_ADD("sending", the_window_opens_with_confirmations, one_send_at_a_time,
               silence_is_retried_with_growing_pauses, what_is_accepted_is_not_sent_again,
               a_burst_of_gap_answers_is_one_resend, a_full_link_is_tried_again_soon,
               an_outcome_from_before_the_link_fell_does_not_count, a_peer_behind_the_trim_is_reported_once,
               any_stream_is_served_to_who_asks);
    return test_run(suite);
}
