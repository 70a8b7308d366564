/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepted connections until their greeting tells whose they are. Loop 0.
 *
 * A bare descriptor and not yet one of libuv's streams, because it goes on to the loop of its peer, and libuv cannot
 * move a stream. Nothing is lost on the way: before the handshake is done not a byte beyond a frame is read.
 */
#include "engine/transport/internal.h"

#include <anabranch/error.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READS_AT_ONCE 8

struct ab_stranger {
    ab_loop *loop;
    ab_stranger *next, *prev;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned handles;
    int fd; /* -1: handed over or closed */
    bool refused;
    ab_reader reader;
    char address[64];
};

static void on_closed(uv_handle_t *handle)
{
    ab_stranger *stranger = handle->data;
    if (--stranger->handles == 0) {
        ab_reader_clear(&stranger->reader);
        free(stranger);
    }
}

static void let_go(ab_stranger *stranger)
{
    ab_loop *loop = stranger->loop;
    if (stranger->prev != NULL) {
        stranger->prev->next = stranger->next;
    } else {
        loop->first_stranger = stranger->next;
    }
    if (stranger->next != NULL) {
        stranger->next->prev = stranger->prev;
    }
    loop->strangers--;
    uv_close((uv_handle_t *)&stranger->poll, on_closed);
    uv_close((uv_handle_t *)&stranger->timer, on_closed);
    if (stranger->fd >= 0) {
        (void)close(stranger->fd);
        stranger->fd = -1;
    }
}

static void on_linger(uv_timer_t *timer)
{
    ab_loop_awake(((ab_stranger *)timer->data)->loop);
    let_go(timer->data);
}

/* Says why, then waits for the other side to close: closing first could destroy the farewell on its way. */
static void refuse(ab_stranger *stranger, int code, const char *reason)
{
    uint8_t frame[AB_FRAME_HEADER + 4 + AB_REASON_SIZE];
    size_t size = ab_goodbye_encode(code, reason, frame + AB_FRAME_HEADER);
    /* Scanners and probes of load balancers connect and leave: not worth a warning. */
    ab_report(stranger->loop->transport, code == AB_ECLOSED ? AB_LOG_DEBUG : AB_LOG_WARN,
              "connection from %s refused: %s", stranger->address, reason);
    ab_frame_seal(frame, AB_FRAME_GOODBYE, size);
    stranger->refused = true;
    if (code == AB_ECLOSED ||
        send(stranger->fd, frame, AB_FRAME_HEADER + size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        let_go(stranger);
        return;
    }
    (void)shutdown(stranger->fd, SHUT_WR);
    uv_timer_start(&stranger->timer, on_linger, AB_LINGER_MS, 0);
}

static void on_deadline(uv_timer_t *timer)
{
    ab_stranger *stranger = timer->data;
    char text[AB_REASON_SIZE];
    ab_loop_awake(stranger->loop);
    (void)snprintf(text, sizeof(text), "no greeting for %u ms", stranger->loop->transport->ping_ms);
    refuse(stranger, AB_ETIMEDOUT, text);
}

static void hand_over(ab_stranger *stranger, ab_peer *peer, ab_handover *handover)
{
    ab_loop *loop = peer->loop;
    handover->peer = peer;
    handover->fd = stranger->fd;
    (void)uv_poll_stop(&stranger->poll);
    stranger->fd = -1;
    let_go(stranger);
    pthread_mutex_lock(&loop->lock);
    bool closed = loop->closed;
    if (!closed) {
        ab_handover **end = &loop->handovers; /* in the order of arrival */
        while (*end != NULL) {
            end = &(*end)->next;
        }
        *end = handover;
        ab_loop_wake(loop);
    }
    pthread_mutex_unlock(&loop->lock);
    if (closed) {
        (void)close(handover->fd);
        free(handover);
    }
}

static void greeted(ab_stranger *stranger, ab_bytes body)
{
    ab_transport *transport = stranger->loop->transport;
    ab_handover *handover = calloc(1, sizeof(*handover));
    char reason[AB_REASON_SIZE] = "malformed greeting";
    if (handover == NULL) {
        refuse(stranger, AB_ENOMEM, "out of memory");
        return;
    }
    ab_hello *hello = &handover->hello;
    ab_peer *peer = NULL;
    int code = ab_hello_decode(body, hello);
    if (code != AB_EPROTO) {
        code = ab_hello_check(&transport->self, hello, reason);
    }
    if (code == AB_OK && (peer = ab_transport_find(transport, hello->node_id)) == NULL) {
        (void)snprintf(reason, sizeof(reason), "node %u is not in the configuration of node %u",
                       hello->node_id, transport->self.node_id);
        code = AB_EIDENTITY;
    }
    if (code != AB_OK) {
        free(handover);
        refuse(stranger, code, reason);
        return;
    }
    hand_over(stranger, peer, handover);
}

/* Takes received bytes. @return false: the stranger is gone or refused */
static bool take(ab_stranger *stranger, size_t size)
{
    ab_frame frame;
    ab_bytes none = {NULL, 0};
    ab_reader_added(&stranger->reader, size);
    int code = ab_reader_next(&stranger->reader, &none, &frame);
    if (code == AB_ENOTFOUND) {
        return true;
    }
    if (code != AB_OK) {
        refuse(stranger, code, stranger->reader.reason);
    } else if (frame.type == AB_FRAME_GOODBYE) {
        refuse(stranger, AB_ECLOSED, "it said goodbye");
    } else if (frame.type != AB_FRAME_HELLO) {
        refuse(stranger, AB_EPROTO, "unexpected frame in the handshake");
    } else {
        greeted(stranger, frame.body);
    }
    return false;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    ab_stranger *stranger = poll->data;
    uint8_t waste[4096];
    (void)events;
    ab_loop_awake(stranger->loop);
    for (int i = 0; i < READS_AT_ONCE; i++) {
        size_t room = sizeof(waste);
        void *space = stranger->refused ? waste : ab_reader_space(&stranger->reader, &room);
        ssize_t size = status == 0 ? recv(stranger->fd, space, room, MSG_DONTWAIT) : 0;
        if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            return;
        }
        if (size <= 0 && stranger->refused) {
            let_go(stranger);
            return;
        }
        if (size <= 0) {
            refuse(stranger, AB_ECLOSED, "it closed before a greeting");
            return;
        }
        if (!stranger->refused && !take(stranger, (size_t)size)) {
            return;
        }
    }
}

int ab_stranger_new(ab_loop *loop, int fd)
{
    ab_address name;
    socklen_t size = sizeof(name);
    ab_stranger *stranger = calloc(1, sizeof(*stranger));
    if (stranger == NULL) {
        return AB_ENOMEM;
    }
    if (uv_poll_init(&loop->uv, &stranger->poll, fd) != 0) {
        free(stranger);
        return AB_ENOMEM;
    }
    uv_timer_init(&loop->uv, &stranger->timer);
    stranger->poll.data = stranger->timer.data = stranger;
    stranger->handles = 2;
    stranger->loop = loop;
    stranger->fd = fd;
    ab_reader_init(&stranger->reader, NULL);
    memset(&name, 0, sizeof(name));
    (void)getpeername(fd, &name.any, &size);
    ab_address_text(&name, stranger->address);
    stranger->next = loop->first_stranger;
    if (stranger->next != NULL) {
        stranger->next->prev = stranger;
    }
    loop->first_stranger = stranger;
    loop->strangers++;
    uv_timer_start(&stranger->timer, on_deadline, loop->transport->ping_ms, 0);
    uv_poll_start(&stranger->poll, UV_READABLE, on_readable);
    return AB_OK;
}

void ab_stranger_stop(ab_loop *loop)
{
    while (loop->first_stranger != NULL) {
        let_go(loop->first_stranger);
    }
}
