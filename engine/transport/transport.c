/* SPDX-License-Identifier: Apache-2.0 */
/* The public side of the transport: start and stop (one owner), sending, pausing, dropping, timers (any thread). */
#include "engine/transport/internal.h"

#include "wal/bytes.h"
#include <anabranch/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

ab_peer *ab_transport_find(const ab_transport *transport, uint32_t node_id)
{
    for (size_t i = 0; i < transport->peer_count; i++) {
        if (transport->peers[i].node_id == node_id) {
            return &transport->peers[i];
        }
    }
    return NULL;
}

/* --- start and stop --- */

static uint64_t draw_u64(uint64_t seed)
{
    uint64_t value = 0;
    if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value) || value == 0) {
        value = seed ^ ab_monotonic_ns() ^ 0x9e3779b97f4a7c15u;
    }
    return value;
}

static int fail(ab_message *message, int code, const char *what)
{
    if (message != NULL) {
        (void)snprintf(message->text, sizeof(message->text), "cannot start the network: %s", what);
    }
    return code;
}

static int add_peers(ab_transport *transport, const ab_transport_config *config)
{
    transport->peers = calloc(config->peer_count > 0 ? config->peer_count : 1, sizeof(ab_peer));
    if (transport->peers == NULL) {
        return AB_ENOMEM;
    }
    for (size_t i = 0; i < config->peer_count; i++) {
        const ab_peer_config *from = &config->peers[i];
        if (from->node_id == 0 || ab_transport_find(transport, from->node_id) != NULL) {
            return AB_ECONFIG;
        }
        if (from->node_id == config->node_id) {
            continue; /* the same list of nodes may serve all of them */
        }
        size_t position = transport->peer_count;
        ab_peer *peer = &transport->peers[position];
        if (from->host != NULL && from->host[0] != '\0' && (peer->host = strdup(from->host)) == NULL) {
            return AB_ENOMEM;
        }
        peer->transport = transport;
        peer->loop = &transport->loops[position % transport->loop_count];
        peer->node_id = from->node_id;
        peer->port = from->port;
        peer->random = (config->seed + position + 1) * 0x9e3779b97f4a7c15u | 1;
        transport->peer_count++;
    }
    return AB_OK;
}

static int set_identity(ab_transport *transport, const ab_transport_config *config)
{
    ab_hello *self = &transport->self;
    if (config->node_id == 0 || config->cluster == NULL || strlen(config->cluster) > AB_NAME_MAX) {
        return AB_ECONFIG;
    }
    self->protocol = AB_PROTOCOL_VERSION;
    self->block_version = AB_BLOCK_VERSION;
    self->features = AB_FEATURES_KNOWN;
    memcpy(self->cluster, config->cluster, strlen(config->cluster) + 1);
    self->node_id = config->node_id;
    memcpy(self->store_id, config->store_id, sizeof(self->store_id));
    self->nonce = draw_u64(config->seed);
    /* Ids of links must not repeat over restarts: start anywhere. */
    atomic_init(&transport->next_link_id, draw_u64(config->seed + 1) | 1);
    return AB_OK;
}

static void copy_settings(ab_transport *transport, const ab_transport_config *config)
{
    transport->retry_min_ms = config->retry_min_ms > 0 ? config->retry_min_ms : AB_DEFAULT_RETRY_MIN_MS;
    transport->retry_max_ms =
        config->retry_max_ms > transport->retry_min_ms ? config->retry_max_ms : transport->retry_min_ms;
    transport->ping_ms = config->ping_ms > 0 ? config->ping_ms : AB_PING_MS;
    transport->queue_max_bytes = config->queue_max_bytes;
    transport->budget = config->budget;
    transport->alarm_at = UINT64_MAX;
}

/* The parts up to the loops, which ab_transport_stop() can take back at any point. */
static int prepare(ab_transport *transport, const ab_transport_config *config)
{
    unsigned threads = config->threads > 0 ? config->threads : 1;
    copy_settings(transport, config);
    int code = set_identity(transport, config);
    if (code != AB_OK) {
        return code;
    }
    transport->loops = calloc(threads, sizeof(*transport->loops));
    if (transport->loops == NULL) {
        return AB_ENOMEM;
    }
    while (transport->loop_count < threads) {
        code = ab_loop_init(transport, &transport->loops[transport->loop_count], transport->loop_count);
        if (code != AB_OK) {
            return code;
        }
        transport->loop_count++;
    }
    code = add_peers(transport, config);
    /* Also after an error: what was added gets stopped. */
    for (size_t i = 0; i < transport->peer_count; i++) {
        ab_dial_init(&transport->peers[i]);
    }
    return code;
}

static int run(ab_transport *transport)
{
    for (size_t i = 0; i < transport->peer_count; i++) {
        ab_dial_first(&transport->peers[i]);
    }
    for (unsigned i = 0; i < transport->loop_count; i++) {
        int code = ab_loop_start(&transport->loops[i]);
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

int ab_transport_start(const ab_transport_config *config, const ab_transport_callbacks *callbacks, void *ctx,
                       ab_transport **out, ab_message *message)
{
    ab_transport *transport = calloc(1, sizeof(*transport));
    if (transport == NULL) {
        return fail(message, AB_ENOMEM, "out of memory");
    }
    if (pthread_mutex_init(&transport->timers_lock, NULL) != 0) {
        free(transport);
        return fail(message, AB_ENOMEM, "out of memory");
    }
    transport->callbacks = *callbacks;
    transport->ctx = ctx;
    int code = prepare(transport, config);
    if (code != AB_OK) {
        (void)fail(message, code,
                   code == AB_ENOMEM    ? "out of memory"
                   : code == AB_ECONFIG ? "bad cluster name, or node ids that are 0 or double"
                                        : "no descriptors left");
    } else if (config->listen_host != NULL && config->listen_host[0] != '\0') {
        code = ab_listen(&transport->loops[0], config->listen_host, config->listen_port, message);
    }
    if (code == AB_OK && (code = run(transport)) != AB_OK) {
        (void)fail(message, code, "no thread to be had");
    }
    if (code != AB_OK) {
        ab_transport_stop(transport);
        return code;
    }
    *out = transport;
    return AB_OK;
}

void ab_transport_stop(ab_transport *transport)
{
    if (transport == NULL) {
        return;
    }
    for (unsigned i = 0; i < transport->loop_count; i++) {
        ab_loop_stop(&transport->loops[i]);
    }
    /* Loop 0 may have handed over to another one until its end: freed only when all are done. */
    for (unsigned i = 0; i < transport->loop_count; i++) {
        ab_loop_free(&transport->loops[i]);
    }
    for (size_t i = 0; i < transport->peer_count; i++) {
        free(transport->peers[i].host);
    }
    free(transport->peers);
    free(transport->loops);
    ab_timers_clear(&transport->timers);
    pthread_mutex_destroy(&transport->timers_lock);
    free(transport);
}

uint16_t ab_transport_port(const ab_transport *transport)
{
    return transport->port;
}

/* --- sending --- */

/* Something is always let through, however large: else it could never be sent. */
static bool has_room(const ab_peer *peer, const _Atomic uint64_t *queue, uint64_t size)
{
    uint64_t queued = atomic_load_explicit(queue, memory_order_relaxed);
    return queued == 0 || queued + size <= peer->transport->queue_max_bytes;
}

/* Hands a frame to the peer's loop, which owns it from here on. */
static int submit(ab_peer *peer, ab_out *out)
{
    for (bool widened = false;; widened = true) {
        pthread_mutex_lock(&peer->loop->lock);
        bool up = atomic_load_explicit(&peer->up, memory_order_relaxed);
        ab_out_list *list = out->buf != NULL ? &peer->blocks : &peer->control;
        ab_out *last = out->buf != NULL ? NULL : list->tail;
        bool joined = up && ab_out_join(last, out);
        bool pushed = up && !joined && (last == NULL || widened);
        if (pushed) {
            ab_out_push(list, out);
        }
        if (joined || pushed) {
            ab_loop_dirty(peer);
        }
        pthread_mutex_unlock(&peer->loop->lock);
        if (pushed) {
            return AB_OK;
        }
        if (!up || joined) {
            ab_out_free(out);
            return up ? AB_OK : AB_ECLOSED;
        }
        out = ab_out_widen(out); /* others wait, so more may come: those share it */
    }
}

int ab_transport_send_message(ab_transport *transport, uint32_t node_id, uint64_t group, ab_bytes bytes)
{
    ab_peer *peer = ab_transport_find(transport, node_id);
    uint8_t prefix[8];
    if (peer == NULL) {
        return AB_ENOTFOUND;
    }
    if (bytes.size > AB_FRAME_CONTROL_MAX - sizeof(prefix)) {
        return AB_ETOOBIG;
    }
    if (!atomic_load_explicit(&peer->up, memory_order_relaxed)) {
        return AB_ECLOSED;
    }
    if (!has_room(peer, &peer->queued_control, bytes.size)) {
        return AB_EBUSY;
    }
    ab_put_le64(prefix, group);
    ab_out *out = ab_out_control(peer, AB_FRAME_MESSAGE, (ab_bytes){prefix, sizeof(prefix)}, bytes);
    return out != NULL ? submit(peer, out) : AB_ENOMEM;
}

int ab_transport_send_block(ab_transport *transport, uint32_t node_id, ab_buf *block)
{
    ab_peer *peer = ab_transport_find(transport, node_id);
    if (peer == NULL) {
        return AB_ENOTFOUND;
    }
    if (block->size < AB_BLOCK_HEADER || block->size > AB_BLOCK_MAX) {
        return block->size > AB_BLOCK_MAX ? AB_ETOOBIG : AB_EINVAL;
    }
    if (!atomic_load_explicit(&peer->up, memory_order_relaxed)) {
        return AB_ECLOSED;
    }
    if (!has_room(peer, &peer->queued_blocks, block->size)) {
        return AB_EBUSY;
    }
    ab_out *out = ab_out_block(peer, block);
    return out != NULL ? submit(peer, out) : AB_ENOMEM;
}

void ab_transport_drop(ab_transport *transport, uint32_t node_id, int code, const char *reason)
{
    ab_peer *peer = ab_transport_find(transport, node_id);
    if (peer == NULL) {
        return;
    }
    pthread_mutex_lock(&peer->loop->lock);
    if (atomic_load_explicit(&peer->up, memory_order_relaxed) && peer->drop_code == AB_OK) {
        peer->drop_code = code != AB_OK ? code : AB_EPROTO;
        (void)snprintf(peer->drop_reason, sizeof(peer->drop_reason), "%s", reason);
        ab_loop_dirty(peer);
    }
    pthread_mutex_unlock(&peer->loop->lock);
}

/* --- for all links --- */

void ab_transport_pause(ab_transport *transport, bool paused)
{
    if (atomic_exchange(&transport->paused, paused) == paused) {
        return;
    }
    for (unsigned i = 0; i < transport->loop_count; i++) {
        ab_loop *loop = &transport->loops[i];
        pthread_mutex_lock(&loop->lock);
        loop->pause_changed = true;
        ab_loop_wake(loop);
        pthread_mutex_unlock(&loop->lock);
    }
}

int ab_transport_timer(ab_transport *transport, uint64_t key, uint64_t when)
{
    int code = AB_OK;
    pthread_mutex_lock(&transport->timers_lock);
    if (when == AB_NEVER) {
        ab_timers_remove(&transport->timers, key);
    } else {
        code = ab_timers_set(&transport->timers, key, when);
    }
    /* An alarm that rings too early does no harm: only an earlier deadline is worth a wake. */
    bool earlier = code == AB_OK && when < transport->alarm_at;
    if (earlier) {
        transport->alarm_at = when;
    }
    pthread_mutex_unlock(&transport->timers_lock);
    if (earlier) {
        ab_loop *loop = &transport->loops[0];
        pthread_mutex_lock(&loop->lock);
        loop->alarm_changed = true;
        ab_loop_wake(loop);
        pthread_mutex_unlock(&loop->lock);
    }
    return code;
}
