/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file markup_check.h
 * Whether text is well-formed SVG or HTML as our own tools write it: strict about what they must get right, and no parser
 * for anybody else's.
 */
#ifndef ANABRANCH_TESTS_MARKUP_CHECK_H
#define ANABRANCH_TESTS_MARKUP_CHECK_H

#include <stddef.h>

/** Elements open and close in order, attributes are quoted, entities are entities, identifiers are there once, nothing is
 * fetched or run. @return NULL, or what is wrong (static) */
const char *markup_check(const char *text, size_t *where);

#endif
