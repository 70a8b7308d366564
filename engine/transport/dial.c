/* SPDX-License-Identifier: Apache-2.0 */
/* Dialling a peer: name, addresses in turn, back-off with jitter. Loop thread of the peer. */
#include "engine/transport/internal.h"

#include <anabranch/error.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

/* The node with the higher id waits this long before its first attempt: mostly one connection gets made. */
#define SECOND_FIRST_MS 1000u

/* xorshift64* */
static uint64_t next_random(ab_peer *peer)
{
    uint64_t x = peer->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    peer->random = x;
    return x * 0x2545f4914f6cdd1du;
}

static uint32_t backoff_ms(ab_peer *peer)
{
    const ab_transport *transport = peer->transport;
    uint32_t times = peer->failures > peer->penalty ? peer->failures : peer->penalty;
    uint64_t wait = transport->retry_min_ms;
    for (uint32_t i = 1; i < times && wait < transport->retry_max_ms; i++) {
        wait *= 2;
    }
    wait = wait < transport->retry_max_ms ? wait : transport->retry_max_ms;
    return (uint32_t)(wait / 2 + next_random(peer) % (wait / 2 + 1));
}

static void on_dial(uv_timer_t *timer);

static void plan_in(ab_peer *peer, uint32_t wait)
{
    peer->dial_at_ms = ab_loop_now_ms(peer->loop) + wait;
    uv_timer_start(&peer->dial_timer, on_dial, wait, 0);
    ab_report_show(peer);
}

/* Whether an attempt makes sense: none where a connection stands or is being made. */
static bool wanted(const ab_peer *peer)
{
    return peer->host != NULL && !peer->loop->stopping && peer->link == NULL && peer->dialling == NULL &&
           peer->incoming == NULL && peer->resolve == NULL;
}

void ab_dial_init(ab_peer *peer)
{
    uv_timer_init(&peer->loop->uv, &peer->dial_timer); /* cannot fail */
    peer->dial_timer.data = peer;
}

void ab_dial_first(ab_peer *peer)
{
    const ab_transport *transport = peer->transport;
    if (peer->host == NULL) {
        return;
    }
    uint64_t wait = 2ull * transport->retry_min_ms;
    wait = wait < SECOND_FIRST_MS ? wait : SECOND_FIRST_MS;
    uv_update_time(&peer->loop->uv);
    plan_in(peer, transport->self.node_id < peer->node_id ? 0 : (uint32_t)wait);
}

void ab_dial_plan(ab_peer *peer)
{
    if (wanted(peer) && !uv_is_active((uv_handle_t *)&peer->dial_timer)) {
        plan_in(peer, backoff_ms(peer));
    }
}

static void on_connected(uv_connect_t *req, int status)
{
    ab_conn *conn = req->handle->data;
    ab_loop_awake(conn->loop);
    if (conn->state != AB_CONN_CONNECTING) {
        return; /* closed meanwhile */
    }
    if (status != 0) {
        ab_link_fail(conn, AB_EIO, uv_strerror(status), false);
        return;
    }
    ab_link_connected(conn);
}

static void dial_address(ab_peer *peer)
{
    const ab_address *address = &peer->addresses.list[peer->address_next++];
    ab_conn *conn = ab_conn_new(peer->loop, peer, true);
    if (conn == NULL) {
        ab_dial_failed(peer, AB_ENOMEM, "out of memory", true);
        return;
    }
    peer->dialling = conn;
    ab_conn_deadline(conn, peer->transport->ping_ms);
    int code = uv_tcp_connect(&conn->connect_req, &conn->tcp, &address->any, on_connected);
    if (code != 0) {
        ab_link_fail(conn, code == UV_ENOMEM ? AB_ENOMEM : AB_EIO, uv_strerror(code), false);
    }
}

void ab_dial_failed(ab_peer *peer, int code, const char *reason, bool connecting)
{
    if (connecting && peer->address_next < peer->addresses.count && !peer->loop->stopping) {
        dial_address(peer);
        return;
    }
    peer->failures++;
    if (code != AB_EBUSY) {
        char text[AB_REASON_SIZE];
        (void)snprintf(text, sizeof(text), "no link with %.60s port %u: %.70s", peer->host, peer->port,
                       reason);
        ab_report_peer(peer, code, text);
    }
    ab_dial_plan(peer);
    ab_report_show(peer);
}

/* On the resolver's thread. */
static void on_resolved(void *arg)
{
    ab_peer *peer = arg;
    pthread_mutex_lock(&peer->loop->lock);
    ab_loop_dirty(peer);
    pthread_mutex_unlock(&peer->loop->lock);
}

static void on_dial(uv_timer_t *timer)
{
    ab_peer *peer = timer->data;
    ab_loop_awake(peer->loop);
    if (!wanted(peer)) {
        return;
    }
    peer->address_next = 0;
    if (ab_resolve_numeric(peer->host, peer->port, &peer->addresses)) {
        dial_address(peer);
        return;
    }
    peer->addresses.count = 0;
    peer->resolve = ab_resolve_start(peer->host, peer->port, on_resolved, peer);
    if (peer->resolve == NULL) {
        ab_dial_failed(peer, AB_ENOMEM, "no memory or no thread to look up the name", false);
    }
}

void ab_dial_resolved(ab_peer *peer)
{
    if (peer->resolve == NULL || !ab_resolve_done(peer->resolve)) {
        return;
    }
    ab_resolve_take(peer->resolve, &peer->addresses);
    peer->resolve = NULL;
    if (peer->addresses.count == 0) {
        ab_dial_failed(peer, AB_EIO, gai_strerror(peer->addresses.error), false);
    } else if (wanted(peer)) {
        dial_address(peer);
    }
}

void ab_dial_cancel(ab_peer *peer)
{
    if (peer->dialling != NULL) {
        ab_conn_close(peer->dialling);
        peer->dialling = NULL;
    }
    ab_resolve_cancel(peer->resolve);
    peer->resolve = NULL;
    uv_timer_stop(&peer->dial_timer);
}

void ab_dial_stop(ab_peer *peer)
{
    ab_dial_cancel(peer);
    if (!uv_is_closing((uv_handle_t *)&peer->dial_timer)) {
        uv_close((uv_handle_t *)&peer->dial_timer, NULL);
    }
}
