/* SPDX-License-Identifier: Apache-2.0 */
/* One TCP connection: reading frames, sending queued ones, closing. Knows nothing of what they mean. Loop thread. */
#include "engine/transport/internal.h"

#include <anabranch/error.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A block that waits for memory gets through after this long all the same, unless the budget is far exceeded: two
 * nodes that are both full must not stop each other for ever. */
#define STALL_FORCE_MS 250u
#define KEEPALIVE_S 60u
#define UNSENT_BYTES (512 * 1024)

static void on_closed(uv_handle_t *handle)
{
    ab_conn *conn = handle->data;
    if (--conn->handles > 0) {
        return;
    }
    ab_out_clear(&conn->flight);
    ab_reader_clear(&conn->reader);
    free(conn->stash);
    free(conn);
}

static void unlink_conn(ab_conn *conn)
{
    if (conn->prev != NULL) {
        conn->prev->next = conn->next;
    } else {
        conn->loop->conns = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
}

ab_conn *ab_conn_new(ab_loop *loop, ab_peer *peer, bool dialled)
{
    ab_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return NULL;
    }
    if (uv_tcp_init(&loop->uv, &conn->tcp) != 0) {
        free(conn);
        return NULL;
    }
    uv_timer_init(&loop->uv, &conn->timer);
    conn->tcp.data = conn->timer.data = conn;
    conn->handles = 2;
    conn->loop = loop;
    conn->peer = peer;
    conn->dialled = dialled;
    conn->state = dialled ? AB_CONN_CONNECTING : AB_CONN_HELLO;
    conn->heard_ms = conn->spoke_ms = ab_loop_now_ms(loop);
    ab_reader_init(&conn->reader, loop->transport->budget);
    conn->next = loop->conns;
    if (conn->next != NULL) {
        conn->next->prev = conn;
    }
    loop->conns = conn;
    return conn;
}

static void drop_queues(ab_conn *conn)
{
    ab_out_clear(&conn->control);
    ab_out_clear(&conn->blocks);
    if (!conn->writing) {
        ab_out_clear(&conn->flight);
    }
}

static void end_stall(ab_conn *conn)
{
    if (conn->stalled) {
        conn->stalled = false;
        conn->loop->stalled--;
    }
}

void ab_conn_close(ab_conn *conn)
{
    if (conn->state == AB_CONN_CLOSED) {
        return;
    }
    conn->state = AB_CONN_CLOSED;
    conn->peer = NULL;
    end_stall(conn);
    drop_queues(conn);
    unlink_conn(conn);
    uv_close((uv_handle_t *)&conn->timer, on_closed);
    uv_close((uv_handle_t *)&conn->tcp, on_closed);
}

static void on_deadline(uv_timer_t *timer)
{
    ab_conn *conn = timer->data;
    ab_loop_awake(conn->loop);
    if (conn->state == AB_CONN_LINGER) {
        ab_conn_close(conn);
    } else {
        ab_link_deadline(conn);
    }
}

void ab_conn_deadline(ab_conn *conn, uint64_t ms)
{
    uv_timer_start(&conn->timer, on_deadline, ms, 0);
}

void ab_address_text(const ab_address *name, char text[64])
{
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (name->any.sa_family == AF_INET) {
        (void)uv_ip4_name(&name->in, host, sizeof(host));
        port = ntohs(name->in.sin_port);
    } else if (name->any.sa_family == AF_INET6) {
        (void)uv_ip6_name(&name->in6, host, sizeof(host));
        port = ntohs(name->in6.sin6_port);
    }
    (void)snprintf(text, 64, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
}

void ab_conn_address(ab_conn *conn)
{
    ab_address name;
    int size = sizeof(name);
    (void)uv_tcp_nodelay(&conn->tcp, 1);
    (void)uv_tcp_keepalive(&conn->tcp, 1, KEEPALIVE_S);
#ifdef TCP_NOTSENT_LOWAT
    /* What the kernel has taken cannot be overtaken any more: on a slow line it would take megabytes. */
    int unsent = UNSENT_BYTES;
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&conn->tcp, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    }
#endif
    if (uv_tcp_getpeername(&conn->tcp, &name.any, &size) == 0) {
        ab_address_text(&name, conn->address);
    }
}

/* --- reading --- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    ab_conn *conn = handle->data;
    (void)suggested;
    size_t size = 0;
    char *space = NULL;
    if (conn->state != AB_CONN_LINGER) {
        space = ab_reader_space(&conn->reader, &size);
    }
    if (space == NULL) {
        space = (char *)conn->loop->scratch;
        size = conn->reader.bulk ? AB_SCRATCH_BULK : AB_SCRATCH;
    }
    *buf = uv_buf_init(space, (unsigned)size);
}

/* Keeps what cannot be looked at yet, and stops reading until there is memory. */
static void stall(ab_conn *conn, ab_bytes input)
{
    if (input.size > 0) {
        uint8_t *stash = malloc(input.size);
        if (stash == NULL) {
            ab_link_fail(conn, AB_ENOMEM, "out of memory", true);
            return;
        }
        memcpy(stash, input.data, input.size);
        free(conn->stash);
        conn->stash = stash;
        conn->stash_size = input.size;
    }
    if (!conn->stalled) {
        conn->stalled = true;
        conn->stalled_at = ab_loop_now_ms(conn->loop);
        conn->loop->stalled++;
        ab_loop_stalled(conn->loop);
    }
    ab_conn_update_reading(conn);
}

static void consume(ab_conn *conn, ab_bytes input)
{
    for (;;) {
        ab_frame frame;
        int code = ab_reader_next(&conn->reader, &input, &frame);
        if (code == AB_ENOTFOUND) {
            return;
        }
        if (code == AB_EBUSY) {
            stall(conn, input);
            return;
        }
        if (code != AB_OK) {
            conn->penalized = code != AB_ENOMEM;
            ab_link_fail(conn, code, conn->reader.reason, true);
            return;
        }
        if (!ab_link_frame(conn, &frame)) {
            return;
        }
    }
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    ab_conn *conn = stream->data;
    ab_loop_awake(conn->loop);
    if (size == 0 || conn->state == AB_CONN_CLOSED) {
        return;
    }
    if (conn->state == AB_CONN_LINGER) {
        if (size < 0) {
            ab_conn_close(conn);
        }
        return;
    }
    if (size < 0) {
        ab_link_fail(conn, AB_ECLOSED,
                     size == UV_EOF ? "connection closed by the other side" : uv_strerror((int)size), false);
        return;
    }
    conn->heard_ms = ab_loop_now_ms(conn->loop);
    if (conn->peer != NULL) {
        atomic_fetch_add_explicit(&conn->peer->received_bytes, (uint64_t)size, memory_order_relaxed);
        atomic_store_explicit(&conn->peer->heard_ms, conn->heard_ms, memory_order_relaxed);
    }
    ab_bytes input = {buf->base, (size_t)size};
    if (buf->base != (char *)conn->loop->scratch) {
        ab_reader_added(&conn->reader, (size_t)size);
        input = (ab_bytes){NULL, 0};
    }
    ab_peer *peer = conn->peer;
    consume(conn, input);
    if (peer != NULL) {
        ab_loop_flush_much(peer); /* libuv may read on for two megabytes before the loop comes round */
    }
}

void ab_conn_update_reading(ab_conn *conn)
{
    bool wanted = conn->state == AB_CONN_LINGER || conn->state == AB_CONN_HELLO ||
                  conn->state == AB_CONN_READY ||
                  (conn->state == AB_CONN_UP && !conn->stalled && !conn->loop->paused);
    if (wanted == conn->reading || conn->state == AB_CONN_CONNECTING || conn->state == AB_CONN_CLOSED) {
        return;
    }
    conn->reading = wanted;
    if (!wanted) {
        (void)uv_read_stop((uv_stream_t *)&conn->tcp);
        return;
    }
    conn->heard_ms = ab_loop_now_ms(conn->loop); /* its silence was ours */
    int code = uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read);
    if (code != 0 && conn->state == AB_CONN_LINGER) {
        ab_conn_close(conn);
    } else if (code != 0) {
        ab_link_fail(conn, AB_EIO, uv_strerror(code), false);
    }
}

void ab_conn_unstall(ab_conn *conn)
{
    ab_budget *budget = conn->loop->transport->budget;
    if (ab_loop_now_ms(conn->loop) - conn->stalled_at >= STALL_FORCE_MS &&
        atomic_load_explicit(&budget->used, memory_order_relaxed) < budget->limit + budget->limit / 4) {
        conn->reader.force = true;
    }
    uint8_t *stash = conn->stash;
    ab_bytes input = {stash, conn->stash_size};
    uint64_t since = conn->stalled_at;
    conn->stash = NULL;
    conn->stash_size = 0;
    end_stall(conn);
    consume(conn, input);
    free(stash);
    if (conn->stalled && conn->stash_size == input.size) {
        conn->stalled_at = since; /* still the same block */
    }
    ab_conn_update_reading(conn);
}

/* --- sending --- */

int ab_conn_push(ab_conn *conn, ab_frame_type type, const void *body, size_t size)
{
    ab_out *out = ab_out_control(NULL, type, (ab_bytes){NULL, 0}, (ab_bytes){body, size});
    if (out == NULL) {
        return AB_ENOMEM;
    }
    ab_out_push(&conn->control, out);
    return AB_OK;
}

/* Moves queued frames into the flight, control first, as long as there is room in `bufs`.
 * @return how many pieces `bufs` has */
static unsigned gather(ab_conn *conn, uv_buf_t bufs[AB_FLIGHT_BUFS])
{
    unsigned count = 0;
    size_t bytes = 0;
    size_t skip = conn->flight_done;
    ab_out *out = conn->flight.head;
    for (;; out = out->next) {
        if (out == NULL) {
            ab_out_list *from = conn->control.head != NULL ? &conn->control : &conn->blocks;
            if (from->head == NULL || count + 2 > AB_FLIGHT_BUFS ||
                (count > 0 && bytes + from->head->size > AB_FLIGHT_BYTES)) {
                return count;
            }
            out = ab_out_pop(from);
            ab_out_push(&conn->flight, out);
        }
        if (skip < out->head_size) {
            bufs[count++] = uv_buf_init((char *)out->head + skip, (unsigned)(out->head_size - skip));
        }
        size_t gone = skip > out->head_size ? skip - out->head_size : 0;
        if (out->buf != NULL) {
            bufs[count++] =
                uv_buf_init((char *)out->buf->data + gone, (unsigned)(out->size - out->head_size - gone));
        }
        bytes += out->size - skip;
        skip = 0;
    }
}

/* `size` more bytes of the flight are gone: frees the frames that are complete. */
static void landed(ab_conn *conn, size_t size)
{
    if (size > 0) {
        conn->spoke_ms = ab_loop_now_ms(conn->loop);
    }
    if (conn->peer != NULL) {
        atomic_fetch_add_explicit(&conn->peer->sent_bytes, size, memory_order_relaxed);
    }
    conn->flight_done += size;
    while (conn->flight.head != NULL && conn->flight_done >= conn->flight.head->size) {
        conn->flight_done -= conn->flight.head->size;
        ab_out_free(ab_out_pop(&conn->flight));
    }
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    ab_conn *conn = req->handle->data;
    ab_loop_awake(conn->loop);
    if (status != 0 && conn->state == AB_CONN_LINGER) {
        ab_conn_close(conn);
    }
}

static void on_written(uv_write_t *req, int status)
{
    ab_conn *conn = req->handle->data;
    ab_loop_awake(conn->loop);
    conn->writing = false;
    if (status == 0) {
        size_t size = 0;
        for (const ab_out *out = conn->flight.head; out != NULL; out = out->next) {
            size += out->size;
        }
        landed(conn, size - conn->flight_done);
        ab_conn_flush(conn);
        return;
    }
    ab_out_clear(&conn->flight);
    if (conn->state == AB_CONN_LINGER) {
        ab_conn_close(conn);
    } else if (conn->state != AB_CONN_CLOSED) {
        ab_link_fail(conn, AB_ECLOSED, uv_strerror(status), false);
    }
}

/* @return AB_OK or a libuv error */
static int flush(ab_conn *conn)
{
    uv_buf_t bufs[AB_FLIGHT_BUFS];
    uv_stream_t *stream = (uv_stream_t *)&conn->tcp;
    unsigned count = gather(conn, bufs);
    if (count == 0) {
        return 0;
    }
    int sent = uv_try_write(stream, bufs, count);
    if (sent < 0 && sent != UV_EAGAIN) {
        return sent;
    }
    landed(conn, sent > 0 ? (size_t)sent : 0);
    /* What is left waits for the socket; and a second batch goes this way too, so that one peer with much to send
     * does not hold up the loop. */
    count = gather(conn, bufs);
    if (count == 0) {
        return 0;
    }
    int code = uv_write(&conn->write_req, stream, bufs, count, on_written);
    conn->writing = code == 0;
    return code;
}

void ab_conn_flush(ab_conn *conn)
{
    if (conn->writing || conn->state == AB_CONN_CONNECTING || conn->state == AB_CONN_CLOSED) {
        return;
    }
    int code = flush(conn);
    if (code != 0) {
        if (conn->state == AB_CONN_LINGER) {
            ab_conn_close(conn);
        } else {
            ab_link_fail(conn, code == UV_ENOMEM ? AB_ENOMEM : AB_ECLOSED, uv_strerror(code), false);
        }
        return;
    }
    if (conn->state == AB_CONN_LINGER && !conn->shutdown && !conn->writing) {
        conn->shutdown = true;
        if (uv_shutdown(&conn->shutdown_req, (uv_stream_t *)&conn->tcp, on_shutdown) != 0) {
            ab_conn_close(conn);
        }
    }
}

void ab_conn_goodbye(ab_conn *conn, int code, const char *reason)
{
    uint8_t body[4 + AB_REASON_SIZE];
    if (conn->state == AB_CONN_CONNECTING || conn->state == AB_CONN_CLOSED) {
        ab_conn_close(conn);
        return;
    }
    /* A frame that is partly sent must end before the farewell can be read; the others are dropped. */
    ab_out_clear(&conn->control);
    ab_out_clear(&conn->blocks);
    conn->peer = NULL;
    conn->state = AB_CONN_LINGER;
    end_stall(conn);
    ab_conn_deadline(conn, AB_LINGER_MS);
    if (ab_conn_push(conn, AB_FRAME_GOODBYE, body, ab_goodbye_encode(code, reason, body)) != AB_OK) {
        ab_conn_close(conn);
        return;
    }
    ab_conn_update_reading(conn);
    if (conn->state == AB_CONN_LINGER) {
        ab_conn_flush(conn);
    }
}
