/* SPDX-License-Identifier: Apache-2.0 */
/* The log: appending, reading, trimming, small state. One thread. */
#include "tests/unit/test_wal_fixture.h"

#include <stdio.h>
#include <stdlib.h>

START_TEST(read_by_any_index)
{
    ab_block_header h;
    ck_assert_int_eq(read_at(1, s1, 1, &h), AB_ENOTFOUND);
    for (uint32_t i = 1; i <= 40; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, i, 10), AB_OK);
        ck_assert_int_eq(wt_append(wal, 1, s2, 1, 5000), AB_OK);
        ck_assert_int_eq(wt_append(wal, 2, s1, 2, 0), AB_OK);
    }
    uint64_t first = 1;
    for (uint32_t i = 1; i <= 40; i++) {
        for (uint64_t index = first; index < first + i; index++) {
            ck_assert_int_eq(read_at(1, s1, index, &h), AB_OK);
            ck_assert_uint_eq(h.first, first);
            ck_assert_uint_eq(h.last, first + i - 1);
        }
        first += i;
    }
    ck_assert_int_eq(read_at(1, s1, first, &h), AB_ENOTFOUND);
    ck_assert_int_eq(read_at(1, s1, UINT64_MAX, &h), AB_ENOTFOUND);
    ck_assert_int_eq(read_at(1, s1, 0, &h), AB_ETRIMMED);
    ck_assert_int_eq(read_at(3, s1, 1, &h), AB_ENOTFOUND);
    ck_assert_int_eq(read_at(1, (ab_stream){1, 2}, 1, &h), AB_ENOTFOUND);
    assert_stream(1, s2, 0, 40);
    assert_stream(2, s1, 0, 80);
    ck_assert_int_eq(wt_verify(wal), 0);
    reopen(&sync_options);
    assert_stream(1, s1, 0, 820);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

START_TEST(boundary_sizes)
{
    ck_assert_int_eq(wt_append(wal, 1, s1, 1, 0), AB_OK);
    ck_assert_int_eq(wt_append(wal, 1, s1, 1, 1), AB_OK);
    for (size_t payload = 1880; payload < 1920; payload++) { /* around where LMDB turns to pages of its own */
        ck_assert_int_eq(wt_append(wal, 1, s1, 1, payload), AB_OK);
    }
    for (size_t payload = 3960; payload < 4000; payload++) { /* and around one page */
        ck_assert_int_eq(wt_append(wal, 1, s1, 1, payload), AB_OK);
    }
    ck_assert_int_eq(wt_append(wal, 1, s1, 1, AB_PAYLOAD_MAX), AB_OK);
    ck_assert_int_eq(wt_append(wal, UINT64_MAX, (ab_stream){UINT32_MAX, UINT32_MAX}, 3, 3), AB_OK);
    assert_stream(1, s1, 0, 83);
    assert_stream(UINT64_MAX, (ab_stream){UINT32_MAX, UINT32_MAX}, 0, 3);
    ck_assert_int_eq(wt_verify(wal), 0);
    reopen(&sync_options);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 1000, 1000), 83);
    reopen(&read_options);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

/* Puts a made block; optionally changed before sealing. */
static int put(uint64_t group, ab_stream stream, uint64_t first, uint32_t count, uint64_t prev,
               ab_wal_op_type type)
{
    ab_block_header h;
    uint8_t *block = wt_block(group, stream, first, count, 20, prev, &h);
    ab_wal_op op = {.type = type, .data = {block, ab_block_size(&h)}};
    int code = ab_wal_commit(wal, &op, 1, NULL);
    free(block);
    return code;
}

START_TEST(order_and_chain_are_demanded)
{
    ab_stream_state state;
    ck_assert_int_eq(put(1, s1, 2, 1, 0, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 1, 1, 5, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(0, s1, 1, 1, 0, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 1, 4, 0, AB_WAL_PUT_BLOCK), AB_OK);
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_int_eq(put(1, s1, 1, 4, 0, AB_WAL_PUT_BLOCK), AB_OK); /* the very same: a repeated commit */
    ck_assert_int_eq(put(1, s1, 1, 3, 0, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 4, 2, state.last_hash, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 6, 2, state.last_hash, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 5, 2, state.last_hash + 1, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ab_wal_message(wal, &message);
    ck_assert_ptr_nonnull(strstr(message.text, "stream 1/1, block 5 to 6"));
    ck_assert_int_eq(put(1, s1, 5, 2, state.last_hash, AB_WAL_PUT_BLOCK), AB_OK);
    assert_stream(1, s1, 0, 6);
}
END_TEST

START_TEST(all_or_nothing)
{
    ab_block_header h[3];
    uint8_t *b[3];
    uint64_t prev = 0;
    size_t failed;
    for (size_t i = 0; i < 3; i++) {
        b[i] = wt_block(1, s1, 1 + i * 10, 10, 50, prev, &h[i]);
        prev = h[i].checksum;
    }
    ab_wal_op ops[5] = {
        {.type = AB_WAL_PUT_BLOCK, .data = {b[0], ab_block_size(&h[0])}},
        {.type = AB_WAL_PUT_STATE, .group = 1, .key = {"k", 1}, .data = {"v", 1}},
        {.type = AB_WAL_PUT_BLOCK, .data = {b[1], ab_block_size(&h[1])}},
        {.type = AB_WAL_TRIM, .group = 1, .stream = s1, .index = 10, .limit = 9},
        {.type = AB_WAL_PUT_BLOCK, .data = {b[1], ab_block_size(&h[1]) - 1}},
    };
    void *data;
    size_t size;
    ck_assert_int_eq(ab_wal_commit(wal, ops, 5, &failed), AB_EINVAL);
    ck_assert_uint_eq(failed, 4);
    ck_assert_uint_eq(ops[3].done, 0);
    ab_stream_state state;
    ck_assert(!wt_stream(wal, 1, s1, &state));
    ck_assert_int_eq(ab_wal_state_get(wal, 1, (ab_bytes){"k", 1}, &data, &size), AB_ENOTFOUND);
    ops[4] = (ab_wal_op){.type = AB_WAL_PUT_BLOCK, .data = {b[2], ab_block_size(&h[2])}};
    ck_assert_int_eq(ab_wal_commit(wal, ops, 5, &failed), AB_OK);
    ck_assert_uint_eq(failed, 5);
    ck_assert_uint_eq(ops[3].done, 1);
    ck_assert_uint_eq(ops[3].done_index, 10);
    assert_stream(1, s1, 10, 30);
    ck_assert_int_eq(ab_wal_state_get(wal, 1, (ab_bytes){"k", 1}, &data, &size), AB_OK);
    free(data);
    ck_assert_int_eq(ab_wal_commit(wal, NULL, 0, &failed), AB_OK);
    for (size_t i = 0; i < 3; i++) {
        free(b[i]);
    }
}
END_TEST

START_TEST(trim_whole_blocks_oldest_first)
{
    ab_block_header h;
    ab_stream_state state;
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 100), AB_OK);
        ck_assert_int_eq(wt_append(wal, 1, s2, 10, 100), AB_OK);
    }
    ck_assert_int_eq(wt_trim(wal, 1, s1, 9, 100), 0);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 10, 100), 1);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 59, 100), 4);
    assert_stream(1, s1, 50, 200);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 150, 3), 3);
    assert_stream(1, s1, 80, 200);
    ck_assert_int_eq(read_at(1, s1, 80, &h), AB_ETRIMMED);
    ck_assert_int_eq(read_at(1, s1, 81, &h), AB_OK);
    ck_assert_int_eq(wt_trim(wal, 1, s1, UINT64_MAX, 100), 12);
    ck_assert_int_eq(wt_trim(wal, 1, s1, UINT64_MAX, 100), 0);
    ck_assert_int_eq(wt_trim(wal, 9, s1, UINT64_MAX, 100), 0);
    assert_stream(1, s1, 200, 200);
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_uint_eq(state.base_hash, state.last_hash);
    ck_assert_uint_ne(state.hlc_last, 0);
    reopen(&sync_options);
    ck_assert_int_eq(wt_append(wal, 1, s1, 10, 100), AB_OK); /* goes on where it was */
    assert_stream(1, s1, 200, 210);
    assert_stream(1, s2, 0, 200);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

START_TEST(steady_trimming_keeps_the_file_small)
{
    ab_wal_usage usage;
    for (int i = 0; i < 400; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 100, 100), AB_OK);
        if (i >= 20) {
            ck_assert_int_eq(wt_trim(wal, 1, s1, (uint64_t)(i - 20) * 100, 4), i > 20 ? 1 : 0);
        }
    }
    ab_wal_usage_get(wal, &usage);
    ck_assert_uint_lt(usage.used_bytes, 500u << 10);
    ck_assert_uint_lt(usage.file_bytes, 2u << 20);
    reopen(&read_options);
    ck_assert_int_eq(wt_verify(wal), 0); /* every page of the file is in use or free */
}
END_TEST

typedef struct listing {
    char text[512];
    int stop_after;
} listing;

static bool list_state(void *arg, uint64_t group, ab_bytes key, ab_bytes value)
{
    listing *l = arg;
    size_t used = strlen(l->text);
    snprintf(l->text + used, sizeof(l->text) - used, "%llu:%.*s=%.*s ", (unsigned long long)group,
             (int)key.size, (const char *)key.data, (int)value.size, (const char *)value.data);
    return --l->stop_after != 0;
}

static bool list_group(void *arg, uint64_t group)
{
    listing *l = arg;
    size_t used = strlen(l->text);
    snprintf(l->text + used, sizeof(l->text) - used, "%llu ", (unsigned long long)group);
    return --l->stop_after != 0;
}

START_TEST(state_is_kept)
{
    void *data;
    size_t size;
    listing l = {.stop_after = -1};
    ck_assert_int_eq(wt_state_put(wal, 7, "core/b", "2", 1), AB_OK);
    ck_assert_int_eq(wt_state_put(wal, 7, "core/a", "1", 1), AB_OK);
    ck_assert_int_eq(wt_state_put(wal, 7, "dore", "3", 1), AB_OK);
    ck_assert_int_eq(wt_state_put(wal, 8, "core/c", "", 0), AB_OK);
    ck_assert_int_eq(wt_state_put(wal, 6, "core/c", "x", 1), AB_OK);
    ck_assert_int_eq(wt_append(wal, 7, s1, 1, 1), AB_OK);
    ck_assert_int_eq(ab_wal_state_each(wal, 7, (ab_bytes){"core/", 5}, list_state, &l), AB_OK);
    ck_assert_str_eq(l.text, "7:core/a=1 7:core/b=2 ");
    l = (listing){.stop_after = 1};
    ck_assert_int_eq(ab_wal_state_each(wal, 7, (ab_bytes){NULL, 0}, list_state, &l), AB_OK);
    ck_assert_str_eq(l.text, "7:core/a=1 ");
    ck_assert_int_eq(ab_wal_state_get(wal, 8, (ab_bytes){"core/c", 6}, &data, &size), AB_OK);
    ck_assert_uint_eq(size, 0);
    free(data);
    ck_assert_int_eq(ab_wal_state_get(wal, 8, (ab_bytes){"core/", 5}, &data, &size), AB_ENOTFOUND);
    ab_wal_op del = {.type = AB_WAL_DEL_STATE, .group = 7, .key = {"core/a", 6}};
    ck_assert_int_eq(ab_wal_commit(wal, &del, 1, NULL), AB_OK);
    ck_assert_int_eq(ab_wal_commit(wal, &del, 1, NULL), AB_OK);
    reopen(&sync_options);
    l = (listing){.stop_after = -1};
    ck_assert_int_eq(ab_wal_state_each(wal, 7, (ab_bytes){"core/", 5}, list_state, &l), AB_OK);
    ck_assert_str_eq(l.text, "7:core/b=2 ");
}
END_TEST

/* Values that shrink and grow over the size at which LMDB gives them pages of their own. */
START_TEST(state_of_all_sizes)
{
    static uint8_t value[100000];
    static const size_t sizes[] = {0, 100000, 1, 5000, 3000, 2050, 2000, 1990, 8200, 100, 65536, 12, 0};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *data;
        size_t size;
        memset(value, (int)i, sizeof(value));
        ck_assert_int_eq(wt_state_put(wal, 1, "k", value, sizes[i]), AB_OK);
        ck_assert_int_eq(wt_state_put(wal, 1, "other", value, sizes[i] / 2), AB_OK);
        ck_assert_int_eq(ab_wal_state_get(wal, 1, (ab_bytes){"k", 1}, &data, &size), AB_OK);
        ck_assert_uint_eq(size, sizes[i]);
        ck_assert_mem_eq(data, value, size);
        free(data);
        reopen(&read_options);
        ck_assert_int_eq(wt_verify(wal), 0);
        reopen(&sync_options);
    }
}
END_TEST

START_TEST(state_names_are_checked)
{
    char name[600];
    memset(name, 'n', sizeof(name));
    ab_wal_op op = {.type = AB_WAL_PUT_STATE, .group = 1, .key = {name, 503}, .data = {"v", 1}};
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_OK);
    op.key.size = 504;
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_EINVAL);
    op.key.size = 0;
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_EINVAL);
    ck_assert_int_eq(wt_state_put(wal, 1, "stream/x", "v", 1), AB_EINVAL); /* the log's own */
    op.type = (ab_wal_op_type)99;
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_EINVAL);
}
END_TEST

typedef struct stream_listing {
    int count;
    int stop_after;
    uint64_t group[64];
    ab_stream stream[64];
} stream_listing;

static bool list_stream(void *arg, uint64_t group, const ab_stream_state *state)
{
    stream_listing *l = arg;
    l->group[l->count] = group;
    l->stream[l->count++] = state->stream;
    return --l->stop_after != 0;
}

START_TEST(groups_and_streams_in_order)
{
    static const uint64_t groups[] = {300, 1, UINT64_MAX, 256, 2};
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(wt_append(wal, groups[i], (ab_stream){300, 1}, 1, 1), AB_OK);
        ck_assert_int_eq(wt_append(wal, groups[i], (ab_stream){2, 500}, 1, 1), AB_OK);
        ck_assert_int_eq(wt_append(wal, groups[i], (ab_stream){2, 7}, 1, 1), AB_OK);
        ck_assert_int_eq(wt_state_put(wal, groups[i], "a", "a", 1), AB_OK);
        ck_assert_int_eq(wt_state_put(wal, groups[i], "z", "z", 1), AB_OK);
    }
    ck_assert_int_eq(wt_state_put(wal, 5, "only state", "z", 1), AB_OK);
    listing l = {.stop_after = -1};
    ck_assert_int_eq(ab_wal_groups(wal, list_group, &l), AB_OK);
    ck_assert_str_eq(l.text, "1 2 5 256 300 18446744073709551615 ");
    l = (listing){.stop_after = 2};
    ck_assert_int_eq(ab_wal_groups(wal, list_group, &l), AB_OK);
    ck_assert_str_eq(l.text, "1 2 ");
    stream_listing s = {.stop_after = -1};
    ck_assert_int_eq(ab_wal_streams(wal, 0, list_stream, &s), AB_OK);
    ck_assert_int_eq(s.count, 15);
    static const uint64_t sorted[] = {1, 2, 256, 300, UINT64_MAX};
    for (int i = 0; i < 15; i++) {
        ck_assert_uint_eq(s.group[i], sorted[i / 3]);
        ck_assert_uint_eq(s.stream[i].node, i % 3 == 2 ? 300 : 2);
        ck_assert_uint_eq(s.stream[i].epoch, i % 3 == 0 ? 7 : i % 3 == 1 ? 500 : 1);
    }
    s = (stream_listing){.stop_after = -1};
    ck_assert_int_eq(ab_wal_streams(wal, 256, list_stream, &s), AB_OK);
    ck_assert_int_eq(s.count, 3);
    s = (stream_listing){.stop_after = -1};
    ck_assert_int_eq(ab_wal_streams(wal, 5, list_stream, &s), AB_OK);
    ck_assert_int_eq(s.count, 0);
    s = (stream_listing){.stop_after = 4};
    ck_assert_int_eq(ab_wal_streams(wal, 0, list_stream, &s), AB_OK);
    ck_assert_int_eq(s.count, 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal");
    TCase *tcase = wal_case(suite, "wal");
    tcase_add_test(tcase, read_by_any_index);
    tcase_add_test(tcase, boundary_sizes);
    tcase_add_test(tcase, order_and_chain_are_demanded);
    tcase_add_test(tcase, all_or_nothing);
    tcase_add_test(tcase, trim_whole_blocks_oldest_first);
    tcase_add_test(tcase, steady_trimming_keeps_the_file_small);
    tcase_add_test(tcase, state_is_kept);
    tcase_add_test(tcase, state_of_all_sizes);
    tcase_add_test(tcase, state_names_are_checked);
    tcase_add_test(tcase, groups_and_streams_in_order);
    return test_run(suite);
}
