/* SPDX-License-Identifier: Apache-2.0 */
/* Text inside HTML and SVG. One stream: one thread at a time. */
#ifndef ANABRANCH_TOOLS_MARKUP_H
#define ANABRANCH_TOOLS_MARKUP_H

#include <stddef.h>
#include <stdio.h>

/* Writes text for an element or a quoted attribute: & < > " ' become entities; what is no UTF-8, no character of XML,
 * or changes the direction of text becomes U+FFFD. */
void markup_text(FILE *out, const char *text);
void markup_bytes(FILE *out, const char *text, size_t length);
/* At most `characters` of it, "…" for the rest. */
void markup_cut(FILE *out, const char *text, size_t characters);

#endif
