/* SPDX-License-Identifier: Apache-2.0 */
/* `--group NAME`: which group that is. Main thread. */
#ifndef ANABRANCH_TOOLS_GROUP_NAME_H
#define ANABRANCH_TOOLS_GROUP_NAME_H

#include "tools/anabranch/cli.h"

/* Sets o->group to the id of the group called `name`, as the configurations and then the nodes of `o` have it.
 * @return EXIT_FINE, or EXIT_WRONG (said why) */
int group_by_name(options *o, const char *name);

#endif
