/* SPDX-License-Identifier: Apache-2.0 */
/* What the build makes of the descriptions of the commands: manual pages and completion. Main thread. */
#ifndef ANABRANCH_TOOLS_GENERATE_H
#define ANABRANCH_TOOLS_GENERATE_H

#include "tools/anabranch/command.h"

/* The page of a command, or of all of them (NULL), for man(7). */
void man_page(const command *c, FILE *out);

/* A script that completes the command line in bash. */
void completion_bash(FILE *out);

#endif
