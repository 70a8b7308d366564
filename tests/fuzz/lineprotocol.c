/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzing of line protocol: any text is parsed or refused; what was accepted survives packing, unpacking and printing
 * unchanged. One thread. */
#include "tools/anabranchd/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static bool same_bytes(ab_bytes a, ab_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static bool same_value(const ab_value *a, const ab_value *b)
{
    if (a->type != b->type) {
        return false;
    }
    switch (a->type) {
    case AB_VALUE_FLOAT:
        return memcmp(&a->as.real, &b->as.real, sizeof a->as.real) == 0;
    case AB_VALUE_STRING:
        return same_bytes(a->as.text, b->as.text);
    case AB_VALUE_BOOLEAN:
        return a->as.truth == b->as.truth;
    default:
        return a->as.natural == b->as.natural;
    }
}

/* The point as an export prints it, read back. */
static void check_text(ab_lp_parser *parser, const ab_lp_line *line, const ab_lp_field *field)
{
    size_t text = field->value.type == AB_VALUE_STRING ? field->value.as.text.size : 0;
    char *out = malloc(line->series.size + field->key.size + AB_VALUE_TEXT_MAX(text) + 32);
    char *p = out;
    memcpy(p, line->series.data, line->series.size);
    p += line->series.size;
    *p++ = ' ';
    memcpy(p, field->key.data, field->key.size);
    p += field->key.size;
    *p++ = '=';
    p += ab_value_format(&field->value, p);
    *p++ = ' ';
    p += ab_integer_format(line->time, p);
    *p++ = '\n';
    ab_lp_line back;
    ab_lp_error error = {0};
    ab_lp_begin(parser, out, (size_t)(p - out), 1, 0);
    int code = ab_lp_next(parser, &back, &error);
    require(code == AB_OK || strcmp(error.reason, "line too long") == 0, "an exported line is refused");
    if (code == AB_OK) {
        require(same_bytes(back.series, line->series), "the series changed in print");
        require(back.field_count == 1 && same_bytes(back.fields[0].key, field->key),
                "the field changed in print");
        require(same_value(&back.fields[0].value, &field->value), "the value changed in print");
        require(back.time == line->time, "the time changed in print");
    }
    free(out);
}

static void check_line(ab_lp_parser *printer, const ab_lp_line *line)
{
    ab_pack pack = {0};
    ab_pack_reader reader;
    ab_point point;
    require(ab_pack_add(&pack, line, 1u << 24) == AB_OK && ab_pack_finish(&pack) == AB_OK,
            "an accepted line is not packed");
    require(ab_pack_read(&reader, pack.payloads[0].data, pack.payloads[0].size) == AB_OK,
            "a payload is not read");
    for (size_t i = 0; i < line->field_count; i++) {
        require(ab_pack_next(&reader, &point) == AB_OK, "a point is missing");
        require(same_bytes(point.series, line->series) && point.time == line->time, "series or time changed");
        require(same_bytes(point.field, line->fields[i].key), "a field changed");
        require(same_value(&point.value, &line->fields[i].value), "a value changed");
        check_text(printer, line, &line->fields[i]);
    }
    require(ab_pack_next(&reader, &point) == AB_ENOTFOUND, "a point too many");
    ab_pack_free(&pack);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of exactly the size, so that a read beyond it is seen. */
    char *text = malloc(size + (size == 0));
    ab_lp_parser *parser = ab_lp_new();
    ab_lp_parser *printer = ab_lp_new();
    ab_lp_line line;
    ab_lp_error error;
    int code = AB_OK;
    memcpy(text, data, size);
    ab_lp_begin(parser, text, size, 1, 1234567890);
    while ((code = ab_lp_next(parser, &line, &error)) != AB_ENOTFOUND) {
        if (code == AB_OK) {
            check_line(printer, &line);
        } else {
            require(error.line >= 1 && error.column >= 1 && error.reason != NULL, "an error without a place");
        }
    }
    ab_lp_free(parser);
    ab_lp_free(printer);
    free(text);
    return 0;
}
