/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch metrics`: every metric of the library, with rates while it is watched. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"
#include "tools/anabranch/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const heads[] = {">NODE", "METRIC", ">GROUP", ">PEER", ">VALUE", ">PER SECOND", "?HELP"};

/* What --watch remembers of the run before. */
typedef struct memory {
    json_t *values; /* per node and metric: its value */
    double at;      /* monotonic seconds; 0: there was none */
} memory;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Whether its name begins with one of the words; all do if there are none. */
static bool wanted(const options *o, const json_t *metric)
{
    const char *name = row_text(metric, "name");
    bool group = o->group == 0 || row_uint(metric, "group") == o->group;
    for (size_t i = 0; i < o->file_count; i++) {
        if (strncmp(name, o->files[i], strlen(o->files[i])) == 0) {
            return group;
        }
    }
    return group && o->file_count == 0;
}

static void identify(const json_t *answer, const json_t *metric, char *text, size_t size)
{
    snprintf(text, size, "%s %s %" PRIu64 " %" PRIu64, row_text(answer, "data"), row_text(metric, "name"),
             row_uint(metric, "group"), row_uint(metric, "peer"));
}

/* Adds "rate" to a counter whose value was known before. */
static void add_rate(json_t *metric, const memory *m, double now, const char *id)
{
    const json_t *before = json_object_get(m->values, id);
    double value = json_number_value(json_object_get(metric, "value"));
    if (m->at > 0 && now > m->at && before != NULL && row_bool(metric, "counter") &&
        value >= json_number_value(before)) {
        json_object_set_new(metric, "rate", json_real((value - json_number_value(before)) / (now - m->at)));
    }
}

/* Leaves the metrics that are wanted, with their rates; remembers them. */
static void sift(json_t *answer, const options *o, const memory *before, json_t *after, double now)
{
    json_t *metrics = json_object_get(answer, "metrics");
    for (size_t i = json_array_size(metrics); i-- > 0;) {
        json_t *metric = json_array_get(metrics, i);
        if (!wanted(o, metric)) {
            json_array_remove(metrics, i);
            continue;
        }
        char id[1024];
        identify(answer, metric, id, sizeof id);
        add_rate(metric, before, now, id);
        json_object_set(after, id, json_object_get(metric, "value"));
    }
}

static void add_number(table *t, double value)
{
    if (value == (double)(uint64_t)value && value < 1e15) {
        table_count(t, (uint64_t)value);
    } else {
        table_format(t, "%.3f", value);
    }
}

static void add_id(table *t, uint64_t id)
{
    if (id != 0) {
        table_format(t, "%" PRIu64, id);
    } else {
        table_text(t, "");
    }
}

static void add_metric(table *t, const json_t *node, const json_t *metric)
{
    const json_t *rate = json_object_get(metric, "rate");
    add_id(t, row_uint(node, "node_id"));
    table_text(t, row_text(metric, "name"));
    add_id(t, row_uint(metric, "group"));
    add_id(t, row_uint(metric, "peer"));
    add_number(t, json_number_value(json_object_get(metric, "value")));
    if (rate != NULL) {
        table_format(t, "%.1f", json_number_value(rate));
    } else {
        table_text(t, "");
    }
    table_text(t, row_text(metric, "help"));
}

static void print(const report *r)
{
    table *t = table_new(heads, sizeof heads / sizeof heads[0]);
    size_t i, k;
    json_t *answer, *metric;
    json_array_foreach(r->nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, "metrics"), k, metric)
        {
            add_metric(t, json_object_get(answer, "node"), metric);
        }
    }
    if (table_rows(t) > 0) {
        table_print(t, stdout);
    } else if (json_array_size(r->problems) == 0) {
        printf("no such metrics\n");
    }
    table_free(t);
}

static int once(const options *o, void *arg)
{
    memory *m = arg;
    report r;
    query q = {.command = "metrics", .group = o->group};
    double now = now_s();
    json_t *after = json_object();
    if (after == NULL || !report_new(&r, "metrics")) {
        json_decref(after);
        return EXIT_WRONG;
    }
    for (size_t i = 0; i < o->data_count; i++) {
        json_t *answer = report_ask(&r, o->data[i], &q, NULL, NULL);
        if (answer == NULL) {
            report_problem(&r, "out of memory");
            continue;
        }
        sift(answer, o, m, after, now);
        if (!row_good(answer, "code")) {
            report_problem(&r, "%s", row_text(answer, "message"));
        }
    }
    json_decref(m->values);
    m->values = after;
    m->at = now;
    if (!o->json) {
        print(&r);
    }
    int result = report_end(&r, o, NULL);
    report_free(&r);
    return result;
}

extern const command command_metrics; /* below */

static int run(int argc, char **argv)
{
    options o;
    memory m = {0};
    int result = options_read(&o, &command_metrics, argc, argv);
    if (result == EXIT_FINE) {
        result = watch(&o, once, &m);
    }
    json_decref(m.values);
    options_free(&o);
    return result < 0 ? EXIT_FINE : result;
}

const command command_metrics = {
    .name = "metrics",
    .summary = "every metric of a node, with rates while it is watched",
    .run = run,
    .options = OPTION_NODES | OPTION_GROUP | OPTION_WORDS | OPTION_WATCH | OPTION_JSON,
    .usage = "--data DIR... [OPTION...] [PREFIX...]",
    .about =
        "Only metrics whose names begin with one of the PREFIXes, if there are any. With --watch counters\n"
        "also show how much they grew per second since the run before. Names that end in _total are "
        "counters,\n"
        "the others gauges. Of a node that is not running only what its log tells.\n",
    .wrong = "a node cannot be asked, or does not have the group",
    .examples = "anabranch metrics --data n1\n"
                "anabranch metrics --data n1 log_ link_ --watch 1\n"
                "anabranch metrics --data n1 --group 3 --json | jq '.nodes[].metrics[] | {name, value}'\n",
};
