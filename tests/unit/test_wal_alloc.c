/* SPDX-License-Identifier: Apache-2.0 */
/* The log with every allocation failing in turn: AB_ENOMEM, nothing leaked, nothing half-done. One thread. */
#include "tests/support/alloc_fail.h"
#include "tests/support/run.h"
#include "tests/unit/test_wal_support.h"

#include <check.h>
#include <stdlib.h>

static const ab_stream s1 = {1, 1};
static const ab_wal_options options = {.durability = AB_DURABILITY_SYNC, .max_bytes = 64u << 20};
static const ab_wal_options reading = {.durability = AB_DURABILITY_SYNC, .read_only = true};

/* Runs without failures: what the runs below work on. */
static char *log_new(void)
{
    ab_wal *wal;
    char *dir = wt_dir_new(true);
    ck_assert_int_eq(ab_wal_open(dir, &options, &wal, NULL, NULL), AB_OK);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 500), AB_OK);
    }
    ck_assert_int_eq(wt_state_put(wal, 1, "k", "value", 5), AB_OK);
    ab_wal_close(wal);
    return dir;
}

static void log_is_whole(const char *dir, uint64_t last)
{
    ab_wal *wal;
    ab_stream_state state;
    ck_assert_int_eq(ab_wal_open(dir, &reading, &wal, NULL, NULL), AB_OK);
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_uint_eq(state.last, last);
    ck_assert_int_eq(wt_read_all(wal, 1, &state), AB_OK);
    ck_assert_int_eq(wt_verify(wal), 0);
    ab_wal_close(wal);
}

START_TEST(open_and_close)
{
    char *dir = log_new();
    const bool read_only = _i == 1;
    unsigned long n = 1;
    for (;; n++) {
        ab_wal *wal;
        alloc_fail_at(n);
        int code = ab_wal_open(dir, read_only ? &reading : &options, &wal, NULL, NULL);
        if (!alloc_fail_happened()) {
            alloc_fail_at(0);
            ck_assert_int_eq(code, AB_OK);
            ab_wal_close(wal);
            break;
        }
        alloc_fail_at(0);
        if (code == AB_OK) { /* only where the parent directory is synced can it do without */
            ab_wal_close(wal);
        } else {
            ck_assert_int_eq(code, AB_ENOMEM);
            ck_assert_ptr_null(wal);
        }
        log_is_whole(dir, 100);
    }
    ck_assert_uint_gt(n, 3);
    wt_dir_remove(dir);
}
END_TEST

START_TEST(first_open)
{
    for (unsigned long n = 1;; n++) {
        ab_wal *wal;
        char *dir = wt_dir_new(true);
        char *inner = wt_path(dir, "log");
        alloc_fail_at(n);
        int code = ab_wal_open(inner, &options, &wal, NULL, NULL);
        bool happened = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_int_eq(code == AB_OK ? AB_ENOMEM : code, AB_ENOMEM);
        if (code != AB_OK) { /* and the next one has no trouble with what is there */
            ck_assert_int_eq(ab_wal_open(inner, &options, &wal, NULL, NULL), AB_OK);
        }
        ck_assert_int_eq(wt_verify(wal), 0);
        ab_wal_close(wal);
        wt_dir_remove(inner);
        wt_dir_remove(dir);
        if (!happened) {
            break;
        }
    }
}
END_TEST

/* One of each operation, in one commit. */
static int commit_all(ab_wal *wal, const uint8_t *block, size_t size)
{
    ab_wal_op ops[] = {
        {.type = AB_WAL_PUT_BLOCK, .data = {block, size}},
        {.type = AB_WAL_PUT_STATE, .group = 1, .key = {"k", 1}, .data = {block, 3000}},
        {.type = AB_WAL_DEL_STATE, .group = 1, .key = {"k", 1}},
        {.type = AB_WAL_TRIM, .group = 1, .stream = s1, .index = 40, .limit = 2},
    };
    return ab_wal_commit(wal, ops, 4, NULL);
}

START_TEST(commit)
{
    char *dir = log_new();
    ab_wal *wal;
    ab_stream_state state;
    ab_block_header h;
    ck_assert_int_eq(ab_wal_open(dir, &options, &wal, NULL, NULL), AB_OK);
    ck_assert(wt_stream(wal, 1, s1, &state));
    uint8_t *block = wt_block(1, s1, 101, 10, 500, state.last_hash, &h);
    int code = AB_ENOMEM;
    for (unsigned long n = 1; code != AB_OK; n++) {
        alloc_fail_at(n);
        code = commit_all(wal, block, ab_block_size(&h));
        alloc_fail_at(0);
        ck_assert(wt_stream(wal, 1, s1, &state));
        ck_assert_uint_eq(state.last, code == AB_OK ? 110 : 100);
        ck_assert_uint_eq(state.base, code == AB_OK ? 20 : 0);
    }
    free(block);
    ab_wal_close(wal);
    log_is_whole(dir, 110);
    wt_dir_remove(dir);
}
END_TEST

static bool go_on(void *arg, uint64_t group, ab_bytes key, ab_bytes value)
{
    (void)arg;
    (void)group;
    (void)key;
    (void)value;
    return true;
}

static bool go_on_group(void *arg, uint64_t group)
{
    (void)arg;
    (void)group;
    return true;
}

static int read_all_kinds(ab_wal *wal)
{
    ab_block_header h;
    void *data;
    size_t size;
    int code = ab_wal_read(wal, 1, s1, 15, wt_alloc, NULL, &h, &data, &size);
    free(data);
    if (code == AB_OK && (code = ab_wal_state_get(wal, 1, (ab_bytes){"k", 1}, &data, &size)) == AB_OK) {
        free(data);
        code = ab_wal_state_each(wal, 1, (ab_bytes){NULL, 0}, go_on, NULL);
    }
    if (code == AB_OK) {
        code = ab_wal_groups(wal, go_on_group, NULL);
    }
    return code == AB_OK ? wt_verify(wal) : code;
}

START_TEST(reading_alloc)
{
    char *dir = log_new();
    ab_wal *wal;
    unsigned long n = 1;
    ck_assert_int_eq(ab_wal_open(dir, &reading, &wal, NULL, NULL), AB_OK);
    for (;; n++) {
        alloc_fail_at(n);
        int code = read_all_kinds(wal);
        bool happened = alloc_fail_happened();
        alloc_fail_at(0);
        ck_assert_int_eq(code, happened ? AB_ENOMEM : AB_OK);
        if (!happened) {
            break;
        }
    }
    ck_assert_uint_gt(n, 5);
    ab_wal_close(wal);
    wt_dir_remove(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal_alloc");
    TCase *tcase = tcase_create("alloc");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, open_and_close, 0, 2);
    tcase_add_test(tcase, first_open);
    tcase_add_test(tcase, commit);
    tcase_add_test(tcase, reading_alloc);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
