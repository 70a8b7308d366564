/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file text.h
 * Text of unknown origin on its way into a message. Pure functions; any thread.
 */
#ifndef ANABRANCH_ENGINE_BASE_TEXT_H
#define ANABRANCH_ENGINE_BASE_TEXT_H

#include <stddef.h>

/** Copies `text` as one line: control characters become \xNN. Cut with "..." where `size` is too small. */
void ab_text_quote(const char *text, size_t length, char *out, size_t size);

#endif
