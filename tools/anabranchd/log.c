/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines. Any thread. */
#include "tools/anabranchd/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

/* Quoted as logfmt wants it; control characters become spaces. */
static size_t quote(char *out, size_t room, const char *text)
{
    size_t n = 0;
    out[n++] = '"';
    for (; *text != '\0' && n + 4 < room; text++) {
        if (*text == '"' || *text == '\\') {
            out[n++] = '\\';
        }
        out[n++] = (unsigned char)*text < 0x20 ? ' ' : *text;
    }
    out[n++] = '"';
    out[n++] = '\n';
    return n;
}

void ab_log_node(void *ctx, ab_severity severity, const char *text)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char line[LINE_MAX_BYTES];
    struct timespec now;
    struct tm utc;
    (void)ctx;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(line, sizeof line, "time=%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ level=%s msg=", now.tv_nsec / 1000000,
                          (unsigned)severity < 4 ? names[severity] : "?");
    n += quote(line + n, sizeof line - n, text);
    if (write(STDERR_FILENO, line, n) < 0) {
        return; /* nobody to tell */
    }
}

void ab_log(ab_severity severity, const char *format, ...)
{
    char text[LINE_MAX_BYTES / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ab_log_node(NULL, severity, text);
}
