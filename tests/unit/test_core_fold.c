/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: old streams that are over everywhere are folded away. */
#include "replication/folds.h"
#include "tests/support/alloc_fail.h"
#include "tests/unit/core_fixture.h"
#include "wal/block.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* What the core finds: old streams of its own, and of node 2. */
#define OLD 100u
static const ab_stream old_own = {1, OLD};
static const ab_stream first = {2, 7};
static const ab_stream second = {2, 8};
static const ab_stream current = {2, 9};

static fixture f;

static ab_stream_state logged(ab_stream stream, uint64_t last)
{
    uint64_t hash = fix_info(stream, last, last).hash;
    return (ab_stream_state){
        .stream = stream, .base = last, .base_hash = hash, .last = last, .last_hash = hash};
}

/* A start in doubt, so that old epochs are left for good; the streams are trimmed and the state machine has them. */
static void open_with(const ab_stream_state *streams, size_t count, const ab_state_value *state,
                      size_t states)
{
    ab_mark marks[8];
    for (size_t i = 0; i < count; i++) {
        marks[i] = (ab_mark){streams[i].stream, streams[i].last};
    }
    ab_core_init init = fix_init(1);
    init.tail_safe = false;
    init.streams = streams;
    init.stream_count = count;
    init.applied = (ab_frontier){marks, count};
    init.state = state;
    init.state_count = states;
    fix_open(&f, &ab_backend_multimaster, &init);
    ck_assert_int_eq(fix_simple(&f, AB_EV_START, 0), AB_OK);
}

static void open_all(void)
{
    const ab_stream_state streams[] = {logged(old_own, 3), logged(first, 5), logged(second, 2)};
    open_with(streams, 3, NULL, 0);
}

static void close_it(void)
{
    fix_close(&f);
}

static ab_mm_have over(ab_stream stream, uint64_t end, uint32_t flags)
{
    return (ab_mm_have){.stream = stream,
                        .durable = end,
                        .hash = fix_info(stream, end, end).hash,
                        .accepted = end,
                        .flags = AB_MM_OVER | flags};
}

/* A message with streams and one fold. */
static void give(uint32_t peer, uint32_t flags, const ab_mm_have *haves, uint32_t count,
                 const ab_mm_folded *fold)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + 8 * AB_MM_HAVE_BYTES + AB_MM_FOLDED_BYTES];
    size_t size = ab_mm_encode_have_begin(flags, count, fold != NULL, data);
    for (uint32_t i = 0; i < count; i++) {
        size += ab_mm_encode_have(&haves[i], data + size);
    }
    if (fold != NULL) {
        size += ab_mm_encode_folds_begin(1, data + size);
        size += ab_mm_encode_folded(fold, data + size);
    }
    ck_assert_int_eq(fix_step(&f, &(ab_event){.type = AB_EV_MESSAGE, .peer = peer, .bytes = {data, size}}),
                     AB_OK);
}

static void link_with(uint32_t peer, const ab_mm_have *haves, uint32_t count, const ab_mm_folded *fold)
{
    ck_assert_int_eq(fix_simple(&f, AB_EV_PEER_UP, peer), AB_OK);
    give(peer, AB_MM_FULL, haves, count, fold);
}

/* Lets time pass until the core wants nothing, at most `ms`; notes what is forgotten. */
static ab_stream forgotten[8];
static uint64_t kept_from[8];
static size_t forgotten_count;

static void note_forgotten(void)
{
    const ab_action *action;
    for (size_t i = 0; (action = fix_action(&f, AB_ACT_FORGET, i)) != NULL && forgotten_count < 8; i++) {
        kept_from[forgotten_count] = action->first;
        forgotten[forgotten_count++] = action->mark.stream;
    }
}

static void pass(uint64_t ms)
{
    uint64_t until = f.now + ms * FIX_MS;
    forgotten_count = 0;
    note_forgotten();
    while (f.backend->deadline(f.core) <= until) {
        fix_timer(&f);
        note_forgotten();
    }
    f.now = until;
}

static bool said_folded(uint32_t peer, uint32_t node, ab_mm_folded *said)
{
    ab_mm_message message;
    for (size_t n = 0; fix_said(&f, peer, AB_MM_HAVE, n, &message); n++) {
        size_t offset = 0;
        while (ab_mm_next_folded(&message, &offset, said)) {
            if (said->node == node) {
                return true;
            }
        }
    }
    return false;
}

static bool read_done(ab_mark token)
{
    ab_event read = {.type = AB_EV_READ,
                     .ticket = 77,
                     .read_level = AB_READ_SESSION,
                     .frontier = {&token, 1},
                     .timeout_ns = AB_NEVER};
    ck_assert_int_eq(fix_step(&f, &read), AB_OK);
    return fix_count(&f, AB_ACT_READ_DONE) == 1;
}

static bool knows(ab_stream stream);

static bool look_for(void *arg, const ab_stream_status *status)
{
    ab_stream *wanted = arg;
    if (ab_stream_compare(status->stream, *wanted) == 0) {
        wanted->node = 0; /* found */
    }
    return true;
}

static bool knows(ab_stream stream)
{
    f.backend->streams(f.core, look_for, &stream);
    return stream.node == 0;
}

/* Folding */

START_TEST(folded_when_over_everywhere)
{
    const ab_mm_have all[] = {over(old_own, 3, 0), over(first, 5, 0)};
    ab_mm_have said;
    link_with(2, all, 2, NULL);
    pass(100);
    ck_assert_uint_eq(forgotten_count, 0); /* member 3 was not heard */
    link_with(3, all, 1, NULL);
    pass(100);
    ck_assert_uint_eq(forgotten_count, 1);
    ck_assert_uint_eq(forgotten[0].node, 1);
    ck_assert_uint_eq(kept_from[0], OLD);
    ck_assert(!knows(old_own));
    ck_assert(knows(first));
    give(3, 0, &all[1], 1, NULL);
    ck_assert(!fix_said_have(&f, 3, old_own, &said));
    pass(100);
    ck_assert_uint_eq(forgotten_count, 1);
    ck_assert_uint_eq(forgotten[0].epoch, 7);
    ck_assert(!knows(first));
    ck_assert(knows(second)); /* nobody said that it is over */
}
END_TEST

START_TEST(kept_before_it_is_forgotten)
{
    const ab_mm_have all[] = {over(old_own, 3, 0)};
    link_with(2, all, 1, NULL);
    link_with(3, all, 1, NULL);
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
    const ab_mm_have younger[] = {over(second, 2, 0)};
    ab_mm_have said;
    link_with(2, younger, 1, NULL);
    link_with(3, younger, 1, NULL);
    pass(100);
    ck_assert_uint_eq(forgotten_count, 0);
    ck_assert(knows(second));
    const ab_mm_have older[] = {over(first, 5, 0)};
    give(2, 0, older, 1, NULL);
    give(3, 0, older, 1, NULL);
    pass(100);
    ck_assert_uint_eq(forgotten_count, 2);
    ck_assert_uint_eq(forgotten[0].epoch, 7);
    ck_assert_uint_eq(forgotten[1].epoch, 8);
    ck_assert_uint_eq(kept_from[1], 8);
    ck_assert(!fix_said_have(&f, 2, second, &said));
}
END_TEST

START_TEST(the_origin_first)
{
    /* Member 3 says that a stream of 2 is over, 2 itself only where it ended: then it may still choose the epoch again. */
    ab_mm_have ended = {.stream = first, .durable = 5, .accepted = 5, .flags = AB_MM_ENDED};
    ab_mm_have said = {.flags = 0};
    link_with(2, &ended, 1, NULL);
    ck_assert_int_eq(fix_simple(&f, AB_EV_PEER_UP, 3), AB_OK);
    give(3, AB_MM_FULL | AB_MM_ASK, NULL, 0, NULL);
    pass(200);
    give(3, AB_MM_ASK, NULL, 0, NULL);
    ck_assert(fix_said_have(&f, 3, first, &said));
    ck_assert_uint_eq(said.flags & AB_MM_OVER, 0);
    const ab_mm_have done[] = {over(first, 5, AB_MM_ENDED)};
    give(2, 0, done, 1, NULL);
    pass(200);
    give(3, AB_MM_ASK, NULL, 0, NULL);
    ck_assert(fix_said_have(&f, 3, first, &said));
    ck_assert_uint_eq(said.flags & AB_MM_OVER, AB_MM_OVER);
}
END_TEST

START_TEST(not_before_the_state_machine_has_it)
{
    close_it();
    const ab_stream_state log[] = {logged(first, 5)};
    ab_core_init init = fix_init(1);
    const ab_mark some = {first, 3};
    const ab_mark all = {first, 5};
    ab_stream_state untrimmed = log[0];
    untrimmed.base = 0;
    untrimmed.base_hash = 0;
    init.tail_safe = false;
    init.streams = &untrimmed;
    init.stream_count = 1;
    init.applied = (ab_frontier){&some, 1};
    fix_open(&f, &ab_backend_multimaster, &init);
    fix_simple(&f, AB_EV_START, 0);
    const ab_mm_have done[] = {over(first, 5, 0)};
    link_with(2, done, 1, NULL);
    link_with(3, done, 1, NULL);
    pass(100);
    ck_assert_uint_eq(forgotten_count, 0);
    const ab_block_info info = fix_info(first, 4, 5);
    fix_step(&f, &(ab_event){.type = AB_EV_LOADED, .mark = {first, 4}, .blocks = &info, .block_count = 1});
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    fix_mark(&f, AB_EV_APPLIED, first, 5);
    pass(100);
    ck_assert_uint_eq(forgotten_count, 0);
    fix_step(&f, &(ab_event){.type = AB_EV_CHECKPOINTED, .frontier = {&all, 1}});
    pass(100);
    ck_assert_uint_eq(forgotten_count, 1);
}
END_TEST

START_TEST(told_until_it_is_known)
{
    ab_mm_have said = {.flags = 0};
    unsigned times = 0;
    const ab_mm_have done[] = {over(old_own, 3, 0)};
    const ab_mm_have has[] = {{.stream = old_own, .durable = 3, .accepted = 3}};
    link_with(2, has, 1, NULL);
    link_with(3, done, 1, NULL); /* every member was heard: our old stream has ended */
    for (unsigned i = 0; i < 20 && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
        times += fix_said_have(&f, 2, old_own, &said) && (said.flags & AB_MM_TELL) != 0;
    }
    ck_assert_uint_ge(times, 5);
    ck_assert_uint_eq(said.flags, AB_MM_ENDED | AB_MM_OVER | AB_MM_TELL);
    ab_mm_have seen[] = {{.stream = old_own, .flags = AB_MM_SEEN}};
    give(2, 0, seen, 1, NULL);
    give(3, 0, (ab_mm_have[]){over(old_own, 3, AB_MM_SEEN)}, 1, NULL);
    pass(5000);
    ck_assert_uint_eq(f.backend->deadline(f.core), AB_NEVER);
    /* Who asks is answered, and says so itself. */
    give(2, 0, (ab_mm_have[]){over(old_own, 3, AB_MM_TELL | AB_MM_SEEN)}, 1, NULL);
    ck_assert(fix_said_have(&f, 2, old_own, &said));
    ck_assert_uint_eq(said.flags, AB_MM_ENDED | AB_MM_OVER | AB_MM_SEEN);
    pass(5000);
    ck_assert_uint_eq(forgotten_count, 1);
    ck_assert_uint_eq(f.backend->deadline(f.core), AB_NEVER);
}
END_TEST

static ab_fold fold_of(uint32_t node, const ab_stream_state *streams, size_t count)
{
    ab_fold fold = {.node = node};
    for (size_t i = 0; i < count; i++) {
        ab_fold_add(&fold, streams[i].stream.epoch, streams[i].last, streams[i].last_hash);
    }
    return fold;
}

static ab_mm_folded folded_of(uint32_t node, const ab_stream_state *streams, size_t count)
{
    ab_fold fold = fold_of(node, streams, count);
    return (ab_mm_folded){.node = node, .epoch = fold.epoch, .total = fold.total, .hash = fold.hash};
}

/* What a core that folded both streams of node 2 asks to be kept. */
static uint8_t stored[AB_FOLD_BYTES];

static ab_state_value state_of_both(void)
{
    const ab_stream_state streams[] = {logged(first, 5), logged(second, 2)};
    ab_fold fold = fold_of(2, streams, 2);
    ab_actions actions = {0};
    ck_assert_int_eq(ab_fold_push(&fold, &actions), AB_OK);
    memcpy(stored, ab_actions_at(&actions, 0)->data.data, sizeof stored);
    ab_actions_free(&actions);
    return (ab_state_value){{"folded/2", 8}, {stored, sizeof stored}};
}

/* A start with both streams of node 2 folded, of which log and state machine still have `count`. */
static void open_folded(size_t count, size_t marks)
{
    static ab_stream_state streams[2];
    static ab_mark applied[2];
    static ab_state_value state;
    state = state_of_both();
    streams[0] = logged(first, 5);
    streams[1] = logged(second, 2);
    applied[0] = (ab_mark){first, 5};
    applied[1] = (ab_mark){second, 2};
    close_it();
    ab_core_init init = fix_init(1);
    init.streams = streams + 2 - count;
    init.stream_count = count;
    init.applied = (ab_frontier){applied + 2 - marks, marks};
    init.state = &state;
    init.state_count = 1;
    fix_open(&f, &ab_backend_multimaster, &init);
    ck_assert_int_eq(fix_simple(&f, AB_EV_START, 0), AB_OK);
    forgotten_count = 0;
    note_forgotten();
}

START_TEST(a_restart_forgets_what_is_left)
{
    open_folded(2, 2); /* nothing was forgotten yet */
    ck_assert_uint_eq(forgotten_count, 2);
    ck_assert(!knows(first) && !knows(second));
    open_folded(1, 2); /* the first was */
    ck_assert_uint_eq(forgotten_count, 1);
    ck_assert_uint_eq(forgotten[0].epoch, 8);
    open_folded(0, 2); /* both, but the state machine stored its frontier before */
    ck_assert_uint_eq(forgotten_count, 1);
    ck_assert_uint_eq(kept_from[0], 8);
    open_folded(0, 1);
    ck_assert_uint_eq(forgotten_count, 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 0);
    open_folded(0, 0); /* the state machine lost its data */
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 1);
    ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, 0)->code, AB_ETRIMMED);
    ck_assert(!read_done((ab_mark){second, 1}));
}
END_TEST

START_TEST(broken_records_are_refused)
{
    ab_state_value state = state_of_both();
    ab_core_init init = fix_init(1);
    void *core = NULL;
    init.state = &state;
    init.state_count = 1;
    state.value.size--;
    ck_assert_int_eq(ab_backend_multimaster.create(&init, &core), AB_ECORRUPT);
    state = state_of_both();
    state.key = (ab_bytes){"folded/x", 8};
    ck_assert_int_eq(ab_backend_multimaster.create(&init, &core), AB_ECORRUPT);
    state.key = (ab_bytes){"folded/99999999999", 18};
    ck_assert_int_eq(ab_backend_multimaster.create(&init, &core), AB_ECORRUPT);
    state = state_of_both();
    memset(stored, 0, 4);
    ck_assert_int_eq(ab_backend_multimaster.create(&init, &core), AB_ECORRUPT);
}
END_TEST

START_TEST(tokens_of_folded_streams_hold)
{
    open_folded(0, 1);
    ck_assert(read_done((ab_mark){first, 5}));
    ck_assert(read_done((ab_mark){second, 2}));
    ck_assert(!read_done((ab_mark){second, 3})); /* of what was lost nobody has anything */
    ck_assert(!read_done((ab_mark){current, 1}));
}
END_TEST

START_TEST(dependencies_on_folded_streams_hold)
{
    open_folded(0, 1);
    const ab_mark deps[] = {{first, 5}, {second, 4}};
    ab_block_info block = fix_info(current, 1, 1);
    block.deps = deps;
    block.dep_count = 2;
    fix_link(&f, 2);
    fix_block(&f, AB_EV_BLOCK, 2, &block);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    fix_block(&f, AB_EV_LOGGED, 0, &block);
    fix_mark(&f, AB_EV_DURABLE, current, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    ck_assert(!knows(first) && !knows(second));
}
END_TEST

START_TEST(late_blocks_and_questions_are_answered)
{
    ab_mm_folded said;
    open_folded(0, 1);
    fix_link(&f, 2);
    ab_block_info late = fix_info(second, 1, 2);
    fix_block(&f, AB_EV_BLOCK, 2, &late);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    ck_assert(said_folded(2, 2, &said));
    ck_assert_uint_eq(said.epoch, 8);
    ck_assert_uint_eq(said.total, 7);
    ab_mm_message fetch = {.kind = AB_MM_FETCH, .stream = first, .first = 1, .last = 5};
    fix_message(&f, 2, &fetch);
    ck_assert(said_folded(2, 2, &said));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_SEND), 0);
    give(2, 0, (ab_mm_have[]){over(second, 2, AB_MM_TELL)}, 1, NULL);
    ck_assert(said_folded(2, 2, &said));
    ck_assert(!knows(second));
    /* The driver may be late with answers, too. */
    ck_assert_int_eq(fix_step(&f, &(ab_event){.type = AB_EV_LOADED, .mark = {second, 1}}), AB_OK);
    ck_assert_int_eq(fix_mark(&f, AB_EV_DURABLE, second, 2), AB_OK);
    ck_assert_int_eq(fix_sent(&f, 2, second, 2, 1, AB_OK), AB_OK);
    ck_assert_int_eq(fix_mark(&f, AB_EV_DURABLE, (ab_stream){2, 99}, 2), AB_EINVAL);
}
END_TEST

START_TEST(folded_epochs_are_not_chosen_again)
{
    uint8_t value[AB_FOLD_BYTES];
    const ab_stream_state streams[] = {logged((ab_stream){1, 9000}, 5)};
    ab_fold fold = fold_of(1, streams, 1);
    ab_actions actions = {0};
    ck_assert_int_eq(ab_fold_push(&fold, &actions), AB_OK);
    memcpy(value, ab_actions_at(&actions, 0)->data.data, sizeof value);
    ab_actions_free(&actions);
    const uint8_t epoch[4] = {9000 & 0xff, 9000 >> 8, 0, 0};
    const ab_state_value state[] = {{{"epoch", 5}, {epoch, 4}}, {{"folded/1", 8}, {value, sizeof value}}};
    const ab_mark applied = {{1, 9000}, 5};
    close_it();
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
    const ab_stream_state streams[] = {logged(first, 5), logged(second, 2)};
    ab_mm_folded folded = folded_of(2, streams, 2);
    ab_mm_folded said;
    link_with(2, NULL, 0, &folded);
    link_with(3, NULL, 0, &folded);
    pass(500);
    ck_assert_uint_eq(forgotten_count, 2);
    ck_assert(!knows(first) && !knows(second));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REPORT), 0);
    folded.flags = AB_MM_TELL;
    give(2, 0, NULL, 0, &folded);
    ck_assert(said_folded(2, 2, &said));
    ck_assert_uint_eq(said.epoch, 8);
    ck_assert_uint_eq(said.heard, 8);
    ck_assert_uint_eq(said.total, folded.total);
    ck_assert_uint_eq(said.hash, folded.hash);
}
END_TEST

START_TEST(a_lost_disk_needs_a_snapshot)
{
    close_it();
    open_with(NULL, 0, NULL, 0);
    const ab_stream_state streams[] = {logged(first, 5), logged(second, 2)};
    ab_mm_folded folded = folded_of(2, streams, 2);
    unsigned reports = 0;
    link_with(3, NULL, 0, &folded);
    link_with(2, NULL, 0, &folded);
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
    ab_block_info block = fix_info(current, 1, 1);
    fix_block(&f, AB_EV_BLOCK, 2, &block);
    fix_block(&f, AB_EV_LOGGED, 0, &block);
    fix_mark(&f, AB_EV_DURABLE, current, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
}
END_TEST

START_TEST(another_history_is_reported)
{
    const ab_stream_state streams[] = {logged(first, 5), logged(second, 2)};
    ab_mm_folded folded = folded_of(2, streams, 2);
    int code = AB_OK;
    folded.hash++;
    link_with(2, NULL, 0, &folded);
    for (unsigned i = 0; i < 20 && code == AB_OK && f.backend->deadline(f.core) != AB_NEVER; i++) {
        fix_timer(&f);
        code = fix_count(&f, AB_ACT_REPORT) > 0 ? fix_action(&f, AB_ACT_REPORT, 0)->code : AB_OK;
    }
    ck_assert_int_eq(code, AB_EDIVERGED);
    link_with(3, NULL, 0, &folded);
    pass(500);
    ck_assert_uint_eq(forgotten_count, 0);
}
END_TEST

START_TEST(our_own_epoch_was_folded)
{
    /* Another disk, and a clock that went back: what is written under that epoch nobody would take. */
    ab_mm_folded folded = {.node = 1, .epoch = FIX_WALL + 7, .total = 5, .hash = 5};
    link_with(2, NULL, 0, &folded);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPEND, 0)->mark.stream.epoch, FIX_WALL + 8);
}
END_TEST

START_TEST(a_block_behind_the_end_is_of_another_history)
{
    const ab_mm_have done[] = {over(first, 5, 0)};
    ab_block_info beyond = fix_info(first, 6, 6);
    link_with(2, done, 1, NULL);
    pass(100);
    fix_block(&f, AB_EV_BLOCK, 2, &beyond);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    ck_assert_int_eq(fix_action(&f, AB_ACT_REPORT, 0)->code, AB_EDIVERGED);
}
END_TEST

START_TEST(an_epoch_that_may_come_back_is_not_over)
{
    /* Kept at the start, left while running: until the new one is on disk a crash would bring it back. */
    close_it();
    const uint8_t epoch[4] = {OLD, 0, 0, 0};
    const ab_state_value state = {{"epoch", 5}, {epoch, 4}};
    const ab_stream_state log = logged(old_own, 3);
    const ab_mark applied = {old_own, 3};
    ab_core_init init = fix_init(1);
    init.streams = &log;
    init.stream_count = 1;
    init.applied = (ab_frontier){&applied, 1};
    init.state = &state;
    init.state_count = 1;
    fix_open(&f, &ab_backend_multimaster, &init);
    fix_simple(&f, AB_EV_START, 0);
    ab_mm_have done[] = {over(old_own, 3, 0)};
    link_with(2, done, 1, NULL); /* over there: so we left it once */
    ab_stream next = fix_action(&f, AB_ACT_APPEND, 0)->mark.stream;
    ck_assert_uint_eq(next.epoch, FIX_WALL);
    link_with(3, done, 1, NULL);
    pass(300);
    ck_assert_uint_eq(forgotten_count, 0);
    fix_write(&f, next, 1, 1);
    fix_mark(&f, AB_EV_DURABLE, next, 1);
    pass(300);
    ck_assert_uint_eq(forgotten_count, 1);
}
END_TEST

/* Memory */

static bool told_failure; /* some call said AB_ENOMEM */

static void try_step(const ab_event *event)
{
    for (unsigned i = 0; i < 5 && fix_step(&f, event) != AB_OK; i++) {
        told_failure = true;
        note_forgotten();
    }
    note_forgotten();
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
    const ab_stream_state streams[] = {logged(old_own, 3), logged(first, 5), logged(second, 2)};
    const ab_mark marks[] = {{old_own, 3}, {first, 5}, {second, 2}};
    const ab_mm_have all[] = {over(old_own, 3, 0)};
    ab_mm_folded folded = folded_of(2, streams + 1, 2);
    ab_core_init init = fix_init(1);
    init.tail_safe = false;
    init.streams = streams;
    init.stream_count = 3;
    init.applied = (ab_frontier){marks, 3};
    memset(&f, 0, sizeof f);
    f.backend = &ab_backend_multimaster;
    f.now = 1000 * FIX_MS;
    forgotten_count = 0;
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
    close_it();
    for (; failed; n++) {
        alloc_fail_at(n);
        bool made = story();
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        if (made) {
            ck_assert_msg(!knows(old_own) && !knows(first) && !knows(second), "N = %lu: not folded", n);
            ck_assert_msg(forgotten_count >= 3, "N = %lu: %zu forgotten", n, forgotten_count);
            fix_close(&f);
        }
    }
    ck_assert_uint_gt(n, 15);
    open_all();
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
                                  a_restart_forgets_what_is_left,
                                  broken_records_are_refused,
                                  tokens_of_folded_streams_hold,
                                  dependencies_on_folded_streams_hold,
                                  late_blocks_and_questions_are_answered,
                                  folded_epochs_are_not_chosen_again,
                                  a_member_that_is_late_follows,
                                  a_lost_disk_needs_a_snapshot,
                                  another_history_is_reported,
                                  our_own_epoch_was_folded,
                                  a_block_behind_the_end_is_of_another_history,
                                  an_epoch_that_may_come_back_is_not_over,
                                  every_failing_allocation_is_survived};
    Suite *suite = suite_create("core_fold");
    TCase *tcase = tcase_create("fold");
    tcase_add_checked_fixture(tcase, open_all, close_it);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
