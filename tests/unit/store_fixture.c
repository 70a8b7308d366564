/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the point store share. One thread. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "tests/unit/store_fixture.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char base[64];
ab_lp_parser *store_parser;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

void store_setup(void)
{
    snprintf(base, sizeof base, "/tmp/test_store_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    store_parser = ab_lp_new();
}

void store_teardown(void)
{
    ab_lp_free(store_parser);
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *dir_named(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", base, name);
    return path;
}

/* Packs lines. The pack is the caller's to free. */
static void pack_lines(ab_pack *pack, const char *text, size_t payload_max)
{
    ab_lp_line line;
    ab_lp_error error;
    int code = AB_OK;
    ab_lp_begin(store_parser, text, strlen(text), 1, 1000);
    while ((code = ab_lp_next(store_parser, &line, &error)) == AB_OK) {
        ck_assert_int_eq(ab_pack_add(pack, &line, payload_max), AB_OK);
    }
    ck_assert_int_eq(code, AB_ENOTFOUND);
    ck_assert_int_eq(ab_pack_finish(pack), AB_OK);
}

void make_entry(written *w, uint32_t node, uint64_t index, uint64_t hlc, const char *text)
{
    *w = (written){0};
    pack_lines(&w->pack, text, 1 << 20);
    ck_assert_uint_eq(w->pack.count, 1);
    w->entry = (ab_entry){{node, 1}, index, hlc, 0, w->pack.payloads[0].data, w->pack.payloads[0].size};
}

void make_delete(written *w, uint32_t node, uint64_t index, uint64_t hlc, const ab_selection *selection)
{
    size_t size = 0;
    *w = (written){0};
    ck_assert_int_eq(ab_pack_delete(selection, &w->erase, &size), AB_OK);
    w->entry = (ab_entry){{node, 1}, index, hlc, 0, w->erase, size};
}

void free_entry(written *w)
{
    ab_pack_free(&w->pack);
    free(w->erase);
}

int apply(ab_store *store, const ab_entry *entries, size_t count, const ab_mark *marks, size_t mark_count)
{
    size_t failed = 0;
    return ab_store_apply(store, entries, count, (ab_frontier){marks, mark_count}, &failed);
}

pid_t fork_apart(int keep)
{
    pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    int null = open("/dev/null", O_RDWR);
    for (int fd = STDERR_FILENO + 1; fd < 256; fd++) {
        if (fd != keep && fd != null && fcntl(fd, F_GETFD) != -1) {
            dup2(null, fd);
        }
    }
    return 0;
}

char *export_selected(ab_store *store, const ab_selection *selection)
{
    ab_export *walk = ab_export_new(selection);
    char *all = calloc(1, 1);
    size_t total = 0;
    while (!ab_export_ended(walk)) {
        const char *text = NULL;
        size_t size = 0;
        ck_assert_int_eq(ab_export_next(walk, store, &text, &size), AB_OK);
        if (size == 0) {
            continue;
        }
        all = realloc(all, total + size + 1);
        memcpy(all + total, text, size);
        total += size;
        all[total] = '\0';
    }
    ab_export_free(walk);
    return all;
}

ab_store_summary check_summary(ab_store *store)
{
    ab_store_summary kept;
    ab_store_summary counted;
    ab_store_summarize(store, &kept);
    ck_assert_int_eq(ab_store_scan(store, &counted), AB_OK);
    ck_assert_mem_eq(&kept.digest, &counted.digest, sizeof kept.digest);
    ck_assert_uint_eq(kept.points, counted.points);
    ck_assert_uint_eq(kept.columns, counted.columns);
    ck_assert_uint_eq(kept.tombstones, counted.tombstones);
    return kept;
}

ab_store *open_store(const char *name)
{
    ab_store *store = NULL;
    ab_message message = {""};
    ck_assert_msg(ab_store_open(dir_named(name), GROUP, &store, &message) == AB_OK, "%s", message.text);
    return store;
}

void check_export(ab_store *store, const char *expected)
{
    ck_assert_int_eq(ab_store_flush(store), AB_OK);
    char *text = export_selected(store, NULL);
    ck_assert_str_eq(text, expected);
    free(text);
}
