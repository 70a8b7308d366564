/* SPDX-License-Identifier: Apache-2.0 */
/* The peers that ours is compared with: how three nodes of each are started, written to and checked. Main thread. */
#ifndef ANABRANCH_TESTS_COMPARE_PEERS_H
#define ANABRANCH_TESTS_COMPARE_PEERS_H

#include "tests/compare/load.h"

struct ab_cmp_peer {
    bool many; /* its protocol takes several entries in one request */
    const struct ab_cmp_proto *proto;
    /* Starts three nodes and waits until they serve. `port` is that of the node that takes writes: the leader. */
    int (*start)(struct ab_cmp_site *site, uint16_t *port);
    /* Waits until the last replica has what the leader has. Called right after the last answer. */
    int (*settle)(struct ab_cmp_site *site, const struct ab_cmp_load_result *result);
    /* Counts on each node what is there. */
    int (*verify)(struct ab_cmp_site *site, const struct ab_cmp_load_result *result);
};

/* @return NULL for the loops and ours */
const struct ab_cmp_peer *ab_cmp_peer_of(enum ab_cmp_system system);

extern const struct ab_cmp_peer ab_cmp_redis_always;
extern const struct ab_cmp_peer ab_cmp_redis_everysec;
extern const struct ab_cmp_peer ab_cmp_redis_wait;
extern const struct ab_cmp_peer ab_cmp_nats;
extern const struct ab_cmp_peer ab_cmp_etcd;

#endif
