/* SPDX-License-Identifier: Apache-2.0 */
/* The log: streams that are taken back to a fork. One thread. */
#include "tests/unit/test_wal_fixture.h"

#include <stdlib.h>

static const ab_bytes key = {"core/rewind/1", 13};

/* Hash of the block that ends at `index`; 0 at 0. */
static uint64_t hash_at(uint64_t index)
{
    ab_block_header header;
    if (index == 0) {
        return 0;
    }
    ck_assert_int_eq(read_at(1, s1, index, &header), AB_OK);
    ck_assert_uint_eq(header.last, index);
    return header.checksum;
}

static int rewind_to(uint64_t index, uint64_t hash)
{
    ab_wal_op op = {.type = AB_WAL_REWIND, .group = 1, .stream = s1, .index = index, .hash = hash};
    return ab_wal_commit(wal, &op, 1, NULL);
}

static void append(ab_stream stream, unsigned blocks, size_t payload)
{
    for (unsigned i = 0; i < blocks; i++) {
        ck_assert_int_eq(wt_append(wal, 1, stream, 10, payload), AB_OK);
    }
}

static void assert_sound(void)
{
    ck_assert_int_eq(wt_verify(wal), 0);
    reopen(&read_options);
    ck_assert_int_eq(wt_verify(wal), 0); /* the structure of the file, too */
    reopen(&sync_options);
}

static void assert_nothing_beyond(uint64_t last, uint64_t upto)
{
    ab_block_header header;
    for (uint64_t index = last + 1; index <= upto; index++) {
        ck_assert_int_eq(read_at(1, s1, index, &header), AB_ENOTFOUND);
    }
}

static void setup_blocks(void)
{
    static const ab_stream neighbours[] = {{1, 2}, {2, 1}};
    setup();
    append(neighbours[0], 2, 300);
    append(neighbours[1], 2, 300);
    append(s1, 6, 300); /* 1 to 60 */
    ck_assert_int_eq(wt_append(wal, 2, s1, 30, 300), AB_OK);
}

static void assert_neighbours(void)
{
    assert_stream(1, (ab_stream){1, 2}, 0, 20);
    assert_stream(1, s2, 0, 20);
    assert_stream(2, s1, 0, 30);
}

START_TEST(at_the_end_of_a_block)
{
    uint64_t hash = hash_at(30);
    ab_stream_state state;
    ck_assert_int_eq(rewind_to(30, hash), AB_OK);
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_uint_eq(state.last_hash, hash);
    assert_stream(1, s1, 0, 30);
    assert_nothing_beyond(30, 61);
    assert_neighbours();
    assert_sound();
    assert_stream(1, s1, 0, 30);
    assert_nothing_beyond(30, 61);
}
END_TEST

START_TEST(where_no_block_ends)
{
    uint64_t hash = hash_at(30);
    ck_assert_int_eq(rewind_to(30, hash + 1), AB_EINVAL);
    ck_assert_int_eq(rewind_to(30, 0), AB_EINVAL);
    ck_assert_int_eq(rewind_to(29, hash), AB_EINVAL);
    ck_assert_int_eq(rewind_to(31, hash), AB_EINVAL);
    ck_assert_int_eq(rewind_to(0, hash), AB_EINVAL);
    assert_stream(1, s1, 0, 60);
    assert_sound();
    assert_stream(1, s1, 0, 60);
    ab_message text;
    ck_assert_int_eq(rewind_to(29, hash), AB_EINVAL);
    ab_wal_message(wal, &text);
    ck_assert_ptr_nonnull(strstr(text.text, "1/1"));
}
END_TEST

START_TEST(beyond_the_end)
{
    uint64_t hash = hash_at(60);
    ck_assert_int_eq(rewind_to(60, hash), AB_OK);
    ck_assert_int_eq(rewind_to(60, hash + 1), AB_OK);
    ck_assert_int_eq(rewind_to(61, 0), AB_OK);
    ck_assert_int_eq(rewind_to(UINT64_MAX, 1), AB_OK);
    assert_stream(1, s1, 0, 60);
    assert_neighbours();
    assert_sound();
}
END_TEST

START_TEST(a_stream_that_is_not_there)
{
    const ab_stream other = {7, 7};
    ab_stream_state state;
    ab_wal_op op = {.type = AB_WAL_REWIND, .group = 1, .stream = other, .index = 5, .hash = 6};
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_OK);
    ck_assert(!wt_stream(wal, 1, other, &state));
}
END_TEST

START_TEST(to_the_very_beginning)
{
    ab_stream_state state;
    ck_assert_int_eq(rewind_to(0, 0), AB_OK);
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_uint_eq(state.base, 0);
    ck_assert_uint_eq(state.last, 0);
    ck_assert_uint_eq(state.last_hash, 0);
    assert_nothing_beyond(0, 61);
    assert_neighbours();
    assert_sound();
    append(s1, 1, 10); /* it begins anew */
    assert_stream(1, s1, 0, 10);
    assert_sound();
}
END_TEST

START_TEST(trimmed_up_to_the_fork)
{
    uint64_t hash = hash_at(20);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 20, 100), 2);
    ck_assert_int_eq(rewind_to(20, hash + 1), AB_EINVAL);
    assert_stream(1, s1, 20, 60);
    ck_assert_int_eq(rewind_to(20, hash), AB_OK);
    assert_stream(1, s1, 20, 20);
    assert_nothing_beyond(20, 61);
    append(s1, 1, 10);
    assert_stream(1, s1, 20, 30);
    assert_sound();
}
END_TEST

START_TEST(trimmed_beyond_the_fork)
{
    ab_stream_state state;
    uint64_t hash = hash_at(20);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 40, 100), 4);
    ck_assert_int_eq(rewind_to(20, hash), AB_OK);
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_uint_eq(state.base, 20);
    ck_assert_uint_eq(state.last, 20);
    ck_assert_uint_eq(state.last_hash, hash);
    assert_nothing_beyond(20, 61);
    assert_sound();
    append(s1, 2, 10); /* the other history, from there on */
    assert_stream(1, s1, 20, 40);
    assert_neighbours();
    assert_sound();
}
END_TEST

START_TEST(trimmed_whole)
{
    uint64_t hash = hash_at(20);
    ab_stream_state state;
    ck_assert_int_eq(wt_trim(wal, 1, s1, 60, 100), 6);
    ck_assert_int_eq(rewind_to(20, hash), AB_OK);
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_uint_eq(state.base, 20);
    ck_assert_uint_eq(state.last, 20);
    assert_sound();
    append(s1, 1, 10);
    assert_stream(1, s1, 20, 30);
}
END_TEST

/* Another history after it; the old one's blocks fit no more. */
START_TEST(another_history)
{
    ab_block_header old;
    ab_block_header header;
    uint64_t hash = hash_at(30);
    uint8_t *block = wt_block(1, s1, 31, 10, 300, hash, &old);
    uint8_t *next = wt_block(1, s1, 41, 10, 300, old.checksum, &header);
    ck_assert_uint_eq(old.checksum, hash_at(40)); /* the very one that goes */
    ck_assert_int_eq(rewind_to(30, hash), AB_OK);
    append(s1, 4, 700); /* 31 to 70 */
    assert_stream(1, s1, 0, 70);
    ab_wal_op op = {.type = AB_WAL_PUT_BLOCK, .data = {block, ab_block_size(&old)}};
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_EINVAL);
    op.data = (ab_bytes){next, ab_block_size(&header)};
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_EINVAL);
    assert_stream(1, s1, 0, 70);
    assert_neighbours();
    assert_sound();
    assert_stream(1, s1, 0, 70);
    ck_assert_int_eq(rewind_to(30, hash), AB_OK); /* and back once more */
    assert_stream(1, s1, 0, 30);
    free(block);
    free(next);
}
END_TEST

static bool state_is(const char *wanted)
{
    void *data = NULL;
    size_t size = 0;
    bool kept = ab_wal_state_get(wal, 1, key, &data, &size) == AB_OK;
    bool same =
        kept ? wanted != NULL && size == strlen(wanted) && memcmp(data, wanted, size) == 0 : wanted == NULL;
    free(data);
    return same;
}

START_TEST(with_a_record_in_one_commit)
{
    uint64_t hash = hash_at(30);
    size_t failed = 9;
    ab_wal_op ops[] = {{.type = AB_WAL_PUT_STATE, .group = 1, .key = key, .data = {"gone", 4}},
                       {.type = AB_WAL_REWIND, .group = 1, .stream = s1, .index = 29, .hash = hash}};
    ck_assert_int_eq(ab_wal_commit(wal, ops, 2, &failed), AB_EINVAL);
    ck_assert_uint_eq(failed, 1);
    ck_assert(state_is(NULL)); /* neither of them */
    assert_stream(1, s1, 0, 60);
    ops[1].index = 30;
    ck_assert_int_eq(ab_wal_commit(wal, ops, 2, &failed), AB_OK);
    ck_assert(state_is("gone"));
    assert_stream(1, s1, 0, 30);
    assert_sound();
    ck_assert(state_is("gone"));
}
END_TEST

/* The order within a commit holds: what is appended after it stays, what was before it goes. */
START_TEST(with_blocks_in_one_commit)
{
    ab_block_header gone;
    ab_block_header stays;
    uint64_t hash = hash_at(60);
    uint8_t *before = wt_block(1, s1, 61, 10, 300, hash, &gone);
    uint8_t *after = wt_block(1, s1, 31, 5, 300, hash_at(30), &stays);
    ab_wal_op ops[] = {{.type = AB_WAL_PUT_BLOCK, .data = {before, ab_block_size(&gone)}},
                       {.type = AB_WAL_REWIND, .group = 1, .stream = s1, .index = 30, .hash = hash_at(30)},
                       {.type = AB_WAL_PUT_BLOCK, .data = {after, ab_block_size(&stays)}}};
    ck_assert_int_eq(ab_wal_commit(wal, ops, 3, NULL), AB_OK);
    assert_stream(1, s1, 0, 35);
    assert_nothing_beyond(35, 71);
    assert_sound();
    free(before);
    free(after);
}
END_TEST

START_TEST(for_readers_alone)
{
    uint64_t hash = hash_at(30);
    reopen(&read_options);
    ck_assert_int_eq(rewind_to(30, hash), AB_EINVAL);
    assert_stream(1, s1, 0, 60);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal_rewind");
    TCase *tcase = tcase_create("rewind");
    tcase_add_checked_fixture(tcase, setup_blocks, teardown);
    tcase_add_test(tcase, at_the_end_of_a_block);
    tcase_add_test(tcase, where_no_block_ends);
    tcase_add_test(tcase, beyond_the_end);
    tcase_add_test(tcase, a_stream_that_is_not_there);
    tcase_add_test(tcase, to_the_very_beginning);
    tcase_add_test(tcase, trimmed_up_to_the_fork);
    tcase_add_test(tcase, trimmed_beyond_the_fork);
    tcase_add_test(tcase, trimmed_whole);
    tcase_add_test(tcase, another_history);
    tcase_add_test(tcase, with_a_record_in_one_commit);
    tcase_add_test(tcase, with_blocks_in_one_commit);
    tcase_add_test(tcase, for_readers_alone);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
