/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of the main job, each with a line of what happened. The main thread. */
#include "tools/mainjob/mainjob.h"
#include "tools/anabranchd/lineprotocol.h"
#include "tools/mainjob/verdict.h"
#include "tools/sensors/sensors.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define VICTIM 1u /* node 2 */
#define ACK_TIMEOUT_MS 30000u
#define CONVERGE_TIMEOUT_MS 60000u
/* So few lines are cut into smaller batches that there is a middle of the stream to kill a node in. */
#define BATCHES_MIN 60u

static bool fail(ab_mainjob *job, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(ab_mainjob *job, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(job->error, sizeof job->error, format, args);
    va_end(args);
    return false;
}

static bool add_line(ab_mainjob *job, size_t number, const char *line, size_t size)
{
    return ab_feed_add(&job->feeds[number % AB_MAINJOB_NODES], line, size) || fail(job, "out of memory");
}

static bool make_lines(ab_mainjob *job)
{
    ab_sensors sensors;
    char line[AB_SENSORS_LINE_MAX];
    ab_sensors_init(&sensors, job->seed);
    for (uint64_t i = 0; i < job->lines; i++) {
        if (!add_line(job, i, line, ab_sensors_next(&sensors, line))) {
            return false;
        }
    }
    return true;
}

/* Each line must parse and have a time stamp: one that the server gives cannot be checked. */
static bool check_line(ab_mainjob *job, ab_lp_parser *parser, const char *path, size_t number,
                       const char *line, size_t size, bool *empty)
{
    ab_lp_line parsed;
    ab_lp_error error;
    ab_lp_begin(parser, line, size, 1, INT64_MIN);
    int code = ab_lp_next(parser, &parsed, &error);
    *empty = code == AB_ENOTFOUND;
    if (code == AB_EINVAL) {
        return fail(job, "%s:%zu: %s", path, number, error.reason);
    }
    if (code == AB_OK && parsed.time == INT64_MIN) {
        return fail(job, "%s:%zu: has no time stamp, which the main job needs to check it", path, number);
    }
    return true;
}

static bool read_lines(ab_mainjob *job, ab_lp_parser *parser, const char *path, FILE *file, size_t *total)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size = 0;
    bool fine = true;
    for (size_t number = 1; fine && (size = getline(&line, &capacity, file)) > 0; number++) {
        bool empty = false;
        fine = check_line(job, parser, path, number, line, (size_t)size, &empty);
        if (fine && !empty) {
            bool newline = line[size - 1] == '\n';
            fine = add_line(job, *total, line, (size_t)size) &&
                   (newline || ab_feed_add(&job->feeds[*total % AB_MAINJOB_NODES], "\n", 1));
            ++*total;
        }
    }
    free(line);
    return fine;
}

static bool read_inputs(ab_mainjob *job)
{
    ab_lp_parser *parser = ab_lp_new();
    size_t total = 0;
    bool fine = parser != NULL || fail(job, "out of memory");
    for (size_t i = 0; i < job->input_count && fine; i++) {
        FILE *file = fopen(job->inputs[i], "re");
        if (file == NULL) {
            fine = fail(job, "%s: %s", job->inputs[i], strerror(errno));
            break;
        }
        fine = read_lines(job, parser, job->inputs[i], file, &total);
        fclose(file);
    }
    ab_lp_free(parser);
    job->lines = total;
    return fine && (total > 0 || fail(job, "no lines in the input"));
}

static bool start_nodes(ab_mainjob *job)
{
    ab_cluster_options options = {
        .bin = job->bin, .dir = job->dir, .count = AB_MAINJOB_NODES, .groups = (unsigned)job->groups};
    if (!ab_cluster_init(&job->cluster, &options)) {
        return fail(job, "%s", job->cluster.error);
    }
    for (size_t i = 0; i < AB_MAINJOB_NODES; i++) {
        if (!ab_cluster_start(&job->cluster, i)) {
            return fail(job, "%s", job->cluster.error);
        }
    }
    printf("  3 nodes serve: http ports %u, %u, %u; durability sync; %u groups; in %s\n",
           (unsigned)ab_cluster_http_port(&job->cluster, 0), (unsigned)ab_cluster_http_port(&job->cluster, 1),
           (unsigned)ab_cluster_http_port(&job->cluster, 2), (unsigned)job->groups, job->dir);
    return true;
}

static void show_progress(const ab_mainjob *job, bool last)
{
    size_t done = 0;
    size_t all = 0;
    for (size_t i = 0; i < AB_MAINJOB_NODES; i++) {
        done += atomic_load(&job->feeds[i].acknowledged);
        all += job->feeds[i].batch_count;
    }
    if (isatty(STDOUT_FILENO) != 0) {
        printf("\r  acknowledged: %3zu %% of %zu batches%s", all > 0 ? done * 100 / all : 0, all,
               last ? "\n" : "");
        fflush(stdout);
    }
}

static bool any_runs(const ab_mainjob *job)
{
    for (size_t i = 0; i < AB_MAINJOB_NODES; i++) {
        if (atomic_load(&job->feeds[i].running)) {
            return true;
        }
    }
    return false;
}

/* Node 2 is killed when a good third of its batches is acknowledged, with the next one under way. */
static bool kill_and_restart(ab_mainjob *job)
{
    ab_feed *feed = &job->feeds[VICTIM];
    size_t at = feed->batch_count * 2 / 5;
    while (atomic_load(&feed->acknowledged) < at && atomic_load(&feed->running)) {
        show_progress(job, false);
        ab_pause();
    }
    size_t before = atomic_load(&feed->acknowledged);
    uint64_t start = ab_now_ms();
    if (!ab_cluster_signal(&job->cluster, VICTIM, SIGKILL, NULL) ||
        !ab_cluster_start(&job->cluster, VICTIM)) {
        return fail(job, "%s", job->cluster.error);
    }
    printf("%s  node 2 killed with kill -9 after %zu of its %zu batches, serving again %llu ms later\n",
           isatty(STDOUT_FILENO) != 0 ? "\r" : "", before, feed->batch_count,
           (unsigned long long)(ab_now_ms() - start));
    return true;
}

static bool feed_all(ab_mainjob *job)
{
    uint64_t start = ab_now_ms();
    size_t started = 0;
    bool fine = true;
    for (; started < AB_MAINJOB_NODES && fine; started++) {
        ab_feed *feed = &job->feeds[started];
        feed->cluster = &job->cluster;
        feed->node = started;
        feed->timeout_ms = ACK_TIMEOUT_MS;
        fine = ab_feed_start(feed, job->batch) || fail(job, "cannot start a thread");
    }
    fine = fine && kill_and_restart(job);
    while (fine && any_runs(job)) {
        show_progress(job, false);
        ab_pause();
    }
    show_progress(job, true);
    size_t retried = 0;
    size_t batches = 0;
    for (size_t i = 0; i < started; i++) {
        atomic_store(&job->feeds[i].stop, !fine);
        if (!ab_feed_join(&job->feeds[i]) && fine) {
            fine = fail(job, "node %zu: %s", i + 1, job->feeds[i].error);
        }
        batches += job->feeds[i].batch_count;
        for (size_t k = 0; k < job->feeds[i].batch_count; k++) {
            retried += job->feeds[i].batches[k].attempts > 1 ? 1 : 0;
        }
    }
    uint64_t took = ab_now_ms() - start;
    if (fine) {
        printf("  %llu lines acknowledged in %zu batches (%zu sent again) in %.2f s: %.0f lines/s\n",
               (unsigned long long)job->lines, batches, retried, (double)took / 1000,
               (double)job->lines * 1000 / (double)(took > 0 ? took : 1));
    }
    return fine;
}

static bool same_files(const char *a, const char *b)
{
    FILE *left = fopen(a, "re");
    FILE *right = fopen(b, "re");
    static char one[65536];
    static char two[65536];
    bool same = left != NULL && right != NULL;
    for (size_t n = 1; same && n > 0;) {
        n = fread(one, 1, sizeof one, left);
        same = fread(two, 1, sizeof two, right) == n && memcmp(one, two, n) == 0;
    }
    if (left != NULL) {
        fclose(left);
    }
    if (right != NULL) {
        fclose(right);
    }
    return same;
}

static bool compare_exports(ab_mainjob *job, char paths[AB_MAINJOB_NODES][300])
{
    for (size_t i = 0; i < AB_MAINJOB_NODES; i++) {
        snprintf(paths[i], 300, "%s/export%zu.lp", job->dir, i + 1);
        if (!ab_cluster_export(&job->cluster, i, paths[i])) {
            return fail(job, "%s", job->cluster.error);
        }
    }
    for (size_t i = 1; i < AB_MAINJOB_NODES; i++) {
        if (!same_files(paths[0], paths[i])) {
            return fail(job, "the exports of node 1 and node %zu differ", i + 1);
        }
    }
    return true;
}

static bool judge(ab_mainjob *job, const char *path)
{
    ab_verdict_counts counts = {0};
    ab_verdict *verdict = ab_verdict_new((unsigned)job->groups);
    bool held = verdict != NULL || fail(job, "out of memory");
    for (size_t i = 0; i < AB_MAINJOB_NODES && held; i++) {
        held = ab_verdict_add(verdict, &job->feeds[i], &counts) || fail(job, "%s", counts.error);
    }
    held = held && (ab_verdict_check(verdict, path, &counts) || fail(job, "%s", counts.error));
    ab_verdict_free(verdict);
    if (held) {
        printf("  ok: every acknowledged point is there, and nothing else: %zu points\n", counts.points);
        printf("  ok: %zu conflicts, each won by the greatest (hlc, node)\n", counts.conflicts);
    }
    return held;
}

static bool check(ab_mainjob *job)
{
    char paths[AB_MAINJOB_NODES][300];
    uint64_t start = ab_now_ms();
    if (!ab_cluster_converge(&job->cluster, CONVERGE_TIMEOUT_MS, NULL)) {
        return fail(job, "%s", job->cluster.error);
    }
    printf("  ok: the three digests are equal (%llu ms after the last acknowledgement)\n",
           (unsigned long long)(ab_now_ms() - start));
    if (!compare_exports(job, paths)) {
        return false;
    }
    printf("  ok: the three exports are equal, byte by byte\n");
    return judge(job, paths[0]);
}

/* Shows a command of the inspector over some of the nodes and runs it. */
static bool run_inspector(ab_mainjob *job, const char *program, const char *command, size_t first,
                          size_t count)
{
    const char *arguments[2 + 2 * AB_MAINJOB_NODES + 1] = {program, command};
    char data[AB_MAINJOB_NODES][300];
    printf("\n$ anabranch %s", command);
    for (size_t i = 0; i < count; i++) {
        snprintf(data[i], sizeof data[i], "%s/data", job->cluster.nodes[first + i].dir);
        arguments[2 + 2 * i] = "--data";
        arguments[3 + 2 * i] = data[i];
        printf(" --data %s", data[i]);
    }
    printf("\n");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execv(program, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return fail(job, "anabranch %s: exit code %d", command, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    }
    return true;
}

/* The inspector's view of the nodes, where it is built. */
static bool inspect(ab_mainjob *job)
{
    char program[300];
    snprintf(program, sizeof program, "%s/anabranch", job->bin);
    if (access(program, X_OK) != 0) {
        return true;
    }
    bool held = run_inspector(job, program, "status", VICTIM, 1) &&
                run_inspector(job, program, "peers", 0, AB_MAINJOB_NODES) &&
                run_inspector(job, program, "digest", 0, AB_MAINJOB_NODES);
    printf("\n");
    return held;
}

static bool stop_nodes(ab_mainjob *job)
{
    for (size_t i = 0; i < AB_MAINJOB_NODES; i++) {
        int status = 0;
        if (!ab_cluster_signal(&job->cluster, i, SIGTERM, &status)) {
            return fail(job, "%s", job->cluster.error);
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            return fail(job, "node %zu did not stop in order", i + 1);
        }
    }
    printf("  ok: the nodes stopped in order\n");
    return true;
}

bool ab_mainjob_run(ab_mainjob *job)
{
    uint64_t start = ab_now_ms();
    bool held = job->input_count > 0 ? read_inputs(job) : make_lines(job);
    if (job->batch > job->lines / BATCHES_MIN) {
        job->batch = 1 + job->lines / BATCHES_MIN;
    }
    if (held) {
        printf("Main job: %llu lines of %s to three nodes at once\n", (unsigned long long)job->lines,
               job->input_count > 0 ? "the input" : "simulated plant sensors");
    }
    held = held && start_nodes(job) && feed_all(job) && check(job) && inspect(job) && stop_nodes(job);
    ab_cluster_stop(&job->cluster);
    for (size_t i = 0; i < AB_MAINJOB_NODES; i++) {
        ab_feed_free(&job->feeds[i]);
    }
    if (held) {
        printf("  all checks held, %.1f s altogether\n", (double)(ab_now_ms() - start) / 1000);
    }
    return held;
}
