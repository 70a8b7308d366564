/* SPDX-License-Identifier: Apache-2.0 */
/* What `anabranch top` shows, as lines of text: apart from the terminal, so that it can be tested. Main thread. */
#ifndef ANABRANCH_TOOLS_TOP_VIEW_H
#define ANABRANCH_TOOLS_TOP_VIEW_H

#include "tools/anabranch/sample.h"
#include "tools/anabranch/terminal.h"

#define TOP_LINE_MAX 512u

typedef enum top_sort { TOP_BY_NAME, TOP_BY_RATE, TOP_BY_LAG, TOP_SORTS } top_sort;

typedef struct top_node {
    const char *data_dir;
    node_sample before; /* answer NULL: there was none */
    node_sample now;
} top_node;

typedef struct top_state {
    const top_node *nodes;
    size_t node_count;
    uint64_t every_ms;
    const char *clock; /* "12:34:56" */
    top_sort sort;
    bool paused;
    bool help;
} top_state;

typedef struct top_line {
    style style;
    char text[TOP_LINE_MAX]; /* harmless UTF-8, no wider than the screen */
} top_line;

/* A screen of `rows` lines. */
typedef struct top_view {
    size_t columns;
    size_t rows;
    size_t used;
    top_line *lines;
} top_view;

/* Fills in lines for the size that the view has, at least one row. @return false: out of memory */
bool top_view_make(top_view *v, const top_state *s);

#endif
