/* SPDX-License-Identifier: Apache-2.0 */
/* The text protocol of NATS, see nats_text.h. Pure functions; any thread. */
#include "tests/compare/nats_text.h"

#include <string.h>

#define LINE_MAX_BYTES 65536u
#define PAYLOAD_MAX_BYTES (64u << 20)

static bool starts(const uint8_t *data, size_t size, const char *word)
{
    size_t length = strlen(word);
    return size >= length && memcmp(data, word, length) == 0;
}

static bool contains(const char *text, size_t size, const char *word)
{
    size_t length = strlen(word);
    for (size_t at = 0; at + length <= size; at++) {
        if (memcmp(text + at, word, length) == 0) {
            return true;
        }
    }
    return false;
}

static bool digits(const char *text, size_t size, uint64_t *number)
{
    if (size == 0 || size > 18) {
        return false;
    }
    *number = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        *number = *number * 10 + (uint64_t)(text[i] - '0');
    }
    return true;
}

/* "MSG subject sid [reply] size": the subject is the second word, the size the last. */
static ptrdiff_t parse_msg(const uint8_t *data, size_t size, size_t line, struct ab_nats_event *event)
{
    const char *text = (const char *)data + 4;
    size_t length = line - 4;
    const char *blank = memchr(text, ' ', length);
    if (!blank) {
        return -1;
    }
    size_t last = length;
    while (text[last - 1] != ' ') {
        last--; /* ends at `blank` */
    }
    uint64_t payload = 0;
    if (!digits(text + last, length - last, &payload) || payload > PAYLOAD_MAX_BYTES) {
        return -1;
    }
    size_t head = line + 2;
    if (size - head < payload + 2) {
        return 0;
    }
    event->op = AB_NATS_MSG;
    event->subject = text;
    event->subject_size = (size_t)(blank - text);
    event->payload = (const char *)data + head;
    event->size = (size_t)payload;
    return (ptrdiff_t)(head + (size_t)payload + 2);
}

ptrdiff_t ab_nats_parse(const uint8_t *data, size_t size, struct ab_nats_event *event)
{
    static const struct {
        const char *word;
        enum ab_nats_op op;
    } words[] = {{"PING", AB_NATS_PING},
                 {"PONG", AB_NATS_PONG},
                 {"+OK", AB_NATS_OK},
                 {"-ERR ", AB_NATS_ERR},
                 {"INFO ", AB_NATS_INFO}};
    memset(event, 0, sizeof *event);
    const uint8_t *end = memchr(data, '\n', size);
    if (!end) {
        return size > LINE_MAX_BYTES ? -1 : 0;
    }
    if (end == data || end[-1] != '\r') {
        return -1;
    }
    size_t line = (size_t)(end - data) - 1;
    if (starts(data, line, "MSG ")) {
        return parse_msg(data, size, line, event);
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t length = strlen(words[i].word);
        if (starts(data, line, words[i].word)) {
            event->op = words[i].op;
            event->payload = (const char *)data + length;
            event->size = line - length;
            return end - data + 1;
        }
    }
    return -1;
}

void ab_nats_connect(struct ab_cmp_bytes *out)
{
    ab_cmp_bytes_text(out,
                      "CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"compare\",\"lang\":\"c\","
                      "\"version\":\"1\",\"protocol\":1}\r\n");
}

void ab_nats_publish(struct ab_cmp_bytes *out, const char *subject, const char *reply, size_t size)
{
    ab_cmp_bytes_text(out, "PUB ");
    ab_cmp_bytes_text(out, subject);
    ab_cmp_bytes_text(out, " ");
    ab_cmp_bytes_text(out, reply);
    ab_cmp_bytes_text(out, " ");
    ab_cmp_bytes_number(out, size);
    ab_cmp_bytes_text(out, "\r\n");
}

bool ab_nats_tail(const char *subject, size_t size, uint64_t *number)
{
    size_t begin = size;
    while (begin > 0 && subject[begin - 1] != '.') {
        begin--;
    }
    return begin > 0 && digits(subject + begin, size - begin, number);
}

bool ab_nats_acknowledged(const char *payload, size_t size)
{
    return contains(payload, size, "\"seq\":") && !contains(payload, size, "\"error\"");
}
