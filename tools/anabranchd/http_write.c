/* SPDX-License-Identifier: Apache-2.0 */
/* POST /write: a body of line protocol becomes payloads by group, one ab_write_many() per group, and an answer when
 * all groups' writes hold. libmicrohttpd's threads; on_written() on the node's completion thread. */
#include "tools/anabranchd/http_internal.h"
#include "tools/anabranchd/pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* More malformed lines than this are not told apart any more. */
#define ERRORS_MAX 100u
/* Where the groups touched would need more, the header is left out: a client that wants it sends smaller batches. */
#define WRITES_HEADER_MAX (8u * 1024)
#define WRITE_TEXT_MAX 128u

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int note_error(json_t *errors, const ab_lp_error *error)
{
    json_t *item = json_pack("{s:I,s:I,s:s}", "line", (json_int_t)error->line, "column",
                             (json_int_t)error->column, "error", error->reason);
    return json_array_append_new(errors, item) == 0 ? AB_OK : AB_ENOMEM;
}

/* Packs all lines; malformed ones go to `errors`. @return AB_OK, AB_ENOMEM */
static int pack_body(ab_request *request, ab_lp_parser *parser, int64_t unit, ab_pack *packs, json_t *errors)
{
    const ab_http_options *options = request->http->options;
    ab_lp_line line;
    ab_lp_error error;
    ab_lp_begin(parser, request->body, request->size, unit, now_ns());
    for (;;) {
        int code = ab_lp_next(parser, &line, &error);
        if (code == AB_ENOTFOUND || json_array_size(errors) == ERRORS_MAX) {
            return AB_OK;
        }
        if (code == AB_OK && json_array_size(errors) == 0) {
            uint64_t hash = XXH3_64bits(line.series.data, line.series.size);
            code = ab_pack_add(&packs[hash % options->shard_count], &line, options->payload_max);
            if (code == AB_ETOOBIG) {
                error = (ab_lp_error){ab_lp_line_number(parser), 1, "line larger than payload_max"};
            }
        }
        if (code == AB_EINVAL || code == AB_ETOOBIG) {
            code = note_error(errors, &error);
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

/* Hands the packs to their groups. The connection is suspended. */
static void submit(ab_request *request, ab_pack *packs)
{
    const ab_http_options *options = request->http->options;
    ab_write_options how = {.level = options->settings->write_level,
                            .timeout_ms = (uint32_t)options->settings->timeout_ms};
    for (size_t i = 0; i < options->shard_count; i++) {
        ab_part *part = &request->parts[i];
        if (packs[i].size == 0) {
            continue;
        }
        part->asked = true;
        part->code = ab_pack_finish(&packs[i]);
        if (part->code == AB_OK) {
            ab_http_hold(request);
            int code = ab_write_many(options->shards[i].group, packs[i].payloads, packs[i].count, &how,
                                     on_written, part);
            if (code != AB_OK) {
                part->code = code;
                ab_http_release(request);
            }
        }
        ab_pack_free(&packs[i]);
    }
}

/* What was written where, so that a client can tell which write wins: group:node.epoch:first-last:hlc, ... */
static void add_writes(const ab_request *request, struct MHD_Response *response)
{
    const ab_http_options *options = request->http->options;
    char *text = malloc(WRITES_HEADER_MAX);
    size_t size = 0;
    for (size_t i = 0; text != NULL && i < options->shard_count; i++) {
        const ab_part *part = &request->parts[i];
        if (!part->asked) {
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

/* All groups have answered. Where one failed the client should repeat all: writing a point again does no harm. */
static enum MHD_Result answer(ab_request *request)
{
    for (size_t i = 0; i < request->http->options->shard_count && request->parts != NULL; i++) {
        if (request->parts[i].asked && request->parts[i].code != AB_OK) {
            return ab_http_failure(request, request->parts[i].code);
        }
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response == NULL) {
        return MHD_NO;
    }
    if (request->parts != NULL) {
        add_writes(request, response);
    }
    enum MHD_Result result = MHD_queue_response(request->connection, MHD_HTTP_NO_CONTENT, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_malformed(ab_request *request, json_t *errors)
{
    bool more = json_array_size(errors) == ERRORS_MAX;
    return ab_http_json(request, MHD_HTTP_BAD_REQUEST,
                        json_pack("{s:s,s:s,s:b,s:O}", "code", "malformed", "message",
                                  "nothing of this body was stored", "more", more, "errors", errors),
                        false);
}

static size_t packed_size(const ab_pack *packs, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += packs[i].size;
    }
    return size;
}

static enum MHD_Result write_lines(ab_request *request, int64_t unit, ab_lp_parser *parser, ab_pack *packs,
                                   json_t *errors)
{
    int code = pack_body(request, parser, unit, packs, errors);
    if (code != AB_OK) {
        return ab_http_failure(request, code);
    }
    if (json_array_size(errors) > 0) {
        return answer_malformed(request, errors);
    }
    if (packed_size(packs, request->http->options->shard_count) == 0) {
        return answer(request);
    }
    code = ab_http_suspend(request);
    if (code != AB_OK) {
        return ab_http_failure(request, code);
    }
    submit(request, packs);
    ab_http_release(request);
    return MHD_YES;
}

enum MHD_Result ab_http_write(ab_request *request)
{
    if (request->waiting) {
        return answer(request);
    }
    const char *precision =
        MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "precision");
    int64_t unit = precision != NULL ? ab_lp_unit(precision) : 1;
    if (unit == 0) {
        return ab_http_error(request, MHD_HTTP_BAD_REQUEST, "invalid",
                             "precision is one of ns, n, us, u, ms, s, m, h");
    }
    size_t count = request->http->options->shard_count;
    ab_lp_parser *parser = ab_lp_new();
    ab_pack *packs = calloc(count, sizeof *packs);
    json_t *errors = json_array();
    enum MHD_Result result = MHD_NO;
    if (parser != NULL && packs != NULL && errors != NULL) {
        result = write_lines(request, unit, parser, packs, errors);
    } else {
        result = ab_http_failure(request, AB_ENOMEM);
    }
    for (size_t i = 0; packs != NULL && i < count; i++) {
        ab_pack_free(&packs[i]);
    }
    free(packs);
    json_decref(errors);
    ab_lp_free(parser);
    return result;
}
