/* SPDX-License-Identifier: Apache-2.0 */
/* --watch: a command again and again. Main thread. */
#ifndef ANABRANCH_TOOLS_WATCH_H
#define ANABRANCH_TOOLS_WATCH_H

#include "tools/anabranch/cli.h"

/* Runs `once` one time, or with --watch until SIGINT or SIGTERM or as often as --count says: on a terminal over what was
 * there before. @return what the last run returned */
int watch(const options *o, int (*once)(const options *o, void *arg), void *arg);

/* Sleeps; cut short by SIGINT and SIGTERM. @return false: it was. Between watch_begin() and watch_end() only. */
bool watch_sleep(uint64_t ms);
void watch_begin(void);
void watch_end(void);

#endif
