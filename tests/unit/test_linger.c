/* SPDX-License-Identifier: Apache-2.0 */
/* How long received blocks wait for company: until the next one is late, never beyond a bound, and not at all where a commit
 * costs nothing. All times are virtual. */
#include "engine/linger.h"
#include "tests/support/run.h"

#include <check.h>

#define US 1000ull
#define MS 1000000ull
#define START (7 * MS)

static ab_linger after_commits(uint64_t took, unsigned count)
{
    ab_linger linger = {0};
    for (unsigned i = 0; i < count; i++) {
        ab_linger_committed(&linger, took);
    }
    return linger;
}

/* Blocks come `gap` apart, `count` of them. @return how long after the last one they are due */
static uint64_t due_after(ab_linger *linger, unsigned count, uint64_t gap)
{
    uint64_t now = START;
    for (unsigned i = 0; i < count; i++) {
        now = START + i * gap;
        ab_linger_came(linger, i == 0, now);
    }
    uint64_t due = ab_linger_due(linger);
    return due > now ? due - now : 0;
}

START_TEST(nothing_known_is_no_wait)
{
    ab_linger linger = {0};
    ck_assert_uint_eq(due_after(&linger, 1, 0), 0);
}
END_TEST

START_TEST(the_last_before_a_silence_waits_for_two_commits)
{
    ab_linger linger = after_commits(200 * US, 1);
    ck_assert_uint_eq(due_after(&linger, 1, 0), 400 * US);
    ck_assert_uint_eq(due_after(&linger, 4, 300 * US), 400 * US);
}
END_TEST

START_TEST(as_long_as_they_come_they_gather_up_to_a_bound)
{
    ab_linger linger = after_commits(200 * US, 1);
    uint64_t now = START;
    while (now < START + 100 * MS) {
        ab_linger_came(&linger, now == START, now);
        if (ab_linger_due(&linger) <= now + 300 * US) {
            break;
        }
        now += 300 * US;
    }
    uint64_t waited = ab_linger_due(&linger) - START;
    ck_assert_uint_eq(waited, 3200 * US); /* sixteen commits */
}
END_TEST

START_TEST(the_bound_counts_from_the_oldest_that_waits)
{
    ab_linger linger = after_commits(200 * US, 1);
    ab_linger_came(&linger, true, START);
    ab_linger_came(&linger, false, START + 3100 * US);
    ck_assert_uint_eq(ab_linger_due(&linger), START + 3200 * US);
    ab_linger_came(&linger, true, START + 3300 * US); /* those were committed */
    ck_assert_uint_eq(ab_linger_due(&linger), START + 3700 * US);
}
END_TEST

START_TEST(a_slow_disk_does_not_stretch_the_waits)
{
    ab_linger linger = after_commits(50 * MS, 100);
    ck_assert_uint_eq(due_after(&linger, 1, 0), 1 * MS);
    ck_assert_uint_eq(due_after(&linger, 9, 900 * US), 800 * US); /* 8 ms after the first */
}
END_TEST

START_TEST(one_stall_is_soon_forgotten)
{
    ab_linger linger = after_commits(100 * US, 100);
    ab_linger_committed(&linger, 3000 * MS);
    for (unsigned i = 0; i < 50; i++) {
        ab_linger_committed(&linger, 100 * US);
    }
    uint64_t wait = due_after(&linger, 1, 0);
    ck_assert_msg(wait >= 190 * US && wait <= 215 * US, "%llu ns", (unsigned long long)wait);
}
END_TEST

START_TEST(commits_without_a_disk_leave_no_wait_to_speak_of)
{
    ab_linger linger = after_commits(8 * US, 20);
    ck_assert_uint_le(due_after(&linger, 1, 0), 16 * US);
    ck_assert_uint_eq(due_after(&linger, 2, 1 * MS), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("linger");
    TCase *tc = tcase_create("linger");
    tcase_add_test(tc, nothing_known_is_no_wait);
    tcase_add_test(tc, the_last_before_a_silence_waits_for_two_commits);
    tcase_add_test(tc, as_long_as_they_come_they_gather_up_to_a_bound);
    tcase_add_test(tc, the_bound_counts_from_the_oldest_that_waits);
    tcase_add_test(tc, a_slow_disk_does_not_stretch_the_waits);
    tcase_add_test(tc, one_stall_is_soon_forgotten);
    tcase_add_test(tc, commits_without_a_disk_leave_no_wait_to_speak_of);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
