/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers to text and back. Pure functions: any thread. */
#include "tools/anabranchd/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The longest number text that is read: beyond it, digits cannot matter any more for sane input. */
#define NUMBER_MAX 400

/* 10^22 is the largest power of ten that a double holds exactly. */
static const double powers_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The digits of a number: mantissa x 10^exponent, exact as long as `seen` <= 19. */
typedef struct digits {
    uint64_t mantissa;
    int exponent;
    int seen; /* significant ones seen */
    bool any;
} digits;

static const char *read_digits(const char *p, const char *end, bool fraction, digits *n)
{
    for (; p < end && is_digit(*p); p++) {
        n->any = true;
        if (n->seen > 0 || *p != '0') {
            n->seen++;
        }
        if (n->seen <= 19) {
            n->mantissa = n->mantissa * 10 + (uint64_t)(*p - '0');
            n->exponent -= fraction ? 1 : 0;
        } else {
            n->exponent += fraction ? 0 : 1;
        }
    }
    return p;
}

/* NULL: an exponent without digits. */
static const char *read_exponent(const char *p, const char *end, digits *n)
{
    if (p == end || (*p != 'e' && *p != 'E')) {
        return p;
    }
    p++;
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) {
        p++;
    }
    if (p == end || !is_digit(*p)) {
        return NULL;
    }
    int exponent = 0;
    for (; p < end && is_digit(*p); p++) {
        exponent = exponent < 100000 ? exponent * 10 + (*p - '0') : exponent;
    }
    n->exponent += negative ? -exponent : exponent;
    return p;
}

static bool slow_float(const char *text, size_t size, double *value)
{
    char copy[NUMBER_MAX + 1];
    if (size > NUMBER_MAX) {
        return false;
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    *value = strtod(copy, NULL);
    return isfinite(*value);
}

const char *ab_float_parse(const char *text, const char *end, double *value)
{
    const char *p = text;
    digits n = {0, 0, 0, false};
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) {
        p++;
    }
    p = read_digits(p, end, false, &n);
    if (p < end && *p == '.') {
        p = read_digits(p + 1, end, true, &n);
    }
    if (!n.any) {
        return NULL;
    }
    p = read_exponent(p, end, &n);
    if (p == NULL) {
        return NULL;
    }
    /* Both factors are exact: one rounding, so the result is the nearest double (Clinger's fast path). */
    if (n.seen <= 19 && n.mantissa <= (1ull << 53) && n.exponent >= -22 && n.exponent <= 22) {
        double magnitude = (double)n.mantissa;
        magnitude =
            n.exponent < 0 ? magnitude / powers_of_ten[-n.exponent] : magnitude * powers_of_ten[n.exponent];
        *value = negative ? -magnitude : magnitude;
        return p;
    }
    return slow_float(text, (size_t)(p - text), value) ? p : NULL;
}

static size_t float_format(double value, char *out)
{
    int size = 0;
    for (int precision = 15; precision <= 17; precision++) {
        double back = 0;
        size = snprintf(out, 32, "%.*g", precision, value);
        if (ab_float_parse(out, out + size, &back) != NULL && back == value) {
            break;
        }
    }
    return (size_t)size;
}

static size_t natural_format(uint64_t number, char *out)
{
    char reversed[20];
    size_t size = 0;
    do {
        reversed[size++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    for (size_t i = 0; i < size; i++) {
        out[i] = reversed[size - 1 - i];
    }
    return size;
}

size_t ab_integer_format(int64_t number, char *out)
{
    if (number >= 0) {
        return natural_format((uint64_t)number, out);
    }
    out[0] = '-';
    return 1 + natural_format(0 - (uint64_t)number, out + 1);
}

static size_t text_format(ab_bytes text, char *out)
{
    const char *from = text.data;
    size_t size = 0;
    out[size++] = '"';
    for (size_t i = 0; i < text.size; i++) {
        if (from[i] == '"' || from[i] == '\\') {
            out[size++] = '\\';
        }
        out[size++] = from[i];
    }
    out[size++] = '"';
    return size;
}

size_t ab_value_format(const ab_value *value, char *out)
{
    size_t size = 0;
    switch (value->type) {
    case AB_VALUE_FLOAT:
        return float_format(value->as.real, out);
    case AB_VALUE_INTEGER:
        size = ab_integer_format(value->as.integer, out);
        out[size++] = 'i';
        return size;
    case AB_VALUE_UNSIGNED:
        size = natural_format(value->as.natural, out);
        out[size++] = 'u';
        return size;
    case AB_VALUE_STRING:
        return text_format(value->as.text, out);
    case AB_VALUE_BOOLEAN:
        memcpy(out, value->as.truth ? "true" : "false", 5);
        return value->as.truth ? 4 : 5;
    }
    return 0;
}
