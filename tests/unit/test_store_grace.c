/* SPDX-License-Identifier: Apache-2.0 */
/* How long the point store keeps tombstones: never longer than the grace after every member was heard, never so short that
 * a write which one of them covers shows; equal on all replicas. One thread. */
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include "tests/unit/store_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEMBERS = 3, EACH = 24, EVENTS = MEMBERS * EACH, NAMES = 3, TIMES = 6, GRACE_MS = 15 };

static const uint32_t members[MEMBERS] = {1, 2, 3};
static const char *const names[NAMES] = {"a", "ab", "b"};

static uint64_t hlc_at(uint64_t ms)
{
    return ms << 16;
}

static ab_store *open_with_grace(const char *name)
{
    ab_store *store = open_store(name);
    ck_assert_int_eq(ab_store_set_grace(store, members, MEMBERS, GRACE_MS), AB_OK);
    return store;
}

/* An entry as the model knows it. */
typedef struct event {
    written w;
    bool erases;
    int name; /* -1: any */
    int first;
    int last;
    int value;
} event;

static unsigned draw(unsigned *seed, unsigned below)
{
    *seed = *seed * 1103515245 + 12345;
    return (*seed >> 16) % below;
}

static void make_event(event *e, unsigned *seed, int i, uint64_t ms)
{
    uint32_t node = (uint32_t)(i / EACH) + 1;
    uint64_t index = (uint64_t)(i % EACH) + 1;
    *e = (event){.erases = draw(seed, 4) == 0, .name = (int)draw(seed, NAMES), .value = i};
    e->first = e->last = (int)draw(seed, TIMES);
    if (!e->erases) {
        char text[64];
        snprintf(text, sizeof text, "%s f=%d %d\n", names[e->name], e->value, e->first);
        make_entry(&e->w, node, index, hlc_at(ms), text);
        return;
    }
    ab_selection selection;
    ab_selection_init(&selection);
    e->name = draw(seed, 4) == 0 ? -1 : e->name;
    e->last = e->first + (int)draw(seed, 3);
    selection.measurement = e->name >= 0 ? (ab_bytes){names[e->name], strlen(names[e->name])} : (ab_bytes){0};
    selection.start = e->first;
    selection.stop = e->last;
    make_delete(&e->w, node, index, hlc_at(ms), &selection);
}

/* Each member's clock only goes forward; they are not far from one another, but not in step either. */
static void make_events(event *events, unsigned *seed)
{
    for (int m = 0; m < MEMBERS; m++) {
        uint64_t ms = 100 + draw(seed, 10);
        for (int i = 0; i < EACH; i++) {
            ms += 1 + draw(seed, 5);
            make_event(&events[m * EACH + i], seed, m * EACH + i, ms);
        }
    }
}

static bool is_later(const event *a, const event *b)
{
    const ab_entry *x = &a->w.entry;
    const ab_entry *y = &b->w.entry;
    return x->hlc > y->hlc || (x->hlc == y->hlc && x->stream.node > y->stream.node);
}

static bool covers(const event *wide, const event *narrow)
{
    return wide->erases && is_later(wide, narrow) && (wide->name < 0 || wide->name == narrow->name) &&
           wide->first <= narrow->first && wide->last >= narrow->last;
}

static bool covered(const event *events, const bool *applied, const event *e)
{
    for (int i = 0; i < EVENTS; i++) {
        if (applied[i] && covers(&events[i], e)) {
            return true;
        }
    }
    return false;
}

/* The points that what is applied leaves, worked out without regard to any order. */
static void expect_points(const event *events, const bool *applied, char *out, size_t room)
{
    size_t n = 0;
    out[0] = '\0';
    for (int key = 0; key < NAMES * TIMES; key++) {
        const event *best = NULL;
        for (int i = 0; i < EVENTS; i++) {
            const event *e = &events[i];
            if (applied[i] && !e->erases && e->name == key / TIMES && e->first == key % TIMES &&
                (best == NULL || is_later(e, best))) {
                best = e;
            }
        }
        if (best != NULL && !covered(events, applied, best)) {
            n += (size_t)snprintf(out + n, room - n, "%s f=%d %d\n", names[key / TIMES], best->value,
                                  key % TIMES);
        }
    }
}

/* Deletes that no later one covers, but for those that are older than all were heard since the grace. */
static uint64_t expect_tombstones(const event *events, const bool *applied)
{
    uint64_t horizon = UINT64_MAX;
    uint64_t count = 0;
    for (int m = 0; m < MEMBERS; m++) {
        uint64_t heard = 0;
        for (int i = m * EACH; i < (m + 1) * EACH && applied[i]; i++) {
            heard = events[i].w.entry.hlc;
        }
        uint64_t least = heard > hlc_at(GRACE_MS) ? heard - hlc_at(GRACE_MS) : 0;
        horizon = least < horizon ? least : horizon;
    }
    for (int i = 0; i < EVENTS; i++) {
        const event *e = &events[i];
        count += applied[i] && e->erases && e->w.entry.hlc >= horizon && !covered(events, applied, e) ? 1 : 0;
    }
    return count;
}

static void check_store(ab_store *store, const event *events, const bool *applied)
{
    static char expected[NAMES * TIMES * 32];
    expect_points(events, applied, expected, sizeof expected);
    check_export(store, expected);
    ck_assert_uint_eq(check_summary(store).tombstones, expect_tombstones(events, applied));
}

/* The next member of an order: at random, or one after the other, up or down. */
static int next_member(unsigned *seed, int order, const int *done)
{
    int m = order == 0 ? (int)draw(seed, MEMBERS) : order == 1 ? 0 : MEMBERS - 1;
    while (done[m] == EACH) {
        m = order == 2 ? m - 1 : (m + 1) % MEMBERS;
    }
    return m;
}

static ab_store_summary run_order(const event *events, unsigned *seed, const char *name, int order)
{
    int done[MEMBERS] = {0};
    bool applied[EVENTS] = {false};
    ab_store *store = open_with_grace(name);
    for (int n = 0; n < EVENTS; n++) {
        ab_mark marks[MEMBERS];
        size_t mark_count = 0;
        int m = next_member(seed, order, done);
        int i = m * EACH + done[m]++;
        applied[i] = true;
        for (int k = 0; k < MEMBERS; k++) {
            if (done[k] > 0) {
                marks[mark_count++] = (ab_mark){{members[k], 1}, (uint64_t)done[k]};
            }
        }
        ck_assert_int_eq(apply(store, &events[i].w.entry, 1, marks, mark_count), AB_OK);
        if (draw(seed, 6) == 0) {
            check_store(store, events, applied);
        }
        if (draw(seed, 12) == 0) {
            ck_assert_int_eq(ab_store_flush(store), AB_OK);
            ab_store_free(store);
            store = open_with_grace(name);
        }
    }
    check_store(store, events, applied);
    ab_store_summary summary = check_summary(store);
    ab_store_free(store);
    return summary;
}

/* Streams that meet in every way, each in its own order, cut into flushes and runs at random places: after each flush points
 * and tombstones are those that the applied entries alone decide, so replicas are equal, digests too. */
START_TEST(equal_in_any_order)
{
    int rounds = getenv("AB_LONG") != NULL ? 1000 : 25;
    uint64_t kept = 0;
    for (int round = 0; round < rounds; round++) {
        static event events[EVENTS];
        unsigned seed = 5000 + (unsigned)round;
        make_events(events, &seed);
        ab_store_summary first = {0};
        for (int order = 0; order < 3; order++) {
            char name[32];
            snprintf(name, sizeof name, "%d-%d", round, order);
            ab_store_summary summary = run_order(events, &seed, name, order);
            first = order == 0 ? summary : first;
            ck_assert_msg(memcmp(&first, &summary, sizeof first) == 0, "round %d, order %d", round, order);
        }
        kept += first.tombstones;
        for (int i = 0; i < EVENTS; i++) {
            free_entry(&events[i].w);
        }
    }
    ck_assert_uint_gt(kept, 0);
}
END_TEST

/* --- who must be heard --- */

static void write_as(ab_store *store, ab_stream stream, uint64_t index, uint64_t ms, const char *text)
{
    written w;
    make_entry(&w, stream.node, index, hlc_at(ms), text);
    w.entry.stream = stream;
    ab_mark mark = {stream, index};
    ck_assert_int_eq(apply(store, &w.entry, 1, &mark, 1), AB_OK);
    free_entry(&w);
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
}

static void erase_as(ab_store *store, uint32_t node, uint64_t index, uint64_t ms, const char *measurement)
{
    written w;
    ab_selection selection;
    ab_selection_init(&selection);
    selection.measurement = (ab_bytes){measurement, strlen(measurement)};
    make_delete(&w, node, index, hlc_at(ms), &selection);
    ab_mark mark = {w.entry.stream, index};
    ck_assert_int_eq(apply(store, &w.entry, 1, &mark, 1), AB_OK);
    free_entry(&w);
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
}

static uint64_t kept_in(ab_store *store)
{
    return check_summary(store).tombstones;
}

#define STREAM(node, epoch)                                                                                  \
    (ab_stream)                                                                                              \
    {                                                                                                        \
        (node), (epoch)                                                                                      \
    }

/* One silent member keeps all; entries without points are a sign of life, too; what was heard outlives a restart. */
START_TEST(all_must_be_heard)
{
    ab_store *store = open_with_grace("a");
    erase_as(store, 1, 1, 100, "a");
    erase_as(store, 1, 2, 105, "b");
    write_as(store, STREAM(1, 1), 3, 1000, "c f=1 1\n");
    write_as(store, STREAM(2, 1), 1, 1000, "c f=1 1\n");
    ck_assert_uint_eq(kept_in(store), 2);
    ab_store_free(store);
    store = open_with_grace("a");
    write_as(store, STREAM(3, 1), 1, 100 + GRACE_MS, "a f=1 1\n");
    ck_assert_uint_eq(kept_in(store), 2);
    ab_entry sign = {STREAM(3, 1), 2, hlc_at(101 + GRACE_MS), 0, "\x01", 1};
    ab_mark mark = {STREAM(3, 1), 2};
    ck_assert_int_eq(apply(store, &sign, 1, &mark, 1), AB_OK);
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ck_assert_uint_eq(kept_in(store), 1);
    check_export(store, "a f=1 1\nc f=1 1\n");
    write_as(store, STREAM(3, 1), 3, 1000, "c f=1 1\n");
    ck_assert_uint_eq(kept_in(store), 0);
    ab_store_free(store);
}
END_TEST

/* A clock that was far ahead and came back with a new stream: the old one says nothing of what may still come. */
START_TEST(newest_stream_counts)
{
    ab_store *store = open_with_grace("a");
    write_as(store, STREAM(3, 1), 1, 1000000, "c f=1 1\n");
    write_as(store, STREAM(3, 2), 1, 90, "c f=2 2\n");
    erase_as(store, 1, 1, 100, "a");
    write_as(store, STREAM(1, 1), 2, 1000, "c f=1 1\n");
    write_as(store, STREAM(2, 1), 1, 1000, "c f=1 1\n");
    ck_assert_uint_eq(kept_in(store), 1);
    write_as(store, STREAM(3, 1), 2, 1000001, "c f=1 1\n"); /* a rest of the old one */
    ck_assert_uint_eq(kept_in(store), 1);
    write_as(store, STREAM(3, 2), 2, 95, "a f=1 1\n");
    check_export(store, "c f=1 1\nc f=2 2\n");
    write_as(store, STREAM(3, 2), 3, 1000, "c f=3 3\n");
    ck_assert_uint_eq(kept_in(store), 0);
    ab_store_free(store);
}
END_TEST

/* Without members, and for a store of a format that did not know them, everything is kept as ever. */
START_TEST(kept_for_ever)
{
    ab_store *store = open_store("a");
    erase_as(store, 1, 1, 100, "a");
    write_as(store, STREAM(1, 1), 2, 100000, "c f=1 1\n");
    ck_assert_uint_eq(kept_in(store), 1);
    ck_assert(!ab_store_wants_sign(store, 1, 1000000));
    MDB_txn *txn = NULL;
    MDB_val key = {5, (void *)(uintptr_t) "heard"};
    MDB_val head = {4, (void *)(uintptr_t) "head"};
    MDB_val data;
    ck_assert_int_eq(mdb_txn_begin(store->env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_del(txn, store->meta_dbi, &key, NULL), 0);
    ck_assert_int_eq(mdb_get(txn, store->meta_dbi, &head, &data), 0);
    uint8_t bytes[16];
    ck_assert_uint_eq(data.mv_size, sizeof bytes);
    memcpy(bytes, data.mv_data, sizeof bytes);
    bytes[0] = 2;
    data = (MDB_val){sizeof bytes, bytes};
    ck_assert_int_eq(mdb_put(txn, store->meta_dbi, &head, &data, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    ab_store_free(store);
    store = open_store("a"); /* as format 2 left it */
    const uint32_t alone = 1;
    ck_assert_int_eq(ab_store_set_grace(store, &alone, 1, GRACE_MS), AB_OK);
    ck_assert_uint_eq(kept_in(store), 1);
    write_as(store, STREAM(1, 1), 3, 100001, "c f=1 1\n");
    ck_assert_uint_eq(kept_in(store), 0);
    ab_store_free(store);
}
END_TEST

/* A node is asked for a sign when that would let something go, and no more once it gave it. */
START_TEST(asks_for_signs)
{
    ab_store *store = open_with_grace("a");
    ck_assert(!ab_store_wants_sign(store, 3, 1000));
    erase_as(store, 1, 1, 100, "a");
    ck_assert(!ab_store_wants_sign(store, 3, 100 + GRACE_MS));
    ck_assert(ab_store_wants_sign(store, 3, 200));
    ck_assert(ab_store_wants_sign(store, 1, 200));
    write_as(store, STREAM(3, 1), 1, 200, "c f=1 1\n");
    ck_assert(!ab_store_wants_sign(store, 3, 200));
    ck_assert(ab_store_wants_sign(store, 1, 200));
    write_as(store, STREAM(1, 1), 2, 200, "c f=1 1\n");
    write_as(store, STREAM(2, 1), 1, 200, "c f=1 1\n");
    ck_assert_uint_eq(kept_in(store), 0);
    ck_assert(!ab_store_wants_sign(store, 1, 1000));
    ab_store_free(store);
}
END_TEST

/* --- memory --- */

/* No ck_ calls: they allocate. */
static int scenario(const char *name, const event *events)
{
    ab_store *store = NULL;
    int code = ab_store_open(dir_named(name), GROUP, &store, NULL);
    code = code == AB_OK ? ab_store_set_grace(store, members, MEMBERS, GRACE_MS) : code;
    for (int i = 0; i < EVENTS && code == AB_OK; i++) {
        const ab_entry *entry = &events[i % MEMBERS * EACH + i / MEMBERS].w.entry;
        ab_mark mark = {entry->stream, entry->index};
        code = apply(store, entry, 1, &mark, 1);
        code = code == AB_OK && i % 10 == 9 ? ab_store_flush(store) : code;
    }
    ab_store_summary summary = {0};
    code = code == AB_OK ? ab_store_scan(store, &summary) : code;
    ab_store_free(store);
    return code;
}

START_TEST(failing_allocations)
{
    static event events[EVENTS];
    unsigned seed = 4711;
    unsigned long n = 1;
    make_events(events, &seed);
    for (;; n++) {
        char name[32];
        snprintf(name, sizeof name, "n%lu", n);
        alloc_fail_at(n);
        int code = scenario(name, events);
        bool happened = alloc_fail_happened();
        alloc_fail_at(0);
        if (!happened) {
            ck_assert_int_eq(code, AB_OK);
            break;
        }
        ck_assert_msg(code == AB_ENOMEM, "allocation %lu: %s", n, ab_error_name(code));
    }
    ck_assert_uint_gt(n, 30);
    for (int i = 0; i < EVENTS; i++) {
        free_entry(&events[i].w);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_grace");
    TCase *c = tcase_create("store_grace");
    tcase_add_checked_fixture(c, store_setup, store_teardown);
    tcase_add_test(c, equal_in_any_order);
    tcase_add_test(c, all_must_be_heard);
    tcase_add_test(c, newest_stream_counts);
    tcase_add_test(c, kept_for_ever);
    tcase_add_test(c, asks_for_signs);
    tcase_add_test(c, failing_allocations);
    tcase_set_timeout(c, 170);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_run(suite());
}
