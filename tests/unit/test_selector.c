/* SPDX-License-Identifier: Apache-2.0 */
/* Predicates and times as people write them. One thread. */
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include "tools/anabranchd/selector.h"
#include <anabranch/error.h>

#include <check.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *text;
    const char *selects; /* measurement, then the tags, each with a bar behind; NULL: refused */
    const char *reason;
} predicates[] = {
    {"", "", NULL},
    {"  ", "", NULL},
    {"_measurement=\"cpu\"", "cpu|", NULL},
    {"_measurement = 'cpu'", "cpu|", NULL},
    {"\"_measurement\"==\"cpu\"", "cpu|", NULL},
    {"_measurement=cpu and host=a", "cpu|host=a|", NULL},
    {"host=\"b\" AND _measurement=\"cpu\" AnD az=\"1\"", "cpu|az=1|host=b|", NULL},
    {"host=\"a b,c=d\" AND \"my key\"=\"x\"", "|host=a\\ b\\,c\\=d|my\\ key=x|", NULL},
    {"_measurement=\"a=b, c\"", "a=b\\,\\ c|", NULL},
    {"_measurement=\"say \\\"hi\\\" \\\\\"", "say\\ \"hi\"\\ \\|", NULL},
    {"host=\"AND\" AND and=\"x\"", "|and=x|host=AND|", NULL},
    {"host!=\"a\"", NULL, "the predicate must be"},
    {"host=~\"a\"", NULL, "the predicate must be"},
    {"host>\"a\"", NULL, "the predicate must be"},
    {"host=\"a\" OR host=\"b\"", NULL, "the predicate must be"},
    {"(host=\"a\")", NULL, "the predicate must be"},
    {"host=\"a\" AND", NULL, "the predicate must be"},
    {"host=\"a\" host=\"b\"", NULL, "the predicate must be"},
    {"host=\"a\" ANDaz=\"b\"", NULL, "the predicate must be"},
    {"AND host=\"a\"", NULL, "the predicate must be"},
    {"host", NULL, "the predicate must be"},
    {"host=", NULL, "the predicate must be"},
    {"=\"a\"", NULL, "the predicate must be"},
    {"host=\"a", NULL, "the predicate must be"},
    {"host=\"a\\", NULL, "the predicate must be"},
    {"host=\"\"", NULL, "empty"},
    {"\"\"=\"a\"", NULL, "empty"},
    {"host=\"a\" AND host=\"b\"", NULL, "twice"},
    {"_measurement=\"a\" AND _measurement=\"a\"", NULL, "more than one measurement"},
    {"_field=\"f\"", NULL, "_field"},
    {"host=\"a\x01\"", NULL, "control character"},
};

static void describe(const ab_selection *selection, char *out, size_t room)
{
    size_t n = 0;
    out[0] = '\0';
    if (selection->measurement.size > 0 || selection->tag_count > 0) {
        n += (size_t)snprintf(out, room, "%.*s|", (int)selection->measurement.size,
                              (const char *)selection->measurement.data);
    }
    for (size_t i = 0; i < selection->tag_count; i++) {
        n += (size_t)snprintf(out + n, room - n, "%.*s|", (int)selection->tags[i].size,
                              (const char *)selection->tags[i].data);
    }
}

START_TEST(reads_predicate)
{
    ab_selector selector;
    char text[256];
    ab_selector_init(&selector);
    int code = ab_selector_predicate(&selector, predicates[_i].text);
    if (predicates[_i].selects != NULL) {
        ck_assert_msg(code == AB_OK, "%s: %s", predicates[_i].text, selector.reason);
        describe(&selector.selection, text, sizeof text);
        ck_assert_str_eq(text, predicates[_i].selects);
    } else {
        ck_assert_msg(code == AB_EINVAL, "%s: code %d", predicates[_i].text, code);
        ck_assert_msg(strstr(selector.reason, predicates[_i].reason) != NULL, "%s", selector.reason);
    }
    ab_selector_free(&selector);
}
END_TEST

START_TEST(too_many_tags)
{
    ab_selector selector;
    ab_selector_init(&selector);
    for (int i = 0; i < (int)AB_SELECTION_TAGS_MAX + 1; i++) {
        char key[8];
        int n = snprintf(key, sizeof key, "k%d", i);
        int code = ab_selector_tag(&selector, (ab_bytes){key, (size_t)n}, (ab_bytes){"v", 1});
        ck_assert_int_eq(code, i < (int)AB_SELECTION_TAGS_MAX ? AB_OK : AB_EINVAL);
    }
    ab_selector_free(&selector);
}
END_TEST

static const struct {
    const char *text;
    int64_t ns;
    bool is;
} times[] = {
    {"1970-01-01T00:00:00Z", 0, true},
    {"1970-01-01t00:00:00.000000001z", 1, true},
    {"1969-12-31T23:59:59.5Z", -500000000, true},
    {"2026-11-21T08:00:00+01:30", 1795242600000000000, true},
    {"2026-11-20 23:00:00-07:30", 1795242600000000000, true},
    {"2000-02-29T00:00:00Z", 951782400000000000, true},
    {"1999-12-31T23:59:60Z", 946684800000000000, true},
    {"2262-04-11T23:47:16.854775807Z", INT64_MAX, true},
    {"2262-04-11T23:47:16.854775808Z", 0, false},
    {"1677-09-21T00:12:44Z", -9223372036000000000, true},
    {"1677-09-21T00:12:43Z", 0, false},
    {"2026-11-21T08:00:00.1234567899Z", 1795248000123456789, true},
    {"0", 0, true},
    {"-1", -1, true},
    {"9223372036854775807", INT64_MAX, true},
    {"-9223372036854775808", INT64_MIN, true},
    {"9223372036854775808", 0, false},
    {"", 0, false},
    {"-", 0, false},
    {"1e9", 0, false},
    {"now", 0, false},
    {"2026-11-21", 0, false},
    {"2026-11-21T08:00:00", 0, false},
    {"2026-11-21T08:00Z", 0, false},
    {"2026-11-21T08:00:00.Z", 0, false},
    {"2026-11-21T08:00:00Zx", 0, false},
    {"2026-11-21T08:00:00+01", 0, false},
    {"2026-13-01T00:00:00Z", 0, false},
    {"2026-00-01T00:00:00Z", 0, false},
    {"2026-02-29T00:00:00Z", 0, false},
    {"1900-02-29T00:00:00Z", 0, false},
    {"2026-04-31T00:00:00Z", 0, false},
    {"2026-04-30T24:00:00Z", 0, false},
    {"2026-04-30T00:60:00Z", 0, false},
    {"2026-04-30T00:00:00+24:00", 0, false},
};

START_TEST(reads_time)
{
    int64_t ns = 0;
    ck_assert_msg(ab_time_parse(times[_i].text, &ns) == times[_i].is, "%s", times[_i].text);
    if (times[_i].is) {
        ck_assert_msg(ns == times[_i].ns, "%s: %lld", times[_i].text, (long long)ns);
    }
}
END_TEST

START_TEST(failing_allocations)
{
    for (unsigned long n = 1;; n++) {
        ab_selector selector;
        ab_selector_init(&selector);
        alloc_fail_at(n);
        int code = ab_selector_predicate(&selector, "_measurement=\"m\" AND a=\"1\" AND b=\"2\"");
        bool happened = alloc_fail_happened();
        alloc_fail_at(0);
        ab_selector_free(&selector);
        ck_assert_int_eq(code, happened ? AB_ENOMEM : AB_OK);
        if (!happened) {
            ck_assert_uint_eq(n, 5);
            return;
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("selector");
    TCase *c = tcase_create("selector");
    tcase_add_loop_test(c, reads_predicate, 0, sizeof predicates / sizeof *predicates);
    tcase_add_test(c, too_many_tags);
    tcase_add_loop_test(c, reads_time, 0, sizeof times / sizeof *times);
    tcase_add_test(c, failing_allocations);
    suite_add_tcase(s, c);
    return test_run(s);
}
