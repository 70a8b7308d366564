/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file http_fixture.h
 * One real anabranchd in a directory of its own, and a client. For one thread.
 */
#ifndef TESTS_HTTP_FIXTURE_H
#define TESTS_HTTP_FIXTURE_H

#include "tools/mainjob/cluster.h"

extern char base[64];
extern ab_cluster cluster;
extern ab_httpc client;
extern ab_httpc_answer answer;

void setup_dir(void);
/* Starts `count` daemons with further lines of `node:` and `application:` (may be NULL). */
void start_nodes(size_t count, const char *node_extra, const char *application_extra);
void start_with(const char *application_extra); /* one */
void teardown(void);

uint16_t port(void);      /* of the first */
long anonymous_kib(void); /* memory of the first daemon: its own, not of mapped files */
/* A request that must be answered with `status`; the answer is in `answer`. */
void post(const char *path, const char *body, int status);
void post_bytes(const char *path, const char *head, const void *body, size_t size, int status);
void get(const char *path, int status);
/* To one of several; must be answered with 204. */
void post_to(size_t node, const char *path, const char *body);
/* The answer's lines, sorted: groups come in an order of their own. Good until the next call. */
const char *sorted(void);
/* Waits until all have the same, which must be these lines, sorted. */
void check_everywhere(const char *expected);

/* A connection of its own for what the client does not do. */
int dial(void);
void say(int fd, const char *text);
/* What comes until `until` was seen or the other side hangs up. */
const char *hear(int fd, const char *until);

/* Runs the program; its output goes to `out`. @return exit code */
int run(const char *const *arguments, char *out, size_t room);
/* A configuration file in the directory, its path. */
const char *write_file(const char *text);

#endif
