/* SPDX-License-Identifier: Apache-2.0 */
/* The constants in docs/FORMATS.md against the headers that the code is compiled with. */
#include "engine/transport/frame.h"
#include "engine/transport/hello.h"
#include "replication/folds.h"
#include "replication/multimaster/message.h"
#include "tests/support/run.h"
#include "tools/anabranchd/pack.h"
#include "tools/anabranchd/store.h"
#include "wal/block.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *document;

static void load(void)
{
    FILE *file = fopen(FORMATS_MD, "r");
    ck_assert_ptr_nonnull(file);
    document = calloc(1, 1u << 18);
    ck_assert_ptr_nonnull(document);
    size_t size = fread(document, 1, (1u << 18) - 1, file);
    ck_assert_uint_gt(size, 1000);
    fclose(file);
}

static void unload(void)
{
    free(document);
}

/* It says this, below the heading. */
__attribute__((format(printf, 2, 3))) static void says(const char *heading, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *from = strstr(document, heading);
    ck_assert_msg(from != NULL, "docs/FORMATS.md has no %s", heading);
    const char *to = strstr(from + 3, "\n## ");
    const char *at = strstr(from, text);
    ck_assert_msg(at != NULL && (to == NULL || at < to), "docs/FORMATS.md does not say below %s: %s", heading,
                  text);
}

START_TEST(blocks)
{
#define FIELD(member)                                                                                        \
    {                                                                                                        \
        offsetof(ab_block_header, member), sizeof((ab_block_header){0}.member)                               \
    }
    static const struct {
        size_t offset;
        size_t size;
    } fields[] = {FIELD(magic),         FIELD(version),   FIELD(flags),     FIELD(reserved), FIELD(count),
                  FIELD(entries_bytes), FIELD(group),     FIELD(node),      FIELD(epoch),    FIELD(first),
                  FIELD(last),          FIELD(term),      FIELD(hlc_first), FIELD(hlc_last), FIELD(prev_hash),
                  FIELD(mark_count),    FIELD(reserved2), FIELD(checksum)};
#undef FIELD
    const char *block = "\n## Block\n";
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        says(block, "\n| %zu | %zu | ", fields[i].offset, fields[i].size);
    }
    uint32_t magic = AB_BLOCK_MAGIC;
    says(block, "magic \"%.4s\"", (const char *)&magic);
    says(block, "| version, %u |", AB_BLOCK_VERSION);
    says(block, "Header of %u bytes", AB_BLOCK_HEADER);
    says(block, "flags: %u an origin follows the marks", AB_BLOCK_ORIGIN);
    ck_assert_uint_eq(AB_BLOCK_FLAGS_KNOWN, 1);
    says(block, "Origin, %u bytes", AB_BLOCK_ORIGIN_BYTES);
    says(block, "marks, at most %u", AB_MARKS_MAX);
    ck_assert_uint_eq(AB_BLOCK_MAX, 17301504);
    says(block, "at most 17,301,504 bytes");
}
END_TEST

START_TEST(frames)
{
    static const struct {
        ab_frame_type type;
        const char *name;
    } types[] = {{AB_FRAME_HELLO, "HELLO"},    {AB_FRAME_READY, "READY"}, {AB_FRAME_MESSAGE, "MESSAGE"},
                 {AB_FRAME_BLOCK, "BLOCK"},    {AB_FRAME_PING, "PING"},   {AB_FRAME_PONG, "PONG"},
                 {AB_FRAME_GOODBYE, "GOODBYE"}};
    const char *wire = "\n## Wire\n";
    uint32_t magic = AB_FRAME_MAGIC;
    says(wire, "a header of %u bytes", AB_FRAME_HEADER);
    says(wire, "magic \"%.4s\"", (const char *)&magic);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        says(wire, "\n| %d | %s | ", (int)types[i].type, types[i].name);
    }
    says(wire, "below | %u KiB |", AB_FRAME_CONTROL_MAX >> 10);
    says(wire, "map, below | %u KiB |", AB_FRAME_HELLO_MAX >> 10);
    says(wire, "| `protocol` | uint, %u;", AB_PROTOCOL_VERSION);
    ck_assert_uint_eq(AB_FEATURES_KNOWN, 0); /* "none defined" */
}
END_TEST

START_TEST(messages)
{
    static const struct {
        ab_mm_kind kind;
        const char *name;
    } kinds[] = {{AB_MM_HAVE, "HAVE"},       {AB_MM_EXPECT, "EXPECT"},     {AB_MM_FETCH, "FETCH"},
                 {AB_MM_TRIMMED, "TRIMMED"}, {AB_MM_DIVERGED, "DIVERGED"}, {AB_MM_HISTORY, "HISTORY"},
                 {AB_MM_POINTS, "POINTS"},   {AB_MM_LACK, "LACK"}};
    const char *wire = "\n## Wire\n";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        says(wire, "\n| %d | %s | ", (int)kinds[i].kind, kinds[i].name);
    }
    says(wire, "flags u32: %u the message names every stream that the sender has, %u the sender waits",
         AB_MM_FULL, AB_MM_ASK);
    says(wire, "flags u32: %u ended", AB_MM_ENDED);
    says(wire, ", %u over (", AB_MM_OVER);
    says(wire, ", %u the sender knows that it is over", AB_MM_SEEN);
    says(wire, "receiver, %u the sender wants", AB_MM_TELL);
    says(wire, "flags u32: %u the sender wants to hear that |", AB_MM_TELL);
    says(wire, "streams: array of at most %u", AB_MARKS_MAX);
    says(wire, "points: array of 1 to %u", AB_MM_POINTS_MAX);
    says(wire, "ends of at most %u blocks", AB_MM_POINT_BLOCKS);
}
END_TEST

/* A HAVE of one stream and one origin, byte by byte as the document has it. */
START_TEST(bytes_of_a_have)
{
    static const uint8_t want[] = {0x84, 0, 1, 1, 3,    6,    0x91, 0x97, 2, 9, 5, 0,
                                   6,    1, 0, 7, 0x91, 0x96, 3,    8,    4, 0, 7, 8};
    uint8_t data[256];
    const ab_mm_have have = {.stream = {2, 9}, .durable = 5, .accepted = 6, .flags = AB_MM_ENDED};
    const ab_mm_folded folded = {.node = 3, .epoch = 8, .total = 4, .heard = 7, .flags = AB_MM_TELL};
    size_t size = ab_mm_encode_have_begin(AB_MM_FULL | AB_MM_ASK, 1, true, data);
    size += ab_mm_encode_have(&have, data + size);
    size += ab_mm_encode_folds_begin(1, data + size);
    size += ab_mm_encode_folded(&folded, data + size);
    ck_assert_uint_eq(size, sizeof want);
    ck_assert_mem_eq(data, want, size);
}
END_TEST

START_TEST(daemon)
{
    const char *ours = "\n## anabranchd\n";
    says(ours, "| version | one byte, %u |", AB_PACK_VERSION);
    says(ours, "| version | one byte, %u |", AB_PACK_DELETE);
    says(ours, "format (%u;", AB_STORE_FORMAT);
    says("\n## The log", "`core/" AB_FOLD_KEY "`");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("formats");
    TCase *tc = tcase_create("formats");
    tcase_add_checked_fixture(tc, load, unload);
    tcase_add_test(tc, blocks);
    tcase_add_test(tc, frames);
    tcase_add_test(tc, messages);
    tcase_add_test(tc, bytes_of_a_have);
    tcase_add_test(tc, daemon);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
