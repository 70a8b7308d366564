/* SPDX-License-Identifier: Apache-2.0 */
/* What other threads hand to the log thread: groups with blocks to be logged, received blocks, small state, trims, requests
 * to commit everything. Any thread; all under the log thread's lock, held for a constant time. */
#include "engine/wal_queue.h"

#include "engine/batch.h"

#include <stdlib.h>
#include <string.h>

/* Shares of the memory budget: beyond the one nothing more is read from the peers, until it has come down to the other. */
#define PAUSE_SHARE 4u
#define RESUME_SHARE 8u
#define RECEIVED_BYTES (64u << 10) /* enough for a commit */
/* So much small state is worth a commit: what waits costs memory, and with thousands of groups being opened it would lie
 * between theirs and leave holes. */
#define STATE_MANY 256u
#define STATE_WAIT_NS 100000000ull /* how long an opening waits at most */

void ab_wal_wake(ab_wal_thread *self)
{
    if (self->sleeping) {
        self->sleeping = false;
        pthread_cond_signal(&self->wake);
    }
}

void ab_dirty_add(ab_dirty_list *list, ab_group *group)
{
    group->dirty_next = NULL;
    *(list->tail != NULL ? &list->tail->dirty_next : &list->head) = group;
    list->tail = group;
}

ab_group *ab_dirty_pop(ab_dirty_list *list)
{
    ab_group *group = list->head;
    if (group != NULL) {
        list->head = group->dirty_next;
        list->tail = list->head != NULL ? list->tail : NULL;
    }
    return group;
}

bool ab_wal_thread_dirty(ab_group *group, bool waits)
{
    ab_wal_thread *self = &group->node->log;
    ab_group_ref(group);
    pthread_mutex_lock(&self->lock);
    ab_dirty_add(&self->dirty, group);
    bool turn = waits && self->sleeping && group->node->config.durability == AB_DURABILITY_SYNC;
    if (turn) {
        self->sleeping = false;
        self->lent = true;
    } else {
        ab_wal_wake(self);
    }
    pthread_mutex_unlock(&self->lock);
    return turn;
}

void ab_wal_thread_incoming(ab_incoming *incoming)
{
    ab_node *node = incoming->group->node;
    ab_wal_thread *self = &node->log;
    ab_group_ref(incoming->group);
    pthread_mutex_lock(&self->lock);
    incoming->next = NULL;
    bool first = self->incoming_head == NULL;
    if (self->incoming_tail != NULL) {
        self->incoming_tail->next = incoming;
    } else {
        self->incoming_head = incoming;
    }
    self->incoming_tail = incoming;
    self->incoming_bytes += incoming->buf->size;
    ab_linger_came(&self->linger, first, ab_monotonic_ns());
    bool pause = !self->paused && self->incoming_bytes > node->config.memory_budget / PAUSE_SHARE;
    self->incoming_count++;
    bool urgent = !incoming->patient || pause || self->incoming_bytes >= RECEIVED_BYTES;
    self->incoming_urgent = urgent || (self->incoming_urgent && !first);
    if (pause) { /* under the lock, so that pause and resume reach the links in their order */
        self->paused = true;
        ab_transport_pause(node->transport, true);
    }
    if (first || urgent) { /* in between, it knows when to look */
        ab_wal_wake(self);
    }
    pthread_mutex_unlock(&self->lock);
}

/* The oldest of what came in, up to `bytes`, one at least. Holds the lock, the batch has room. */
static ab_incoming *cut_incoming(ab_wal_thread *self, uint64_t bytes)
{
    ab_incoming *first = self->incoming_head, *last = NULL;
    uint64_t taken = 0;
    while (self->incoming_head != NULL && (last == NULL || taken + self->incoming_head->buf->size <= bytes)) {
        last = self->incoming_head;
        taken += last->buf->size;
        self->incoming_count--;
        self->incoming_head = last->next;
    }
    self->incoming_bytes -= taken;
    self->incoming_tail = self->incoming_head != NULL ? self->incoming_tail : NULL;
    self->incoming_urgent = true; /* what is left had its pause */
    if (last != NULL) {
        last->next = NULL;
    }
    return first;
}

ab_incoming *ab_wal_take_incoming(ab_node *node, uint64_t bytes, ab_dirty_list *left)
{
    ab_wal_thread *self = &node->log;
    ab_incoming *taken = NULL;
    pthread_mutex_lock(&self->lock);
    for (ab_group *group = ab_dirty_pop(left); group != NULL; group = ab_dirty_pop(left)) {
        ab_dirty_add(&self->dirty, group);
    }
    while (bytes > 0 && ab_batch_reserve(self->batch, self->incoming_count) != AB_OK) {
        pthread_mutex_unlock(&self->lock); /* what is left here would be found again at once */
        ab_node_relieve(node);
        pthread_mutex_lock(&self->lock);
    }
    if (bytes > 0) {
        taken = cut_incoming(self, bytes);
    }
    if (self->paused && self->incoming_bytes <= node->config.memory_budget / RESUME_SHARE) {
        self->paused = false;
        ab_transport_pause(node->transport, false);
    }
    pthread_mutex_unlock(&self->lock);
    return taken;
}

static void lazy_locked(ab_wal_thread *self, uint64_t delay)
{
    uint64_t due = ab_monotonic_ns() + delay;
    if (self->lazy_due == 0 || due < self->lazy_due) {
        self->lazy_due = due;
        ab_wal_wake(self);
    }
}

static ab_state_put *make_put(ab_node *node, uint64_t group, ab_bytes key, ab_bytes value)
{
    ab_state_put *put = ab_alloc_patiently(node, sizeof *put + key.size + value.size);
    *put = (ab_state_put){.group = group, .key_size = key.size, .value_size = value.size};
    memcpy(put->bytes, key.data, key.size);
    if (value.size > 0) {
        memcpy(put->bytes + key.size, value.data, value.size);
    }
    return put;
}

static void add_state(ab_wal_thread *self, ab_state_put *put, bool soon)
{
    pthread_mutex_lock(&self->lock);
    if (self->state_tail != NULL) {
        self->state_tail->next = put;
    } else {
        self->state_head = put;
    }
    self->state_tail = put;
    bool many = ++self->state_count >= STATE_MANY;
    lazy_locked(self, soon || many ? 0 : AB_WAL_LAZY_NS);
    pthread_mutex_unlock(&self->lock);
}

void ab_wal_thread_state(ab_node *node, uint64_t group, ab_bytes key, ab_bytes value, bool soon)
{
    add_state(&node->log, make_put(node, group, key, value), soon);
}

void ab_wal_thread_rewind(ab_group *group, ab_mark mark, uint64_t hash, ab_bytes key, ab_bytes value)
{
    ab_state_put *put = make_put(group->node, group->id, key, value);
    ab_group_ref(group);
    put->rewound = group;
    put->mark = mark;
    put->hash = hash;
    add_state(&group->node->log, put, true);
}

void ab_wal_thread_forget(ab_group *group, ab_stream stream, uint32_t keep)
{
    ab_state_put *put = ab_alloc_patiently(group->node, sizeof *put);
    *put = (ab_state_put){.group = group->id, .forget = group, .stream = stream, .keep = keep};
    ab_group_ref(group);
    add_state(&group->node->log, put, false);
}

void ab_state_put_free(ab_state_put *put)
{
    if (put->forget != NULL) {
        ab_group_unref(put->forget);
    }
    if (put->rewound != NULL) {
        ab_group_unref(put->rewound);
    }
    free(put);
}

void ab_wal_thread_trim(ab_group *group)
{
    ab_wal_thread *self = &group->node->log;
    ab_group_ref(group);
    pthread_mutex_lock(&self->lock);
    group->trims_next = self->trims_head;
    self->trims_head = group;
    lazy_locked(self, AB_WAL_LAZY_NS);
    pthread_mutex_unlock(&self->lock);
}

void ab_wal_take_trimming(ab_wal_thread *self, ab_batch *batch)
{
    while (self->trims_head != NULL && ab_batch_add_trimming(batch, self->trims_head) == AB_OK) {
        self->trims_head = self->trims_head->trims_next;
    }
}

void ab_incoming_free(ab_incoming *incoming)
{
    ab_buf_unref(incoming->buf);
    free(incoming);
}

int ab_wal_thread_flush(ab_node *node, uint64_t deadline)
{
    ab_wal_thread *self = &node->log;
    pthread_mutex_lock(&self->lock);
    uint64_t wanted = ++self->flush;
    ab_wal_wake(self);
    while (self->flushed < wanted && ab_monotonic_ns() < deadline) {
        ab_cond_wait_until(&self->flush_done, &self->lock, deadline);
    }
    int code = self->flushed >= wanted ? self->flush_code : AB_ETIMEDOUT;
    pthread_mutex_unlock(&self->lock);
    return code;
}

void ab_wal_thread_await_room(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    uint64_t deadline = 0;
    pthread_mutex_lock(&self->lock);
    while (self->state_count >= self->state_waited + AB_WAL_STATE_MOST &&
           atomic_load(&node->log_code) == AB_OK) {
        uint64_t now = ab_monotonic_ns();
        deadline = deadline == 0 ? now + STATE_WAIT_NS : deadline;
        if (now >= deadline) {
            self->state_waited =
                self->state_count; /* in vain: so many more may come before the next one waits */
            break;
        }
        ab_cond_wait_until(&self->flush_done, &self->lock, deadline);
    }
    pthread_mutex_unlock(&self->lock);
}

void ab_wal_thread_drain(ab_node *node)
{
    ab_wal_thread *self = &node->log;
    while (self->state_head != NULL) {
        ab_state_put *put = self->state_head;
        self->state_head = put->next;
        ab_state_put_free(put);
    }
    while (self->incoming_head != NULL) {
        ab_incoming *incoming = self->incoming_head;
        self->incoming_head = incoming->next;
        ab_group_unref(incoming->group);
        ab_incoming_free(incoming);
    }
    while (self->trims_head != NULL) {
        ab_group *group = self->trims_head;
        self->trims_head = group->trims_next;
        ab_group_unref(group);
    }
}
