/* SPDX-License-Identifier: Apache-2.0 */
/* What stdout and stderr are: a terminal with colours and a width, or not. Main thread. */
#ifndef ANABRANCH_TOOLS_TERMINAL_H
#define ANABRANCH_TOOLS_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum style { STYLE_PLAIN, STYLE_HEAD, STYLE_GOOD, STYLE_WARN, STYLE_BAD } style;

/* Columns that output to stdout may take: COLUMNS, else the terminal's width; 0: as many as it likes. */
size_t terminal_columns(void);

/* The sequences around text of a style; "" where there are no colours: stdout is no terminal, TERM is "dumb", or NO_COLOR
 * is set and not empty (no-color.org). */
const char *terminal_begin(style s);
const char *terminal_end(style s);

/* How far something long has come. All zero but the name to begin with. */
typedef struct progress {
    const char *name;
    uint64_t shown_at; /* monotonic ms */
} progress;

/* A bar on stderr, if that is a terminal: "name  [####      ] 1,234 of about 5,678 blocks". Drawn over at each call, at
 * most ten times a second. `total` 0: not known. */
void progress_show(progress *p, uint64_t done, uint64_t total, const char *unit);
void progress_clear(void);

#endif
