/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the admin protocol. Each runs on the thread of its request; rows are made inside the engine's
 * callbacks, which hold locks, and handed over between them, where waiting for a slow reader hurts nobody. */
#include "engine/admin/command.h"
#include "wal/walk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Waiting for an apply thread is cut into pieces, so that stopping does not wait for it. */
#define DIGEST_SLICE_MS 500u
#define PROGRESS_MS 100u
#define PAYLOAD_SHOWN_MAX (64u * 1024)
#define TIMEOUT_MAX_MS (24u * 3600u * 1000u)

/* Sizes of all groups, ascending by id. */
typedef struct size_list {
    ab_wal_group_size *sizes;
    size_t count;
    size_t capacity;
    bool no_memory;
} size_list;

typedef struct task {
    ab_node *node;
    const ab_admin_request *request;
    ab_answer *answer;
    size_list sizes;    /* for `groups` */
    ab_message message; /* for the end, where a code alone does not say enough */
} task;

typedef struct id_list {
    uint64_t *ids;
    size_t count;
    size_t capacity;
    bool no_memory;
} id_list;

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool collect_id(void *arg, ab_group *group)
{
    id_list *list = arg;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? list->capacity * 2 : 64;
        uint64_t *larger = realloc(list->ids, capacity * sizeof *larger);
        if (larger == NULL) {
            list->no_memory = true;
            return false;
        }
        list->ids = larger;
        list->capacity = capacity;
    }
    list->ids[list->count++] = ab_group_id(group);
    return true;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Calls `fn` for each open group that the request is about, in the order of their ids, without a lock held. */
static int each_group(task *t, int (*fn)(task *t, ab_group *group))
{
    id_list list = {0};
    ab_group_list(t->node, collect_id, &list);
    int code = list.no_memory ? AB_ENOMEM : AB_OK;
    if (code == AB_OK && list.count > 0) {
        qsort(list.ids, list.count, sizeof *list.ids, by_value);
    }
    bool found = t->request->group == 0;
    for (size_t i = 0; i < list.count && code == AB_OK; i++) {
        if (t->request->group != 0 && t->request->group != list.ids[i]) {
            continue;
        }
        ab_group *group = ab_group_get(t->node, list.ids[i]);
        if (group == NULL) { /* closed meanwhile */
            continue;
        }
        found = true;
        code = fn(t, group);
        ab_group_unref(group);
        if (code == AB_OK && !ab_answer_flush(t->answer)) {
            code = AB_ECLOSED;
        }
    }
    free(list.ids);
    if (code == AB_OK && !found) {
        snprintf(t->message.text, sizeof t->message.text, "group %" PRIu64 " is not open on this node",
                 t->request->group);
        return AB_ENOTFOUND;
    }
    return code;
}

typedef struct row_place {
    ab_out *out;
    uint64_t group;
} row_place;

static bool add_link(void *arg, const ab_link_status *link)
{
    ab_row_link(arg, link);
    return true;
}

static bool add_stream(void *arg, const ab_stream_status *stream)
{
    const row_place *place = arg;
    ab_row_stream(place->out, place->group, stream);
    return true;
}

static bool add_sync(void *arg, const ab_sync_status *sync)
{
    const row_place *place = arg;
    ab_row_sync(place->out, place->group, sync);
    return true;
}

static bool add_metric(void *arg, const ab_metric *metric)
{
    ab_row_metric(arg, metric);
    return true;
}

static int status_of_group(task *t, ab_group *group)
{
    row_place place = {&t->answer->rows, ab_group_id(group)};
    ab_row_group(place.out, group, NULL);
    if (t->request->detail) {
        ab_group_streams(group, add_stream, &place);
    }
    return AB_OK;
}

static int run_status(task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    ab_node_links(t->node, add_link, &t->answer->rows);
    return ab_answer_flush(t->answer) ? each_group(t, status_of_group) : AB_ECLOSED;
}

static bool collect_size(void *arg, const ab_wal_group_size *size)
{
    size_list *list = arg;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? list->capacity * 2 : 64;
        ab_wal_group_size *larger = realloc(list->sizes, capacity * sizeof *larger);
        if (larger == NULL) {
            list->no_memory = true;
            return false;
        }
        list->sizes = larger;
        list->capacity = capacity;
    }
    list->sizes[list->count++] = *size;
    return true;
}

static int by_group(const void *a, const void *b)
{
    return by_value(&((const ab_wal_group_size *)a)->group, &((const ab_wal_group_size *)b)->group);
}

static int sizes_of_group(task *t, ab_group *group)
{
    const ab_wal_group_size wanted = {.group = ab_group_id(group)};
    const ab_wal_group_size *found =
        t->sizes.count == 0 ? NULL
                            : bsearch(&wanted, t->sizes.sizes, t->sizes.count, sizeof wanted, by_group);
    ab_row_group(&t->answer->rows, group, found != NULL ? found : &wanted);
    return AB_OK;
}

static int run_groups(task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    int code = ab_wal_group_sizes(ab_node_wal(t->node), t->request->group, collect_size, &t->sizes);
    code = t->sizes.no_memory ? AB_ENOMEM : code;
    code = code == AB_OK ? each_group(t, sizes_of_group) : code;
    free(t->sizes.sizes);
    return code;
}

static int syncs_of_group(task *t, ab_group *group)
{
    row_place place = {&t->answer->rows, ab_group_id(group)};
    ab_group_syncs(group, add_sync, &place);
    return AB_OK;
}

static int run_peers(task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    ab_node_links(t->node, add_link, &t->answer->rows);
    return ab_answer_flush(t->answer) ? each_group(t, syncs_of_group) : AB_ECLOSED;
}

static int run_metrics(task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    ab_node_metrics(t->node, add_metric, &t->answer->rows);
    return AB_OK;
}

static void row_digest(ab_out *out, const ab_group *group, int code, const ab_digest *digest,
                       const ab_token *token)
{
    ab_out_begin(out, "digest");
    ab_out_uint(out, "group", ab_group_id(group));
    ab_out_text(out, "name", ab_group_name(group));
    ab_out_code(out, "code", code);
    if (code == AB_OK) {
        char text[2 * sizeof digest->bytes + 1];
        for (size_t i = 0; i < sizeof digest->bytes; i++) {
            snprintf(text + 2 * i, 3, "%02x", digest->bytes[i]);
        }
        ab_out_text(out, "digest", text);
        ab_out_frontier(out, "frontier", ab_token_frontier(token));
    } else {
        ab_out_nil(out, "digest");
        ab_out_nil(out, "frontier");
    }
    ab_out_end(out);
}

static int digest_of_group(task *t, ab_group *group)
{
    uint64_t timeout = t->request->timeout_ms < TIMEOUT_MAX_MS ? t->request->timeout_ms : TIMEOUT_MAX_MS;
    uint64_t end = now_ms() + timeout;
    ab_digest digest;
    ab_token *token = ab_token_new();
    if (token == NULL) {
        return AB_ENOMEM;
    }
    int code;
    do {
        uint64_t now = now_ms();
        uint64_t left = end > now ? end - now : 1;
        code =
            ab_group_digest(group, left < DIGEST_SLICE_MS ? (uint32_t)left : DIGEST_SLICE_MS, &digest, token);
    } while (code == AB_ETIMEDOUT && now_ms() < end && !ab_answer_cancelled(t->answer));
    row_digest(&t->answer->rows, group, code, &digest, token);
    ab_token_free(token);
    return AB_OK;
}

static int run_digest(task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    return each_group(t, digest_of_group);
}

static void row_entry(ab_out *out, const ab_wal_step *step, uint64_t payload_max)
{
    size_t shown = step->entry.size < payload_max ? step->entry.size : (size_t)payload_max;
    ab_out_begin(out, "entry");
    ab_out_uint(out, "group", step->group);
    ab_out_stream(out, "stream", step->entry.stream);
    ab_out_uint(out, "index", step->entry.index);
    ab_out_uint(out, "hlc", step->entry.hlc);
    ab_out_uint(out, "term", step->entry.term);
    ab_out_uint(out, "size", step->entry.size);
    ab_out_bin(out, "payload", step->entry.payload, shown);
    ab_out_end(out);
}

static void row_fault(ab_out *out, uint64_t group, ab_stream stream, uint64_t first, uint64_t last, int code,
                      const char *what)
{
    ab_out_begin(out, "fault");
    ab_out_uint(out, "group", group);
    ab_out_stream(out, "stream", stream);
    ab_out_uint(out, "first", first);
    ab_out_uint(out, "last", last);
    ab_out_code(out, "code", code);
    ab_out_text(out, "what", what);
    ab_out_end(out);
}

static int run_log(task *t)
{
    const ab_admin_request *r = t->request;
    ab_wal_walk_options options = {
        .group = r->group, .one_stream = r->one_stream, .stream = r->stream, .from = r->from, .to = r->to};
    uint64_t payload_max = r->payload_max < PAYLOAD_SHOWN_MAX ? r->payload_max : PAYLOAD_SHOWN_MAX;
    ab_wal_walk *walk;
    int code = ab_wal_walk_open(ab_node_wal(t->node), &options, &walk);
    if (code != AB_OK) {
        return code;
    }
    ab_wal_step step;
    uint64_t entries = 0;
    while ((r->limit == 0 || entries < r->limit) && (code = ab_wal_walk_next(walk, &step)) == AB_OK) {
        if (step.code == AB_OK) {
            row_entry(&t->answer->rows, &step, payload_max);
            entries++;
        } else {
            row_fault(&t->answer->rows, step.group, step.entry.stream, step.first, step.last, step.code,
                      ab_strerror(step.code));
        }
        if (ab_out_waiting(&t->answer->rows) > PAYLOAD_SHOWN_MAX && !ab_answer_flush(t->answer)) {
            code = AB_ECLOSED;
            break;
        }
    }
    ab_wal_walk_close(walk);
    return code == AB_ENOTFOUND ? AB_OK : code;
}

typedef struct verification {
    ab_answer *answer;
    uint64_t faults;
    uint64_t kept_back;
    uint64_t blocks;
    uint64_t shown_at;
} verification;

static void row_progress(ab_out *out, uint64_t blocks, uint64_t total)
{
    ab_out_begin(out, "progress");
    ab_out_uint(out, "blocks", blocks);
    ab_out_uint(out, "total", total);
    ab_out_end(out);
}

/* May run inside a transaction of the log: never waits. */
static bool on_verify(void *arg, const ab_wal_fault *fault, uint64_t blocks, uint64_t total)
{
    verification *v = arg;
    v->blocks = blocks;
    if (fault != NULL) {
        v->faults++;
        if (ab_answer_full(v->answer)) {
            v->kept_back++;
        } else {
            row_fault(&v->answer->rows, fault->group, fault->stream, fault->first, fault->last, fault->code,
                      fault->what);
        }
        return ab_answer_push(v->answer);
    }
    uint64_t now = now_ms();
    if (now - v->shown_at >= PROGRESS_MS && !ab_answer_full(v->answer)) {
        v->shown_at = now;
        row_progress(&v->answer->rows, blocks, total);
        return ab_answer_push(v->answer);
    }
    return !ab_answer_cancelled(v->answer);
}

static int run_verify(task *t)
{
    verification v = {.answer = t->answer, .shown_at = now_ms()};
    int code = ab_wal_verify(ab_node_wal(t->node), on_verify, &v);
    ab_out *out = &t->answer->rows;
    ab_out_begin(out, "verified");
    ab_out_uint(out, "blocks", v.blocks);
    ab_out_uint(out, "faults", v.faults);
    ab_out_uint(out, "faults_not_shown", v.kept_back);
    ab_out_end(out);
    return v.faults > 0 && code == AB_OK ? AB_ECORRUPT : code;
}

typedef struct command {
    const char *name;
    int (*run)(task *t);
} command;

static const command commands[] = {
    {"status", run_status}, {"groups", run_groups}, {"peers", run_peers},   {"metrics", run_metrics},
    {"digest", run_digest}, {"log", run_log},       {"verify", run_verify},
};

static const command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

void ab_admin_answer(ab_node *node, const ab_admin_request *request, ab_answer *answer)
{
    task t = {.node = node, .request = request, .answer = answer};
    const command *found = find_command(request->command);
    ab_row_hello(&answer->rows);
    int code = AB_EUNSUPPORTED;
    if (found != NULL) {
        code = found->run(&t);
    } else {
        snprintf(t.message.text, sizeof t.message.text, "this node does not know the command");
    }
    if (code == AB_OK || t.message.text[0] != '\0') {
        ab_row_end(&answer->rows, code, t.message.text);
    } else {
        ab_row_end(&answer->rows, code, ab_strerror(code));
    }
    ab_answer_finish(answer);
}

void ab_admin_refuse(ab_answer *answer, int code, const char *message)
{
    ab_row_hello(&answer->rows);
    ab_row_end(&answer->rows, code, message);
    ab_answer_finish(answer);
}
