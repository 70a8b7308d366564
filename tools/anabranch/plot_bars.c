/* SPDX-License-Identifier: Apache-2.0 */
/* Grouped bars; see plot.h. One stream: one thread. */
#include "tools/anabranch/markup.h"
#include "tools/anabranch/plot_internal.h"
#include "tools/anabranch/text.h"

#include <math.h>

#define CHARACTER 6.3

static const char *series_name(const void *chart, size_t index)
{
    return ((const plot_bar_chart *)chart)->series[index];
}

static double end_of(const double *ends, size_t place, double value)
{
    return ends != NULL && isfinite(ends[place]) ? ends[place] : value;
}

static void range(const plot_bar_chart *chart, plot_paper *p)
{
    double least = INFINITY;
    double greatest = -INFINITY;
    for (size_t i = 0; i < chart->category_count * chart->series_count; i++) {
        double value = chart->values[i];
        double low = end_of(chart->low, i, value);
        if (isfinite(value) && (!chart->y.log || value > 0)) {
            least = fmin(least, !chart->y.log || low > 0 ? fmin(low, value) : value);
            greatest = fmax(greatest, fmax(end_of(chart->high, i, value), value));
        }
    }
    plot_range(&chart->y, least, greatest, &p->y);
    if (p->y.log && least <= p->y.low) {
        p->y.low /= p->y.unit == PLOT_BYTES ? 2 : 10; /* a bar has a height */
    }
}

static void whisker(const plot_bar_chart *chart, const plot_paper *p, size_t place, double middle)
{
    double low = end_of(chart->low, place, NAN);
    double high = end_of(chart->high, place, NAN);
    if (plot_fits(&p->y, low) && plot_fits(&p->y, high)) {
        double a = plot_place(&p->y, low);
        double b = plot_place(&p->y, high);
        fprintf(p->out, "<path class=\"whisker\" d=\"M%.1f %.1fh6m-3 0V%.1fm-3 0h6\"/>\n", middle - 3, a, b);
    }
}

static void bar(const plot_bar_chart *chart, const plot_paper *p, size_t category, size_t series, double x,
                double width)
{
    size_t place = category * chart->series_count + series;
    double value = chart->values[place];
    char text[64];
    if (!plot_fits(&p->y, value)) {
        return;
    }
    plot_value(p->y.unit, value, text, sizeof text);
    double base = plot_place(&p->y, p->y.log || p->y.low > 0 ? p->y.low : 0);
    double end = plot_place(&p->y, value);
    fputs("<rect ", p->out);
    plot_class(p->out, "fill", series);
    fprintf(p->out, " x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>", x, fmin(base, end),
            width, fabs(base - end));
    markup_text(p->out, chart->categories[category]);
    fputs(", ", p->out);
    markup_text(p->out, chart->series[series]);
    fprintf(p->out, ": %s</title></rect>\n", text);
    whisker(chart, p, place, x + width / 2);
    double top = fmin(base, end);
    double high = end_of(chart->high, place, value);
    top = plot_fits(&p->y, high) ? fmin(top, plot_place(&p->y, high)) : top;
    /* The number on top, where there is room for it beside its neighbours'. */
    if (width >= (double)text_width(text) * 5.2) {
        fprintf(p->out, "<text class=\"small\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                x + width / 2, top - 3, text);
    }
}

static void category_name(const plot_bar_chart *chart, const plot_paper *p, size_t category, double middle,
                          double room)
{
    size_t characters = room / CHARACTER > 2 ? (size_t)(room / CHARACTER) - 1 : 1;
    fprintf(p->out, "<text class=\"faint\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", middle,
            p->bottom + 17);
    markup_cut(p->out, chart->categories[category], characters);
    fputs("</text>\n", p->out);
}

bool plot_bars(const plot_bar_chart *chart, FILE *out)
{
    plot_paper p = {0};
    plot_legend legend = {series_name, NULL, chart, chart->series_count > 1 ? chart->series_count : 0};
    range(chart, &p);
    plot_begin(&p, out, &chart->frame, &chart->y, &legend);
    double room = (p.right - p.left) / (double)(chart->category_count > 0 ? chart->category_count : 1);
    double width = room * 0.8 / (double)(chart->series_count > 0 ? chart->series_count : 1);
    width = fmin(width, 60);
    for (size_t i = 0; i < chart->category_count; i++) {
        double middle = p.left + room * ((double)i + 0.5);
        double x = middle - width * (double)chart->series_count / 2;
        for (size_t k = 0; k < chart->series_count; k++) {
            bar(chart, &p, i, k, x + width * (double)k + 1, width - 2);
        }
        category_name(chart, &p, i, middle, room);
    }
    return plot_end(&p);
}
