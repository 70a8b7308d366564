/* SPDX-License-Identifier: Apache-2.0 */
/* Looks over time: rates, what a restart does to them, time to catch up. The nodes are rows made up here. */
#include "tests/support/run.h"
#include "tools/anabranch/cli.h"
#include "tools/anabranch/history.h"

#include <check.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* What the next look finds. */
static struct made_up {
    bool running;
    uint64_t entries;
    uint64_t lag;
    uint64_t confirmed;
    double p50;
} state;

/* In the place of source.c: rows as a node would send them. */
static unsigned logs_opened;

void source_connect(source *s, const char *data_dir)
{
    *s = (source){
        .data_dir = data_dir, .fd = state.running ? 1000000 : -1, .code = state.running ? AB_OK : AB_ECLOSED};
}

void source_open(source *s, const char *data_dir)
{
    logs_opened += !state.running;
    *s = (source){.data_dir = data_dir, .fd = state.running ? 1000000 : -1};
}

void source_close(source *s)
{
    (void)s;
}

bool source_live(const source *s)
{
    return s->fd >= 0;
}

static bool give(row_fn fn, void *arg, json_t *row)
{
    ck_assert_ptr_nonnull(row);
    bool more = fn(arg, row);
    json_decref(row);
    return more;
}

int source_ask(source *s, const query *q, row_fn fn, void *arg)
{
    if (s->code != AB_OK) {
        return s->code;
    }
    bool good = give(fn, arg, json_pack("{s:s, s:i}", "type", "node", "node_id", 7));
    if (strcmp(q->command, "metrics") != 0) {
        good = good && give(fn, arg, json_pack("{s:s, s:i, s:b}", "type", "link", "peer", 2, "up", 1));
    }
    if (strcmp(q->command, "status") == 0) {
        good = good && give(fn, arg,
                            json_pack("{s:s, s:i, s:s, s:I}", "type", "group", "group", 1, "name", "g",
                                      "last_index", (json_int_t)state.entries));
    } else if (strcmp(q->command, "peers") == 0) {
        good = good && give(fn, arg,
                            json_pack("{s:s, s:i, s:i, s:I, s:I, s:i}", "type", "sync", "group", 1, "peer", 2,
                                      "lag_entries", (json_int_t)state.lag, "sync_index",
                                      (json_int_t)state.confirmed, "lag_ms", 1500));
    } else {
        good = good && give(fn, arg,
                            json_pack("{s:s, s:s, s:f}", "type", "metric", "name", "write_ack_p50_seconds",
                                      "value", state.p50));
    }
    return good ? AB_OK : AB_ECLOSED;
}

bool report_file(json_t *answer, json_t *row)
{
    const char *type = row_text(row, "type");
    char place[16];
    if (strcmp(type, "node") == 0) {
        return json_object_set(answer, type, row) == 0;
    }
    snprintf(place, sizeof place, "%ss", type);
    if (json_object_get(answer, place) == NULL) {
        json_object_set_new(answer, place, json_array());
    }
    return json_array_append(json_object_get(answer, place), row) == 0;
}

static void expect_catch_up(uint64_t lag_before, uint64_t lag, uint64_t confirmed, double seconds)
{
    peer_sample before = {.lag_entries = lag_before, .confirmed = 1000};
    peer_sample now = {.lag_entries = lag, .confirmed = 1000 + confirmed};
    double got = sample_catch_up(&before, &now, 2000);
    ck_assert_msg(isnan(seconds) ? isnan(got) : got == seconds, "%g, not %g", got, seconds);
}

START_TEST(catching_up)
{
    expect_catch_up(10, 0, 0, 0);
    expect_catch_up(100, 50, 200, 0.5);           /* no more than what is under way */
    expect_catch_up(50, 100, 200, 1);             /* the same, though it is more than before */
    expect_catch_up(10000, 8000, 2400, 8);        /* 1,000 a second less */
    expect_catch_up(8000, 10000, 2400, INFINITY); /* more comes than goes */
    expect_catch_up(8000, 8000, 0, INFINITY);     /* it stands still */
    peer_sample now = {.lag_entries = 5};
    ck_assert(isnan(sample_catch_up(NULL, &now, 2000)));
    ck_assert(isnan(sample_catch_up(&now, NULL, 2000)));
    peer_sample restarted = {.lag_entries = 5, .confirmed = 99};
    ck_assert(isnan(sample_catch_up(&restarted, &now, 2000)));
    char text[32];
    sample_catch_up_text(true, 0, text, sizeof text);
    ck_assert_str_eq(text, "in step");
    sample_catch_up_text(true, 192, text, sizeof text);
    ck_assert_str_eq(text, "3m12s");
    sample_catch_up_text(true, INFINITY, text, sizeof text);
    ck_assert_str_eq(text, "falling behind");
    sample_catch_up_text(true, NAN, text, sizeof text);
    ck_assert_str_eq(text, "?");
    const double any[] = {0, 192, INFINITY, NAN};
    for (size_t i = 0; i < sizeof any / sizeof any[0]; i++) {
        sample_catch_up_text(false, any[i], text, sizeof text);
        ck_assert_str_eq(text, "link is down");
    }
}
END_TEST

START_TEST(rates)
{
    ck_assert(sample_rate(100, 300, 500) == 400);
    ck_assert(sample_rate(300, 300, 500) == 0);
    ck_assert(isnan(sample_rate(300, 299, 500)));
    ck_assert(isnan(sample_rate(100, 300, 0)));
}
END_TEST

/* The clock of the looks moves on before the next one. */
static void let_time_pass(void)
{
    uint64_t now = sample_now_ms();
    while (sample_now_ms() < now + 2) {
    }
}

START_TEST(looks)
{
    static const char *const dirs[] = {".", "/"};
    history h;
    ck_assert(history_init(&h, dirs, 2, 6));
    ck_assert_uint_eq(h.node_count, 2);
    state = (struct made_up){.running = true, .entries = 100, .lag = 10, .confirmed = 90, .p50 = 0.25};
    ck_assert(history_look(&h, false));
    const history_node *n = &h.nodes[0];
    ck_assert(isnan(n->figures[FIGURE_WRITTEN][0]));
    ck_assert(n->figures[FIGURE_ACK_P50][0] == 0.25);
    ck_assert_uint_eq(n->last.node_id, 7);
    ck_assert_uint_eq(n->last.peer_count, 1);
    ck_assert(n->peers[0].lag_entries[0] == 10 && n->peers[0].lag_seconds[0] == 1.5);

    let_time_pass();
    state = (struct made_up){.running = true, .entries = 200, .lag = 0, .confirmed = 200};
    ck_assert(history_look(&h, false));
    ck_assert(n->figures[FIGURE_WRITTEN][1] > 0);
    ck_assert(isnan(n->figures[FIGURE_ACK_P50][1])); /* nothing was written */
    ck_assert(history_catch_up(&h, 0, 2) == 0);
    ck_assert(isnan(history_catch_up(&h, 0, 3)));

    let_time_pass();
    state.running = false;
    ck_assert(history_look(&h, false));
    ck_assert(isnan(n->figures[FIGURE_WRITTEN][2]));
    ck_assert(isnan(n->peers[0].lag_entries[2]));
    ck_assert(isnan(history_catch_up(&h, 0, 2)));
    ck_assert_uint_eq(n->missed, 1);
    ck_assert_uint_eq(logs_opened, 0); /* a look must not keep the node from starting */

    let_time_pass();
    state = (struct made_up){.running = true, .entries = 5}; /* it began anew */
    ck_assert(history_look(&h, false));
    ck_assert(isnan(n->figures[FIGURE_WRITTEN][3]));
    let_time_pass();
    state.entries = 50;
    ck_assert(history_look(&h, false));
    ck_assert(n->figures[FIGURE_WRITTEN][4] > 0);
    let_time_pass();
    state.entries = 20; /* and once more, between two looks */
    ck_assert(history_look(&h, false));
    ck_assert(isnan(n->figures[FIGURE_WRITTEN][5]));
    ck_assert(history_mean(&h, n->figures[FIGURE_WRITTEN]) > 0);
    ck_assert(isnan(history_mean(&h, n->figures[FIGURE_CPU])));
    ck_assert(history_look(&h, false)); /* no room: not counted */
    state.running = false;
    node_sample thorough;
    ck_assert(sample_take(&thorough, ".", true, 1000));
    ck_assert_uint_eq(logs_opened, 1);
    sample_free(&thorough);
    ck_assert_uint_eq(h.count, 6);
    history_free(&h);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("history");
    TCase *tests = tcase_create("history");
    tcase_add_test(tests, catching_up);
    tcase_add_test(tests, rates);
    tcase_add_test(tests, looks);
    suite_add_tcase(suite, tests);
    return test_run(suite);
}
