/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What connections mean: greeting, choice of the one link per pair of nodes, its up and down. Loop thread.
 *
 * Both nodes of a pair may dial, at the same time too. The one with the lower node id is the arbiter: only its READY
 * makes a connection the link, on both sides. It gives one at a time, so two ends can never hold different ones for
 * good. The other side follows every READY, since who sends it has given up what was before. When the arbiter is
 * greeted on a new connection while a link stands, the greeting tells whether the link is dead for the other: it names
 * the last link that stood there (`seen`). If that is the standing one, the other has lost it: replaced. If not, the
 * READY is still on its way, and the newer connection is refused.
 */
#include "engine/transport/internal.h"

#include "wal/bytes.h"
#include <anabranch/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_arbiter(const ab_peer *peer)
{
    return peer->transport->self.node_id < peer->node_id;
}

static int push_hello(ab_conn *conn)
{
    uint8_t body[AB_HELLO_SIZE];
    ab_hello hello = conn->loop->transport->self;
    hello.seen = conn->peer->seen_link;
    return ab_conn_push(conn, AB_FRAME_HELLO, body, ab_hello_encode(&hello, body));
}

static int push_u64(ab_conn *conn, ab_frame_type type, uint64_t value)
{
    uint8_t body[8];
    ab_put_le64(body, value);
    return ab_conn_push(conn, type, body, sizeof(body));
}

/* --- up and down --- */

static void link_up(ab_conn *conn)
{
    ab_peer *peer = conn->peer;
    ab_loop *loop = conn->loop;
    ab_transport *transport = loop->transport;
    peer->dialling = peer->dialling == conn ? NULL : peer->dialling;
    if (peer->incoming != NULL && peer->incoming != conn) {
        ab_conn_close(peer->incoming);
    }
    peer->incoming = NULL;
    ab_dial_cancel(peer);
    peer->link = conn;
    peer->seen_link = conn->link_id;
    peer->failures = 0;
    conn->state = AB_CONN_UP;
    conn->reader.handshake = false;
    conn->unproven = is_arbiter(peer); /* the other has heard us: it was chosen */
    conn->up_ms = conn->heard_ms = conn->spoke_ms = ab_loop_now_ms(loop);
    ab_conn_deadline(conn, transport->ping_ms);
    if (loop->links++ == 0) {
        ab_loop_ticking(loop, true);
    }
    pthread_mutex_lock(&loop->lock);
    atomic_store_explicit(&peer->up, true, memory_order_relaxed);
    peer->dialled = conn->dialled;
    memcpy(peer->address, conn->address, sizeof(peer->address));
    pthread_mutex_unlock(&loop->lock);
    ab_report_show(peer);
    ab_report(transport, AB_LOG_INFO, "node %u: link up (%s %s)", peer->node_id,
              conn->dialled ? "dialled" : "accepted from", conn->address);
    transport->callbacks.peer_up(transport->ctx, peer->node_id, conn->hello.store_id);
    ab_conn_update_reading(conn);
}

/* The link is no link any more; what becomes of the connection is the caller's. */
static void link_down(ab_peer *peer, int code, const char *reason)
{
    ab_conn *conn = peer->link;
    ab_loop *loop = peer->loop;
    ab_transport *transport = peer->transport;
    ab_out_list dropped = {NULL, NULL};
    peer->link = NULL;
    if (--loop->links == 0) {
        ab_loop_ticking(loop, false);
    }
    if (ab_loop_now_ms(loop) - conn->up_ms >= transport->retry_max_ms) {
        peer->penalty = 0;
    }
    peer->penalty += conn->penalized ? 1 : 0;
    pthread_mutex_lock(&loop->lock);
    atomic_store_explicit(&peer->up, false, memory_order_relaxed);
    ab_out_append(&dropped, &peer->control);
    ab_out_append(&dropped, &peer->blocks);
    peer->drop_code = AB_OK;
    pthread_mutex_unlock(&loop->lock);
    ab_out_clear(&dropped);
    if (!loop->stopping) {
        char text[AB_REASON_SIZE];
        (void)snprintf(text, sizeof(text), "link down: %.140s", reason);
        ab_report_peer(peer, code, text);
    }
    transport->callbacks.peer_down(transport->ctx, peer->node_id, code, reason);
}

/* The arbiter's word. */
static void choose(ab_conn *conn)
{
    conn->link_id = atomic_fetch_add_explicit(&conn->loop->transport->next_link_id, 1, memory_order_relaxed);
    if (push_u64(conn, AB_FRAME_READY, conn->link_id) != AB_OK) {
        ab_link_fail(conn, AB_ENOMEM, "out of memory", false);
        return;
    }
    link_up(conn);
    ab_conn_flush(conn);
}

/* --- failures --- */

static void end_conn(ab_conn *conn, int code, const char *reason, bool tell)
{
    if (tell) {
        ab_conn_goodbye(conn, code, reason);
    } else {
        ab_conn_close(conn);
    }
}

void ab_link_fail(ab_conn *conn, int code, const char *reason, bool tell)
{
    ab_peer *peer = conn->peer;
    if (conn->state == AB_CONN_LINGER || conn->state == AB_CONN_CLOSED) {
        return;
    }
    if (conn == peer->link) {
        end_conn(conn, code, reason, tell);
        link_down(peer, code, reason);
        ab_dial_plan(peer);
        return;
    }
    bool was_dialling = conn == peer->dialling;
    if (was_dialling) {
        peer->dialling = NULL;
    } else {
        peer->incoming = NULL;
    }
    bool connecting = conn->state == AB_CONN_CONNECTING;
    end_conn(conn, code, reason, tell);
    if (was_dialling) {
        ab_dial_failed(peer, code, reason, connecting);
        return;
    }
    if (code != AB_EBUSY) {
        ab_report_peer(peer, code, reason);
    }
    ab_dial_plan(peer);
}

void ab_link_deadline(ab_conn *conn)
{
    ab_transport *transport = conn->loop->transport;
    char text[AB_REASON_SIZE];
    if (conn->state == AB_CONN_UP) {
        if (!conn->unproven) {
            return;
        }
        if (!conn->reading) {
            ab_conn_deadline(conn, transport->ping_ms); /* the silence is ours */
            return;
        }
    }
    (void)snprintf(text, sizeof(text), "%s for %u ms",
                   conn->state == AB_CONN_CONNECTING ? "no answer to the attempt to connect"
                   : conn->state == AB_CONN_UP       ? "nothing heard after the handshake"
                                                     : "no handshake",
                   transport->ping_ms);
    ab_link_fail(conn, AB_ETIMEDOUT, text, conn->state != AB_CONN_CONNECTING);
}

/* --- handshake --- */

void ab_link_connected(ab_conn *conn)
{
    conn->state = AB_CONN_HELLO;
    ab_conn_address(conn);
    ab_conn_deadline(conn, conn->loop->transport->ping_ms);
    if (push_hello(conn) != AB_OK) {
        ab_link_fail(conn, AB_ENOMEM, "out of memory", false);
        return;
    }
    ab_conn_update_reading(conn);
    ab_conn_flush(conn);
}

/* Who we dialled answers. */
static void greeted(ab_conn *conn, ab_bytes body)
{
    ab_peer *peer = conn->peer;
    const ab_hello *self = &conn->loop->transport->self;
    char reason[AB_REASON_SIZE] = "malformed greeting";
    int code = ab_hello_decode(body, &conn->hello);
    if (code == AB_OK && conn->hello.nonce == self->nonce) {
        /* The port is free, and the system gave it to this very socket as its own. */
        ab_link_fail(conn, AB_EIO, "nobody listens there (connected to itself)", false);
        return;
    }
    if (code != AB_EPROTO) {
        code = ab_hello_check(self, &conn->hello, reason);
    }
    if (code == AB_OK && conn->hello.node_id != peer->node_id) {
        (void)snprintf(reason, sizeof(reason), "dialled node %u, got node %u", peer->node_id,
                       conn->hello.node_id);
        code = AB_EIDENTITY;
    }
    if (code != AB_OK) {
        conn->penalized = true;
        ab_link_fail(conn, code, reason, true);
        return;
    }
    if (is_arbiter(peer)) {
        choose(conn);
    } else {
        conn->state = AB_CONN_READY;
    }
}

/* Whether a newly accepted connection may take part while a link stands. */
static int may_replace(ab_peer *peer, const ab_hello *hello, char reason[AB_REASON_SIZE])
{
    const ab_conn *link = peer->link;
    ab_transport *transport = peer->transport;
    uint64_t silent = link->reading ? ab_loop_now_ms(peer->loop) - link->heard_ms : 0;
    if (memcmp(hello->store_id, link->hello.store_id, sizeof(hello->store_id)) != 0) {
        if (silent > (uint64_t)transport->ping_ms * AB_DEAD_PINGS) {
            return AB_OK;
        }
        (void)snprintf(reason, AB_REASON_SIZE,
                       "node id %u is in use by a live node with another data directory", peer->node_id);
        return AB_EIDENTITY;
    }
    if (!is_arbiter(peer) || hello->nonce != link->hello.nonce || hello->seen == link->link_id) {
        return AB_OK;
    }
    (void)snprintf(reason, AB_REASON_SIZE, "another connection is being made");
    return AB_EBUSY;
}

static ab_conn *adopt_conn(ab_handover *handover)
{
    ab_conn *conn = ab_conn_new(handover->peer->loop, handover->peer, false);
    if (conn == NULL || uv_tcp_open(&conn->tcp, handover->fd) != 0) {
        (void)close(handover->fd);
        if (conn != NULL) {
            ab_conn_close(conn);
        }
        ab_report(handover->peer->transport, AB_LOG_WARN, "node %u: accepted connection given up: no memory",
                  handover->peer->node_id);
        return NULL;
    }
    conn->hello = handover->hello;
    ab_conn_address(conn);
    ab_conn_deadline(conn, conn->loop->transport->ping_ms);
    return conn;
}

void ab_link_adopt(ab_handover *handover)
{
    ab_peer *peer = handover->peer;
    char reason[AB_REASON_SIZE];
    ab_conn *conn = adopt_conn(handover);
    free(handover);
    if (conn == NULL) {
        return;
    }
    int code = peer->link != NULL ? may_replace(peer, &conn->hello, reason) : AB_OK;
    if (code != AB_OK) {
        char text[AB_REASON_SIZE + 80];
        (void)snprintf(text, sizeof(text), "connection from %s refused: %s", conn->address, reason);
        if (code == AB_EBUSY) { /* nobody's fault */
            ab_report(peer->transport, AB_LOG_DEBUG, "node %u: %s", peer->node_id, text);
        } else {
            ab_report_peer(peer, code, text);
        }
        ab_conn_goodbye(conn, code, reason);
        return;
    }
    if (peer->incoming != NULL) {
        ab_conn_close(peer->incoming); /* who dials again has given up the attempt before */
    }
    peer->incoming = conn;
    peer->failures = 0; /* a sign of life */
    if (push_hello(conn) != AB_OK) {
        ab_link_fail(conn, AB_ENOMEM, "out of memory", false);
        return;
    }
    if (!is_arbiter(peer)) {
        conn->state = AB_CONN_READY;
        ab_conn_update_reading(conn);
        ab_conn_flush(conn);
        return;
    }
    if (peer->link != NULL) {
        ab_conn *old = peer->link;
        ab_conn_close(old);
        link_down(peer, AB_ECLOSED, "the other side has made a new connection");
    }
    choose(conn);
}

/* The arbiter has chosen. */
static void chosen(ab_conn *conn, uint64_t link_id)
{
    ab_peer *peer = conn->peer;
    if (peer->link != NULL) {
        ab_conn *old = peer->link;
        ab_conn_close(old);
        link_down(peer, AB_ECLOSED, "the other side has chosen a new connection");
    }
    conn->link_id = link_id;
    link_up(conn);
    /* The arbiter wants to hear that its word has come. */
    if (conn->state == AB_CONN_UP && push_u64(conn, AB_FRAME_PING, link_id) == AB_OK) {
        ab_conn_flush(conn);
    }
}

/* --- frames --- */

static void farewell(ab_conn *conn, ab_bytes body)
{
    int code;
    char words[AB_REASON_SIZE];
    char text[AB_REASON_SIZE + 32];
    ab_goodbye_decode(body, &code, words);
    bool orderly = code == AB_OK || code == AB_ECLOSED;
    (void)snprintf(text, sizeof(text), "the other side %s: %s", orderly ? "closes" : "refuses", words);
    conn->penalized = !orderly && code != AB_EBUSY && code != AB_ENOMEM && code != AB_ETIMEDOUT;
    ab_link_fail(conn, code == AB_OK ? AB_ECLOSED : code, text, false);
}

/* @return AB_OK or why the link must fall */
static int link_frame(ab_conn *conn, ab_frame *frame)
{
    ab_transport *transport = conn->loop->transport;
    uint32_t node = conn->peer->node_id;
    const uint8_t *body = frame->body.data;
    switch (frame->type) {
    case AB_FRAME_BLOCK:
        return transport->callbacks.block(transport->ctx, node, &frame->block, frame->buf);
    case AB_FRAME_MESSAGE:
        return transport->callbacks.message(transport->ctx, node, ab_get_le64(body),
                                            (ab_bytes){body + 8, frame->body.size - 8});
    case AB_FRAME_PING: {
        int code = push_u64(conn, AB_FRAME_PONG, ab_get_le64(body));
        ab_loop_flush_later(conn->peer);
        return code;
    }
    default:
        return AB_OK; /* a PONG: that it came is all it says */
    }
}

bool ab_link_frame(ab_conn *conn, ab_frame *frame)
{
    if (frame->type == AB_FRAME_GOODBYE) {
        farewell(conn, frame->body);
        return false;
    }
    if (conn->state == AB_CONN_UP) {
        conn->unproven = false;
        int code = link_frame(conn, frame);
        if (code != AB_OK && conn->state == AB_CONN_UP) {
            conn->penalized = code != AB_ENOMEM;
            ab_link_fail(conn, code, code == AB_ENOMEM ? "out of memory" : "frame was refused", true);
        }
        return conn->state == AB_CONN_UP;
    }
    if (frame->type == AB_FRAME_HELLO && conn->state == AB_CONN_HELLO) {
        greeted(conn, frame->body);
    } else if (frame->type == AB_FRAME_READY && conn->state == AB_CONN_READY) {
        chosen(conn, ab_get_le64(frame->body.data));
    } else {
        conn->penalized = true;
        ab_link_fail(conn, AB_EPROTO, "unexpected frame in the handshake", true);
    }
    return conn->state == AB_CONN_READY || conn->state == AB_CONN_UP;
}

/* --- from the loop --- */

void ab_link_work(ab_peer *peer)
{
    int code;
    char reason[AB_REASON_SIZE];
    pthread_mutex_lock(&peer->loop->lock);
    code = peer->drop_code;
    memcpy(reason, peer->drop_reason, sizeof(reason));
    peer->drop_code = AB_OK;
    pthread_mutex_unlock(&peer->loop->lock);
    ab_dial_resolved(peer);
    if (peer->link == NULL) {
        return;
    }
    if (code != AB_OK) {
        peer->link->penalized = true;
        ab_link_fail(peer->link, code, reason, true);
        return;
    }
    ab_conn_flush(peer->link);
}

void ab_link_tick(ab_loop *loop)
{
    ab_transport *transport = loop->transport;
    uint64_t now = ab_loop_now_ms(loop);
    for (size_t i = 0; i < transport->peer_count; i++) {
        if (transport->peers[i].loop != loop || transport->peers[i].link == NULL) {
            continue;
        }
        ab_conn *conn = transport->peers[i].link;
        uint64_t silent = conn->reading ? now - conn->heard_ms : 0;
        if (silent >= (uint64_t)transport->ping_ms * AB_DEAD_PINGS) {
            char text[AB_REASON_SIZE];
            (void)snprintf(text, sizeof(text), "nothing heard for %llu ms", (unsigned long long)silent);
            ab_link_fail(conn, AB_ETIMEDOUT, text, true);
            continue;
        }
        /* What waits to be sent is a question, too. */
        bool quiet = silent >= transport->ping_ms || now - conn->spoke_ms >= transport->ping_ms;
        if (quiet && conn->flight.head == NULL && push_u64(conn, AB_FRAME_PING, now) == AB_OK) {
            ab_conn_flush(conn);
        }
    }
}

void ab_link_stop(ab_peer *peer)
{
    ab_conn *conn = peer->link;
    if (conn == NULL) {
        return;
    }
    ab_conn_flush(conn);
    if (peer->link != NULL) {
        ab_conn_goodbye(conn, AB_ECLOSED, "stopping");
        link_down(peer, AB_ECLOSED, "stopping");
    }
}
