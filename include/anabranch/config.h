/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file config.h
 * Configuration of a node and its groups: structs to fill in code, or a YAML file.
 *
 * The structs are versioned by their first member: always start from ab_node_config_init() /
 * ab_group_config_init(). Strings and arrays are borrowed; ab_node_open() and ab_group_open() copy what they
 * keep. The YAML keys have the names of the members (docs/CONFIGURATION.md); unknown keys and bad values are
 * errors with line and path.
 */
#ifndef ANABRANCH_CONFIG_H
#define ANABRANCH_CONFIG_H

#include <anabranch/error.h>
#include <anabranch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Receives log lines of a node, one call at a time and without any lock: on the completion thread, which it must not hold
 * up for long; while ab_node_open() and ab_node_close() start and end that thread, on theirs. May call whatever does
 * not block (as completions may, see group.h), but must not open or close groups or the node. Lines that come
 * faster than it takes them are dropped beyond 1,000, and counted in a line. `text` has no newline and is borrowed for the
 * call. */
typedef void (*ab_log_fn)(void *ctx, ab_severity severity, const char *text);

/** Another node of the cluster. */
typedef struct ab_peer_config {
    uint32_t node_id;
    const char *host; /**< name or address to dial; NULL or "": never dialled, it dials us */
    uint16_t port;
    const char
        *admin; /**< for inspectors: its data directory or admin socket, as seen from here; NULL or "": none.
                            The library does not use it */
} ab_peer_config;

/* Defaults. Where a number comes from stands beside it; a test holds this list against ab_node_config_init().
 */
#define AB_DEFAULT_LOG_MAX_BYTES (64ull << 30) /* a disk's worth that an operator notices in time */
#define AB_DEFAULT_MEMORY_BUDGET                                                                             \
    (256ull << 20)                          /* about a second of the fastest measured traffic, three times */
#define AB_DEFAULT_QUEUE_BYTES (8ull << 20) /* about 20 commits of the measured best size, per group */
#define AB_DEFAULT_BLOCK_BYTES                                                                               \
    (384u << 10) /* 100 to 450 KB per commit measured best; beyond, only p99 grows */
#define AB_DEFAULT_PAYLOAD_MAX (1u << 20)
#define AB_DEFAULT_WINDOW_BLOCKS 64u
/* 5 GB/s loopback x 1.5 ms round trip with two commits in it */
#define AB_DEFAULT_WINDOW_BYTES (8ull << 20)
#define AB_DEFAULT_RETRY_MIN_MS 500u /* twenty worst-case commits (20 ms each, measured) and a margin */
#define AB_DEFAULT_RETRY_MAX_MS 10000u
#define AB_DEFAULT_GOSSIP_MS 200u
#define AB_DEFAULT_CHECKPOINT_MS 1000u
#define AB_DEFAULT_CHECKPOINT_BYTES (64ull << 20)
#define AB_DEFAULT_INTERVAL_MS 100u
#define AB_DEFAULT_MAX_CLOCK_SKEW_MS 60000u
#define AB_DEFAULT_DISPATCHER_THREADS 1u
#define AB_DEFAULT_APPLY_THREADS 2u
#define AB_DEFAULT_STOP_TIMEOUT_MS 10000u

/** Configuration of a node. */
typedef struct ab_node_config {
    size_t size; /**< set by ab_node_config_init() */

    const char
        *cluster;     /**< name of the cluster, 1 to AB_NAME_MAX bytes; nodes of other clusters are refused */
    uint32_t node_id; /**< unique in the cluster, not 0 */
    const char *data_dir;    /**< made if missing; one process at a time */
    const char *listen_host; /**< address to listen on; NULL or "": does not listen, only dials */
    uint16_t listen_port;    /**< 0: the system chooses, see ab_node_port() */
    bool insecure;           /**< allow listening on more than loopback without TLS */
    const ab_peer_config *peers;
    size_t peer_count;

    ab_durability durability;
    uint32_t durability_interval_ms; /**< for AB_DURABILITY_INTERVAL, 1 to 60000 */
    ab_write_level write_level;      /**< default of the node's groups */
    ab_read_level read_level;

    uint64_t log_max_bytes; /**< ceiling of what the log may use on disk; at least 16 MiB */
    uint64_t memory_budget; /**< all caches and queues together; at least 8 MiB */
    uint64_t
        queue_bytes; /**< written but not yet logged, per group; beyond it writers wait or get AB_EBUSY */
    uint32_t block_bytes;        /**< a block is closed when it has grown to this; 4 KiB to 8 MiB */
    uint32_t payload_max;        /**< largest entry, bytes; at most AB_PAYLOAD_MAX */
    uint32_t window_blocks;      /**< blocks in flight per peer and stream */
    uint64_t window_bytes;       /**< bytes in flight per peer and stream */
    uint32_t retry_min_ms;       /**< back-off of dialling and resending: first wait */
    uint32_t retry_max_ms;       /**< back-off: longest wait */
    uint32_t gossip_ms;          /**< least time between two frontier exchanges with one peer */
    uint32_t checkpoint_ms;      /**< longest time from an apply to the checkpoint that covers it */
    uint64_t checkpoint_bytes;   /**< applied bytes after which a checkpoint is taken early */
    uint32_t max_clock_skew_ms;  /**< remote clocks further ahead are not merged into ours */
    uint32_t dispatcher_threads; /**< 1 to 64 */
    uint32_t apply_threads;      /**< 1 to 64 */
    uint32_t stop_timeout_ms;    /**< bound of ab_node_close() */

    ab_log_fn log; /**< NULL: no log lines */
    void *log_ctx;
    ab_severity log_severity; /**< least severity given to `log` */
} ab_node_config;

/** Configuration of a group. */
typedef struct ab_group_config {
    size_t size;             /**< set by ab_group_config_init() */
    uint64_t id;             /**< not 0 */
    const char *name;        /**< 1 to AB_NAME_MAX bytes; the same on all members */
    const char *backend;     /**< "multimaster" (default), "standalone", or one registered by the user */
    const uint32_t *members; /**< node ids, with this node's; may be empty for standalone */
    size_t member_count;
    ab_write_level write_level; /**< AB_WRITE_DEFAULT: the node's */
    ab_read_level read_level;   /**< AB_READ_DEFAULT: the node's */
    ab_apply_order apply_order;
} ab_group_config;

/** Fills in all defaults. */
AB_API void ab_node_config_init(ab_node_config *config);
AB_API void ab_group_config_init(ab_group_config *config);

/** Checks ranges and combinations, as ab_node_open() does. @return AB_OK or AB_ECONFIG with the reason in
 * `message` (may be NULL) */
AB_API int ab_node_config_check(const ab_node_config *config, ab_message *message);
AB_API int ab_group_config_check(const ab_group_config *config, ab_message *message);

/** Checks a group against the configuration of the node that is to open it, without opening anything: its members are this
 * node and peers of it, its backend is one that comes with the library, and its write level (where it says
 * AB_WRITE_DEFAULT, the node's) is one that this version offers to it. ab_group_open() takes registered backends, too, and
 * leaves the level to each write. @return AB_OK or AB_ECONFIG with the reason in `message` (may be NULL) */
AB_API int ab_group_config_fits(const ab_group_config *config, const ab_node_config *node,
                                ab_message *message);

/** A loaded configuration file; owns everything its structs point to. */
typedef struct ab_config ab_config;

/**
 * Reads a YAML file. A top-level mapping `application:` is left to the program that links the library.
 * @param message  on error "PATH:LINE: KEY.PATH: what is wrong" (may be NULL)
 * @return AB_OK (free with ab_config_free), AB_ECONFIG, AB_ENOTFOUND, AB_EIO, AB_ENOMEM
 */
AB_API int ab_config_load(const char *path, ab_config **config, ab_message *message);

/** The same from memory; `name` stands for the path in messages. */
AB_API int ab_config_parse(const char *name, const char *text, size_t size, ab_config **config,
                           ab_message *message);

AB_API void ab_config_free(ab_config *config); /**< NULL is allowed */

/** Views into the configuration, valid until ab_config_free(). The node's `log` is NULL: set it in a copy. */
AB_API const ab_node_config *ab_config_node(const ab_config *config);
AB_API size_t ab_config_group_count(const ab_config *config);
AB_API const ab_group_config *ab_config_group(const ab_config *config,
                                              size_t position); /**< NULL past the end */

/** A value of a configuration that was loaded, and where it comes from. */
typedef struct ab_config_value {
    const char *path; /**< "node.peers[0].host"; borrowed, as the rest */
    const char
        *text;   /**< what is in effect, as a file would say it; lists with commas; "" if there is none */
    size_t line; /**< of the file; 0: not in it, the default */
    const char *follows; /**< the key whose value it takes ("node.write_level"); NULL: its own */
} ab_config_value;

/** Calls `fn` with every key that a file may have, in the order of the reference, until it returns false.
 *  @return AB_OK, AB_EINVAL, AB_ENOMEM */
typedef bool (*ab_config_value_fn)(void *arg, const ab_config_value *value);
AB_API int ab_config_each(const ab_config *config, ab_config_value_fn fn, void *arg);

/** A key that a file may have, as a reference tells it. */
typedef struct ab_config_key {
    const char *path; /**< "node.peers[].host"; borrowed for the call, as the rest */
    const char *type; /**< "integer", "size", "boolean", "text", "name" (one of those allowed) or "list" */
    const char *unit; /**< "ms", "bytes"; "" if it has none */
    const char *fallback; /**< the default as a file would say it; NULL: none */
    bool required;
    const char *allowed; /**< "1 to 60000", "4KiB to 8MiB", "sync, interval, none" */
    const char *meaning; /**< Markdown, on one line */
} ab_config_key;

/** Calls `fn` with every key that a file may have beside `application`, until it returns false. Keys come in the order of
 *  ab_config_each(), a list before the keys of its items. Needs no memory. @return AB_OK, AB_EINVAL */
typedef bool (*ab_config_key_fn)(void *arg, const ab_config_key *key);
AB_API int ab_config_keys(ab_config_key_fn fn, void *arg);

/** Level by name and name by level. Unknown names are AB_EINVAL, unknown levels give "?". */
AB_API int ab_write_level_parse(const char *name, ab_write_level *level);
AB_API int ab_read_level_parse(const char *name, ab_read_level *level);
AB_API int ab_durability_parse(const char *name, ab_durability *durability);
AB_API const char *ab_write_level_name(ab_write_level level);
AB_API const char *ab_read_level_name(ab_read_level level);
AB_API const char *ab_durability_name(ab_durability durability);

#ifdef __cplusplus
}
#endif
#endif
