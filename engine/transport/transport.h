/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file transport.h
 * The links to the peers: one TCP connection per pair of nodes, both directions, all groups. Dispatcher
 * threads are libuv loops; each owns whole connections. Knows frames and nodes, nothing of streams.
 *
 * Threads: every ab_transport_* function may be called from any thread except start and stop (one owner).
 * Callbacks run on a dispatcher thread; for one peer never two at a time; they must not block on disk or on
 * other threads.
 */
#ifndef ANABRANCH_ENGINE_TRANSPORT_H
#define ANABRANCH_ENGINE_TRANSPORT_H

#include "engine/buf.h"
#include "wal/block.h"
#include <anabranch/config.h>
#include <anabranch/node.h>

typedef struct ab_transport ab_transport;

/** Who we are, for the handshake. */
typedef struct ab_transport_config {
    const char *cluster;
    uint32_t node_id;
    uint8_t store_id[16];
    const char *listen_host; /* NULL or "": dial only */
    uint16_t listen_port;
    const ab_peer_config *peers;
    size_t peer_count;
    uint32_t threads;
    uint32_t retry_min_ms;
    uint32_t retry_max_ms;
    uint32_t ping_ms;         /* a link silent for so long is probed, for three times so long it is dead; also
                                 the time for connecting and for the handshake. 0: 5000 */
    uint64_t seed;            /* jitter */
    uint64_t queue_max_bytes; /* waiting to be sent to one peer, blocks and messages each for
                                 themselves; beyond it sends are AB_EBUSY, but one may always wait */
    ab_budget *budget;        /* memory of received blocks and queues is counted here */
} ab_transport_config;

typedef struct ab_transport_callbacks {
    /* The link stands: the peer proved cluster, id and versions. */
    void (*peer_up)(void *ctx, uint32_t peer, const uint8_t store_id[16]);
    /* It fell. Comes once per peer_up. */
    void (*peer_down)(void *ctx, uint32_t peer, int code, const char *reason);
    /* A control message for `group`. Bytes borrowed. An error drops the link. */
    int (*message)(void *ctx, uint32_t peer, uint64_t group, ab_bytes bytes);
    /* A block whose header and checksum are good. The callee takes the reference. An error drops the link. */
    int (*block)(void *ctx, uint32_t peer, const ab_block_header *header, ab_buf *buf);
    /* The time given to ab_transport_timer() for `key` has passed. Runs on dispatcher 0. */
    void (*timer)(void *ctx, uint64_t key);
    /* Something for the operator. May come from several dispatcher threads at once. */
    void (*log)(void *ctx, ab_severity severity, const char *text);
} ab_transport_callbacks;

/** Binds, starts the threads, begins to dial. @return AB_OK, AB_EIO, AB_ENOMEM, AB_ECONFIG (address unusable)
 */
int ab_transport_start(const ab_transport_config *config, const ab_transport_callbacks *callbacks, void *ctx,
                       ab_transport **transport, ab_message *message);

/** Closes all links (peer_down is called for each that stood), joins the threads, frees. */
void ab_transport_stop(ab_transport *transport);

uint16_t ab_transport_port(const ab_transport *transport);

/** Queues a control message (copied). Messages keep their order among themselves and overtake blocks.
 *  @return AB_OK, AB_ECLOSED (link down: dropped), AB_EBUSY, AB_ENOMEM, AB_ETOOBIG (more than 256 KiB less 8),
 *  AB_ENOTFOUND (no such peer) */
int ab_transport_send_message(ab_transport *transport, uint32_t peer, uint64_t group, ab_bytes bytes);

/** Queues a block; takes a reference of its own, sends the buffer's bytes without copying.
 *  Blocks keep their order among themselves. @return AB_OK, AB_ECLOSED, AB_EBUSY, AB_ENOMEM, AB_EINVAL and
 *  AB_ETOOBIG (no block can have that size), AB_ENOTFOUND */
int ab_transport_send_block(ab_transport *transport, uint32_t peer, ab_buf *block);

/** Stops (or resumes) reading from every peer: back-pressure when the log cannot follow. */
void ab_transport_pause(ab_transport *transport, bool paused);

/** Drops the link because the peer broke the protocol; it comes back with back-off. */
void ab_transport_drop(ab_transport *transport, uint32_t peer, int code, const char *reason);

/** Arms a one-shot timer for `key` (a group id) at a monotonic time in ns; a second call replaces the first;
 * AB_NEVER disarms. @return AB_OK, AB_ENOMEM */
int ab_transport_timer(ab_transport *transport, uint64_t key, uint64_t when);

/** Monotonic nanoseconds: the one clock of timers, cores and back-off. */
uint64_t ab_monotonic_ns(void);

/** State of all links. */
void ab_transport_links(ab_transport *transport, ab_link_fn fn, void *arg);

#endif
