/* SPDX-License-Identifier: Apache-2.0 */
/* Payloads as people read them. Pure functions; any thread. */
#include "tools/anabranch/payload.h"
#include "tools/anabranch/source.h"
#include "tools/anabranch/text.h"
#include "tools/anabranchd/pack.h"

#include <inttypes.h>
#include <msgpack.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool payload_kind_read(const char *name, payload_kind *kind)
{
    static const char *const names[] = {[PAYLOAD_AUTO] = "auto",
                                        [PAYLOAD_RAW] = "raw",
                                        [PAYLOAD_TEXT] = "text",
                                        [PAYLOAD_MSGPACK] = "msgpack",
                                        [PAYLOAD_LINE] = "line"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0) {
            *kind = (payload_kind)i;
            return true;
        }
    }
    return false;
}

/* A list of lines under way. */
typedef struct lines {
    json_t *list;
    FILE *out; /* the line under way */
    char *text;
    size_t size;
    bool failed;
} lines;

static bool begin_line(lines *l)
{
    l->out = open_memstream(&l->text, &l->size);
    l->failed = l->failed || l->out == NULL;
    return l->out != NULL;
}

static void end_line(lines *l)
{
    l->failed = l->failed || ferror(l->out);
    l->failed = fclose(l->out) != 0 || l->failed;
    if (!l->failed) {
        l->failed = json_array_append_new(l->list, json_text(l->text, l->size)) != 0;
    }
    free(l->text);
    l->text = NULL;
}

/* What is harmless as it is, anything else as \xNN. */
static void add_safe(FILE *out, const char *text, size_t size, const char *escaped)
{
    for (size_t i = 0; i < size;) {
        size_t bytes = text_char(text + i, size - i);
        if (bytes == 0) {
            fprintf(out, "\\x%02x", (unsigned char)text[i]);
        } else {
            fputs(bytes == 1 && strchr(escaped, text[i]) != NULL ? "\\" : "", out);
            fwrite(text + i, 1, bytes, out);
        }
        i += bytes > 0 ? bytes : 1;
    }
}

static void add_hex(FILE *out, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    fputs("0x", out);
    for (size_t i = 0; i < size; i++) {
        fprintf(out, "%02x", bytes[i]);
    }
}

static void hex_line(lines *l, const char *why, const void *data, size_t size, bool cut)
{
    if (begin_line(l)) {
        fputs(why, l->out);
        add_hex(l->out, data, size);
        fputs(cut ? "..." : "", l->out);
        end_line(l);
    }
}

static void words_line(lines *l, const char *words)
{
    if (begin_line(l)) {
        fputs(words, l->out);
        end_line(l);
    }
}

static void text_lines(lines *l, const char *text, size_t size, bool cut)
{
    /* A character that was cut is left out rather than shown as strange. */
    size_t whole = size;
    while (cut && whole > 0 && size - whole < 3 &&
           text_strange(text, whole) > text_strange(text, whole - 1)) {
        whole--;
    }
    if (begin_line(l)) {
        add_safe(l->out, text, whole, "\\");
        fputs(cut ? "..." : "", l->out);
        end_line(l);
    }
}

static void add_object(FILE *out, const msgpack_object *o);

static void add_text(FILE *out, const msgpack_object_str *text)
{
    fputc('"', out);
    add_safe(out, text->ptr, text->size, "\"\\");
    fputc('"', out);
}

static void add_list(FILE *out, const msgpack_object_array *list)
{
    fputc('[', out);
    for (uint32_t i = 0; i < list->size; i++) {
        fputs(i > 0 ? ", " : "", out);
        add_object(out, &list->ptr[i]);
    }
    fputc(']', out);
}

static void add_map(FILE *out, const msgpack_object_map *map)
{
    fputc('{', out);
    for (uint32_t i = 0; i < map->size; i++) {
        fputs(i > 0 ? ", " : "", out);
        add_object(out, &map->ptr[i].key);
        fputs(": ", out);
        add_object(out, &map->ptr[i].val);
    }
    fputc('}', out);
}

/* In as few digits as give the same number again. */
static void add_float(FILE *out, double value, bool single)
{
    char text[32];
    bool same = false;
    for (int digits = single ? 6 : 15, most = single ? 9 : 17; digits <= most && !same; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        same = single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value;
    }
    fputs(text, out);
}

/* msgpack-c bounds the depth. */
static void add_object(FILE *out, const msgpack_object *o)
{
    switch (o->type) {
    case MSGPACK_OBJECT_NIL:
        fputs("nil", out);
        return;
    case MSGPACK_OBJECT_BOOLEAN:
        fputs(o->via.boolean ? "true" : "false", out);
        return;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        fprintf(out, "%" PRIu64, o->via.u64);
        return;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        fprintf(out, "%" PRId64, o->via.i64);
        return;
    case MSGPACK_OBJECT_FLOAT32:
        add_float(out, o->via.f64, true);
        return;
    case MSGPACK_OBJECT_FLOAT64:
        add_float(out, o->via.f64, false);
        return;
    case MSGPACK_OBJECT_STR:
        add_text(out, &o->via.str);
        return;
    case MSGPACK_OBJECT_BIN:
        add_hex(out, o->via.bin.ptr, o->via.bin.size);
        return;
    case MSGPACK_OBJECT_ARRAY:
        add_list(out, &o->via.array);
        return;
    case MSGPACK_OBJECT_MAP:
        add_map(out, &o->via.map);
        return;
    case MSGPACK_OBJECT_EXT:
        fprintf(out, "ext(%d, ", o->via.ext.type);
        add_hex(out, o->via.ext.ptr, o->via.ext.size);
        fputc(')', out);
        return;
    }
}

static void msgpack_lines(lines *l, const char *data, size_t size, bool cut)
{
    size_t offset = 0;
    while (offset < size) {
        msgpack_unpacked result;
        size_t from = offset;
        msgpack_unpacked_init(&result);
        msgpack_unpack_return code = msgpack_unpack_next(&result, data, size, &offset);
        if (code == MSGPACK_UNPACK_SUCCESS || code == MSGPACK_UNPACK_EXTRA_BYTES) {
            if (begin_line(l)) {
                add_object(l->out, &result.data);
                end_line(l);
            }
        } else if (code == MSGPACK_UNPACK_CONTINUE && cut) {
            hex_line(l, "(cut) ", data + from, size - from, true);
            offset = size;
        } else {
            hex_line(l, "(no msgpack) ", data + from, size - from, cut);
            offset = size;
        }
        msgpack_unpacked_destroy(&result);
    }
}

/* The fields of a point behind those of the line that it continues. @return false: out of memory */
static bool add_point(lines *l, const ab_point *point, bool first)
{
    bool text = point->value.type == AB_VALUE_STRING;
    char *value = malloc(AB_VALUE_TEXT_MAX(text ? point->value.as.text.size : 0));
    if (value == NULL) {
        return false;
    }
    size_t size = ab_value_format(&point->value, value);
    if (first) {
        add_safe(l->out, point->series.data, point->series.size, "");
    }
    fputc(first ? ' ' : ',', l->out);
    add_safe(l->out, point->field.data, point->field.size, "");
    fputc('=', l->out);
    add_safe(l->out, value, size, "");
    free(value);
    return true;
}

/* Points as lines. @return AB_OK: all of them; else why not, and *rest is where it ends to be understood */
static int point_lines(lines *l, const void *data, size_t size, const uint8_t **rest)
{
    ab_pack_reader reader;
    ab_point point;
    int code = ab_pack_read(&reader, data, size);
    *rest = data;
    bool open = false;
    while (code == AB_OK && !l->failed) {
        *rest = open ? *rest : reader.p;
        code = ab_pack_next(&reader, &point);
        if (code != AB_OK) {
            break;
        }
        bool first = !open;
        if (first && !begin_line(l)) {
            return AB_ENOMEM;
        }
        open = true;
        l->failed = !add_point(l, &point, first) || l->failed;
        if (reader.fields == 0) {
            fprintf(l->out, " %" PRId64, point.time);
            end_line(l);
            open = false;
        }
    }
    if (open) { /* half a line says nothing for certain */
        fclose(l->out);
        free(l->text);
        l->text = NULL;
    }
    return l->failed ? AB_ENOMEM : code == AB_ENOTFOUND ? AB_OK : code;
}

static void delete_line(lines *l, const ab_selection *what)
{
    if (!begin_line(l)) {
        return;
    }
    fputs("(delete) ", l->out);
    add_safe(l->out, what->measurement.size > 0 ? what->measurement.data : "*",
             what->measurement.size > 0 ? what->measurement.size : 1, "");
    for (size_t i = 0; i < what->tag_count; i++) {
        fputc(',', l->out);
        add_safe(l->out, what->tags[i].data, what->tags[i].size, "");
    }
    fprintf(l->out, " from %" PRId64 " to %" PRId64, what->start, what->stop);
    end_line(l);
}

/* A whole payload of anabranchd: points, or a delete. @return as point_lines() */
static int daemon_lines(lines *l, const void *data, size_t size, const uint8_t **rest)
{
    ab_selection what;
    if (!ab_pack_is_delete(data, size)) {
        return point_lines(l, data, size, rest);
    }
    *rest = data;
    int code = ab_pack_read_delete(data, size, &what);
    if (code == AB_OK) {
        delete_line(l, &what);
    }
    return l->failed ? AB_ENOMEM : code;
}

static void line_lines(lines *l, const uint8_t *data, size_t size, bool cut)
{
    const uint8_t *rest;
    int code = daemon_lines(l, data, size, &rest);
    if (code == AB_ENOMEM) {
        l->failed = true;
    } else if (code != AB_OK && cut && rest > data) {
        words_line(l, "...");
    } else if (code != AB_OK) {
        const char *why = code == AB_EVERSION ? "(no points of a version that is known) " : "(no points) ";
        hex_line(l, why, rest, size - (size_t)(rest - data), cut);
    }
}

payload_kind payload_guess(const void *data, size_t size, bool cut)
{
    lines probe = {.list = json_array()};
    const uint8_t *rest;
    int code = probe.list != NULL && size > 0 ? daemon_lines(&probe, data, size, &rest) : AB_ENOTFOUND;
    bool whole = code == AB_OK || (cut && code == AB_ECORRUPT); /* as far as it is there */
    bool points = whole && json_array_size(probe.list) > 0;
    json_decref(probe.list);
    return points ? PAYLOAD_LINE : text_strange(data, size) <= size / 4 ? PAYLOAD_TEXT : PAYLOAD_RAW;
}

json_t *payload_lines(payload_kind kind, const void *data, size_t size, bool cut)
{
    lines l = {.list = json_array(), .failed = false};
    if (l.list == NULL) {
        return NULL;
    }
    switch (kind == PAYLOAD_AUTO ? payload_guess(data, size, cut) : kind) {
    case PAYLOAD_AUTO:
    case PAYLOAD_RAW:
        hex_line(&l, "", data, size, cut);
        break;
    case PAYLOAD_TEXT:
        text_lines(&l, data, size, cut);
        break;
    case PAYLOAD_MSGPACK:
        msgpack_lines(&l, data, size, cut);
        break;
    case PAYLOAD_LINE:
        line_lines(&l, data, size, cut);
        break;
    }
    if (l.failed) {
        json_decref(l.list);
        return NULL;
    }
    return l.list;
}
