/* SPDX-License-Identifier: Apache-2.0 */
/* Rows about entries. Main thread. */
#include "tools/anabranch/entry.h"
#include "tools/anabranch/terminal.h"
#include "tools/anabranch/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_SHOWN 40u
#define BYTES_DECODED 524288u /* all that a node gives */
/* Of payloads whose kind is not known, enough to see what they are. */
#define BYTES_GUESSED 4096u
#define BESIDE_MIN 30u   /* columns that a payload needs beside what is in front of it */
#define BELOW 8u         /* else it stands below, here */
#define LINES_GUESSED 4u /* lines shown of it */

static bool decodes(const options *o)
{
    return o->payload == PAYLOAD_MSGPACK || o->payload == PAYLOAD_LINE;
}

/* How many bytes are shown as they are. */
static uint64_t shown(const options *o)
{
    return o->bytes_given ? o->bytes : decodes(o) ? BYTES_DECODED : BYTES_SHOWN;
}

uint64_t entry_bytes(const options *o)
{
    uint64_t bytes = shown(o);
    return o->payload == PAYLOAD_AUTO && bytes < BYTES_GUESSED ? BYTES_GUESSED : bytes > 0 ? bytes : 1;
}

static unsigned hex_digit(char c)
{
    return c >= 'a' ? (unsigned)(c - 'a') + 10 : (unsigned)(c - '0');
}

/* The payload of the row as a list of lines. NULL: out of memory */
static json_t *lines_of(const options *o, const json_t *row)
{
    const char *hex = row_text(row, "payload_hex");
    size_t size = strlen(hex) / 2;
    uint64_t full = row_uint(row, "size");
    char *data = malloc(size + 1);
    if (data == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < size; i++) {
        data[i] = (char)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    }
    payload_kind kind = o->payload == PAYLOAD_AUTO ? payload_guess(data, size, full > size) : o->payload;
    if (kind != PAYLOAD_LINE && kind != PAYLOAD_MSGPACK && size > shown(o)) {
        size = (size_t)shown(o); /* more was only fetched to be looked at */
    }
    json_t *lines = payload_lines(kind, data, size, full > size);
    free(data);
    return lines;
}

static void print_line(const options *o, const char *line, size_t column, bool further)
{
    size_t width = terminal_columns();
    bool cut = width > column + 8 && !o->bytes_given && text_width(line) > width - column;
    printf("%*s%.*s%s\n", further ? (int)column : 0, "",
           (int)(cut ? text_bytes_of(line, width - column - 1) : strlen(line)), line, cut ? "~" : "");
}

bool entry_fits(size_t column)
{
    size_t width = terminal_columns();
    return width == 0 || width >= column + BESIDE_MIN;
}

bool entry_print(const options *o, const json_t *row, size_t column)
{
    json_t *lines = row_uint(row, "size") > 0 ? lines_of(o, row) : json_array();
    bool below = !entry_fits(column);
    size_t count = json_array_size(lines);
    size_t most = o->payload == PAYLOAD_AUTO && count > LINES_GUESSED ? LINES_GUESSED - 1 : count;
    size_t at = below ? BELOW : column;
    if (below || count == 0) {
        puts(below ? "" : "-");
    }
    for (size_t i = 0; i < most; i++) {
        print_line(o, json_string_value(json_array_get(lines, i)), at, below || i > 0);
    }
    if (most < count) {
        printf("%*s... (--payload line shows all)\n", (int)at, "");
    }
    json_decref(lines);
    return lines != NULL;
}

bool entry_finish(const options *o, json_t *row)
{
    const char *hex = row_text(row, "payload_hex");
    if (o->payload != PAYLOAD_AUTO && o->payload != PAYLOAD_RAW) {
        json_t *lines = row_uint(row, "size") > 0 ? lines_of(o, row) : json_array();
        if (lines == NULL || json_object_set_new(row, "decoded", lines) != 0) {
            return false;
        }
    }
    uint64_t bytes = shown(o);
    if (strlen(hex) / 2 > bytes) {
        return json_object_set_new(row, "payload_hex", json_stringn(hex, (size_t)(2 * bytes))) == 0;
    }
    return true;
}
