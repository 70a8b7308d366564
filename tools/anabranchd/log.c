/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines. Any thread. */
#include "tools/anabranchd/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048u
/* Kept free for the end of a line that is cut. */
#define RESERVE 16u

static _Atomic int least_severity = AB_LOG_INFO;
static _Atomic int line_format = AB_LOG_LOGFMT;

typedef struct line {
    char text[LINE_MAX_BYTES];
    size_t size;
    bool json;
} line;

void ab_log_configure(ab_severity least, ab_log_format format)
{
    atomic_store(&least_severity, (int)least);
    atomic_store(&line_format, (int)format);
}

bool ab_log_has(ab_severity severity)
{
    return (int)severity >= atomic_load_explicit(&least_severity, memory_order_relaxed);
}

static bool has_room(const line *l, size_t size)
{
    return l->size + size + RESERVE <= sizeof l->text;
}

static void put(line *l, const char *text)
{
    for (; *text != '\0' && has_room(l, 1); text++) {
        l->text[l->size++] = *text;
    }
}

/* Quoted as both formats want it; control characters become spaces. */
static void put_quoted(line *l, const char *text)
{
    put(l, "\"");
    for (; *text != '\0' && has_room(l, 2); text++) {
        if (*text == '"' || *text == '\\') {
            l->text[l->size++] = '\\';
        }
        l->text[l->size++] = (unsigned char)*text < 0x20 ? ' ' : *text;
    }
    l->text[l->size++] = '"'; /* there is room: RESERVE */
}

static void put_key(line *l, const char *key)
{
    put(l, l->json ? "," : " ");
    if (l->json) {
        put_quoted(l, key);
    } else {
        put(l, key);
    }
    put(l, l->json ? ":" : "=");
}

static bool is_plain(const char *text)
{
    return *text != '\0' && text[strcspn(text, " =\"\\\t\n\r")] == '\0';
}

static void put_field(line *l, const ab_log_field *field)
{
    char number[24];
    if (!has_room(l, strlen(field->key) + 8)) {
        return;
    }
    put_key(l, field->key);
    if (field->text == NULL) {
        snprintf(number, sizeof number, "%" PRId64, field->number);
        put(l, number);
    } else if (!l->json && is_plain(field->text)) {
        put(l, field->text);
    } else {
        put_quoted(l, field->text);
    }
}

static void put_time(line *l)
{
    struct timespec now;
    struct tm utc;
    char text[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, sizeof text - n, ".%03ldZ", now.tv_nsec / 1000000);
    put(l, l->json ? "{\"time\":\"" : "time=");
    put(l, text);
    put(l, l->json ? "\"" : "");
}

static void write_line(ab_severity severity, const char *from, const char *message,
                       const ab_log_field *fields, size_t count)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    line l = {.size = 0, .json = atomic_load(&line_format) == AB_LOG_JSON};
    if (!ab_log_has(severity)) {
        return;
    }
    put_time(&l);
    put_field(&l, &(ab_log_field){"level", (unsigned)severity < 4 ? names[severity] : "?", 0});
    put_field(&l, &(ab_log_field){"from", from, 0});
    put_key(&l, "msg");
    put_quoted(&l, message);
    for (size_t i = 0; i < count; i++) {
        put_field(&l, &fields[i]);
    }
    const char *end = l.json ? "}\n" : "\n";
    memcpy(l.text + l.size, end, strlen(end));
    if (write(STDERR_FILENO, l.text, l.size + strlen(end)) < 0) {
        return; /* nobody to tell */
    }
}

void ab_log_fields(ab_severity severity, const char *message, const ab_log_field *fields, size_t count)
{
    write_line(severity, "daemon", message, fields, count);
}

void ab_log_node(void *ctx, ab_severity severity, const char *text)
{
    (void)ctx;
    write_line(severity, "node", text, NULL, 0);
}

void ab_log(ab_severity severity, const char *format, ...)
{
    char text[LINE_MAX_BYTES / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    write_line(severity, "daemon", text, NULL, 0);
}
