/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of configuration keys, and what follows from them alone. Constant data, pure functions; any
 * thread. */
#include "engine/base/config_fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MIB (1ull << 20)
#define TIB (1ull << 40)
#define DAY_MS (24u * 3600u * 1000u)
#define HOST_MAX 255u         /* DNS */
#define PATH_LENGTH_MAX 4000u /* PATH_MAX less room for the names of the files in it */

#define NODE(member) offsetof(ab_node_config, member)
#define PEER(member) offsetof(ab_peer_config, member)
#define GROUP(member) offsetof(ab_group_config, member)

static const ab_config_field node_fields[] = {
    {"cluster", AB_FIELD_TEXT, NODE(cluster), 1, AB_NAME_MAX, "",
     "Name of the cluster. Nodes of another cluster are refused at the handshake."},
    {"node_id", AB_FIELD_U32, NODE(node_id), 1, UINT32_MAX, "",
     "Number of this node, unique in the cluster. Belongs to the data directory for good."},
    {"data_dir", AB_FIELD_TEXT, NODE(data_dir), 1, PATH_LENGTH_MAX, "",
     "Directory of the log and of `admin.sock`. Made if missing; one process at a time. A relative path "
     "starts at the working directory."},
    {"listen_host", AB_FIELD_TEXT, NODE(listen_host), 0, HOST_MAX, "",
     "Address to listen on. Without it the node does not listen, it only dials: enough behind NAT."},
    {"listen_port", AB_FIELD_U16, NODE(listen_port), 0, UINT16_MAX, "",
     "Port to listen on; 0: the system chooses one. Needs `listen_host`."},
    {"insecure", AB_FIELD_BOOL, NODE(insecure), 0, 1, "",
     "Allow listening on more than loopback (127.0.0.0/8, ::1, localhost). There is no TLS yet: only on a "
     "network you trust."},
    {"durability", AB_FIELD_DURABILITY, NODE(durability), 0, AB_DURABILITY_NONE, "",
     "How hard the log is written. `sync`: every commit reaches the disk before anyone is told. "
     "`interval`: one commit per `durability_interval_ms`; a crash loses at most what came since. `none`: "
     "never forced to disk; a power cut may lose or damage everything."},
    {"durability_interval_ms", AB_FIELD_U32, NODE(durability_interval_ms), 1, 60000, "ms",
     "For `durability: interval`."},
    {"write_level", AB_FIELD_WRITE_LEVEL, NODE(write_level), 0, AB_WRITE_ALL, "",
     "When a write returns, for groups and calls that do not say. `default` is `local`."},
    {"read_level", AB_FIELD_READ_LEVEL, NODE(read_level), 0, AB_READ_STRONG, "",
     "What a read may see, for groups and calls that do not say. `default` is `weak`."},
    {"log_max_bytes", AB_FIELD_SIZE64, NODE(log_max_bytes), 16 * MIB, 1024 * TIB, "bytes",
     "Ceiling of what the log may use on disk. Beyond it writes are refused until there is room; nothing "
     "is lost."},
    {"memory_budget", AB_FIELD_SIZE64, NODE(memory_budget), 8 * MIB, 16 * TIB, "bytes",
     "All caches and queues of the node together. What does not fit is read from the log."},
    {"queue_bytes", AB_FIELD_SIZE64, NODE(queue_bytes), 4096, 16 * TIB, "bytes",
     "Per group: written and not yet logged. Beyond it writers wait or are told to. At least "
     "`payload_max`, at most `memory_budget`."},
    {"block_bytes", AB_FIELD_SIZE32, NODE(block_bytes), 4096, 8 * MIB, "bytes",
     "A block is closed when it has grown to this. 100 to 450 KiB per commit measured best."},
    {"payload_max", AB_FIELD_SIZE32, NODE(payload_max), 1, AB_PAYLOAD_MAX, "bytes", "Largest entry."},
    {"window_blocks", AB_FIELD_U32, NODE(window_blocks), 1, 65536, "",
     "Blocks in flight per peer and stream."},
    {"window_bytes", AB_FIELD_SIZE64, NODE(window_bytes), 4096, TIB, "bytes",
     "Bytes in flight per peer and stream; one block always fits."},
    {"retry_min_ms", AB_FIELD_U32, NODE(retry_min_ms), 1, DAY_MS, "ms",
     "Back-off of dialling and of sending again: first wait. It doubles, with jitter."},
    {"retry_max_ms", AB_FIELD_U32, NODE(retry_max_ms), 1, DAY_MS, "ms",
     "Back-off: longest wait. At least `retry_min_ms`."},
    {"gossip_ms", AB_FIELD_U32, NODE(gossip_ms), 1, 60000, "ms",
     "Least time between two exchanges of frontiers with one peer. Idle groups exchange nothing."},
    {"checkpoint_ms", AB_FIELD_U32, NODE(checkpoint_ms), 1, DAY_MS, "ms",
     "Longest time from an apply to the checkpoint of the state machine that covers it."},
    {"checkpoint_bytes", AB_FIELD_SIZE64, NODE(checkpoint_bytes), 1, TIB, "bytes",
     "Applied bytes after which a checkpoint is taken early."},
    {"max_clock_skew_ms", AB_FIELD_U32, NODE(max_clock_skew_ms), 0, DAY_MS, "ms",
     "A remote clock further ahead than this is not merged into ours; it is counted as `skewed`."},
    {"dispatcher_threads", AB_FIELD_U32, NODE(dispatcher_threads), 1, 64, "",
     "Threads that own the connections to the peers."},
    {"apply_threads", AB_FIELD_U32, NODE(apply_threads), 1, 64, "",
     "Threads that call state machines; the groups are spread over them."},
    {"stop_timeout_ms", AB_FIELD_U32, NODE(stop_timeout_ms), 1, DAY_MS, "ms", "Bound of closing the node."},
    {"log_severity", AB_FIELD_SEVERITY, NODE(log_severity), 0, AB_LOG_ERROR, "",
     "Least severity of log lines."},
};

static const ab_config_field peer_fields[] = {
    {"node_id", AB_FIELD_U32, PEER(node_id), 1, UINT32_MAX, "", "Number of the other node."},
    {"host", AB_FIELD_TEXT, PEER(host), 0, HOST_MAX, "",
     "Name or address to dial. Without it the peer is never dialled: it dials us."},
    {"port", AB_FIELD_U16, PEER(port), 0, UINT16_MAX, "",
     "Port to dial; required with `host`, wrong without."},
    {"admin", AB_FIELD_TEXT, PEER(admin), 0, PATH_LENGTH_MAX, "",
     "For inspectors: the peer's data directory or admin socket, as seen from here (another directory, a "
     "network mount, a socket that ssh forwards). `anabranch COMMAND --config FILE` then asks that node, "
     "too."},
};

static const ab_config_field group_fields[] = {
    {"id", AB_FIELD_U64, GROUP(id), 1, UINT64_MAX, "",
     "Number of the group, the same on all members, unique in the file."},
    {"name", AB_FIELD_TEXT, GROUP(name), 1, AB_NAME_MAX, "",
     "Name of the group, the same on all members, unique in the file."},
    {"backend", AB_FIELD_TEXT, GROUP(backend), 1, AB_NAME_MAX, "",
     "`multimaster`, `standalone`, or one that the program registers."},
    {"write_level", AB_FIELD_WRITE_LEVEL, GROUP(write_level), 0, AB_WRITE_ALL, "", "`default`: the node's."},
    {"read_level", AB_FIELD_READ_LEVEL, GROUP(read_level), 0, AB_READ_STRONG, "", "`default`: the node's."},
    {"apply_order", AB_FIELD_APPLY_ORDER, GROUP(apply_order), 0, AB_APPLY_ARRIVAL, "",
     "`causal`: an entry never overtakes what its origin had applied before it. `arrival`: only the order "
     "inside each stream holds."},
};

const ab_config_table ab_node_table = {node_fields, sizeof node_fields / sizeof node_fields[0]};
const ab_config_table ab_peer_table = {peer_fields, sizeof peer_fields / sizeof peer_fields[0]};
const ab_config_table ab_group_table = {group_fields, sizeof group_fields / sizeof group_fields[0]};

_Static_assert(sizeof node_fields / sizeof node_fields[0] <= AB_NODE_FIELDS_MAX, "raise AB_NODE_FIELDS_MAX");
_Static_assert(sizeof peer_fields / sizeof peer_fields[0] <= AB_PEER_FIELDS_MAX, "raise AB_PEER_FIELDS_MAX");
_Static_assert(sizeof group_fields / sizeof group_fields[0] <= AB_GROUP_FIELDS_MAX,
               "raise AB_GROUP_FIELDS_MAX");

void ab_size_text(uint64_t bytes, char *text, size_t size)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, size, "%" PRIu64 "%s", bytes, units[unit]);
}

static void names_text(ab_field_kind kind, char *text, size_t size)
{
    size_t count;
    const char *const *names = ab_field_names(kind, &count);
    size_t used = 0;
    for (size_t i = 0; i < count && used < size; i++) {
        int n = snprintf(text + used, size - used, "%s%s", i == 0 ? "" : ", ", names[i]);
        used += n > 0 ? (size_t)n : 0;
    }
}

void ab_field_allowed(const ab_config_field *field, char *text, size_t size)
{
    char low[32];
    char high[32];
    switch (field->kind) {
    case AB_FIELD_U16:
    case AB_FIELD_U32:
    case AB_FIELD_U64:
        snprintf(text, size, "%" PRIu64 " to %" PRIu64, field->min, field->max);
        return;
    case AB_FIELD_SIZE32:
    case AB_FIELD_SIZE64:
        ab_size_text(field->min, low, sizeof low);
        ab_size_text(field->max, high, sizeof high);
        snprintf(text, size, "%s to %s", low, high);
        return;
    case AB_FIELD_BOOL:
        snprintf(text, size, "true, false");
        return;
    case AB_FIELD_TEXT:
        snprintf(text, size, "%" PRIu64 " to %" PRIu64 " bytes of text", field->min, field->max);
        return;
    default:
        names_text(field->kind, text, size);
    }
}

uint64_t ab_field_number(const ab_config_field *field, const void *base)
{
    const char *at = (const char *)base + field->offset;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    bool flag;
    switch (field->kind) {
    case AB_FIELD_U16:
        memcpy(&u16, at, sizeof u16);
        return u16;
    case AB_FIELD_U64:
    case AB_FIELD_SIZE64:
        memcpy(&u64, at, sizeof u64);
        return u64;
    case AB_FIELD_BOOL:
        memcpy(&flag, at, sizeof flag);
        return flag;
    case AB_FIELD_TEXT:
        return 0;
    default: /* u32 and enumerations, whose size is that of an int */
        memcpy(&u32, at, sizeof u32);
        return u32;
    }
}

const char *ab_field_text(const ab_config_field *field, const void *base, char *scratch, size_t size)
{
    size_t count = 0;
    const char *text = NULL;
    uint64_t number = ab_field_number(field, base);
    const char *const *names = ab_field_names(field->kind, &count);
    switch (field->kind) {
    case AB_FIELD_TEXT:
        memcpy(&text, (const char *)base + field->offset, sizeof text);
        return text != NULL ? text : "";
    case AB_FIELD_BOOL:
        return number != 0 ? "true" : "false";
    case AB_FIELD_SIZE32:
    case AB_FIELD_SIZE64:
        ab_size_text(number, scratch, size);
        return scratch;
    default:
        break;
    }
    if (names != NULL) {
        return number < count ? names[number] : "?";
    }
    snprintf(scratch, size, "%" PRIu64, number);
    return scratch;
}

_Static_assert(sizeof(ab_durability) == 4 && sizeof(ab_write_level) == 4 && sizeof(ab_read_level) == 4 &&
                   sizeof(ab_apply_order) == 4 && sizeof(ab_severity) == 4,
               "enumerations are read and written as 32 bits");
