/* SPDX-License-Identifier: Apache-2.0 */
/* Requests from their first byte to the handler, and the life of the server. libmicrohttpd's threads, and the main
 * thread for start, drain and stop. */
#include "tools/anabranchd/http_internal.h"
#include "tools/anabranchd/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define CONNECTION_MEMORY (64u * 1024)
/* Connections beyond max_connections that each thread takes, to close others or them. */
#define HEADROOM 64u

static const ab_route routes[] = {
    {"/write", "POST", ab_http_write, false, true},
    {"/api/v2/write", "POST", ab_http_write_v2, false, false},
    {"/delete", "POST", ab_http_delete, false, false},
    {"/api/v2/delete", "POST", ab_http_delete_v2, false, false},
    {"/query", "GET, POST", ab_http_statement, false, true},
    {"/export", "GET", ab_http_export, false, false},
    {"/digest", "GET", ab_http_digest, false, false},
    {"/health", "GET, HEAD", ab_http_health, true, false},
    {"/ready", "GET, HEAD", ab_http_ready, true, false},
    {"/ping", "GET, HEAD", ab_http_ping, true, false},
    {"/metrics", "GET, HEAD", ab_http_metrics, true, false},
};

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

void ab_http_refuse(ab_request *request, unsigned status, const char *reason)
{
    if (request->refusal == 0) {
        request->refusal = status;
        request->reason = reason;
    }
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
        ab_http_refuse(request, MHD_HTTP_NOT_FOUND, "no such path: see docs/ANABRANCHD.md");
    } else if (!allows(request->route->methods, method)) {
        ab_http_refuse(request, MHD_HTTP_METHOD_NOT_ALLOWED,
                       "the path does not take this method: Allow names those it takes");
    } else if (!ab_http_may(request)) {
        ab_http_refuse(request, MHD_HTTP_UNAUTHORIZED, "the token is missing or wrong");
    } else if (atomic_load(&request->http->draining)) {
        ab_http_refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, "shutting down");
    } else {
        ab_body_begin(request);
    }
}

/* What the head says of the body's end. */
typedef struct framing {
    unsigned ends;
    bool unknown; /* a coding that has one of its own */
} framing;

static enum MHD_Result on_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    framing *f = arg;
    (void)kind;
    bool coding = strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
    if (coding && (value == NULL || strcasecmp(value, "chunked") != 0)) {
        f->unknown = true;
    }
    f->ends += coding || strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0 ? 1 : 0;
    return MHD_YES;
}

/* Refuses, and closes the connection after the answer, where it is not certain which byte ends the body. A proxy in front
 * may have seen another one: what is between the two would be a request that it has not looked at. */
static void check_framing(ab_request *request)
{
    framing f = {.ends = 0};
    MHD_get_connection_values(request->connection, MHD_HEADER_KIND, on_header, &f);
    request->hang_up = f.unknown || f.ends > 1;
    if (f.unknown) {
        ab_http_refuse(request, MHD_HTTP_NOT_IMPLEMENTED, "Transfer-Encoding is chunked, nothing else");
    } else if (f.ends > 1) {
        ab_http_refuse(request, MHD_HTTP_BAD_REQUEST,
                       "more than one Content-Length or Transfer-Encoding: send one of them, once");
    }
}

static enum MHD_Result begin(ab_http *http, struct MHD_Connection *connection, const char *path,
                             const char *method, void **state)
{
    ab_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        return MHD_NO;
    }
    request->http = http;
    request->settings = atomic_load(&http->settings);
    request->connection = connection;
    request->begun_us = ab_http_now_us();
    snprintf(request->method, sizeof request->method, "%s", method);
    *state = request;
    ab_connection_asks(http, connection);
    check_framing(request);
    check_head(request, path, method);
    bool asks = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT) != NULL;
    bool large = ab_body_declared(request) > AB_BODY_DISCARD_MAX;
    if (request->refusal != 0 && (asks || large || request->hang_up)) {
        return ab_http_error(request, request->refusal, request->reason);
    }
    return MHD_YES;
}

/* Nothing may use the node while it closes: handlers are counted, and none begins once the daemon is stopping. */
static bool enter(ab_http *http)
{
    pthread_mutex_lock(&http->lock);
    bool open = !atomic_load(&http->draining);
    http->running += open ? 1 : 0;
    pthread_mutex_unlock(&http->lock);
    return open;
}

static void leave(ab_http *http)
{
    pthread_mutex_lock(&http->lock);
    http->running--;
    pthread_cond_broadcast(&http->idle);
    pthread_mutex_unlock(&http->lock);
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
        return ab_body_take(request, data, taken);
    }
    if (request->waiting) {
        return request->route->run(request);
    }
    ab_body_end(request);
    if (request->refusal == 0 && !enter(request->http)) {
        ab_http_refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, "shutting down");
    }
    if (request->refusal != 0) {
        return ab_http_error(request, request->refusal, request->reason);
    }
    ab_http *http = request->http; /* the request may be gone after it was suspended */
    enum MHD_Result result = request->route->run(request);
    leave(http);
    return result;
}

static void log_request(const ab_request *request)
{
    const ab_log_field fields[] = {{"method", request->method, 0},
                                   {"path", request->route != NULL ? request->route->path : "?", 0},
                                   {"status", NULL, request->status},
                                   {"body_bytes", NULL, (int64_t)request->received},
                                   {"microseconds", NULL, (int64_t)(ab_http_now_us() - request->begun_us)}};
    ab_log_fields(AB_LOG_DEBUG, "request", fields, sizeof fields / sizeof *fields);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode how)
{
    ab_request *request = *state;
    (void)how;
    ab_connection_waits(arg, connection);
    if (request != NULL) {
        if (ab_log_has(AB_LOG_DEBUG)) {
            log_request(request);
        }
        ab_body_drop(request);
        json_decref(request->errors);
        free(request->parts);
        free(request);
        *state = NULL;
    }
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **state,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *state = ab_connection_begin(arg, info->connect_fd);
    } else {
        ab_connection_end(arg, *state);
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
        on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET,
        http->options->listen_fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)settings->max_connections + HEADROOM * threads, MHD_OPTION_CONNECTION_TIMEOUT,
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
    atomic_store(&http->settings, options->settings);
    http->started = time(NULL);
    int code = ab_listen_begin(options->settings->http_host, options->port, options->listen_fd, message);
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
    pthread_mutex_init(&http->connections_lock, NULL);
    http->daemon = start_daemon(http);
    if (http->daemon == NULL) {
        snprintf(message->text, sizeof message->text, "cannot start the HTTP server: %s", strerror(errno));
        ab_http_stop(http);
        return AB_EIO;
    }
    *out = http;
    return AB_OK;
}

void ab_http_use(ab_http *http, const ab_settings *settings)
{
    atomic_store(&http->settings, settings);
}

uint16_t ab_http_port(const ab_http *http)
{
    return http->options->port;
}

bool ab_http_drain(ab_http *http, uint64_t timeout_ms)
{
    struct timespec until;
    pthread_mutex_lock(&http->lock);
    atomic_store(&http->draining, true);
    pthread_mutex_unlock(&http->lock);
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
    while (http->running > 0) { /* they do not wait for anything */
        pthread_cond_wait(&http->idle, &http->lock);
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
    pthread_mutex_destroy(&http->connections_lock);
    free(http);
}
