/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: receiving, order, repair, trimming, reads, status. */
#include "replication/multimaster/mm.h"
#include "tests/support/run.h"
#include "tests/unit/member_fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* Receiving */

START_TEST(blocks_are_logged_once_and_in_order)
{
    ab_mm_message message;
    ab_mm_have said;
    fix_link(&f, 2);
    ab_block_info a = fix_info(member_other, 1, 2);
    ab_block_info b = fix_info(member_other, 3, 5);
    fix_block(&f, AB_EV_BLOCK, 2, &b);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    ck_assert(fix_said(&f, 2, AB_MM_EXPECT, 0, &message));
    ck_assert_uint_eq(message.first, 1);
    fix_block(&f, AB_EV_BLOCK, 2, &a);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_LOG, 0)->token, 2);
    fix_block(&f, AB_EV_BLOCK, 2, &a);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    fix_block(&f, AB_EV_BLOCK, 2, &b);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    fix_block(&f, AB_EV_LOGGED, 0, &a);
    ck_assert(!fix_said_have(&f, 2, member_other, &said));
    fix_block(&f, AB_EV_LOGGED, 0, &b);
    fix_mark(&f, AB_EV_DURABLE, member_other, 5);
    ck_assert(fix_said_have(&f, 2, member_other, &said));
    ck_assert_uint_eq(said.durable, 5);
    ck_assert_uint_eq(said.hash, b.hash);
    fix_block(&f, AB_EV_BLOCK, 2, &a); /* again: the confirmation may have been lost */
    ck_assert(fix_said_have(&f, 2, member_other, &said));
}
END_TEST

START_TEST(another_history_is_never_merged)
{
    ab_mm_message message;
    fix_link(&f, 2);
    ab_block_info a = fix_info(member_other, 1, 2);
    ab_block_info b = fix_info(member_other, 3, 5);
    b.prev_hash++;
    fix_block(&f, AB_EV_BLOCK, 2, &a);
    fix_block(&f, AB_EV_BLOCK, 2, &b);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    fix_timer(&f);
    fix_block(&f, AB_EV_BLOCK, 2, &b);
    ck_assert(fix_said(&f, 2, AB_MM_DIVERGED, 0, &message));
    ab_block_info good = fix_info(member_other, 3, 5);
    fix_block(&f, AB_EV_BLOCK, 2, &good);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    ab_block_info elsewhere = fix_info((ab_stream){2, 8}, 1, 1);
    fix_block(&f, AB_EV_BLOCK, 2, &elsewhere); /* everything else goes on */
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
}
END_TEST

START_TEST(divergence_shows_at_the_handshake)
{
    member_write(1, 2);
    ab_mm_have same_index = member_have(member_own, 2);
    same_index.hash = 12345;
    fix_simple(&f, AB_EV_PEER_UP, 2);
    fix_have(&f, 2, AB_MM_FULL, &same_index, 1);
    ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, 1)->code, AB_EDIVERGED);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPEND, 0)->mark.stream.epoch, FIX_WALL + 1);
}
END_TEST

/* Order */

START_TEST(a_block_waits_for_what_it_depends_on)
{
    const ab_mark dep = {member_third, 2};
    fix_link(&f, 2);
    fix_link(&f, 3);
    member_log(member_other, 1, 1, &dep, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0);
    member_log(member_third, 1, 1, NULL, 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    member_log(member_third, 2, 2, NULL, 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 2);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->mark.stream.node, 3);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 1)->mark.stream.node, 2);
}
END_TEST

START_TEST(arrival_order_does_not_wait)
{
    fixture g;
    const ab_mark dep = {member_third, 2};
    ab_core_init init = fix_init(1);
    init.apply_order = AB_APPLY_ARRIVAL;
    fix_open(&g, &ab_backend_multimaster, &init);
    fix_simple(&g, AB_EV_START, 0);
    fix_link(&g, 2);
    ab_block_info info = fix_info(member_other, 1, 1);
    info.deps = &dep;
    info.dep_count = 1;
    fix_block(&g, AB_EV_BLOCK, 2, &info);
    fix_block(&g, AB_EV_LOGGED, 0, &info);
    fix_mark(&g, AB_EV_DURABLE, member_other, 1);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_APPLY), 1);
    fix_close(&g);
}
END_TEST

START_TEST(an_ended_stream_is_not_waited_for_beyond_its_end)
{
    const ab_mark dep = {{3, 7}, 9};
    fix_link(&f, 2);
    fix_link(&f, 3);
    member_log(member_other, 1, 1, &dep, 1);
    member_log(member_third, 1, 4, NULL, 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    ab_mm_have end = {.stream = member_third, .durable = 4, .accepted = 4, .flags = AB_MM_ENDED};
    fix_have(&f, 2, 0, &end, 1); /* not its origin: means nothing */
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0);
    fix_have(&f, 3, 0, &end, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
}
END_TEST

START_TEST(nothing_is_applied_before_it_is_durable)
{
    fix_link(&f, 2);
    ab_block_info info = fix_info(member_other, 1, 1);
    fix_block(&f, AB_EV_BLOCK, 2, &info);
    fix_block(&f, AB_EV_LOGGED, 0, &info);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0);
    fix_mark(&f, AB_EV_DURABLE, member_other, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
}
END_TEST

START_TEST(a_stuck_state_machine_costs_bounded_memory)
{
    size_t given = 0;
    size_t loads = 0;
    fix_link(&f, 2);
    for (uint64_t i = 1; i <= 1000; i++) {
        ab_block_info info = fix_info(member_other, i, i);
        fix_block(&f, AB_EV_BLOCK, 2, &info);
        fix_block(&f, AB_EV_LOGGED, 0, &info);
        fix_mark(&f, AB_EV_DURABLE, member_other, i);
        given += fix_count(&f, AB_ACT_APPLY);
        loads += fix_count(&f, AB_ACT_LOAD);
    }
    ck_assert_uint_eq(given, 32);
    ck_assert_uint_eq(loads, 0);
    /* It goes on: what was not held is read back. */
    uint64_t applied = 0;
    while (applied < 1000) {
        fix_mark(&f, AB_EV_APPLIED, member_other, ++applied);
        const ab_action *load = fix_action(&f, AB_ACT_LOAD, 0);
        if (load != NULL) {
            static ab_block_info infos[64];
            ab_mark from = load->mark;
            size_t count = 0;
            while (count < 64 && from.index + count <= 1000) {
                infos[count] = fix_info(member_other, from.index + count, from.index + count);
                count++;
            }
            fix_step(&f,
                     &(ab_event){.type = AB_EV_LOADED, .mark = from, .blocks = infos, .block_count = count});
            loads++;
        }
    }
    ck_assert_uint_ge(loads, 10);
}
END_TEST

START_TEST(what_the_state_machine_has_is_not_given_again)
{
    fixture g;
    const ab_mark applied[] = {{{2, 7}, 3}};
    ab_core_init init = fix_init(1);
    init.applied = (ab_frontier){applied, 1};
    fix_open(&g, &ab_backend_multimaster, &init);
    fix_simple(&g, AB_EV_START, 0);
    fix_link(&g, 2);
    for (uint64_t i = 1; i <= 2; i++) {
        ab_block_info info = fix_info(member_other, 2 * i - 1, 2 * i);
        fix_block(&g, AB_EV_BLOCK, 2, &info);
        fix_block(&g, AB_EV_LOGGED, 0, &info);
        fix_mark(&g, AB_EV_DURABLE, member_other, 2 * i);
    }
    /* The second block is half applied. */
    ck_assert_uint_eq(fix_count(&g, AB_ACT_APPLY), 1);
    ck_assert_uint_eq(fix_action(&g, AB_ACT_APPLY, 0)->first, 4);
    fix_close(&g);
}
END_TEST

START_TEST(sealed_blocks_carry_what_was_applied)
{
    ab_frontier deps;
    fix_link(&f, 2);
    member_log(member_other, 1, 3, NULL, 0);
    member_log(member_other, 4, 6, NULL, 0);
    ck_assert_int_eq(f.backend->seal(f.core, 1, 1, &deps), AB_OK);
    ck_assert_uint_eq(deps.count, 1); /* the block that is being applied: a query may have seen part of it */
    ck_assert_uint_eq(deps.marks[0].index, 3);
    fix_mark(&f, AB_EV_APPLIED, member_other, 3);
    fix_mark(&f, AB_EV_APPLIED, member_other, 6);
    ck_assert_int_eq(f.backend->seal(f.core, 2, 2, &deps), AB_OK);
    ck_assert_uint_eq(deps.count, 1);
    ck_assert_uint_eq(deps.marks[0].index, 6);
    ck_assert_int_eq(f.backend->seal(f.core, 3, 3, &deps), AB_OK);
    ck_assert_uint_eq(deps.count, 0); /* carried already */
}
END_TEST

/* Repair */

START_TEST(a_damaged_block_is_repaired_only_by_itself)
{
    ab_mm_message message;
    fix_simple(&f, AB_EV_PEER_UP, 2);
    ab_mm_have all = member_have(member_other, 6);
    fix_have(&f, 2, AB_MM_FULL, &all, 1);
    member_log(member_other, 1, 2, NULL, 0);
    member_log(member_other, 3, 4, NULL, 0);
    member_log(member_other, 5, 6, NULL, 0);
    ab_block_info damaged = fix_info(member_other, 3, 4);
    fix_block(&f, AB_EV_BAD, 0, &damaged);
    ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, 0)->code, AB_ECORRUPT);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_LOAD, 0)->mark.index, 5);
    fix_block(&f, AB_EV_BAD, 0, &damaged);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 0);
    ab_block_info next = fix_info(member_other, 5, 6);
    fix_step(&f,
             &(ab_event){.type = AB_EV_LOADED, .mark = {member_other, 5}, .blocks = &next, .block_count = 1});
    ck_assert(fix_said(&f, 2, AB_MM_FETCH, 0, &message));
    ck_assert_uint_eq(message.first, 3);
    ck_assert_uint_eq(message.last, 4);
    ab_block_info wrong = damaged;
    wrong.hash++;
    fix_block(&f, AB_EV_BLOCK, 2, &wrong);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPAIR), 0);
    fix_block(&f, AB_EV_BLOCK, 2, &damaged);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_REPAIR, 0)->token, 4);
    fix_block(&f, AB_EV_REPAIRED, 0, &damaged);
    f.now += 100000 * FIX_MS;
    fix_simple(&f, AB_EV_TIMER, 0);
    ck_assert(!fix_said(&f, 2, AB_MM_FETCH, 0, &message));
}
END_TEST

START_TEST(a_damaged_block_stops_its_stream_only)
{
    fixture g;
    const ab_stream_state log[] = {{.stream = {2, 7}, .last = 4, .last_hash = 2007004},
                                   {.stream = {3, 7}, .last = 1, .last_hash = 3007001}};
    ab_core_init init = fix_init(1);
    init.streams = log;
    init.stream_count = 2;
    fix_open(&g, &ab_backend_multimaster, &init);
    fix_simple(&g, AB_EV_START, 0);
    ck_assert_uint_eq(fix_count(&g, AB_ACT_LOAD), 2);
    ab_block_info damaged = fix_info(member_other, 1, 2);
    fix_block(&g, AB_EV_BAD, 0, &damaged);
    fix_step(&g, &(ab_event){.type = AB_EV_LOADED, .mark = {member_other, 1}});
    ab_block_info fine = fix_info(member_third, 1, 1);
    fix_step(&g,
             &(ab_event){.type = AB_EV_LOADED, .mark = {member_third, 1}, .blocks = &fine, .block_count = 1});
    ck_assert_uint_eq(fix_count(&g, AB_ACT_APPLY), 1);
    ck_assert_uint_eq(fix_action(&g, AB_ACT_APPLY, 0)->mark.stream.node, 3);
    fix_block(&g, AB_EV_REPAIRED, 0, &damaged);
    ck_assert_uint_eq(fix_action(&g, AB_ACT_LOAD, 0)->mark.index, 1);
    fix_close(&g);
}
END_TEST

/* Trimming, reads, status */

START_TEST(trim_waits_for_every_member_and_the_state_machine)
{
    fix_link(&f, 2);
    fix_link(&f, 3);
    member_write(1, 4);
    ab_mm_have four = member_have(member_own, 4);
    const ab_mark applied = {member_own, 3};
    fix_have(&f, 2, 0, &four, 1);
    fix_step(&f, &(ab_event){.type = AB_EV_CHECKPOINTED, .frontier = {&applied, 1}});
    f.now += 1000 * FIX_MS;
    fix_simple(&f, AB_EV_TIMER, 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_TRIM), 0);
    ab_mm_have two = member_have(member_own, 2);
    fix_have(&f, 3, 0, &two, 1);
    f.now += 1000 * FIX_MS;
    fix_simple(&f, AB_EV_TIMER, 0);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_TRIM, 0)->mark.index, 2);
    fix_have(&f, 3, 0, &four, 1);
    f.now += 1000 * FIX_MS;
    fix_simple(&f, AB_EV_TIMER, 0);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_TRIM, 0)->mark.index, 3);
}
END_TEST

static int read_at(ab_read_level level, const ab_mark *token, size_t count, uint64_t ticket, uint64_t timeout)
{
    return fix_step(&f, &(ab_event){.type = AB_EV_READ,
                                    .ticket = ticket,
                                    .read_level = level,
                                    .frontier = {token, count},
                                    .timeout_ns = timeout});
}

START_TEST(reads_wait_for_their_token)
{
    const ab_mark token = {member_other, 2};
    fix_link(&f, 2);
    read_at(AB_READ_WEAK, NULL, 0, 1, AB_NEVER);
    ck_assert_int_eq(fix_action(&f, AB_ACT_READ_DONE, 0)->code, AB_OK);
    read_at(AB_READ_STRONG, NULL, 0, 2, AB_NEVER);
    ck_assert_int_eq(fix_action(&f, AB_ACT_READ_DONE, 0)->code, AB_EUNSUPPORTED);
    read_at(AB_READ_SESSION, &token, 1, 3, AB_NEVER);
    read_at(AB_READ_SESSION, &token, 1, 4, 50 * FIX_MS);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_READ_DONE), 0);
    f.now += 50 * FIX_MS;
    fix_simple(&f, AB_EV_TIMER, 0);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_READ_DONE, 0)->ticket, 4);
    ck_assert_int_eq(fix_action(&f, AB_ACT_READ_DONE, 0)->code, AB_ETIMEDOUT);
    member_log(member_other, 1, 2, NULL, 0);
    fix_mark(&f, AB_EV_APPLIED, member_other, 2);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_READ_DONE, 0)->ticket, 3);
    ck_assert_int_eq(fix_action(&f, AB_ACT_READ_DONE, 0)->code, AB_OK);
}
END_TEST

static bool count_stream(void *arg, const ab_stream_status *status)
{
    unsigned *count = arg;
    ck_assert_int_eq(status->code, AB_OK);
    return ++*count < 2;
}

static bool check_peer(void *arg, const ab_peer_status *status)
{
    unsigned *count = arg;
    if (status->peer == 2 && status->stream.node == 1) {
        ck_assert_uint_eq(status->in_flight_blocks, 3);
        ck_assert_uint_eq(status->next, 4);
        ck_assert_uint_eq(status->sync_index, 0);
        ck_assert(status->up);
    }
    return ++*count > 0;
}

/* A full HAVE that names `count` streams of member 3, each with so many entries. @return the step's code */
static int name_many(uint32_t count, uint64_t entries)
{
    uint8_t *data = malloc(AB_MM_MESSAGE_BYTES + (size_t)count * AB_MM_HAVE_BYTES);
    ck_assert_ptr_nonnull(data);
    size_t size = ab_mm_encode_have_begin(AB_MM_FULL, count, false, data);
    for (uint32_t epoch = 1; epoch <= count; epoch++) {
        ab_mm_have have = member_have((ab_stream){3, epoch}, entries);
        size += ab_mm_encode_have(&have, data + size);
    }
    int code = fix_step(&f, &(ab_event){.type = AB_EV_MESSAGE, .peer = 2, .bytes = {data, size}});
    free(data);
    return code;
}

static void name_again(uint32_t count)
{
    fix_simple(&f, AB_EV_PEER_UP, 2);
    ck_assert_int_eq(name_many(count, 1), AB_OK);
    ck_assert_int_eq(name_many(count, 1), AB_OK);
    ck_assert_int_eq(name_many(count, 2), AB_OK);
    const ab_mm_peer *peer = &((const ab_mm *)f.core)->peers[0];
    ck_assert_uint_eq(peer->marks.count, count);
    for (uint32_t epoch = 1; epoch <= count; epoch++) {
        ck_assert_uint_eq(ab_marks_get(&peer->marks, (ab_stream){3, epoch}), 2);
    }
}

/* As many streams as a group takes may be named, and named again: they are the same ones. */
START_TEST(all_streams_may_be_named_again)
{
    name_again(AB_MARKS_MAX / 2 + 1);
    fix_simple(&f, AB_EV_PEER_DOWN, 2);
    name_again(AB_MARKS_MAX);
    ck_assert_int_eq(name_many(AB_MARKS_MAX + 1, 2), AB_EPROTO);
}
END_TEST

START_TEST(status_shows_streams_and_peers)
{
    unsigned seen = 0;
    fix_link(&f, 2);
    member_write(1, 3);
    fix_sent(&f, 2, member_own, 3, 3, AB_OK);
    member_log(member_other, 1, 2, NULL, 0);
    f.backend->streams(f.core, count_stream, &seen);
    ck_assert_uint_eq(seen, 2);
    seen = 0;
    f.backend->peers(f.core, check_peer, &seen);
    ck_assert_uint_eq(seen, 4); /* two peers, two streams */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_receive");
    MEMBER_ADD("receiving", blocks_are_logged_once_and_in_order, another_history_is_never_merged,
               divergence_shows_at_the_handshake);
    MEMBER_ADD("order", a_block_waits_for_what_it_depends_on, arrival_order_does_not_wait,
               an_ended_stream_is_not_waited_for_beyond_its_end, nothing_is_applied_before_it_is_durable,
               a_stuck_state_machine_costs_bounded_memory, what_the_state_machine_has_is_not_given_again,
               sealed_blocks_carry_what_was_applied);
    MEMBER_ADD("repair", a_damaged_block_is_repaired_only_by_itself, a_damaged_block_stops_its_stream_only);
    MEMBER_ADD("rest", trim_waits_for_every_member_and_the_state_machine, reads_wait_for_their_token,
               all_streams_may_be_named_again, status_shows_streams_and_peers);
    return test_run(suite);
}
