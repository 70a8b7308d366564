/* SPDX-License-Identifier: Apache-2.0 */
/* Where an inspector's rows come from: a running node through its admin socket, or a data directory that nobody has
 * open. Both give the same rows, as JSON objects with the fields that engine/admin/README.md lists. Main thread. */
#ifndef ANABRANCH_TOOLS_SOURCE_H
#define ANABRANCH_TOOLS_SOURCE_H

#include <anabranch/error.h>
#include <anabranch/types.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct ab_wal;

typedef struct source {
    const char *data_dir;
    int fd;               /* live: the connection; -1: offline */
    struct ab_wal *wal;   /* offline */
    uint8_t store_id[16]; /* offline */
    int code;             /* AB_OK, or why there is neither */
    bool salvaged;        /* the file was searched for blocks, which `message` tells */
    ab_message message;   /* what is wrong, where, what to do */
    int silence_ms; /* live: a node that says nothing for so long is stuck; may be changed after source_open() */
} source;

/* What to ask for. All zero but the command: everything. */
typedef struct query {
    const char *command;
    uint64_t group;
    bool one_stream;
    ab_stream stream;
    uint64_t from;
    uint64_t to;
    uint64_t limit;
    uint64_t payload_max;
    uint64_t timeout_ms;
    uint64_t newest;
    bool detail;
    bool follow;
} query;

/* Takes a row (borrowed); false stops. Field "type" says which. */
typedef bool (*row_fn)(void *arg, json_t *row);

/* Connects to the node of `data_dir`, or opens its log read-only. Check `code`. */
void source_open(source *s, const char *data_dir);
/* Connects if the node runs, and never opens a log: for who looks again and again, and must not keep a node from starting
 * by having its directory open. Where nobody answers `code` is AB_ECLOSED. */
void source_connect(source *s, const char *data_dir);
void source_close(source *s);

bool source_live(const source *s);

/* Asks and gives each row to `fn`. @return AB_OK, or what the answer ended with (`s->message` says more) */
int source_ask(source *s, const query *q, row_fn fn, void *arg);

/* Fields of rows; 0, "" and AB_OK where they are not there. */
uint64_t row_uint(const json_t *row, const char *key);
const char *row_text(const json_t *row, const char *key);
bool row_bool(const json_t *row, const char *key);
bool row_is(const json_t *row, const char *type);
bool row_good(const json_t *row, const char *key); /* a code that is AB_OK, or not there */

/* Numbers above what JSON integers hold become text. */
json_t *json_uint(uint64_t value);
/* What is not UTF-8 becomes U+FFFD. */
json_t *json_text(const char *text, size_t length);
json_t *json_hex(const void *data, size_t size);

#endif
