/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics read by a parser that is as strict as Prometheus' text format and its naming rules; /health, /ready and
 * /ping. One thread. */
#include "tests/support/run.h"
#include "tests/system/http_fixture.h"

#include <check.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAMPLES_MAX 2000u

typedef struct sample {
    char key[200]; /* name and labels as they stand there */
    double value;
} sample;

static sample samples[SAMPLES_MAX];
static size_t sample_count;

static void setup(void)
{
    setup_dir();
    start_nodes(2, NULL, NULL);
}

static bool ends(const char *text, const char *with)
{
    size_t size = strlen(text);
    size_t end = strlen(with);
    return size >= end && strcmp(text + size - end, with) == 0;
}

/* Takes a name off the line. */
static const char *take_name(const char *p, char *name, size_t room)
{
    size_t size = 0;
    ck_assert_msg(isalpha((unsigned char)*p) || *p == '_' || *p == ':', "no name at: %s", p);
    while (isalnum((unsigned char)*p) || *p == '_' || *p == ':') {
        ck_assert_uint_lt(size + 1, room);
        name[size++] = *p++;
    }
    name[size] = '\0';
    return p;
}

static const char *skip_labels(const char *p)
{
    char name[100];
    if (*p != '{') {
        return p;
    }
    do {
        p = take_name(p + 1, name, sizeof name);
        ck_assert_ptr_null(strchr(name, ':'));
        ck_assert_msg(p[0] == '=' && p[1] == '"', "no value at: %s", p);
        for (p += 2; *p != '"'; p++) {
            ck_assert_msg(*p != '\0' && *p != '\n', "a label without end");
            if (*p == '\\') {
                p++;
                ck_assert_ptr_nonnull(strchr("\\\"n", *p));
            }
        }
        p++;
    } while (*p == ',');
    ck_assert_msg(*p == '}', "no end of labels at: %s", p);
    return p + 1;
}

typedef struct family {
    char name[100];
    char type[16];
    double last_bucket;
    double inf;
} family;

static void check_histogram(family *f, const char *name, const char *labels, double value)
{
    if (ends(name, "_bucket")) {
        ck_assert_msg(strncmp(labels, "{le=\"", 5) == 0, "a bucket without le: %s", labels);
        ck_assert_msg(value >= f->last_bucket, "%s is not cumulative", name);
        f->last_bucket = value;
        f->inf = strncmp(labels, "{le=\"+Inf\"}", 11) == 0 ? value : NAN;
    } else if (ends(name, "_count")) {
        ck_assert_msg(f->inf == value, "%s: count and last bucket differ", name);
    } else {
        ck_assert_msg(ends(name, "_sum"), "%s in a histogram", name);
    }
}

static void check_sample(family *f, const char *line)
{
    char name[100];
    const char *labels = take_name(line, name, sizeof name);
    const char *rest = skip_labels(labels);
    char *end = NULL;
    ck_assert_msg(*rest == ' ', "no value: %s", line);
    double value = strtod(rest + 1, &end);
    ck_assert_msg(end > rest + 1 && *end == '\0', "no number: %s", line);
    ck_assert_msg(strncmp(name, f->name, strlen(f->name)) == 0, "%s among those of %s", name, f->name);
    if (strcmp(f->type, "histogram") == 0) {
        check_histogram(f, name, labels, value);
    } else {
        ck_assert_str_eq(name, f->name);
    }
    if (strcmp(f->type, "gauge") != 0) {
        ck_assert_msg(value >= 0, "a negative counter: %s", line);
    }
    ck_assert_uint_lt(sample_count, SAMPLES_MAX);
    sample *s = &samples[sample_count++];
    ck_assert_uint_lt((size_t)(rest - line), sizeof s->key);
    memcpy(s->key, line, (size_t)(rest - line));
    s->key[rest - line] = '\0';
    s->value = value;
    for (size_t i = 0; i + 1 < sample_count; i++) {
        ck_assert_msg(strcmp(samples[i].key, s->key) != 0, "twice: %s", s->key);
    }
}

static void check_names(const family *f)
{
    static const char *const units[] = {"_ms", "_us", "_ns", "_milliseconds", "_nanoseconds", "_kb", "_mib"};
    bool ours = strncmp(f->name, "anabranch_", 10) == 0;
    ck_assert_msg(ours || strncmp(f->name, "process_", 8) == 0, "%s has no prefix", f->name);
    bool counter = strcmp(f->type, "counter") == 0;
    ck_assert_msg(counter == ends(f->name, "_total"), "%s is a %s", f->name, f->type);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        char total[32];
        snprintf(total, sizeof total, "%s_total", units[i]);
        ck_assert_msg(!ends(f->name, units[i]) && !ends(f->name, total), "%s: no base unit", f->name);
    }
}

/* Each family once: HELP, TYPE, its samples. */
static void parse(char *text)
{
    static char seen[SAMPLES_MAX][100];
    size_t seen_count = 0;
    family f = {.name = ""};
    sample_count = 0;
    ck_assert_msg(ends(text, "\n"), "the last line has no end");
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            f = (family){.inf = NAN};
            const char *p = take_name(line + 7, f.name, sizeof f.name);
            ck_assert_msg(p[0] == ' ' && p[1] != '\0', "no help: %s", line);
            for (size_t i = 0; i < seen_count; i++) {
                ck_assert_msg(strcmp(seen[i], f.name) != 0, "%s in two places", f.name);
            }
            memcpy(seen[seen_count++], f.name, sizeof f.name);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            char name[100];
            const char *p = take_name(line + 7, name, sizeof name);
            ck_assert_str_eq(name, f.name);
            ck_assert_int_eq(*p, ' ');
            snprintf(f.type, sizeof f.type, "%s", p + 1);
            check_names(&f);
        } else {
            ck_assert_msg(f.type[0] != '\0', "before its type: %s", line);
            check_sample(&f, line);
        }
    }
}

static double value_of(const char *key)
{
    for (size_t i = 0; i < sample_count; i++) {
        if (strcmp(samples[i].key, key) == 0) {
            return samples[i].value;
        }
    }
    ck_abort_msg("no %s", key);
    return NAN;
}

static void scrape(void)
{
    get("/metrics", 200);
    char *text = strdup(answer.body);
    parse(text);
    free(text);
}

START_TEST(metrics)
{
    scrape();
    ck_assert_double_eq(value_of("anabranch_lines_stored_total"), 0);
    double commits = value_of("anabranch_log_commits_total");
    post("/write", "m,a=1 f=1,g=2 1\nm,a=2 f=1 1\n", 204);
    post("/write", "m f=1 1\nbad\n", 400);
    get("/nothing", 404);
    get("/digest", 200);
    scrape();
    ck_assert_double_eq(value_of("anabranch_lines_stored_total"), 3);
    ck_assert_double_eq(value_of("anabranch_points_stored_total"), 4);
    ck_assert_double_eq(value_of("anabranch_lines_malformed_total"), 1);
    ck_assert_double_eq(value_of("anabranch_http_requests_total{status=\"2xx\"}"), 3);
    ck_assert_double_eq(value_of("anabranch_http_requests_total{status=\"4xx\"}"), 2);
    ck_assert_double_eq(value_of("anabranch_http_requests_total{status=\"5xx\"}"), 0);
    ck_assert_double_eq(value_of("anabranch_http_received_bytes_total"), 40);
    ck_assert_double_eq(value_of("anabranch_http_write_duration_seconds_count"), 2);
    ck_assert_double_gt(value_of("anabranch_http_write_duration_seconds_sum"), 0);
    ck_assert_double_gt(value_of("anabranch_log_commits_total"), commits);
    ck_assert_double_gt(value_of("anabranch_log_commit_seconds_total"), 0);
    ck_assert_double_lt(value_of("anabranch_log_commit_seconds_total"), 600); /* no nanoseconds */
    ck_assert_double_eq(value_of("anabranch_http_connections"), 1);
    ck_assert_double_eq(value_of("anabranch_groups"), 4);
    ck_assert_double_eq(value_of("anabranch_log_writable"), 1);
    double points = 0;
    for (int i = 0; i < 4; i++) {
        char key[100];
        snprintf(key, sizeof key, "anabranch_store_points{group=\"shard-%d\"}", i);
        points += value_of(key);
        snprintf(key, sizeof key, "anabranch_group_applied_entries_total{group=\"shard-%d\"}", i);
        ck_assert_double_ge(value_of(key), 0);
    }
    ck_assert_double_eq(points, 4);
    ck_assert_double_ge(value_of("anabranch_link_sent_bytes_total{peer=\"2\"}"), 0);
    ck_assert_double_ge(value_of("anabranch_replication_lag_seconds{peer=\"2\"}"), 0);
    ck_assert_double_gt(value_of("process_resident_memory_bytes"), 1 << 20);
    ck_assert_double_gt(value_of("process_open_fds"), 5);
    ck_assert_double_gt(value_of("process_start_time_seconds"), 1.7e9);
}
END_TEST

START_TEST(answers_probes)
{
    get("/ready", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"status\":\"ready\",\"started\":\"20"));
    get("/health", 200);
    ck_assert_ptr_nonnull(strstr(answer.body, "\"status\":\"pass\""));
    get("/ping", 204);
    int fd = dial();
    say(fd, "HEAD /ping HTTP/1.1\r\nHost: x\r\n\r\n");
    const char *text = hear(fd, "\r\n\r\n");
    ck_assert_int_eq(strncmp(text, "HTTP/1.1 204 ", 13), 0);
    ck_assert_ptr_nonnull(strstr(text, "X-Influxdb-Version: 1.8.0\r\n"));
    ck_assert_ptr_nonnull(strstr(text, "X-Influxdb-Build: anabranchd\r\n"));
    close(fd);
    post("/ping", "", 405);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics");
    TCase *c = tcase_create("metrics");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, metrics);
    tcase_add_test(c, answers_probes);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    return test_run(s);
}
