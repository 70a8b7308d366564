/* SPDX-License-Identifier: Apache-2.0 */
/* SIGHUP: the configuration is read again; what can change while the daemon runs does, the rest is named. The main
 * thread. */
#include "tools/anabranchd/daemon.h"
#include "tools/anabranchd/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Members that are compared byte by byte. */
typedef struct member {
    const char *key;
    size_t offset;
    size_t size;
} member;

#define NODE(name)                                                                                           \
    {                                                                                                        \
        "node." #name, offsetof(ab_node_config, name), sizeof((ab_node_config){0}.name)                      \
    }
#define SETTING(name)                                                                                        \
    {                                                                                                        \
        "application." #name, offsetof(ab_settings, name), sizeof((ab_settings){0}.name)                     \
    }

static const member node_members[] = {
    NODE(node_id),         NODE(listen_port),   NODE(insecure),           NODE(durability),
    NODE(write_level),     NODE(read_level),    NODE(log_max_bytes),      NODE(durability_interval_ms),
    NODE(memory_budget),   NODE(queue_bytes),   NODE(block_bytes),        NODE(payload_max),
    NODE(window_blocks),   NODE(window_bytes),  NODE(retry_min_ms),       NODE(retry_max_ms),
    NODE(gossip_ms),       NODE(checkpoint_ms), NODE(checkpoint_bytes),   NODE(max_clock_skew_ms),
    NODE(stop_timeout_ms), NODE(apply_threads), NODE(dispatcher_threads),
};

static const member fixed_settings[] = {SETTING(http_port), SETTING(http_threads), SETTING(groups),
                                        SETTING(max_connections), SETTING(idle_timeout_s)};

typedef struct differences {
    char keys[512];
    size_t size;
} differences;

static void add(differences *all, const char *key)
{
    int n =
        snprintf(all->keys + all->size, sizeof all->keys - all->size, "%s%s", all->size > 0 ? " " : "", key);
    size_t room = sizeof all->keys - all->size;
    all->size += (size_t)n < room ? (size_t)n : room - 1;
}

static void compare_members(differences *all, const member *members, size_t count, const void *a,
                            const void *b)
{
    for (size_t i = 0; i < count; i++) {
        const member *m = &members[i];
        if (memcmp((const char *)a + m->offset, (const char *)b + m->offset, m->size) != 0) {
            add(all, m->key);
        }
    }
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static bool same_peers(const ab_node_config *a, const ab_node_config *b)
{
    bool same = a->peer_count == b->peer_count;
    for (size_t i = 0; same && i < a->peer_count; i++) {
        const ab_peer_config *p = &a->peers[i];
        const ab_peer_config *q = &b->peers[i];
        same = p->node_id == q->node_id && p->port == q->port && same_text(p->host, q->host);
    }
    return same;
}

static bool same_group(const ab_group_config *a, const ab_group_config *b)
{
    return a->id == b->id && same_text(a->name, b->name) && same_text(a->backend, b->backend) &&
           a->write_level == b->write_level && a->read_level == b->read_level &&
           a->apply_order == b->apply_order && a->member_count == b->member_count &&
           (a->member_count == 0 ||
            memcmp(a->members, b->members, a->member_count * sizeof a->members[0]) == 0);
}

static bool same_groups(const ab_config *a, const ab_config *b)
{
    bool same = ab_config_group_count(a) == ab_config_group_count(b);
    for (size_t i = 0; same && i < ab_config_group_count(a); i++) {
        same = same_group(ab_config_group(a, i), ab_config_group(b, i));
    }
    return same;
}

/* What is different and needs a start. */
static void compare(const ab_daemon *daemon, const ab_config *file, const ab_settings *settings,
                    differences *all)
{
    const ab_node_config *was = ab_config_node(daemon->file);
    const ab_node_config *is = ab_config_node(file);
    compare_members(all, node_members, sizeof node_members / sizeof *node_members, was, is);
    if (!same_text(was->cluster, is->cluster)) {
        add(all, "node.cluster");
    }
    if (!same_text(was->data_dir, is->data_dir)) {
        add(all, "node.data_dir");
    }
    if (!same_text(was->listen_host, is->listen_host)) {
        add(all, "node.listen_host");
    }
    if (!same_peers(was, is)) {
        add(all, "node.peers");
    }
    if (!same_groups(daemon->file, file)) {
        add(all, "groups");
    }
    compare_members(all, fixed_settings, sizeof fixed_settings / sizeof *fixed_settings, daemon->settings,
                    settings);
    if (!same_text(daemon->settings->http_host, settings->http_host)) {
        add(all, "application.http_host");
    }
}

/* Requests under way may still look at the settings they began with: those are kept until the end. */
static void take(ab_daemon *daemon, ab_settings *settings)
{
    settings->before = daemon->settings;
    daemon->settings = settings;
    ab_http_use(daemon->http, settings);
}

void ab_daemon_reload(ab_daemon *daemon)
{
    ab_message message = {""};
    differences all = {.size = 0};
    ab_config *file = NULL;
    ab_settings *settings = calloc(1, sizeof *settings);
    int code = settings != NULL ? ab_config_load(daemon->path, &file, &message) : AB_ENOMEM;
    code = code == AB_OK ? ab_settings_load(daemon->path, settings, &message) : code;
    if (code != AB_OK) {
        const char *why = message.text[0] != '\0' ? message.text : ab_strerror(code);
        ab_log_fields(AB_LOG_ERROR, "the configuration stays as it is", &(ab_log_field){"error", why, 0}, 1);
        if (settings != NULL) {
            ab_settings_free(settings);
        }
        free(settings);
        ab_config_free(file);
        return;
    }
    compare(daemon, file, settings, &all);
    ab_log_configure(ab_config_node(file)->log_severity, settings->log_format);
    take(daemon, settings);
    ab_config_free(file);
    ab_log(AB_LOG_INFO, "configuration read again");
    if (all.size > 0) {
        ab_log_fields(AB_LOG_WARN, "what changed here needs a restart", &(ab_log_field){"keys", all.keys, 0},
                      1);
    }
}
