/* SPDX-License-Identifier: Apache-2.0 */
/* What can still be read of a log that does not open: every block in its data file that is whole, wherever it lies.
 * Reads only. Main thread. */
#ifndef ANABRANCH_TOOLS_SALVAGE_H
#define ANABRANCH_TOOLS_SALVAGE_H

#include "tools/anabranch/source.h"

/* Whether a query can be answered from blocks alone: status, groups, log, verify. */
bool salvage_answers(const query *q);

/* Searches DATA_DIR/data.mdb for blocks and gives rows of them: `group` and `stream` (status, groups), `entry` and `fault`
 * (log), with "salvaged": true. Completes `s->message` with what was found. @return AB_OK; AB_ENOMEM; AB_EIO (the file
 * cannot be read); AB_ECLOSED (`fn` wanted no more) */
int salvage_ask(source *s, const query *q, row_fn fn, void *arg);

#endif
