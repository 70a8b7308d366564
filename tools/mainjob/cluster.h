/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file cluster.h
 * Real anabranchd processes on loopback: started, killed, stopped, compared. The main job and the system tests use it.
 * One thread, except that ab_cluster_http_port() may be called from any.
 */
#ifndef ANABRANCH_CLUSTER_H
#define ANABRANCH_CLUSTER_H

#include "tools/mainjob/httpc.h"

#include <stdatomic.h>
#include <sys/types.h>

#define AB_CLUSTER_NODES_MAX 5u

typedef struct ab_cluster_node {
    uint32_t id;
    uint16_t port;
    _Atomic uint16_t http_port; /**< 0: not serving */
    pid_t pid;                  /**< 0: not running */
    char dir[256];              /**< has config.yaml, log, data/ */
} ab_cluster_node;

typedef struct ab_cluster {
    char bin[256];
    size_t count;
    ab_cluster_node nodes[AB_CLUSTER_NODES_MAX];
    char error[512]; /**< of the last call that failed */
} ab_cluster;

typedef struct ab_cluster_options {
    const char *bin; /**< directory with anabranchd */
    const char *dir; /**< exists; node1/, node2/, ... are made in it */
    size_t count;
    unsigned groups;
    const char *node_extra;                     /**< further lines of `node:`, indented by two; may be NULL */
    const char *application_extra;              /**< the same of `application:` */
    const char *data_dir[AB_CLUSTER_NODES_MAX]; /**< NULL: DIR/nodeN/data */
} ab_cluster_options;

/** Chooses ports, writes the configurations; starts nothing. */
bool ab_cluster_init(ab_cluster *cluster, const ab_cluster_options *options);

/** Starts node `i`; waits until it serves. */
bool ab_cluster_start(ab_cluster *cluster, size_t i);

/** Sends a signal. SIGKILL and SIGTERM: waits for the end. @return false: not running, or does not end. *status (may be
 * NULL): exit status */
bool ab_cluster_signal(ab_cluster *cluster, size_t i, int signal, int *status);

/** Kills what runs. */
void ab_cluster_stop(ab_cluster *cluster);

uint16_t ab_cluster_http_port(const ab_cluster *cluster, size_t i);

/** Waits until all nodes answer GET /digest with the same. *text (may be NULL, freed by the caller): the answer. */
bool ab_cluster_converge(ab_cluster *cluster, unsigned timeout_ms, char **text);

/** GET /export of node `i` into a file. */
bool ab_cluster_export(ab_cluster *cluster, size_t i, const char *path);

/** Monotonic milliseconds. */
uint64_t ab_now_ms(void);

/** Sleeps a moment between two looks at a condition. */
void ab_pause(void);

#endif
