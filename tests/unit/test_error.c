/* SPDX-License-Identifier: Apache-2.0 */
/* Error codes: every one has a name and a message of its own, in the order of the list. */
#include "tests/support/run.h"

#include <anabranch/error.h>
#include <check.h>
#include <string.h>

START_TEST(every_code_has_name_and_message)
{
    int expected = 0;
#define CHECK_ENTRY(id, value, text)                                                                         \
    ck_assert_int_eq(id, value);                                                                             \
    ck_assert_int_eq(value, expected--);                                                                     \
    ck_assert_str_eq(ab_error_name(id), #id);                                                                \
    ck_assert_str_eq(ab_strerror(id), text);
    AB_ERROR_LIST(CHECK_ENTRY)
#undef CHECK_ENTRY
    ck_assert_int_lt(expected, -20);
}
END_TEST

START_TEST(messages_differ)
{
    static const int codes[] = {
#define CODE_ENTRY(id, value, text) id,
        AB_ERROR_LIST(CODE_ENTRY)
#undef CODE_ENTRY
    };
    size_t count = sizeof codes / sizeof codes[0];
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            ck_assert_str_ne(ab_strerror(codes[i]), ab_strerror(codes[k]));
        }
    }
}
END_TEST

START_TEST(unknown_codes_have_words_too)
{
    static const int unknown[] = {1, 7, -1000, -2147483647 - 1};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        ck_assert_str_eq(ab_strerror(unknown[i]), "unknown error");
        ck_assert_str_eq(ab_error_name(unknown[i]), "AB_E?");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("error");
    TCase *tc = tcase_create("codes");
    tcase_add_test(tc, every_code_has_name_and_message);
    tcase_add_test(tc, messages_differ);
    tcase_add_test(tc, unknown_codes_have_words_too);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
