/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file backend.h
 * How a group replicates: a versioned table of functions around a sans-I/O protocol core. Standalone,
 * multimaster and raft implement it, and users can register their own with ab_node_register_backend().
 *
 * Read this first:
 *  - A core is a plain struct per group and member. It calls no clock, no random source, no thread, no socket
 * and no disk: events go in with the time, actions come out, the driver performs them. The engine is one
 * driver, the deterministic simulator another.
 *  - The driver calls a core from any thread but one call at a time, and carries the actions of one step out
 * in order. No function of the table may block.
 *  - Time is monotonic nanoseconds from an arbitrary start. `deadline` says when the core next wants
 * AB_EV_TIMER; there is no tick.
 *  - A step that returns AB_ENOMEM has stored fewer actions than were due: state moves only after the action
 * that announces it was stored, so what is missing comes with later steps, for which the deadline asks. What
 * the event said may or may not be known then: giving it again does no harm. Any other error has no effect
 * beyond the actions already in the list. The driver logs the error and may offer later events.
 *  - A core answers AB_EINVAL to an event that it does not know: later versions of the driver may have more of them.
 *  - What a driver owes: blocks of one stream are logged in the order of the AB_ACT_LOG actions; AB_EV_LOGGED
 * and AB_EV_DURABLE come in stream order; a block is announced by AB_EV_LOGGED only once its log position is
 * fixed; messages may be lost, delayed, doubled and reordered between AB_EV_PEER_UP and AB_EV_PEER_DOWN.
 */
#ifndef ANABRANCH_BACKEND_H
#define ANABRANCH_BACKEND_H

#include <anabranch/error.h>
#include <anabranch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Version of struct ab_backend that this header describes. */
#define AB_BACKEND_VERSION 1u

/** "No deadline": the core wants no timer event. */
#define AB_NEVER UINT64_MAX

/**
 * What a block repeats. A member whose disk went back unnoticed wrote a second history under a stream's name; what it wrote
 * since is logged once more, in a new stream of its own: index i there is index fork + i of the old one.
 */
typedef struct ab_block_origin {
    uint32_t epoch;     /**< of the repeated stream (same node); 0: the block repeats nothing */
    uint32_t rewound;   /**< which history of that stream it was: 0 the first, else the epoch of the stream
                           that repeats what the history before it lost */
    uint64_t fork;      /**< the repeated stream keeps its entries up to here */
    uint64_t end;       /**< the repeated entries are fork + 1 ... end */
    uint64_t fork_hash; /**< hash of the repeated stream's block that ends at fork; 0 if fork is 0 */
    uint64_t hash;      /**< hash of the very block that this one repeats */
} ab_block_origin;

/** What a core knows of a sealed block: never its entries. */
typedef struct ab_block_info {
    ab_stream stream;
    uint64_t first;      /**< index of its first entry */
    uint64_t last;       /**< index of its last entry, >= first */
    uint64_t term;       /**< raft only, else 0 */
    uint64_t hlc_last;   /**< hlc of its last entry */
    uint64_t hash;       /**< XXH3-64 of the block; equal blocks have equal hashes */
    uint64_t prev_hash;  /**< hash of the stream's block before it; 0 for the first */
    uint32_t bytes;      /**< encoded size */
    const ab_mark *deps; /**< what its origin had applied when it was sealed and that changed since the block
                            before it in this stream; sorted; borrowed for the call */
    size_t dep_count;
    ab_block_origin origin;
} ab_block_info;

/** A stream as found in the log when the group is opened. */
typedef struct ab_stream_state {
    ab_stream stream;
    uint64_t base;      /**< trimmed up to here: the log holds base+1 ... last; 0 if nothing was trimmed */
    uint64_t base_hash; /**< hash of the block that ends at base; 0 if base is 0 */
    uint64_t last;      /**< last index in the log (or base, where all is trimmed) */
    uint64_t last_hash; /**< hash of the block that ends at last */
    uint64_t hlc_last;  /**< hlc of the entry at last; 0 if unknown */
} ab_stream_state;

/** A small value a core asked to keep (AB_ACT_PERSIST). */
typedef struct ab_state_value {
    ab_bytes key;   /**< at most AB_STATE_KEY_MAX bytes, chosen by the core, private to the group */
    ab_bytes value; /**< at most AB_STATE_VALUE_MAX bytes */
} ab_state_value;

#define AB_STATE_KEY_MAX 64u
#define AB_STATE_VALUE_MAX (64u * 1024)

/** State of a member in the group's membership. */
typedef enum ab_member_state {
    AB_MEMBER_ACTIVE = 0, /**< counts for levels and trimming */
    AB_MEMBER_JOINING = 1 /**< gets everything, does not count yet */
} ab_member_state;

typedef struct ab_member {
    uint32_t node;
    ab_member_state state;
} ab_member;

/** Everything a core starts from. All pointers are borrowed for the call of `create`. */
typedef struct ab_core_init {
    uint64_t group;
    uint32_t self; /**< this node's id */
    const ab_member *members;
    size_t member_count; /**< with self; sorted by node */
    const ab_stream_state *streams;
    size_t stream_count; /**< sorted by stream */
    ab_frontier applied; /**< what the state machine has durable */
    const ab_state_value *state;
    size_t state_count; /**< what earlier runs persisted */
    bool tail_safe;     /**< the last run cannot have lost its tail and the file is the one it wrote; once in
                              doubt, false at every start until an epoch persisted since then is on disk */
    uint32_t wall_seconds; /**< unix seconds now; only for choosing a new epoch */
    uint64_t seed;         /**< for jitter */
    ab_apply_order apply_order;
    uint32_t window_blocks; /**< blocks in flight per peer and stream */
    uint64_t window_bytes;  /**< bytes in flight per peer and stream */
    uint32_t retry_min_ms;  /**< least wait for a confirmation before sending again */
    uint32_t retry_max_ms;  /**< the most; the wait follows what is measured, and doubles */
    uint32_t gossip_ms;     /**< least time between two frontier messages to one peer while things change */
} ab_core_init;

typedef enum ab_event_type {
    AB_EV_START = 1,     /**< once, right after `create` */
    AB_EV_TIMER = 2,     /**< now >= deadline */
    AB_EV_PEER_UP = 3,   /**< a link to `peer` stands and the peer has the group open */
    AB_EV_PEER_DOWN = 4, /**< it fell; what was in flight may or may not have arrived */
    AB_EV_MESSAGE = 5,   /**< `bytes` from the core of `peer` */
    AB_EV_BLOCK = 6,  /**< a block with a good checksum from `peer`; `token` names its bytes for AB_ACT_LOG */
    AB_EV_LOGGED = 7, /**< `block` (own or received) has its place in the log and can be read back */
    AB_EV_DURABLE = 8,       /**< everything of `mark.stream` up to `mark.index` survives a crash */
    AB_EV_APPLIED = 9,       /**< the state machine has applied up to `mark` */
    AB_EV_CHECKPOINTED = 10, /**< the state machine has `frontier` durable */
    AB_EV_LOADED = 11,       /**< answer to AB_ACT_LOAD: `blocks`, in order from `mark`; none left if empty */
    AB_EV_SENT = 12,     /**< answer to AB_ACT_SEND: `mark.stream` was handed to the link up to `mark.index`
                              (`bytes_sent`, `blocks_sent`; nothing if blocks_sent is 0), `code` says why it stopped:
                              AB_OK (budget or end of log), AB_ETRIMMED, AB_ECORRUPT (the block after mark.index is
                              damaged), AB_EDIVERGED (no block starts there), AB_EBUSY (link full), AB_ECLOSED */
    AB_EV_BAD = 13,      /**< the log holds a damaged block of `block.stream`, first ... last */
    AB_EV_REPAIRED = 14, /**< AB_ACT_REPAIR for `block` is in the log */
    AB_EV_READ = 15,     /**< a read barrier: `ticket`, `read_level`, `frontier` (token), `timeout_ns` */
    AB_EV_REFUSED =
        16, /**< the log will never take `block` (own, received or for a repair) as it was offered: `code`
                              says why (AB_ECORRUPT: what it builds on is damaged). Said once everything before it in its
                              stream was announced; blocks of the stream that were offered after it are refused, too.
                              Under `interval` it may have been announced by AB_EV_LOGGED: that is taken back */
    AB_EV_UNAPPLIED =
        17, /**< the state machine let go of every block that it was given and that AB_EV_APPLIED did
                              not name (one of them cannot be read: AB_EV_BAD said which): they are to be given again.
                              `mark` (stream 0/0: none) says how far it has the stream of the oldest of them, which may be
                              in the middle of that block: it is given from there */
    AB_EV_REWOUND = 18 /**< AB_ACT_REWIND of `mark` is on disk */
} ab_event_type;

/** One event. Only the fields that its type names are set; the others are zero. Borrowed for the step. */
typedef struct ab_event {
    ab_event_type type;
    uint32_t peer;
    ab_mark mark;
    ab_frontier frontier;
    ab_bytes bytes;
    const ab_block_info *block;  /**< BLOCK, LOGGED, BAD (stream, first, last), REPAIRED, REFUSED */
    const ab_block_info *blocks; /**< LOADED */
    size_t block_count;
    uint64_t token;
    uint64_t ticket;
    ab_read_level read_level;
    uint64_t timeout_ns; /**< READ: relative to now; AB_NEVER waits for ever */
    uint64_t bytes_sent;
    uint32_t blocks_sent;
    int code;
} ab_event;

typedef enum ab_action_type {
    AB_ACT_LOG = 1, /**< log the received block `token`. A token that no LOG or REPAIR names in its own step
                       is released by the driver. `write_level` AB_WRITE_LOCAL: nobody who wrote at that
                       level waits for it, so the driver may gather a few; default: at once */
    AB_ACT_REPAIR = 2,  /**< put the received block `token` over the damaged one with the same key */
    AB_ACT_SEND = 3,    /**< send `peer` blocks of `mark.stream` beginning with the one that starts at
                           `mark.index`: at most `blocks`, at most `bytes` (but at least one block). One is
                           under way at most per peer and stream, until its AB_EV_SENT */
    AB_ACT_MESSAGE = 4, /**< send `peer` the message `data` */
    AB_ACT_APPLY = 5, /**< give the block `mark.stream`, `first` ... `mark.index` to the state machine, after
                         all blocks of earlier APPLY actions. `first` is inside a block whose beginning the state
                         machine has already */
    AB_ACT_LOAD =
        6, /**< read back the infos of up to `blocks` blocks beginning at `mark`; answered by LOADED */
    AB_ACT_ACKED = 7,   /**< the write level `write_level` holds for this member's writes up to `mark` */
    AB_ACT_TRIM = 8,    /**< blocks that end at or below `mark` may go */
    AB_ACT_PERSIST = 9, /**< keep `key` = `data` (empty: forget), with or before the next commit of blocks */
    AB_ACT_APPEND =
        10, /**< from now on local writes go to `mark.stream` after `mark.index` with `hash` as the hash
                 of the block before and `term`; `code` AB_OK, or why writes are refused now */
    AB_ACT_READ_DONE = 11, /**< the read `ticket` may run (`code` AB_OK) or not */
    AB_ACT_REPORT =
        12, /**< tell the operator: `severity`, `code`, `mark`, `peer` (0: none), `data` is the text */
    AB_ACT_FORGET =
        16, /**< the stream `mark.stream` is over: once everything that earlier AB_ACT_PERSIST gave is kept,
                          or in the same commit, the log forgets it with all that is left of it; after
                          that commit the frontier that goes to the state machine loses the marks of the same origin's
                          epochs below `first` */
    AB_ACT_COPY =
        13, /**< log one block more of `mark.stream` after `mark.index`, with `hash` as the hash of the
                         block before: the block of the older stream (same node, epoch `origin.epoch`) that
                         starts at origin.fork + mark.index + 1, repeated with `origin`. Answered by LOGGED; where
                         it cannot be read, by nothing but EV_BAD. At most one per stream is under way */
    AB_ACT_REWIND =
        14, /**< drop what the log has of `mark.stream` beyond `mark.index`, where `hash` is the hash of
                           the block that ends, and keep `key` = `data` in the same commit. Answered by REWOUND
                           when that is on disk. What was read of the dropped blocks before counts no more */
    AB_ACT_FRONTIER =
        15 /**< after all blocks of earlier APPLY actions, and before anything of later ones: the
                            frontier given to the state machine has `mark.stream` at `mark.index`, which may go
                            back. FRONTIER actions of one step are one change */
} ab_action_type;

typedef struct ab_action {
    ab_action_type type;
    uint32_t peer;
    ab_mark mark;
    uint64_t first;
    uint64_t hash;
    uint64_t term;
    uint64_t token;
    uint64_t ticket;
    uint64_t bytes;
    uint32_t blocks;
    ab_write_level write_level;
    ab_severity severity;
    int code;
    ab_block_origin origin; /**< COPY */
    ab_bytes key;           /**< owned by the list until it is cleared */
    ab_bytes data;          /**< owned by the list until it is cleared */
} ab_action;

/** The list that a step fills; the driver owns it and clears it. */
typedef struct ab_actions ab_actions;

/** Stores an action; `key` and `data` are copied. @return AB_OK or AB_ENOMEM (nothing stored) */
AB_API int ab_actions_push(ab_actions *actions, const ab_action *action);

/** How a core sees one stream of its group, for status and metrics. */
typedef struct ab_stream_status {
    ab_stream stream;
    uint64_t base;    /**< trimmed up to */
    uint64_t logged;  /**< in the log up to */
    uint64_t durable; /**< durable here up to */
    uint64_t applied; /**< applied here up to */
    uint64_t safe;    /**< may be trimmed up to */
    int code;         /**< AB_OK, AB_EDIVERGED, AB_ECORRUPT (a damaged range waits for repair), AB_ETRIMMED,
                    * or why the log refuses more of it */
} ab_stream_status;

/** How a core sees one peer and stream. */
typedef struct ab_peer_status {
    uint32_t peer;
    ab_stream stream;
    bool up;
    uint64_t sync_index; /**< confirmed durable by the peer */
    uint64_t next;       /**< next index to send */
    uint64_t in_flight_bytes;
    uint32_t in_flight_blocks;
    uint32_t retries; /**< resends since the last confirmation */
    int code;         /**< AB_OK, AB_EDIVERGED, AB_ETRIMMED (needs a snapshot), AB_ECORRUPT */
} ab_peer_status;

/** Receives one row; return false to stop. */
typedef bool (*ab_stream_status_fn)(void *arg, const ab_stream_status *status);
typedef bool (*ab_peer_status_fn)(void *arg, const ab_peer_status *status);

/** A backend. All functions are required; none may block. */
typedef struct ab_backend {
    uint32_t version; /**< AB_BACKEND_VERSION */
    const char *name; /**< as in the configuration; at most AB_NAME_MAX bytes; static storage */

    /** Makes a core. @return AB_OK, AB_ENOMEM, AB_EINVAL, AB_ECORRUPT (persisted state cannot be read) */
    int (*create)(const ab_core_init *init, void **core);

    /** Frees it. Reads still waiting are forgotten: the driver completes them. */
    void (*destroy)(void *core);

    /** Takes one event, appends actions. @return AB_OK; AB_ENOMEM; AB_EPROTO (message or block of a peer
     * makes no sense: the driver logs it and drops the link); AB_EINVAL (the driver broke its part) */
    int (*step)(void *core, const ab_event *event, uint64_t now, ab_actions *actions);

    /** When the core next wants AB_EV_TIMER, monotonic ns; AB_NEVER if not at all. */
    uint64_t (*deadline)(const void *core);

    /** Called when the driver seals a block of local writes that will become `first` ... `last` of the stream
     * last announced by AB_ACT_APPEND: gives the marks the block must carry. They stay valid until the next
     * call into the core, and count as carried: every sealed block must be logged.
     *  @return AB_OK, AB_ENOMEM, or the code with which the block must be refused (AB_EBUSY: another stream is
     *  about to be announced) */
    int (*seal)(void *core, uint64_t first, uint64_t last, ab_frontier *deps);

    void (*streams)(const void *core, ab_stream_status_fn fn, void *arg);
    void (*peers)(const void *core, ab_peer_status_fn fn, void *arg);
} ab_backend;

#ifdef __cplusplus
}
#endif
#endif
