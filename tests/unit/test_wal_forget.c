/* SPDX-License-Identifier: Apache-2.0 */
/* The log: streams that are forgotten. One thread. */
#define _GNU_SOURCE /* memmem */
#include "tests/unit/test_wal_fixture.h"

#include <stdlib.h>

static const ab_bytes key = {"core/folded/1", 13};

/* Forgets a piece. @return code */
static int forget(ab_stream stream, uint32_t limit, uint32_t *done)
{
    ab_wal_op op = {.type = AB_WAL_FORGET, .group = 1, .stream = stream, .limit = limit};
    int code = ab_wal_commit(wal, &op, 1, NULL);
    *done = op.done;
    return code;
}

static void append(ab_stream stream, unsigned blocks)
{
    for (unsigned i = 0; i < blocks; i++) {
        ck_assert_int_eq(wt_append(wal, 1, stream, 10, 400), AB_OK);
    }
}

static void assert_unknown(ab_stream stream)
{
    ab_stream_state state;
    ab_block_header header;
    ck_assert(!wt_stream(wal, 1, stream, &state));
    for (uint64_t index = 1; index <= 60; index++) {
        ck_assert_int_eq(read_at(1, stream, index, &header), AB_ENOTFOUND);
    }
}

static void assert_sound(void)
{
    ck_assert_int_eq(wt_verify(wal), 0);
    reopen(&read_options);
    ck_assert_int_eq(wt_verify(wal), 0); /* the structure of the file, too */
    reopen(&sync_options);
}

START_TEST(nothing_is_left)
{
    static const ab_stream neighbours[] = {{1, 2}, {1, 4}, {2, 3}};
    const ab_stream stream = {1, 3};
    uint32_t done = 0;
    for (unsigned i = 0; i < 3; i++) {
        append(neighbours[i], 2);
    }
    append(stream, 6);
    ck_assert_int_eq(wt_append(wal, 2, stream, 10, 400), AB_OK); /* the same name in another group */
    ck_assert_int_eq(wt_trim(wal, 1, stream, 25, 100), 2);
    ck_assert_int_eq(forget(stream, 100, &done), AB_OK);
    ck_assert_uint_eq(done, 4);
    assert_unknown(stream);
    for (unsigned i = 0; i < 3; i++) {
        assert_stream(1, neighbours[i], 0, 20);
    }
    assert_stream(2, stream, 0, 10);
    assert_sound();
    assert_unknown(stream);
}
END_TEST

START_TEST(trimmed_whole)
{
    uint32_t done = 7;
    append(s1, 3);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 30, 100), 3);
    ck_assert_int_eq(forget(s1, 1, &done), AB_OK);
    ck_assert_uint_eq(done, 0);
    assert_unknown(s1);
    assert_sound();
}
END_TEST

START_TEST(in_pieces)
{
    uint32_t done = 0;
    ab_stream_state state;
    append(s1, 5);
    ck_assert_int_eq(forget(s1, 2, &done), AB_OK);
    ck_assert_uint_eq(done, 2);
    ck_assert(wt_stream(wal, 1, s1, &state)); /* known until nothing is left */
    reopen(&sync_options);
    ck_assert_int_eq(forget(s1, 2, &done), AB_OK);
    ck_assert_uint_eq(done, 2);
    ck_assert_int_eq(forget(s1, 2, &done), AB_OK);
    ck_assert_uint_eq(done, 1);
    assert_unknown(s1);
    assert_sound();
}
END_TEST

START_TEST(what_is_not_there)
{
    uint32_t done = 7;
    append(s2, 1);
    ck_assert_int_eq(forget(s1, 10, &done), AB_OK);
    ck_assert_uint_eq(done, 0);
    assert_stream(1, s2, 0, 10);
    append(s1, 1); /* the name is free again */
    assert_stream(1, s1, 0, 10);
}
END_TEST

/* A damaged block cannot be trimmed past, but forgotten. */
START_TEST(damaged_blocks_go_as_well)
{
    size_t size = 0;
    uint32_t done = 0;
    ab_block_header header;
    append(s1, 3);
    uint8_t *block = wt_block(1, s1, 1, 10, 400, 0, &header);
    char *path = wt_path(dir, "data.mdb");
    ab_wal_close(wal);
    wal = NULL;
    uint8_t *data = wt_file_read(path, &size);
    uint8_t *hit = memmem(data, size, block, AB_BLOCK_HEADER + 8);
    ck_assert_ptr_nonnull(hit);
    hit[AB_BLOCK_HEADER + 7] ^= 0x10;
    ck_assert(wt_file_write(path, data, size));
    reopen(&sync_options);
    ck_assert_int_eq(read_at(1, s1, 1, &header), AB_ECORRUPT);
    ck_assert_int_eq(forget(s1, 10, &done), AB_OK);
    ck_assert_uint_eq(done, 3);
    assert_unknown(s1);
    assert_sound();
    free(block);
    free(data);
    free(path);
}
END_TEST

/* What is kept instead of the stream and that it is forgotten happen together, or not at all. */
START_TEST(with_the_rest_of_its_commit)
{
    ab_block_header header;
    void *data = NULL;
    size_t size = 0;
    append(s1, 2);
    uint8_t *block = wt_block(1, s2, 5, 1, 10, 0, &header); /* does not follow */
    ab_wal_op ops[] = {
        {.type = AB_WAL_PUT_STATE, .group = 1, .key = key, .data = {"x", 1}},
        {.type = AB_WAL_FORGET, .group = 1, .stream = s1, .limit = 10},
        {.type = AB_WAL_PUT_BLOCK, .data = {block, ab_block_size(&header)}},
    };
    size_t failed = 0;
    ck_assert_int_eq(ab_wal_commit(wal, ops, 3, &failed), AB_EINVAL);
    ck_assert_uint_eq(failed, 2);
    ck_assert_uint_eq(ops[1].done, 0);
    assert_stream(1, s1, 0, 20);
    ck_assert_int_eq(ab_wal_state_get(wal, 1, key, &data, &size), AB_ENOTFOUND);
    ck_assert_int_eq(ab_wal_commit(wal, ops, 2, NULL), AB_OK);
    ab_wal_abandon(wal); /* as a crash would */
    wal = NULL;
    reopen(&sync_options);
    assert_unknown(s1);
    ck_assert_int_eq(ab_wal_state_get(wal, 1, key, &data, &size), AB_OK);
    free(data);
    free(block);
    assert_sound();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal_forget");
    TCase *tcase = wal_case(suite, "forget");
    tcase_add_test(tcase, nothing_is_left);
    tcase_add_test(tcase, trimmed_whole);
    tcase_add_test(tcase, in_pieces);
    tcase_add_test(tcase, what_is_not_there);
    tcase_add_test(tcase, damaged_blocks_go_as_well);
    tcase_add_test(tcase, with_the_rest_of_its_commit);
    return test_run(suite);
}
