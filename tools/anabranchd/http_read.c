/* SPDX-License-Identifier: Apache-2.0 */
/* GET /health, /ready, /ping and /digest, and what all reads of points do first. libmicrohttpd's threads; on_flushed() on apply threads. */
#include "tools/anabranchd/http_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum MHD_Result ab_http_health(ab_request *request)
{
    ab_node_status status;
    ab_node_get_status(request->http->options->node, &status);
    bool fine = status.log_code == AB_OK;
    json_t *body =
        json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I}", "name", "anabranchd", "status", fine ? "pass" : "fail",
                  "message", fine ? "ready for writes" : ab_strerror(status.log_code), "version",
                  ab_version(), "node_id", (json_int_t)status.node_id, "groups", (json_int_t)status.groups,
                  "peers", (json_int_t)status.peers, "peers_up", (json_int_t)status.peers_up);
    return ab_http_json(request, fine ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, body);
}

/* Why writes of some series would be refused now; AB_OK if none. *name: the group, NULL: all of them. */
static int refuses_writes(const ab_http_options *options, const char **name)
{
    ab_node_status node;
    ab_node_get_status(options->node, &node);
    *name = NULL;
    for (size_t i = 0; i < options->shard_count && node.log_code == AB_OK; i++) {
        ab_group_status group;
        ab_group_get_status(options->shards[i].group, &group);
        if (group.write_code != AB_OK) {
            *name = options->shards[i].name;
            return group.write_code;
        }
    }
    return node.log_code;
}

enum MHD_Result ab_http_ready(ab_request *request)
{
    const char *group = NULL;
    int code = refuses_writes(request->http->options, &group);
    if (code != AB_OK) {
        char message[256];
        snprintf(message, sizeof message, "%s%s%s: %s", group != NULL ? "group " : "the log",
                 group != NULL ? group : "", " takes no writes", ab_strerror(code));
        return ab_http_unavailable(request, code, message);
    }
    struct tm utc;
    char started[32];
    gmtime_r(&request->http->started, &utc);
    strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return ab_http_json(request, MHD_HTTP_OK, json_pack("{s:s,s:s}", "status", "ready", "started", started));
}

/* Clients of InfluxDB 1 look at the version to know what they may say: line protocol as 1.8 has it. */
#define INFLUXDB_VERSION "1.8.0"

/* With `verbose` the answer has a body, for load balancers that take nothing but 200, as InfluxDB 1 does it. */
enum MHD_Result ab_http_ping(ab_request *request)
{
    const char *verbose = MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "verbose");
    bool body =
        verbose != NULL && verbose[0] != '\0' && strcmp(verbose, "0") != 0 && strcmp(verbose, "false") != 0;
    struct MHD_Response *response =
        body ? ab_http_json_response(json_pack("{s:s}", "version", INFLUXDB_VERSION))
             : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response != NULL) {
        MHD_add_response_header(response, "X-Influxdb-Version", INFLUXDB_VERSION);
        MHD_add_response_header(response, "X-Influxdb-Build", "anabranchd");
        MHD_add_response_header(response, "X-Anabranch-Version", ab_version());
    }
    return ab_http_queue(request, body ? MHD_HTTP_OK : MHD_HTTP_NO_CONTENT, response);
}

static void on_flushed(void *arg, const ab_read_result *result)
{
    ab_part *part = arg;
    part->code = result->code;
    if (result->code == AB_OK && result->reply_size == sizeof part->summary) {
        memcpy(&part->summary, result->reply, sizeof part->summary);
    }
    ab_http_release(part->request);
}

/* Streams of this node and up to where they are logged. */
typedef struct own_writes {
    uint32_t node;
    ab_token *token;
    int code;
} own_writes;

static bool on_stream(void *arg, const ab_stream_status *status)
{
    own_writes *own = arg;
    ab_mark mark = {status->stream, status->logged};
    if (status->stream.node == own->node && status->logged > 0) {
        own->code = ab_token_merge(own->token, (ab_frontier){&mark, 1});
    }
    return own->code == AB_OK;
}

/* Asks a group to make what it has applied visible, and to wait before that for what is logged of this node's own
 * writes: an acknowledged write shows in what is read after it. */
static int ask(const ab_http_options *options, ab_group *group, ab_part *part)
{
    own_writes own = {ab_node_id(options->node), ab_token_new(), AB_OK};
    if (own.token == NULL) {
        return AB_ENOMEM;
    }
    ab_group_streams(group, on_stream, &own);
    int code = own.code;
    if (code == AB_OK) {
        ab_read_options how = {.level = AB_READ_SESSION,
                               .token = own.token,
                               .timeout_ms = (uint32_t)part->request->settings->timeout_ms};
        code = ab_query(group, AB_SHARD_SUMMARY, strlen(AB_SHARD_SUMMARY), &how, on_flushed, part);
    }
    ab_token_free(own.token);
    return code;
}

enum MHD_Result ab_http_ask_all(ab_request *request)
{
    const ab_http_options *options = request->http->options;
    int code = ab_http_suspend(request);
    if (code != AB_OK) {
        return ab_http_failure(request, code);
    }
    for (size_t i = 0; i < options->shard_count; i++) {
        ab_part *part = &request->parts[i];
        ab_http_hold(request);
        code = ask(options, options->shards[i].group, part);
        if (code != AB_OK) {
            part->code = code;
            ab_http_release(request);
        }
    }
    ab_http_release(request);
    return MHD_YES;
}

static json_t *describe_shard(const ab_shard *shard, const ab_store_summary *summary)
{
    char digest[2 * sizeof summary->digest.bytes + 1];
    for (size_t i = 0; i < sizeof summary->digest.bytes; i++) {
        snprintf(digest + 2 * i, 3, "%02x", summary->digest.bytes[i]);
    }
    return json_pack("{s:I,s:s,s:s,s:I,s:I,s:I}", "id", (json_int_t)shard->id, "name", shard->name, "digest",
                     digest, "points", (json_int_t)summary->points, "columns", (json_int_t)summary->columns,
                     "tombstones", (json_int_t)summary->tombstones);
}

enum MHD_Result ab_http_digest(ab_request *request)
{
    if (!request->waiting) {
        return ab_http_ask_all(request);
    }
    int code = ab_http_first_failure(request);
    if (code != AB_OK) {
        return ab_http_failure(request, code);
    }
    const ab_http_options *options = request->http->options;
    json_t *groups = json_array();
    json_int_t points = 0;
    for (size_t i = 0; i < options->shard_count; i++) {
        json_array_append_new(groups, describe_shard(&options->shards[i], &request->parts[i].summary));
        points += (json_int_t)request->parts[i].summary.points;
    }
    if (json_array_size(groups) != options->shard_count) {
        json_decref(groups);
        return ab_http_failure(request, AB_ENOMEM);
    }
    return ab_http_json(request, MHD_HTTP_OK, json_pack("{s:I,s:o}", "points", points, "groups", groups));
}
