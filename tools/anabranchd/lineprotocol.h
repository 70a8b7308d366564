/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file lineprotocol.h
 * InfluxDB line protocol, one line at a time, without copies and without an allocation per line:
 *
 *     measurement[,tag=value...] field=value[,field=value...] [timestamp]
 *
 * A parser is used by one thread at a time; parsers share nothing.
 *
 * Read this first:
 *  - Names (measurement, tag keys and values, field keys) stay in their escaped form. A backslash escapes
 * only the bytes that would end the name (in a measurement comma and space, elsewhere also `=`), and is
 * itself otherwise; so equal names have equal escaped forms, and the escaped form is the canonical one.
 *  - The series key is the measurement and the tags sorted by key: a view of the input where the tags came
 * sorted, else rebuilt in the parser's scratch.
 *  - Control bytes in names, empty names, empty tag values, duplicate tags, NaN and infinity are errors.
 */
#ifndef ANABRANCHD_LINEPROTOCOL_H
#define ANABRANCHD_LINEPROTOCOL_H

#include "tools/anabranchd/value.h"
#include <anabranch/error.h>

#define AB_LP_LINE_MAX (256u * 1024) /**< bytes in a line */
#define AB_LP_KEY_MAX (16u * 1024)   /**< bytes in a series key */
#define AB_LP_NAME_MAX (4u * 1024)   /**< bytes in a field key */
#define AB_LP_TAGS_MAX 128u
#define AB_LP_FIELDS_MAX 1024u

typedef struct ab_lp_field {
    ab_bytes key;
    ab_value value;
} ab_lp_field;

/** A parsed line; everything in it is borrowed from the input and the parser until the next call. */
typedef struct ab_lp_line {
    ab_bytes series; /**< canonical series key */
    const ab_lp_field *fields;
    size_t field_count; /**< at least 1 */
    int64_t time;       /**< ns since 1970 */
} ab_lp_line;

/** Where a line is malformed and why. */
typedef struct ab_lp_error {
    size_t line;        /**< from 1 */
    size_t column;      /**< byte in the line, from 1 */
    const char *reason; /**< static */
} ab_lp_error;

typedef struct ab_lp_parser ab_lp_parser;

ab_lp_parser *ab_lp_new(void); /**< NULL: out of memory */
void ab_lp_free(ab_lp_parser *parser);

/** Nanoseconds in a unit of the `precision` parameter: ns, n, us, u, ms, s, m, h; 0: no such unit. */
int64_t ab_lp_unit(const char *precision);

/** Begins a text, which must stay where it is. `unit`: ns per unit of its time stamps; `now`: the time of
 * lines that have none, in ns; cut to whole units. */
void ab_lp_begin(ab_lp_parser *parser, const char *text, size_t size, int64_t unit, int64_t now);

/** The next line that is neither blank nor a comment.
 *  @return AB_OK; AB_ENOTFOUND: no more; AB_EINVAL: it is malformed (`error` says where; the next call goes
 * on with the line after it) */
int ab_lp_next(ab_lp_parser *parser, ab_lp_line *line, ab_lp_error *error);

/** Line number of the line that ab_lp_next() gave last. */
size_t ab_lp_line_number(const ab_lp_parser *parser);

#endif
