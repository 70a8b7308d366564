/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file quarantine.h
 * Entries that a state machine refused for good, and such as cannot be decoded: copies of them in the log's small state, which trimming does not touch.
 * Written and removed on the group's apply thread only, each change committed before anybody is told. Read anywhere.
 */
#ifndef ANABRANCH_ENGINE_QUARANTINE_H
#define ANABRANCH_ENGINE_QUARANTINE_H

#include "engine/engine.h"

/** Keeps a refused entry, before the frontier passes it. One that is kept already stays as it is.
 *  @return AB_OK, else to be tried again later */
int ab_quarantine_put(ab_group *group, const ab_entry *entry);

/** Keeps what cannot be decoded of a block: the entries from first->index to `last`, of which `first` has as its payload all
 * the bytes there are. @return as ab_quarantine_put() */
int ab_quarantine_put_raw(ab_group *group, const ab_entry *first, uint64_t last);

/** Forgets those of `first` to `last` that came again, after a restart, and were applied this time. */
void ab_quarantine_applied(ab_group *group, ab_stream stream, uint64_t first, uint64_t last);

/** Counts what is there and notes how far it reaches in each stream. By the thread that opens the group.
 *  @return AB_OK, AB_ENOMEM, AB_ECORRUPT, AB_EIO */
int ab_quarantine_recover(ab_group *group);

#endif
