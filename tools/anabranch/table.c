/* SPDX-License-Identifier: Apache-2.0 */
/* Tables with columns as wide as they need to be. One table: one thread. */
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CELL_MAX 160u
#define GAP 2
#define COLUMNS_MAX 16u
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

/* Of the columns; 0: left out. */
typedef struct widths {
    size_t of[COLUMNS_MAX];
    bool empty[COLUMNS_MAX]; /* nothing but "-" in it */
    bool left_out;           /* something that is not empty */
    size_t first;            /* of those that are shown */
    size_t last;
} widths;

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

static bool optional(const table *t, size_t column)
{
    return t->heads[column][right(t, column) ? 1 : 0] == '?';
}

static const char *head(const table *t, size_t column)
{
    return t->heads[column] + (right(t, column) ? 1 : 0) + (optional(t, column) ? 1 : 0);
}

static void print_cell(const table *t, size_t column, const char *text, style s, const widths *w, FILE *out)
{
    size_t width = w->of[column];
    size_t needed = text_width(text);
    bool cut = needed > width;
    size_t pad = cut ? 0 : width - needed;
    if (column > w->first) {
        fprintf(out, "%*s", GAP, "");
    }
    if (right(t, column)) {
        fprintf(out, "%*s", (int)pad, "");
    }
    fprintf(out, "%s%.*s%s%s", terminal_begin(s), (int)text_bytes_of(text, cut ? width - 1 : width), text,
            cut ? "~" : "", terminal_end(s));
    if (column == w->last) {
        fputc('\n', out);
    } else if (!right(t, column)) {
        fprintf(out, "%*s", (int)pad, "");
    }
}

static void print_row(const table *t, const char *const *cells, const style *styles, const widths *w,
                      FILE *out)
{
    for (size_t c = 0; c < t->columns; c++) {
        if (w->of[c] > 0) {
            print_cell(t, c, cells != NULL ? cells[c] : head(t, c), styles != NULL ? styles[c] : STYLE_HEAD,
                       w, out);
        }
    }
}

static void measure(const table *t, widths *w, size_t whole)
{
    for (size_t c = 0; c < t->columns; c++) {
        w->of[c] = text_width(head(t, c));
        w->empty[c] = true;
    }
    for (size_t i = 0; i < whole; i++) {
        size_t c = i % t->columns;
        size_t width = text_width(t->cells[i]);
        w->of[c] = width > w->of[c] ? width : w->of[c];
        w->empty[c] = w->empty[c] && strcmp(t->cells[i], "-") == 0;
    }
}

static size_t sum_of(const table *t, const widths *w)
{
    size_t sum = 0;
    for (size_t c = 0; c < t->columns; c++) {
        sum += w->of[c] > 0 ? w->of[c] + GAP : 0;
    }
    return sum > 0 ? sum - GAP : 0;
}

/* Narrows the widest columns of text. */
static void narrow(const table *t, widths *w, size_t limit, bool only_optional)
{
    for (size_t sum = sum_of(t, w); sum > limit; sum--) {
        size_t widest = t->columns;
        for (size_t c = 0; c < t->columns; c++) {
            size_t least = text_width(head(t, c));
            if (!right(t, c) && (optional(t, c) || !only_optional) &&
                w->of[c] > (least > TEXT_MIN ? least : TEXT_MIN) &&
                (widest == t->columns || w->of[c] > w->of[widest])) {
                widest = c;
            }
        }
        if (widest == t->columns) {
            return;
        }
        w->of[widest]--;
    }
}

/* Leaves columns out in which no cell has anything, from the right, until the table fits. */
static void leave_out_empty(const table *t, widths *w, size_t limit)
{
    for (size_t c = t->columns; c-- > 0 && sum_of(t, w) > limit;) {
        w->of[c] = w->empty[c] ? 0 : w->of[c];
    }
}

/* Leaves columns of less weight out, from the right, until the table fits; those that stay may be cut. */
static void leave_out_optional(const table *t, widths *w, size_t limit)
{
    widths whole = *w;
    narrow(t, w, limit, true);
    for (size_t c = t->columns; c-- > 0 && sum_of(t, w) > limit;) {
        if (optional(t, c) && whole.of[c] > 0) {
            whole.of[c] = 0;
            whole.left_out = true;
            *w = whole;
            narrow(t, w, limit, true);
        }
    }
}

/* @return false: it does not fit, whatever is done */
static bool fit(const table *t, widths *w, size_t limit)
{
    leave_out_empty(t, w, limit);
    leave_out_optional(t, w, limit);
    narrow(t, w, limit, false);
    return sum_of(t, w) <= limit;
}

static void print_left_out(const table *t, const widths *w, FILE *out)
{
    const char *between = "(too narrow for ";
    for (size_t c = 0; c < t->columns; c++) {
        if (w->of[c] == 0 && !w->empty[c]) {
            fprintf(out, "%s%s", between, head(t, c));
            between = ", ";
        }
    }
    fputs(")\n", out);
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
    widths w = {.left_out = false};
    if (t == NULL || t->failed || t->columns > COLUMNS_MAX) {
        return false;
    }
    size_t whole = t->count - t->count % t->columns;
    size_t limit = terminal_columns();
    measure(t, &w, whole);
    if (limit > 0 && !fit(t, &w, limit)) {
        print_lines(t, whole, out);
        return true;
    }
    while (w.of[w.first] == 0) {
        w.first++;
    }
    for (size_t c = 0; c < t->columns; c++) {
        w.last = w.of[c] > 0 ? c : w.last;
    }
    print_row(t, NULL, NULL, &w, out);
    for (size_t i = 0; i < whole; i += t->columns) {
        print_row(t, (const char *const *)t->cells + i, t->styles + i, &w, out);
    }
    if (w.left_out) {
        print_left_out(t, &w, out);
    }
    return true;
}
