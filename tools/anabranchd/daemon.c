/* SPDX-License-Identifier: Apache-2.0 */
/* From a configuration file to a running daemon and back. The main thread. */
#include "tools/anabranchd/daemon.h"
#include "tools/anabranchd/layout.h"
#include "tools/anabranchd/listen.h"
#include "tools/anabranchd/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What a drain may take of the time that stopping may take altogether: the node's own closing has the rest. */
#define DRAIN_MS_MAX 3000u
/* Between two looks after what is due. */
#define LOOK_MS_MAX 10000u

static uint32_t drain_ms(const ab_daemon *daemon)
{
    uint32_t share = ab_config_node(daemon->file)->stop_timeout_ms / 3;
    return share < DRAIN_MS_MAX ? share : DRAIN_MS_MAX;
}

static int compare_groups(const void *left, const void *right)
{
    const ab_group_config *a = left;
    const ab_group_config *b = right;
    return (a->id > b->id) - (a->id < b->id);
}

static int copy_groups(ab_daemon *daemon)
{
    daemon->group_count = ab_config_group_count(daemon->file);
    daemon->groups = calloc(daemon->group_count, sizeof *daemon->groups);
    if (daemon->groups == NULL) {
        return AB_ENOMEM;
    }
    for (size_t i = 0; i < daemon->group_count; i++) {
        daemon->groups[i] = *ab_config_group(daemon->file, i);
    }
    qsort(daemon->groups, daemon->group_count, sizeof *daemon->groups, compare_groups);
    return AB_OK;
}

static int compare_ids(const void *left, const void *right)
{
    const uint32_t *a = left;
    const uint32_t *b = right;
    return (*a > *b) - (*a < *b);
}

/* Groups shard-0, shard-1, ... with this node and all its peers. */
static int make_groups(ab_daemon *daemon)
{
    const ab_node_config *node = &daemon->node_config;
    daemon->group_count = daemon->settings->groups;
    daemon->groups = calloc(daemon->group_count, sizeof *daemon->groups);
    daemon->names = calloc(daemon->group_count, sizeof *daemon->names);
    daemon->members = calloc(node->peer_count + 1, sizeof *daemon->members);
    if (daemon->groups == NULL || daemon->names == NULL || daemon->members == NULL) {
        return AB_ENOMEM;
    }
    daemon->members[0] = node->node_id;
    for (size_t i = 0; i < node->peer_count; i++) {
        daemon->members[i + 1] = node->peers[i].node_id;
    }
    qsort(daemon->members, node->peer_count + 1, sizeof *daemon->members, compare_ids);
    for (size_t i = 0; i < daemon->group_count; i++) {
        ab_group_config *group = &daemon->groups[i];
        snprintf(daemon->names[i], sizeof daemon->names[i], "shard-%zu", i);
        ab_group_config_init(group);
        group->id = i + 1;
        group->name = daemon->names[i];
        group->backend = "multimaster";
        group->members = daemon->members;
        group->member_count = node->peer_count + 1;
    }
    return AB_OK;
}

/* What is well-formed, and would make the group fail to open or refuse every write. */
static int check_group(const ab_daemon *daemon, const ab_group_config *group, ab_message *message)
{
    ab_message why = {""};
    ab_group_config written = *group;
    bool given = daemon->settings->write_level != AB_WRITE_DEFAULT;
    if (given) {
        written.write_level = daemon->settings->write_level;
    }
    int code = ab_group_config_fits(&written, &daemon->node_config, &why);
    if (code != AB_OK) {
        written.write_level = AB_WRITE_LOCAL;
        bool level = given && ab_group_config_fits(&written, &daemon->node_config, NULL) == AB_OK;
        snprintf(message->text, sizeof message->text, "%.200s: %.400s%s", daemon->path, why.text,
                 level ? ": application.write_level" : "");
    }
    return code;
}

int ab_daemon_configure(ab_daemon *daemon, const char *path, ab_message *message)
{
    *daemon = (ab_daemon){.path = path, .listen_fd = -1, .settings = calloc(1, sizeof *daemon->settings)};
    int code = daemon->settings != NULL ? ab_config_load(path, &daemon->file, message) : AB_ENOMEM;
    if (code != AB_OK) {
        return code;
    }
    daemon->node_config = *ab_config_node(daemon->file);
    daemon->node_config.log = ab_log_node;
    code = ab_settings_load(path, daemon->settings, message);
    if (code != AB_OK) {
        return code;
    }
    code = ab_node_config_check(&daemon->node_config, message);
    if (code == AB_OK) {
        code = ab_listen_check(daemon->settings->http_host, daemon->node_config.insecure, message);
    }
    if (code != AB_OK) {
        return code;
    }
    code = ab_config_group_count(daemon->file) > 0 ? copy_groups(daemon) : make_groups(daemon);
    for (size_t i = 0; i < daemon->group_count && code == AB_OK; i++) {
        code = check_group(daemon, &daemon->groups[i], message);
    }
    return code;
}

static int make_points_dir(const char *path, ab_message *message)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST) {
        return AB_OK;
    }
    int code = errno == ENOSPC ? AB_ENOSPC : AB_EIO;
    snprintf(message->text, sizeof message->text, "cannot make %.300s: %s", path, strerror(errno));
    return code;
}

static int open_group(ab_daemon *daemon, const char *points, size_t i, ab_message *message)
{
    ab_shard *shard = &daemon->shards[i];
    int code = ab_shard_init(shard, points, &daemon->groups[i], daemon->node_config.node_id,
                             daemon->settings->delete_grace_s * 1000);
    if (code != AB_OK) {
        return code;
    }
    code = ab_group_open(daemon->node, &daemon->groups[i], ab_shard_machine(), shard, &shard->group, message);
    if (code != AB_OK && shard->message.text[0] != '\0') {
        *message = shard->message;
    }
    return code;
}

static int open_groups(ab_daemon *daemon, ab_message *message)
{
    size_t size = strlen(daemon->node_config.data_dir) + sizeof "/points";
    char *points = malloc(size);
    daemon->shards = calloc(daemon->group_count, sizeof *daemon->shards);
    if (points == NULL || daemon->shards == NULL) {
        free(points);
        return AB_ENOMEM;
    }
    snprintf(points, size, "%s/points", daemon->node_config.data_dir);
    int code = make_points_dir(points, message);
    code = code == AB_OK ? ab_layout_check(points, daemon->groups, daemon->group_count, message) : code;
    for (size_t i = 0; i < daemon->group_count && code == AB_OK; i++) {
        code = open_group(daemon, points, i, message);
    }
    free(points);
    return code;
}

int ab_daemon_start(ab_daemon *daemon, ab_message *message)
{
    const ab_settings *settings = daemon->settings;
    /* First of all: where the port is taken, nothing is left behind. */
    int code = ab_listen_bind(settings->http_host, (uint16_t)settings->http_port,
                              daemon->node_config.insecure, &daemon->listen_fd, &daemon->http_port, message);
    if (code != AB_OK) {
        return code;
    }
    /* The log decides what is written: its level can change while the node runs. */
    daemon->node_config.log_severity = AB_LOG_DEBUG;
    daemon->node_config.stop_timeout_ms -= drain_ms(daemon);
    code = ab_node_open(&daemon->node_config, &daemon->node, message);
    if (code != AB_OK) {
        daemon->node = NULL;
        return code;
    }
    code = open_groups(daemon, message);
    if (code != AB_OK) {
        return code;
    }
    daemon->http_options = (ab_http_options){.settings = daemon->settings,
                                             .listen_fd = daemon->listen_fd,
                                             .port = daemon->http_port,
                                             .payload_max = daemon->node_config.payload_max,
                                             .node = daemon->node,
                                             .shards = daemon->shards,
                                             .shard_count = daemon->group_count};
    code = ab_http_start(&daemon->http_options, &daemon->http, message);
    if (code == AB_OK) {
        daemon->listen_fd = -1;
    }
    return code;
}

void ab_daemon_look(ab_daemon *daemon)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    for (size_t i = 0; i < daemon->group_count; i++) {
        ab_shard_give_sign(&daemon->shards[i], now_ms);
    }
}

uint64_t ab_daemon_look_ms(const ab_daemon *daemon)
{
    uint64_t share = daemon->http_options.settings->delete_grace_s * 1000 / 16;
    return share > 0 && share < LOOK_MS_MAX ? share : LOOK_MS_MAX;
}

int ab_daemon_stop(ab_daemon *daemon)
{
    int code = AB_OK;
    if (daemon->http != NULL) {
        if (!ab_http_drain(daemon->http, drain_ms(daemon))) {
            ab_log(AB_LOG_WARN, "requests are still waiting: they get 503");
        }
    }
    if (daemon->node != NULL) {
        code = ab_node_close(daemon->node);
    }
    if (code == AB_ETIMEDOUT) {
        return code; /* a thread of the node may still be in a state machine: the memory stays */
    }
    if (daemon->http != NULL) {
        ab_http_stop(daemon->http);
    }
    for (size_t i = 0; i < daemon->group_count && daemon->shards != NULL; i++) {
        ab_shard_fini(&daemon->shards[i]);
    }
    if (daemon->listen_fd >= 0) {
        close(daemon->listen_fd);
    }
    free(daemon->shards);
    free(daemon->groups);
    free(daemon->names);
    free(daemon->members);
    while (daemon->settings != NULL) {
        ab_settings *before = daemon->settings->before;
        ab_settings_free(daemon->settings);
        free(daemon->settings);
        daemon->settings = before;
    }
    ab_config_free(daemon->file);
    *daemon = (ab_daemon){.listen_fd = -1};
    return code;
}
