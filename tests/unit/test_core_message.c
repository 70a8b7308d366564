/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between multimaster cores: what was written is read, and nothing else. */
#include "replication/multimaster/message.h"
#include "tests/support/run.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static size_t encode_have(uint8_t *data, uint32_t flags, const ab_mm_have *haves, uint32_t count)
{
    size_t size = ab_mm_encode_have_begin(flags, count, false, data);
    for (uint32_t i = 0; i < count; i++) {
        size += ab_mm_encode_have(&haves[i], data + size);
    }
    return size;
}

static const ab_mm_have three[] = {
    {{1, 1}, 5, 77, 9, 0, 0},
    {{1, 7}, 0, 0, 0, AB_MM_ENDED, 9},
    {{UINT32_MAX, UINT32_MAX}, UINT64_MAX - 1, UINT64_MAX, UINT64_MAX - 1, 0, UINT32_MAX}};

START_TEST(have_survives)
{
    uint8_t data[1024];
    ab_mm_message message;
    ab_mm_have have;
    size_t offset = 0;
    size_t size = encode_have(data, AB_MM_FULL | AB_MM_ASK, three, 3);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size}, &message), AB_OK);
    ck_assert_int_eq(message.kind, AB_MM_HAVE);
    ck_assert_uint_eq(message.flags, AB_MM_FULL | AB_MM_ASK);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(ab_mm_next_have(&message, &offset, &have));
        ck_assert_uint_eq(have.stream.node, three[i].stream.node);
        ck_assert_uint_eq(have.stream.epoch, three[i].stream.epoch);
        ck_assert_uint_eq(have.durable, three[i].durable);
        ck_assert_uint_eq(have.hash, three[i].hash);
        ck_assert_uint_eq(have.accepted, three[i].accepted);
        ck_assert_uint_eq(have.flags, three[i].flags);
        ck_assert_uint_eq(have.rewound, three[i].rewound);
    }
    ck_assert(!ab_mm_next_have(&message, &offset, &have));
}
END_TEST

static size_t encode_folds(uint8_t *data, const ab_mm_folded *folds, uint32_t count)
{
    size_t size = ab_mm_encode_have_begin(AB_MM_FULL, 1, true, data);
    size += ab_mm_encode_have(&three[0], data + size);
    size += ab_mm_encode_folds_begin(count, data + size);
    for (uint32_t i = 0; i < count; i++) {
        size += ab_mm_encode_folded(&folds[i], data + size);
    }
    return size;
}

static const ab_mm_folded folds[] = {{1, 7, 5, 6, 4, AB_MM_TELL},
                                     {2, 0, 0, 0, 9, 0},
                                     {UINT32_MAX, UINT32_MAX - 1, UINT64_MAX, UINT64_MAX, UINT32_MAX, 0}};

START_TEST(folds_survive)
{
    uint8_t data[1024];
    ab_mm_message message;
    ab_mm_have have;
    ab_mm_folded folded;
    size_t offset = 0;
    size_t size = encode_folds(data, folds, 3);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size}, &message), AB_OK);
    ck_assert_uint_eq(message.have_count, 1);
    ck_assert(ab_mm_next_have(&message, &offset, &have));
    ck_assert_uint_eq(have.durable, 5);
    ck_assert_uint_eq(message.fold_count, 3);
    offset = 0;
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(ab_mm_next_folded(&message, &offset, &folded));
        ck_assert_uint_eq(folded.node, folds[i].node);
        ck_assert_uint_eq(folded.epoch, folds[i].epoch);
        ck_assert_uint_eq(folded.total, folds[i].total);
        ck_assert_uint_eq(folded.hash, folds[i].hash);
        ck_assert_uint_eq(folded.heard, folds[i].heard);
        ck_assert_uint_eq(folded.flags, folds[i].flags);
    }
    ck_assert(!ab_mm_next_folded(&message, &offset, &folded));
    for (size_t cut = 0; cut < size; cut++) {
        ck_assert_int_eq(ab_mm_decode((ab_bytes){data, cut}, &message), AB_EPROTO);
    }
}
END_TEST

START_TEST(folds_that_make_no_sense)
{
    static const ab_mm_folded wrong[][2] = {{{2, 1, 1, 1, 0, 0}, {1, 1, 1, 1, 0, 0}},
                                            {{2, 1, 1, 1, 0, 0}, {2, 2, 1, 1, 0, 0}},
                                            {{0, 1, 1, 1, 0, 0}, {1, 1, 1, 1, 0, 0}},
                                            {{1, 1, 1, 1, 0, 0}, {2, UINT32_MAX, 1, 1, 0, 0}}};
    uint8_t data[1024];
    ab_mm_message message;
    size_t size = encode_folds(data, wrong[_i], 2);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size}, &message), AB_EPROTO);
}
END_TEST

START_TEST(others_survive)
{
    const ab_mm_kind kinds[] = {AB_MM_EXPECT, AB_MM_FETCH, AB_MM_TRIMMED, AB_MM_DIVERGED, AB_MM_HISTORY};
    uint8_t data[256];
    ab_mm_message read;
    ab_mm_message written = {.kind = kinds[_i], .stream = {3, 4}, .first = 5, .last = 1000000, .hash = 42};
    size_t size = ab_mm_encode(&written, data);
    ck_assert_uint_le(size, AB_MM_MESSAGE_BYTES);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size}, &read), AB_OK);
    ck_assert_int_eq(read.kind, written.kind);
    ck_assert_uint_eq(read.stream.node, written.stream.node);
    ck_assert_uint_eq(read.stream.epoch, written.stream.epoch);
    ck_assert_uint_eq(read.first, written.first);
    ck_assert_uint_eq(read.last, written.last);
    ck_assert_uint_eq(read.hash, written.hash);
}
END_TEST

static size_t encode_points(uint8_t *data, ab_mm_message *written)
{
    *written = (ab_mm_message){.kind = AB_MM_POINTS, .stream = {3, 4}, .first = 5, .last = 6};
    for (uint32_t i = 0; i < AB_MM_POINTS_MAX; i++) {
        written->points[written->point_count++] =
            (ab_mm_point){UINT64_MAX - 1 - AB_MM_POINTS_MAX + i, UINT64_MAX};
    }
    return ab_mm_encode_points(written, data);
}

START_TEST(points_survive)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + AB_MM_POINTS_MAX * AB_MM_POINT_BYTES];
    ab_mm_message read;
    ab_mm_message written;
    size_t size = encode_points(data, &written);
    ck_assert_uint_le(size, sizeof data);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size}, &read), AB_OK);
    ck_assert_int_eq(read.kind, AB_MM_POINTS);
    ck_assert_uint_eq(read.first, 5);
    ck_assert_uint_eq(read.last, 6);
    ck_assert_uint_eq(read.point_count, AB_MM_POINTS_MAX);
    ck_assert_int_eq(memcmp(read.points, written.points, sizeof read.points), 0);
    for (size_t cut = 0; cut < size; cut++) {
        ck_assert_int_eq(ab_mm_decode((ab_bytes){data, cut}, &read), AB_EPROTO);
    }
    written.points[1].index = written.points[0].index; /* not beyond the one before */
    size = ab_mm_encode_points(&written, data);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size}, &read), AB_EPROTO);
    written.point_count = 0;
    size = ab_mm_encode_points(&written, data);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size}, &read), AB_EPROTO);
}
END_TEST

START_TEST(bounds_are_what_is_needed)
{
    uint8_t data[1024];
    const ab_mm_folded wide_fold = {UINT32_MAX, UINT32_MAX, UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX};
    const ab_mm_have big = {
        {UINT32_MAX, UINT32_MAX}, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX};
    ck_assert_uint_le(ab_mm_encode_have(&big, data), AB_MM_HAVE_BYTES);
    ck_assert_uint_le(ab_mm_encode_folded(&wide_fold, data), AB_MM_FOLDED_BYTES);
    ck_assert_uint_le(ab_mm_encode_have_begin(UINT32_MAX, UINT32_MAX, true, data) +
                          ab_mm_encode_folds_begin(UINT32_MAX, data),
                      AB_MM_MESSAGE_BYTES);
    const ab_mm_message wide = {.kind = AB_MM_FETCH,
                                .stream = {UINT32_MAX, UINT32_MAX},
                                .first = UINT64_MAX,
                                .last = UINT64_MAX,
                                .hash = UINT64_MAX};
    ck_assert_uint_le(ab_mm_encode(&wide, data), AB_MM_MESSAGE_BYTES);
}
END_TEST

START_TEST(every_cut_is_refused)
{
    uint8_t data[1024];
    ab_mm_message message;
    size_t size = encode_have(data, 0, three, 3);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *exact = malloc(cut > 0 ? cut : 1); /* so that a sanitizer sees a read beyond it */
        memcpy(exact, data, cut);
        ck_assert_int_eq(ab_mm_decode((ab_bytes){exact, cut}, &message), AB_EPROTO);
        free(exact);
    }
    data[size] = 0;
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size + 1}, &message), AB_EPROTO);
}
END_TEST

START_TEST(every_flip_is_harmless)
{
    uint8_t data[1024];
    size_t size = encode_have(data, 0, three, 3);
    for (size_t bit = 0; bit < size * 8; bit++) {
        ab_mm_message message;
        ab_mm_have have;
        size_t offset = 0;
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (ab_mm_decode((ab_bytes){data, size}, &message) == AB_OK) {
            uint32_t count = 0;
            while (ab_mm_next_have(&message, &offset, &have)) {
                ck_assert(have.stream.node != 0 && have.stream.epoch != 0 && have.accepted >= have.durable);
                count++;
            }
            ck_assert_uint_eq(count, message.have_count);
        }
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

START_TEST(nonsense_is_refused)
{
    static const struct {
        const char *what;
        size_t size;
        uint8_t bytes[32];
    } cases[] = {
        {"nothing", 0, {0}},
        {"no map", 1, {0x01}},
        {"empty map", 1, {0x80}},
        {"no kind", 3, {0x81, 0x01, 0x00}},
        {"kind twice", 5, {0x82, 0x00, 0x02, 0x00, 0x02}},
        {"kind 0", 3, {0x81, 0x00, 0x00}},
        {"have without streams", 3, {0x81, 0x00, 0x01}},
        {"array of four billion streams", 9, {0x82, 0x00, 0x01, 0x06, 0xdd, 0xff, 0xff, 0xff, 0xff}},
        {"map of four billion keys", 5, {0xdf, 0xff, 0xff, 0xff, 0xff}},
        {"node 0", 9, {0x83, 0x00, 0x02, 0x02, 0x92, 0x00, 0x01, 0x03, 0x05}},
        {"index 0", 9, {0x83, 0x00, 0x02, 0x02, 0x92, 0x01, 0x01, 0x03, 0x00}},
        {"fetch backwards", 11, {0x84, 0x00, 0x03, 0x02, 0x92, 0x01, 0x01, 0x03, 0x05, 0x04, 0x04}},
        {"nested too deep",
         19,
         {0x82, 0x00, 0x02, 0x14, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91,
          0x91, 0x91, 1}},
        {"bytes that are not there", 9, {0x82, 0x00, 0x02, 0x14, 0xc6, 0x7f, 0xff, 0xff, 0xff}},
    };
    ab_mm_message message;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int code = ab_mm_decode((ab_bytes){cases[i].bytes, cases[i].size}, &message);
        ck_assert_msg(code == AB_EPROTO, "%s: %d", cases[i].what, code);
    }
}
END_TEST

START_TEST(streams_out_of_order_are_refused)
{
    uint8_t data[1024];
    ab_mm_message message;
    const ab_mm_have twice[] = {{{1, 1}, 5, 0, 5, 0, 0}, {{1, 1}, 6, 0, 6, 0, 0}};
    const ab_mm_have less[] = {{{1, 1}, 5, 0, 4, 0, 0}};
    size_t size = encode_have(data, 0, twice, 2);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size}, &message), AB_EPROTO);
    size = encode_have(data, 0, less, 1);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){data, size}, &message), AB_EPROTO);
}
END_TEST

START_TEST(what_comes_later_is_skipped)
{
    /* kind EXPECT, stream, first, and keys 20 (a map with every sort of value) and 21 */
    static const uint8_t extended[] = {0x85, 0x00, 0x02, 0x02, 0x92, 0x01, 0x01, 0x03, 0x05, 0x14,
                                       0x83, 0x01, 0xcb, 0,    0,    0,    0,    0,    0,    0,
                                       0,    0x02, 0x93, 0xc0, 0xc3, 0xd9, 0x02, 'a',  'b',  0xa1,
                                       'x',  0xd4, 0x01, 0x02, 0x15, 0xc4, 0x01, 0xff};
    static const uint8_t unknown[] = {0x81, 0x00, 0x63};
    ab_mm_message message;
    ck_assert_int_eq(ab_mm_decode((ab_bytes){extended, sizeof extended}, &message), AB_OK);
    ck_assert_uint_eq(message.first, 5);
    ck_assert_int_eq(ab_mm_decode((ab_bytes){unknown, sizeof unknown}, &message), AB_EUNSUPPORTED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core_message");
    TCase *tcase = tcase_create("message");
    tcase_add_test(tcase, have_survives);
    tcase_add_test(tcase, folds_survive);
    tcase_add_loop_test(tcase, folds_that_make_no_sense, 0, 4);
    tcase_add_loop_test(tcase, others_survive, 0, 5);
    tcase_add_test(tcase, points_survive);
    tcase_add_test(tcase, bounds_are_what_is_needed);
    tcase_add_test(tcase, every_cut_is_refused);
    tcase_add_test(tcase, every_flip_is_harmless);
    tcase_add_test(tcase, nonsense_is_refused);
    tcase_add_test(tcase, streams_out_of_order_are_refused);
    tcase_add_test(tcase, what_comes_later_is_skipped);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
