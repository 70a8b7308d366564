/* SPDX-License-Identifier: Apache-2.0 */
/* Groups: open, close, find. A group lives until its last reference is gone (queues of other threads hold some), and
 * its id stays taken until then. */
#include "engine/engine.h"
#include "engine/recover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000ull

static void destroy(ab_group *group)
{
    ab_append_abandon(group, AB_ECLOSED, AB_ECLOSED);
    ab_marks_free(&group->applied);
    ab_marks_free(&group->quarantine_end);
    pthread_mutex_destroy(&group->core_lock);
    pthread_mutex_destroy(&group->append_lock);
    if (group->room != NULL) {
        pthread_cond_destroy(&group->room->freed);
        free(group->room);
    }
    free(group->trims);
    free(group);
}

void ab_group_ref(ab_group *group)
{
    atomic_fetch_add_explicit(&group->refs, 1, memory_order_relaxed);
}

void ab_group_unref(ab_group *group)
{
    if (atomic_fetch_sub_explicit(&group->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    ab_node *node = group->node;
    pthread_rwlock_wrlock(&node->registry);
    ab_group_table_remove(&node->groups, group);
    pthread_rwlock_unlock(&node->registry);
    destroy(group);
}

/* A reference, unless the last one is gone already. Holds the registry. */
bool ab_group_try_ref(ab_group *group)
{
    unsigned refs = atomic_load(&group->refs);
    while (refs > 0) {
        if (atomic_compare_exchange_weak(&group->refs, &refs, refs + 1)) {
            return true;
        }
    }
    return false;
}

bool ab_group_is_open(const ab_group *group)
{
    return atomic_load(&group->ready) && !atomic_load(&group->closing);
}

ab_group *ab_group_get(ab_node *node, uint64_t id)
{
    pthread_rwlock_rdlock(&node->registry);
    ab_group *group = ab_group_table_find(&node->groups, id);
    if (group != NULL && (!atomic_load(&group->ready) || !ab_group_try_ref(group))) {
        group = NULL;
    }
    pthread_rwlock_unlock(&node->registry);
    return group;
}

ab_group *ab_group_find(ab_node *node, uint64_t id)
{
    pthread_rwlock_rdlock(&node->registry);
    ab_group *group = ab_group_table_find(&node->groups, id);
    if (group != NULL && !ab_group_is_open(group)) {
        group = NULL;
    }
    pthread_rwlock_unlock(&node->registry);
    return group;
}

ab_group **ab_groups_take(ab_node *node, size_t *count)
{
    ab_group **groups = NULL;
    size_t room = 0;
    for (;;) {
        pthread_rwlock_rdlock(&node->registry);
        size_t there = node->groups.count;
        if (there <= room) {
            break;
        }
        pthread_rwlock_unlock(&node->registry);
        free(groups);
        room = there + 8;
        groups = ab_alloc_patiently(node, room * sizeof(ab_group *));
    }
    *count = 0;
    for (ab_group *group = node->groups.first; group != NULL; group = group->next) {
        if (ab_group_is_open(group) && ab_group_try_ref(group)) {
            groups[(*count)++] = group;
        }
    }
    pthread_rwlock_unlock(&node->registry);
    return groups;
}

void ab_groups_release(ab_group **groups, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ab_group_unref(groups[i]);
    }
    free(groups);
}

void ab_group_list(ab_node *node, ab_group_fn fn, void *arg)
{
    size_t count = 0;
    ab_group **groups = ab_groups_take(node, &count);
    for (size_t i = 0; i < count && fn(arg, groups[i]); i++) {
    }
    ab_groups_release(groups, count);
}

uint64_t ab_group_id(const ab_group *group)
{
    return group->id;
}

const char *ab_group_name(const ab_group *group)
{
    return group->name;
}

static int check_members(const ab_node_config *node, const ab_group_config *config, ab_message *message)
{
    bool self = config->member_count == 0;
    for (size_t i = 0; i < config->member_count; i++) {
        uint32_t member = config->members[i];
        bool known = member == node->node_id;
        self = self || known;
        for (size_t k = 0; k < node->peer_count && !known; k++) {
            known = node->peers[k].node_id == member;
        }
        if (!known) {
            ab_message_set(message, "group %s: member %u is neither this node nor among its peers",
                           config->name, member);
            return AB_ECONFIG;
        }
    }
    if (!self) {
        ab_message_set(message, "group %s: this node (%u) is not among its members", config->name,
                       node->node_id);
        return AB_ECONFIG;
    }
    return AB_OK;
}

static int check_backend(const ab_group_config *config, ab_message *message)
{
    char names[128] = "";
    size_t used = 0;
    for (size_t i = 0; ab_backend_built_in(i) != NULL; i++) {
        const char *name = ab_backend_built_in(i)->name;
        if (strcmp(name, config->backend) == 0) {
            return AB_OK;
        }
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", name);
    }
    ab_message_set(message, "group %s: no backend is called %s (%s)", config->name, config->backend, names);
    return AB_ECONFIG;
}

/* The narrower one. */
static ab_write_level level_of(const ab_node_config *node, const ab_group_config *config)
{
    ab_write_level level = config->write_level != AB_WRITE_DEFAULT ? config->write_level : node->write_level;
    return level != AB_WRITE_DEFAULT ? level : AB_WRITE_LOCAL;
}

static int check_level(const ab_node_config *node, const ab_group_config *config, ab_message *message)
{
    char names[64] = "";
    size_t used = 0, peers = config->member_count > 0 ? config->member_count - 1 : 0;
    ab_write_level level = level_of(node, config);
    if (ab_append_offers(level, peers)) {
        return AB_OK;
    }
    for (int i = AB_WRITE_DEFAULT; i <= AB_WRITE_ALL; i++) {
        if (ab_append_offers((ab_write_level)i, peers)) {
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "",
                                     ab_write_level_name((ab_write_level)i));
        }
    }
    ab_message_set(message, "group %s: %swrite_level %s is not in this version (%s)", config->name,
                   config->write_level == AB_WRITE_DEFAULT ? "node." : "", ab_write_level_name(level), names);
    return AB_ECONFIG;
}

int ab_group_config_fits(const ab_group_config *config, const ab_node_config *node, ab_message *message)
{
    int code = ab_group_config_check(config, message);
    code = code == AB_OK ? ab_node_config_check(node, message) : code;
    code = code == AB_OK ? check_members(node, config, message) : code;
    code = code == AB_OK ? check_backend(config, message) : code;
    return code == AB_OK ? check_level(node, config, message) : code;
}

static ab_group *new_group(ab_node *node, const ab_group_config *config, const ab_statemachine *sm, void *ctx)
{
    size_t others = config->member_count > 0 ? config->member_count - 1 : 0;
    size_t name_size = strlen(config->name) + 1;
    ab_group *group = calloc(1, sizeof *group + others * sizeof group->peers[0] + name_size);
    if (group == NULL) {
        return NULL;
    }
    char *name = (char *)&group->peers[others];
    memcpy(name, config->name, name_size);
    group->node = node;
    group->id = config->id;
    group->instance = node->seed ^ ab_monotonic_ns();
    group->name = name;
    group->sm = sm;
    group->sm_ctx = ctx;
    group->apply_order = config->apply_order;
    group->write_level = level_of(&node->config, config);
    group->read_level = config->read_level != AB_READ_DEFAULT ? config->read_level : node->config.read_level;
    if (group->read_level == AB_READ_DEFAULT) {
        group->read_level = AB_READ_WEAK;
    }
    for (size_t i = 0; i < config->member_count; i++) {
        if (config->members[i] != node->config.node_id) {
            group->peers[group->peer_count++].node = config->members[i];
        }
    }
    group->armed = AB_NEVER;
    group->append_code = AB_EBUSY; /* until the core says where writes go */
    atomic_init(&group->refs, 1);
    pthread_mutex_init(&group->core_lock, NULL);
    pthread_mutex_init(&group->append_lock, NULL);
    ab_marks_init(&group->applied);
    ab_marks_init(&group->quarantine_end);
    ab_apply_attach(group);
    return group;
}

static int register_group(ab_node *node, ab_group *group, ab_message *message)
{
    pthread_rwlock_wrlock(&node->registry);
    ab_group *old = ab_group_table_find(&node->groups, group->id);
    int code = old != NULL ? AB_EEXIST : AB_OK;
    code = atomic_load(&node->closing) ? AB_ECLOSED : code;
    if (code == AB_OK) {
        code = ab_group_table_add(&node->groups, group);
    }
    if (code == AB_EEXIST) {
        ab_message_set(message, "group %s: id %llu is open already%s", group->name,
                       (unsigned long long)group->id, atomic_load(&old->closing) ? " (still closing)" : "");
    }
    pthread_rwlock_unlock(&node->registry);
    return code;
}

/* On error the group is gone. */
static int register_and_recover(ab_node *node, ab_group *group, ab_message *message)
{
    int code = register_group(node, group, message);
    if (code != AB_OK) {
        destroy(group);
        return code;
    }
    code = ab_group_recover(group, message);
    if (code != AB_OK) {
        atomic_store(&group->closing, true);
        ab_group_unref(group);
        return code;
    }
    atomic_store(&group->ready, true);
    ab_group_announce(group);
    return AB_OK;
}

int ab_group_open(ab_node *node, const ab_group_config *config, const ab_statemachine *sm, void *ctx,
                  ab_group **group_out, ab_message *message)
{
    if (node == NULL || config == NULL || sm == NULL || group_out == NULL || sm->apply == NULL) {
        return AB_EINVAL;
    }
    *group_out = NULL;
    int code = ab_group_config_check(config, message);
    if (code == AB_OK) {
        code = check_members(&node->config, config, message);
    }
    if (code == AB_OK && sm->version != AB_STATEMACHINE_VERSION) {
        ab_message_set(message, "group %s: state machine of version %u, this library takes %u", config->name,
                       sm->version, AB_STATEMACHINE_VERSION);
        code = AB_EVERSION;
    }
    if (code != AB_OK) {
        return code;
    }
    const ab_backend *backend = ab_node_backend(node, config->backend);
    if (backend == NULL) {
        ab_message_set(message, "group %s: no backend is called %s: register it before opening the group",
                       config->name, config->backend);
        return AB_ENOTFOUND;
    }
    ab_group *group = new_group(node, config, sm, ctx);
    if (group == NULL) {
        return AB_ENOMEM;
    }
    group->backend = backend;
    ab_wal_thread_await_room(node);
    pthread_mutex_lock(&node->opening); /* a node does not close while a group is half open */
    code = register_and_recover(node, group, message);
    pthread_mutex_unlock(&node->opening);
    if (code == AB_OK) {
        *group_out = group;
    }
    return code;
}

/* The core is gone for everybody who comes later. */
static void drop_core(ab_group *group)
{
    pthread_mutex_lock(&group->core_lock);
    void *core = group->core;
    group->core = NULL;
    pthread_mutex_unlock(&group->core_lock);
    (void)ab_transport_timer(group->node->transport, group->id, AB_NEVER);
    if (core != NULL) {
        group->backend->destroy(core);
    }
}

uint64_t ab_group_stop_deadline(const ab_node *node)
{
    uint64_t stop_at = atomic_load(&node->stop_at);
    return stop_at != 0 ? stop_at : ab_monotonic_ns() + node->config.stop_timeout_ms * NS_PER_MS;
}

/* However late it is, a call that is about to return is not taken for one that is stuck. */
uint64_t ab_group_patience(uint64_t deadline)
{
    uint64_t least = ab_monotonic_ns() + 1000 * NS_PER_MS;
    return deadline > least ? deadline : least;
}

int ab_group_close(ab_group *group)
{
    if (group == NULL) {
        return AB_EINVAL;
    }
    if (atomic_exchange(&group->closing, true)) {
        return AB_ECLOSED;
    }
    ab_node *node = group->node;
    uint64_t deadline = ab_group_stop_deadline(node);
    ab_append_leave(group);
    int flushed = ab_wal_thread_flush(node, deadline);
    int log_code = atomic_load(&node->log_code);
    flushed = flushed == AB_ETIMEDOUT && log_code != AB_OK ? log_code : flushed;
    ab_group_retire(group);
    ab_read_abandon(group);
    int detached = ab_apply_detach(group, ab_group_patience(deadline));
    drop_core(group);
    ab_append_abandon(group, log_code != AB_OK ? log_code : AB_ECLOSED, AB_ECLOSED);
    if (detached != AB_OK) {
        ab_node_log(node, AB_LOG_ERROR, "group %s: its state machine does not return: left behind",
                    group->name);
        return detached; /* the reference is kept: somebody is still in there */
    }
    if (group->sm->close != NULL) {
        group->sm->close(group->sm_ctx);
    }
    ab_group_unref(group);
    return flushed;
}
