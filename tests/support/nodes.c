/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes in this process; see nodes.h. */
#define _GNU_SOURCE
#include "tests/support/nodes.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void test_log(void *ctx, ab_severity severity, const char *text)
{
    if (getenv("AB_TEST_LOG") != NULL) {
        fprintf(stderr, "[%p %d] %s\n", ctx, (int)severity, text);
    }
}

void test_directory(char *path, size_t size)
{
    const char *base = getenv("TMPDIR");
    snprintf(path, size, "%s/ab-test-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(path) == NULL) {
        perror(path);
        exit(1);
    }
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

void test_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A port that stays ours: bound here and never listened on, which does not keep a node of this process from listening on it
 * (both say SO_REUSEADDR), but keeps the system from giving it to anybody else, also while the node is closed. */
static uint16_t reserve_port(int *fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1;
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(*fd, (struct sockaddr *)&address, size) != 0 ||
        getsockname(*fd, (struct sockaddr *)&address, &size) != 0) {
        perror("reserve_port");
        exit(1);
    }
    return ntohs(address.sin_port);
}

void test_cluster_init(test_cluster *cluster, size_t count)
{
    memset(cluster, 0, sizeof *cluster);
    cluster->count = count;
    cluster->backend = count > 1 ? "multimaster" : "standalone";
    for (size_t i = 0; i < count; i++) {
        test_node *node = &cluster->nodes[i];
        test_directory(node->dir, sizeof node->dir);
        test_sm_init(&node->sm);
        node->sm.keep_durable = true;
        node->port = reserve_port(&node->reserved);
        cluster->peers[i] =
            (ab_peer_config){.node_id = (uint32_t)i + 1, .host = "127.0.0.1", .port = node->port};
    }
}

int test_cluster_open(test_cluster *cluster, size_t i)
{
    test_node *node = &cluster->nodes[i];
    ab_peer_config peers[TEST_NODES_MAX];
    uint32_t members[TEST_NODES_MAX];
    ab_node_config config;
    ab_node_config_init(&config);
    config.cluster = "test";
    config.node_id = (uint32_t)i + 1;
    config.data_dir = node->dir;
    config.listen_host = cluster->count > 1 ? "127.0.0.1" : NULL;
    config.listen_port = cluster->count > 1 ? node->port : 0;
    config.durability = cluster->durability;
    config.log = test_log;
    config.log_ctx = node;
    config.retry_min_ms = 50;
    config.gossip_ms = 20;
    config.checkpoint_ms = 50;
    for (size_t k = 0; k < cluster->count; k++) {
        members[k] = (uint32_t)k + 1;
        if (k != i) {
            peers[config.peer_count++] = cluster->peers[k];
        }
    }
    config.peers = peers;
    if (cluster->tune != NULL) {
        cluster->tune(&config);
    }
    ab_message message = {{0}};
    int code = ab_node_open(&config, &node->node, &message);
    if (code != AB_OK) {
        fprintf(stderr, "node %zu: %s: %s\n", i + 1, ab_error_name(code), message.text);
        return code;
    }
    ab_group_config group;
    ab_group_config_init(&group);
    group.id = 1;
    group.name = "test";
    group.backend = cluster->backend;
    group.members = members;
    group.member_count = cluster->count;
    group.apply_order = cluster->apply_order;
    code = ab_group_open(node->node, &group, &test_statemachine, &node->sm, &node->group, &message);
    if (code != AB_OK) {
        fprintf(stderr, "group of node %zu: %s: %s\n", i + 1, ab_error_name(code), message.text);
    }
    return code;
}

int test_cluster_close(test_cluster *cluster, size_t i)
{
    test_node *node = &cluster->nodes[i];
    int code = node->node != NULL ? ab_node_close(node->node) : AB_OK;
    node->node = NULL;
    node->group = NULL;
    return code;
}

void test_cluster_free(test_cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++) {
        (void)test_cluster_close(cluster, i);
        test_sm_free(&cluster->nodes[i].sm);
        close(cluster->nodes[i].reserved);
        test_remove(cluster->nodes[i].dir);
    }
}

int test_write_range(ab_group *group, const char *prefix, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char text[64];
        ab_bytes payload = {text, (size_t)snprintf(text, sizeof text, "%s-%u", prefix, i)};
        ab_write_result result;
        int code = ab_write_wait(group, &payload, 1, NULL, &result);
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

bool test_links_wait(const test_node *node, uint32_t up, unsigned timeout_ms)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    ab_node_status status;
    for (unsigned waited = 0; waited < timeout_ms; waited++) {
        ab_node_get_status(node->node, &status);
        if (status.peers_up == up) {
            return true;
        }
        nanosleep(&moment, NULL);
    }
    return false;
}
