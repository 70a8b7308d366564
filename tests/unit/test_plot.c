/* SPDX-License-Identifier: Apache-2.0 */
/* Plots: ticks are round and inside the range, values read well, and what is written is well-formed whatever it is
 * given: names with markup in them, gaps, no data, far too much of it. With an argument: writes samples there to look at. */
#include "tests/support/markup_check.h"
#include "tests/support/run.h"
#include "tools/anabranch/markup.h"
#include "tools/anabranch/plot.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void expect_value(plot_unit unit, double value, const char *expected)
{
    char text[64];
    plot_value(unit, value, text, sizeof text);
    ck_assert_str_eq(text, expected);
}

START_TEST(values_in_words)
{
    expect_value(PLOT_NUMBER, 0, "0");
    expect_value(PLOT_NUMBER, 7, "7");
    expect_value(PLOT_NUMBER, 0.25, "0.25");
    expect_value(PLOT_NUMBER, 999.6, "1k");
    expect_value(PLOT_NUMBER, 1500, "1.5k");
    expect_value(PLOT_NUMBER, 123456, "123k");
    expect_value(PLOT_NUMBER, 2e6, "2M");
    expect_value(PLOT_NUMBER, -1500, "-1.5k");
    expect_value(PLOT_NUMBER, 100, "100");
    expect_value(PLOT_NUMBER, 0.002, "0.002");
    expect_value(PLOT_NUMBER, NAN, "-");
    expect_value(PLOT_NUMBER, INFINITY, "-");
    expect_value(PLOT_BYTES, 512, "512 B");
    expect_value(PLOT_BYTES, 1024, "1 KiB");
    expect_value(PLOT_BYTES, 1.5 * 1024 * 1024, "1.5 MiB");
    expect_value(PLOT_BYTES, 1023.9 * 1024, "1 MiB");
    expect_value(PLOT_SECONDS, 0, "0");
    expect_value(PLOT_SECONDS, 250e-6, "250 us");
    expect_value(PLOT_SECONDS, 2e-9, "2 ns");
    expect_value(PLOT_SECONDS, 0.0015, "1.5 ms");
    expect_value(PLOT_SECONDS, 1.25, "1.25 s");
    expect_value(PLOT_SECONDS, 0.99999, "1 s");
    expect_value(PLOT_ELAPSED, 0.5, "0.5 s");
    expect_value(PLOT_ELAPSED, 59.99, "1 min");
    expect_value(PLOT_ELAPSED, 90, "1 min 30 s");
    expect_value(PLOT_ELAPSED, 5400, "1 h 30 min");
    expect_value(PLOT_ELAPSED, 90000, "1 d 1 h");
    expect_value(PLOT_ELAPSED, 86400 * 400.0, "400 d");
}
END_TEST

static void expect_ticks(plot_unit unit, bool log, double low, double high, size_t most, const char *expected)
{
    double ticks[16];
    char text[512] = "";
    size_t count = plot_ticks(unit, log, low, high, most, ticks);
    ck_assert_uint_le(count, most);
    for (size_t i = 0; i < count; i++) {
        char one[64];
        plot_value(unit, ticks[i], one, sizeof one);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i > 0 ? ", " : "", one);
    }
    ck_assert_str_eq(text, expected);
}

START_TEST(round_ticks)
{
    expect_ticks(PLOT_NUMBER, false, 0, 100, 6, "0, 20, 40, 60, 80, 100");
    expect_ticks(PLOT_NUMBER, false, 0, 230000, 6, "0, 50k, 100k, 150k, 200k");
    expect_ticks(PLOT_NUMBER, false, -3, 3, 7, "-3, -2, -1, 0, 1, 2, 3");
    expect_ticks(PLOT_NUMBER, false, 0, 0.3, 4, "0, 0.1, 0.2, 0.3");
    expect_ticks(PLOT_BYTES, false, 0, 5000, 6, "0 B, 1 KiB, 2 KiB, 3 KiB, 4 KiB");
    expect_ticks(PLOT_BYTES, false, 0, 3, 6, "0 B, 1 B, 2 B, 3 B");
    expect_ticks(PLOT_ELAPSED, false, 0, 60, 6, "0, 15 s, 30 s, 45 s, 1 min");
    expect_ticks(PLOT_ELAPSED, false, 0, 7200, 6, "0, 30 min, 1 h, 1 h 30 min, 2 h");
    expect_ticks(PLOT_ELAPSED, false, 0, 2.5, 6, "0, 0.5 s, 1 s, 1.5 s, 2 s, 2.5 s");
    expect_ticks(PLOT_ELAPSED, false, 0, 86400 * 9, 6, "0, 2 d, 4 d, 6 d, 8 d");
    expect_ticks(PLOT_NUMBER, true, 1, 1e5, 6, "1, 10, 100, 1k, 10k, 100k");
    expect_ticks(PLOT_NUMBER, true, 1, 1e9, 6, "1, 100, 10k, 1M, 100M");
    expect_ticks(PLOT_SECONDS, true, 1e-4, 1e-3, 6, "100 us, 200 us, 500 us, 1 ms");
    expect_ticks(PLOT_BYTES, true, 1024, 65536, 6, "1 KiB, 4 KiB, 16 KiB, 64 KiB");
    expect_ticks(PLOT_NUMBER, false, 5, 5, 6, "");
    expect_ticks(PLOT_NUMBER, false, 0, INFINITY, 6, "");
    expect_ticks(PLOT_NUMBER, true, 0, 5, 6, "");
    expect_ticks(PLOT_NUMBER, false, 0, 5, 1, "");
}
END_TEST

/* Whatever the range: ticks ascend, lie inside it, and there are at least two for a scale that is not logarithmic. */
START_TEST(ticks_of_any_range)
{
    srand(7);
    for (int i = 0; i < 20000; i++) {
        double ticks[8];
        double low = pow(10, rand() % 20 - 8) * (1 + rand() % 90) / 10;
        double high = low * (1.05 + rand() % 1000);
        bool log = rand() % 2 == 0;
        plot_unit unit = (plot_unit)(rand() % 4);
        low = !log && rand() % 2 == 0 ? 0 : low;
        size_t most = 2 + (size_t)rand() % 7;
        size_t count = plot_ticks(unit, log, low, high, most, ticks);
        ck_assert_uint_le(count, most);
        ck_assert(log || unit != PLOT_NUMBER || count >= (most >= 6 ? 2 : 0));
        for (size_t k = 0; k < count; k++) {
            ck_assert(ticks[k] >= low - fabs(low) * 1e-6 && ticks[k] <= high * (1 + 1e-6));
            ck_assert(k == 0 || ticks[k] > ticks[k - 1]);
        }
    }
}
END_TEST

/* What a function writes, as text to be freed. */
typedef struct sink {
    char *text;
    size_t size;
    FILE *out;
} sink;

static FILE *sink_open(sink *s)
{
    s->out = open_memstream(&s->text, &s->size);
    ck_assert_ptr_nonnull(s->out);
    return s->out;
}

static char *sink_close(sink *s)
{
    ck_assert_int_eq(fclose(s->out), 0);
    return s->text;
}

static void expect_well_formed(const char *text)
{
    size_t where;
    const char *problem = markup_check(text, &where);
    ck_assert_msg(problem == NULL, "%s: %.60s", problem, text + where);
}

/* The checker itself can say no. */
START_TEST(checker)
{
    static const char *const bad[] = {"<a>",
                                      "</a>",
                                      "<a></b>",
                                      "<a b=c></a>",
                                      "a & b",
                                      "a &b",
                                      "a > b",
                                      "<a b=\"<\"/>",
                                      "<a id=\"x\"/><b id=\"x\"/>",
                                      "<script></script>",
                                      "<a",
                                      "<a src=\"x\"/>"};
    size_t where;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(markup_check(bad[i], &where) != NULL, "%s", bad[i]);
    }
    expect_well_formed(
        "<!DOCTYPE html><a b=\"c>d\" id=\"x\"><b id=\"y\"/>&amp;&#39;<style>a>b{}</style></a>");
}
END_TEST

static size_t times(const char *text, const char *what)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++) {
        count++;
    }
    return count;
}

static char *lines_of(const plot_line_chart *chart)
{
    sink s;
    ck_assert(plot_lines(chart, sink_open(&s)));
    char *text = sink_close(&s);
    expect_well_formed(text);
    return text;
}

static char *bars_of(const plot_bar_chart *chart)
{
    sink s;
    ck_assert(plot_bars(chart, sink_open(&s)));
    char *text = sink_close(&s);
    expect_well_formed(text);
    return text;
}

START_TEST(escaping)
{
    sink s;
    FILE *out = sink_open(&s);
    markup_text(out, "a<b>&\"'\x1b\xff\xe2\x80\xae\xc2\xb5");
    markup_cut(out, "|\xc2\xb5<\xc2\xb5!", 3);
    markup_cut(out, "|abc", 4);
    markup_bytes(out, "|x\0y", 4);
    char *text = sink_close(&s);
    ck_assert_str_eq(text,
                     "a&lt;b&gt;&amp;&quot;&#39;\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                     "\xc2\xb5|\xc2\xb5&lt;\xe2\x80\xa6|abc|x\xef\xbf\xbdy");
    free(text);
}
END_TEST

START_TEST(names_with_markup)
{
    static const double x[] = {0, 1};
    static const double y[] = {1, 2};
    const plot_series series[] = {{"<script>&\"x\"", x, y, 2, 0}};
    const plot_line_chart chart = {.frame = {.id = "a", .title = "</title><b>"},
                                   .x = {.label = "<x>"},
                                   .y = {.label = "<y>"},
                                   .series = series,
                                   .series_count = 1};
    char *text = lines_of(&chart);
    ck_assert_ptr_null(strstr(text, "<script"));
    ck_assert_ptr_null(strstr(text, "<b>"));
    ck_assert_ptr_nonnull(strstr(text, "&lt;script&gt;&amp;&quot;x&quot;"));
    free(text);
    static const char *const categories[] = {"<c>"};
    static const char *const names[] = {"<s>", "t"};
    const plot_bar_chart bars = {.frame = {.id = "b", .title = "<i>"},
                                 .categories = categories,
                                 .category_count = 1,
                                 .series = names,
                                 .series_count = 2,
                                 .values = y};
    text = bars_of(&bars);
    ck_assert_ptr_null(strstr(text, "<i>"));
    ck_assert_ptr_null(strstr(text, "<c>"));
    ck_assert_ptr_null(strstr(text, "<s>"));
    free(text);
}
END_TEST

/* The line's path of series `index`. */
static void path_of(const char *text, size_t index, char *path, size_t size)
{
    for (size_t i = 0; i <= index; i++) {
        text = strstr(text, "stroke-linecap");
        ck_assert_ptr_nonnull(text);
        text++;
    }
    text = strstr(text, " d=\"") + 4;
    snprintf(path, size, "%.*s", (int)strcspn(text, "\""), text);
}

START_TEST(gaps_and_points)
{
    static const double x[] = {0, 1, 2, 3, 4, 5};
    static const double y[] = {1, 2, NAN, 3, NAN, -1};
    const plot_series series[] = {{"gaps", x, y, 6, 0}, {"one", x, y, 1, 0}, {"none", x, y, 0, 0}};
    plot_line_chart chart = {.frame = {.id = "g", .title = "Gaps"}, .series = series, .series_count = 3};
    char path[256];
    char *text = lines_of(&chart);
    path_of(text, 0, path, sizeof path);
    ck_assert_uint_eq(times(path, "M"), 3);
    ck_assert_uint_eq(times(path, "L"), 1);
    ck_assert_uint_eq(times(path, "h0.1"), 2);
    path_of(text, 1, path, sizeof path);
    ck_assert_uint_eq(times(path, "M"), 1);
    path_of(text, 2, path, sizeof path);
    ck_assert_str_eq(path, "");
    ck_assert_ptr_nonnull(strstr(text, "gaps: -1 to 3. one: 1 to 1. none: no values."));
    free(text);
    chart.y.log = true; /* -1 has no place there */
    text = lines_of(&chart);
    path_of(text, 0, path, sizeof path);
    ck_assert_uint_eq(times(path, "M"), 2);
    free(text);
}
END_TEST

START_TEST(colours_of_lines)
{
    static const double x[] = {0, 1};
    const plot_series series[] = {{.name = "third", .x = x, .y = x, .count = 2, .colour = 3},
                                  {.name = "by place", .x = x, .y = x, .count = 2}};
    const plot_line_chart chart = {.frame = {.id = "c", .title = ""}, .series = series, .series_count = 2};
    char *text = lines_of(&chart);
    ck_assert_uint_eq(times(text, "\"line c2\""), 2); /* in the legend and as a line */
    ck_assert_uint_eq(times(text, "\"line c1\""), 2);
    free(text);
}
END_TEST

START_TEST(nothing_at_all)
{
    for (int log = 0; log < 2; log++) {
        const plot_axis axis = {.log = log};
        const plot_line_chart lines = {.frame = {.id = "n", .title = ""}, .x = axis, .y = axis};
        const plot_bar_chart bars = {.frame = {.id = "n", .title = ""}, .y = axis};
        free(lines_of(&lines));
        free(bars_of(&bars));
    }
}
END_TEST

/* A hundred thousand points take no more room than the paper has columns, and peak and trough are still there. */
START_TEST(many_points)
{
    enum { COUNT = 100000 };
    double *x = malloc(COUNT * sizeof *x);
    double *y = malloc(COUNT * sizeof *y);
    ck_assert(x != NULL && y != NULL);
    for (int i = 0; i < COUNT; i++) {
        x[i] = i;
        y[i] = i % 7;
    }
    y[77777] = 1000;
    y[33333] = -1000;
    const plot_series series[] = {{"many", x, y, COUNT, 0}};
    const plot_line_chart chart = {
        .frame = {.id = "m", .title = "Many"}, .series = series, .series_count = 1};
    char *text = lines_of(&chart);
    ck_assert_uint_lt(strlen(text), 80000);
    char path[80000];
    path_of(text, 0, path, sizeof path);
    double highest = 1e9; /* small y is high up */
    double lowest = 0;
    for (const char *at = path; (at = strchr(at, ' ')) != NULL; at++) {
        highest = fmin(highest, strtod(at + 1, NULL));
        lowest = fmax(lowest, strtod(at + 1, NULL));
    }
    ck_assert(highest < 70 && lowest > 190);
    free(text);
    free(x);
    free(y);
}
END_TEST

START_TEST(grouped_bars)
{
    static const char *const categories[] = {"many", "one"};
    static const char *const names[] = {"before", "after"};
    static const double values[] = {10, 20, NAN, 40};
    static const double low[] = {8, 18, 0, 39};
    static const double high[] = {12, 22, 0, 45};
    plot_bar_chart chart = {.frame = {.id = "b", .title = "Bars"},
                            .y = {.label = "entries/s"},
                            .categories = categories,
                            .category_count = 2,
                            .series = names,
                            .series_count = 2,
                            .values = values};
    char *text = bars_of(&chart);
    ck_assert_uint_eq(times(text, "<rect"), 3);
    ck_assert_uint_eq(times(text, "whisker"), 0);
    ck_assert_ptr_nonnull(strstr(text, "one, after: 40"));
    ck_assert_ptr_nonnull(strstr(text, "before</text>"));
    free(text);
    chart.low = low;
    chart.high = high;
    chart.y.log = true;
    text = bars_of(&chart);
    ck_assert_uint_eq(times(text, "<path class=\"whisker\""), 3);
    ck_assert_ptr_null(strstr(text, "height=\"0.0\""));
    free(text);
}
END_TEST

START_TEST(alone_or_in_a_page)
{
    plot_line_chart chart = {.frame = {.id = "s", .title = "Alone", .standalone = true}};
    sink s;
    ck_assert(plot_lines(&chart, sink_open(&s)));
    char *text = sink_close(&s);
    ck_assert_ptr_nonnull(strstr(text, "prefers-color-scheme:dark"));
    ck_assert_ptr_nonnull(strstr(text, "xmlns=\"http://www.w3.org/2000/svg\""));
    free(text);
    chart.frame.standalone = false;
    text = lines_of(&chart);
    ck_assert_ptr_null(strstr(text, "<style"));
    free(text);
}
END_TEST

START_TEST(full_disk)
{
    const plot_line_chart chart = {.frame = {.id = "f", .title = "Full"}};
    FILE *full = fopen("/dev/full", "w");
    ck_assert_ptr_nonnull(full);
    setvbuf(full, NULL, _IONBF, 0);
    ck_assert(!plot_lines(&chart, full));
    fclose(full);
}
END_TEST

/* Not a test: files to look at. */
static int write_samples(const char *folder)
{
    enum { COUNT = 120 };
    double x[COUNT];
    double y[3][COUNT];
    for (int i = 0; i < COUNT; i++) {
        x[i] = i * 0.5;
        y[0][i] = 81000 + 9000 * sin(i / 5.0);
        y[1][i] = i > 40 && i < 60 ? NAN : 52000 + 4000 * cos(i / 3.0);
        y[2][i] = 300e-6 * exp(fabs(sin(i / 9.0)) * 6);
    }
    char path[512];
    const plot_series rates[] = {{"node 1", x, y[0], COUNT, 0},
                                 {"node 2, with a longer name", x, y[1], COUNT, 0}};
    const plot_line_chart rate = {.frame = {.id = "rate", .title = "Entries logged", .standalone = true},
                                  .x = {.unit = PLOT_ELAPSED, .label = "time"},
                                  .y = {.label = "entries/s"},
                                  .series = rates,
                                  .series_count = 2};
    const plot_series delays[] = {{"p99", x, y[2], COUNT, 0}};
    const plot_line_chart delay = {.frame = {.id = "delay", .title = "Latency", .standalone = true},
                                   .x = {.unit = PLOT_ELAPSED, .label = "time"},
                                   .y = {.unit = PLOT_SECONDS, .log = true},
                                   .series = delays,
                                   .series_count = 1};
    static const char *const categories[] = {"loops", "many", "one"};
    static const char *const names[] = {"replicated/s", "acknowledged/s"};
    static const double values[] = {2.5e6, 2.4e6, 1.5e6, 1.7e6, 0.9e6, 1.1e6};
    static const double low[] = {2.2e6, 2.2e6, 1.4e6, 1.5e6, 0.8e6, 1.0e6};
    static const double high[] = {2.7e6, 2.6e6, 1.7e6, 1.8e6, 1.0e6, 1.2e6};
    const plot_bar_chart bar = {.frame = {.id = "bar", .title = "Throughput", .standalone = true},
                                .y = {.label = "entries/s"},
                                .categories = categories,
                                .category_count = 3,
                                .series = names,
                                .series_count = 2,
                                .values = values,
                                .low = low,
                                .high = high};
    bool good = true;
    for (int i = 0; i < 3 && good; i++) {
        snprintf(path, sizeof path, "%s/%s.svg", folder, i == 0 ? "rate" : i == 1 ? "delay" : "bar");
        FILE *out = fopen(path, "w");
        good = out != NULL && (i < 2 ? plot_lines(i == 0 ? &rate : &delay, out) : plot_bars(&bar, out));
        good = out != NULL && fclose(out) == 0 && good;
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        return write_samples(argv[1]);
    }
    Suite *suite = suite_create("plot");
    TCase *tests = tcase_create("plot");
    tcase_add_test(tests, values_in_words);
    tcase_add_test(tests, round_ticks);
    tcase_add_test(tests, ticks_of_any_range);
    tcase_add_test(tests, checker);
    tcase_add_test(tests, escaping);
    tcase_add_test(tests, names_with_markup);
    tcase_add_test(tests, gaps_and_points);
    tcase_add_test(tests, colours_of_lines);
    tcase_add_test(tests, nothing_at_all);
    tcase_add_test(tests, many_points);
    tcase_add_test(tests, grouped_bars);
    tcase_add_test(tests, alone_or_in_a_page);
    tcase_add_test(tests, full_disk);
    suite_add_tcase(suite, tests);
    return test_run(suite);
}
