/* SPDX-License-Identifier: Apache-2.0 */
/* The reader thread: whatever needs the log's old blocks from disk while others must not wait for the disk: sending to
 * a peer that lags, and reading infos back for the core. Jobs are taken in order; each is bounded by its budget. */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

typedef struct ab_reader_job {
    struct ab_reader_job *next;
    ab_group *group; /* holds a reference */
    ab_action_type type;
    uint32_t peer;
    ab_mark mark;
    uint64_t bytes;
    uint32_t blocks;
    uint64_t hash;          /* COPY */
    ab_block_origin origin; /* COPY */
} ab_reader_job;

void ab_reader_push(ab_group *group, const ab_action *action)
{
    ab_reader *self = &group->node->reader;
    ab_reader_job *job = ab_alloc_patiently(group->node, sizeof *job);
    ab_group_ref(group);
    *job = (ab_reader_job){.group = group,
                           .type = action->type,
                           .peer = action->peer,
                           .mark = action->mark,
                           .bytes = action->bytes,
                           .blocks = action->blocks,
                           .hash = action->hash,
                           .origin = action->origin};
    pthread_mutex_lock(&self->lock);
    if (self->tail != NULL) {
        self->tail->next = job;
    } else {
        self->head = job;
    }
    self->tail = job;
    pthread_cond_signal(&self->wake);
    pthread_mutex_unlock(&self->lock);
}

/* Where a block read from the log goes. */
typedef struct target {
    ab_budget *budget;
    ab_buf *buf;
} target;

static void *into_buf(void *arg, size_t size)
{
    target *into = arg;
    into->buf = ab_buf_new(into->budget, size);
    if (into->buf == NULL) {
        return NULL;
    }
    into->buf->size = size;
    return into->buf->data;
}

int ab_block_fetch(ab_group *group, ab_stream stream, uint64_t index, ab_block_header *header, ab_buf **buf)
{
    ab_node *node = group->node;
    *buf = ab_cache_get(&node->cache, group->id, stream, index);
    if (*buf != NULL) {
        return ab_block_header_read((*buf)->data, (*buf)->size, header);
    }
    void *data = NULL;
    size_t size = 0;
    atomic_fetch_add_explicit(&node->counters.cold_reads, 1, memory_order_relaxed);
    target into = {.budget = &node->budget};
    int code = ab_wal_read(node->wal, group->id, stream, index, into_buf, &into, header, &data, &size);
    if (code != AB_OK) {
        ab_buf_unref(into.buf);
        return code;
    }
    *buf = into.buf;
    return AB_OK;
}

void ab_block_damaged(ab_group *group, ab_stream stream, uint64_t first, uint64_t last,
                      const ab_block_header *header)
{
    bool known = header->first != 0 && header->first <= first && header->last >= last;
    ab_block_info info = {
        .stream = stream, .first = known ? header->first : first, .last = known ? header->last : last};
    ab_event event = {.type = AB_EV_BAD, .block = &info};
    atomic_fetch_add(&group->node->counters.damaged_blocks, 1);
    (void)ab_group_step(group, &event);
}

static void run_send(const ab_reader_job *job)
{
    ab_node *node = job->group->node;
    ab_event sent = {.type = AB_EV_SENT, .peer = job->peer, .mark = job->mark, .code = AB_OK};
    sent.mark.index--;
    while (sent.blocks_sent < job->blocks) {
        ab_block_header header = {0};
        ab_buf *buf = NULL;
        uint64_t next = sent.mark.index + 1;
        int code = ab_block_fetch(job->group, job->mark.stream, next, &header, &buf);
        if (code == AB_ENOTFOUND) {
            break; /* the end of the log */
        }
        if (code == AB_OK && header.first != next) {
            code = AB_EDIVERGED;
        }
        bool full = code == AB_OK && sent.blocks_sent > 0 && sent.bytes_sent + buf->size > job->bytes;
        if (code == AB_OK && !full) {
            code = ab_transport_send_block(node->transport, job->peer, buf);
        }
        size_t size = buf != NULL ? buf->size : 0;
        ab_buf_unref(buf);
        if (code != AB_OK || full) {
            sent.code = code;
            break;
        }
        sent.blocks_sent++;
        sent.bytes_sent += size;
        sent.mark.index = header.last;
    }
    atomic_fetch_add_explicit(&node->counters.blocks_sent, sent.blocks_sent, memory_order_relaxed);
    if (sent.code == AB_ECORRUPT) {
        atomic_fetch_add(&node->counters.damaged_blocks, 1);
    }
    (void)ab_group_step(job->group, &sent);
}

/* Infos read back, with their marks. */
typedef struct loaded {
    ab_block_info *infos;
    ab_mark **marks;
    size_t count;
} loaded;

static int load_one(ab_group *group, ab_stream stream, uint64_t index, loaded *into)
{
    ab_block_header header = {0};
    ab_buf *buf = NULL;
    int code = ab_block_fetch(group, stream, index, &header, &buf);
    if (code != AB_OK) {
        if (code == AB_ECORRUPT) {
            ab_block_damaged(group, stream, index, index, &header);
        }
        return code;
    }
    ab_mark *marks = malloc((header.mark_count + 1) * sizeof *marks);
    if (marks == NULL) {
        ab_buf_unref(buf);
        return AB_ENOMEM;
    }
    ab_block_info_read(buf->data, &header, marks, &into->infos[into->count]);
    into->marks[into->count++] = marks;
    ab_buf_unref(buf);
    return AB_OK;
}

static void run_load(const ab_reader_job *job)
{
    uint32_t want = job->blocks == 0 ? 1 : job->blocks;
    loaded got = {.infos = calloc(want, sizeof *got.infos), .marks = calloc(want, sizeof *got.marks)};
    int code = got.infos != NULL && got.marks != NULL ? AB_OK : AB_ENOMEM;
    uint64_t index = job->mark.index;
    while (code == AB_OK && got.count < want) {
        code = load_one(job->group, job->mark.stream, index, &got);
        if (code == AB_OK) {
            index = got.infos[got.count - 1].last + 1;
        }
    }
    ab_event event = {.type = AB_EV_LOADED,
                      .mark = job->mark,
                      .blocks = got.infos,
                      .block_count = got.count,
                      .code = code == AB_ENOTFOUND ? AB_OK : code};
    (void)ab_group_step(job->group, &event);
    for (size_t i = 0; i < got.count; i++) {
        free(got.marks[i]);
    }
    free(got.marks);
    free(got.infos);
}

/* Makes the block and hands it to the log as if it had been received. */
static int copy_block(const ab_reader_job *job, const ab_block_header *header, const ab_buf *old)
{
    ab_node *node = job->group->node;
    ab_block_origin origin = job->origin;
    ab_incoming *incoming = calloc(1, sizeof *incoming);
    ab_buf *buf = incoming != NULL ? ab_buf_new(&node->budget, ab_block_repeat_size(header)) : NULL;
    if (buf == NULL) {
        free(incoming);
        return AB_ENOMEM;
    }
    *incoming = (ab_incoming){.group = job->group, .buf = buf};
    buf->size = ab_block_repeat(buf->data, &incoming->header, old->data, header, job->mark.stream.epoch,
                                job->hash, &origin);
    if (buf->size == 0 || incoming->header.first != job->mark.index + 1) {
        ab_incoming_free(incoming);
        return AB_EINTERNAL;
    }
    ab_wal_thread_incoming(incoming);
    return AB_OK;
}

static void run_copy(const ab_reader_job *job)
{
    ab_stream from = {job->mark.stream.node, job->origin.epoch};
    uint64_t index = job->origin.fork + job->mark.index + 1;
    ab_block_header header = {0};
    ab_buf *buf = NULL;
    int code = ab_block_fetch(job->group, from, index, &header, &buf);
    while (code == AB_OK && (code = copy_block(job, &header, buf)) == AB_ENOMEM) {
        ab_node_relieve(job->group->node);
        code = AB_OK;
    }
    ab_buf_unref(buf);
    if (code == AB_ECORRUPT) {
        ab_block_damaged(job->group, from, index, index, &header);
    } else if (code != AB_OK) {
        ab_node_log(job->group->node, AB_LOG_ERROR,
                    "group %s: cannot log index %llu of stream %u.%u again: %s", job->group->name,
                    (unsigned long long)index, from.node, from.epoch, ab_strerror(code));
    }
}

static void *reader_main(void *arg)
{
    ab_node *node = arg;
    ab_reader *self = &node->reader;
    ab_thread_begin("ab-reader");
    pthread_mutex_lock(&self->lock);
    for (;;) {
        ab_reader_job *job = self->head;
        if (job == NULL) {
            if (self->stop) {
                break;
            }
            pthread_cond_wait(&self->wake, &self->lock);
            continue;
        }
        self->head = job->next;
        if (self->head == NULL) {
            self->tail = NULL;
        }
        pthread_mutex_unlock(&self->lock);
        if (job->type == AB_ACT_SEND) {
            run_send(job);
        } else if (job->type == AB_ACT_COPY) {
            run_copy(job);
        } else {
            run_load(job);
        }
        ab_group_unref(job->group);
        free(job);
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

int ab_reader_start(ab_node *node)
{
    ab_reader *self = &node->reader;
    pthread_mutex_init(&self->lock, NULL);
    ab_cond_init(&self->wake);
    if (pthread_create(&self->thread, NULL, reader_main, node) != 0) {
        return AB_ENOMEM;
    }
    self->started = true;
    return AB_OK;
}

void ab_reader_stop(ab_node *node)
{
    ab_reader *self = &node->reader;
    if (!self->started) {
        return;
    }
    pthread_mutex_lock(&self->lock);
    self->stop = true;
    pthread_cond_signal(&self->wake);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    self->started = false;
}
