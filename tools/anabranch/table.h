/* SPDX-License-Identifier: Apache-2.0 */
/* Tables with columns as wide as they need to be. One table: one thread. */
#ifndef ANABRANCH_TOOLS_TABLE_H
#define ANABRANCH_TOOLS_TABLE_H

#include "tools/anabranch/terminal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct table table;

/* `heads` (at most 16) are static; one that begins with '>' makes its column right-aligned, '?' (after it) one that a narrow
 * terminal may do without. NULL: out of memory; the functions below take that and do nothing. */
table *table_new(const char *const *heads, size_t columns);
void table_free(table *t); /* NULL is allowed */

/* Cells of the current row, left to right; "" shows as "-". After the last column a new row begins. Text is quoted
 * and cut to 160 columns. */
void table_text(table *t, const char *text);
void table_count(table *t, uint64_t count);
void table_bytes(table *t, uint64_t bytes);
void table_duration(table *t, uint64_t ms);
void table_format(table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How the latest cell looks where there are colours. */
void table_style(table *t, style s);

size_t table_rows(const table *t);

/* As wide as terminal_columns() allows. Columns in which no cell has anything go first, then those marked '?' (from the
 * right; a line below names them); then text is cut; what is too wide even so is printed as lines of "head: cell".
 * @return false: memory had run out and nothing was printed */
bool table_print(const table *t, FILE *out);

#endif
