/* SPDX-License-Identifier: Apache-2.0 */
/* The log thread, the only writer of the log: takes what has gathered while the last commit was in flight, seals,
 * commits once, and tells the cores. The shape of DESIGN's group commit: no timer, the disk sets the pace.
 *
 * Where the thread sleeps, a writer that is going to wait for its entry takes its turn and does one round itself: that
 * saves waking the thread and being woken by it, a sixth of what a commit of one entry takes. There is one turn: whoever
 * has it is alone with the batch and the log. A round that fails is left to the thread, which can wait. */
#include "engine/announce.h"
#include "engine/batch.h"
#include "engine/wal_queue.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000ull
/* Interval durability commits early beyond this: bounds memory, and is past the measured best size of a commit. */
#define INTERVAL_BYTES (4ull << 20)
/* Received blocks that nobody waits for let a commit gather more of them, this long after the one before: a commit for each
 * would take the disk and the processor away from the writes that somebody does wait for. After a silence, at once. */
#define RECEIVED_NS (2 * NS_PER_MS)
#define RETRY_MIN_NS (20 * NS_PER_MS)
#define RETRY_MAX_NS (1000 * NS_PER_MS)

/* Gives a taken block its place: stream, index, hash of the one before, dependency marks. */
static int seal(ab_group *group, ab_open_block *open, ab_batch_block *block)
{
    ab_frontier deps = {0};
    pthread_mutex_lock(&group->core_lock);
    ab_block_header *header = &block->header;
    *header = (ab_block_header){.count = open->count,
                                .entries_bytes = (uint32_t)(open->buf->size - AB_BLOCK_HEADER),
                                .group = group->id,
                                .node = group->append_stream.node,
                                .epoch = group->append_stream.epoch,
                                .first = group->append_last + 1,
                                .last = group->append_last + open->count,
                                .term = group->append_term,
                                .hlc_first = open->hlc_first,
                                .hlc_last = open->hlc_last,
                                .prev_hash = group->append_hash};
    int code = group->core != NULL ? group->backend->seal(group->core, header->first, header->last, &deps)
                                   : AB_ECLOSED;
    size_t need = open->buf->size + deps.count * AB_BLOCK_MARK;
    if (code == AB_OK && need > open->buf->capacity) {
        code = ab_buf_grow(&open->buf, need);
    }
    if (code == AB_OK) {
        block->queued_bytes = open->buf->size - AB_BLOCK_HEADER;
        open->buf->size = ab_block_seal(open->buf->data, header, deps.marks, deps.count);
        group->append_last = header->last;
        group->append_hash = header->checksum;
        open->done.stream = group->append_stream;
        open->done.first = header->first;
        open->last = header->last;
    }
    pthread_mutex_unlock(&group->core_lock);
    return code;
}

/* A block that cannot be sealed (the core refuses, no memory): its writers are told, the stream has no gap. */
static void refuse_block(ab_group *group, ab_open_block *open, int code)
{
    ab_append_logged(group, open->buf->size - AB_BLOCK_HEADER, open->count);
    ab_buf_unref(open->buf);
    open->buf = NULL;
    pthread_mutex_lock(&group->append_lock);
    group->timed -= open->done.list.timed;
    pthread_mutex_unlock(&group->append_lock);
    open->done.code = code;
    ab_completions_push(group->node, &open->done);
}

static void take_local(ab_batch *batch, ab_group *group)
{
    ab_open_block *open = ab_append_take(group);
    while (open != NULL) {
        ab_open_block *next = open->next;
        ab_batch_block block = {.group = group, .local = true, .opened_ns = open->opened_ns};
        int code = ab_batch_add(batch, &(ab_batch_block){.group = group, .buf = open->buf});
        if (code == AB_OK) {
            code = seal(group, open, &block);
            if (code != AB_OK) {
                batch->block_count--;
                batch->bytes -= open->buf->size;
            }
        }
        if (code != AB_OK) {
            refuse_block(group, open, code);
        } else {
            block.buf = open->buf;
            open->buf = NULL;
            ab_group_ref(group);
            batch->blocks[batch->block_count - 1] = block;
            ab_append_wait(group, open);
        }
        open = next;
    }
    ab_group_unref(group); /* of the dirty list */
}

/* The room was reserved when the blocks were gathered. */
static void take_incoming(ab_batch *batch, ab_incoming *incoming)
{
    while (incoming != NULL) {
        ab_incoming *next = incoming->next;
        ab_batch_block block = {.group = incoming->group,
                                .buf = incoming->buf,
                                .header = incoming->header,
                                .repair = incoming->repair};
        (void)ab_batch_add(batch, &block);
        free(incoming);
        incoming = next;
    }
}

static void take_state(ab_wal_thread *self, ab_batch *batch)
{
    if (self->state_head == NULL) {
        return;
    }
    if (batch->state_tail != NULL) {
        batch->state_tail->next = self->state_head;
    } else {
        batch->state_head = self->state_head;
    }
    batch->state_tail = self->state_tail;
    self->state_head = self->state_tail = NULL;
    if (self->state_count >= AB_WAL_STATE_MOST) {
        pthread_cond_broadcast(&self->flush_done); /* ab_wal_thread_await_room() */
    }
    self->state_count = self->state_waited = 0;
}

static void take_trimming(ab_wal_thread *self, ab_batch *batch)
{
    while (self->trims_head != NULL && ab_batch_add_trimming(batch, self->trims_head) == AB_OK) {
        self->trims_head = self->trims_head->trims_next;
    }
}

/* What one round works on. */
typedef struct gathered {
    ab_group *dirty;
    ab_incoming *incoming;
    uint64_t flush; /* everything up to this request is in this round or before */
    bool due;       /* there is a reason to commit beside new blocks */
    bool stop;
} gathered;

/* When there is something to do without anybody's waking the thread. Holds the lock. */
static uint64_t next_due(const ab_wal_thread *self)
{
    uint64_t at = self->lazy_due == 0 ? AB_NEVER : self->lazy_due;
    if (self->batch->block_count > 0 && self->commit_due < at) {
        at = self->commit_due;
    }
    uint64_t incoming = self->incoming_urgent ? 0 : self->committed_at + RECEIVED_NS;
    return self->incoming_head != NULL && incoming < at ? incoming : at;
}

/* Whether there is something to do now. Holds the lock. */
static bool has_work(const ab_wal_thread *self)
{
    if (self->dirty_head != NULL || self->stop || self->unfinished || self->flush != self->flushed) {
        return true;
    }
    uint64_t due = next_due(self);
    return due != AB_NEVER && ab_monotonic_ns() >= due;
}

/* Holds the lock and has the turn. */
static gathered take_work(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    gathered work = {.dirty = self->dirty_head, .flush = self->flush, .stop = self->stop};
    self->dirty_head = self->dirty_tail = NULL;
    if (ab_batch_reserve(self->batch, self->incoming_count) == AB_OK) {
        work.incoming = self->incoming_head;
        self->incoming_head = self->incoming_tail = NULL;
        self->incoming_bytes = 0;
        self->incoming_count = 0;
        if (self->paused) {
            self->paused = false;
            ab_transport_pause(node->transport, false);
        }
    }
    take_state(self, self->batch);
    take_trimming(self, self->batch);
    bool lazy = self->lazy_due != 0 && ab_monotonic_ns() >= self->lazy_due;
    if (lazy) {
        self->lazy_due = 0;
    }
    work.due = lazy || self->unfinished || work.stop || work.flush != self->flushed;
    self->unfinished = false;
    return work;
}

/* Waits for work and for the turn, and takes both. */
static gathered gather(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    pthread_mutex_lock(&self->lock);
    while (self->lent || !has_work(self)) {
        self->until = self->lent ? AB_NEVER : next_due(self);
        self->sleeping = !self->lent;
        ab_cond_wait_until(&self->wake, &self->lock, self->until);
        self->sleeping = false;
    }
    gathered work = take_work(node);
    pthread_mutex_unlock(&self->lock);
    return work;
}

/* Sleeps before the next try, and takes what may be trimmed by then: it may be the room that is missing.
 * @return false: the node closes and gives up */
static bool wait_to_retry(ab_wal_thread *self, ab_batch *batch, uint64_t *backoff)
{
    uint64_t until = ab_monotonic_ns() + *backoff;
    *backoff = *backoff * 2 < RETRY_MAX_NS ? *backoff * 2 : RETRY_MAX_NS;
    pthread_mutex_lock(&self->lock);
    while (!self->give_up && ab_monotonic_ns() < until) {
        ab_cond_wait_until(&self->wake, &self->lock, until);
    }
    take_trimming(self, batch);
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

static void note_success(ab_node *node, uint64_t started)
{
    atomic_fetch_add_explicit(&node->counters.commits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&node->counters.commit_ns, ab_monotonic_ns() - started, memory_order_relaxed);
    if (atomic_exchange(&node->log_code, AB_OK) != AB_OK) {
        ab_node_log(node, AB_LOG_INFO, "the log takes writes again");
    }
}

/* Commits the batch, the log thread (`patient`) however long it takes: what was sealed is never dropped, so no index is
 * skipped. @return AB_OK, or the last failure when the node gives up or the caller is not patient */
static int commit(ab_node *node, ab_batch *batch, bool patient)
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
            note_success(node, started);
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

static void finish_round(ab_node *node, ab_batch *batch, int code, uint64_t flush)
{
    ab_wal_thread *self = &node->log;
    if (code == AB_OK) {
        ab_announce_logged(node, batch, true);
        ab_announce_durable(node, batch);
        ab_announce_refusals(node, batch);
        ab_announce_rewound(node, batch);
        ab_batch_trimmed(node, batch);
        ab_batch_forgotten(batch);
    }
    bool lost = code != AB_OK && batch->announced > 0;
    ab_batch_clear(batch);
    pthread_mutex_lock(&self->lock);
    self->lost_announced = self->lost_announced || lost;
    self->flushed = flush;
    self->flush_code = code;
    self->committed_at = ab_monotonic_ns();
    if (batch->trimming_count > 0 && self->lazy_due == 0) {
        self->lazy_due = ab_monotonic_ns() + AB_WAL_LAZY_NS / 10;
    }
    pthread_cond_broadcast(&self->flush_done);
    pthread_mutex_unlock(&self->lock);
}

static bool is_due(const ab_node *node, const gathered *work)
{
    const ab_batch *batch = node->log.batch;
    if (work->due) {
        return true;
    }
    if (batch->block_count == 0) {
        return false;
    }
    return node->config.durability != AB_DURABILITY_INTERVAL || batch->bytes >= INTERVAL_BYTES ||
           ab_monotonic_ns() >= node->log.commit_due;
}

/* One round, by whoever has the turn. @return false: it failed and is to be tried again, by one who is patient */
static bool run(ab_node *node, gathered *work, bool patient)
{
    ab_wal_thread *self = &node->log;
    ab_batch *batch = self->batch;
    bool empty = batch->block_count == 0;
    take_incoming(batch, work->incoming);
    while (work->dirty != NULL) {
        ab_group *group = work->dirty;
        work->dirty = group->dirty_next;
        take_local(batch, group);
    }
    if (empty) {
        self->commit_due = ab_monotonic_ns() + node->config.durability_interval_ms * NS_PER_MS;
    }
    if (node->config.durability == AB_DURABILITY_INTERVAL) {
        ab_announce_logged(node, batch, false);
    }
    if (is_due(node, work)) {
        int code = commit(node, batch, patient);
        if (code != AB_OK && !patient) {
            return false;
        }
        finish_round(node, batch, code, work->flush);
    }
    return true;
}

static void *wal_main(void *arg)
{
    ab_node *node = arg;
    ab_thread_begin("ab-log");
    for (bool stop = false; !stop;) {
        gathered work = gather(node);
        stop = work.stop;
        (void)run(node, &work, true);
    }
    return NULL;
}

void ab_wal_thread_turn(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    int cancel;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE,
                                 &cancel); /* a commit is full of cancellation points */
    pthread_mutex_lock(&self->lock);
    gathered work = take_work(node);
    pthread_mutex_unlock(&self->lock);
    bool done = run(node, &work, false);
    pthread_mutex_lock(&self->lock);
    self->lent = false;
    self->unfinished = !done;
    if (has_work(self) || next_due(self) < self->until) {
        pthread_cond_signal(&self->wake);
    } else {
        self->sleeping = true; /* as before */
    }
    pthread_mutex_unlock(&self->lock);
    (void)pthread_setcancelstate(cancel, NULL);
}

int ab_wal_thread_start(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    pthread_mutex_init(&self->lock, NULL);
    ab_cond_init(&self->wake);
    ab_cond_init(&self->flush_done);
    self->batch = calloc(1, sizeof *self->batch);
    if (self->batch == NULL || pthread_create(&self->thread, NULL, wal_main, node) != 0) {
        free(self->batch);
        self->batch = NULL;
        return AB_ENOMEM;
    }
    self->started = true;
    return AB_OK;
}

void ab_wal_thread_stop(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    if (!self->started) {
        return;
    }
    pthread_mutex_lock(&self->lock);
    self->stop = true;
    self->give_up = true; /* what could be stored was flushed before */
    pthread_cond_signal(&self->wake);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    ab_batch_free(self->batch);
    free(self->batch);
    self->batch = NULL;
    self->started = false;
}
