/* SPDX-License-Identifier: Apache-2.0 */
/* The block format: round trips, boundary sizes, hostile bytes. One thread. */
#include "tests/support/run.h"
#include "tests/unit/test_wal_support.h"
#include "wal/bytes.h"

#include <check.h>
#include <msgpack.h>
#include <stdlib.h>
#include <xxhash.h>

static const ab_stream stream = {3, 7};

static int iterate(const void *block, const ab_block_header *header, uint64_t *count)
{
    ab_block_iter iter;
    ab_entry entry;
    int code;
    *count = 0;
    ab_block_iter_init(&iter, block, header);
    while ((code = ab_block_iter_next(&iter, &entry)) == AB_OK) {
        (*count)++;
    }
    return code;
}

START_TEST(layout_is_as_documented)
{
    ab_block_header h = {.count = 1,
                         .group = 0x1122334455667788,
                         .node = 0x01020304,
                         .epoch = 0x05060708,
                         .first = 9,
                         .term = 5,
                         .hlc_first = 100,
                         .hlc_last = 100,
                         .prev_hash = 77};
    uint8_t block[256];
    const ab_mark marks[2] = {{{1, 2}, 3}, {{1, 4}, 5}};
    h.entries_bytes = (uint32_t)ab_entry_pack(block + AB_BLOCK_HEADER, 0, "abc", 3);
    size_t size = ab_block_seal(block, &h, marks, 2);
    ck_assert_uint_eq(size, 96 + 1 + 2 + 3 + 32);
    ck_assert_mem_eq(block, "ABBK\x01\x00\x00\x00\x01\x00\x00\x00\x06\x00\x00\x00", 16);
    ck_assert_mem_eq(block + 16, "\x88\x77\x66\x55\x44\x33\x22\x11\x04\x03\x02\x01\x08\x07\x06\x05", 16);
    ck_assert_uint_eq(block[32], 9);
    ck_assert_uint_eq(block[40], 9);
    ck_assert_uint_eq(block[48], 5);
    ck_assert_uint_eq(block[56], 100);
    ck_assert_uint_eq(block[64], 100);
    ck_assert_uint_eq(block[72], 77);
    ck_assert_uint_eq(block[80], 2);
    ck_assert_uint_eq(ab_get_le64(block + 88), h.checksum);
    ck_assert_mem_eq(block + 96,
                     "\x00\xc4\x03"
                     "abc\x01\x00\x00\x00\x02\x00\x00\x00\x03",
                     15);
    /* The checksum of just these bytes, fixed for good: a change of it is a change of the format. */
    ck_assert_uint_eq(h.checksum, 1242042920213196394ull);
    uint8_t joined[256];
    memcpy(joined, block, 88);
    memcpy(joined + 88, block + AB_BLOCK_HEADER, size - AB_BLOCK_HEADER);
    ck_assert_uint_eq(h.checksum, XXH3_64bits(joined, size - 8));
}
END_TEST

START_TEST(round_trip)
{
    ab_block_header made;
    ab_block_header read;
    uint64_t count;
    uint8_t *block = wt_block(5, stream, 1000, 500, 100, 42, &made);
    ck_assert_int_eq(ab_block_check(block, ab_block_size(&made), &read), AB_OK);
    ck_assert_mem_eq(&made, &read, sizeof(made));
    ck_assert_uint_eq(read.last, 1499);
    ck_assert(wt_block_good(block, &read));
    ck_assert_int_eq(iterate(block, &read, &count), AB_ENOTFOUND);
    ck_assert_uint_eq(count, 500);
    free(block);
}
END_TEST

START_TEST(info_carries_the_marks)
{
    uint8_t block[256];
    const ab_mark marks[2] = {{{1, 2}, 3}, {{9, 1}, UINT64_MAX}};
    ab_block_header h = {
        .count = 1, .group = 1, .node = 3, .epoch = 4, .first = 5, .prev_hash = 6, .term = 7};
    ab_mark read[2];
    ab_block_info info;
    h.entries_bytes = (uint32_t)ab_entry_pack(block + AB_BLOCK_HEADER, 0, NULL, 0);
    size_t size = ab_block_seal(block, &h, marks, 2);
    ck_assert_int_eq(ab_block_check(block, size, &h), AB_OK);
    ab_block_info_read(block, &h, read, &info);
    ck_assert_uint_eq(info.dep_count, 2);
    ck_assert_ptr_eq(info.deps, read);
    ck_assert_mem_eq(read, marks, sizeof(marks));
    ck_assert_uint_eq(info.bytes, size);
    ck_assert_uint_eq(info.first, 5);
    ck_assert_uint_eq(info.last, 5);
    ck_assert_uint_eq(info.hash, h.checksum);
    ck_assert_uint_eq(info.prev_hash, 6);
    ck_assert_uint_eq(info.term, 7);
    ck_assert_uint_eq(info.stream.node, 3);
}
END_TEST

/* Sizes and deltas around every change of encoding; msgpack-c's own unpacker reads the same. */
START_TEST(packing_at_the_boundaries)
{
    static const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 100000};
    static const uint64_t deltas[] = {0,     1,     127,        128,        255,       256,
                                      65535, 65536, UINT32_MAX, 1ull << 32, UINT64_MAX};
    size_t size = sizes[_i % 9];
    uint8_t *payload = calloc(1, size + 1);
    uint8_t *packed = malloc(size + AB_ENTRY_OVERHEAD);
    memset(payload, 0xa5, size);
    for (size_t d = 0; d < sizeof(deltas) / sizeof(deltas[0]); d++) {
        size_t used = ab_entry_pack(packed, deltas[d], payload, size);
        ck_assert_uint_le(used, size + AB_ENTRY_OVERHEAD);
        msgpack_unpacked object;
        size_t offset = 0;
        msgpack_unpacked_init(&object);
        ck_assert_int_eq(msgpack_unpack_next(&object, (char *)packed, used, &offset), MSGPACK_UNPACK_SUCCESS);
        ck_assert_int_eq(object.data.type, MSGPACK_OBJECT_POSITIVE_INTEGER);
        ck_assert_uint_eq(object.data.via.u64, deltas[d]);
        ck_assert_int_eq(msgpack_unpack_next(&object, (char *)packed, used, &offset), MSGPACK_UNPACK_SUCCESS);
        ck_assert_int_eq(object.data.type, MSGPACK_OBJECT_BIN);
        ck_assert_uint_eq(object.data.via.bin.size, size);
        ck_assert_mem_eq(object.data.via.bin.ptr, payload, size);
        ck_assert_uint_eq(offset, used);
        msgpack_unpacked_destroy(&object);

        ab_block_iter iter = {.data = packed, .size = used, .index = 1, .left = 1, .hlc_last = deltas[d]};
        ab_entry entry;
        ck_assert_int_eq(ab_block_iter_next(&iter, &entry), AB_OK);
        ck_assert_uint_eq(entry.hlc, deltas[d]);
        ck_assert_uint_eq(entry.size, size);
        ck_assert_int_eq(ab_block_iter_next(&iter, &entry), AB_ENOTFOUND);
    }
    free(payload);
    free(packed);
}
END_TEST

START_TEST(largest_block)
{
    ab_block_header made;
    ab_block_header h;
    uint8_t *block = wt_block(1, stream, 1, 1, AB_PAYLOAD_MAX, 0, &made);
    ck_assert_int_eq(ab_block_check(block, ab_block_size(&made), &h), AB_OK);
    ck_assert(wt_block_good(block, &h));
    free(block);

    uint8_t bytes[AB_BLOCK_HEADER];
    memset(bytes, 0, sizeof(bytes));
    made.entries_bytes = AB_BLOCK_MAX - AB_BLOCK_HEADER;
    memcpy(bytes, "ABBK\x01", 5);
    ab_put_le32(bytes + 8, 1);
    ab_put_le64(bytes + 32, 1);
    ab_put_le64(bytes + 40, 1);
    ab_put_le32(bytes + 12, AB_BLOCK_MAX - AB_BLOCK_HEADER);
    ck_assert_int_eq(ab_block_header_read(bytes, sizeof(bytes), &h), AB_OK);
    ck_assert_uint_eq(ab_block_size(&h), AB_BLOCK_MAX);
    ab_put_le32(bytes + 12, AB_BLOCK_MAX - AB_BLOCK_HEADER + 1);
    ck_assert_int_eq(ab_block_header_read(bytes, sizeof(bytes), &h), AB_ETOOBIG);
    ab_put_le32(bytes + 12, 100);
    ab_put_le32(bytes + 80, AB_MARKS_MAX + 1);
    ck_assert_int_eq(ab_block_header_read(bytes, sizeof(bytes), &h), AB_ETOOBIG);
    ab_put_le32(bytes + 80, AB_MARKS_MAX);
    ck_assert_int_eq(ab_block_header_read(bytes, sizeof(bytes), &h), AB_OK);
}
END_TEST

/* A header with one field changed; the code it must give. */
static int header_with(size_t offset, uint64_t value, size_t width)
{
    ab_block_header h;
    uint8_t bytes[AB_BLOCK_HEADER];
    uint8_t *block = wt_block(1, stream, 10, 4, 10, 0, &h);
    memcpy(bytes, block, sizeof(bytes));
    free(block);
    for (size_t i = 0; i < width; i++) {
        bytes[offset + i] = (uint8_t)(value >> (8 * i));
    }
    return ab_block_header_read(bytes, sizeof(bytes), &h);
}

START_TEST(hostile_headers)
{
    ab_block_header h;
    ck_assert_int_eq(ab_block_header_read("ABBK", 4, &h), AB_ECORRUPT);
    ck_assert_int_eq(ab_block_header_read("", 0, &h), AB_ECORRUPT);
    ck_assert_int_eq(header_with(0, 'A', 1), AB_OK);
    ck_assert_int_eq(header_with(0, 'X', 1), AB_ECORRUPT);
    ck_assert_int_eq(header_with(4, 0, 1), AB_EVERSION);
    ck_assert_int_eq(header_with(4, 2, 1), AB_EVERSION);
    ck_assert_int_eq(header_with(5, 2, 1), AB_EVERSION);
    ck_assert_int_eq(header_with(6, 1, 2), AB_ECORRUPT);
    ck_assert_int_eq(header_with(8, 0, 4), AB_ECORRUPT);          /* no entries */
    ck_assert_int_eq(header_with(8, 5, 4), AB_ECORRUPT);          /* does not agree with last */
    ck_assert_int_eq(header_with(8, UINT32_MAX, 4), AB_ECORRUPT); /* more than bytes */
    ck_assert_int_eq(header_with(12, 11, 4), AB_ECORRUPT);        /* fewer bytes than entries need */
    ck_assert_int_eq(header_with(12, UINT32_MAX, 4), AB_ETOOBIG);
    ck_assert_int_eq(header_with(32, 0, 8), AB_ECORRUPT);          /* index 0 */
    ck_assert_int_eq(header_with(32, UINT64_MAX, 8), AB_ECORRUPT); /* wraps */
    ck_assert_int_eq(header_with(40, 14, 8), AB_ECORRUPT);
    ck_assert_int_eq(header_with(64, 0, 8), AB_ECORRUPT); /* hlc goes back */
    ck_assert_int_eq(header_with(80, UINT32_MAX, 4), AB_ETOOBIG);
    ck_assert_int_eq(header_with(84, 1, 4), AB_ECORRUPT);
}
END_TEST

START_TEST(every_flip_is_seen)
{
    ab_block_header made;
    ab_block_header h;
    uint8_t *block = wt_block(1, stream, 10, 20, 30, 9, &made);
    size_t size = ab_block_size(&made);
    for (size_t i = 0; i < size * 8; i++) {
        block[i / 8] ^= (uint8_t)(1u << (i % 8));
        ck_assert_int_ne(ab_block_check(block, size, &h), AB_OK);
        block[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    ck_assert_int_eq(ab_block_check(block, size, &h), AB_OK);
    free(block);
}
END_TEST

START_TEST(every_truncation_is_seen)
{
    ab_block_header made;
    ab_block_header h;
    uint8_t *block = wt_block(1, stream, 10, 20, 30, 9, &made);
    for (size_t size = 0; size < ab_block_size(&made); size++) {
        uint8_t *cut = malloc(size + 1); /* so that a sanitizer sees a read beyond */
        memcpy(cut, block, size);
        ck_assert_int_ne(ab_block_check(cut, size, &h), AB_OK);
        free(cut);
    }
    ck_assert_int_eq(ab_block_check(block, ab_block_size(&made) + 1, &h), AB_ECORRUPT);
    free(block);
}
END_TEST

START_TEST(unsorted_marks_are_refused)
{
    uint8_t block[256];
    const ab_mark wrong[3][2] = {
        {{{2, 1}, 1}, {{1, 1}, 1}}, {{{1, 2}, 1}, {{1, 1}, 1}}, {{{1, 1}, 1}, {{1, 1}, 2}}};
    for (size_t i = 0; i < 3; i++) {
        ab_block_header h = {.count = 1, .group = 1, .node = 3, .epoch = 4, .first = 5};
        h.entries_bytes = (uint32_t)ab_entry_pack(block + AB_BLOCK_HEADER, 0, NULL, 0);
        size_t size = ab_block_seal(block, &h, wrong[i], 2);
        ck_assert_int_eq(ab_block_check(block, size, &h), AB_ECORRUPT);
    }
}
END_TEST

/* Entries under a checksum that holds, but malformed: a broken or hostile sender. */
static int entries_are(const char *bytes, size_t size, uint32_t count, uint64_t hlc_last)
{
    uint8_t *block = malloc(AB_BLOCK_HEADER + size);
    ab_block_header h = {.count = count,
                         .entries_bytes = (uint32_t)size,
                         .group = 1,
                         .node = 1,
                         .epoch = 1,
                         .first = 1,
                         .hlc_last = hlc_last};
    uint64_t got;
    memcpy(block + AB_BLOCK_HEADER, bytes, size);
    (void)ab_block_seal(block, &h, NULL, 0);
    int code = iterate(block, &h, &got);
    free(block);
    return code;
}

START_TEST(hostile_entries)
{
    ck_assert_int_eq(entries_are("\x00\xc4\x01x", 4, 1, 0), AB_ENOTFOUND);
    ck_assert_int_eq(entries_are("\x00\xc5\x00\x01x", 5, 1, 0),
                     AB_ENOTFOUND); /* not the shortest form: still good */
    ck_assert_int_eq(entries_are("\xcf\0\0\0\0\0\0\0\0\xc4\x00", 11, 1, 0), AB_ENOTFOUND);
    ck_assert_int_eq(entries_are("\x00\xc4\x02x", 4, 1, 0), AB_ECORRUPT); /* payload runs over the end */
    ck_assert_int_eq(entries_are("\x00\xc6\xff\xff\xff\xff", 6, 1, 0), AB_ECORRUPT);
    ck_assert_int_eq(entries_are("\x00\xc4\x00x", 4, 1, 0), AB_ECORRUPT); /* a byte left over */
    ck_assert_int_eq(entries_are("\x00\xc4\x00\x00\xc4\x00", 6, 1, 0), AB_ECORRUPT);
    ck_assert_int_eq(entries_are("\x00\xc4\x01x\x00\xc4", 6, 2, 0), AB_ECORRUPT); /* cut in a bin */
    ck_assert_int_eq(entries_are("\x00\xa1xx", 4, 1, 0), AB_ECORRUPT);            /* a string */
    ck_assert_int_eq(entries_are("\xff\xc4\x01x", 4, 1, 0), AB_ECORRUPT);         /* a negative delta */
    ck_assert_int_eq(entries_are("\xd0\x01\xc4\x00", 4, 1, 1), AB_ECORRUPT);      /* a signed one */
    ck_assert_int_eq(entries_are("\x91\xc4\x01x", 4, 1, 0), AB_ECORRUPT);         /* an array */
    ck_assert_int_eq(entries_are("\x05\xc4\x01x", 4, 1, 4), AB_ECORRUPT); /* hlc beyond the header's */
    ck_assert_int_eq(entries_are("\x05\xc4\x01x", 4, 1, 6), AB_ECORRUPT); /* hlc short of it */
    ck_assert_int_eq(
        entries_are("\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xc4\x00\x01\xc4\x00", 14, 2, UINT64_MAX),
        AB_ECORRUPT); /* wraps */
    for (size_t cut = 3; cut < 14; cut++) {
        char bytes[16] = "\xcf\0\0\0\0\0\0\0\0\xc6\0\0\0\0";
        ck_assert_int_eq(entries_are(bytes, cut, 1, 0), cut == 14 ? AB_ENOTFOUND : AB_ECORRUPT);
    }
}
END_TEST

START_TEST(streams_are_ordered)
{
    ck_assert_int_eq(ab_stream_compare((ab_stream){1, 1}, (ab_stream){1, 1}), 0);
    ck_assert_int_lt(ab_stream_compare((ab_stream){1, 2}, (ab_stream){2, 1}), 0);
    ck_assert_int_gt(ab_stream_compare((ab_stream){UINT32_MAX, 1}, (ab_stream){1, 1}), 0);
    ck_assert_int_lt(ab_stream_compare((ab_stream){1, 1}, (ab_stream){1, UINT32_MAX}), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("block");
    TCase *tcase = tcase_create("block");
    tcase_add_test(tcase, layout_is_as_documented);
    tcase_add_test(tcase, round_trip);
    tcase_add_test(tcase, info_carries_the_marks);
    tcase_add_loop_test(tcase, packing_at_the_boundaries, 0, 9);
    tcase_add_test(tcase, largest_block);
    tcase_add_test(tcase, hostile_headers);
    tcase_add_test(tcase, every_flip_is_seen);
    tcase_add_test(tcase, every_truncation_is_seen);
    tcase_add_test(tcase, unsorted_marks_are_refused);
    tcase_add_test(tcase, hostile_entries);
    tcase_add_test(tcase, streams_are_ordered);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
