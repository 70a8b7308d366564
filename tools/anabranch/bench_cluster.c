/* SPDX-License-Identifier: Apache-2.0 */
/* One run of a cluster or of the reference loops, see bench_cluster.h. Main thread of the bench. */
#include "tools/anabranch/bench_cluster.h"
#include "tools/anabranch/bench_crew.h"
#include "tools/anabranch/bench_relay.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull
#define STEP_TIMEOUT_NS (60 * NS_PER_S)
#define EQUAL_TIMEOUT_NS (120 * NS_PER_S)
#define ENTRIES_TIMEOUT_NS (3600 * NS_PER_S) /* of a run that ends with a number of entries */
#define SETTLE_NS (2 * NS_PER_S)             /* idle: after everything was opened */
#define START_DELAY_NS 20000000u             /* every process has read its GO by then */

/* Sums over the processes of a run. */
struct sum {
    struct ab_bench_stats all; /* peak: the greatest; latency: merged */
    uint64_t start;
    uint64_t mark;    /* end of the warm-up */
    uint64_t entries; /* with the warm-up's */
    uint64_t acked;   /* without */
    uint64_t applied; /* without: on the replica that had applied the most by then */
    uint64_t busy;
    uint64_t last_ack;
    uint64_t last_apply;
};

/* Between the nodes of a run, one for each pair. */
struct relays {
    ab_bench_relay *all[AB_BENCH_NODES_MAX * (AB_BENCH_NODES_MAX - 1) / 2];
    size_t count;
};

static void stop_relays(struct relays *relays)
{
    while (relays->count > 0) {
        ab_bench_relay_stop(relays->all[--relays->count]);
    }
}

static struct ab_bench_setup *new_setup(const struct ab_bench_site *site, enum ab_bench_role role)
{
    struct ab_bench_setup *setup = calloc(1, sizeof *setup);
    if (!setup) {
        fprintf(site->err, "anabranch bench: out of memory\n");
        return NULL;
    }
    setup->role = role;
    setup->verbose = site->opts->verbose;
    setup->load = site->opts->load;
    setup->ref = site->opts->ref;
    return setup;
}

static int make_dir(const struct ab_bench_site *site, const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        fprintf(site->err, "anabranch bench: %s: %s\n", path, strerror(errno));
        return 1;
    }
    return 0;
}

/* Makes the directory of a process of a run, and tells it. */
static int place(const struct ab_bench_site *site, const char *run, struct ab_bench_setup *setup)
{
    int n = snprintf(setup->dir, sizeof setup->dir, "%s/%u", run, setup->id);
    if (n < 0 || (size_t)n >= sizeof setup->dir) {
        fprintf(site->err, "anabranch bench: %s: path too long\n", run);
        return 1;
    }
    return make_dir(site, setup->dir);
}

/* The port at which node `id` reaches the one that listens at `port`: its own, or that of a relay in between. 0: no
 * relay could be started, that was said. */
static uint16_t reach(const struct ab_bench_site *site, struct relays *relays, uint16_t port)
{
    const struct ab_bench_opts *opts = site->opts;
    if (!opts->link_delay_ns && !opts->link_rate) {
        return port;
    }
    ab_bench_relay *relay = ab_bench_relay_start(port, opts->link_delay_ns, opts->link_rate);
    if (!relay) {
        fprintf(site->err, "anabranch bench: cannot start a relay between two nodes\n");
        return 0;
    }
    relays->all[relays->count++] = relay;
    return ab_bench_relay_port(relay);
}

static int start_nodes(const struct ab_bench_site *site, struct ab_bench_crew *crew, struct relays *relays,
                       const char *run, enum ab_bench_case which, uint32_t groups)
{
    struct ab_bench_setup *setup = new_setup(site, AB_BENCH_ROLE_NODE);
    int rc = setup ? 0 : 1;
    uint32_t nodes = site->opts->load.nodes;
    uint16_t ports[AB_BENCH_NODES_MAX] = {0};
    for (uint32_t id = 1; id <= nodes && rc == 0; id++) {
        setup->id = id;
        setup->which = which;
        bool lone = which == AB_BENCH_LATENCY || which == AB_BENCH_SILENCE;
        setup->writes = (!lone || id == 1) && which != AB_BENCH_IDLE;
        setup->load.groups = groups;
        setup->load.writers = lone ? 1 : site->opts->load.writers;
        rc = place(site, run, setup);
        for (uint32_t before = 1; before < id && rc == 0; before++) {
            setup->ports[before - 1] = reach(site, relays, ports[before - 1]);
            rc = setup->ports[before - 1] ? 0 : 1;
        }
        if (rc == 0) {
            rc = ab_bench_crew_add(crew, setup);
        }
        if (rc == 0) {
            ports[id - 1] = crew->members[id - 1].last.as.ready.port;
        }
    }
    free(setup);
    return rc;
}

static int start_references(const struct ab_bench_site *site, struct ab_bench_crew *crew,
                            enum ab_bench_role role, const char *run, const struct ab_bench_loops *loops)
{
    struct ab_bench_setup *setup = new_setup(site, role);
    int rc = setup ? 0 : 1;
    for (uint32_t id = 1; id <= loops->count && rc == 0; id++) {
        setup->id = id;
        setup->ref = loops->ref;
        rc = place(site, run, setup);
        if (rc == 0) {
            rc = ab_bench_crew_add(crew, setup);
        }
    }
    free(setup);
    return rc;
}

/* From GO to DONE. */
static int let_write(const struct ab_bench_site *site, struct ab_bench_crew *crew, bool warmup,
                     struct sum *sum)
{
    const struct ab_bench_load *load = &site->opts->load;
    uint64_t timeout =
        load->entries ? ENTRIES_TIMEOUT_NS : load->warmup_ns + load->duration_ns + STEP_TIMEOUT_NS;
    sum->start = ab_bench_now() + START_DELAY_NS;
    sum->mark = sum->start + (warmup ? load->warmup_ns : 0);
    struct ab_bench_go go = {sum->start, sum->mark};
    ab_bench_crew_order(crew, AB_BENCH_MSG_GO, &go, sizeof go);
    if (ab_bench_crew_await(crew, AB_BENCH_MSG_DONE, timeout) != 0) {
        return 1;
    }
    for (uint32_t i = 0; i < crew->count; i++) {
        const struct ab_bench_done *done = &crew->members[i].last.as.done;
        sum->entries += done->entries;
        sum->acked += done->entries - done->before;
        sum->busy += done->busy;
        sum->last_ack = done->last_ack > sum->last_ack ? done->last_ack : sum->last_ack;
    }
    return 0;
}

/* Holds the replicas against each other and against what was acknowledged. */
static int check_equal(const struct ab_bench_site *site, const struct ab_bench_crew *crew, uint64_t entries)
{
    const struct ab_bench_equal *first = &crew->members[0].last.as.equal;
    int rc = 0;
    for (uint32_t i = 0; i < crew->count; i++) {
        const struct ab_bench_equal *equal = &crew->members[i].last.as.equal;
        if (equal->entries != entries) {
            fprintf(site->err,
                    "anabranch bench: node %u has applied %" PRIu64 " entries, acknowledged were %" PRIu64
                    "\n",
                    i + 1, equal->entries, entries);
            rc = 1;
        }
        if (memcmp(equal->digest, first->digest, sizeof first->digest) != 0) {
            fprintf(site->err, "anabranch bench: replicas differ: digest of node %u is not that of node 1\n",
                    i + 1);
            rc = 1;
        }
    }
    return rc;
}

static int await_equal(const struct ab_bench_site *site, struct ab_bench_crew *crew, struct sum *sum)
{
    struct ab_bench_await await = {sum->entries, EQUAL_TIMEOUT_NS};
    ab_bench_crew_order(crew, AB_BENCH_MSG_AWAIT, &await, sizeof await);
    if (ab_bench_crew_await(crew, AB_BENCH_MSG_EQUAL, EQUAL_TIMEOUT_NS + STEP_TIMEOUT_NS) != 0 ||
        check_equal(site, crew, sum->entries) != 0) {
        return 1;
    }
    for (uint32_t i = 0; i < crew->count; i++) {
        const struct ab_bench_equal *equal = &crew->members[i].last.as.equal;
        uint64_t applied = equal->entries - equal->before;
        sum->last_apply = equal->last_apply > sum->last_apply ? equal->last_apply : sum->last_apply;
        sum->applied = i == 0 || applied < sum->applied ? applied : sum->applied;
    }
    return 0;
}

/* A write before a silence has arrived when the last replica has applied it. */
static void add_arrivals(const struct ab_bench_crew *crew, struct sum *sum)
{
    uint32_t count = crew->members[0].last.as.stats.arrivals;
    for (uint32_t k = 0; k < count; k++) {
        uint32_t last = 0;
        for (uint32_t i = 0; i < crew->count; i++) {
            const struct ab_bench_stats *stats = &crew->members[i].last.as.stats;
            last = stats->arrival_us[k] > last ? stats->arrival_us[k] : last;
        }
        ab_hist_add(&sum->all.latency, last * UINT64_C(1000));
    }
}

static int collect(struct ab_bench_crew *crew, struct sum *sum)
{
    ab_bench_crew_order(crew, AB_BENCH_MSG_STATS, NULL, 0);
    if (ab_bench_crew_await(crew, AB_BENCH_MSG_STATS, STEP_TIMEOUT_NS) != 0) {
        return 1;
    }
    struct ab_bench_usage *all = &sum->all.usage;
    all->write_known = true;
    for (uint32_t i = 0; i < crew->count; i++) {
        const struct ab_bench_stats *stats = &crew->members[i].last.as.stats;
        all->cpu_ns += stats->usage.cpu_ns;
        all->write_bytes += stats->usage.write_bytes;
        all->call_bytes += stats->usage.call_bytes;
        all->write_known = all->write_known && stats->usage.write_known;
        all->peak_kib = stats->usage.peak_kib > all->peak_kib ? stats->usage.peak_kib : all->peak_kib;
        sum->all.sent_bytes += stats->sent_bytes;
        ab_hist_merge(&sum->all.latency, &stats->latency);
    }
    add_arrivals(crew, sum);
    return ab_bench_crew_dismiss(crew);
}

static double per(double amount, double of)
{
    return of > 0 ? amount / of : NAN;
}

/* 0 where nothing came after the warm-up */
static double seconds_since(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) / 1e9 : 0;
}

static double us(const struct ab_hist *hist, uint32_t ppm)
{
    return hist->total ? (double)ab_hist_percentile(hist, ppm) / 1e3 : NAN;
}

/* What cluster and loops have in common. `copies`: how often each entry was logged. */
static void common_figures(const struct sum *sum, double entries, double payload_logged, double *figures)
{
    for (unsigned i = 0; i < AB_FIG_COUNT; i++) {
        figures[i] = NAN;
    }
    const struct ab_hist *latency = &sum->all.latency;
    figures[AB_FIG_ENTRIES] = (double)sum->acked;
    figures[AB_FIG_P50_US] = us(latency, 500000);
    figures[AB_FIG_P99_US] = us(latency, 990000);
    figures[AB_FIG_P999_US] = us(latency, 999000);
    figures[AB_FIG_MAX_US] = us(latency, 1000000);
    figures[AB_FIG_CPU_S] = per((double)sum->all.usage.cpu_ns / 1e9, entries / 1e6);
    if (sum->all.usage.write_known) {
        /* what the nodes sent went through write calls as well */
        double files = (double)sum->all.usage.call_bytes - (double)sum->all.sent_bytes;
        figures[AB_FIG_LOGGED] = per(files, payload_logged);
        figures[AB_FIG_DISK] = per((double)sum->all.usage.write_bytes, payload_logged);
    }
    figures[AB_FIG_PEAK_MIB] = (double)sum->all.usage.peak_kib / 1024;
}

static void cluster_figures(const struct ab_bench_load *load, const struct sum *sum, double *figures)
{
    double entries = (double)sum->applied;
    double payload = entries * load->payload;
    common_figures(sum, entries, payload * load->nodes, figures);
    uint64_t last = sum->last_apply > sum->last_ack ? sum->last_apply : sum->last_ack;
    figures[AB_FIG_ENTRIES_PER_S] = per(entries, seconds_since(sum->mark, last));
    figures[AB_FIG_ACKED_PER_S] = per((double)sum->acked, seconds_since(sum->mark, sum->last_ack));
    figures[AB_FIG_CATCH_UP_MS] = seconds_since(sum->last_ack, last) * 1e3;
    figures[AB_FIG_WIRE] =
        load->nodes > 1 ? per((double)sum->all.sent_bytes, payload * (load->nodes - 1)) : NAN;
    figures[AB_FIG_BUSY] = (double)sum->busy;
}

/* The mean rate of one loop; the CPU of all for a million entries that each of them logged. */
static void loop_figures(const struct ab_bench_load *load, const struct ab_bench_crew *crew,
                         const struct sum *sum, double rate, double *figures)
{
    double mean = (double)sum->acked / crew->count;
    common_figures(sum, mean, (double)sum->acked * load->payload, figures);
    figures[AB_FIG_ENTRIES_PER_S] = rate;
    figures[AB_FIG_ACKED_PER_S] = rate * crew->count;
}

static void idle_figures(const struct ab_bench_load *load, const struct ab_bench_crew *crew,
                         const uint64_t *opened, double *figures)
{
    for (unsigned i = 0; i < AB_FIG_COUNT; i++) {
        figures[i] = NAN;
    }
    uint64_t open_ns = 0, cpu_ns = 0, rss = 0, peak = 0;
    for (uint32_t i = 0; i < crew->count; i++) {
        const struct ab_bench_usage *usage = &crew->members[i].last.as.stats.usage;
        open_ns = opened[i] > open_ns ? opened[i] : open_ns;
        cpu_ns = usage->cpu_ns > cpu_ns ? usage->cpu_ns : cpu_ns;
        rss = usage->rss_kib > rss ? usage->rss_kib : rss;
        peak = usage->peak_kib > peak ? usage->peak_kib : peak;
    }
    figures[AB_FIG_OPENED_S] = (double)open_ns / 1e9;
    figures[AB_FIG_CORE_PERCENT] = 100.0 * (double)cpu_ns / (double)load->duration_ns;
    figures[AB_FIG_RESIDENT_MIB] = (double)rss / 1024;
    figures[AB_FIG_PEAK_MIB] = (double)peak / 1024;
}

/* Opens, lets things settle, looks on. */
static int lead_idle(const struct ab_bench_site *site, struct ab_bench_crew *crew, struct relays *relays,
                     const char *run, uint32_t groups, struct ab_bench_result *result)
{
    uint64_t opened[AB_BENCH_NODES_MAX] = {0};
    uint64_t duration = site->opts->load.duration_ns;
    int rc = start_nodes(site, crew, relays, run, AB_BENCH_IDLE, groups);
    for (uint32_t i = 0; i < crew->count; i++) {
        opened[i] = crew->members[i].last.as.ready.opened_ns;
    }
    if (rc == 0) {
        ab_bench_crew_order(crew, AB_BENCH_MSG_LINK, NULL, 0);
        rc = ab_bench_crew_await(crew, AB_BENCH_MSG_LINK, STEP_TIMEOUT_NS);
    }
    if (rc == 0) {
        uint64_t now = ab_bench_now();
        struct ab_bench_go go = {now, now + SETTLE_NS};
        ab_bench_crew_order(crew, AB_BENCH_MSG_GO, &go, sizeof go);
        rc = ab_bench_crew_await(crew, AB_BENCH_MSG_DONE, SETTLE_NS + duration + STEP_TIMEOUT_NS);
    }
    if (rc == 0) {
        struct ab_bench_await await = {0, EQUAL_TIMEOUT_NS};
        ab_bench_crew_order(crew, AB_BENCH_MSG_AWAIT, &await, sizeof await);
        rc = ab_bench_crew_await(crew, AB_BENCH_MSG_EQUAL, EQUAL_TIMEOUT_NS + STEP_TIMEOUT_NS);
    }
    if (rc == 0) {
        ab_bench_crew_order(crew, AB_BENCH_MSG_STATS, NULL, 0);
        rc = ab_bench_crew_await(crew, AB_BENCH_MSG_STATS, STEP_TIMEOUT_NS);
    }
    if (rc == 0) {
        idle_figures(&site->opts->load, crew, opened, result->figures);
        rc = ab_bench_crew_dismiss(crew);
    }
    return rc;
}

static int lead_cluster(const struct ab_bench_site *site, struct ab_bench_crew *crew, struct relays *relays,
                        const char *run, enum ab_bench_case which, struct ab_bench_result *result)
{
    struct sum *sum = calloc(1, sizeof *sum);
    if (!sum) {
        fprintf(site->err, "anabranch bench: out of memory\n");
        return 1;
    }
    int rc = start_nodes(site, crew, relays, run, which, site->opts->load.groups);
    if (rc == 0) {
        ab_bench_crew_order(crew, AB_BENCH_MSG_LINK, NULL, 0);
        rc = ab_bench_crew_await(crew, AB_BENCH_MSG_LINK, STEP_TIMEOUT_NS);
    }
    if (rc == 0) {
        rc = let_write(site, crew, site->opts->load.entries == 0, sum);
    }
    if (rc == 0) {
        rc = await_equal(site, crew, sum);
    }
    if (rc == 0) {
        rc = collect(crew, sum);
    }
    if (rc == 0) {
        cluster_figures(&site->opts->load, sum, result->figures);
    }
    free(sum);
    return rc;
}

static int lead_references(const struct ab_bench_site *site, struct ab_bench_crew *crew,
                           enum ab_bench_role role, const char *run, const struct ab_bench_loops *loops,
                           struct ab_bench_result *result)
{
    struct sum *sum = calloc(1, sizeof *sum);
    double rate = 0;
    if (!sum) {
        fprintf(site->err, "anabranch bench: out of memory\n");
        return 1;
    }
    int rc = start_references(site, crew, role, run, loops);
    if (rc == 0) {
        rc = let_write(site, crew, true, sum);
    }
    for (uint32_t i = 0; i < loops->count && rc == 0; i++) {
        const struct ab_bench_done *done = &crew->members[i].last.as.done;
        rate += per((double)(done->entries - done->before), seconds_since(sum->mark, done->last_ack)) /
                loops->count;
    }
    if (rc == 0) {
        rc = collect(crew, sum);
    }
    if (rc == 0) {
        loop_figures(&site->opts->load, crew, sum, rate, result->figures);
    }
    free(sum);
    return rc;
}

/* Before a run: its directory, and nothing of the run before it still on its way to the disk. */
static int begin(const struct ab_bench_site *site, const char *name, uint32_t round, char *path, size_t size,
                 struct ab_bench_crew **crew, const char *what)
{
    int n = snprintf(path, size, "%s/%u-%s", site->dir, round, name);
    if (n < 0 || (size_t)n >= size) {
        fprintf(site->err, "anabranch bench: %s: path too long\n", site->dir);
        path[0] = '\0'; /* cut short it would be the name of something else */
        return 1;
    }
    sync();
    *crew = ab_bench_crew_new(what, site->cancel_fd, site->err);
    if (!*crew) {
        fprintf(site->err, "anabranch bench: out of memory\n");
        return 1;
    }
    return make_dir(site, path);
}

static void finish(const struct ab_bench_site *site, const char *path, struct ab_bench_crew *crew)
{
    ab_bench_crew_free(crew);
    if (path[0] && !site->opts->keep && ab_bench_remove_tree(path) != 0 && errno != ENOENT) {
        fprintf(site->err, "anabranch bench: removing %s: %s\n", path, strerror(errno));
    }
}

int ab_bench_run_cluster(const struct ab_bench_site *site, enum ab_bench_case which, uint32_t round,
                         struct ab_bench_result *result)
{
    char path[AB_BENCH_PATH_MAX] = "";
    struct ab_bench_crew *crew = NULL;
    struct relays relays = {.count = 0};
    int rc = begin(site, ab_bench_case_name(which), round, path, sizeof path, &crew, "node");
    if (rc == 0) {
        rc = lead_cluster(site, crew, &relays, path, which, result);
    }
    finish(site, path, crew);
    stop_relays(&relays);
    return rc;
}

int ab_bench_run_idle(const struct ab_bench_site *site, uint32_t groups, uint32_t round,
                      struct ab_bench_result *result)
{
    char path[AB_BENCH_PATH_MAX] = "";
    struct ab_bench_crew *crew = NULL;
    struct relays relays = {.count = 0};
    int rc = begin(site, groups > 1 ? "idle" : "idle1", round, path, sizeof path, &crew, "node");
    if (rc == 0) {
        rc = lead_idle(site, crew, &relays, path, groups, result);
    }
    finish(site, path, crew);
    stop_relays(&relays);
    return rc;
}

int ab_bench_run_tcp(const struct ab_bench_site *site, uint32_t round, struct ab_bench_result *result)
{
    char path[AB_BENCH_PATH_MAX] = "";
    struct ab_bench_crew *crew = NULL;
    const struct ab_bench_loops one = {"tcp", 1, site->opts->ref};
    int rc = begin(site, one.name, round, path, sizeof path, &crew, "TCP reference");
    if (rc == 0) {
        rc = lead_references(site, crew, AB_BENCH_ROLE_TCP, path, &one, result);
    }
    finish(site, path, crew);
    return rc;
}

int ab_bench_run_loops(const struct ab_bench_site *site, const struct ab_bench_loops *loops, uint32_t round,
                       struct ab_bench_result *result)
{
    char path[AB_BENCH_PATH_MAX] = "";
    struct ab_bench_crew *crew = NULL;
    int rc = begin(site, loops->name, round, path, sizeof path, &crew, "bare loop");
    if (rc == 0) {
        rc = lead_references(site, crew, AB_BENCH_ROLE_LOOP, path, loops, result);
    }
    finish(site, path, crew);
    return rc;
}
