/* SPDX-License-Identifier: Apache-2.0 */
/* The cores when memory runs out: the Nth allocation fails, for every N, and the story must end as it does without; and how
 * much an idle core takes. */
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include "tests/support/sanitized.h"
#include "tests/unit/core_fixture.h"

#include <check.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define WRITES 6u

static const ab_stream own = {1, FIX_WALL};
static const ab_stream other = {2, 7};
static const ab_stream third = {3, 7};

/* What the story produced, however often it had to be asked for. */
typedef struct outcome {
    int line;    /* of the first thing that did not hold */
    bool failed; /* some call said AB_ENOMEM */
    uint64_t append_epoch;
    bool persisted;
    uint64_t acked;
    uint64_t logged;
    uint64_t applied_own;
    uint64_t applied_other;
    uint64_t applied_third;
    uint64_t trimmed;
    uint64_t sent;
    uint64_t confirmed; /* of `other`, as said to node 2 */
    bool asked_full;
    bool read_done;
    size_t deps;
    ab_mark loads[8]; /* asked for, not answered yet */
    size_t load_count;
} outcome;

/* Check's own asserts allocate, and would be the ones that fail. */
static void must(outcome *o, bool holds, int line)
{
    if (!holds && o->line == 0) {
        o->line = line;
    }
}

static void note(const fixture *f, outcome *o)
{
    ab_mm_have said;
    for (size_t i = 0; i < f->actions.count; i++) {
        const ab_action *a = ab_actions_at(&f->actions, i);
        switch (a->type) {
        case AB_ACT_APPEND:
            o->append_epoch = a->mark.stream.epoch;
            break;
        case AB_ACT_PERSIST:
            o->persisted = true;
            break;
        case AB_ACT_ACKED:
            must(o, a->mark.index > o->acked, __LINE__);
            o->acked = a->mark.index;
            break;
        case AB_ACT_LOG:
            if (a->mark.stream.node == 2) {
                must(o, a->first == o->logged + 1, __LINE__);
                o->logged = a->mark.index;
            }
            break;
        case AB_ACT_APPLY:
            if (a->mark.stream.node == 1) {
                must(o, a->first == o->applied_own + 1, __LINE__);
                o->applied_own = a->mark.index;
            } else if (a->mark.stream.node == 2) {
                must(o, a->first == o->applied_other + 1, __LINE__);
                o->applied_other = a->mark.index;
            } else {
                o->applied_third = a->mark.index;
            }
            break;
        case AB_ACT_LOAD:
            o->loads[o->load_count++ % 8] = a->mark;
            break;
        case AB_ACT_TRIM:
            o->trimmed = a->mark.index > o->trimmed ? a->mark.index : o->trimmed;
            break;
        case AB_ACT_SEND:
            o->sent = a->mark.index;
            break;
        case AB_ACT_READ_DONE:
            must(o, !o->read_done, __LINE__);
            o->read_done = true;
            break;
        default:
            break;
        }
    }
    ab_mm_message message;
    o->asked_full |= fix_said(f, 2, AB_MM_HAVE, 0, &message) && (message.flags & AB_MM_FULL) != 0;
    if (fix_said_have(f, 2, other, &said) && said.durable > o->confirmed) {
        o->confirmed = said.durable;
    }
}

/* As a driver does it: an event that was refused for want of memory comes again where it may (a peer sends again, the log
 * says it again), and the timer is served. */
static void give(fixture *f, const ab_event *event, outcome *o)
{
    for (unsigned i = 0; i < 5; i++) {
        int code = fix_step(f, event);
        note(f, o);
        if (code == AB_OK) {
            return;
        }
        must(o, code == AB_ENOMEM, __LINE__);
        o->failed = true;
    }
    must(o, false, __LINE__);
}

static void tick(fixture *f, outcome *o, uint64_t ms)
{
    f->now += ms * FIX_MS;
    give(f, &(ab_event){.type = AB_EV_TIMER}, o);
}

static void give_have(fixture *f, uint32_t peer, uint32_t flags, ab_stream stream, uint64_t upto, outcome *o)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + AB_MM_HAVE_BYTES];
    ab_mm_have have = {.stream = stream, .durable = upto, .accepted = upto};
    size_t size = ab_mm_encode_have_begin(flags, upto > 0, false, data);
    size += upto > 0 ? ab_mm_encode_have(&have, data + size) : 0;
    give(f, &(ab_event){.type = AB_EV_MESSAGE, .peer = peer, .bytes = {data, size}}, o);
}

static void write_own(fixture *f, uint64_t index, outcome *o)
{
    ab_frontier deps;
    int code = f->backend->seal(f->core, index, index, &deps);
    if (code == AB_ENOMEM) {
        o->failed = true;
        code = f->backend->seal(f->core, index, index, &deps);
    }
    must(o, code == AB_OK, __LINE__);
    o->deps += deps.count;
    ab_block_info info = fix_info(own, index, index);
    give(f, &(ab_event){.type = AB_EV_LOGGED, .block = &info}, o);
    give(f, &(ab_event){.type = AB_EV_DURABLE, .mark = {own, index}}, o);
    tick(f, o, 2);
}

static void receive(fixture *f, ab_stream stream, uint64_t first, uint64_t last, const ab_mark *dep,
                    outcome *o)
{
    ab_block_info info = fix_info(stream, first, last);
    info.deps = dep;
    info.dep_count = dep != NULL;
    give(f, &(ab_event){.type = AB_EV_BLOCK, .peer = stream.node, .block = &info, .token = 1}, o);
    give(f, &(ab_event){.type = AB_EV_LOGGED, .block = &info}, o);
    give(f, &(ab_event){.type = AB_EV_DURABLE, .mark = {stream, last}}, o);
    tick(f, o, 2);
}

/* Blocks whose infos could not be held are read back; what was given is applied. */
static void apply_all(fixture *f, outcome *o)
{
    for (size_t i = 0; i < 8; i++) {
        if (i < o->load_count) {
            ab_mark from = o->loads[i];
            ab_block_info info = fix_info(from.stream, from.index, from.stream.node == 2 ? 2 : from.index);
            give(f, &(ab_event){.type = AB_EV_LOADED, .mark = from, .blocks = &info, .block_count = 1}, o);
        }
        tick(f, o, 200);
    }
    give(f, &(ab_event){.type = AB_EV_APPLIED, .mark = {own, o->applied_own}}, o);
    give(f, &(ab_event){.type = AB_EV_APPLIED, .mark = {third, o->applied_third}}, o);
    give(f, &(ab_event){.type = AB_EV_APPLIED, .mark = {other, o->applied_other}}, o);
}

/* Everything a core does, in one story. @return false if not even the core could be made */
static bool story(outcome *o)
{
    fixture f = {.backend = &ab_backend_multimaster, .now = 1000 * FIX_MS};
    const ab_mark dep = {third, 1};
    const ab_mark done[] = {{own, WRITES}};
    ab_core_init init = fix_init(1);
    memset(o, 0, sizeof *o);
    int code = f.backend->create(&init, &f.core);
    if (code != AB_OK) {
        must(o, code == AB_ENOMEM, __LINE__);
        o->failed = true;
        return false;
    }
    give(&f, &(ab_event){.type = AB_EV_START}, o);
    give(&f, &(ab_event){.type = AB_EV_PEER_UP, .peer = 2}, o);
    give_have(&f, 2, AB_MM_FULL | AB_MM_ASK, own, 0, o);
    give(&f, &(ab_event){.type = AB_EV_PEER_UP, .peer = 3}, o);
    give_have(&f, 3, AB_MM_FULL, own, 0, o);
    const ab_mark token = {other, 2};
    give(&f,
         &(ab_event){.type = AB_EV_READ,
                     .ticket = 1,
                     .read_level = AB_READ_SESSION,
                     .frontier = {&token, 1},
                     .timeout_ns = AB_NEVER},
         o);
    receive(&f, other, 1, 2, &dep, o);
    must(o, o->applied_other == 0, __LINE__);
    receive(&f, third, 1, 1, NULL, o);
    for (uint64_t i = 1; i <= WRITES; i++) {
        write_own(&f, i, o);
    }
    apply_all(&f, o);
    give_have(&f, 2, 0, own, WRITES, o);
    give_have(&f, 3, 0, own, WRITES, o);
    give(&f, &(ab_event){.type = AB_EV_CHECKPOINTED, .frontier = {done, 1}}, o);
    tick(&f, o, 500);
    tick(&f, o, 500);
    fix_close(&f);
    return true;
}

static void check_outcome(const outcome *o, unsigned long n)
{
    ck_assert_msg(o->line == 0, "N = %lu: line %d of %s does not hold", n, o->line, __FILE__);
    ck_assert_msg(o->append_epoch == FIX_WALL && o->persisted, "N = %lu: no stream to write to", n);
    ck_assert_msg(o->acked == WRITES, "N = %lu: acknowledged up to %llu", n, (unsigned long long)o->acked);
    ck_assert_msg(o->logged == 2, "N = %lu: logged %llu", n, (unsigned long long)o->logged);
    ck_assert_msg(o->applied_own == WRITES, "N = %lu: own applied up to %llu", n,
                  (unsigned long long)o->applied_own);
    ck_assert_msg(o->applied_other == 2, "N = %lu: the other's applied up to %llu", n,
                  (unsigned long long)o->applied_other);
    ck_assert_msg(o->trimmed == WRITES, "N = %lu: trimmed up to %llu", n, (unsigned long long)o->trimmed);
    ck_assert_msg(o->sent > 0 && o->asked_full, "N = %lu: nothing sent", n);
    ck_assert_msg(o->confirmed == 2, "N = %lu: confirmed %llu", n, (unsigned long long)o->confirmed);
    ck_assert_msg(o->read_done, "N = %lu: the read was not answered", n);
}

START_TEST(every_failing_allocation_is_survived)
{
    unsigned long n = 1;
    bool failed = true;
    for (; failed; n++) {
        outcome o;
        alloc_fail_at(n);
        bool made = story(&o);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        if (made) {
            check_outcome(&o, n);
        }
    }
    ck_assert_uint_gt(n, 30); /* else the story does not allocate what it should */
}
END_TEST

/* A stream of ours that is taken back: what was asked of the driver and not answered yet. */
#define GONE_LAST 5u
#define GONE_FORK 2u
static const ab_stream gone = {1, 100};

typedef struct taking_back {
    outcome o;
    bool asked;
    ab_action copy; /* type 0: none */
    bool back;
    bool kept;
    ab_mark moved[2];
    size_t moves;
    uint64_t copied;
    ab_stream copy_stream;
} taking_back;

static void note_rewind(const fixture *f, taking_back *t)
{
    ab_mm_message question;
    t->asked |= fix_said(f, 2, AB_MM_HISTORY, 0, &question);
    for (size_t i = 0; i < f->actions.count; i++) {
        const ab_action *a = ab_actions_at(&f->actions, i);
        if (a->type == AB_ACT_COPY) {
            must(&t->o, a->mark.index == t->copied && t->kept, __LINE__); /* known on disk before it begins */
            t->copy = *a;
            t->copy_stream = a->mark.stream;
        } else if (a->type == AB_ACT_REWIND) {
            must(&t->o, !t->back && t->copied == GONE_LAST - GONE_FORK && a->data.size > 0, __LINE__);
            t->back = true;
        } else if (a->type == AB_ACT_FRONTIER) {
            t->moved[t->moves++ % 2] = a->mark;
        } else if (a->type == AB_ACT_PERSIST) {
            t->kept |= a->key.size > 6 && memcmp(a->key.data, "rewind", 6) == 0;
        } else {
            must(&t->o, a->type != AB_ACT_APPLY, __LINE__);
        }
    }
}

static void give_rewind(fixture *f, const ab_event *event, taking_back *t)
{
    for (unsigned i = 0; i < 5; i++) {
        int code = fix_step(f, event);
        note(f, &t->o);
        note_rewind(f, t);
        if (code == AB_OK) {
            return;
        }
        must(&t->o, code == AB_ENOMEM, __LINE__);
    }
    must(&t->o, false, __LINE__);
}

static void give_history(fixture *f, taking_back *t)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + (GONE_LAST + 1) * AB_MM_POINT_BYTES];
    ab_mm_message answer = {.kind = AB_MM_POINTS, .stream = gone, .first = 1};
    for (uint64_t i = 0; i <= GONE_LAST; i++) {
        uint64_t hash = i == 0 ? 0 : fix_info(gone, i, i).hash + (i > GONE_FORK);
        answer.points[answer.point_count++] = (ab_mm_point){i, hash};
    }
    ab_bytes bytes = {data, ab_mm_encode_points(&answer, data)};
    give_rewind(f, &(ab_event){.type = AB_EV_MESSAGE, .peer = 2, .bytes = bytes}, t);
}

static void give_infos(fixture *f, ab_mark from, taking_back *t)
{
    ab_block_info blocks[GONE_LAST];
    size_t count = 0;
    bool of_copy = from.stream.epoch != gone.epoch; /* an info of it could not be held */
    must(&t->o, !of_copy || from.stream.epoch == t->copy_stream.epoch, __LINE__);
    for (uint64_t i = from.index; i <= (of_copy ? t->copied : GONE_LAST); i++) {
        blocks[count++] = fix_info(from.stream, i, i);
    }
    give_rewind(f, &(ab_event){.type = AB_EV_LOADED, .mark = from, .blocks = blocks, .block_count = count},
                t);
}

static void give_copy(fixture *f, taking_back *t)
{
    ab_block_info info = fix_info(t->copy_stream, t->copied + 1, t->copied + 1);
    info.origin = t->copy.origin;
    t->copied++;
    t->copy.type = (ab_action_type)0;
    give_rewind(f, &(ab_event){.type = AB_EV_LOGGED, .block = &info}, t);
    give_rewind(f, &(ab_event){.type = AB_EV_DURABLE, .mark = {t->copy_stream, info.last}}, t);
}

/* Answers what is asked for, and lets time pass. */
static void answer_all(fixture *f, taking_back *t)
{
    for (unsigned round = 0; round < 40 && t->moves < 2; round++) {
        if (t->asked && !t->kept) {
            t->asked = false;
            give_history(f, t);
        }
        while (t->o.load_count > 0) {
            give_infos(f, t->o.loads[--t->o.load_count], t);
        }
        if (t->copy.type == AB_ACT_COPY) {
            give_copy(f, t);
        }
        if (t->back) {
            give_rewind(f, &(ab_event){.type = AB_EV_REWOUND, .mark = {gone, GONE_FORK}}, t);
        }
        f->now += 300 * FIX_MS;
        give_rewind(f, &(ab_event){.type = AB_EV_TIMER}, t);
    }
}

static bool story_of_a_rewind(taking_back *t)
{
    fixture f = {.backend = &ab_backend_multimaster, .now = 1000 * FIX_MS};
    uint64_t hash = fix_info(gone, GONE_LAST, GONE_LAST).hash;
    const ab_stream_state log = {.stream = gone, .last = GONE_LAST, .last_hash = hash};
    const ab_mark applied = {gone, GONE_LAST};
    const ab_mm_have theirs = {.stream = gone, .durable = GONE_LAST, .hash = hash + 1, .accepted = GONE_LAST};
    uint8_t data[AB_MM_MESSAGE_BYTES + AB_MM_HAVE_BYTES];
    ab_core_init init = fix_init(1);
    init.tail_safe = false;
    init.streams = &log;
    init.stream_count = 1;
    init.applied = (ab_frontier){&applied, 1};
    memset(t, 0, sizeof *t);
    int code = f.backend->create(&init, &f.core);
    if (code != AB_OK) {
        must(&t->o, code == AB_ENOMEM, __LINE__);
        return false;
    }
    give_rewind(&f, &(ab_event){.type = AB_EV_START}, t);
    give_rewind(&f, &(ab_event){.type = AB_EV_PEER_UP, .peer = 3}, t);
    size_t size = ab_mm_encode_have_begin(AB_MM_FULL, 0, false, data);
    give_rewind(&f, &(ab_event){.type = AB_EV_MESSAGE, .peer = 3, .bytes = {data, size}}, t);
    give_rewind(&f, &(ab_event){.type = AB_EV_PEER_UP, .peer = 2}, t);
    size = ab_mm_encode_have_begin(AB_MM_FULL, 1, false, data);
    size += ab_mm_encode_have(&theirs, data + size);
    give_rewind(&f, &(ab_event){.type = AB_EV_MESSAGE, .peer = 2, .bytes = {data, size}}, t);
    answer_all(&f, t);
    fix_close(&f);
    return true;
}

START_TEST(a_rewind_survives_every_failing_allocation)
{
    unsigned long n = 1;
    bool failed = true;
    for (; failed; n++) {
        taking_back t;
        alloc_fail_at(n);
        bool made = story_of_a_rewind(&t);
        failed = alloc_fail_happened();
        alloc_fail_at(0);
        if (!made) {
            continue;
        }
        ck_assert_msg(t.o.line == 0, "N = %lu: line %d of %s does not hold", n, t.o.line, __FILE__);
        ck_assert_msg(t.back && t.copied == GONE_LAST - GONE_FORK, "N = %lu: copied %llu", n,
                      (unsigned long long)t.copied);
        ck_assert_msg(t.moves >= 2, "N = %lu: %zu moves", n, t.moves);
        ab_mark last = t.moved[(t.moves - 1) % 2];
        ab_mark before = t.moved[t.moves % 2];
        ck_assert_msg(last.stream.epoch == gone.epoch && last.index == GONE_FORK, "N = %lu", n);
        ck_assert_msg(before.stream.epoch == t.copy_stream.epoch && before.index == GONE_LAST - GONE_FORK,
                      "N = %lu", n);
    }
    ck_assert_uint_gt(n, 25);
}
END_TEST

/* 10,000 idle groups of three members: what one takes, with streams of all three that were used and are quiet. */
START_TEST(an_idle_core_is_small)
{
    enum { CORES = 1000 };
    static fixture cores[CORES];
    outcome o;
    struct mallinfo2 before = mallinfo2();
    for (unsigned i = 0; i < CORES; i++) {
        fixture *f = &cores[i];
        ab_core_init init = fix_init(1);
        f->backend = &ab_backend_multimaster;
        f->now = 1000 * FIX_MS;
        memset(&o, 0, sizeof o);
        ck_assert_int_eq(f->backend->create(&init, &f->core), AB_OK);
        give(f, &(ab_event){.type = AB_EV_START}, &o);
        for (uint32_t peer = 2; peer <= 3; peer++) {
            give(f, &(ab_event){.type = AB_EV_PEER_UP, .peer = peer}, &o);
            give_have(f, peer, AB_MM_FULL, own, 0, &o);
        }
        memset(&o, 0, sizeof o);
        receive(f, other, 1, 2, NULL, &o);
        give(f, &(ab_event){.type = AB_EV_APPLIED, .mark = {other, 2}}, &o);
        memset(&o, 0, sizeof o);
        receive(f, third, 1, 2, NULL, &o);
        give(f, &(ab_event){.type = AB_EV_APPLIED, .mark = {third, 2}}, &o);
        memset(&o, 0, sizeof o);
        write_own(f, 1, &o);
        give(f, &(ab_event){.type = AB_EV_APPLIED, .mark = {own, 1}}, &o);
        give(f, &(ab_event){.type = AB_EV_SENT, .peer = 2, .mark = {own, 1}, .blocks_sent = 1}, &o);
        give(f, &(ab_event){.type = AB_EV_SENT, .peer = 3, .mark = {own, 1}, .blocks_sent = 1}, &o);
        give_have(f, 2, 0, own, 1, &o);
        give_have(f, 3, 0, own, 1, &o);
        tick(f, &o, 1000);
        tick(f, &o, 1000);
        ck_assert_uint_eq(f->backend->deadline(f->core), AB_NEVER);
        ab_actions_free(&f->actions);
    }
    struct mallinfo2 after = mallinfo2();
    size_t each = (after.uordblks - before.uordblks) / CORES;
    for (unsigned i = 0; i < CORES; i++) {
        fix_close(&cores[i]);
    }
    ck_assert_msg(each < 1600, "an idle core takes %zu bytes", each);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_alloc");
    TCase *tcase = tcase_create("alloc");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, every_failing_allocation_is_survived);
    tcase_add_test(tcase, a_rewind_survives_every_failing_allocation);
    if (!test_sanitized()) { /* they add to every allocation */
        tcase_add_test(tcase, an_idle_core_is_small);
    }
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
