/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file transport_node.h
 * A transport with callbacks that record and check what comes, and waiting for conditions. Any thread.
 */
#ifndef ANABRANCH_TESTS_TRANSPORT_NODE_H
#define ANABRANCH_TESTS_TRANSPORT_NODE_H

#include "engine/transport/transport.h"

#include <pthread.h>
#include <stdbool.h>

#define NODE_PEERS 8 /* node ids 1 ... 7 */
#define NODE_LOGS 512

typedef struct node_link {
    bool up;
    unsigned ups;
    unsigned downs;
    int down_code;
    char down_reason[200];
    uint8_t store_id[16];
    unsigned messages;
    uint64_t message_bytes;
    uint64_t last_message;  /* messages of node_message(): must rise by one */
    unsigned blocks_before; /* when the last message came */
    unsigned blocks;
    uint64_t block_bytes;
    uint64_t last_block; /* header.first: must rise */
} node_link;

typedef struct node {
    ab_transport *transport;
    uint32_t id;
    ab_budget budget;
    bool keep_blocks;    /* blocks stay in `kept` and so in the budget */
    bool only_count;     /* order does not matter */
    bool trust;          /* blocks are not looked at */
    int message_code;    /* what the message callback answers */
    unsigned violations; /* of what the callbacks promise */
    char violation[200];
    ab_buf *kept[256];
    unsigned kept_count;
    unsigned timers;
    uint64_t timer_keys;
    uint64_t timer_at;  /* when the last one came */
    unsigned contested; /* connections refused because another one was being made */
    unsigned logs;
    char log[NODE_LOGS][300];
    ab_severity severity[NODE_LOGS];
    node_link links[NODE_PEERS];
    pthread_mutex_t lock;
    pthread_cond_t changed;
} node;

/** Defaults: cluster "test", short back-off, no listener. */
ab_transport_config node_config(uint32_t id, const ab_peer_config *peers, size_t count);
/** Starts; fails the test if that fails. */
void node_start(node *n, const ab_transport_config *config);
/** The same where a failure is expected. */
int node_try_start(node *n, const ab_transport_config *config, ab_message *message);
/** Stops and checks that every up had its down, and no promise was broken. */
void node_stop(node *n);

typedef bool (*node_condition)(node *n, uint64_t arg);
/** Waits until the condition holds (evaluated under the node's lock); fails the test after `seconds`. */
void node_wait(node *n, node_condition condition, uint64_t arg, const char *what);
bool node_wait_for(node *n, node_condition condition, uint64_t arg, unsigned ms);

bool node_is_up(node *n, uint64_t peer);
bool node_is_down(node *n, uint64_t peer);
/** arg: peer | count << 8 */
bool node_has_messages(node *n, uint64_t arg);
bool node_has_blocks(node *n, uint64_t arg);
bool node_has_downs(node *n, uint64_t arg);
bool node_has_timers(node *n, uint64_t count);
#define NODE_COUNT(peer, count) ((uint64_t)(peer) | (uint64_t)(count) << 8)
/** A log line contains the text. */
unsigned node_logged(node *n, const char *text, ab_severity least);

ab_link_status node_status(node *n, uint32_t peer);

/** A message of `size` >= 8 bytes that carries a number and a pattern the receiver checks. */
int node_message(node *n, uint32_t peer, uint64_t number, size_t size);
/** A sealed block with entries `first` ... of together about `size` bytes. */
ab_buf *node_block(ab_budget *budget, uint32_t origin, uint64_t first, size_t size);
void node_unkeep(node *n);

/** A loopback port that is free now. */
uint16_t node_free_port(void);

uint64_t node_random(uint64_t *state);

#endif
