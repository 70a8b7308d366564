/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file nodes.h
 * Nodes in this process on temporary directories and loopback, for tests of the engine through the public headers.
 */
#ifndef ANABRANCH_TESTS_NODES_H
#define ANABRANCH_TESTS_NODES_H

#include "tests/support/sm.h"

#define TEST_NODES_MAX 5u

typedef struct test_node {
    ab_node *node;
    ab_group *group;
    test_sm sm;
    char dir[64];
    uint16_t port;
    int reserved; /* a socket that holds the port */
} test_node;

typedef struct test_cluster {
    size_t count;
    test_node nodes[TEST_NODES_MAX];
    ab_peer_config peers[TEST_NODES_MAX];
    ab_durability durability;
    ab_apply_order apply_order;
    const char *backend;
    ab_log_fn log;
    void (*tune)(ab_node_config *config); /* last word on a node's configuration; may be NULL */
} test_cluster;

/** Makes directories, reserves ports. Nothing is open. */
void test_cluster_init(test_cluster *cluster, size_t count);

/** Opens node `i` and its group 1 ("test"). @return AB_OK or what failed */
int test_cluster_open(test_cluster *cluster, size_t i);

/** Closes node `i` if it is open. @return what ab_node_close() returned */
int test_cluster_close(test_cluster *cluster, size_t i);

/** Closes all, removes the directories. */
void test_cluster_free(test_cluster *cluster);

/** A fresh directory under $TMPDIR; the caller removes it with test_remove(). */
void test_directory(char *path, size_t size);
void test_remove(const char *path);

/** Writes "prefix-i" for i in [from, to) as single writes, waits for each. @return AB_OK or the first failure */
int test_write_range(ab_group *group, const char *prefix, unsigned from, unsigned to);

/** Waits until `up` links of an open node stand. @return false after `timeout_ms` */
bool test_links_wait(const test_node *node, uint32_t up, unsigned timeout_ms);

/** Prints log lines of a node when AB_TEST_LOG is set. */
void test_log(void *ctx, ab_severity severity, const char *text);

#endif
