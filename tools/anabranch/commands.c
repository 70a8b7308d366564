/* SPDX-License-Identifier: Apache-2.0 */
/* The list of commands. A new one: its description in its own file, a declaration and a line here. Any thread. */
#include "tools/anabranch/bench.h"
#include "tools/anabranch/command.h"

#include <string.h>

extern const command command_status;
extern const command command_groups;
extern const command command_peers;
extern const command command_log;
extern const command command_verify;
extern const command command_digest;
extern const command command_metrics;
extern const command command_quarantine;
extern const command command_config;
extern const command command_report;
extern const command command_top;

/* It reads its options itself. */
static const command command_bench = {
    .name = "bench",
    .summary = "measure three nodes on this machine",
    .run = cmd_bench,
};

const command *const commands[] = {
    &command_status,
    &command_groups,
    &command_peers,
    &command_log,
    &command_verify,
    &command_digest,
    &command_metrics,
    &command_quarantine,
    &command_config,
    &command_top,
    &command_report,
    &command_bench,
    NULL,
};

const command *command_find(const char *name)
{
    for (size_t i = 0; commands[i] != NULL; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}
