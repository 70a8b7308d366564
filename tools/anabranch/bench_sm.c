/* SPDX-License-Identifier: Apache-2.0 */
/* The bench's state machine, see bench_sm.h. Apply threads, one call at a time per group. */
#include "tools/anabranch/bench_sm.h"
#include "tools/anabranch/bench_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define FILE_MAGIC 0x31434e45424241ull /* "ABBENC1" */
#define FILE_WORDS 5u                  /* magic, count, digest, number of marks */

int ab_bench_progress_init(struct ab_bench_progress *progress)
{
    memset(progress, 0, sizeof *progress);
    atomic_store(&progress->target, UINT64_MAX);
    atomic_store(&progress->before, UINT64_MAX);
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);
    if (rc) {
        return rc;
    }
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = pthread_cond_init(&progress->reached, &attr);
    pthread_condattr_destroy(&attr);
    if (rc) {
        return rc;
    }
    rc = pthread_mutex_init(&progress->lock, NULL);
    if (rc) {
        pthread_cond_destroy(&progress->reached);
    }
    return rc;
}

void ab_bench_progress_destroy(struct ab_bench_progress *progress)
{
    pthread_cond_destroy(&progress->reached);
    pthread_mutex_destroy(&progress->lock);
}

/* The target is stored before `applied` is read there, and read after it was raised here: one of both sees it. */
static void progress_add(struct ab_bench_progress *progress, uint64_t count)
{
    uint64_t now = ab_bench_now();
    uint64_t applied = atomic_fetch_add(&progress->applied, count) + count;
    uint64_t none = UINT64_MAX;
    if (now >= atomic_load_explicit(&progress->mark, memory_order_relaxed)) {
        atomic_compare_exchange_strong(&progress->before, &none, applied - count);
    }
    atomic_store(&progress->last, now);
    if (applied >= atomic_load(&progress->target)) {
        pthread_mutex_lock(&progress->lock);
        pthread_cond_broadcast(&progress->reached);
        pthread_mutex_unlock(&progress->lock);
    }
}

bool ab_bench_progress_await(struct ab_bench_progress *progress, uint64_t target, uint64_t timeout_ns)
{
    uint64_t until = ab_bench_now() + timeout_ns;
    struct timespec ts = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    int rc = 0;
    pthread_mutex_lock(&progress->lock);
    atomic_store(&progress->target, target);
    while (atomic_load(&progress->applied) < target && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&progress->reached, &progress->lock, &ts);
    }
    pthread_mutex_unlock(&progress->lock);
    return atomic_load(&progress->applied) >= target;
}

int ab_bench_sm_init(struct ab_bench_sm *sm, struct ab_bench_progress *progress, uint64_t group,
                     const char *dir)
{
    memset(sm, 0, sizeof *sm);
    sm->progress = progress;
    sm->group = group;
    int n = snprintf(sm->path, sizeof sm->path, "%s/state-%" PRIu64, dir, group);
    return n > 0 && (size_t)n + sizeof ".new" <= sizeof sm->path ? AB_OK : AB_EINVAL;
}

static ab_mark *mark_of(struct ab_bench_sm *sm, ab_stream stream)
{
    for (size_t i = 0; i < sm->mark_count; i++) {
        if (sm->marks[i].stream.node == stream.node && sm->marks[i].stream.epoch == stream.epoch) {
            return &sm->marks[i];
        }
    }
    if (sm->mark_count == AB_BENCH_MARKS_MAX) {
        return NULL;
    }
    ab_mark *mark = &sm->marks[sm->mark_count++];
    *mark = (ab_mark){stream, 0};
    return mark;
}

static bool in_frontier(ab_frontier frontier, ab_mark mark)
{
    for (size_t i = 0; i < frontier.count; i++) {
        const ab_mark *m = &frontier.marks[i];
        if (m->stream.node == mark.stream.node && m->stream.epoch == mark.stream.epoch) {
            return m->index == mark.index;
        }
    }
    return mark.index == 0;
}

/* An old stream that every member has for good leaves the frontier once a later one of the same origin is in it. */
static bool is_folded(ab_frontier frontier, ab_mark mark)
{
    bool later = false;
    for (size_t i = 0; i < frontier.count; i++) {
        ab_stream stream = frontier.marks[i].stream;
        if (stream.node == mark.stream.node && stream.epoch == mark.stream.epoch) {
            return false;
        }
        later = later || (stream.node == mark.stream.node && stream.epoch > mark.stream.epoch);
    }
    return later;
}

static void compare(struct ab_bench_sm *sm, ab_frontier after)
{
    size_t kept = 0;
    for (size_t i = 0; i < sm->mark_count; i++) {
        if (is_folded(after, sm->marks[i])) {
            continue;
        }
        if (!in_frontier(after, sm->marks[i])) {
            atomic_fetch_add(&sm->progress->faults, 1);
        }
        sm->marks[kept++] = sm->marks[i];
    }
    sm->mark_count = kept;
}

/* A sum: the same whatever the order in which streams were mixed. */
static void add_hash(struct ab_bench_sm *sm, const ab_entry *entry)
{
    uint64_t hash = XXH3_64bits(entry->payload, entry->size) ^ sm->group * 0x9e3779b97f4a7c15u;
    sm->digest[0] += hash;
    sm->digest[1] += (hash >> 32 | hash << 32) * 0xbf58476d1ce4e5b9u;
}

/* Notes when a write before a silence has arrived. */
static void note_arrival(struct ab_bench_progress *progress, const ab_entry *entry)
{
    struct ab_bench_silence silence;
    if (entry->size < AB_BENCH_SILENCE_AT + sizeof silence) {
        return;
    }
    memcpy(&silence, (const char *)entry->payload + AB_BENCH_SILENCE_AT, sizeof silence);
    if (silence.magic == AB_BENCH_SILENCE_MAGIC && silence.number < AB_BENCH_SILENCES_MAX) {
        atomic_store(&progress->arrivals[silence.number], (uint32_t)((ab_bench_now() - silence.due) / 1000u));
    }
}

static int sm_apply(void *ctx, const ab_entry *entries, size_t count, ab_frontier after, size_t *failed)
{
    (void)failed;
    struct ab_bench_sm *sm = ctx;
    ab_mark *mark = NULL;
    for (size_t i = 0; i < count; i++) {
        const ab_entry *entry = &entries[i];
        if (!mark || mark->stream.node != entry->stream.node || mark->stream.epoch != entry->stream.epoch) {
            mark = mark_of(sm, entry->stream);
        }
        if (!mark || entry->index != mark->index + 1) {
            atomic_fetch_add(&sm->progress->faults, 1);
        }
        if (mark) {
            mark->index = entry->index;
        }
        add_hash(sm, entry);
        if (sm->progress->arrivals) {
            note_arrival(sm->progress, entry);
        }
    }
    compare(sm, after);
    sm->count += count;
    progress_add(sm->progress, count);
    return AB_OK;
}

/* The file: FILE_WORDS numbers, the marks, and the hash of both. */
struct image {
    uint64_t words[FILE_WORDS];
    ab_mark marks[AB_BENCH_MARKS_MAX];
    uint64_t hash;
};

static size_t image_size(size_t marks)
{
    return FILE_WORDS * sizeof(uint64_t) + marks * sizeof(ab_mark);
}

static int write_file(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return AB_EIO;
    }
    bool fine = write(fd, data, size) == (ssize_t)size && fsync(fd) == 0;
    return close(fd) == 0 && fine ? AB_OK : AB_EIO;
}

/* A rename is durable once its directory is. */
static int sync_directory_of(const char *path)
{
    char dir[AB_BENCH_PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash) {
        return AB_EIO;
    }
    memcpy(dir, path, (size_t)(slash - path));
    dir[slash - path] = '\0';
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return AB_EIO;
    }
    int rc = fsync(fd);
    close(fd);
    return rc == 0 ? AB_OK : AB_EIO;
}

static int sm_checkpoint(void *ctx, ab_frontier_out *durable)
{
    const struct ab_bench_sm *sm = ctx;
    char fresh[AB_BENCH_PATH_MAX + 8];
    struct image image = {.words = {FILE_MAGIC, sm->count, sm->digest[0], sm->digest[1], sm->mark_count}};
    memcpy(image.marks, sm->marks, sm->mark_count * sizeof(ab_mark));
    size_t size = image_size(sm->mark_count);
    uint64_t hash = XXH3_64bits(&image, size);
    memcpy((char *)&image + size, &hash, sizeof hash);
    snprintf(fresh, sizeof fresh, "%s.new", sm->path);
    int rc = write_file(fresh, &image, size + sizeof hash);
    if (rc == AB_OK && rename(fresh, sm->path) != 0) {
        rc = AB_EIO;
    }
    if (rc == AB_OK) {
        rc = sync_directory_of(sm->path);
    }
    for (size_t i = 0; rc == AB_OK && i < sm->mark_count; i++) {
        rc = ab_frontier_add(durable, sm->marks[i]);
    }
    return rc;
}

static bool image_good(const struct image *image, ssize_t size)
{
    uint64_t hash;
    if (size < (ssize_t)(image_size(0) + sizeof hash) || image->words[0] != FILE_MAGIC ||
        image->words[4] > AB_BENCH_MARKS_MAX ||
        (size_t)size != image_size((size_t)image->words[4]) + sizeof hash) {
        return false;
    }
    memcpy(&hash, (const char *)image + size - sizeof hash, sizeof hash);
    return hash == XXH3_64bits(image, (size_t)size - sizeof hash);
}

static int sm_open(void *ctx, ab_group *group, ab_frontier_out *durable)
{
    (void)group;
    struct ab_bench_sm *sm = ctx;
    struct image image = {.words = {0}};
    int fd = open(sm->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? AB_OK : AB_EIO;
    }
    ssize_t size = read(fd, &image, sizeof image);
    close(fd);
    if (!image_good(&image, size)) {
        return AB_ECORRUPT;
    }
    sm->count = image.words[1];
    sm->digest[0] = image.words[2];
    sm->digest[1] = image.words[3];
    sm->mark_count = (size_t)image.words[4];
    memcpy(sm->marks, image.marks, sm->mark_count * sizeof(ab_mark));
    atomic_fetch_add(&sm->progress->applied, sm->count);
    for (size_t i = 0; i < sm->mark_count; i++) {
        int rc = ab_frontier_add(durable, sm->marks[i]);
        if (rc) {
            return rc;
        }
    }
    return AB_OK;
}

static int sm_digest(void *ctx, ab_digest *digest)
{
    const struct ab_bench_sm *sm = ctx;
    memcpy(digest->bytes, sm->digest, sizeof digest->bytes);
    return AB_OK;
}

const ab_statemachine ab_bench_statemachine = {.version = AB_STATEMACHINE_VERSION,
                                               .open = sm_open,
                                               .apply = sm_apply,
                                               .checkpoint = sm_checkpoint,
                                               .digest = sm_digest};
