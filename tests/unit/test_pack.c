/* SPDX-License-Identifier: Apache-2.0 */
/* Payloads: what is packed is read back, they are split where they would grow too large, and damage is refused. One
 * thread. */
#include "tests/support/run.h"
#include "tools/anabranchd/pack.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Packs lines. The pack is the caller's to free. */
static void pack_lines(ab_pack *pack, const char *text, size_t payload_max)
{
    ab_lp_line line;
    ab_lp_error error;
    int code = AB_OK;
    ab_lp_begin(parser, text, strlen(text), 1, 1000);
    while ((code = ab_lp_next(parser, &line, &error)) == AB_OK) {
        ck_assert_int_eq(ab_pack_add(pack, &line, payload_max), AB_OK);
    }
    ck_assert_int_eq(code, AB_ENOTFOUND);
    ck_assert_int_eq(ab_pack_finish(pack), AB_OK);
}

START_TEST(payload_round_trip)
{
    static const char text[] =
        "m,a=1 f=1.5,g=-3i,h=18446744073709551615u,i=\"x \\\"y\\\"\",j=t -5\n"
        "m,a=1 f=0.1,k=9223372036854775807i,l=-9223372036854775808i,n=f 9223372036854775807\n"
        "n f=70,g=300i,h=-200i,i=70000i,j=-70000i,k=5000000000i,l=-5000000000i -9223372036854775808\n"
        "n f=\"\" 3\n";
    static const char *const expected[] = {"m,a=1 f=1.5 -5",
                                           "m,a=1 g=-3i -5",
                                           "m,a=1 h=18446744073709551615u -5",
                                           "m,a=1 i=\"x \\\"y\\\"\" -5",
                                           "m,a=1 j=true -5",
                                           "m,a=1 f=0.1 9223372036854775807",
                                           "m,a=1 k=9223372036854775807i 9223372036854775807",
                                           "m,a=1 l=-9223372036854775808i 9223372036854775807",
                                           "m,a=1 n=false 9223372036854775807",
                                           "n f=70 -9223372036854775808",
                                           "n g=300i -9223372036854775808",
                                           "n h=-200i -9223372036854775808",
                                           "n i=70000i -9223372036854775808",
                                           "n j=-70000i -9223372036854775808",
                                           "n k=5000000000i -9223372036854775808",
                                           "n l=-5000000000i -9223372036854775808",
                                           "n f=\"\" 3"};
    ab_pack pack = {0};
    pack_lines(&pack, text, 1 << 20);
    ck_assert_uint_eq(pack.count, 1);
    ck_assert_uint_eq(pack.points, sizeof expected / sizeof *expected);
    ab_pack_reader reader;
    ab_point point;
    ck_assert_int_eq(ab_pack_read(&reader, pack.payloads[0].data, pack.payloads[0].size), AB_OK);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        char out[256];
        ck_assert_int_eq(ab_pack_next(&reader, &point), AB_OK);
        size_t n = (size_t)sprintf(out, "%.*s %.*s=", (int)point.series.size, (const char *)point.series.data,
                                   (int)point.field.size, (const char *)point.field.data);
        n += ab_value_format(&point.value, out + n);
        sprintf(out + n, " %lld", (long long)point.time);
        ck_assert_str_eq(out, expected[i]);
    }
    ck_assert_int_eq(ab_pack_next(&reader, &point), AB_ENOTFOUND);
    ab_pack_free(&pack);
}
END_TEST

START_TEST(payload_splits)
{
    ab_pack pack = {0};
    char text[4096];
    size_t size = 0;
    for (int i = 0; i < 40; i++) {
        size += (size_t)sprintf(text + size, "series,number=%d value=%d.25 %d\n", i % 3, i, i);
    }
    pack_lines(&pack, text, 100);
    ck_assert_uint_gt(pack.count, 5);
    size_t points = 0;
    for (size_t i = 0; i < pack.count; i++) {
        ab_pack_reader reader;
        ab_point point;
        ck_assert_uint_le(pack.payloads[i].size, 100);
        ck_assert_int_eq(ab_pack_read(&reader, pack.payloads[i].data, pack.payloads[i].size), AB_OK);
        while (ab_pack_next(&reader, &point) == AB_OK) {
            ck_assert_int_eq(point.time, (int64_t)points);
            points++;
        }
    }
    ck_assert_uint_eq(points, 40);
    ab_pack_free(&pack);

    ab_lp_line line;
    ab_lp_error error;
    ab_lp_begin(parser, "m f=\"0123456789\" 1", 18, 1, 0);
    ck_assert_int_eq(ab_lp_next(parser, &line, &error), AB_OK);
    ck_assert_int_eq(ab_pack_add(&pack, &line, 10), AB_ETOOBIG);
    ck_assert_uint_eq(pack.size, 0);
    ab_pack_free(&pack);
}
END_TEST

/* Every prefix and every changed byte: read to the end or refused, never beyond the memory. */
START_TEST(payload_damage)
{
    ab_pack pack = {0};
    pack_lines(&pack, "m,a=1 f=1.5,g=-3000i,h=1u,i=\"xyz\",j=t 5\nm,a=1 f=1 6\n", 1 << 20);
    size_t size = pack.payloads[0].size;
    ab_pack_reader reader;
    ab_point point;
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut + (cut == 0));
        memcpy(copy, pack.payloads[0].data, cut);
        int code = ab_pack_read(&reader, copy, cut);
        while (code == AB_OK) {
            code = ab_pack_next(&reader, &point);
        }
        ck_assert(code == AB_ECORRUPT || code == AB_ENOTFOUND);
        free(copy);
    }
    for (size_t i = 0; i < size * 256; i++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, pack.payloads[0].data, size);
        copy[i / 256] = (uint8_t)i;
        int code = ab_pack_read(&reader, copy, size);
        while (code == AB_OK) {
            code = ab_pack_next(&reader, &point);
        }
        free(copy);
    }
    ck_assert_int_eq(ab_pack_read(&reader, "\x02", 1), AB_EVERSION);
    ck_assert_int_eq(ab_pack_read(&reader, "", 0), AB_ECORRUPT);
    ab_pack_free(&pack);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("payloads");
    TCase *c = tcase_create("payloads");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, payload_round_trip);
    tcase_add_test(c, payload_splits);
    tcase_add_test(c, payload_damage);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_run(suite());
}
