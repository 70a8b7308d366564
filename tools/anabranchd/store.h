/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file store.h
 * The points of one group in an LMDB environment of their own.
 *
 * Read this first:
 *  - ab_store_apply() and ab_store_flush() come from one thread at a time (the group's apply thread). Exports may run
 * on other threads beside them, each export on one thread at a time.
 *  - What was applied is held in memory until a flush, sorted then, and written in one synced transaction together
 * with the frontier: each entry counts exactly once. A flush that fails (disk full) loses nothing: it can be repeated.
 *  - Of several values for one series, field and time, the one with the greatest (hlc, node) stays, unless a delete
 * with a greater one selects it; so the content depends only on which entries were applied, never on their order. That
 * is why deletes are kept as tombstones: a write that one of them covers may still come. A tombstone goes where a
 * later one selects all that it does, and where nothing can come any more that it covers (ab_store_set_grace()).
 *
 * Databases: "columns": a trie of column keys (series key, space, field key) in pieces of 500 bytes, because LMDB's
 * keys are short: key (parent node u32, piece), value (column id u32, child node u32), big-endian, 0 for none.
 * "points": key (column id u32, time u64 with flipped sign bit), big-endian; value: see store_point.c.
 * "tombstones": key (hlc u64, node u32), big-endian, value: the delete's payload (pack.h). "meta": format, group,
 * frontier, digest, counters, and of each node the last hlc heard of it. Ids are private to one replica: neither digest nor export depend on them.
 */
#ifndef ANABRANCHD_STORE_H
#define ANABRANCHD_STORE_H

#include "tools/anabranchd/selection.h"
#include <anabranch/error.h>
#include <anabranch/statemachine.h>
#include <anabranch/types.h>

#define AB_STORE_FORMAT 3u /* 1: before there were tombstones; 2: before they went */

typedef struct ab_store ab_store;

/** Opens the store of `group` in `dir`, made if missing (its parent is not).
 *  @return AB_OK, AB_EVERSION, AB_EIDENTITY (the store of another group), AB_ECORRUPT, AB_EIO, AB_ENOSPC, AB_ENOMEM;
 *          `message` (may be NULL) says what and where */
int ab_store_open(const char *dir, uint64_t group, ab_store **store, ab_message *message);

/** Lets a tombstone go once every one of the group's members (copied) was heard with an entry `grace_ms` later than it.
 * Without this, or without members, it never goes. Before anything is applied; the same on all members, or else they
 * keep different ones and their digests differ. @return AB_OK, AB_ENOMEM */
int ab_store_set_grace(ab_store *store, const uint32_t *members, size_t count, uint64_t grace_ms);

/** Whether tombstones could go if `node` wrote something now, by the wall clock. Any thread. */
bool ab_store_wants_sign(const ab_store *store, uint32_t node, uint64_t now_ms);

/** Gives the files back; what is not flushed is lost. The handle stays, for exports that are under way: they end with
 * AB_ECLOSED. */
void ab_store_close(ab_store *store);

/** Frees the handle; nobody uses it any more. NULL is allowed. */
void ab_store_free(ab_store *store);

/** Applies entries that ab_pack_add() or ab_pack_delete() packed; all or nothing. One that was applied before changes
 * nothing; one that the frontier has passed without it (it was in quarantine) still counts as what it is.
 *  @return AB_OK; AB_EREJECT: entry *failed cannot be read; AB_ENOMEM, AB_ENOSPC, AB_EIO: try again later */
int ab_store_apply(ab_store *store, const ab_entry *entries, size_t count, ab_frontier after, size_t *failed);

/** Makes everything applied durable and visible to exports. @return AB_OK, AB_ENOMEM, AB_ENOSPC, AB_EIO */
int ab_store_flush(ab_store *store);

/** The frontier that is durable; valid until the next flush. */
ab_frontier ab_store_durable(const ab_store *store);

/** What the store holds as of the last flush. */
typedef struct ab_store_summary {
    uint64_t points;
    uint64_t columns; /**< series x field that have points */
    uint64_t tombstones;
    ab_digest digest; /**< of points and tombstones */
} ab_store_summary;

void ab_store_summarize(const ab_store *store, ab_store_summary *summary);

/** Recounts all by a full scan. @return AB_OK, AB_ECLOSED, AB_ECORRUPT, AB_EIO, AB_ENOMEM */
int ab_store_scan(ab_store *store, ab_store_summary *summary);

/** A walk over points in the order of (column key, time), as line protocol with one field per line. */
typedef struct ab_export ab_export;

/** @param selection  which points; borrowed for the walk; NULL: all. @return NULL: out of memory */
ab_export *ab_export_new(const ab_selection *selection);
void ab_export_free(ab_export *walk);

/** The next lines: some tens of KB at most, in `text` until the next call. *size = 0: none found in this call's share of
 * work; ab_export_ended() says whether there are more. Holds no transaction between calls: what is written meanwhile
 * shows or does not. @return AB_OK, AB_ECLOSED, AB_ECORRUPT, AB_EIO, AB_ENOMEM */
int ab_export_next(ab_export *walk, ab_store *store, const char **text, size_t *size);
bool ab_export_ended(const ab_export *walk);

#endif
