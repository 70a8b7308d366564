/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file store_fixture.h
 * Point stores in a directory of their own, and entries for them. For one thread.
 */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include "tools/anabranchd/pack.h"
#include "tools/anabranchd/store.h"
#include "tools/anabranchd/store_internal.h"

#include <sys/types.h>

#define GROUP 7u

extern ab_lp_parser *store_parser;

void store_setup(void);
void store_teardown(void);

/* A path in the directory, valid until the next call. */
const char *dir_named(const char *name);
ab_store *open_store(const char *name);

/* An entry with its memory. */
typedef struct written {
    ab_pack pack;
    char *erase; /* the payload of a delete */
    ab_entry entry;
} written;

void make_entry(written *w, uint32_t node, uint64_t index, uint64_t hlc, const char *text);
void make_delete(written *w, uint32_t node, uint64_t index, uint64_t hlc, const ab_selection *selection);
void free_entry(written *w);

int apply(ab_store *store, const ab_entry *entries, size_t count, const ab_mark *marks, size_t mark_count);

/* fork() for a child that is killed in the middle of anything: of what the parent has open it has only standard descriptors
 * and `keep`, so that half an assertion's message of its own never gets among the parent's. */
pid_t fork_apart(int keep);

/* The text of a whole export; the caller's to free. */
char *export_selected(ab_store *store, const ab_selection *selection);
/* The counters that are kept agree with a full recount. */
ab_store_summary check_summary(ab_store *store);
/* After a flush. */
void check_export(ab_store *store, const char *expected);

#endif
