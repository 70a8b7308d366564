/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file shard.h
 * A group of the daemon: its state machine over a point store. The state machine's functions run as
 * anabranch/statemachine.h says; `store` may be exported from any thread as long as the shard exists.
 */
#ifndef ANABRANCHD_SHARD_H
#define ANABRANCHD_SHARD_H

#include "tools/anabranchd/store.h"
#include <anabranch/group.h>

/** Queries of the state machine. */
#define AB_SHARD_FLUSH "flush" /**< what was applied becomes durable and visible to exports; empty answer */
#define AB_SHARD_SUMMARY "summary" /**< the same; the answer is an ab_store_summary */

typedef struct ab_shard {
    char *dir;
    uint64_t id;
    const ab_group_config *config;
    uint32_t node; /* this one */
    uint64_t grace_ms;
    char name[AB_NAME_MAX + 1];
    ab_group *group;    /**< set by whoever opens it */
    ab_store *store;    /**< NULL until the group is open */
    ab_message message; /**< why the store could not be opened */
} ab_shard;

/** `config` is borrowed. `grace_ms`: how much later than a delete every member must be heard before it is forgotten; 0: it
 * is kept for ever. @return AB_OK, AB_ENOMEM */
int ab_shard_init(ab_shard *shard, const char *points_dir, const ab_group_config *config, uint32_t node,
                  uint64_t grace_ms);

/** Writes an entry without points where that would let the group forget deletes: a member that writes nothing else is not
 * heard. Any thread. */
void ab_shard_give_sign(ab_shard *shard, uint64_t now_ms);

/** After the group was closed, and no export is under way. */
void ab_shard_fini(ab_shard *shard);

/** Its `ctx` is an ab_shard. */
const ab_statemachine *ab_shard_machine(void);

#endif
