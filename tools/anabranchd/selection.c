/* SPDX-License-Identifier: Apache-2.0 */
/* Selections: what is in them. Pure functions. */
#include "tools/anabranchd/selection.h"

#include <string.h>

void ab_selection_init(ab_selection *selection)
{
    *selection = (ab_selection){.start = INT64_MIN, .stop = INT64_MAX};
}

int ab_bytes_compare(ab_bytes a, ab_bytes b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size > 0 ? memcmp(a.data, b.data, size) : 0;
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* Where the name that begins at `from` ends. A backslash before the byte that would end it escapes that, and nothing
 * escapes the backslash. */
static size_t name_end(const char *text, size_t from, size_t size, char stop)
{
    for (size_t i = from; i < size; i++) {
        if (text[i] == stop && (i == from || text[i - 1] != '\\')) {
            return i;
        }
    }
    return size;
}

ab_bytes ab_column_series(const char *column, size_t size)
{
    return (ab_bytes){column, name_end(column, 0, size, ' ')};
}

bool ab_series_next(ab_bytes series, size_t *at, ab_bytes *part)
{
    const char *text = series.data;
    size_t from = *at;
    if (from > series.size) {
        return false;
    }
    size_t end = name_end(text, from, series.size, ',');
    *part = (ab_bytes){text + from, end - from};
    *at = end + 1;
    return true;
}

/* `from`: the end of the measurement. */
static bool has_tag(ab_bytes series, size_t from, ab_bytes tag)
{
    const char *text = series.data;
    while (from < series.size) {
        size_t start = from + 1;
        from = name_end(text, start, series.size, ',');
        if (ab_bytes_compare((ab_bytes){text + start, from - start}, tag) == 0) {
            return true;
        }
    }
    return false;
}

bool ab_selection_has_series(const ab_selection *selection, ab_bytes series)
{
    size_t end = name_end(series.data, 0, series.size, ',');
    if (selection->measurement.size > 0 &&
        ab_bytes_compare(selection->measurement, (ab_bytes){series.data, end}) != 0) {
        return false;
    }
    for (size_t i = 0; i < selection->tag_count; i++) {
        if (!has_tag(series, end, selection->tags[i])) {
            return false;
        }
    }
    return true;
}

bool ab_selection_covers(const ab_selection *wide, const ab_selection *narrow)
{
    if (wide->start > narrow->start || wide->stop < narrow->stop) {
        return false;
    }
    if (wide->measurement.size > 0 && ab_bytes_compare(wide->measurement, narrow->measurement) != 0) {
        return false;
    }
    size_t k = 0;
    for (size_t i = 0; i < wide->tag_count; i++) {
        while (k < narrow->tag_count && ab_bytes_compare(narrow->tags[k], wide->tags[i]) < 0) {
            k++;
        }
        if (k == narrow->tag_count || ab_bytes_compare(narrow->tags[k], wide->tags[i]) != 0) {
            return false;
        }
    }
    return true;
}

size_t ab_selection_begin(const ab_selection *selection, char *text)
{
    if (selection->measurement.size > 0) {
        memcpy(text, selection->measurement.data, selection->measurement.size);
    }
    return selection->measurement.size;
}

/* What begins with the measurement stands together, among it names that only begin like it. */
bool ab_selection_is_before(const ab_selection *selection, const char *column, size_t size)
{
    size_t first = selection->measurement.size;
    return first > 0 &&
           ab_bytes_compare((ab_bytes){column, size < first ? size : first}, selection->measurement) > 0;
}
