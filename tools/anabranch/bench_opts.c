/* SPDX-License-Identifier: Apache-2.0 */
/* Options of `anabranch bench`, see bench_opts.h. Main thread (getopt). */
#include "tools/anabranch/bench_opts.h"

#include <anabranch/config.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000u

/* A stamp of node, writer and number makes every payload another one. */
#define PAYLOAD_MIN 16u

const char *ab_bench_case_name(enum ab_bench_case which)
{
    static const char *const names[AB_BENCH_CASES] = {"many", "one", "latency", "silence", "idle"};
    return names[which];
}

void ab_bench_opts_init(struct ab_bench_opts *opts)
{
    memset(opts, 0, sizeof *opts);
    opts->load.nodes = 3;
    opts->load.groups = 1;
    opts->load.writers = 1;
    opts->load.batch = 100;
    opts->load.in_flight = 4000;
    opts->load.payload = 100;
    opts->load.warmup_ns = 1000ull * NS_PER_MS;
    opts->load.duration_ns = 5000ull * NS_PER_MS;
    opts->load.durability = AB_DURABILITY_SYNC;
    opts->load.level = AB_WRITE_LOCAL;
    opts->load.order = AB_APPLY_CAUSAL;
    opts->load.dispatcher_threads = AB_DEFAULT_DISPATCHER_THREADS;
    opts->load.apply_threads = AB_DEFAULT_APPLY_THREADS;
    opts->load.block_bytes = AB_DEFAULT_BLOCK_BYTES;
    opts->load.queue_bytes = AB_DEFAULT_QUEUE_BYTES;
    opts->ref.block = 1000;
    opts->ref.backlog = 64;
    opts->cases[AB_BENCH_MANY] = true;
    opts->cases[AB_BENCH_ONE] = true;
    opts->cases[AB_BENCH_LATENCY] = true;
    opts->cases[AB_BENCH_SILENCE] = true;
    opts->idle_groups = 10000;
    strcpy(opts->load.backend, "multimaster");
    opts->rounds = 3;
}

enum option_id {
    OPT_CASES = 1000,
    OPT_LATENCY,
    OPT_IDLE,
    OPT_IDLE_GROUPS,
    OPT_BACKEND,
    OPT_LINK_DELAY,
    OPT_LINK_RATE,
    OPT_SVG,
    OPT_ROUNDS,
    OPT_DURATION,
    OPT_WARMUP,
    OPT_ENTRIES,
    OPT_WRITERS,
    OPT_BATCH,
    OPT_PAYLOAD,
    OPT_IN_FLIGHT,
    OPT_RATE,
    OPT_NODES,
    OPT_GROUPS,
    OPT_DURABILITY,
    OPT_LEVEL,
    OPT_ORDER,
    OPT_DISPATCHERS,
    OPT_APPLY_THREADS,
    OPT_BLOCK_BYTES,
    OPT_QUEUE_BYTES,
    OPT_DIR,
    OPT_KEEP,
    OPT_REF_BLOCK,
    OPT_REF_BACKLOG,
    OPT_JSON,
    OPT_VERBOSE,
    OPT_HELP
};

static const struct option long_options[] = {{"cases", required_argument, NULL, OPT_CASES},
                                             {"latency", no_argument, NULL, OPT_LATENCY},
                                             {"idle", no_argument, NULL, OPT_IDLE},
                                             {"idle-groups", required_argument, NULL, OPT_IDLE_GROUPS},
                                             {"backend", required_argument, NULL, OPT_BACKEND},
                                             {"link-delay", required_argument, NULL, OPT_LINK_DELAY},
                                             {"link-rate", required_argument, NULL, OPT_LINK_RATE},
                                             {"svg", required_argument, NULL, OPT_SVG},
                                             {"rounds", required_argument, NULL, OPT_ROUNDS},
                                             {"duration", required_argument, NULL, OPT_DURATION},
                                             {"warmup", required_argument, NULL, OPT_WARMUP},
                                             {"entries", required_argument, NULL, OPT_ENTRIES},
                                             {"writers", required_argument, NULL, OPT_WRITERS},
                                             {"batch", required_argument, NULL, OPT_BATCH},
                                             {"payload", required_argument, NULL, OPT_PAYLOAD},
                                             {"in-flight", required_argument, NULL, OPT_IN_FLIGHT},
                                             {"rate", required_argument, NULL, OPT_RATE},
                                             {"nodes", required_argument, NULL, OPT_NODES},
                                             {"groups", required_argument, NULL, OPT_GROUPS},
                                             {"durability", required_argument, NULL, OPT_DURABILITY},
                                             {"level", required_argument, NULL, OPT_LEVEL},
                                             {"order", required_argument, NULL, OPT_ORDER},
                                             {"dispatchers", required_argument, NULL, OPT_DISPATCHERS},
                                             {"apply-threads", required_argument, NULL, OPT_APPLY_THREADS},
                                             {"block-bytes", required_argument, NULL, OPT_BLOCK_BYTES},
                                             {"queue-bytes", required_argument, NULL, OPT_QUEUE_BYTES},
                                             {"dir", required_argument, NULL, OPT_DIR},
                                             {"keep", no_argument, NULL, OPT_KEEP},
                                             {"ref-block", required_argument, NULL, OPT_REF_BLOCK},
                                             {"ref-backlog", required_argument, NULL, OPT_REF_BACKLOG},
                                             {"json", no_argument, NULL, OPT_JSON},
                                             {"verbose", no_argument, NULL, OPT_VERBOSE},
                                             {"help", no_argument, NULL, OPT_HELP},
                                             {NULL, 0, NULL, 0}};

/* A value, and what it would have to be. */
typedef struct word {
    const char *text;
    char need[80];
} word;

static bool needs(word *w, const char *what)
{
    snprintf(w->need, sizeof w->need, "%s", what);
    return false;
}

/* Beyond this a number has no bound that anybody would reach. */
#define BOUNDLESS 1000000000000000u

static bool number(word *w, uint64_t least, uint64_t most, uint64_t *value)
{
    const char *text = w->text;
    char *end = NULL;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || text[0] == '+' || parsed < least || parsed > most) {
        snprintf(w->need, sizeof w->need,
                 most < BOUNDLESS ? "a whole number, %" PRIu64 " to %" PRIu64
                                  : "a whole number of at least %" PRIu64,
                 least, most);
        return false;
    }
    *value = parsed;
    return true;
}

static bool number32(word *w, uint32_t least, uint32_t most, uint32_t *value)
{
    uint64_t wide = 0;
    if (!number(w, least, most, &wide)) {
        return false;
    }
    *value = (uint32_t)wide;
    return true;
}

static bool seconds(word *w, double least, uint64_t *ns)
{
    char *end = NULL;
    double parsed = strtod(w->text, &end);
    if (end == w->text || *end || !(parsed >= least && parsed <= 86400)) {
        snprintf(w->need, sizeof w->need, "seconds, %g to 86400", least);
        return false;
    }
    *ns = (uint64_t)(parsed * 1e9);
    return true;
}

static bool case_list(const char *text, bool cases[AB_BENCH_CASES])
{
    memset(cases, 0, AB_BENCH_CASES * sizeof cases[0]);
    for (;;) {
        size_t length = strcspn(text, ",");
        unsigned which = 0;
        while (which < AB_BENCH_CASES && (strlen(ab_bench_case_name(which)) != length ||
                                          strncmp(ab_bench_case_name(which), text, length) != 0)) {
            which++;
        }
        if (which == AB_BENCH_CASES) {
            return false;
        }
        cases[which] = true;
        if (text[length] == '\0') {
            return true;
        }
        text += length + 1;
    }
}

static bool apply_order(const char *text, ab_apply_order *order)
{
    if (strcmp(text, "causal") == 0) {
        *order = AB_APPLY_CAUSAL;
        return true;
    }
    *order = AB_APPLY_ARRIVAL;
    return strcmp(text, "arrival") == 0;
}

static bool directory(const char *text, char out[AB_BENCH_PATH_MAX])
{
    size_t length = strlen(text);
    /* room for the names made below it */
    if (length == 0 || length > AB_BENCH_PATH_MAX - 64) {
        return false;
    }
    memcpy(out, text, length + 1);
    return true;
}

static bool milliseconds(word *w, uint64_t *ns)
{
    char *end = NULL;
    double parsed = strtod(w->text, &end);
    if (end == w->text || *end || !(parsed >= 0 && parsed <= 10000)) {
        return needs(w, "milliseconds, 0 to 10000");
    }
    *ns = (uint64_t)(parsed * NS_PER_MS);
    return true;
}

static bool byte_rate(const char *text, uint64_t *rate)
{
    static const char units[] = "KMG";
    char *end = NULL;
    double parsed = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (end == text || (*end && (!unit || end[1]))) {
        return false;
    }
    for (const char *u = units; unit && u <= unit; u++) {
        parsed *= 1000;
    }
    if (!(parsed >= 1000 && parsed <= 1e12)) {
        return false;
    }
    *rate = (uint64_t)parsed;
    return true;
}

static bool backend_name(const char *text, char name[AB_NAME_MAX + 1])
{
    size_t length = strlen(text);
    if (length == 0 || length > AB_NAME_MAX) {
        return false;
    }
    memcpy(name, text, length + 1);
    return true;
}

static bool take_load(int id, word *w, struct ab_bench_load *load)
{
    switch (id) {
    case OPT_DURATION:
        return seconds(w, 0.05, &load->duration_ns);
    case OPT_WARMUP:
        return seconds(w, 0, &load->warmup_ns);
    case OPT_ENTRIES:
        return number(w, 1, UINT64_MAX / 1000, &load->entries);
    case OPT_WRITERS:
        return number32(w, 1, 256, &load->writers);
    case OPT_BATCH:
        return number32(w, 1, 100000, &load->batch);
    case OPT_PAYLOAD:
        return number32(w, PAYLOAD_MIN, AB_DEFAULT_PAYLOAD_MAX, &load->payload);
    case OPT_IN_FLIGHT:
        return number32(w, 1, 10000000, &load->in_flight);
    case OPT_RATE:
        return number(w, 1, 1000000000, &load->rate);
    case OPT_NODES:
        return number32(w, 1, AB_BENCH_NODES_MAX, &load->nodes);
    case OPT_GROUPS:
        return number32(w, 1, 10000, &load->groups);
    case OPT_DURABILITY:
        return ab_durability_parse(w->text, &load->durability) == AB_OK || needs(w, "sync, interval or none");
    case OPT_LEVEL:
        return ab_write_level_parse(w->text, &load->level) == AB_OK ||
               needs(w, "memory, local, quorum or all");
    case OPT_ORDER:
        return apply_order(w->text, &load->order) || needs(w, "causal or arrival");
    case OPT_DISPATCHERS:
        return number32(w, 1, 64, &load->dispatcher_threads);
    case OPT_APPLY_THREADS:
        return number32(w, 1, 64, &load->apply_threads);
    case OPT_BLOCK_BYTES:
        return number32(w, 4096, 8u << 20, &load->block_bytes);
    case OPT_BACKEND:
        return backend_name(w->text, load->backend) || needs(w, "the name of a backend");
    case OPT_QUEUE_BYTES:
        return number(w, 4096, UINT64_MAX, &load->queue_bytes);
    default:
        return false;
    }
}

static bool take(int id, word *w, struct ab_bench_opts *opts)
{
    switch (id) {
    case OPT_CASES:
        return case_list(w->text, opts->cases) || needs(w, "some of many,one,latency,silence,idle");
    case OPT_LATENCY:
        return case_list("latency", opts->cases);
    case OPT_IDLE:
        return case_list("idle", opts->cases);
    case OPT_IDLE_GROUPS:
        return number32(w, 2, 1000000, &opts->idle_groups);
    case OPT_LINK_DELAY:
        return milliseconds(w, &opts->link_delay_ns);
    case OPT_LINK_RATE:
        return byte_rate(w->text, &opts->link_rate) || needs(w, "bytes a second, 1K to 1000G");
    case OPT_SVG:
        return directory(w->text, opts->svg) || needs(w, "a path, not longer than 960 bytes");
    case OPT_ROUNDS:
        return number32(w, 1, 1000, &opts->rounds);
    case OPT_DIR:
        return directory(w->text, opts->dir) || needs(w, "a path, not longer than 960 bytes");
    case OPT_KEEP:
        return opts->keep = true;
    case OPT_REF_BLOCK:
        return number32(w, 1, 100000, &opts->ref.block);
    case OPT_REF_BACKLOG:
        return number32(w, 1, 1000000, &opts->ref.backlog);
    case OPT_JSON:
        return opts->json = true;
    case OPT_VERBOSE:
        return opts->verbose = true;
    case OPT_HELP:
        return opts->help = true;
    default:
        return take_load(id, w, &opts->load);
    }
}

/* Payloads of "silence" carry a mark, the time and a number beside the stamp. */
#define PAYLOAD_SILENCE 40u

/* Combinations that no single option can see. */
static const char *combination_fault(const struct ab_bench_opts *opts)
{
    uint64_t call = (uint64_t)opts->load.batch * (opts->load.payload + 64u);
    if (opts->cases[AB_BENCH_MANY] && call > opts->load.queue_bytes) {
        return "--batch times --payload is more than --queue-bytes: a call could never be taken";
    }
    if (opts->cases[AB_BENCH_SILENCE] && opts->load.payload < PAYLOAD_SILENCE) {
        return "case \"silence\" needs a --payload of 40 at least; leave it out with --cases "
               "many,one,latency";
    }
    return NULL;
}

int ab_bench_opts_parse(int argc, char **argv, struct ab_bench_opts *opts, FILE *err)
{
    int position = 0;
    int id;
    opterr = 0;
    optind = 0; /* the caller may have parsed options of its own */
    while ((id = getopt_long(argc, argv, "+:h", long_options, &position)) != -1) {
        if (id == 'h') {
            id = OPT_HELP;
        }
        if (id == ':' || id == '?') {
            fprintf(err, "anabranch bench: %s: %s. See anabranch bench --help\n", argv[optind - 1],
                    id == ':' ? "needs a value" : "no such option");
            return 2;
        }
        word w = {.text = optarg};
        if (!take(id, &w, opts)) {
            fprintf(err, "anabranch bench: --%s: bad value \"%s\": needs %s. See anabranch bench --help\n",
                    long_options[position].name, optarg ? optarg : "", w.need);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(err, "anabranch bench: unexpected argument \"%s\". See anabranch bench --help\n",
                argv[optind]);
        return 2;
    }
    const char *fault = opts->help ? NULL : combination_fault(opts);
    if (fault) {
        fprintf(err, "anabranch bench: %s\n", fault);
        return 2;
    }
    return 0;
}
