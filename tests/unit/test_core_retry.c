/* SPDX-License-Identifier: Apache-2.0 */
/* When the multimaster core sends again what was not confirmed: a line with a long queue before it, one that loses
 * everything for a while, one that gets faster. A peer behind a line of a given speed, in virtual time. */
#include "tests/support/run.h"
#include "tests/unit/core_fixture.h"

#include <check.h>

#define PEER 2u
#define BLOCKS 900u
#define PACKETS 8192u

static const ab_stream own = {1, FIX_WALL};

typedef struct packet {
    uint64_t arrives;
    uint64_t index;
} packet;

/* Blocks on their way and confirmations on theirs: each arrives later than the one before it. */
typedef struct line {
    packet packets[PACKETS];
    size_t first, count;
    uint64_t free_at;    /* when the next block can go */
    uint64_t block_ns;   /* what one takes */
    uint64_t back_ns;    /* what a confirmation takes */
    uint64_t late_at;    /* from this block on it takes ... */
    uint64_t late_ns;    /* ... so much longer: the other direction has a queue, too */
    uint64_t expected;   /* the peer has all before */
    uint64_t sent;       /* blocks, however often */
    uint64_t lost_until; /* nothing arrives that was sent before */
} line;

static fixture f;
static line l;

static void setup(void)
{
    ab_core_init init = fix_init(1);
    init.window_blocks = 64;
    init.window_bytes = 1 << 20;
    l = (line){.expected = 1};
    fix_open(&f, &ab_backend_multimaster, &init);
    fix_simple(&f, AB_EV_START, 0);
}

static void teardown(void)
{
    fix_close(&f);
}

/* Puts what is to be sent on the line, up to `end`. */
static void carry(uint64_t end)
{
    for (;;) {
        const ab_action *send = fix_action(&f, AB_ACT_SEND, 0);
        if (send == NULL || send->peer != PEER) {
            return;
        }
        uint64_t from = send->mark.index;
        uint32_t blocks = send->blocks < end + 1 - from ? send->blocks : (uint32_t)(end + 1 - from);
        for (uint32_t i = 0; i < blocks; i++) {
            l.free_at = (l.free_at > f.now ? l.free_at : f.now) + l.block_ns;
            l.sent++;
            if (f.now >= l.lost_until) {
                ck_assert_uint_lt(l.first + l.count, PACKETS);
                uint64_t late = l.late_at != 0 && from + i >= l.late_at ? l.late_ns : 0;
                l.packets[l.first + l.count++] = (packet){l.free_at + l.back_ns + late, from + i};
            }
        }
        fix_sent(&f, PEER, own, from + blocks - 1, blocks, AB_OK);
    }
}

/* The peer logs what comes in turn and confirms what it has. */
static void arrive(uint64_t end)
{
    packet p = l.packets[l.first++];
    l.count--;
    f.now = p.arrives > f.now ? p.arrives : f.now;
    l.expected += p.index == l.expected;
    uint64_t has = l.expected - 1;
    ab_mm_have have = {.stream = own, .durable = has, .accepted = has, .hash = fix_info(own, 1, has).hash};
    fix_have(&f, PEER, 0, &have, 1);
    carry(end);
}

/* Until the peer has all of it. */
static void run_until(uint64_t end)
{
    carry(end);
    while (l.expected <= end) {
        uint64_t deadline = f.backend->deadline(f.core);
        ck_assert(l.count > 0 || deadline != AB_NEVER);
        if (l.count > 0 && l.packets[l.first].arrives <= deadline) {
            arrive(end);
        } else {
            fix_timer(&f);
            carry(end);
        }
        ck_assert_uint_lt(f.now, 1000 * 1000 * FIX_MS);
    }
}

static void start(uint64_t end)
{
    fix_link(&f, PEER);
    for (uint64_t i = 1; i <= end; i++) {
        fix_write(&f, own, i, i);
        carry(i);
        fix_mark(&f, AB_EV_DURABLE, own, i);
        carry(i);
    }
}

static void expect_sent(uint64_t most)
{
    ck_assert_msg(l.sent <= most, "%llu blocks were sent, of %u", (unsigned long long)l.sent, BLOCKS);
    ck_assert_uint_ge(l.sent, BLOCKS);
}

/* The window fills a queue of 640 ms; the first wait is 100 ms. Then the line back gets a queue, too: for 400 ms nothing is
 * confirmed. */
START_TEST(a_full_line_carries_everything_once)
{
    l.block_ns = 10 * FIX_MS;
    l.back_ns = 20 * FIX_MS;
    l.late_at = 200;
    l.late_ns = 400 * FIX_MS;
    start(BLOCKS);
    run_until(BLOCKS);
    expect_sent(BLOCKS);
}
END_TEST

/* Before anything was measured a wait may be too short: it grows, and what comes of it ends. */
START_TEST(a_slow_line_is_learnt)
{
    l.block_ns = 10 * FIX_MS;
    l.back_ns = 250 * FIX_MS;
    start(BLOCKS);
    run_until(BLOCKS);
    expect_sent(BLOCKS + 5 * 64);
}
END_TEST

/* What really gets lost comes again, after what was measured and not much more. */
START_TEST(what_is_lost_comes_again)
{
    l.block_ns = FIX_MS;
    l.back_ns = 20 * FIX_MS;
    start(400);
    run_until(400);
    l.lost_until = f.now + 10 * FIX_MS;
    for (uint64_t i = 401; i <= 430; i++) {
        fix_write(&f, own, i, i);
        carry(i);
        fix_mark(&f, AB_EV_DURABLE, own, i);
        carry(i);
    }
    uint64_t lost_at = f.now;
    run_until(430);
    ck_assert_uint_gt(l.sent, 430);
    ck_assert_uint_lt(f.now - lost_at, 500 * FIX_MS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_retry");
    TCase *tcase = tcase_create("line");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_full_line_carries_everything_once);
    tcase_add_test(tcase, a_slow_line_is_learnt);
    tcase_add_test(tcase, what_is_lost_comes_again);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
