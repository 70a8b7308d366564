/* SPDX-License-Identifier: Apache-2.0 */
/* Tables with columns as wide as they need to be. One table: one thread. */
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CELL_MAX 160u
#define GAP 2

struct table {
    const char *const *heads;
    size_t columns;
    char **cells;
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
        if (larger == NULL) {
            t->failed = true;
            return;
        }
        t->cells = larger;
        t->capacity = capacity;
    }
    char *copy = strdup(text[0] != '\0' ? text : "-");
    if (copy == NULL) {
        t->failed = true;
        return;
    }
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

static void print_cell(const table *t, size_t column, const char *text, size_t width, FILE *out)
{
    int pad = (int)(width - text_width(text));
    bool last = column + 1 == t->columns;
    if (right(t, column)) {
        fprintf(out, "%*s%s", pad, "", text);
    } else {
        fprintf(out, "%s%*s", text, last ? 0 : pad, "");
    }
    fprintf(out, "%*s", last ? 0 : GAP, "");
    if (last) {
        fputc('\n', out);
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
    for (size_t c = 0; c < t->columns; c++) {
        widths[c] = text_width(head(t, c));
    }
    for (size_t i = 0; i < whole; i++) {
        size_t width = text_width(t->cells[i]);
        widths[i % t->columns] = width > widths[i % t->columns] ? width : widths[i % t->columns];
    }
    for (size_t c = 0; c < t->columns; c++) {
        print_cell(t, c, head(t, c), widths[c], out);
    }
    for (size_t i = 0; i < whole; i++) {
        print_cell(t, i % t->columns, t->cells[i], widths[i % t->columns], out);
    }
    free(widths);
    return true;
}
