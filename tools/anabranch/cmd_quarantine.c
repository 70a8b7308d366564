/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch quarantine`: the entries that state machines refused for good; to look at, to try again, to drop. The only
 * command of the inspector that changes anything, and only through a running node. Main thread. */
#include "tools/anabranch/entry.h"
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const list_heads[] = {">NODE",          ">GROUP",        "STREAM", ">INDEX",
                                         "?WRITTEN (UTC)", "REFUSED (UTC)", ">SIZE"};
static const char *const outcome_heads[] = {">NODE", ">GROUP", "STREAM", ">INDEX", "OUTCOME"};
#define COLUMNS(heads) (sizeof(heads) / sizeof(heads)[0])

typedef enum verb { LIST, SHOW, RETRY, DROP } verb;

static void add_place(table *t, const json_t *node, const json_t *row)
{
    table_format(t, "%" PRIu64, row_uint(node, "node_id"));
    table_format(t, "%" PRIu64, row_uint(row, "group"));
    table_text(t, row_text(row, "stream"));
    uint64_t last = row_uint(row, "last");
    if (last != 0) {
        table_format(t, "%" PRIu64 "-%" PRIu64, row_uint(row, "index"), last);
    } else {
        table_count(t, row_uint(row, "index"));
    }
}

static void times_of(const json_t *row, char written[48], char refused[48])
{
    text_hlc(row_uint(row, "hlc"), written, 48);
    text_hlc(row_uint(row, "refused_ms") << 16, refused, 48);
}

static void print_list(const report *r)
{
    table *t = table_new(list_heads, COLUMNS(list_heads));
    size_t i, k;
    json_t *answer, *row;
    json_array_foreach(r->nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, "quarantined"), k, row)
        {
            char written[48];
            char refused[48];
            times_of(row, written, refused);
            add_place(t, json_object_get(answer, "node"), row);
            table_text(t, written);
            table_text(t, refused);
            table_count(t, row_uint(row, "size"));
        }
    }
    if (table_rows(t) > 0) {
        table_print(t, stdout);
        putchar('\n');
    }
    table_free(t);
}

static void print_entries(const report *r, const options *o)
{
    size_t i, k;
    json_t *answer, *row;
    json_array_foreach(r->nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, "quarantined"), k, row)
        {
            char written[48];
            char refused[48];
            times_of(row, written, refused);
            printf("node     %" PRIu64 "\ngroup    %" PRIu64 "\nstream   %s\nindex    %" PRIu64,
                   row_uint(json_object_get(answer, "node"), "node_id"), row_uint(row, "group"),
                   row_text(row, "stream"), row_uint(row, "index"));
            if (row_uint(row, "last") != 0) {
                printf(" to %" PRIu64 ": cannot be decoded, though the checksum holds",
                       row_uint(row, "last"));
            }
            printf("\nwritten  %s\nrefused  %s\nsize     %" PRIu64 "\npayload  ", written, refused,
                   row_uint(row, "size"));
            (void)entry_print(o, row, 9);
            putchar('\n');
        }
    }
}

static const char *words_of(const json_t *outcome, verb v)
{
    return row_good(outcome, "code") ? v == RETRY ? "applied" : "dropped"
                                     : code_words(row_text(outcome, "code"));
}

static void print_outcomes(const report *r, verb v)
{
    table *t = table_new(outcome_heads, COLUMNS(outcome_heads));
    size_t i, k;
    json_t *answer, *row;
    json_array_foreach(r->nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, "outcomes"), k, row)
        {
            add_place(t, json_object_get(answer, "node"), row);
            table_text(t, words_of(row, v));
            table_style(t, row_good(row, "code") ? STYLE_GOOD : STYLE_BAD);
        }
    }
    if (table_rows(t) > 0) {
        table_print(t, stdout);
        putchar('\n');
    }
    table_free(t);
}

/* Problems of a node's answer; completes its rows for --json. */
static void judge(report *r, const json_t *answer, const options *o, verb v)
{
    char name[512];
    size_t i;
    json_t *row;
    report_name(answer, name, sizeof name);
    if (!row_good(answer, "code")) {
        report_problem(r, "%s", row_text(answer, "message"));
    }
    size_t damaged = json_array_size(json_object_get(answer, "faults"));
    if (damaged > 0) {
        report_problem(r, "%s: damaged records of quarantine: %zu (anabranch verify)", name, damaged);
    }
    json_array_foreach(json_object_get(answer, "quarantined"), i, row)
    {
        if (o->json && !entry_finish(o, row)) {
            report_problem(r, "out of memory");
        }
    }
    if (v == LIST || v == SHOW) {
        size_t count = json_array_size(json_object_get(answer, "quarantined"));
        if (count > 0) {
            report_problem(r, "%s: entries in quarantine: %zu", name, count);
        }
        return;
    }
    json_array_foreach(json_object_get(answer, "outcomes"), i, row)
    {
        if (!row_good(row, "code")) {
            report_problem(r, "%s: group %" PRIu64 ", stream %s, entry %" PRIu64 ": %s", name,
                           row_uint(row, "group"), row_text(row, "stream"), row_uint(row, "index"),
                           words_of(row, v));
        }
    }
}

static void print(const report *r, const options *o, verb v)
{
    switch (v) {
    case LIST:
        print_list(r);
        break;
    case SHOW:
        print_entries(r, o);
        break;
    case RETRY:
    case DROP:
        print_outcomes(r, v);
        break;
    }
}

static int report_on(const options *o, verb v)
{
    static const char *const commands_of[] = {"quarantine", "quarantine", "retry", "drop"};
    static const char *const names[] = {"quarantine list", "quarantine show", "quarantine retry",
                                        "quarantine drop"};
    report r;
    query q = {.command = commands_of[v],
               .group = o->group,
               .one_stream = o->one_stream,
               .stream = o->stream,
               .from = o->index != 0 ? o->index : o->from,
               .to = o->index != 0 ? o->index : o->to,
               .payload_max = entry_bytes(o)};
    if (!report_new(&r, names[v])) {
        return EXIT_WRONG;
    }
    for (size_t i = 0; i < o->data_count; i++) {
        json_t *answer = report_ask(&r, o->data[i], &q, NULL, NULL);
        if (answer != NULL) {
            judge(&r, answer, o, v);
        } else {
            report_problem(&r, "out of memory");
        }
    }
    if (!o->json) {
        print(&r, o, v);
    }
    int result = report_end(&r, o, v == LIST || v == SHOW ? "Nothing is in quarantine." : "Done.");
    report_free(&r);
    return result;
}

/* What changes something says exactly what. */
static bool names_enough(const options *o)
{
    bool one = o->index != 0 && o->one_stream;
    if (o->group == 0) {
        complain("quarantine: retry and drop need --group (anabranch help quarantine)");
        return false;
    }
    if (!one && !o->all) {
        complain(
            "quarantine: retry and drop need --stream and --index, or --all (anabranch help quarantine)");
        return false;
    }
    return true;
}

static bool read_verb(const char *word, verb *v)
{
    static const char *const words[] = {"list", "show", "retry", "drop"};
    for (size_t i = 0; word != NULL && i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i], word) == 0) {
            *v = (verb)i;
            return true;
        }
    }
    return false;
}

extern const command command_quarantine; /* below */

static int run(int argc, char **argv)
{
    options o;
    verb v = LIST;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        help_command(&command_quarantine, stdout);
        return EXIT_FINE;
    }
    if (!read_verb(argc > 1 ? argv[1] : NULL, &v)) {
        complain("quarantine: %s: it is list, show, retry or drop (anabranch help quarantine)",
                 argc > 1 ? argv[1] : "no word");
        return EXIT_USAGE;
    }
    int result = options_read(&o, &command_quarantine, argc - 1, argv + 1);
    if (result == EXIT_FINE && (v == RETRY || v == DROP) && !names_enough(&o)) {
        result = EXIT_USAGE;
    }
    if (result == EXIT_FINE) {
        result = report_on(&o, v);
    }
    options_free(&o);
    return result < 0 ? EXIT_FINE : result;
}

const command command_quarantine = {
    .name = "quarantine",
    .summary = "entries that a state machine refused for good: list, show, retry, drop",
    .run = run,
    .words = "list show retry drop",
    .options = OPTION_NODES | OPTION_GROUP | OPTION_RANGE | OPTION_QUARANTINE | OPTION_PAYLOAD | OPTION_JSON,
    .usage = "list|show|retry|drop --data DIR... [OPTION...]",
    .about =
        "list and show look at what is there, of a node that does not run, too. retry gives entries to the "
        "state\n"
        "machine again: alone, after everything that came meanwhile; conflicts are still decided by the "
        "entry's\n"
        "own clock. What is applied leaves quarantine, what is refused again stays. drop removes entries: "
        "this\n"
        "replica then never has them. Both need a running node, and say exactly what: --group with --stream\n"
        "and --index, or --group with --all. Quarantine is each node's own: see to every node.\n",
    .wrong = "a node cannot be asked, list or show found something, or an entry was not applied or dropped",
    .examples = "anabranch quarantine list --data n1 --data n2 --data n3\n"
                "anabranch quarantine show --data n1 --group 3 --payload line\n"
                "anabranch quarantine retry --data n1 --group 3 --stream 2.1732180000 --index 815\n"
                "anabranch quarantine drop --data n1 --group 3 --all\n",
};
