/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch groups`: what each group holds, on each node. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const heads[] = {">NODE", ">GROUP",   "NAME", "?BACKEND", ">?MEMBERS",
                                    "STATE", ">ENTRIES", ">LOG", ">BEHIND",  ">QUARANTINED"};

/* In one word, the worst first. */
static const char *state_of(const json_t *group, style *s)
{
    *s = STYLE_BAD;
    if (!row_good(group, "write_code")) {
        return "no writes";
    }
    if (!row_good(group, "bad_code")) {
        return "bad streams";
    }
    if (!row_good(group, "apply_code")) {
        return "apply fails";
    }
    if (row_bool(group, "salvaged")) {
        return "salvaged";
    }
    if (row_uint(group, "quarantined") > 0) {
        *s = STYLE_WARN;
        return "quarantine";
    }
    if (json_object_get(group, "members") == NULL) {
        *s = STYLE_PLAIN;
        return "stopped";
    }
    if (row_uint(group, "lag_entries") > 0 || row_uint(group, "apply_blocks") > 0) {
        *s = STYLE_PLAIN;
        return "busy";
    }
    *s = STYLE_GOOD;
    return "good";
}

static void add_group(table *t, const json_t *node, const json_t *group)
{
    style s;
    bool live = json_object_get(group, "members") != NULL;
    if (node != NULL) {
        table_format(t, "%" PRIu64, row_uint(node, "node_id"));
    } else {
        table_text(t, "");
    }
    table_format(t, "%" PRIu64, row_uint(group, "group"));
    table_text(t, row_text(group, "name"));
    table_text(t, row_text(group, "backend"));
    if (live) {
        table_count(t, row_uint(group, "members"));
    } else {
        table_text(t, "");
    }
    table_text(t, state_of(group, &s));
    table_style(t, s);
    table_count(t, row_uint(group, "entries"));
    table_bytes(t, row_uint(group, "log_bytes"));
    if (live) {
        table_count(t, row_uint(group, "lag_entries"));
    } else {
        table_text(t, "");
    }
    if (json_object_get(group, "quarantined") != NULL) {
        table_count(t, row_uint(group, "quarantined"));
    } else {
        table_text(t, "");
    }
}

static void judge(report *r, const json_t *answer, const options *o)
{
    char name[512];
    size_t i;
    json_t *group;
    (void)o;
    report_name(answer, name, sizeof name);
    if (!row_good(answer, "code")) {
        report_problem(r, "%s", row_text(answer, "message"));
    }
    json_array_foreach(json_object_get(answer, "groups"), i, group)
    {
        style s;
        const char *state = state_of(group, &s);
        if ((s == STYLE_BAD || s == STYLE_WARN) && !row_bool(group, "salvaged")) {
            report_problem(r, "%s: group %" PRIu64 " (%s): %s", name, row_uint(group, "group"),
                           row_text(group, "name"), state);
        }
    }
}

static void print(const report *r, const options *o)
{
    table *t = table_new(heads, sizeof heads / sizeof heads[0]);
    size_t i, k;
    json_t *answer, *group;
    (void)o;
    json_array_foreach(r->nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, "groups"), k, group)
        {
            add_group(t, json_object_get(answer, "node"), group);
        }
    }
    if (table_rows(t) > 0) {
        table_print(t, stdout);
        putchar('\n');
    }
    table_free(t);
}

extern const command command_groups; /* below */

static int run(int argc, char **argv)
{
    static const inquiry asked = {
        .command = &command_groups, .judge = judge, .print = print, .fine = "No problems."};
    return inquire(&asked, argc, argv);
}

const command command_groups = {
    .name = "groups",
    .summary = "what each group holds: entries, bytes of the log, quarantine",
    .run = run,
    .options = OPTION_NODES | OPTION_GROUP | OPTION_WATCH | OPTION_JSON,
    .usage = "--data DIR... [OPTION...]",
    .about =
        "Columns: ENTRIES in the log, of all streams, and LOG their bytes; BEHIND entries that the slowest "
        "peer\n"
        "has not confirmed; STATE good, busy (something is on its way to peers or to the state machine),\n"
        "quarantine, apply fails, bad streams, no writes, stopped, or salvaged (found in a damaged file).\n"
        "Looks at the key of every block: on a log of millions of blocks `status` is quicker.\n",
    .wrong = "a node cannot be asked, or a group is in one of the states quarantine, apply fails, bad\n"
             "streams, no writes",
    .examples = "anabranch groups --data n1\n"
                "anabranch groups --data n1 --data n2 --group 3 --watch 5\n"
                "anabranch groups --config node.yaml --json | jq '.nodes[].groups[] | [.name, .log_bytes]'\n",
};
