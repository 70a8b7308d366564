/* SPDX-License-Identifier: Apache-2.0 */
/* State of the cluster as tables, see page_cluster.h. One page: one thread. */
#include "tools/anabranch/page_cluster.h"
#include "tools/anabranch/page.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Rows of a table. What is noteworthy comes first. */
#define ROWS_MAX 500u

static const char *const node_heads[] = {"Node",       "State", ">Uptime", ">Peers",    ">Groups",
                                         "Durability", ">Log",  ">Memory", ">Resident", "Directory"};
static const char *const peer_heads[] = {"Node",   "Peer",      "Link",          ">Behind",
                                         ">Bytes", ">Oldest",   "Catches up in", ">Queued",
                                         ">Sent",  ">Received", ">Silent",       "Last error"};
/* What matters first: a phone shows the first four or five. */
static const char *const group_heads[] = {"Node",    "Group",     "Name",         "State",
                                          ">Behind", ">Oldest",   ">Written",     ">Applied",
                                          ">Queued", ">To apply", ">Quarantined", "Backend"};
static const char *const stream_heads[] = {"Node",    "Group",    "Stream",   "State",
                                           ">Logged", ">Durable", ">Applied", ">From"};
#define COLUMNS(heads) (sizeof(heads) / sizeof(heads)[0])

void page_node_name(const history_node *node, char *text, size_t size)
{
    if (node->last.node_id != 0) {
        snprintf(text, size, "node %" PRIu32, node->last.node_id);
    } else {
        snprintf(text, size, "%s", node->data_dir);
    }
}

static void name_cell(page_table *t, const history_node *node)
{
    char name[256];
    page_node_name(node, name, sizeof name);
    page_text(t, name);
}

static void used_cell(page_table *t, const json_t *row, const char *used, const char *limit)
{
    char a[32];
    char b[32];
    char text[80];
    text_bytes(row_uint(row, used), a, sizeof a);
    text_bytes(row_uint(row, limit), b, sizeof b);
    snprintf(text, sizeof text, row_uint(row, limit) > 0 ? "%s of %s" : "%s", a, b);
    page_text(t, json_object_get(row, used) != NULL ? text : "");
}

static void node_row(page_table *t, const history_node *node)
{
    const json_t *answer = node->last.answer;
    const json_t *row = json_object_get(answer, "node");
    bool running = row_bool(answer, "running");
    char text[64];
    name_cell(t, node);
    if (row == NULL) {
        page_state(t, STYLE_BAD, "unreadable");
    } else if (!row_good(row, "log_code")) {
        page_state(t, STYLE_BAD, "takes no writes");
    } else {
        page_state(t, running ? STYLE_GOOD : STYLE_WARN, running ? "running" : "stopped");
    }
    if (running && row != NULL) {
        page_duration(t, row_uint(row, "uptime_ms"));
        snprintf(text, sizeof text, "%" PRIu64 " of %" PRIu64 " up", row_uint(row, "peers_up"),
                 row_uint(row, "peers"));
        page_text(t, text);
    } else {
        page_text(t, "");
        page_text(t, "");
    }
    page_count(t, node->last.group_count);
    page_text(t, row_text(row, "durability"));
    used_cell(t, row, "log_bytes", "log_max_bytes");
    used_cell(t, row, "memory_bytes", "memory_budget");
    if (node->last.figures[FIGURE_RESIDENT_BYTES] > 0) {
        page_bytes(t, (uint64_t)node->last.figures[FIGURE_RESIDENT_BYTES]);
    } else {
        page_text(t, "");
    }
    page_text(t, node->data_dir);
}

void page_nodes(const history *h, FILE *out)
{
    page_table t;
    page_section(out, "nodes", "Nodes");
    page_table_begin(&t, out, "State of each node; resident memory counts mapped pages of the log, too",
                     node_heads, COLUMNS(node_heads));
    for (size_t i = 0; i < h->node_count; i++) {
        node_row(&t, &h->nodes[i]);
    }
    page_table_end(&t);
    page_section_end(out);
}

static void peer_row(page_table *t, const history *h, size_t index, const json_t *link)
{
    const history_node *node = &h->nodes[index];
    uint32_t id = (uint32_t)row_uint(link, "peer");
    const peer_sample *peer = sample_peer(&node->last, id);
    char text[160];
    if (peer == NULL) {
        return;
    }
    name_cell(t, node);
    snprintf(text, sizeof text, "node %" PRIu32, id);
    page_text(t, text);
    page_state(t, peer->up ? STYLE_GOOD : STYLE_BAD, peer->up ? "up" : "down");
    page_count(t, peer->lag_entries);
    page_bytes(t, peer->lag_bytes);
    if (peer->lag_entries > 0) {
        page_duration(t, peer->lag_ms);
    } else {
        page_text(t, "");
    }
    sample_catch_up_text(peer->up, history_catch_up(h, index, id), text, sizeof text);
    page_state(t, strcmp(text, "falling behind") == 0 ? STYLE_WARN : STYLE_PLAIN,
               strcmp(text, "?") == 0 ? "not known" : text);
    page_bytes(t, peer->queued_bytes);
    page_bytes(t, peer->sent_bytes);
    page_bytes(t, peer->received_bytes);
    if (json_is_null(json_object_get(link, "silent_ms"))) {
        page_text(t, "never heard");
    } else {
        page_duration(t, row_uint(link, "silent_ms"));
    }
    page_text(t, peer->up ? "" : row_text(link, "last_error"));
}

void page_peers(const history *h, FILE *out)
{
    page_table t;
    size_t k;
    json_t *link;
    size_t links = 0;
    page_section(out, "peers", "Peers");
    for (size_t i = 0; i < h->node_count; i++) {
        links += json_array_size(json_object_get(h->nodes[i].last.answer, "links"));
    }
    if (links == 0) {
        page_note(out, "None that is known: only running nodes tell of their links.");
        page_section_end(out);
        return;
    }
    page_note(out, "Behind: entries, over all groups, that the peer has not confirmed as durable. Catches up "
                   "in: at the speed of the last seconds.");
    page_table_begin(&t, out, "Links between the nodes, and how far each peer is behind", peer_heads,
                     COLUMNS(peer_heads));
    for (size_t i = 0; i < h->node_count; i++) {
        json_array_foreach(json_object_get(h->nodes[i].last.answer, "links"), k, link)
        {
            peer_row(&t, h, i, link);
        }
    }
    page_table_end(&t);
    page_section_end(out);
}

static const char *group_state(const json_t *group)
{
    return !row_good(group, "write_code")   ? code_words(row_text(group, "write_code"))
           : !row_good(group, "bad_code")   ? code_words(row_text(group, "bad_code"))
           : !row_good(group, "apply_code") ? code_words(row_text(group, "apply_code"))
                                            : "";
}

static bool group_noteworthy(const json_t *group)
{
    return group_state(group)[0] != '\0' || row_uint(group, "quarantined") > 0;
}

/* A count that only a running node can tell. */
static void live_count(page_table *t, const json_t *group, const char *key)
{
    if (json_object_get(group, "members") != NULL) {
        page_count(t, row_uint(group, key));
    } else {
        page_text(t, "");
    }
}

static void group_row(page_table *t, const history_node *node, const json_t *group)
{
    bool live = json_object_get(group, "members") != NULL;
    const char *state = group_state(group);
    char text[32];
    name_cell(t, node);
    snprintf(text, sizeof text, "%" PRIu64, row_uint(group, "group"));
    page_text(t, text);
    page_text(t, row_text(group, "name"));
    page_state(t,
               state[0] != '\0' ? STYLE_BAD
               : live           ? STYLE_GOOD
                                : STYLE_PLAIN,
               state[0] != '\0' ? state
               : live           ? "good"
                                : "stopped");
    live_count(t, group, "lag_entries");
    if (row_uint(group, "lag_entries") > 0) {
        page_duration(t, row_uint(group, "lag_ms"));
    } else {
        page_text(t, "");
    }
    page_count(t, row_uint(group, "last_index"));
    live_count(t, group, "applied_entries");
    live_count(t, group, "queued_entries");
    live_count(t, group, "apply_blocks");
    page_count(t, row_uint(group, "quarantined"));
    page_text(t, row_text(group, "backend"));
}

static bool stream_noteworthy(const json_t *stream)
{
    bool live = json_object_get(stream, "durable") != NULL;
    return !row_good(stream, "code") || (live && row_uint(stream, "applied") < row_uint(stream, "logged"));
}

static void stream_row(page_table *t, const history_node *node, const json_t *stream)
{
    bool live = json_object_get(stream, "durable") != NULL;
    char text[32];
    name_cell(t, node);
    snprintf(text, sizeof text, "%" PRIu64, row_uint(stream, "group"));
    page_text(t, text);
    page_text(t, row_text(stream, "stream"));
    bool good = row_good(stream, "code");
    page_state(t, good ? STYLE_GOOD : STYLE_BAD, good ? "good" : code_words(row_text(stream, "code")));
    page_count(t, row_uint(stream, "logged"));
    if (live) {
        page_count(t, row_uint(stream, "durable"));
        page_count(t, row_uint(stream, "applied"));
    } else {
        page_text(t, "");
        page_text(t, "");
    }
    page_count(t, row_uint(stream, "base") + 1);
}

/* A kind of rows that there may be very many of. */
typedef struct many_rows {
    const char *place;
    bool (*noteworthy)(const json_t *row);
    void (*row)(page_table *t, const history_node *node, const json_t *row);
} many_rows;

/* The noteworthy ones first, then the others, until the table is full. */
static void rows_of(page_table *t, const history *h, const many_rows *many)
{
    size_t total = 0;
    size_t k;
    json_t *row;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < h->node_count; i++) {
            json_array_foreach(json_object_get(h->nodes[i].last.answer, many->place), k, row)
            {
                total += pass == 0;
                if (many->noteworthy(row) == (pass == 0) && t->rows < ROWS_MAX) {
                    many->row(t, &h->nodes[i], row);
                }
            }
        }
    }
    page_table_end(t);
    if (total > t->rows) {
        page_note(t->out, "The first %zu of %zu; what is noteworthy comes first.", t->rows, total);
    }
}

void page_groups(const history *h, FILE *out)
{
    static const many_rows groups = {"groups", group_noteworthy, group_row};
    page_table t;
    page_section(out, "groups", "Groups");
    page_table_begin(&t, out, "Groups on each node; counts are of entries, to apply of blocks", group_heads,
                     COLUMNS(group_heads));
    rows_of(&t, h, &groups);
    page_section_end(out);
}

void page_streams(const history *h, FILE *out)
{
    static const many_rows streams = {"streams", stream_noteworthy, stream_row};
    page_table t;
    page_section(out, "streams", "Streams");
    page_table_begin(&t, out, "The writes of each origin, as far as each node has them; indices",
                     stream_heads, COLUMNS(stream_heads));
    rows_of(&t, h, &streams);
    page_section_end(out);
}
