/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: JSON, errors as clients of InfluxDB read them, headers. libmicrohttpd's threads. */
#include "tools/anabranchd/http_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Where the groups touched would need more, the header is left out: a client that wants it sends smaller batches. */
#define WRITES_HEADER_MAX (8u * 1024)
#define WRITE_TEXT_MAX 128u
/* A full disk is not empty again in a second. */
#define RETRY_AFTER "1"
#define RETRY_AFTER_DISK "10"

const uint32_t ab_http_bucket_us[AB_HTTP_BUCKETS] = {500,    1000,   2500,   5000,    10000,   25000,   50000,
                                                     100000, 250000, 500000, 1000000, 2500000, 10000000};

uint64_t ab_http_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void count_duration(ab_request *request)
{
    ab_http_counters *counters = &request->http->counters;
    uint64_t us = ab_http_now_us() - request->complete_us;
    size_t bucket = 0;
    while (bucket < AB_HTTP_BUCKETS && us > ab_http_bucket_us[bucket]) {
        bucket++;
    }
    atomic_fetch_add_explicit(&counters->write_buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->write_us, us, memory_order_relaxed);
}

enum MHD_Result ab_http_queue(ab_request *request, unsigned status, struct MHD_Response *response)
{
    ab_http *http = request->http;
    if (response == NULL) {
        return MHD_NO;
    }
    request->status = status;
    atomic_fetch_add_explicit(&http->counters.requests[status / 100 % 6], 1, memory_order_relaxed);
    if (request->complete_us != 0) {
        count_duration(request);
    }
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, request->route->methods);
    }
    if (status == MHD_HTTP_UNAUTHORIZED) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Basic realm=\"anabranchd\"");
    }
    if (atomic_load(&http->draining) || request->hang_up) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    enum MHD_Result result = MHD_queue_response(request->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

struct MHD_Response *ab_http_json_response(json_t *body)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (text == NULL) {
        return NULL;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(text);
        return NULL;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    return response;
}

enum MHD_Result ab_http_json(ab_request *request, unsigned status, json_t *body)
{
    return ab_http_queue(request, status, ab_http_json_response(body));
}

/* The words of InfluxDB 2. */
static const char *code_of(unsigned status)
{
    switch (status) {
    case MHD_HTTP_UNAUTHORIZED:
        return "unauthorized";
    case MHD_HTTP_NOT_FOUND:
        return "not found";
    case MHD_HTTP_METHOD_NOT_ALLOWED:
        return "method not allowed";
    case MHD_HTTP_CONTENT_TOO_LARGE:
        return "request too large";
    case MHD_HTTP_UNSUPPORTED_MEDIA_TYPE:
        return "unsupported media type";
    case MHD_HTTP_NOT_IMPLEMENTED:
        return "not implemented";
    case MHD_HTTP_UNPROCESSABLE_CONTENT:
        return "unprocessable entity";
    case MHD_HTTP_SERVICE_UNAVAILABLE:
        return "unavailable";
    default:
        return status < 500 ? "invalid" : "internal error";
    }
}

json_t *ab_http_describe(const ab_request *request, unsigned status, const char *message)
{
    bool old = request->route != NULL && request->route->influxdb_1;
    return json_pack("{s:s,s:s,s:s*}", "code", code_of(status), "message", message, "error",
                     old ? message : NULL);
}

/* A line for what is this side's fault, once a second: the counters have the rest. */
static void log_failure(const ab_request *request, unsigned status, const char *message)
{
    _Atomic uint64_t *warned = &request->http->warned_us;
    uint64_t now = ab_http_now_us();
    uint64_t last = atomic_load(warned);
    if (status >= 500 && now - last >= 1000000 && atomic_compare_exchange_strong(warned, &last, now)) {
        const ab_log_field fields[] = {{"method", request->method, 0},
                                       {"path", request->route != NULL ? request->route->path : "?", 0},
                                       {"status", NULL, status},
                                       {"error", message, 0}};
        ab_log_fields(AB_LOG_WARN, "request failed", fields, sizeof fields / sizeof *fields);
    }
}

static enum MHD_Result answer_error(ab_request *request, unsigned status, const char *message,
                                    const char *retry_after)
{
    log_failure(request, status, message);
    struct MHD_Response *response = ab_http_json_response(ab_http_describe(request, status, message));
    if (response != NULL && status == MHD_HTTP_SERVICE_UNAVAILABLE) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, retry_after);
    }
    return ab_http_queue(request, status, response);
}

enum MHD_Result ab_http_error(ab_request *request, unsigned status, const char *message)
{
    return answer_error(request, status, message, RETRY_AFTER);
}

enum MHD_Result ab_http_unavailable(ab_request *request, int code, const char *message)
{
    return answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, message,
                        code == AB_ENOSPC ? RETRY_AFTER_DISK : RETRY_AFTER);
}

enum MHD_Result ab_http_failure(ab_request *request, int code)
{
    char message[160];
    snprintf(message, sizeof message, "%s: %s", ab_error_name(code), ab_strerror(code));
    switch (code) {
    case AB_ENOSPC:
    case AB_EBUSY:
    case AB_ENOMEM:
    case AB_ETIMEDOUT:
    case AB_ECLOSED:
    case AB_ENOTLEADER:
    case AB_ERETRY:
        return ab_http_unavailable(request, code, message);
    case AB_ETOOBIG:
        return ab_http_error(request, MHD_HTTP_CONTENT_TOO_LARGE,
                             "too much for one group's queue: send smaller batches or raise queue_bytes");
    default:
        return ab_http_error(request, MHD_HTTP_INTERNAL_SERVER_ERROR, message);
    }
}

int ab_http_first_failure(const ab_request *request)
{
    for (size_t i = 0; request->parts != NULL && i < request->http->options->shard_count; i++) {
        if (request->parts[i].code != AB_OK) {
            return request->parts[i].code;
        }
    }
    return AB_OK;
}

void ab_http_add_writes(const ab_request *request, struct MHD_Response *response)
{
    const ab_http_options *options = request->http->options;
    char *text = response != NULL && request->parts != NULL ? malloc(WRITES_HEADER_MAX) : NULL;
    size_t size = 0;
    for (size_t i = 0; text != NULL && i < options->shard_count; i++) {
        const ab_part *part = &request->parts[i];
        if (!part->asked || part->last == 0) { /* at level `memory` it has no place yet */
            continue;
        }
        if (size + WRITE_TEXT_MAX > WRITES_HEADER_MAX) {
            size = 0;
            break;
        }
        size += (size_t)snprintf(text + size, WRITE_TEXT_MAX,
                                 "%s%" PRIu64 ":%" PRIu32 ".%" PRIu32 ":%" PRIu64 "-%" PRIu64 ":%" PRIu64,
                                 size > 0 ? "," : "", options->shards[i].id, part->stream.node,
                                 part->stream.epoch, part->first, part->last, part->hlc);
    }
    if (size > 0) {
        MHD_add_response_header(response, "X-Anabranch-Writes", text);
    }
    free(text);
}
