/* SPDX-License-Identifier: Apache-2.0 */
/* What the inspector's commands share: options, nodes, problems, output. Main thread. */
#ifndef ANABRANCH_TOOLS_CLI_H
#define ANABRANCH_TOOLS_CLI_H

#include "tools/anabranch/command.h"
#include "tools/anabranch/payload.h"
#include "tools/anabranch/source.h"

#include <anabranch/config.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes. */
enum { EXIT_FINE = 0, EXIT_WRONG = 1, EXIT_USAGE = 2 };

#define CLI_NODES_MAX 64u

typedef struct options {
    const char *command;
    const char *data[CLI_NODES_MAX]; /* data directories, as given or from the configurations */
    size_t data_count;
    ab_config *configs[CLI_NODES_MAX]; /* own what `data` points to */
    size_t config_count;
    const char *files[CLI_NODES_MAX]; /* what is no option */
    size_t file_count;
    bool json;
    bool all;
    bool streams;
    uint64_t group;         /* 0: not given */
    const char *group_name; /* as given, if it was no number */
    bool one_stream;
    ab_stream stream;
    uint64_t from;
    uint64_t to;
    uint64_t limit;
    uint64_t bytes;
    bool bytes_given;
    payload_kind payload;
    uint64_t newest; /* --last */
    bool follow;
    uint64_t index; /* 0: not given */
    uint64_t timeout_ms;
    uint64_t watch_ms; /* 0: once */
    uint64_t count;    /* runs of --watch; 0: until a signal */
    uint64_t every_ms; /* 0: not given */
    uint64_t for_ms;
    const char *output; /* NULL: not given */
} options;

/* Reads argv[1] and on; argv[0] is the command. @return EXIT_FINE; EXIT_USAGE (said why on stderr); EXIT_WRONG (a
 * configuration cannot be used); -1: --help was asked for and given */
int options_read(options *o, const command *c, int argc, char **argv);
void options_free(options *o);

/* Says "anabranch: TEXT" on stderr, quoted. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A report over several nodes: {"format", "command", "ok", "problems", "nodes"}. */
typedef struct report {
    json_t *root;
    json_t *nodes;
    json_t *problems;
} report;

/* @return false: out of memory (said so) */
bool report_new(report *r, const char *name);
void report_free(report *r);

/* Asks the node of `data_dir` and adds its answer: {"data", "running", "code", "message", "node", "links", "groups",
 * "streams", "syncs", "digests", "faults", "verified"}, the lists as far as there are such rows. `seen` (may be NULL)
 * gets each row first. A node that cannot be asked is a problem. @return the object, borrowed; NULL: out of memory */
json_t *report_ask(report *r, const char *data_dir, const query *q, row_fn seen, void *arg);

/* Puts a row into its place in an answer. The row loses its "type". @return false: out of memory */
bool report_file(json_t *answer, json_t *row);

void report_problem(report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What the node is called in problems: "n1 (node 1)". */
void report_name(const json_t *node, char *text, size_t size);

/* "AB_EIO: input/output error" for a code by name. */
const char *code_words(const char *name);

/* Prints the problems, or `fine`; as JSON the whole report instead. @return exit code */
int report_end(report *r, const options *o, const char *fine);

/* A command that asks every node the same and reports on the answers. */
typedef struct inquiry {
    const command *command;
    void (*ask)(const options *o, query *q); /* completes the query, whose command is the command's name */
    row_fn seen;                             /* each row as it comes, with a progress; may be NULL */
    void (*judge)(report *r, const json_t *answer,
                  const options *o);                  /* adds problems; may change the answer */
    void (*print)(const report *r, const options *o); /* tables */
    const char *fine;                                 /* what to say if there is no problem */
} inquiry;

/* What is wrong with a node by its answer to `status`, and to `peers`. */
void judge_status(report *r, const json_t *answer, const options *o);
void judge_peers(report *r, const json_t *answer, const options *o);

/* Carries it out, --watch included. argc and argv as the command got them. @return exit code */
int inquire(const inquiry *i, int argc, char **argv);

#endif
