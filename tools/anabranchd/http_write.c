/* SPDX-License-Identifier: Apache-2.0 */
/* POST /write and /api/v2/write: a body of line protocol becomes payloads by group, one ab_write_many() per group, and
 * an answer when all groups' writes hold. libmicrohttpd's threads; on_written() on the node's completion thread. */
#include "tools/anabranchd/http_internal.h"
#include "tools/anabranchd/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* More malformed lines than this are counted, but not told apart. */
#define ERRORS_MAX 100u

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int note_error(ab_request *request, const ab_lp_error *error)
{
    request->malformed++;
    if (request->malformed > ERRORS_MAX) {
        return AB_OK;
    }
    json_t *item = json_pack("{s:I,s:I,s:s}", "line", (json_int_t)error->line, "column",
                             (json_int_t)error->column, "error", error->reason);
    return json_array_append_new(request->errors, item) == 0 ? AB_OK : AB_ENOMEM;
}

/* Packs the well-formed lines; malformed ones are noted. @return AB_OK, AB_ENOMEM */
static int pack_body(ab_request *request, ab_lp_parser *parser, int64_t unit, ab_pack *packs)
{
    const ab_http_options *options = request->http->options;
    ab_lp_line line;
    ab_lp_error error;
    ab_lp_begin(parser, request->body, request->size, unit, now_ns());
    for (;;) {
        int code = ab_lp_next(parser, &line, &error);
        if (code == AB_ENOTFOUND) {
            return AB_OK;
        }
        if (code == AB_OK) {
            uint64_t hash = XXH3_64bits(line.series.data, line.series.size);
            code = ab_pack_add(&packs[hash % options->shard_count], &line, options->payload_max);
        }
        if (code == AB_OK) {
            request->lines++;
            request->points += line.field_count;
        } else if (code == AB_ETOOBIG) {
            error = (ab_lp_error){ab_lp_line_number(parser), 1, "line larger than payload_max"};
            code = note_error(request, &error);
        } else if (code == AB_EINVAL) {
            code = note_error(request, &error);
        }
        if (code != AB_OK) {
            return code;
        }
    }
}

static void on_written(void *arg, const ab_write_result *result)
{
    ab_part *part = arg;
    part->code = result->code;
    part->stream = result->stream;
    part->first = result->first;
    part->last = result->last;
    part->hlc = result->hlc;
    ab_http_release(part->request);
}

void ab_http_write_part(ab_request *request, size_t i, const ab_bytes *payloads, size_t count)
{
    const ab_http_options *options = request->http->options;
    ab_part *part = &request->parts[i];
    ab_write_options how = {.level = request->settings->write_level,
                            .timeout_ms = (uint32_t)request->settings->timeout_ms};
    ab_http_hold(request);
    int code = ab_write_many(options->shards[i].group, payloads, count, &how, on_written, part);
    if (code != AB_OK) {
        part->code = code;
        ab_http_release(request);
    }
}

/* Hands the packs to their groups. The connection is suspended. */
static void submit(ab_request *request, ab_pack *packs)
{
    for (size_t i = 0; i < request->http->options->shard_count; i++) {
        ab_part *part = &request->parts[i];
        if (packs[i].size == 0) {
            continue;
        }
        part->asked = true;
        part->code = ab_pack_finish(&packs[i]);
        if (part->code == AB_OK) {
            ab_http_write_part(request, i, packs[i].payloads, packs[i].count);
        }
        ab_pack_free(&packs[i]);
    }
}

static enum MHD_Result answer_malformed(ab_request *request)
{
    char message[256];
    const json_t *first = json_array_get(request->errors, 0);
    json_int_t line = json_integer_value(json_object_get(first, "line"));
    int size = request->lines == 0
                   ? snprintf(message, sizeof message, "unable to parse any line")
                   : snprintf(message, sizeof message,
                              "partial write: unable to parse %zu of %zu lines, the others are stored",
                              request->malformed, request->malformed + request->lines);
    snprintf(message + size, sizeof message - (size_t)size, "; line %lld, column %lld: %s", (long long)line,
             (long long)json_integer_value(json_object_get(first, "column")),
             json_string_value(json_object_get(first, "error")));
    json_t *body = ab_http_describe(request, MHD_HTTP_BAD_REQUEST, message);
    if (body != NULL &&
        (json_object_set_new(body, "line", json_integer(line)) != 0 ||
         json_object_set_new(body, "stored", json_integer((json_int_t)request->lines)) != 0 ||
         json_object_set_new(body, "malformed", json_integer((json_int_t)request->malformed)) != 0 ||
         json_object_set(body, "errors", request->errors) != 0)) {
        json_decref(body);
        body = NULL;
    }
    struct MHD_Response *response = ab_http_json_response(body);
    ab_http_add_writes(request, response);
    return ab_http_queue(request, MHD_HTTP_BAD_REQUEST, response);
}

/* All groups have answered. Where one failed the client should repeat all: writing a point again does no harm. */
static enum MHD_Result answer(ab_request *request)
{
    ab_http_counters *counters = &request->http->counters;
    int code = ab_http_first_failure(request);
    if (code != AB_OK) {
        return ab_http_failure(request, code);
    }
    atomic_fetch_add_explicit(&counters->lines_stored, request->lines, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->points_stored, request->points, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->lines_malformed, request->malformed, memory_order_relaxed);
    if (request->malformed > 0) {
        return answer_malformed(request);
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    ab_http_add_writes(request, response);
    return ab_http_queue(request, MHD_HTTP_NO_CONTENT, response);
}

static enum MHD_Result write_lines(ab_request *request, int64_t unit, ab_lp_parser *parser, ab_pack *packs)
{
    int code = pack_body(request, parser, unit, packs);
    ab_body_drop(request);
    if (code == AB_OK && request->lines == 0) {
        return answer(request);
    }
    code = code == AB_OK ? ab_http_suspend(request) : code;
    if (code != AB_OK) {
        return ab_http_failure(request, code);
    }
    submit(request, packs);
    ab_http_release(request);
    return MHD_YES;
}

static enum MHD_Result write_body(ab_request *request, int64_t unit)
{
    size_t count = request->http->options->shard_count;
    ab_lp_parser *parser = ab_lp_new();
    ab_pack *packs = calloc(count, sizeof *packs);
    enum MHD_Result result = MHD_NO;
    request->errors = json_array();
    request->complete_us = ab_http_now_us();
    if (parser != NULL && packs != NULL && request->errors != NULL) {
        result = write_lines(request, unit, parser, packs);
    } else {
        result = ab_http_failure(request, AB_ENOMEM);
    }
    for (size_t i = 0; packs != NULL && i < count; i++) {
        ab_pack_free(&packs[i]);
    }
    free(packs);
    ab_lp_free(parser);
    return result;
}

static const char *precision_of(const ab_request *request)
{
    const char *precision =
        MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "precision");
    return precision != NULL && precision[0] != '\0' ? precision : "ns";
}

enum MHD_Result ab_http_write(ab_request *request)
{
    if (request->waiting) {
        return answer(request);
    }
    int64_t unit = ab_lp_unit(precision_of(request));
    if (unit == 0) {
        return ab_http_error(request, MHD_HTTP_BAD_REQUEST, "precision is one of ns, n, us, u, ms, s, m, h");
    }
    return write_body(request, unit);
}

enum MHD_Result ab_http_write_v2(ab_request *request)
{
    if (request->waiting) {
        return answer(request);
    }
    const char *precision = precision_of(request);
    size_t size = strlen(precision);
    bool known = precision[size - 1] == 's' && ab_lp_unit(precision) != 0;
    if (!known) {
        return ab_http_error(request, MHD_HTTP_BAD_REQUEST, "precision is one of ns, us, ms, s");
    }
    return write_body(request, ab_lp_unit(precision));
}
