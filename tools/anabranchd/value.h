/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file value.h
 * What a field of a point holds, and how it is written as text. Plain values: any thread.
 */
#ifndef ANABRANCHD_VALUE_H
#define ANABRANCHD_VALUE_H

#include <anabranch/types.h>

/** The numbers are part of the stored formats: never renumbered. */
typedef enum ab_value_type {
    AB_VALUE_FLOAT = 1,
    AB_VALUE_INTEGER = 2,
    AB_VALUE_UNSIGNED = 3,
    AB_VALUE_STRING = 4,
    AB_VALUE_BOOLEAN = 5
} ab_value_type;

typedef struct ab_value {
    ab_value_type type;
    union {
        double real;      /**< FLOAT; never NaN nor infinite */
        int64_t integer;  /**< INTEGER */
        uint64_t natural; /**< UNSIGNED */
        bool truth;       /**< BOOLEAN */
        ab_bytes text;    /**< STRING, without escapes; borrowed */
    } as;
} ab_value;

/** Most bytes that ab_value_format() needs for a value with `text` bytes of string. */
#define AB_VALUE_TEXT_MAX(text) (2 * (size_t)(text) + 32)

/** Writes the value as line protocol has it; the same value always gives the same text, which parses to the
 * same value. `out` has room for AB_VALUE_TEXT_MAX. @return bytes written */
size_t ab_value_format(const ab_value *value, char *out);

/** Writes a signed number in decimal. `out` has room for 20 bytes. @return bytes written */
size_t ab_integer_format(int64_t number, char *out);

/** Reads a decimal floating-point number (no NaN, no infinity) from the start of the text.
 *  @return the first byte after it, or NULL: there is none, or it is out of range */
const char *ab_float_parse(const char *text, const char *end, double *value);

#endif
