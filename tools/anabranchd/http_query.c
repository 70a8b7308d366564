/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters that select points, from the URL or from InfluxDB 2's JSON. What is not known is refused: a delete with a
 * misspelt bound must not take away everything. libmicrohttpd's threads. */
#include "tools/anabranchd/http_internal.h"

#include <inttypes.h>
#include <string.h>

typedef struct arguments {
    ab_selector *selector;
    int code;
} arguments;

static int take_tag(ab_selector *selector, const char *text)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL) {
        selector->reason = "tag is key=value";
        return AB_EINVAL;
    }
    return ab_selector_tag(selector, (ab_bytes){text, (size_t)(equals - text)},
                           (ab_bytes){equals + 1, strlen(equals + 1)});
}

static bool is_ignored(const char *name)
{
    static const char *const ignored[] = {"org", "orgID", "bucket", "bucketID", "db", "rp", "u", "p"};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        if (strcmp(name, ignored[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int take_argument(ab_selector *selector, const char *name, const char *text)
{
    if (strcmp(name, "measurement") == 0) {
        return ab_selector_measurement(selector, (ab_bytes){text, strlen(text)});
    }
    if (strcmp(name, "tag") == 0) {
        return take_tag(selector, text);
    }
    if (strcmp(name, "predicate") == 0) {
        return ab_selector_predicate(selector, text);
    }
    if (strcmp(name, "start") == 0) {
        return ab_selector_start(selector, text);
    }
    if (strcmp(name, "stop") == 0) {
        return ab_selector_stop(selector, text);
    }
    if (is_ignored(name)) {
        return AB_OK;
    }
    selector->reason = "unknown parameter: measurement, tag, predicate, start and stop are known";
    return AB_EINVAL;
}

static enum MHD_Result on_argument(void *arg, enum MHD_ValueKind kind, const char *name, const char *text)
{
    arguments *all = arg;
    (void)kind;
    all->code = take_argument(all->selector, name, text != NULL ? text : "");
    return all->code == AB_OK ? MHD_YES : MHD_NO;
}

int ab_http_select(ab_request *request, ab_selector *selector)
{
    arguments all = {selector, AB_OK};
    MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, on_argument, &all);
    return all.code;
}

static int take_time(ab_selector *selector, const char *name, const json_t *value)
{
    char number[24];
    const char *text = json_string_value(value);
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        text = number;
    }
    return take_argument(selector, name, text != NULL ? text : "");
}

int ab_http_select_json(const ab_request *request, ab_selector *selector)
{
    json_t *body =
        json_loadb(request->body != NULL ? request->body : "", request->size, JSON_REJECT_DUPLICATES, NULL);
    const char *name = NULL;
    json_t *value = NULL;
    int code = AB_OK;
    if (!json_is_object(body) || json_object_get(body, "start") == NULL ||
        json_object_get(body, "stop") == NULL) {
        json_decref(body);
        selector->reason = "the body must be JSON: {\"start\": time, \"stop\": time, \"predicate\": text}";
        return AB_EINVAL;
    }
    json_object_foreach(body, name, value)
    {
        if (code != AB_OK) {
            break;
        }
        if (strcmp(name, "start") == 0 || strcmp(name, "stop") == 0) {
            code = take_time(selector, name, value);
        } else if (strcmp(name, "predicate") == 0 && json_is_string(value)) {
            code = ab_selector_predicate(selector, json_string_value(value));
        } else {
            selector->reason = "unknown member of the body: start, stop and predicate (a text) are known";
            code = AB_EINVAL;
        }
    }
    json_decref(body);
    return code;
}
