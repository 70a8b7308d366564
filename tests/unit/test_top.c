/* SPDX-License-Identifier: Apache-2.0 */
/* The screen of `anabranch top` as lines: what is on it, that it fits whatever the size, what is shown first. */
#include "tests/support/run.h"
#include "tools/anabranch/source.h"
#include "tools/anabranch/text.h"
#include "tools/anabranch/top_view.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS 6u

static peer_sample peers[2][2];
static group_sample groups[2][GROUPS];
static top_node node[3];
static top_state state;
static top_view view;

static void make_sample(node_sample *s, int look)
{
    *s = (node_sample){
        .at_ms = 1000 + (uint64_t)look * 2000, .node_id = 7, .peers = peers[look], .peer_count = 2};
    for (size_t i = 0; i < FIGURE_COUNT; i++) {
        s->figures[i] = look * 3000.0;
    }
    s->figures[FIGURE_ACK_P50] = 0.0025;
    s->figures[FIGURE_ACK_P99] = NAN;
    s->figures[FIGURE_CPU] = look * 0.5;
    peers[look][0] = (peer_sample){.peer = 1, .up = true, .lag_entries = 10, .confirmed = 0};
    peers[look][1] =
        (peer_sample){.peer = 2, .lag_entries = 500 + 500 * (uint64_t)look, .lag_ms = 90500, .confirmed = 9};
    s->groups = groups[look];
    s->group_count = GROUPS;
    for (uint64_t i = 0; i < GROUPS; i++) {
        groups[look][i] =
            (group_sample){.group = i + 1, .good = i != 5, .last_index = 100, .lag_entries = i * 11};
        groups[look][i].applied_entries = look == 1 ? 4000 / (i + 1) : 0;
        snprintf(groups[look][i].name, sizeof groups[look][i].name, "group-%u-\xc2\xb5-with-a-long-name",
                 (unsigned)i + 1);
    }
    s->answer = json_pack("{s:b, s:s}", "running", 1, "code", "AB_OK");
}

static void setup(void)
{
    memset(node, 0, sizeof node);
    node[0].data_dir = "here";
    make_sample(&node[0].before, 0);
    make_sample(&node[0].now, 1);
    node[1].data_dir = "/a/long/name/of/a/directory";
    node[1].now.answer = json_pack("{s:b}", "running", 0);
    node[2].data_dir = "hung";
    node[2].now.node_id = 9;
    node[2].now.answer = json_pack("{s:b, s:s}", "running", 1, "code", "AB_ETIMEDOUT");
    for (size_t i = 1; i < 3; i++) {
        for (size_t k = 0; k < FIGURE_COUNT; k++) {
            node[i].now.figures[k] = NAN;
        }
    }
    state = (top_state){.nodes = node, .node_count = 3, .every_ms = 2000, .clock = "12:00:00"};
}

static void teardown(void)
{
    for (size_t i = 0; i < 3; i++) {
        json_decref(node[i].before.answer);
        json_decref(node[i].now.answer);
    }
    free(view.lines);
    view = (top_view){0};
}

static void make(size_t columns, size_t rows)
{
    free(view.lines);
    view = (top_view){.columns = columns, .rows = rows, .lines = calloc(rows, sizeof(top_line))};
    ck_assert_ptr_nonnull(view.lines);
    ck_assert(top_view_make(&view, &state));
    ck_assert_uint_eq(view.used, rows);
    for (size_t i = 0; i < rows; i++) {
        ck_assert_uint_le(text_width(view.lines[i].text), columns);
        ck_assert_uint_eq(text_strange(view.lines[i].text, strlen(view.lines[i].text)), 0);
    }
}

/* The first line with the text; the number of lines if there is none. */
static size_t find(const char *text)
{
    size_t i = 0;
    while (i < view.used && strstr(view.lines[i].text, text) == NULL) {
        i++;
    }
    return i;
}

static void expect(const char *text)
{
    ck_assert_msg(find(text) < view.used, "no line with \"%s\"", text);
}

START_TEST(usual_size)
{
    make(80, 24);
    expect("anabranch top  12:00:00  1 of 3 nodes run  every 2.0s  by name");
    expect("1.5k entries/s written; slowest peer 1,000 entries behind, the oldest 1m30s old");
    expect("node 7   runs       1.5k    1.5k    1.5k  2.5 ms       - 2.93 KiB 2.93 KiB   25");
    expect("/a/long/ stopped       -       -");
    expect("node 9   silent        -       -");
    expect("node 7   node 2   down     1,000      0 B   1m30s   link is down      0 B");
    ck_assert_int_eq(view.lines[find("node 2   down")].style, STYLE_BAD);
    ck_assert_int_eq(view.lines[find("stopped")].style, STYLE_BAD);
    expect("node 7   group-1-\xc2\xb5-with-a-lo       0      2k");
    ck_assert_str_eq(view.lines[23].text, "q quit  s sort  p pause  h help");
}
END_TEST

/* The most important things are still there when it is small. */
START_TEST(any_size)
{
    for (size_t rows = 1; rows < 40; rows++) {
        for (size_t columns = 1; columns < 200; columns += 13) {
            make(columns, rows);
            ck_assert_int_eq(view.lines[rows - 1].text[0], 'q');
        }
        state.help = rows % 2 == 0;
    }
    state.help = false;
    make(80, 12);
    expect("shown: 2 of 3 nodes, 2 of 6 groups");
}
END_TEST

/* A narrow screen has fewer columns, not half of them. */
START_TEST(narrow)
{
    make(40, 16);
    expect("12:00:00  1 of 3 run  by name");
    expect("1.5k/s written; behind: 1,000, 1m30s");
    expect("NODE     STATE   WRITE/s      LOG CPU%");
    expect("node 7   runs       1.5k 2.93 KiB   25");
    expect("NODE     PEER     LINK    BEHIND  OLDEST");
    expect("node 7   node 2   down     1,000   1m30s");
    expect("NODE     GROUP      WRITE/s    BEHIND");
    expect("node 7   group-1-\xc2\xb5-       0         0");
    ck_assert_uint_lt(find("q s p h   shown: 5 of 6 groups"), view.used);
    make(62, 16);
    expect("NODE     STATE   WRITE/s   LOG/s APPLY/s     P99      LOG CPU%");
    make(79, 16);
    expect("NODE     GROUP              WRITE/s APPLY/s  QUEUED TO APPLY    BEHIND  OLDEST");
}
END_TEST

START_TEST(sorting)
{
    make(80, 24);
    ck_assert_uint_lt(find("group-1"), find("group-2"));
    ck_assert_uint_lt(find("node 7   node 1"), find("node 7   node 2"));
    state.sort = TOP_BY_LAG;
    make(80, 24);
    expect("by lag");
    ck_assert_uint_lt(find("group-5"), find("group-4"));
    ck_assert_uint_lt(find("group-6"), find("group-5")); /* it is not good */
    ck_assert_uint_lt(find("node 7   node 2"), find("node 7   node 1"));
    state.sort = TOP_BY_RATE;
    make(80, 24);
    ck_assert_uint_lt(find("group-1"), find("group-6"));
    ck_assert_uint_lt(find("node 7   runs"), find("stopped"));
}
END_TEST

START_TEST(first_look)
{
    json_decref(node[0].before.answer);
    node[0].before = (node_sample){0};
    make(80, 24);
    expect("node 7   runs          -       -       -  2.5 ms");
    expect("?");
}
END_TEST

START_TEST(help_and_pause)
{
    state.help = state.paused = true;
    make(80, 24);
    expect("PAUSED");
    expect("s sort by name, rate, lag");
    expect("p go on");
    ck_assert_uint_eq(find("group-1"), view.used);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("top");
    TCase *tests = tcase_create("top");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, usual_size);
    tcase_add_test(tests, any_size);
    tcase_add_test(tests, narrow);
    tcase_add_test(tests, sorting);
    tcase_add_test(tests, first_look);
    tcase_add_test(tests, help_and_pause);
    suite_add_tcase(suite, tests);
    return test_run(suite);
}
