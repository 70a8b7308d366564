/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults of the configuration structs and the check of their values. Pure functions; any thread. */
#include "engine/base/config_fields.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

void ab_node_config_init(ab_node_config *config)
{
    *config = (ab_node_config){
        .size = sizeof *config,
        .durability = AB_DURABILITY_SYNC,
        .durability_interval_ms = AB_DEFAULT_INTERVAL_MS,
        .write_level = AB_WRITE_LOCAL,
        .read_level = AB_READ_WEAK,
        .log_max_bytes = AB_DEFAULT_LOG_MAX_BYTES,
        .memory_budget = AB_DEFAULT_MEMORY_BUDGET,
        .queue_bytes = AB_DEFAULT_QUEUE_BYTES,
        .block_bytes = AB_DEFAULT_BLOCK_BYTES,
        .payload_max = AB_DEFAULT_PAYLOAD_MAX,
        .window_blocks = AB_DEFAULT_WINDOW_BLOCKS,
        .window_bytes = AB_DEFAULT_WINDOW_BYTES,
        .retry_min_ms = AB_DEFAULT_RETRY_MIN_MS,
        .retry_max_ms = AB_DEFAULT_RETRY_MAX_MS,
        .gossip_ms = AB_DEFAULT_GOSSIP_MS,
        .checkpoint_ms = AB_DEFAULT_CHECKPOINT_MS,
        .checkpoint_bytes = AB_DEFAULT_CHECKPOINT_BYTES,
        .max_clock_skew_ms = AB_DEFAULT_MAX_CLOCK_SKEW_MS,
        .dispatcher_threads = AB_DEFAULT_DISPATCHER_THREADS,
        .apply_threads = AB_DEFAULT_APPLY_THREADS,
        .stop_timeout_ms = AB_DEFAULT_STOP_TIMEOUT_MS,
        .log_severity = AB_LOG_INFO,
    };
}

void ab_group_config_init(ab_group_config *config)
{
    *config = (ab_group_config){
        .size = sizeof *config,
        .backend = "multimaster",
        .write_level = AB_WRITE_DEFAULT,
        .read_level = AB_READ_DEFAULT,
        .apply_order = AB_APPLY_CAUSAL,
    };
}

int ab_config_fail(ab_config_fault *fault, const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    snprintf(fault->path, sizeof fault->path, "%s", path);
    vsnprintf(fault->text, sizeof fault->text, format, args);
    va_end(args);
    return AB_ECONFIG;
}

bool ab_host_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcasecmp(host, "localhost") == 0) {
        return true;
    }
    if (inet_pton(AF_INET, host, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, host, &v6) == 1) {
        return memcmp(&v6, &in6addr_loopback, sizeof v6) == 0;
    }
    return false;
}

static int check_text(const ab_config_field *field, const char *path, const char *text,
                      ab_config_fault *fault)
{
    char allowed[96];
    size_t length = text != NULL ? strlen(text) : 0;
    ab_field_allowed(field, allowed, sizeof allowed);
    if (length < field->min) {
        return ab_config_fail(fault, path, "is missing or empty (%s)", allowed);
    }
    if (length > field->max) {
        return ab_config_fail(fault, path, "is %zu bytes long (%s)", length, allowed);
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f) {
            return ab_config_fail(fault, path, "has the control character \\x%02x (plain text only)", c);
        }
    }
    return AB_OK;
}

static int check_number(const ab_config_field *field, const char *path, uint64_t value,
                        ab_config_fault *fault)
{
    char allowed[96];
    char shown[32];
    if (value >= field->min && value <= field->max) {
        return AB_OK;
    }
    ab_field_allowed(field, allowed, sizeof allowed);
    if (value == 0 && field->min > 0) {
        return ab_config_fail(fault, path, "is missing or 0 (%s)", allowed);
    }
    if (field->kind == AB_FIELD_SIZE32 || field->kind == AB_FIELD_SIZE64) {
        ab_size_text(value, shown, sizeof shown);
    } else {
        snprintf(shown, sizeof shown, "%" PRIu64, value);
    }
    return ab_config_fail(fault, path, "%s is out of range (%s)", shown, allowed);
}

/* Each field of `table` for itself; `prefix` ends in "." or is empty. */
static int check_table(const ab_config_table *table, const void *base, const char *prefix,
                       ab_config_fault *fault)
{
    for (size_t i = 0; i < table->count; i++) {
        const ab_config_field *field = &table->fields[i];
        char path[64];
        snprintf(path, sizeof path, "%s%s", prefix, field->key);
        int code;
        if (field->kind == AB_FIELD_TEXT) {
            const char *text;
            memcpy(&text, (const char *)base + field->offset, sizeof text);
            code = check_text(field, path, text, fault);
        } else {
            code = check_number(field, path, ab_field_number(field, base), fault);
        }
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

static int check_peer(const ab_node_config *config, size_t position, ab_config_fault *fault)
{
    const ab_peer_config *peer = &config->peers[position];
    char prefix[32];
    char path[64];
    snprintf(prefix, sizeof prefix, "peers[%zu].", position);
    int code = check_table(&ab_peer_table, peer, prefix, fault);
    if (code != AB_OK) {
        return code;
    }
    snprintf(path, sizeof path, "%snode_id", prefix);
    if (peer->node_id == config->node_id) {
        return ab_config_fail(fault, path, "%" PRIu32 " is this node itself (list only the others)",
                              peer->node_id);
    }
    for (size_t i = 0; i < position; i++) {
        if (config->peers[i].node_id == peer->node_id) {
            return ab_config_fail(fault, path,
                                  "%" PRIu32 " is listed already, as peers[%zu] (each node once)",
                                  peer->node_id, i);
        }
    }
    snprintf(path, sizeof path, "%sport", prefix);
    bool dialled = peer->host != NULL && peer->host[0] != '\0';
    if (dialled && peer->port == 0) {
        return ab_config_fail(fault, path, "is missing or 0, but there is a host to dial (1 to 65535)");
    }
    if (!dialled && peer->port != 0) {
        return ab_config_fail(
            fault, path, "%u is given without a host (add host, or leave both out: it dials us)", peer->port);
    }
    return AB_OK;
}

static int check_listen(const ab_node_config *config, ab_config_fault *fault)
{
    bool listens = config->listen_host != NULL && config->listen_host[0] != '\0';
    if (!listens && config->listen_port != 0) {
        return ab_config_fail(
            fault, "listen_port",
            "%u is given without listen_host (add the address to listen on, e.g. 127.0.0.1)",
            config->listen_port);
    }
    if (listens && !config->insecure && !ab_host_is_loopback(config->listen_host)) {
        return ab_config_fail(
            fault, "listen_host",
            "%s is not a loopback address and there is no TLS (use 127.0.0.1, ::1 or localhost, "
            "or set insecure: true on a network you trust)",
            config->listen_host);
    }
    return AB_OK;
}

/* Fields that must agree with each other. */
static int check_relations(const ab_node_config *config, ab_config_fault *fault)
{
    char a[32];
    char b[32];
    if (config->retry_max_ms < config->retry_min_ms) {
        return ab_config_fail(fault, "retry_max_ms", "%" PRIu32 " is below retry_min_ms %" PRIu32,
                              config->retry_max_ms, config->retry_min_ms);
    }
    ab_size_text(config->queue_bytes, a, sizeof a);
    if (config->queue_bytes < config->payload_max) {
        ab_size_text(config->payload_max, b, sizeof b);
        return ab_config_fail(fault, "queue_bytes",
                              "%s is below payload_max %s: such an entry could never be queued", a, b);
    }
    if (config->queue_bytes > config->memory_budget) {
        ab_size_text(config->memory_budget, b, sizeof b);
        return ab_config_fail(fault, "queue_bytes", "%s is above memory_budget %s, which all queues share", a,
                              b);
    }
    return AB_OK;
}

int ab_node_config_fault(const ab_node_config *config, ab_config_fault *fault)
{
    if (config == NULL || config->size != sizeof *config) {
        return ab_config_fail(fault, "size", "does not fit this library (start from ab_node_config_init())");
    }
    int code = check_table(&ab_node_table, config, "", fault);
    code = code != AB_OK ? code : check_listen(config, fault);
    code = code != AB_OK ? code : check_relations(config, fault);
    if (code != AB_OK) {
        return code;
    }
    if (config->peer_count > AB_CONFIG_PEERS_MAX || (config->peer_count > 0 && config->peers == NULL)) {
        return ab_config_fail(fault, "peers", "has %zu entries (0 to %u, and an array of as many)",
                              config->peer_count, AB_CONFIG_PEERS_MAX);
    }
    for (size_t i = 0; i < config->peer_count && code == AB_OK; i++) {
        code = check_peer(config, i, fault);
    }
    return code;
}

static int check_members(const ab_group_config *config, ab_config_fault *fault)
{
    if (config->member_count > AB_MEMBERS_MAX || (config->member_count > 0 && config->members == NULL)) {
        return ab_config_fail(fault, "members", "has %zu entries (at most %u, and an array of as many)",
                              config->member_count, AB_MEMBERS_MAX);
    }
    if (config->member_count == 0 && strcmp(config->backend, "multimaster") == 0) {
        return ab_config_fail(fault, "members",
                              "is missing or empty (the node ids of the group, with this node's)");
    }
    for (size_t i = 0; i < config->member_count; i++) {
        char path[64];
        snprintf(path, sizeof path, "members[%zu]", i);
        if (config->members[i] == 0) {
            return ab_config_fail(fault, path, "is 0 (1 to %" PRIu32 ")", UINT32_MAX);
        }
        for (size_t j = 0; j < i; j++) {
            if (config->members[j] == config->members[i]) {
                return ab_config_fail(fault, path,
                                      "%" PRIu32 " is listed already, as members[%zu] (each node once)",
                                      config->members[i], j);
            }
        }
    }
    return AB_OK;
}

int ab_group_config_fault(const ab_group_config *config, ab_config_fault *fault)
{
    if (config == NULL || config->size != sizeof *config) {
        return ab_config_fail(fault, "size", "does not fit this library (start from ab_group_config_init())");
    }
    int code = check_table(&ab_group_table, config, "", fault);
    return code != AB_OK ? code : check_members(config, fault);
}

static int report(int code, const ab_config_fault *fault, ab_message *message)
{
    if (message != NULL) {
        message->text[0] = '\0';
        if (code != AB_OK) {
            snprintf(message->text, sizeof message->text, "%s: %s", fault->path, fault->text);
        }
    }
    return code;
}

int ab_node_config_check(const ab_node_config *config, ab_message *message)
{
    ab_config_fault fault;
    return report(ab_node_config_fault(config, &fault), &fault, message);
}

int ab_group_config_check(const ab_group_config *config, ab_message *message)
{
    ab_config_fault fault;
    return report(ab_group_config_fault(config, &fault), &fault, message);
}
