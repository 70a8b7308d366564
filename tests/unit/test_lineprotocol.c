/* SPDX-License-Identifier: Apache-2.0 */
/* The line protocol parser: tables of lines that are good, lines that are not and why, and values to text and back.
 * One thread. */
#include "tests/support/run.h"
#include "tools/anabranchd/lineprotocol.h"

#include <check.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1234567890123456789ll

static ab_lp_parser *parser;

static void setup(void)
{
    parser = ab_lp_new();
    ck_assert_ptr_nonnull(parser);
}

static void teardown(void)
{
    ab_lp_free(parser);
}

/* A line as text again: series, fields, time. */
static void describe(const ab_lp_line *line, char *out)
{
    out += sprintf(out, "%.*s", (int)line->series.size, (const char *)line->series.data);
    for (size_t i = 0; i < line->field_count; i++) {
        const ab_lp_field *field = &line->fields[i];
        out +=
            sprintf(out, "%c%.*s=", i == 0 ? ' ' : ',', (int)field->key.size, (const char *)field->key.data);
        out += ab_value_format(&field->value, out);
    }
    sprintf(out, " %lld", (long long)line->time);
}

static void first_line(const char *text, char *out)
{
    ab_lp_line line;
    ab_lp_error error = {0};
    ab_lp_begin(parser, text, strlen(text), 1, NOW);
    int code = ab_lp_next(parser, &line, &error);
    ck_assert_msg(code == AB_OK, "'%s': %s at %zu:%zu", text, error.reason, error.line, error.column);
    describe(&line, out);
    ck_assert_int_eq(ab_lp_next(parser, &line, &error), AB_ENOTFOUND);
}

static const struct {
    const char *text;
    const char *expected;
} good[] = {
    {"m f=1 7", "m f=1 7"},
    {"m f=1", "m f=1 1234567890123456789"},
    {"m,a=b f=1i 7", "m,a=b f=1i 7"},
    {"m,b=2,a=1 f=1i 7", "m,a=1,b=2 f=1i 7"},
    {"m,c=3,a=1,b=2,aa=4 f=t -7", "m,a=1,aa=4,b=2,c=3 f=true -7"},
    {"m f=t,g=T,h=true,i=True,j=TRUE 1", "m f=true,g=true,h=true,i=true,j=true 1"},
    {"m f=f,g=F,h=false,i=False,j=FALSE 1", "m f=false,g=false,h=false,i=false,j=false 1"},
    {"m f=9223372036854775807i,g=-9223372036854775808i 1",
     "m f=9223372036854775807i,g=-9223372036854775808i 1"},
    {"m f=18446744073709551615u,g=0u 1", "m f=18446744073709551615u,g=0u 1"},
    {"m f=1.5,g=-1.5e3,h=1e-3,i=.5,j=5.,k=+2 1", "m f=1.5,g=-1500,h=0.001,i=0.5,j=5,k=2 1"},
    {"m f=0.1,g=69.88083514,h=1e22,i=1e23 1", "m f=0.1,g=69.88083514,h=1e+22,i=1e+23 1"},
    {"m f=-0.0 1", "m f=-0 1"},
    {"m f=\"text\" 1", "m f=\"text\" 1"},
    {"m f=\"\" 1", "m f=\"\" 1"},
    {"m f=\"a \\\"b\\\" \\\\ c, d=e\" 1", "m f=\"a \\\"b\\\" \\\\ c, d=e\" 1"},
    {"m f=\"back\\slash\" 1", "m f=\"back\\\\slash\" 1"},
    {"m f=\"two\nlines\",g=1 1", "m f=\"two\nlines\",g=1 1"},
    {"my\\ m\\,x,t\\ a\\=g=v\\ a\\,l\\=ue f\\ i\\=e=1 1",
     "my\\ m\\,x,t\\ a\\=g=v\\ a\\,l\\=ue f\\ i\\=e=1 1"},
    {"m\\=x,a\\b=c\\d f=1 1", "m\\=x,a\\b=c\\d f=1 1"},
    {"m=x f=1 1", "m=x f=1 1"},
    {"m\\\\ x f=1 1", "m\\\\ x f=1 1"},
    {"\xc3\xa4,\xc3\xb6=\xc3\xbc \xe2\x82\xac=1 1", "\xc3\xa4,\xc3\xb6=\xc3\xbc \xe2\x82\xac=1 1"},
    {"m f=1 7\n", "m f=1 7"},
    {"m f=1 7\r\n", "m f=1 7"},
    {"m f=1\r\n", "m f=1 1234567890123456789"},
    {"m f=\"x\"\r\n", "m f=\"x\" 1234567890123456789"},
    {"m f=t\r", "m f=true 1234567890123456789"},
    {"  m   f=1   7  ", "m f=1 7"},
    {"\n\n# comment\n  # another, \"odd\n\r\nm f=1 7", "m f=1 7"},
    {"m f=1,f=2 7", "m f=1,f=2 7"},
    {"m f=1 9223372036854775807", "m f=1 9223372036854775807"},
    {"m f=1 -9223372036854775808", "m f=1 -9223372036854775808"},
    {"m f=0.1000000000000000055511151231257827021181583404541015625 1", "m f=0.1 1"},
    {"m f=00000000000000000000000001.5 1", "m f=1.5 1"},
};

START_TEST(good_lines)
{
    char out[1024];
    first_line(good[_i].text, out);
    ck_assert_str_eq(out, good[_i].expected);
}
END_TEST

static const struct {
    const char *text;
    size_t line;
    const char *reason;
} bad[] = {
    {"m", 1, "missing fields"},
    {"m ", 1, "missing fields"},
    {"m\r\n", 1, "missing fields"},
    {",a=b f=1", 1, "missing measurement"},
    {"m,a f=1", 1, "missing tag value"},
    {"m,a= f=1", 1, "missing tag value"},
    {"m,=b f=1", 1, "missing tag key"},
    {"m, f=1", 1, "missing tag value"},
    {"m,a=b=c f=1", 1, "unescaped '=' in tag value"},
    {"m,a=1,a=2 f=1", 1, "duplicate tag"},
    {"m,b=1,a=1,b=2 f=1", 1, "duplicate tag"},
    {"m f", 1, "missing field value"},
    {"m f=", 1, "missing field value"},
    {"m f= 1", 1, "missing field value"},
    {"m f=,g=1", 1, "missing field value"},
    {"m =1", 1, "missing field key"},
    {"m f=1,", 1, "missing fields"},
    {"m f=1,,g=1", 1, "missing field key"},
    {"m f=x", 1, "invalid number"},
    {"m f=1x", 1, "invalid number"},
    {"m f=1.2.3", 1, "invalid number"},
    {"m f=1e", 1, "invalid number"},
    {"m f=-", 1, "invalid number"},
    {"m f=.", 1, "invalid number"},
    {"m f=nan", 1, "invalid number"},
    {"m f=inf", 1, "invalid number"},
    {"m f=1e999", 1, "invalid number"},
    {"m f=0x10", 1, "invalid number"},
    {"m f=i", 1, "invalid integer"},
    {"m f=1.5i", 1, "invalid integer"},
    {"m f=9223372036854775808i", 1, "invalid integer"},
    {"m f=-9223372036854775809i", 1, "invalid integer"},
    {"m f=18446744073709551616u", 1, "invalid unsigned integer"},
    {"m f=-1u", 1, "invalid unsigned integer"},
    {"m f=tRUE", 1, "invalid boolean"},
    {"m f=truex", 1, "invalid boolean"},
    {"m f=\"open", 1, "unbalanced quotes"},
    {"m f=\"open\\\"", 1, "unbalanced quotes"},
    {"m f=\"x\"y 1", 1, "unexpected character after field value"},
    {"m f=1 x", 1, "invalid timestamp"},
    {"m f=1 1.5", 1, "invalid timestamp"},
    {"m f=1 9223372036854775808", 1, "invalid timestamp"},
    {"m f=1 1 2", 1, "unexpected text after timestamp"},
    {"m\x01 f=1", 1, "control character in measurement"},
    {"m,a\t=b f=1", 1, "control character in tag key"},
    {"m,a=b\x7f f=1", 1, "control character in tag value"},
    {"m f\x02=1", 1, "control character in field key"},
    {"# fine\n\nm f=1\nm f=\"a\nb\" 1\nm f= 1\n", 6, "missing field value"},
};

START_TEST(bad_lines)
{
    ab_lp_line line;
    ab_lp_error error = {0};
    int code = AB_OK;
    ab_lp_begin(parser, bad[_i].text, strlen(bad[_i].text), 1, NOW);
    while ((code = ab_lp_next(parser, &line, &error)) == AB_OK) {
    }
    ck_assert_msg(code == AB_EINVAL, "accepted: '%s'", bad[_i].text);
    ck_assert_msg(strcmp(error.reason, bad[_i].reason) == 0, "'%s': '%s'", bad[_i].text, error.reason);
    ck_assert_uint_eq(error.line, bad[_i].line);
    ck_assert_uint_ge(error.column, 1);
}
END_TEST

START_TEST(goes_on_after_bad_lines)
{
    static const char text[] =
        "good f=1 1\nbad\ngood f=\"a\nb\" 2\nworse f=\"\ngood f=2 3\n\nbad f=x 1\ngood f=3 4";
    static const int codes[] = {AB_OK, AB_EINVAL, AB_OK, AB_EINVAL, AB_OK, AB_EINVAL, AB_OK, AB_ENOTFOUND};
    static const size_t numbers[] = {1, 2, 3, 5, 6, 8, 9};
    ab_lp_line line;
    ab_lp_error error;
    ab_lp_begin(parser, text, strlen(text), 1, NOW);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        int code = ab_lp_next(parser, &line, &error);
        ck_assert_int_eq(code, codes[i]);
        if (code != AB_ENOTFOUND) {
            ck_assert_uint_eq(code == AB_OK ? ab_lp_line_number(parser) : error.line, numbers[i]);
        }
    }
}
END_TEST

START_TEST(precision)
{
    static const struct {
        const char *name;
        int64_t unit;
    } units[] = {{"ns", 1},
                 {"n", 1},
                 {"us", 1000},
                 {"u", 1000},
                 {"ms", 1000000},
                 {"s", 1000000000},
                 {"m", 60000000000ll},
                 {"h", 3600000000000ll},
                 {"", 0},
                 {"d", 0},
                 {"NS", 0}};
    ab_lp_line line;
    ab_lp_error error;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        ck_assert_int_eq(ab_lp_unit(units[i].name), units[i].unit);
    }
    ab_lp_begin(parser, "m f=1 2\nm f=1", 13, ab_lp_unit("h"), NOW);
    ck_assert_int_eq(ab_lp_next(parser, &line, &error), AB_OK);
    ck_assert_int_eq(line.time, 2 * 3600000000000ll);
    ck_assert_int_eq(ab_lp_next(parser, &line, &error), AB_OK);
    ck_assert_int_eq(line.time, NOW / 3600000000000ll * 3600000000000ll); /* cut, not scaled */
    ab_lp_begin(parser, "m f=1 9223372036854775", 22, ab_lp_unit("s"), NOW);
    ck_assert_int_eq(ab_lp_next(parser, &line, &error), AB_EINVAL);
    ck_assert_str_eq(error.reason, "timestamp out of range");
}
END_TEST

/* `head` + `count` x `unit` (with "NUMBER=1" behind it, if asked) + `tail`, parsed. @return the reason, or NULL: accepted */
static const char *parse_repeated(const char *head, const char *unit, size_t count, bool number,
                                  const char *tail)
{
    char *text = malloc(strlen(head) + count * (strlen(unit) + 12) + strlen(tail) + 1);
    char *out = text + sprintf(text, "%s", head);
    for (size_t i = 0; i < count; i++) {
        out += number ? sprintf(out, "%s%zu=1", unit, i) : sprintf(out, "%s", unit);
    }
    out += sprintf(out, "%s", tail);
    ab_lp_line line;
    ab_lp_error error = {0};
    ab_lp_begin(parser, text, (size_t)(out - text), 1, NOW);
    int code = ab_lp_next(parser, &line, &error);
    if (code == AB_OK) {
        ck_assert_int_eq(ab_lp_next(parser, &line, &error), AB_ENOTFOUND);
    }
    free(text);
    return code == AB_OK ? NULL : error.reason;
}

START_TEST(bounds)
{
    ck_assert_ptr_null(parse_repeated("m", ",t", AB_LP_TAGS_MAX, true, " f=1 1"));
    ck_assert_str_eq(parse_repeated("m", ",t", AB_LP_TAGS_MAX + 1, true, " f=1 1"), "too many tags");
    ck_assert_ptr_null(parse_repeated("m x=1", ",f", AB_LP_FIELDS_MAX - 1, true, " 1"));
    ck_assert_str_eq(parse_repeated("m x=1", ",f", AB_LP_FIELDS_MAX, true, " 1"), "too many fields");
    ck_assert_ptr_null(parse_repeated("", "m", AB_LP_KEY_MAX, false, " f=1 1"));
    ck_assert_str_eq(parse_repeated("", "m", AB_LP_KEY_MAX + 1, false, " f=1 1"), "series key too long");
    ck_assert_ptr_null(parse_repeated("m ", "f", AB_LP_NAME_MAX, false, "=1 1"));
    ck_assert_str_eq(parse_repeated("m ", "f", AB_LP_NAME_MAX + 1, false, "=1 1"), "field key too long");
    ck_assert_ptr_null(parse_repeated("m f=\"", "x", AB_LP_LINE_MAX - 8, false, "\" 1"));
    ck_assert_str_eq(parse_repeated("m f=\"", "x", AB_LP_LINE_MAX - 7, false, "\" 1"), "line too long");
    ck_assert_str_eq(parse_repeated("m f=\"", "x", 2 * AB_LP_LINE_MAX, false, "\" 1"), "line too long");
    ck_assert_str_eq(parse_repeated("m f=\"", "\\\"", AB_LP_LINE_MAX / 2, false, "\" 1"), "line too long");
    ck_assert_str_eq(parse_repeated("m f=", "9", 500, false, " 1"), "invalid number");
}
END_TEST

/* Every prefix of every good line, in memory of exactly its size, so that a sanitizer sees a read beyond it. */
START_TEST(prefixes)
{
    ab_lp_line line;
    ab_lp_error error;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        for (size_t size = 0; size <= strlen(good[i].text); size++) {
            char *text = malloc(size + (size == 0));
            memcpy(text, good[i].text, size);
            ab_lp_begin(parser, text, size, 1, NOW);
            while (ab_lp_next(parser, &line, &error) != AB_ENOTFOUND) {
            }
            free(text);
        }
    }
}
END_TEST

/* Random doubles: text and back is the same number, and reading agrees with the C library. */
START_TEST(floats)
{
    uint64_t state = 88172645463325252ull;
    char text[64];
    for (int i = 0; i < 200000; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        double number = 0;
        double back = 0;
        if (i % 2 == 0) {
            memcpy(&number, &state, sizeof number);
        } else {
            number = (double)(int64_t)(state % 2000000000) / (double)(1 + state % 9973);
        }
        if (number != number || number - number != 0) {
            continue;
        }
        ab_value value = {AB_VALUE_FLOAT, {.real = number}};
        size_t size = ab_value_format(&value, text);
        ck_assert_ptr_eq(ab_float_parse(text, text + size, &back), text + size);
        ck_assert_msg(back == number, "%.17g came back as %.17g", number, back);
        int digits = 1 + i % 20;
        size = (size_t)snprintf(text, sizeof text, "%.*g", digits, number);
        if (ab_float_parse(text, text + size, &back) != NULL) { /* rounding up may leave the range */
            ck_assert_msg(back == strtod(text, NULL), "%s", text);
        }
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("line protocol");
    TCase *c = tcase_create("parser");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, good_lines, 0, sizeof good / sizeof *good);
    tcase_add_loop_test(c, bad_lines, 0, sizeof bad / sizeof *bad);
    tcase_add_test(c, goes_on_after_bad_lines);
    tcase_add_test(c, precision);
    tcase_add_test(c, bounds);
    tcase_add_test(c, prefixes);
    tcase_add_test(c, floats);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_run(suite());
}
