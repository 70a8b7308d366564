/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of rows, and values for them, see source.h. Any thread. */
#include "tools/anabranch/source.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t row_uint(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    if (json_is_string(value)) {
        return strtoull(json_string_value(value), NULL, 10);
    }
    return json_is_integer(value) && json_integer_value(value) >= 0 ? (uint64_t)json_integer_value(value) : 0;
}

const char *row_text(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text != NULL ? text : "";
}

bool row_bool(const json_t *row, const char *key)
{
    return json_is_true(json_object_get(row, key));
}

bool row_is(const json_t *row, const char *type)
{
    return strcmp(row_text(row, "type"), type) == 0;
}

bool row_good(const json_t *row, const char *key)
{
    const char *code = row_text(row, key);
    return code[0] == '\0' || strcmp(code, "AB_OK") == 0;
}

json_t *json_uint(uint64_t value)
{
    if (value <= INT64_MAX) {
        return json_integer((json_int_t)value);
    }
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

json_t *json_text(const char *text, size_t length)
{
    static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
    json_t *value = json_stringn(text, length);
    if (value != NULL) {
        return value;
    }
    char *good = malloc(3 * length + 1); /* it is not UTF-8 */
    size_t used = 0;
    for (size_t i = 0; good != NULL && i < length;) {
        size_t bytes = (unsigned char)text[i] < 0x80 ? 1 : text_char(text + i, length - i);
        memcpy(good + used, bytes > 0 ? text + i : replacement, bytes > 0 ? bytes : 3);
        used += bytes > 0 ? bytes : 3;
        i += bytes > 0 ? bytes : 1;
    }
    value = good != NULL ? json_stringn(good, used) : NULL;
    free(good);
    return value;
}

json_t *json_hex(const void *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = data;
    char *text = malloc(2 * size + 1);
    if (text == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    json_t *value = json_stringn(text, 2 * size);
    free(text);
    return value;
}
