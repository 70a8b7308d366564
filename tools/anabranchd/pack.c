/* SPDX-License-Identifier: Apache-2.0 */
/* Packing points into payloads with msgpack-c, and reading them back. One thread per pack or reader.
 *
 * The reader walks the bytes itself: msgpack-c's unpacker makes a memory zone per object, and this is read
 * once per point on every replica. */
#include "tools/anabranchd/pack.h"

#include <math.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#define EXT_UNSIGNED 1

static int reserve(ab_pack *pack, size_t more)
{
    if (pack->capacity - pack->size >= more) {
        return AB_OK;
    }
    size_t capacity = pack->capacity < 4096 ? 4096 : pack->capacity;
    while (capacity - pack->size < more) {
        capacity *= 2;
    }
    char *data = realloc(pack->data, capacity);
    if (data == NULL) {
        return AB_ENOMEM;
    }
    pack->data = data;
    pack->capacity = capacity;
    return AB_OK;
}

static int pack_bytes(void *arg, const char *data, size_t size)
{
    ab_pack *pack = arg;
    if (reserve(pack, size) != AB_OK) {
        return -1;
    }
    memcpy(pack->data + pack->size, data, size);
    pack->size += size;
    return 0;
}

static int pack_text(msgpack_packer *packer, ab_bytes text)
{
    return msgpack_pack_str(packer, text.size) | msgpack_pack_str_body(packer, text.data, text.size);
}

static int pack_unsigned(msgpack_packer *packer, uint64_t number)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(number >> (56 - 8 * i));
    }
    return msgpack_pack_ext(packer, sizeof bytes, EXT_UNSIGNED) |
           msgpack_pack_ext_body(packer, bytes, sizeof bytes);
}

static int pack_value(msgpack_packer *packer, const ab_value *value)
{
    switch (value->type) {
    case AB_VALUE_FLOAT:
        if (fabs(value->as.real) < 1e38 && (double)(float)value->as.real == value->as.real) {
            return msgpack_pack_float(packer, (float)value->as.real);
        }
        return msgpack_pack_double(packer, value->as.real);
    case AB_VALUE_INTEGER:
        return msgpack_pack_int64(packer, value->as.integer);
    case AB_VALUE_UNSIGNED:
        return pack_unsigned(packer, value->as.natural);
    case AB_VALUE_STRING:
        return pack_text(packer, value->as.text);
    case AB_VALUE_BOOLEAN:
        return value->as.truth ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
    }
    return -1;
}

static bool same_series(const ab_pack *pack, ab_bytes series)
{
    return pack->series != 0 && pack->series_size == series.size &&
           memcmp(pack->data + pack->series, series.data, series.size) == 0;
}

static int pack_line(ab_pack *pack, const ab_lp_line *line)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, pack, pack_bytes);
    int failed = 0;
    if (pack->size == pack->start) {
        pack->series = 0;
        pack->time = 0;
        failed |= pack_bytes(pack, (const char[]){AB_PACK_VERSION}, 1);
    }
    if (same_series(pack, line->series)) {
        failed |= msgpack_pack_nil(&packer);
    } else {
        failed |= pack_text(&packer, line->series);
        pack->series = pack->size - line->series.size;
        pack->series_size = line->series.size;
    }
    failed |= msgpack_pack_int64(&packer, (int64_t)((uint64_t)line->time - (uint64_t)pack->time));
    failed |= msgpack_pack_uint64(&packer, line->field_count);
    for (size_t i = 0; i < line->field_count && failed == 0; i++) {
        failed |= pack_text(&packer, line->fields[i].key);
        failed |= pack_value(&packer, &line->fields[i].value);
    }
    pack->time = line->time;
    return failed == 0 ? AB_OK : AB_ENOMEM;
}

static int close_payload(ab_pack *pack)
{
    if (pack->size == pack->start) {
        return AB_OK;
    }
    if (pack->count == pack->payload_capacity) {
        size_t capacity = pack->payload_capacity == 0 ? 4 : pack->payload_capacity * 2;
        ab_bytes *payloads = realloc(pack->payloads, capacity * sizeof *payloads);
        if (payloads == NULL) {
            return AB_ENOMEM;
        }
        pack->payloads = payloads;
        pack->payload_capacity = capacity;
    }
    pack->payloads[pack->count++] = (ab_bytes){NULL, pack->size - pack->start};
    pack->start = pack->size;
    return AB_OK;
}

int ab_pack_add(ab_pack *pack, const ab_lp_line *line, size_t payload_max)
{
    size_t limit = payload_max < AB_PACK_TARGET ? payload_max : AB_PACK_TARGET;
    ab_pack before = *pack;
    int code = pack_line(pack, line);
    if (code == AB_OK && pack->size - pack->start > limit && before.size > before.start) {
        char *data = pack->data;
        size_t capacity = pack->capacity;
        *pack = before;
        pack->data = data;
        pack->capacity = capacity;
        code = close_payload(pack);
        code = code == AB_OK ? pack_line(pack, line) : code;
    }
    if (code == AB_OK && pack->size - pack->start > payload_max) {
        code = AB_ETOOBIG;
    }
    if (code == AB_OK) {
        pack->points += line->field_count;
        return AB_OK;
    }
    /* A payload that was closed meanwhile may stay closed; only the line goes. */
    pack->size = before.size;
    pack->series = pack->start == before.start ? before.series : 0;
    pack->series_size = before.series_size;
    pack->time = before.time;
    return code;
}

int ab_pack_finish(ab_pack *pack)
{
    int code = close_payload(pack);
    if (code != AB_OK) {
        return code;
    }
    const char *data = pack->data;
    for (size_t i = 0; i < pack->count; i++) {
        pack->payloads[i].data = data;
        data += pack->payloads[i].size;
    }
    return AB_OK;
}

void ab_pack_free(ab_pack *pack)
{
    free(pack->data);
    free(pack->payloads);
    *pack = (ab_pack){0};
}

int ab_pack_delete(const ab_selection *selection, char **payload, size_t *size)
{
    ab_pack pack = {0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &pack, pack_bytes);
    int failed = pack_bytes(&pack, (const char[]){AB_PACK_DELETE}, 1);
    failed |= msgpack_pack_int64(&packer, selection->start);
    failed |= msgpack_pack_int64(&packer, selection->stop);
    failed |= selection->measurement.size > 0 ? pack_text(&packer, selection->measurement)
                                              : msgpack_pack_nil(&packer);
    failed |= msgpack_pack_uint64(&packer, selection->tag_count);
    for (size_t i = 0; i < selection->tag_count; i++) {
        failed |= pack_text(&packer, selection->tags[i]);
    }
    if (failed != 0) {
        ab_pack_free(&pack);
        return AB_ENOMEM;
    }
    *payload = pack.data;
    *size = pack.size;
    return AB_OK;
}

static uint64_t big_endian(const uint8_t *p, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        number = number << 8 | p[i];
    }
    return number;
}

static bool take(ab_pack_reader *reader, size_t size, const uint8_t **bytes)
{
    if ((size_t)(reader->end - reader->p) < size) {
        return false;
    }
    *bytes = reader->p;
    reader->p += size;
    return true;
}

static bool take_number(ab_pack_reader *reader, size_t size, uint64_t *number)
{
    const uint8_t *bytes = NULL;
    if (!take(reader, size, &bytes)) {
        return false;
    }
    *number = big_endian(bytes, size);
    return true;
}

/* The rest of an integer that begins with `head`. Unsigned ones beyond int64 do not occur. */
static bool take_integer(ab_pack_reader *reader, uint8_t head, int64_t *number)
{
    uint64_t bits = 0;
    if (head < 0x80 || head >= 0xe0) {
        *number = (int8_t)head;
        return true;
    }
    if (head >= 0xcc && head <= 0xcf) {
        if (!take_number(reader, (size_t)1 << (head - 0xcc), &bits) || bits > INT64_MAX) {
            return false;
        }
        *number = (int64_t)bits;
        return true;
    }
    if (head < 0xd0 || head > 0xd3) {
        return false;
    }
    size_t size = (size_t)1 << (head - 0xd0);
    if (!take_number(reader, size, &bits)) {
        return false;
    }
    unsigned shift = 64 - 8 * (unsigned)size;
    *number = (int64_t)(bits << shift) >> shift;
    return true;
}

static bool is_text(uint8_t head)
{
    return (head & 0xe0) == 0xa0 || (head >= 0xd9 && head <= 0xdb);
}

static bool take_text(ab_pack_reader *reader, uint8_t head, ab_bytes *text)
{
    uint64_t size = head & 0x1f;
    const uint8_t *bytes = NULL;
    if (!is_text(head) ||
        ((head & 0xe0) != 0xa0 && !take_number(reader, (size_t)1 << (head - 0xd9), &size)) ||
        !take(reader, size, &bytes)) {
        return false;
    }
    *text = (ab_bytes){bytes, size};
    return true;
}

static bool take_head(ab_pack_reader *reader, uint8_t *head)
{
    const uint8_t *bytes = NULL;
    if (!take(reader, 1, &bytes)) {
        return false;
    }
    *head = *bytes;
    return true;
}

static bool take_name(ab_pack_reader *reader, size_t max, ab_bytes *name)
{
    uint8_t head = 0;
    return take_head(reader, &head) && take_text(reader, head, name) && name->size > 0 && name->size <= max;
}

static bool take_float(ab_pack_reader *reader, uint8_t head, double *number)
{
    uint64_t bits = 0;
    if (!take_number(reader, head == 0xca ? 4 : 8, &bits)) {
        return false;
    }
    if (head == 0xca) {
        float single = 0;
        uint32_t half = (uint32_t)bits;
        memcpy(&single, &half, sizeof single);
        *number = single;
    } else {
        memcpy(number, &bits, sizeof *number);
    }
    return isfinite(*number);
}

static bool take_unsigned(ab_pack_reader *reader, uint64_t *number)
{
    uint8_t type = 0;
    return take_head(reader, &type) && type == EXT_UNSIGNED && take_number(reader, 8, number);
}

static bool take_value(ab_pack_reader *reader, ab_value *value)
{
    uint8_t head = 0;
    if (!take_head(reader, &head)) {
        return false;
    }
    switch (head) {
    case 0xc2:
    case 0xc3:
        value->type = AB_VALUE_BOOLEAN;
        value->as.truth = head == 0xc3;
        return true;
    case 0xca:
    case 0xcb:
        value->type = AB_VALUE_FLOAT;
        return take_float(reader, head, &value->as.real);
    case 0xd7:
        value->type = AB_VALUE_UNSIGNED;
        return take_unsigned(reader, &value->as.natural);
    default:
        break;
    }
    if (is_text(head)) {
        value->type = AB_VALUE_STRING;
        return take_text(reader, head, &value->as.text);
    }
    value->type = AB_VALUE_INTEGER;
    return take_integer(reader, head, &value->as.integer);
}

static bool take_line(ab_pack_reader *reader)
{
    uint8_t head = 0;
    int64_t delta = 0;
    int64_t fields = 0;
    if (!take_head(reader, &head)) {
        return false;
    }
    reader->same_series = head == 0xc0;
    if (!reader->same_series && (!take_text(reader, head, &reader->series) ||
                                 reader->series.size > AB_LP_KEY_MAX || reader->series.size == 0)) {
        return false;
    }
    if (reader->series.size == 0 || !take_head(reader, &head) || !take_integer(reader, head, &delta) ||
        !take_head(reader, &head) || !take_integer(reader, head, &fields) || fields < 1 ||
        fields > (int64_t)AB_LP_FIELDS_MAX) {
        return false;
    }
    reader->time = (int64_t)((uint64_t)reader->time + (uint64_t)delta);
    reader->fields = (uint64_t)fields;
    return true;
}

int ab_pack_read(ab_pack_reader *reader, const void *payload, size_t size)
{
    const uint8_t *bytes = payload;
    if (size == 0) {
        return AB_ECORRUPT;
    }
    if (bytes[0] != AB_PACK_VERSION) {
        return AB_EVERSION;
    }
    *reader = (ab_pack_reader){.p = bytes + 1, .end = bytes + size};
    return AB_OK;
}

int ab_pack_next(ab_pack_reader *reader, ab_point *point)
{
    bool same = true;
    if (reader->fields == 0) {
        if (reader->p == reader->end) {
            return AB_ENOTFOUND;
        }
        if (!take_line(reader)) {
            return AB_ECORRUPT;
        }
        same = reader->same_series;
    }
    reader->fields--;
    point->series = reader->series;
    point->time = reader->time;
    point->same_series = same;
    if (!take_name(reader, AB_LP_NAME_MAX, &point->field) || !take_value(reader, &point->value)) {
        return AB_ECORRUPT;
    }
    return AB_OK;
}

bool ab_pack_is_delete(const void *payload, size_t size)
{
    return size > 0 && *(const uint8_t *)payload == AB_PACK_DELETE;
}

static bool take_time(ab_pack_reader *reader, int64_t *time)
{
    uint8_t head = 0;
    return take_head(reader, &head) && take_integer(reader, head, time);
}

static bool take_selection(ab_pack_reader *reader, ab_selection *selection)
{
    uint8_t head = 0;
    int64_t tags = 0;
    if (!take_time(reader, &selection->start) || !take_time(reader, &selection->stop) ||
        !take_head(reader, &head)) {
        return false;
    }
    if (head != 0xc0 && (!take_text(reader, head, &selection->measurement) ||
                         selection->measurement.size == 0 || selection->measurement.size > AB_LP_KEY_MAX)) {
        return false;
    }
    if (!take_time(reader, &tags) || tags < 0 || tags > (int64_t)AB_SELECTION_TAGS_MAX) {
        return false;
    }
    selection->tag_count = (size_t)tags;
    for (size_t i = 0; i < selection->tag_count; i++) {
        if (!take_name(reader, AB_LP_KEY_MAX, &selection->tags[i]) ||
            (i > 0 && ab_bytes_compare(selection->tags[i - 1], selection->tags[i]) >= 0)) {
            return false;
        }
    }
    return reader->p == reader->end;
}

int ab_pack_read_delete(const void *payload, size_t size, ab_selection *selection)
{
    const uint8_t *bytes = payload;
    if (!ab_pack_is_delete(payload, size)) {
        return AB_EVERSION;
    }
    ab_pack_reader reader = {.p = bytes + 1, .end = bytes + size};
    ab_selection_init(selection);
    return take_selection(&reader, selection) ? AB_OK : AB_ECORRUPT;
}
