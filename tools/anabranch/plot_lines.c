/* SPDX-License-Identifier: Apache-2.0 */
/* Lines over a number; see plot.h. One stream: one thread. */
#include "tools/anabranch/markup.h"
#include "tools/anabranch/plot_internal.h"

#include <math.h>
#include <string.h>

static const char *series_name(const void *chart, size_t index)
{
    return ((const plot_line_chart *)chart)->series[index].name;
}

static size_t series_colour(const void *chart, size_t index)
{
    size_t colour = ((const plot_line_chart *)chart)->series[index].colour;
    return colour > 0 ? colour - 1 : index;
}

static void take(const plot_axis *axis, double value, double *least, double *greatest)
{
    if (isfinite(value) && (!axis->log || value > 0)) {
        *least = fmin(*least, value);
        *greatest = fmax(*greatest, value);
    }
}

static void ranges(const plot_line_chart *chart, plot_paper *p)
{
    double least_x = INFINITY;
    double most_x = -INFINITY;
    double least_y = INFINITY;
    double most_y = -INFINITY;
    for (size_t i = 0; i < chart->series_count; i++) {
        const plot_series *s = &chart->series[i];
        for (size_t k = 0; k < s->count; k++) {
            take(&chart->x, s->x[k], &least_x, &most_x);
            take(&chart->y, s->y[k], &least_y, &most_y);
        }
    }
    plot_range(&chart->y, least_y, most_y, &p->y);
    p->x.unit = chart->x.unit;
    p->x.log = chart->x.log;
    p->x.low = least_x <= most_x ? least_x : 1;
    p->x.high = fmax(least_x <= most_x ? most_x : 1, chart->x.at_least);
    if (!(p->x.high > p->x.low)) {
        p->x.high = p->x.log ? p->x.low * 10 : p->x.low + 1;
    }
}

static void x_axis(const plot_line_chart *chart, const plot_paper *p)
{
    double ticks[6];
    size_t count = plot_ticks(p->x.unit, p->x.log, p->x.low, p->x.high, 6, ticks);
    double free_from = 0; /* labels must not run into each other */
    for (size_t i = 0; i < count; i++) {
        char text[64];
        double x = plot_place(&p->x, ticks[i]);
        plot_value(p->x.unit, ticks[i], text, sizeof text);
        double half = (double)strlen(text) * 3.3;
        fprintf(p->out, "<path class=\"axis\" d=\"M%.1f %.1fv4\"/>", x, p->bottom);
        if (x - half >= free_from && x + half <= p->width) {
            fprintf(p->out, "<text class=\"faint\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                    x, p->bottom + 17, text);
            free_from = x + half + 6;
        }
    }
    if (chart->x.label != NULL && chart->x.label[0] != '\0') {
        fprintf(p->out, "<text class=\"faint\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", p->right,
                p->bottom + 33);
        markup_text(p->out, chart->x.label);
        fputs("</text>\n", p->out);
    }
}

/* A line under way: points go into a path, many in one column of the paper as their least and greatest. */
typedef struct pen {
    const plot_paper *p;
    bool down;     /* the path goes on from a point */
    size_t run;    /* points since the pen came down */
    double column; /* of the points below; -1: there are none */
    double first;  /* y of the first of them */
    double least;
    double greatest;
    double last;
} pen;

static void put_point(pen *n, double x, double y)
{
    fprintf(n->p->out, "%c%.1f %.1f", n->down ? 'L' : 'M', x, y);
    n->down = true;
    n->run++;
}

static void flush_column(pen *n)
{
    if (n->column < 0) {
        return;
    }
    double x = n->column / 2;
    put_point(n, x, n->first);
    if (n->least < fmin(n->first, n->last)) {
        put_point(n, x, n->least);
    }
    if (n->greatest > fmax(n->first, n->last)) {
        put_point(n, x, n->greatest);
    }
    if (n->last != n->first) {
        put_point(n, x, n->last);
    }
    n->column = -1;
}

static void lift(pen *n)
{
    flush_column(n);
    if (n->run == 1) {
        fputs("h0.1", n->p->out); /* a point alone is seen as a dot: the ends of lines are round */
    }
    n->down = false;
    n->run = 0;
}

static void draw(const plot_paper *p, const plot_series *s, size_t colour)
{
    pen n = {.p = p, .column = -1};
    fputs("<path ", p->out);
    plot_class(p->out, "line", colour);
    fputs(" stroke-linecap=\"round\" d=\"", p->out);
    for (size_t i = 0; i < s->count; i++) {
        if (!plot_fits(&p->x, s->x[i]) || !plot_fits(&p->y, s->y[i])) {
            lift(&n);
            continue;
        }
        double column = floor(plot_place(&p->x, s->x[i]) * 2 + 0.5); /* half a unit wide */
        double y = plot_place(&p->y, s->y[i]);
        if (column != n.column) {
            flush_column(&n);
            n.column = column;
            n.first = n.least = n.greatest = y;
        }
        n.least = fmin(n.least, y);
        n.greatest = fmax(n.greatest, y);
        n.last = y;
    }
    lift(&n);
    fputs("\"><title>", p->out);
    markup_text(p->out, s->name);
    fputs("</title></path>\n", p->out);
}

/* What the lines show, for those who do not see them. */
static void describe(const plot_line_chart *chart, FILE *out)
{
    fputs("<desc>", out);
    for (size_t i = 0; i < chart->series_count; i++) {
        const plot_series *s = &chart->series[i];
        double least = INFINITY;
        double greatest = -INFINITY;
        char a[64];
        char b[64];
        for (size_t k = 0; k < s->count; k++) {
            take(&chart->y, s->y[k], &least, &greatest);
        }
        plot_value(chart->y.unit, least, a, sizeof a);
        plot_value(chart->y.unit, greatest, b, sizeof b);
        markup_text(out, s->name);
        if (least <= greatest) {
            fprintf(out, ": %s to %s. ", a, b);
        } else {
            fputs(": no values. ", out);
        }
    }
    fputs("</desc>\n", out);
}

bool plot_lines(const plot_line_chart *chart, FILE *out)
{
    plot_paper p = {0};
    plot_legend legend = {series_name, series_colour, chart, chart->series_count};
    ranges(chart, &p);
    plot_begin(&p, out, &chart->frame, &chart->y, &legend);
    describe(chart, out);
    p.x.at_low = p.left;
    p.x.at_high = p.right;
    x_axis(chart, &p);
    for (size_t i = 0; i < chart->series_count; i++) {
        draw(&p, &chart->series[i], series_colour(chart, i));
    }
    return plot_end(&p);
}
