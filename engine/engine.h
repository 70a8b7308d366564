/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file engine.h
 * The node and the group as the engine's files see them, and who holds which lock.
 *
 * Locks, in the order in which they may be taken (a later one never before an earlier one):
 *   registry  (node, rwlock)  which groups exist
 *   core      (group)         the protocol core, the append position, what was sealed
 *   append    (group)         open block, queued blocks, tickets, hlc
 *   queues    (WAL, apply, reader, completion: one mutex each) and the cache's mutex: leaves
 * User code (state machines, completions, log callback, listings) is called without any of them. Log lines are queued for the
 * completion thread for that reason: ab_node_log() may be called with any lock held.
 */
#ifndef ANABRANCH_ENGINE_ENGINE_H
#define ANABRANCH_ENGINE_ENGINE_H

#include "engine/buf.h"
#include "engine/cache.h"
#include "engine/group_table.h"
#include "engine/latency.h"
#include "engine/linger.h"
#include "engine/thread.h"
#include "engine/ticket.h"
#include "engine/transport/transport.h"
#include "replication/actions.h"
#include "replication/frontier.h"
#include "wal/wal.h"
#include <anabranch/anabranch.h>

#include <pthread.h>
#include <stdatomic.h>

struct ab_admin;
struct ab_batch;
struct ab_apply_thread;
struct ab_read_job;

/* Names of the engine's values in the log's small state; group 0 is the node. */
#define AB_KEY_HLC "engine/hlc"
#define AB_KEY_GROUP "engine/group"
#define AB_KEY_CLUSTER "engine/cluster"
#define AB_KEY_NODE "engine/node"
#define AB_KEY_PEER "engine/peer/"
#define AB_KEY_QUARANTINE "engine/quarantine/"
#define AB_KEY_GENERATION "engine/generation"
#define AB_KEY_CORE "core/"

/** A block of local writes that fills, waits to be logged, or waits for its level. */
typedef struct ab_open_block {
    ab_done done; /* first: completing the block's tickets hands over the whole block (done.list) */
    struct ab_open_block *next;
    ab_buf *buf; /* AB_BLOCK_HEADER free bytes, then entries; the log thread's once it was taken */
    uint32_t count;
    uint64_t hlc_first;
    uint64_t hlc_last;
    uint64_t last;      /* index of its last entry, once sealed (done.stream and done.first too) */
    uint64_t opened_ns; /* when its first entry came */
} ab_open_block;

/** A received block on its way into the log. */
typedef struct ab_incoming {
    struct ab_incoming *next;
    struct ab_group *group; /* the log thread's queue holds a reference */
    ab_buf *buf;
    ab_block_header header;
    bool repair;  /* put over a damaged one */
    bool patient; /* nobody waits for it: the log may gather more before it commits */
    bool *taken;  /* set when the core names it in the step that brought it */
} ab_incoming;

/** A value on its way into the log's small state. */
typedef struct ab_state_put {
    struct ab_state_put *next;
    uint64_t group;
    size_t key_size;
    size_t value_size; /* 0: delete */
    ab_group *forget;  /* not a value: the log forgets `stream` of this group; holds a reference; else NULL */
    ab_stream stream;
    uint32_t keep;     /* the lowest epoch of its origin whose mark the state machine still gets */
    ab_group *rewound; /* AB_ACT_REWIND goes with it: of this group, holds a reference; else NULL */
    ab_mark mark;
    uint64_t hash;
    uint8_t bytes[]; /* key, value */
} ab_state_put;

/** How far a stream of a group may be trimmed, until the log thread gets to it. */
typedef struct ab_trim_target {
    ab_mark upto;
    uint64_t done;
} ab_trim_target;

/** One block on its way to the state machine. */
typedef struct ab_apply_item {
    struct ab_apply_item *next;
    ab_stream stream;
    uint64_t first; /* 0: no block; marks of the stream's node below its epoch leave the frontier */
    bool move;      /* no block either: the frontier has the stream at `last` from here on */
    uint64_t last;
} ab_apply_item;

/** What the peers of a group are known to have open. */
typedef struct ab_group_peer {
    uint32_t node;
    atomic_bool up;    /* link stands and the peer has the group open */
    uint64_t instance; /* of its open group; only the peer's dispatcher looks at it */
} ab_group_peer;

/** Writers that wait for room in a group's queue: made when the first one does. */
typedef struct ab_room {
    pthread_cond_t freed;
    unsigned waiters;
} ab_room;

/* A node may have very many that are idle: what is small stands together, and what few need is allocated when they do. */
struct ab_group {
    ab_node *node;
    uint64_t id;
    uint64_t instance; /* drawn when it was opened */
    const char *name;  /* behind `peers`, in the same piece of memory */
    const ab_backend *backend;
    const ab_statemachine *sm;
    void *sm_ctx;
    ab_group *next, *previous, *next_in_bucket; /* group_table.c */
    ab_write_level write_level;
    ab_read_level read_level;
    ab_apply_order apply_order;
    uint32_t peer_count;
    atomic_uint refs;
    atomic_bool ready; /* recovered: peers, lookups and lists may see it */
    atomic_bool closing;

    /* core lock */
    bool trims_listed; /* in the log thread's list of groups to trim */
    pthread_mutex_t core_lock;
    void *core;
    uint64_t armed; /* when the timer fires; AB_NEVER */
    ab_stream append_stream;
    uint64_t append_last; /* index of the last sealed entry */
    uint64_t append_hash;
    uint64_t append_term;
    ab_trim_target *trims;
    uint32_t trim_count;
    uint32_t trim_capacity;
    ab_group *trims_next;
    uint64_t hlc_stored;       /* log thread: value on its way into the log */
    struct ab_read_job *reads; /* waiting in the core */
    uint64_t last_ticket;

    /* append lock */
    pthread_mutex_t append_lock;
    ab_room *room; /* NULL: nobody has waited yet; stays as long as the group */
    ab_open_block *open;
    ab_open_block *closed_head, *closed_tail;   /* full, not yet taken by the log thread */
    ab_open_block *waiting_head, *waiting_tail; /* taken: until their level holds */
    uint64_t queued_bytes;
    uint64_t queued_entries;
    ab_group *dirty_next;
    uint64_t hlc;
    int append_code;     /* AB_OK or why the core refuses writes */
    uint32_t block_hint; /* size of the last sealed block */
    uint32_t timed;      /* tickets with a deadline that are pending */
    bool dirty;          /* in the log thread's list */

    /* apply thread's lock */
    struct ab_apply_thread *apply_thread;
    ab_apply_item *apply_head, *apply_tail;
    struct ab_read_job *jobs_head, *jobs_tail;
    ab_group *apply_next;
    uint64_t apply_after; /* monotonic ns: not before (back-off) */
    uint64_t apply_backoff_ms;
    uint64_t checkpoint_due;   /* monotonic ns, 0: nothing to checkpoint */
    uint64_t checkpoint_bytes; /* applied since the last one */
    ab_group *checkpoint_next;
    ab_group *retry_next;
    bool
        apply_listed; /* not in one word with a flag of another lock: the compiler reads several of them at once */
    bool apply_running;
    bool apply_stopped; /* closing: nothing more is applied */
    bool checkpoint_listed;
    bool retry_listed;

    /* apply thread only */
    ab_marks applied;
    ab_marks quarantine_end; /* per stream, the last one that was quarantined when the group was opened */

    atomic_int apply_code;
    atomic_uint quarantined;
    atomic_ullong applied_entries;
    atomic_ullong apply_blocks;
    atomic_ullong skewed;
    atomic_ullong logged_bytes; /* of blocks, for averages */
    atomic_ullong logged_entries;

    ab_group_peer peers[]; /* other members */
};

/** Groups with blocks to be logged; holds a reference to each. */
typedef struct ab_dirty_list {
    ab_group *head, *tail;
} ab_dirty_list;

/** Who commits beside the log thread, under interval durability. Under the log thread's lock, but for the batch. */
typedef struct ab_committer {
    pthread_t thread;
    bool started;
    bool stop;
    pthread_cond_t wake;
    enum {
        AB_COMMITTER_IDLE,
        AB_COMMITTER_BUSY,
        AB_COMMITTER_DONE
    } state;                /* DONE: the log thread has to see to it */
    struct ab_batch *batch; /* its own while it is busy; else empty, or done: the log thread's */
    uint64_t flush;         /* the last request to commit everything that is met with it */
    int code;
} ab_committer;

/** The log thread. */
typedef struct ab_wal_thread {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool sleeping;
    uint64_t until; /* how long it sleeps, unless it is woken */
    bool stop;
    ab_dirty_list dirty;
    ab_group *trims_head;
    ab_incoming *incoming_head, *incoming_tail;
    uint64_t incoming_bytes;
    size_t incoming_count;
    bool incoming_urgent; /* what came in must not wait for more */
    ab_linger linger;     /* until when it waits otherwise */
    pthread_cond_t retry; /* to give up at once */
    bool give_up;         /* stop trying to commit: the node closes */
    bool lost_announced;  /* gave up on blocks that had been announced: the next start must know */
    uint64_t flush;       /* number of the last request to commit everything */
    uint64_t flush_taken; /* number of the last one of which everything is in a batch, or was */
    uint64_t flushed;     /* number of the last one that was carried out */
    int flush_code;
    pthread_cond_t flush_done;
    bool paused; /* reading from the peers is stopped */
    ab_state_put *state_head, *state_tail;
    size_t state_count;
    size_t state_waited; /* of them, when somebody waited in vain for the log to take them */
    bool lent;           /* a writer has the turn */
    bool unfinished;     /* and left a batch whose commit failed */
    uint64_t lazy_due;   /* monotonic ns at which state and trims are committed without a block; 0: none */

    /* whoever has the turn; its counts and times may be read under the lock while nobody has it */
    struct ab_batch *batch;
    bool due;            /* there is a reason to commit what it has, beside blocks */
    uint64_t commit_due; /* interval durability: when what the batch has must be committed */

    ab_committer committer;
} ab_wal_thread;

/** A line on its way to the user's log callback. */
typedef struct ab_log_line {
    struct ab_log_line *next;
    ab_severity severity;
    char text[];
} ab_log_line;

/** The completion thread: completions of writes, and log lines. */
typedef struct ab_completions {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool sleeping;
    bool stop;
    ab_done *head, *tail;
    ab_log_line *lines, *lines_tail;
    uint32_t line_count;
    uint32_t lines_lost;
    uint64_t next_deadline; /* earliest deadline of a pending write; AB_NEVER */
} ab_completions;

struct ab_reader_job;
typedef struct ab_reader {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
    struct ab_reader_job *head, *tail;
} ab_reader;

typedef struct ab_backend_entry {
    const ab_backend *backend;
    struct ab_backend_entry *next;
} ab_backend_entry;

/** Counters of a node; see metrics.c for what each means. */
typedef struct ab_counters {
    atomic_ullong commits, commit_failures, commit_ns, blocks_logged, entries_logged, bytes_logged;
    atomic_ullong writes_refused, blocks_received, blocks_sent, cold_reads, damaged_blocks, trimmed_blocks;
    atomic_ullong checkpoints, apply_retries, protocol_errors, refused_blocks, damage_reports;
} ab_counters;

/** Which store a peer was last seen with. Only the peer's dispatcher looks at it. */
typedef struct ab_peer_store {
    uint8_t id[16];
    bool known;
} ab_peer_store;

struct ab_node {
    ab_node_config config; /* strings are owned */
    ab_budget budget;
    ab_wal *wal;
    ab_wal_origin origin;
    ab_transport *transport;
    struct ab_admin *admin;
    ab_cache cache;
    ab_peer_store
        *peer_stores; /* of config.peers, one each; read at open: dispatchers never read from disk */
    uint64_t opened_ns;
    uint64_t seed;
    uint64_t generation;   /* drawn at every start after which a tail may be missing */
    atomic_ullong stop_at; /* monotonic ns: end of the time to stop; 0: not stopping */
    atomic_bool closing;
    atomic_int log_code;

    pthread_mutex_t opening; /* held while a group is being opened; before all other locks */
    pthread_rwlock_t registry;
    ab_group_table groups;
    ab_backend_entry *backends;

    ab_wal_thread log;
    ab_completions completions;
    ab_reader reader;
    struct ab_apply_thread *apply_threads;
    uint32_t apply_started;
    atomic_uint apply_next;

    pthread_mutex_t message_lock;
    ab_message message;
    ab_counters counters;
    ab_latency latency; /* of writes, by block: see metrics.c */
};

/* node.c */
struct ab_wal *ab_node_wal(const ab_node *node); /* for the admin endpoint: reads only */
void ab_node_log(ab_node *node, ab_severity severity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void ab_message_set(ab_message *message, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Memory is short: gives back the cache and waits a moment. */
void ab_node_relieve(ab_node *node);
/* For small pieces without which a group would stand still: waits for memory instead of losing work. Zeroed. */
void *ab_alloc_patiently(ab_node *node, size_t size);
const ab_backend *ab_node_backend(ab_node *node, const char *name);
const ab_backend *ab_backend_built_in(size_t position); /* NULL past the end */
uint64_t ab_wall_ms(void);

/* group.c */
ab_group *ab_group_get(ab_node *node, uint64_t id); /* takes a reference; NULL if there is none */
bool ab_group_is_open(const ab_group *group);       /* recovered and not closing */
/* All open groups with a reference each, so that user code can be called without the registry. Waits for memory. */
ab_group **ab_groups_take(ab_node *node, size_t *count);
void ab_groups_release(ab_group **groups, size_t count);
bool ab_group_try_ref(ab_group *group); /* false: the last reference is gone already */
uint64_t ab_group_stop_deadline(const ab_node *node);
uint64_t ab_group_patience(uint64_t deadline);
void ab_group_ref(ab_group *group);
void ab_group_unref(ab_group *group);

/* core.c */
/* Steps the group's core with `event` and carries out what comes out. Takes the core lock. */
int ab_group_step(ab_group *group, const ab_event *event);
void ab_group_timer(ab_group *group); /* the timer has fired */
int ab_group_step_locked(ab_group *group,
                         const ab_event *event); /* the core lock is held, the core is there */
/* The same for a block from a peer: owns `incoming`. */
int ab_group_receive(ab_group *group, uint32_t peer, ab_incoming *incoming);

/* append.c */
/* The oldest blocks, up to `bytes`, but one at least. Unless there are `more`, the group is not dirty any longer. */
ab_open_block *ab_append_take(ab_group *group, uint64_t bytes, bool *more);
/* Whether a group with so many other members takes writes at that level. */
bool ab_append_offers(ab_write_level level, size_t peers);
void ab_append_logged(ab_group *group, uint64_t bytes, uint64_t entries); /* makes room */
void ab_append_merge_hlc(ab_group *group, uint64_t hlc);
void ab_append_wait(ab_group *group,
                    ab_open_block *block); /* a sealed block's tickets wait for their level */
void ab_append_acked(ab_group *group, ab_write_level level, ab_mark upto);
/* The log refused the group's own blocks from `from` on: completes their writes with `code`. */
void ab_append_refused(ab_group *group, ab_mark from, int code);
/* Completes everything pending: `queued` for what has no index yet (it is not stored), `sealed` for what has one. */
void ab_append_abandon(ab_group *group, int queued, int sealed);
void ab_open_block_free(ab_open_block *block);

/* append_wait.c */
/* Waits for room for `packed` bytes, up to `wait_ms` (0: not at all). The append lock is held. @return AB_OK, or why the write is
 * refused */
int ab_append_admit(ab_group *group, size_t packed, uint64_t wait_ms);
void ab_append_wake(ab_group *group);                 /* who waits for room looks again */
void ab_append_leave(ab_group *group);                /* closing: until no writer waits for room any more */
void ab_append_expire(ab_group *group, uint64_t now); /* completes writes whose time is up */

/* wal_thread.c; wal_queue.c: what takes work for the thread */
int ab_wal_thread_start(ab_node *node);
void ab_wal_thread_stop(ab_node *node);
void ab_wal_thread_drain(ab_node *node); /* frees what came too late for it */
/* Commits all that was written so far. @return AB_OK, AB_ETIMEDOUT, or why the log gave up */
int ab_wal_thread_flush(ab_node *node, uint64_t deadline);
/* Waits, a tenth of a second at most, while much small state is queued; without locks. */
void ab_wal_thread_await_room(ab_node *node);
/* The group has blocks to be logged. @return true: the caller, which said that it is going to wait for them, has the turn
 * and must call ab_wal_thread_turn(), without locks */
bool ab_wal_thread_dirty(ab_group *group, bool waits);
void ab_wal_thread_turn(ab_node *node);
void ab_wal_thread_incoming(ab_incoming *incoming);
void ab_wal_thread_state(ab_node *node, uint64_t group, ab_bytes key, ab_bytes value, bool soon);
/* The log forgets a stream, after the small state given before. */
void ab_wal_thread_forget(ab_group *group, ab_stream stream, uint32_t keep);
void ab_state_put_free(ab_state_put *put);
void ab_wal_thread_trim(ab_group *group); /* takes a reference */
void ab_wal_thread_rewind(ab_group *group, ab_mark mark, uint64_t hash, ab_bytes key, ab_bytes value);
void ab_incoming_free(ab_incoming *incoming);

/* apply.c */
int ab_apply_start(ab_node *node);
int ab_apply_stop(ab_node *node); /* AB_ETIMEDOUT: a thread is stuck in user code */
void ab_apply_attach(ab_group *group);
void ab_apply_move(ab_group *group, ab_mark mark); /* the frontier has the stream there, from here on */
void ab_apply_push(ab_group *group, ab_stream stream, uint64_t first, uint64_t last);
/* From now on the frontier that goes to the state machine has no marks of the node's epochs below `epoch`. */
void ab_apply_drop(ab_group *group, uint32_t node, uint32_t epoch);
void ab_apply_job(ab_group *group, struct ab_read_job *job);
int ab_apply_detach(ab_group *group, uint64_t deadline); /* last checkpoint; AB_ETIMEDOUT if stuck */

/* read.c */
int ab_read_done(ab_group *group, uint64_t ticket, int code); /* with the core lock held */
void ab_read_run(ab_group *group, struct ab_read_job *job);
void ab_read_abandon(ab_group *group);

/* reader.c */
int ab_reader_start(ab_node *node);
void ab_reader_stop(ab_node *node);
void ab_reader_push(ab_group *group, const ab_action *action);
/* A damaged block that holds `first` ... `last`; `header` has the range that the log knows. Tells the core. */
void ab_block_damaged(ab_group *group, ab_stream stream, uint64_t first, uint64_t last,
                      const ab_block_header *header);
/* Reads one block into a buffer, from the cache or the log. */
int ab_block_fetch(ab_group *group, ab_stream stream, uint64_t index, ab_block_header *header, ab_buf **buf);

/* links.c */
extern const ab_transport_callbacks ab_link_callbacks;
int ab_links_load(ab_node *node);        /* before the links start. @return AB_OK, AB_ENOMEM */
void ab_group_announce(ab_group *group); /* tells linked peers that the group is open here */
void ab_group_retire(ab_group *group);   /* tells them that it is closed */
int ab_group_send(ab_group *group, uint32_t peer, ab_bytes bytes);

#endif
