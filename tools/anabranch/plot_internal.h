/* SPDX-License-Identifier: Apache-2.0 */
/* What both kinds of plots share: the space inside the axes, and everything around it. One stream: one thread. */
#ifndef ANABRANCH_TOOLS_PLOT_INTERNAL_H
#define ANABRANCH_TOOLS_PLOT_INTERNAL_H

#include "tools/anabranch/plot.h"

/* Eight colours; what comes after them begins anew, dashed. */
#define PLOT_COLOURS 8u

/* An axis with its range in data and on the paper. */
typedef struct plot_scale {
    plot_unit unit;
    bool log;
    double low;
    double high;
    double at_low; /* where `low` is drawn */
    double at_high;
} plot_scale;

typedef struct plot_paper {
    FILE *out;
    double width;
    double height;
    double left; /* of the space inside the axes */
    double top;
    double right;
    double bottom;
    plot_scale x;
    plot_scale y;
} plot_paper;

typedef struct plot_legend {
    const char *(*name)(const void *chart, size_t index);
    size_t (*colour)(const void *chart, size_t index); /* NULL: as the index */
    const void *chart;
    size_t count;
} plot_legend;

/* Whether the scale has a place for the value. */
bool plot_fits(const plot_scale *scale, double value);
double plot_place(const plot_scale *scale, double value);

/* A range with round ends for values from `least` to `greatest` (least > greatest: there are none). Begins at 0 unless
 * the axis is logarithmic or values are below 0. */
void plot_range(const plot_axis *axis, double least, double greatest, plot_scale *scale);

/* <svg>, title, legend, the y axis with its lines across. p->y has its range; the rest is filled in. */
void plot_begin(plot_paper *p, FILE *out, const plot_frame *frame, const plot_axis *y,
                const plot_legend *legend);
/* The class names of what has colour `colour`, from 0. */
void plot_class(FILE *out, const char *kind, size_t colour);
bool plot_end(plot_paper *p);

#endif
