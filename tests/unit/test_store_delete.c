/* SPDX-License-Identifier: Apache-2.0 */
/* Deletes in the point store: what they take away and what not, in whatever order entries come; tombstones; what a kill
 * or a failed allocation leaves; selections in exports. One thread. */
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include "tests/unit/store_fixture.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static ab_bytes bytes_of(const char *text)
{
    return (ab_bytes){text, strlen(text)};
}

/* `tags` sorted, ended by NULL; may be NULL. */
static ab_selection selecting(const char *measurement, const char *const *tags, int64_t start, int64_t stop)
{
    ab_selection selection;
    ab_selection_init(&selection);
    selection.start = start;
    selection.stop = stop;
    selection.measurement = bytes_of(measurement);
    for (; tags != NULL && *tags != NULL; tags++) {
        selection.tags[selection.tag_count++] = bytes_of(*tags);
    }
    return selection;
}

static void apply_one(ab_store *store, const ab_entry *entry)
{
    ab_mark mark = {entry->stream, entry->index};
    ck_assert_int_eq(apply(store, entry, 1, &mark, 1), AB_OK);
}

static void write_text(ab_store *store, uint64_t index, uint64_t hlc, const char *text)
{
    written w;
    make_entry(&w, 1, index, hlc, text);
    apply_one(store, &w.entry);
    free_entry(&w);
}

static void erase(ab_store *store, uint64_t index, uint64_t hlc, ab_selection selection)
{
    written w;
    make_delete(&w, 1, index, hlc, &selection);
    apply_one(store, &w.entry);
    free_entry(&w);
}

#define POINTS                                                                                               \
    "a f=1 1\na,t=1 f=1 1\na,t=1 f=1 2\na,t=1 f=1 3\na,t=1,u=2 f=1,g=2 2\na,t=11 f=1 2\na\\,t=1 f=1 2\nab "  \
    "f=1 "                                                                                                   \
    "2\nb,t=1 f=1 2\n"

static const struct {
    const char *measurement;
    const char *tags[4];
    int64_t start;
    int64_t stop;
    const char *selected;
    const char *others;
} selections[] = {
    {"",
     {NULL},
     INT64_MIN,
     INT64_MAX,
     "a f=1 1\na,t=1 f=1 1\na,t=1 f=1 2\na,t=1 f=1 3\na,t=1,u=2 f=1 2\na,t=1,u=2 g=2 2\na,t=11 f=1 "
     "2\na\\,t=1 f=1 "
     "2\nab f=1 2\nb,t=1 f=1 2\n",
     ""},
    {"a",
     {NULL},
     INT64_MIN,
     INT64_MAX,
     "a f=1 1\na,t=1 f=1 1\na,t=1 f=1 2\na,t=1 f=1 3\na,t=1,u=2 f=1 2\na,t=1,u=2 g=2 2\na,t=11 f=1 2\n",
     "a\\,t=1 f=1 2\nab f=1 2\nb,t=1 f=1 2\n"},
    {"a",
     {"t=1"},
     2,
     2,
     "a,t=1 f=1 2\na,t=1,u=2 f=1 2\na,t=1,u=2 g=2 2\n",
     "a f=1 1\na,t=1 f=1 1\na,t=1 f=1 3\na,t=11 f=1 2\na\\,t=1 f=1 2\nab f=1 2\nb,t=1 f=1 2\n"},
    {"",
     {"t=1"},
     2,
     3,
     "a,t=1 f=1 2\na,t=1 f=1 3\na,t=1,u=2 f=1 2\na,t=1,u=2 g=2 2\nb,t=1 f=1 2\n",
     "a f=1 1\na,t=1 f=1 1\na,t=11 f=1 2\na\\,t=1 f=1 2\nab f=1 2\n"},
    {"a",
     {"t=1", "u=2"},
     INT64_MIN,
     INT64_MAX,
     "a,t=1,u=2 f=1 2\na,t=1,u=2 g=2 2\n",
     "a f=1 1\na,t=1 f=1 1\na,t=1 f=1 2\na,t=1 f=1 3\na,t=11 f=1 2\na\\,t=1 f=1 2\nab f=1 2\nb,t=1 f=1 2\n"},
    {"a\\,t=1",
     {NULL},
     INT64_MIN,
     INT64_MAX,
     "a\\,t=1 f=1 2\n",
     "a f=1 1\na,t=1 f=1 1\na,t=1 f=1 2\na,t=1 f=1 3\na,t=1,u=2 f=1 2\na,t=1,u=2 g=2 2\na,t=11 f=1 2\nab f=1 "
     "2\nb,t=1 f=1 2\n"},
    {"aa",
     {NULL},
     INT64_MIN,
     INT64_MAX,
     "",
     "a f=1 1\na,t=1 f=1 1\na,t=1 f=1 2\na,t=1 f=1 3\na,t=1,u=2 f=1 2\na,t=1,u=2 g=2 2\na,t=11 f=1 "
     "2\na\\,t=1 f=1 "
     "2\nab f=1 2\nb,t=1 f=1 2\n"},
    {"",
     {NULL},
     3,
     2,
     "",
     "a f=1 1\na,t=1 f=1 1\na,t=1 f=1 2\na,t=1 f=1 3\na,t=1,u=2 f=1 2\na,t=1,u=2 g=2 2\na,t=11 f=1 "
     "2\na\\,t=1 f=1 "
     "2\nab f=1 2\nb,t=1 f=1 2\n"},
};

/* An export gives what is selected, a delete takes away just that. */
START_TEST(selects)
{
    ab_selection selection =
        selecting(selections[_i].measurement, selections[_i].tags, selections[_i].start, selections[_i].stop);
    ab_store *store = open_store("a");
    write_text(store, 1, 10, POINTS);
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    char *text = export_selected(store, &selection);
    ck_assert_str_eq(text, selections[_i].selected);
    free(text);
    erase(store, 2, 20, selection);
    check_export(store, selections[_i].others);
    ck_assert_uint_eq(check_summary(store).tombstones, 1);
    write_text(store, 3, 15, POINTS); /* late: covered */
    check_export(store, selections[_i].others);
    check_summary(store);
    ab_store_free(store);
    store = open_store("a"); /* tombstones are read again */
    write_text(store, 4, 16, POINTS);
    check_export(store, selections[_i].others);
    write_text(store, 5, 30, POINTS); /* after the delete: stays */
    check_export(store, selections[0].selected);
    ab_store_summary summary = check_summary(store);
    ck_assert_uint_eq(summary.points, 10);
    ck_assert_uint_eq(summary.columns, 8);
    ab_store_free(store);
}
END_TEST

/* A tombstone goes where a later one selects all it does, and only there. */
START_TEST(tombstones_are_few)
{
    static const char *const one[] = {"t=1", NULL};
    static const char *const two[] = {"t=1", "u=1", NULL};
    ab_store *store = open_store("a");
    write_text(store, 1, 1, POINTS);
    for (uint64_t i = 2; i < 300; i++) {
        erase(store, i, i, selecting("a", one, 0, 2));
    }
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ck_assert_uint_eq(check_summary(store).tombstones, 1);
    erase(store, 300, 300, selecting("a", two, 0, 2)); /* less, later */
    erase(store, 301, 301, selecting("a", one, 1, 3)); /* neither covers the other */
    erase(store, 302, 302, selecting("b", one, 0, 2));
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ck_assert_uint_eq(check_summary(store).tombstones, 4);
    erase(store, 303, 10, selecting("a", one, 0, 2)); /* came late */
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ck_assert_uint_eq(check_summary(store).tombstones, 4);
    erase(store, 304, 304, selecting("a", NULL, 0, 3));
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ck_assert_uint_eq(check_summary(store).tombstones, 2);
    erase(store, 305, 305, selecting("", NULL, INT64_MIN, INT64_MAX));
    check_export(store, "");
    ck_assert_uint_eq(check_summary(store).tombstones, 1);
    ab_store_summary before = check_summary(store);
    ck_assert_uint_eq(before.columns, 0);
    erase(store, 305, 305, selecting("", NULL, INT64_MIN, INT64_MAX)); /* the same entry again */
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ab_store_summary after = check_summary(store);
    ck_assert_mem_eq(&before, &after, sizeof before);
    ab_store_free(store);
}
END_TEST

/* --- any order --- */

enum { ENTRIES = 40, NAMES = 3, TAGS = 3, FIELDS = 2, TIMES = 4, KEYS = NAMES * TAGS * FIELDS * TIMES };

static const char *const names[NAMES] = {"a", "ab", "b"};
static const char *const tags[TAGS] = {"", ",t=1", ",t=1,u=1"};

/* An entry as the model knows it. */
typedef struct event {
    written w;
    uint64_t hlc;
    uint32_t node;
    bool erases;
    int name; /* -1: any */
    int tag;  /* of a delete: how many tags are asked for */
    int field;
    int first; /* of a write: the time */
    int last;
    int value;
} event;

static unsigned draw(unsigned *seed, unsigned below)
{
    *seed = *seed * 1103515245 + 12345;
    return (*seed >> 16) % below;
}

static void make_event(event *e, unsigned *seed, int i)
{
    static const char *const asked[] = {"t=1", "u=1"};
    *e = (event){.hlc = 100 + draw(seed, 20), .node = (uint32_t)i + 1, .erases = draw(seed, 4) == 0};
    e->name = (int)draw(seed, NAMES);
    e->tag = (int)draw(seed, TAGS);
    e->field = (int)draw(seed, FIELDS);
    e->first = e->last = (int)draw(seed, TIMES);
    e->value = i;
    if (!e->erases) {
        char text[64];
        snprintf(text, sizeof text, "%s%s %c=%d %d\n", names[e->name], tags[e->tag], 'f' + e->field, e->value,
                 e->first);
        make_entry(&e->w, e->node, 1, e->hlc, text);
        return;
    }
    e->name = draw(seed, 3) == 0 ? -1 : e->name;
    e->last = e->first + (int)draw(seed, TIMES);
    ab_selection selection = selecting(e->name >= 0 ? names[e->name] : "", NULL, e->first, e->last);
    for (int k = 0; k < e->tag; k++) {
        selection.tags[selection.tag_count++] = bytes_of(asked[k]);
    }
    make_delete(&e->w, e->node, 1, e->hlc, &selection);
}

static bool is_later(const event *a, const event *b)
{
    return a->hlc > b->hlc || (a->hlc == b->hlc && a->node > b->node);
}

static bool erased(const event *events, const event *write)
{
    for (int i = 0; i < ENTRIES; i++) {
        const event *e = &events[i];
        if (e->erases && is_later(e, write) && (e->name < 0 || e->name == write->name) &&
            write->tag >= e->tag && write->first >= e->first && write->first <= e->last) {
            return true;
        }
    }
    return false;
}

/* What must be there, worked out without regard to any order. */
static void expect(const event *events, char *out, size_t room)
{
    size_t n = 0;
    out[0] = '\0';
    /* In the order of an export: ' ' comes before ',', and that before letters. */
    for (int key = 0; key < KEYS; key++) {
        int name = key / (TAGS * FIELDS * TIMES);
        int tag = key / (FIELDS * TIMES) % TAGS;
        int field = key / TIMES % FIELDS;
        int time = key % TIMES;
        const event *best = NULL;
        for (int i = 0; i < ENTRIES; i++) {
            const event *e = &events[i];
            if (!e->erases && e->name == name && e->tag == tag && e->field == field && e->first == time &&
                (best == NULL || is_later(e, best))) {
                best = e;
            }
        }
        if (best != NULL && !erased(events, best)) {
            n += (size_t)snprintf(out + n, room - n, "%s%s %c=%d %d\n", names[name], tags[tag], 'f' + field,
                                  best->value, time);
        }
    }
}

static ab_store_summary run_order(const event *events, unsigned *seed, const char *name, const char *expected)
{
    int left[ENTRIES];
    ab_mark marks[ENTRIES];
    size_t mark_count = 0;
    ab_store *store = open_store(name);
    for (int i = 0; i < ENTRIES; i++) {
        left[i] = i;
    }
    for (int i = 0; i < ENTRIES; i++) {
        unsigned pick = draw(seed, (unsigned)(ENTRIES - i));
        const ab_entry *entry = &events[left[pick]].w.entry;
        left[pick] = left[ENTRIES - 1 - i];
        marks[mark_count++] = (ab_mark){entry->stream, 1};
        ck_assert_int_eq(apply(store, entry, 1, marks, mark_count), AB_OK);
        if (draw(seed, 5) == 0) {
            ck_assert_int_eq(ab_store_flush(store), AB_OK);
            check_summary(store);
            if (draw(seed, 3) == 0) {
                ab_store_free(store);
                store = open_store(name);
            }
        }
    }
    check_export(store, expected);
    ab_store_summary summary = check_summary(store);
    ab_store_free(store);
    return summary;
}

/* Writes and deletes that meet in every way, in random orders, cut into flushes and runs at random places: the content
 * is the one that the stamps alone decide, and so is the digest. */
START_TEST(converges_in_any_order)
{
    int rounds = getenv("AB_LONG") != NULL ? 2000 : 60;
    for (int round = 0; round < rounds; round++) {
        static event events[ENTRIES];
        static char expected[KEYS * 32];
        unsigned seed = 1000 + (unsigned)round;
        for (int i = 0; i < ENTRIES; i++) {
            make_event(&events[i], &seed, i);
        }
        expect(events, expected, sizeof expected);
        ab_store_summary first = {0};
        for (int order = 0; order < 3; order++) {
            char name[32];
            snprintf(name, sizeof name, "%d-%d", round, order);
            ab_store_summary summary = run_order(events, &seed, name, expected);
            first = order == 0 ? summary : first;
            ck_assert_msg(memcmp(&first, &summary, sizeof first) == 0, "round %d, order %d", round, order);
        }
        for (int i = 0; i < ENTRIES; i++) {
            free_entry(&events[i].w);
        }
    }
}
END_TEST

/* --- large ones --- */

/* Entry `i` of a run: points of 50 series, and now and then a delete of some or of nearly all. */
static void make_run_entry(written *w, uint64_t i)
{
    static const char *const tag[] = {"number=7", NULL};
    if (i % 40 == 0) {
        ab_selection selection = selecting("series", i % 80 == 0 ? NULL : tag, 0, (int64_t)i * 30);
        make_delete(w, 1, i, 1000 + i, &selection);
        return;
    }
    char *text = malloc(200 * 64);
    size_t n = 0;
    for (unsigned k = 0; k < 200; k++) {
        n += (size_t)sprintf(text + n, "series,number=%u value=%llu.5 %llu\n", k % 50, (unsigned long long)i,
                             (unsigned long long)i * 40 + k);
    }
    make_entry(w, 1, i, 1000 + i, text);
    free(text);
}

static void write_run(ab_store *store, uint64_t from, uint64_t to, int progress)
{
    for (uint64_t i = from; i <= to; i++) {
        written w;
        make_run_entry(&w, i);
        ab_mark mark = {{1, 1}, i};
        if (apply(store, &w.entry, 1, &mark, 1) != AB_OK) {
            _exit(3);
        }
        free_entry(&w);
        if (i % 5 == 0) {
            if (ab_store_flush(store) != AB_OK) {
                _exit(4);
            }
            if (progress >= 0 && write(progress, &i, sizeof i) != sizeof i) {
                _exit(5);
            }
        }
    }
}

/* Killed in the middle of it again and again; going on from the stored frontier ends where an undisturbed run ends. */
START_TEST(kill_anywhere)
{
    enum { LAST = 400 };
    unsigned seed = 4711;
    uint64_t reached = 0;
    while (reached < LAST) {
        int ends[2];
        ck_assert_int_eq(pipe(ends), 0);
        pid_t child = fork_apart(ends[1]);
        if (child == 0) {
            close(ends[0]);
            write_run(open_store("killed"), reached + 1, LAST, ends[1]);
            _exit(0);
        }
        close(ends[1]);
        for (unsigned n = 1 + draw(&seed, 12); n > 0; n--) {
            uint64_t now = 0;
            if (read(ends[0], &now, sizeof now) != sizeof now) {
                break;
            }
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(ends[0]);
        ab_store *store = open_store("killed");
        check_summary(store);
        ab_frontier durable = ab_store_durable(store);
        reached = durable.count == 0 ? 0 : durable.marks[0].index;
        ab_store_free(store);
    }
    ab_store *killed = open_store("killed");
    ab_store *calm = open_store("calm");
    write_run(calm, 1, LAST, -1);
    ab_store_summary a = check_summary(killed);
    ab_store_summary b = check_summary(calm);
    ck_assert_uint_gt(a.points, 1000);
    ck_assert_uint_lt(a.points, 390 * 200);
    ck_assert_mem_eq(&a, &b, sizeof a);
    ab_store_free(killed);
    ab_store_free(calm);
}
END_TEST

/* More than one transaction's share, over columns that become empty and columns that do not. */
START_TEST(large_delete)
{
    enum { POINTS_EACH = 60000 };
    ab_store *store = open_store("a");
    char *text = malloc(POINTS_EACH / 10 * 48);
    uint64_t index = 1;
    for (int part = 0; part < 10; part++) {
        size_t n = 0;
        for (int i = part * POINTS_EACH / 10; i < (part + 1) * POINTS_EACH / 10; i++) {
            n += (size_t)sprintf(text + n, "m%s v=1i %d\n", i % 2 == 0 ? "" : ",t=1", i);
        }
        ab_pack pack = {0};
        ab_lp_line line;
        ab_lp_error error;
        ab_lp_begin(store_parser, text, n, 1, 0);
        while (ab_lp_next(store_parser, &line, &error) == AB_OK) {
            ck_assert_int_eq(ab_pack_add(&pack, &line, 1 << 20), AB_OK);
        }
        ck_assert_int_eq(ab_pack_finish(&pack), AB_OK);
        for (size_t k = 0; k < pack.count; k++) {
            ab_entry entry = {{1, 1}, index, index, 0, pack.payloads[k].data, pack.payloads[k].size};
            index++;
            apply_one(store, &entry);
        }
        ab_pack_free(&pack);
    }
    free(text);
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ck_assert_uint_eq(check_summary(store).points, POINTS_EACH);
    erase(store, index, index, selecting("m", NULL, 1, POINTS_EACH));
    check_export(store, "m v=1i 0\n");
    ck_assert_uint_eq(check_summary(store).columns, 1);
    erase(store, index + 1, index + 1, selecting("m", NULL, 0, 0));
    check_export(store, "");
    ck_assert_uint_eq(check_summary(store).columns, 0);
    write_text(store, index + 2, index + 2, "m v=2i 5\n");
    check_export(store, "m v=2i 5\n");
    ck_assert_uint_eq(check_summary(store).columns, 1);
    ab_store_free(store);
}
END_TEST

/* --- payloads --- */

START_TEST(unreadable_deletes)
{
    static const char *const one[] = {"a=1", "b=2", NULL};
    ab_selection selection = selecting("m", one, 1, 2);
    ab_selection back;
    char *payload = NULL;
    size_t size = 0;
    ck_assert_int_eq(ab_pack_delete(&selection, &payload, &size), AB_OK);
    ck_assert_int_eq(ab_pack_read_delete(payload, size, &back), AB_OK);
    ck_assert(ab_selection_covers(&selection, &back) && ab_selection_covers(&back, &selection));
    for (size_t cut = 1; cut < size; cut++) {
        ck_assert_int_eq(ab_pack_read_delete(payload, cut, &back), AB_ECORRUPT);
    }
    ck_assert_int_eq(ab_pack_read_delete(payload, 0, &back), AB_EVERSION);
    ck_assert_int_eq(ab_pack_read_delete("\x01", 1, &back), AB_EVERSION);
    payload[size - 1] = '1';
    payload[size - 3] = 'a'; /* the same tag twice */
    ck_assert_int_eq(ab_pack_read_delete(payload, size, &back), AB_ECORRUPT);
    ab_store *store = open_store("a");
    ab_entry entry = {{1, 1}, 1, 1, 0, payload, size};
    ab_mark mark = {{1, 1}, 1};
    ck_assert_int_eq(apply(store, &entry, 1, &mark, 1), AB_EREJECT);
    check_export(store, "");
    ab_store_free(store);
    free(payload);
}
END_TEST

/* No ck_ calls: they allocate. */
static int scenario(const char *name)
{
    static const char *const erase_tag[] = {"t=1", NULL};
    ab_store *store = NULL;
    ab_pack pack = {0};
    ab_lp_line line;
    ab_lp_error error;
    char *payload = NULL;
    size_t size = 0;
    int code = ab_store_open(dir_named(name), GROUP, &store, NULL);
    ab_lp_begin(store_parser, "m f=1 1\nm,t=1 f=1 1\n", 20, 1, 0);
    while (code == AB_OK && ab_lp_next(store_parser, &line, &error) == AB_OK) {
        code = ab_pack_add(&pack, &line, 1000);
    }
    code = code == AB_OK ? ab_pack_finish(&pack) : code;
    for (uint64_t i = 1; i <= 3 && code == AB_OK; i++) {
        ab_selection selection = selecting("m", i == 2 ? erase_tag : NULL, 0, i == 2 ? 5 : 0);
        ab_mark mark = {{1, 1}, i};
        code = i > 1 ? ab_pack_delete(&selection, &payload, &size) : AB_OK;
        if (code == AB_OK) {
            ab_entry entry = {{1, 1},
                              i,
                              i,
                              0,
                              i > 1 ? payload : pack.payloads[0].data,
                              i > 1 ? size : pack.payloads[0].size};
            code = apply(store, &entry, 1, &mark, 1);
        }
        free(payload);
        payload = NULL;
        code = code == AB_OK ? ab_store_flush(store) : code;
    }
    ab_store_summary summary = {0};
    code = code == AB_OK ? ab_store_scan(store, &summary) : code;
    if (code == AB_OK && (summary.points != 1 || summary.tombstones != 2)) {
        code = AB_EINTERNAL;
    }
    ab_pack_free(&pack);
    ab_store_free(store);
    return code;
}

START_TEST(failing_allocations)
{
    unsigned long n = 1;
    for (;; n++) {
        char name[32];
        snprintf(name, sizeof name, "n%lu", n);
        alloc_fail_at(n);
        int code = scenario(name);
        bool happened = alloc_fail_happened();
        alloc_fail_at(0);
        if (!happened) {
            ck_assert_int_eq(code, AB_OK);
            break;
        }
        ck_assert_msg(code == AB_ENOMEM, "allocation %lu: %s", n, ab_error_name(code));
        ck_assert_int_eq(scenario(name), AB_OK);
    }
    ck_assert_uint_gt(n, 15);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_delete");
    TCase *c = tcase_create("store_delete");
    tcase_add_checked_fixture(c, store_setup, store_teardown);
    tcase_add_loop_test(c, selects, 0, sizeof selections / sizeof *selections);
    tcase_add_test(c, tombstones_are_few);
    tcase_add_test(c, converges_in_any_order);
    tcase_add_test(c, kill_anywhere);
    tcase_add_test(c, large_delete);
    tcase_add_test(c, unreadable_deletes);
    tcase_add_test(c, failing_allocations);
    tcase_set_timeout(c, 170);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_run(suite());
}
