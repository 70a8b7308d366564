/* SPDX-License-Identifier: Apache-2.0 */
/* The table and the JSON of a comparison, see report.h. Main thread. */
#include "tests/compare/report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define ROUNDS_MAX 100u
#define CELL 8

/* What each system is, and what it has promised when it acknowledges. */
static const struct {
    const char *title;
    const char *durable;
    const char *replicated;
    const char *against; /* held against ours at level `local` */
} texts[AB_CMP_SYSTEMS] = {
    {"bare LMDB loops", "on disk (fdatasync)", "nowhere: three independent logs",
     "the least a durable log costs"},
    {"anabranch, local", "on disk of the node that took it (fdatasync)",
     "on its way; all three nodes take writes", "-"},
    {"redis, always", "in the master's AOF (fsync before the reply)", "on its way; one node takes writes",
     "the same promise, less: one master"},
    {"redis, everysec", "in the master's memory; AOF fsync once a second",
     "on its way; one node takes writes",
     "less: a second of acknowledged writes can be lost with the master"},
    {"redis, always + WAIT 2", "in the master's AOF (fsync)",
     "received by both replicas (their AOFs not promised); no order of failing over",
     "more: three copies before the answer"},
    {"nats JetStream R3", "in the page cache; fsync by a timer, not per write",
     "stored by two of three, one order", "more: a majority, a total order; less: no fsync"},
    {"etcd", "in the WAL of two of three (fsync)", "committed by two of three, applied by the leader",
     "more: a durable majority, linearizable, history of each key"},
};

static const char *const figure_names[AB_CMP_FIGURES] = {"entries_per_s", "p50_us", "p99_us",
                                                         "cpu_s_per_million", "catch_up_ms"};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *values, size_t count)
{
    if (count == 0) {
        return NAN;
    }
    qsort(values, count, sizeof values[0], compare_doubles);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

double ab_cmp_median(const struct ab_cmp_report *report, enum ab_cmp_system system, enum ab_cmp_case which,
                     enum ab_cmp_figure figure)
{
    double values[ROUNDS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < report->count && count < ROUNDS_MAX; i++) {
        const struct ab_cmp_cell *cell = &report->rounds[i].cells[system][which];
        if (cell->known && !isnan(cell->figures[figure])) {
            values[count++] = cell->figures[figure];
        }
    }
    return median_of(values, count);
}

double ab_cmp_ratio(const struct ab_cmp_report *report, enum ab_cmp_system system, enum ab_cmp_system to,
                    enum ab_cmp_case which, enum ab_cmp_figure figure)
{
    double values[ROUNDS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < report->count && count < ROUNDS_MAX; i++) {
        const struct ab_cmp_cell *cell = &report->rounds[i].cells[system][which];
        const struct ab_cmp_cell *base = &report->rounds[i].cells[to][which];
        double ratio = cell->figures[figure] / base->figures[figure];
        if (cell->known && base->known && isfinite(ratio)) {
            values[count++] = ratio;
        }
    }
    return median_of(values, count);
}

/* --- table --- */

/* Three or so significant digits, right-aligned. */
static void number(FILE *out, double value)
{
    char text[32] = "-";
    if (!isnan(value)) {
        int decimals = value >= 100 || value == 0 ? 0 : value >= 10 ? 1 : value >= 0.095 ? 2 : 4;
        snprintf(text, sizeof text, "%.*f", decimals, value);
    }
    fprintf(out, "%*s", CELL, text);
}

static void metric(const struct ab_cmp_report *report, enum ab_cmp_system system, enum ab_cmp_case which,
                   enum ab_cmp_figure figure, double unit, FILE *out)
{
    fputs(" ", out);
    number(out, ab_cmp_median(report, system, which, figure) / unit);
    number(out, ab_cmp_ratio(report, system, AB_CMP_LOOP, which, figure));
    number(out, ab_cmp_ratio(report, system, AB_CMP_OURS, which, figure));
}

static const char *case_title(enum ab_cmp_case which)
{
    switch (which) {
    case AB_CMP_MANY:
        return "many entries per request";
    case AB_CMP_ONE:
        return "one entry per request";
    default:
        return "one at a time, one writer";
    }
}

static bool any_known(const struct ab_cmp_report *report, enum ab_cmp_system system, enum ab_cmp_case which)
{
    return !isnan(ab_cmp_median(report, system, which, AB_CMP_RATE));
}

static void print_case(const struct ab_cmp_report *report, enum ab_cmp_case which, FILE *out)
{
    fprintf(out, "\n%-26s %24s %24s %24s %24s %9s\n", case_title(which), "--------- 1,000 entries/s",
            "----------- p50 ms", "----------- p99 ms", "--- CPU s/million", "catch-up");
    fprintf(out, "%-26s", "");
    for (int i = 0; i < 4; i++) {
        fprintf(out, " %*s%*s%*s", CELL, "", CELL, "/ loop", CELL, "/ ours");
    }
    fprintf(out, " %*s\n", CELL, "ms");
    for (int s = 0; s < AB_CMP_SYSTEMS; s++) {
        enum ab_cmp_system system = (enum ab_cmp_system)s;
        if (!report->options->systems[s]) {
            continue;
        }
        fprintf(out, "%-26s", texts[s].title);
        if (!any_known(report, system, which)) {
            fputs("        - (no such request in its protocol)\n", out);
            continue;
        }
        metric(report, system, which, AB_CMP_RATE, 1000, out);
        metric(report, system, which, AB_CMP_P50, 1000, out);
        metric(report, system, which, AB_CMP_P99, 1000, out);
        metric(report, system, which, AB_CMP_CPU, 1, out);
        fputs(" ", out);
        number(out, ab_cmp_median(report, system, which, AB_CMP_CATCH_UP));
        fputs("\n", out);
    }
}

static void print_meanings(const struct ab_cmp_report *report, FILE *out)
{
    fputs("\nWhen a write is acknowledged, it is\n", out);
    for (int s = 0; s < AB_CMP_SYSTEMS; s++) {
        if (!report->options->systems[s]) {
            continue;
        }
        fprintf(out, "  %-24s %s\n  %-24s %s\n", texts[s].title, texts[s].durable, "", texts[s].replicated);
        if (s != AB_CMP_OURS) {
            fprintf(out, "  %-24s held against ours: %s\n", "", texts[s].against);
        }
    }
}

int ab_cmp_print_table(const struct ab_cmp_report *report, FILE *out)
{
    const struct ab_cmp_load *load = &report->options->load;
    fprintf(out,
            "%u rounds of %.1f s; %u bytes per entry, %u writer(s) per node, %u entries outstanding per "
            "writer, %u per "
            "request in `many`; %ld processors, %s\n",
            report->count, (double)load->duration_ns / 1e9, load->payload, load->writers, load->in_flight,
            load->batch, sysconf(_SC_NPROCESSORS_ONLN), report->fs);
    for (int s = AB_CMP_OURS; s < AB_CMP_SYSTEMS; s++) {
        if (report->options->systems[s] && report->versions[s][0]) {
            fprintf(out, "  %-24s %s\n", texts[s].title, report->versions[s]);
        }
    }
    for (int c = 0; c < AB_CMP_CASES; c++) {
        if (report->options->cases[c]) {
            print_case(report, (enum ab_cmp_case)c, out);
        }
    }
    print_meanings(report, out);
    fputs("\nEntries count once all three nodes have them. Ratios are medians of each round's own ratio.\n",
          out);
    return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}

/* --- JSON --- */

static json_t *real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *cell_json(const struct ab_cmp_cell *cell)
{
    json_t *object = json_object();
    for (int f = 0; f < AB_CMP_FIGURES; f++) {
        json_object_set_new(object, figure_names[f], real(cell->figures[f]));
    }
    json_object_set_new(object, "entries", real(cell->entries));
    return object;
}

static json_t *median_json(const struct ab_cmp_report *report, enum ab_cmp_system system,
                           enum ab_cmp_case which)
{
    json_t *object = json_object(), *loop = json_object(), *ours = json_object();
    for (int f = 0; f < AB_CMP_FIGURES; f++) {
        enum ab_cmp_figure figure = (enum ab_cmp_figure)f;
        json_object_set_new(object, figure_names[f], real(ab_cmp_median(report, system, which, figure)));
        json_object_set_new(loop, figure_names[f],
                            real(ab_cmp_ratio(report, system, AB_CMP_LOOP, which, figure)));
        json_object_set_new(ours, figure_names[f],
                            real(ab_cmp_ratio(report, system, AB_CMP_OURS, which, figure)));
    }
    json_object_set_new(object, "ratio_to_loop", loop);
    json_object_set_new(object, "ratio_to_anabranch", ours);
    return object;
}

static json_t *rounds_json(const struct ab_cmp_report *report, enum ab_cmp_system system,
                           enum ab_cmp_case which)
{
    json_t *rounds = json_array();
    for (uint32_t i = 0; i < report->count; i++) {
        json_array_append_new(rounds, cell_json(&report->rounds[i].cells[system][which]));
    }
    return rounds;
}

static json_t *system_json(const struct ab_cmp_report *report, enum ab_cmp_system system)
{
    json_t *object = json_object(), *cases = json_object(), *acknowledged = json_object();
    json_object_set_new(object, "title", json_string(texts[system].title));
    json_object_set_new(object, "version", json_string(report->versions[system]));
    json_object_set_new(acknowledged, "durable", json_string(texts[system].durable));
    json_object_set_new(acknowledged, "replicated", json_string(texts[system].replicated));
    json_object_set_new(acknowledged, "against_ours", json_string(texts[system].against));
    json_object_set_new(object, "acknowledged", acknowledged);
    for (int c = 0; c < AB_CMP_CASES; c++) {
        enum ab_cmp_case which = (enum ab_cmp_case)c;
        if (report->options->cases[c] && any_known(report, system, which)) {
            json_t *entry = json_object();
            json_object_set_new(entry, "median", median_json(report, system, which));
            json_object_set_new(entry, "rounds", rounds_json(report, system, which));
            json_object_set_new(cases, ab_cmp_case_name(which), entry);
        }
    }
    json_object_set_new(object, "cases", cases);
    return object;
}

static json_t *load_json(const struct ab_cmp_load *load)
{
    json_t *object = json_object();
    json_object_set_new(object, "writers_per_node", json_integer(load->writers));
    json_object_set_new(object, "in_flight", json_integer(load->in_flight));
    json_object_set_new(object, "batch", json_integer(load->batch));
    json_object_set_new(object, "payload", json_integer(load->payload));
    json_object_set_new(object, "warmup_s", json_real((double)load->warmup_ns / 1e9));
    json_object_set_new(object, "duration_s", json_real((double)load->duration_ns / 1e9));
    return object;
}

static json_t *machine_json(const struct ab_cmp_report *report)
{
    struct utsname name;
    json_t *object = json_object();
    json_object_set_new(object, "cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    if (uname(&name) == 0) {
        json_object_set_new(object, "release", json_string(name.release));
    }
    json_object_set_new(object, "file_system", json_string(report->fs));
    return object;
}

int ab_cmp_print_json(const struct ab_cmp_report *report, FILE *out)
{
    json_t *root = json_object(), *systems = json_object();
    for (int s = 0; s < AB_CMP_SYSTEMS; s++) {
        if (report->options->systems[s]) {
            enum ab_cmp_system system = (enum ab_cmp_system)s;
            json_object_set_new(systems, ab_cmp_system_name(system), system_json(report, system));
        }
    }
    json_object_set_new(root, "machine", machine_json(report));
    json_object_set_new(root, "load", load_json(&report->options->load));
    json_object_set_new(root, "rounds", json_integer(report->count));
    json_object_set_new(root, "systems", systems);
    int rc = root ? json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : -1;
    fputs("\n", out);
    json_decref(root);
    return rc == 0 && fflush(out) == 0 && !ferror(out) ? 0 : -1;
}
