/* SPDX-License-Identifier: Apache-2.0 */
/* Why a replica does not catch up, as far as the nodes know, for `anabranch digest`. Main thread. */
#ifndef ANABRANCH_TOOLS_DIGEST_WHY_H
#define ANABRANCH_TOOLS_DIGEST_WHY_H

#include "tools/anabranch/cli.h"

/* What the nodes say of links, streams and state machines. */
typedef struct reasons {
    report state; /* by position: the answer to `status --streams` */
    report links; /* the answer to `peers` */
    bool asked;
} reasons;

/* Asks the nodes of `o`. @return false: out of memory */
bool reasons_ask(reasons *r, const options *o);
void reasons_free(reasons *r);

/* What keeps the node at position `node` from having more of a stream of a group; NULL: of the group, whatever the stream.
 * @return false: nothing that is known does, it is under way */
bool reasons_tell(const reasons *r, size_t node, uint64_t group, const char *stream, char *text, size_t size);

#endif
