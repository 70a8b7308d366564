/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics by iteration: a table of names over the counters. Any thread. */
#include "engine/engine.h"

#include <stddef.h>

typedef struct counter_name {
    const char *name;
    const char *help;
    size_t offset;
    double per_unit; /* how many of what is counted make one of what the name says */
} counter_name;

static const counter_name COUNTERS[] = {
    {"log_commits_total", "Commits of the log.", offsetof(ab_counters, commits), 1},
    {"log_commit_failures_total", "Commits that failed and were tried again.",
     offsetof(ab_counters, commit_failures), 1},
    {"log_commit_seconds_total", "Time spent in commits.", offsetof(ab_counters, commit_ns), 1e9},
    {"log_blocks_total", "Blocks logged, own and received.", offsetof(ab_counters, blocks_logged), 1},
    {"log_entries_total", "Entries logged, own and received.", offsetof(ab_counters, entries_logged), 1},
    {"log_block_bytes_total", "Bytes of blocks logged.", offsetof(ab_counters, bytes_logged), 1},
    {"log_trimmed_blocks_total", "Blocks trimmed.", offsetof(ab_counters, trimmed_blocks), 1},
    {"log_cold_reads_total", "Blocks read back from disk.", offsetof(ab_counters, cold_reads), 1},
    {"log_damaged_blocks_total", "Reads of the log that met a damaged block.",
     offsetof(ab_counters, damaged_blocks), 1},
    {"damage_reports_total", "Damaged, refused or lost blocks that groups reported.",
     offsetof(ab_counters, damage_reports), 1},
    {"log_refused_blocks_total", "Blocks that the log would not take.", offsetof(ab_counters, refused_blocks),
     1},
    {"writes_refused_total", "Calls to write that were refused.", offsetof(ab_counters, writes_refused), 1},
    {"blocks_received_total", "Blocks that peers sent.", offsetof(ab_counters, blocks_received), 1},
    {"blocks_sent_total", "Blocks handed to links.", offsetof(ab_counters, blocks_sent), 1},
    {"checkpoints_total", "Checkpoints of state machines.", offsetof(ab_counters, checkpoints), 1},
    {"apply_retries_total", "Calls of apply that asked to be repeated.", offsetof(ab_counters, apply_retries),
     1},
    {"protocol_errors_total", "Messages and blocks of peers that made no sense.",
     offsetof(ab_counters, protocol_errors), 1},
};

static bool node_gauges(const ab_node *node, ab_metric_fn fn, void *arg)
{
    ab_node_status status;
    ab_latency_summary acks;
    ab_node_get_status(node, &status);
    ab_latency_read(&node->latency, ab_monotonic_ns(), &acks);
    const ab_metric gauges[] = {
        {"write_ack_p50_seconds",
         "Median time from the oldest write of a block to its local acknowledgement, last 10 s.", false,
         acks.p50, 0, 0},
        {"write_ack_p99_seconds", "99 of 100 blocks of the last 10 s took no longer.", false, acks.p99, 0, 0},
        {"write_ack_p999_seconds", "999 of 1000 blocks of the last 10 s took no longer.", false, acks.p999, 0,
         0},
        {"write_ack_max_seconds", "The slowest block of the last 10 s.", false, acks.max, 0, 0},
        {"log_used_bytes", "Bytes of the log in use.", false, (double)status.log_bytes, 0, 0},
        {"log_max_bytes", "Configured ceiling of the log.", false, (double)status.log_max_bytes, 0, 0},
        {"log_writable", "1 if the log takes writes, 0 if not.", false, status.log_code == AB_OK, 0, 0},
        {"memory_used_bytes", "Memory of caches and queues.", false, (double)status.memory_bytes, 0, 0},
        {"memory_budget_bytes", "Configured budget of it.", false, (double)status.memory_budget, 0, 0},
        {"groups", "Open groups.", false, status.groups, 0, 0},
        {"peers", "Configured peers.", false, status.peers, 0, 0},
        {"peers_up", "Peers whose link stands.", false, status.peers_up, 0, 0},
        {"uptime_seconds", "Time since the node was opened.", false, (double)status.uptime_ms / 1000, 0, 0},
    };
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++) {
        if (!fn(arg, &gauges[i])) {
            return false;
        }
    }
    return true;
}

typedef struct link_walk {
    ab_metric_fn fn;
    void *arg;
    bool more;
} link_walk;

static bool link_metrics(void *arg, const ab_link_status *status)
{
    link_walk *walk = arg;
    const ab_metric metrics[] = {
        {"link_up", "1 if the link to the peer stands.", false, status->up, 0, status->peer},
        {"link_queued_bytes", "Bytes that wait to be sent.", false, (double)status->queued_bytes, 0,
         status->peer},
        {"link_sent_bytes_total", "Bytes sent.", true, (double)status->sent_bytes, 0, status->peer},
        {"link_received_bytes_total", "Bytes received.", true, (double)status->received_bytes, 0,
         status->peer},
        {"link_failures", "Failed attempts since the link last stood.", false, status->failures, 0,
         status->peer},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0] && walk->more; i++) {
        walk->more = walk->fn(walk->arg, &metrics[i]);
    }
    return walk->more;
}

static bool group_metrics(const ab_group *group, ab_metric_fn fn, void *arg)
{
    ab_group_status status;
    ab_group_get_status(group, &status);
    const ab_metric metrics[] = {
        {"group_queued_bytes", "Written, not yet logged.", false, (double)status.queued_bytes, status.id, 0},
        {"group_apply_blocks", "Logged, waiting for the state machine.", false, (double)status.apply_blocks,
         status.id, 0},
        {"group_applied_entries_total", "Entries applied.", true, (double)status.applied_entries, status.id,
         0},
        {"group_quarantined", "Entries in quarantine.", false, (double)status.quarantined, status.id, 0},
        {"group_skewed_blocks_total", "Remote blocks with a clock too far ahead to be merged.", true,
         (double)status.skewed, status.id, 0},
        {"group_writable", "1 if the group takes writes.", false, status.write_code == AB_OK, status.id, 0},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        if (!fn(arg, &metrics[i])) {
            return false;
        }
    }
    return true;
}

void ab_node_metrics(const ab_node *const_node, ab_metric_fn fn, void *arg)
{
    ab_node *node = (ab_node *)const_node;
    for (size_t i = 0; i < sizeof COUNTERS / sizeof COUNTERS[0]; i++) {
        const atomic_ullong *counter = (const void *)((const char *)&node->counters + COUNTERS[i].offset);
        double value = (double)atomic_load(counter) / COUNTERS[i].per_unit;
        ab_metric metric = {COUNTERS[i].name, COUNTERS[i].help, true, value, 0, 0};
        if (!fn(arg, &metric)) {
            return;
        }
    }
    link_walk walk = {fn, arg, true};
    if (!node_gauges(node, fn, arg)) {
        return;
    }
    ab_transport_links(node->transport, link_metrics, &walk);
    if (!walk.more) {
        return;
    }
    size_t count = 0;
    ab_group **groups = ab_groups_take(node, &count);
    for (size_t i = 0; i < count && group_metrics(groups[i], fn, arg); i++) {
    }
    ab_groups_release(groups, count);
}
