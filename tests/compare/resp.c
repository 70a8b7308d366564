/* SPDX-License-Identifier: Apache-2.0 */
/* RESP 2, see resp.h. Pure functions; any thread. */
#include "tests/compare/resp.h"

#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 65536u
#define BULK_MAX_BYTES (512u << 20)

/* Length of the line at the beginning, without its end. @return -1: not whole */
static ptrdiff_t line_length(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, '\n', size);
    return end && end > data && end[-1] == '\r' ? end - data - 1 : -1;
}

/* A decimal number that fills `text`. */
static bool number_of(const uint8_t *text, size_t size, int64_t *number)
{
    bool minus = size > 0 && text[0] == '-';
    size_t at = minus ? 1 : 0;
    if (size - at == 0 || size - at > 18) {
        return false;
    }
    int64_t value = 0;
    for (; at < size; at++) {
        if (text[at] < '0' || text[at] > '9') {
            return false;
        }
        value = value * 10 + (text[at] - '0');
    }
    *number = minus ? -value : value;
    return true;
}

static ptrdiff_t parse_bulk(const uint8_t *data, size_t size, size_t head, struct ab_resp *reply)
{
    if (reply->integer == -1) {
        reply->type = AB_RESP_NULL;
        return (ptrdiff_t)head;
    }
    if (reply->integer < 0 || (uint64_t)reply->integer > BULK_MAX_BYTES) {
        return -1;
    }
    size_t length = (size_t)reply->integer;
    if (size - head < length + 2) {
        return 0;
    }
    if (data[head + length] != '\r' || data[head + length + 1] != '\n') {
        return -1;
    }
    reply->type = AB_RESP_BULK;
    reply->text = (const char *)data + head;
    reply->size = length;
    return (ptrdiff_t)(head + length + 2);
}

ptrdiff_t ab_resp_parse(const uint8_t *data, size_t size, struct ab_resp *reply)
{
    memset(reply, 0, sizeof *reply);
    if (size == 0) {
        return 0;
    }
    if (!strchr("+-:$", data[0]) || !data[0]) {
        return -1;
    }
    ptrdiff_t length = line_length(data, size);
    if (length < 1) {
        return size > LINE_MAX_BYTES ? -1 : 0;
    }
    size_t head = (size_t)length + 2;
    reply->text = (const char *)data + 1;
    reply->size = (size_t)length - 1;
    switch (data[0]) {
    case '+':
        reply->type = AB_RESP_STATUS;
        return (ptrdiff_t)head;
    case '-':
        reply->type = AB_RESP_ERROR;
        return (ptrdiff_t)head;
    case ':':
        reply->type = AB_RESP_INTEGER;
        return number_of(data + 1, reply->size, &reply->integer) ? (ptrdiff_t)head : -1;
    default:
        return number_of(data + 1, reply->size, &reply->integer) ? parse_bulk(data, size, head, reply) : -1;
    }
}

void ab_resp_head(struct ab_cmp_bytes *out, size_t count)
{
    ab_cmp_bytes_text(out, "*");
    ab_cmp_bytes_number(out, count);
    ab_cmp_bytes_text(out, "\r\n");
}

void ab_resp_word(struct ab_cmp_bytes *out, const void *data, size_t size)
{
    ab_cmp_bytes_text(out, "$");
    ab_cmp_bytes_number(out, size);
    ab_cmp_bytes_text(out, "\r\n");
    ab_cmp_bytes_put(out, data, size);
    ab_cmp_bytes_text(out, "\r\n");
}

void ab_resp_line(struct ab_cmp_bytes *out, const char *line)
{
    size_t words = 1;
    for (const char *at = line; *at; at++) {
        words += *at == ' ';
    }
    ab_resp_head(out, words);
    while (words-- > 0) {
        size_t length = strcspn(line, " ");
        ab_resp_word(out, line, length);
        line += length + (line[length] == ' ');
    }
}

bool ab_resp_info_number(const char *text, size_t size, const char *name, uint64_t *number)
{
    size_t length = strlen(name);
    for (size_t at = 0; at + length + 1 < size; at++) {
        bool begins = at == 0 || text[at - 1] == '\n';
        if (!begins || memcmp(text + at, name, length) != 0 || text[at + length] != ':') {
            continue;
        }
        *number = 0;
        for (at += length + 1; at < size && text[at] >= '0' && text[at] <= '9'; at++) {
            *number = *number * 10 + (uint64_t)(text[at] - '0');
        }
        return true;
    }
    return false;
}
