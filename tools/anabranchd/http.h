/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file http.h
 * The HTTP side of the daemon: what docs/ANABRANCHD.md says.
 * libmicrohttpd's threads run the handlers; none of them waits for a write or a read: the connection is suspended and
 * resumed by the completion. These functions are for the main thread.
 */
#ifndef ANABRANCHD_HTTP_H
#define ANABRANCHD_HTTP_H

#include "tools/anabranchd/settings.h"
#include "tools/anabranchd/shard.h"

typedef struct ab_http ab_http;

typedef struct ab_http_options {
    const ab_settings *settings;
    int listen_fd; /**< of ab_listen_bind() */
    uint16_t port; /**< that it has */
    size_t payload_max;
    ab_node *node;
    ab_shard *shards; /**< by id; series are spread over them */
    size_t shard_count;
} ab_http_options;

/** Listens and serves. `options` and what it points to must outlive it. @return AB_OK (the socket is its own now), AB_EIO,
 * AB_ENOMEM; `message` says what */
int ab_http_start(const ab_http_options *options, ab_http **http, ab_message *message);

/** New requests follow these settings; what it took at its start (address, threads, connections) stays. They must outlive it, too. */
void ab_http_use(ab_http *http, const ab_settings *settings);

uint16_t ab_http_port(const ab_http *http);

/** Accepts no more connections, answers new requests with 503, and waits up to `timeout_ms` for writes and reads that
 * are under way. @return whether all are done */
bool ab_http_drain(ab_http *http, uint64_t timeout_ms);

/** After ab_node_close() (which completes everything): ends all connections and frees it. */
void ab_http_stop(ab_http *http);

#endif
