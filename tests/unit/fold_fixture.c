/* SPDX-License-Identifier: Apache-2.0 */
/* A core with old streams; see fold_fixture.h. One thread. */
#include "tests/unit/fold_fixture.h"
#include "tests/support/run.h"

#include "wal/block.h"
#include <check.h>
#include <string.h>

/* What the core finds: old streams of its own, and of node 2. */
const ab_stream fold_own = {1, OLD};
const ab_stream fold_first = {2, 7};
const ab_stream fold_second = {2, 8};
const ab_stream fold_current = {2, 9};

fixture f;

ab_stream_state fold_logged(ab_stream stream, uint64_t last)
{
    uint64_t hash = fix_info(stream, last, last).hash;
    return (ab_stream_state){
        .stream = stream, .base = last, .base_hash = hash, .last = last, .last_hash = hash};
}

/* A start in doubt, so that old epochs are left for good; the streams are trimmed and the state machine has them. */
void fold_open_with(const ab_stream_state *streams, size_t count, const ab_state_value *state, size_t states)
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

void fold_open(void)
{
    const ab_stream_state streams[] = {fold_logged(fold_own, 3), fold_logged(fold_first, 5),
                                       fold_logged(fold_second, 2)};
    fold_open_with(streams, 3, NULL, 0);
}

void fold_close(void)
{
    fix_close(&f);
}

ab_mm_have fold_over(ab_stream stream, uint64_t end, uint32_t flags)
{
    return (ab_mm_have){.stream = stream,
                        .durable = end,
                        .hash = fix_info(stream, end, end).hash,
                        .accepted = end,
                        .flags = AB_MM_OVER | flags};
}

/* A message with streams and one fold. */
void fold_give(uint32_t peer, uint32_t flags, const ab_mm_have *haves, uint32_t count,
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

void fold_link(uint32_t peer, const ab_mm_have *haves, uint32_t count, const ab_mm_folded *fold)
{
    ck_assert_int_eq(fix_simple(&f, AB_EV_PEER_UP, peer), AB_OK);
    fold_give(peer, AB_MM_FULL, haves, count, fold);
}

/* Lets time pass until the core wants nothing, at most `ms`; notes what is forgotten. */
ab_stream fold_forgotten[8];
uint64_t fold_kept_from[8];
size_t fold_count;

void fold_note(void)
{
    const ab_action *action;
    for (size_t i = 0; (action = fix_action(&f, AB_ACT_FORGET, i)) != NULL && fold_count < 8; i++) {
        fold_kept_from[fold_count] = action->first;
        fold_forgotten[fold_count++] = action->mark.stream;
    }
}

void fold_pass(uint64_t ms)
{
    uint64_t until = f.now + ms * FIX_MS;
    fold_count = 0;
    fold_note();
    while (f.backend->deadline(f.core) <= until) {
        fix_timer(&f);
        fold_note();
    }
    f.now = until;
}

bool fold_said(uint32_t peer, uint32_t node, ab_mm_folded *said)
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

bool fold_read_done(ab_mark token)
{
    ab_event read = {.type = AB_EV_READ,
                     .ticket = 77,
                     .read_level = AB_READ_SESSION,
                     .frontier = {&token, 1},
                     .timeout_ns = AB_NEVER};
    ck_assert_int_eq(fix_step(&f, &read), AB_OK);
    return fix_count(&f, AB_ACT_READ_DONE) == 1;
}

static bool look_for(void *arg, const ab_stream_status *status)
{
    ab_stream *wanted = arg;
    if (ab_stream_compare(status->stream, *wanted) == 0) {
        wanted->node = 0; /* found */
    }
    return true;
}

bool fold_knows(ab_stream stream)
{
    f.backend->streams(f.core, look_for, &stream);
    return stream.node == 0;
}

ab_fold fold_record(uint32_t node, const ab_stream_state *streams, size_t count)
{
    ab_fold fold = {.node = node};
    for (size_t i = 0; i < count; i++) {
        ab_fold_add(&fold, streams[i].stream.epoch, streams[i].last, streams[i].last_hash);
    }
    return fold;
}

ab_mm_folded fold_wire(uint32_t node, const ab_stream_state *streams, size_t count)
{
    ab_fold fold = fold_record(node, streams, count);
    return (ab_mm_folded){.node = node, .epoch = fold.epoch, .total = fold.total, .hash = fold.hash};
}

/* What a core that folded both streams of node 2 asks to be kept. */
uint8_t fold_stored[AB_FOLD_BYTES];

ab_state_value fold_state_of_both(void)
{
    const ab_stream_state streams[] = {fold_logged(fold_first, 5), fold_logged(fold_second, 2)};
    ab_fold fold = fold_record(2, streams, 2);
    ab_actions actions = {0};
    ck_assert_int_eq(ab_fold_push(&fold, &actions), AB_OK);
    memcpy(fold_stored, ab_actions_at(&actions, 0)->data.data, sizeof fold_stored);
    ab_actions_free(&actions);
    return (ab_state_value){{"folded/2", 8}, {fold_stored, sizeof fold_stored}};
}

int fold_run(const char *name, const TTest *const *tests, size_t count)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create("fold");
    tcase_add_checked_fixture(tcase, fold_open, fold_close);
    for (size_t i = 0; i < count; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
