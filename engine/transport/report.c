/* SPDX-License-Identifier: Apache-2.0 */
/* Words for the operator, and the state of the links for other threads. Loop threads, except the listing. */
#include "engine/transport/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SAME_AGAIN_MS 60000u

void ab_report(ab_transport *transport, ab_severity severity, const char *format, ...)
{
    char text[AB_MESSAGE_SIZE];
    if (transport->callbacks.log == NULL) {
        return;
    }
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    transport->callbacks.log(transport->ctx, severity, text);
}

void ab_report_peer(ab_peer *peer, int code, const char *text)
{
    ab_loop *loop = peer->loop;
    uint64_t now = ab_loop_now_ms(loop);
    pthread_mutex_lock(&loop->lock);
    bool same = peer->last_code == code && strncmp(peer->last_error, text, sizeof(peer->last_error) - 1) == 0;
    peer->last_code = code;
    (void)snprintf(peer->last_error, sizeof(peer->last_error), "%s", text);
    pthread_mutex_unlock(&loop->lock);
    /* Attempts go on for as long as a peer is away: the same trouble again is for those who debug. */
    bool quiet = same && peer->told_ms != 0 && now - peer->told_ms < SAME_AGAIN_MS;
    if (!quiet) {
        peer->told_ms = now;
    }
    ab_report(peer->transport, quiet ? AB_LOG_DEBUG : AB_LOG_WARN, "node %u: %s", peer->node_id, text);
}

void ab_report_show(ab_peer *peer)
{
    pthread_mutex_lock(&peer->loop->lock);
    peer->shown_failures = peer->failures;
    peer->shown_dial_at_ms = uv_is_active((uv_handle_t *)&peer->dial_timer) ? peer->dial_at_ms : 0;
    pthread_mutex_unlock(&peer->loop->lock);
}

static void fill(ab_peer *peer, uint64_t now, ab_link_status *status)
{
    *status = (ab_link_status){.peer = peer->node_id};
    pthread_mutex_lock(&peer->loop->lock);
    status->up = atomic_load_explicit(&peer->up, memory_order_relaxed);
    status->dialled = peer->dialled;
    memcpy(status->address, peer->address, sizeof(status->address));
    status->failures = peer->shown_failures;
    if (!status->up && peer->shown_dial_at_ms > now) {
        status->retry_in_ms = (uint32_t)(peer->shown_dial_at_ms - now);
    }
    status->last_code = peer->last_code;
    memcpy(status->last_error, peer->last_error, sizeof(status->last_error));
    pthread_mutex_unlock(&peer->loop->lock);
    status->queued_bytes = atomic_load_explicit(&peer->queued_control, memory_order_relaxed) +
                           atomic_load_explicit(&peer->queued_blocks, memory_order_relaxed);
    status->sent_bytes = atomic_load_explicit(&peer->sent_bytes, memory_order_relaxed);
    status->received_bytes = atomic_load_explicit(&peer->received_bytes, memory_order_relaxed);
    uint64_t heard = atomic_load_explicit(&peer->heard_ms, memory_order_relaxed);
    status->silent_ms = heard == 0 ? UINT64_MAX : now > heard ? now - heard : 0;
}

void ab_transport_links(ab_transport *transport, ab_link_fn fn, void *arg)
{
    for (size_t i = 0; i < transport->peer_count; i++) {
        ab_link_status status;
        fill(&transport->peers[i], ab_monotonic_ns() / 1000000u, &status);
        if (!fn(arg, &status)) {
            return;
        }
    }
}
