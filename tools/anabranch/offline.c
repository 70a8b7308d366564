/* SPDX-License-Identifier: Apache-2.0 */
/* Rows from a data directory that no process has open, made from its log alone. Reads only. Main thread. */
#include "tools/anabranch/offline.h"
#include "wal/walk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the engine keeps in the log's small state (engine/engine.h). */
#define KEY_NODE "engine/node"
#define KEY_CLUSTER "engine/cluster"
#define KEY_GROUP "engine/group"
#define KEY_QUARANTINE "engine/quarantine/"

typedef struct work {
    source *s;
    const query *q;
    row_fn fn;
    void *arg;
    uint32_t node_id;
    bool stopped;
    bool no_memory;
} work;

/* Gives the row away. */
static bool emit(work *w, json_t *row)
{
    if (row == NULL) {
        w->no_memory = true;
        return false;
    }
    w->stopped = !w->fn(w->arg, row);
    json_decref(row);
    return !w->stopped;
}

static int ended(const work *w, int code)
{
    return w->no_memory ? AB_ENOMEM : w->stopped ? AB_ECLOSED : code;
}

static json_t *stream_json(ab_stream stream)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu32 ".%" PRIu32, stream.node, stream.epoch);
    return json_string(text);
}

/* Small state as a C string; "" if it is not there or unreadable. */
static void state_text(ab_wal *wal, uint64_t group, const char *key, char *text, size_t size)
{
    void *data = NULL;
    size_t length = 0;
    text[0] = '\0';
    if (ab_wal_state_get(wal, group, (ab_bytes){key, strlen(key)}, &data, &length) == AB_OK) {
        size_t kept = length < size - 1 ? length : size - 1;
        memcpy(text, data, kept);
        text[kept] = '\0';
    }
    free(data);
}

static bool emit_node(work *w)
{
    ab_wal_usage usage;
    char cluster[AB_NAME_MAX + 1];
    ab_wal_usage_get(w->s->wal, &usage);
    state_text(w->s->wal, 0, KEY_CLUSTER, cluster, sizeof cluster);
    json_t *row = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "type", "node", "node_id",
                            json_uint(w->node_id), "cluster", json_text(cluster, strlen(cluster)), "store_id",
                            json_hex(w->s->store_id, sizeof w->s->store_id), "log_bytes",
                            json_uint(usage.used_bytes), "file_bytes", json_uint(usage.file_bytes));
    return emit(w, row);
}

typedef struct id_list {
    uint64_t *ids;
    size_t count;
    bool no_memory;
} id_list;

static bool collect_group(void *arg, uint64_t group)
{
    id_list *list = arg;
    if (group == 0) { /* the node's own state */
        return true;
    }
    uint64_t *larger = realloc(list->ids, (list->count + 1) * sizeof *larger);
    if (larger == NULL) {
        list->no_memory = true;
        return false;
    }
    list->ids = larger;
    list->ids[list->count++] = group;
    return true;
}

typedef struct stream_sum {
    uint32_t node_id;
    uint64_t streams;
    uint64_t entries;    /* in the log */
    ab_stream_state own; /* of this node, latest epoch */
    json_t *frontier;    /* stream: last */
    json_t *rows;        /* of type stream; NULL: not wanted */
    uint64_t group;
} stream_sum;

static bool sum_stream(void *arg, uint64_t group, const ab_stream_state *state)
{
    stream_sum *sum = arg;
    char text[32];
    (void)group;
    sum->streams++;
    sum->entries += state->last > state->base ? state->last - state->base : 0;
    if (state->stream.node == sum->node_id && state->stream.epoch >= sum->own.stream.epoch) {
        sum->own = *state;
    }
    snprintf(text, sizeof text, "%" PRIu32 ".%" PRIu32, state->stream.node, state->stream.epoch);
    json_object_set_new(sum->frontier, text, json_uint(state->last));
    if (sum->rows != NULL) {
        json_array_append_new(sum->rows, json_pack("{s:s, s:o, s:s, s:o, s:o}", "type", "stream", "group",
                                                   json_uint(sum->group), "stream", text, "base",
                                                   json_uint(state->base), "logged", json_uint(state->last)));
    }
    return true;
}

static json_t *fault_row(uint64_t group, ab_stream stream, uint64_t first, uint64_t last, int code,
                         const char *what)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:o}", "type", "fault", "group", json_uint(group),
                     "stream", stream_json(stream), "first", json_uint(first), "last", json_uint(last),
                     "code", ab_error_name(code), "what", json_text(what, strlen(what)));
}

/* The record of a quarantined entry (docs/FORMATS.md): hlc, term, time of refusal, payload. */
#define RECORD_HEAD 24u

static uint64_t le64(const uint8_t *p)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++) {
        value |= (uint64_t)p[i] << 8 * i;
    }
    return value;
}

/* `last` is 0 but for entries that cannot be decoded. */
static bool read_position(ab_bytes key, ab_stream *stream, uint64_t *index, uint64_t *last)
{
    char text[96];
    size_t prefix = strlen(KEY_QUARANTINE);
    if (key.size >= sizeof text || key.size < prefix) {
        return false;
    }
    memcpy(text, key.data, key.size);
    text[key.size] = '\0';
    *last = 0;
    return sscanf(text + prefix, "%" SCNu32 ".%" SCNu32 ".%" SCNu64 "-%" SCNu64, &stream->node,
                  &stream->epoch, index, last) >= 3;
}

static bool count_quarantined(void *arg, uint64_t group, ab_bytes key, ab_bytes value)
{
    ab_stream stream;
    uint64_t index, last;
    (void)group;
    (void)value;
    bool run = read_position(key, &stream, &index, &last) && last >= index;
    *(uint64_t *)arg += run ? last - index + 1 : 1;
    return true;
}

static bool emit_quarantined(void *arg, uint64_t group, ab_bytes key, ab_bytes value)
{
    work *w = arg;
    const query *q = w->q;
    const uint8_t *data = value.data;
    ab_stream stream = {0, 0};
    uint64_t index = 0, last = 0;
    if (!read_position(key, &stream, &index, &last) || value.size < RECORD_HEAD) {
        return emit(w, fault_row(group, stream, index, index, AB_ECORRUPT, "a damaged record of quarantine"));
    }
    if ((q->one_stream && ab_stream_compare(q->stream, stream) != 0) || index < q->from ||
        (q->to != 0 && index > q->to)) {
        return true;
    }
    size_t size = value.size - RECORD_HEAD;
    size_t shown = size < q->payload_max ? size : (size_t)q->payload_max;
    return emit(w,
                json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o*, s:o, s:o}", "type", "quarantined",
                          "group", json_uint(group), "stream", stream_json(stream), "index", json_uint(index),
                          "hlc", json_uint(le64(data)), "term", json_uint(le64(data + 8)), "refused_ms",
                          json_uint(le64(data + 16)), "last", last != 0 ? json_uint(last) : NULL, "size",
                          json_uint(size), "payload_hex", json_hex(data + RECORD_HEAD, shown)));
}

static int group_quarantine(work *w, stream_sum *sum)
{
    int code = ab_wal_state_each(w->s->wal, sum->group, (ab_bytes){KEY_QUARANTINE, strlen(KEY_QUARANTINE)},
                                 emit_quarantined, w);
    return ended(w, code);
}

#define IDENTITY_SIZE (2 * (AB_NAME_MAX + 1))

/* Name of a group. @return its backend; both "" where the log does not tell */
static const char *group_identity(work *w, uint64_t group, char name[IDENTITY_SIZE])
{
    state_text(w->s->wal, group, KEY_GROUP, name, IDENTITY_SIZE);
    char *tab = strchr(name, '\t');
    if (tab == NULL) {
        return "";
    }
    *tab = '\0';
    return tab + 1;
}

static bool take_size(void *arg, const ab_wal_group_size *size)
{
    *(ab_wal_group_size *)arg = *size;
    return true;
}

/* What `groups` tells beyond `status`. */
static void add_size(work *w, const stream_sum *sum, json_t *row)
{
    ab_wal_group_size size = {0};
    (void)ab_wal_group_sizes(w->s->wal, sum->group, take_size, &size);
    json_object_set_new(row, "entries", json_uint(sum->entries));
    json_object_set_new(row, "log_blocks", json_uint(size.blocks));
    json_object_set_new(row, "log_bytes", json_uint(size.bytes));
}

static json_t *group_row(work *w, const stream_sum *sum)
{
    char name[IDENTITY_SIZE];
    uint64_t quarantined = 0;
    const char *backend = group_identity(w, sum->group, name);
    ab_wal_state_each(w->s->wal, sum->group, (ab_bytes){KEY_QUARANTINE, strlen(KEY_QUARANTINE)},
                      count_quarantined, &quarantined);
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "type", "group", "group",
                     json_uint(sum->group), "name", json_text(name, strlen(name)), "backend",
                     json_text(backend, strlen(backend)), "stream", stream_json(sum->own.stream),
                     "last_index", json_uint(sum->own.last), "streams", json_uint(sum->streams),
                     "quarantined", json_uint(quarantined));
}

static bool emit_stream_rows(work *w, json_t *rows)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (!emit(w, json_incref(row))) {
            return false;
        }
    }
    return true;
}

static int group_status(work *w, stream_sum *sum)
{
    sum->rows = w->q->detail ? json_array() : NULL;
    int code = ab_wal_streams(w->s->wal, sum->group, sum_stream, sum);
    json_t *row = group_row(w, sum);
    if (row != NULL && strcmp(w->q->command, "groups") == 0) {
        add_size(w, sum, row);
    }
    if (code != AB_OK) {
        json_decref(row);
    } else if (emit(w, row)) {
        emit_stream_rows(w, sum->rows);
    }
    json_decref(sum->rows);
    return ended(w, code);
}

static bool emit_metric(work *w, const char *name, const char *help, uint64_t value, uint64_t group)
{
    return emit(w,
                json_pack("{s:s, s:s, s:s, s:b, s:f, s:o, s:i}", "type", "metric", "name", name, "help", help,
                          "counter", 0, "value", (double)value, "group", json_uint(group), "peer", 0));
}

/* Names and help are those of the engine's metrics. */
static bool node_metrics(work *w)
{
    ab_wal_usage usage;
    ab_wal_usage_get(w->s->wal, &usage);
    return emit_metric(w, "log_used_bytes", "Bytes of the log in use.", usage.used_bytes, 0);
}

static int group_metrics(work *w, stream_sum *sum)
{
    uint64_t quarantined = 0;
    int code = ab_wal_state_each(w->s->wal, sum->group, (ab_bytes){KEY_QUARANTINE, strlen(KEY_QUARANTINE)},
                                 count_quarantined, &quarantined);
    if (code == AB_OK) {
        emit_metric(w, "group_quarantined", "Entries in quarantine.", quarantined, sum->group);
    }
    return ended(w, code);
}

static int group_digest(work *w, stream_sum *sum)
{
    char name[IDENTITY_SIZE];
    group_identity(w, sum->group, name);
    int code = ab_wal_streams(w->s->wal, sum->group, sum_stream, sum);
    if (code == AB_OK) {
        emit(w, json_pack("{s:s, s:o, s:o, s:s, s:n, s:O}", "type", "digest", "group", json_uint(sum->group),
                          "name", json_text(name, strlen(name)), "code", ab_error_name(AB_EUNSUPPORTED),
                          "digest", "frontier", sum->frontier));
    }
    return ended(w, code);
}

static int no_group(work *w)
{
    snprintf(w->s->message.text, sizeof w->s->message.text, "%s: has no group %" PRIu64, w->s->data_dir,
             w->q->group);
    return AB_ENOTFOUND;
}

/* For what goes through the log without asking each group. */
static int nothing_of_group(work *w, stream_sum *sum)
{
    (void)w;
    (void)sum;
    return AB_OK;
}

static int each_group(work *w, int (*fn)(work *w, stream_sum *sum))
{
    id_list list = {0};
    int code = ab_wal_groups(w->s->wal, collect_group, &list);
    code = list.no_memory ? AB_ENOMEM : code;
    bool found = w->q->group == 0;
    for (size_t i = 0; i < list.count && code == AB_OK; i++) {
        if (w->q->group != 0 && w->q->group != list.ids[i]) {
            continue;
        }
        stream_sum sum = {.node_id = w->node_id, .group = list.ids[i], .frontier = json_object()};
        found = true;
        code = sum.frontier != NULL ? fn(w, &sum) : AB_ENOMEM;
        json_decref(sum.frontier);
    }
    free(list.ids);
    return code == AB_OK && !found ? no_group(w) : code;
}

static json_t *entry_row(const ab_wal_step *step, uint64_t payload_max)
{
    const ab_entry *e = &step->entry;
    size_t shown = e->size < payload_max ? e->size : (size_t)payload_max;
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "type", "entry", "group",
                     json_uint(step->group), "stream", stream_json(e->stream), "index", json_uint(e->index),
                     "hlc", json_uint(e->hlc), "term", json_uint(e->term), "size", json_uint(e->size),
                     "payload_hex", json_hex(e->payload, shown));
}

static int walk_log(work *w)
{
    const query *q = w->q;
    ab_wal_walk_options options = {.group = q->group,
                                   .one_stream = q->one_stream,
                                   .stream = q->stream,
                                   .from = q->from,
                                   .to = q->to,
                                   .newest = q->newest};
    ab_wal_walk *walk;
    ab_wal_step step;
    uint64_t entries = 0;
    if (q->follow) {
        snprintf(w->s->message.text, sizeof w->s->message.text, "%s: not running: there is nothing to follow",
                 w->s->data_dir);
        return AB_EUNSUPPORTED;
    }
    int code = q->group != 0 ? each_group(w, nothing_of_group) : AB_OK; /* is there such a group? */
    code = code == AB_OK ? ab_wal_walk_open(w->s->wal, &options, &walk) : code;
    if (code != AB_OK) {
        return code;
    }
    while ((q->limit == 0 || entries < q->limit) && (code = ab_wal_walk_next(walk, &step)) == AB_OK) {
        json_t *row = step.code == AB_OK ? entry_row(&step, q->payload_max)
                                         : fault_row(step.group, step.entry.stream, step.first, step.last,
                                                     step.code, ab_strerror(step.code));
        entries += step.code == AB_OK;
        if (!emit(w, row)) {
            break;
        }
    }
    ab_wal_walk_close(walk);
    return ended(w, code == AB_ENOTFOUND ? AB_OK : code);
}

typedef struct verification {
    work *w;
    uint64_t blocks;
    uint64_t faults;
} verification;

static bool on_verify(void *arg, const ab_wal_fault *fault, uint64_t blocks, uint64_t total)
{
    verification *v = arg;
    v->blocks = blocks;
    if (fault == NULL) {
        return emit(v->w, json_pack("{s:s, s:o, s:o}", "type", "progress", "blocks", json_uint(blocks),
                                    "total", json_uint(total)));
    }
    v->faults++;
    return emit(v->w,
                fault_row(fault->group, fault->stream, fault->first, fault->last, fault->code, fault->what));
}

static int verify_log(work *w)
{
    verification v = {.w = w};
    int code = ab_wal_verify(w->s->wal, on_verify, &v);
    if (!w->stopped) {
        emit(w, json_pack("{s:s, s:o, s:o, s:i}", "type", "verified", "blocks", json_uint(v.blocks), "faults",
                          json_uint(v.faults), "faults_not_shown", 0));
    }
    return ended(w, v.faults > 0 && code == AB_OK ? AB_ECORRUPT : code);
}

static int needs_a_node(work *w)
{
    snprintf(w->s->message.text, sizeof w->s->message.text,
             "%s: not running, and this needs a running node: start it first", w->s->data_dir);
    return AB_EUNSUPPORTED;
}

int offline_ask(source *s, const query *q, row_fn fn, void *arg)
{
    char id[16];
    state_text(s->wal, 0, KEY_NODE, id, sizeof id);
    work w = {.s = s, .q = q, .fn = fn, .arg = arg, .node_id = (uint32_t)strtoul(id, NULL, 10)};
    int code;
    if (strcmp(q->command, "status") == 0 || strcmp(q->command, "groups") == 0) {
        code = emit_node(&w) ? each_group(&w, group_status) : ended(&w, AB_OK);
    } else if (strcmp(q->command, "digest") == 0) {
        code = emit_node(&w) ? each_group(&w, group_digest) : ended(&w, AB_OK);
    } else if (strcmp(q->command, "quarantine") == 0) {
        code = emit_node(&w) ? each_group(&w, group_quarantine) : ended(&w, AB_OK);
    } else if (strcmp(q->command, "metrics") == 0) {
        code = emit_node(&w) && node_metrics(&w) ? each_group(&w, group_metrics) : ended(&w, AB_OK);
    } else if (strcmp(q->command, "log") == 0) {
        code = walk_log(&w);
    } else if (strcmp(q->command, "verify") == 0) {
        code = verify_log(&w);
    } else {
        code = needs_a_node(&w);
    }
    if (code != AB_OK && code != AB_ECLOSED && s->message.text[0] == '\0') {
        ab_wal_message(s->wal, &s->message);
    }
    return code;
}
