/* SPDX-License-Identifier: Apache-2.0 */
/* The multimaster core by itself: a stream whose origin's disk went back unnoticed, at the origin. One thread. */
#include "tests/support/run.h"
#include "tests/unit/rewind_fixture.h"

#include <check.h>

/* Points from `from` to `last`; those beyond `fork` are of another history. */
static void points_of(uint32_t peer, ab_stream stream, uint32_t rewound, uint64_t first, uint64_t from,
                      uint64_t last, uint64_t fork)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + AB_MM_POINTS_MAX * AB_MM_POINT_BYTES];
    ab_mm_message answer = {.kind = AB_MM_POINTS, .stream = stream, .first = first, .last = rewound};
    for (uint64_t i = from; i <= last && answer.point_count < AB_MM_POINTS_MAX; i++) {
        answer.points[answer.point_count++] =
            (ab_mm_point){i, rewind_hash_of(stream, i) + (i > fork ? OTHER : 0)};
    }
    ab_bytes bytes = {data, ab_mm_encode_points(&answer, data)};
    rewind_step(&(ab_event){.type = AB_EV_MESSAGE, .peer = peer, .bytes = bytes});
}

/* Of a history that was never taken back. */
static void points(uint32_t peer, ab_stream stream, uint64_t first, uint64_t from, uint64_t last,
                   uint64_t fork)
{
    points_of(peer, stream, 0, first, from, last, fork);
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

/* Our stream with all of it applied; node 3 has nothing, node 2 another history up to `last`. */
static void open_origin(uint64_t base, uint64_t last)
{
    const ab_stream_state streams[] = {rewind_state_of(rewind_own, base, last)};
    const ab_mark applied[] = {{rewind_own, last}};
    const ab_mm_have other[] = {rewind_has(rewind_own, last, rewind_hash_of(rewind_own, last) + OTHER, 0)};
    rewind_fresh();
    rewind_open_with(streams, 1, applied, 1);
    rewind_link_with(3, NULL, 0);
    rewind_link_with(2, other, 1);
}

static void assert_asked(uint64_t first)
{
    ab_mm_message question;
    ck_assert(fix_said(&f, 2, AB_MM_HISTORY, 0, &question));
    ck_assert_uint_eq(question.stream.epoch, rewind_own.epoch);
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
    ck_assert_uint_eq(copy->origin.epoch, rewind_own.epoch);
    ck_assert_uint_eq(copy->origin.rewound, 0);
    ck_assert_uint_eq(copy->origin.fork, fork);
    ck_assert_uint_eq(copy->origin.end, last);
    ck_assert_uint_eq(copy->origin.fork_hash, rewind_hash_of(rewind_own, fork));
    ck_assert_uint_eq(copy->origin.hash, rewind_hash_of(rewind_own, fork + 1));
    return copy->mark.stream;
}

static ab_stream find_fork(uint64_t base, uint64_t fork)
{
    open_origin(base, LAST);
    assert_asked(base + 1);
    points(2, rewind_own, base + 1, base, LAST, fork);
    ck_assert_ptr_nonnull(rewind_load_at(rewind_own, base + 1));
    rewind_loaded(rewind_own, base + 1, LAST);
    return assert_copying(fork, LAST);
}

static void log_copy(ab_stream copy, uint64_t index, uint64_t fork)
{
    ab_block_info info = rewind_copy_info(copy, index, fork);
    rewind_step(&(ab_event){.type = AB_EV_LOGGED, .block = &info});
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
            ck_assert_uint_eq(next->hash, rewind_hash_of(copy, i));
            rewind_mark(AB_EV_DURABLE, copy, i);
            ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0); /* one is under way */
        } else {
            ck_assert_ptr_null(next);
        }
    }
}

/* All of it at the origin; forks at the base, in the middle and at the very beginning. */
START_TEST(the_origin_goes_back)
{
    static const uint64_t bases[] = {0, FORK, 0};
    static const uint64_t forks[] = {FORK, FORK, 0};
    uint64_t fork = forks[_i];
    ab_stream copy = find_fork(bases[_i], fork);
    ck_assert_ptr_nonnull(rewind_load_at(rewind_own, fork + 1)); /* is it ours? */
    rewind_loaded(rewind_own, fork + 1, fork + 1);
    copy_from(copy, 1, fork);
    rewind_mark(AB_EV_DURABLE, copy, LAST - fork);
    rewind_assert_taken_back(rewind_own, fork);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    rewind_mark(AB_EV_REWOUND, rewind_own, fork);
    rewind_assert_moved(copy, LAST - fork, rewind_own, fork);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0); /* the state machine has all of it */
    ab_mm_have said;
    ck_assert(fix_said_have(&f, 2, rewind_own, &said));
    ck_assert_uint_eq(said.rewound, copy.epoch);
    ck_assert_uint_eq(said.durable, fork);
    ck_assert_uint_eq(rewind_count_in(5000, AB_ACT_FRONTIER, 0, 0), 0);
    rewind_done();
}
END_TEST

/* A peer that hears late of a difference there was sends nothing until it is asked: once it is found to have the same, its
 * origin asks. */
START_TEST(what_a_peer_has_more_of_is_asked_for)
{
    ab_mm_message question = {0};
    ab_stream copy = find_fork(0, FORK);
    rewind_loaded(rewind_own, FORK + 1, FORK + 1);
    copy_from(copy, 1, FORK);
    rewind_mark(AB_EV_DURABLE, copy, LAST - FORK);
    rewind_mark(AB_EV_REWOUND, rewind_own, FORK);
    const ab_mm_have more[] = {rewind_has(rewind_own, LAST, 0, copy.epoch)};
    const ab_mm_have same[] = {rewind_has(rewind_own, FORK, 0, copy.epoch)};
    rewind_have(2, 0, more, 1);
    rewind_have(3, 0, same, 1);
    ab_mm_message differs = {
        .kind = AB_MM_DIVERGED, .stream = rewind_own, .first = FORK + 1, .last = copy.epoch};
    ck_assert_int_eq(fix_message(&f, 2, &differs), AB_OK);
    ck_assert(fix_said(&f, 2, AB_MM_HISTORY, 0, &question));
    ck_assert_uint_eq(rewind_count_in(3000, 0, 2, AB_MM_FETCH), 0);
    points_of(2, rewind_own, copy.epoch, 1, 0, LAST, LAST);
    rewind_loaded(rewind_own, 1, FORK);
    bool asked = fix_said(&f, 2, AB_MM_FETCH, 0, &question);
    for (unsigned i = 0; i < 20 && !asked; i++) {
        fix_timer(&f);
        asked = fix_said(&f, 2, AB_MM_FETCH, 0, &question);
    }
    ck_assert(asked);
    ck_assert_uint_eq(question.first, FORK + 1);
    ck_assert_uint_eq(question.last, LAST);
    rewind_done();
}
END_TEST

/* The log does not take a block of the copy: the same one is made again, with a pause. */
START_TEST(a_refused_copy_is_made_again)
{
    ab_stream copy = find_fork(0, FORK);
    rewind_loaded(rewind_own, FORK + 1, FORK + 1);
    log_copy(copy, 1, FORK);
    ab_block_info second = rewind_copy_info(copy, 2, FORK);
    for (unsigned times = 0; times < 3; times++) {
        rewind_step(&(ab_event){.type = AB_EV_REFUSED, .block = &second, .code = AB_ECORRUPT});
        ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0);
        ck_assert_uint_eq(rewind_count_in(2000, AB_ACT_COPY, 0, 0), 1);
    }
    copy_from(copy, 2, FORK);
    rewind_mark(AB_EV_DURABLE, copy, LAST - FORK);
    rewind_assert_taken_back(rewind_own, FORK);
    rewind_done();
}
END_TEST

START_TEST(history_is_asked_in_rounds)
{
    open_origin(0, 100);
    assert_asked(1);
    points(2, rewind_own, 1, 0, 64, 80);
    ck_assert_ptr_nonnull(rewind_load_at(rewind_own, 1));
    rewind_loaded(rewind_own, 1, 64);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0);
    assert_asked(65);
    points(2, rewind_own, 1, 0, 64, 80); /* the answer to the question before */
    ck_assert_ptr_null(rewind_load_at(rewind_own, 65));
    points(2, rewind_own, 65, 64, 100, 80);
    ck_assert_ptr_nonnull(rewind_load_at(rewind_own, 65));
    rewind_loaded(rewind_own, 65, 100);
    (void)assert_copying(80, 100);
    rewind_done();
}
END_TEST

/* A question that was lost is asked again; an answer of somebody else is not taken. */
START_TEST(questions_are_repeated)
{
    open_origin(0, LAST);
    assert_asked(1);
    points(3, rewind_own, 1, 0, LAST, FORK);
    ck_assert_ptr_null(rewind_load_at(rewind_own, 1));
    ck_assert_uint_ge(rewind_count_in(2000, 0, 2, AB_MM_HISTORY), 2);
    points(2, rewind_own, 1, 0, LAST, FORK);
    ck_assert_ptr_nonnull(rewind_load_at(rewind_own, 1));
    rewind_done();
}
END_TEST

/* It waits for members that were never heard: they may have more of what goes. */
START_TEST(nothing_goes_before_all_were_heard)
{
    const ab_stream_state streams[] = {rewind_state_of(rewind_own, 0, LAST)};
    const ab_mark applied[] = {{rewind_own, LAST}};
    const ab_mm_have other[] = {rewind_has(rewind_own, LAST, rewind_hash_of(rewind_own, LAST) + OTHER, 0)};
    ab_mm_message question;
    rewind_fresh();
    rewind_open_with(streams, 1, applied, 1);
    rewind_link_with(2, other, 1);
    ck_assert(!fix_said(&f, 2, AB_MM_HISTORY, 0, &question));
    ck_assert_uint_eq(rewind_count_in(3000, 0, 2, AB_MM_HISTORY), 0);
    rewind_link_with(3, NULL, 0);
    assert_asked(1);
    rewind_done();
}
END_TEST

START_TEST(a_prefix_is_no_other_history)
{
    const ab_stream_state streams[] = {rewind_state_of(rewind_own, 0, LAST)};
    const ab_mark applied[] = {{rewind_own, LAST}};
    rewind_fresh();
    rewind_open_with(streams, 1, applied, 1);
    rewind_link_with(3, NULL, 0);
    rewind_link_with(2, NULL, 0);
    ab_mm_message differs = {.kind = AB_MM_DIVERGED, .stream = rewind_own, .first = 8, .hash = 1};
    ck_assert_int_eq(fix_message(&f, 2, &differs), AB_OK);
    assert_asked(1);
    points(2, rewind_own, 1, 0, 7, LAST);
    rewind_loaded(rewind_own, 1, LAST);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0);
    ck_assert(!reported(AB_LOG_WARN, AB_EDIVERGED));
    ck_assert_uint_eq(rewind_count_in(3000, 0, 2, AB_MM_HISTORY), 0);
    ck_assert_uint_eq(rewind_count_in(3000, AB_ACT_COPY, 0, 0), 0);
    rewind_done();
}
END_TEST

START_TEST(a_trimmed_fork_is_given_up)
{
    open_origin(6, LAST);
    assert_asked(7);
    points(2, rewind_own, 7, 6, LAST, FORK);
    rewind_loaded(rewind_own, 7, LAST);
    ck_assert(reported(AB_LOG_ERROR, AB_ETRIMMED));
    ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0);
    ck_assert_uint_eq(rewind_count_in(5000, 0, 2, AB_MM_HISTORY), 0);
    ck_assert_uint_eq(rewind_count_in(5000, AB_ACT_REPORT, 0, 0), 0);
    ck_assert_uint_eq(rewind_count_in(5000, AB_ACT_TRIM, 0, 0), 0);
    rewind_done();
}
END_TEST

/* The state machine still applies a block of what goes. */
START_TEST(the_state_machine_is_drained_first)
{
    const ab_stream_state streams[] = {rewind_state_of(rewind_own, 0, LAST)};
    const ab_mark applied[] = {{rewind_own, 9}};
    const ab_mm_have other[] = {rewind_has(rewind_own, LAST, rewind_hash_of(rewind_own, LAST) + OTHER, 0)};
    rewind_fresh();
    rewind_open_with(streams, 1, applied, 1);
    ck_assert_ptr_nonnull(rewind_load_at(rewind_own, LAST));
    rewind_loaded(rewind_own, LAST, LAST);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    rewind_link_with(3, NULL, 0);
    rewind_link_with(2, other, 1);
    points(2, rewind_own, 1, 0, LAST, FORK);
    rewind_loaded(rewind_own, 1, LAST);
    ab_stream copy = assert_copying(FORK, LAST);
    rewind_loaded(rewind_own, FORK + 1, FORK + 1);
    copy_from(copy, 1, FORK);
    rewind_mark(AB_EV_DURABLE, copy, LAST - FORK);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    rewind_mark(AB_EV_APPLIED, rewind_own, LAST);
    rewind_assert_taken_back(rewind_own, FORK);
    rewind_done();
}
END_TEST

/* Restarts */

static void restart(uint64_t old_last, ab_stream copy, uint64_t copy_last, const ab_mark *applied,
                    size_t marks)
{
    const ab_stream_state streams[] = {rewind_state_of(rewind_own, 0, old_last),
                                       rewind_state_of(copy, 0, copy_last)};
    fix_close(&f);
    rewind_open_with(streams, copy_last > 0 ? 2 : 1, applied, marks);
}

START_TEST(a_restart_goes_on_where_it_was)
{
    const ab_mark applied[] = {{rewind_own, LAST}};
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
        ck_assert_uint_eq(next->hash, rewind_hash_of(copy, copied_upto));
        ck_assert_uint_eq(next->origin.fork, FORK);
        ck_assert_uint_eq(next->origin.end, LAST);
        ck_assert_uint_eq(next->origin.fork_hash, rewind_hash_of(rewind_own, FORK));
    } else {
        ck_assert_ptr_null(next);
    }
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_ptr_nonnull(rewind_load_at(rewind_own, FORK + 1));
    rewind_loaded(rewind_own, FORK + 1, FORK + 1);
    if (copied_upto < LAST - FORK) {
        copy_from(copy, copied_upto + 1, FORK);
        rewind_mark(AB_EV_DURABLE, copy, LAST - FORK);
    }
    rewind_assert_taken_back(rewind_own, FORK);
    rewind_mark(AB_EV_REWOUND, rewind_own, FORK);
    rewind_assert_moved(copy, LAST - FORK, rewind_own, FORK);
    rewind_done();
}
END_TEST

/* @return the copy; the log has gone back, the state machine has not been told */
static ab_stream gone_back(void)
{
    ab_stream copy = find_fork(0, FORK);
    rewind_loaded(rewind_own, FORK + 1, FORK + 1);
    copy_from(copy, 1, FORK);
    rewind_mark(AB_EV_DURABLE, copy, LAST - FORK);
    const ab_action *back = fix_action(&f, AB_ACT_REWIND, 0);
    ck_assert_ptr_nonnull(back);
    rewind_keep(back->key, back->data);
    return copy;
}

START_TEST(an_old_frontier_is_translated)
{
    ab_stream copy = gone_back();
    const ab_mark applied[] = {{rewind_own, LAST - 1}}; /* what it stored may be less than what it had */
    restart(FORK, copy, LAST - FORK, applied, 1);
    rewind_assert_moved(copy, LAST - 1 - FORK, rewind_own, FORK);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_COPY), 0);
    ck_assert_ptr_nonnull(rewind_load_at(copy, LAST - FORK)); /* what it has not */
    ab_block_info info = rewind_copy_info(copy, LAST - FORK, FORK);
    rewind_step(
        &(ab_event){.type = AB_EV_LOADED, .mark = {copy, LAST - FORK}, .blocks = &info, .block_count = 1});
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 1);
    ck_assert_uint_eq(fix_action(&f, AB_ACT_APPLY, 0)->first, LAST - FORK);
    rewind_done();
}
END_TEST

START_TEST(a_new_frontier_is_not)
{
    ab_stream copy = gone_back();
    const ab_mark applied[] = {{rewind_own, 7}, {copy, LAST - FORK}};
    const ab_stream_state streams[] = {rewind_state_of(rewind_own, 0, 7),
                                       rewind_state_of(copy, 0, LAST - FORK)};
    fix_close(&f);
    rewind_open_with(streams, 2, applied, 2);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_LOAD), 0);
    rewind_done();
}
END_TEST

/* A state machine that has nothing beyond the fork gets all of it; from then on what it stores is in the new terms, and
 * the record must say so before that. */
START_TEST(an_empty_frontier_is_voided)
{
    ab_stream copy = gone_back();
    const ab_mark applied[] = {{rewind_own, FORK}};
    const ab_stream_state streams[] = {rewind_state_of(rewind_own, 0, 7),
                                       rewind_state_of(copy, 0, LAST - FORK)};
    fix_close(&f);
    rewind_open_with(streams, 2, applied, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    const ab_action *nothing = fix_action(&f, AB_ACT_REWIND, 0);
    ck_assert_ptr_nonnull(nothing);
    ck_assert_uint_eq(nothing->mark.stream.epoch, rewind_own.epoch);
    ck_assert_uint_gt(nothing->mark.index, LAST);
    rewind_keep(nothing->key, nothing->data);
    uint64_t said = nothing->mark.index;
    ck_assert_ptr_nonnull(rewind_load_at(rewind_own, FORK + 1));
    rewind_loaded(rewind_own, FORK + 1, 7);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 0); /* not before */
    rewind_mark(AB_EV_REWOUND, rewind_own, said);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_APPLY), 2);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);

    const ab_mark stored[] = {{rewind_own, 7}}; /* of the new history, though it looks like the old one */
    fix_close(&f);
    rewind_open_with(streams, 2, stored, 1);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 0);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 0);
    ck_assert_ptr_nonnull(rewind_load_at(copy, 1)); /* from its beginning */
    rewind_done();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_rewind");
    TCase *tcase = tcase_create("rewind");
    tcase_add_loop_test(tcase, the_origin_goes_back, 0, 3);
    tcase_add_test(tcase, a_refused_copy_is_made_again);
    tcase_add_test(tcase, what_a_peer_has_more_of_is_asked_for);
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
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
