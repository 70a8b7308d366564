/* SPDX-License-Identifier: Apache-2.0 */
/* Sorted vectors of marks. Pure values, one owner, no locks. */
#include "replication/frontier.h"

#include "wal/block.h"
#include <stdlib.h>
#include <string.h>

void ab_marks_init(ab_marks *marks)
{
    memset(marks, 0, sizeof *marks);
}

void ab_marks_free(ab_marks *marks)
{
    free(marks->marks);
    ab_marks_init(marks);
}

void ab_marks_clear(ab_marks *marks)
{
    marks->count = 0;
}

int ab_marks_reserve(ab_marks *marks, size_t count)
{
    if (count <= marks->capacity) {
        return AB_OK;
    }
    if (count > AB_MARKS_MAX) {
        return AB_ETOOBIG;
    }
    size_t capacity = marks->capacity < 4 ? count : marks->capacity * 2u; /* most groups have few members */
    if (capacity < count) {
        capacity = count;
    }
    ab_mark *grown = realloc(marks->marks, capacity * sizeof *grown);
    if (grown == NULL) {
        return AB_ENOMEM;
    }
    marks->marks = grown;
    marks->capacity = (uint32_t)capacity;
    return AB_OK;
}

/* Position of the first mark that is not before `stream`. */
static size_t lower_bound(ab_frontier frontier, ab_stream stream)
{
    size_t low = 0;
    size_t high = frontier.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ab_stream_compare(frontier.marks[middle].stream, stream) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool holds(ab_frontier frontier, size_t position, ab_stream stream)
{
    return position < frontier.count && ab_stream_compare(frontier.marks[position].stream, stream) == 0;
}

int ab_marks_set(ab_marks *marks, ab_mark mark)
{
    size_t position = lower_bound(ab_marks_view(marks), mark.stream);
    bool found = holds(ab_marks_view(marks), position, mark.stream);
    if (mark.index == 0) {
        if (found) {
            marks->count--;
            memmove(&marks->marks[position], &marks->marks[position + 1],
                    (marks->count - position) * sizeof *marks->marks);
        }
        return AB_OK;
    }
    if (!found) {
        int code = ab_marks_reserve(marks, (size_t)marks->count + 1);
        if (code != AB_OK) {
            return code;
        }
        memmove(&marks->marks[position + 1], &marks->marks[position],
                (marks->count - position) * sizeof *marks->marks);
        marks->count++;
    }
    marks->marks[position] = mark;
    return AB_OK;
}

int ab_marks_raise(ab_marks *marks, ab_mark mark)
{
    return mark.index > ab_marks_get(marks, mark.stream) ? ab_marks_set(marks, mark) : AB_OK;
}

int ab_marks_merge(ab_marks *marks, ab_frontier other)
{
    size_t missing = 0;
    for (size_t i = 0; i < other.count; i++) {
        missing += ab_marks_get(marks, other.marks[i].stream) == 0;
    }
    int code = ab_marks_reserve(marks, marks->count + missing);
    for (size_t i = 0; code == AB_OK && i < other.count; i++) {
        code = ab_marks_raise(marks, other.marks[i]);
    }
    return code;
}

int ab_marks_copy(ab_marks *marks, ab_frontier other)
{
    int code = ab_marks_reserve(marks, other.count);
    if (code != AB_OK) {
        return code;
    }
    if (other.count > 0) {
        memmove(marks->marks, other.marks, other.count * sizeof *marks->marks);
    }
    marks->count = (uint32_t)other.count;
    return AB_OK;
}

void ab_marks_drop(ab_marks *marks, uint32_t node, uint32_t epoch)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < marks->count; i++) {
        ab_stream stream = marks->marks[i].stream;
        if (stream.node != node || stream.epoch >= epoch) {
            marks->marks[kept++] = marks->marks[i];
        }
    }
    marks->count = kept;
}

ab_frontier ab_marks_view(const ab_marks *marks)
{
    return (ab_frontier){marks->marks, marks->count};
}

uint64_t ab_frontier_get(ab_frontier frontier, ab_stream stream)
{
    size_t position = lower_bound(frontier, stream);
    return holds(frontier, position, stream) ? frontier.marks[position].index : 0;
}

uint64_t ab_marks_get(const ab_marks *marks, ab_stream stream)
{
    return ab_frontier_get(ab_marks_view(marks), stream);
}

bool ab_frontier_covers(ab_frontier frontier, ab_frontier other)
{
    for (size_t i = 0; i < other.count; i++) {
        if (ab_frontier_get(frontier, other.marks[i].stream) < other.marks[i].index) {
            return false;
        }
    }
    return true;
}

bool ab_frontier_valid(ab_frontier frontier)
{
    if (frontier.count > AB_MARKS_MAX || (frontier.count > 0 && frontier.marks == NULL)) {
        return false;
    }
    for (size_t i = 0; i < frontier.count; i++) {
        if (frontier.marks[i].index == 0) {
            return false;
        }
        if (i > 0 && ab_stream_compare(frontier.marks[i - 1].stream, frontier.marks[i].stream) >= 0) {
            return false;
        }
    }
    return true;
}
