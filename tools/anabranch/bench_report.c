/* SPDX-License-Identifier: Apache-2.0 */
/* Medians, table and JSON of the bench, see bench_report.h. Main thread. */
#include "tools/anabranch/bench_report.h"

#include <anabranch/config.h>
#include <anabranch/node.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static const struct {
    const char *json;
    const char *row; /* NULL: not in the table */
    int decimals;
} figures[AB_FIG_COUNT] = {
    [AB_FIG_ENTRIES_PER_S] = {"entries_per_s", "replicated/s", 0},
    [AB_FIG_RATIO] = {"ratio", "ratio to one bare loop", 3},
    [AB_FIG_ACKED_PER_S] = {"acknowledged_per_s", "acknowledged/s", 0},
    [AB_FIG_CATCH_UP_MS] = {"catch_up_ms", "catch-up, ms", 1},
    [AB_FIG_P50_US] = {"p50_us", "latency p50, us", 0},
    [AB_FIG_P99_US] = {"p99_us", "latency p99, us", 0},
    [AB_FIG_P999_US] = {"p999_us", "latency p99.9, us", 0},
    [AB_FIG_MAX_US] = {"max_us", "latency max, us", 0},
    [AB_FIG_LATENCY_RATIO] = {"latency_ratio", "p50 to bare loop's", 2},
    [AB_FIG_CPU_S] = {"cpu_s_per_million", "CPU s / million", 2},
    [AB_FIG_WIRE] = {"wire_bytes_per_payload_byte", "wire bytes / byte", 3},
    [AB_FIG_LOGGED] = {"log_bytes_per_payload_byte", "log bytes / byte", 3},
    [AB_FIG_LOGGED_RATIO] = {"log_bytes_ratio", "log bytes to loop's", 2},
    [AB_FIG_DISK] = {"disk_bytes_per_payload_byte", "storage bytes / byte", 3},
    [AB_FIG_PEAK_MIB] = {"peak_mib", "peak memory, MiB", 0},
    [AB_FIG_OPENED_S] = {"opened_s", "opened in, s", 3},
    [AB_FIG_CORE_PERCENT] = {"core_percent", "CPU, % of a core", 3},
    [AB_FIG_RESIDENT_MIB] = {"resident_mib", "resident, MiB", 2},
    [AB_FIG_MORE_MIB] = {"more_mib", "more than one group", 2},
    [AB_FIG_ENTRIES] = {"entries", "entries", 0},
    [AB_FIG_BUSY] = {"busy_calls", NULL, 0},
};

void ab_bench_columns(const struct ab_bench_opts *opts, bool columns[AB_COL_COUNT])
{
    columns[AB_COL_MANY] = opts->cases[AB_BENCH_MANY];
    columns[AB_COL_ONE] = opts->cases[AB_BENCH_ONE];
    columns[AB_COL_LOOPS] = columns[AB_COL_MANY] || columns[AB_COL_ONE];
    columns[AB_COL_LATENCY] = opts->cases[AB_BENCH_LATENCY];
    columns[AB_COL_LOOP_ONE] = columns[AB_COL_LATENCY];
    columns[AB_COL_TCP] = columns[AB_COL_LOOPS];
    columns[AB_COL_IDLE_ONE] = columns[AB_COL_IDLE] = opts->cases[AB_BENCH_IDLE];
    columns[AB_COL_SILENCE] = opts->cases[AB_BENCH_SILENCE];
    columns[AB_COL_LOOP_RESTS] = columns[AB_COL_SILENCE];
}

const char *ab_bench_column_name(enum ab_bench_column column)
{
    static const char *const names[AB_COL_COUNT] = {"loops",     "many",    "one", "loop1", "latency",
                                                    "loop1rest", "silence", "tcp", "idle1", "idle"};
    return names[column];
}

static void set_latency_ratio(const bool columns[AB_COL_COUNT], struct ab_bench_round *round,
                              enum ab_bench_column column, enum ab_bench_column reference)
{
    double *mine = round->columns[column].figures;
    double bare = round->columns[reference].figures[AB_FIG_P50_US];
    mine[AB_FIG_LATENCY_RATIO] = columns[column] && bare > 0 ? mine[AB_FIG_P50_US] / bare : NAN;
}

void ab_bench_ratios(const bool columns[AB_COL_COUNT], struct ab_bench_round *round)
{
    double loop = round->columns[AB_COL_LOOPS].figures[AB_FIG_ENTRIES_PER_S];
    for (int column = AB_COL_MANY; column <= AB_COL_ONE; column++) {
        double *mine = round->columns[column].figures;
        mine[AB_FIG_RATIO] = columns[column] && loop > 0 ? mine[AB_FIG_ENTRIES_PER_S] / loop : NAN;
        mine[AB_FIG_LOGGED_RATIO] =
            columns[column] ? mine[AB_FIG_LOGGED] / round->columns[AB_COL_LOOPS].figures[AB_FIG_LOGGED] : NAN;
    }
    double *idle = round->columns[AB_COL_IDLE].figures;
    idle[AB_FIG_MORE_MIB] =
        columns[AB_COL_IDLE]
            ? idle[AB_FIG_RESIDENT_MIB] - round->columns[AB_COL_IDLE_ONE].figures[AB_FIG_RESIDENT_MIB]
            : NAN;
    set_latency_ratio(columns, round, AB_COL_LATENCY, AB_COL_LOOP_ONE);
    set_latency_ratio(columns, round, AB_COL_SILENCE, AB_COL_LOOP_RESTS);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The values that rounds have, sorted. @return how many; `values` has room for all rounds */
static size_t sorted_values(const struct ab_bench_report *report, enum ab_bench_column column,
                            enum ab_bench_figure figure, double *values)
{
    size_t count = 0;
    for (uint32_t i = 0; i < report->rounds; i++) {
        double value = report->results[i].columns[column].figures[figure];
        if (!isnan(value)) {
            values[count++] = value;
        }
    }
    qsort(values, count, sizeof values[0], compare_doubles);
    return count;
}

double ab_bench_median(const struct ab_bench_report *report, enum ab_bench_column column,
                       enum ab_bench_figure figure)
{
    double *values = malloc((report->rounds + 1u) * sizeof values[0]);
    if (!report->columns[column] || !values) {
        free(values);
        return NAN;
    }
    size_t count = sorted_values(report, column, figure, values);
    double median = count ? (values[(count - 1) / 2] + values[count / 2]) / 2 : NAN;
    free(values);
    return median;
}

static void print_head(const struct ab_bench_report *report, FILE *out)
{
    const struct ab_bench_load *load = &report->opts->load;
    struct utsname system = {.sysname = ""};
    uname(&system);
    fprintf(out,
            "anabranch %s bench: %u node%s, %u group%s, payloads of %u bytes, level %s, durability %s, %s "
            "order\n",
            ab_version(), load->nodes, load->nodes > 1 ? "s" : "", load->groups, load->groups > 1 ? "s" : "",
            load->payload, ab_write_level_name(load->level), ab_durability_name(load->durability),
            load->order == AB_APPLY_CAUSAL ? "causal" : "arrival");
    fprintf(out, "per node %u writer%s with %u entries outstanding, %u a call in \"many\"", load->writers,
            load->writers > 1 ? "s" : "", load->in_flight, load->batch);
    if (strcmp(load->backend, "multimaster") != 0) {
        fprintf(out, ", backend %s", load->backend);
    }
    if (report->opts->link_delay_ns || report->opts->link_rate) {
        fprintf(out, ", links of %.3g ms", (double)report->opts->link_delay_ns / 1e6);
    }
    if (report->opts->link_rate) {
        fprintf(out, " and %.4g MB/s", (double)report->opts->link_rate / 1e6);
    }
    if (load->rate) {
        fprintf(out, ", %" PRIu64 " entries/s", load->rate);
    }
    fprintf(out, "\n%s (%s), %ld CPUs, %s %s; median of %u round%s of %.1f s\n\n", report->dir, report->fs,
            sysconf(_SC_NPROCESSORS_ONLN), system.sysname, system.release, report->rounds,
            report->rounds > 1 ? "s" : "", (double)load->duration_ns / 1e9);
}

static bool row_has_values(const struct ab_bench_report *report, enum ab_bench_figure figure)
{
    for (int column = 0; column < AB_COL_COUNT; column++) {
        if (!isnan(ab_bench_median(report, (enum ab_bench_column)column, figure))) {
            return true;
        }
    }
    return false;
}

static void print_row(const struct ab_bench_report *report, enum ab_bench_figure figure, FILE *out)
{
    fprintf(out, "%-24s", figures[figure].row);
    for (int column = 0; column < AB_COL_COUNT; column++) {
        if (!report->columns[column]) {
            continue;
        }
        double value = ab_bench_median(report, (enum ab_bench_column)column, figure);
        if (isnan(value)) {
            fprintf(out, "%14s", "-");
        } else {
            fprintf(out, "%14.*f", figures[figure].decimals, value);
        }
    }
    fputc('\n', out);
}

bool ab_bench_spread(const struct ab_bench_report *report, enum ab_bench_column column,
                     enum ab_bench_figure figure, double *low, double *high)
{
    double *values = malloc((report->rounds + 1u) * sizeof values[0]);
    size_t count = values && report->columns[column] ? sorted_values(report, column, figure, values) : 0;
    if (count > 0) {
        *low = values[0];
        *high = values[count - 1];
    }
    free(values);
    return count > 0;
}

/* The spread of the ratios: a median alone hides a machine that was busy with something else. */
static void print_spread(const struct ab_bench_report *report, enum ab_bench_column column, FILE *out)
{
    double low, high;
    if (report->rounds > 1 && ab_bench_spread(report, column, AB_FIG_RATIO, &low, &high)) {
        fprintf(out, "ratio of \"%s\" over the rounds: %.3f to %.3f\n", ab_bench_column_name(column), low,
                high);
    }
}

static void print_notes(const struct ab_bench_report *report, FILE *out)
{
    const struct ab_bench_opts *opts = report->opts;
    fputc('\n', out);
    if (report->columns[AB_COL_LOOPS]) {
        fprintf(out,
                "loops: %u bare LMDB loop%s at once, %u entries per commit; replicated/s is what one of them "
                "logs\n",
                opts->load.nodes, opts->load.nodes > 1 ? "s" : "", opts->ref.block);
    }
    if (report->columns[AB_COL_LATENCY]) {
        fputs("loop1: one bare LMDB loop, one entry per commit; latency: one ab_write_wait at a time\n", out);
    }
    if (report->columns[AB_COL_SILENCE]) {
        fputs("loop1rest: loop1 in the rhythm of silence, the last commit before each rest: what of the "
              "percentiles of "
              "silence is the disk's\n",
              out);
    }
    if (report->columns[AB_COL_TCP]) {
        fputs("tcp: what one loopback connection carries, as entries of that size\n", out);
    }
    if (report->columns[AB_COL_IDLE]) {
        fprintf(out, "idle1, idle: one group and %u groups, open on every node, nothing written\n",
                opts->idle_groups);
    }
    print_spread(report, AB_COL_MANY, out);
    print_spread(report, AB_COL_ONE, out);
    fputs("all replicas equal after every run\n", out);
}

int ab_bench_print_table(const struct ab_bench_report *report, FILE *out)
{
    print_head(report, out);
    fprintf(out, "%-24s", "");
    for (int column = 0; column < AB_COL_COUNT; column++) {
        if (report->columns[column]) {
            fprintf(out, "%14s", ab_bench_column_name((enum ab_bench_column)column));
        }
    }
    fputc('\n', out);
    for (int figure = 0; figure < AB_FIG_COUNT; figure++) {
        if (figures[figure].row && row_has_values(report, (enum ab_bench_figure)figure)) {
            print_row(report, (enum ab_bench_figure)figure, out);
        }
    }
    print_notes(report, out);
    return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *json_load(const struct ab_bench_load *load)
{
    return json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:I, s:I, s:s, s:s, s:s, s:i, s:i, s:i, s:I}",
        "backend", load->backend, "nodes", (int)load->nodes, "groups", (int)load->groups, "writers",
        (int)load->writers, "batch", (int)load->batch, "in_flight", (int)load->in_flight, "payload",
        (int)load->payload, "duration_s", (double)load->duration_ns / 1e9, "warmup_s",
        (double)load->warmup_ns / 1e9, "entries", (json_int_t)load->entries, "rate", (json_int_t)load->rate,
        "durability", ab_durability_name(load->durability), "level", ab_write_level_name(load->level),
        "order", load->order == AB_APPLY_CAUSAL ? "causal" : "arrival", "dispatcher_threads",
        (int)load->dispatcher_threads, "apply_threads", (int)load->apply_threads, "block_bytes",
        (int)load->block_bytes, "queue_bytes", (json_int_t)load->queue_bytes);
}

static json_t *json_machine(const struct ab_bench_report *report)
{
    struct utsname system = {.sysname = ""};
    uname(&system);
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s}", "cpus", (int)sysconf(_SC_NPROCESSORS_ONLN), "system",
                     system.sysname, "release", system.release, "architecture", system.machine, "directory",
                     report->dir, "file_system", report->fs);
}

typedef double (*figure_fn)(const struct ab_bench_report *report, uint32_t round, enum ab_bench_column column,
                            enum ab_bench_figure figure);

static double of_round(const struct ab_bench_report *report, uint32_t round, enum ab_bench_column column,
                       enum ab_bench_figure figure)
{
    return report->results[round].columns[column].figures[figure];
}

static double of_median(const struct ab_bench_report *report, uint32_t round, enum ab_bench_column column,
                        enum ab_bench_figure figure)
{
    (void)round;
    return ab_bench_median(report, column, figure);
}

/* NULL when memory runs out: jansson's setters refuse NULL, and free what they are given when they fail. */
static json_t *json_columns(const struct ab_bench_report *report, uint32_t round, figure_fn value)
{
    json_t *object = json_object();
    for (int column = 0; object && column < AB_COL_COUNT; column++) {
        if (!report->columns[column]) {
            continue;
        }
        json_t *row = json_object();
        int rc = row ? 0 : -1;
        for (int figure = 0; figure < AB_FIG_COUNT && rc == 0; figure++) {
            rc = json_object_set_new(row, figures[figure].json,
                                     number_or_null(value(report, round, (enum ab_bench_column)column,
                                                          (enum ab_bench_figure)figure)));
        }
        if (rc != 0) {
            json_decref(row);
            row = NULL;
        }
        if (json_object_set_new(object, ab_bench_column_name((enum ab_bench_column)column), row) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static json_t *json_rounds(const struct ab_bench_report *report)
{
    json_t *array = json_array();
    for (uint32_t i = 0; array && i < report->rounds; i++) {
        if (json_array_append_new(array, json_columns(report, i, of_round)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

int ab_bench_print_json(const struct ab_bench_report *report, FILE *out)
{
    const struct ab_bench_ref *ref = &report->opts->ref;
    json_t *root = json_pack(
        "{s:s, s:b, s:{s:f, s:I}, s:o, s:o, s:{s:i, s:i}, s:o, s:o}", "version", ab_version(), "equal", 1,
        "link", "delay_ms", (double)report->opts->link_delay_ns / 1e6, "bytes_per_s",
        (json_int_t)report->opts->link_rate, "machine", json_machine(report), "load",
        json_load(&report->opts->load), "reference", "block", (int)ref->block, "backlog", (int)ref->backlog,
        "median", json_columns(report, 0, of_median), "rounds", json_rounds(report));
    if (!root) {
        return -1;
    }
    int rc = json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(root);
    fputc('\n', out);
    return rc == 0 && fflush(out) == 0 && !ferror(out) ? 0 : -1;
}
