/* SPDX-License-Identifier: Apache-2.0 */
/* A report over several nodes, as a JSON document that the tables are made from. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/terminal.h"
#include "tools/anabranch/text.h"
#include "tools/anabranch/watch.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define REPORT_FORMAT 1

/* Where a row of a type goes: a list, or (one of a kind) an object of its own. */
static const struct {
    const char *type;
    const char *place;
    bool list;
} places[] = {
    {"node", "node", false},         {"link", "links", true},
    {"group", "groups", true},       {"stream", "streams", true},
    {"sync", "syncs", true},         {"digest", "digests", true},
    {"fault", "faults", true},       {"metric", "metrics", true},
    {"verified", "verified", false}, {"quarantined", "quarantined", true},
    {"outcome", "outcomes", true},
};

bool report_new(report *r, const char *name)
{
    r->root = json_pack("{s:i, s:s, s:b, s:[], s:[]}", "format", REPORT_FORMAT, "command", name, "ok", 1,
                        "problems", "nodes");
    r->nodes = json_object_get(r->root, "nodes");
    r->problems = json_object_get(r->root, "problems");
    if (r->root == NULL) {
        complain("out of memory");
    }
    return r->root != NULL;
}

void report_free(report *r)
{
    json_decref(r->root);
}

typedef struct filing {
    json_t *node;
    row_fn seen;
    void *arg;
    bool failed;
} filing;

bool report_file(json_t *answer, json_t *row)
{
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (!row_is(row, places[i].type)) {
            continue;
        }
        json_object_del(row, "type");
        if (!places[i].list) {
            return json_object_set(answer, places[i].place, row) == 0;
        }
        json_t *list = json_object_get(answer, places[i].place);
        if (list == NULL) {
            list = json_array();
            if (json_object_set_new(answer, places[i].place, list) != 0) {
                return false;
            }
        }
        return json_array_append(list, row) == 0;
    }
    return true; /* a type that is newer than we are, or only of passing interest */
}

static bool file_row(void *arg, json_t *row)
{
    filing *f = arg;
    if (f->seen != NULL && !f->seen(f->arg, row)) {
        return false;
    }
    f->failed = !report_file(f->node, row);
    return !f->failed;
}

json_t *report_ask(report *r, const char *data_dir, const query *q, row_fn seen, void *arg)
{
    source s;
    source_open(&s, data_dir);
    json_t *node =
        json_pack("{s:o, s:b}", "data", json_text(data_dir, strlen(data_dir)), "running", source_live(&s));
    filing f = {.node = node, .seen = seen, .arg = arg};
    int code = node != NULL ? source_ask(&s, q, file_row, &f) : AB_ENOMEM;
    if (s.message.text[0] == '\0' && code != AB_OK) {
        snprintf(s.message.text, sizeof s.message.text, "%s: %s", data_dir, ab_strerror(code));
    }
    if (node != NULL && !f.failed) {
        json_object_set_new(node, "code", json_string(ab_error_name(code)));
        json_object_set_new(node, "message", json_text(s.message.text, strlen(s.message.text)));
        json_array_append(r->nodes, node);
    } else {
        complain("out of memory");
    }
    source_close(&s);
    json_decref(node); /* the report has it */
    return f.failed ? NULL : node;
}

void report_problem(report *r, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(r->problems, json_text(text, strlen(text)));
}

void report_name(const json_t *node, char *text, size_t size)
{
    uint64_t id = row_uint(json_object_get(node, "node"), "node_id");
    if (id != 0) {
        snprintf(text, size, "%s (node %" PRIu64 ")", row_text(node, "data"), id);
    } else {
        snprintf(text, size, "%s", row_text(node, "data"));
    }
}

const char *code_words(const char *name)
{
    static const struct {
        const char *name;
        const char *words;
    } codes[] = {
#define CODE_ENTRY(id, value, text) {#id, text},
        AB_ERROR_LIST(CODE_ENTRY)
#undef CODE_ENTRY
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(codes[i].name, name) == 0) {
            return codes[i].words;
        }
    }
    return name;
}

int report_end(report *r, const options *o, const char *fine)
{
    size_t count = json_array_size(r->problems);
    if (o->json) {
        json_object_set_new(r->root, "ok", json_boolean(count == 0));
        size_t layout = o->watch_ms > 0 ? JSON_COMPACT : JSON_INDENT(2); /* --watch: a document per line */
        if (json_dumpf(r->root, stdout, layout | JSON_ENSURE_ASCII) != 0) {
            complain("the output cannot be written");
            return EXIT_WRONG;
        }
        putchar('\n');
        return count == 0 ? EXIT_FINE : EXIT_WRONG;
    }
    size_t i;
    json_t *problem;
    json_array_foreach(r->problems, i, problem)
    {
        char quoted[2048];
        const char *text = json_string_value(problem);
        text_quote(text, strlen(text), quoted, sizeof quoted);
        if (i == 0) {
            printf("%sProblems:%s\n", terminal_begin(STYLE_BAD), terminal_end(STYLE_BAD));
        }
        printf("  %s\n", quoted);
    }
    if (count == 0 && fine != NULL) {
        printf("%s%s%s\n", terminal_begin(STYLE_GOOD), fine, terminal_end(STYLE_GOOD));
    }
    return count == 0 ? EXIT_FINE : EXIT_WRONG;
}

static int inquire_once(const options *o, void *arg)
{
    const inquiry *i = arg;
    report r;
    query q = {.command = i->command->name, .group = o->group};
    if (!report_new(&r, i->command->name)) {
        return EXIT_WRONG;
    }
    if (i->ask != NULL) {
        i->ask(o, &q);
    }
    for (size_t k = 0; k < o->data_count; k++) {
        progress p = {.name = o->data[k]};
        json_t *answer = report_ask(&r, o->data[k], &q, i->seen, &p);
        if (answer != NULL) {
            i->judge(&r, answer, o);
        } else {
            report_problem(&r, "out of memory");
        }
    }
    if (!o->json) {
        i->print(&r, o);
    }
    int result = report_end(&r, o, i->fine);
    report_free(&r);
    return result;
}

int inquire(const inquiry *i, int argc, char **argv)
{
    options o;
    int result = options_read(&o, i->command, argc, argv);
    if (result == EXIT_FINE) {
        inquiry copy = *i;
        result = watch(&o, inquire_once, &copy);
    }
    options_free(&o);
    return result < 0 ? EXIT_FINE : result;
}
