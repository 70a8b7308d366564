/* SPDX-License-Identifier: Apache-2.0 */
/* The log: growth, ceiling, readers beside the writer, opening large logs. One thread, except where said. */
#include "tests/unit/test_wal_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

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

int main(void)
{
    Suite *suite = suite_create("wal_space");
    TCase *tcase = wal_case(suite, "wal_space");
    tcase_add_test(tcase, map_grows_without_a_failed_commit);
    tcase_add_test(tcase, readers_beside_the_writer);
    tcase_add_test(tcase, ceiling_refuses_appends_only);
    tcase_add_test(tcase, opening_is_fast_and_lean);
    return test_run(suite);
}
