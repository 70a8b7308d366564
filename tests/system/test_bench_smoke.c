/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch bench` with real nodes: figures that make sense, JSON that parses, exit codes, and nothing left behind.
 * One thread; the bench is a process of its own. */
#include "tests/support/run.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char dir[64];

static void setup(void)
{
    strcpy(dir, "bench-smoke-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

/* Whatever a run made is gone again, or this fails. */
static void teardown(void)
{
    ck_assert_int_eq(rmdir(dir), 0);
}

/* Runs the bench; the caller frees `text`, what it printed. @return its exit code */
static int bench(const char *arguments, char **text)
{
    char command[1024];
    size_t size = 0, n;
    char chunk[4096];
    FILE *out = open_memstream(text, &size);
    snprintf(command, sizeof command, "exec %s bench %s", AB_TOOL, arguments);
    FILE *pipe = popen(command, "r");
    ck_assert(out && pipe);
    while ((n = fread(chunk, 1, sizeof chunk, pipe)) > 0) {
        fwrite(chunk, 1, n, out);
    }
    fclose(out);
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static double median(const json_t *root, const char *column, const char *figure)
{
    double value = -1;
    json_error_t error;
    ck_assert_msg(
        json_unpack_ex((json_t *)root, &error, 0, "{s:{s:{s:F}}}", "median", column, figure, &value) == 0,
        "%s.%s: %s", column, figure, error.text);
    return value;
}

static void check_cluster(const json_t *root, const char *column)
{
    ck_assert_double_gt(median(root, column, "entries"), 0);
    ck_assert_double_gt(median(root, column, "entries_per_s"), 0);
    ck_assert_double_gt(median(root, column, "acknowledged_per_s"), 0);
    ck_assert_double_ge(median(root, column, "catch_up_ms"), 0);
    ck_assert_double_gt(median(root, column, "p50_us"), 0);
    ck_assert_double_ge(median(root, column, "p99_us"), median(root, column, "p50_us"));
    ck_assert_double_ge(median(root, column, "p999_us"), median(root, column, "p99_us"));
    ck_assert_double_gt(median(root, column, "cpu_s_per_million"), 0);
    ck_assert_double_gt(median(root, column, "peak_mib"), 1);
    /* every payload byte crosses each wire once; what is under way when measuring begins blurs a short run */
    ck_assert_double_ge(median(root, column, "wire_bytes_per_payload_byte"), 0.8);
}

START_TEST(all_cases_as_json)
{
    char arguments[256];
    char *text = NULL;
    json_error_t error;
    snprintf(arguments, sizeof arguments, "--json --rounds 1 --duration 1 --warmup 0.1 --dir %s", dir);
    ck_assert_int_eq(bench(arguments, &text), 0);
    json_t *root = json_loads(text, 0, &error);
    ck_assert_msg(root != NULL, "line %d: %s in %s", error.line, error.text, text);
    check_cluster(root, "many");
    check_cluster(root, "one");
    check_cluster(root, "latency");
    check_cluster(root, "silence");
    /* what is applied everywhere has been acknowledged, two commits ago */
    ck_assert_double_gt(median(root, "silence", "p50_us"), 20);
    ck_assert_double_gt(median(root, "many", "log_bytes_ratio"), 0.5);
    ck_assert_double_lt(median(root, "many", "log_bytes_ratio"), 2);
    ck_assert_double_gt(median(root, "loops", "entries_per_s"), 0);
    ck_assert_double_gt(median(root, "loop1", "p50_us"), 0);
    ck_assert_double_gt(median(root, "loop1rest", "p50_us"), 0);
    ck_assert_double_gt(median(root, "silence", "latency_ratio"), 0);
    ck_assert_double_gt(median(root, "tcp", "entries_per_s"), 0);
    ck_assert_double_gt(median(root, "many", "ratio"), 0);
    ck_assert_double_gt(median(root, "one", "ratio"), 0);
    ck_assert_double_gt(median(root, "latency", "latency_ratio"), 0);
    ck_assert_double_lt(median(root, "many", "wire_bytes_per_payload_byte"), 2);
    json_decref(root);
    free(text);
}
END_TEST

START_TEST(several_groups_as_table)
{
    char arguments[256];
    char *text = NULL;
    snprintf(
        arguments, sizeof arguments,
        "--cases many --entries 3000 --groups 3 --writers 2 --batch 7 --rounds 2 --duration 0.1 --dir %s",
        dir);
    ck_assert_int_eq(bench(arguments, &text), 0);
    ck_assert_msg(strstr(text, "3 nodes, 3 groups") && strstr(text, "ratio to one bare loop") &&
                      strstr(text, "9000") && strstr(text, "all replicas equal"),
                  "%s", text);
    free(text);
}
END_TEST

/* Over links with a delay everything arrives that much later; plots are written. */
START_TEST(over_slow_links_with_plots)
{
    char arguments[256], path[128];
    char *text = NULL;
    snprintf(arguments, sizeof arguments,
             "--json --cases silence --rounds 1 --duration 0.5 --warmup 0.1 --link-delay 15 --link-rate 5M "
             "--dir %s --svg %s/plot",
             dir, dir);
    ck_assert_int_eq(bench(arguments, &text), 0);
    json_t *root = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(root);
    ck_assert_double_ge(median(root, "silence", "p50_us"), 15000);
    json_decref(root);
    free(text);
    static const char *const plots[] = {"throughput", "latency"};
    for (size_t i = 0; i < 2; i++) {
        char begin[5] = "";
        snprintf(path, sizeof path, "%s/plot-%s.svg", dir, plots[i]);
        FILE *plot = fopen(path, "r");
        ck_assert_msg(plot && fread(begin, 1, 4, plot) == 4 && strcmp(begin, "<svg") == 0, "%s: %s", path,
                      begin);
        fclose(plot);
        unlink(path);
    }
}
END_TEST

/* The one figure that is held to its target here: it depends on nothing but the code. */
START_TEST(idle_groups)
{
    char arguments[256];
    char *text = NULL;
    snprintf(arguments, sizeof arguments, "--json --idle --idle-groups %u --rounds 1 --duration 0.2 --dir %s",
             test_sanitized() ? 100u : 10000u, dir);
    ck_assert_int_eq(bench(arguments, &text), 0);
    json_t *root = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(root);
    ck_assert_double_gt(median(root, "idle1", "resident_mib"), 1);
    ck_assert_double_gt(median(root, "idle", "opened_s"), 0);
    ck_assert_double_ge(median(root, "idle", "core_percent"), 0);
    double more = median(root, "idle", "more_mib") * 1024 * 1024 / 1e6;
    ck_assert_double_gt(more, 0);
    ck_assert_msg(test_sanitized() || more < 20, "10,000 idle groups take %.1f MB more than one", more);
    json_decref(root);
    free(text);
}
END_TEST

START_TEST(use_and_help)
{
    char *text = NULL;
    ck_assert_int_eq(bench("--nonsense 2>&1", &text), 2);
    ck_assert_ptr_nonnull(strstr(text, "--nonsense: no such option"));
    free(text);
    ck_assert_int_eq(bench("--help", &text), 0);
    ck_assert_ptr_nonnull(strstr(text, "How to read the figures"));
    free(text);
    ck_assert_int_eq(bench("--dir /no/such/place 2>&1", &text), 1);
    ck_assert_ptr_nonnull(strstr(text, "Choose another with --dir"));
    free(text);
}
END_TEST

static int entries_in(const char *path)
{
    int count = 0;
    DIR *open_dir = opendir(path);
    ck_assert_ptr_nonnull(open_dir);
    while (readdir(open_dir)) {
        count++;
    }
    closedir(open_dir);
    return count - 2;
}

/* An interrupt ends it at once, and teardown() finds the directory empty. */
START_TEST(interrupt_cleans_up)
{
    char *argv[] = {(char[]){AB_TOOL},
                    (char[]){"bench"},
                    (char[]){"--dir"},
                    dir,
                    (char[]){"--duration"},
                    (char[]){"3600"},
                    NULL};
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        execv(AB_TOOL, argv);
        _exit(127);
    }
    struct timespec tick = {0, 1000000};
    while (entries_in(dir) == 0) {
        ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
        nanosleep(&tick, NULL);
    }
    int status = 0;
    ck_assert_int_eq(kill(pid, SIGINT), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench smoke");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, all_cases_as_json);
    tcase_add_test(tcase, several_groups_as_table);
    tcase_add_test(tcase, over_slow_links_with_plots);
    tcase_add_test(tcase, idle_groups);
    tcase_add_test(tcase, use_and_help);
    tcase_add_test(tcase, interrupt_cleans_up);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
