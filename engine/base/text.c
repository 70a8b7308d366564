/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps text of unknown origin from breaking a message's line or steering a terminal. Pure functions; any thread. */
#include "engine/base/text.h"

#include <stdbool.h>
#include <stdio.h>

void ab_text_quote(const char *text, size_t length, char *out, size_t size)
{
    size_t used = 0;
    size_t cut = 0; /* so far "..." still fits behind it */
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x20 && c != 0x7f;
        size_t need = plain ? 1 : 4;
        if (used + need + 1 > size) {
            snprintf(out + cut, size - cut, "...");
            return;
        }
        cut = used + 4 <= size ? used : cut;
        if (plain) {
            out[used++] = (char)c;
        } else {
            used += (size_t)snprintf(out + used, size - used, "\\x%02x", c);
        }
    }
    out[used] = '\0';
}
