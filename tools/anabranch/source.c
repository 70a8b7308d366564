/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses between the admin socket and the log itself, and reads fields of rows. Main thread. */
#include "tools/anabranch/source.h"
#include "tools/anabranch/client.h"
#include "tools/anabranch/offline.h"
#include "tools/anabranch/salvage.h"
#include "tools/anabranch/text.h"
#include "wal/wal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A node that says nothing for so long is stuck; rows and progress come far more often. */
#define SILENCE_MS 30000

static void open_log(source *s, int connect_error)
{
    ab_wal_options options = {.read_only = true};
    if (client_is_socket(s->data_dir)) {
        s->code = connect_error == ECONNREFUSED ? AB_ECLOSED : AB_EIO;
        snprintf(s->message.text, sizeof s->message.text, "%s: %s", s->data_dir,
                 connect_error == ECONNREFUSED ? "no node answers: it is not running"
                                               : strerror(connect_error));
        return;
    }
    ab_wal_origin origin;
    s->code = ab_wal_open(s->data_dir, &options, &s->wal, &origin, &s->message);
    if (s->code == AB_OK) {
        memcpy(s->store_id, origin.store_id, sizeof s->store_id);
    }
    if (s->code == AB_ELOCKED && connect_error != ENOENT) {
        size_t used = strlen(s->message.text);
        snprintf(s->message.text + used, sizeof s->message.text - used, " (its admin.sock: %s)",
                 strerror(connect_error));
    }
}

void source_open(source *s, const char *data_dir)
{
    *s = (source){.data_dir = data_dir, .fd = client_connect(data_dir), .silence_ms = SILENCE_MS};
    if (s->fd < 0) {
        open_log(s, errno);
    }
}

void source_close(source *s)
{
    if (s->fd >= 0) {
        close(s->fd);
    }
    ab_wal_close(s->wal);
    s->fd = -1;
    s->wal = NULL;
}

bool source_live(const source *s)
{
    return s->fd >= 0;
}

int source_ask(source *s, const query *q, row_fn fn, void *arg)
{
    if (s->code == AB_ECORRUPT || s->code == AB_EVERSION) {
        int code = salvage_answers(q) && !s->salvaged ? salvage_ask(s, q, fn, arg) : AB_OK;
        s->salvaged = true;
        return code == AB_ENOMEM || code == AB_ECLOSED ? code : s->code;
    }
    if (s->code != AB_OK) {
        return s->code;
    }
    s->message.text[0] = '\0';
    int silence = q->follow ? -1 : s->silence_ms + (int)q->timeout_ms;
    return source_live(s) ? client_ask(s->fd, q, silence, fn, arg, &s->message) : offline_ask(s, q, fn, arg);
}

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
