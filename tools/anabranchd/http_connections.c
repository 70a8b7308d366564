/* SPDX-License-Identifier: Apache-2.0 */
/* Which connections are between two requests, the longest waiting first: where there are as many connections as may be,
 * a new one takes the place of that one. So clients that are idle, or that send the head of a request byte by byte, keep
 * nobody out. libmicrohttpd's threads. */
#include "tools/anabranchd/http_internal.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <utlist.h>

struct ab_connection {
    int fd;
    bool waiting; /* in the list */
    ab_connection *prev;
    ab_connection *next;
};

static void enlist(ab_http *http, ab_connection *c)
{
    c->waiting = true;
    DL_APPEND(http->waiting, c);
}

static void delist(ab_http *http, ab_connection *c)
{
    if (c->waiting) {
        c->waiting = false;
        DL_DELETE(http->waiting, c);
    }
}

/* The descriptor is the connection's as long as it is in the list: it is closed after ab_connection_end(). */
static void make_place(ab_http *http)
{
    ab_connection *oldest = http->waiting;
    delist(http, oldest);
    shutdown(oldest->fd, SHUT_RDWR);
    atomic_fetch_add_explicit(&http->counters.displaced, 1, memory_order_relaxed);
}

ab_connection *ab_connection_begin(ab_http *http, int fd)
{
    ab_connection *c = calloc(1, sizeof *c);
    uint64_t open = atomic_fetch_add(&http->counters.connections, 1) + 1;
    if (c == NULL) {
        return NULL; /* it only cannot be displaced */
    }
    c->fd = fd;
    pthread_mutex_lock(&http->connections_lock);
    enlist(http, c);
    if (open > http->options->settings->max_connections) {
        make_place(http); /* where all others have a request under way that is the new one */
    }
    pthread_mutex_unlock(&http->connections_lock);
    return c;
}

void ab_connection_end(ab_http *http, ab_connection *c)
{
    atomic_fetch_sub(&http->counters.connections, 1);
    if (c != NULL) {
        pthread_mutex_lock(&http->connections_lock);
        delist(http, c);
        pthread_mutex_unlock(&http->connections_lock);
        free(c);
    }
}

static ab_connection *connection_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

void ab_connection_asks(ab_http *http, struct MHD_Connection *connection)
{
    ab_connection *c = connection_of(connection);
    if (c != NULL) {
        pthread_mutex_lock(&http->connections_lock);
        delist(http, c);
        pthread_mutex_unlock(&http->connections_lock);
    }
}

void ab_connection_waits(ab_http *http, struct MHD_Connection *connection)
{
    ab_connection *c = connection_of(connection);
    if (c != NULL) {
        pthread_mutex_lock(&http->connections_lock);
        delist(http, c);
        enlist(http, c);
        pthread_mutex_unlock(&http->connections_lock);
    }
}
