/* SPDX-License-Identifier: Apache-2.0 */
/* Commits a batch, again and again until it goes through. By whoever has the log thread's turn; under interval durability by
 * a thread of its own, so that sealing and announcing go on beside a commit. There is one batch being committed at a time,
 * and only its committer touches it: there is still one writer of the log. */
#include "engine/committer.h"

#include "engine/announce.h"
#include "engine/wal_queue.h"

#include <stdlib.h>

#define NS_PER_MS 1000000ull
#define RETRY_MIN_NS (20 * NS_PER_MS)
#define RETRY_MAX_NS (1000 * NS_PER_MS)

/* Sleeps before the next try, and takes what may be trimmed by then: it may be the room that is missing.
 * @return false: the node closes and gives up */
static bool wait_to_retry(ab_wal_thread *self, ab_batch *batch, uint64_t *backoff)
{
    uint64_t until = ab_monotonic_ns() + *backoff;
    *backoff = *backoff * 2 < RETRY_MAX_NS ? *backoff * 2 : RETRY_MAX_NS;
    pthread_mutex_lock(&self->lock);
    while (!self->give_up && ab_monotonic_ns() < until) {
        ab_cond_wait_until(&self->retry, &self->lock, until);
    }
    ab_wal_take_trimming(self, batch);
    bool again = !self->give_up;
    pthread_mutex_unlock(&self->lock);
    return again;
}

/* Writers that wait for room are told now. */
static void wake_writers(ab_node *node)
{
    pthread_rwlock_rdlock(&node->registry);
    for (ab_group *group = node->groups.first; group != NULL; group = group->next) {
        ab_append_wake(group);
    }
    pthread_rwlock_unlock(&node->registry);
}

static void note_failure(ab_node *node, int code)
{
    atomic_fetch_add(&node->counters.commit_failures, 1);
    if (atomic_exchange(&node->log_code, code) != code) {
        wake_writers(node);
        ab_message why;
        ab_wal_message(node->wal, &why);
        ab_node_log(node, AB_LOG_ERROR, "the log takes no writes until this is mended: %s: %s",
                    ab_strerror(code), why.text);
    }
}

static void note_success(ab_node *node, uint64_t started, bool wrote)
{
    atomic_fetch_add_explicit(&node->counters.commits, 1, memory_order_relaxed);
    uint64_t took = ab_monotonic_ns() - started;
    atomic_fetch_add_explicit(&node->counters.commit_ns, took, memory_order_relaxed);
    if (wrote) {
        ab_linger_committed(&node->log.linger, took);
    }
    if (atomic_exchange(&node->log_code, AB_OK) != AB_OK) {
        ab_node_log(node, AB_LOG_INFO, "the log takes writes again");
    }
}

int ab_commit_batch(ab_node *node, ab_batch *batch, bool patient)
{
    uint64_t backoff = RETRY_MIN_NS;
    for (bool trims_only = false;; trims_only = false) {
        uint64_t started = ab_monotonic_ns();
        size_t failed = 0;
        int code = ab_batch_build(batch, trims_only);
        if (code == AB_OK && batch->op_count > 0) {
            code = ab_wal_commit(node->wal, batch->ops, batch->op_count, &failed);
        }
        if (code == AB_OK) {
            note_success(node, started, batch->op_count > 0);
            return AB_OK;
        }
        bool may_pass = code == AB_ENOSPC || code == AB_EIO || code == AB_ENOMEM;
        if (!may_pass && failed < batch->op_count) {
            ab_batch_refuse(node, batch, failed, code);
            continue;
        }
        note_failure(node, code);
        if (code == AB_ENOSPC && ab_batch_build(batch, true) == AB_OK && batch->op_count > 0 &&
            ab_wal_commit(node->wal, batch->ops, batch->op_count, NULL) == AB_OK) {
            ab_batch_trimmed(node, batch);
        }
        if (!patient || !wait_to_retry(&node->log, batch, &backoff)) {
            return code;
        }
    }
}

static void *committer_main(void *arg)
{
    ab_node *node = arg;
    ab_wal_thread *self = &node->log;
    ab_committer *committer = &self->committer;
    ab_thread_begin("ab-commit");
    pthread_mutex_lock(&self->lock);
    for (;;) {
        while (committer->state != AB_COMMITTER_BUSY && !committer->stop) {
            pthread_cond_wait(&committer->wake, &self->lock);
        }
        if (committer->state != AB_COMMITTER_BUSY) {
            break;
        }
        struct ab_batch *batch = committer->batch;
        pthread_mutex_unlock(&self->lock);
        int code = ab_commit_batch(node, batch, true);
        pthread_mutex_lock(&self->lock);
        committer->code = code;
        committer->state = AB_COMMITTER_DONE;
        pthread_cond_broadcast(&committer->wake);
        ab_wal_wake(self);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

int ab_committer_start(ab_node *node)
{
    ab_committer *committer = &node->log.committer;
    ab_cond_init(&committer->wake);
    committer->batch = calloc(1, sizeof *committer->batch);
    if (committer->batch == NULL || pthread_create(&committer->thread, NULL, committer_main, node) != 0) {
        free(committer->batch);
        committer->batch = NULL;
        return AB_ENOMEM;
    }
    committer->started = true;
    return AB_OK;
}

void ab_committer_stop(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    ab_committer *committer = &self->committer;
    if (!committer->started) {
        return;
    }
    pthread_mutex_lock(&self->lock);
    committer->stop = true;
    pthread_cond_signal(&committer->wake);
    pthread_mutex_unlock(&self->lock);
    pthread_join(committer->thread, NULL);
    ab_batch_free(committer->batch);
    free(committer->batch);
    committer->batch = NULL;
    committer->started = false;
}

bool ab_committer_wait(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    pthread_mutex_lock(&self->lock);
    while (self->committer.state == AB_COMMITTER_BUSY) {
        pthread_cond_wait(&self->committer.wake, &self->lock);
    }
    bool done = self->committer.state == AB_COMMITTER_DONE;
    pthread_mutex_unlock(&self->lock);
    return done;
}

void ab_committer_give(ab_node *node, uint64_t flush)
{
    ab_wal_thread *self = &node->log;
    ab_committer *committer = &self->committer;
    pthread_mutex_lock(&self->lock);
    struct ab_batch *empty = committer->batch;
    committer->batch = self->batch;
    committer->flush = flush;
    committer->state = AB_COMMITTER_BUSY;
    self->batch = empty;
    pthread_cond_broadcast(&committer->wake);
    pthread_mutex_unlock(&self->lock);
}
