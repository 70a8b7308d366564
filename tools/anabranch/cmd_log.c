/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch log`: entries of the log as they are read, in constant memory. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct printing {
    const options *o;
    const char *data_dir;
    char *scratch; /* room for the payload as bytes and as text */
    size_t scratch_size;
    uint64_t faults;
    uint64_t entries;
    bool begun;
} printing;

static unsigned hex_digit(char c)
{
    return c >= 'a' ? (unsigned)(c - 'a') + 10 : (unsigned)(c - '0');
}

/* The payload as text where most of it is text, else as hexadecimal. */
static void print_payload(const printing *p, const json_t *row)
{
    const char *hex = row_text(row, "payload_hex");
    size_t bytes = strlen(hex) / 2;
    const char *more = row_uint(row, "size") > bytes ? "..." : "";
    if (bytes > p->scratch_size / 5) {
        bytes = p->scratch_size / 5;
    }
    for (size_t i = 0; i < bytes; i++) {
        p->scratch[i] = (char)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    }
    /* A character that was cut is left out rather than shown as strange. */
    size_t whole = bytes;
    while (more[0] != '\0' && whole > 0 && bytes - whole < 3 &&
           text_strange(p->scratch, whole) > text_strange(p->scratch, whole - 1)) {
        whole--;
    }
    if (bytes == 0) {
        printf("-%s\n", more);
    } else if (text_strange(p->scratch, whole) <= whole / 4) {
        char *quoted = p->scratch + bytes;
        text_quote(p->scratch, whole, quoted, p->scratch_size - bytes);
        printf("%s%s\n", quoted, more);
    } else {
        printf("0x%.*s%s\n", (int)(2 * bytes), hex, more);
    }
}

static void print_row(printing *p, const json_t *row)
{
    char time[48];
    if (!p->begun && p->o->data_count > 1) {
        char name[256];
        text_quote(p->data_dir, strlen(p->data_dir), name, sizeof name);
        printf("== %s\n", name);
    }
    if (!p->begun) {
        printf("%6s  %-14s  %12s  %-26s  %8s  %s\n", "GROUP", "STREAM", "INDEX", "TIME (UTC)", "SIZE",
               "PAYLOAD");
        p->begun = true;
    }
    if (row_is(row, "fault")) {
        printf("%6" PRIu64 "  %-14s  %12" PRIu64 "  unreadable to %" PRIu64 ": %s\n", row_uint(row, "group"),
               row_text(row, "stream"), row_uint(row, "first"), row_uint(row, "last"),
               code_words(row_text(row, "code")));
        return;
    }
    text_hlc(row_uint(row, "hlc"), time, sizeof time);
    printf("%6" PRIu64 "  %-14s  %12" PRIu64 "  %-26s  %8" PRIu64 "  ", row_uint(row, "group"),
           row_text(row, "stream"), row_uint(row, "index"), time, row_uint(row, "size"));
    print_payload(p, row);
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
        json_object_set_new(row, "data", json_text(p->data_dir, strlen(p->data_dir)));
        json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        putchar('\n');
    } else {
        print_row(p, row);
    }
    return !ferror(stdout);
}

static int print_log(const options *o, const char *data_dir)
{
    query q = {.command = "log",
               .group = o->group,
               .one_stream = o->one_stream,
               .stream = o->stream,
               .from = o->from,
               .to = o->to,
               .limit = o->limit,
               .payload_max = o->bytes};
    printing p = {.o = o, .data_dir = data_dir, .scratch_size = 5 * o->bytes + 16};
    source s;
    p.scratch = malloc(p.scratch_size);
    if (p.scratch == NULL) {
        complain("out of memory");
        return EXIT_WRONG;
    }
    source_open(&s, data_dir);
    int code = source_ask(&s, &q, on_row, &p);
    if (code != AB_OK && !ferror(stdout)) {
        complain("%s", s.message.text[0] != '\0' ? s.message.text : ab_strerror(code));
    }
    if (p.faults > 0) {
        complain("%s: %" PRIu64 " ranges of the log cannot be read (anabranch verify tells all)", data_dir,
                 p.faults);
    }
    if (code == AB_OK && p.entries + p.faults == 0 && !o->json) {
        char name[256];
        text_quote(data_dir, strlen(data_dir), name, sizeof name);
        printf("%s: no such entries in the log\n", name);
    }
    source_close(&s);
    free(p.scratch);
    return code == AB_OK && p.faults == 0 ? EXIT_FINE : EXIT_WRONG;
}

extern const command command_log; /* below */

static int run(int argc, char **argv)
{
    options o;
    int result = options_read(&o, &command_log, argc, argv);
    if (result == EXIT_FINE && o.bytes > 65536) {
        complain("log: --bytes: at most 65536 (anabranch help log)");
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
    .options = OPTION_NODES | OPTION_GROUP | OPTION_RANGE | OPTION_JSON,
    .usage = "--data DIR... [OPTION...]",
    .about = "A payload that is mostly text is shown as text, with \\xNN for what is not; any other in "
             "hexadecimal.\n"
             "With --json one object per line.\n",
    .wrong = "the log cannot be read, or a part of it",
    .examples = "anabranch log --data n1 --limit 20\n"
                "anabranch log --data n1 --group 2 --stream 1.1732180000 --from 1000 --to 1010 --bytes 4096\n"
                "anabranch log --data n1 --json | jq -r .payload_hex | xxd -r -p\n",
};
