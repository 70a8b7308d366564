/* SPDX-License-Identifier: Apache-2.0 */
/* The log thread, the only writer of the log: takes what has gathered while the last commit was in flight, seals,
 * commits once, and tells the cores. The shape of DESIGN's group commit: no timer, the disk sets the pace.
 *
 * Where the thread sleeps, a writer that is going to wait for its entry takes its turn and does one round itself: that
 * saves waking the thread and being woken by it, a sixth of what a commit of one entry takes. There is one turn: whoever
 * has it is alone with the batch and the log. A round that fails is left to the thread, which can wait. */
#include "engine/announce.h"
#include "engine/batch.h"
#include "engine/committer.h"
#include "engine/wal_queue.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000ull
/* A commit takes no more new blocks than this, the rest comes with the next. It is far past the size at which a commit is
 * cheapest, but a disk that is slow to flush wants large ones: below it, what is outstanding sets the size. */
#define COMMIT_BYTES (4ull << 20)
/* Interval durability commits early for this: writers run ahead of the peers by what is announced and not committed. */
#define INTERVAL_BYTES (2ull << 20)

/* What one round works on. */
typedef struct gathered {
    ab_dirty_list dirty;
    uint64_t received; /* bytes that wait, from the peers */
    bool all;          /* everything that waits is to be committed */
    bool busy;         /* the committer is at work */
    bool done;         /* it has finished */
    bool stop;
} gathered;

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

static void take_block(ab_batch *batch, ab_group *group, ab_open_block *open)
{
    ab_batch_block block = {.group = group, .local = true, .opened_ns = open->opened_ns};
    int code = ab_batch_reserve(batch, 1);
    if (code == AB_OK) {
        code = seal(group, open, &block);
    }
    if (code != AB_OK) {
        refuse_block(group, open, code);
        return;
    }
    block.buf = open->buf;
    open->buf = NULL;
    ab_group_ref(group);
    (void)ab_batch_add(batch, &block);
    ab_append_wait(group, open);
}

/* Blocks written here, until the batch has `most` bytes: of one group after the other. @return groups that have more */
static ab_dirty_list take_local(ab_batch *batch, ab_dirty_list *dirty, uint64_t most)
{
    ab_dirty_list again = {NULL, NULL};
    while (batch->bytes < most) {
        ab_group *group = ab_dirty_pop(dirty);
        if (group == NULL) {
            break;
        }
        bool more = false;
        ab_open_block *open = ab_append_take(group, most - batch->bytes, &more);
        while (open != NULL) {
            ab_open_block *next = open->next;
            take_block(batch, group, open);
            open = next;
        }
        if (more) {
            ab_dirty_add(&again, group);
        } else {
            ab_group_unref(group); /* of the dirty list */
        }
    }
    ab_dirty_list left = *dirty; /* those that had no turn come first next time */
    for (ab_group *group = ab_dirty_pop(&again); group != NULL; group = ab_dirty_pop(&again)) {
        ab_dirty_add(&left, group);
    }
    return left;
}

/* Their room was reserved when they were taken. */
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

static uint64_t queued_bytes(const ab_dirty_list *dirty)
{
    uint64_t bytes = 0;
    for (ab_group *group = dirty->head; group != NULL; group = group->dirty_next) {
        pthread_mutex_lock(&group->append_lock);
        bytes += group->queued_bytes;
        pthread_mutex_unlock(&group->append_lock);
    }
    return bytes;
}

/* Fills the batch up to `most` bytes, with what was written here and what came from the peers as much of each as waits of it:
 * who lags behind catches up. One block of both goes in however large it is, so that nothing starves. */
static void take_blocks(ab_node *node, gathered *work, uint64_t most)
{
    ab_batch *batch = node->log.batch;
    uint64_t room = most > batch->bytes ? most - batch->bytes : 0;
    uint64_t own = work->received > 0 ? queued_bytes(&work->dirty) : 0;
    uint64_t share = own + work->received > room ? room * own / (own + work->received) + 1 : room;
    ab_dirty_list left = take_local(batch, &work->dirty, room > 0 ? batch->bytes + share : 0);
    uint64_t rest = most > batch->bytes ? most - batch->bytes : room > 0;
    take_incoming(batch, ab_wal_take_incoming(node, rest, &left));
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

/* Nothing more is taken: a commit is under way and fails, or the next batch is full, too. Holds the lock. */
static bool is_stalled(const ab_node *node)
{
    const ab_wal_thread *self = &node->log;
    return self->committer.state == AB_COMMITTER_BUSY &&
           (self->batch->bytes >= INTERVAL_BYTES || atomic_load(&node->log_code) != AB_OK);
}

/* When there is something to do without anybody's waking the thread. Holds the lock. */
static uint64_t next_due(const ab_wal_thread *self)
{
    uint64_t at = AB_NEVER;
    if (self->committer.state == AB_COMMITTER_IDLE) {
        at = self->lazy_due == 0 ? AB_NEVER : self->lazy_due;
        at = self->batch->block_count > 0 && self->commit_due < at ? self->commit_due : at;
    }
    uint64_t incoming = self->incoming_urgent ? 0 : ab_linger_due(&self->linger);
    return self->incoming_head != NULL && incoming < at ? incoming : at;
}

/* Whether there is something to do now; else `until` when there will be. Holds the lock. */
static bool has_work(const ab_node *node, uint64_t *until)
{
    const ab_wal_thread *self = &node->log;
    *until = AB_NEVER;
    if (self->stop || self->unfinished || self->committer.state == AB_COMMITTER_DONE) {
        return true;
    }
    if (is_stalled(node)) {
        return false;
    }
    if (self->dirty.head != NULL || self->flush != self->flush_taken) {
        return true;
    }
    *until = next_due(self);
    return *until != AB_NEVER && ab_monotonic_ns() >= *until;
}

/* Holds the lock and has the turn. */
static gathered take_work(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    gathered work = {.dirty = self->dirty,
                     .received = self->incoming_bytes,
                     .all = self->stop || self->flush != self->flushed,
                     .busy = self->committer.state == AB_COMMITTER_BUSY,
                     .done = self->committer.state == AB_COMMITTER_DONE,
                     .stop = self->stop};
    self->dirty = (ab_dirty_list){NULL, NULL};
    self->flush_taken = self->flush;
    take_state(self, self->batch);
    bool lazy = self->lazy_due != 0 && ab_monotonic_ns() >= self->lazy_due;
    if (self->committer.state !=
        AB_COMMITTER_BUSY) { /* else it gets them: they may be the room that is missing */
        ab_wal_take_trimming(self, self->batch);
        self->lazy_due = lazy ? 0 : self->lazy_due;
    }
    self->due = self->due || lazy || self->unfinished || work.all;
    self->unfinished = false;
    return work;
}

/* Waits for work and for the turn, and takes both. */
static gathered gather(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    pthread_mutex_lock(&self->lock);
    while (self->lent || !has_work(node, &self->until)) {
        self->until = self->lent ? AB_NEVER : self->until;
        self->sleeping = !self->lent;
        ab_cond_wait_until(&self->wake, &self->lock, self->until);
        self->sleeping = false;
    }
    gathered work = take_work(node);
    pthread_mutex_unlock(&self->lock);
    return work;
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
    if (batch->trimming_count > 0 && self->lazy_due == 0) {
        self->lazy_due = ab_monotonic_ns() + AB_WAL_LAZY_NS / 10;
    }
    pthread_cond_broadcast(&self->flush_done);
    pthread_mutex_unlock(&self->lock);
}

static bool is_due(const ab_node *node)
{
    const ab_wal_thread *self = &node->log;
    if (self->due || self->batch->block_count == 0) {
        return self->due;
    }
    return node->config.durability != AB_DURABILITY_INTERVAL || self->batch->bytes >= INTERVAL_BYTES ||
           ab_monotonic_ns() >= self->commit_due;
}

/* What the committer had is in the log, or it gave up. What it could not trim yet goes on with the next batch. */
static int finish_commit(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    ab_batch *batch = self->committer.batch;
    int code = self->committer.code;
    ab_batch_refuse_followers(node, batch, self->batch);
    finish_round(node, batch, code, self->committer.flush);
    while (batch->trimming_count > 0 &&
           ab_batch_add_trimming(self->batch, batch->trimming[batch->trimming_count - 1]) == AB_OK) {
        batch->trimming_count--;
    }
    pthread_mutex_lock(&self->lock);
    self->committer.state = AB_COMMITTER_IDLE;
    pthread_mutex_unlock(&self->lock);
    return code;
}

/* Seals and announces what waits. */
static void fill(ab_node *node, gathered *work)
{
    ab_wal_thread *self = &node->log;
    bool empty = self->batch->block_count == 0;
    bool interval = node->config.durability == AB_DURABILITY_INTERVAL;
    take_blocks(node, work, work->all ? UINT64_MAX : interval ? INTERVAL_BYTES : COMMIT_BYTES);
    if (empty) {
        self->commit_due = ab_monotonic_ns() + node->config.durability_interval_ms * NS_PER_MS;
    }
    if (interval) {
        ab_announce_logged(node, self->batch, false);
    }
}

/* One round, by whoever has the turn. @return false: it failed and is to be tried again, by one who is patient */
static bool run(ab_node *node, gathered *work, bool patient)
{
    ab_wal_thread *self = &node->log;
    fill(node, work);
    if (is_due(node)) {
        int code = ab_commit_batch(node, self->batch, patient);
        if (code != AB_OK && !patient) {
            return false;
        }
        finish_round(node, self->batch, code, self->flush_taken);
        self->due = false;
    }
    return true;
}

/* The same under interval durability, beside the committer. */
static void run_beside(ab_node *node, gathered *work)
{
    ab_wal_thread *self = &node->log;
    if (work->done) {
        (void)finish_commit(node);
    }
    fill(node, work);
    if (!work->busy && is_due(node)) {
        ab_committer_give(node, self->flush_taken);
        self->due = false;
    }
}

/* The last round under interval durability: after what is being committed, and not at all if that had to be given up. */
static void run_last(ab_node *node, gathered *work)
{
    ab_wal_thread *self = &node->log;
    int code = ab_committer_wait(node) ? finish_commit(node) : AB_OK;
    fill(node, work);
    if (code == AB_OK) {
        code = ab_commit_batch(node, self->batch, true); /* the committer is idle */
    }
    finish_round(node, self->batch, code, self->flush_taken);
}

static void *wal_main(void *arg)
{
    ab_node *node = arg;
    bool beside = node->config.durability == AB_DURABILITY_INTERVAL;
    ab_thread_begin("ab-log");
    for (bool stop = false; !stop;) {
        gathered work = gather(node);
        stop = work.stop;
        if (!beside) {
            (void)run(node, &work, true);
        } else if (stop) {
            run_last(node, &work);
        } else {
            run_beside(node, &work);
        }
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
    uint64_t until = AB_NEVER;
    if (has_work(node, &until) || until < self->until) {
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
    ab_cond_init(&self->retry);
    self->batch = calloc(1, sizeof *self->batch);
    int code = self->batch != NULL ? AB_OK : AB_ENOMEM;
    if (code == AB_OK && node->config.durability == AB_DURABILITY_INTERVAL) {
        code = ab_committer_start(node);
    }
    if (code != AB_OK || pthread_create(&self->thread, NULL, wal_main, node) != 0) {
        ab_committer_stop(node);
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
    pthread_cond_signal(&self->retry);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    ab_committer_stop(node);
    ab_batch_free(self->batch);
    free(self->batch);
    self->batch = NULL;
    self->started = false;
}
