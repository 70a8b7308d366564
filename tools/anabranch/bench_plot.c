/* SPDX-License-Identifier: Apache-2.0 */
/* Plots of a bench's results, see bench_report.h. Main thread. */
#include "tools/anabranch/bench_report.h"
#include "tools/anabranch/plot.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define FIGURES_MAX 3u

/* What a plot shows: some figures, a bar each, of the columns that have the first of them. */
struct view {
    const char *file;
    const char *title;
    plot_axis axis;
    enum ab_bench_figure figures[FIGURES_MAX];
    const char *names[FIGURES_MAX];
    size_t count;
    double scale; /* of the figures, to the axis' unit */
    bool skip_tcp;
};

static bool write_view(const struct ab_bench_report *report, const struct view *view, FILE *out)
{
    const char *categories[AB_COL_COUNT];
    double values[AB_COL_COUNT * FIGURES_MAX], low[AB_COL_COUNT * FIGURES_MAX],
        high[AB_COL_COUNT * FIGURES_MAX];
    size_t columns = 0;
    for (int c = 0; c < AB_COL_COUNT; c++) {
        enum ab_bench_column column = (enum ab_bench_column)c;
        bool wanted = report->columns[c] && !(view->skip_tcp && column == AB_COL_TCP);
        if (!wanted || isnan(ab_bench_median(report, column, view->figures[0]))) {
            continue;
        }
        categories[columns] = ab_bench_column_name(column);
        for (size_t f = 0; f < view->count; f++) {
            size_t at = columns * view->count + f;
            values[at] = ab_bench_median(report, column, view->figures[f]) * view->scale;
            low[at] = high[at] = NAN;
            if (ab_bench_spread(report, column, view->figures[f], &low[at], &high[at])) {
                low[at] *= view->scale;
                high[at] *= view->scale;
            }
        }
        columns++;
    }
    plot_bar_chart chart = {.frame = {.id = "bench", .title = view->title, .standalone = true},
                            .y = view->axis,
                            .categories = categories,
                            .category_count = columns,
                            .series = view->names,
                            .series_count = view->count,
                            .values = values,
                            .low = low,
                            .high = high};
    return plot_bars(&chart, out);
}

static int write_plot(const struct ab_bench_report *report, const struct view *view, FILE *err)
{
    char path[AB_BENCH_PATH_MAX + 32];
    (void)snprintf(path, sizeof path, "%s-%s.svg", report->opts->svg, view->file);
    FILE *out = fopen(path, "we");
    bool fine = out != NULL && write_view(report, view, out);
    if (out != NULL && fclose(out) != 0) {
        fine = false;
    }
    if (!fine) {
        fprintf(err, "anabranch bench: cannot write %s: %s\n", path, strerror(errno));
    }
    return fine ? 0 : -1;
}

int ab_bench_plot(const struct ab_bench_report *report, FILE *err)
{
    const struct view throughput = {.file = "throughput",
                                    .title = "Entries per second, replicated to all (loops: logged by one)",
                                    .axis = {.label = "entries/s", .unit = PLOT_NUMBER},
                                    .figures = {AB_FIG_ENTRIES_PER_S},
                                    .names = {"entries/s"},
                                    .count = 1,
                                    .scale = 1,
                                    .skip_tcp = true};
    const struct view latency = {.file = "latency",
                                 .title = "Latency (loops: of a commit)",
                                 .axis = {.label = "latency", .unit = PLOT_SECONDS, .log = true},
                                 .figures = {AB_FIG_P50_US, AB_FIG_P99_US, AB_FIG_P999_US},
                                 .names = {"p50", "p99", "p99.9"},
                                 .count = 3,
                                 .scale = 1e-6};
    return write_plot(report, &throughput, err) == 0 && write_plot(report, &latency, err) == 0 ? 0 : -1;
}
