/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the admin protocol. Each runs on the thread of its request; rows are made inside the engine's
 * callbacks, which hold locks, and handed over between them, where waiting for a slow reader hurts nobody. */
#include "engine/admin/task.h"
#include "wal/wal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Waiting for an apply thread is cut into pieces, so that stopping does not wait for it. */
#define DIGEST_SLICE_MS 500u
#define TIMEOUT_MAX_MS (24u * 3600u * 1000u)

typedef struct id_list {
    uint64_t *ids;
    size_t count;
    size_t capacity;
    bool no_memory;
} id_list;

uint64_t ab_admin_now_ms(void)
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
int ab_task_groups(ab_task *t, int (*fn)(ab_task *t, ab_group *group))
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
    return code == AB_OK && !found ? ab_task_no_group(t) : code;
}

int ab_task_no_group(ab_task *t)
{
    snprintf(t->message.text, sizeof t->message.text, "group %" PRIu64 " is not open on this node",
             t->request->group);
    return AB_ENOTFOUND;
}

bool ab_task_group_open(const ab_task *t)
{
    ab_group *group = ab_group_get(t->node, t->request->group);
    if (group != NULL) {
        ab_group_unref(group);
    }
    return group != NULL;
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
    const row_place *place = arg;
    if (place->group == 0 || place->group == metric->group) {
        ab_row_metric(place->out, metric);
    }
    return true;
}

static int status_of_group(ab_task *t, ab_group *group)
{
    row_place place = {&t->answer->rows, ab_group_id(group)};
    ab_row_group(place.out, group, NULL);
    if (t->request->detail) {
        ab_group_streams(group, add_stream, &place);
    }
    return AB_OK;
}

static int run_status(ab_task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    ab_node_links(t->node, add_link, &t->answer->rows);
    return ab_answer_flush(t->answer) ? ab_task_groups(t, status_of_group) : AB_ECLOSED;
}

static bool collect_size(void *arg, const ab_wal_group_size *size)
{
    ab_size_list *list = arg;
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

static int sizes_of_group(ab_task *t, ab_group *group)
{
    const ab_wal_group_size wanted = {.group = ab_group_id(group)};
    const ab_wal_group_size *found =
        t->sizes.count == 0 ? NULL
                            : bsearch(&wanted, t->sizes.sizes, t->sizes.count, sizeof wanted, by_group);
    ab_row_group(&t->answer->rows, group, found != NULL ? found : &wanted);
    return AB_OK;
}

static int run_groups(ab_task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    int code = ab_wal_group_sizes(ab_node_wal(t->node), t->request->group, collect_size, &t->sizes);
    code = t->sizes.no_memory ? AB_ENOMEM : code;
    code = code == AB_OK ? ab_task_groups(t, sizes_of_group) : code;
    free(t->sizes.sizes);
    return code;
}

static int syncs_of_group(ab_task *t, ab_group *group)
{
    row_place place = {&t->answer->rows, ab_group_id(group)};
    ab_group_syncs(group, add_sync, &place);
    return AB_OK;
}

static int run_peers(ab_task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    ab_node_links(t->node, add_link, &t->answer->rows);
    return ab_answer_flush(t->answer) ? ab_task_groups(t, syncs_of_group) : AB_ECLOSED;
}

static int run_metrics(ab_task *t)
{
    row_place place = {&t->answer->rows, t->request->group};
    ab_row_node(&t->answer->rows, t->node);
    if (place.group != 0 && !ab_task_group_open(t)) {
        return ab_task_no_group(t);
    }
    ab_node_metrics(t->node, add_metric, &place);
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

static int digest_of_group(ab_task *t, ab_group *group)
{
    uint64_t timeout = t->request->timeout_ms < TIMEOUT_MAX_MS ? t->request->timeout_ms : TIMEOUT_MAX_MS;
    uint64_t end = ab_admin_now_ms() + timeout;
    ab_digest digest;
    ab_token *token = ab_token_new();
    if (token == NULL) {
        return AB_ENOMEM;
    }
    int code;
    do {
        uint64_t now = ab_admin_now_ms();
        uint64_t left = end > now ? end - now : 1;
        code =
            ab_group_digest(group, left < DIGEST_SLICE_MS ? (uint32_t)left : DIGEST_SLICE_MS, &digest, token);
    } while (code == AB_ETIMEDOUT && ab_admin_now_ms() < end && !ab_answer_cancelled(t->answer));
    row_digest(&t->answer->rows, group, code, &digest, token);
    ab_token_free(token);
    return AB_OK;
}

static int run_digest(ab_task *t)
{
    ab_row_node(&t->answer->rows, t->node);
    return ab_task_groups(t, digest_of_group);
}

typedef struct command {
    const char *name;
    int (*run)(ab_task *t);
} command;

static const command commands[] = {
    {"status", run_status},
    {"groups", run_groups},
    {"peers", run_peers},
    {"metrics", run_metrics},
    {"digest", run_digest},
    {"log", ab_task_log},
    {"quarantine", ab_task_quarantine},
    {"retry", ab_task_retry},
    {"drop", ab_task_drop},
    {"verify", ab_task_verify},
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
    ab_task t = {.node = node, .request = request, .answer = answer};
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
