/* SPDX-License-Identifier: Apache-2.0 */
/* POST /delete and /api/v2/delete: one entry in each group, because series that a predicate selects may be in any of
 * them. libmicrohttpd's threads. */
#include "tools/anabranchd/http_internal.h"
#include "tools/anabranchd/pack.h"

#include <stdlib.h>

/* Half a KB of memory each, and each new one is held against all. */
#define TOMBSTONES_MAX 50000u

static enum MHD_Result answer(ab_request *request)
{
    int code = ab_http_first_failure(request);
    if (code != AB_OK) {
        return ab_http_failure(request, code);
    }
    atomic_fetch_add_explicit(&request->http->counters.deletes, 1, memory_order_relaxed);
    struct MHD_Response *response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    ab_http_add_writes(request, response);
    return ab_http_queue(request, MHD_HTTP_NO_CONTENT, response);
}

static bool has_room(const ab_http_options *options)
{
    for (size_t i = 0; i < options->shard_count; i++) {
        ab_store_summary summary;
        ab_store_summarize(options->shards[i].store, &summary);
        if (summary.tombstones >= TOMBSTONES_MAX) {
            return false;
        }
    }
    return true;
}

static enum MHD_Result submit(ab_request *request, const ab_selection *selection)
{
    const ab_http_options *options = request->http->options;
    char *payload = NULL;
    size_t size = 0;
    if (!has_room(options)) {
        return ab_http_error(
            request, MHD_HTTP_UNPROCESSABLE_CONTENT,
            "too many deletes are kept: a wider one takes the place of all it covers, and they go "
            "delete_grace_s after all nodes were there");
    }
    int code = ab_pack_delete(selection, &payload, &size);
    code = code == AB_OK ? ab_http_suspend(request) : code;
    if (code != AB_OK) {
        free(payload);
        return ab_http_failure(request, code);
    }
    for (size_t i = 0; i < options->shard_count; i++) {
        ab_bytes one = {payload, size};
        request->parts[i].asked = true;
        ab_http_write_part(request, i, &one, 1);
    }
    free(payload);
    ab_http_release(request);
    return MHD_YES;
}

static enum MHD_Result run(ab_request *request, int (*select)(ab_request *, ab_selector *))
{
    ab_selector selector;
    if (request->waiting) {
        return answer(request);
    }
    ab_selector_init(&selector);
    int code = select(request, &selector);
    enum MHD_Result result = MHD_NO;
    if (code == AB_EINVAL) {
        result = ab_http_error(request, MHD_HTTP_BAD_REQUEST, selector.reason);
    } else if (code != AB_OK) {
        result = ab_http_failure(request, code);
    } else {
        result = submit(request, &selector.selection);
    }
    ab_selector_free(&selector);
    return result;
}

static int select_arguments(ab_request *request, ab_selector *selector)
{
    int code = ab_http_select(request, selector);
    if (code == AB_OK && ab_selector_is_empty(selector)) {
        selector->reason = "name what to delete: measurement, tag, predicate, start, stop";
        return AB_EINVAL;
    }
    if (code == AB_OK && request->size > 0) {
        selector->reason = "no body here: the parameters are in the URL";
        return AB_EINVAL;
    }
    return code;
}

static int select_json(ab_request *request, ab_selector *selector)
{
    ab_selector arguments; /* in the URL there may be what is ignored, nothing else */
    ab_selector_init(&arguments);
    int code = ab_http_select(request, &arguments);
    if (code == AB_OK && !ab_selector_is_empty(&arguments)) {
        arguments.reason = "start, stop and predicate belong into the body";
        code = AB_EINVAL;
    }
    selector->reason = arguments.reason;
    ab_selector_free(&arguments);
    return code == AB_OK ? ab_http_select_json(request, selector) : code;
}

enum MHD_Result ab_http_delete(ab_request *request)
{
    return run(request, select_arguments);
}

enum MHD_Result ab_http_delete_v2(ab_request *request)
{
    return run(request, select_json);
}
