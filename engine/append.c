/* SPDX-License-Identifier: Apache-2.0 */
/* The write path of callers: stamp, pack into the open block, note the ticket; and what becomes of the blocks and their tickets.
 * All under the group's append lock, which is the only lock a write takes unless it wakes the log thread. */
#include "engine/engine.h"
#include "replication/hlc.h"

#include <stdlib.h>
#include <string.h>

/* Room kept behind the entries for the dependency marks of a small cluster, so that sealing need not move a block. */
#define MARKS_ROOM (16u * AB_BLOCK_MARK)
#define BLOCK_START 4096u
#define NS_PER_MS 1000000ull

void ab_open_block_free(ab_open_block *block)
{
    ab_buf_unref(block->buf);
    ab_ticket_list_free(&block->done.list);
    free(block);
}

/* Bytes that the call may take in a block; AB_ETOOBIG if it can never fit. */
static int packed_size(const ab_group *group, const ab_bytes *payloads, size_t count, size_t *packed)
{
    const ab_node_config *config = &group->node->config;
    size_t most = AB_BLOCK_MAX - AB_BLOCK_HEADER - AB_MARKS_MAX * AB_BLOCK_MARK - AB_BLOCK_ORIGIN_BYTES;
    if (config->queue_bytes < most) {
        most = (size_t)config->queue_bytes;
    }
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (payloads[i].size > config->payload_max) {
            return AB_ETOOBIG;
        }
        total += payloads[i].size + AB_ENTRY_OVERHEAD;
        if (total > most) {
            return AB_ETOOBIG;
        }
    }
    *packed = total;
    return AB_OK;
}

static void close_open_block(ab_group *group)
{
    ab_open_block *block = group->open;
    group->open = NULL;
    if (group->closed_tail != NULL) {
        group->closed_tail->next = block;
    } else {
        group->closed_head = block;
    }
    group->closed_tail = block;
}

/* Makes sure that the open block takes `packed` more bytes. */
static int reserve(ab_group *group, size_t packed)
{
    ab_node *node = group->node;
    size_t limit = node->config.block_bytes;
    if (group->open != NULL && group->open->buf->size + packed > limit) {
        close_open_block(group);
    }
    if (group->open == NULL) {
        ab_open_block *block = calloc(1, sizeof *block);
        size_t start = group->block_hint > BLOCK_START ? group->block_hint : BLOCK_START;
        size_t need = AB_BLOCK_HEADER + packed + MARKS_ROOM;
        ab_buf *buf = block != NULL ? ab_buf_new(&node->budget, need > start ? need : start) : NULL;
        if (buf == NULL) {
            free(block);
            return AB_ENOMEM;
        }
        buf->size = AB_BLOCK_HEADER;
        block->buf = buf;
        block->opened_ns = ab_monotonic_ns();
        group->open = block;
    }
    ab_buf *buf = group->open->buf;
    size_t need = buf->size + packed + MARKS_ROOM;
    if (need <= buf->capacity) {
        return AB_OK;
    }
    size_t twice = buf->capacity * 2;
    return ab_buf_grow(&group->open->buf, need > twice ? need : twice);
}

/* Packs the entries; returns the hlc of the last one. */
static uint64_t pack(ab_group *group, const ab_bytes *payloads, size_t count)
{
    ab_open_block *block = group->open;
    uint64_t hlc = ab_hlc_now(group->hlc, ab_wall_ms());
    uint64_t before = block->count == 0 ? hlc : block->hlc_last;
    if (block->count == 0) {
        block->hlc_first = hlc;
    }
    uint8_t *at = block->buf->data + block->buf->size;
    for (size_t i = 0; i < count; i++, hlc++) {
        at += ab_entry_pack(at, hlc - before, payloads[i].data, payloads[i].size);
        before = hlc;
    }
    size_t bytes = (size_t)(at - block->buf->data) - block->buf->size;
    block->buf->size += bytes;
    block->count += (uint32_t)count;
    block->hlc_last = before;
    group->hlc = before;
    group->queued_bytes += bytes;
    group->queued_entries += count;
    return before;
}

bool ab_append_offers(ab_write_level level, size_t peers)
{
    return level == AB_WRITE_MEMORY || level == AB_WRITE_LOCAL ||
           (peers == 0 && (level == AB_WRITE_QUORUM || level == AB_WRITE_ALL));
}

static ab_write_level level_of(const ab_group *group, const ab_write_options *options)
{
    ab_write_level level = options->level;
    if (level == AB_WRITE_DEFAULT) {
        level = group->write_level;
    }
    /* Alone, what is durable here is durable on every member. */
    if (group->peer_count == 0 && (level == AB_WRITE_QUORUM || level == AB_WRITE_ALL)) {
        level = AB_WRITE_LOCAL;
    }
    return level;
}

/* A write at level `memory` is done once it is queued: what completes it is made before anything is. */
static int prepare_queued(const ab_ticket *ticket, ab_done **done)
{
    *done = NULL;
    if (ticket->level != AB_WRITE_MEMORY || (ticket->fn == NULL && ticket->waiter == NULL)) {
        return AB_OK;
    }
    *done = calloc(1, sizeof **done);
    if (*done == NULL || ab_ticket_reserve(&(*done)->list) != AB_OK) {
        free(*done);
        return AB_ENOMEM;
    }
    (*done)->level = AB_WRITE_MEMORY;
    return AB_OK;
}

/* Holds the append lock, the room is there. */
static int append(ab_group *group, const ab_bytes *payloads, size_t count, size_t packed, ab_ticket *ticket)
{
    int code = reserve(group, packed);
    if (code != AB_OK) {
        return code;
    }
    ab_open_block *block = group->open;
    bool wanted = ticket->fn != NULL || ticket->waiter != NULL;
    bool queued_is_enough = ticket->level == AB_WRITE_MEMORY;
    if (wanted && !queued_is_enough && ab_ticket_reserve(&block->done.list) != AB_OK) {
        return AB_ENOMEM;
    }
    ticket->hlc = pack(group, payloads, count);
    ticket->last = block->count - 1;
    ticket->count = (uint32_t)count;
    if (wanted && !queued_is_enough) {
        ab_ticket_add(&block->done.list, ticket);
        group->timed += ticket->deadline != AB_NEVER;
    }
    if (!group->dirty) {
        group->dirty = true;
        bool waits = ticket->waiter != NULL && !queued_is_enough;
        bool turn = ab_wal_thread_dirty(group, waits);
        if (waits) {
            ticket->waiter->turn = turn;
        }
    }
    return AB_OK;
}

static int write_entries(ab_group *group, const ab_bytes *payloads, size_t count,
                         const ab_write_options *options, uint64_t wait_ms, ab_ticket *ticket)
{
    if (group == NULL || payloads == NULL || count == 0 || count > UINT32_MAX) {
        return AB_EINVAL;
    }
    ticket->level = level_of(group, options);
    if (!ab_append_offers(ticket->level, group->peer_count)) {
        return ticket->level > AB_WRITE_ALL ? AB_EINVAL : AB_EUNSUPPORTED;
    }
    size_t packed = 0;
    int code = packed_size(group, payloads, count, &packed);
    if (code != AB_OK) {
        return code;
    }
    ticket->deadline = AB_NEVER;
    if (options->timeout_ms != 0) {
        ticket->deadline = ab_monotonic_ns() + options->timeout_ms * NS_PER_MS;
    }
    ab_done *queued = NULL;
    code = prepare_queued(ticket, &queued);
    if (code != AB_OK) {
        return code;
    }
    pthread_mutex_lock(&group->append_lock);
    code = ab_append_admit(group, packed, wait_ms);
    if (code == AB_OK) {
        code = append(group, payloads, count, packed, ticket);
    }
    pthread_mutex_unlock(&group->append_lock);
    if (code != AB_OK) {
        if (queued != NULL) {
            ab_ticket_list_free(&queued->list);
            free(queued);
        }
        atomic_fetch_add_explicit(&group->node->counters.writes_refused, 1, memory_order_relaxed);
        return code;
    }
    if (queued != NULL) {
        ab_ticket_add(&queued->list, ticket);
        ab_completions_push(group->node, queued);
        return AB_OK;
    }
    if (ticket->deadline != AB_NEVER && (ticket->fn != NULL || ticket->waiter != NULL)) {
        ab_completions_deadline(group->node, ticket->deadline);
    }
    return AB_OK;
}

int ab_write_many(ab_group *group, const ab_bytes *payloads, size_t count, const ab_write_options *options,
                  ab_write_fn fn, void *arg)
{
    static const ab_write_options defaults = {0};
    if (options == NULL) {
        options = &defaults;
    }
    ab_ticket ticket = {.fn = fn, .arg = arg};
    return write_entries(group, payloads, count, options, options->wait_ms, &ticket);
}

int ab_write(ab_group *group, const void *payload, size_t size, const ab_write_options *options,
             ab_write_fn fn, void *arg)
{
    ab_bytes one = {.data = payload, .size = size};
    return ab_write_many(group, &one, 1, options, fn, arg);
}

int ab_write_wait(ab_group *group, const ab_bytes *payloads, size_t count, const ab_write_options *options,
                  ab_write_result *result)
{
    static const ab_write_options defaults = {0};
    if (options == NULL) {
        options = &defaults;
    }
    uint64_t wait_ms = options->timeout_ms == 0 ? AB_NEVER : options->timeout_ms;
    ab_waiter waiter = {.turn = false};
    if (sem_init(&waiter.done, 0, 0) != 0) {
        return AB_ENOMEM;
    }
    ab_ticket ticket = {.waiter = &waiter};
    int code = write_entries(group, payloads, count, options, wait_ms, &ticket);
    if (code == AB_OK) {
        if (waiter.turn) {
            ab_wal_thread_turn(group->node);
        }
        while (sem_wait(&waiter.done) != 0) {
        }
        code = waiter.result.code;
        if (result != NULL) {
            *result = waiter.result;
        }
    }
    sem_destroy(&waiter.done);
    return code;
}

/* The block that comes next in the stream leaves the queue; NULL if there is none. Holds the append lock. */
static ab_open_block *take_oldest(ab_group *group)
{
    ab_open_block *block = group->closed_head;
    if (block == NULL) {
        block = group->open;
        group->open = NULL;
        return block;
    }
    group->closed_head = block->next;
    group->closed_tail = block->next != NULL ? group->closed_tail : NULL;
    block->next = NULL;
    return block;
}

ab_open_block *ab_append_take(ab_group *group, uint64_t bytes, bool *more)
{
    ab_open_block *blocks = NULL, **end = &blocks;
    pthread_mutex_lock(&group->append_lock);
    const ab_open_block *oldest = group->closed_head != NULL ? group->closed_head : group->open;
    for (uint64_t taken = 0; oldest != NULL && (taken == 0 || taken + oldest->buf->size <= bytes);) {
        taken += oldest->buf->size;
        *end = take_oldest(group);
        end = &(*end)->next;
        oldest = group->closed_head != NULL ? group->closed_head : group->open;
    }
    *more = group->dirty = oldest != NULL;
    pthread_mutex_unlock(&group->append_lock);
    return blocks;
}

void ab_append_logged(ab_group *group, uint64_t bytes, uint64_t entries)
{
    pthread_mutex_lock(&group->append_lock);
    group->queued_bytes -= bytes;
    group->queued_entries -= entries;
    group->block_hint = (uint32_t)bytes + AB_BLOCK_HEADER + MARKS_ROOM;
    ab_room *room = group->room != NULL && group->room->waiters > 0 ? group->room : NULL;
    pthread_mutex_unlock(&group->append_lock);
    if (room != NULL) {
        pthread_cond_broadcast(&room->freed);
    }
}

void ab_append_merge_hlc(ab_group *group, uint64_t hlc)
{
    bool skewed = false;
    pthread_mutex_lock(&group->append_lock);
    group->hlc = ab_hlc_merge(group->hlc, hlc, ab_wall_ms(), group->node->config.max_clock_skew_ms, &skewed);
    pthread_mutex_unlock(&group->append_lock);
    if (skewed) {
        atomic_fetch_add(&group->skewed, 1);
    }
}

void ab_append_wait(ab_group *group, ab_open_block *block)
{
    if (block->done.list.count == 0) {
        ab_open_block_free(block);
        return;
    }
    pthread_mutex_lock(&group->append_lock);
    block->next = NULL;
    if (group->waiting_tail != NULL) {
        group->waiting_tail->next = block;
    } else {
        group->waiting_head = block;
    }
    group->waiting_tail = block;
    uint64_t deadline = block->done.list.earliest;
    bool timed = block->done.list.timed > 0;
    pthread_mutex_unlock(&group->append_lock);
    if (timed) { /* an expiry may have passed while the block was in no list */
        ab_completions_deadline(group->node, deadline);
    }
}

/* Unlinks from the waiting list what `upto` covers. Holds the append lock. */
static ab_open_block *take_covered(ab_group *group, ab_mark upto)
{
    ab_open_block *taken = NULL, **taken_end = &taken;
    ab_open_block *last = NULL;
    ab_open_block **link = &group->waiting_head;
    while (*link != NULL) {
        ab_open_block *block = *link;
        if (ab_stream_compare(block->done.stream, upto.stream) == 0 && block->last > upto.index) {
            last = group->waiting_tail;
            break;
        }
        if (ab_stream_compare(block->done.stream, upto.stream) != 0) {
            last = block;
            link = &block->next;
            continue;
        }
        *link = block->next;
        block->next = NULL;
        *taken_end = block;
        taken_end = &block->next;
        group->timed -= block->done.list.timed;
    }
    group->waiting_tail = last;
    return taken;
}

void ab_append_acked(ab_group *group, ab_write_level level, ab_mark upto)
{
    pthread_mutex_lock(&group->append_lock);
    ab_open_block *taken = take_covered(group, upto);
    pthread_mutex_unlock(&group->append_lock);
    while (taken != NULL) {
        ab_open_block *next = taken->next;
        taken->done.level = level;
        taken->done.code = AB_OK;
        ab_completions_push(group->node, &taken->done);
        taken = next;
    }
}

static void abandon_list(ab_group *group, ab_open_block *blocks, int code)
{
    while (blocks != NULL) {
        ab_open_block *next = blocks->next;
        ab_buf_unref(blocks->buf);
        blocks->buf = NULL;
        blocks->done.code = code;
        blocks->done.level = AB_WRITE_DEFAULT;
        ab_completions_push(group->node, &blocks->done);
        blocks = next;
    }
}

void ab_append_refused(ab_group *group, ab_mark from, int code)
{
    ab_open_block *taken = NULL, **taken_end = &taken;
    pthread_mutex_lock(&group->append_lock);
    group->waiting_tail = NULL;
    for (ab_open_block **link = &group->waiting_head; *link != NULL;) {
        ab_open_block *block = *link;
        if (ab_stream_compare(block->done.stream, from.stream) != 0 || block->done.first < from.index) {
            group->waiting_tail = block;
            link = &block->next;
            continue;
        }
        *link = block->next;
        block->next = NULL;
        *taken_end = block;
        taken_end = &block->next;
        group->timed -= block->done.list.timed;
    }
    pthread_mutex_unlock(&group->append_lock);
    abandon_list(group, taken, code);
}

void ab_append_abandon(ab_group *group, int queued_code, int sealed_code)
{
    bool more = false;
    ab_open_block *queued = ab_append_take(group, UINT64_MAX, &more);
    pthread_mutex_lock(&group->append_lock);
    ab_open_block *waiting = group->waiting_head;
    group->waiting_head = group->waiting_tail = NULL;
    group->queued_bytes = 0;
    group->queued_entries = 0;
    group->timed = 0;
    pthread_mutex_unlock(&group->append_lock);
    abandon_list(group, waiting, sealed_code);
    abandon_list(group, queued, queued_code);
    ab_append_wake(group);
}
