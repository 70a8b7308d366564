/* SPDX-License-Identifier: Apache-2.0 */
/* One block into the state machine: fetch, decode, apply, put aside what it will never take. On the group's apply
 * thread, without locks. */
#include "engine/apply.h"
#include "engine/quarantine.h"

#include <stdlib.h>
#include <string.h>

/* Entries given to one `apply` call. Bounds the scratch array (48 bytes each) and how long a query waits behind a call. */
#define APPLY_MAX 8192u

static int reserve_entries(ab_apply_thread *self, size_t count)
{
    if (count <= self->entry_capacity) {
        return AB_OK;
    }
    ab_entry *entries = realloc(self->entries, count * sizeof *entries);
    if (entries == NULL) {
        return AB_ENOMEM;
    }
    self->entries = entries;
    self->entry_capacity = count;
    return AB_OK;
}

/* One call of `apply`; moves the group's frontier when it took them. `upto` is the last index that is done then. */
static int call_apply(ab_group *group, ab_stream stream, const ab_entry *entries, size_t count, uint64_t upto,
                      size_t *failed)
{
    uint64_t before = ab_marks_get(&group->applied, stream);
    int code = ab_marks_set(&group->applied, (ab_mark){stream, upto});
    if (code != AB_OK) {
        return code;
    }
    *failed = 0;
    code = group->sm->apply(group->sm_ctx, entries, count, ab_marks_view(&group->applied), failed);
    if (code != AB_OK) {
        (void)ab_marks_set(&group->applied, (ab_mark){stream, before});
        return code;
    }
    atomic_fetch_add_explicit(&group->applied_entries, count, memory_order_relaxed);
    if (count > 0 && ab_marks_get(&group->quarantine_end, stream) >= entries[0].index &&
        ab_apply_goes_on(group)) {
        ab_quarantine_applied(group, stream, entries[0].index, entries[count - 1].index);
    }
    return AB_OK;
}

/* All of `entries` (of one stream, in order), putting aside what is refused. */
static int apply_entries(ab_group *group, const ab_entry *entries, size_t count)
{
    ab_stream stream = entries[0].stream;
    size_t start = 0;
    while (start < count) {
        size_t failed = 0;
        int code =
            call_apply(group, stream, entries + start, count - start, entries[count - 1].index, &failed);
        if (code == AB_OK) {
            return AB_OK;
        }
        if (code != AB_EREJECT || failed >= count - start) {
            return code;
        }
        if (!ab_apply_goes_on(group)) {
            return AB_ECLOSED; /* the next start asks again */
        }
        size_t bad = start + failed;
        if (failed > 0) {
            size_t ignored = 0;
            code = call_apply(group, stream, entries + start, failed, entries[bad].index - 1, &ignored);
            if (code != AB_OK) {
                return code == AB_EREJECT ? AB_ERETRY : code;
            }
            if (!ab_apply_goes_on(group)) {
                return AB_ECLOSED;
            }
        }
        code = ab_quarantine_put(group, &entries[bad]);
        if (code != AB_OK) {
            return code;
        }
        start = bad + 1;
        code = start == count ? call_apply(group, stream, NULL, 0, entries[bad].index, &failed)
                              : ab_marks_set(&group->applied, (ab_mark){stream, entries[bad].index});
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

/* What of the block cannot be decoded, from the iterator's place on. The block is part of its stream's chain, on all
 * replicas alike, and nobody will ever have it in another form: waiting, or refusing it, would end the stream. */
static int put_aside_rest(ab_group *group, const ab_block_header *header, const ab_block_iter *iter)
{
    ab_entry rest = {.stream = iter->stream,
                     .index = iter->index,
                     .hlc = iter->hlc,
                     .term = iter->term,
                     .payload = iter->data + iter->offset,
                     .size = iter->size - iter->offset};
    if (iter->left == 0) { /* all entries are there; what else the block says of them is wrong */
        ab_node_log(group->node, AB_LOG_WARN,
                    "group %s: block %llu-%llu of stream %u.%u has more bytes than entries, or another clock",
                    group->name, (unsigned long long)header->first, (unsigned long long)header->last,
                    header->node, header->epoch);
        return AB_OK;
    }
    int code = ab_quarantine_put_raw(group, &rest, header->last);
    size_t ignored = 0;
    return code == AB_OK ? call_apply(group, rest.stream, NULL, 0, header->last, &ignored) : code;
}

/* Decodes the block piece by piece, past what the state machine has already. */
static int apply_buffer(ab_apply_thread *self, ab_group *group, const ab_block_header *header,
                        const ab_buf *buf)
{
    ab_stream stream = {header->node, header->epoch};
    int code = reserve_entries(self, header->count < APPLY_MAX ? header->count : APPLY_MAX);
    if (code != AB_OK) {
        return code;
    }
    uint64_t done = ab_marks_get(&group->applied, stream);
    ab_block_iter iter;
    ab_block_iter_init(&iter, buf->data, header);
    for (;;) {
        size_t count = 0;
        int decoded = AB_OK;
        while (count < self->entry_capacity &&
               (decoded = ab_block_iter_next(&iter, &self->entries[count])) == AB_OK) {
            count += self->entries[count].index > done;
        }
        code = count > 0 ? apply_entries(group, self->entries, count) : AB_OK;
        if (code == AB_OK && iter.left > 0 && !ab_apply_goes_on(group)) {
            code = AB_ECLOSED; /* what is left is for the next start */
        }
        if (code == AB_OK && decoded != AB_OK && decoded != AB_ENOTFOUND && header->last > done) {
            code = put_aside_rest(group, header, &iter);
        }
        if (code != AB_OK || decoded != AB_OK) {
            return code;
        }
    }
}

/* Says once per trouble what holds the group up. */
static void note_outcome(ab_group *group, const ab_apply_item *item, int code)
{
    if (code != AB_OK) {
        atomic_fetch_add(&group->node->counters.apply_retries, 1);
    }
    if (atomic_exchange(&group->apply_code, code) == code) {
        return;
    }
    if (code != AB_OK) {
        ab_node_log(group->node, AB_LOG_WARN,
                    "group %s: cannot apply %llu-%llu of stream %u.%u now, trying again: %s", group->name,
                    (unsigned long long)item->first, (unsigned long long)item->last, item->stream.node,
                    item->stream.epoch, ab_strerror(code));
    } else {
        ab_node_log(group->node, AB_LOG_INFO, "group %s: applies again", group->name);
    }
}

int ab_apply_item_run(ab_apply_thread *self, ab_group *group, const ab_apply_item *item, uint64_t *bytes)
{
    ab_block_header header = {0};
    ab_buf *buf = NULL;
    if (item->first == 0) {
        if (item->move) {
            return ab_marks_set(&group->applied, (ab_mark){item->stream, item->last});
        }
        ab_marks_drop(&group->applied, item->stream.node, item->stream.epoch);
        return AB_OK;
    }
    int code = ab_block_fetch(group, item->stream, item->first, &header, &buf);
    if (code == AB_OK) {
        *bytes = buf->size;
        code = apply_buffer(self, group, &header, buf);
        ab_buf_unref(buf);
    }
    if (code != AB_OK && !ab_apply_goes_on(group)) {
        return code; /* nobody tries again */
    }
    note_outcome(group, item, code);
    if (buf == NULL && code == AB_ECORRUPT) {
        ab_block_damaged(group, item->stream, item->first, item->last, &header);
        ab_apply_give_back(group, item->stream); /* the item is gone */
    }
    if (code == AB_OK) {
        ab_event event = {.type = AB_EV_APPLIED, .mark = {item->stream, item->last}};
        (void)ab_group_step(group, &event);
    }
    return code;
}
