/* SPDX-License-Identifier: Apache-2.0 */
/* Barriers, queries, digests. A read asks the core when it may run (any thread), then runs on the group's apply
 * thread, where nobody else is in the state machine. Tokens are at the end. */
#include "engine/read.h"
#include "engine/apply.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000ull

struct ab_token {
    ab_marks set;
};

int ab_reply_append(ab_reply *reply, const void *data, size_t size)
{
    if (size > reply->capacity - reply->size) {
        size_t capacity = reply->capacity == 0 ? 256 : reply->capacity * 2;
        if (size > SIZE_MAX / 2 || capacity < reply->size) {
            return AB_ENOMEM;
        }
        while (capacity < reply->size + size) {
            capacity *= 2;
        }
        uint8_t *bigger = realloc(reply->data, capacity);
        if (bigger == NULL) {
            return AB_ENOMEM;
        }
        reply->data = bigger;
        reply->capacity = capacity;
    }
    if (size > 0) {
        memcpy(reply->data + reply->size, data, size);
    }
    reply->size += size;
    return AB_OK;
}

void ab_read_run(ab_group *group, ab_read_job *job)
{
    ab_reply reply = {0};
    ab_read_result result = {.code = job->code};
    if (result.code == AB_OK) {
        result.frontier = ab_marks_view(&group->applied);
    }
    if (result.code == AB_OK && job->query) {
        result.code = group->sm->query(group->sm_ctx, job->request, job->request_size, &reply);
    } else if (result.code == AB_OK && job->work != NULL) {
        result.code = job->work(group, job->request);
    } else if (result.code == AB_OK && job->digest) {
        ab_digest digest;
        memset(&digest, 0, sizeof digest);
        result.code = group->sm->digest(group->sm_ctx, &digest);
        int stored = ab_reply_append(&reply, &digest, sizeof digest);
        result.code = result.code == AB_OK ? stored : result.code;
    }
    result.reply = reply.data;
    result.reply_size = reply.size;
    job->fn(job->arg, &result);
    free(reply.data);
    free(job);
}

/* Holds the core lock. */
static ab_read_job *take_waiting(ab_group *group, uint64_t ticket)
{
    for (ab_read_job **link = &group->reads; *link != NULL; link = &(*link)->next) {
        if ((*link)->ticket == ticket) {
            ab_read_job *job = *link;
            *link = job->next;
            return job;
        }
    }
    return NULL;
}

int ab_read_done(ab_group *group, uint64_t ticket, int code)
{
    ab_read_job *job = take_waiting(group, ticket);
    if (job == NULL) {
        return AB_ENOTFOUND;
    }
    job->code = code;
    ab_apply_job(group, job);
    return AB_OK;
}

void ab_read_abandon(ab_group *group)
{
    pthread_mutex_lock(&group->core_lock);
    ab_read_job *job = group->reads;
    group->reads = NULL;
    pthread_mutex_unlock(&group->core_lock);
    while (job != NULL) {
        ab_read_job *next = job->next;
        job->code = AB_ECLOSED;
        ab_read_run(group, job);
        job = next;
    }
}

static int submit(ab_group *group, const ab_read_options *options, ab_read_job *job)
{
    static const ab_read_options defaults = {0};
    if (options == NULL) {
        options = &defaults;
    }
    ab_read_level level = options->level == AB_READ_DEFAULT ? group->read_level : options->level;
    ab_event event = {.type = AB_EV_READ,
                      .read_level = level,
                      .timeout_ns = options->timeout_ms == 0 ? AB_NEVER : options->timeout_ms * NS_PER_MS};
    if (options->token != NULL) {
        event.frontier = ab_token_frontier(options->token);
    }
    pthread_mutex_lock(&group->core_lock);
    int code = atomic_load(&group->closing) ? AB_ECLOSED : AB_OK;
    if (code == AB_OK) {
        job->ticket = event.ticket = ++group->last_ticket;
        job->next = group->reads;
        group->reads = job;
        code = ab_group_step_locked(group, &event);
        if (code != AB_OK && take_waiting(group, event.ticket) == NULL) {
            code = AB_OK; /* the core answered it before it failed */
        }
    }
    pthread_mutex_unlock(&group->core_lock);
    if (code != AB_OK) {
        free(job);
    }
    return code;
}

static ab_read_job *new_job(size_t request, ab_read_fn fn, void *arg)
{
    ab_read_job *job = calloc(1, sizeof *job + request);
    if (job != NULL) {
        job->fn = fn;
        job->arg = arg;
        job->request_size = request;
    }
    return job;
}

int ab_read_barrier(ab_group *group, const ab_read_options *options, ab_read_fn fn, void *arg)
{
    if (group == NULL || fn == NULL) {
        return AB_EINVAL;
    }
    ab_read_job *job = new_job(0, fn, arg);
    return job == NULL ? AB_ENOMEM : submit(group, options, job);
}

int ab_query(ab_group *group, const void *request, size_t size, const ab_read_options *options, ab_read_fn fn,
             void *arg)
{
    if (group == NULL || fn == NULL || (request == NULL && size > 0) || size > AB_BLOCK_MAX) {
        return AB_EINVAL;
    }
    if (group->sm->query == NULL) {
        return AB_EUNSUPPORTED;
    }
    ab_read_job *job = new_job(size, fn, arg);
    if (job == NULL) {
        return AB_ENOMEM;
    }
    job->query = true;
    if (size > 0) {
        memcpy(job->request, request, size);
    }
    return submit(group, options, job);
}

/* A caller that sleeps until its read has run; freed by whoever lets go last. */
typedef struct read_waiter {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    unsigned refs;
    bool done;
    int code;
    ab_token *token;
    ab_digest digest;
} read_waiter;

static read_waiter *waiter_new(void)
{
    read_waiter *waiter = calloc(1, sizeof *waiter);
    if (waiter != NULL) {
        pthread_mutex_init(&waiter->lock, NULL);
        ab_cond_init(&waiter->wake);
        waiter->refs = 2;
        waiter->token = ab_token_new();
    }
    if (waiter != NULL && waiter->token == NULL) {
        free(waiter);
        return NULL;
    }
    return waiter;
}

/* Holds the waiter's lock, which it releases. */
static void waiter_unref(read_waiter *waiter)
{
    bool last = --waiter->refs == 0;
    pthread_mutex_unlock(&waiter->lock);
    if (last) {
        ab_token_free(waiter->token);
        pthread_mutex_destroy(&waiter->lock);
        pthread_cond_destroy(&waiter->wake);
        free(waiter);
    }
}

static void on_read(void *arg, const ab_read_result *result)
{
    read_waiter *waiter = arg;
    pthread_mutex_lock(&waiter->lock);
    waiter->code = result->code;
    if (result->code == AB_OK && result->reply_size == sizeof waiter->digest) {
        memcpy(&waiter->digest, result->reply, sizeof waiter->digest);
    }
    if (waiter->code == AB_OK) {
        waiter->code = ab_token_merge(waiter->token, result->frontier);
    }
    waiter->done = true;
    pthread_cond_signal(&waiter->wake);
    waiter_unref(waiter);
}

/* Waits for the waiter's read; `timeout_ms` 0: for ever. Lets go of it. */
static int await(read_waiter *waiter, uint32_t timeout_ms, ab_digest *digest, ab_token *token)
{
    uint64_t deadline = timeout_ms == 0 ? AB_NEVER : ab_monotonic_ns() + timeout_ms * NS_PER_MS;
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->done && (deadline == AB_NEVER || ab_monotonic_ns() < deadline)) {
        ab_cond_wait_until(&waiter->wake, &waiter->lock, deadline);
    }
    int code = waiter->done ? waiter->code : AB_ETIMEDOUT;
    if (code == AB_OK && digest != NULL) {
        *digest = waiter->digest;
    }
    if (code == AB_OK && token != NULL) {
        code = ab_token_merge(token, ab_token_frontier(waiter->token));
    }
    waiter_unref(waiter);
    return code;
}

static void waiter_drop(read_waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    waiter->refs = 1;
    waiter_unref(waiter);
}

int ab_read_wait(ab_group *group, const ab_read_options *options)
{
    read_waiter *waiter = waiter_new();
    if (waiter == NULL) {
        return AB_ENOMEM;
    }
    int code = ab_read_barrier(group, options, on_read, waiter);
    if (code != AB_OK) {
        waiter_drop(waiter);
        return code;
    }
    return await(waiter, options != NULL ? options->timeout_ms : 0, NULL, NULL);
}

int ab_group_digest(ab_group *group, uint32_t timeout_ms, ab_digest *digest, ab_token *token)
{
    if (group == NULL || digest == NULL) {
        return AB_EINVAL;
    }
    if (group->sm->digest == NULL) {
        return AB_EUNSUPPORTED;
    }
    read_waiter *waiter = waiter_new();
    ab_read_job *job = waiter != NULL ? new_job(0, on_read, waiter) : NULL;
    if (job == NULL) {
        if (waiter != NULL) {
            waiter_drop(waiter);
        }
        return AB_ENOMEM;
    }
    job->digest = true;
    ab_apply_job(group, job);
    return await(waiter, timeout_ms, digest, token);
}

int ab_apply_call(ab_group *group, int (*work)(ab_group *group, const void *arg), const void *arg,
                  size_t size, uint32_t timeout_ms)
{
    read_waiter *waiter = waiter_new();
    ab_read_job *job = waiter != NULL ? new_job(size, on_read, waiter) : NULL;
    if (job == NULL) {
        if (waiter != NULL) {
            waiter_drop(waiter);
        }
        return AB_ENOMEM;
    }
    job->work = work;
    memcpy(job->request, arg, size);
    ab_apply_job(group, job);
    return await(waiter, timeout_ms, NULL, NULL);
}

ab_token *ab_token_new(void)
{
    ab_token *token = calloc(1, sizeof *token);
    if (token != NULL) {
        ab_marks_init(&token->set);
    }
    return token;
}

void ab_token_free(ab_token *token)
{
    if (token != NULL) {
        ab_marks_free(&token->set);
        free(token);
    }
}

int ab_token_merge(ab_token *token, ab_frontier seen)
{
    return ab_marks_merge(&token->set, seen);
}

int ab_token_saw_write(ab_token *token, const ab_write_result *result)
{
    if (result->last == 0) {
        return AB_OK; /* it was not put anywhere that is known */
    }
    ab_mark mark = {result->stream, result->last};
    return ab_token_merge(token, (ab_frontier){&mark, 1});
}

ab_frontier ab_token_frontier(const ab_token *token)
{
    return ab_marks_view(&token->set);
}

int ab_frontier_add(ab_frontier_out *out, ab_mark mark)
{
    if (ab_marks_get(&out->set, mark.stream) != 0) {
        return AB_EINVAL;
    }
    return mark.index == 0 ? AB_OK : ab_marks_set(&out->set, mark);
}
