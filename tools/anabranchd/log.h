/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file log.h
 * Structured log lines on standard error: time=... level=... msg="..." key=value. Any thread; a line is one write.
 */
#ifndef ANABRANCHD_LOG_H
#define ANABRANCHD_LOG_H

#include <anabranch/types.h>

/** Writes a line with the message that the format gives. */
void ab_log(ab_severity severity, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** An ab_log_fn. */
void ab_log_node(void *ctx, ab_severity severity, const char *text);

#endif
