/* SPDX-License-Identifier: Apache-2.0 */
/* The line protocol parser: one pass over the bytes with a table of byte classes. One thread per parser. */
#include "tools/anabranchd/lineprotocol.h"

#include <stdlib.h>
#include <string.h>

/* What a byte may end. */
enum { COMMA = 1, SPACE = 2, EQUALS = 4, CONTROL = 8 };

typedef struct tag {
    const char *key;
    uint32_t key_size;
    uint32_t size; /* of key=value */
} tag;

struct ab_lp_parser {
    uint8_t classes[256];
    const char *start; /* of the line */
    const char *p;
    const char *end;
    int64_t unit;
    int64_t now;
    size_t number;      /* of the line, from 1 */
    size_t next_number; /* of the line after it */
    const char *reason;
    size_t tag_count;
    size_t scratch_used;
    tag tags[AB_LP_TAGS_MAX];
    ab_lp_field fields[AB_LP_FIELDS_MAX];
    char scratch[AB_LP_LINE_MAX]; /* rebuilt key and unescaped strings: together never longer than the line */
};

ab_lp_parser *ab_lp_new(void)
{
    ab_lp_parser *parser = malloc(sizeof *parser);
    if (parser == NULL) {
        return NULL;
    }
    memset(parser, 0, offsetof(ab_lp_parser, tags));
    for (int c = 0; c < 0x20; c++) {
        parser->classes[c] = CONTROL;
    }
    parser->classes[0x7f] = CONTROL;
    parser->classes[','] = COMMA;
    parser->classes[' '] = SPACE;
    parser->classes['='] = EQUALS;
    return parser;
}

void ab_lp_free(ab_lp_parser *parser)
{
    free(parser);
}

int64_t ab_lp_unit(const char *precision)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"ns", 1},       {"n", 1},          {"us", 1000},         {"u", 1000},
                 {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000ll}, {"h", 3600000000000ll}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(precision, units[i].name) == 0) {
            return units[i].ns;
        }
    }
    return 0;
}

void ab_lp_begin(ab_lp_parser *parser, const char *text, size_t size, int64_t unit, int64_t now)
{
    parser->p = text;
    parser->start = text;
    parser->end = text + size;
    parser->unit = unit;
    parser->now = now - now % unit;
    parser->number = 0;
    parser->next_number = 1;
}

size_t ab_lp_line_number(const ab_lp_parser *parser)
{
    return parser->number;
}

static bool fail(ab_lp_parser *parser, const char *reason)
{
    parser->reason = reason;
    return false;
}

static bool at_line_end(const ab_lp_parser *parser)
{
    const char *p = parser->p;
    if (p == parser->end || *p == '\n') {
        return true;
    }
    return *p == '\r' && (p + 1 == parser->end || p[1] == '\n');
}

static bool at(const ab_lp_parser *parser, char c)
{
    return parser->p < parser->end && *parser->p == c;
}

static void skip_blanks(ab_lp_parser *parser)
{
    while (at(parser, ' ') || at(parser, '\t')) {
        parser->p++;
    }
}

/* Moves over a name to the first byte of the classes `stops` that no backslash escapes. Control bytes always
 * stop. */
static void skip_name(ab_lp_parser *parser, unsigned stops)
{
    const char *p = parser->p;
    const char *end = parser->end;
    const uint8_t *classes = parser->classes;
    unsigned all = stops | CONTROL;
    while (p < end && (classes[(uint8_t)*p] & all) == 0) {
        if (*p == '\\' && p + 1 < end && (classes[(uint8_t)p[1]] & stops) != 0) {
            p++;
        }
        p++;
    }
    parser->p = p;
}

static bool control_here(const ab_lp_parser *parser)
{
    return parser->p < parser->end && !at_line_end(parser) && parser->classes[(uint8_t)*parser->p] == CONTROL;
}

static bool read_measurement(ab_lp_parser *parser)
{
    const char *start = parser->p;
    skip_name(parser, COMMA | SPACE);
    if (control_here(parser)) {
        return fail(parser, "control character in measurement");
    }
    return parser->p > start || fail(parser, "missing measurement");
}

static bool read_tag(ab_lp_parser *parser)
{
    parser->p++; /* the comma */
    if (parser->tag_count == AB_LP_TAGS_MAX) {
        return fail(parser, "too many tags");
    }
    tag *t = &parser->tags[parser->tag_count];
    t->key = parser->p;
    skip_name(parser, COMMA | SPACE | EQUALS);
    if (!at(parser, '=')) {
        return fail(parser, control_here(parser) ? "control character in tag key" : "missing tag value");
    }
    t->key_size = (uint32_t)(parser->p - t->key);
    if (t->key_size == 0) {
        return fail(parser, "missing tag key");
    }
    const char *value = ++parser->p;
    skip_name(parser, COMMA | SPACE | EQUALS);
    if (at(parser, '=')) {
        return fail(parser, "unescaped '=' in tag value");
    }
    if (control_here(parser)) {
        return fail(parser, "control character in tag value");
    }
    if (parser->p == value) {
        return fail(parser, "missing tag value");
    }
    t->size = (uint32_t)(parser->p - t->key);
    parser->tag_count++;
    return true;
}

static int compare_tags(const tag *a, const tag *b)
{
    size_t size = a->key_size < b->key_size ? a->key_size : b->key_size;
    int order = memcmp(a->key, b->key, size);
    return order != 0 ? order : (a->key_size > b->key_size) - (a->key_size < b->key_size);
}

/* Puts the last tag where it belongs among the sorted ones before it. */
static bool insert_tag(ab_lp_parser *parser)
{
    size_t last = parser->tag_count - 1;
    tag t = parser->tags[last];
    size_t low = 0;
    size_t high = last;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_tags(&t, &parser->tags[middle]);
        if (order == 0) {
            return fail(parser, "duplicate tag");
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    memmove(&parser->tags[low + 1], &parser->tags[low], (last - low) * sizeof t);
    parser->tags[low] = t;
    return true;
}

static ab_bytes rebuild_key(ab_lp_parser *parser, const char *start, size_t measurement)
{
    char *out = parser->scratch;
    size_t size = measurement;
    memcpy(out, start, measurement);
    for (size_t i = 0; i < parser->tag_count; i++) {
        out[size++] = ',';
        memcpy(out + size, parser->tags[i].key, parser->tags[i].size);
        size += parser->tags[i].size;
    }
    parser->scratch_used = size;
    return (ab_bytes){out, size};
}

static bool read_series(ab_lp_parser *parser, ab_bytes *series)
{
    const char *start = parser->p;
    bool sorted = true;
    parser->tag_count = 0;
    if (!read_measurement(parser)) {
        return false;
    }
    size_t measurement = (size_t)(parser->p - start);
    while (at(parser, ',')) {
        if (!read_tag(parser)) {
            return false;
        }
        size_t n = parser->tag_count;
        if (n > 1 && compare_tags(&parser->tags[n - 2], &parser->tags[n - 1]) >= 0) {
            sorted = false;
            if (!insert_tag(parser)) {
                return false;
            }
        }
    }
    *series = (ab_bytes){start, (size_t)(parser->p - start)};
    if (series->size > AB_LP_KEY_MAX) {
        return fail(parser, "series key too long");
    }
    if (!sorted) {
        *series = rebuild_key(parser, start, measurement);
    }
    return true;
}

static bool read_string(ab_lp_parser *parser, ab_value *value)
{
    const char *start = ++parser->p;
    const char *end = parser->end - parser->start > (ptrdiff_t)AB_LP_LINE_MAX ? parser->start + AB_LP_LINE_MAX
                                                                              : parser->end;
    const char *p = start;
    bool escaped = false;
    while (p < end && *p != '"') {
        if (*p == '\\' && p + 1 < end && (p[1] == '"' || p[1] == '\\')) {
            escaped = true;
            p++;
        }
        p++;
    }
    if (p >= end) {
        return fail(parser, end < parser->end ? "line too long" : "unbalanced quotes");
    }
    parser->p = p + 1;
    value->type = AB_VALUE_STRING;
    value->as.text = (ab_bytes){start, (size_t)(p - start)};
    if (escaped) {
        char *out = parser->scratch + parser->scratch_used;
        size_t size = 0;
        for (const char *from = start; from < p; from++) {
            if (*from == '\\' && (from[1] == '"' || from[1] == '\\')) {
                from++;
            }
            out[size++] = *from;
        }
        parser->scratch_used += size;
        value->as.text = (ab_bytes){out, size};
    }
    return true;
}

static bool read_boolean(ab_lp_parser *parser, ab_value *value)
{
    static const char *const spellings[] = {"true",  "True",  "TRUE",  "t", "T",
                                            "false", "False", "FALSE", "f", "F"};
    const char *start = parser->p;
    const char *p = start;
    while (p < parser->end && ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z'))) {
        p++;
    }
    size_t size = (size_t)(p - start);
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        if (strlen(spellings[i]) == size && memcmp(spellings[i], start, size) == 0) {
            value->type = AB_VALUE_BOOLEAN;
            value->as.truth = i < 5;
            parser->p = p;
            return true;
        }
    }
    return fail(parser, "invalid boolean");
}

/* Digits only; false: none, or beyond 64 bits. */
static bool read_natural(const char *p, const char *end, uint64_t *number)
{
    uint64_t n = 0;
    if (p == end || end - p > 20) {
        return false;
    }
    for (; p < end; p++) {
        if (*p < '0' || *p > '9' || __builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n)) {
            return false;
        }
    }
    *number = n;
    return true;
}

static bool read_integer(const char *p, const char *end, int64_t *number)
{
    uint64_t n = 0;
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) {
        p++;
    }
    if (!read_natural(p, end, &n) || n > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return false;
    }
    *number = negative ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}

static bool read_number(ab_lp_parser *parser, ab_value *value)
{
    const char *start = parser->p;
    const char *p = start;
    while (p < parser->end && *p != ',' && *p != ' ' && (uint8_t)*p >= 0x20) {
        p++;
    }
    if (p == start) {
        return fail(parser, "missing field value");
    }
    char last = p[-1];
    if (last == 'i') {
        value->type = AB_VALUE_INTEGER;
        if (!read_integer(start, p - 1, &value->as.integer)) {
            return fail(parser, "invalid integer");
        }
    } else if (last == 'u') {
        value->type = AB_VALUE_UNSIGNED;
        if (!read_natural(start, p - 1, &value->as.natural)) {
            return fail(parser, "invalid unsigned integer");
        }
    } else {
        value->type = AB_VALUE_FLOAT;
        if (ab_float_parse(start, p, &value->as.real) != p) {
            return fail(parser, "invalid number");
        }
    }
    parser->p = p;
    return true;
}

static bool read_value(ab_lp_parser *parser, ab_value *value)
{
    if (at_line_end(parser)) {
        return fail(parser, "missing field value");
    }
    switch (*parser->p) {
    case '"':
        return read_string(parser, value);
    case 't':
    case 'T':
    case 'f':
    case 'F':
        return read_boolean(parser, value);
    default:
        return read_number(parser, value);
    }
}

static bool read_field(ab_lp_parser *parser, ab_lp_field *field)
{
    const char *start = parser->p;
    skip_name(parser, COMMA | SPACE | EQUALS);
    size_t size = (size_t)(parser->p - start);
    if (control_here(parser)) {
        return fail(parser, "control character in field key");
    }
    if (size == 0) {
        return fail(parser, at_line_end(parser) ? "missing fields" : "missing field key");
    }
    if (!at(parser, '=')) {
        return fail(parser, "missing field value");
    }
    if (size > AB_LP_NAME_MAX) {
        return fail(parser, "field key too long");
    }
    parser->p++;
    field->key = (ab_bytes){start, size};
    return read_value(parser, &field->value);
}

static bool read_fields(ab_lp_parser *parser, size_t *count)
{
    *count = 0;
    for (;;) {
        if (*count == AB_LP_FIELDS_MAX) {
            return fail(parser, "too many fields");
        }
        if (!read_field(parser, &parser->fields[*count])) {
            return false;
        }
        ++*count;
        if (!at(parser, ',')) {
            break;
        }
        parser->p++;
    }
    return at(parser, ' ') || at(parser, '\t') || at_line_end(parser) ||
           fail(parser, "unexpected character after field value");
}

static bool read_time(ab_lp_parser *parser, int64_t *time)
{
    skip_blanks(parser);
    if (at_line_end(parser)) {
        *time = parser->now;
        return true;
    }
    const char *start = parser->p;
    while (!at_line_end(parser) && !at(parser, ' ') && !at(parser, '\t')) {
        parser->p++;
    }
    const char *end = parser->p;
    skip_blanks(parser);
    if (!at_line_end(parser)) {
        return fail(parser, "unexpected text after timestamp");
    }
    parser->p = start;
    if (!read_integer(start, end, time)) {
        return fail(parser, "invalid timestamp");
    }
    if (__builtin_mul_overflow(*time, parser->unit, time)) {
        return fail(parser, "timestamp out of range");
    }
    parser->p = end;
    return true;
}

static bool read_line(ab_lp_parser *parser, ab_lp_line *line)
{
    parser->scratch_used = 0;
    if (!read_series(parser, &line->series)) {
        return false;
    }
    if (at_line_end(parser)) {
        return fail(parser, "missing fields");
    }
    skip_blanks(parser);
    line->fields = parser->fields;
    if (!read_fields(parser, &line->field_count) || !read_time(parser, &line->time)) {
        return false;
    }
    return (size_t)(parser->p - parser->start) <= AB_LP_LINE_MAX || fail(parser, "line too long");
}

/* To the line after the one that was read up to p. A string may hold newlines: they count. */
static void finish_line(ab_lp_parser *parser, const char *p)
{
    const char *newline = p < parser->end ? memchr(p, '\n', (size_t)(parser->end - p)) : NULL;
    const char *next = newline != NULL ? newline + 1 : parser->end;
    parser->next_number++;
    for (const char *q = parser->start; (q = memchr(q, '\n', (size_t)(p - q))) != NULL; q++) {
        parser->next_number++;
    }
    parser->p = next;
}

int ab_lp_next(ab_lp_parser *parser, ab_lp_line *line, ab_lp_error *error)
{
    while (parser->p < parser->end) {
        parser->start = parser->p;
        parser->number = parser->next_number;
        skip_blanks(parser);
        if (at_line_end(parser) || at(parser, '#')) {
            finish_line(parser, parser->p);
            continue;
        }
        if (read_line(parser, line)) {
            finish_line(parser, parser->p);
            return AB_OK;
        }
        error->line = parser->number;
        error->column = (size_t)(parser->p - parser->start) + 1;
        error->reason = parser->reason;
        finish_line(parser, parser->start);
        return AB_EINVAL;
    }
    return AB_ENOTFOUND;
}
