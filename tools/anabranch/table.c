/* SPDX-License-Identifier: Apache-2.0 */
/* Tables with columns as wide as they need to be. One table: one thread. */
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CELL_MAX 160u
#define GAP 2
#define TEXT_MIN 10u /* columns of text are not made narrower than this */

struct table {
    const char *const *heads;
    size_t columns;
    char **cells;
    style *styles; /* of the cells */
    size_t count;
    size_t capacity;
    bool failed;
};

table *table_new(const char *const *heads, size_t columns)
{
    table *t = calloc(1, sizeof *t);
    if (t != NULL) {
        t->heads = heads;
        t->columns = columns;
    }
    return t;
}

void table_free(table *t)
{
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->count; i++) {
        free(t->cells[i]);
    }
    free(t->cells);
    free(t->styles);
    free(t);
}

static void add(table *t, const char *text)
{
    if (t == NULL) {
        return;
    }
    if (t->count == t->capacity) {
        size_t capacity = t->capacity > 0 ? t->capacity * 2 : 64;
        char **larger = realloc(t->cells, capacity * sizeof *larger);
        t->cells = larger != NULL ? larger : t->cells;
        style *styles = realloc(t->styles, capacity * sizeof *styles);
        t->styles = styles != NULL ? styles : t->styles;
        if (larger == NULL || styles == NULL) {
            t->failed = true;
            return;
        }
        t->capacity = capacity;
    }
    char *copy = strdup(text[0] != '\0' ? text : "-");
    if (copy == NULL) {
        t->failed = true;
        return;
    }
    t->styles[t->count] = STYLE_PLAIN;
    t->cells[t->count++] = copy;
}

void table_text(table *t, const char *text)
{
    char quoted[CELL_MAX];
    text_quote(text, strlen(text), quoted, sizeof quoted);
    add(t, quoted);
}

void table_count(table *t, uint64_t count)
{
    char text[32];
    text_count(count, text, sizeof text);
    add(t, text);
}

void table_bytes(table *t, uint64_t bytes)
{
    char text[32];
    text_bytes(bytes, text, sizeof text);
    add(t, text);
}

void table_duration(table *t, uint64_t ms)
{
    char text[32];
    text_duration(ms, text, sizeof text);
    add(t, text);
}

void table_format(table *t, const char *format, ...)
{
    char text[CELL_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    table_text(t, text);
}

void table_style(table *t, style s)
{
    if (t != NULL && t->count > 0) {
        t->styles[t->count - 1] = s;
    }
}

size_t table_rows(const table *t)
{
    return t != NULL ? t->count / t->columns : 0;
}

static bool right(const table *t, size_t column)
{
    return t->heads[column][0] == '>';
}

static const char *head(const table *t, size_t column)
{
    return t->heads[column] + (right(t, column) ? 1 : 0);
}

static void print_cell(const table *t, size_t column, const char *text, style s, size_t width, FILE *out)
{
    size_t needed = text_width(text);
    bool cut = needed > width;
    size_t pad = cut ? 0 : width - needed;
    bool last = column + 1 == t->columns;
    if (right(t, column)) {
        fprintf(out, "%*s", (int)pad, "");
    }
    fprintf(out, "%s%.*s%s%s", terminal_begin(s), (int)text_bytes_of(text, cut ? width - 1 : width), text,
            cut ? "~" : "", terminal_end(s));
    if (last) {
        fputc('\n', out);
        return;
    }
    fprintf(out, "%*s", (right(t, column) ? 0 : (int)pad) + GAP, "");
}

static void measure(const table *t, size_t *widths, size_t whole)
{
    for (size_t c = 0; c < t->columns; c++) {
        widths[c] = text_width(head(t, c));
    }
    for (size_t i = 0; i < whole; i++) {
        size_t width = text_width(t->cells[i]);
        widths[i % t->columns] = width > widths[i % t->columns] ? width : widths[i % t->columns];
    }
}

/* Narrows the widest columns of text until the table fits. @return false: it cannot */
static bool fit(const table *t, size_t *widths, size_t limit)
{
    size_t sum = GAP * (t->columns - 1);
    for (size_t c = 0; c < t->columns; c++) {
        sum += widths[c];
    }
    while (sum > limit) {
        size_t widest = t->columns;
        for (size_t c = 0; c < t->columns; c++) {
            size_t least = text_width(head(t, c));
            if (!right(t, c) && widths[c] > (least > TEXT_MIN ? least : TEXT_MIN) &&
                (widest == t->columns || widths[c] > widths[widest])) {
                widest = c;
            }
        }
        if (widest == t->columns) {
            return false;
        }
        widths[widest]--;
        sum--;
    }
    return true;
}

/* "head: cell" one below the other, a blank line between rows. */
static void print_lines(const table *t, size_t whole, FILE *out)
{
    size_t width = 0;
    for (size_t c = 0; c < t->columns; c++) {
        width = text_width(head(t, c)) > width ? text_width(head(t, c)) : width;
    }
    for (size_t i = 0; i < whole; i++) {
        if (i > 0 && i % t->columns == 0) {
            fputc('\n', out);
        }
        const char *name = head(t, i % t->columns);
        fprintf(out, "%s%s%s%*s%s%s%s\n", terminal_begin(STYLE_HEAD), name, terminal_end(STYLE_HEAD),
                (int)(width - text_width(name)) + GAP, "", terminal_begin(t->styles[i]), t->cells[i],
                terminal_end(t->styles[i]));
    }
}

bool table_print(const table *t, FILE *out)
{
    size_t *widths = t != NULL ? calloc(t->columns, sizeof *widths) : NULL;
    if (widths == NULL || t->failed) {
        free(widths);
        return false;
    }
    size_t whole = t->count - t->count % t->columns;
    size_t limit = terminal_columns();
    measure(t, widths, whole);
    if (limit > 0 && !fit(t, widths, limit)) {
        print_lines(t, whole, out);
        free(widths);
        return true;
    }
    for (size_t c = 0; c < t->columns; c++) {
        print_cell(t, c, head(t, c), STYLE_HEAD, widths[c], out);
    }
    for (size_t i = 0; i < whole; i++) {
        print_cell(t, i % t->columns, t->cells[i], t->styles[i], widths[i % t->columns], out);
    }
    free(widths);
    return true;
}
