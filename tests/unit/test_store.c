/* SPDX-License-Identifier: Apache-2.0 */
/* The point store: what goes in comes out, the order of entries does not matter, each counts once, a
 * kill loses nothing durable, and no allocation may fail without a word. One thread. */
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include "tests/unit/store_fixture.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(in_and_out)
{
    ab_store *store = open_store("a");
    written w;
    make_entry(
        &w, 1, 1, 100,
        "m,b=2,a=1 z=1,a=2i,m=\"text\" 20\nm,a=1,b=2 z=2 -20\nb f=t 5\nb\\ b f=3u 5\nm,a=1,b=2 z=3 20\n");
    ab_mark mark = {{1, 1}, 1};
    ck_assert_int_eq(apply(store, &w.entry, 1, &mark, 1), AB_OK);
    check_export(store,
                 "b f=true 5\nb\\ b f=3u 5\nm,a=1,b=2 a=2i 20\nm,a=1,b=2 m=\"text\" 20\nm,a=1,b=2 z=2 -20\n"
                 "m,a=1,b=2 z=3 20\n");
    ab_store_summary summary = check_summary(store);
    ck_assert_uint_eq(summary.points, 6);
    ck_assert_uint_eq(summary.columns, 5);
    ab_frontier durable = ab_store_durable(store);
    ck_assert_uint_eq(durable.count, 1);
    ck_assert_uint_eq(durable.marks[0].index, 1);
    ab_store_free(store);

    store = open_store("a");
    durable = ab_store_durable(store);
    ck_assert_uint_eq(durable.count, 1);
    ck_assert_uint_eq(durable.marks[0].stream.node, 1);
    ab_store_summary again = check_summary(store);
    ck_assert_mem_eq(&again, &summary, sizeof again);
    ab_store_free(store);
    ab_pack_free(&w.pack);
}
END_TEST

/* Five writes that conflict, in every order and cut into flushes and applies at every place: always the same bytes. */
START_TEST(conflicts_converge)
{
    static const char *const texts[] = {"s f=1,g=1 1\ns f=1 2\n", "s f=2i 1\ns f=\"two\" 2\n",
                                        "s g=3 1\ns f=3 2\n", "s f=4,g=4 1\ns f=40,g=40 1\n",
                                        "t f=5 1\ns f=5 2\n"};
    enum { COUNT = 5, ORDERS = 120 };
    static const uint64_t hlcs[COUNT] = {10, 20, 20, 15, 5};
    written w[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        make_entry(&w[i], i + 1, 1, hlcs[i], texts[i]);
    }
    for (int order = 0; order < ORDERS; order++) {
        int left[COUNT] = {0, 1, 2, 3, 4};
        ab_mark marks[COUNT];
        char name[16];
        snprintf(name, sizeof name, "%d", order);
        ab_store *store = open_store(name);
        for (int i = 0, code = order; i < COUNT; i++) {
            int pick = code % (COUNT - i);
            code /= COUNT - i;
            const ab_entry *entry = &w[left[pick]].entry;
            left[pick] = left[COUNT - 1 - i];
            marks[i] = (ab_mark){entry->stream, 1};
            ck_assert_int_eq(apply(store, entry, 1, marks, (size_t)i + 1), AB_OK);
            if (((order * 7 + i) & 3) == 0) {
                ck_assert_int_eq(ab_store_flush(store), AB_OK);
            }
        }
        check_export(store, "s f=2i 1\ns f=3 2\ns g=3 1\nt f=5 1\n");
        static ab_store_summary first;
        ab_store_summary summary = check_summary(store);
        if (order == 0) {
            first = summary;
        }
        ck_assert_mem_eq(&summary, &first, sizeof summary);
        ab_store_free(store);
    }
    for (size_t i = 0; i < COUNT; i++) {
        ab_pack_free(&w[i].pack);
    }
}
END_TEST

START_TEST(replay_counts_once)
{
    ab_store *store = open_store("a");
    written w[2];
    make_entry(&w[0], 1, 1, 10, "s f=1 1\n");
    make_entry(&w[1], 1, 2, 20, "s f=2 1\nt f=2 1\n");
    ab_mark marks[] = {{{1, 1}, 1}, {{1, 1}, 2}};
    ck_assert_int_eq(apply(store, &w[0].entry, 1, &marks[0], 1), AB_OK);
    ck_assert_int_eq(apply(store, &w[1].entry, 1, &marks[1], 1), AB_OK);
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ab_store_summary first = check_summary(store);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(apply(store, &w[i].entry, 1, &marks[1], 1), AB_OK);
    }
    check_export(store, "s f=2 1\nt f=2 1\n");
    ab_store_summary second = check_summary(store);
    ck_assert_mem_eq(&first, &second, sizeof first);
    ab_store_free(store);
    ab_pack_free(&w[0].pack);
    ab_pack_free(&w[1].pack);
}
END_TEST

/* An entry that nobody can read is named, and nothing of its call has happened. */
START_TEST(unreadable_entry)
{
    ab_store *store = open_store("a");
    written w;
    make_entry(&w, 1, 1, 10, "s f=1 1\n");
    ab_entry entries[2] = {w.entry, {{1, 1}, 2, 11, 0, "\x01\xff", 2}};
    ab_mark mark = {{1, 1}, 2};
    size_t failed = 0;
    ck_assert_int_eq(ab_store_apply(store, entries, 2, (ab_frontier){&mark, 1}, &failed), AB_EREJECT);
    ck_assert_uint_eq(failed, 1);
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ck_assert_uint_eq(ab_store_durable(store).count, 0);
    check_export(store, "");
    /* The library calls again without it; the frontier passes it. */
    ck_assert_int_eq(apply(store, entries, 1, &mark, 1), AB_OK);
    check_export(store, "s f=1 1\n");
    ck_assert_uint_eq(ab_store_durable(store).marks[0].index, 2);
    /* It comes back from quarantine, to a version that can read it. */
    written late;
    make_entry(&late, 1, 2, 11, "s f=2 1\n");
    ck_assert_int_eq(apply(store, &late.entry, 1, &mark, 1), AB_OK);
    check_export(store, "s f=2 1\n");
    check_summary(store);
    free_entry(&late);
    ab_store_free(store);
    ab_pack_free(&w.pack);
}
END_TEST

/* A text of `size` equal letters. */
static size_t fill(char *out, char letter, size_t size)
{
    memset(out, letter, size);
    return size;
}

/* Column keys around the length of a piece of the trie, with common beginnings, come out sorted. */
START_TEST(long_keys)
{
    static const size_t sizes[] = {1, 497, 498, 499, 500, 501, 998, 999, 1000, 1001, 5000, AB_LP_KEY_MAX};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    char *text = malloc(2 * SIZES * (AB_LP_KEY_MAX + 32));
    char *expected = malloc(2 * SIZES * (AB_LP_KEY_MAX + 32));
    size_t n = 0;
    size_t m = 0;
    for (size_t i = 0; i < SIZES; i++) {
        n += fill(text + n, 'b', sizes[SIZES - 1 - i]);
        n += (size_t)sprintf(text + n, " f=1,g=2 %zu\n", i);
        m += fill(expected + m, 'b', sizes[i]);
        m += (size_t)sprintf(expected + m, " f=1 %zu\n", SIZES - 1 - i);
        m += fill(expected + m, 'b', sizes[i]);
        m += (size_t)sprintf(expected + m, " g=2 %zu\n", SIZES - 1 - i);
    }
    written w;
    ab_mark mark = {{1, 1}, 1};
    make_entry(&w, 1, 1, 10, text);
    ab_store *store = open_store("a");
    ck_assert_int_eq(apply(store, &w.entry, 1, &mark, 1), AB_OK);
    check_export(store, expected);
    check_summary(store);
    ab_store_free(store);
    /* With an empty cache the columns are found again in the trie. */
    store = open_store("a");
    w.entry.index = 2;
    w.entry.hlc = 11;
    mark.index = 2;
    ck_assert_int_eq(apply(store, &w.entry, 1, &mark, 1), AB_OK);
    check_export(store, expected);
    ab_store_summary summary = check_summary(store);
    ck_assert_uint_eq(summary.columns, 2 * SIZES);
    ab_store_free(store);
    ab_pack_free(&w.pack);
    free(text);
    free(expected);
}
END_TEST

/* Entry `i` of a run: points that overlap with those of other entries. */
static void make_run_entry(written *w, uint64_t i, uint32_t points)
{
    char *text = malloc((size_t)points * 64);
    size_t n = 0;
    for (uint32_t k = 0; k < points; k++) {
        n += (size_t)sprintf(text + n, "series,number=%u value=%llu.5 %u\n", (unsigned)((i + k) % 50),
                             (unsigned long long)i, k / 50);
    }
    make_entry(w, 1, i, 1000 + i, text);
    free(text);
}

/* The map grows from its first 16 MiB; an export that is under way goes on over a growth. */
START_TEST(growth)
{
    ab_store *store = open_store("a");
    ab_export *walk = ab_export_new(NULL);
    char *text = malloc(2 << 20);
    char *filler = malloc(100001);
    memset(filler, 'x', 100000);
    filler[100000] = '\0';
    size_t lines = 0;
    for (uint64_t i = 1; i <= 200; i++) {
        size_t n = 0;
        for (int k = 0; k < 2; k++) {
            n +=
                (size_t)sprintf(text + n, "m,n=%llu f=\"%s\" %d\n", (unsigned long long)(100 + i), filler, k);
        }
        written w;
        make_entry(&w, 1, i, i, text);
        ab_mark mark = {{1, 1}, i};
        ck_assert_int_eq(apply(store, &w.entry, 1, &mark, 1), AB_OK);
        ck_assert_int_eq(ab_store_flush(store), AB_OK);
        ab_pack_free(&w.pack);
        const char *out = NULL;
        size_t size = 0;
        ck_assert_int_eq(ab_export_next(walk, store, &out, &size), AB_OK);
        lines += size > 0 ? 1 : 0;
    }
    for (size_t size = 1; size > 0;) {
        const char *out = NULL;
        ck_assert_int_eq(ab_export_next(walk, store, &out, &size), AB_OK);
        lines += size > 0 ? 1 : 0;
    }
    ck_assert_uint_eq(lines, 400);
    ck_assert_uint_eq(check_summary(store).points, 400);
    ab_store_close(store);
    const char *out = NULL;
    size_t size = 0;
    ab_export *late = ab_export_new(NULL);
    ck_assert_int_eq(ab_export_next(late, store, &out, &size), AB_ECLOSED);
    ab_export_free(late);
    ab_export_free(walk);
    ab_store_free(store);
    free(text);
    free(filler);
}
END_TEST

static void limit_files(rlim_t most)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = most;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Want of room is named so, however LMDB says it; it loses nothing and goes by itself. */
START_TEST(no_room)
{
    struct rlimit limit;
    char text[20032];
    char filler[20001];
    uint64_t last = 0;
    int code = AB_OK;
    ab_store *store = open_store("a");
    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit_files(400000);
    while (code == AB_OK) {
        written w;
        snprintf(text, sizeof text, "m f=\"%s\" %u\n", filler, (unsigned)++last);
        make_entry(&w, 1, last, last, text);
        ab_mark mark = {{1, 1}, last};
        ck_assert_int_eq(apply(store, &w.entry, 1, &mark, 1), AB_OK);
        ab_pack_free(&w.pack);
        code = ab_store_flush(store);
    }
    ck_assert_str_eq(ab_error_name(code), "AB_ENOSPC");
    ck_assert_str_eq(ab_error_name(ab_store_flush(store)), "AB_ENOSPC");
    limit_files(limit.rlim_cur);
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ck_assert_uint_eq(check_summary(store).points, last);
    ab_store_free(store);
}
END_TEST

/* It says which limit. */
START_TEST(no_descriptors)
{
    struct rlimit limit;
    ab_store *store = NULL;
    ab_message message = {""};
    int next = dup(STDERR_FILENO);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)next + 1;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_ne(ab_store_open(dir_named("a"), GROUP, &store, &message), AB_OK);
    limit.rlim_cur = before;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_msg(strstr(message.text, "LimitNOFILE") != NULL, "%s", message.text);
    close(next);
}
END_TEST

static void write_run(ab_store *store, uint64_t from, uint64_t to, int progress)
{
    for (uint64_t i = from; i <= to; i++) {
        written w;
        make_run_entry(&w, i, 200);
        ab_mark mark = {{1, 1}, i};
        if (apply(store, &w.entry, 1, &mark, 1) != AB_OK) {
            _exit(3);
        }
        ab_pack_free(&w.pack);
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

/* A child is killed in the middle of its work, again and again; what it reported durable is there each time, and
 * going on from the stored frontier ends where an undisturbed run ends. */
START_TEST(kill_anywhere)
{
    enum { ENTRIES = 400 };
    const char *name = "killed";
    unsigned seed = 12345;
    uint64_t reached = 0;
    int kills = 0;
    while (reached < ENTRIES) {
        int ends[2];
        uint64_t confirmed = reached;
        ck_assert_int_eq(pipe(ends), 0);
        pid_t child = fork_apart(ends[1]);
        if (child == 0) {
            close(ends[0]);
            write_run(open_store(name), reached + 1, ENTRIES, ends[1]);
            _exit(0);
        }
        close(ends[1]);
        seed = seed * 1103515245 + 12345;
        for (unsigned n = 1 + (seed >> 16) % 8; n > 0; n--) {
            uint64_t now = 0;
            if (read(ends[0], &now, sizeof now) != sizeof now) {
                break;
            }
            confirmed = now;
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(ends[0]);
        kills++;
        ab_store *store = open_store(name);
        check_summary(store);
        ab_frontier durable = ab_store_durable(store);
        reached = durable.count == 0 ? 0 : durable.marks[0].index;
        ck_assert_uint_ge(reached, confirmed);
        ab_store_free(store);
    }
    ck_assert_int_gt(kills, 5);
    ab_store *killed = open_store(name);
    ab_store *calm = open_store("calm");
    write_run(calm, 1, ENTRIES, -1);
    ab_store_summary a = check_summary(killed);
    ab_store_summary b = check_summary(calm);
    ck_assert_mem_eq(&a, &b, sizeof a);
    ab_store_free(killed);
    ab_store_free(calm);
}
END_TEST

START_TEST(refuses_foreign)
{
    ab_store *store = open_store("a");
    written w;
    ab_mark mark = {{1, 1}, 1};
    ab_message message = {""};
    make_entry(&w, 1, 1, 10, "s f=1 1\n");
    ck_assert_int_eq(apply(store, &w.entry, 1, &mark, 1), AB_OK);
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    ab_store_free(store);
    ck_assert_int_eq(ab_store_open(dir_named("a"), GROUP + 1, &store, &message), AB_EIDENTITY);
    ck_assert_ptr_nonnull(strstr(message.text, "another group"));
    ck_assert_int_eq(ab_store_open(dir_named("no/such"), GROUP, &store, &message), AB_EIO);
    FILE *file = fopen(dir_named("a/data.mdb"), "r+");
    fwrite("garbage garbage garbage garbage garbage", 1, 32, file);
    fclose(file);
    ck_assert_int_ne(ab_store_open(dir_named("a"), GROUP, &store, &message), AB_OK);
    ab_pack_free(&w.pack);
}
END_TEST

/* Everything the store does, while the Nth allocation fails; afterwards it is done again and must be complete. No
 * ck_ calls: they allocate. */
static int scenario(const char *name)
{
    ab_store *store = NULL;
    int code = ab_store_open(dir_named(name), GROUP, &store, NULL);
    ab_pack pack = {0};
    for (uint64_t i = 1; i <= 3 && code == AB_OK; i++) {
        static const char *const texts[] = {"s f=1,g=\"text\" 1\n", "s f=2,h=1 1\n",
                                            "t f=\"a longer text\" 1\n"};
        ab_lp_line line;
        ab_lp_error error;
        ab_lp_begin(store_parser, texts[i - 1], strlen(texts[i - 1]), 1, 0);
        (void)ab_lp_next(store_parser, &line, &error);
        code = ab_pack_add(&pack, &line, 1000);
        code = code == AB_OK ? ab_pack_finish(&pack) : code;
        if (code == AB_OK) {
            ab_entry entry = {{1, 1}, i, i, 0, pack.payloads[0].data, pack.payloads[0].size};
            ab_mark mark = {{1, 1}, i};
            code = apply(store, &entry, 1, &mark, 1);
        }
        code = code == AB_OK && i > 1 ? ab_store_flush(store) : code;
        ab_pack_free(&pack);
    }
    ab_export *walk = code == AB_OK ? ab_export_new(NULL) : NULL;
    code = code == AB_OK && walk == NULL ? AB_ENOMEM : code;
    const char *text = NULL;
    size_t size = 0;
    code = code == AB_OK ? ab_export_next(walk, store, &text, &size) : code;
    if (code == AB_OK) {
        static const char expected[] = "s f=2 1\ns g=\"text\" 1\ns h=1 1\nt f=\"a longer text\" 1\n";
        bool same = size == strlen(expected) && memcmp(text, expected, size) == 0;
        code = same ? AB_OK : AB_EINTERNAL;
    }
    ab_export_free(walk);
    ab_store_summary summary;
    code = code == AB_OK ? ab_store_scan(store, &summary) : code;
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
    Suite *s = suite_create("store");
    TCase *c = tcase_create("store");
    tcase_add_checked_fixture(c, store_setup, store_teardown);
    tcase_add_test(c, in_and_out);
    tcase_add_test(c, conflicts_converge);
    tcase_add_test(c, replay_counts_once);
    tcase_add_test(c, unreadable_entry);
    tcase_add_test(c, long_keys);
    tcase_add_test(c, growth);
    tcase_add_test(c, no_room);
    tcase_add_test(c, no_descriptors);
    tcase_add_test(c, kill_anywhere);
    tcase_add_test(c, refuses_foreign);
    tcase_add_test(c, failing_allocations);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_run(suite());
}
