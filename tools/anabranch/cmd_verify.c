/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch verify`: walks whole logs and lists what is wrong. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/table.h"
#include "tools/anabranch/terminal.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const fault_heads[] = {"DATA", ">GROUP", "STREAM", ">FIRST", ">LAST", "?CODE", "WHAT"};

static bool on_row(void *arg, json_t *row)
{
    if (row_is(row, "progress")) {
        progress_show(arg, row_uint(row, "blocks"), row_uint(row, "total"), "blocks");
    }
    return true;
}

static void print_faults(const report *r)
{
    table *t = table_new(fault_heads, sizeof fault_heads / sizeof fault_heads[0]);
    size_t i, k;
    json_t *answer, *row;
    json_array_foreach(r->nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, "faults"), k, row)
        {
            table_text(t, row_text(answer, "data"));
            table_format(t, "%" PRIu64, row_uint(row, "group"));
            table_text(t, row_text(row, "stream"));
            table_format(t, "%" PRIu64, row_uint(row, "first"));
            table_format(t, "%" PRIu64, row_uint(row, "last"));
            table_text(t, row_text(row, "code"));
            table_text(t, row_text(row, "what"));
        }
    }
    if (table_rows(t) > 0) {
        table_print(t, stdout);
        putchar('\n');
    }
    table_free(t);
}

static void print_counts(const report *r)
{
    size_t i;
    json_t *answer;
    json_array_foreach(r->nodes, i, answer)
    {
        char name[256];
        char blocks[32];
        const json_t *verified = json_object_get(answer, "verified");
        const char *data = row_text(answer, "data");
        text_quote(data, strlen(data), name, sizeof name);
        text_count(row_uint(verified, "blocks"), blocks, sizeof blocks);
        if (verified != NULL) {
            printf("%s: %s blocks verified, %" PRIu64 " faults\n", name, blocks,
                   row_uint(verified, "faults"));
        }
    }
}

static void print_verified(const report *r, const options *o)
{
    (void)o;
    print_faults(r);
    print_counts(r);
}

static void node_problems(report *r, const json_t *answer, const options *o)
{
    (void)o;
    progress_clear();
    const json_t *verified = json_object_get(answer, "verified");
    uint64_t faults = row_uint(verified, "faults");
    if (faults > 0) {
        uint64_t hidden = row_uint(verified, "faults_not_shown");
        report_problem(r,
                       "%s: the log has %" PRIu64
                       " faults%s: a running node fetches damaged blocks from its peers; "
                       "keep a copy of the directory before anything else",
                       row_text(answer, "data"), faults, hidden > 0 ? " (not all are listed)" : "");
    } else if (!row_good(answer, "code")) {
        report_problem(r, "%s", row_text(answer, "message"));
    }
}

extern const command command_verify; /* below */

static int run(int argc, char **argv)
{
    static const inquiry asked = {
        .command = &command_verify,
        .seen = on_row,
        .judge = node_problems,
        .print = print_verified,
    };
    return inquire(&asked, argc, argv);
}

const command command_verify = {
    .name = "verify",
    .summary = "walk the whole log and list what is damaged",
    .run = run,
    .options = OPTION_NODES | OPTION_JSON,
    .usage = "--data DIR... [OPTION...]",
    .about = "Checks every block: checksum, entries, continuity, the chain of hashes; and the recorded ends "
             "of the\n"
             "streams. May run beside a node that is writing.\n",
    .wrong = "anything is wrong",
    .examples = "anabranch verify --data /var/lib/anabranch\n"
                "anabranch verify --data backup-of-n1 --json\n",
};
