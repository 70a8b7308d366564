/* SPDX-License-Identifier: Apache-2.0 */
/* GET /export: points as line protocol, in pieces as the client takes them. libmicrohttpd's threads. */
#include "tools/anabranchd/http_internal.h"

#include <stdlib.h>
#include <string.h>

#define EXPORT_BLOCK (64u * 1024)

/* A stream over all groups. */
typedef struct export_stream {
    ab_http *http;
    ab_selector selector;
    size_t shard;
    ab_export *walk; /* of the shard; NULL: to be begun */
    const char *text;
    size_t size;
} export_stream;

/* The next lines into `text`; none: nothing was found in this call's share of work. @return false: it ends in an error */
static bool refill(export_stream *stream)
{
    ab_shard *shard = &stream->http->options->shards[stream->shard];
    if (stream->walk == NULL) {
        stream->walk = ab_export_new(&stream->selector.selection);
    }
    if (stream->walk == NULL ||
        ab_export_next(stream->walk, shard->store, &stream->text, &stream->size) != AB_OK) {
        return false;
    }
    if (stream->size == 0 && ab_export_ended(stream->walk)) {
        ab_export_free(stream->walk);
        stream->walk = NULL;
        stream->shard++;
    }
    return true;
}

static ssize_t on_export(void *arg, uint64_t position, char *out, size_t room)
{
    export_stream *stream = arg;
    (void)position;
    /* A selection may find nothing for long: 0 lets other connections of this thread have their turn in between. */
    if (stream->size == 0) {
        if (stream->shard == stream->http->options->shard_count) {
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        if (!refill(stream)) {
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        if (stream->size == 0) {
            return 0;
        }
    }
    size_t size = stream->size < room ? stream->size : room;
    memcpy(out, stream->text, size);
    atomic_fetch_add_explicit(&stream->http->counters.exported_bytes, size, memory_order_relaxed);
    stream->text += size;
    stream->size -= size;
    return (ssize_t)size;
}

static void on_export_end(void *arg)
{
    export_stream *stream = arg;
    ab_export_free(stream->walk);
    ab_selector_free(&stream->selector);
    free(stream);
}

static enum MHD_Result stream_all(ab_request *request, export_stream *stream)
{
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, EXPORT_BLOCK, on_export, stream, on_export_end);
    if (response == NULL) {
        on_export_end(stream);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
    return ab_http_queue(request, MHD_HTTP_OK, response);
}

enum MHD_Result ab_http_export(ab_request *request)
{
    export_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return ab_http_failure(request, AB_ENOMEM);
    }
    stream->http = request->http;
    ab_selector_init(&stream->selector);
    int code = ab_http_select(request, &stream->selector);
    const char *reason = stream->selector.reason;
    if (code == AB_OK && request->waiting) {
        code = ab_http_first_failure(request);
        if (code == AB_OK) {
            return stream_all(request, stream);
        }
    }
    on_export_end(stream);
    if (code == AB_EINVAL) {
        return ab_http_error(request, MHD_HTTP_BAD_REQUEST, reason);
    }
    return code != AB_OK ? ab_http_failure(request, code) : ab_http_ask_all(request);
}
