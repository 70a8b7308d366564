/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch peers`: the links of nodes to their peers, and how far the peers are behind. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const link_heads[] = {">NODE",      ">PEER",    "LINK",    "?ADDRESS", ">?SENT",
                                         ">?RECEIVED", ">?QUEUED", ">SILENT", ">BEHIND",  ">OLDEST"};
static const char *const sync_heads[] = {">NODE",       ">PEER",     ">GROUP",  "STREAM",
                                         ">?CONFIRMED", ">BEHIND",   ">?BYTES", ">OLDEST",
                                         ">?IN FLIGHT", ">?RETRIES", "STATE"};
#define COLUMNS(heads) (sizeof(heads) / sizeof(heads)[0])

/* What a peer has not confirmed, over all groups. */
typedef struct lag {
    uint64_t entries;
    uint64_t ms;
} lag;

static lag lag_of(const json_t *answer, uint64_t peer)
{
    lag sum = {0};
    size_t i;
    json_t *sync;
    json_array_foreach(json_object_get(answer, "syncs"), i, sync)
    {
        if (row_uint(sync, "peer") == peer) {
            uint64_t ms = row_uint(sync, "lag_ms");
            sum.entries += row_uint(sync, "lag_entries");
            sum.ms = ms > sum.ms ? ms : sum.ms;
        }
    }
    return sum;
}

static void add_link(table *t, const json_t *answer, const json_t *link)
{
    uint64_t peer = row_uint(link, "peer");
    bool up = row_bool(link, "up");
    lag sum = lag_of(answer, peer);
    table_format(t, "%" PRIu64, row_uint(json_object_get(answer, "node"), "node_id"));
    table_format(t, "%" PRIu64, peer);
    table_text(t, up ? "up" : "down");
    table_style(t, up ? STYLE_GOOD : STYLE_BAD);
    table_text(t, row_text(link, "address"));
    table_bytes(t, row_uint(link, "sent_bytes"));
    table_bytes(t, row_uint(link, "received_bytes"));
    table_bytes(t, row_uint(link, "queued_bytes"));
    if (json_is_null(json_object_get(link, "silent_ms"))) {
        table_text(t, "never heard");
    } else {
        table_duration(t, row_uint(link, "silent_ms"));
    }
    table_count(t, sum.entries);
    if (sum.entries > 0) {
        table_duration(t, sum.ms);
    } else {
        table_text(t, "");
    }
}

static void add_sync(table *t, const json_t *answer, const json_t *sync)
{
    table_format(t, "%" PRIu64, row_uint(json_object_get(answer, "node"), "node_id"));
    table_format(t, "%" PRIu64, row_uint(sync, "peer"));
    table_format(t, "%" PRIu64, row_uint(sync, "group"));
    table_text(t, row_text(sync, "stream"));
    table_count(t, row_uint(sync, "sync_index"));
    table_count(t, row_uint(sync, "lag_entries"));
    table_bytes(t, row_uint(sync, "lag_bytes"));
    table_duration(t, row_uint(sync, "lag_ms"));
    table_bytes(t, row_uint(sync, "in_flight_bytes"));
    table_count(t, row_uint(sync, "retries"));
    table_text(t, row_good(sync, "code") ? (row_bool(sync, "up") ? "" : "down") : row_text(sync, "code"));
}

static bool noteworthy(const json_t *sync)
{
    return !row_good(sync, "code") || row_uint(sync, "lag_entries") > 0;
}

void judge_peers(report *r, const json_t *answer, const options *o)
{
    (void)o;
    char name[512];
    size_t i;
    json_t *row;
    report_name(answer, name, sizeof name);
    if (!row_good(answer, "code")) {
        report_problem(r, "%s", row_text(answer, "message"));
        return;
    }
    json_array_foreach(json_object_get(answer, "links"), i, row)
    {
        const char *error = row_text(row, "last_error");
        if (!row_bool(row, "up")) {
            char wait[32];
            text_duration(row_uint(row, "retry_in_ms"), wait, sizeof wait);
            report_problem(
                r, "%s: link to node %" PRIu64 " is down%s%s; %" PRIu64 " attempts failed, next in %s", name,
                row_uint(row, "peer"), error[0] != '\0' ? ": " : "", error, row_uint(row, "failures"), wait);
        }
    }
    json_array_foreach(json_object_get(answer, "syncs"), i, row)
    {
        if (!row_good(row, "code")) {
            report_problem(r, "%s: group %" PRIu64 ", stream %s, at node %" PRIu64 ": %s", name,
                           row_uint(row, "group"), row_text(row, "stream"), row_uint(row, "peer"),
                           code_words(row_text(row, "code")));
        }
    }
}

static void print_peers(const report *r, const options *o)
{
    table *links = table_new(link_heads, COLUMNS(link_heads));
    table *syncs = table_new(sync_heads, COLUMNS(sync_heads));
    size_t i, k;
    json_t *answer, *row;
    json_array_foreach(r->nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, "links"), k, row)
        {
            add_link(links, answer, row);
        }
        json_array_foreach(json_object_get(answer, "syncs"), k, row)
        {
            if (o->all || noteworthy(row)) {
                add_sync(syncs, answer, row);
            }
        }
    }
    if (table_rows(links) > 0) {
        table_print(links, stdout);
        putchar('\n');
    }
    if (table_rows(syncs) > 0) {
        table_print(syncs, stdout);
        putchar('\n');
    }
    table_free(links);
    table_free(syncs);
}

extern const command command_peers; /* below */

static int run(int argc, char **argv)
{
    static const inquiry asked = {
        .command = &command_peers,
        .judge = judge_peers,
        .print = print_peers,
        .fine = "All links are up.",
    };
    return inquire(&asked, argc, argv);
}

const command command_peers = {
    .name = "peers",
    .summary = "links between the nodes, and how far each peer is behind",
    .run = run,
    .options = OPTION_NODES | OPTION_GROUP | OPTION_ALL | OPTION_WATCH | OPTION_JSON,
    .usage = "--data DIR... [OPTION...]",
    .about = "Columns: BEHIND entries that the peer has not confirmed as stored durably; OLDEST age of the "
             "oldest of\n"
             "them; SILENT time since the peer was last heard of.\n",
    .wrong = "a node is not running, a link is down, or a stream is diverged, damaged or trimmed",
    .examples = "anabranch peers --data n1 --data n2 --data n3\n"
                "anabranch peers --data n1 --group 3 --all\n",
};
