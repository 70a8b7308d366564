/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file epoch.h
 * Which epoch a member writes in. Pure functions.
 */
#ifndef ANABRANCH_REPLICATION_EPOCH_H
#define ANABRANCH_REPLICATION_EPOCH_H

#include <anabranch/backend.h>

/** Key under which AB_ACT_PERSIST keeps the epoch; the value is a u32, little-endian. */
#define AB_EPOCH_KEY "epoch"

/**
 * Chooses the epoch to start with. The stored one is kept only where no index of it can be handed out twice:
 * the tail is safe, and the state machine has no more of our stream than the log. Else it is the greater of
 * unix seconds and one more than every epoch of ours that is known of.
 * @return AB_OK, AB_ECORRUPT (the stored value cannot be read, or no epoch is left)
 */
int ab_epoch_choose(const ab_core_init *init, uint32_t *epoch, bool *kept);

/** The epoch after `current` that is also above `seen`: at least unix seconds. @return AB_OK, AB_ECORRUPT
 * (none is left) */
int ab_epoch_after(uint32_t current, uint32_t seen, uint32_t wall_seconds, uint32_t *epoch);

/** Stores the epoch, then announces where local writes go. @return AB_OK, AB_ENOMEM */
int ab_epoch_announce(ab_mark from, uint64_t hash, bool persist, ab_actions *actions);

#endif
