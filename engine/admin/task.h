/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file task.h
 * A request being worked on, and what the commands share. One task: the thread of its request.
 */
#ifndef ANABRANCH_ENGINE_ADMIN_TASK_H
#define ANABRANCH_ENGINE_ADMIN_TASK_H

#include "engine/admin/command.h"
#include "wal/wal.h"

/** Bytes of a payload that are shown at most: twice what anabranchd packs into one. */
#define AB_ADMIN_PAYLOAD_MAX (512u * 1024)
/** How much of an answer gathers before it is handed over. */
#define AB_ADMIN_GATHER (64u * 1024)

/* Sizes of all groups, ascending by id. */
typedef struct ab_size_list {
    ab_wal_group_size *sizes;
    size_t count;
    size_t capacity;
    bool no_memory;
} ab_size_list;

typedef struct ab_task {
    ab_node *node;
    const ab_admin_request *request;
    ab_answer *answer;
    ab_size_list sizes; /* for `groups` */
    uint64_t group;     /* whose rows are being made */
    ab_message message; /* for the end, where a code alone does not say enough */
} ab_task;

uint64_t ab_admin_now_ms(void); /* monotonic */

/** Calls `fn` for each open group that the request is about, in the order of their ids, without a lock held.
 *  @return AB_OK, AB_ENOTFOUND (`message` says it), AB_ECLOSED (nobody reads the answer), AB_ENOMEM, what `fn` did */
int ab_task_groups(ab_task *t, int (*fn)(ab_task *t, ab_group *group));

/** Says that the group of the request is not open. @return AB_ENOTFOUND */
int ab_task_no_group(ab_task *t);
/** Whether the one group that the request is about is open. */
bool ab_task_group_open(const ab_task *t);

/* command_log.c */
int ab_task_log(ab_task *t);
int ab_task_verify(ab_task *t);

/* command_quarantine.c */
int ab_task_quarantine(ab_task *t);
int ab_task_retry(ab_task *t);
int ab_task_drop(ab_task *t);

#endif
