/* SPDX-License-Identifier: Apache-2.0 */
/* Options of the comparison. Main thread. */
#ifndef ANABRANCH_TESTS_COMPARE_OPTIONS_H
#define ANABRANCH_TESTS_COMPARE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define AB_CMP_NODES 3u
#define AB_CMP_PATH_MAX 1024u

/* The ways to write, named as those of `anabranch bench`. */
enum ab_cmp_case {
    AB_CMP_MANY = 0, /* `batch` entries a request */
    AB_CMP_ONE,      /* one entry a request, many outstanding */
    AB_CMP_LATENCY,  /* one writer, one entry at a time */
    AB_CMP_CASES
};

enum ab_cmp_system {
    AB_CMP_LOOP = 0, /* the bare LMDB loops */
    AB_CMP_OURS,
    AB_CMP_REDIS_ALWAYS,
    AB_CMP_REDIS_EVERYSEC,
    AB_CMP_REDIS_WAIT,
    AB_CMP_NATS,
    AB_CMP_ETCD,
    AB_CMP_SYSTEMS
};

/* What is written in a run. */
struct ab_cmp_load {
    uint32_t writers;   /* per node; a peer gets as many connections as all nodes of ours have writers */
    uint32_t in_flight; /* entries outstanding per writer */
    uint32_t batch;     /* entries per request */
    uint32_t payload;   /* bytes */
    uint64_t warmup_ns;
    uint64_t duration_ns;
};

struct ab_cmp_options {
    struct ab_cmp_load load;
    bool cases[AB_CMP_CASES];
    bool systems[AB_CMP_SYSTEMS];
    uint32_t rounds;
    bool json;
    bool keep;
    bool help;
    char dir[AB_CMP_PATH_MAX];
    char program[AB_CMP_PATH_MAX]; /* anabranch */
};

void ab_cmp_options_init(struct ab_cmp_options *options);
/* @return 0, or 2: wrong usage, said on `err` */
int ab_cmp_options_parse(int argc, char **argv, struct ab_cmp_options *options, FILE *err);
void ab_cmp_help(FILE *out);

const char *ab_cmp_case_name(enum ab_cmp_case which);
/* As in --systems. */
const char *ab_cmp_system_name(enum ab_cmp_system system);

#endif
