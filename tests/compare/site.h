/* SPDX-License-Identifier: Apache-2.0 */
/* Where a run takes place: its directory, its processes, its ports, what is said when it fails. Main thread. */
#ifndef ANABRANCH_TESTS_COMPARE_SITE_H
#define ANABRANCH_TESTS_COMPARE_SITE_H

#include "tests/compare/bytes.h"
#include "tests/compare/options.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define AB_CMP_TEXT_MAX 1024u
#define AB_CMP_STARTUP_NS 30000000000u /* until three fresh nodes serve */
#define AB_CMP_SETTLE_NS 60000000000u  /* until the last replica has everything */

struct ab_cmp_process {
    pid_t pid;
    bool ended; /* it was waited for */
    int status;
};

struct ab_cmp_site {
    const struct ab_cmp_options *options;
    int cancel_fd; /* readable: interrupted */
    bool cancelled;
    char base[AB_CMP_PATH_MAX]; /* of all runs */
    char dir[AB_CMP_PATH_MAX];  /* of this run */
    struct ab_cmp_process processes[AB_CMP_NODES];
    uint32_t count;
    uint16_t ports[3 * AB_CMP_NODES]; /* free ones on loopback */
    char error[AB_CMP_TEXT_MAX];
};

/* Says what went wrong (the first time counts). @return -1 */
int ab_cmp_fail(struct ab_cmp_site *site, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A fresh directory and fresh ports. @return 0 or -1 */
int ab_cmp_site_open(struct ab_cmp_site *site, const char *name);
/* Ends all processes and removes the directory, unless it shall be kept. */
void ab_cmp_site_close(struct ab_cmp_site *site);

/* Starts a program, found by PATH (and in the sbin folders), in directory dir/nodeN; what it says goes to
 * dir/nodeN.log. It dies with this process. @return 0 or -1 */
int ab_cmp_site_start(struct ab_cmp_site *site, char *const argv[]);
/* Makes dir/nodeN and in it, if `text` is not NULL, the file `name`. @return 0 or -1 */
int ab_cmp_site_file(struct ab_cmp_site *site, uint32_t node, const char *name, const char *text);

/* Waits a moment. @return 0, or -1: cancelled, a process has ended, or it is past `until` (`what` took too long) */
int ab_cmp_pause(struct ab_cmp_site *site, uint32_t ms, uint64_t until, const char *what);
/* Waits for the one process of the site to end by itself. @return its exit status, or -1 */
int ab_cmp_site_wait(struct ab_cmp_site *site, uint64_t until);

/* CPU time of all processes of the site, their ended children included, and of this process. */
uint64_t ab_cmp_site_cpu_ns(const struct ab_cmp_site *site);

/* --- a connection that is asked and answers: not for the load --- */
struct ab_cmp_line {
    int fd; /* -1: not open */
    struct ab_cmp_bytes in;
};
/* @return a connected socket with TCP_NODELAY, or -1 with errno; says nothing */
int ab_cmp_dial(uint16_t port);
/* Sends all of `out`, which is empty then. @return 0 or -1 */
int ab_cmp_line_send(struct ab_cmp_site *site, struct ab_cmp_line *line, struct ab_cmp_bytes *out);
/* Reads what comes, at least a byte, within a few seconds. @return 0, or -1: nothing came, or the end did */
int ab_cmp_line_receive(struct ab_cmp_site *site, struct ab_cmp_line *line);
void ab_cmp_line_close(struct ab_cmp_line *line);

#endif
