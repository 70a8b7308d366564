/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: a stream whose origin's disk went back unnoticed, at the origin and elsewhere. One thread. */
#include "tests/unit/core_fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define LAST 10u
#define FORK 5u
#define OTHER 500000u /* added to a hash: of another history */

static const ab_stream old = {1, 100};  /* ours */
static const ab_stream theirs = {2, 7}; /* another member's, and its copy */
static const ab_stream copied = {2, 9};

static fixture f;

/* What a crash leaves. */
typedef struct kept {
    uint8_t key[AB_STATE_KEY_MAX];
    size_t key_size;
    uint8_t value[128];
    size_t value_size;
} kept;
static kept disk[8];
static size_t disk_count;

static uint64_t hash_of(ab_stream stream, uint64_t index)
{
    return index == 0 ? 0 : fix_info(stream, index, index).hash;
}

static void keep(ab_bytes key, ab_bytes value)
{
    size_t at = 0;
    while (at < disk_count &&
           (disk[at].key_size != key.size || memcmp(disk[at].key, key.data, key.size) != 0)) {
        at++;
    }
    ck_assert_uint_lt(at, 8);
    ck_assert_uint_le(value.size, sizeof disk[at].value);
    memcpy(disk[at].key, key.data, key.size);
    memcpy(disk[at].value, value.data, value.size);
    disk[at].key_size = key.size;
    disk[at].value_size = value.size;
    disk_count += at == disk_count;
}

/* Every step goes through here: what it asks to keep is kept. */
static void step(const ab_event *event)
{
    ck_assert_int_eq(fix_step(&f, event), AB_OK);
    const ab_action *action;
    for (size_t i = 0; (action = fix_action(&f, AB_ACT_PERSIST, i)) != NULL; i++) {
        keep(action->key, action->data);
    }
}

static void simple(ab_event_type type, uint32_t peer)
{
    step(&(ab_event){.type = type, .peer = peer});
}

static void mark(ab_event_type type, ab_stream stream, uint64_t index)
{
    step(&(ab_event){.type = type, .mark = {stream, index}});
}

static ab_stream_state state_of(ab_stream stream, uint64_t base, uint64_t last)
{
    return (ab_stream_state){.stream = stream,
                             .base = base,
                             .base_hash = hash_of(stream, base),
                             .last = last,
                             .last_hash = hash_of(stream, last),
                             .hlc_last = last};
}

/* A start of node 1 in doubt, with what `disk` has. */
static void open_with(const ab_stream_state *streams, size_t count, const ab_mark *applied, size_t marks)
{
    ab_state_value states[8];
    for (size_t i = 0; i < disk_count; i++) {
        states[i] = (ab_state_value){{disk[i].key, disk[i].key_size}, {disk[i].value, disk[i].value_size}};
    }
    ab_core_init init = fix_init(1);
    init.tail_safe = false;
    init.streams = streams;
    init.stream_count = count;
    init.applied = (ab_frontier){applied, marks};
    init.state = states;
    init.state_count = disk_count;
    fix_open(&f, &ab_backend_multimaster, &init);
    simple(AB_EV_START, 0);
}

static void fresh(void)
{
    memset(&f, 0, sizeof f);
    disk_count = 0;
}

static void done(void)
{
    fix_close(&f);
}

static void have(uint32_t peer, uint32_t flags, const ab_mm_have *haves, uint32_t count)
{
    ck_assert_int_eq(fix_have(&f, peer, flags, haves, count), AB_OK);
    const ab_action *action;
    for (size_t i = 0; (action = fix_action(&f, AB_ACT_PERSIST, i)) != NULL; i++) {
        keep(action->key, action->data);
    }
}

static ab_mm_have has(ab_stream stream, uint64_t upto, uint64_t hash, uint32_t rewound)
{
    return (ab_mm_have){
        .stream = stream, .durable = upto, .hash = hash, .accepted = upto, .rewound = rewound};
}

static void link_with(uint32_t peer, const ab_mm_have *haves, uint32_t count)
{
    simple(AB_EV_PEER_UP, peer);
    have(peer, AB_MM_FULL, haves, count);
}

static const ab_action *load_at(ab_stream stream, uint64_t index)
{
    const ab_action *action;
    for (size_t i = 0; (action = fix_action(&f, AB_ACT_LOAD, i)) != NULL; i++) {
        if (action->mark.stream.node == stream.node && action->mark.stream.epoch == stream.epoch &&
            action->mark.index == index) {
            return action;
        }
    }
    return NULL;
}

/* Blocks of one entry, from `first` to `last` of the stream, as an answer to a LOAD of `first`. */
static void loaded(ab_stream stream, uint64_t first, uint64_t last)
{
    ab_block_info blocks[128];
    size_t count = 0;
    ck_assert_uint_le(last - first + 1, 128);
    for (uint64_t i = first; i <= last; i++) {
        blocks[count++] = fix_info(stream, i, i);
    }
    step(&(ab_event){.type = AB_EV_LOADED, .mark = {stream, first}, .blocks = blocks, .block_count = count});
}

/* Points from `from` to `last`; those beyond `fork` are of another history. */
static void points(uint32_t peer, ab_stream stream, uint64_t first, uint64_t from, uint64_t last,
                   uint64_t fork)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + AB_MM_POINTS_MAX * AB_MM_POINT_BYTES];
    ab_mm_message answer = {.kind = AB_MM_POINTS, .stream = stream, .first = first};
    for (uint64_t i = from; i <= last && answer.point_count < AB_MM_POINTS_MAX; i++) {
        answer.points[answer.point_count++] = (ab_mm_point){i, hash_of(stream, i) + (i > fork ? OTHER : 0)};
    }
    ab_bytes bytes = {data, ab_mm_encode_points(&answer, data)};
    step(&(ab_event){.type = AB_EV_MESSAGE, .peer = peer, .bytes = bytes});
}

static bool reported(ab_severity severity, int code)
{
    const ab_action *action;
    for (size_t i = 0; (action = fix_action(&f, AB_ACT_REPORT, i)) != NULL; i++) {
        if (action->severity == severity && action->code == code) {
            return true;
        }
    }
    return false;
}

/* Lets time pass; counts actions and messages that must not come again. */
static size_t count_in(uint64_t ms, ab_action_type type, uint32_t peer, ab_mm_kind kind)
{
    uint64_t until = f.now + ms * FIX_MS;
    size_t count = 0;
    ab_mm_message message;
    for (unsigned i = 0; i < 2000 && f.backend->deadline(f.core) <= until; i++) {
        ck_assert_int_eq(fix_timer(&f), AB_OK);
        count += peer != 0 ? fix_said(&f, peer, kind, 0, &message) : fix_count(&f, type);
    }
    f.now = until;
    return count;
}

/* The origin */

/* Our stream with all of it applied; node 3 has nothing, node 2 another history up to `last`. */
static void open_origin(uint64_t base, uint64_t last)
{
    const ab_stream_state streams[] = {state_of(old, base, last)};
    const ab_mark applied[] = {{old, last}};
    const ab_mm_have other[] = {has(old, last, hash_of(old, last) + OTHER, 0)};
    fresh();
    open_with(streams, 1, applied, 1);
    link_with(3, NULL, 0);
    link_with(2, other, 1);
}

static void assert_asked(uint64_t first)
{
    ab_mm_message question;
    ck_assert(fix_said(&f, 2, AB_MM_HISTORY, 0, &question));
    ck_assert_uint_eq(question.stream.epoch, old.epoch);
    ck_assert_uint_eq(question.first, first);
    ck_assert_uint_eq(question.last, 0);
}

/* After the fork was found: what is asked for. @return the copy */
static ab_stream assert_copying(uint64_t fork, uint64_t last)
{
    ck_assert(reported(AB_LOG_WARN, AB_EDIVERGED));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_uint_ge(fix_count(&f, AB_ACT_PERSIST), 1);
    const ab_action *copy = fix_action(&f, AB_ACT_COPY, 0);
    ck_assert_uint_eq(copy->mark.stream.node, 1);
    ck_assert_uint_gt(copy->mark.stream.epoch, FIX_WALL);
    ck_assert_uint_eq(copy->mark.index, 0);
    ck_assert_uint_eq(copy->hash, 0);
    ck_assert_uint_eq(copy->origin.epoch, old.epoch);
    ck_assert_uint_eq(copy->origin.rewound, 0);
    ck_assert_uint_eq(copy->origin.fork, fork);
    ck_assert_uint_eq(copy->origin.end, last);
    ck_assert_uint_eq(copy->origin.fork_hash, hash_of(old, fork));
    ck_assert_uint_eq(copy->origin.hash, hash_of(old, fork + 1));
    return copy->mark.stream;
}

static ab_stream find_fork(uint64_t base, uint64_t fork)
{
    open_origin(base, LAST);
    assert_asked(base + 1);
    points(2, old, base + 1, base, LAST, fork);
    ck_assert_ptr_nonnull(load_at(old, base + 1));
    loaded(old, base + 1, LAST);
    return assert_copying(fork, LAST);
}

static ab_block_info copy_info(ab_stream copy, uint64_t index, uint64_t fork)
{
    ab_block_info info = fix_info(copy, index, index);
    info.origin = (ab_block_origin){.epoch = copy.node == 1 ? old.epoch : theirs.epoch,
                                    .fork = fork,
                                    .end = LAST,
                                    .fork_hash = hash_of(copy.node == 1 ? old : theirs, fork),
                                    .hash = hash_of(copy.node == 1 ? old : theirs, fork + index)};
    return info;
}

static void log_copy(ab_stream copy, uint64_t index, uint64_t fork)
{
    ab_block_info info = copy_info(copy, index, fork);
    step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
}

/* Blocks of the copy from `first` on, one after the other; the last one stays to be durable. */
static void copy_from(ab_stream copy, uint64_t first, uint64_t fork)
{
    for (uint64_t i = first; i <= LAST - fork; i++) {
        log_copy(copy, i, fork);
        ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
        const ab_action *next = fix_action(&f, AB_ACT_COPY, 0);
        if (i < LAST - fork) {
            ck_assert_ptr_nonnull(next);
            ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 1);
            ck_assert_uint_eq(next->mark.index, i);
            ck_assert_uint_eq(next->hash, hash_of(copy, i));
            mark(AB_EV_DURABLE, copy, i);
            ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0); /* one is under way */
        } else {
            ck_assert_ptr_null(next);
        }
    }
}

static void assert_taken_back(ab_stream stream, uint64_t fork)
{
    const ab_action *back = fix_action(&f, AB_ACT_REWIND, 0);
    ck_assert_ptr_nonnull(back);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 1);
    ck_assert_uint_eq(back->mark.stream.epoch, stream.epoch);
    ck_assert_uint_eq(back->mark.index, fork);
    ck_assert_uint_eq(back->hash, hash_of(stream, fork));
    ck_assert_uint_gt(back->key.size, 0);
    ck_assert_uint_gt(back->data.size, 0);
}

static void assert_moved(ab_stream copy, uint64_t of_copy, ab_stream stream, uint64_t fork)
{
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 2);
    const ab_action *first = fix_action(&f, AB_ACT_FRONTIER, 0);
    const ab_action *second = fix_action(&f, AB_ACT_FRONTIER, 1);
    ck_assert_uint_eq(first->mark.stream.epoch, copy.epoch);
    ck_assert_uint_eq(first->mark.index, of_copy);
    ck_assert_uint_eq(second->mark.stream.epoch, stream.epoch);
    ck_assert_uint_eq(second->mark.index, fork);
}

/* All of it at the origin; forks at the base, in the middle and at the very beginning. */
START_TEST(the_origin_goes_back)
{
    static const uint64_t bases[] = {0, FORK, 0};
    static const uint64_t forks[] = {FORK, FORK, 0};
    uint64_t fork = forks[_i];
    ab_stream copy = find_fork(bases[_i], fork);
    ck_assert_ptr_nonnull(load_at(old, fork + 1)); /* is it ours? */
    loaded(old, fork + 1, fork + 1);
    copy_from(copy, 1, fork);
    mark(AB_EV_DURABLE, copy, LAST - fork);
    assert_taken_back(old, fork);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    mark(AB_EV_REWOUND, old, fork);
    assert_moved(copy, LAST - fork, old, fork);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0); /* the state machine has all of it */
    ab_mm_have said;
    ck_assert(fix_said_have(&f, 2, old, &said));
    ck_assert_uint_eq(said.rewound, copy.epoch);
    ck_assert_uint_eq(said.durable, fork);
    ck_assert_uint_eq(count_in(5000, AB_ACT_FRONTIER, 0, 0), 0);
    done();
}
END_TEST

START_TEST(history_is_asked_in_rounds)
{
    open_origin(0, 100);
    assert_asked(1);
    points(2, old, 1, 0, 64, 80);
    ck_assert_ptr_nonnull(load_at(old, 1));
    loaded(old, 1, 64);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0);
    assert_asked(65);
    points(2, old, 1, 0, 64, 80); /* the answer to the question before */
    ck_assert_ptr_null(load_at(old, 65));
    points(2, old, 65, 64, 100, 80);
    ck_assert_ptr_nonnull(load_at(old, 65));
    loaded(old, 65, 100);
    (void)assert_copying(80, 100);
    done();
}
END_TEST

/* A question that was lost is asked again; an answer of somebody else is not taken. */
START_TEST(questions_are_repeated)
{
    open_origin(0, LAST);
    assert_asked(1);
    points(3, old, 1, 0, LAST, FORK);
    ck_assert_ptr_null(load_at(old, 1));
    ck_assert_uint_ge(count_in(2000, 0, 2, AB_MM_HISTORY), 2);
    points(2, old, 1, 0, LAST, FORK);
    ck_assert_ptr_nonnull(load_at(old, 1));
    done();
}
END_TEST

/* It waits for members that were never heard: they may have more of what goes. */
START_TEST(nothing_goes_before_all_were_heard)
{
    const ab_stream_state streams[] = {state_of(old, 0, LAST)};
    const ab_mark applied[] = {{old, LAST}};
    const ab_mm_have other[] = {has(old, LAST, hash_of(old, LAST) + OTHER, 0)};
    ab_mm_message question;
    fresh();
    open_with(streams, 1, applied, 1);
    link_with(2, other, 1);
    ck_assert(!fix_said(&f, 2, AB_MM_HISTORY, 0, &question));
    ck_assert_uint_eq(count_in(3000, 0, 2, AB_MM_HISTORY), 0);
    link_with(3, NULL, 0);
    assert_asked(1);
    done();
}
END_TEST

START_TEST(a_prefix_is_no_other_history)
{
    const ab_stream_state streams[] = {state_of(old, 0, LAST)};
    const ab_mark applied[] = {{old, LAST}};
    fresh();
    open_with(streams, 1, applied, 1);
    link_with(3, NULL, 0);
    link_with(2, NULL, 0);
    ab_mm_message differs = {.kind = AB_MM_DIVERGED, .stream = old, .first = 8, .hash = 1};
    ck_assert_int_eq(fix_message(&f, 2, &differs), AB_OK);
    assert_asked(1);
    points(2, old, 1, 0, 7, LAST);
    loaded(old, 1, LAST);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0);
    ck_assert(!reported(AB_LOG_WARN, AB_EDIVERGED));
    ck_assert_uint_eq(count_in(3000, 0, 2, AB_MM_HISTORY), 0);
    ck_assert_uint_eq(count_in(3000, AB_ACT_COPY, 0, 0), 0);
    done();
}
END_TEST

START_TEST(a_trimmed_fork_is_given_up)
{
    open_origin(6, LAST);
    assert_asked(7);
    points(2, old, 7, 6, LAST, FORK);
    loaded(old, 7, LAST);
    ck_assert(reported(AB_LOG_ERROR, AB_ETRIMMED));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0);
    ck_assert_uint_eq(count_in(5000, 0, 2, AB_MM_HISTORY), 0);
    ck_assert_uint_eq(count_in(5000, AB_ACT_REPORT, 0, 0), 0);
    ck_assert_uint_eq(count_in(5000, AB_ACT_TRIM, 0, 0), 0);
    done();
}
END_TEST

/* The state machine still applies a block of what goes. */
START_TEST(the_state_machine_is_drained_first)
{
    const ab_stream_state streams[] = {state_of(old, 0, LAST)};
    const ab_mark applied[] = {{old, 9}};
    const ab_mm_have other[] = {has(old, LAST, hash_of(old, LAST) + OTHER, 0)};
    fresh();
    open_with(streams, 1, applied, 1);
    ck_assert_ptr_nonnull(load_at(old, LAST));
    loaded(old, LAST, LAST);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    link_with(3, NULL, 0);
    link_with(2, other, 1);
    points(2, old, 1, 0, LAST, FORK);
    loaded(old, 1, LAST);
    ab_stream copy = assert_copying(FORK, LAST);
    loaded(old, FORK + 1, FORK + 1);
    copy_from(copy, 1, FORK);
    mark(AB_EV_DURABLE, copy, LAST - FORK);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    mark(AB_EV_APPLIED, old, LAST);
    assert_taken_back(old, FORK);
    done();
}
END_TEST

/* Restarts */

static void restart(uint64_t old_last, ab_stream copy, uint64_t copy_last, const ab_mark *applied,
                    size_t marks)
{
    const ab_stream_state streams[] = {state_of(old, 0, old_last), state_of(copy, 0, copy_last)};
    fix_close(&f);
    open_with(streams, copy_last > 0 ? 2 : 1, applied, marks);
}

START_TEST(a_restart_goes_on_where_it_was)
{
    const ab_mark applied[] = {{old, LAST}};
    ab_stream copy = find_fork(0, FORK);
    uint64_t copied_upto = (uint64_t)_i;
    for (uint64_t i = 1; i <= copied_upto; i++) {
        log_copy(copy, i, FORK);
    }
    restart(LAST, copy, copied_upto, applied, 1);
    const ab_action *next = fix_action(&f, AB_ACT_COPY, 0);
    if (copied_upto < LAST - FORK) {
        ck_assert_ptr_nonnull(next);
        ck_assert_uint_eq(next->mark.stream.epoch, copy.epoch);
        ck_assert_uint_eq(next->mark.index, copied_upto);
        ck_assert_uint_eq(next->hash, hash_of(copy, copied_upto));
        ck_assert_uint_eq(next->origin.fork, FORK);
        ck_assert_uint_eq(next->origin.end, LAST);
        ck_assert_uint_eq(next->origin.fork_hash, hash_of(old, FORK));
    } else {
        ck_assert_ptr_null(next);
    }
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_ptr_nonnull(load_at(old, FORK + 1));
    loaded(old, FORK + 1, FORK + 1);
    if (copied_upto < LAST - FORK) {
        copy_from(copy, copied_upto + 1, FORK);
        mark(AB_EV_DURABLE, copy, LAST - FORK);
    }
    assert_taken_back(old, FORK);
    mark(AB_EV_REWOUND, old, FORK);
    assert_moved(copy, LAST - FORK, old, FORK);
    done();
}
END_TEST

/* @return the copy; the log has gone back, the state machine has not been told */
static ab_stream gone_back(void)
{
    ab_stream copy = find_fork(0, FORK);
    loaded(old, FORK + 1, FORK + 1);
    copy_from(copy, 1, FORK);
    mark(AB_EV_DURABLE, copy, LAST - FORK);
    const ab_action *back = fix_action(&f, AB_ACT_REWIND, 0);
    ck_assert_ptr_nonnull(back);
    keep(back->key, back->data);
    return copy;
}

START_TEST(an_old_frontier_is_translated)
{
    ab_stream copy = gone_back();
    const ab_mark applied[] = {{old, LAST - 1}}; /* what it stored may be less than what it had */
    restart(FORK, copy, LAST - FORK, applied, 1);
    assert_moved(copy, LAST - 1 - FORK, old, FORK);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0);
    ck_assert_ptr_nonnull(load_at(copy, LAST - FORK)); /* what it has not */
    ab_block_info info = copy_info(copy, LAST - FORK, FORK);
    step(&(ab_event){.type = AB_EV_LOADED, .mark = {copy, LAST - FORK}, .blocks = &info, .block_count = 1});
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->first, LAST - FORK);
    done();
}
END_TEST

START_TEST(a_new_frontier_is_not)
{
    ab_stream copy = gone_back();
    const ab_mark applied[] = {{old, 7}, {copy, LAST - FORK}};
    const ab_stream_state streams[] = {state_of(old, 0, 7), state_of(copy, 0, LAST - FORK)};
    fix_close(&f);
    open_with(streams, 2, applied, 2);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOAD), 0);
    done();
}
END_TEST

/* A state machine that has nothing beyond the fork gets all of it; from then on what it stores is in the new terms, and
 * the record must say so before that. */
START_TEST(an_empty_frontier_is_voided)
{
    ab_stream copy = gone_back();
    const ab_mark applied[] = {{old, FORK}};
    const ab_stream_state streams[] = {state_of(old, 0, 7), state_of(copy, 0, LAST - FORK)};
    fix_close(&f);
    open_with(streams, 2, applied, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    const ab_action *nothing = fix_action(&f, AB_ACT_REWIND, 0);
    ck_assert_ptr_nonnull(nothing);
    ck_assert_uint_eq(nothing->mark.stream.epoch, old.epoch);
    ck_assert_uint_gt(nothing->mark.index, LAST);
    keep(nothing->key, nothing->data);
    uint64_t said = nothing->mark.index;
    ck_assert_ptr_nonnull(load_at(old, FORK + 1));
    loaded(old, FORK + 1, 7);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0); /* not before */
    mark(AB_EV_REWOUND, old, said);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 2);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);

    const ab_mark stored[] = {{old, 7}}; /* of the new history, though it looks like the old one */
    fix_close(&f);
    open_with(streams, 2, stored, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_ptr_nonnull(load_at(copy, 1)); /* from its beginning */
    done();
}
END_TEST

/* Another member */

static void open_member(uint64_t base, uint64_t last, uint64_t applied_upto)
{
    const ab_stream_state streams[] = {state_of(theirs, base, last)};
    const ab_mark applied[] = {{theirs, applied_upto}};
    fresh();
    open_with(streams, 1, applied, 1);
    link_with(2, NULL, 0);
    link_with(3, NULL, 0);
}

static void block(uint32_t peer, const ab_block_info *info)
{
    step(&(ab_event){.type = AB_EV_BLOCK, .peer = peer, .block = info, .token = 1});
}

/* A block of the copy arrives, is logged, durable. */
static void get_copy(uint64_t index)
{
    ab_block_info info = copy_info(copied, index, FORK);
    block(2, &info);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_PERSIST), index == 1 ? 1 : 0); /* known before it is logged */
    step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    mark(AB_EV_DURABLE, copied, index);
}

/* A block of the stream after the fork, of the history that goes or of the other one. */
static ab_block_info block_of(uint64_t index, bool goes)
{
    ab_block_info info = fix_info(theirs, index, index);
    info.hash += goes ? 0 : OTHER;
    return info;
}

START_TEST(a_member_lets_go_of_its_part)
{
    open_member(0, 8, 8);
    ab_block_info info = copy_info(copied, 1, FORK);
    block(2, &info);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    ck_assert_ptr_nonnull(load_at(theirs, FORK + 1));
    loaded(theirs, FORK + 1, FORK + 1);
    step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    mark(AB_EV_DURABLE, copied, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    get_copy(2);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0); /* it has three of them */
    get_copy(3);
    assert_taken_back(theirs, FORK);
    ab_block_info late = block_of(9, true);
    block(3, &late);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0); /* its end is about to go */
    mark(AB_EV_REWOUND, theirs, FORK);
    assert_moved(copied, 3, theirs, FORK);
    get_copy(4);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    done();
}
END_TEST

START_TEST(late_blocks_of_the_old_history)
{
    const ab_mm_have now[] = {has(theirs, FORK, hash_of(theirs, FORK), copied.epoch)};
    open_member(0, 8, 8);
    ab_block_info info = copy_info(copied, 1, FORK);
    block(2, &info);
    loaded(theirs, FORK + 1, FORK + 1);
    step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    mark(AB_EV_DURABLE, copied, 1);
    get_copy(2);
    get_copy(3);
    mark(AB_EV_REWOUND, theirs, FORK);
    ab_block_info late = block_of(FORK + 1, true);
    ab_block_info next = block_of(FORK + 1, false);
    block(2, &late);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    have(2, 0, now, 1); /* it has the new history, but this was on its way */
    block(2, &late);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 0);
    block(2, &next);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOG), 1);
    done();
}
END_TEST

/* Where its part is trimmed up to beyond the fork, the copy's block that repeats its last one tells. */
START_TEST(a_trimmed_member_lets_go)
{
    open_member(7, 8, 8);
    get_copy(1);
    ck_assert_ptr_null(load_at(theirs, FORK + 1));
    get_copy(2);
    get_copy(3);
    ck_assert_ptr_nonnull(load_at(copied, 3));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ab_block_info info = copy_info(copied, 3, FORK);
    step(&(ab_event){.type = AB_EV_LOADED, .mark = {copied, 3}, .blocks = &info, .block_count = 1});
    assert_taken_back(theirs, FORK);
    mark(AB_EV_REWOUND, theirs, FORK);
    assert_moved(copied, 3, theirs, FORK);
    done();
}
END_TEST

/* Its blocks after the fork are the other history's already, or there are none. */
START_TEST(a_member_that_holds_none)
{
    bool beyond = _i == 1;
    ab_mm_have said;
    open_member(0, beyond ? 8 : FORK, beyond ? 8 : FORK);
    ab_block_info info = copy_info(copied, 1, FORK);
    if (beyond) {
        info.origin.hash += OTHER; /* what goes is not what it has */
    }
    block(2, &info);
    step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    if (beyond) {
        loaded(theirs, FORK + 1, FORK + 1);
    }
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_PERSIST), 1);
    ck_assert(fix_said_have(&f, 2, theirs, &said));
    ck_assert_uint_eq(said.rewound, copied.epoch);
    ck_assert_uint_eq(said.durable, beyond ? 8 : FORK);
    done();
}
END_TEST

/* Trimming */

START_TEST(marks_of_another_history_do_not_count)
{
    const ab_mm_have before[] = {has(theirs, 8, hash_of(theirs, 8), 0)};
    const ab_mm_have after[] = {has(theirs, 8, hash_of(theirs, 8), copied.epoch)};
    open_member(0, 8, 8);
    ab_block_info info = copy_info(copied, 1, FORK);
    info.origin.hash += OTHER;
    block(2, &info);
    step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
    loaded(theirs, FORK + 1, FORK + 1);
    have(2, 0, before, 1);
    have(3, 0, before, 1);
    ck_assert_uint_eq(count_in(3000, AB_ACT_TRIM, 0, 0), 0);
    have(2, 0, after, 1);
    have(3, 0, before, 1);
    ck_assert_uint_eq(count_in(3000, AB_ACT_TRIM, 0, 0), 0);
    have(3, 0, after, 1);
    ck_assert_uint_eq(count_in(3000, AB_ACT_TRIM, 0, 0), 1);
    done();
}
END_TEST

START_TEST(nothing_is_trimmed_for_the_unproven)
{
    const ab_stream_state streams[] = {state_of(old, 0, LAST)};
    const ab_mark applied[] = {{old, LAST}};
    const ab_mm_have good[] = {has(old, LAST, hash_of(old, LAST), 0)};
    const ab_mm_have unknown[] = {has(old, LAST, 0, 0)};
    const ab_mm_have middle[] = {has(old, 4, hash_of(old, 4), 0)};
    fresh();
    open_with(streams, 1, applied, 1);
    link_with(2, good, 1);
    link_with(3, _i == 0 ? unknown : middle, 1);
    if (_i == 0) {
        ck_assert_uint_eq(count_in(3000, AB_ACT_TRIM, 0, 0), 0);
        have(3, 0, good, 1);
    } else {
        ck_assert_ptr_nonnull(load_at(old, 4)); /* our hash there is only in the log */
        ck_assert_uint_eq(count_in(3000, AB_ACT_TRIM, 0, 0), 0);
        loaded(old, 4, 4);
        have(3, 0, middle, 1);
    }
    ck_assert_uint_eq(count_in(3000, AB_ACT_TRIM, 0, 0), 1);
    done();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_rewind");
    TCase *tcase = tcase_create("rewind");
    tcase_add_loop_test(tcase, the_origin_goes_back, 0, 3);
    tcase_add_test(tcase, history_is_asked_in_rounds);
    tcase_add_test(tcase, questions_are_repeated);
    tcase_add_test(tcase, nothing_goes_before_all_were_heard);
    tcase_add_test(tcase, a_prefix_is_no_other_history);
    tcase_add_test(tcase, a_trimmed_fork_is_given_up);
    tcase_add_test(tcase, the_state_machine_is_drained_first);
    tcase_add_loop_test(tcase, a_restart_goes_on_where_it_was, 0, LAST - FORK + 1);
    tcase_add_test(tcase, an_old_frontier_is_translated);
    tcase_add_test(tcase, a_new_frontier_is_not);
    tcase_add_test(tcase, an_empty_frontier_is_voided);
    tcase_add_test(tcase, a_member_lets_go_of_its_part);
    tcase_add_test(tcase, late_blocks_of_the_old_history);
    tcase_add_test(tcase, a_trimmed_member_lets_go);
    tcase_add_loop_test(tcase, a_member_that_holds_none, 0, 2);
    tcase_add_test(tcase, marks_of_another_history_do_not_count);
    tcase_add_loop_test(tcase, nothing_is_trimmed_for_the_unproven, 0, 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
