/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file yaml_scan.h
 * A walk over a YAML text with libyaml's events, before libcyaml sees it: refuses what the configuration does
 * not use and what a hostile text could hurt with, and finds the line of a key. Pure functions; any thread.
 */
#ifndef ANABRANCH_ENGINE_BASE_YAML_SCAN_H
#define ANABRANCH_ENGINE_BASE_YAML_SCAN_H

#include "engine/base/config_fields.h"

#include <stddef.h>

/* Far beyond any real file; a bound on time and memory. */
#define AB_YAML_SIZE_MAX (16u << 20)
#define AB_YAML_DEPTH_MAX 32u

/* Keys are put into paths as ab_text_quote() makes them for a buffer of this size. */
#define AB_YAML_KEY_SHOWN 64u

/**
 * Walks the whole text. Refused: more than one document, anchors and aliases, tags, keys that are not plain
 * names, keys without a value, NUL in text, nesting beyond AB_YAML_DEPTH_MAX. Below `application` only
 * nesting, anchors and aliases are.
 * @param line  where; on AB_OK 0
 * @return AB_OK, AB_ECONFIG, AB_ENOMEM
 */
int ab_yaml_check(const char *text, size_t size, size_t *line, ab_config_fault *fault);

/** Line of `path` ("node.peers[2].host"), or of the nearest thing around it that is in the text. The text has
 * passed ab_yaml_check() at least up to there. */
size_t ab_yaml_line(const char *text, size_t size, const char *path);

/** Calls `fn` with the path of every key and list item, and its line, in the order of the text, which has passed
 * ab_yaml_check(). @return AB_OK, AB_ENOMEM */
typedef void (*ab_yaml_place_fn)(void *arg, const char *path, size_t line);
int ab_yaml_places(const char *text, size_t size, ab_yaml_place_fn fn, void *arg);

#endif
