/* SPDX-License-Identifier: Apache-2.0 */
/* The inspector's text and tables: nothing strange reaches a terminal, nothing is cut in two, columns are straight. */
#include "tests/support/run.h"
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static void expect_quote(const char *text, size_t length, const char *expected)
{
    char out[256];
    ck_assert_uint_eq(text_quote(text, length, out, sizeof out), strlen(expected));
    ck_assert_str_eq(out, expected);
}

START_TEST(quoting)
{
    expect_quote("", 0, "");
    expect_quote("plain text", 10, "plain text");
    expect_quote("a\\b", 3, "a\\\\b");
    expect_quote("\x1b[2J", 4, "\\x1b[2J");
    expect_quote("a\0b\x7f", 4, "a\\x00b\\x7f");
    expect_quote("\xc2\xb5m", 3, "\xc2\xb5m");
    expect_quote("\xc2\x9b", 2, "\\xc2\\x9b");                            /* a control character of C1 */
    expect_quote("\xe2\x80\xae", 3, "\\xe2\\x80\\xae");                   /* right-to-left override */
    expect_quote("\xe2\x80\x8b", 3, "\\xe2\\x80\\x8b");                   /* zero width */
    expect_quote("\xc0\xaf", 2, "\\xc0\\xaf");                            /* overlong */
    expect_quote("\xed\xa0\x80", 3, "\\xed\\xa0\\x80");                   /* surrogate */
    expect_quote("\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80");          /* beyond Unicode */
    expect_quote("\xf8\x88\x80\x80\x80", 5, "\\xf8\\x88\\x80\\x80\\x80"); /* no lead byte */
    expect_quote("\xe2\x82", 2, "\\xe2\\x82");                            /* cut */
    expect_quote("\xf0\x9f\x8c\x8a", 4, "\xf0\x9f\x8c\x8a");
}
END_TEST

/* Whatever the room: terminated, no more than fits, no piece of an escape or a character at its end. */
START_TEST(cutting)
{
    static const char text[] = "ab\xc2\xb5\x1b\\\xe2\x82\xac tail";
    char whole[64];
    size_t full = text_quote(text, sizeof text - 1, whole, sizeof whole);
    for (size_t size = 4; size <= full + 4; size++) {
        char out[80];
        memset(out, '#', sizeof out);
        size_t used = text_quote(text, sizeof text - 1, out, size);
        ck_assert_uint_lt(used, size);
        ck_assert_uint_eq(strlen(out), used);
        ck_assert_int_eq(out[size], '#');
        if (size > full) {
            ck_assert_str_eq(out, whole);
        } else {
            ck_assert_str_eq(out + used - 3, "...");
            ck_assert_int_eq(strncmp(out, whole, used - 3), 0);
            ck_assert_uint_ne((unsigned char)whole[used - 3] & 0xc0, 0x80);
        }
    }
}
END_TEST

START_TEST(strangeness)
{
    ck_assert_uint_eq(text_strange("abc", 3), 0);
    ck_assert_uint_eq(text_strange("", 0), 0);
    ck_assert_uint_eq(text_strange("\xc2\xb5\t\xff", 4), 2);
}
END_TEST

START_TEST(units)
{
    static const struct {
        uint64_t value;
        const char *bytes;
        const char *count;
        const char *duration;
    } cases[] = {
        {0, "0 B", "0", "0 ms"},
        {999, "999 B", "999", "999 ms"},
        {1000, "1000 B", "1,000", "1.0s"},
        {1023, "1023 B", "1,023", "1.0s"},
        {1024, "1 KiB", "1,024", "1.0s"},
        {1536, "1.5 KiB", "1,536", "1.5s"},
        {59999, "58.6 KiB", "59,999", "59.9s"},
        {60000, "58.6 KiB", "60,000", "1m00s"},
        {1048575, "1.0 MiB", "1,048,575", "17m28s"},
        {3600000, "3.4 MiB", "3,600,000", "1h00m"},
        {86400000, "82.4 MiB", "86,400,000", "1d00h"},
        {64ull << 30, "64 GiB", "68,719,476,736", "795d08h"},
        {UINT64_MAX, "16 EiB", "18,446,744,073,709,551,615", "213503982334d14h"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        text_bytes(cases[i].value, out, sizeof out);
        ck_assert_str_eq(out, cases[i].bytes);
        text_count(cases[i].value, out, sizeof out);
        ck_assert_str_eq(out, cases[i].count);
        text_duration(cases[i].value, out, sizeof out);
        ck_assert_str_eq(out, cases[i].duration);
    }
}
END_TEST

START_TEST(clocks)
{
    char out[64];
    text_hlc(1767225600123ull << 16, out, sizeof out);
    ck_assert_str_eq(out, "2026-01-01 00:00:00.123");
    text_hlc(1767225600123ull << 16 | 65535, out, sizeof out);
    ck_assert_str_eq(out, "2026-01-01 00:00:00.123+65535");
    text_hlc(UINT64_MAX, out, sizeof out); /* any number is a time */
    ck_assert_uint_gt(strlen(out), 10);
}
END_TEST

START_TEST(tables)
{
    static const char *const heads[] = {"NAME", ">COUNT", "LAST"};
    char *text = NULL;
    size_t size = 0;
    table *t = table_new(heads, 3);
    ck_assert_ptr_nonnull(t);
    table_text(t, "\xc2\xb5"); /* one column wide */
    table_count(t, 1234567);
    table_text(t, "");
    table_text(t, "a\tlong name");
    table_format(t, "%d", 5);
    table_text(t, "end");
    table_text(t, "half a row is not shown");
    ck_assert_uint_eq(table_rows(t), 2);
    FILE *file = open_memstream(&text, &size);
    ck_assert(table_print(t, file));
    fclose(file);
    ck_assert_str_eq(text, "NAME                COUNT  LAST\n"
                           "\xc2\xb5               1,234,567  -\n"
                           "a\\x09long name          5  end\n");
    free(text);
    table_free(t);
    table_text(NULL, "nothing happens");
    ck_assert_uint_eq(table_rows(NULL), 0);
    ck_assert(!table_print(NULL, stdout));
    table_free(NULL);
}
END_TEST

static char *printed(const table *t)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    ck_assert(table_print(t, file));
    fclose(file);
    return text;
}

START_TEST(tables_fit_the_terminal)
{
    static const char *const heads[] = {"NAME", ">COUNT", "WHAT"};
    table *t = table_new(heads, 3);
    table_text(t, "sensors of the north");
    table_count(t, 66667);
    table_text(
        t,
        "\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5");
    setenv("COLUMNS", "42", 1);
    char *text = printed(t);
    ck_assert_str_eq(
        text,
        "NAME                   COUNT  WHAT\n"
        "sensors of the north  66,667  "
        "\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\n");
    free(text);
    setenv("COLUMNS", "32", 1);
    text = printed(t);
    ck_assert_str_eq(text,
                     "NAME          COUNT  WHAT\n"
                     "sensors of~  66,667  "
                     "\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5\xc2\xb5~\n");
    free(text);
    setenv("COLUMNS", "20", 1); /* too narrow for any table of it */
    text = printed(t);
    ck_assert_ptr_nonnull(strstr(text, "NAME   sensors of the north\nCOUNT  66,667\nWHAT   "));
    free(text);
    setenv("COLUMNS", "0", 1); /* as wide as it is */
    text = printed(t);
    ck_assert_ptr_nonnull(strstr(text, "sensors of the north  66,667  "));
    free(text);
    unsetenv("COLUMNS");
    table_free(t);
}
END_TEST

/* Columns without anything in them go first, then those of less weight, and what is missing is named. */
START_TEST(tables_leave_out_what_matters_less)
{
    static const char *const heads[] = {">NODE", "?KIND", "NOTHING", ">?COUNT", "NAME"};
    table *t = table_new(heads, 5);
    table_text(t, "1");
    table_text(t, "multimaster");
    table_text(t, "");
    table_count(t, 66667);
    table_text(t, "of the north");
    static const struct {
        const char *columns;
        const char *text;
    } cases[] = {
        {"46", "NODE  KIND          COUNT  NAME\n   1  multimaster  66,667  of the north\n"},
        {"38", "NODE  KIND         COUNT  NAME\n   1  multimast~  66,667  of the north\n"},
        {"37", "NODE  KIND         NAME\n   1  multimaster  of the north\n(too narrow for COUNT)\n"},
        {"18", "NODE  NAME\n   1  of the north\n(too narrow for KIND, COUNT)\n"},
        {"16", "NODE  NAME\n   1  of the no~\n(too narrow for KIND, COUNT)\n"},
        {"15", "NODE     1\nKIND     multimaster\nNOTHING  -\nCOUNT    66,667\nNAME     of the north\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setenv("COLUMNS", cases[i].columns, 1);
        char *text = printed(t);
        ck_assert_str_eq(text, cases[i].text);
        free(text);
    }
    unsetenv("COLUMNS");
    table_free(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inspector_text");
    TCase *tc = tcase_create("text");
    tcase_add_test(tc, quoting);
    tcase_add_test(tc, cutting);
    tcase_add_test(tc, strangeness);
    tcase_add_test(tc, units);
    tcase_add_test(tc, clocks);
    tcase_add_test(tc, tables);
    tcase_add_test(tc, tables_fit_the_terminal);
    tcase_add_test(tc, tables_leave_out_what_matters_less);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
