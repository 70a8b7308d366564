/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file sim.h
 * The deterministic simulator as its files see it: one thread, virtual time, every choice from one seed.
 *
 * A world has nodes; a node is a driver around a real protocol core (the library's objects), with a fake disk, a fake state
 * machine and fake links. What the fakes keep "for real" (disks, what was acknowledged, what each write had
 * seen) is looked at by the checker, never by the cores.
 */
#ifndef ANABRANCH_TESTS_SIM_H
#define ANABRANCH_TESTS_SIM_H

#include "replication/actions.h"
#include "replication/backends.h"
#include "replication/frontier.h"

#include <stdio.h>

#define MS 1000000ull
#define SECOND (1000 * MS)
#define GROUP 7u
#define NODES_MAX 5u
#define STREAMS_MAX 192u
#define KEYS 12u
#define ITEMS_MAX 256u
#define MARKS STREAMS_MAX
#define VALUES_MAX 24u
#define WRITES_SEEN 8192u

/* Random numbers */

typedef struct rng {
    uint64_t state;
} rng;

uint64_t rng_next(rng *r);
uint64_t rng_below(rng *r, uint64_t bound);              /* 0 ... bound - 1 */
uint64_t rng_range(rng *r, uint64_t low, uint64_t high); /* low ... high */
bool rng_chance(rng *r, unsigned per_mille);

/* Counters: what happened in a run. Over a batch each must be above zero. */

#define FAULT_LIST(X)                                                                                        \
    X(DROP, "packet dropped")                                                                                \
    X(DUPLICATE, "packet doubled")                                                                           \
    X(REORDER, "packet overtaken")                                                                           \
    X(SLOW_LINK, "packet on a slow link")                                                                    \
    X(PARTITION_FULL, "node cut off from all others")                                                        \
    X(PARTITION_ONE_WAY, "link cut in one direction")                                                        \
    X(PARTITION_PARTIAL, "some links cut")                                                                   \
    X(LINK_DOWN, "link broken and built again")                                                              \
    X(BUSY, "link full")                                                                                     \
    X(CRASH, "node crashed between events")                                                                  \
    X(CRASH_IN_STEP, "node crashed between two actions of a step")                                           \
    X(STOP, "node stopped in order")                                                                         \
    X(TAIL_LOST, "announced blocks lost in a crash")                                                         \
    X(BATCH_CUT, "part of a commit survived a crash")                                                        \
    X(INTERVAL, "run with interval durability")                                                              \
    X(CLOCK_FORWARD, "clock jumped forward")                                                                 \
    X(CLOCK_BACK, "clock jumped back")                                                                       \
    X(SKEWED, "remote clock too far ahead")                                                                  \
    X(DISK_FULL, "commit refused: disk full")                                                                \
    X(DISK_SLOW, "slow commit")                                                                              \
    X(DISK_WIPED, "disk lost")                                                                               \
    X(DISK_RESTORED, "disk replaced by an older copy")                                                       \
    X(DISK_ROLLED_BACK, "disk image rolled back unnoticed")                                                  \
    X(DIVERGED, "two histories of one stream seen")                                                          \
    X(COPIED, "block of a lost history logged again")                                                        \
    X(REWOUND, "log taken back to a fork")                                                                   \
    X(MOVED, "state machine knew the copy by its old name")                                                  \
    X(BAD_BLOCK, "block damaged on disk")                                                                    \
    X(BAD_SEEN, "damaged block read")                                                                        \
    X(REFUSED, "block refused by the log")                                                                   \
    X(REPAIR_REFUSED, "repair refused by the log")                                                           \
    X(UNAPPLIED, "blocks given back by the state machine")                                                   \
    X(REPAIRED, "damaged block repaired")                                                                    \
    X(SM_SLOW, "slow state machine")                                                                         \
    X(SM_STUCK, "stuck state machine")                                                                       \
    X(SM_RETRY, "state machine asked to try again")                                                          \
    X(SM_REJECT, "entry quarantined")                                                                        \
    X(SM_REPLAY, "blocks replayed after a crash")                                                            \
    X(SM_MIDDLE, "state machine durable in the middle of a block")                                           \
    X(SM_AHEAD, "state machine had more than its log")                                                       \
    X(STANDALONE, "run with one standalone node")                                                            \
    X(ARRIVAL, "run with order of arrival")                                                                  \
    X(NEW_EPOCH, "new epoch")                                                                                \
    X(NEW_EPOCH_RUNNING, "new epoch while running")                                                          \
    X(EXPECT, "gap answered")                                                                                \
    X(RESEND, "entries sent again")                                                                          \
    X(FETCH, "entries fetched")                                                                              \
    X(ENDED, "old stream declared ended")                                                                    \
    X(FOLDED, "old stream folded away")                                                                      \
    X(FOLDED_AGAIN, "folded stream forgotten at the next start")                                             \
    X(TRIM, "log trimmed")                                                                                   \
    X(LOAD, "infos read back")                                                                               \
    X(WAITED, "block held back for its dependencies")                                                        \
    X(READ_SESSION, "session read answered")                                                                 \
    X(READ_TIMEOUT, "session read timed out")

typedef enum fault {
#define FAULT_ENUM(name, text) F_##name,
    FAULT_LIST(FAULT_ENUM)
#undef FAULT_ENUM
        F_COUNT
} fault;

const char *fault_text(fault f);

/* Writes and blocks: made once, never changed, freed with the world */

typedef enum write_kind { WRITE_PUT, WRITE_INSERT, WRITE_DELETE, WRITE_POISON } write_kind;

typedef struct sim_write {
    uint32_t node;
    write_kind kind;
    uint32_t key;
    uint64_t hlc;
    int sid; /* stream, -1 until sealed */
    uint64_t index;
    bool acked;
    bool may_be_lost; /* its only durable copies were destroyed */
    uint32_t seen_count;
    ab_mark *seen; /* what its origin's state machine had applied when it was written */
} sim_write;

typedef struct sim_block {
    ab_stream stream;
    int sid;
    uint64_t first;
    uint64_t last;
    uint64_t hash;
    uint64_t prev_hash;
    uint64_t hlc_last;
    uint32_t bytes;
    uint32_t dep_count;
    ab_mark *deps;
    ab_block_origin origin;
    uint32_t *writes; /* last - first + 1 */
} sim_block;

/* Disks */

typedef struct disk_block {
    sim_block *block;
    bool bad;
} disk_block;

typedef struct disk_stream {
    disk_block *blocks;
    size_t count;
    size_t capacity;
    uint64_t base;
    uint64_t base_hash;
    uint64_t durable;
    bool forgotten; /* the log has no record of it; the rest is for the checker */
} disk_stream;

typedef struct sm_state {
    uint64_t applied[STREAMS_MAX];
    bool dropped[STREAMS_MAX]; /* the frontier that it is given does not name it any more */
    uint64_t hlc[KEYS];        /* last writer wins by (hlc, node) */
    uint32_t node[KEYS];
    uint32_t epoch[KEYS];
    uint32_t value[KEYS];
    uint8_t seen[WRITES_SEEN / 8]; /* a bit per write that it has applied */
    uint8_t items[ITEMS_MAX];      /* naive: 0 never, 1 inserted, 2 deleted after it was inserted */
} sm_state;

/* A small value that the core persists. */
typedef struct sim_value {
    uint8_t key[AB_STATE_KEY_MAX];
    size_t key_size;
    uint8_t data[64];
    size_t size;
} sim_value;

typedef struct disk {
    disk_stream streams[STREAMS_MAX];
    sim_value values[VALUES_MAX];
    size_t value_count;
    bool has_epoch;
    bool tail_safe;
    sm_state sm;
} disk;

/* Nodes */

typedef enum op_type { OP_BLOCK, OP_REPAIR, OP_VALUE, OP_TRIM, OP_FORGET, OP_REWIND } op_type;

typedef struct op {
    op_type type;
    sim_block *block;
    sim_value value;
    int sid;
    uint64_t index;
    uint64_t hash;
    bool announced; /* interval: LOGGED was said */
} op;

typedef struct ops {
    op *items;
    size_t count;
    size_t capacity;
} ops;

typedef struct apply_item {
    int sid;
    uint64_t first;
    uint64_t last;
    bool move; /* the frontier has the stream at `last` */
} apply_item;

typedef struct sim_read {
    uint64_t ticket;
    uint64_t deadline;
    uint32_t count;
    ab_mark marks[8];
    bool open;
} sim_read;

#define READS_MAX 16u

typedef struct world world;

typedef struct sim_node {
    world *w;
    uint32_t id;
    uint32_t position;
    bool alive;
    bool starting; /* the first step of its core */
    bool crashing; /* dies as soon as the event at hand is over */
    bool stopping; /* in order: flushes first */
    bool excused;  /* needs a snapshot: what it lacks is trimmed everywhere */
    bool relayed;  /* who would have to hand on what it lacks needs a snapshot */
    bool went_on;  /* after entries that were damaged here and that nobody has any more */
    bool told_trimmed;
    uint64_t generation;
    unsigned crash_in; /* actions until it dies, 0: no plan */
    void *core;
    const ab_backend *backend;
    ab_actions actions;
    disk disk;
    disk *copy; /* an older copy, for restoring */
    uint64_t ever_durable[STREAMS_MAX];
    uint64_t ever_applied[STREAMS_MAX]; /* durable in its state machine */
    uint64_t hlc;
    int64_t clock_offset_ms;
    uint32_t top_epoch; /* the highest it ever wrote in */

    ab_mark append; /* where local writes go */
    uint64_t append_hash;
    int append_code;
    uint32_t *open; /* writes not sealed yet */
    size_t open_count;
    size_t open_capacity;
    sim_block **tickets; /* sealed, not answered yet */
    size_t ticket_count;
    size_t ticket_capacity;
    bool take_due;
    bool commit_due;
    bool disk_lost; /* was wiped or restored at some time */
    bool sm_kept;   /* ... and its state machine was not */
    uint64_t sent_upto[NODES_MAX][STREAMS_MAX];
    uint32_t timer_spins;
    ops queue; /* not taken yet */
    ops batch; /* in the commit under way, or since the last one (interval) */
    size_t batch_in_flight;
    bool committing;
    bool full;          /* disk */
    bool refuse;        /* the log refuses a block once */
    bool refuse_repair; /* the log refuses a repair once */
    bool slow_disk;

    sm_state sm;
    apply_item *apply;
    size_t apply_count;
    size_t apply_capacity;
    bool applying;
    bool sm_stuck;
    bool sm_slow;
    bool checkpoint_due;
    ab_mark
        untold[8]; /* moved marks as the state machine still has them: it learns with what it applies next */
    size_t untold_count;
    uint64_t replay_upto[STREAMS_MAX];

    uint64_t timer; /* deadline that is armed */
    bool sending[NODES_MAX][STREAMS_MAX];
    sim_read reads[READS_MAX];
} sim_node;

/* Links: one per pair, ends may disagree for a while */

typedef struct sim_link {
    bool up[2];
    uint64_t session[2];
    bool cut[2]; /* packets of that end are lost silently */
    bool connecting;
    bool slow;
    uint32_t queued[2];
    uint64_t free_at[2]; /* narrow: what that end sends goes not before */
} sim_link;

/* Knobs of a run, drawn from the seed */

typedef struct knobs {
    uint32_t nodes;
    bool standalone;
    bool interval;
    bool arrival;
    bool sm_syncs; /* the state machine keeps every apply */
    bool sm_rejects;
    bool checkpoints;
    unsigned drop, duplicate; /* per mille */
    uint64_t delay_min, delay_max;
    uint64_t commit_min, commit_max;
    uint64_t interval_ns;
    uint64_t writes_gap; /* average between two writes of a node */
    uint64_t duration;   /* of faults */
    uint64_t fault_gap;  /* average between two faults; 0: none */
    uint32_t allowed;    /* bit per kind of fault, see faults.c */
    uint32_t window_blocks;
    uint64_t window_bytes;
    uint32_t queue_packets;
    uint32_t max_skew_ms;
    uint64_t block_ns; /* what a block takes on a link, one after the other; 0: they go side by side */
} knobs;

typedef struct sim_event sim_event;

struct world {
    uint64_t seed;
    rng rng;
    knobs k;
    uint64_t now;
    uint64_t next_session;
    uint64_t next_ticket;
    uint64_t seq;
    uint64_t steps;
    uint64_t trace_hash;
    FILE *trace; /* NULL: quiet */
    bool golden; /* traced for people: no internal counters */
    bool faults; /* the phase of faults is on */
    bool quiet;  /* no new client writes */
    uint64_t counters[F_COUNT];
    sim_event *heap;
    size_t heap_count;
    size_t heap_capacity;
    ab_stream streams[STREAMS_MAX];
    sim_block **known[STREAMS_MAX]; /* by index: the block that others may have seen with it */
    size_t known_capacity[STREAMS_MAX];
    bool torn[STREAMS_MAX]; /* a rollback that nobody noticed may have given it two histories */
    bool rolled_back;
    bool apart;           /* ... and where the histories part is trimmed: they stay two */
    unsigned disk_losses; /* still allowed */
    uint32_t drop_blocks[NODES_MAX][NODES_MAX]; /* scripted: the next ones are lost */
    bool sm_ahead; /* some state machine has what no log has: states need not be equal */
    int stream_count;
    sim_write *writes;
    size_t write_count;
    size_t write_capacity;
    sim_block **blocks;
    size_t block_count;
    size_t block_capacity;
    uint32_t item_count;
    sim_node nodes[NODES_MAX];
    sim_link links[NODES_MAX][NODES_MAX]; /* [low][high] */
    char failure[512];
    bool failed;
    bool ack_early; /* planted in the driver: answers before the commit */
};

/* Events */

typedef enum event_kind {
    E_TIMER = 1,
    E_TAKE,
    E_COMMIT,
    E_APPLY,
    E_CHECKPOINT,
    E_WRITE,
    E_READ,
    E_CONNECT,
    E_UP,
    E_DOWN,
    E_PACKET,
    E_COLD_SEND,
    E_COLD_LOAD,
    E_FORGET,
    E_COLD_COPY,
    E_RESTART,
    E_FAULT,
    E_HEAL
} event_kind;

typedef struct packet {
    uint32_t from, to; /* positions */
    uint64_t session;
    sim_block *block;
    size_t size;
    uint8_t bytes[];
} packet;

struct sim_event {
    uint64_t at;
    uint64_t seq;
    event_kind kind;
    uint32_t node;       /* position */
    uint32_t peer;       /* position */
    uint64_t generation; /* of the node; ~0: whatever */
    uint64_t a, b;
    packet *packet;
    ab_action action; /* COLD_SEND, COLD_LOAD */
};

/* world.c */
void world_init(world *w, uint64_t seed, const knobs *k);
void world_free(world *w);
void schedule(world *w, uint64_t delay, sim_event event);
bool world_step(world *w); /* false: nothing left, or failed */
void world_run(world *w, uint64_t until);
int stream_id(world *w, ab_stream stream);
void note(world *w, fault f);
void trace(world *w, const char *what, uint32_t node, uint64_t a, uint64_t b, uint64_t c);
void say(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fail(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* disk.c */
disk_stream *disk_stream_of(disk *d, int sid);
uint64_t disk_last(const disk_stream *s);
uint64_t disk_last_hash(const disk_stream *s);
disk_block *disk_find(disk_stream *s, uint64_t index); /* the block that holds it; NULL */
void disk_append(world *w, sim_node *n, sim_block *block);
void disk_truncate(disk *d, int sid, uint64_t index);
uint32_t disk_epoch(const disk *d);
void value_set(sim_value *value, ab_bytes key, ab_bytes data);
void disk_trim(world *w, sim_node *n, int sid, uint64_t index);
void disk_put_value(sim_node *n, const sim_value *value);
void disk_rewind(sim_node *n, const op *item);
void disk_forget(sim_node *n, const op *item);
void disk_copy(disk *to, const disk *from);
void disk_free(disk *d);
void ops_push(ops *list, op item);

/* log.c */
void disk_crash(sim_node *n);
void log_kick(sim_node *n);
void log_take(sim_node *n);
void log_commit(sim_node *n);

/* blocks.c */
sim_block *block_make(world *w, sim_node *n, const uint32_t *writes, size_t count, ab_frontier deps);
sim_block *block_repeat(world *w, const sim_block *old, ab_mark after, uint64_t prev_hash,
                        ab_block_origin origin);
void block_info(const sim_block *block, ab_block_info *info);

/* net.c */
sim_link *link_of(world *w, uint32_t a, uint32_t b);
bool net_send(sim_node *from, uint32_t to, sim_block *block, ab_bytes bytes);
void net_connect(world *w, uint32_t a, uint32_t b, uint64_t delay);
void net_handle(world *w, sim_event *event);
void net_node_died(sim_node *n);
void net_break(world *w, uint32_t a, uint32_t b);

/* actions.c */
#define FOLLOW_MAX 32u
/* Answers to AB_ACT_SEND that was served at once: told to the core when the list at hand is done. */
typedef struct sim_follow {
    ab_event events[FOLLOW_MAX];
    size_t count;
    size_t next;
} sim_follow;
void action_carry_out(sim_node *n, const ab_action *action, sim_follow *later);
void action_late(sim_node *n, const sim_event *event); /* COLD_SEND, COLD_LOAD, FORGET, COLD_COPY */

/* node.c */
void node_step(sim_node *n, const ab_event *event);
void node_start(sim_node *n);
void node_crash(sim_node *n);
void node_handle(world *w, sim_event *event);
uint64_t node_wall_ms(const sim_node *n);

/* client.c */
void node_write(sim_node *n, write_kind kind, uint32_t key);
void node_read(sim_node *n);
void client_write(sim_node *n); /* some writes, and the next ones later */

/* sm.c */
void sm_kick(sim_node *n);
void sm_apply(sim_node *n);
void sm_checkpoint(sim_node *n);
void sm_move(sim_node *n, const apply_item *item);
uint64_t sm_has(world *w, const sm_state *sm, int sid); /* applied, whichever way it knows the stream */
void sm_frontier(world *w, const sm_state *sm, ab_marks *out); /* all that it has applied */
void sm_stored(world *w, const sm_state *sm, ab_marks *out);   /* what it was told to remember of that */
void sm_store(sim_node *n);
void sm_drop(sim_node *n, uint32_t node, uint32_t epoch);

/* check.c */
void check_announced(sim_node *n, const sim_block *block);
void check_acked(sim_node *n, const sim_write *write);
void check_causal(sim_node *n, const sim_write *write);
bool check_converged(world *w, char *why, size_t size);
void check_final(world *w);
void check_lost(world *w, const sim_node *n, const sim_block *block);
void check_excused(world *w);
bool check_lost_for_good(world *w, int sid, uint64_t first, uint64_t last); /* no disk has any of it sound */
void check_core(sim_node *n);
uint64_t check_longest(world *w, int sid); /* what the longest log of a stream has or had */
void check_forgotten(sim_node *n, int sid);
void check_bounded(world *w);

/* faults.c */
/** The log of the node went back: it may crash soon. */
void faults_rewound(sim_node *n);
void faults_moved(sim_node *n);
bool faults_in_middle(sim_node *n, int sid, disk_block *block);
void faults_draw(knobs *k, rng *r);
void faults_handle(world *w, sim_event *event);
void faults_heal(world *w);

/* run.c */
typedef struct run_result {
    bool ok;
    uint64_t hash;
    uint64_t steps;
    uint64_t virtual_ns;
    uint32_t excused;
    bool sm_ahead;
    uint64_t counters[F_COUNT];
    char failure[512];
} run_result;

void run_seed(uint64_t seed, FILE *trace_to, bool ack_early, run_result *result);

/* golden.c */
int golden_run(const char *directory, const char *only, bool update);
int golden_print(const char *name);

#endif
