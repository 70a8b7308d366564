/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file admin.h
 * The admin endpoint of a node: a UNIX socket in its data directory that answers inspectors. README.md here has
 * the protocol. One thread of its own; start and stop are called by the thread that opens and closes the node.
 */
#ifndef ANABRANCH_ENGINE_ADMIN_ADMIN_H
#define ANABRANCH_ENGINE_ADMIN_ADMIN_H

#include <anabranch/anabranch.h>

struct ab_wal;
typedef struct ab_admin ab_admin;

/** Optional: where the endpoint tells of trouble of its own. Called on its thread. */
typedef struct ab_admin_callbacks {
    void (*log)(void *ctx, ab_severity severity, const char *text);
    void *ctx;
} ab_admin_callbacks;

/**
 * Makes DATA_DIR/admin.sock (mode 0600; a socket left by a dead process is replaced) and starts to serve.
 * The caller holds the lock of the data directory. `node` and its log must stay valid until ab_admin_stop().
 * @return AB_OK, AB_ELOCKED (another process serves it), AB_EEXIST (something else is in the way), AB_EIO,
 *         AB_ENOMEM; `message` says what and where
 */
int ab_admin_start(ab_node *node, const char *data_dir, const ab_admin_callbacks *callbacks, ab_admin **admin,
                   ab_message *message);

/** Ends all answers under way, joins the thread, removes the socket. Returns within about a second. NULL is
 * allowed. */
void ab_admin_stop(ab_admin *admin);

/* What the endpoint needs of the engine beside the public interface (engine.h has them too). */
struct ab_wal *ab_node_wal(const ab_node *node);
ab_group *ab_group_get(ab_node *node, uint64_t id); /* takes a reference; NULL if there is none */
void ab_group_unref(ab_group *group);

#endif
