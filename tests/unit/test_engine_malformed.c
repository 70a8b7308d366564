/* SPDX-License-Identifier: Apache-2.0 */
/* The engine and blocks whose checksum holds and whose entries are malformed, as a faulty node would write them: sealing
 * goes through this file (linked with --wrap). Nodes of one process on loopback. */
#include "engine/engine.h"
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 30000u

/* What is done to the next block of several entries before it is sealed. */
typedef enum harm { HARM_NONE, HARM_ENTRY, HARM_LENGTH, HARM_CLOCK } harm;

static test_cluster cluster;
static atomic_int planned;

size_t __real_ab_block_seal(uint8_t *block, ab_block_header *header, const ab_mark *marks, size_t mark_count);
size_t __wrap_ab_block_seal(uint8_t *block, ab_block_header *header, const ab_mark *marks, size_t mark_count);

/* Where the entry with this number begins. */
static uint8_t *entry_at(uint8_t *block, const ab_block_header *header, unsigned number)
{
    ab_block_iter iter;
    ab_entry entry;
    ab_block_iter_init(&iter, block, header);
    for (unsigned i = 0; i < number; i++) {
        ck_assert_int_eq(ab_block_iter_next(&iter, &entry), AB_OK);
    }
    return block + AB_BLOCK_HEADER + iter.offset;
}

size_t __wrap_ab_block_seal(uint8_t *block, ab_block_header *header, const ab_mark *marks, size_t mark_count)
{
    if (header->count >= 4 && header->count < 100) {
        switch (atomic_exchange(&planned, HARM_NONE)) {
        case HARM_ENTRY:
            *entry_at(block, header, 2) = 0xc1; /* no msgpack object begins so */
            break;
        case HARM_LENGTH:
            entry_at(block, header, header->count - 1)[2] = 200; /* longer than what there is */
            break;
        case HARM_CLOCK:
            header->hlc_last++;
            break;
        default:
            break;
        }
    }
    return __real_ab_block_seal(block, header, marks, mark_count);
}

static void setup(void)
{
    atomic_store(&planned, HARM_NONE);
    test_cluster_init(&cluster, 3);
    for (size_t i = 0; i < cluster.count; i++) {
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
}

static void teardown(void)
{
    test_cluster_free(&cluster);
}

static void expect_entries(size_t node, size_t count)
{
    test_sm *sm = &cluster.nodes[node].sm;
    ck_assert_msg(test_sm_wait(sm, count, WAIT_MS), "node %zu has %zu of %zu entries", node + 1,
                  test_sm_count(sm), count);
    ck_assert_int_eq(ab_read_wait(cluster.nodes[node].group, NULL), AB_OK);
    ck_assert_uint_eq(test_sm_count(sm), count);
    ck_assert_int_eq(sm->order_errors, 0);
}

/* Six entries in one block, harmed before it is sealed. */
static void write_harmed(harm what)
{
    const ab_bytes payloads[] = {{"h-0", 3}, {"h-1", 3}, {"h-2", 3}, {"h-3", 3}, {"h-4", 3}, {"h-5", 3}};
    ab_write_result result;
    atomic_store(&planned, what);
    ck_assert_int_eq(ab_write_wait(cluster.nodes[0].group, payloads, 6, NULL, &result), AB_OK);
    ck_assert_int_eq(atomic_load(&planned), HARM_NONE);
}

typedef struct found {
    size_t count;
    ab_quarantined last;
    size_t size;
    uint8_t first_byte;
} found;

static bool take(void *arg, const ab_quarantined *record)
{
    found *f = arg;
    f->count++;
    f->last = *record;
    f->size = record->entry.size;
    f->first_byte = record->entry.size > 0 ? *(const uint8_t *)record->entry.payload : 0;
    return true;
}

static uint64_t quarantined(size_t node)
{
    ab_group_status status;
    ab_group_get_status(cluster.nodes[node].group, &status);
    ck_assert_int_eq(status.apply_code, AB_OK);
    return status.quarantined;
}

static ab_stream stream_of(size_t node)
{
    ab_group_status status;
    ab_group_get_status(cluster.nodes[node].group, &status);
    return status.stream;
}

/* What came before it in the block is applied, the rest is kept, and everything after it goes on: on the node that wrote
 * it, on those that were sent it, and in the streams that depend on it. */
START_TEST(malformed_entries_hold_up_nothing)
{
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "a", 0, 3), AB_OK);
    ab_stream stream = stream_of(0);
    write_harmed(HARM_ENTRY);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "b", 0, 5), AB_OK);
    for (size_t i = 0; i < cluster.count; i++) {
        expect_entries(i, 3 + 2 + 5);
    }
    ck_assert_int_eq(test_write_range(cluster.nodes[1].group, "c", 0, 5), AB_OK);
    for (size_t i = 0; i < cluster.count; i++) {
        found f = {0};
        expect_entries(i, 3 + 2 + 5 + 5);
        ck_assert_uint_eq(quarantined(i), 4);
        ck_assert_int_eq(ab_quarantine_list(cluster.nodes[i].group, take, &f), AB_OK);
        ck_assert_uint_eq(f.count, 1);
        ck_assert_int_eq(f.last.code, AB_ECORRUPT);
        ck_assert_int_eq(ab_stream_compare(f.last.entry.stream, stream), 0);
        ck_assert_uint_eq(f.last.entry.index, 6);
        ck_assert_uint_eq(f.last.last, 9);
        ck_assert_uint_eq(f.first_byte, 0xc1);
        ck_assert_uint_eq(f.size, 4 * (3 + 2 + 1)); /* all that stands there: payload, bin, clock */
    }
}
END_TEST

/* The last entry of a block, and nothing behind it yet: the frontier passes it. */
START_TEST(also_the_last_entry_of_a_stream)
{
    write_harmed(HARM_LENGTH);
    for (size_t i = 0; i < cluster.count; i++) {
        expect_entries(i, 5);
        ck_assert_uint_eq(quarantined(i), 1);
    }
    ck_assert_int_eq(test_write_range(cluster.nodes[2].group, "c", 0, 1), AB_OK);
    expect_entries(1, 6);
}
END_TEST

/* All entries can be decoded, but the block says something else of itself: nothing is missing. */
START_TEST(a_wrong_clock_of_the_block_is_no_loss)
{
    write_harmed(HARM_CLOCK);
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "b", 0, 2), AB_OK);
    for (size_t i = 0; i < cluster.count; i++) {
        expect_entries(i, 8);
        ck_assert_uint_eq(quarantined(i), 0);
    }
}
END_TEST

/* It is kept over a restart, once; it cannot be tried again, but removed. */
START_TEST(what_cannot_be_decoded_can_only_be_dropped)
{
    found f = {0};
    ab_stream stream = stream_of(0);
    write_harmed(HARM_ENTRY);
    expect_entries(1, 2);
    ck_assert_int_eq(test_cluster_close(&cluster, 1), AB_OK);
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK);
    ab_group *group = cluster.nodes[1].group;
    expect_entries(1, 2);
    ck_assert_uint_eq(quarantined(1), 4);
    ck_assert_int_eq(ab_quarantine_get(group, stream, 4, take, &f), AB_ENOTFOUND);
    ck_assert_int_eq(ab_quarantine_get(group, stream, 3, take, &f), AB_OK);
    ck_assert_uint_eq(f.last.last, 6);
    ck_assert_int_eq(ab_quarantine_retry(group, stream, 3, WAIT_MS), AB_ECORRUPT);
    ck_assert_uint_eq(quarantined(1), 4);
    ck_assert_int_eq(ab_quarantine_drop(group, stream, 3, WAIT_MS), AB_OK);
    ck_assert_uint_eq(quarantined(1), 0);
    ck_assert_int_eq(ab_quarantine_get(group, stream, 3, take, &f), AB_ENOTFOUND);
    expect_entries(2, 2);
    ck_assert_uint_eq(quarantined(2), 4); /* the others decide for themselves */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_malformed");
    TCase *tc = tcase_create("blocks");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, malformed_entries_hold_up_nothing);
    tcase_add_test(tc, also_the_last_entry_of_a_stream);
    tcase_add_test(tc, a_wrong_clock_of_the_block_is_no_loss);
    tcase_add_test(tc, what_cannot_be_decoded_can_only_be_dropped);
    tcase_set_timeout(tc, 90);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
