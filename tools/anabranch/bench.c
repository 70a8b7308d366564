/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand `anabranch bench`: options, a place to work, rounds, report. Main thread; the nodes and the loops
 * it measures are processes of their own. */
#include "tools/anabranch/bench.h"
#include "tools/anabranch/bench_child.h"
#include "tools/anabranch/bench_report.h"
#include "tools/anabranch/bench_sys.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Interrupts become readable on a descriptor: the run that is under way ends, directories are removed. */
static int open_cancel(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
        return -1;
    }
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Makes the directory that all runs work in. @return 0, or 1: what went wrong was said */
static int make_base(const struct ab_bench_opts *opts, char path[AB_BENCH_PATH_MAX])
{
    const char *parent = opts->dir;
    if (!*parent) {
        parent = getenv("TMPDIR");
    }
    if (!parent || !*parent) {
        parent = ".";
    }
    int n = snprintf(path, AB_BENCH_PATH_MAX, "%s/anabranch-bench-XXXXXX", parent);
    if (n < 0 || (size_t)n >= AB_BENCH_PATH_MAX - 32) {
        fprintf(stderr, "anabranch bench: %s: path too long\n", parent);
        return 1;
    }
    if (!mkdtemp(path)) {
        fprintf(stderr, "anabranch bench: cannot make a directory in %s: %s. Choose another with --dir\n",
                parent, strerror(errno));
        return 1;
    }
    return 0;
}

static int run_column(const struct ab_bench_site *site, enum ab_bench_column column, uint32_t round,
                      struct ab_bench_result *result)
{
    const struct ab_bench_opts *opts = site->opts;
    struct ab_bench_loops loops = {
        ab_bench_column_name(column), 1, {.block = 1, .backlog = opts->ref.backlog}};
    switch (column) {
    case AB_COL_LOOPS:
        loops.count = opts->load.nodes;
        loops.ref = opts->ref;
        return ab_bench_run_loops(site, &loops, round, result);
    case AB_COL_LOOP_ONE:
        return ab_bench_run_loops(site, &loops, round, result);
    case AB_COL_LOOP_RESTS:
        loops.ref.rests = true;
        return ab_bench_run_loops(site, &loops, round, result);
    case AB_COL_MANY:
        return ab_bench_run_cluster(site, AB_BENCH_MANY, round, result);
    case AB_COL_ONE:
        return ab_bench_run_cluster(site, AB_BENCH_ONE, round, result);
    case AB_COL_LATENCY:
        return ab_bench_run_cluster(site, AB_BENCH_LATENCY, round, result);
    case AB_COL_TCP:
        return ab_bench_run_tcp(site, round, result);
    case AB_COL_IDLE_ONE:
        return ab_bench_run_idle(site, 1, round, result);
    case AB_COL_IDLE:
        return ab_bench_run_idle(site, opts->idle_groups, round, result);
    default:
        return ab_bench_run_cluster(site, AB_BENCH_SILENCE, round, result);
    }
}

/* One line per run for those who wait. */
static void progress(const struct ab_bench_opts *opts, uint32_t round, enum ab_bench_column column,
                     const struct ab_bench_result *result)
{
    if (opts->verbose || isatty(STDERR_FILENO)) {
        fprintf(stderr, "round %u of %u: %-8s %12.0f entries/s, p50 %.0f us\n", round, opts->rounds,
                ab_bench_column_name(column), result->figures[AB_FIG_ENTRIES_PER_S],
                result->figures[AB_FIG_P50_US]);
    }
}

static int run_rounds(const struct ab_bench_site *site, struct ab_bench_report *report)
{
    for (uint32_t i = 0; i < site->opts->rounds; i++) {
        struct ab_bench_round *round = &report->results[i];
        for (int c = 0; c < AB_COL_COUNT; c++) {
            enum ab_bench_column column = (enum ab_bench_column)c;
            if (!report->columns[c]) {
                continue;
            }
            if (run_column(site, column, i + 1, &round->columns[c]) != 0) {
                return 1;
            }
            progress(site->opts, i + 1, column, &round->columns[c]);
        }
        ab_bench_ratios(report->columns, round);
        report->rounds++;
    }
    return 0;
}

static int print(const struct ab_bench_report *report)
{
    int rc = report->opts->json ? ab_bench_print_json(report, stdout) : ab_bench_print_table(report, stdout);
    if (rc != 0) {
        fputs("anabranch bench: cannot write the report\n", stderr);
    }
    return rc == 0 ? 0 : 1;
}

static int measure(const struct ab_bench_opts *opts, const char *dir, int cancel_fd)
{
    struct ab_bench_site site = {.opts = opts, .dir = dir, .cancel_fd = cancel_fd, .err = stderr};
    struct ab_bench_report report = {.opts = opts, .dir = dir, .fs = ab_bench_fs_name(dir)};
    ab_bench_columns(opts, report.columns);
    report.results = calloc(opts->rounds, sizeof report.results[0]);
    int rc = 1;
    if (!report.results) {
        fputs("anabranch bench: out of memory\n", stderr);
    } else {
        if (strcmp(report.fs, "tmpfs") == 0) {
            fprintf(
                stderr,
                "anabranch bench: warning: %s is in memory (tmpfs): syncs cost nothing there, the figures "
                "say nothing about a disk. Choose one with --dir\n",
                dir);
        }
        rc = run_rounds(&site, &report);
        if (rc == 0) {
            rc = print(&report);
        }
        if (rc == 0 && *opts->svg) {
            rc = ab_bench_plot(&report, stderr) == 0 ? 0 : 1;
        }
    }
    free(report.results);
    return rc;
}

int cmd_bench(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--child") == 0) {
        return ab_bench_child_main();
    }
    struct ab_bench_opts opts;
    char dir[AB_BENCH_PATH_MAX] = "";
    ab_bench_opts_init(&opts);
    if (ab_bench_opts_parse(argc, argv, &opts, stderr) != 0) {
        return 2;
    }
    if (opts.help) {
        ab_bench_help(stdout);
        return 0;
    }
    /* before there is anything to clean up */
    int cancel_fd = open_cancel();
    if (cancel_fd < 0) {
        fprintf(stderr, "anabranch bench: signals: %s\n", strerror(errno));
        return 1;
    }
    if (make_base(&opts, dir) != 0) {
        close(cancel_fd);
        return 1;
    }
    int rc = measure(&opts, dir, cancel_fd);
    if (opts.keep) {
        fprintf(stderr, "anabranch bench: data kept in %s\n", dir);
    } else if (ab_bench_remove_tree(dir) != 0) {
        fprintf(stderr, "anabranch bench: removing %s: %s\n", dir, strerror(errno));
    }
    close(cancel_fd);
    return rc;
}
