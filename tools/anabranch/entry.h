/* SPDX-License-Identifier: Apache-2.0 */
/* Rows about entries: of the log, and of quarantine. Main thread. */
#ifndef ANABRANCH_TOOLS_ENTRY_H
#define ANABRANCH_TOOLS_ENTRY_H

#include "tools/anabranch/cli.h"

/* Bytes of payload to ask for: enough for the decoder, and for what is shown. */
uint64_t entry_bytes(const options *o);

/* Whether a payload has room behind `column` columns. */
bool entry_fits(size_t column);

/* Prints the payload of a row behind `column` columns of its line, or below it where there is no room; the lines of it below
 * each other, cut to the terminal unless --bytes was given. @return false: out of memory */
bool entry_print(const options *o, const json_t *row, size_t column);

/* Completes a row for --json: "payload_hex" of at most --bytes bytes, with --payload "decoded". @return false: as above */
bool entry_finish(const options *o, json_t *row);

#endif
