/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps text of unknown origin from breaking a message's line or steering a terminal. Pure functions; any thread. */
#include "engine/base/text.h"

#include <stdbool.h>
#include <stdio.h>

void ab_text_quote(const char *text, size_t length, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x20 && c != 0x7f;
        size_t need = plain ? 1 : 4;
        size_t after = i + 1 < length ? 4 : 1; /* "..." and NUL, or NUL alone */
        if (used + need + after > size) {
            snprintf(out + used, size - used, "...");
            return;
        }
        if (plain) {
            out[used++] = (char)c;
        } else {
            used += (size_t)snprintf(out + used, size - used, "\\x%02x", c);
        }
    }
    out[used] = '\0';
}
