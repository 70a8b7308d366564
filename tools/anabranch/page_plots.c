/* SPDX-License-Identifier: Apache-2.0 */
/* What the looks showed over time, see page_cluster.h. One page: one thread. */
#include "tools/anabranch/page.h"
#include "tools/anabranch/page_cluster.h"
#include "tools/anabranch/plot.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Lines in one plot: more cannot be told apart. */
#define LINES_MAX 16u
#define NAME_MAX 48u

/* A plot under way. */
typedef struct drawing {
    const history *h;
    FILE *out;
    plot_series series[LINES_MAX];
    char names[LINES_MAX][NAME_MAX];
    size_t count;
    size_t left_out;
} drawing;

static bool has_values(const history *h, const double *values)
{
    for (size_t i = 0; i < h->count; i++) {
        if (isfinite(values[i])) {
            return true;
        }
    }
    return false;
}

/* What has no values is left out, and the others keep their colours: a node has one in all plots. */
static void add_line(drawing *d, const double *values, const char *name, size_t colour)
{
    if (!has_values(d->h, values)) {
        return;
    }
    if (d->count == LINES_MAX) {
        d->left_out++;
        return;
    }
    snprintf(d->names[d->count], NAME_MAX, "%s", name);
    d->series[d->count] = (plot_series){
        .name = d->names[d->count], .x = d->h->at, .y = values, .count = d->h->count, .colour = colour + 1};
    d->count++;
}

static void add_figure(drawing *d, figure f)
{
    for (size_t i = 0; i < d->h->node_count; i++) {
        char name[NAME_MAX];
        page_node_name(&d->h->nodes[i], name, sizeof name);
        add_line(d, d->h->nodes[i].figures[f], name, i);
    }
}

static void add_lags(drawing *d, bool seconds)
{
    size_t colour = 0;
    for (size_t i = 0; i < d->h->node_count; i++) {
        const history_node *n = &d->h->nodes[i];
        for (size_t k = 0; k < n->peer_count; k++) {
            char name[NAME_MAX];
            snprintf(name, sizeof name, "%" PRIu32 " \xe2\x86\x92 %" PRIu32, n->last.node_id,
                     n->peers[k].peer);
            add_line(d, seconds ? n->peers[k].lag_seconds : n->peers[k].lag_entries, name, colour++);
        }
    }
}

static void finish(drawing *d, const char *id, const char *title, const plot_axis *y)
{
    if (d->count > 0) {
        const plot_line_chart chart = {.frame = {.id = id, .title = title},
                                       .x = {.unit = PLOT_ELAPSED},
                                       .y = *y,
                                       .series = d->series,
                                       .series_count = d->count};
        fputs("<figure>\n", d->out);
        plot_lines(&chart, d->out);
        if (d->left_out > 0) {
            fprintf(d->out, "<figcaption class=\"faint\">%zu more are not drawn</figcaption>\n", d->left_out);
        }
        fputs("</figure>\n", d->out);
    }
    d->count = d->left_out = 0;
}

static void plot_figure(drawing *d, figure f, const char *id, const char *title, plot_unit unit,
                        const char *label)
{
    add_figure(d, f);
    finish(d, id, title, &(plot_axis){.unit = unit, .label = label});
}

void page_plots(const history *h, FILE *out)
{
    drawing d = {.h = h, .out = out};
    if (h->count < 2) {
        return;
    }
    page_section(out, "plots", "Over time");
    fputs("<div class=\"plots\">\n", out);
    plot_figure(&d, FIGURE_WRITTEN, "written", "Written by each node itself", PLOT_NUMBER, "entries/s");
    plot_figure(&d, FIGURE_LOGGED, "logged", "Logged, own and received", PLOT_NUMBER, "entries/s");
    plot_figure(&d, FIGURE_APPLIED, "applied", "Applied", PLOT_NUMBER, "entries/s");
    add_lags(&d, false);
    finish(&d, "lag", "What each peer has not confirmed", &(plot_axis){.label = "entries"});
    add_lags(&d, true);
    finish(&d, "age", "Age of the oldest of that", &(plot_axis){.unit = PLOT_SECONDS});
    static const char window[] = "of blocks of the 10 s before";
    plot_figure(&d, FIGURE_ACK_P50, "p50", "Time to acknowledge here, median", PLOT_SECONDS, window);
    plot_figure(&d, FIGURE_ACK_P99, "p99", "Time to acknowledge here, p99", PLOT_SECONDS, window);
    plot_figure(&d, FIGURE_ACK_MAX, "slowest", "Time to acknowledge here, slowest", PLOT_SECONDS, window);
    plot_figure(&d, FIGURE_SENT_BYTES, "sent", "Sent to peers", PLOT_BYTES, "per second");
    plot_figure(&d, FIGURE_LOGGED_BYTES, "disk-rate", "Blocks into the log", PLOT_BYTES, "per second");
    plot_figure(&d, FIGURE_LOG_BYTES, "disk", "Log in use", PLOT_BYTES, "");
    plot_figure(&d, FIGURE_QUEUED_BYTES, "queued", "Written, not yet logged", PLOT_BYTES, "");
    plot_figure(&d, FIGURE_APPLY_BLOCKS, "to-apply", "Logged, not yet applied", PLOT_NUMBER, "blocks");
    plot_figure(&d, FIGURE_MEMORY_BYTES, "memory", "Caches and queues", PLOT_BYTES, "");
    plot_figure(&d, FIGURE_RESIDENT_BYTES, "resident", "Resident memory", PLOT_BYTES, "");
    plot_figure(&d, FIGURE_CPU, "cpu", "Processor time", PLOT_NUMBER, "cores");
    fputs("</div>\n", out);
    page_section_end(out);
}
