/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch status`: nodes, their groups, and what is wrong with them. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const node_heads[] = {">NODE",   "DATA",        "STATE", ">?UPTIME", ">PEERS",
                                         ">GROUPS", "?DURABILITY", ">LOG",  ">?MEMORY"};
static const char *const group_heads[] = {">NODE",  ">GROUP",  "NAME",   "?BACKEND", "?WRITES TO",
                                          ">INDEX", ">QUEUED", ">APPLY", ">BEHIND",  ">QUARANTINED"};
static const char *const stream_heads[] = {">NODE",   ">GROUP",   "STREAM",   ">?TRIMMED TO",
                                           ">LOGGED", ">DURABLE", ">APPLIED", "STATE"};
#define COLUMNS(heads) (sizeof(heads) / sizeof(heads)[0])

static void node_of(table *t, const json_t *node)
{
    uint64_t id = row_uint(node, "node_id");
    if (id == 0) {
        table_text(t, "");
    } else {
        table_format(t, "%" PRIu64, id);
    }
}

static void used_of(table *t, const json_t *node, const char *used, const char *limit)
{
    char a[32];
    char b[32];
    text_bytes(row_uint(node, used), a, sizeof a);
    text_bytes(row_uint(node, limit), b, sizeof b);
    if (row_uint(node, limit) > 0) {
        table_format(t, "%s of %s", a, b);
    } else {
        table_text(t, json_object_get(node, used) != NULL ? a : "");
    }
}

static void add_node(table *t, const json_t *answer)
{
    const json_t *node = json_object_get(answer, "node");
    bool running = row_bool(answer, "running");
    node_of(t, node);
    table_text(t, row_text(answer, "data"));
    table_text(t, node == NULL ? "unreadable" : running ? "running" : "stopped");
    table_style(t, running && node != NULL ? STYLE_GOOD : STYLE_BAD);
    if (running && node != NULL) {
        table_duration(t, row_uint(node, "uptime_ms"));
        table_format(t, "%" PRIu64 "/%" PRIu64, row_uint(node, "peers_up"), row_uint(node, "peers"));
        table_count(t, row_uint(node, "groups"));
    } else {
        table_text(t, "");
        table_text(t, "");
        table_format(t, "%zu", json_array_size(json_object_get(answer, "groups")));
    }
    table_text(t, row_text(node, "durability"));
    used_of(t, node, "log_bytes", "log_max_bytes");
    used_of(t, node, "memory_bytes", "memory_budget");
}

/* A count; what a salvaged group cannot tell is left open. */
static void add_known(table *t, const json_t *row, const char *key)
{
    if (json_object_get(row, key) != NULL) {
        table_count(t, row_uint(row, key));
    } else {
        table_text(t, "");
    }
}

static void add_group(table *t, const json_t *node, const json_t *group)
{
    bool live = json_object_get(group, "members") != NULL;
    node_of(t, node);
    table_format(t, "%" PRIu64, row_uint(group, "group"));
    table_text(t, row_text(group, "name"));
    table_text(t, row_text(group, "backend"));
    table_text(t, strcmp(row_text(group, "stream"), "0.0") == 0 ? "" : row_text(group, "stream"));
    add_known(t, group, "last_index");
    if (live) {
        table_count(t, row_uint(group, "queued_entries"));
        table_count(t, row_uint(group, "apply_blocks"));
        table_count(t, row_uint(group, "lag_entries"));
    } else {
        table_text(t, "");
        table_text(t, "");
        table_text(t, "");
    }
    add_known(t, group, "quarantined");
    table_style(t, row_uint(group, "quarantined") > 0 ? STYLE_BAD : STYLE_PLAIN);
}

static void add_stream(table *t, const json_t *node, const json_t *stream)
{
    bool live = json_object_get(stream, "durable") != NULL;
    node_of(t, node);
    table_format(t, "%" PRIu64, row_uint(stream, "group"));
    table_text(t, row_text(stream, "stream"));
    table_count(t, row_uint(stream, "base"));
    table_count(t, row_uint(stream, "logged"));
    if (live) {
        table_count(t, row_uint(stream, "durable"));
        table_count(t, row_uint(stream, "applied"));
    } else {
        table_text(t, "");
        table_text(t, "");
    }
    table_text(t, row_good(stream, "code") ? "" : row_text(stream, "code"));
}

static void group_problems(report *r, const char *name, const json_t *group)
{
    uint64_t id = row_uint(group, "group");
    const char *title = row_text(group, "name");
    if (!row_good(group, "write_code")) {
        report_problem(r, "%s: group %" PRIu64 " (%s) takes no writes: %s", name, id, title,
                       code_words(row_text(group, "write_code")));
    }
    if (!row_good(group, "apply_code")) {
        report_problem(r, "%s: group %" PRIu64 " (%s): apply is being retried: %s", name, id, title,
                       code_words(row_text(group, "apply_code")));
    }
    if (row_uint(group, "quarantined") > 0) {
        report_problem(r, "%s: group %" PRIu64 " (%s): entries in quarantine: %" PRIu64, name, id, title,
                       row_uint(group, "quarantined"));
    }
    if (!row_good(group, "bad_code")) {
        report_problem(r,
                       "%s: group %" PRIu64 " (%s): bad streams: %" PRIu64 " here, %" PRIu64
                       " at peers: %s (anabranch "
                       "peers, anabranch status --streams)",
                       name, id, title, row_uint(group, "streams_bad"), row_uint(group, "syncs_bad"),
                       code_words(row_text(group, "bad_code")));
    }
}

void judge_status(report *r, const json_t *answer, const options *o)
{
    (void)o;
    const json_t *node = json_object_get(answer, "node");
    char name[512];
    size_t i;
    json_t *row;
    report_name(answer, name, sizeof name);
    if (!row_good(answer, "code")) {
        report_problem(r, "%s", row_text(answer, "message"));
        return;
    }
    if (!row_bool(answer, "running")) {
        report_problem(r, "%s: is not running", name);
    }
    if (!row_good(node, "log_code")) {
        report_problem(r, "%s: its log takes no writes: %s", name, code_words(row_text(node, "log_code")));
    }
    json_array_foreach(json_object_get(answer, "links"), i, row)
    {
        if (!row_bool(row, "up")) {
            report_problem(r, "%s: link to node %" PRIu64 " is down%s%s", name, row_uint(row, "peer"),
                           row_text(row, "last_error")[0] != '\0' ? ": " : "", row_text(row, "last_error"));
        }
    }
    json_array_foreach(json_object_get(answer, "groups"), i, row)
    {
        group_problems(r, name, row);
    }
}

typedef void (*add_fn)(table *t, const json_t *node, const json_t *row);

/* A table of the rows in list `place` of all answers; nothing if there are none. */
static void print_rows(const report *r, const char *const *heads, size_t columns, const char *place,
                       add_fn add)
{
    table *t = table_new(heads, columns);
    size_t i, k;
    json_t *answer, *row;
    json_array_foreach(r->nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, place), k, row)
        {
            add(t, json_object_get(answer, "node"), row);
        }
    }
    if (t != NULL && table_rows(t) > 0) {
        putchar('\n');
        table_print(t, stdout);
    }
    table_free(t);
}

static void print_status(const report *r, const options *o)
{
    (void)o;
    table *t = table_new(node_heads, COLUMNS(node_heads));
    size_t i;
    json_t *answer;
    json_array_foreach(r->nodes, i, answer)
    {
        add_node(t, answer);
    }
    table_print(t, stdout);
    table_free(t);
    print_rows(r, group_heads, COLUMNS(group_heads), "groups", add_group);
    print_rows(r, stream_heads, COLUMNS(stream_heads), "streams", add_stream);
    putchar('\n');
}

static void ask(const options *o, query *q)
{
    q->detail = o->streams;
}

extern const command command_status; /* below */

static int run(int argc, char **argv)
{
    static const inquiry asked = {
        .command = &command_status,
        .ask = ask,
        .judge = judge_status,
        .print = print_status,
        .fine = "No problems.",
    };
    return inquire(&asked, argc, argv);
}

const command command_status = {
    .name = "status",
    .summary = "nodes and their groups, and what is wrong with them",
    .run = run,
    .options = OPTION_NODES | OPTION_GROUP | OPTION_STREAMS | OPTION_WATCH | OPTION_JSON,
    .usage = "--data DIR... [OPTION...]",
    .about = "Columns: APPLY blocks logged and not yet given to the state machine; BEHIND entries that the "
             "slowest\n"
             "peer has not confirmed; QUARANTINED entries that the state machine refused for good.\n",
    .wrong = "a node is not running or cannot be asked, its log takes no writes, a link is down, a\n"
             "group refuses writes, its state machine fails, or it has quarantined, damaged or diverged data",
    .examples = "anabranch status --data /var/lib/anabranch\n"
                "anabranch status --data n1 --data n2 --data n3\n"
                "anabranch status --config /etc/anabranch/node.yaml --json | jq .problems\n",
};
