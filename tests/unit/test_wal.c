/* SPDX-License-Identifier: Apache-2.0 */
/* The log: appending, reading, trimming, repair, state, identity, growth, ceiling. One thread, except where said. */
#define _GNU_SOURCE /* memmem */
#include "tests/unit/test_wal_support.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

static const ab_stream s1 = {1, 1};
static const ab_stream s2 = {2, 1};
static char *dir;
static ab_wal *wal;
static ab_wal_origin origin;
static ab_message message;
static const ab_wal_options sync_options = {.durability = AB_DURABILITY_SYNC, .max_bytes = 64u << 20};
static const ab_wal_options read_options = {.durability = AB_DURABILITY_SYNC, .read_only = true};

static void reopen(const ab_wal_options *options)
{
    ab_wal_close(wal);
    wal = NULL;
    ck_assert_msg(ab_wal_open(dir, options, &wal, &origin, &message) == AB_OK, "%s", message.text);
}

static void setup(void)
{
    dir = wt_dir_new(true);
    wal = NULL;
    reopen(&sync_options);
}

static void teardown(void)
{
    ab_wal_close(wal);
    wal = NULL;
    wt_dir_remove(dir);
}

static int read_at(uint64_t group, ab_stream stream, uint64_t index, ab_block_header *header)
{
    void *data;
    size_t size;
    int code = ab_wal_read(wal, group, stream, index, wt_alloc, NULL, header, &data, &size);
    if (code == AB_OK) {
        ck_assert(wt_block_good(data, header));
        ck_assert_uint_eq(size, ab_block_size(header));
        free(data);
    } else {
        ck_assert_ptr_null(data);
    }
    return code;
}

static void assert_stream(uint64_t group, ab_stream stream, uint64_t base, uint64_t last)
{
    ab_stream_state state;
    ck_assert(wt_stream(wal, group, stream, &state));
    ck_assert_uint_eq(state.base, base);
    ck_assert_uint_eq(state.last, last);
    ck_assert_int_eq(wt_read_all(wal, group, &state), AB_OK);
}

/* --- opening, identity ------------------------------------------------------------------------------------- */

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

/* --- appending and reading ---------------------------------------------------------------------------------- */

START_TEST(read_by_any_index)
{
    ab_block_header h;
    ck_assert_int_eq(read_at(1, s1, 1, &h), AB_ENOTFOUND);
    for (uint32_t i = 1; i <= 40; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, i, 10), AB_OK);
        ck_assert_int_eq(wt_append(wal, 1, s2, 1, 5000), AB_OK);
        ck_assert_int_eq(wt_append(wal, 2, s1, 2, 0), AB_OK);
    }
    uint64_t first = 1;
    for (uint32_t i = 1; i <= 40; i++) {
        for (uint64_t index = first; index < first + i; index++) {
            ck_assert_int_eq(read_at(1, s1, index, &h), AB_OK);
            ck_assert_uint_eq(h.first, first);
            ck_assert_uint_eq(h.last, first + i - 1);
        }
        first += i;
    }
    ck_assert_int_eq(read_at(1, s1, first, &h), AB_ENOTFOUND);
    ck_assert_int_eq(read_at(1, s1, UINT64_MAX, &h), AB_ENOTFOUND);
    ck_assert_int_eq(read_at(1, s1, 0, &h), AB_ETRIMMED);
    ck_assert_int_eq(read_at(3, s1, 1, &h), AB_ENOTFOUND);
    ck_assert_int_eq(read_at(1, (ab_stream){1, 2}, 1, &h), AB_ENOTFOUND);
    assert_stream(1, s2, 0, 40);
    assert_stream(2, s1, 0, 80);
    ck_assert_int_eq(wt_verify(wal), 0);
    reopen(&sync_options);
    assert_stream(1, s1, 0, 820);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

START_TEST(boundary_sizes)
{
    ck_assert_int_eq(wt_append(wal, 1, s1, 1, 0), AB_OK);
    ck_assert_int_eq(wt_append(wal, 1, s1, 1, 1), AB_OK);
    for (size_t payload = 1880; payload < 1920; payload++) { /* around where LMDB turns to pages of its own */
        ck_assert_int_eq(wt_append(wal, 1, s1, 1, payload), AB_OK);
    }
    for (size_t payload = 3960; payload < 4000; payload++) { /* and around one page */
        ck_assert_int_eq(wt_append(wal, 1, s1, 1, payload), AB_OK);
    }
    ck_assert_int_eq(wt_append(wal, 1, s1, 1, AB_PAYLOAD_MAX), AB_OK);
    ck_assert_int_eq(wt_append(wal, UINT64_MAX, (ab_stream){UINT32_MAX, UINT32_MAX}, 3, 3), AB_OK);
    assert_stream(1, s1, 0, 83);
    assert_stream(UINT64_MAX, (ab_stream){UINT32_MAX, UINT32_MAX}, 0, 3);
    ck_assert_int_eq(wt_verify(wal), 0);
    reopen(&sync_options);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 1000, 1000), 83);
    reopen(&read_options);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

/* Puts a made block; optionally changed before sealing. */
static int put(uint64_t group, ab_stream stream, uint64_t first, uint32_t count, uint64_t prev,
               ab_wal_op_type type)
{
    ab_block_header h;
    uint8_t *block = wt_block(group, stream, first, count, 20, prev, &h);
    ab_wal_op op = {.type = type, .data = {block, ab_block_size(&h)}};
    int code = ab_wal_commit(wal, &op, 1, NULL);
    free(block);
    return code;
}

START_TEST(order_and_chain_are_demanded)
{
    ab_stream_state state;
    ck_assert_int_eq(put(1, s1, 2, 1, 0, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 1, 1, 5, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(0, s1, 1, 1, 0, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 1, 4, 0, AB_WAL_PUT_BLOCK), AB_OK);
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_int_eq(put(1, s1, 1, 4, 0, AB_WAL_PUT_BLOCK), AB_OK); /* the very same: a repeated commit */
    ck_assert_int_eq(put(1, s1, 1, 3, 0, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 4, 2, state.last_hash, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 6, 2, state.last_hash, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ck_assert_int_eq(put(1, s1, 5, 2, state.last_hash + 1, AB_WAL_PUT_BLOCK), AB_EINVAL);
    ab_wal_message(wal, &message);
    ck_assert_ptr_nonnull(strstr(message.text, "stream 1/1, block 5 to 6"));
    ck_assert_int_eq(put(1, s1, 5, 2, state.last_hash, AB_WAL_PUT_BLOCK), AB_OK);
    assert_stream(1, s1, 0, 6);
}
END_TEST

START_TEST(all_or_nothing)
{
    ab_block_header h[3];
    uint8_t *b[3];
    uint64_t prev = 0;
    size_t failed;
    for (size_t i = 0; i < 3; i++) {
        b[i] = wt_block(1, s1, 1 + i * 10, 10, 50, prev, &h[i]);
        prev = h[i].checksum;
    }
    ab_wal_op ops[5] = {
        {.type = AB_WAL_PUT_BLOCK, .data = {b[0], ab_block_size(&h[0])}},
        {.type = AB_WAL_PUT_STATE, .group = 1, .key = {"k", 1}, .data = {"v", 1}},
        {.type = AB_WAL_PUT_BLOCK, .data = {b[1], ab_block_size(&h[1])}},
        {.type = AB_WAL_TRIM, .group = 1, .stream = s1, .index = 10, .limit = 9},
        {.type = AB_WAL_PUT_BLOCK, .data = {b[1], ab_block_size(&h[1]) - 1}},
    };
    void *data;
    size_t size;
    ck_assert_int_eq(ab_wal_commit(wal, ops, 5, &failed), AB_EINVAL);
    ck_assert_uint_eq(failed, 4);
    ck_assert_uint_eq(ops[3].done, 0);
    ab_stream_state state;
    ck_assert(!wt_stream(wal, 1, s1, &state));
    ck_assert_int_eq(ab_wal_state_get(wal, 1, (ab_bytes){"k", 1}, &data, &size), AB_ENOTFOUND);
    ops[4] = (ab_wal_op){.type = AB_WAL_PUT_BLOCK, .data = {b[2], ab_block_size(&h[2])}};
    ck_assert_int_eq(ab_wal_commit(wal, ops, 5, &failed), AB_OK);
    ck_assert_uint_eq(failed, 5);
    ck_assert_uint_eq(ops[3].done, 1);
    ck_assert_uint_eq(ops[3].done_index, 10);
    assert_stream(1, s1, 10, 30);
    ck_assert_int_eq(ab_wal_state_get(wal, 1, (ab_bytes){"k", 1}, &data, &size), AB_OK);
    free(data);
    ck_assert_int_eq(ab_wal_commit(wal, NULL, 0, &failed), AB_OK);
    for (size_t i = 0; i < 3; i++) {
        free(b[i]);
    }
}
END_TEST

/* --- trimming ------------------------------------------------------------------------------------------------ */

START_TEST(trim_whole_blocks_oldest_first)
{
    ab_block_header h;
    ab_stream_state state;
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 100), AB_OK);
        ck_assert_int_eq(wt_append(wal, 1, s2, 10, 100), AB_OK);
    }
    ck_assert_int_eq(wt_trim(wal, 1, s1, 9, 100), 0);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 10, 100), 1);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 59, 100), 4);
    assert_stream(1, s1, 50, 200);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 150, 3), 3);
    assert_stream(1, s1, 80, 200);
    ck_assert_int_eq(read_at(1, s1, 80, &h), AB_ETRIMMED);
    ck_assert_int_eq(read_at(1, s1, 81, &h), AB_OK);
    ck_assert_int_eq(wt_trim(wal, 1, s1, UINT64_MAX, 100), 12);
    ck_assert_int_eq(wt_trim(wal, 1, s1, UINT64_MAX, 100), 0);
    ck_assert_int_eq(wt_trim(wal, 9, s1, UINT64_MAX, 100), 0);
    assert_stream(1, s1, 200, 200);
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_uint_eq(state.base_hash, state.last_hash);
    ck_assert_uint_ne(state.hlc_last, 0);
    reopen(&sync_options);
    ck_assert_int_eq(wt_append(wal, 1, s1, 10, 100), AB_OK); /* goes on where it was */
    assert_stream(1, s1, 200, 210);
    assert_stream(1, s2, 0, 200);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

START_TEST(steady_trimming_keeps_the_file_small)
{
    ab_wal_usage usage;
    for (int i = 0; i < 400; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 100, 100), AB_OK);
        if (i >= 20) {
            ck_assert_int_eq(wt_trim(wal, 1, s1, (uint64_t)(i - 20) * 100, 4), i > 20 ? 1 : 0);
        }
    }
    ab_wal_usage_get(wal, &usage);
    ck_assert_uint_lt(usage.used_bytes, 500u << 10);
    ck_assert_uint_lt(usage.file_bytes, 2u << 20);
    reopen(&read_options);
    ck_assert_int_eq(wt_verify(wal), 0); /* every page of the file is in use or free */
}
END_TEST

/* --- small state --------------------------------------------------------------------------------------------- */

typedef struct listing {
    char text[512];
    int stop_after;
} listing;

static bool list_state(void *arg, uint64_t group, ab_bytes key, ab_bytes value)
{
    listing *l = arg;
    size_t used = strlen(l->text);
    snprintf(l->text + used, sizeof(l->text) - used, "%llu:%.*s=%.*s ", (unsigned long long)group,
             (int)key.size, (const char *)key.data, (int)value.size, (const char *)value.data);
    return --l->stop_after != 0;
}

static bool list_group(void *arg, uint64_t group)
{
    listing *l = arg;
    size_t used = strlen(l->text);
    snprintf(l->text + used, sizeof(l->text) - used, "%llu ", (unsigned long long)group);
    return --l->stop_after != 0;
}

START_TEST(state_is_kept)
{
    void *data;
    size_t size;
    listing l = {.stop_after = -1};
    ck_assert_int_eq(wt_state_put(wal, 7, "core/b", "2", 1), AB_OK);
    ck_assert_int_eq(wt_state_put(wal, 7, "core/a", "1", 1), AB_OK);
    ck_assert_int_eq(wt_state_put(wal, 7, "dore", "3", 1), AB_OK);
    ck_assert_int_eq(wt_state_put(wal, 8, "core/c", "", 0), AB_OK);
    ck_assert_int_eq(wt_state_put(wal, 6, "core/c", "x", 1), AB_OK);
    ck_assert_int_eq(wt_append(wal, 7, s1, 1, 1), AB_OK);
    ck_assert_int_eq(ab_wal_state_each(wal, 7, (ab_bytes){"core/", 5}, list_state, &l), AB_OK);
    ck_assert_str_eq(l.text, "7:core/a=1 7:core/b=2 ");
    l = (listing){.stop_after = 1};
    ck_assert_int_eq(ab_wal_state_each(wal, 7, (ab_bytes){NULL, 0}, list_state, &l), AB_OK);
    ck_assert_str_eq(l.text, "7:core/a=1 ");
    ck_assert_int_eq(ab_wal_state_get(wal, 8, (ab_bytes){"core/c", 6}, &data, &size), AB_OK);
    ck_assert_uint_eq(size, 0);
    free(data);
    ck_assert_int_eq(ab_wal_state_get(wal, 8, (ab_bytes){"core/", 5}, &data, &size), AB_ENOTFOUND);
    ab_wal_op del = {.type = AB_WAL_DEL_STATE, .group = 7, .key = {"core/a", 6}};
    ck_assert_int_eq(ab_wal_commit(wal, &del, 1, NULL), AB_OK);
    ck_assert_int_eq(ab_wal_commit(wal, &del, 1, NULL), AB_OK);
    reopen(&sync_options);
    l = (listing){.stop_after = -1};
    ck_assert_int_eq(ab_wal_state_each(wal, 7, (ab_bytes){"core/", 5}, list_state, &l), AB_OK);
    ck_assert_str_eq(l.text, "7:core/b=2 ");
}
END_TEST

/* Values that shrink and grow over the size at which LMDB gives them pages of their own. */
START_TEST(state_of_all_sizes)
{
    static uint8_t value[100000];
    static const size_t sizes[] = {0, 100000, 1, 5000, 3000, 2050, 2000, 1990, 8200, 100, 65536, 12, 0};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *data;
        size_t size;
        memset(value, (int)i, sizeof(value));
        ck_assert_int_eq(wt_state_put(wal, 1, "k", value, sizes[i]), AB_OK);
        ck_assert_int_eq(wt_state_put(wal, 1, "other", value, sizes[i] / 2), AB_OK);
        ck_assert_int_eq(ab_wal_state_get(wal, 1, (ab_bytes){"k", 1}, &data, &size), AB_OK);
        ck_assert_uint_eq(size, sizes[i]);
        ck_assert_mem_eq(data, value, size);
        free(data);
        reopen(&read_options);
        ck_assert_int_eq(wt_verify(wal), 0);
        reopen(&sync_options);
    }
}
END_TEST

START_TEST(state_names_are_checked)
{
    char name[600];
    memset(name, 'n', sizeof(name));
    ab_wal_op op = {.type = AB_WAL_PUT_STATE, .group = 1, .key = {name, 503}, .data = {"v", 1}};
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_OK);
    op.key.size = 504;
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_EINVAL);
    op.key.size = 0;
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_EINVAL);
    ck_assert_int_eq(wt_state_put(wal, 1, "stream/x", "v", 1), AB_EINVAL); /* the log's own */
    op.type = (ab_wal_op_type)99;
    ck_assert_int_eq(ab_wal_commit(wal, &op, 1, NULL), AB_EINVAL);
}
END_TEST

typedef struct stream_listing {
    int count;
    int stop_after;
    uint64_t group[64];
    ab_stream stream[64];
} stream_listing;

static bool list_stream(void *arg, uint64_t group, const ab_stream_state *state)
{
    stream_listing *l = arg;
    l->group[l->count] = group;
    l->stream[l->count++] = state->stream;
    return --l->stop_after != 0;
}

START_TEST(groups_and_streams_in_order)
{
    static const uint64_t groups[] = {300, 1, UINT64_MAX, 256, 2};
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(wt_append(wal, groups[i], (ab_stream){300, 1}, 1, 1), AB_OK);
        ck_assert_int_eq(wt_append(wal, groups[i], (ab_stream){2, 500}, 1, 1), AB_OK);
        ck_assert_int_eq(wt_append(wal, groups[i], (ab_stream){2, 7}, 1, 1), AB_OK);
        ck_assert_int_eq(wt_state_put(wal, groups[i], "a", "a", 1), AB_OK);
        ck_assert_int_eq(wt_state_put(wal, groups[i], "z", "z", 1), AB_OK);
    }
    ck_assert_int_eq(wt_state_put(wal, 5, "only state", "z", 1), AB_OK);
    listing l = {.stop_after = -1};
    ck_assert_int_eq(ab_wal_groups(wal, list_group, &l), AB_OK);
    ck_assert_str_eq(l.text, "1 2 5 256 300 18446744073709551615 ");
    l = (listing){.stop_after = 2};
    ck_assert_int_eq(ab_wal_groups(wal, list_group, &l), AB_OK);
    ck_assert_str_eq(l.text, "1 2 ");
    stream_listing s = {.stop_after = -1};
    ck_assert_int_eq(ab_wal_streams(wal, 0, list_stream, &s), AB_OK);
    ck_assert_int_eq(s.count, 15);
    static const uint64_t sorted[] = {1, 2, 256, 300, UINT64_MAX};
    for (int i = 0; i < 15; i++) {
        ck_assert_uint_eq(s.group[i], sorted[i / 3]);
        ck_assert_uint_eq(s.stream[i].node, i % 3 == 2 ? 300 : 2);
        ck_assert_uint_eq(s.stream[i].epoch, i % 3 == 0 ? 7 : i % 3 == 1 ? 500 : 1);
    }
    s = (stream_listing){.stop_after = -1};
    ck_assert_int_eq(ab_wal_streams(wal, 256, list_stream, &s), AB_OK);
    ck_assert_int_eq(s.count, 3);
    s = (stream_listing){.stop_after = -1};
    ck_assert_int_eq(ab_wal_streams(wal, 5, list_stream, &s), AB_OK);
    ck_assert_int_eq(s.count, 0);
    s = (stream_listing){.stop_after = 4};
    ck_assert_int_eq(ab_wal_streams(wal, 0, list_stream, &s), AB_OK);
    ck_assert_int_eq(s.count, 4);
}
END_TEST

/* --- damage and repair --------------------------------------------------------------------------------------- */

/* Flips a byte of the payload of a block with this content somewhere in the closed file. */
static void damage(uint64_t group, ab_stream stream, uint64_t first, uint32_t count, size_t payload,
                   uint64_t prev)
{
    ab_block_header h;
    size_t size;
    char *path = wt_path(dir, "data.mdb");
    uint8_t *block = wt_block(group, stream, first, count, payload, prev, &h);
    uint8_t *data = wt_file_read(path, &size);
    uint8_t *hit = memmem(data, size, block, AB_BLOCK_HEADER + 8);
    ck_assert_ptr_nonnull(hit);
    hit[AB_BLOCK_HEADER + 7] ^= 0x10;
    int fd = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, hit + AB_BLOCK_HEADER + 7, 1, hit + AB_BLOCK_HEADER + 7 - data), 1);
    close(fd);
    free(data);
    free(block);
    free(path);
}

static uint64_t hash_at(uint64_t group, ab_stream stream, uint64_t index)
{
    ab_block_header h = {.checksum = 0};
    if (index > 0) {
        ck_assert_int_eq(read_at(group, stream, index, &h), AB_OK);
    }
    return h.checksum;
}

/* Damages the block of 10 entries that begins at `first`; the log is open again afterwards. */
static uint64_t damage_ten(uint64_t first)
{
    uint64_t prev = hash_at(1, s1, first - 1);
    ab_wal_close(wal);
    wal = NULL;
    damage(1, s1, first, 10, 400, prev);
    reopen(&sync_options);
    return prev;
}

static int replace(uint64_t first, uint32_t count, size_t payload, uint64_t prev)
{
    ab_block_header h;
    uint8_t *block = wt_block(1, s1, first, count, payload, prev, &h);
    ab_wal_op op = {.type = AB_WAL_REPLACE_BLOCK, .data = {block, ab_block_size(&h)}};
    int code = ab_wal_commit(wal, &op, 1, NULL);
    free(block);
    return code;
}

START_TEST(damage_is_told_and_repaired)
{
    ab_block_header h;
    const uint64_t first = (uint64_t)_i * 20 + 1; /* the first, one in the middle, the last */
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    }
    uint64_t prev = damage_ten(first);
    ck_assert_int_eq(read_at(1, s1, first + 3, &h), AB_ECORRUPT);
    ck_assert_uint_eq(h.first, first);
    ck_assert_uint_eq(h.last, first + 9);
    ab_wal_message(wal, &message);
    ck_assert_ptr_nonnull(strstr(message.text, "group 1, stream 1/1"));
    ck_assert_int_eq(wt_verify(wal), 1);
    /* the others are well, and the stream goes on */
    ck_assert_int_eq(read_at(1, s1, first == 1 ? 11 : first - 1, &h), AB_OK);
    ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    /* only the right one is taken */
    ck_assert_int_eq(replace(first, 9, 400, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first + 1, 9, 400, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first, 10, 399, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first, 10, 400, prev + 1), AB_EINVAL);
    ck_assert_int_eq(replace(first + 60, 10, 400, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first, 10, 400, prev), AB_OK);
    assert_stream(1, s1, 0, 60);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

/* A damaged key: the block is where nobody looks for it. */
START_TEST(missing_block_is_told_and_put_back)
{
    ab_block_header h;
    const uint64_t first = (uint64_t)_i * 20 + 1;
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    }
    uint64_t prev = hash_at(1, s1, first - 1);
    size_t size;
    char *path = wt_path(dir, "data.mdb");
    ab_wal_close(wal);
    wal = NULL;
    uint8_t *data = wt_file_read(path, &size);
    const uint8_t key[24] = {[7] = 1, [11] = 1, [15] = 1, [23] = (uint8_t)first};
    for (uint8_t *hit = data; (hit = memmem(hit, size - (size_t)(hit - data), key, 24)) != NULL; hit++) {
        hit[23]++; /* also in pages that are free now: means nothing there */
    }
    ck_assert(wt_file_write(path, data, size));
    free(data);
    free(path);
    reopen(&sync_options);
    ck_assert_int_eq(read_at(1, s1, first, &h), AB_ECORRUPT);
    ck_assert_uint_eq(h.first, first);
    ck_assert_int_gt(wt_verify(wal), 0);
    ck_assert_int_eq(replace(first, 9, 400, prev), AB_EINVAL);
    ck_assert_int_eq(replace(first, 10, 400, prev), AB_OK);
    ck_assert_int_eq(replace(first, 10, 400, prev), AB_OK);
    ck_assert_int_eq(replace(first, 10, 399, prev), AB_EINVAL);
    assert_stream(1, s1, 0, 50);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

START_TEST(damage_does_not_wedge_trimming)
{
    ab_block_header h;
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    }
    (void)damage_ten(21);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 20, 10), 2);
    ck_assert_int_eq(read_at(1, s1, 21, &h), AB_ECORRUPT);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 40, 10), 2);
    assert_stream(1, s1, 40, 60);
    ck_assert_int_eq(wt_verify(wal), 0);
    (void)damage_ten(51); /* the last one */
    ck_assert_int_eq(wt_trim(wal, 1, s1, 60, 10), 2);
    ck_assert_int_eq(wt_append(wal, 1, s1, 10, 400), AB_OK);
    assert_stream(1, s1, 60, 70);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

/* LMDB frees as many pages as the header of a run of pages says. */
START_TEST(damaged_page_header_is_mended)
{
    size_t size;
    ab_wal_close(wal);
    wal = NULL;
    char *path = wt_path(dir, "data.mdb");
    reopen(&sync_options);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 1000), AB_OK);
    }
    ck_assert_int_eq(wt_append(wal, 1, s2, 10, 1000), AB_OK);
    uint8_t *data = wt_file_read(path, &size);
    uint8_t *hit = NULL;
    for (size_t page = 0; page < size; page += 4096) {
        uint64_t first;
        memcpy(&first, data + page + 16 + 32, 8);
        if (memcmp(data + page + 16, "ABBK", 4) == 0 && data[page + 16 + 24] == 1 && first == 11) {
            hit = data + page;
        }
    }
    ck_assert_ptr_nonnull(hit);
    int fd = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, "\x09", 1, hit - data + 12), 1); /* nine pages instead of three */
    close(fd);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 60, 100), 6);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 10, 1000), AB_OK);
    }
    assert_stream(1, s2, 0, 10);
    assert_stream(1, s1, 60, 260);
    free(data);
    free(path);
    reopen(&read_options);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

typedef struct stop_after {
    int calls;
    int limit;
} stop_after;

static bool stop_verify(void *arg, const ab_wal_fault *fault, uint64_t blocks, uint64_t total)
{
    stop_after *s = arg;
    (void)fault;
    ck_assert_uint_le(blocks, total);
    return ++s->calls < s->limit;
}

START_TEST(verify_shows_progress_and_stops)
{
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 1, 10), AB_OK);
    }
    stop_after s = {.limit = 1000};
    ck_assert_int_eq(ab_wal_verify(wal, stop_verify, &s), AB_OK);
    ck_assert_int_eq(s.calls, 4);
    s = (stop_after){.limit = 2};
    ck_assert_int_eq(ab_wal_verify(wal, stop_verify, &s), AB_ECLOSED);
    ck_assert_int_eq(s.calls, 2);
}
END_TEST

/* --- space --------------------------------------------------------------------------------------------------- */

START_TEST(map_grows_without_a_failed_commit)
{
    ab_wal_usage usage;
    ab_wal_options options = sync_options;
    options.map_bytes = 256u << 10;
    reopen(&options);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(wt_append(wal, 1, s1, 100, 1000), AB_OK);
    }
    ab_wal_usage_get(wal, &usage);
    ck_assert_uint_ge(usage.map_bytes, 10000000);
    ck_assert_uint_ge(usage.used_bytes, 10000000);
    ck_assert_uint_ge(usage.commits, 100);
    assert_stream(1, s1, 0, 10000);
}
END_TEST

typedef struct readers {
    _Atomic bool stop;
    _Atomic uint64_t reads;
    _Atomic int bad;
} readers;

static void *read_all_the_time(void *arg)
{
    readers *r = arg;
    while (!atomic_load(&r->stop)) {
        ab_stream_state state;
        if (wt_stream(wal, 1, s1, &state)) {
            ab_block_header h;
            void *data;
            size_t size;
            uint64_t index = state.base + 1 + (state.last - state.base) / 2;
            int code = ab_wal_read(wal, 1, s1, index, wt_alloc, NULL, &h, &data, &size);
            if (code == AB_OK && !wt_block_good(data, &h)) {
                code = AB_EINTERNAL;
            }
            if (code != AB_OK && code != AB_ETRIMMED && code != AB_ENOTFOUND) {
                atomic_store(&r->bad, code);
            }
            free(data);
            atomic_fetch_add(&r->reads, 1);
        }
    }
    return NULL;
}

/* Four threads read while the writer appends, trims and makes the map grow under them, again and again. */
START_TEST(readers_beside_the_writer)
{
    ab_wal_options options = sync_options;
    options.map_bytes = 64u << 10;
    for (int run = 0; run < 12; run++) {
        pthread_t threads[4];
        readers r = {.bad = AB_OK};
        teardown();
        dir = wt_dir_new(true);
        reopen(&options);
        for (int i = 0; i < 4; i++) {
            ck_assert_int_eq(pthread_create(&threads[i], NULL, read_all_the_time, &r), 0);
        }
        for (uint64_t rounds = 0; rounds < 100 || atomic_load(&r.reads) < 500; rounds++) {
            ck_assert_int_eq(wt_append(wal, 1, s1, 20, 500), AB_OK);
            if (rounds > 60 && rounds % 4 == 0) {
                ck_assert_int_ge(wt_trim(wal, 1, s1, (rounds - 50) * 20, 8), 0);
            }
        }
        atomic_store(&r.stop, true);
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
        }
        ck_assert_int_eq(atomic_load(&r.bad), AB_OK);
        ck_assert_int_eq(wt_verify(wal), 0);
    }
}
END_TEST

START_TEST(ceiling_refuses_appends_only)
{
    ab_wal_usage usage;
    ab_wal_options options = sync_options;
    options.max_bytes = 1u << 20;
    reopen(&options);
    int code;
    uint64_t last = 0;
    while ((code = wt_append(wal, 1, s1, 10, 1000)) == AB_OK) {
        last += 10;
        ck_assert_uint_lt(last, 2000);
    }
    ck_assert_int_eq(code, AB_ENOSPC);
    ab_wal_message(wal, &message);
    ck_assert_ptr_nonnull(strstr(message.text, "ceiling of 1048576 bytes"));
    ab_wal_usage_get(wal, &usage);
    ck_assert_uint_le(usage.used_bytes, options.max_bytes);
    ck_assert_uint_ge(usage.used_bytes, options.max_bytes - (64u << 10));
    assert_stream(1, s1, 0, last);
    ck_assert_int_eq(wt_state_put(wal, 1, "k", "v", 1), AB_OK);
    ck_assert_int_eq(wt_append(wal, 1, s1, 10, 1000), AB_ENOSPC);
    ck_assert_int_eq(wt_trim(wal, 1, s1, 100, 10), 10);
    ck_assert_int_eq(wt_append(wal, 1, s1, 10, 1000), AB_OK);
    assert_stream(1, s1, 100, last + 10);
    ck_assert_int_eq(wt_verify(wal), 0);
}
END_TEST

/* Pages of this process in memory, bytes. */
static uint64_t resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long size = 0;
    unsigned long pages = 0;
    ck_assert(file != NULL && fscanf(file, "%lu %lu", &size, &pages) == 2);
    fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Many blocks are opened as fast as few, in constant memory. AB_LONG=1 does it with gigabytes. */
START_TEST(opening_is_fast_and_lean)
{
    const bool is_long = getenv("AB_LONG") != NULL;
    const int commits = is_long ? 400 : 20;
    const uint32_t count = is_long ? 4000 : 100;
    ab_wal_options options = {.durability = AB_DURABILITY_NONE, .max_bytes = 64ull << 30};
    ab_wal_close(wal);
    wal = NULL;
    wt_dir_remove(dir);
    dir = wt_dir_new(false);
    reopen(&options);
    ab_stream_state state = {.stream = s1};
    for (int i = 0; i < commits; i++) {
        ab_wal_op ops[20];
        for (size_t k = 0; k < 20; k++) {
            ab_block_header h;
            uint8_t *block = wt_block(1, s1, state.last + 1, count, 100, state.last_hash, &h);
            ops[k] = (ab_wal_op){.type = AB_WAL_PUT_BLOCK, .data = {block, ab_block_size(&h)}};
            state.last = h.last;
            state.last_hash = h.checksum;
        }
        ck_assert_int_eq(ab_wal_commit(wal, ops, 20, NULL), AB_OK);
        for (size_t k = 0; k < 20; k++) {
            free((void *)(uintptr_t)ops[k].data.data);
        }
    }
    struct timespec a;
    struct timespec b;
    ab_wal_usage usage;
    ab_stream_state found;
    ab_wal_usage_get(wal, &usage);
    ab_wal_close(wal);
    wal = NULL;
    uint64_t before = resident();
    clock_gettime(CLOCK_MONOTONIC, &a);
    reopen(&options);
    ck_assert(wt_stream(wal, 1, s1, &found));
    clock_gettime(CLOCK_MONOTONIC, &b);
    ck_assert_uint_eq(found.last, state.last);
    double seconds = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
    printf("opening %llu MB with %d blocks: %.1f ms\n", (unsigned long long)(usage.file_bytes >> 20),
           commits * 20, seconds * 1e3);
    ck_assert(seconds < 1.0);
    ck_assert_uint_lt(resident(), before + (4u << 20));
    ab_block_header h;
    ck_assert_int_eq(read_at(1, s1, state.last / 2, &h), AB_OK);
}
END_TEST

static void add_open_tests(Suite *suite)
{
    TCase *tcase = tcase_create("open");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, origin_of_a_new_log);
    tcase_add_test(tcase, tail_is_safe_after_sync_or_close_only);
    tcase_add_test(tcase, copy_is_not_the_file_it_was);
    tcase_add_test(tcase, second_open_is_refused);
    tcase_add_test(tcase, read_only_changes_nothing);
    tcase_add_test(tcase, read_only_makes_nothing);
    tcase_add_test(tcase, open_makes_the_directory);
    tcase_add_test(tcase, unknown_format_is_refused);
    tcase_add_test(tcase, file_that_is_no_log_is_refused);
    suite_add_tcase(suite, tcase);
}

static void add_data_tests(Suite *suite)
{
    TCase *tcase = tcase_create("data");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, read_by_any_index);
    tcase_add_test(tcase, boundary_sizes);
    tcase_add_test(tcase, order_and_chain_are_demanded);
    tcase_add_test(tcase, all_or_nothing);
    tcase_add_test(tcase, trim_whole_blocks_oldest_first);
    tcase_add_test(tcase, steady_trimming_keeps_the_file_small);
    tcase_add_test(tcase, state_is_kept);
    tcase_add_test(tcase, state_of_all_sizes);
    tcase_add_test(tcase, state_names_are_checked);
    tcase_add_test(tcase, groups_and_streams_in_order);
    tcase_add_loop_test(tcase, damage_is_told_and_repaired, 0, 3);
    tcase_add_loop_test(tcase, missing_block_is_told_and_put_back, 0, 3);
    tcase_add_test(tcase, damage_does_not_wedge_trimming);
    tcase_add_test(tcase, damaged_page_header_is_mended);
    tcase_add_test(tcase, verify_shows_progress_and_stops);
    suite_add_tcase(suite, tcase);
}

static void add_space_tests(Suite *suite)
{
    TCase *tcase = tcase_create("space");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, map_grows_without_a_failed_commit);
    tcase_add_test(tcase, readers_beside_the_writer);
    tcase_add_test(tcase, ceiling_refuses_appends_only);
    tcase_add_test(tcase, opening_is_fast_and_lean);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    Suite *suite = suite_create("wal");
    add_open_tests(suite);
    add_data_tests(suite);
    add_space_tests(suite);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
