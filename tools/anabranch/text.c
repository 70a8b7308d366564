/* SPDX-License-Identifier: Apache-2.0 */
/* Text for a terminal, which obeys control characters: nothing of unknown origin reaches it unquoted. Pure functions;
 * any thread. */
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static bool harmless(uint32_t c)
{
    bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
    bool surrogate = c >= 0xd800 && c <= 0xdfff;
    /* Zero width, line separators, changes of direction. */
    bool invisible = c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f) ||
                     (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
                     (c >= 0xfff0 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe0fff);
    return !control && !surrogate && !invisible && c <= 0x10ffff;
}

size_t text_char(const char *text, size_t length)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (length == 0) {
        return 0;
    }
    unsigned char lead = (unsigned char)text[0];
    size_t bytes = lead < 0x80    ? 1
                   : lead >= 0xf8 ? 0
                   : lead >= 0xf0 ? 4
                   : lead >= 0xe0 ? 3
                   : lead >= 0xc0 ? 2
                                  : 0;
    if (bytes == 0 || bytes > length) {
        return 0;
    }
    uint32_t c = bytes == 1 ? lead : lead & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        unsigned char next = (unsigned char)text[i];
        if ((next & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (next & 0x3f);
    }
    return (bytes == 1 || c >= least[bytes]) && harmless(c) ? bytes : 0;
}

size_t text_quote(const char *text, size_t length, char *out, size_t size)
{
    size_t used = 0;
    size_t cut = 0; /* so far "..." still fits behind it */
    size_t i = 0;
    while (i < length) {
        size_t bytes = text_char(text + i, length - i);
        size_t step = bytes > 0 ? bytes : 1;
        bool backslash = text[i] == '\\';
        size_t need = backslash ? 2 : bytes > 0 ? bytes : 4;
        if (used + need + 1 > size) {
            snprintf(out + cut, size - cut, "...");
            return cut + strlen(out + cut);
        }
        cut = used + 4 <= size ? used : cut;
        if (backslash) {
            out[used++] = '\\';
            out[used++] = '\\';
        } else if (bytes > 0) {
            memcpy(out + used, text + i, bytes);
            used += bytes;
        } else {
            used += (size_t)snprintf(out + used, size - used, "\\x%02x", (unsigned char)text[i]);
        }
        i += step;
    }
    out[used] = '\0';
    return used;
}

size_t text_strange(const char *text, size_t length)
{
    size_t strange = 0;
    for (size_t i = 0; i < length;) {
        size_t bytes = text_char(text + i, length - i);
        strange += bytes == 0;
        i += bytes > 0 ? bytes : 1;
    }
    return strange;
}

size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

size_t text_bytes_of(const char *text, size_t columns)
{
    size_t i = 0;
    for (; text[i] != '\0'; i++) {
        if (((unsigned char)text[i] & 0xc0) != 0x80 && columns-- == 0) {
            break;
        }
    }
    return i;
}

void text_bytes(uint64_t bytes, char *out, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double value = (double)bytes;
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    /* A whole number of a unit needs no point: limits are mostly round. */
    bool whole = unit == 0 || value == (double)(uint64_t)value || value >= 99.95;
    snprintf(out, size, whole ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

void text_count(uint64_t count, char *out, size_t size)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
    size_t used = 0;
    for (int i = 0; i < length && used + 2 < size; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            out[used++] = ',';
        }
        out[used++] = digits[i];
    }
    out[used] = '\0';
}

void text_duration(uint64_t ms, char *out, size_t size)
{
    uint64_t s = ms / 1000;
    if (s == 0) {
        snprintf(out, size, "%" PRIu64 " ms", ms);
    } else if (s < 60) {
        snprintf(out, size, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
    } else if (s < 3600) {
        snprintf(out, size, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    } else if (s < 86400) {
        snprintf(out, size, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s % 3600 / 60);
    } else {
        snprintf(out, size, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s % 86400 / 3600);
    }
}

void text_hlc(uint64_t hlc, char *out, size_t size)
{
    uint64_t ms = hlc >> 16;
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    char date[32] = "?";
    char counter[16] = "";
    if (gmtime_r(&seconds, &parts) != NULL) {
        strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &parts);
    }
    if ((hlc & 0xffff) != 0) {
        snprintf(counter, sizeof counter, "+%u", (unsigned)(hlc & 0xffff));
    }
    snprintf(out, size, "%s.%03u%s", date, (unsigned)(ms % 1000), counter);
}
