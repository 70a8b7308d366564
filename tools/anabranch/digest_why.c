/* SPDX-License-Identifier: Apache-2.0 */
/* Why a replica does not catch up, see digest_why.h. What comes first is nearest to the cause. Main thread. */
#include "tools/anabranch/digest_why.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool ask_all(report *to, const options *o, const char *what)
{
    query q = {.command = what, .group = o->group, .detail = true};
    if (!report_new(to, what)) {
        return false;
    }
    for (size_t i = 0; i < o->data_count; i++) {
        if (report_ask(to, o->data[i], &q, NULL, NULL) == NULL) {
            return false;
        }
    }
    return true;
}

bool reasons_ask(reasons *r, const options *o)
{
    reasons_free(r);
    r->asked = ask_all(&r->state, o, "status") && ask_all(&r->links, o, "peers");
    return r->asked;
}

void reasons_free(reasons *r)
{
    report_free(&r->state);
    report_free(&r->links);
    *r = (reasons){.asked = false};
}

static uint64_t node_id(const json_t *answer)
{
    return row_uint(json_object_get(answer, "node"), "node_id");
}

/* The row of a list whose `key` is `value` and, where it is given, whose stream is `stream`. */
static const json_t *find(const json_t *answer, const char *list, const char *key, uint64_t value,
                          const char *stream)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(answer, list), i, row)
    {
        if (row_uint(row, key) == value && (stream == NULL || strcmp(row_text(row, "stream"), stream) == 0)) {
            return row;
        }
    }
    return NULL;
}

/* The node itself: its state machine, its log, the stream as it has it. */
static bool own_fault(const json_t *answer, uint64_t group, const char *stream, char *text, size_t size)
{
    const json_t *node = json_object_get(answer, "node");
    const json_t *row = find(answer, "groups", "group", group, NULL);
    if (!row_good(row, "apply_code")) {
        snprintf(text, size, "its state machine fails: %s", code_words(row_text(row, "apply_code")));
        return true;
    }
    if (!row_good(node, "log_code")) {
        snprintf(text, size, "its log takes no writes: %s", code_words(row_text(node, "log_code")));
        return true;
    }
    row = stream != NULL ? find(answer, "streams", "group", group, stream) : NULL;
    if (!row_good(row, "code")) {
        snprintf(text, size, "it cannot go on with that stream: %s", code_words(row_text(row, "code")));
        return true;
    }
    return false;
}

/* What the others say of sending it the stream. */
static bool senders_fault(const reasons *r, uint64_t to, uint64_t group, const char *stream, char *text,
                          size_t size)
{
    size_t i, k;
    json_t *answer, *row;
    json_array_foreach(r->links.nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, "syncs"), k, row)
        {
            if (row_uint(row, "peer") == to && row_uint(row, "group") == group &&
                strcmp(row_text(row, "stream"), stream) == 0 && !row_good(row, "code")) {
                snprintf(text, size, "node %" PRIu64 " cannot send it: %s", node_id(answer),
                         code_words(row_text(row, "code")));
                return true;
            }
        }
    }
    return false;
}

/* Entries come from their origin: the link between the two, as either end sees it; the end that knows an error goes before. */
static bool link_fault(const reasons *r, size_t behind, uint64_t origin, char *text, size_t size)
{
    const json_t *answer = json_array_get(r->links.nodes, behind);
    uint64_t to = node_id(answer);
    const json_t *link = find(answer, "links", "peer", origin, NULL);
    if (link == NULL || row_bool(link, "up")) {
        return false;
    }
    size_t i;
    json_t *other;
    json_array_foreach(r->links.nodes, i, other)
    {
        const json_t *back = node_id(other) == origin ? find(other, "links", "peer", to, NULL) : NULL;
        if (row_text(link, "last_error")[0] == '\0' && back != NULL) {
            link = back;
        }
    }
    const char *error = row_text(link, "last_error");
    snprintf(text, size, "the link between it and node %" PRIu64 " is down%s%s", origin,
             error[0] != '\0' ? ": " : "", error);
    return true;
}

bool reasons_tell(const reasons *r, size_t node, uint64_t group, const char *stream, char *text, size_t size)
{
    if (!r->asked) {
        return false;
    }
    const json_t *state = json_array_get(r->state.nodes, node);
    if (own_fault(state, group, stream, text, size)) {
        return true;
    }
    if (stream == NULL) {
        return false;
    }
    uint64_t origin = strtoull(stream, NULL, 10);
    return senders_fault(r, node_id(state), group, stream, text, size) ||
           link_fault(r, node, origin, text, size);
}
