/* SPDX-License-Identifier: Apache-2.0 */
/* Plots as SVG: lines over a number, and grouped bars. Light and dark through CSS, no script, no font of its own. Pure
 * functions; one stream: one thread at a time. */
#ifndef ANABRANCH_TOOLS_PLOT_H
#define ANABRANCH_TOOLS_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What an axis counts: how its ticks are rounded and written. */
typedef enum plot_unit {
    PLOT_NUMBER = 0, /* 20k, 1.5M; with `suffix` behind it */
    PLOT_BYTES,      /* 512 KiB */
    PLOT_SECONDS,    /* a duration given in seconds: 250 us, 1.5 s */
    PLOT_ELAPSED     /* seconds since a start: 30 s, 2 min, 1 h 30 min */
} plot_unit;

typedef struct plot_axis {
    const char *label; /* "entries/s"; NULL or "": none */
    plot_unit unit;
    bool log;        /* values that are not above 0 are left out */
    double at_least; /* the axis reaches this far even if no value does; 0: no demand */
} plot_axis;

/* A line. Values that are not finite leave a gap. */
typedef struct plot_series {
    const char *name;
    const double *x; /* ascending */
    const double *y;
    size_t count;
    size_t colour; /* 0: by its place among the series; else the one that place `colour` - 1 would have */
} plot_series;

/* Size 0: 400 x 250, which is readable on a phone as it is. */
typedef struct plot_frame {
    const char *id;    /* a name, unique in the document: [A-Za-z][A-Za-z0-9-]* */
    const char *title; /* shown, and read out */
    unsigned width;
    unsigned height;
    bool standalone; /* a file of its own, with the style in it; else the document has plot_style() */
} plot_frame;

typedef struct plot_line_chart {
    plot_frame frame;
    plot_axis x;
    plot_axis y;
    const plot_series *series;
    size_t series_count;
} plot_line_chart;

/* Bars of `series_count` values side by side for each of `category_count` categories. */
typedef struct plot_bar_chart {
    plot_frame frame;
    plot_axis y;
    const char *const *categories;
    size_t category_count;
    const char *const *series; /* names; no legend if there is one only */
    size_t series_count;
    const double *values; /* [category * series_count + series]; not finite: no bar */
    const double *low;    /* ends of a whisker, in the same places; NULL: none */
    const double *high;
} plot_bar_chart;

/* The rules of CSS that plots need, without a <style> around them. */
void plot_style(FILE *out);

/* One <svg> element. @return false: `out` cannot be written */
bool plot_lines(const plot_line_chart *chart, FILE *out);
bool plot_bars(const plot_bar_chart *chart, FILE *out);

/* A value in words as the axes have it, with up to three digits. */
void plot_value(plot_unit unit, double value, char *text, size_t size);

/* Up to `most` round numbers from `low` to `high` (low < high; log: both above 0) in `ticks`; most at least 2.
 * @return how many */
size_t plot_ticks(plot_unit unit, bool log, double low, double high, size_t most, double *ticks);

#endif
