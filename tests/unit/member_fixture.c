/* SPDX-License-Identifier: Apache-2.0 */
/* A multimaster core that starts with nothing. One thread. */
#include "tests/unit/member_fixture.h"

const ab_stream member_own = {1, FIX_WALL};
const ab_stream member_other = {2, 7};
const ab_stream member_third = {3, 7};
fixture f;

void member_open(void)
{
    ab_core_init init = fix_init(1);
    fix_open(&f, &ab_backend_multimaster, &init);
    ck_assert_int_eq(fix_simple(&f, AB_EV_START, 0), AB_OK);
}

void member_close(void)
{
    fix_close(&f);
}

ab_mm_have member_have(ab_stream stream, uint64_t durable)
{
    return (ab_mm_have){.stream = stream, .durable = durable, .accepted = durable};
}

void member_write(uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last; i++) {
        fix_write(&f, member_own, i, i);
        fix_mark(&f, AB_EV_DURABLE, member_own, i);
    }
}

void member_log(ab_stream stream, uint64_t first, uint64_t last, const ab_mark *deps, size_t count)
{
    ab_block_info info = fix_info(stream, first, last);
    info.deps = deps;
    info.dep_count = count;
    fix_block(&f, AB_EV_BLOCK, stream.node, &info);
    fix_block(&f, AB_EV_LOGGED, 0, &info);
    fix_mark(&f, AB_EV_DURABLE, stream, last);
}

void member_add(Suite *suite, const char *name, const TTest *const *tests, size_t count)
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, member_open, member_close);
    for (size_t i = 0; i < count; i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
}
