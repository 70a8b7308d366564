/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every byte of a small log flipped in turn is either harmless or detected: never wrong data, never a crash. A
 * child works through the bytes, so that a crash or a hang (alarm) shows together with the byte that caused it.
 * One thread.
 *
 *   wal_flip               every byte of structure, every 7th of the insides of large blocks, every 61st of what is
 *                          free (AB_LONG=1: every byte with every mask)
 *   wal_flip OFFSET MASK   replays one
 */
#include "tests/unit/test_wal_support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define STREAMS 4
#define STATES 6
#define PAGE 4096u
#define PAGE_HEADER 16u
#define TXNID 128u /* in the meta record */
#define HANG_SECONDS 20u

typedef struct expected_state {
    uint64_t group;
    char key[16];
    uint8_t data[6000];
    size_t size;
} expected_state;

/* What the sound log holds. */
typedef struct model {
    uint64_t groups[STREAMS];
    ab_stream_state streams[STREAMS];
    expected_state states[STATES];
} model;

/* Shared between parent and child. */
typedef struct progress {
    size_t at; /* flip under way: byte * masks + mask */
    unsigned long harmless;
    unsigned long by_open;
    unsigned long by_read;
    unsigned long by_verify;
    unsigned long written;
    unsigned long refused;
} progress;

typedef struct flip {
    model *m;
    char *dir;  /* the log under test */
    char *copy; /* a copy of it, written to */
    uint8_t *data;
    size_t size;
    progress *p;
} flip;

static const uint8_t masks[] = {0xff, 0x01, 0x02, 0x40};
#define MASKS (sizeof(masks) / sizeof(masks[0]))

static const ab_wal_options reading = {.durability = AB_DURABILITY_SYNC, .read_only = true};
/* INTERVAL: only the mark of an orderly close, the last commit of all, makes the tail safe. */
static const ab_wal_options writing = {.durability = AB_DURABILITY_INTERVAL, .max_bytes = 64u << 20};

static void must(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "wal_flip: set-up: %s\n", what);
        exit(1);
    }
}

static void build(const char *dir, model *m)
{
    static const struct {
        uint64_t group;
        ab_stream stream;
        uint32_t blocks;
        uint32_t count;
        size_t payload;
        uint32_t trimmed;
    } plan[STREAMS] = {{7, {1, 1}, 34, 1, 20, 0},   /* small blocks inside the leaves: several leaf pages */
                       {7, {2, 9}, 8, 20, 100, 3},  /* on one overflow page, trimmed */
                       {8, {1, 1}, 3, 50, 150, 0},  /* on several */
                       {300, {1, 5}, 4, 1, 40, 4}}; /* trimmed to nothing */
    ab_wal *wal;
    ab_message message;
    must(ab_wal_open(dir, &writing, &wal, NULL, &message) == AB_OK, "open");
    for (size_t s = 0; s < STREAMS; s++) {
        for (uint32_t i = 0; i < plan[s].blocks; i++) {
            must(wt_append(wal, plan[s].group, plan[s].stream, plan[s].count, plan[s].payload) == AB_OK,
                 "append");
        }
        if (plan[s].trimmed > 0) {
            must(wt_trim(wal, plan[s].group, plan[s].stream, 1000000, plan[s].trimmed) ==
                     (int)plan[s].trimmed,
                 "trim");
        }
        m->groups[s] = plan[s].group;
        must(wt_stream(wal, plan[s].group, plan[s].stream, &m->streams[s]), "stream");
    }
    for (size_t s = 0; s < STATES; s++) {
        expected_state *e = &m->states[s];
        e->group = s % 2 == 0 ? 7 : 9;
        snprintf(e->key, sizeof(e->key), "core/%zu", s);
        e->size = s == 5 ? sizeof(e->data) : s * 11;
        memset(e->data, (int)(s + 1), e->size);
        must(wt_state_put(wal, e->group, e->key, e->data, e->size) == AB_OK, "state");
    }
    must(wt_verify(wal) == 0, "verify");
    ab_wal_close(wal);
}

/* A damaged transaction id is hardest to see where one bit makes it two less: then all that the check looks at before
 * the commit record is as it should be. Opening and closing commit once each. */
static void settle(const char *dir)
{
    uint64_t ids[2] = {0, 0};
    do {
        ab_wal *wal;
        size_t size;
        char *path = wt_path(dir, "data.mdb");
        must(ab_wal_open(dir, &writing, &wal, NULL, NULL) == AB_OK, "reopen");
        must(ids[0] == 0 || wt_state_put(wal, 7, "settle", &ids, 1) == AB_OK, "state");
        ab_wal_close(wal);
        uint8_t *data = wt_file_read(path, &size);
        must(data != NULL, "read");
        memcpy(&ids[0], data + PAGE_HEADER + TXNID, 8);
        memcpy(&ids[1], data + PAGE + PAGE_HEADER + TXNID, 8);
        free(data);
        free(path);
    } while (((ids[0] > ids[1] ? ids[0] : ids[1]) & 2) == 0);
}

typedef struct stream_list {
    const model *m;
    size_t count;
    bool same;
} stream_list;

static bool stream_same(void *arg, uint64_t group, const ab_stream_state *state)
{
    stream_list *list = arg;
    const ab_stream_state *e = &list->m->streams[list->count < STREAMS ? list->count : 0];
    if (list->count >= STREAMS || group != list->m->groups[list->count] ||
        ab_stream_compare(e->stream, state->stream) != 0 || e->base != state->base ||
        e->base_hash != state->base_hash || e->last != state->last || e->last_hash != state->last_hash ||
        e->hlc_last != state->hlc_last) {
        list->same = false;
    }
    list->count++;
    return true;
}

static int streams_compare(ab_wal *wal, const model *m)
{
    stream_list list = {.m = m, .same = true};
    int code = ab_wal_streams(wal, 0, stream_same, &list);
    if (code != AB_OK) {
        return code;
    }
    return list.same && list.count == STREAMS ? AB_OK : AB_EINTERNAL;
}

/* AB_OK: all as it was. An error: detected. AB_EINTERNAL: the log said AB_OK to something else. */
static int compare(ab_wal *wal, const model *m)
{
    int code = streams_compare(wal, m);
    for (size_t s = 0; s < STREAMS && code == AB_OK; s++) {
        code = wt_read_all(wal, m->groups[s], &m->streams[s]);
    }
    for (size_t s = 0; s < STATES && code == AB_OK; s++) {
        const expected_state *e = &m->states[s];
        void *data;
        size_t size;
        code = ab_wal_state_get(wal, e->group, (ab_bytes){e->key, strlen(e->key)}, &data, &size);
        if (code == AB_OK) {
            code = size == e->size && memcmp(data, e->data, size) == 0 ? AB_OK : AB_EINTERNAL;
            free(data);
        }
    }
    return code;
}

static bool wrong(const flip *f, const char *what)
{
    fprintf(stderr, "wal_flip: %s; replay: wal_flip %zu %u\n", what, f->p->at / MASKS,
            (unsigned)masks[f->p->at % MASKS]);
    return false;
}

/* Opens the flipped file for writing, appends and trims, and looks whether anything was harmed by that. */
static bool write_on(flip *f, const uint8_t *bytes)
{
    ab_wal *wal;
    char *path = wt_path(f->copy, "data.mdb");
    must(wt_file_write(path, bytes, f->size), "copy");
    free(path);
    f->p->written++;
    if (ab_wal_open(f->copy, &writing, &wal, NULL, NULL) != AB_OK) {
        f->p->refused++;
        return true;
    }
    if (streams_compare(wal, f->m) != AB_OK) {
        ab_wal_close(wal);
        return wrong(f, "opened for writing, streams are not what they were");
    }
    bool damaged = wt_verify(wal) != 0; /* a damaged block: shows, and stays */
    bool good = true;
    for (int round = 0; round < 3 && good; round++) {
        for (size_t s = 0; s < STREAMS && good; s++) {
            good = wt_append(wal, f->m->groups[s], f->m->streams[s].stream, 30, 100) == AB_OK;
        }
        int trimmed = wt_trim(wal, 8, (ab_stream){1, 1}, 50 + (uint64_t)round * 50, 1);
        good = good && (trimmed == 1 || damaged); /* a hole makes a block seem longer */
    }
    for (size_t s = 0; s < STREAMS && good; s++) {
        ab_stream_state state;
        good = wt_stream(wal, f->m->groups[s], f->m->streams[s].stream, &state);
        int code = good ? wt_read_all(wal, f->m->groups[s], &state) : AB_EINTERNAL;
        good = code == AB_OK || (damaged && code == AB_ECORRUPT);
    }
    int faults = good ? wt_verify(wal) : 0;
    ab_wal_close(wal);
    if (!good || (faults != 0 && !damaged)) {
        return wrong(f, "writing on harmed what was there");
    }
    if (ab_wal_open(f->copy, &reading, &wal, NULL, NULL) != AB_OK) {
        return wrong(f, "written on, it cannot be opened again");
    }
    faults = wt_verify(wal);
    ab_wal_close(wal);
    return faults == 0 || damaged ? true : wrong(f, "written on, it does not verify");
}

static bool try_one(flip *f, size_t offset, uint8_t mask, bool write, uint8_t *bytes)
{
    ab_wal *wal;
    char *path = wt_path(f->dir, "data.mdb");
    int fd = open(path, O_RDWR);
    uint8_t flipped = f->data[offset] ^ mask;
    free(path);
    must(fd >= 0 && pwrite(fd, &flipped, 1, (off_t)offset) == 1, "flip");
    bool good = true;
    ab_wal_origin origin;
    bool opened = ab_wal_open(f->dir, &reading, &wal, &origin, NULL) == AB_OK;
    if (opened) {
        int code = compare(wal, f->m);
        int faults = wt_verify(wal);
        ab_wal_close(wal);
        if (code == AB_EINTERNAL) {
            good = wrong(f, "the log said AB_OK to wrong data");
        } else if (!origin.tail_safe) {
            good = wrong(f, "the last commit is gone");
        } else if (code != AB_OK && faults == 0) {
            good = wrong(f, "reading failed and verify saw nothing");
        }
        f->p->by_read += code != AB_OK;
        f->p->by_verify += code == AB_OK && faults != 0;
        f->p->harmless += code == AB_OK && faults == 0;
    } else {
        f->p->by_open++;
    }
    must(pwrite(fd, &f->data[offset], 1, (off_t)offset) == 1, "flip back");
    close(fd);
    if (good && opened && write) {
        memcpy(bytes, f->data, f->size);
        bytes[offset] = flipped;
        good = write_on(f, bytes);
    }
    return good;
}

/* A page without which all is as it was is free: overwriting it whole shows. */
static bool page_is_live(const flip *f, size_t page)
{
    static const uint8_t zeros[PAGE];
    ab_wal *wal;
    char *path = wt_path(f->dir, "data.mdb");
    int fd = open(path, O_RDWR);
    free(path);
    must(fd >= 0 && pwrite(fd, zeros, PAGE, (off_t)(page * PAGE)) == PAGE, "clear a page");
    bool live = true;
    if (ab_wal_open(f->dir, &reading, &wal, NULL, NULL) == AB_OK) {
        live = compare(wal, f->m) != AB_OK || wt_verify(wal) != 0;
        ab_wal_close(wal);
    }
    must(pwrite(fd, f->data + page * PAGE, PAGE, (off_t)(page * PAGE)) == PAGE, "put a page back");
    close(fd);
    return live;
}

/* How closely a page is looked at: every how many bytes, with how many masks, and whether writing on is tried. */
typedef struct effort {
    size_t stride;
    size_t masks;
    bool write;
} effort;

static effort effort_for(const flip *f, size_t offset, bool live, bool all)
{
    const uint8_t *p = f->data + offset / PAGE * PAGE;
    size_t at = offset % PAGE;
    uint16_t flags;
    uint16_t lower;
    uint16_t upper;
    memcpy(&flags, p + 10, sizeof(flags));
    memcpy(&lower, p + 12, sizeof(lower));
    memcpy(&upper, p + 14, sizeof(upper));
    if (all) {
        return (effort){1, MASKS, true};
    }
    if (offset < 2 * (size_t)PAGE && at < 160) {
        return (effort){1, MASKS, true}; /* meta pages */
    }
    if (live && (flags == 1 || flags == 2) && (at < lower || at >= upper)) {
        return (effort){1, 1, true}; /* nodes of the trees */
    }
    if (live && at < 160) {
        return (effort){1, 1, at < 16}; /* headers of overflow pages and blocks */
    }
    return (effort){live ? 7 : 61, 1, !live};
}

static int child(flip *f, bool all)
{
    uint8_t *bytes = malloc(f->size);
    bool live = false;
    for (size_t offset = 0; offset < f->size; offset++) {
        if (offset % PAGE == 0) {
            live = page_is_live(f, offset / PAGE);
        }
        effort e = effort_for(f, offset, live, all);
        for (size_t i = 0; i < e.masks && offset % e.stride == 0; i++) {
            size_t mask = e.masks > 1 ? i : offset / e.stride % MASKS;
            f->p->at = offset * MASKS + mask;
            alarm(HANG_SECONDS);
            if (!try_one(f, offset, masks[mask], e.write, bytes)) {
                return 1;
            }
        }
    }
    free(bytes);
    return 0;
}

static int run(flip *f, bool all)
{
    pid_t pid = fork();
    int status;
    if (pid == 0) {
        _exit(child(f, all));
    }
    must(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
    const progress *p = f->p;
    printf("wal_flip: %zu bytes: %lu harmless, detected by open %lu, by reading %lu, by verify %lu; written "
           "on %lu "
           "(%lu refused)\n",
           f->size, p->harmless, p->by_open, p->by_read, p->by_verify, p->written, p->refused);
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "wal_flip: ended by signal %d; replay: wal_flip %zu %u\n", WTERMSIG(status),
                p->at / MASKS, (unsigned)masks[p->at % MASKS]);
        return 1;
    }
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    flip f = {.m = calloc(1, sizeof(model)), .dir = wt_dir_new(true), .copy = wt_dir_new(true)};
    f.p = mmap(NULL, sizeof(*f.p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(f.m != NULL && f.dir != NULL && f.copy != NULL && f.p != MAP_FAILED, "memory");
    build(f.dir, f.m);
    settle(f.dir);
    char *path = wt_path(f.dir, "data.mdb");
    f.data = wt_file_read(path, &f.size);
    must(f.data != NULL, "read");
    int result;
    if (argc == 3) {
        uint8_t *bytes = malloc(f.size);
        size_t offset = strtoul(argv[1], NULL, 10);
        uint8_t mask = (uint8_t)strtoul(argv[2], NULL, 10);
        f.p->at = offset * MASKS;
        result = try_one(&f, offset, mask, true, bytes) ? 0 : 1;
        free(bytes);
    } else {
        result = run(&f, getenv("AB_LONG") != NULL);
    }
    free(path);
    free(f.data);
    free(f.m);
    wt_dir_remove(f.dir);
    wt_dir_remove(f.copy);
    return result;
}
