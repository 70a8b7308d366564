/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file log.h
 * Structured log lines on standard error, as logfmt or JSON. Standard error is the process's, so level and format are,
 * too. Any thread; a line is one write.
 */
#ifndef ANABRANCHD_LOG_H
#define ANABRANCHD_LOG_H

#include <anabranch/types.h>

typedef enum ab_log_format { AB_LOG_LOGFMT, AB_LOG_JSON } ab_log_format;

/** At first: info, logfmt. */
void ab_log_configure(ab_severity least, ab_log_format format);

/** Whether lines of this severity are written now. */
bool ab_log_has(ab_severity severity);

/** What a line says beside its message. */
typedef struct ab_log_field {
    const char *key;
    const char *text; /**< NULL: it is `number` */
    int64_t number;
} ab_log_field;

/** Writes a line; beyond 2 KiB it is cut. */
void ab_log_fields(ab_severity severity, const char *message, const ab_log_field *fields, size_t count);

/** A line with the message that the format gives. */
void ab_log(ab_severity severity, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** An ab_log_fn. */
void ab_log_node(void *ctx, ab_severity severity, const char *text);

#endif
