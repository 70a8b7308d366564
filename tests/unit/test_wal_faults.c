/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that is full or fails, at every write of a commit in turn: nothing changed, and it goes on afterwards.
 * The system calls of LMDB are met by functions of the same name here. One thread.
 */
#define _GNU_SOURCE
#include "tests/support/run.h"
#include "tests/unit/test_wal_support.h"

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const ab_stream s1 = {1, 1};
static const ab_wal_options options = {.durability = AB_DURABILITY_SYNC, .max_bytes = 64u << 20};

/* What the nth call from now does; 0: nothing fails. */
static struct {
    int calls_left;
    int error;     /* errno; 0: a short write */
    bool for_ever; /* all calls after it, too */
    bool delivered;
    bool torn; /* a write fails though its bytes did arrive */
} fault;

static bool fails_now(void)
{
    if (fault.calls_left == 0) {
        return false;
    }
    if (fault.calls_left > 1) {
        fault.calls_left--;
        return false;
    }
    fault.delivered = true;
    if (!fault.for_ever) {
        fault.calls_left = 0;
    }
    return true;
}

typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off_t);
typedef ssize_t (*writev_fn)(int, const struct iovec *, int);
typedef int (*sync_fn)(int);

/* Under the name that LMDB calls: with 64-bit offsets, <unistd.h> gives pwrite another one. */
ssize_t faulty_pwrite(int fd, const void *data, size_t size, off_t offset) __asm__("pwrite");

ssize_t faulty_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    pwrite_fn real = (pwrite_fn)(uintptr_t)dlsym(RTLD_NEXT, "pwrite");
    if (!fails_now()) {
        return real(fd, data, size, offset);
    }
    if (fault.error == 0 || fault.torn) {
        ssize_t wrote = real(fd, data, fault.torn ? size : size / 2, offset);
        if (fault.error == 0) {
            return wrote;
        }
    }
    errno = fault.error;
    return -1;
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    writev_fn real = (writev_fn)(uintptr_t)dlsym(RTLD_NEXT, "writev");
    if (!fails_now()) {
        return real(fd, pieces, count);
    }
    if (fault.error == 0) {
        return real(fd, pieces, 1);
    }
    errno = fault.error;
    return -1;
}

int fdatasync(int fd)
{
    sync_fn real = (sync_fn)(uintptr_t)dlsym(RTLD_NEXT, "fdatasync");
    if (fails_now()) {
        errno = fault.error != 0 ? fault.error : EIO;
        return -1;
    }
    return real(fd);
}

static void no_faults(void)
{
    fault.calls_left = 0;
    fault.delivered = false;
}

static int append_blocks(ab_wal *wal, uint32_t blocks)
{
    ab_stream_state state;
    ab_wal_op ops[4];
    ab_block_header h;
    (void)wt_stream(wal, 1, s1, &state);
    for (uint32_t i = 0; i < blocks; i++) {
        uint8_t *block = wt_block(1, s1, state.last + 1, 20, 300, state.last_hash, &h);
        ops[i] = (ab_wal_op){.type = AB_WAL_PUT_BLOCK, .data = {block, ab_block_size(&h)}};
        state.last = h.last;
        state.last_hash = h.checksum;
    }
    int code = ab_wal_commit(wal, ops, blocks, NULL);
    for (uint32_t i = 0; i < blocks; i++) {
        free((void *)(uintptr_t)ops[i].data.data);
    }
    return code;
}

static void assert_whole(ab_wal *wal, uint64_t last)
{
    ab_stream_state state;
    ck_assert(wt_stream(wal, 1, s1, &state));
    ck_assert_uint_eq(state.last, last);
    ck_assert_int_eq(wt_read_all(wal, 1, &state), AB_OK);
    ck_assert_int_eq(wt_verify(wal), 0);
}

typedef struct kind {
    int error;
    bool torn;
    bool for_ever;
} kind;

/* Each system call of a commit fails in turn, in each way; then the same commit again. */
START_TEST(every_call_fails)
{
    static const kind kinds[] = {{ENOSPC, false, false}, {EIO, false, false}, {0, false, false},
                                 {EIO, true, false},     {EIO, false, true},  {ENOSPC, false, true}};
    const kind *k = &kinds[_i];
    char *dir = wt_dir_new(true);
    ab_wal *wal;
    uint64_t last = 40;
    int n = 1;
    ck_assert_int_eq(ab_wal_open(dir, &options, &wal, NULL, NULL), AB_OK);
    ck_assert_int_eq(append_blocks(wal, 2), AB_OK);
    for (;; n++) {
        fault.calls_left = n;
        fault.error = k->error;
        fault.torn = k->torn;
        fault.for_ever = k->for_ever;
        fault.delivered = false;
        int code = append_blocks(wal, 2);
        bool delivered = fault.delivered;
        no_faults();
        if (code != AB_OK) {
            ck_assert_msg(code == (k->error == ENOSPC ? AB_ENOSPC : AB_EIO), "call %d: code %d", n, code);
            ab_message message;
            ab_wal_message(wal, &message);
            ck_assert_msg(strstr(message.text, dir) != NULL, "%s", message.text);
        } else {
            last += 40;
        }
        ck_assert_msg(delivered || code == AB_OK, "call %d", n);
        if (code == AB_OK && !delivered) {
            break;
        }
        if (code != AB_OK) {
            ab_message before;
            ab_wal_message(wal, &before);
            code = append_blocks(wal, 2); /* there is room again */
            ab_message after;
            ab_wal_message(wal, &after);
            ck_assert_msg(code == AB_OK, "after call %d: code %d: %s; before: %s", n, code, after.text,
                          before.text);
            last += 40;
        }
        assert_whole(wal, last);
    }
    ck_assert_int_ge(n, 3); /* data, sync, meta page at the least */
    ab_wal_close(wal);
    ab_wal_options reading = options;
    reading.read_only = true;
    ck_assert_int_eq(ab_wal_open(dir, &reading, &wal, NULL, NULL), AB_OK);
    assert_whole(wal, last);
    ab_wal_close(wal);
    wt_dir_remove(dir);
}
END_TEST

/* A crash, as far as the file shows it: closed after the failure, and opened again. */
static ab_wal *crash(ab_wal *wal, const char *dir)
{
    ab_wal_abandon(wal);
    ck_assert_int_eq(ab_wal_open(dir, &options, &wal, NULL, NULL), AB_OK);
    return wal;
}

/* A stream is forgotten with the record that stands for it, or neither happened, whatever call of the commit fails. */
START_TEST(forgetting_is_whole)
{
    const ab_bytes key = {"core/folded/1", 13};
    char *dir = wt_dir_new(true);
    ab_wal *wal;
    bool delivered = true;
    ck_assert_int_eq(ab_wal_open(dir, &options, &wal, NULL, NULL), AB_OK);
    for (int n = 1; delivered; n++) {
        ab_wal_op clear = {.type = AB_WAL_DEL_STATE, .group = 1, .key = key};
        ck_assert_int_eq(ab_wal_commit(wal, &clear, 1, NULL), AB_OK);
        ck_assert_int_eq(append_blocks(wal, 4), AB_OK);
        ab_wal_op ops[] = {{.type = AB_WAL_PUT_STATE, .group = 1, .key = key, .data = {"x", 1}},
                           {.type = AB_WAL_FORGET, .group = 1, .stream = s1, .limit = 100}};
        fault.calls_left = n;
        fault.error = EIO;
        fault.torn = _i == 1;
        fault.for_ever = _i == 2;
        fault.delivered = false;
        int code = ab_wal_commit(wal, ops, 2, NULL);
        delivered = fault.delivered;
        no_faults();
        if (code != AB_OK) {
            wal = crash(wal, dir);
        }
        void *data = NULL;
        size_t size;
        ab_stream_state state;
        bool kept = ab_wal_state_get(wal, 1, key, &data, &size) == AB_OK;
        ck_assert_msg(kept == !wt_stream(wal, 1, s1, &state), "call %d", n);
        ck_assert_int_eq(wt_verify(wal), 0);
        ck_assert_int_eq(ab_wal_commit(wal, ops, 2, NULL), AB_OK);
        ck_assert(!wt_stream(wal, 1, s1, &state));
        free(data);
    }
    ab_wal_close(wal);
    wt_dir_remove(dir);
}
END_TEST

/* A stream is taken back with the record that says so, or neither happened, whatever call of the commit fails. */
START_TEST(rewinding_is_whole)
{
    const ab_bytes key = {"core/rewind/1", 13};
    char *dir = wt_dir_new(true);
    ab_wal *wal;
    bool delivered = true;
    unsigned failures = 0;
    ab_stream_state fork;
    ab_stream_state state;
    ck_assert_int_eq(ab_wal_open(dir, &options, &wal, NULL, NULL), AB_OK);
    ck_assert_int_eq(append_blocks(wal, 2), AB_OK);
    ck_assert(wt_stream(wal, 1, s1, &fork));
    for (int n = 1; delivered; n++) {
        ab_wal_op clear = {.type = AB_WAL_DEL_STATE, .group = 1, .key = key};
        ck_assert_int_eq(ab_wal_commit(wal, &clear, 1, NULL), AB_OK);
        ck_assert_int_eq(append_blocks(wal, 4), AB_OK);
        ab_wal_op ops[] = {
            {.type = AB_WAL_PUT_STATE, .group = 1, .key = key, .data = {"x", 1}},
            {.type = AB_WAL_REWIND, .group = 1, .stream = s1, .index = fork.last, .hash = fork.last_hash}};
        fault.calls_left = n;
        fault.error = EIO;
        fault.torn = _i == 1;
        fault.for_ever = _i == 2;
        fault.delivered = false;
        int code = ab_wal_commit(wal, ops, 2, NULL);
        delivered = fault.delivered;
        no_faults();
        if (code != AB_OK) {
            wal = crash(wal, dir);
            failures++;
        }
        void *data = NULL;
        size_t size;
        bool kept = ab_wal_state_get(wal, 1, key, &data, &size) == AB_OK;
        free(data);
        assert_whole(wal, kept ? fork.last : fork.last + 80);
        ck_assert_int_eq(ab_wal_commit(wal, ops, 2, NULL), AB_OK); /* and once more */
        assert_whole(wal, fork.last);
        ck_assert(wt_stream(wal, 1, s1, &state));
        ck_assert_uint_eq(state.last_hash, fork.last_hash);
    }
    ck_assert_uint_ge(failures, 2);
    ab_wal_close(wal);
    wt_dir_remove(dir);
}
END_TEST

/* The environment cannot even be reopened for a while; reads say so, and all comes back. */
START_TEST(reopening_fails_for_a_while)
{
    char *dir = wt_dir_new(true);
    char *path = wt_path(dir, "data.mdb");
    char *away = wt_path(dir, "away");
    ab_wal *wal;
    ck_assert_int_eq(ab_wal_open(dir, &options, &wal, NULL, NULL), AB_OK);
    ck_assert_int_eq(append_blocks(wal, 2), AB_OK);
    int failed = 0;
    for (int n = 1; n < 12; n++) {
        fault.calls_left = n;
        fault.error = EIO;
        fault.for_ever = true;
        fault.torn = false;
        fault.delivered = false;
        ck_assert_int_eq(chmod(path, 0), 0);
        ck_assert_int_eq(rename(path, away), 0);
        ck_assert_int_eq(mkdir(path, 0700), 0); /* not a file: opening it fails */
        int code = append_blocks(wal, 1);
        no_faults();
        ck_assert_int_eq(rmdir(path), 0);
        ck_assert_int_eq(rename(away, path), 0);
        ck_assert_int_eq(chmod(path, 0600), 0);
        if (code != AB_OK) {
            failed++;
            ck_assert_int_eq(ab_wal_commit(wal, NULL, 0, NULL), AB_OK); /* any commit tries to reopen */
            ck_assert_int_eq(append_blocks(wal, 1), AB_OK);
        }
        ab_stream_state state;
        ck_assert(wt_stream(wal, 1, s1, &state));
        assert_whole(wal, 40 + 20 * (uint64_t)n);
    }
    ck_assert_int_gt(failed, 0);
    ab_wal_close(wal);
    free(path);
    free(away);
    wt_dir_remove(dir);
}
END_TEST

/* Fills until it is refused, makes room, goes on. */
static void fill_and_recover(ab_wal *wal, void (*make_room)(void))
{
    uint64_t last = 0;
    int code;
    while ((code = append_blocks(wal, 4)) == AB_OK) {
        last += 80;
        ck_assert_uint_lt(last, 100000);
    }
    ck_assert_int_eq(code, AB_ENOSPC);
    assert_whole(wal, last);
    ck_assert_int_eq(append_blocks(wal, 4), AB_ENOSPC);
    assert_whole(wal, last);
    make_room();
    ck_assert_int_eq(append_blocks(wal, 4), AB_OK);
    assert_whole(wal, last + 80);
}

static void raise_limit(void)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(file_size_limit)
{
    char *dir = wt_dir_new(true);
    ab_wal *wal;
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(ab_wal_open(dir, &options, &wal, NULL, NULL), AB_OK);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 400000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    fill_and_recover(wal, raise_limit);
    ab_wal_close(wal);
    wt_dir_remove(dir);
}
END_TEST

static char *mount_dir;

static void enlarge_mount(void)
{
    ck_assert_int_eq(mount("tmpfs", mount_dir, "tmpfs", MS_REMOUNT, "size=8m"), 0);
}

/* A file system of its own that is really full; needs the right to mount. */
START_TEST(full_disk)
{
    ab_wal *wal;
    mount_dir = wt_dir_new(false);
    if (mount("tmpfs", mount_dir, "tmpfs", 0, "size=1m") != 0) {
        printf("full_disk: may not mount a file system here (%s): not tried\n", strerror(errno));
        wt_dir_remove(mount_dir);
        return;
    }
    ck_assert_int_eq(ab_wal_open(mount_dir, &options, &wal, NULL, NULL), AB_OK);
    fill_and_recover(wal, enlarge_mount);
    ab_wal_close(wal);
    ck_assert_int_eq(umount(mount_dir), 0);
    wt_dir_remove(mount_dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wal_faults");
    TCase *tcase = tcase_create("faults");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, every_call_fails, 0, 6);
    tcase_add_loop_test(tcase, forgetting_is_whole, 0, 3);
    tcase_add_loop_test(tcase, rewinding_is_whole, 0, 3);
    tcase_add_test(tcase, reopening_fails_for_a_while);
    tcase_add_test(tcase, file_size_limit);
    tcase_add_test(tcase, full_disk);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
