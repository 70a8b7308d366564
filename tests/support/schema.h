/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file schema.h
 * Holds JSON against the tables of docs/INSPECTOR.md: each kind of object has a section "### KIND" with a table of key,
 * type, whether it is always there. One thread.
 */
#ifndef ANABRANCH_TESTS_SCHEMA_H
#define ANABRANCH_TESTS_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct schema schema;

/** Reads the document. NULL: it cannot be read, or a table makes no sense (`why` says what). */
schema *schema_load(const char *path, char *why, size_t size);
void schema_free(schema *s);

/** Whether `value` is an object of `kind` with nothing but known keys of their types, and all that are always there.
 *  `why` says where not. Notes which keys were seen. */
bool schema_check(schema *s, const char *kind, const json_t *value, char *why, size_t size);

/** Writes "KIND.KEY " for each key that no checked value had. */
void schema_unseen(const schema *s, char *text, size_t size);

#endif
