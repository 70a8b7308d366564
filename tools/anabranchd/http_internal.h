/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file http_internal.h
 * A request between its callbacks. A request belongs to one libmicrohttpd thread, except that completions count
 * `pending` down and fill their own part while the connection is suspended.
 */
#ifndef ANABRANCHD_HTTP_INTERNAL_H
#define ANABRANCHD_HTTP_INTERNAL_H

#include "tools/anabranchd/http.h"
#include "tools/anabranchd/selector.h"

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* Upper bounds of the buckets of durations, in microseconds; one more bucket takes the rest. */
#define AB_HTTP_BUCKETS 13u
extern const uint32_t ab_http_bucket_us[AB_HTTP_BUCKETS];

/* What is counted for /metrics. */
typedef struct ab_http_counters {
    _Atomic uint64_t requests[6]; /* by first digit of the status */
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t body_bytes; /* inflated */
    _Atomic uint64_t lines_stored;
    _Atomic uint64_t points_stored;
    _Atomic uint64_t lines_malformed;
    _Atomic uint64_t exported_bytes;
    _Atomic uint64_t connections; /* open now */
    _Atomic uint64_t displaced;   /* closed to make place for another */
    _Atomic uint64_t deletes;
    _Atomic uint64_t write_buckets[AB_HTTP_BUCKETS + 1];
    _Atomic uint64_t write_us;
} ab_http_counters;

typedef struct ab_connection ab_connection;

struct ab_http {
    const ab_http_options *options;
    _Atomic(const ab_settings *) settings; /* for new requests */
    _Atomic uint64_t warned_us;            /* when a failure was last logged */
    struct MHD_Daemon *daemon;
    atomic_bool draining;        /* set under the lock */
    _Atomic uint64_t body_bytes; /* held by requests */
    ab_http_counters counters;
    time_t started;
    pthread_mutex_t lock; /* guards suspended and running */
    pthread_cond_t idle;
    size_t suspended;                 /* requests that wait for completions */
    size_t running;                   /* handlers: only they, and not while draining, use the node */
    pthread_mutex_t connections_lock; /* guards the list of those that wait for a request */
    ab_connection *waiting;           /* the list: the first waits the longest */
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

/* Finishes the request once it has all of its body. It may use the node unless it runs again after waiting: then the node
 * may be closed. */
typedef enum MHD_Result (*ab_request_fn)(ab_request *request);

typedef struct ab_route {
    const char *path;
    const char *methods; /* as for Allow */
    ab_request_fn run;
    bool open;       /* needs no token */
    bool influxdb_1; /* errors say `error`, too */
} ab_route;

typedef struct ab_inflate ab_inflate;

struct ab_request {
    ab_http *http;
    const ab_settings *settings;
    struct MHD_Connection *connection;
    char method[8];
    uint64_t begun_us;     /* monotonic */
    unsigned status;       /* of the answer; 0: none yet */
    const ab_route *route; /* NULL: no such path */
    unsigned refusal;      /* status of a request that is refused once its body was discarded; 0: none */
    const char *reason;
    bool hang_up;      /* after the answer */
    uint64_t received; /* bytes of the body as sent */
    char *body;        /* inflated */
    size_t size;
    size_t capacity;
    size_t held;          /* of http->body_bytes */
    ab_inflate *inflate;  /* NULL: the body comes as it is */
    uint64_t complete_us; /* monotonic: when the body was there */
    atomic_size_t pending;
    bool waiting;   /* for completions: the next call answers */
    ab_part *parts; /* one per shard */
    json_t *errors; /* of malformed lines, the first of them */
    size_t lines;   /* well-formed ones */
    size_t points;
    size_t malformed;
};

/* http.c */

/* Suspends the connection and takes a hold on it; then parts may be asked; ab_http_release() ends the hold. */
int ab_http_suspend(ab_request *request);
void ab_http_hold(ab_request *request);
/* Ends one hold; the last one resumes the connection, after which the request may be gone. */
void ab_http_release(ab_request *request);
/* The request is answered so once its body was discarded, if nothing else refused it before. */
void ab_http_refuse(ab_request *request, unsigned status, const char *reason);

/* http_connections.c */

/* NULL: out of memory, which the other functions take. */
ab_connection *ab_connection_begin(ab_http *http, int fd);
/* Before the descriptor is closed. */
void ab_connection_end(ab_http *http, ab_connection *c);
/* The head of a request is there; the request has ended. */
void ab_connection_asks(ab_http *http, struct MHD_Connection *connection);
void ab_connection_waits(ab_http *http, struct MHD_Connection *connection);

/* http_body.c: bodies, plain and compressed, within their limits. */

/* Looks at what the head says of the body; may refuse. */
void ab_body_begin(ab_request *request);
/* What the head says of its size; 0: nothing. */
uint64_t ab_body_declared(const ab_request *request);
/* Takes a piece. @return MHD_NO: the client goes on and on, hang up */
enum MHD_Result ab_body_take(ab_request *request, const char *data, size_t size);
/* All pieces are there; may refuse. */
void ab_body_end(ab_request *request);
void ab_body_drop(ab_request *request);
/* A refused request's body up to this is read and dropped, so that its client gets the answer instead of a reset. */
#define AB_BODY_DISCARD_MAX (64ull << 20)

/* http_answer.c */

/* Queues the response and gives up the reference to it. */
enum MHD_Result ab_http_queue(ab_request *request, unsigned status, struct MHD_Response *response);
/* A response with JSON; takes the reference to `body`. NULL: out of memory */
struct MHD_Response *ab_http_json_response(json_t *body);
/* Answers with JSON; takes the reference to `body`. */
enum MHD_Result ab_http_json(ab_request *request, unsigned status, json_t *body);
/* An error's JSON: {"code", "message"}, as InfluxDB 2 has it, and "error" where clients of InfluxDB 1 look. */
json_t *ab_http_describe(const ab_request *request, unsigned status, const char *message);
enum MHD_Result ab_http_error(ab_request *request, unsigned status, const char *message);
/* 503 for something that fails so, with Retry-After. */
enum MHD_Result ab_http_unavailable(ab_request *request, int code, const char *message);
/* Answers for a failed write or read: what a client should try again is 503 with Retry-After. */
enum MHD_Result ab_http_failure(ab_request *request, int code);
/* The first failure of the parts that were asked. */
int ab_http_first_failure(const ab_request *request);
/* The header that says where writes went: group:node.epoch:first-last:hlc, ... */
void ab_http_add_writes(const ab_request *request, struct MHD_Response *response);
uint64_t ab_http_now_us(void); /* monotonic */

/* http_auth.c */
bool ab_http_may(const ab_request *request);

/* http_write.c, http_read.c */
enum MHD_Result ab_http_write(ab_request *request);
enum MHD_Result ab_http_write_v2(ab_request *request);
enum MHD_Result ab_http_health(ab_request *request);
enum MHD_Result ab_http_ready(ab_request *request);
enum MHD_Result ab_http_ping(ab_request *request);
enum MHD_Result ab_http_digest(ab_request *request);
/* Suspends the request until all groups have made visible what they have of this node's own writes. */
enum MHD_Result ab_http_ask_all(ab_request *request);
/* Hands payloads (copied) to the group of part `i`. The connection is suspended. */
void ab_http_write_part(ab_request *request, size_t i, const ab_bytes *payloads, size_t count);

/* http_query.c: which points the URL's parameters, or the body, select. @return AB_OK, AB_EINVAL, AB_ENOMEM */
int ab_http_select(ab_request *request, ab_selector *selector);
int ab_http_select_json(const ab_request *request, ab_selector *selector);

/* http_export.c, http_delete.c */
enum MHD_Result ab_http_export(ab_request *request);
enum MHD_Result ab_http_delete(ab_request *request);
enum MHD_Result ab_http_delete_v2(ab_request *request);

/* http_statement.c */
enum MHD_Result ab_http_statement(ab_request *request);

/* http_metrics.c */
enum MHD_Result ab_http_metrics(ab_request *request);

#endif
