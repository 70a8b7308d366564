/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file internal.h
 * The transport as its own files see it, and which thread may touch what.
 *
 *  - A loop is a thread. A peer belongs to one loop for good, and so do its connections; the listener is loop
 * 0's, an accepted connection moves to its peer's loop once its greeting tells whose it is.
 *  - Members under "loop thread" are touched by that thread alone, without a lock.
 *  - Members under "loop lock" are guarded by `loop->lock`, which is held for a few instructions only, never
 * over a callback or a system call (but the one that wakes the loop).
 *  - What other threads want is left in the inbox; a loop empties it before it sleeps.
 */
#ifndef ANABRANCH_ENGINE_TRANSPORT_INTERNAL_H
#define ANABRANCH_ENGINE_TRANSPORT_INTERNAL_H

#include "engine/transport/frame.h"
#include "engine/transport/hello.h"
#include "engine/transport/resolve.h"
#include "engine/transport/timer.h"
#include "engine/transport/transport.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#define AB_PING_MS 5000u      /* default of ping_ms */
#define AB_DEAD_PINGS 3u      /* silent for so many of them: dead */
#define AB_LINGER_MS 1000u    /* how long a farewell may take */
#define AB_STRANGERS_MAX 128u /* accepted connections that have not said who they are */
#define AB_SCRATCH (64u * 1024)
#define AB_SCRATCH_BULK (4u * 1024) /* what a block's start costs in copying at most */
#define AB_FLIGHT_BUFS 128u         /* pieces in one system call */
#define AB_FLIGHT_BYTES (1u << 20)  /* and bytes: what a control message may have to wait for */
#define AB_CONTROL_MUCH                                                                                      \
    (64u * 1024) /* bytes of control frames that are not left waiting while there is more to read */
#define AB_OUT_SHARED 4000u /* bytes of control frames that share one piece of memory */

typedef struct ab_conn ab_conn;
typedef struct ab_peer ab_peer;
typedef struct ab_loop ab_loop;
typedef struct ab_stranger ab_stranger;

/** A frame that waits to be sent; or several control frames, one behind the other. */
typedef struct ab_out {
    struct ab_out *next;
    ab_peer *peer; /* whose queue counts it; NULL: nobody's (handshake) */
    ab_buf *buf;   /* BLOCK: its bytes, follow the head */
    size_t size;   /* on the wire */
    size_t head_size;
    size_t capacity; /* of the head */
    uint8_t head[];  /* header and a control frame's body */
} ab_out;

typedef struct ab_out_list {
    ab_out *head;
    ab_out *tail;
} ab_out_list;

typedef enum ab_conn_state {
    AB_CONN_CONNECTING,
    AB_CONN_HELLO,  /* waits for the other's greeting */
    AB_CONN_READY,  /* waits for the lower node id to choose this connection */
    AB_CONN_UP,     /* is the link */
    AB_CONN_LINGER, /* says goodbye; not a part of anything */
    AB_CONN_CLOSED  /* handles are being closed */
} ab_conn_state;

/** One TCP connection. All of it: loop thread. */
struct ab_conn {
    ab_loop *loop;
    ab_conn *next, *prev; /* all of the loop */
    ab_peer *peer;        /* NULL: no longer the peer's */
    ab_conn_state state;
    bool dialled;
    bool reading;   /* uv_read_start was called */
    bool stalled;   /* a block waits for memory */
    bool unproven;  /* chosen here, and nothing heard since */
    bool writing;   /* write_req is under way */
    bool shutdown;  /* shutdown_req was issued */
    bool penalized; /* its end counts as misbehaviour */
    unsigned handles;
    uv_tcp_t tcp;
    uv_timer_t timer; /* connect, handshake, first sign of life, linger */
    uv_connect_t connect_req;
    uv_write_t write_req;
    uv_shutdown_t shutdown_req;
    ab_reader reader;
    uint8_t *stash; /* stalled: received bytes behind the block's header */
    size_t stash_size;
    uint64_t stalled_at; /* ms */
    ab_out_list control; /* sent first, at frame boundaries */
    ab_out_list blocks;
    ab_out_list flight; /* handed to the kernel or being so */
    size_t flight_done; /* bytes of the first of them that are gone */
    uint64_t link_id;
    uint64_t heard_ms; /* uv_now of the last sign of life */
    uint64_t spoke_ms; /* of the last frame sent */
    uint64_t up_ms;    /* since when it is the link */
    ab_hello hello;    /* the other's, once it came */
    char address[64];
};

/** Another node. */
struct ab_peer {
    ab_transport *transport;
    ab_loop *loop;
    uint32_t node_id;
    uint16_t port;
    char *host; /* NULL: never dialled */

    /* loop thread */
    ab_conn *link;     /* stands */
    ab_conn *dialling; /* being made by us */
    ab_conn *incoming; /* being made by the peer */
    ab_resolve *resolve;
    ab_addresses addresses; /* not yet tried in this attempt */
    size_t address_next;
    uv_timer_t dial_timer;
    uint64_t dial_at_ms; /* of dial_timer, while active */
    uint64_t seen_link;  /* id of the last link that stood here */
    uint32_t failures;   /* attempts since it last stood */
    uint32_t penalty;    /* links in a row that ended in misbehaviour */
    uint64_t random;     /* for jitter */
    uint64_t told_ms;    /* when the same trouble was last told */
    ab_peer *work_next;

    /* any thread */
    _Atomic bool up;
    _Atomic uint64_t queued_control;
    _Atomic uint64_t queued_blocks;
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t heard_ms; /* 0: never */

    /* loop lock */
    bool dirty; /* in the loop's list */
    ab_peer *dirty_next;
    ab_out_list control;
    ab_out_list blocks;
    int drop_code; /* not AB_OK: somebody wants the link dropped */
    char drop_reason[AB_REASON_SIZE];
    bool dialled;
    char address[64];
    uint32_t shown_failures;
    uint64_t shown_dial_at_ms; /* 0: no attempt is planned */
    int last_code;
    char last_error[AB_REASON_SIZE];
};

/** An accepted connection on its way to its peer's loop. */
typedef struct ab_handover {
    struct ab_handover *next;
    ab_peer *peer;
    int fd;
    ab_hello hello;
} ab_handover;

struct ab_loop {
    ab_transport *transport;
    unsigned number;
    uv_loop_t uv;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_idle_t idle;   /* active while there is more to do than to sleep */
    uv_timer_t tick;  /* active while a link stands */
    uv_timer_t stall; /* active while a connection waits for memory */
    uv_timer_t alarm; /* loop 0: the timers by key */
    uv_poll_t listener;
    uv_timer_t accept_timer; /* active while accepting rests for lack of descriptors */
    int listen_fd;
    pthread_t thread;
    bool started; /* the thread */
    bool listening;
    bool stopping;
    bool paused;
    unsigned links;   /* standing */
    unsigned stalled; /* waiting for memory */
    unsigned strangers;
    ab_stranger *first_stranger;
    ab_conn *conns;
    uint64_t accept_told_ms;

    _Atomic bool asleep; /* set under the lock; cleared by whoever wakes */
    pthread_mutex_t lock;
    bool closed; /* takes nothing any more */
    bool stop;
    bool pause_changed;
    bool alarm_changed;
    ab_peer *dirty;
    ab_handover *handovers;

    uint8_t scratch[AB_SCRATCH];
};

struct ab_transport {
    ab_transport_callbacks callbacks;
    void *ctx;
    ab_hello self; /* greeting without `seen` */
    uint32_t retry_min_ms;
    uint32_t retry_max_ms;
    uint32_t ping_ms;
    uint64_t queue_max_bytes;
    ab_budget *budget;
    uint16_t port;
    _Atomic uint64_t next_link_id;
    _Atomic bool paused;

    pthread_mutex_t timers_lock;
    ab_timers timers;
    uint64_t alarm_at; /* when the alarm rings; UINT64_MAX: not set. timers_lock */

    ab_peer *peers;
    size_t peer_count;
    ab_loop *loops;
    unsigned loop_count;
};

/* loop.c */
int ab_loop_init(ab_transport *transport, ab_loop *loop, unsigned number);
int ab_loop_start(ab_loop *loop);
/** Asks the loop to close everything, waits until it has. Also for loops that were never started. */
void ab_loop_stop(ab_loop *loop);
void ab_loop_free(ab_loop *loop);
/** The loop is awake and will look into its inbox before it sleeps. Loop thread. */
void ab_loop_awake(ab_loop *loop);
/** Under the lock, after something was put into the inbox. */
void ab_loop_wake(ab_loop *loop);
/** Puts a peer into the inbox. Under the lock. */
void ab_loop_dirty(ab_peer *peer);
/** A connection waits for memory: it is tried again soon. */
void ab_loop_stalled(ab_loop *loop);
/** Whether the loop looks after standing links every ping_ms. */
void ab_loop_ticking(ab_loop *loop, bool on);
/** The peer's link is flushed before the loop sleeps. Loop thread. */
void ab_loop_flush_later(ab_peer *peer);
/** Flushes the peer's link now if so many control messages wait that they should not gather until the loop sleeps. The
 * connection may be closed afterwards. Loop thread. */
void ab_loop_flush_much(ab_peer *peer);
uint64_t ab_loop_now_ms(ab_loop *loop);

/* out.c */
ab_out *ab_out_control(ab_peer *peer, ab_frame_type type, ab_bytes prefix, ab_bytes body);
ab_out *ab_out_block(ab_peer *peer, ab_buf *block);
void ab_out_free(ab_out *out);
/** Copies the control frame `out` behind those of `last`. Whoever calls holds the list of `last`.
 * @return false: there is no room for it, or `last` is NULL */
bool ab_out_join(ab_out *last, const ab_out *out);
/** Makes room behind a small control frame for others, while it is in no list and if memory allows. May move it. */
ab_out *ab_out_widen(ab_out *out);
void ab_out_push(ab_out_list *list, ab_out *out);
ab_out *ab_out_pop(ab_out_list *list);
void ab_out_append(ab_out_list *list, ab_out_list *more);
void ab_out_clear(ab_out_list *list);

/* conn.c */
ab_conn *ab_conn_new(ab_loop *loop, ab_peer *peer, bool dialled);
/** Queues a control frame that is part of the handshake or of liveness. @return AB_OK, AB_ENOMEM */
int ab_conn_push(ab_conn *conn, ab_frame_type type, const void *body, size_t size);
/** Sends what is queued as far as the kernel takes it. The connection may be closed afterwards. */
void ab_conn_flush(ab_conn *conn);
void ab_conn_deadline(ab_conn *conn, uint64_t ms);
/** Starts or stops reading, as pause and memory allow. */
void ab_conn_update_reading(ab_conn *conn);
/** Tries again after a lack of memory. */
void ab_conn_unstall(ab_conn *conn);
/** Closes without a word. No effect on peer and link. */
void ab_conn_close(ab_conn *conn);
/** Closes after a farewell; `peer` is told apart from this. No effect on peer and link. */
void ab_conn_goodbye(ab_conn *conn, int code, const char *reason);
/** Sets the socket's options and reads the other side's address. */
void ab_conn_address(ab_conn *conn);
void ab_address_text(const ab_address *name, char text[64]);

/* link.c: what a connection means for its peer */
/** A frame came. @return false: the connection is of no more use */
bool ab_link_frame(ab_conn *conn, ab_frame *frame);
/** The connection failed or has to be given up; ends in its being closed. `tell`: with a farewell. */
void ab_link_fail(ab_conn *conn, int code, const char *reason, bool tell);
/** The deadline of the connection has passed. */
void ab_link_deadline(ab_conn *conn);
/** A connection that we dialled stands: greet. */
void ab_link_connected(ab_conn *conn);
/** An accepted connection and its greeting come to the peer's loop. Owns the handover. */
void ab_link_adopt(ab_handover *handover);
/** Pings and finds out who is dead. */
void ab_link_tick(ab_loop *loop);
/** Takes the link down at a stop. */
void ab_link_stop(ab_peer *peer);
/** Frames queued by other threads, and wishes to drop. */
void ab_link_work(ab_peer *peer);

/* dial.c */
void ab_dial_init(ab_peer *peer);
/** Plans the first attempt. */
void ab_dial_first(ab_peer *peer);
/** Plans the next attempt, unless there is one or nothing to do. */
void ab_dial_plan(ab_peer *peer);
/** The attempt failed: tries the next address if it failed in `connecting`, else counts and plans. */
void ab_dial_failed(ab_peer *peer, int code, const char *reason, bool connecting);
/** No attempt is wanted any more. */
void ab_dial_cancel(ab_peer *peer);
/** Takes the resolver's answer, if there is one. */
void ab_dial_resolved(ab_peer *peer);
void ab_dial_stop(ab_peer *peer);

/* listen.c */
int ab_listen(ab_loop *loop, const char *host, uint16_t port, ab_message *message);
void ab_listen_stop(ab_loop *loop);

/* stranger.c */
/** Listens to an accepted connection. @return AB_OK (owns `fd`), AB_ENOMEM */
int ab_stranger_new(ab_loop *loop, int fd);
void ab_stranger_stop(ab_loop *loop);

/* report.c */
__attribute__((format(printf, 3, 4))) void ab_report(ab_transport *transport, ab_severity severity,
                                                     const char *format, ...);
/** Notes the trouble with a peer for its status and tells the operator, at most once a minute if it is the
 * same. */
void ab_report_peer(ab_peer *peer, int code, const char *text);
/** Refreshes what other threads see of the peer's attempts. */
void ab_report_show(ab_peer *peer);

ab_peer *ab_transport_find(const ab_transport *transport, uint32_t node_id);

#endif
