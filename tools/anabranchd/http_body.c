/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests as they arrive. Memory follows what has arrived (or was inflated), never what was announced, and
 * is counted against max_bodies. libmicrohttpd's threads, one per request. */
#include "tools/anabranchd/http_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#define BODY_FIRST (64u * 1024)
/* What zlib takes for a stream with the window of gzip, about. */
#define INFLATE_MEMORY (48u * 1024)
/* Bytes per second that a client may take to send a body. */
#define SLOWEST 1024u
#define GZIP_WINDOW (15 + 16)

struct ab_inflate {
    z_stream stream;
    bool open;  /* stream has memory of zlib's */
    bool ended; /* at the end of a member; another may follow */
};

uint64_t ab_body_declared(const ab_request *request)
{
    const char *text =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static bool hold(ab_request *request, size_t more)
{
    _Atomic uint64_t *all = &request->http->body_bytes;
    if (atomic_fetch_add(all, more) + more > request->settings->max_bodies) {
        atomic_fetch_sub(all, more);
        ab_http_refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                       "too many bodies at once (max_bodies): try again");
        return false;
    }
    request->held += more;
    return true;
}

static bool no_memory(ab_request *request)
{
    ab_http_refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory: try again");
    return false;
}

static bool reserve(ab_request *request, size_t capacity)
{
    if (!hold(request, capacity - request->capacity)) {
        return false;
    }
    char *body = realloc(request->body, capacity);
    if (body == NULL) {
        return no_memory(request);
    }
    request->body = body;
    request->capacity = capacity;
    return true;
}

static void close_inflate(ab_request *request)
{
    if (request->inflate != NULL && request->inflate->open) {
        inflateEnd(&request->inflate->stream);
    }
    free(request->inflate);
    request->inflate = NULL;
}

void ab_body_drop(ab_request *request)
{
    close_inflate(request);
    atomic_fetch_sub(&request->http->body_bytes, request->held);
    request->held = 0;
    free(request->body);
    request->body = NULL;
    request->capacity = 0;
    request->size = 0;
}

void ab_body_begin(ab_request *request)
{
    const char *encoding =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_ENCODING);
    if (ab_body_declared(request) > request->settings->max_body) {
        ab_http_refuse(request, MHD_HTTP_CONTENT_TOO_LARGE,
                       "the body is larger than max_body: send smaller batches or raise it");
    }
    if (encoding == NULL || encoding[0] == '\0' || strcasecmp(encoding, "identity") == 0) {
        return;
    }
    if (strcasecmp(encoding, "gzip") != 0 && strcasecmp(encoding, "x-gzip") != 0) {
        ab_http_refuse(request, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE,
                       "Content-Encoding is gzip or identity, nothing else");
        return;
    }
    request->inflate = calloc(1, sizeof *request->inflate);
    if (request->inflate == NULL) {
        no_memory(request);
    }
}

static bool append(ab_request *request, const char *data, size_t size)
{
    size_t need = request->size + size;
    if (need > request->settings->max_body) {
        ab_http_refuse(request, MHD_HTTP_CONTENT_TOO_LARGE,
                       "the body is larger than max_body: send smaller batches or raise it");
        return false;
    }
    if (need > request->capacity) {
        uint64_t declared = ab_body_declared(request);
        size_t first = declared > BODY_FIRST ? BODY_FIRST : (size_t)declared;
        size_t capacity = request->capacity == 0 ? first : request->capacity * 2;
        if (!reserve(request, capacity < need ? need : capacity)) {
            return false;
        }
    }
    memcpy(request->body + request->size, data, size);
    request->size = need;
    return true;
}

static bool open_inflate(ab_request *request)
{
    if (!hold(request, INFLATE_MEMORY)) {
        return false;
    }
    if (inflateInit2(&request->inflate->stream, GZIP_WINDOW) != Z_OK) {
        return no_memory(request);
    }
    request->inflate->open = true;
    return true;
}

/* Room for what is inflated next: in the body, or where that has max_body bytes already, one byte that must not be
 * needed. */
static bool make_room(ab_request *request, uint8_t *beyond)
{
    size_t max = request->settings->max_body;
    z_stream *stream = &request->inflate->stream;
    if (request->size == max) {
        stream->next_out = beyond;
        stream->avail_out = 1;
        return true;
    }
    if (request->size == request->capacity) {
        size_t capacity = request->capacity == 0 ? BODY_FIRST : request->capacity * 2;
        if (!reserve(request, capacity < max ? capacity : max)) {
            return false;
        }
    }
    stream->next_out = (uint8_t *)request->body + request->size;
    stream->avail_out = (uInt)(request->capacity - request->size);
    return true;
}

/* One call of inflate(). */
static bool inflate_some(ab_request *request)
{
    ab_inflate *in = request->inflate;
    uint8_t beyond = 0;
    if (in->ended && inflateReset(&in->stream) != Z_OK) {
        return no_memory(request);
    }
    in->ended = false;
    if (!make_room(request, &beyond)) {
        return false;
    }
    uInt room = in->stream.avail_out;
    int code = inflate(&in->stream, Z_NO_FLUSH);
    size_t made = room - in->stream.avail_out;
    if (in->stream.next_out == &beyond + 1) {
        ab_http_refuse(request, MHD_HTTP_CONTENT_TOO_LARGE,
                       "the body, inflated, is larger than max_body: send smaller batches or raise it");
        return false;
    }
    request->size += made;
    if (code == Z_MEM_ERROR) {
        return no_memory(request);
    }
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
        ab_http_refuse(request, MHD_HTTP_BAD_REQUEST, "the body is not what gzip makes");
        return false;
    }
    in->ended = code == Z_STREAM_END;
    return true;
}

static bool inflate_piece(ab_request *request, const char *data, size_t size)
{
    ab_inflate *in = request->inflate;
    if (!in->open && !open_inflate(request)) {
        return false;
    }
    in->stream.next_in = (uint8_t *)(uintptr_t)data;
    in->stream.avail_in = (uInt)size;
    do { /* also once the input is used up: more may be ready to come out */
        if (!inflate_some(request)) {
            return false;
        }
    } while (in->stream.avail_in > 0 || (in->stream.avail_out == 0 && !in->ended));
    return true;
}

/* Slower than any link in use, and for longer than an idle connection may last. */
static bool is_too_slow(const ab_request *request)
{
    uint64_t seconds = (ab_http_now_us() - request->begun_us) / 1000000;
    return seconds > request->settings->idle_timeout_s + request->received / SLOWEST;
}

enum MHD_Result ab_body_take(ab_request *request, const char *data, size_t size)
{
    request->received += size;
    atomic_fetch_add_explicit(&request->http->counters.received_bytes, size, memory_order_relaxed);
    if (is_too_slow(request)) {
        return MHD_NO;
    }
    if (request->refusal != 0) {
        return request->received <= AB_BODY_DISCARD_MAX ? MHD_YES : MHD_NO;
    }
    if (request->inflate != NULL) {
        inflate_piece(request, data, size);
    } else {
        append(request, data, size);
    }
    if (request->refusal != 0) {
        ab_body_drop(request);
    }
    return MHD_YES;
}

void ab_body_end(ab_request *request)
{
    if (request->inflate != NULL && request->refusal == 0 && request->received > 0 &&
        !request->inflate->ended) {
        ab_http_refuse(request, MHD_HTTP_BAD_REQUEST, "the gzip stream ends too early");
    }
    if (request->refusal != 0) {
        ab_body_drop(request);
    }
    close_inflate(request);
    atomic_fetch_add_explicit(&request->http->counters.body_bytes, request->size, memory_order_relaxed);
}
