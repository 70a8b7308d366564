/* SPDX-License-Identifier: Apache-2.0 */
/* The log: damaged and missing blocks, repair, verification. One thread. */
#define _GNU_SOURCE /* memmem */
#include "tests/unit/test_wal_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Flips a byte of the payload of a block with this content somewhere in the closed file. */
static void damage(uint64_t group, ab_stream stream, uint64_t first, uint32_t count, size_t payload,
                   uint64_t prev)
{
    ab_block_header h;
    size_t size;
    char *path = wt_path(dir, "data.mdb");
    uint8_t *block = wt_block(group, stream, first, count, payload, prev, &h);
    uint8_t *data = wt_file_read(path, &size);
    uint8_t *hit = memmem(data, size, block, AB_BLOCK_HEADER + 8);
    ck_assert_ptr_nonnull(hit);
    hit[AB_BLOCK_HEADER + 7] ^= 0x10;
    int fd = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, hit + AB_BLOCK_HEADER + 7, 1, hit + AB_BLOCK_HEADER + 7 - data), 1);
    close(fd);
    free(data);
    free(block);
    free(path);
}

static uint64_t hash_at(uint64_t group, ab_stream stream, uint64_t index)
{
    ab_block_header h = {.checksum = 0};
    if (index > 0) {
        ck_assert_int_eq(read_at(group, stream, index, &h), AB_OK);
    }
    return h.checksum;
}

/* Damages the block of 10 entries that begins at `first`; the log is open again afterwards. */
static uint64_t damage_ten(uint64_t first)
{
    uint64_t prev = hash_at(1, s1, first - 1);
    ab_wal_close(wal);
    wal = NULL;
    damage(1, s1, first, 10, 400, prev);
    reopen(&sync_options);
    return prev;
}

static int replace(uint64_t first, uint32_t count, size_t payload, uint64_t prev)
{
    ab_block_header h;
    uint8_t *block = wt_block(1, s1, first, count, payload, prev, &h);
    ab_wal_op op = {.type = AB_WAL_REPLACE_BLOCK, .data = {block, ab_block_size(&h)}};
    int code = ab_wal_commit(wal, &op, 1, NULL);
    free(block);
    return code;
}

START_TEST(damage_is_told_and_repaired)
{
    ab_block_header h;
    const uint64_t first = (uint64_t)_i * 20 + 1; /* the first, one in the middle, the last */
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    }
    uint64_t prev = damage_ten(first);
    ck_assert_int_eq(read_at(1, s1, first + 3, &h), AB_ECORRUPT);
    ck_assert_uint_eq(h.first, first);
    ck_assert_uint_eq(h.last, first + 9);
    ab_wal_message(wal, &message);
    ck_assert_ptr_nonnull(strstr(message.text, "group 1, stream 1/1"));
    ck_assert_int_eq(wt_verify(wal), 1);
    /* the others are well, and the stream goes on */
    ck_assert_int_eq(read_at(1, s1, first == 1 ? 11 : first - 1, &h), AB_OK);
    ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    /* only the right one is taken */
    ck_assert_int_eq(replace(first, 9, 400, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first + 1, 9, 400, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first, 10, 399, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first, 10, 400, prev + 1), AB_EINVAL);
    ck_assert_int_eq(replace(first + 60, 10, 400, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first, 10, 400, prev), AB_OK);
    assert_stream(1, s1, 0, 60);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

static int rewind_to(uint64_t index, uint64_t hash)
{
    ab_wal_op op = {.type = AB_WAL_REWIND, .group = 1, .stream = s1, .index = index, .hash = hash};
    return ab_wal_commit(wal, &op, 1, NULL);
}

/* Back to a block that cannot be read: the one behind it knows its hash. */
START_TEST(damage_at_the_fork)
{
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    }
    uint64_t hash = hash_at(1, s1, 30);
    uint64_t prev = damage_ten(21);
    ck_assert_int_eq(rewind_to(30, hash + 1), AB_EINVAL);
    ck_assert_int_eq(rewind_to(30, prev), AB_EINVAL);
    ck_assert_int_eq(rewind_to(30, hash), AB_OK);
    ck_assert_int_eq(replace(21, 10, 400, prev), AB_OK);
    ck_assert_int_eq(wt_append(wal, 1, s1, 10, 300), AB_OK); /* 31 to 40, anew */
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

/* Nobody here knows: a wrong hash makes no second history of the blocks that are there. */
START_TEST(damage_on_both_sides_of_the_fork)
{
    ab_block_header header;
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    }
    uint64_t hash = hash_at(1, s1, 30);
    (void)damage_ten(31);
    uint64_t prev = damage_ten(21);
    ck_assert_int_eq(rewind_to(30, hash + 1), AB_OK);
    ck_assert_int_eq(read_at(1, s1, 25, &header), AB_ECORRUPT);
    ck_assert_int_eq(replace(21, 10, 400, prev),
                     AB_EINVAL); /* its hash is not what the stream goes on from */
    uint8_t *next = wt_block(1, s1, 31, 10, 400, hash, &header);
    ab_wal_op op = {.type = AB_WAL_PUT_BLOCK, .data = {next, ab_block_size(&header)}};
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_EINVAL);
    free(next);
}
END_TEST

/* A damaged key: the block is where nobody looks for it. */
START_TEST(missing_block_is_told_and_put_back)
{
    ab_block_header h;
    const uint64_t first = (uint64_t)_i * 20 + 1;
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    }
    uint64_t prev = hash_at(1, s1, first - 1);
    size_t size;
    char *path = wt_path(dir, "data.mdb");
    ab_wal_close(wal);
    wal = NULL;
    uint8_t *data = wt_file_read(path, &size);
    const uint8_t key[24] = {[7] = 1, [11] = 1, [15] = 1, [23] = (uint8_t)first};
    for (uint8_t *hit = data; (hit = memmem(hit, size - (size_t)(hit - data), key, 24)) != NULL; hit++) {
        hit[23]++; /* also in pages that are free now: means nothing there */
    }
    ck_assert(wt_file_write(path, data, size));
    free(data);
    free(path);
    reopen(&sync_options);
    ck_assert_int_eq(read_at(1, s1, first, &h), AB_ECORRUPT);
    ck_assert_uint_eq(h.first, first);
    ck_assert_int_gt(wt_verify(wal), 0);
    ck_assert_int_eq(replace(first, 9, 400, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first, 10, 400, prev), AB_OK);
    ck_assert_int_eq(replace(first, 10, 400, prev), AB_OK);
    ck_assert_int_eq(replace(first, 10, 399, prev), AB_EINVAL);
    assert_stream(1, s1, 0, 50);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

START_TEST(damage_does_not_wedge_trimming)
{
    ab_block_header h;
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    }
    (void)damage_ten(21);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 20, 10), 2);
    ck_assert_int_eq(read_at(1, s1, 21, &h), AB_ECORRUPT);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 40, 10), 2);
    assert_stream(1, s1, 40, 60);
    ck_assert_int_eq(wt_verify(wal), 0);
    (void)damage_ten(51); /* the last one */
    ck_assert_int_eq(wt_trim(wal, 1, s1, 60, 10), 2);
    ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    assert_stream(1, s1, 60, 70);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

/* LMDB frees as many pages as the header of a run of pages says. */
START_TEST(damaged_page_header_is_mended)
{
    size_t size;
    ab_wal_close(wal);
    wal = NULL;
    char *path = wt_path(dir, "data.mdb");
    reopen(&sync_options);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 1000), AB_OK);
    }
    ck_assert_int_eq(wt_append(wal, 1, s2, 10, 1000), AB_OK);
    uint8_t *data = wt_file_read(path, &size);
    uint8_t *hit = NULL;
    for (size_t page = 0; page < size; page += 4096) {
        uint64_t first;
        memcpy(&first, data + page + 16 + 32, 8);
        if (memcmp(data + page + 16, "ABBK", 4) == 0 && data[page + 16 + 24] == 1 && first == 11) {
            hit = data + page;
        }
    }
    ck_assert_ptr_nonnull(hit);
    int fd = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, "\x09", 1, hit - data + 12), 1); /* nine pages instead of three */
    close(fd);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 60, 100), 6);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 1000), AB_OK);
    }
    assert_stream(1, s2, 0, 10);
    assert_stream(1, s1, 60, 260);
    free(data);
    free(path);
    reopen(&read_options);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

typedef struct stop_after {
    int calls;
    int limit;
} stop_after;

static bool stop_verify(void *arg, const ab_wal_fault *fault, uint64_t blocks, uint64_t total)
{
    stop_after *s = arg;
    (void)fault;
    ck_assert_uint_le(blocks, total);
    return ++s->calls < s->limit;
}

START_TEST(verify_shows_progress_and_stops)
{
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 1, 10), AB_OK);
    }
    stop_after s = {.limit = 1000};
    ck_assert_int_eq(ab_wal_verify(wal, stop_verify, &s), AB_OK);
    ck_assert_int_eq(s.calls, 4);
    s = (stop_after){.limit = 2};
    ck_assert_int_eq(ab_wal_verify(wal, stop_verify, &s), AB_ECLOSED);
    ck_assert_int_eq(s.calls, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal_damage");
    TCase *tcase = wal_case(suite, "wal_damage");
    tcase_add_loop_test(tcase, damage_is_told_and_repaired, 0, 3);
    tcase_add_test(tcase, damage_at_the_fork);
    tcase_add_test(tcase, damage_on_both_sides_of_the_fork);
    tcase_add_loop_test(tcase, missing_block_is_told_and_put_back, 0, 3);
    tcase_add_test(tcase, damage_does_not_wedge_trimming);
    tcase_add_test(tcase, damaged_page_header_is_mended);
    tcase_add_test(tcase, verify_shows_progress_and_stops);
    return test_run(suite);
}
