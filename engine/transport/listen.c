/* SPDX-License-Identifier: Apache-2.0 */
/* The listening socket. Loop 0. */
#define _GNU_SOURCE
#include "engine/transport/internal.h"

#include <anabranch/error.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 128
#define ACCEPT_AT_ONCE 64
#define ACCEPT_REST_MS 200u
#define TELL_AGAIN_MS 60000u

/* --- opening --- */

/* @return descriptor, or -1 with errno */
static int open_socket(const ab_address *address)
{
    int on = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    socklen_t size = address->any.sa_family == AF_INET ? sizeof(address->in) : sizeof(address->in6);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, &address->any, size) == 0 && listen(fd, BACKLOG) == 0) {
        return fd;
    }
    int reason = errno;
    (void)close(fd);
    errno = reason;
    return -1;
}

static uint16_t port_of(int fd)
{
    ab_address address;
    socklen_t size = sizeof(address);
    memset(&address, 0, sizeof(address));
    if (getsockname(fd, &address.any, &size) != 0) {
        return 0;
    }
    return ntohs(address.any.sa_family == AF_INET ? address.in.sin_port : address.in6.sin6_port);
}

static void on_connection(uv_poll_t *poll, int status, int events);

static int refuse_listen(ab_message *message, int code, const char *host, uint16_t port, const char *reason,
                         const char *advice)
{
    if (message != NULL) {
        (void)snprintf(message->text, sizeof(message->text), "cannot listen on %.200s port %u: %s%s", host,
                       port, reason, advice);
    }
    return code;
}

int ab_listen(ab_loop *loop, const char *host, uint16_t port, ab_message *message)
{
    ab_addresses addresses;
    if (!ab_resolve_numeric(host, port, &addresses)) {
        ab_resolve_now(host, port, true, &addresses);
    }
    if (addresses.count == 0) {
        return refuse_listen(message, AB_ECONFIG, host, port, gai_strerror(addresses.error),
                             " (give an address of this machine)");
    }
    int fd = -1;
    for (size_t i = 0; i < addresses.count && fd < 0; i++) {
        fd = open_socket(&addresses.list[i]);
    }
    if (fd < 0) {
        int reason = errno;
        bool config = reason == EADDRNOTAVAIL || reason == EACCES || reason == EAFNOSUPPORT;
        return refuse_listen(message, config ? AB_ECONFIG : AB_EIO, host, port, uv_strerror(-reason),
                             reason == EADDRINUSE ? " (another process listens there)" : "");
    }
    int code = uv_poll_init(&loop->uv, &loop->listener, fd);
    if (code != 0) {
        (void)close(fd);
        return refuse_listen(message, code == UV_ENOMEM ? AB_ENOMEM : AB_EIO, host, port, uv_strerror(code),
                             "");
    }
    uv_timer_init(&loop->uv, &loop->accept_timer);
    loop->listener.data = loop->accept_timer.data = loop;
    loop->listen_fd = fd;
    loop->listening = true;
    loop->transport->port = port_of(fd);
    uv_poll_start(&loop->listener, UV_READABLE, on_connection);
    return AB_OK;
}

void ab_listen_stop(ab_loop *loop)
{
    if (!loop->listening) {
        return;
    }
    loop->listening = false;
    uv_close((uv_handle_t *)&loop->listener, NULL);
    uv_close((uv_handle_t *)&loop->accept_timer, NULL);
    (void)close(loop->listen_fd);
    ab_stranger_stop(loop);
}

/* --- accepting --- */

static void tell(ab_loop *loop, const char *reason)
{
    uint64_t now = ab_loop_now_ms(loop);
    if (loop->accept_told_ms == 0 || now - loop->accept_told_ms >= TELL_AGAIN_MS) {
        loop->accept_told_ms = now;
        ab_report(loop->transport, AB_LOG_ERROR, "cannot accept connections on port %u: %s",
                  loop->transport->port, reason);
    }
}

static void on_rested(uv_timer_t *timer)
{
    ab_loop *loop = timer->data;
    ab_loop_awake(loop);
    uv_poll_start(&loop->listener, UV_READABLE, on_connection);
}

/* There is nothing to accept with; the connection stays in the backlog and would wake the loop at once again. */
static void rest(ab_loop *loop, const char *reason)
{
    tell(loop, reason);
    uv_poll_stop(&loop->listener);
    uv_timer_start(&loop->accept_timer, on_rested, ACCEPT_REST_MS, 0);
}

static void accepted(ab_loop *loop, int fd)
{
    bool many = loop->strangers >= AB_STRANGERS_MAX;
    if (many || ab_stranger_new(loop, fd) != AB_OK) {
        (void)close(fd);
        tell(loop, many ? "too many connections without a greeting" : "out of memory");
    }
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    ab_loop *loop = poll->data;
    (void)events;
    ab_loop_awake(loop);
    if (status != 0) {
        rest(loop, uv_strerror(status));
        return;
    }
    for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
        int fd = accept4(loop->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            accepted(loop, fd);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            rest(loop, uv_strerror(-errno));
            return;
        }
        /* ECONNABORTED and the like: that connection's own trouble. */
    }
}
