/* SPDX-License-Identifier: Apache-2.0 */
/* A state machine for tests; see sm.h. */
#include "tests/support/sm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void test_sm_init(test_sm *sm)
{
    memset(sm, 0, sizeof *sm);
    pthread_mutex_init(&sm->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&sm->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void test_sm_free(test_sm *sm)
{
    free(sm->entries);
    pthread_mutex_destroy(&sm->lock);
    pthread_cond_destroy(&sm->changed);
}

static int sm_open(void *ctx, ab_group *group, ab_frontier_out *durable)
{
    test_sm *sm = ctx;
    (void)group;
    int code = AB_OK;
    sm->opens++;
    for (size_t i = 0; sm->keep_durable && i < sm->durable_count && code == AB_OK; i++) {
        code = ab_frontier_add(durable, sm->durable[i]);
    }
    return code;
}

static uint64_t last_of(const test_sm *sm, ab_stream stream)
{
    for (size_t i = 0; i < sm->mark_count; i++) {
        if (sm->marks[i].stream.node == stream.node && sm->marks[i].stream.epoch == stream.epoch) {
            return sm->marks[i].index;
        }
    }
    return 0;
}

static int store(test_sm *sm, const ab_entry *entry)
{
    if (sm->count == sm->capacity) {
        size_t capacity = sm->capacity == 0 ? 64 : sm->capacity * 2;
        test_entry *entries = realloc(sm->entries, capacity * sizeof *entries);
        if (entries == NULL) {
            return AB_ENOMEM;
        }
        sm->entries = entries;
        sm->capacity = capacity;
    }
    test_entry *to = &sm->entries[sm->count++];
    *to =
        (test_entry){.stream = entry->stream, .index = entry->index, .hlc = entry->hlc, .size = entry->size};
    memcpy(to->text, entry->payload, entry->size < sizeof to->text - 1 ? entry->size : sizeof to->text - 1);
    return AB_OK;
}

static size_t find_reject(const test_sm *sm, const ab_entry *entries, size_t count)
{
    for (size_t i = 0; sm->reject != NULL && i < count; i++) {
        if (entries[i].size == strlen(sm->reject) &&
            memcmp(entries[i].payload, sm->reject, entries[i].size) == 0) {
            return i;
        }
    }
    return count;
}

static int sm_apply(void *ctx, const ab_entry *entries, size_t count, ab_frontier after, size_t *failed)
{
    test_sm *sm = ctx;
    pthread_mutex_lock(&sm->lock);
    sm->in_apply++;
    pthread_cond_broadcast(&sm->changed);
    while (sm->blocked) {
        pthread_cond_wait(&sm->changed, &sm->lock);
    }
    sm->in_apply--;
    sm->applies++;
    int code = AB_OK;
    size_t bad = find_reject(sm, entries, count);
    if (sm->fail_times > 0) {
        sm->fail_times--;
        code = sm->fail_code;
    } else if (bad < count) {
        *failed = bad;
        code = AB_EREJECT;
    }
    uint64_t last = count > 0 ? last_of(sm, entries[0].stream) : 0;
    for (size_t i = 0; i < count && code == AB_OK; i++) {
        /* A refused entry leaves a hole of one that the frontier has passed. */
        sm->order_errors += entries[i].index <= last || (sm->reject == NULL && entries[i].index != last + 1);
        last = entries[i].index;
        code = store(sm, &entries[i]);
    }
    if (code == AB_OK) {
        sm->mark_count = after.count < 16 ? after.count : 16;
        memcpy(sm->marks, after.marks, sm->mark_count * sizeof sm->marks[0]);
        pthread_cond_broadcast(&sm->changed);
    }
    pthread_mutex_unlock(&sm->lock);
    return code;
}

static int sm_query(void *ctx, const void *request, size_t size, ab_reply *reply)
{
    (void)ctx;
    return ab_reply_append(reply, request, size);
}

static int sm_checkpoint(void *ctx, ab_frontier_out *durable)
{
    test_sm *sm = ctx;
    int code = AB_OK;
    pthread_mutex_lock(&sm->lock);
    sm->checkpoints++;
    memcpy(sm->durable, sm->marks, sizeof sm->durable);
    sm->durable_count = sm->forgets ? 0 : sm->mark_count;
    for (size_t i = 0; i < sm->durable_count && code == AB_OK; i++) {
        code = ab_frontier_add(durable, sm->durable[i]);
    }
    pthread_cond_broadcast(&sm->changed);
    pthread_mutex_unlock(&sm->lock);
    return code;
}

/* Independent of the order: a sum over the entries. */
static int sm_digest(void *ctx, ab_digest *digest)
{
    test_sm *sm = ctx;
    uint64_t sums[2] = {0, 0};
    pthread_mutex_lock(&sm->lock);
    for (size_t i = 0; i < sm->count; i++) {
        const test_entry *entry = &sm->entries[i];
        uint64_t hash =
            entry->index * 0x9e3779b97f4a7c15u ^ entry->hlc * 0xc2b2ae3d27d4eb4fu ^ entry->stream.node;
        for (const char *c = entry->text; *c != '\0'; c++) {
            hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
        }
        sums[0] += hash;
        sums[1] += hash * hash;
    }
    pthread_mutex_unlock(&sm->lock);
    memcpy(digest->bytes, sums, sizeof digest->bytes);
    return AB_OK;
}

static void sm_close(void *ctx)
{
    test_sm *sm = ctx;
    sm->closes++;
}

const ab_statemachine test_statemachine = {.version = AB_STATEMACHINE_VERSION,
                                           .open = sm_open,
                                           .apply = sm_apply,
                                           .query = sm_query,
                                           .checkpoint = sm_checkpoint,
                                           .digest = sm_digest,
                                           .close = sm_close};

static struct timespec deadline_in(unsigned timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}

bool test_sm_wait(test_sm *sm, size_t count, unsigned timeout_ms)
{
    struct timespec until = deadline_in(timeout_ms);
    pthread_mutex_lock(&sm->lock);
    int code = 0;
    while (sm->count < count && code != ETIMEDOUT) {
        code = pthread_cond_timedwait(&sm->changed, &sm->lock, &until);
    }
    bool reached = sm->count >= count;
    pthread_mutex_unlock(&sm->lock);
    return reached;
}

bool test_sm_wait_inside(test_sm *sm, unsigned timeout_ms)
{
    struct timespec until = deadline_in(timeout_ms);
    pthread_mutex_lock(&sm->lock);
    int code = 0;
    while (sm->in_apply == 0 && code != ETIMEDOUT) {
        code = pthread_cond_timedwait(&sm->changed, &sm->lock, &until);
    }
    bool inside = sm->in_apply > 0;
    pthread_mutex_unlock(&sm->lock);
    return inside;
}

size_t test_sm_count(test_sm *sm)
{
    pthread_mutex_lock(&sm->lock);
    size_t count = sm->count;
    pthread_mutex_unlock(&sm->lock);
    return count;
}

void test_sm_block(test_sm *sm, bool blocked)
{
    pthread_mutex_lock(&sm->lock);
    sm->blocked = blocked;
    pthread_cond_broadcast(&sm->changed);
    pthread_mutex_unlock(&sm->lock);
}
