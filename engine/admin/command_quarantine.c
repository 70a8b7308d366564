/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about quarantine. Each runs on the thread of its request. */
#include "engine/admin/task.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Bounds how long stopping waits for a request that waits for an apply thread. */
#define RELEASE_MAX_MS 5000u

static bool row_quarantined(void *arg, const ab_quarantined *record)
{
    ab_task *t = arg;
    const ab_admin_request *r = t->request;
    const ab_entry *e = &record->entry;
    size_t shown = e->size < r->payload_max ? e->size : (size_t)r->payload_max;
    if (!ab_admin_selects(r, e)) {
        return true;
    }
    ab_out *out = &t->answer->rows;
    ab_out_begin(out, "quarantined");
    ab_out_uint(out, "group", t->group);
    ab_out_stream(out, "stream", e->stream);
    ab_out_uint(out, "index", e->index);
    ab_out_uint(out, "hlc", e->hlc);
    ab_out_uint(out, "term", e->term);
    ab_out_uint(out, "refused_ms", record->refused_ms);
    if (record->code == AB_ECORRUPT) {
        ab_out_uint(out, "last", record->last);
    }
    ab_out_uint(out, "size", e->size);
    ab_out_bin(out, "payload", e->payload, shown < AB_ADMIN_PAYLOAD_MAX ? shown : AB_ADMIN_PAYLOAD_MAX);
    ab_out_end(out);
    return ab_out_waiting(out) < AB_ADMIN_GATHER || ab_answer_flush(t->answer);
}

static int quarantine_of_group(ab_task *t, ab_group *group)
{
    t->group = ab_group_id(group);
    return ab_quarantine_list(group, row_quarantined, t);
}

int ab_task_quarantine(ab_task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    return ab_task_groups(t, quarantine_of_group);
}

/* What a request to retry or drop is about, collected first: both change the list. */
typedef struct mark_list {
    const ab_admin_request *request;
    ab_mark *marks;
    size_t count;
    size_t capacity;
    bool no_memory;
} mark_list;

static bool collect_mark(void *arg, const ab_quarantined *record)
{
    mark_list *list = arg;
    if (!ab_admin_selects(list->request, &record->entry)) {
        return true;
    }
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? list->capacity * 2 : 64;
        ab_mark *larger = realloc(list->marks, capacity * sizeof *larger);
        if (larger == NULL) {
            list->no_memory = true;
            return false;
        }
        list->marks = larger;
        list->capacity = capacity;
    }
    list->marks[list->count++] = (ab_mark){record->entry.stream, record->entry.index};
    return true;
}

typedef int (*release_fn)(ab_group *group, ab_stream stream, uint64_t index, uint32_t timeout_ms);

static int release_one(ab_task *t, ab_group *group, ab_mark at, release_fn release)
{
    uint64_t timeout = t->request->timeout_ms < RELEASE_MAX_MS ? t->request->timeout_ms : RELEASE_MAX_MS;
    int code = release(group, at.stream, at.index, timeout > 0 ? (uint32_t)timeout : 1);
    ab_out *out = &t->answer->rows;
    ab_out_begin(out, "outcome");
    ab_out_uint(out, "group", ab_group_id(group));
    ab_out_stream(out, "stream", at.stream);
    ab_out_uint(out, "index", at.index);
    ab_out_code(out, "code", code);
    ab_out_end(out);
    return ab_answer_flush(t->answer) ? AB_OK : AB_ECLOSED;
}

static int release_all(ab_task *t, release_fn release)
{
    mark_list list = {.request = t->request};
    if (t->request->group == 0) {
        snprintf(t->message.text, sizeof t->message.text, "the request names no group");
        return AB_EINVAL;
    }
    ab_row_node(&t->answer->rows, t->node);
    ab_group *group = ab_group_get(t->node, t->request->group);
    if (group == NULL) {
        return ab_task_groups(t, quarantine_of_group); /* says that it is not open */
    }
    int code = ab_quarantine_list(group, collect_mark, &list);
    code = list.no_memory ? AB_ENOMEM : code;
    if (code == AB_OK && list.count == 0 && t->request->one_stream && t->request->from != 0) {
        code = AB_ENOTFOUND;
        snprintf(t->message.text, sizeof t->message.text, "group %" PRIu64 ": no such entry in quarantine",
                 t->request->group);
    }
    for (size_t i = 0; i < list.count && code == AB_OK; i++) {
        code = release_one(t, group, list.marks[i], release);
    }
    free(list.marks);
    ab_group_unref(group);
    return code;
}

int ab_task_retry(ab_task *t)
{
    return release_all(t, ab_quarantine_retry);
}

int ab_task_drop(ab_task *t)
{
    return release_all(t, ab_quarantine_drop);
}
