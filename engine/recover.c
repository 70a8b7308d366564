/* SPDX-License-Identifier: Apache-2.0 */
/* What a group starts from. Runs on the thread that opens it, before anybody else knows the core. */
#include "engine/recover.h"
#include "engine/apply.h"
#include "engine/quarantine.h"
#include "replication/hlc.h"

#include <stdlib.h>
#include <string.h>

/* Everything that ab_core_init borrows. */
typedef struct found {
    ab_stream_state *streams;
    size_t stream_count, stream_capacity;
    ab_state_value *values;
    size_t value_count, value_capacity;
    ab_member *members;
    int code;
} found;

static bool make_room(void **array, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity) {
        return true;
    }
    size_t more = *capacity == 0 ? 8 : *capacity * 2;
    void *bigger = realloc(*array, more * size);
    if (bigger == NULL) {
        return false;
    }
    *array = bigger;
    *capacity = more;
    return true;
}

static bool take_stream(void *arg, uint64_t group, const ab_stream_state *state)
{
    found *into = arg;
    (void)group;
    void *array = into->streams;
    if (!make_room(&array, &into->stream_capacity, into->stream_count, sizeof *state)) {
        into->code = AB_ENOMEM;
        return false;
    }
    into->streams = array;
    into->streams[into->stream_count++] = *state;
    return true;
}

static void *copy_of(const void *data, size_t size)
{
    void *copy = malloc(size + 1);
    if (copy != NULL && size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

static bool take_value(void *arg, uint64_t group, ab_bytes key, ab_bytes value)
{
    found *into = arg;
    (void)group;
    size_t prefix = sizeof AB_KEY_CORE - 1;
    void *array = into->values;
    if (key.size < prefix) {
        return true;
    }
    if (!make_room(&array, &into->value_capacity, into->value_count, sizeof *into->values)) {
        into->code = AB_ENOMEM;
        return false;
    }
    into->values = array;
    void *name = copy_of((const uint8_t *)key.data + prefix, key.size - prefix);
    void *data = copy_of(value.data, value.size);
    into->values[into->value_count++] =
        (ab_state_value){.key = {name, key.size - prefix}, .value = {data, value.size}};
    if (name == NULL || data == NULL) {
        into->code = AB_ENOMEM;
    }
    return into->code == AB_OK;
}

static void free_found(found *all)
{
    for (size_t i = 0; i < all->value_count; i++) {
        free((void *)all->values[i].key.data);
        free((void *)all->values[i].value.data);
    }
    free(all->values);
    free(all->streams);
    free(all->members);
}

/* A small value of at most `size` bytes; false if there is none of that size. */
static bool read_value(ab_group *group, const char *name, void *into, size_t size)
{
    void *data = NULL;
    size_t got = 0;
    int code = ab_wal_state_get(group->node->wal, group->id, (ab_bytes){name, strlen(name)}, &data, &got);
    bool good = code == AB_OK && got == size;
    if (good) {
        memcpy(into, data, size);
    }
    free(data);
    return good;
}

/* The clock continues after everything this member wrote, and, within bounds, after what it has seen. */
static void recover_hlc(ab_group *group, const found *all)
{
    uint64_t stored = 0;
    bool skewed = false;
    (void)read_value(group, AB_KEY_HLC, &stored, sizeof stored);
    group->hlc = stored;
    for (size_t i = 0; i < all->stream_count; i++) {
        const ab_stream_state *state = &all->streams[i];
        if (state->stream.node == group->node->config.node_id) {
            group->hlc = state->hlc_last > group->hlc ? state->hlc_last : group->hlc;
        } else {
            group->hlc = ab_hlc_merge(group->hlc, state->hlc_last, ab_wall_ms(),
                                      group->node->config.max_clock_skew_ms, &skewed);
        }
    }
}

static int read_log(ab_group *group, found *all)
{
    ab_wal *wal = group->node->wal;
    ab_bytes core = {AB_KEY_CORE, sizeof AB_KEY_CORE - 1};
    int code = ab_wal_streams(wal, group->id, take_stream, all);
    if (code == AB_OK) {
        code = ab_wal_state_each(wal, group->id, core, take_value, all);
    }
    if (code == AB_OK) {
        code = ab_quarantine_recover(group);
    }
    return code == AB_OK ? all->code : code;
}

static int list_members(ab_group *group, found *all, size_t *count)
{
    all->members = calloc(group->peer_count + 1, sizeof *all->members);
    if (all->members == NULL) {
        return AB_ENOMEM;
    }
    uint32_t self = group->node->config.node_id;
    all->members[0] = (ab_member){.node = self};
    *count = 1;
    for (size_t i = 0; i < group->peer_count; i++) {
        size_t at = (*count)++;
        while (at > 0 && all->members[at - 1].node > group->peers[i].node) {
            all->members[at] = all->members[at - 1];
            at--;
        }
        all->members[at] = (ab_member){.node = group->peers[i].node};
    }
    return AB_OK;
}

/* A group has its tail if it was opened since the last start after which tails may be missing. */
static bool tail_safe(ab_group *group)
{
    uint64_t generation = 0;
    return read_value(group, AB_KEY_GENERATION, &generation, sizeof generation) &&
           generation == group->node->generation;
}

static int make_core(ab_group *group, found *all, void **core)
{
    const ab_node_config *config = &group->node->config;
    size_t member_count = 0;
    int code = list_members(group, all, &member_count);
    if (code != AB_OK) {
        return code;
    }
    ab_core_init init = {.group = group->id,
                         .self = config->node_id,
                         .members = all->members,
                         .member_count = member_count,
                         .streams = all->streams,
                         .stream_count = all->stream_count,
                         .applied = ab_marks_view(&group->applied),
                         .state = all->values,
                         .state_count = all->value_count,
                         .tail_safe = tail_safe(group),
                         .wall_seconds = (uint32_t)(ab_wall_ms() / 1000),
                         .seed = group->node->seed ^ group->id,
                         .apply_order = group->apply_order,
                         .window_blocks = config->window_blocks,
                         .window_bytes = config->window_bytes,
                         .retry_min_ms = config->retry_min_ms,
                         .retry_max_ms = config->retry_max_ms,
                         .gossip_ms = config->gossip_ms};
    return group->backend->create(&init, core);
}

/* What the inspector wants to know of a group when nobody has it open. */
static void store_identity(ab_group *group)
{
    char text[2 * (AB_NAME_MAX + 1)];
    size_t name = strlen(group->name), backend = strlen(group->backend->name);
    memcpy(text, group->name, name);
    text[name] = '\t';
    memcpy(text + name + 1, group->backend->name, backend);
    ab_wal_thread_state(group->node, group->id, (ab_bytes){AB_KEY_GROUP, sizeof AB_KEY_GROUP - 1},
                        (ab_bytes){text, name + 1 + backend}, false);
    uint64_t generation = group->node->generation;
    ab_wal_thread_state(group->node, group->id, (ab_bytes){AB_KEY_GENERATION, sizeof AB_KEY_GENERATION - 1},
                        (ab_bytes){&generation, sizeof generation}, false);
}

static int open_statemachine(ab_group *group, ab_message *message)
{
    if (group->sm->open == NULL) {
        return AB_OK;
    }
    ab_frontier_out out;
    ab_marks_init(&out.set);
    int code = group->sm->open(group->sm_ctx, group, &out);
    if (code == AB_OK) {
        code = ab_marks_merge(&group->applied, ab_marks_view(&out.set));
    } else {
        ab_message_set(message, "group %s: its state machine did not open: %s", group->name,
                       ab_strerror(code));
    }
    ab_marks_free(&out.set);
    return code;
}

static int start_core(ab_group *group, ab_message *message)
{
    found all = {.code = AB_OK};
    void *core = NULL;
    int code = read_log(group, &all);
    if (code == AB_OK) {
        recover_hlc(group, &all);
        code = make_core(group, &all, &core);
    }
    free_found(&all);
    if (code != AB_OK) {
        ab_message_set(message, "group %s: cannot be recovered from the log: %s", group->name,
                       ab_strerror(code));
        if (core != NULL) {
            group->backend->destroy(core);
        }
        return code;
    }
    pthread_mutex_lock(&group->core_lock);
    group->core = core;
    ab_event start = {.type = AB_EV_START};
    code = ab_group_step_locked(group, &start);
    if (code != AB_OK) {
        group->core = NULL;
        group->backend->destroy(core);
    }
    pthread_mutex_unlock(&group->core_lock);
    if (code == AB_OK) {
        store_identity(group); /* after the epoch that the core stores: the generation vouches for it */
    }
    return code;
}

int ab_group_recover(ab_group *group, ab_message *message)
{
    int code = open_statemachine(group, message);
    if (code != AB_OK) {
        return code;
    }
    code = start_core(group, message);
    if (code != AB_OK) {
        (void)ab_apply_detach(group, ab_group_stop_deadline(group->node));
        if (group->sm->close != NULL) {
            group->sm->close(group->sm_ctx);
        }
    }
    return code;
}
