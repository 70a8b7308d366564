/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file daemon.h
 * The parts of the daemon put together: configuration, node, groups, HTTP. For the main thread.
 */
#ifndef ANABRANCHD_DAEMON_H
#define ANABRANCHD_DAEMON_H

#include "tools/anabranchd/http.h"

typedef struct ab_daemon {
    ab_config *file;
    const char *path; /* of the configuration */
    ab_settings *settings;
    ab_node_config node_config;
    ab_group_config *groups;
    size_t group_count;
    uint32_t *members; /* of groups made here */
    char (*names)[32]; /* of groups made here */
    int listen_fd;     /* for HTTP; -1: none, or HTTP has it */
    uint16_t http_port;
    ab_node *node;
    ab_shard *shards;
    ab_http_options http_options;
    ab_http *http;
} ab_daemon;

/** Reads and checks the configuration; opens nothing. @return AB_OK, or a code with a message */
int ab_daemon_configure(ab_daemon *daemon, const char *path, ab_message *message);

/** Reads the configuration again, takes over what can change, logs what cannot or what is wrong with it. While it
 * runs. */
void ab_daemon_reload(ab_daemon *daemon);

/** Takes the port of HTTP, then opens node, groups and HTTP. @return AB_OK, or a code with a message; then ab_daemon_stop() all the same */
int ab_daemon_start(ab_daemon *daemon, ab_message *message);

/** Does what is due now and then while it runs; does not block. The time between two looks is that of the settings it was
 * started with. */
void ab_daemon_look(ab_daemon *daemon);
uint64_t ab_daemon_look_ms(const ab_daemon *daemon);

/** Drains and closes what is open, within node.stop_timeout_ms, and frees everything. @return AB_OK, or what ab_node_close() returned */
int ab_daemon_stop(ab_daemon *daemon);

#endif
