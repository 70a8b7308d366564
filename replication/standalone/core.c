/* SPDX-License-Identifier: Apache-2.0 */
/* Standalone: log, apply, acknowledge. A sans-I/O core: any thread, one call at a time.
 *
 * There is nobody to ask for what is missing, so dependencies on entries that the log does not have are not waited
 * for (a log that was multimaster before may hold such), and a damaged block is lost at once: it is reported, and the state
 * machine goes on after it. */
#include "replication/backends.h"
#include "replication/epoch.h"
#include "replication/frontier.h"
#include "replication/order.h"
#include "replication/reads.h"

#include <stdlib.h>
#include <string.h>

/* A stream, and the end of its damaged range. */
typedef struct sa_stream {
    ab_order_stream o; /* first: the order holds pointers to it */
    uint64_t bad_last;
    uint64_t bad_told; /* the damaged range that was reported last */
} sa_stream;

typedef struct core {
    ab_order order;
    ab_reads reads;
    ab_order_stream *own; /* where local writes go */
    uint64_t acked;       /* of it, announced */
    uint64_t sealed;      /* of it */
    uint64_t gossip_ns;   /* least time between two trims of the group */
    uint64_t trim_at;     /* something may be trimmed from then on; AB_NEVER: nothing new */
    uint64_t again_at;    /* an action could not be stored: try then; AB_NEVER */
    int refused;          /* the log refused a block of `own`: why */
    uint32_t self;
    uint32_t wall_seconds;
    ab_marks left;   /* at the start: folded streams of which log or state machine still know */
    ab_marks before; /* what log and state machine had of other streams when the group was opened */
    bool carried;    /* a block of this run says that it comes after those */
    bool kept;       /* the epoch is the stored one */
    bool certain;    /* whatever happens, no epoch before the current one is chosen again */
    bool started;
    bool announced; /* where local writes go */
} core;

static void destroy(void *opaque)
{
    core *self = opaque;
    if (self == NULL) {
        return;
    }
    for (uint32_t i = 0; i < self->order.count; i++) {
        ab_order_stream_clear(self->order.streams[i]);
        free(self->order.streams[i]);
    }
    ab_order_free(&self->order);
    ab_reads_free(&self->reads);
    ab_marks_free(&self->before);
    ab_marks_free(&self->left);
    free(self);
}

static int stream_of(core *self, ab_stream name, ab_order_stream **found)
{
    *found = ab_order_find(&self->order, name);
    if (*found != NULL) {
        return AB_OK;
    }
    sa_stream *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return AB_ENOMEM;
    }
    made->o.stream = name;
    int code = ab_order_add(&self->order, &made->o);
    if (code != AB_OK) {
        free(made);
        return code;
    }
    *found = &made->o;
    return AB_OK;
}

static int load_init(core *self, const ab_core_init *init)
{
    ab_order_stream *stream = NULL;
    int code = ab_folds_load(&self->order.folds, init, &self->left);
    for (size_t i = 0; code == AB_OK && i < init->stream_count; i++) {
        if (ab_folds_has(&self->order.folds, init->streams[i].stream)) {
            continue;
        }
        code = stream_of(self, init->streams[i].stream, &stream);
        if (code == AB_OK) {
            ab_order_open(stream, &init->streams[i]);
        }
    }
    for (size_t i = 0; code == AB_OK && i < init->applied.count; i++) {
        if (ab_folds_has(&self->order.folds, init->applied.marks[i].stream)) {
            continue;
        }
        code = stream_of(self, init->applied.marks[i].stream, &stream);
        if (code == AB_OK) {
            stream->given = stream->applied = stream->checkpointed = init->applied.marks[i].index;
        }
    }
    uint32_t epoch = 0;
    if (code == AB_OK) {
        code = ab_epoch_choose(init, &epoch, &self->kept);
        self->certain = self->kept || !init->tail_safe;
    }
    if (code == AB_OK) {
        code = stream_of(self, (ab_stream){init->self, epoch}, &self->own);
    }
    for (uint32_t i = 0; code == AB_OK && i < self->order.count; i++) {
        stream = self->order.streams[i];
        uint64_t has = stream->last > stream->applied ? stream->last : stream->applied;
        if (stream != self->own) {
            code = ab_marks_set(&self->before, (ab_mark){stream->stream, has});
        }
    }
    return code;
}

static int create(const ab_core_init *init, void **made)
{
    if (init->self == 0 || !ab_frontier_valid(init->applied)) {
        return AB_EINVAL;
    }
    core *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return AB_ENOMEM;
    }
    self->order.causal = true; /* one writer: its older streams come before its newer ones */
    self->order.force = true;
    self->self = init->self;
    self->wall_seconds = init->wall_seconds;
    self->gossip_ns = (uint64_t)init->gossip_ms * 1000000u;
    self->again_at = self->trim_at = AB_NEVER;
    int code = load_init(self, init);
    if (code != AB_OK) {
        destroy(self);
        return code;
    }
    self->acked = self->sealed = self->own->last;
    *made = self;
    return AB_OK;
}

static uint64_t safe_index(const ab_order_stream *stream)
{
    return stream->durable < stream->checkpointed ? stream->durable : stream->checkpointed;
}

/* Our old streams go, the oldest first, once log and state machine have them for good and nothing is left to trim. */
static int fold_one(core *self, ab_order_stream *stream, ab_actions *actions, bool *folded)
{
    ab_fold *fold = NULL;
    stream->ended = stream->last; /* nobody else writes to it, nor do we again */
    if (!ab_order_is_over(&self->order, stream) || stream->base < stream->last) {
        return AB_OK;
    }
    int code = ab_folds_of(&self->order.folds, stream->stream.node, &fold);
    if (code != AB_OK) {
        return code;
    }
    ab_fold next = *fold;
    ab_fold_add(&next, stream->stream.epoch, stream->last, stream->last_hash);
    code = ab_fold_push(&next, actions);
    if (code == AB_OK) {
        *fold = next;
        *folded = true;
        ab_order_remove(&self->order, stream);
        ab_order_stream_clear(stream);
        free(stream);
    }
    return code;
}

static int fold_old(core *self, ab_actions *actions)
{
    int code = AB_OK;
    bool folded = self->certain || self->own->durable > 0; /* else an older epoch might be chosen again */
    while (code == AB_OK && folded) {
        uint32_t i = 0;
        while (self->order.streams[i]->stream.node != self->self) {
            i++;
        }
        ab_order_stream *oldest = self->order.streams[i];
        folded = false;
        code = oldest != self->own ? fold_one(self, oldest, actions, &folded) : AB_OK;
    }
    return code;
}

static int trim(core *self, uint64_t now, ab_actions *actions)
{
    if (now < self->trim_at) {
        return AB_OK;
    }
    for (uint32_t i = 0; i < self->order.count; i++) {
        ab_order_stream *stream = self->order.streams[i];
        ab_action action = {.type = AB_ACT_TRIM, .mark = {stream->stream, safe_index(stream)}};
        if (action.mark.index <= stream->base) {
            continue;
        }
        int code = ab_actions_push(actions, &action);
        if (code != AB_OK) {
            return code;
        }
        stream->base = action.mark.index;
        stream->base_hash = 0;
    }
    int code = fold_old(self, actions);
    if (code == AB_OK) {
        self->trim_at = AB_NEVER;
    }
    return code;
}

static int acknowledge(core *self, ab_actions *actions)
{
    uint64_t upto = self->own->last < self->sealed ? self->own->last : self->sealed;
    /* Until a commit has kept something of a new epoch, the epoch itself may be lost, and chosen again. */
    bool may_show = self->kept || self->own->durable > 0;
    if (upto <= self->acked || !may_show) {
        return AB_OK;
    }
    ab_action acked = {
        .type = AB_ACT_ACKED, .write_level = AB_WRITE_LOCAL, .mark = {self->own->stream, upto}};
    int code = ab_actions_push(actions, &acked);
    if (code == AB_OK) {
        self->acked = upto;
    }
    return code;
}

static int report_damage(const ab_event *event, ab_actions *actions)
{
    static const char text[] =
        "a damaged block that no other member has: its entries are lost, the state machine goes on after it";
    ab_action report = {.type = AB_ACT_REPORT,
                        .severity = AB_LOG_ERROR,
                        .code = AB_ECORRUPT,
                        .mark = {event->block->stream, event->block->first},
                        .data = {text, sizeof text - 1}};
    return ab_actions_push(actions, &report);
}

static int damaged(sa_stream *stream, const ab_event *event, ab_actions *actions)
{
    if (event->block->first == 0) {
        return AB_OK;
    }
    int code = event->block->first != stream->bad_told ? report_damage(event, actions) : AB_OK;
    if (code != AB_OK) {
        return code;
    }
    stream->bad_told = event->block->first;
    bool lower = stream->o.bad_first == 0 || event->block->first < stream->o.bad_first;
    if (lower && event->block->last > stream->o.given) {
        stream->o.bad_first = event->block->first;
        stream->bad_last = event->block->last;
    }
    return AB_OK;
}

/* The log takes no more of our stream. Another one may do; if it is new already, writes stay refused. */
static void refused(core *self, ab_order_stream *stream, const ab_event *event)
{
    uint64_t last = event->block->first - 1;
    if (stream != self->own || event->block->first > self->sealed) {
        return; /* the second: what came after a refused one */
    }
    if (stream->last > last) {
        ab_order_cut(stream, last, event->block->prev_hash);
    }
    self->sealed = last;
    self->refused = event->code;
}

/* A read waits for everything that is logged when it arrives, and for what its token has seen. */
static int read_barrier(core *self, const ab_event *event, uint64_t now)
{
    ab_marks logged = {0};
    int code = AB_OK;
    for (uint32_t i = 0; code == AB_OK && i < self->order.count; i++) {
        const ab_order_stream *stream = self->order.streams[i];
        if (stream->last > 0) {
            code = ab_marks_set(&logged, (ab_mark){stream->stream, stream->last});
        }
    }
    if (code == AB_OK) {
        code = ab_marks_merge(&logged, event->frontier);
    }
    if (code == AB_OK) {
        code = ab_reads_add(&self->reads, event->ticket, ab_marks_view(&logged), now, event->timeout_ns);
    }
    ab_marks_free(&logged);
    return code;
}

/* Events about one stream. */
static int stream_event(core *self, const ab_event *event, uint64_t now, ab_actions *actions)
{
    ab_stream name = event->block != NULL ? event->block->stream : event->mark.stream;
    ab_order_stream *stream = ab_order_find(&self->order, name);
    if (stream == NULL) {
        return ab_folds_has(&self->order.folds, name) ? AB_OK : AB_EINVAL;
    }
    switch (event->type) {
    case AB_EV_LOGGED:
        ab_order_logged(stream, event->block);
        return AB_OK;
    case AB_EV_DURABLE:
        stream->durable = event->mark.index > stream->durable ? event->mark.index : stream->durable;
        break;
    case AB_EV_APPLIED:
        return ab_order_applied(&self->order, stream, event->mark.index);
    case AB_EV_LOADED:
        return ab_order_loaded(stream, event, now);
    case AB_EV_BAD:
        return damaged((sa_stream *)stream, event, actions);
    case AB_EV_REPAIRED:
        stream->bad_first = ((sa_stream *)stream)->bad_told = 0;
        return AB_OK;
    case AB_EV_REFUSED:
        refused(self, stream, event);
        return AB_OK;
    default:
        return AB_EINVAL;
    }
    if (self->trim_at == AB_NEVER) {
        self->trim_at = now + self->gossip_ns;
    }
    return AB_OK;
}

static void checkpointed(core *self, ab_frontier frontier, uint64_t now)
{
    for (size_t i = 0; i < frontier.count; i++) {
        ab_order_stream *stream = ab_order_find(&self->order, frontier.marks[i].stream);
        if (stream != NULL && frontier.marks[i].index > stream->checkpointed) {
            stream->checkpointed = frontier.marks[i].index;
            self->trim_at = self->trim_at == AB_NEVER ? now + self->gossip_ns : self->trim_at;
        }
    }
}

static int take(core *self, const ab_event *event, uint64_t now, ab_actions *actions)
{
    switch (event->type) {
    case AB_EV_START:
        self->started = true;
        self->trim_at = self->order.count > 1 ? now : AB_NEVER; /* there may be old streams to fold */
        return AB_OK;
    case AB_EV_TIMER:
        return AB_OK;
    case AB_EV_UNAPPLIED:
        ab_order_take_back(&self->order, event->mark);
        return AB_OK;
    case AB_EV_CHECKPOINTED:
        checkpointed(self, event->frontier, now);
        return AB_OK;
    case AB_EV_READ:
        return read_barrier(self, event, now);
    case AB_EV_PEER_UP:
    case AB_EV_PEER_DOWN:
    case AB_EV_MESSAGE:
    case AB_EV_BLOCK:
    case AB_EV_SENT:
        return AB_EINVAL;
    default:
        return event->type == AB_EV_APPLIED || event->type == AB_EV_DURABLE || event->type == AB_EV_LOADED ||
                       event->block != NULL
                   ? stream_event(self, event, now, actions)
                   : AB_EINVAL;
    }
}

static int announce(core *self, ab_actions *actions)
{
    if (self->announced) {
        return AB_OK;
    }
    int code = ab_epoch_announce((ab_mark){self->own->stream, self->own->last}, self->own->last_hash,
                                 !self->kept, actions);
    if (code == AB_OK) {
        code = ab_order_report_gaps(&self->order, actions);
    }
    if (code == AB_OK) {
        code = ab_folds_push_left(&self->order.folds, &self->left, actions);
    }
    self->announced = code == AB_OK;
    return code;
}

/* Another damaged block behind it is found when it is read. */
static void skip_lost(core *self)
{
    for (uint32_t i = 0; i < self->order.count; i++) {
        ab_order_stream *stream = self->order.streams[i];
        if (stream->bad_first != 0 &&
            ab_order_pass(stream, stream->bad_first, ((sa_stream *)stream)->bad_last)) {
            stream->bad_first = 0;
        }
    }
}

/* Leaves the stream of which the log takes no more, for a new one that comes after it. */
static int start_new(core *self, ab_actions *actions)
{
    uint32_t epoch = 0;
    ab_order_stream *stream = NULL;
    int code = ab_epoch_after(self->own->stream.epoch, 0, self->wall_seconds, &epoch);
    if (code == AB_OK) {
        code = ab_marks_set(&self->before, (ab_mark){self->own->stream, self->own->last});
    }
    if (code == AB_OK) {
        code = stream_of(self, (ab_stream){self->self, epoch}, &stream);
    }
    if (code == AB_OK) {
        code = ab_epoch_announce((ab_mark){stream->stream, 0}, 0, true, actions);
    }
    if (code == AB_OK) {
        self->own = stream;
        self->kept = self->carried = self->certain = false;
        self->acked = self->sealed = 0;
    }
    return code;
}

static int leave_stream(core *self, ab_actions *actions)
{
    if (self->refused == AB_OK) {
        return AB_OK;
    }
    ab_action closed = {.type = AB_ACT_APPEND, .mark = {self->own->stream, 0}, .code = self->refused};
    int code = self->own->last > 0 ? start_new(self, actions) : ab_actions_push(actions, &closed);
    self->refused = code == AB_OK ? AB_OK : self->refused;
    return code;
}

static int pump(core *self, uint64_t now, ab_actions *actions)
{
    int code = announce(self, actions);
    if (code == AB_OK) {
        code = acknowledge(self, actions);
    }
    if (code == AB_OK) {
        code = leave_stream(self, actions);
    }
    skip_lost(self);
    if (code == AB_OK) {
        code = ab_order_pump(&self->order, now, actions);
    }
    if (code == AB_OK) {
        code = trim(self, now, actions);
    }
    if (code == AB_OK) {
        code = ab_reads_pump(&self->reads, &self->order, now, actions);
    }
    return code;
}

static int step(void *opaque, const ab_event *event, uint64_t now, ab_actions *actions)
{
    core *self = opaque;
    int taken = take(self, event, now, actions);
    int pumped = self->started ? pump(self, now, actions) : AB_OK;
    self->again_at = pumped == AB_OK ? AB_NEVER : now + 1000000u;
    return taken != AB_OK ? taken : pumped;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t deadline(const void *opaque)
{
    const core *self = opaque;
    if (self->again_at != AB_NEVER) {
        return self->again_at;
    }
    return least(self->trim_at, least(ab_reads_deadline(&self->reads), ab_order_deadline(&self->order)));
}

static int seal(void *opaque, uint64_t first, uint64_t last, ab_frontier *deps)
{
    core *self = opaque;
    if (first <= self->own->last || first > self->sealed + 1 || last < first) {
        return AB_EINVAL;
    }
    self->carried &= first == self->sealed + 1; /* else the driver gave up a sealed block */
    self->sealed = last;
    *deps = self->carried ? (ab_frontier){NULL, 0} : ab_marks_view(&self->before);
    self->carried = true;
    return AB_OK;
}

static void streams(const void *opaque, ab_stream_status_fn fn, void *arg)
{
    const core *self = opaque;
    for (uint32_t i = 0; i < self->order.count; i++) {
        const ab_order_stream *stream = self->order.streams[i];
        bool bad = ((const sa_stream *)stream)->bad_told != 0;
        ab_stream_status status = {.stream = stream->stream,
                                   .base = stream->base,
                                   .logged = stream->last,
                                   .durable = stream->durable,
                                   .applied = stream->applied,
                                   .safe = safe_index(stream),
                                   .code = bad                        ? AB_ECORRUPT
                                           : ab_order_has_gap(stream) ? AB_ETRIMMED
                                                                      : AB_OK};
        if (!fn(arg, &status)) {
            return;
        }
    }
}

static void peers(const void *opaque, ab_peer_status_fn fn, void *arg)
{
    (void)opaque;
    (void)fn;
    (void)arg;
}

const ab_backend ab_backend_standalone = {.version = AB_BACKEND_VERSION,
                                          .name = "standalone",
                                          .create = create,
                                          .destroy = destroy,
                                          .step = step,
                                          .deadline = deadline,
                                          .seal = seal,
                                          .streams = streams,
                                          .peers = peers};
