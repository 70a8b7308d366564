/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file mm.h
 * The multimaster core as its files see it. One call at a time, no I/O.
 *
 * A step takes the event's facts in first, then ab_mm_pump() produces every action that is due. What is due is
 * read off the state and never queued, and state that says "done" moves only once its action was stored: an action that
 * could not be stored (out of memory) comes with the next step, and a timer asks for one.
 */
#ifndef ANABRANCH_REPLICATION_MULTIMASTER_MM_H
#define ANABRANCH_REPLICATION_MULTIMASTER_MM_H

#include "replication/frontier.h"
#include "replication/multimaster/message.h"
#include "replication/order.h"
#include "replication/reads.h"

#define AB_MM_MS 1000000ull               /* nanoseconds */
#define AB_MM_BUSY_MS 5u                  /* first wait after a send that got nowhere */
#define AB_MM_SEND_LOST_NS 60000000000ull /* AB_EV_SENT that takes longer will not come */

/** Entries that are fetched from a peer: a tail that was lost here, or a damaged block. */
typedef struct ab_mm_want {
    struct ab_mm_want *next;
    uint64_t first;    /* repair: of the damaged range */
    uint64_t last;     /* of the range, or up to where a peer has the tail */
    uint64_t expected; /* repair: hash that the block must have, if `expected_known` */
    uint64_t at;       /* ask then; AB_NEVER: when a peer turns up */
    uint64_t trimmed;  /* peers (bits) that do not have it any more */
    uint64_t lacked;   /* peers (bits) that cannot read it, either */
    uint64_t said;     /* peers (bits) that named all they have since it looks so */
    uint64_t lost_at;  /* nobody can give it: it counts as lost then; 0: not so */
    uint32_t wait_ms;
    uint32_t asked; /* position of the peer that was asked last */
    bool repair;
    bool expected_known;
    bool putting; /* AB_ACT_REPAIR is under way */
    bool told;    /* the operator: only a snapshot will have it */
    bool lost;    /* repair: nobody has it any more, the operator was told */
} ab_mm_want;

/** A part of a stream that is logged again in another one, the copy: the stream's history changes, or has changed. */
typedef struct ab_mm_rewind {
    struct ab_mm_rewind *next; /* by the copies' epochs */
    ab_stream stream;
    uint32_t epoch;         /* of the copy */
    ab_block_origin origin; /* what it repeats; `hash` is of the first block that goes */
    uint64_t
        applied; /* what our state machine had of the stream when it happened here; 0: none of what goes */
    uint64_t moved_to;   /* ... which is this of the copy */
    uint64_t copy_again; /* AB_ACT_COPY is under way: given up then */
    uint64_t look_again;
    uint64_t known_at; /* the stream ended here when `ours` was found out; 0: never */
    ab_mark looking;   /* an info is being read back; index 0: none */
    bool ours;         /* our log has what goes */
    bool begun;        /* by us: we copy */
    bool stored;
    bool sent; /* AB_ACT_REWIND is under way */
    bool move; /* the driver is to be told of `moved_to` */
    bool done;
    bool voiding; /* AB_ACT_REWIND of nothing, to store that `applied` counts no more */
    bool settled; /* the state machine has stored a frontier in the new terms */
} ab_mm_rewind;

/** The search for where two histories part. */
typedef struct ab_mm_fork {
    uint32_t peer;
    uint32_t wait_ms;
    uint32_t count;   /* of the peer's points that are here; 0: asked for */
    uint64_t first;   /* ... from here on */
    uint64_t look_at; /* our own infos are being read back from here on; 0: they are not */
    uint64_t again;
    ab_mm_point points[AB_MM_POINTS_MAX];
} ab_mm_fork;

/** What is looked for in the histories of a stream, by us or for a peer. */
typedef struct ab_mm_quest {
    ab_mm_fork *fork;     /* where a peer's parts from ours */
    uint64_t fork_failed; /* peers (bits) for which it cannot be found */
    uint64_t prove_index; /* whether we have a block of `prove_hash` that ends here; 0: nothing to prove */
    uint64_t prove_hash;
    uint64_t prove_bit;
    uint64_t prove_again;
    uint64_t history_first; /* the ends of our blocks from here on, for `history_peer` */
    uint64_t history_again;
    uint32_t history_peer; /* 0: nobody asked */
} ab_mm_quest;

/** A stream. The bit sets have one bit per member, by position. */
typedef struct ab_mm_stream {
    ab_order_stream o;        /* first: the order holds pointers to it */
    uint64_t accepted;        /* taken for logging, or sealed, up to here */
    uint64_t accepted_hash;   /* if `accepted_known` */
    uint64_t sealed;          /* own: by this run up to here (else what the log had) */
    uint64_t acked;           /* own: announced */
    uint64_t probe;           /* read back the info at this index; 0: none */
    uint64_t probe_again;     /* one is under way: given up then; 0: none under way */
    uint64_t confirm;         /* tell them at once how far we have it durable */
    uint64_t owed;            /* tell them once what they sent is durable */
    uint64_t gossip;          /* tell them some time */
    uint64_t expect;          /* tell them what comes next */
    uint64_t diverged;        /* their history is another one */
    uint64_t diverged_tell;   /* ... and they do not know */
    uint64_t diverged_report; /* ... and the operator does not know */
    uint64_t diverged_at;
    uint64_t refused_at; /* the log refused a block: take none before; 0: take them */
    uint64_t over;       /* they say that it is over there */
    uint64_t tell;       /* it is over here, and they do not know */
    uint32_t refused_ms;
    int refused;        /* why; AB_OK: it takes them */
    uint64_t behind;    /* what they say is of a history before or after the one that we have */
    uint64_t unproven;  /* nothing over this link shows yet that their history is ours */
    ab_mm_quest *quest; /* NULL: nothing is looked for */
    ab_mm_want *wants;
    uint32_t
        rewound; /* which history we have: 0 the first, else the epoch of the copy of the last that went */
    bool frozen; /* nothing more of it is taken: its end is about to go */
    bool own;
    bool accepted_known;
    bool finished;    /* it is over here */
    bool complete;    /* a member folded it, and we have all of it */
    bool sure;        /* it is over at its origin: it ends where it ended for good */
    bool gone;        /* its origin cannot give what comes next, it said */
    bool broken_told; /* the operator, that what follows is lost */
    bool apart;       /* what the others folded under its name is another history */
} ab_mm_stream;

/** What is being sent to a peer of one stream. */
typedef struct ab_mm_sync {
    ab_mm_stream *stream;
    uint64_t mark;     /* confirmed durable by the peer */
    uint64_t next;     /* to send */
    uint64_t limit;    /* last to send; AB_NEVER for our own streams */
    uint64_t expected; /* the last EXPECT that was obeyed, since the last progress */
    uint64_t once;     /* a single block that was asked for, by its first index; 0: none */
    uint64_t once_last;
    uint64_t once_lacks; /* `once` cannot be read here: to be told; 0: no */
    uint64_t timed;      /* its confirmation is waited for, to measure; 0: none is */
    uint64_t timed_at;   /* ... since it was sent */
    uint64_t
        again; /* up to here something may be sent for the second time: what confirms it measures nothing */
    uint64_t bytes; /* in flight */
    uint64_t retry_at;
    uint64_t hold_at; /* outstanding: its end is given up then; else: do not send before */
    uint32_t blocks;  /* in flight */
    uint32_t wait_ms; /* for a confirmation */
    uint32_t busy_ms;
    uint32_t retries;
    int code;
    bool outstanding; /* AB_ACT_SEND is under way */
    bool once_out;    /* ... for `once` */
    bool stale;       /* ... and its outcome no longer counts */
    bool once_gone;   /* `once` was asked for and is trimmed here: to be told */
    bool told;        /* the operator, of `code` */
} ab_mm_sync;

/** Another member. */
typedef struct ab_mm_peer {
    uint32_t node;
    uint8_t position; /* its bit */
    bool active;      /* counts for trimming */
    bool up;
    bool full;           /* its full HAVE came over this link */
    bool met;            /* a full HAVE of it came since this core was created */
    bool owe_full;       /* our full HAVE is due */
    bool ask;            /* ... and shall ask for its again */
    uint16_t rtt;        /* from sending to its confirmation: eighths of ms, smoothed; 0: not measured yet */
    uint16_t rtt_varies; /* quarters of ms, smoothed */
    uint64_t heard;
    uint64_t
        word_at; /* send our full HAVE again unless theirs has come (AB_NEVER); once it has: tell it what is over
                           here, not before */
    uint64_t gossip_at; /* not before */
    uint32_t word_ms;
    uint32_t sync_count;
    ab_mm_sync *syncs;
    ab_marks marks;   /* what it has durable */
    ab_marks pending; /* of our streams: what it has beyond that */
    ab_folds folds;   /* what it folded */
} ab_mm_peer;

typedef struct ab_mm {
    ab_order order;
    ab_reads reads;
    ab_marks carried; /* dependency marks that blocks of the current stream carried in this run */
    ab_marks sealing; /* what seal() handed out last */
    ab_marks left;    /* at the start: folded streams of which log or state machine still know */
    ab_mm_rewind *rewinds;
    ab_mm_stream *current;
    uint64_t random;
    uint64_t trim_at;  /* AB_NEVER: nothing new */
    uint64_t again_at; /* an action could not be stored */
    uint64_t stuck_at; /* blocks wait for others: compare frontiers with everybody; AB_NEVER */
    uint64_t window_bytes;
    uint32_t peer_count;
    uint32_t window_blocks;
    uint32_t retry_min_ms;
    uint32_t retry_max_ms;
    uint32_t gossip_ms;
    uint32_t self;
    uint32_t wall_seconds;
    uint32_t seen_epoch; /* the highest of ours that anybody knows */
    uint8_t self_position;
    bool kept;    /* the epoch is the stored one */
    bool certain; /* whatever happens, no epoch before the current one is chosen again */
    bool started;
    bool announced;
    bool new_epoch; /* the current stream must not be written to any more */
    bool closed;    /* ... and no new one can be: the log refused the first block of it */
    bool causal;
    ab_mm_peer peers[]; /* the other members */
} ab_mm;

/* open.c */
int ab_mm_create(const ab_core_init *init, void **core);
void ab_mm_destroy(void *core);

/* core.c */
ab_mm_peer *ab_mm_peer_of(ab_mm *mm, uint32_t node);
ab_mm_stream *ab_mm_find(const ab_mm *mm, ab_stream stream);
int ab_mm_stream_of(ab_mm *mm, ab_stream name, ab_mm_stream **found); /* makes it if needed */
ab_mm_stream *ab_mm_at(const ab_mm *mm, uint32_t position);
uint64_t ab_mm_bit(const ab_mm_peer *peer);
uint64_t ab_mm_jitter(ab_mm *mm, uint32_t ms); /* nanoseconds, 3/4 to 5/4 of it */
uint32_t ab_mm_double(const ab_mm *mm, uint32_t ms);
void ab_mm_heard(ab_mm *mm, ab_mm_peer *peer, uint64_t now);
int ab_mm_send_message(const ab_mm_message *message, uint32_t peer, ab_actions *actions);
int ab_mm_report(ab_severity severity, int code, ab_mark mark, uint32_t peer, const char *text,
                 ab_actions *actions);

/* have.c: who has what */
int ab_mm_take_have(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message, uint64_t now);
int ab_mm_pump_have(ab_mm *mm, ab_mm_peer *peer, uint64_t now, ab_actions *actions);
uint64_t ab_mm_have_deadline(const ab_mm *mm, const ab_mm_peer *peer);
void ab_mm_spread(ab_mm *mm, ab_mm_stream *stream); /* its durable mark or end is news */

/* fold.c: streams that are over */
uint64_t ab_mm_has(const ab_mm_peer *peer, const ab_mm_stream *stream); /* durable; AB_NEVER: all there is */
int ab_mm_prepare_folds(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message);
void ab_mm_forget_folds(ab_mm *mm, ab_mm_peer *peer);
void ab_mm_take_folds(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message, uint64_t now);
void ab_mm_owe_fold(ab_mm *mm, const ab_mm_peer *peer, uint32_t node);
void ab_mm_tell_again(ab_mm *mm, const ab_mm_peer *peer); /* a new link */
bool ab_mm_has_to_tell(const ab_mm *mm, const ab_mm_peer *peer);
ab_mm_folded ab_mm_folded_of(const ab_fold *fold, const ab_mm_peer *peer);
int ab_mm_look_at_folds(ab_mm *mm, ab_actions *actions);
uint64_t ab_mm_safe_at(const ab_mm *mm, const ab_mm_peer *peer, const ab_mm_stream *stream);
int ab_mm_pump_fold(ab_mm *mm, uint64_t now, ab_actions *actions);

/* send.c: from us to a peer */
void ab_mm_sent(ab_mm *mm, ab_mm_peer *peer, const ab_event *event, uint64_t now);
void ab_mm_take_expect(ab_mm_peer *peer, ab_mm_stream *stream, uint64_t first);
int ab_mm_take_fetch(ab_mm *mm, ab_mm_peer *peer, const ab_mm_message *message);
void ab_mm_confirmed(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, uint64_t upto, bool back,
                     uint64_t now);
void ab_mm_sync_asked(ab_mm_peer *peer); /* it wants to know how things are */
void ab_mm_sync_alive(ab_mm *mm, ab_mm_peer *peer, uint64_t now);
void ab_mm_sync_down(ab_mm_peer *peer);
void ab_mm_sync_tidy(ab_mm_peer *peer); /* frees what is not needed while nothing goes on */
int ab_mm_pump_send(ab_mm *mm, ab_mm_peer *peer, uint64_t now, ab_actions *actions);
uint64_t ab_mm_send_deadline(const ab_mm_peer *peer);
ab_mm_sync *ab_mm_sync_of(const ab_mm_peer *peer, const ab_mm_stream *stream);
void ab_mm_sync_drop(ab_mm_peer *peer, const ab_mm_stream *stream);

/* receive.c: from a peer to us */
int ab_mm_take_block(ab_mm *mm, ab_mm_peer *peer, const ab_event *event, uint64_t now, ab_actions *actions);
int ab_mm_pump_expect(ab_mm *mm, ab_mm_peer *peer, ab_actions *actions);

/* refused.c: what the log does not take */
void ab_mm_refused(ab_mm *mm, ab_mm_stream *stream, const ab_event *event, uint64_t now);
void ab_mm_ask_again(ab_mm *mm, uint64_t now);

/* diverged.c: two histories under one name */
void ab_mm_diverge(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, uint64_t index, bool tell);
void ab_mm_reconcile(ab_mm *mm, const ab_mm_peer *peer,
                     ab_mm_stream *stream); /* they do not differ after all */
void ab_mm_set_ignored(ab_mm *mm, ab_mm_stream *stream);
void ab_mm_forgive(ab_mm *mm, ab_mm_peer *peer);
bool ab_mm_same_history(const ab_mm_stream *stream, uint64_t index, uint64_t hash);
uint64_t ab_mm_known_hash(const ab_mm_stream *stream, uint64_t index); /* 0: only the log knows */
int ab_mm_pump_diverged(ab_mm *mm, ab_mm_peer *peer, ab_actions *actions);

/* rewind_record.c: what is kept of streams that get another history */
ab_mm_rewind *ab_mm_rewind_of(const ab_mm *mm,
                              ab_stream copy); /* NULL: it is no copy, or its first block is not here */
int ab_mm_rewind_add(ab_mm *mm, const ab_mm_rewind *record, ab_mm_rewind **added);
int ab_mm_rewind_persist(const ab_mm_rewind *rewind, ab_actions *actions);
int ab_mm_rewind_push(const ab_mm_rewind *record, uint64_t index, uint64_t hash, ab_actions *actions);
int ab_mm_rewind_pump_void(ab_mm_rewind *rewind, ab_actions *actions);
void ab_mm_rewind_voided(ab_mm *mm, ab_mm_rewind *rewind);
int ab_mm_rewinds_load(ab_mm *mm, const ab_core_init *init);
void ab_mm_rewinds_resume(ab_mm *mm);                      /* once the streams and the epoch are known */
void ab_mm_rewinds_recall(ab_mm *mm, ab_frontier applied); /* what the state machine itself says it has */
void ab_mm_rewinds_free(ab_mm *mm);
int ab_mm_rewinds_drop(ab_mm *mm, ab_stream stream, ab_actions *actions); /* it is folded */
int ab_mm_translate(const ab_mm *mm, ab_marks *marks);      /* a frontier that the state machine stored */
void ab_mm_rewinds_settle(ab_mm *mm, ab_frontier frontier); /* it stored this one */
ab_mm_rewind *ab_mm_rewind_pending(const ab_mm *mm, const ab_mm_stream *stream);
bool ab_mm_rewind_pins(const ab_mm *mm, const ab_mm_stream *stream); /* its marks must not be forgotten yet */
bool ab_mm_is_disowned(const ab_mm *mm, const ab_block_info *block);
int ab_mm_rewind_note(ab_mm *mm, const ab_block_info *block, ab_actions *actions); /* before it is logged */
int ab_mm_rewind_begin(ab_mm *mm, ab_mm_stream *stream, ab_block_origin origin);
uint64_t ab_mm_rewind_dep(const ab_mm *mm, const ab_mm_stream *stream, uint64_t index);
void ab_mm_rewind_copied(ab_mm *mm, const ab_block_info *block);
void ab_mm_rewind_loaded(ab_mm *mm, const ab_event *event, uint64_t now);
void ab_mm_rewound(ab_mm *mm, ab_mm_stream *stream, uint64_t now);
int ab_mm_pump_rewinds(ab_mm *mm, uint64_t now, ab_actions *actions);
uint64_t ab_mm_rewind_deadline(const ab_mm *mm);

/* fork.c: where two histories part */
void ab_mm_fork_free(ab_mm_stream *stream);
ab_mm_quest *ab_mm_quest_of(ab_mm_stream *stream); /* makes it if needed; NULL: no memory */
void ab_mm_quest_tidy(ab_mm_stream *stream);       /* frees it if nothing is looked for */
void ab_mm_quest_free(ab_mm_stream *stream);
uint64_t ab_mm_fork_failed(const ab_mm_stream *stream);
int ab_mm_pump_fork(ab_mm *mm, ab_mm_stream *stream, uint64_t now, ab_actions *actions);
void ab_mm_take_points(const ab_mm_peer *peer, ab_mm_stream *stream, const ab_mm_message *message);
int ab_mm_fork_loaded(ab_mm *mm, ab_mm_stream *stream, const ab_event *event, uint64_t now,
                      ab_actions *actions);
void ab_mm_take_history(ab_mm *mm, const ab_mm_peer *peer, ab_mm_stream *stream,
                        const ab_mm_message *message);
int ab_mm_pump_history(ab_mm *mm, ab_mm_stream *stream, uint64_t now, ab_actions *actions);
int ab_mm_history_loaded(ab_mm_stream *stream, const ab_event *event, ab_actions *actions);
uint64_t ab_mm_fork_deadline(const ab_mm_stream *stream);

/* prove.c: whether a peer's history of a stream is ours */
void ab_mm_doubt(ab_mm *mm, ab_mm_peer *peer); /* a new link */
void ab_mm_proven(ab_mm_stream *stream, const ab_mm_peer *peer);
void ab_mm_check_point(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, uint64_t index, uint64_t hash);
void ab_mm_prove_loaded(ab_mm *mm, ab_mm_stream *stream, const ab_event *event);
int ab_mm_pump_prove(ab_mm_stream *stream, uint64_t now, ab_actions *actions);
bool ab_mm_may_trim(ab_mm *mm, const ab_mm_stream *stream);

/* epoch.c: our own streams */
int ab_mm_pump_epoch(ab_mm *mm, ab_actions *actions);
int ab_mm_claimed(ab_mm *mm, ab_mm_stream *stream, uint64_t upto, uint64_t now);
void ab_mm_settle(ab_mm *mm, uint64_t now);
int ab_mm_seal(ab_mm *mm, uint64_t first, uint64_t last, ab_frontier *deps);
int ab_mm_pump_acked(ab_mm *mm, ab_actions *actions);
bool ab_mm_may_show(const ab_mm *mm, const ab_mm_stream *stream);

/* repair.c: what is fetched */
int ab_mm_want_tail(ab_mm *mm, ab_mm_stream *stream, uint64_t upto, uint64_t now);
int ab_mm_bad(ab_mm *mm, ab_mm_stream *stream, const ab_event *event, uint64_t now, ab_actions *actions);
bool ab_mm_repair_refused(ab_mm *mm, ab_mm_stream *stream, const ab_block_info *block, uint64_t now);
void ab_mm_set_limit(ab_mm_stream *stream);
void ab_mm_set_limits(ab_mm *mm); /* after the state machine gave blocks back */
void ab_mm_repaired(ab_mm *mm, ab_mm_stream *stream, const ab_block_info *block);
int ab_mm_repair_with(ab_mm *mm, ab_mm_peer *peer, ab_mm_stream *stream, const ab_event *event,
                      ab_actions *actions, bool *taken);
void ab_mm_learn(ab_mm_stream *stream, const ab_block_info *block);
void ab_mm_probe(ab_mm_stream *stream, uint64_t index);
void ab_mm_probed(ab_mm_stream *stream, const ab_event *event);
void ab_mm_take_trimmed(const ab_mm_peer *peer, ab_mm_stream *stream, uint64_t base, bool lost);
void ab_mm_want_progress(ab_mm *mm, ab_mm_stream *stream, uint64_t now);
void ab_mm_wants_wake(ab_mm *mm, const ab_mm_peer *peer, bool new_link, bool full, uint64_t now);
int ab_mm_pump_wants(ab_mm *mm, uint64_t now, ab_actions *actions);
uint64_t ab_mm_want_deadline(const ab_mm_stream *stream);
bool ab_mm_damaged(const ab_mm_stream *stream);
bool ab_mm_wants_starve(const ab_mm *mm);
bool ab_mm_is_stalled(const ab_mm *mm, const ab_mm_stream *stream);
uint64_t ab_mm_hopeless(const ab_mm_stream *stream, uint64_t index); /* end of its damaged block; 0: not so */
void ab_mm_wants_free(ab_mm_stream *stream);

/* lost.c: what nobody has any more */
void ab_mm_take_lack(const ab_mm_peer *peer, ab_mm_stream *stream, uint64_t first, uint64_t now);
int ab_mm_pump_lost(ab_mm *mm, ab_mm_stream *stream, uint64_t now, ab_actions *actions);
bool ab_mm_next_is_lost(const ab_mm_stream *stream, const ab_mm_want *want);
bool ab_mm_has_lost(const ab_mm_stream *stream);
uint64_t ab_mm_behind_lost(const ab_mm_stream *stream);
bool ab_mm_is_lost(const ab_mm_stream *stream, uint64_t index);
bool ab_mm_never_had(const ab_mm *mm, const ab_mm_peer *peer, const ab_mm_stream *stream,
                     const ab_mm_want *want);

/* trim.c */
uint64_t ab_mm_safe(const ab_mm *mm, const ab_mm_stream *stream);
void ab_mm_trim_soon(ab_mm *mm, uint64_t now);
int ab_mm_pump_trim(ab_mm *mm, uint64_t now, ab_actions *actions);

/* status.c */
void ab_mm_streams(const void *core, ab_stream_status_fn fn, void *arg);
void ab_mm_peers(const void *core, ab_peer_status_fn fn, void *arg);

#endif
