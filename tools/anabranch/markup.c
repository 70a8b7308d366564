/* SPDX-License-Identifier: Apache-2.0 */
/* Escaping for HTML and SVG, see markup.h. */
#include "tools/anabranch/markup.h"
#include "tools/anabranch/text.h"

#include <stdint.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"
#define ELLIPSIS "\xe2\x80\xa6"

static const char *entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

/* @return bytes of `text` that were used up */
static size_t one_character(FILE *out, const char *text, size_t length)
{
    size_t bytes = text_char(text, length);
    if (bytes == 0 && (text[0] == '\n' || text[0] == '\t')) {
        bytes = 1;
    }
    if (bytes == 0) {
        fputs(REPLACEMENT, out);
        return 1;
    }
    const char *name = bytes == 1 ? entity(text[0]) : NULL;
    if (name != NULL) {
        fputs(name, out);
    } else {
        fwrite(text, 1, bytes, out);
    }
    return bytes;
}

static void write_text(FILE *out, const char *text, size_t length, size_t characters)
{
    for (size_t i = 0; i < length; characters--) {
        if (characters == 0) {
            fputs(ELLIPSIS, out);
            return;
        }
        i += one_character(out, text + i, length - i);
    }
}

void markup_bytes(FILE *out, const char *text, size_t length)
{
    write_text(out, text, length, SIZE_MAX);
}

void markup_text(FILE *out, const char *text)
{
    write_text(out, text, strlen(text), SIZE_MAX);
}

void markup_cut(FILE *out, const char *text, size_t characters)
{
    write_text(out, text, strlen(text), characters);
}
