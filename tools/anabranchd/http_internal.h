/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file http_internal.h
 * A request between its callbacks. A request belongs to one libmicrohttpd thread, except that completions count
 * `pending` down and fill their own part while the connection is suspended.
 */
#ifndef ANABRANCHD_HTTP_INTERNAL_H
#define ANABRANCHD_HTTP_INTERNAL_H

#include "tools/anabranchd/http.h"

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

struct ab_http {
    const ab_http_options *options;
    struct MHD_Daemon *daemon;
    uint16_t port;
    int listen_fd;
    atomic_bool draining;
    _Atomic uint64_t body_bytes; /* held by requests */
    pthread_mutex_t lock;        /* guards suspended */
    pthread_cond_t idle;
    size_t suspended; /* requests that wait for completions */
};

typedef struct ab_request ab_request;

/* What one group did for a request. */
typedef struct ab_part {
    ab_request *request;
    bool asked;
    int code;
    ab_stream stream; /* writes */
    uint64_t first;
    uint64_t last;
    uint64_t hlc;
    ab_store_summary summary; /* reads */
} ab_part;

/* Finishes the request once it has all of its body. */
typedef enum MHD_Result (*ab_request_fn)(ab_request *request);

typedef struct ab_route {
    const char *path;
    const char *methods; /* as for Allow */
    ab_request_fn run;
} ab_route;

struct ab_request {
    ab_http *http;
    struct MHD_Connection *connection;
    const ab_route *route;
    unsigned refusal; /* status of a request that is refused once its body was discarded; 0: none */
    const char *reason;
    char *body;
    size_t size;
    size_t capacity;
    atomic_size_t pending;
    bool waiting;   /* for completions: the next call answers */
    ab_part *parts; /* one per shard */
};

/* http.c */

/* Answers with JSON; takes the reference to `body`. `retry`: with Retry-After. */
enum MHD_Result ab_http_json(ab_request *request, unsigned status, json_t *body, bool retry);
/* Answers with {"code", "message"}. */
enum MHD_Result ab_http_error(ab_request *request, unsigned status, const char *code, const char *message);
/* Answers for a failed write or read: what a client should try again is 503 with Retry-After. */
enum MHD_Result ab_http_failure(ab_request *request, int code);
/* Suspends the connection and takes a hold on it; then parts may be asked; ab_http_release() ends the hold. */
int ab_http_suspend(ab_request *request);
void ab_http_hold(ab_request *request);
/* Ends one hold; the last one resumes the connection, after which the request may be gone. */
void ab_http_release(ab_request *request);

/* http_write.c, http_read.c */
enum MHD_Result ab_http_write(ab_request *request);
enum MHD_Result ab_http_health(ab_request *request);
enum MHD_Result ab_http_digest(ab_request *request);
enum MHD_Result ab_http_export(ab_request *request);

#endif
