/* SPDX-License-Identifier: Apache-2.0 */
/* Reads that wait for the local state machine. Part of a core: one call at a time, no I/O. */
#include "replication/reads.h"

#include <stdlib.h>
#include <string.h>

struct ab_read_wait {
    ab_read_wait *next;
    uint64_t ticket;
    uint64_t deadline;
    size_t count;
    ab_mark marks[];
};

int ab_reads_add(ab_reads *reads, uint64_t ticket, ab_frontier frontier, uint64_t now, uint64_t timeout_ns)
{
    if (frontier.count > AB_MARKS_MAX) {
        return AB_EINVAL;
    }
    ab_read_wait *wait = malloc(sizeof *wait + frontier.count * sizeof wait->marks[0]);
    if (wait == NULL) {
        return AB_ENOMEM;
    }
    wait->next = NULL;
    wait->ticket = ticket;
    wait->deadline = timeout_ns >= AB_NEVER - now ? AB_NEVER : now + timeout_ns;
    wait->count = frontier.count;
    if (frontier.count > 0) {
        memcpy(wait->marks, frontier.marks, frontier.count * sizeof wait->marks[0]);
    }
    if (reads->tail != NULL) {
        reads->tail->next = wait;
    } else {
        reads->head = wait;
    }
    reads->tail = wait;
    return AB_OK;
}

int ab_reads_pump(ab_reads *reads, const ab_order *order, uint64_t now, ab_actions *actions)
{
    ab_read_wait *before = NULL;
    ab_read_wait *wait = reads->head;
    while (wait != NULL) {
        bool holds = ab_order_has_applied(order, (ab_frontier){wait->marks, wait->count});
        if (!holds && now < wait->deadline) {
            before = wait;
            wait = wait->next;
            continue;
        }
        ab_action done = {
            .type = AB_ACT_READ_DONE, .ticket = wait->ticket, .code = holds ? AB_OK : AB_ETIMEDOUT};
        int code = ab_actions_push(actions, &done);
        if (code != AB_OK) {
            return code;
        }
        ab_read_wait *next = wait->next;
        *(before != NULL ? &before->next : &reads->head) = next;
        if (next == NULL) {
            reads->tail = before;
        }
        free(wait);
        wait = next;
    }
    return AB_OK;
}

uint64_t ab_reads_deadline(const ab_reads *reads)
{
    uint64_t deadline = AB_NEVER;
    for (const ab_read_wait *wait = reads->head; wait != NULL; wait = wait->next) {
        deadline = wait->deadline < deadline ? wait->deadline : deadline;
    }
    return deadline;
}

void ab_reads_free(ab_reads *reads)
{
    while (reads->head != NULL) {
        ab_read_wait *next = reads->head->next;
        free(reads->head);
        reads->head = next;
    }
    reads->tail = NULL;
}
