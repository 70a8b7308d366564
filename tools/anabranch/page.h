/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of an HTML page that stands alone: nothing in it is fetched from elsewhere, nothing runs. Text is escaped. One
 * page: one thread. */
#ifndef ANABRANCH_TOOLS_PAGE_H
#define ANABRANCH_TOOLS_PAGE_H

#include "tools/anabranch/terminal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

void page_begin(FILE *out, const char *title);
void page_end(FILE *out);

void page_section(FILE *out, const char *id, const char *heading);
void page_section_end(FILE *out);
void page_note(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A large number with what it is. */
void page_tile(FILE *out, style s, const char *value, const char *label);

/* A table that scrolls by itself where it is too wide. Heads that begin with '>' are of numbers. */
typedef struct page_table {
    FILE *out;
    const char *const *heads;
    size_t columns;
    size_t column; /* of the next cell */
    size_t rows;   /* begun */
} page_table;

void page_table_begin(page_table *t, FILE *out, const char *caption, const char *const *heads,
                      size_t columns);
void page_table_end(page_table *t);
/* The next cell, rows as in table.h; "" shows as a dash. */
void page_text(page_table *t, const char *text);
void page_state(page_table *t, style s, const char *text);
void page_count(page_table *t, uint64_t count);
void page_bytes(page_table *t, uint64_t bytes);
void page_duration(page_table *t, uint64_t ms);

#endif
