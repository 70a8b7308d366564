/* SPDX-License-Identifier: Apache-2.0 */
/* Payloads as people read them. Pure functions; any thread. */
#ifndef ANABRANCH_TOOLS_PAYLOAD_H
#define ANABRANCH_TOOLS_PAYLOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum payload_kind {
    PAYLOAD_AUTO,    /* what it is made of: line protocol, text, else raw */
    PAYLOAD_RAW,     /* hexadecimal */
    PAYLOAD_TEXT,    /* as it is, a backslash doubled */
    PAYLOAD_MSGPACK, /* objects, one per line, close to JSON */
    PAYLOAD_LINE     /* what anabranchd writes, as line protocol */
} payload_kind;

/* "auto", "raw", "text", "msgpack", "line". @return false: none of these */
bool payload_kind_read(const char *name, payload_kind *kind);

/* Which of the others PAYLOAD_AUTO is for these bytes: line protocol only where all that is there fits. */
payload_kind payload_guess(const void *data, size_t size, bool cut);

/* The payload as a list of strings, a line each, harmless on a terminal: strange bytes are \xNN. `cut`: there is more than
 * these bytes. What cannot be decoded ends the list, with a line that begins "(" and says so, then as hexadecimal. NULL:
 * out of memory */
json_t *payload_lines(payload_kind kind, const void *data, size_t size, bool cut);

#endif
