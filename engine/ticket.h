/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ticket.h
 * Who wants to know of a write: tickets stand beside the open block, one per call, and move as whole lists, so that a
 * completion costs nothing per entry before its callback.
 */
#ifndef ANABRANCH_ENGINE_TICKET_H
#define ANABRANCH_ENGINE_TICKET_H

#include <anabranch/group.h>
#include <semaphore.h>

/** A caller that sleeps in ab_write_wait(). */
typedef struct ab_waiter {
    sem_t done;
    ab_write_result result;
    bool turn; /* it has the log thread's turn, and must take it before it sleeps */
} ab_waiter;

typedef struct ab_ticket {
    ab_write_fn fn; /* NULL where `waiter` is set, or once it has been completed */
    void *arg;
    ab_waiter *waiter;
    uint64_t hlc;      /* of its last entry */
    uint64_t deadline; /* monotonic ns; AB_NEVER */
    uint32_t last;     /* position of its last entry in the block, from 0 */
    uint32_t count;
    ab_write_level level;
} ab_ticket;

typedef struct ab_ticket_list {
    ab_ticket *tickets;
    uint32_t count;
    uint32_t capacity;
    uint32_t waiters;
    uint32_t timed;
    uint64_t earliest; /* deadline among them when they were added; only if `timed` */
} ab_ticket_list;

/** Tickets on their way to the completion thread, all with one outcome. */
typedef struct ab_done {
    struct ab_done *next;
    ab_ticket_list list;
    int code;
    ab_write_level level;
    ab_stream stream;
    uint64_t first; /* index of the block's first entry; 0: not known */
} ab_done;

int ab_ticket_reserve(ab_ticket_list *list);
void ab_ticket_add(ab_ticket_list *list, const ab_ticket *ticket);
void ab_ticket_list_free(ab_ticket_list *list);

struct ab_node;
void ab_completions_init(struct ab_node *node);
void ab_completions_free(struct ab_node *node);
int ab_completions_start(struct ab_node *node);
void ab_completions_stop(struct ab_node *node);
/** A line for the log callback. Any thread, also with locks held: the completion thread calls it; before that one runs, and
 *  after, the caller itself does. */
void ab_completions_line(struct ab_node *node, ab_severity severity, const char *text);
/** Wakes the waiters of `done` and hands the rest to the completion thread, which frees it. */
void ab_completions_push(struct ab_node *node, ab_done *done);
/** A write with this deadline is pending: the completion thread looks after it in time. */
void ab_completions_deadline(struct ab_node *node, uint64_t deadline);

#endif
