/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch log`: entries of the log as they are read, in constant memory. Main thread. */
#include "tools/anabranch/entry.h"
#include "tools/anabranch/terminal.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_COLUMNS 76u /* in front of the payload */

typedef struct printing {
    const options *o;
    const char *data_dir;
    uint64_t faults;
    uint64_t entries;
    bool begun;
    bool no_memory;
} printing;

static void print_row(printing *p, const json_t *row)
{
    char time[48];
    if (!p->begun && p->o->data_count > 1) {
        char name[256];
        text_quote(p->data_dir, strlen(p->data_dir), name, sizeof name);
        printf("== %s\n", name);
    }
    if (!p->begun) {
        printf("%s%6s  %-14s  %12s  %-26s  %8s%s%s\n", terminal_begin(STYLE_HEAD), "GROUP", "STREAM", "INDEX",
               "TIME (UTC)", "SIZE", entry_fits(ENTRY_COLUMNS) ? "  PAYLOAD" : "", terminal_end(STYLE_HEAD));
        p->begun = true;
    }
    if (row_is(row, "fault")) {
        printf("%6" PRIu64 "  %-14s  %12" PRIu64 "  %sunreadable to %" PRIu64 ": %s%s\n",
               row_uint(row, "group"), row_text(row, "stream"), row_uint(row, "first"),
               terminal_begin(STYLE_BAD), row_uint(row, "last"), code_words(row_text(row, "code")),
               terminal_end(STYLE_BAD));
        return;
    }
    text_hlc(row_uint(row, "hlc"), time, sizeof time);
    printf("%6" PRIu64 "  %-14s  %12" PRIu64 "  %-26s  %8" PRIu64 "%s", row_uint(row, "group"),
           row_text(row, "stream"), row_uint(row, "index"), time, row_uint(row, "size"),
           entry_fits(ENTRY_COLUMNS) ? "  " : "");
    p->no_memory = !entry_print(p->o, row, ENTRY_COLUMNS) || p->no_memory;
}

static bool on_row(void *arg, json_t *row)
{
    printing *p = arg;
    p->faults += row_is(row, "fault");
    p->entries += row_is(row, "entry");
    if (!row_is(row, "fault") && !row_is(row, "entry")) {
        return true;
    }
    if (p->o->json) {
        p->no_memory = (row_is(row, "entry") && !entry_finish(p->o, row)) || p->no_memory;
        json_object_set_new(row, "format", json_integer(1));
        json_object_set_new(row, "data", json_text(p->data_dir, strlen(p->data_dir)));
        json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        putchar('\n');
    } else {
        print_row(p, row);
    }
    if (p->o->follow) {
        fflush(stdout);
    }
    return !ferror(stdout) && !p->no_memory;
}

/* Counts the streams that were asked for and whose entries of that range are trimmed. */
typedef struct trimmed {
    const options *o;
    uint64_t streams;
} trimmed;

static bool on_stream(void *arg, json_t *row)
{
    trimmed *t = arg;
    char wanted[32];
    uint64_t base = row_is(row, "stream") ? row_uint(row, "base") : 0;
    snprintf(wanted, sizeof wanted, "%u.%u", t->o->stream.node, t->o->stream.epoch);
    bool asked = !t->o->one_stream || strcmp(row_text(row, "stream"), wanted) == 0;
    t->streams += asked && base > 0 && base >= t->o->from;
    return true;
}

/* Says why there is nothing to show. */
static void print_nothing(source *s, const options *o, const char *data_dir)
{
    char name[256];
    query q = {.command = "status", .group = o->group, .detail = true};
    trimmed t = {.o = o};
    bool known = source_ask(s, &q, on_stream, &t) == AB_OK;
    text_quote(data_dir, strlen(data_dir), name, sizeof name);
    printf("%s: no such entries in the log", name);
    if (known && t.streams > 0) {
        printf(": of %" PRIu64 " %s they are trimmed (anabranch status --streams)", t.streams,
               t.streams == 1 ? "stream" : "streams");
    }
    putchar('\n');
}

static int print_log(const options *o, const char *data_dir)
{
    query q = {.command = "log",
               .group = o->group,
               .one_stream = o->one_stream,
               .stream = o->stream,
               .from = o->from,
               .to = o->to,
               .newest = o->newest,
               .limit = o->limit,
               .follow = o->follow,
               .payload_max = entry_bytes(o)};
    printing p = {.o = o, .data_dir = data_dir};
    source s;
    source_open(&s, data_dir);
    int code = source_ask(&s, &q, on_row, &p);
    if (p.no_memory) {
        complain("out of memory");
    } else if (code != AB_OK && !ferror(stdout)) {
        complain("%s", s.message.text[0] != '\0' ? s.message.text : ab_strerror(code));
    }
    if (p.faults > 0) {
        complain("%s: %" PRIu64 " ranges of the log cannot be read (anabranch verify tells all)", data_dir,
                 p.faults);
    }
    if (code == AB_OK && p.entries + p.faults == 0 && !o->json) {
        print_nothing(&s, o, data_dir);
    }
    source_close(&s);
    return code == AB_OK && p.faults == 0 ? EXIT_FINE : EXIT_WRONG;
}

extern const command command_log; /* below */

static int run(int argc, char **argv)
{
    options o;
    int result = options_read(&o, &command_log, argc, argv);
    if (result == EXIT_FINE && o.follow && o.data_count > 1) {
        complain("log: --follow: one node at a time (anabranch help log)");
        result = EXIT_USAGE;
    }
    for (size_t i = 0, count = result == EXIT_FINE ? o.data_count : 0; i < count; i++) {
        int code = print_log(&o, o.data[i]);
        result = code > result ? code : result;
    }
    options_free(&o);
    return result < 0 ? EXIT_FINE : result;
}

const command command_log = {
    .name = "log",
    .summary = "entries of the log, by group, stream and index",
    .run = run,
    .options = OPTION_NODES | OPTION_GROUP | OPTION_RANGE | OPTION_LOG | OPTION_PAYLOAD | OPTION_JSON,
    .usage = "--data DIR... [OPTION...]",
    .about = "A payload is shown as what it is: points that anabranchd has written as line protocol, mostly "
             "text as\n"
             "text, with \\xNN for what is not, any other in hexadecimal. --payload says what it is. On a "
             "terminal\n"
             "lines are cut to its width, unless --bytes is given. With --json one object per line.\n",
    .wrong = "the log cannot be read, or a part of it, or the node does not have the group",
    .examples = "anabranch log --data n1 --last 20\n"
                "anabranch log --data n1 --group 2 --stream 1.1732180000 --from 1000 --to 1010 --bytes 4096\n"
                "anabranch log --data n1 --follow --last 1 --payload line\n"
                "anabranch log --data n1 --json --bytes 524288 | jq -r .payload_hex | xxd -r -p\n",
};
