/* SPDX-License-Identifier: Apache-2.0 */
/* The log: opening, identity, one process per directory, files that are no log. One thread. */
#include "tests/unit/test_wal_fixture.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

START_TEST(origin_of_a_new_log)
{
    static const uint8_t zero[16];
    ck_assert(origin.created);
    ck_assert(!origin.tail_safe);
    ck_assert_mem_ne(origin.store_id, zero, 16);
    ab_wal_origin first = origin;
    reopen(&sync_options);
    ck_assert(!origin.created);
    ck_assert(origin.tail_safe);
    ck_assert_mem_eq(origin.store_id, first.store_id, 16);
}
END_TEST

/* Leaves the log as a process that dies would: no close. */
static void die_with(ab_durability durability)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        ab_wal_options options = sync_options;
        ab_wal *w;
        options.durability = durability;
        int code = ab_wal_open(dir, &options, &w, NULL, NULL);
        _exit(code == AB_OK && wt_append(w, 1, s1, 3, 10) == AB_OK ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

START_TEST(tail_is_safe_after_sync_or_close_only)
{
    static const ab_durability kinds[] = {AB_DURABILITY_SYNC, AB_DURABILITY_INTERVAL, AB_DURABILITY_NONE};
    for (size_t i = 0; i < 3; i++) {
        ab_wal_options options = sync_options;
        options.durability = kinds[i];
        reopen(&options);
        reopen(&sync_options);
        ck_assert_msg(origin.tail_safe, "closed in order, durability %zu", i);
        ab_wal_close(wal);
        wal = NULL;
        die_with(kinds[i]);
        reopen(&sync_options);
        ck_assert_msg(origin.tail_safe == (kinds[i] == AB_DURABILITY_SYNC), "died, durability %zu", i);
        assert_stream(1, s1, 0, 3 * (i + 1));
    }
}
END_TEST

START_TEST(copy_is_not_the_file_it_was)
{
    char *path = wt_path(dir, "data.mdb");
    size_t size;
    ab_wal_origin first = origin;
    ck_assert_int_eq(wt_append(wal, 1, s1, 3, 10), AB_OK);
    ab_wal_close(wal);
    wal = NULL;
    uint8_t *data = wt_file_read(path, &size);
    char *other = wt_path(dir, "other");
    ck_assert(wt_file_write(other, data, size));
    ck_assert_int_eq(rename(other, path), 0);
    reopen(&read_options);
    ck_assert(!origin.tail_safe);
    reopen(&sync_options);
    ck_assert(!origin.tail_safe);
    ck_assert_mem_eq(origin.store_id, first.store_id, 16);
    reopen(&sync_options);
    ck_assert(origin.tail_safe);
    free(data);
    free(path);
    free(other);
}
END_TEST

START_TEST(second_open_is_refused)
{
    ab_wal *other;
    char pid[32];
    ck_assert_int_eq(ab_wal_open(dir, &sync_options, &other, NULL, &message), AB_ELOCKED);
    snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    ck_assert_msg(strstr(message.text, pid) != NULL, "%s", message.text);
    ck_assert_int_eq(ab_wal_open(dir, &read_options, &other, NULL, &message), AB_ELOCKED);
    ck_assert_ptr_null(other);
    reopen(&read_options);
    ck_assert_int_eq(ab_wal_open(dir, &read_options, &other, NULL, &message), AB_OK); /* two may look */
    ab_wal_close(other);
    ck_assert_int_eq(ab_wal_open(dir, &sync_options, &other, NULL, &message), AB_ELOCKED);
}
END_TEST

static uint64_t snapshot(const char *name, struct timespec *modified)
{
    char *path = wt_path(dir, name);
    struct stat st;
    size_t size = 0;
    uint8_t *data = wt_file_read(path, &size);
    ck_assert_ptr_nonnull(data);
    ck_assert_int_eq(stat(path, &st), 0);
    *modified = st.st_mtim;
    uint64_t hash = XXH3_64bits(data, size);
    free(data);
    free(path);
    return hash;
}

START_TEST(read_only_changes_nothing)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "LOCK"};
    uint64_t hash[3];
    struct timespec time[3];
    struct timespec now;
    ck_assert_int_eq(wt_append(wal, 1, s1, 100, 100), AB_OK);
    ab_wal_close(wal);
    wal = NULL;
    for (size_t i = 0; i < 3; i++) {
        hash[i] = snapshot(names[i], &time[i]);
    }
    reopen(&read_options);
    assert_stream(1, s1, 0, 100);
    ck_assert_int_eq(wt_verify(wal), 0);
    ck_assert_int_eq(wt_append(wal, 1, s1, 1, 1), AB_EINVAL);
    ab_wal_close(wal);
    wal = NULL;
    for (size_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(snapshot(names[i], &now), hash[i]);
        ck_assert_mem_eq(&now, &time[i], sizeof(now));
    }
    char *path = wt_path(dir, "LOCK");
    ck_assert_int_eq(unlink(path), 0);
    reopen(&read_options);
    ck_assert_int_ne(access(path, F_OK), 0);
    free(path);
}
END_TEST

START_TEST(read_only_makes_nothing)
{
    ab_wal *other;
    char *none = wt_path(dir, "none");
    ck_assert_int_eq(ab_wal_open(none, &read_options, &other, NULL, &message), AB_ENOTFOUND);
    ck_assert_int_ne(access(none, F_OK), 0);
    ck_assert_int_eq(mkdir(none, 0700), 0);
    ck_assert_int_eq(ab_wal_open(none, &read_options, &other, NULL, &message), AB_ENOTFOUND);
    ck_assert_int_eq(rmdir(none), 0); /* still empty */
    free(none);
}
END_TEST

START_TEST(open_makes_the_directory)
{
    ab_wal *other;
    char *inner = wt_path(dir, "inner");
    ck_assert_int_eq(ab_wal_open(inner, &sync_options, &other, NULL, &message), AB_OK);
    ab_wal_close(other);
    wt_dir_remove(inner);
    inner = wt_path(dir, "no/such/parent");
    ck_assert_int_eq(ab_wal_open(inner, &sync_options, &other, NULL, &message), AB_EIO);
    ck_assert_ptr_nonnull(strstr(message.text, "no/such/parent"));
    free(inner);
}
END_TEST

START_TEST(unknown_format_is_refused)
{
    ab_wal *other;
    const uint8_t format[4] = {2, 0, 0, 0};
    ck_assert_int_eq(wt_state_put(wal, 0, "format", format, 4), AB_OK);
    ab_wal_close(wal);
    wal = NULL;
    ck_assert_int_eq(ab_wal_open(dir, &sync_options, &other, NULL, &message), AB_EVERSION);
    ck_assert_ptr_nonnull(strstr(message.text, "format 2"));
    ck_assert_int_eq(ab_wal_open(dir, &read_options, &other, NULL, &message), AB_EVERSION);
}
END_TEST

START_TEST(file_that_is_no_log_is_refused)
{
    char *path = wt_path(dir, "data.mdb");
    ab_wal *other;
    size_t size;
    ck_assert_int_eq(wt_append(wal, 1, s1, 100, 1000), AB_OK);
    ab_wal_close(wal);
    wal = NULL;
    uint8_t *data = wt_file_read(path, &size);
    for (size_t cut = 1; cut < size; cut += 4096) {
        ck_assert(wt_file_write(path, data, cut));
        int code = ab_wal_open(dir, &read_options, &other, NULL, &message);
        if (code == AB_OK) { /* only free pages were cut off */
            wal = other;
            assert_stream(1, s1, 0, 100);
            ab_wal_close(wal);
            wal = NULL;
        } else {
            ck_assert_int_eq(code, AB_ECORRUPT);
        }
    }
    memset(data, 'x', size);
    ck_assert(wt_file_write(path, data, size));
    ck_assert_int_eq(ab_wal_open(dir, &sync_options, &other, NULL, &message), AB_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(message.text, "data.mdb"));
    free(data);
    free(path);
}
END_TEST

/* Entries of somebody else's LMDB file: a few, many, one on pages of its own, a database with a name, none any more. */
static void make_foreign(unsigned kind)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    static char large[20000];
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 2), 0);
    ck_assert_int_eq(mdb_env_open(env, dir, 0, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, kind == 3 ? "zoo" : NULL, MDB_CREATE, &dbi), 0);
    for (unsigned i = 0; i < (kind == 1 ? 5000 : 2); i++) {
        char name[16];
        snprintf(name, sizeof(name), "zoo %u", i);
        MDB_val key = {strlen(name), name};
        MDB_val value = {kind == 2 ? sizeof(large) : 4, large};
        ck_assert_int_eq(mdb_put(txn, dbi, &key, &value, 0), 0);
    }
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    if (kind == 4) {
        ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
        ck_assert_int_eq(mdb_drop(txn, dbi, 0), 0);
        ck_assert_int_eq(mdb_txn_commit(txn), 0);
    }
    mdb_env_close(env);
}

START_TEST(file_of_another_program_is_told)
{
    char *path = wt_path(dir, "data.mdb");
    ab_wal *other;
    ab_wal_close(wal);
    wal = NULL;
    ck_assert_int_eq(unlink(path), 0);
    make_foreign((unsigned)_i);
    const ab_wal_options *options[] = {&read_options, &sync_options};
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(ab_wal_open(dir, options[i], &other, NULL, &message), AB_ECORRUPT);
        ck_assert_msg(strstr(message.text, "an LMDB file, but not of Anabranch") != NULL, "%s", message.text);
        ck_assert_msg(strstr(message.text, _i == 4 ? "is empty" : "has \"zoo") != NULL, "%s", message.text);
        ck_assert_ptr_null(strstr(message.text, "damaged"));
    }
    free(path);
}
END_TEST

/* Says which value it is, and what to do. */
START_TEST(damaged_small_state_is_named)
{
    char *path = wt_path(dir, "data.mdb");
    ab_wal *other;
    size_t size;
    bool found = false;
    ck_assert_int_eq(wt_state_put(wal, 77, "some/name", "a value to be seen", 18), AB_OK);
    ab_wal_close(wal);
    wal = NULL;
    uint8_t *data = wt_file_read(path, &size);
    for (size_t i = 0; i + 18 <= size; i++) {
        if (memcmp(data + i, "a value to be seen", 18) == 0) {
            data[i] ^= 1;
            found = true;
        }
    }
    ck_assert(found && wt_file_write(path, data, size));
    ck_assert_int_eq(ab_wal_open(dir, &sync_options, &other, NULL, &message), AB_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(message.text, "group 77, \"some/name\""));
    ck_assert_ptr_nonnull(strstr(message.text, "start empty"));
    free(data);
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal_open");
    TCase *tcase = wal_case(suite, "wal_open");
    tcase_add_test(tcase, origin_of_a_new_log);
    tcase_add_test(tcase, tail_is_safe_after_sync_or_close_only);
    tcase_add_test(tcase, copy_is_not_the_file_it_was);
    tcase_add_test(tcase, second_open_is_refused);
    tcase_add_test(tcase, read_only_changes_nothing);
    tcase_add_test(tcase, read_only_makes_nothing);
    tcase_add_test(tcase, open_makes_the_directory);
    tcase_add_test(tcase, unknown_format_is_refused);
    tcase_add_test(tcase, file_that_is_no_log_is_refused);
    tcase_add_loop_test(tcase, file_of_another_program_is_told, 0, 5);
    tcase_add_test(tcase, damaged_small_state_is_named);
    return test_run(suite);
}
