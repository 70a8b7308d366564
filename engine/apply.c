/* SPDX-License-Identifier: Apache-2.0 */
/* The apply threads: each owns some groups and is the only one to call their state machines' apply, query, checkpoint
 * and digest. One lock per thread guards the queues of its groups; it is never held over user code. */
#include "engine/apply.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000ull

static void list_runnable(ab_apply_thread *self, ab_group *group)
{
    if (group->apply_listed || group->apply_running || group->apply_stopped) {
        return; /* who runs it looks again when done; one that closes is done */
    }
    group->apply_listed = true;
    group->apply_next = NULL;
    if (self->tail != NULL) {
        self->tail->apply_next = group;
    } else {
        self->head = group;
    }
    self->tail = group;
    if (self->sleeping) {
        self->sleeping = false;
        pthread_cond_signal(&self->wake);
    }
}

void ab_apply_drop(ab_group *group, uint32_t node, uint32_t epoch)
{
    ab_apply_push(group, (ab_stream){node, epoch}, 0, 0);
}

static void push(ab_group *group, ab_apply_item what)
{
    ab_apply_thread *self = group->apply_thread;
    ab_apply_item *item = ab_alloc_patiently(group->node, sizeof *item);
    *item = what;
    pthread_mutex_lock(&self->lock);
    if (group->apply_stopped) { /* closing: the next start applies it */
        pthread_mutex_unlock(&self->lock);
        free(item);
        return;
    }
    if (group->apply_tail != NULL) {
        group->apply_tail->next = item;
    } else {
        group->apply_head = item;
    }
    group->apply_tail = item;
    atomic_fetch_add_explicit(&group->apply_blocks, 1, memory_order_relaxed);
    list_runnable(self, group);
    pthread_mutex_unlock(&self->lock);
}

void ab_apply_move(ab_group *group, ab_mark mark)
{
    push(group, (ab_apply_item){.stream = mark.stream, .last = mark.index, .move = true});
}

void ab_apply_push(ab_group *group, ab_stream stream, uint64_t first, uint64_t last)
{
    push(group, (ab_apply_item){.stream = stream, .first = first, .last = last});
}

static ab_apply_item *take_items(ab_group *group)
{
    ab_apply_thread *self = group->apply_thread;
    pthread_mutex_lock(&self->lock);
    ab_apply_item *items = group->apply_head;
    group->apply_head = group->apply_tail = NULL;
    atomic_store_explicit(&group->apply_blocks, 0, memory_order_relaxed);
    pthread_mutex_unlock(&self->lock);
    return items;
}

/* Before what came since. */
static void return_items(ab_group *group, ab_apply_item *items)
{
    ab_apply_thread *self = group->apply_thread;
    ab_apply_item *last = items;
    unsigned count = 1;
    for (; last->next != NULL; last = last->next) {
        count++;
    }
    pthread_mutex_lock(&self->lock);
    last->next = group->apply_head;
    group->apply_head = items;
    group->apply_tail = group->apply_tail == NULL ? last : group->apply_tail;
    atomic_fetch_add_explicit(&group->apply_blocks, count, memory_order_relaxed);
    pthread_mutex_unlock(&self->lock);
}

/* What moves the frontier is not the core's to give again: it stays, in its order. @return the blocks */
static ab_apply_item *keep_moves(ab_group *group, ab_apply_item *items)
{
    ab_apply_item *moves = NULL;
    ab_apply_item **move = &moves;
    ab_apply_item **link = &items;
    while (*link != NULL) {
        ab_apply_item *item = *link;
        if (item->first == 0) {
            *link = item->next;
            item->next = NULL;
            *move = item;
            move = &item->next;
        } else {
            link = &item->next;
        }
    }
    if (moves != NULL) {
        return_items(group, moves);
    }
    return items;
}

void ab_apply_give_back(ab_group *group, ab_stream stream)
{
    const ab_event event = {.type = AB_EV_UNAPPLIED, .mark = {stream, ab_marks_get(&group->applied, stream)}};
    int code = AB_ENOMEM;
    while (code == AB_ENOMEM) {
        pthread_mutex_lock(&group->core_lock); /* over both, so that nothing is given in between */
        ab_apply_item *items = keep_moves(group, take_items(group));
        code = group->core != NULL ? ab_group_step_locked(group, &event) : AB_ECLOSED;
        if (code == AB_EINVAL && items != NULL) { /* a core that knows no such event: they are tried again */
            return_items(group, items);
            items = NULL;
        }
        pthread_mutex_unlock(&group->core_lock);
        while (items != NULL) {
            ab_apply_item *next = items->next;
            free(items);
            items = next;
        }
        if (code == AB_ENOMEM) {
            ab_node_relieve(group->node);
        }
    }
}

void ab_apply_job(ab_group *group, ab_read_job *job)
{
    ab_apply_thread *self = group->apply_thread;
    pthread_mutex_lock(&self->lock);
    bool stopped = group->apply_stopped;
    if (!stopped) {
        job->next = NULL;
        if (group->jobs_tail != NULL) {
            group->jobs_tail->next = job;
        } else {
            group->jobs_head = job;
        }
        group->jobs_tail = job;
        list_runnable(self, group);
    }
    pthread_mutex_unlock(&self->lock);
    if (stopped) {
        job->code = AB_ECLOSED;
        ab_read_run(group, job);
    }
}

static void list_checkpoint(ab_apply_thread *self, ab_group *group)
{
    group->checkpoint_listed = true;
    group->checkpoint_next = NULL;
    if (self->checkpoint_tail != NULL) {
        self->checkpoint_tail->checkpoint_next = group;
    } else {
        self->checkpoint_head = group;
    }
    self->checkpoint_tail = group;
}

/* Notes what was applied since the last checkpoint; the delay is the same for all, so the list is sorted by it. */
static void plan_checkpoint(ab_apply_thread *self, ab_group *group, uint64_t bytes)
{
    const ab_node_config *config = &group->node->config;
    group->checkpoint_bytes += bytes;
    if (group->sm->checkpoint == NULL) {
        return;
    }
    if (group->checkpoint_due == 0) {
        group->checkpoint_due = ab_monotonic_ns() + config->checkpoint_ms * NS_PER_MS;
    }
    if (!group->checkpoint_listed) {
        list_checkpoint(self, group);
    }
}

int ab_apply_checkpoint(ab_group *group)
{
    struct ab_frontier_out out;
    ab_marks_init(&out.set);
    int code = group->sm->checkpoint(group->sm_ctx, &out);
    if (code == AB_OK) {
        ab_event event = {.type = AB_EV_CHECKPOINTED, .frontier = ab_marks_view(&out.set)};
        (void)ab_group_step(group, &event);
        atomic_fetch_add_explicit(&group->node->counters.checkpoints, 1, memory_order_relaxed);
    } else {
        ab_node_log(group->node, AB_LOG_ERROR,
                    "group %s: checkpoint failed: %s: the log is not trimmed until one succeeds", group->name,
                    ab_strerror(code));
    }
    ab_marks_free(&out.set);
    return code;
}

/* The next unit of work of a thread. */
typedef struct work {
    ab_group *group;
    ab_apply_item *item;
    bool checkpoint;
} work;

/* Takes what the group has to do now. Holds the lock. */
static void take_work(ab_group *group, uint64_t now, work *next)
{
    next->group = group;
    next->item = now >= group->apply_after ? group->apply_head : NULL;
    const ab_node_config *config = &group->node->config;
    bool due = group->checkpoint_due != 0 && now >= group->checkpoint_due;
    next->checkpoint =
        due || (group->checkpoint_due != 0 && group->checkpoint_bytes >= config->checkpoint_bytes);
    if (next->checkpoint) {
        group->checkpoint_bytes = 0;
    }
    if (due && !group->checkpoint_listed) { /* listed, it keeps its time: the list is sorted by it */
        group->checkpoint_due = 0;
    }
    group->apply_running = true;
}

/* Lists groups whose checkpoint or retry is due; returns when the next one is. Holds the lock. */
static uint64_t list_due(ab_apply_thread *self, uint64_t now)
{
    uint64_t next = AB_NEVER;
    while (self->checkpoint_head != NULL) {
        ab_group *group = self->checkpoint_head;
        if (group->checkpoint_due > now) {
            next = group->checkpoint_due;
            break;
        }
        self->checkpoint_head = group->checkpoint_next;
        if (self->checkpoint_head == NULL) {
            self->checkpoint_tail = NULL;
        }
        group->checkpoint_listed = false;
        if (group->checkpoint_due != 0) {
            list_runnable(self, group);
        }
    }
    ab_group **link = &self->retries;
    while (*link != NULL) {
        ab_group *group = *link;
        if (group->apply_after > now) {
            next = group->apply_after < next ? group->apply_after : next;
            link = &group->retry_next;
            continue;
        }
        *link = group->retry_next;
        group->retry_listed = false;
        list_runnable(self, group);
    }
    return next;
}

/* Waits for work. @return false: the thread ends */
static bool wait_for_work(ab_apply_thread *self, work *next)
{
    pthread_mutex_lock(&self->lock);
    for (;;) {
        uint64_t now = ab_monotonic_ns();
        uint64_t due = list_due(self, now);
        if (self->head != NULL) {
            ab_group *group = self->head;
            self->head = group->apply_next;
            if (self->head == NULL) {
                self->tail = NULL;
            }
            group->apply_listed = false;
            take_work(group, now, next);
            pthread_mutex_unlock(&self->lock);
            return true;
        }
        if (self->stop) {
            self->exited = true;
            pthread_cond_broadcast(&self->idle);
            pthread_mutex_unlock(&self->lock);
            return false;
        }
        self->sleeping = true;
        ab_cond_wait_until(&self->wake, &self->lock, due);
        self->sleeping = false;
    }
}

/* The item is done, or waits for its retry. Whatever the group has besides is listed again. */
static void finish_work(ab_apply_thread *self, const work *done, int code, uint64_t bytes)
{
    ab_group *group = done->group;
    ab_apply_item *finished = NULL;
    pthread_mutex_lock(&self->lock);
    group->apply_running = false;
    if (done->item != NULL && code == AB_OK) {
        finished = done->item;
        group->apply_head = finished->next;
        if (group->apply_head == NULL) {
            group->apply_tail = NULL;
        }
        atomic_fetch_sub_explicit(&group->apply_blocks, 1, memory_order_relaxed);
        group->apply_backoff_ms = 0;
        group->apply_after = 0;
        if (finished->first != 0) {
            plan_checkpoint(self, group, bytes);
        }
    } else if (done->item != NULL) {
        uint64_t twice = group->apply_backoff_ms * 2;
        group->apply_backoff_ms = twice == 0 ? RETRY_MIN_MS : twice < RETRY_MAX_MS ? twice : RETRY_MAX_MS;
        group->apply_after = ab_monotonic_ns() + group->apply_backoff_ms * NS_PER_MS;
        if (!group->retry_listed && !group->apply_stopped) {
            group->retry_listed = true;
            group->retry_next = self->retries;
            self->retries = group;
        }
    }
    if (group->checkpoint_due != 0 && !group->checkpoint_listed) {
        list_checkpoint(self, group); /* it fell due while the group was running */
    }
    bool early =
        group->checkpoint_due != 0 && group->checkpoint_bytes >= group->node->config.checkpoint_bytes;
    bool blocks = group->apply_head != NULL && !group->retry_listed; /* else they come with the retry */
    bool more = group->jobs_head != NULL || blocks || early;
    if (group->apply_stopped) {
        pthread_cond_broadcast(&self->idle);
    } else if (more) {
        list_runnable(self, group);
    }
    pthread_mutex_unlock(&self->lock);
    free(finished);
}

bool ab_apply_goes_on(ab_group *group)
{
    ab_apply_thread *self = group->apply_thread;
    pthread_mutex_lock(&self->lock);
    bool stopped = group->apply_stopped;
    pthread_mutex_unlock(&self->lock);
    return !stopped;
}

/* Runs the group's jobs one by one: what has not begun can be completed by whoever closes the group.
 * @return false: the group closes */
static bool run_jobs(ab_apply_thread *self, ab_group *group)
{
    for (;;) {
        pthread_mutex_lock(&self->lock);
        bool stopped = group->apply_stopped;
        ab_read_job *job = stopped ? NULL : group->jobs_head;
        if (job != NULL) {
            group->jobs_head = job->next;
            group->jobs_tail = group->jobs_head == NULL ? NULL : group->jobs_tail;
        }
        pthread_mutex_unlock(&self->lock);
        if (job == NULL) {
            return !stopped;
        }
        ab_read_run(group, job);
    }
}

static void *apply_main(void *arg)
{
    ab_apply_thread *self = arg;
    ab_thread_begin("ab-apply");
    work next = {0};
    while (wait_for_work(self, &next)) {
        bool goes_on = run_jobs(self, next.group);
        int code = goes_on ? AB_OK : AB_ECLOSED;
        uint64_t bytes = 0;
        if (next.item != NULL && goes_on) {
            code = ab_apply_item_run(self, next.group, next.item, &bytes);
        }
        if (next.checkpoint && ab_apply_goes_on(next.group) && ab_apply_checkpoint(next.group) != AB_OK) {
            pthread_mutex_lock(&self->lock);
            plan_checkpoint(self, next.group, 0);
            pthread_mutex_unlock(&self->lock);
        }
        finish_work(self, &next, code, bytes);
    }
    free(self->entries);
    self->entries = NULL;
    return NULL;
}

void ab_apply_attach(ab_group *group)
{
    ab_node *node = group->node;
    uint32_t position = atomic_fetch_add(&node->apply_next, 1) % node->config.apply_threads;
    group->apply_thread = &node->apply_threads[position];
}

/* Takes the group out of the thread's lists. Holds the lock. */
static void unlist(ab_apply_thread *self, ab_group *group)
{
    ab_group **link = &self->head;
    ab_group *last = NULL;
    for (; *link != NULL && *link != group; link = &(*link)->apply_next) {
        last = *link;
    }
    if (*link == group) {
        *link = group->apply_next;
        self->tail = self->tail == group ? last : self->tail;
    }
    link = &self->checkpoint_head;
    last = NULL;
    for (; *link != NULL && *link != group; link = &(*link)->checkpoint_next) {
        last = *link;
    }
    if (*link == group) {
        *link = group->checkpoint_next;
        self->checkpoint_tail = self->checkpoint_tail == group ? last : self->checkpoint_tail;
    }
    for (link = &self->retries; *link != NULL; link = &(*link)->retry_next) {
        if (*link == group) {
            *link = group->retry_next;
            break;
        }
    }
    group->apply_listed = group->checkpoint_listed = group->retry_listed = false;
}

int ab_apply_detach(ab_group *group, uint64_t deadline)
{
    ab_apply_thread *self = group->apply_thread;
    pthread_mutex_lock(&self->lock);
    group->apply_stopped = true;
    while (group->apply_running && ab_monotonic_ns() < deadline) {
        ab_cond_wait_until(&self->idle, &self->lock, deadline);
    }
    bool stuck = group->apply_running;
    unlist(self, group);
    ab_read_job *jobs = group->jobs_head;
    group->jobs_head = group->jobs_tail = NULL;
    ab_apply_item *items = stuck ? NULL : group->apply_head;
    if (!stuck) {
        group->apply_head = group->apply_tail = NULL;
    }
    bool dirty = group->checkpoint_due != 0;
    pthread_mutex_unlock(&self->lock);
    while (items != NULL) {
        ab_apply_item *next = items->next;
        free(items);
        items = next;
    }
    while (jobs != NULL) {
        ab_read_job *next = jobs->next;
        jobs->code = AB_ECLOSED;
        ab_read_run(group, jobs);
        jobs = next;
    }
    if (stuck) {
        return AB_ETIMEDOUT;
    }
    if (dirty) {
        (void)ab_apply_checkpoint(group);
    }
    return AB_OK;
}

int ab_apply_start(ab_node *node)
{
    node->apply_threads = calloc(node->config.apply_threads, sizeof *node->apply_threads);
    if (node->apply_threads == NULL) {
        return AB_ENOMEM;
    }
    for (uint32_t i = 0; i < node->config.apply_threads; i++) {
        ab_apply_thread *self = &node->apply_threads[i];
        self->node = node;
        pthread_mutex_init(&self->lock, NULL);
        ab_cond_init(&self->wake);
        ab_cond_init(&self->idle);
        if (pthread_create(&self->thread, NULL, apply_main, self) != 0) {
            return AB_ENOMEM;
        }
        node->apply_started++;
    }
    return AB_OK;
}

int ab_apply_stop(ab_node *node)
{
    int code = AB_OK;
    uint64_t deadline = ab_group_patience(ab_group_stop_deadline(node));
    for (uint32_t i = 0; i < node->apply_started; i++) {
        ab_apply_thread *self = &node->apply_threads[i];
        pthread_mutex_lock(&self->lock);
        self->stop = true;
        pthread_cond_signal(&self->wake);
        while (!self->exited && ab_monotonic_ns() < deadline) {
            ab_cond_wait_until(&self->idle, &self->lock, deadline);
        }
        bool stuck = !self->exited;
        pthread_mutex_unlock(&self->lock);
        if (stuck) {
            pthread_detach(self->thread);
            code = AB_ETIMEDOUT;
        } else {
            pthread_join(self->thread, NULL);
        }
    }
    if (code == AB_OK) {
        free(node->apply_threads);
        node->apply_threads = NULL;
    }
    return code;
}
