/* SPDX-License-Identifier: Apache-2.0 */
/* States of the public interface as messages of the admin protocol; README.md lists the fields. One owner of `out`;
 * nothing here waits, so the rows may be made inside the engine's callbacks. */
#include "engine/admin/command.h"
#include "wal/wal.h"

#include <stdio.h>
#include <unistd.h>

void ab_row_hello(ab_out *out)
{
    ab_out_begin(out, "hello");
    ab_out_uint(out, "v", AB_ADMIN_PROTOCOL);
    ab_out_text(out, "version", ab_version());
    ab_out_uint(out, "pid", (uint64_t)getpid());
    ab_out_end(out);
}

static void hex(const uint8_t *bytes, size_t count, char *text)
{
    for (size_t i = 0; i < count; i++) {
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
}

void ab_row_node(ab_out *out, const ab_node *node)
{
    ab_node_status s;
    ab_message message;
    char store_id[2 * sizeof s.store_id + 1];
    ab_node_get_status(node, &s);
    ab_node_message(node, &message);
    hex(s.store_id, sizeof s.store_id, store_id);
    ab_out_begin(out, "node");
    ab_out_uint(out, "node_id", s.node_id);
    ab_out_text(out, "store_id", store_id);
    ab_out_uint(out, "port", ab_node_port(node));
    ab_out_uint(out, "uptime_ms", s.uptime_ms);
    ab_out_uint(out, "groups", s.groups);
    ab_out_uint(out, "peers", s.peers);
    ab_out_uint(out, "peers_up", s.peers_up);
    ab_out_text(out, "durability", ab_durability_name(s.durability));
    ab_out_uint(out, "log_bytes", s.log_bytes);
    ab_out_uint(out, "log_max_bytes", s.log_max_bytes);
    ab_out_uint(out, "memory_bytes", s.memory_bytes);
    ab_out_uint(out, "memory_budget", s.memory_budget);
    ab_out_code(out, "log_code", s.log_code);
    ab_out_text(out, "message", message.text);
    ab_out_end(out);
}

static void uint_or_nil(ab_out *out, const char *key, uint64_t value)
{
    if (value == UINT64_MAX) {
        ab_out_nil(out, key);
    } else {
        ab_out_uint(out, key, value);
    }
}

void ab_row_link(ab_out *out, const ab_link_status *link)
{
    ab_out_begin(out, "link");
    ab_out_uint(out, "peer", link->peer);
    ab_out_bool(out, "up", link->up);
    ab_out_bool(out, "dialled", link->dialled);
    ab_out_text(out, "address", link->address);
    ab_out_uint(out, "queued_bytes", link->queued_bytes);
    ab_out_uint(out, "sent_bytes", link->sent_bytes);
    ab_out_uint(out, "received_bytes", link->received_bytes);
    ab_out_uint(out, "failures", link->failures);
    ab_out_uint(out, "retry_in_ms", link->retry_in_ms);
    uint_or_nil(out, "silent_ms", link->silent_ms);
    ab_out_code(out, "last_code", link->last_code);
    ab_out_text(out, "last_error", link->last_error);
    ab_out_end(out);
}

/* What a group's row says about its streams and peers in total. */
typedef struct summary {
    uint64_t streams;
    uint64_t streams_bad;
    uint64_t entries; /* in the log */
    uint64_t syncs;
    uint64_t syncs_bad;
    uint64_t lag_entries; /* of the slowest */
    uint64_t lag_ms;
    int code; /* the first that is not AB_OK */
} summary;

static bool sum_stream(void *arg, const ab_stream_status *stream)
{
    summary *s = arg;
    s->streams++;
    s->streams_bad += stream->code != AB_OK;
    s->entries += stream->logged > stream->base ? stream->logged - stream->base : 0;
    s->code = s->code != AB_OK ? s->code : stream->code;
    return true;
}

static bool sum_sync(void *arg, const ab_sync_status *sync)
{
    summary *s = arg;
    s->syncs++;
    s->syncs_bad += sync->peer.code != AB_OK;
    s->code = s->code != AB_OK ? s->code : sync->peer.code;
    s->lag_entries = sync->lag_entries > s->lag_entries ? sync->lag_entries : s->lag_entries;
    s->lag_ms = sync->lag_ms > s->lag_ms ? sync->lag_ms : s->lag_ms;
    return true;
}

void ab_row_group(ab_out *out, const ab_group *group, const ab_wal_group_size *size)
{
    ab_group_status s;
    summary sum = {0};
    ab_group_get_status(group, &s);
    ab_group_streams(group, sum_stream, &sum);
    ab_group_syncs(group, sum_sync, &sum);
    ab_out_begin(out, "group");
    ab_out_uint(out, "group", s.id);
    ab_out_text(out, "name", s.name);
    ab_out_text(out, "backend", s.backend);
    ab_out_uint(out, "members", s.members);
    ab_out_stream(out, "stream", s.stream);
    ab_out_uint(out, "last_index", s.last_index);
    ab_out_uint(out, "queued_entries", s.queued_entries);
    ab_out_uint(out, "queued_bytes", s.queued_bytes);
    ab_out_uint(out, "apply_blocks", s.apply_blocks);
    ab_out_uint(out, "applied_entries", s.applied_entries);
    ab_out_uint(out, "quarantined", s.quarantined);
    ab_out_uint(out, "skewed", s.skewed);
    ab_out_code(out, "write_code", s.write_code);
    ab_out_code(out, "apply_code", s.apply_code);
    ab_out_uint(out, "streams", sum.streams);
    ab_out_uint(out, "streams_bad", sum.streams_bad);
    ab_out_uint(out, "syncs", sum.syncs);
    ab_out_uint(out, "syncs_bad", sum.syncs_bad);
    ab_out_code(out, "bad_code", sum.code);
    ab_out_uint(out, "lag_entries", sum.lag_entries);
    ab_out_uint(out, "lag_ms", sum.lag_ms);
    if (size != NULL) {
        ab_out_uint(out, "entries", sum.entries);
        ab_out_uint(out, "log_blocks", size->blocks);
        ab_out_uint(out, "log_bytes", size->bytes);
    }
    ab_out_end(out);
}

void ab_row_stream(ab_out *out, uint64_t group, const ab_stream_status *stream)
{
    ab_out_begin(out, "stream");
    ab_out_uint(out, "group", group);
    ab_out_stream(out, "stream", stream->stream);
    ab_out_uint(out, "base", stream->base);
    ab_out_uint(out, "logged", stream->logged);
    ab_out_uint(out, "durable", stream->durable);
    ab_out_uint(out, "applied", stream->applied);
    ab_out_uint(out, "safe", stream->safe);
    ab_out_code(out, "code", stream->code);
    ab_out_end(out);
}

void ab_row_sync(ab_out *out, uint64_t group, const ab_sync_status *sync)
{
    const ab_peer_status *peer = &sync->peer;
    ab_out_begin(out, "sync");
    ab_out_uint(out, "group", group);
    ab_out_uint(out, "peer", peer->peer);
    ab_out_stream(out, "stream", peer->stream);
    ab_out_bool(out, "up", peer->up);
    ab_out_uint(out, "sync_index", peer->sync_index);
    ab_out_uint(out, "next", peer->next);
    ab_out_uint(out, "in_flight_bytes", peer->in_flight_bytes);
    ab_out_uint(out, "in_flight_blocks", peer->in_flight_blocks);
    ab_out_uint(out, "retries", peer->retries);
    ab_out_code(out, "code", peer->code);
    ab_out_uint(out, "lag_entries", sync->lag_entries);
    ab_out_uint(out, "lag_bytes", sync->lag_bytes);
    ab_out_uint(out, "lag_ms", sync->lag_ms);
    ab_out_end(out);
}

void ab_row_metric(ab_out *out, const ab_metric *metric)
{
    ab_out_begin(out, "metric");
    ab_out_text(out, "name", metric->name);
    ab_out_text(out, "help", metric->help);
    ab_out_bool(out, "counter", metric->counter);
    ab_out_double(out, "value", metric->value);
    ab_out_uint(out, "group", metric->group);
    ab_out_uint(out, "peer", metric->peer);
    ab_out_end(out);
}

void ab_row_end(ab_out *out, int code, const char *message)
{
    ab_out_begin(out, "end");
    ab_out_code(out, "code", code);
    ab_out_text(out, "message", message);
    ab_out_end(out);
}
