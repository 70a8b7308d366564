/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file server.h
 * Limits of the admin endpoint, apart so that tests need not wait for them. Used by the thread that starts it.
 */
#ifndef ANABRANCH_ENGINE_ADMIN_SERVER_H
#define ANABRANCH_ENGINE_ADMIN_SERVER_H

#include "engine/admin/admin.h"

#include <stdint.h>

#define AB_ADMIN_CLIENTS_MAX 8u

typedef struct ab_admin_limits {
    uint32_t idle_ms;  /* a client that says nothing, or not a whole request, is let go after this */
    uint32_t stall_ms; /* and one that does not read its answer after this */
    uint32_t clients;  /* served at a time, at most AB_ADMIN_CLIENTS_MAX; more wait to be accepted */
} ab_admin_limits;

/** ab_admin_start() with limits. */
int ab_admin_start_limited(ab_node *node, const char *data_dir, const ab_admin_callbacks *callbacks,
                           const ab_admin_limits *limits, ab_admin **admin, ab_message *message);

/** Makes the listening socket DIR/admin.sock. Both descriptors are the caller's, also on error; -1: not opened. The
 * directory's stays open: its path may be relative, or be renamed, until the socket is removed. */
int ab_admin_listen(const char *dir, int *dir_fd, int *fd, ab_message *message);

/** Removes admin.sock. */
void ab_admin_unlink(int dir_fd);

#endif
