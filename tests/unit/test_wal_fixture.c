/* SPDX-License-Identifier: Apache-2.0 */
/* One log per test. One thread. */
#include "tests/unit/test_wal_fixture.h"

#include <stdlib.h>

const ab_stream s1 = {1, 1};
const ab_stream s2 = {2, 1};
char *dir;
ab_wal *wal;
ab_wal_origin origin;
ab_message message;
const ab_wal_options sync_options = {.durability = AB_DURABILITY_SYNC, .max_bytes = 64u << 20};
const ab_wal_options read_options = {.durability = AB_DURABILITY_SYNC, .read_only = true};

void reopen(const ab_wal_options *options)
{
    ab_wal_close(wal);
    wal = NULL;
    ck_assert_msg(ab_wal_open(dir, options, &wal, &origin, &message) == AB_OK, "%s", message.text);
}

void setup(void)
{
    dir = wt_dir_new(true);
    wal = NULL;
    reopen(&sync_options);
}

void teardown(void)
{
    ab_wal_close(wal);
    wal = NULL;
    wt_dir_remove(dir);
}

int read_at(uint64_t group, ab_stream stream, uint64_t index, ab_block_header *header)
{
    void *data;
    size_t size;
    int code = ab_wal_read(wal, group, stream, index, wt_alloc, NULL, header, &data, &size);
    if (code == AB_OK) {
        ck_assert(wt_block_good(data, header));
        ck_assert_uint_eq(size, ab_block_size(header));
        free(data);
    } else {
        ck_assert_ptr_null(data);
    }
    return code;
}

void assert_stream(uint64_t group, ab_stream stream, uint64_t base, uint64_t last)
{
    ab_stream_state state;
    ck_assert(wt_stream(wal, group, stream, &state));
    ck_assert_uint_eq(state.base, base);
    ck_assert_uint_eq(state.last, last);
    ck_assert_int_eq(wt_read_all(wal, group, &state), AB_OK);
}

TCase *wal_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 300);
    suite_add_tcase(suite, tcase);
    return tcase;
}
