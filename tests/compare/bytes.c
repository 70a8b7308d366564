/* SPDX-License-Identifier: Apache-2.0 */
/* A growing run of bytes, see bytes.h. One thread at a time. */
#include "tests/compare/bytes.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 4096u

uint8_t *ab_cmp_bytes_room(struct ab_cmp_bytes *bytes, size_t size)
{
    if (bytes->capacity - bytes->end >= size) {
        return bytes->data + bytes->end;
    }
    size_t used = bytes->end - bytes->begin;
    if (bytes->begin > 0) {
        memmove(bytes->data, bytes->data + bytes->begin, used);
        bytes->begin = 0;
        bytes->end = used;
    }
    size_t capacity = bytes->capacity > 0 ? bytes->capacity : FIRST_CAPACITY;
    while (capacity - used < size) {
        capacity *= 2;
    }
    if (capacity > bytes->capacity) {
        uint8_t *data = realloc(bytes->data, capacity);
        if (!data) {
            bytes->failed = true;
            return NULL;
        }
        bytes->data = data;
        bytes->capacity = capacity;
    }
    return bytes->data + bytes->end;
}

void ab_cmp_bytes_grow(struct ab_cmp_bytes *bytes, size_t size)
{
    bytes->end += size;
}

void ab_cmp_bytes_put(struct ab_cmp_bytes *bytes, const void *data, size_t size)
{
    uint8_t *room = size > 0 ? ab_cmp_bytes_room(bytes, size) : NULL;
    if (room) {
        memcpy(room, data, size);
        bytes->end += size;
    }
}

void ab_cmp_bytes_text(struct ab_cmp_bytes *bytes, const char *text)
{
    ab_cmp_bytes_put(bytes, text, strlen(text));
}

void ab_cmp_bytes_number(struct ab_cmp_bytes *bytes, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    ab_cmp_bytes_put(bytes, digits + at, sizeof digits - at);
}

void ab_cmp_bytes_consume(struct ab_cmp_bytes *bytes, size_t size)
{
    bytes->begin += size;
    if (bytes->begin == bytes->end) {
        bytes->begin = bytes->end = 0;
    }
}

size_t ab_cmp_bytes_size(const struct ab_cmp_bytes *bytes)
{
    return bytes->end - bytes->begin;
}

const uint8_t *ab_cmp_bytes_data(const struct ab_cmp_bytes *bytes)
{
    return bytes->data ? bytes->data + bytes->begin : (const uint8_t *)"";
}

void ab_cmp_bytes_free(struct ab_cmp_bytes *bytes)
{
    free(bytes->data);
    memset(bytes, 0, sizeof *bytes);
}
