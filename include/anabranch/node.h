/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file node.h
 * A node: one data directory, its log, its threads, its links to the peers.
 *
 * Threads: every function may be called from any thread, except where it says otherwise; but nothing may run beside
 * ab_node_close() or after it. Callbacks of the
 * node must not call ab_node_close() or ab_group_close().
 */
#ifndef ANABRANCH_NODE_H
#define ANABRANCH_NODE_H

#include <anabranch/backend.h>
#include <anabranch/config.h>
#include <anabranch/error.h>
#include <anabranch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ab_node ab_node;

/**
 * Opens the data directory, starts the threads, listens. Blocks for the recovery of the log (well under a
 * second).
 * @param config   copied
 * @param message  on error what, where and what to do; may be NULL
 * @return AB_OK; AB_ECONFIG; AB_ELOCKED (another process has the directory); AB_EVERSION, AB_ECORRUPT (log of
 * a newer version, or damaged beyond opening); AB_EIDENTITY (the directory belongs to another node or
 * cluster); AB_EIO (message has the path and the system's reason), AB_ENOSPC, AB_ENOMEM
 */
AB_API int ab_node_open(const ab_node_config *config, ab_node **node, ab_message *message);

/**
 * Stops: refuses new writes (AB_ECLOSED), flushes what was accepted, closes all groups, joins all threads.
 * Every write, read and query completes before it returns. Blocks at most about `stop_timeout_ms`, plus a
 * call of a state machine that does not return: then it gives up on that apply thread after the timeout, and
 * the node's memory is leaked on purpose rather than freed under it (AB_ETIMEDOUT).
 * @return AB_OK, AB_ETIMEDOUT, AB_EIO or AB_ENOSPC (what could not be flushed was completed with that code)
 */
AB_API int ab_node_close(ab_node *node);

/** Makes a backend known by its name, before groups that use it are opened. `backend` must stay valid until
 *  ab_node_close(). @return AB_OK, AB_EEXIST, AB_EVERSION, AB_EINVAL, AB_ENOMEM */
AB_API int ab_node_register_backend(ab_node *node, const ab_backend *backend);

AB_API uint32_t ab_node_id(const ab_node *node);
AB_API uint16_t ab_node_port(const ab_node *node); /**< port listened on; 0 if it does not listen */

/** Copies the latest message of a failed call or background trouble of this node; empty if none. */
AB_API void ab_node_message(const ab_node *node, ab_message *message);

/** State of a node. */
typedef struct ab_node_status {
    uint32_t node_id;
    uint8_t store_id[16]; /**< drawn when the data directory was made */
    uint64_t uptime_ms;
    uint32_t groups;
    uint32_t peers;
    uint32_t peers_up;
    ab_durability durability;
    uint64_t log_bytes; /**< used by the log on disk */
    uint64_t log_max_bytes;
    uint64_t memory_bytes; /**< of the memory budget in use */
    uint64_t memory_budget;
    int log_code; /**< AB_OK, or why the log takes no writes now: AB_ENOSPC, AB_EIO */
} ab_node_status;

AB_API void ab_node_get_status(const ab_node *node, ab_node_status *status);

/** State of the link to a peer. */
typedef struct ab_link_status {
    uint32_t peer;
    bool up;
    bool dialled;          /**< we dialled it (else it dialled us) */
    char address[64];      /**< numeric, where known */
    uint64_t queued_bytes; /**< waiting to be sent */
    uint64_t sent_bytes;   /**< since the node was opened */
    uint64_t received_bytes;
    uint32_t failures;    /**< attempts to connect since it last stood */
    uint32_t retry_in_ms; /**< until the next attempt */
    uint64_t silent_ms;   /**< since it was last heard of; UINT64_MAX if never */
    int last_code;        /**< of the last failure */
    char last_error[160]; /**< the last failure in words; empty if none */
} ab_link_status;

/** Calls `fn` for each configured peer until it returns false. */
typedef bool (*ab_link_fn)(void *arg, const ab_link_status *status);
AB_API void ab_node_links(const ab_node *node, ab_link_fn fn, void *arg);

/** One metric. Names follow Prometheus' conventions without prefix, e.g. "log_commits_total"; units are seconds and bytes. */
typedef struct ab_metric {
    const char *name; /**< static */
    const char *help; /**< static */
    bool counter;     /**< only grows; else a gauge */
    double value;
    uint64_t group; /**< 0: of the node */
    uint32_t peer;  /**< 0: not of a peer */
} ab_metric;

/** Calls `fn` for each metric until it returns false. The values are read one by one, not at one instant. `fn` is called
 * without locks: it may call whatever does not block. */
typedef bool (*ab_metric_fn)(void *arg, const ab_metric *metric);
AB_API void ab_node_metrics(const ab_node *node, ab_metric_fn fn, void *arg);

/** Version of the library as "major.minor.patch". Static storage. */
AB_API const char *ab_version(void);

#ifdef __cplusplus
}
#endif
#endif
