/* SPDX-License-Identifier: Apache-2.0 */
/* Options of the comparison, see options.h. Main thread. */
#include "tests/compare/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1e9

static const char *const case_names[AB_CMP_CASES] = {"many", "one", "latency"};
static const char *const system_names[AB_CMP_SYSTEMS] = {
    "loop", "anabranch", "redis-always", "redis-everysec", "redis-wait", "nats", "etcd"};

const char *ab_cmp_case_name(enum ab_cmp_case which)
{
    return case_names[which];
}

const char *ab_cmp_system_name(enum ab_cmp_system system)
{
    return system_names[system];
}

void ab_cmp_options_init(struct ab_cmp_options *options)
{
    *options = (struct ab_cmp_options){
        .load = {.writers = 1,
                 .in_flight = 1000,
                 .batch = 100,
                 .payload = 100,
                 .warmup_ns = (uint64_t)NS_PER_S,
                 .duration_ns = (uint64_t)(3 * NS_PER_S)},
        .rounds = 3,
        .dir = ".",
        .program = "anabranch",
    };
    memset(options->cases, true, sizeof options->cases);
    memset(options->systems, true, sizeof options->systems);
}

void ab_cmp_help(FILE *out)
{
    fputs("usage: tests/compare/run [OPTIONS]\n"
          "\n"
          "Anabranch and etcd, nats-server (JetStream) and redis-server, three nodes of each on loopback, "
          "under the\n"
          "same load, one after the other in each round; a table of their figures and ratios. README.md in "
          "this\n"
          "folder says how to read it. Takes about two minutes per round.\n"
          "\n"
          "  --systems LIST   of redis-always,redis-everysec,redis-wait,nats,etcd (all); Anabranch and its\n"
          "                   reference, the bare LMDB loops, are in every run\n"
          "  --cases LIST     of many,one,latency (all)\n"
          "                     many     --batch entries per request, many outstanding\n"
          "                     one      one entry per request, many outstanding\n"
          "                     latency  one writer, one entry at a time\n"
          "  --rounds N       all systems in turn, N times; medians are shown (3)\n"
          "  --duration S     seconds of measured writing per run, fractions allowed (3)\n"
          "  --warmup S       seconds of writing before (1)\n"
          "  --payload N      bytes per entry, at least 16 (100)\n"
          "  --writers N      writers per node of Anabranch; a peer gets 3 times N connections to its leader "
          "(1)\n"
          "  --in-flight N    entries outstanding per writer (1000); etcd refuses when more than 5,000 in "
          "all are\n"
          "                   committed and not yet applied\n"
          "  --batch N        entries per request in `many` (100; etcd takes at most 128)\n"
          "  --dir DIR        where the data directories are made: the disk you want to know about (.)\n"
          "  --program PATH   the program anabranch\n"
          "  --json           everything measured, per round and as medians, as JSON\n"
          "  --keep           leave the data directories and the logs of the servers there\n"
          "  --no-install     install nothing\n"
          "  --help           this text\n"
          "\n"
          "Exit status: 0 fine; 1 something failed or a count was wrong; 2 wrong usage.\n",
          out);
}

static int wrong(FILE *err, const char *option, const char *value)
{
    fprintf(err, "compare: --%s %s: not understood; see --help\n", option, value);
    return 2;
}

static bool parse_u32(const char *text, uint32_t least, uint32_t most, uint32_t *number)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || value < least || value > most) {
        return false;
    }
    *number = (uint32_t)value;
    return true;
}

static bool parse_seconds(const char *text, double least, uint64_t *ns)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= 600)) {
        return false;
    }
    *ns = (uint64_t)(value * NS_PER_S);
    return true;
}

/* Sets the flags of the names in a list with commas, clears the others from `first` on. */
static bool parse_list(const char *list, const char *const *names, size_t first, size_t count, bool *flags)
{
    memset(flags + first, 0, (count - first) * sizeof flags[0]);
    for (;;) {
        size_t length = strcspn(list, ","), i = first;
        while (i < count && (strlen(names[i]) != length || memcmp(names[i], list, length) != 0)) {
            i++;
        }
        if (i == count) {
            return false;
        }
        flags[i] = true;
        if (!list[length]) {
            return true;
        }
        list += length + 1;
    }
}

static bool parse_path(const char *text, char path[AB_CMP_PATH_MAX])
{
    size_t length = strlen(text);
    if (length == 0 || length >= AB_CMP_PATH_MAX - 64) {
        return false;
    }
    memcpy(path, text, length + 1);
    return true;
}

/* Of an etcd transaction the message must fit HTTP/2's first stream window. */
static int check(const struct ab_cmp_options *options, FILE *err)
{
    const struct ab_cmp_load *load = &options->load;
    if (!options->systems[AB_CMP_ETCD]) {
        return 0;
    }
    if (load->batch > 128 || (uint64_t)load->batch * (load->payload + 40) > 65000) {
        fputs("compare: etcd takes at most 128 entries per request and this client 65,000 bytes: smaller "
              "--batch, or "
              "leave etcd out with --systems\n",
              err);
        return 2;
    }
    return 0;
}

enum {
    O_SYSTEMS = 1,
    O_CASES,
    O_ROUNDS,
    O_DURATION,
    O_WARMUP,
    O_PAYLOAD,
    O_WRITERS,
    O_IN_FLIGHT,
    O_BATCH,
    O_DIR,
    O_PROGRAM,
    O_JSON,
    O_KEEP,
    O_HELP
};

static const struct option long_options[] = {{"systems", required_argument, NULL, O_SYSTEMS},
                                             {"cases", required_argument, NULL, O_CASES},
                                             {"rounds", required_argument, NULL, O_ROUNDS},
                                             {"duration", required_argument, NULL, O_DURATION},
                                             {"warmup", required_argument, NULL, O_WARMUP},
                                             {"payload", required_argument, NULL, O_PAYLOAD},
                                             {"writers", required_argument, NULL, O_WRITERS},
                                             {"in-flight", required_argument, NULL, O_IN_FLIGHT},
                                             {"batch", required_argument, NULL, O_BATCH},
                                             {"dir", required_argument, NULL, O_DIR},
                                             {"program", required_argument, NULL, O_PROGRAM},
                                             {"json", no_argument, NULL, O_JSON},
                                             {"keep", no_argument, NULL, O_KEEP},
                                             {"help", no_argument, NULL, O_HELP},
                                             {NULL, 0, NULL, 0}};

static bool take(struct ab_cmp_options *o, int option, const char *value)
{
    switch (option) {
    case O_SYSTEMS:
        return parse_list(value, system_names, AB_CMP_REDIS_ALWAYS, AB_CMP_SYSTEMS, o->systems);
    case O_CASES:
        return parse_list(value, case_names, 0, AB_CMP_CASES, o->cases);
    case O_ROUNDS:
        return parse_u32(value, 1, 100, &o->rounds);
    case O_DURATION:
        return parse_seconds(value, 0.1, &o->load.duration_ns);
    case O_WARMUP:
        return parse_seconds(value, 0, &o->load.warmup_ns);
    case O_PAYLOAD:
        return parse_u32(value, 16, 60000, &o->load.payload);
    case O_WRITERS:
        return parse_u32(value, 1, 64, &o->load.writers);
    case O_IN_FLIGHT:
        return parse_u32(value, 1, 100000, &o->load.in_flight);
    case O_BATCH:
        return parse_u32(value, 1, 10000, &o->load.batch);
    case O_DIR:
        return parse_path(value, o->dir);
    case O_PROGRAM:
        return parse_path(value, o->program);
    case O_JSON:
        return o->json = true;
    case O_KEEP:
        return o->keep = true;
    default:
        return o->help = true;
    }
}

int ab_cmp_options_parse(int argc, char **argv, struct ab_cmp_options *options, FILE *err)
{
    for (;;) {
        int index = 0;
        int option = getopt_long(argc, argv, "", long_options, &index);
        if (option == -1) {
            break;
        }
        if (option == '?') {
            return 2; /* getopt has said it */
        }
        if (!take(options, option, optarg)) {
            return wrong(err, long_options[index].name, optarg);
        }
    }
    if (optind < argc) {
        fprintf(err, "compare: %s: not understood; see --help\n", argv[optind]);
        return 2;
    }
    return check(options, err);
}
