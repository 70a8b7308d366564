/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine of a group: thin functions over the point store. Threads: anabranch/statemachine.h. */
#include "tools/anabranchd/shard.h"
#include "tools/anabranchd/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ab_shard_init(ab_shard *shard, const char *points_dir, const ab_group_config *config, uint32_t node,
                  uint64_t grace_ms)
{
    *shard = (ab_shard){.id = config->id, .config = config, .node = node, .grace_ms = grace_ms};
    snprintf(shard->name, sizeof shard->name, "%s", config->name);
    size_t size = strlen(points_dir) + 24;
    shard->dir = malloc(size);
    if (shard->dir == NULL) {
        return AB_ENOMEM;
    }
    snprintf(shard->dir, size, "%s/%llu", points_dir, (unsigned long long)config->id);
    return AB_OK;
}

void ab_shard_fini(ab_shard *shard)
{
    ab_store_free(shard->store);
    free(shard->dir);
    *shard = (ab_shard){0};
}

static int report_durable(const ab_shard *shard, ab_frontier_out *durable)
{
    ab_frontier frontier = ab_store_durable(shard->store);
    for (size_t i = 0; i < frontier.count; i++) {
        int code = ab_frontier_add(durable, frontier.marks[i]);
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

/* Where entries are applied as they arrive, a member may be heard before what it had applied itself. */
static int set_grace(const ab_shard *shard)
{
    const ab_group_config *config = shard->config;
    if (shard->grace_ms == 0 || config->apply_order != AB_APPLY_CAUSAL) {
        return AB_OK;
    }
    if (config->member_count == 0) { /* standalone */
        return ab_store_set_grace(shard->store, &shard->node, 1, shard->grace_ms);
    }
    return ab_store_set_grace(shard->store, config->members, config->member_count, shard->grace_ms);
}

void ab_shard_give_sign(ab_shard *shard, uint64_t now_ms)
{
    static const char no_points[] = {AB_PACK_VERSION};
    if (ab_store_wants_sign(shard->store, shard->node, now_ms)) {
        (void)ab_write(shard->group, no_points, sizeof no_points, NULL, NULL,
                       NULL); /* else at the next look */
    }
}

static int shard_open(void *ctx, ab_group *group, ab_frontier_out *durable)
{
    ab_shard *shard = ctx;
    (void)group;
    int code = ab_store_open(shard->dir, shard->id, &shard->store, &shard->message);
    code = code == AB_OK ? set_grace(shard) : code;
    return code == AB_OK ? report_durable(shard, durable) : code;
}

static int shard_apply(void *ctx, const ab_entry *entries, size_t count, ab_frontier after, size_t *failed)
{
    ab_shard *shard = ctx;
    return ab_store_apply(shard->store, entries, count, after, failed);
}

static bool asks(const void *request, size_t size, const char *what)
{
    return size == strlen(what) && memcmp(request, what, size) == 0;
}

static int shard_query(void *ctx, const void *request, size_t size, ab_reply *reply)
{
    ab_shard *shard = ctx;
    bool summary = asks(request, size, AB_SHARD_SUMMARY);
    if (!summary && !asks(request, size, AB_SHARD_FLUSH)) {
        return AB_EINVAL;
    }
    int code = ab_store_flush(shard->store);
    if (code != AB_OK || !summary) {
        return code;
    }
    ab_store_summary s;
    ab_store_summarize(shard->store, &s);
    return ab_reply_append(reply, &s, sizeof s);
}

static int shard_checkpoint(void *ctx, ab_frontier_out *durable)
{
    ab_shard *shard = ctx;
    int code = ab_store_flush(shard->store);
    return code == AB_OK ? report_durable(shard, durable) : code;
}

static int shard_digest(void *ctx, ab_digest *digest)
{
    ab_shard *shard = ctx;
    int code = ab_store_flush(shard->store);
    if (code == AB_OK) {
        ab_store_summary summary;
        ab_store_summarize(shard->store, &summary);
        *digest = summary.digest;
    }
    return code;
}

static void shard_close(void *ctx)
{
    ab_shard *shard = ctx;
    if (shard->store != NULL) {
        ab_store_close(shard->store);
    }
}

const ab_statemachine *ab_shard_machine(void)
{
    static const ab_statemachine machine = {.version = AB_STATEMACHINE_VERSION,
                                            .open = shard_open,
                                            .apply = shard_apply,
                                            .query = shard_query,
                                            .checkpoint = shard_checkpoint,
                                            .digest = shard_digest,
                                            .close = shard_close};
    return &machine;
}
