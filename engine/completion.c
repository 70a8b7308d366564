/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets and the completion thread: the only thread on which callbacks of writes run, and the log callback, which
 * therefore may call the node: whoever has something to log holds who knows which locks. Sleeping writers
 * (ab_write_wait) are woken directly by whoever completes them. */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINES_MAX 1000u /* waiting for a log callback that is slow; more are counted and dropped */

int ab_ticket_reserve(ab_ticket_list *list)
{
    if (list->count < list->capacity) {
        return AB_OK;
    }
    uint32_t capacity = list->capacity == 0 ? 8 : list->capacity * 2;
    ab_ticket *tickets = realloc(list->tickets, capacity * sizeof *tickets);
    if (tickets == NULL) {
        return AB_ENOMEM;
    }
    list->tickets = tickets;
    list->capacity = capacity;
    return AB_OK;
}

void ab_ticket_add(ab_ticket_list *list, const ab_ticket *ticket)
{
    list->tickets[list->count++] = *ticket;
    list->waiters += ticket->waiter != NULL;
    if (ticket->deadline != AB_NEVER) {
        bool first = list->timed++ == 0;
        list->earliest = first || ticket->deadline < list->earliest ? ticket->deadline : list->earliest;
    }
}

void ab_ticket_list_free(ab_ticket_list *list)
{
    free(list->tickets);
    *list = (ab_ticket_list){0};
}

static ab_write_result result_of(const ab_done *done, const ab_ticket *ticket)
{
    ab_write_result result = {.code = done->code, .level = done->level, .hlc = ticket->hlc};
    if (done->first != 0) {
        result.stream = done->stream;
        result.last = done->first + ticket->last;
        result.first = result.last - ticket->count + 1;
    }
    return result;
}

static void wake_waiters(ab_done *done)
{
    for (uint32_t i = 0; i < done->list.count && done->list.waiters > 0; i++) {
        ab_ticket *ticket = &done->list.tickets[i];
        if (ticket->waiter != NULL) {
            ticket->waiter->result = result_of(done, ticket);
            sem_post(&ticket->waiter->done);
            ticket->waiter = NULL;
            done->list.waiters--;
        }
    }
}

static bool has_callbacks(const ab_ticket_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->tickets[i].fn != NULL) {
            return true;
        }
    }
    return false;
}

void ab_completions_push(ab_node *node, ab_done *done)
{
    wake_waiters(done);
    if (!has_callbacks(&done->list)) {
        ab_ticket_list_free(&done->list);
        free(done);
        return;
    }
    ab_completions *self = &node->completions;
    pthread_mutex_lock(&self->lock);
    done->next = NULL;
    if (self->tail != NULL) {
        self->tail->next = done;
    } else {
        self->head = done;
    }
    self->tail = done;
    bool wake = self->sleeping;
    self->sleeping = false;
    pthread_mutex_unlock(&self->lock);
    if (wake) {
        pthread_cond_signal(&self->wake);
    }
}

void ab_completions_deadline(ab_node *node, uint64_t deadline)
{
    ab_completions *self = &node->completions;
    pthread_mutex_lock(&self->lock);
    bool wake = deadline < self->next_deadline;
    if (wake) {
        self->next_deadline = deadline;
    }
    pthread_mutex_unlock(&self->lock);
    if (wake) {
        pthread_cond_signal(&self->wake);
    }
}

static void complete(ab_done *done)
{
    while (done != NULL) {
        ab_done *next = done->next;
        for (uint32_t i = 0; i < done->list.count; i++) {
            const ab_ticket *ticket = &done->list.tickets[i];
            if (ticket->fn != NULL) {
                ab_write_result result = result_of(done, ticket);
                ticket->fn(ticket->arg, &result);
            }
        }
        ab_ticket_list_free(&done->list);
        free(done);
        done = next;
    }
}

/* Completes writes whose time is up, in every group, and finds the next deadline on the way (each group reports its
 * earliest with ab_completions_deadline). */
static void expire(ab_node *node)
{
    uint64_t now = ab_monotonic_ns();
    pthread_rwlock_rdlock(&node->registry);
    for (ab_group *group = node->groups.first; group != NULL; group = group->next) {
        ab_append_expire(group, now);
    }
    pthread_rwlock_unlock(&node->registry);
}

/* Queues the line, if there is room. Holds the lock. */
static void queue_line(ab_completions *self, ab_severity severity, const char *text)
{
    size_t size = strlen(text) + 1;
    ab_log_line *line = self->line_count < LINES_MAX ? malloc(sizeof *line + size) : NULL;
    if (line == NULL) {
        self->lines_lost++;
        return;
    }
    line->next = NULL;
    line->severity = severity;
    memcpy(line->text, text, size);
    if (self->lines_tail != NULL) {
        self->lines_tail->next = line;
    } else {
        self->lines = line;
    }
    self->lines_tail = line;
    self->line_count++;
}

void ab_completions_line(ab_node *node, ab_severity severity, const char *text)
{
    ab_completions *self = &node->completions;
    pthread_mutex_lock(&self->lock);
    bool running = self->started;
    if (running) {
        queue_line(self, severity, text);
        self->sleeping = false;
    }
    pthread_mutex_unlock(&self->lock);
    if (running) {
        pthread_cond_signal(&self->wake);
    } else {
        node->config.log(node->config.log_ctx, severity, text);
    }
}

static void call_log(ab_node *node, ab_log_line *lines, uint32_t lost)
{
    while (lines != NULL) {
        ab_log_line *next = lines->next;
        node->config.log(node->config.log_ctx, lines->severity, lines->text);
        free(lines);
        lines = next;
    }
    if (lost > 0) {
        char text[96];
        snprintf(text, sizeof text, "%u log lines were lost: the log callback is too slow", lost);
        node->config.log(node->config.log_ctx, AB_LOG_WARN, text);
    }
}

/* Takes what is there and calls the user without the lock. @return false: there was nothing. Holds the lock. */
static bool serve(ab_node *node)
{
    ab_completions *self = &node->completions;
    ab_done *head = self->head;
    ab_log_line *lines = self->lines;
    uint32_t lost = self->lines_lost;
    bool due = self->next_deadline <= ab_monotonic_ns();
    if (head == NULL && lines == NULL && lost == 0 && !due) {
        return false;
    }
    self->head = self->tail = NULL;
    self->lines = self->lines_tail = NULL;
    self->line_count = self->lines_lost = 0;
    self->next_deadline = due ? AB_NEVER : self->next_deadline;
    pthread_mutex_unlock(&self->lock);
    complete(head);
    call_log(node, lines, lost);
    if (due) {
        expire(node);
    }
    pthread_mutex_lock(&self->lock);
    return true;
}

static void *completion_main(void *arg)
{
    ab_node *node = arg;
    ab_completions *self = &node->completions;
    ab_thread_begin("ab-complete");
    pthread_mutex_lock(&self->lock);
    for (;;) {
        if (serve(node)) {
            continue;
        }
        if (self->stop) {
            self->started = false; /* whoever logs from here on calls the callback himself */
            break;
        }
        self->sleeping = true;
        ab_cond_wait_until(&self->wake, &self->lock, self->next_deadline);
        self->sleeping = false;
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

void ab_completions_init(ab_node *node)
{
    ab_completions *self = &node->completions;
    pthread_mutex_init(&self->lock, NULL);
    ab_cond_init(&self->wake);
    self->next_deadline = AB_NEVER;
}

void ab_completions_free(ab_node *node)
{
    pthread_mutex_destroy(&node->completions.lock);
    pthread_cond_destroy(&node->completions.wake);
}

int ab_completions_start(ab_node *node)
{
    ab_completions *self = &node->completions;
    pthread_mutex_lock(&self->lock);
    self->started = pthread_create(&self->thread, NULL, completion_main, node) == 0;
    bool started = self->started;
    pthread_mutex_unlock(&self->lock);
    return started ? AB_OK : AB_ENOMEM;
}

void ab_completions_stop(ab_node *node)
{
    ab_completions *self = &node->completions;
    pthread_mutex_lock(&self->lock);
    bool started = self->started;
    self->stop = true;
    pthread_mutex_unlock(&self->lock);
    if (started) {
        pthread_cond_signal(&self->wake);
        pthread_join(self->thread, NULL);
    }
}
