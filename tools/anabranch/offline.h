/* SPDX-License-Identifier: Apache-2.0 */
/* Rows from a data directory that no process has open. Reads only. Main thread. */
#ifndef ANABRANCH_TOOLS_OFFLINE_H
#define ANABRANCH_TOOLS_OFFLINE_H

#include "tools/anabranch/source.h"

/* The same rows as a running node gives for the query, with the fields that the log alone can tell.
 * @return AB_OK, AB_ECORRUPT (verify found faults), AB_ENOTFOUND, AB_EUNSUPPORTED (needs a running node), AB_EIO,
 * AB_ENOMEM, AB_ECLOSED (`fn` wanted no more) */
int offline_ask(source *s, const query *q, row_fn fn, void *arg);

#endif
