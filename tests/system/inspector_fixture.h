/* SPDX-License-Identifier: Apache-2.0 */
/* Live nodes in this process, and the real inspector that asks their real sockets. One thread. */
#ifndef ANABRANCH_TESTS_INSPECTOR_FIXTURE_H
#define ANABRANCH_TESTS_INSPECTOR_FIXTURE_H

#include "tests/support/nodes.h"

#include <jansson.h>

#define INSPECTOR_OUTPUT_MAX (1u << 20)
#define INSPECTOR_WAIT_MS 30000u
#define INSPECTOR_ENTRIES 150u /* what the nodes have after inspector_setup() */

extern test_cluster cluster;
extern char output[INSPECTOR_OUTPUT_MAX];

void inspector_setup(void); /* three nodes */
void inspector_teardown(void);

/* Runs a command; what it prints goes into `output`. @return its exit code */
int shell(const char *command);
/* Runs "anabranch ARGS"; $1, $2, $3 are the nodes' directories. Both outputs go into `output`. @return exit code */
int inspect(const char *arguments);
/* The same; fails the test on another code, or without the text. */
void expect(const char *arguments, int code, const char *text);
/* The same; the output is JSON. */
json_t *inspect_json(const char *arguments, int code);

/* Writes `count` more entries at node `i` + 1. */
void write_more(size_t i, const char *prefix, unsigned count);

#endif
