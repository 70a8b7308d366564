/* SPDX-License-Identifier: Apache-2.0 */
/* The quarantine. A record is a copy of the entry under its own name, so that neither trimming nor what the log's blocks
 * look like concerns it. Who writes: the group's apply thread; who reads: any thread, from the log. */
#include "engine/quarantine.h"
#include "engine/apply.h"
#include "wal/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* hlc, term, wall clock in ms when it was refused; then the payload. docs/FORMATS.md */
#define RECORD_HEAD 24u
/* How long one try waits until a change is stored: some worst-case commits; then it is tried again. */
#define STORE_WAIT_NS 2000000000ull
#define NAME_MAX_SIZE 96u

/* Where a record is. `last` is 0 where the state machine refused one entry; else the entries from `at` to it could not be
 * decoded. */
typedef struct place {
    ab_mark at;
    uint64_t last;
} place;

/* @return the record's name, in `text` */
static ab_bytes record_name(place of, char text[NAME_MAX_SIZE])
{
    int length = snprintf(text, NAME_MAX_SIZE, AB_KEY_QUARANTINE "%" PRIu32 ".%" PRIu32 ".%020" PRIu64,
                          of.at.stream.node, of.at.stream.epoch, of.at.index);
    if (of.last != 0) {
        length += snprintf(text + length, NAME_MAX_SIZE - (size_t)length, "-%020" PRIu64, of.last);
    }
    return (ab_bytes){text, (size_t)length};
}

/* @return false: not a name of a record */
static bool read_name(ab_bytes name, place *found)
{
    char text[NAME_MAX_SIZE];
    char again[NAME_MAX_SIZE];
    if (name.size >= sizeof text) {
        return false;
    }
    memcpy(text, name.data, name.size);
    text[name.size] = '\0';
    *found = (place){.last = 0};
    size_t prefix = sizeof AB_KEY_QUARANTINE - 1;
    ab_mark *at = &found->at;
    if (name.size < prefix || sscanf(text + prefix, "%" SCNu32 ".%" SCNu32 ".%" SCNu64 "-%" SCNu64,
                                     &at->stream.node, &at->stream.epoch, &at->index, &found->last) < 3) {
        return false;
    }
    ab_bytes made = record_name(*found, again);
    return made.size == name.size && memcmp(made.data, text, name.size) == 0 &&
           (found->last == 0 || found->last >= at->index);
}

static uint64_t entries_of(place of)
{
    return of.last == 0 ? 1 : of.last - of.at.index + 1;
}

static bool read_record(place of, ab_bytes value, ab_quarantined *found)
{
    if (value.size < RECORD_HEAD) {
        return false;
    }
    const uint8_t *data = value.data;
    *found = (ab_quarantined){.entry = {.stream = of.at.stream,
                                        .index = of.at.index,
                                        .hlc = ab_get_le64(data),
                                        .term = ab_get_le64(data + 8),
                                        .payload = data + RECORD_HEAD,
                                        .size = value.size - RECORD_HEAD},
                              .refused_ms = ab_get_le64(data + 16),
                              .last = of.last == 0 ? of.at.index : of.last,
                              .code = of.last == 0 ? AB_EREJECT : AB_ECORRUPT};
    return true;
}

/* Whether the log has the record. @return AB_OK, AB_ENOTFOUND, or why that cannot be told */
static int look_up(const ab_group *group, ab_bytes name)
{
    void *data = NULL;
    size_t size = 0;
    int code = ab_wal_state_get(group->node->wal, group->id, name, &data, &size);
    free(data);
    return code;
}

/* Sets (data) or removes (NULL) a record and waits until that is stored. The log gives up a value that it will never take:
 * so what it has in the end is what counts. */
static int store(ab_group *group, ab_bytes name, ab_bytes value)
{
    ab_wal_thread_state(group->node, group->id, name, value, true);
    int code = ab_wal_thread_flush(group->node, ab_monotonic_ns() + STORE_WAIT_NS);
    if (code != AB_OK) {
        return code == AB_EREJECT ? AB_ERETRY : code;
    }
    if (!ab_apply_goes_on(group)) {
        return AB_ECLOSED; /* the next start finds out */
    }
    code = look_up(group, name);
    bool kept = code == AB_OK;
    if (code != AB_OK && code != AB_ENOTFOUND) {
        return code;
    }
    return kept == (value.data != NULL) ? AB_OK : AB_EIO;
}

static int put(ab_group *group, place of, const ab_entry *entry, const char *why)
{
    char text[NAME_MAX_SIZE];
    ab_bytes name = record_name(of, text);
    int code = look_up(group, name);
    if (code != AB_ENOTFOUND) {
        return code; /* AB_OK: it came again after a restart */
    }
    uint8_t *value = malloc(RECORD_HEAD + entry->size);
    if (value == NULL) {
        return AB_ENOMEM;
    }
    ab_put_le64(value, entry->hlc);
    ab_put_le64(value + 8, entry->term);
    ab_put_le64(value + 16, ab_wall_ms());
    if (entry->size > 0) {
        memcpy(value + RECORD_HEAD, entry->payload, entry->size);
    }
    code = store(group, name, (ab_bytes){value, RECORD_HEAD + entry->size});
    free(value);
    if (code != AB_OK) {
        return code;
    }
    atomic_fetch_add(&group->quarantined, entries_of(of));
    ab_node_log(group->node, AB_LOG_WARN, "group %s: entry %llu of stream %u.%u is quarantined%s: %s",
                group->name, (unsigned long long)entry->index, entry->stream.node, entry->stream.epoch,
                entries_of(of) > 1 ? ", with what follows it in its block" : "", why);
    return AB_OK;
}

int ab_quarantine_put(ab_group *group, const ab_entry *entry)
{
    place of = {{entry->stream, entry->index}, 0};
    return put(group, of, entry, "the state machine refused it");
}

int ab_quarantine_put_raw(ab_group *group, const ab_entry *first, uint64_t last)
{
    place of = {{first->stream, first->index}, last};
    return put(group, of, first, "its node wrote what cannot be decoded, under a checksum that holds");
}

/* Goes through all records. */
typedef struct visit {
    ab_quarantine_fn fn;
    void *arg;
    bool damaged;
} visit;

static bool visit_record(void *arg, uint64_t group, ab_bytes key, ab_bytes value)
{
    visit *v = arg;
    place at;
    ab_quarantined found;
    (void)group;
    if (!read_name(key, &at) || !read_record(at, value, &found)) {
        v->damaged = true;
        return true;
    }
    return v->fn(v->arg, &found);
}

static int visit_all(const ab_group *group, const char *prefix, ab_quarantine_fn fn, void *arg)
{
    visit v = {.fn = fn, .arg = arg};
    int code =
        ab_wal_state_each(group->node->wal, group->id, (ab_bytes){prefix, strlen(prefix)}, visit_record, &v);
    return code == AB_OK && v.damaged ? AB_ECORRUPT : code;
}

static int forget(ab_group *group, place of, const char *why)
{
    char text[NAME_MAX_SIZE];
    int code = store(group, record_name(of, text), (ab_bytes){NULL, 0});
    if (code == AB_OK) {
        atomic_fetch_sub(&group->quarantined, entries_of(of));
        ab_node_log(group->node, AB_LOG_INFO, "group %s: entry %llu of stream %u.%u left quarantine: %s",
                    group->name, (unsigned long long)of.at.index, of.at.stream.node, of.at.stream.epoch, why);
    }
    return code;
}

/* Indexes of one stream in a range. */
typedef struct range {
    uint64_t first, last;
    uint64_t found; /* the least; 0: none */
} range;

static bool find_in_range(void *arg, const ab_quarantined *record)
{
    range *r = arg;
    bool inside = record->entry.index >= r->first && record->entry.index <= r->last &&
                  record->code == AB_EREJECT; /* what cannot be decoded was not applied */
    r->found = inside ? record->entry.index : 0;
    return !inside;
}

void ab_quarantine_applied(ab_group *group, ab_stream stream, uint64_t first, uint64_t last)
{
    char prefix[NAME_MAX_SIZE];
    snprintf(prefix, sizeof prefix, AB_KEY_QUARANTINE "%" PRIu32 ".%" PRIu32 ".", stream.node, stream.epoch);
    for (range r = {first, last, 0}; r.first <= last; r.first = r.found + 1) {
        r.found = 0;
        (void)visit_all(group, prefix, find_in_range, &r);
        if (r.found == 0 ||
            forget(group, (place){{stream, r.found}, 0}, "it came again and was applied") != AB_OK) {
            return; /* at worst it stays listed: retrying it is safe, as it always is */
        }
    }
}

typedef struct recovery {
    ab_group *group;
    int code;
} recovery;

static bool note_record(void *arg, uint64_t id, ab_bytes key, ab_bytes value)
{
    recovery *r = arg;
    place of;
    (void)id;
    (void)value;
    bool good = read_name(key, &of);
    atomic_fetch_add(&r->group->quarantined, good ? entries_of(of) : 1);
    if (good) {
        r->code = ab_marks_raise(&r->group->quarantine_end, of.at);
    }
    return r->code == AB_OK;
}

int ab_quarantine_recover(ab_group *group)
{
    recovery r = {.group = group};
    ab_bytes prefix = {AB_KEY_QUARANTINE, sizeof AB_KEY_QUARANTINE - 1};
    int code = ab_wal_state_each(group->node->wal, group->id, prefix, note_record, &r);
    return code == AB_OK ? r.code : code;
}

static bool find_place(void *arg, uint64_t group, ab_bytes key, ab_bytes value)
{
    place of;
    (void)group;
    (void)value;
    bool found = read_name(key, &of);
    if (found) {
        *(place *)arg = of;
    }
    return !found;
}

/* Reads the record of that index; `data` is malloc'ed and holds the payload. `of` is its place, also where it is damaged. */
static int load(const ab_group *group, ab_mark at, place *of, void **data, ab_quarantined *found)
{
    char text[NAME_MAX_SIZE];
    size_t size = 0;
    ab_wal *wal = group->node->wal;
    *data = NULL;
    *of = (place){at, 0};
    int code = ab_wal_state_get(wal, group->id, record_name(*of, text), data, &size);
    if (code == AB_ENOTFOUND) {
        ab_bytes prefix = record_name(*of, text);
        text[prefix.size++] = '-';
        code = ab_wal_state_each(wal, group->id, prefix, find_place, of);
        if (code == AB_OK) {
            code = ab_wal_state_get(wal, group->id, record_name(*of, text), data, &size);
        }
    }
    if (code == AB_OK && !read_record(*of, (ab_bytes){*data, size}, found)) {
        code = AB_ECORRUPT;
    }
    if (code != AB_OK) {
        free(*data);
        *data = NULL;
    }
    return code;
}

/* The frontier has long passed the entry: only a checkpoint keeps a crash from undoing what was done about it. */
static int make_durable(ab_group *group)
{
    return group->sm->checkpoint != NULL ? ab_apply_checkpoint(group) : AB_OK;
}

static bool count_record(void *arg, uint64_t group, ab_bytes key, ab_bytes value)
{
    place of;
    (void)group;
    (void)value;
    *(uint64_t *)arg += read_name(key, &of) ? entries_of(of) : 1;
    return true;
}

/* A removal that took too long to be waited for was not counted: counts again where a record is not found. */
static int missing(ab_group *group, int code)
{
    uint64_t count = 0;
    ab_bytes prefix = {AB_KEY_QUARANTINE, sizeof AB_KEY_QUARANTINE - 1};
    if (code == AB_ENOTFOUND &&
        ab_wal_state_each(group->node->wal, group->id, prefix, count_record, &count) == AB_OK) {
        atomic_store(&group->quarantined, count);
    }
    return code;
}

/* On the apply thread. */
static int retry(ab_group *group, const void *arg)
{
    place of;
    ab_quarantined found;
    void *data;
    int code = load(group, *(const ab_mark *)arg, &of, &data, &found);
    if (code != AB_OK) {
        return missing(group, code);
    }
    size_t failed = 0;
    code = found.code == AB_ECORRUPT
               ? AB_ECORRUPT /* no state machine can make anything of it */
               : group->sm->apply(group->sm_ctx, &found.entry, 1, ab_marks_view(&group->applied), &failed);
    free(data);
    if (code != AB_OK) {
        return code;
    }
    if (!ab_apply_goes_on(group)) {
        return AB_ECLOSED; /* it stays listed, and may be tried again */
    }
    atomic_fetch_add_explicit(&group->applied_entries, 1, memory_order_relaxed);
    code = make_durable(group);
    return code == AB_OK ? forget(group, of, "it was tried again and applied") : code;
}

/* On the apply thread. */
static int drop(ab_group *group, const void *arg)
{
    place of;
    ab_quarantined found;
    void *data;
    int code = load(group, *(const ab_mark *)arg, &of, &data, &found);
    free(data);
    if (code != AB_OK && code != AB_ECORRUPT) { /* a damaged one can be dropped, too */
        return missing(group, code);
    }
    code = make_durable(group);
    return code == AB_OK ? forget(group, of, "dropped") : code;
}

int ab_quarantine_list(const ab_group *group, ab_quarantine_fn fn, void *arg)
{
    return group != NULL && fn != NULL ? visit_all(group, AB_KEY_QUARANTINE, fn, arg) : AB_EINVAL;
}

int ab_quarantine_get(const ab_group *group, ab_stream stream, uint64_t index, ab_quarantine_fn fn, void *arg)
{
    place of;
    ab_quarantined found;
    void *data;
    if (group == NULL || fn == NULL) {
        return AB_EINVAL;
    }
    int code = load(group, (ab_mark){stream, index}, &of, &data, &found);
    if (code == AB_OK) {
        (void)fn(arg, &found);
        free(data);
    }
    return code;
}

int ab_quarantine_retry(ab_group *group, ab_stream stream, uint64_t index, uint32_t timeout_ms)
{
    ab_mark at = {stream, index};
    return group != NULL ? ab_apply_call(group, retry, &at, sizeof at, timeout_ms) : AB_EINVAL;
}

int ab_quarantine_drop(ab_group *group, ab_stream stream, uint64_t index, uint32_t timeout_ms)
{
    ab_mark at = {stream, index};
    return group != NULL ? ab_apply_call(group, drop, &at, sizeof at, timeout_ms) : AB_EINVAL;
}
