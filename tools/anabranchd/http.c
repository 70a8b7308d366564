/* SPDX-License-Identifier: Apache-2.0 */
/* Requests from their first byte to the handler, and the life of the server. libmicrohttpd's threads, and the main
 * thread for start, drain and stop. */
#include "tools/anabranchd/http_internal.h"
#include "tools/anabranchd/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A refused request's body up to this is read and dropped, so that its client gets the answer instead of a reset. */
#define DISCARD_MAX (64ull << 20)
#define CONNECTION_MEMORY (64u * 1024)
/* Memory for a body follows what has arrived, not what was announced: at most this at first. */
#define BODY_FIRST (64u * 1024)

static const ab_route routes[] = {
    {"/write", "POST", ab_http_write},
    {"/export", "GET", ab_http_export},
    {"/digest", "GET", ab_http_digest},
    {"/health", "GET, HEAD", ab_http_health},
};

enum MHD_Result ab_http_json(ab_request *request, unsigned status, json_t *body, bool retry)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (text == NULL) {
        return MHD_NO;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    if (retry) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    }
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, request->route->methods);
    }
    if (atomic_load(&request->http->draining)) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    enum MHD_Result result = MHD_queue_response(request->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result ab_http_error(ab_request *request, unsigned status, const char *code, const char *message)
{
    bool retry = status == MHD_HTTP_SERVICE_UNAVAILABLE;
    return ab_http_json(request, status, json_pack("{s:s,s:s}", "code", code, "message", message), retry);
}

enum MHD_Result ab_http_failure(ab_request *request, int code)
{
    switch (code) {
    case AB_EBUSY:
    case AB_ENOSPC:
    case AB_ETIMEDOUT:
    case AB_ECLOSED:
    case AB_ENOTLEADER:
    case AB_ERETRY:
        return ab_http_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, ab_error_name(code), ab_strerror(code));
    case AB_ETOOBIG:
        return ab_http_error(request, MHD_HTTP_CONTENT_TOO_LARGE, ab_error_name(code),
                             "too much for one group's queue: send smaller batches or raise queue_bytes");
    default:
        return ab_http_error(request, MHD_HTTP_INTERNAL_SERVER_ERROR, ab_error_name(code), ab_strerror(code));
    }
}

int ab_http_suspend(ab_request *request)
{
    ab_http *http = request->http;
    request->parts = calloc(http->options->shard_count, sizeof *request->parts);
    if (request->parts == NULL) {
        return AB_ENOMEM;
    }
    for (size_t i = 0; i < http->options->shard_count; i++) {
        request->parts[i].request = request;
    }
    pthread_mutex_lock(&http->lock);
    http->suspended++;
    pthread_mutex_unlock(&http->lock);
    request->waiting = true;
    atomic_store(&request->pending, 1);
    MHD_suspend_connection(request->connection);
    return AB_OK;
}

void ab_http_hold(ab_request *request)
{
    atomic_fetch_add(&request->pending, 1);
}

void ab_http_release(ab_request *request)
{
    ab_http *http = request->http;
    if (atomic_fetch_sub(&request->pending, 1) != 1) {
        return;
    }
    MHD_resume_connection(request->connection);
    pthread_mutex_lock(&http->lock);
    http->suspended--;
    pthread_cond_broadcast(&http->idle);
    pthread_mutex_unlock(&http->lock);
}

static void refuse(ab_request *request, unsigned status, const char *reason)
{
    if (request->refusal == 0) {
        request->refusal = status;
        request->reason = reason;
    }
}

static enum MHD_Result answer_refusal(ab_request *request)
{
    static const struct {
        unsigned status;
        const char *code;
    } codes[] = {{MHD_HTTP_NOT_FOUND, "not_found"},
                 {MHD_HTTP_METHOD_NOT_ALLOWED, "method_not_allowed"},
                 {MHD_HTTP_CONTENT_TOO_LARGE, "too_large"},
                 {MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable"}};
    const char *code = "invalid";
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        code = codes[i].status == request->refusal ? codes[i].code : code;
    }
    return ab_http_error(request, request->refusal, code, request->reason);
}

static bool allows(const char *methods, const char *method)
{
    const char *found = strstr(methods, method);
    return found != NULL && (found == methods || found[-1] == ' ') &&
           (found[strlen(method)] == '\0' || found[strlen(method)] == ',');
}

/* What can be refused before the body arrives. */
static void check_head(ab_request *request, const char *path, const char *method)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(routes[i].path, path) == 0) {
            request->route = &routes[i];
        }
    }
    if (request->route == NULL) {
        refuse(request, MHD_HTTP_NOT_FOUND, "no such path: /write, /export, /digest, /health");
    } else if (!allows(request->route->methods, method)) {
        refuse(request, MHD_HTTP_METHOD_NOT_ALLOWED, "the path does not take this method");
    } else if (atomic_load(&request->http->draining)) {
        refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, "shutting down");
    }
}

static uint64_t declared_size(const ab_request *request)
{
    const char *text =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static enum MHD_Result begin(ab_http *http, struct MHD_Connection *connection, const char *path,
                             const char *method, void **state)
{
    ab_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        return MHD_NO;
    }
    request->http = http;
    request->connection = connection;
    *state = request;
    check_head(request, path, method);
    uint64_t size = declared_size(request);
    if (size > http->options->settings->max_body) {
        refuse(request, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than max_body");
    }
    bool asks = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT) != NULL;
    if (request->refusal != 0 && (asks || size > DISCARD_MAX)) {
        return answer_refusal(request);
    }
    return MHD_YES;
}

static void drop_body(ab_request *request)
{
    atomic_fetch_sub(&request->http->body_bytes, request->capacity);
    free(request->body);
    request->body = NULL;
    request->capacity = 0;
}

static bool grow_body(ab_request *request, size_t size)
{
    const ab_settings *settings = request->http->options->settings;
    size_t capacity = request->capacity * 2;
    if (request->capacity == 0) {
        uint64_t declared = declared_size(request);
        capacity = declared > BODY_FIRST ? BODY_FIRST : (size_t)declared;
    }
    capacity = capacity < size ? size : capacity;
    size_t more = capacity - request->capacity;
    if (atomic_fetch_add(&request->http->body_bytes, more) + more > settings->max_bodies) {
        atomic_fetch_sub(&request->http->body_bytes, more);
        refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, "too many bodies at once (max_bodies): try again");
        return false;
    }
    char *body = realloc(request->body, capacity);
    if (body == NULL) {
        atomic_fetch_sub(&request->http->body_bytes, more);
        refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory: try again");
        return false;
    }
    request->body = body;
    request->capacity = capacity;
    return true;
}

/* @return MHD_NO: the client goes on and on, hang up */
static enum MHD_Result take_body(ab_request *request, const char *data, size_t size)
{
    request->size += size;
    if (request->refusal != 0) {
        return request->size <= DISCARD_MAX ? MHD_YES : MHD_NO;
    }
    if (request->size > request->http->options->settings->max_body) {
        refuse(request, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than max_body");
    } else if (request->size > request->capacity) {
        grow_body(request, request->size);
    }
    if (request->refusal != 0) {
        drop_body(request);
        return MHD_YES;
    }
    memcpy(request->body + request->size - size, data, size);
    return MHD_YES;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data, size_t *size,
                                  void **state)
{
    ab_request *request = *state;
    (void)version;
    if (request == NULL) {
        return begin(arg, connection, path, method, state);
    }
    if (*size > 0) {
        size_t taken = *size;
        *size = 0;
        return take_body(request, data, taken);
    }
    return request->refusal != 0 ? answer_refusal(request) : request->route->run(request);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode how)
{
    ab_request *request = *state;
    (void)arg;
    (void)connection;
    (void)how;
    if (request != NULL) {
        drop_body(request);
        free(request->parts);
        free(request);
        *state = NULL;
    }
}

static void on_log(void *arg, const char *format, va_list args)
{
    /* libmicrohttpd tells of each client that goes away early: no news. */
    (void)arg;
    (void)format;
    (void)args;
}

static struct MHD_Daemon *start_daemon(ab_http *http)
{
    const ab_settings *settings = http->options->settings;
    unsigned threads = (unsigned)settings->http_threads;
    struct MHD_OptionItem several[] = {{MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)threads, NULL},
                                       {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem one[] = {{MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, http->listen_fd,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)settings->max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)settings->idle_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_ARRAY, threads > 1 ? several : one, MHD_OPTION_END);
}

int ab_http_start(const ab_http_options *options, ab_http **out, ab_message *message)
{
    ab_http *http = calloc(1, sizeof *http);
    if (http == NULL) {
        return AB_ENOMEM;
    }
    http->options = options;
    int code = ab_listen(options->settings->http_host, (uint16_t)options->settings->http_port,
                         options->insecure, &http->listen_fd, &http->port, message);
    if (code != AB_OK) {
        free(http);
        return code;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&http->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&http->lock, NULL);
    http->daemon = start_daemon(http);
    if (http->daemon == NULL) {
        snprintf(message->text, sizeof message->text, "cannot start the HTTP server: %s", strerror(errno));
        close(http->listen_fd);
        http->listen_fd = -1;
        ab_http_stop(http);
        return AB_EIO;
    }
    *out = http;
    return AB_OK;
}

uint16_t ab_http_port(const ab_http *http)
{
    return http->port;
}

bool ab_http_drain(ab_http *http, uint64_t timeout_ms)
{
    struct timespec until;
    atomic_store(&http->draining, true);
    MHD_socket listening = MHD_quiesce_daemon(http->daemon);
    if (listening != MHD_INVALID_SOCKET) {
        close(listening);
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&http->lock);
    int timed_out = 0;
    while (http->suspended > 0 && timed_out == 0) {
        timed_out = pthread_cond_timedwait(&http->idle, &http->lock, &until);
    }
    bool done = http->suspended == 0;
    pthread_mutex_unlock(&http->lock);
    return done;
}

void ab_http_stop(ab_http *http)
{
    if (http->daemon != NULL) {
        MHD_stop_daemon(http->daemon);
    }
    pthread_cond_destroy(&http->idle);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
