/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch config reference`: every key of a configuration file, as the programs that read it know it. Main thread. */
#ifndef ANABRANCH_TOOLS_REFERENCE_H
#define ANABRANCH_TOOLS_REFERENCE_H

#include <jansson.h>
#include <stdio.h>

/* The keys as Markdown: the second part of docs/CONFIGURATION.md. */
void reference_print(FILE *out);

/* The same as a list of objects; NULL: out of memory. */
json_t *reference_json(void);

#endif
