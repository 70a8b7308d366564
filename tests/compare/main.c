/* SPDX-License-Identifier: Apache-2.0 */
/* The comparison: options, a place to work, rounds of all systems, report. Main thread; the servers are processes of
 * their own, the clients of the peers are here. */
#include "tests/compare/options.h"
#include "tests/compare/ours.h"
#include "tests/compare/peers.h"
#include "tests/compare/report.h"
#include "tools/anabranch/bench_sys.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

const struct ab_cmp_peer *ab_cmp_peer_of(enum ab_cmp_system system)
{
    switch (system) {
    case AB_CMP_REDIS_ALWAYS:
        return &ab_cmp_redis_always;
    case AB_CMP_REDIS_EVERYSEC:
        return &ab_cmp_redis_everysec;
    case AB_CMP_REDIS_WAIT:
        return &ab_cmp_redis_wait;
    case AB_CMP_NATS:
        return &ab_cmp_nats;
    case AB_CMP_ETCD:
        return &ab_cmp_etcd;
    default:
        return NULL;
    }
}

static int open_cancel(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return sigprocmask(SIG_BLOCK, &set, NULL) == 0 ? signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK) : -1;
}

static void fill_cell(struct ab_cmp_cell *cell, const struct ab_cmp_load_result *result, uint64_t equal,
                      uint64_t cpu)
{
    double entries = (double)(result->entries - result->before);
    cell->known = entries > 0;
    cell->entries = entries;
    cell->figures[AB_CMP_RATE] = entries / ((double)(equal - result->mark) / 1e9);
    cell->figures[AB_CMP_P50] = (double)ab_hist_percentile(&result->latency, 500000) / 1e3;
    cell->figures[AB_CMP_P99] = (double)ab_hist_percentile(&result->latency, 990000) / 1e3;
    cell->figures[AB_CMP_CPU] = (double)(cpu - result->cpu_at_mark) / 1e9 / (entries / 1e6);
    cell->figures[AB_CMP_CATCH_UP] = (double)(equal - result->last_ack) / 1e6;
}

/* Three fresh nodes, the load, the end of it on all nodes, the counts. */
static int run_peer(struct ab_cmp_site *site, const struct ab_cmp_peer *peer, enum ab_cmp_case which,
                    struct ab_cmp_load_result *result, struct ab_cmp_cell *cell)
{
    uint16_t port = 0;
    if (peer->start(site, &port) != 0 || ab_cmp_load_run(site, peer->proto, port, which, result) != 0 ||
        peer->settle(site, result) != 0) {
        return -1;
    }
    uint64_t equal = ab_bench_now(), cpu = ab_cmp_site_cpu_ns(site);
    fill_cell(cell, result, equal, cpu);
    return peer->verify(site, result);
}

static int run_system(struct ab_cmp_site *site, enum ab_cmp_system system, uint32_t round,
                      enum ab_cmp_case which, struct ab_cmp_load_result *result, struct ab_cmp_round *cells)
{
    char name[64];
    const struct ab_cmp_peer *peer = ab_cmp_peer_of(system);
    snprintf(name, sizeof name, "%s-%s-%u", ab_cmp_system_name(system),
             peer ? ab_cmp_case_name(which) : "all", round + 1);
    int rc = ab_cmp_site_open(site, name);
    if (rc == 0) {
        rc = peer ? run_peer(site, peer, which, result, &cells->cells[system][which])
                  : ab_cmp_ours_run(site, cells);
        ab_cmp_site_close(site);
    }
    if (rc != 0) {
        fprintf(stderr, "compare: %s: %s\n", name, site->error);
    }
    return rc;
}

static void progress(uint32_t round, enum ab_cmp_system system, enum ab_cmp_case which,
                     const struct ab_cmp_round *cells)
{
    const struct ab_cmp_cell *cell = &cells->cells[system][which];
    if (cell->known) {
        fprintf(stderr, "round %u: %-15s %-8s %12.0f entries/s, p50 %.0f us\n", round + 1,
                ab_cmp_system_name(system), ab_cmp_case_name(which), cell->figures[AB_CMP_RATE],
                cell->figures[AB_CMP_P50]);
    }
}

static int run_round(struct ab_cmp_site *site, uint32_t round, struct ab_cmp_load_result *result,
                     struct ab_cmp_round *cells)
{
    const struct ab_cmp_options *options = site->options;
    if (run_system(site, AB_CMP_OURS, round, AB_CMP_MANY, result, cells) != 0) {
        return -1;
    }
    for (int c = 0; c < AB_CMP_CASES; c++) {
        enum ab_cmp_case which = (enum ab_cmp_case)c;
        progress(round, AB_CMP_LOOP, which, cells);
        progress(round, AB_CMP_OURS, which, cells);
        for (int s = AB_CMP_REDIS_ALWAYS; s < AB_CMP_SYSTEMS && options->cases[c]; s++) {
            enum ab_cmp_system system = (enum ab_cmp_system)s;
            if (!options->systems[s] || (which == AB_CMP_MANY && !ab_cmp_peer_of(system)->many)) {
                continue;
            }
            if (run_system(site, system, round, which, result, cells) != 0) {
                return -1;
            }
            progress(round, system, which, cells);
        }
    }
    return 0;
}

/* The first line that a program says about itself. */
static void ask_version(const char *command, char version[64])
{
    FILE *pipe = popen(command, "re");
    if (pipe && fgets(version, 64, pipe)) {
        version[strcspn(version, "\r\n")] = '\0';
    }
    if (pipe) {
        pclose(pipe);
    }
}

static void ask_versions(struct ab_cmp_report *report)
{
    char command[AB_CMP_PATH_MAX + 32];
    snprintf(command, sizeof command, "'%s' --version", report->options->program);
    ask_version(command, report->versions[AB_CMP_OURS]);
    ask_version("redis-server --version | cut -d' ' -f1-3", report->versions[AB_CMP_REDIS_ALWAYS]);
    memcpy(report->versions[AB_CMP_REDIS_EVERYSEC], report->versions[AB_CMP_REDIS_ALWAYS], 64);
    memcpy(report->versions[AB_CMP_REDIS_WAIT], report->versions[AB_CMP_REDIS_ALWAYS], 64);
    ask_version("nats-server --version", report->versions[AB_CMP_NATS]);
    ask_version("etcd --version", report->versions[AB_CMP_ETCD]);
}

static int measure(struct ab_cmp_site *site)
{
    struct ab_cmp_report report = {.options = site->options, .fs = ab_bench_fs_name(site->base)};
    struct ab_cmp_load_result *result = calloc(1, sizeof *result);
    report.rounds = calloc(site->options->rounds, sizeof report.rounds[0]);
    int rc = result && report.rounds ? 0 : ab_cmp_fail(site, "out of memory");
    if (strcmp(report.fs, "tmpfs") == 0) {
        fprintf(
            stderr,
            "compare: warning: %s is in memory (tmpfs): the figures say nothing about a disk; see --dir\n",
            site->base);
    }
    ask_versions(&report);
    for (uint32_t i = 0; i < site->options->rounds && rc == 0; i++) {
        rc = run_round(site, i, result, &report.rounds[i]);
        report.count += rc == 0;
    }
    if (rc == 0) {
        rc = site->options->json ? ab_cmp_print_json(&report, stdout) : ab_cmp_print_table(&report, stdout);
    }
    free(report.rounds);
    free(result);
    return rc;
}

/* The directory of all runs, by its whole path: the servers work in folders of their own. */
static int make_base(struct ab_cmp_site *site)
{
    char *parent = realpath(site->options->dir, NULL);
    int n = parent ? snprintf(site->base, sizeof site->base, "%s/anabranch-compare-XXXXXX", parent) : -1;
    free(parent);
    if (n < 0 || (size_t)n >= sizeof site->base - 64 || !mkdtemp(site->base)) {
        fprintf(stderr, "compare: cannot make a directory in %s: %s. Choose another with --dir\n",
                site->options->dir, strerror(errno));
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct ab_cmp_options options;
    ab_cmp_options_init(&options);
    if (ab_cmp_options_parse(argc, argv, &options, stderr) != 0) {
        return 2;
    }
    if (options.help) {
        ab_cmp_help(stdout);
        return 0;
    }
    struct ab_cmp_site site = {.options = &options};
    site.cancel_fd = open_cancel(); /* before there is anything to clean up */
    if (site.cancel_fd < 0 || make_base(&site) != 0) {
        return 1;
    }
    int rc = measure(&site);
    if (options.keep) {
        fprintf(stderr, "compare: data kept in %s\n", site.base);
    } else if (ab_bench_remove_tree(site.base) != 0) {
        fprintf(stderr, "compare: removing %s: %s\n", site.base, strerror(errno));
    }
    close(site.cancel_fd);
    return rc == 0 ? 0 : 1;
}
