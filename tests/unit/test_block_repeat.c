/* SPDX-License-Identifier: Apache-2.0 */
/* A block written once more into another stream of its origin: what stays, what changes, what is refused. One thread. */
#include "tests/support/run.h"
#include "tests/unit/test_wal_support.h"
#include "wal/bytes.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define NODE 5u
#define OLD_EPOCH 4u
#define EPOCH 9u
#define FORK 10u
#define END 20u
#define PREV_HASH 4711u
#define MARKS 3u

static const ab_mark marks_of_old[MARKS] = {{{2, 1}, 7}, {{5, 3}, 8}, {{6, 1}, 9}};

static ab_block_origin origin_of(void)
{
    return (ab_block_origin){
        .epoch = OLD_EPOCH, .rewound = 2, .fork = FORK, .end = END, .fork_hash = 99, .hash = 1};
}

/* A block of the old stream: `count` entries of different sizes, hlcs that are not the next number. */
static uint8_t *old_block(uint64_t first, uint32_t count, const ab_mark *marks, size_t mark_count,
                          ab_block_header *header)
{
    uint8_t *block = calloc(1, 4096);
    uint8_t payload[64];
    memset(payload, 'p', sizeof(payload));
    *header = (ab_block_header){.count = count,
                                .group = 77,
                                .node = NODE,
                                .epoch = OLD_EPOCH,
                                .first = first,
                                .term = 3,
                                .hlc_first = 1000,
                                .hlc_last = 1000 + (uint64_t)(count - 1) * 300,
                                .prev_hash = 55};
    for (uint32_t i = 0; i < count; i++) {
        header->entries_bytes += (uint32_t)ab_entry_pack(block + AB_BLOCK_HEADER + header->entries_bytes,
                                                         i == 0 ? 0 : 300, payload, (size_t)i * 7);
    }
    size_t size = ab_block_seal(block, header, marks, mark_count);
    ck_assert_uint_lt(size, 4096);
    return block;
}

/* The copy of a block. @return malloc'ed, of exactly the size that is promised to be enough */
static uint8_t *copy_of(const uint8_t *old, const ab_block_header *old_header, ab_block_origin *origin,
                        ab_block_header *header, size_t *size)
{
    uint8_t *block = malloc(ab_block_repeat_size(old_header)); /* a sanitizer sees a write beyond */
    *size = ab_block_repeat(block, header, old, old_header, EPOCH, PREV_HASH, origin);
    return block;
}

static void assert_same_entries(const uint8_t *old, const ab_block_header *old_header, const uint8_t *block,
                                const ab_block_header *header)
{
    ab_block_iter was;
    ab_block_iter is;
    ab_entry before;
    ab_entry after;
    ab_block_iter_init(&was, old, old_header);
    ab_block_iter_init(&is, block, header);
    for (uint32_t i = 0; i < old_header->count; i++) {
        ck_assert_int_eq(ab_block_iter_next(&was, &before), AB_OK);
        ck_assert_int_eq(ab_block_iter_next(&is, &after), AB_OK);
        ck_assert_uint_eq(after.hlc, before.hlc);
        ck_assert_uint_eq(after.index, before.index - FORK);
        ck_assert_uint_eq(after.term, before.term);
        ck_assert_uint_eq(after.stream.node, NODE);
        ck_assert_uint_eq(after.stream.epoch, EPOCH);
        ck_assert_uint_eq(after.size, before.size);
        if (before.size > 0) {
            ck_assert_mem_eq(after.payload, before.payload, before.size);
        }
    }
    ck_assert_int_eq(ab_block_iter_next(&is, &after), AB_ENOTFOUND);
}

START_TEST(entries_and_marks_are_kept)
{
    ab_block_header old_header;
    ab_block_header header;
    ab_block_header read;
    ab_mark marks[MARKS + 1];
    ab_block_info info;
    size_t size;
    uint8_t *old = old_block(FORK + 4, 5, marks_of_old, MARKS, &old_header);
    ab_block_origin origin = origin_of();
    uint8_t *block = copy_of(old, &old_header, &origin, &header, &size);
    ck_assert_uint_eq(size, ab_block_size(&old_header) + AB_BLOCK_ORIGIN_BYTES); /* no mark is added */
    ck_assert_int_eq(ab_block_check(block, size, &read), AB_OK);
    ck_assert_mem_eq(&read, &header, sizeof(read));
    ck_assert_uint_eq(read.flags, AB_BLOCK_ORIGIN);
    ck_assert_uint_eq(read.group, 77);
    ck_assert_uint_eq(read.first, 4);
    ck_assert_uint_eq(read.last, 8);
    ck_assert_uint_eq(read.hlc_first, old_header.hlc_first);
    ck_assert_uint_eq(read.hlc_last, old_header.hlc_last);
    ck_assert_uint_eq(read.prev_hash, PREV_HASH);
    assert_same_entries(old, &old_header, block, &read);

    ab_block_info_read(block, &read, marks, &info);
    ck_assert_uint_eq(info.dep_count, MARKS);
    ck_assert_mem_eq(marks, marks_of_old, sizeof(marks_of_old));
    ck_assert_uint_eq(info.bytes, size);
    ck_assert_uint_eq(info.origin.epoch, OLD_EPOCH);
    ck_assert_uint_eq(info.origin.rewound, 2);
    ck_assert_uint_eq(info.origin.fork, FORK);
    ck_assert_uint_eq(info.origin.end, END);
    ck_assert_uint_eq(info.origin.fork_hash, 99);
    ck_assert_uint_eq(info.origin.hash, old_header.checksum);
    ck_assert_uint_eq(origin.hash, old_header.checksum);
    free(old);
    free(block);
}
END_TEST

/* A block without a copy's flag says nothing of an origin. */
START_TEST(an_ordinary_block_has_no_origin)
{
    ab_block_header header;
    ab_mark marks[MARKS];
    ab_block_info info;
    memset(&info, 0xff, sizeof(info));
    uint8_t *old = old_block(1, 2, marks_of_old, MARKS, &header);
    ck_assert_int_eq(ab_block_check(old, ab_block_size(&header), &header), AB_OK);
    ab_block_info_read(old, &header, marks, &info);
    ck_assert_uint_eq(info.origin.epoch, 0);
    free(old);
}
END_TEST

/* Marks of the first block, given marks of the old one. */
static void assert_first_marks(const ab_mark *given, size_t given_count, uint64_t fork, const ab_mark *wanted,
                               size_t wanted_count)
{
    ab_block_header old_header;
    ab_block_header header;
    ab_mark marks[MARKS + 1];
    ab_block_info info;
    size_t size;
    uint8_t *old = old_block(fork + 1, 2, given, given_count, &old_header);
    ab_block_origin origin = origin_of();
    origin.fork = fork;
    uint8_t *block = copy_of(old, &old_header, &origin, &header, &size);
    ck_assert_uint_le(size, ab_block_repeat_size(&old_header));
    ck_assert_int_eq(ab_block_check(block, size, &header), AB_OK); /* sorted, too */
    ab_block_info_read(block, &header, marks, &info);
    ck_assert_uint_eq(header.first, 1);
    ck_assert_uint_eq(info.dep_count, wanted_count);
    for (size_t i = 0; i < wanted_count; i++) {
        ck_assert_int_eq(ab_stream_compare(marks[i].stream, wanted[i].stream), 0);
        ck_assert_uint_eq(marks[i].index, wanted[i].index);
    }
    free(old);
    free(block);
}

START_TEST(the_first_block_depends_on_the_fork)
{
    const ab_mark fork = {{NODE, OLD_EPOCH}, FORK};
    const ab_mark middle[] = {{{2, 1}, 7}, {{5, 3}, 8}, fork, {{6, 1}, 9}};
    const ab_mark behind[] = {{{2, 1}, 7}, {{5, 3}, 8}, fork};
    const ab_mark before[] = {fork, {{6, 1}, 9}};
    const ab_mark own[] = {{{2, 1}, 7}, {{NODE, OLD_EPOCH}, 3}};
    const ab_mark own_mended[] = {{{2, 1}, 7}, fork};
    assert_first_marks(marks_of_old, 3, FORK, middle, 4);
    assert_first_marks(marks_of_old, 2, FORK, behind, 3);
    assert_first_marks(marks_of_old + 2, 1, FORK, before, 2);
    assert_first_marks(NULL, 0, FORK, &fork, 1);
    assert_first_marks(own, 2, FORK, own_mended, 2);
    assert_first_marks(marks_of_old, 3, 0, marks_of_old, 3); /* nothing comes before the fork */
}
END_TEST

START_TEST(later_blocks_do_not_depend_on_it)
{
    ab_block_header old_header;
    ab_block_header header;
    size_t size;
    uint8_t *old = old_block(FORK + 2, 1, NULL, 0, &old_header);
    ab_block_origin origin = origin_of();
    uint8_t *block = copy_of(old, &old_header, &origin, &header, &size);
    ck_assert_uint_eq(header.mark_count, 0);
    ck_assert_uint_eq(size, ab_block_size(&old_header) + AB_BLOCK_ORIGIN_BYTES);
    free(old);
    free(block);
}
END_TEST

START_TEST(what_cannot_be_repeated)
{
    ab_block_header old_header;
    ab_block_header header;
    size_t size;
    uint8_t *old = old_block(FORK, 3, NULL, 0, &old_header); /* the fork is in the middle of it */
    ab_block_origin origin = origin_of();
    uint8_t *block = copy_of(old, &old_header, &origin, &header, &size);
    ck_assert_uint_eq(size, 0);
    free(block);
    free(old);
    old = old_block(FORK - 5, 3, NULL, 0, &old_header);
    block = copy_of(old, &old_header, &origin, &header, &size);
    ck_assert_uint_eq(size, 0);
    free(block);
    free(old);

    old = old_block(FORK + 1, 3, NULL, 0, &old_header);
    block = copy_of(old, &old_header, &origin, &header, &size);
    ck_assert_uint_gt(size, 0);
    ab_block_header again_header;
    size_t again_size;
    origin.fork = 0;
    uint8_t *again = copy_of(block, &header, &origin, &again_header, &again_size);
    ck_assert_uint_eq(again_size, 0); /* a copy of a copy */
    free(again);
    free(block);
    free(old);
}
END_TEST

/* What the check says of a copy whose origin is this; the checksum holds. */
static int check_with(uint64_t first, ab_block_origin said)
{
    ab_block_header old_header;
    ab_block_header header;
    size_t size;
    uint8_t *old = old_block(FORK + first, 2, NULL, 0, &old_header);
    ab_block_origin origin = said;
    origin.fork = FORK;
    uint8_t *block = copy_of(old, &old_header, &origin, &header, &size);
    uint8_t *at = block + size - AB_BLOCK_ORIGIN_BYTES;
    ab_put_le32(at, said.epoch);
    ab_put_le32(at + 4, said.rewound);
    ab_put_le64(at + 8, said.fork);
    ab_put_le64(at + 16, said.end);
    /* Sealed once more, the marks as they are. */
    ab_mark marks[2];
    ab_block_info info;
    ab_block_info_read(block, &header, marks, &info);
    (void)ab_block_seal(block, &header, marks, info.dep_count);
    int code = ab_block_check(block, size, &header);
    free(old);
    free(block);
    return code;
}

START_TEST(an_origin_must_make_sense)
{
    ab_block_origin origin = origin_of();
    ck_assert_int_eq(check_with(1, origin), AB_OK);
    ck_assert_int_eq(check_with(END - FORK - 1, origin), AB_OK); /* up to the end */
    ck_assert_int_eq(check_with(END - FORK, origin), AB_ECORRUPT);

    origin.epoch = 0;
    ck_assert_int_eq(check_with(1, origin), AB_ECORRUPT);
    origin.epoch = EPOCH - 1;
    ck_assert_int_eq(check_with(1, origin), AB_OK);
    origin.epoch = EPOCH;
    ck_assert_int_eq(check_with(1, origin), AB_ECORRUPT);
    origin.epoch = EPOCH + 1;
    ck_assert_int_eq(check_with(1, origin), AB_ECORRUPT);

    origin = origin_of();
    origin.rewound = 0;
    ck_assert_int_eq(check_with(1, origin), AB_OK);
    origin.rewound = EPOCH;
    ck_assert_int_eq(check_with(1, origin), AB_ECORRUPT);

    origin = origin_of();
    origin.end = FORK;
    ck_assert_int_eq(check_with(1, origin), AB_ECORRUPT);
    origin.end = FORK - 1; /* a difference that wraps */
    ck_assert_int_eq(check_with(1, origin), AB_ECORRUPT);
    origin.end = 0;
    ck_assert_int_eq(check_with(1, origin), AB_ECORRUPT);
    origin.end = UINT64_MAX;
    ck_assert_int_eq(check_with(1, origin), AB_ECORRUPT);
    origin.fork = UINT64_MAX;
    ck_assert_int_eq(check_with(1, origin), AB_ECORRUPT);
}
END_TEST

START_TEST(every_flip_and_every_cut_is_seen)
{
    ab_block_header old_header;
    ab_block_header header;
    size_t size;
    uint8_t *old = old_block(FORK + 1, 3, marks_of_old, MARKS, &old_header);
    ab_block_origin origin = origin_of();
    uint8_t *block = copy_of(old, &old_header, &origin, &header, &size);
    for (size_t i = 0; i < size * 8; i++) {
        block[i / 8] ^= (uint8_t)(1u << (i % 8));
        ck_assert_int_ne(ab_block_check(block, size, &header), AB_OK);
        block[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, block, cut);
        ck_assert_int_ne(ab_block_check(part, cut, &header), AB_OK);
        free(part);
    }
    ck_assert_int_eq(ab_block_check(block, size, &header), AB_OK);
    free(old);
    free(block);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("block_repeat");
    TCase *tcase = tcase_create("repeat");
    tcase_add_test(tcase, entries_and_marks_are_kept);
    tcase_add_test(tcase, an_ordinary_block_has_no_origin);
    tcase_add_test(tcase, the_first_block_depends_on_the_fork);
    tcase_add_test(tcase, later_blocks_do_not_depend_on_it);
    tcase_add_test(tcase, what_cannot_be_repeated);
    tcase_add_test(tcase, an_origin_must_make_sense);
    tcase_add_test(tcase, every_flip_and_every_cut_is_seen);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
