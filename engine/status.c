/* SPDX-License-Identifier: Apache-2.0 */
/* What the public headers tell of a node and its groups. Any thread; takes each lock for a moment. */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000ull

static bool count_up(void *arg, const ab_link_status *status)
{
    *(uint32_t *)arg += status->up;
    return true;
}

void ab_node_get_status(const ab_node *const_node, ab_node_status *status)
{
    ab_node *node = (ab_node *)const_node;
    *status = (ab_node_status){.node_id = node->config.node_id,
                               .uptime_ms = (ab_monotonic_ns() - node->opened_ns) / NS_PER_MS,
                               .peers = (uint32_t)node->config.peer_count,
                               .durability = node->config.durability,
                               .log_max_bytes = node->config.log_max_bytes,
                               .memory_bytes = atomic_load(&node->budget.used),
                               .memory_budget = node->config.memory_budget,
                               .log_code = atomic_load(&node->log_code)};
    memcpy(status->store_id, node->origin.store_id, sizeof status->store_id);
    pthread_rwlock_rdlock(&node->registry);
    for (const ab_group *group = node->groups.first; group != NULL; group = group->next) {
        status->groups += ab_group_is_open(group);
    }
    pthread_rwlock_unlock(&node->registry);
    ab_transport_links(node->transport, count_up, &status->peers_up);
    ab_wal_usage usage;
    ab_wal_usage_get(node->wal, &usage);
    status->log_bytes = usage.used_bytes;
}

void ab_node_links(const ab_node *node, ab_link_fn fn, void *arg)
{
    ab_transport_links(node->transport, fn, arg);
}

void ab_group_get_status(const ab_group *const_group, ab_group_status *status)
{
    ab_group *group = (ab_group *)const_group;
    *status = (ab_group_status){.id = group->id,
                                .members = group->peer_count + 1,
                                .apply_blocks = atomic_load(&group->apply_blocks),
                                .applied_entries = atomic_load(&group->applied_entries),
                                .quarantined = atomic_load(&group->quarantined),
                                .skewed = atomic_load(&group->skewed),
                                .apply_code = atomic_load(&group->apply_code)};
    memcpy(status->name, group->name, strlen(group->name) + 1);
    strncpy(status->backend, group->backend->name, sizeof status->backend - 1);
    pthread_mutex_lock(&group->core_lock);
    status->stream = group->append_stream;
    status->last_index = group->append_last;
    pthread_mutex_unlock(&group->core_lock);
    pthread_mutex_lock(&group->append_lock);
    status->queued_entries = group->queued_entries;
    status->queued_bytes = group->queued_bytes;
    status->write_code = group->append_code;
    pthread_mutex_unlock(&group->append_lock);
    int log_code = atomic_load(&group->node->log_code);
    status->write_code = status->write_code == AB_OK ? log_code : status->write_code;
}

/* Rows copied out of the core, so that what is done with them is done without its lock. */
typedef struct rows {
    ab_peer_status *peers;
    size_t peer_count, peer_capacity;
    ab_stream_status *streams;
    size_t stream_count, stream_capacity;
} rows;

static bool add_row(void **array, size_t *count, size_t *capacity, const void *row, size_t size)
{
    if (*count == *capacity) {
        size_t more = *capacity == 0 ? 16 : *capacity * 2;
        void *bigger = realloc(*array, more * size);
        if (bigger == NULL) {
            return false;
        }
        *array = bigger;
        *capacity = more;
    }
    memcpy((uint8_t *)*array + *count * size, row, size);
    (*count)++;
    return true;
}

static bool take_peer(void *arg, const ab_peer_status *status)
{
    rows *into = arg;
    void *array = into->peers;
    bool ok = add_row(&array, &into->peer_count, &into->peer_capacity, status, sizeof *status);
    into->peers = array;
    return ok;
}

static bool take_stream(void *arg, const ab_stream_status *status)
{
    rows *into = arg;
    void *array = into->streams;
    bool ok = add_row(&array, &into->stream_count, &into->stream_capacity, status, sizeof *status);
    into->streams = array;
    return ok;
}

void ab_group_streams(const ab_group *const_group, ab_stream_status_fn fn, void *arg)
{
    ab_group *group = (ab_group *)const_group;
    rows all = {0};
    pthread_mutex_lock(&group->core_lock);
    if (group->core != NULL) {
        group->backend->streams(group->core, take_stream, &all);
    }
    pthread_mutex_unlock(&group->core_lock);
    for (size_t i = 0; i < all.stream_count && fn(arg, &all.streams[i]); i++) {
    }
    free(all.streams);
}

/* How old the first entry is that the peer has not confirmed, and how large about all of them are: as large as what was
 * logged since the start, or, where nothing was, as the entries of that one's block. */
static void measure_lag(ab_group *group, ab_mark confirmed, ab_sync_status *status)
{
    uint64_t entries = atomic_load(&group->logged_entries);
    uint64_t bytes = atomic_load(&group->logged_bytes);
    ab_block_header header = {0};
    ab_buf *buf = NULL;
    if (ab_block_fetch(group, confirmed.stream, confirmed.index + 1, &header, &buf) == AB_OK) {
        ab_buf_unref(buf);
        uint64_t then = header.hlc_first >> 16, now = ab_wall_ms();
        status->lag_ms = now > then ? now - then : 0;
        if (entries == 0) {
            entries = header.count;
            bytes = header.entries_bytes + AB_BLOCK_HEADER;
        }
    }
    status->lag_bytes = entries > 0 ? status->lag_entries * (bytes / entries) : 0;
}

/* What is trimmed counts as confirmed: that is why it was trimmed. After a start this is all that is known of a peer that was
 * not heard yet; it has not lost everything. */
static ab_sync_status with_lag(ab_group *group, const rows *all, const ab_peer_status *peer)
{
    ab_sync_status status = {.peer = *peer};
    ab_mark confirmed = {peer->stream, peer->sync_index};
    for (size_t i = 0; i < all->stream_count; i++) {
        const ab_stream_status *stream = &all->streams[i];
        if (ab_stream_compare(stream->stream, peer->stream) != 0) {
            continue;
        }
        if (peer->code != AB_ETRIMMED && stream->base > confirmed.index) {
            confirmed.index = stream->base;
        }
        status.lag_entries = stream->logged > confirmed.index ? stream->logged - confirmed.index : 0;
    }
    if (status.lag_entries > 0) {
        measure_lag(group, confirmed, &status);
    }
    return status;
}

void ab_group_syncs(const ab_group *const_group, ab_sync_fn fn, void *arg)
{
    ab_group *group = (ab_group *)const_group;
    rows all = {0};
    pthread_mutex_lock(&group->core_lock);
    if (group->core != NULL) {
        group->backend->streams(group->core, take_stream, &all);
        group->backend->peers(group->core, take_peer, &all);
    }
    pthread_mutex_unlock(&group->core_lock);
    for (size_t i = 0; i < all.peer_count; i++) {
        ab_sync_status status = with_lag(group, &all, &all.peers[i]);
        if (!fn(arg, &status)) {
            break;
        }
    }
    free(all.peers);
    free(all.streams);
}
