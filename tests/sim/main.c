/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's command line: many seeds, or one of them word by word. One thread. */
#include "tests/sim/sim.h"

#include "replication/planted.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef AB_PLANTED
ab_planted_fault ab_planted_now = AB_PLANTED_NONE;
#endif

/* Seeds in a batch that are too few to demand every fault of. */
#define COVERAGE_FROM 1000u
/* Runs in which a node may end behind because only a snapshot could help it, and runs in which states may differ because a
 * state machine kept what no log has, or a disk went back unnoticed; per mille each. */
#define EXCUSED_MAX 50u

typedef struct options {
    uint64_t first;
    uint64_t seeds;
    bool one;
    bool verbose;
    bool once;
    bool quiet;
    bool update_golden;
    const char *golden;
    const char *scenario;
    const char *plant;
} options;

static void usage(FILE *to)
{
    fputs("usage: sim [--seeds N] [--first N] [--once]     many seeds, each run twice unless --once\n"
          "       sim --seed N [--verbose]                one seed, word by word\n"
          "       sim --golden DIR [--scenario NAME] [--update-golden]\n"
          "                                               compare (or write) the golden traces\n"
          "       sim --scenario NAME                     print one scenario\n"
#ifdef AB_PLANTED
          "       sim --plant NAME [--seeds N]            plant a fault and demand that it is found;\n"
          "           NAME: ack, dedup, reuse, causal, retry, trim, chain, all\n"
#endif
          "Exit code 0: all held; 1: a seed failed (its replay command is printed); 2: usage.\n",
          to);
}

static bool number(const char *text, uint64_t *value)
{
    char *end = NULL;
    *value = text != NULL ? strtoull(text, &end, 10) : 0;
    return text != NULL && end != text && *end == '\0';
}

static bool parse(int argc, char **argv, options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--seeds") == 0 && number(next, &o->seeds)) {
            i++;
        } else if (strcmp(argv[i], "--first") == 0 && number(next, &o->first)) {
            i++;
        } else if (strcmp(argv[i], "--seed") == 0 && number(next, &o->first)) {
            o->one = true;
            i++;
        } else if (strcmp(argv[i], "--golden") == 0 && next != NULL) {
            o->golden = argv[++i];
        } else if (strcmp(argv[i], "--scenario") == 0 && next != NULL) {
            o->scenario = argv[++i];
        } else if (strcmp(argv[i], "--plant") == 0 && next != NULL) {
            o->plant = argv[++i];
        } else if (strcmp(argv[i], "--update-golden") == 0) {
            o->update_golden = true;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            o->verbose = true;
        } else if (strcmp(argv[i], "--once") == 0) {
            o->once = true;
        } else {
            return false;
        }
    }
    return true;
}

static void report_failure(uint64_t seed, const run_result *result)
{
    printf("seed %" PRIu64 ": %s\n  replay: sim --seed %" PRIu64 " --verbose\n", seed, result->failure, seed);
}

static int run_one(const options *o)
{
    run_result result;
    run_seed(o->first, o->verbose ? stdout : NULL, false, &result);
    if (!result.ok) {
        report_failure(o->first, &result);
        return 1;
    }
    printf("seed %" PRIu64 ": held; %" PRIu64 " events, %.1f s of virtual time, trace %016" PRIx64
           ", %u excused\n",
           o->first, result.steps, (double)result.virtual_ns / (double)SECOND, result.hash, result.excused);
    for (unsigned f = 0; f < F_COUNT; f++) {
        if (result.counters[f] > 0) {
            printf("  %8" PRIu64 "  %s\n", result.counters[f], fault_text((fault)f));
        }
    }
    return 0;
}

/* Every knob must have changed something. */
static int check_coverage(const uint64_t counters[F_COUNT])
{
    int code = 0;
    for (unsigned f = 0; f < F_COUNT; f++) {
        printf("  %12" PRIu64 "  %s\n", counters[f], fault_text((fault)f));
        if (counters[f] == 0) {
            printf("never happened: %s\n", fault_text((fault)f));
            code = 1;
        }
    }
    return code;
}

static int run_many(const options *o)
{
    uint64_t counters[F_COUNT] = {0};
    uint64_t steps = 0;
    uint64_t failures = 0;
    uint64_t excused = 0;
    uint64_t ahead = 0;
    clock_t start = clock();
    for (uint64_t seed = o->first; seed < o->first + o->seeds; seed++) {
        run_result result;
        run_result second;
        run_seed(seed, NULL, false, &result);
        if (!result.ok) {
            report_failure(seed, &result);
            if (++failures == 10) {
                break;
            }
            continue;
        }
        if (!o->once) {
            run_seed(seed, NULL, false, &second);
            if (second.hash != result.hash) {
                printf("seed %" PRIu64 ": two runs differ\n", seed);
                failures++;
            }
        }
        steps += result.steps;
        excused += result.excused > 0;
        ahead += result.sm_ahead;
        for (unsigned f = 0; f < F_COUNT; f++) {
            counters[f] += result.counters[f];
        }
    }
    printf("%" PRIu64 " seeds, %" PRIu64 " events, %.1f s; excused: %" PRIu64
           " runs with a node that needs a snapshot, %" PRIu64
           " with entries that only a state machine kept\n",
           o->seeds, steps, (double)(clock() - start) / CLOCKS_PER_SEC, excused, ahead);
    int code = failures > 0 ? 1 : 0;
    if (o->seeds >= COVERAGE_FROM && code == 0) {
        code = check_coverage(counters);
        if (excused * 1000 > o->seeds * EXCUSED_MAX || ahead * 1000 > o->seeds * EXCUSED_MAX) {
            printf("too many runs are excused\n");
            code = 1;
        }
    }
    return code;
}

#ifdef AB_PLANTED
typedef struct plant {
    const char *name;
    ab_planted_fault fault;
    bool ack_early;
} plant;

static const plant plants[] = {{"ack", AB_PLANTED_NONE, true},
                               {"dedup", AB_PLANTED_SKIPPED_DEDUP, false},
                               {"reuse", AB_PLANTED_INDEX_REUSE, false},
                               {"causal", AB_PLANTED_NO_CAUSAL, false},
                               {"retry", AB_PLANTED_LOST_RETRY, false},
                               {"trim", AB_PLANTED_TRIM_BEYOND, false},
                               {"middle", AB_PLANTED_WHOLE_BLOCKS, false},
                               {"fixed", AB_PLANTED_FIXED_RETRY, false},
                               {"chain", AB_PLANTED_NO_CHAIN, false},
                               {"early", AB_PLANTED_FOLD_EARLY, false},
                               {"fold", AB_PLANTED_FOLD_WITHOUT_ONE, false},
                               {"uncopied", AB_PLANTED_UNCOPIED, false},
                               {"untranslated", AB_PLANTED_UNTRANSLATED, false},
                               {"restless", AB_PLANTED_RESTLESS, false}};

static int find_planted(const plant *p, uint64_t first, uint64_t seeds)
{
    ab_planted_now = p->fault;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        run_result result;
        run_seed(seed, NULL, p->ack_early, &result);
        if (!result.ok) {
            printf("planted %-12s found with seed %" PRIu64 ": %s\n", p->name, seed, result.failure);
            return 0;
        }
    }
    printf("planted %-12s NOT found in %" PRIu64 " seeds\n", p->name, seeds);
    return 1;
}

static int run_planted(const options *o)
{
    int code = 0;
    bool known = false;
    for (size_t i = 0; i < sizeof plants / sizeof plants[0]; i++) {
        if (strcmp(o->plant, "all") == 0 || strcmp(o->plant, plants[i].name) == 0) {
            known = true;
            code |= find_planted(&plants[i], o->first, o->seeds);
        }
    }
    return known ? code : 2;
}
#endif

int main(int argc, char **argv)
{
    options o = {.first = 1, .seeds = 1000};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        usage(stdout);
        return 0;
    }
    if (!parse(argc, argv, &o)) {
        usage(stderr);
        return 2;
    }
    if (o.plant != NULL) {
#ifdef AB_PLANTED
        return run_planted(&o);
#else
        fputs("sim: this build has no planted faults, use sim_planted\n", stderr);
        return 2;
#endif
    }
    if (o.golden != NULL) {
        return golden_run(o.golden, o.scenario, o.update_golden);
    }
    if (o.scenario != NULL) {
        return golden_print(o.scenario);
    }
    return o.one ? run_one(&o) : run_many(&o);
}
