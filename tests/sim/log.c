/* SPDX-License-Identifier: Apache-2.0 */
/* The log thread of a node: group commit with latency, what it refuses, what a crash leaves of a commit. One thread. */
#include "tests/sim/sim.h"

#include "tests/sim/words.h"
#include <stdlib.h>
#include <string.h>

#define FULL_RETRY (50 * MS)

void log_kick(sim_node *n)
{
    if (n->take_due || !n->alive || (n->committing && !n->w->k.interval)) {
        return;
    }
    n->take_due = true;
    schedule(n->w, rng_range(&n->w->rng, 1, MS / 20),
             (sim_event){.kind = E_TAKE, .node = n->position, .generation = n->generation});
}

/* Seals the open block, if there is one. */
static void seal_open(sim_node *n)
{
    world *w = n->w;
    if (n->open_count == 0 || n->append.stream.node == 0) {
        return;
    }
    ab_frontier deps = {0};
    uint64_t first = n->append.index + 1;
    uint64_t last = n->append.index + n->open_count;
    int code = n->backend->seal(n->core, first, last, &deps);
    if (code != AB_OK) {
        fail(w, "node %u: seal of %llu-%llu refused with %d", n->id, (unsigned long long)first,
             (unsigned long long)last, code);
        return;
    }
    sim_block *block = block_make(w, n, n->open, n->open_count, deps);
    say_sealed(w, n->id, block);
    n->append.index = block->last;
    n->append_hash = block->hash;
    n->open_count = 0;
    ops_push(&n->queue, (op){.type = OP_BLOCK, .block = block});
    if (n->ticket_count == n->ticket_capacity) {
        n->ticket_capacity = n->ticket_capacity == 0 ? 16 : n->ticket_capacity * 2;
        n->tickets = realloc(n->tickets, n->ticket_capacity * sizeof(sim_block *));
    }
    n->tickets[n->ticket_count++] = block;
}

static void announce(sim_node *n, op *item)
{
    ab_block_info info;
    item->announced = true;
    disk_append(n->w, n, item->block);
    block_info(item->block, &info);
    node_step(n, &(ab_event){.type = AB_EV_LOGGED, .block = &info});
}

static uint64_t commit_latency(sim_node *n)
{
    world *w = n->w;
    if (n->slow_disk) {
        note(w, F_DISK_SLOW);
        return rng_range(&w->rng, 50 * MS, 400 * MS);
    }
    return rng_range(&w->rng, w->k.commit_min, w->k.commit_max);
}

void log_take(sim_node *n)
{
    world *w = n->w;
    n->take_due = false;
    if (n->committing && !w->k.interval) {
        return;
    }
    seal_open(n);
    if (n->queue.count == 0 || w->failed) {
        return;
    }
    size_t start = n->batch.count;
    for (size_t i = 0; i < n->queue.count; i++) {
        ops_push(&n->batch, n->queue.items[i]);
    }
    n->queue.count = 0;
    bool now = w->k.interval || w->ack_early;
    for (size_t i = start; now && i < n->batch.count && !n->crashing; i++) {
        if (n->batch.items[i].type == OP_BLOCK) {
            announce(n, &n->batch.items[i]);
        }
    }
    if (n->commit_due) {
        return;
    }
    n->commit_due = true;
    sim_event commit = {.kind = E_COMMIT, .node = n->position, .generation = n->generation};
    if (w->k.interval) {
        schedule(w, n->stopping ? 1 : w->k.interval_ns, commit);
    } else {
        n->committing = true;
        n->batch_in_flight = n->batch.count;
        commit.a = 1;
        schedule(w, commit_latency(n), commit);
    }
}

/* Under `interval` the engine's log thread announces nothing while it commits, which this fake does. Nor the first own block
 * of a stream: the node would take no more writes. */
static bool may_refuse(const sim_node *n, const op *item)
{
    if (item->type == OP_REPAIR) {
        return n->refuse_repair;
    }
    bool first_own = item->type == OP_BLOCK && item->block->stream.node == n->id && item->block->first == 1;
    return n->refuse && item->type == OP_BLOCK && !n->w->k.interval && !item->announced && !first_own;
}

static void forget_tickets(sim_node *n, const sim_block *refused)
{
    size_t kept = 0;
    for (size_t i = 0; i < n->ticket_count; i++) {
        bool gone = n->tickets[i]->sid == refused->sid && n->tickets[i]->first >= refused->first;
        n->tickets[kept] = n->tickets[i];
        kept += !gone;
    }
    n->ticket_count = kept;
}

/* Splits off what the log refuses of a commit: one block if that is the fault, and all that does not follow without it.
 * @return how many operations are left */
static size_t refuse_some(sim_node *n, op *done, size_t count, ops *refused)
{
    size_t kept = 0;
    uint64_t end[STREAMS_MAX];
    for (int sid = 0; sid < n->w->stream_count; sid++) {
        end[sid] = disk_stream_of(&n->disk, sid)->durable;
    }
    for (size_t i = 0; i < count; i++) {
        const sim_block *block = done[i].block;
        bool now = may_refuse(n, &done[i]);
        if (now || (done[i].type == OP_BLOCK && block->first > end[block->sid] + 1)) {
            *(done[i].type == OP_REPAIR ? &n->refuse_repair : &n->refuse) &= !now;
            note(n->w, done[i].type == OP_REPAIR ? F_REPAIR_REFUSED : F_REFUSED);
            ops_push(refused, done[i]);
            if (done[i].type == OP_BLOCK) {
                forget_tickets(n, block);
            }
            continue;
        }
        if (done[i].type == OP_BLOCK) {
            end[block->sid] = block->last;
        }
        done[kept++] = done[i];
    }
    return kept;
}

static void tell_refused(sim_node *n, const ops *refused)
{
    ab_block_info info;
    for (size_t i = 0; i < refused->count; i++) {
        const sim_block *block = refused->items[i].block;
        say(n->w, "n%u: the log refuses %u.%u:%llu-%llu", n->id, block->stream.node, block->stream.epoch,
            (unsigned long long)block->first, (unsigned long long)block->last);
        block_info(block, &info);
        node_step(n, &(ab_event){.type = AB_EV_REFUSED, .block = &info, .code = AB_ECORRUPT});
    }
}

/* What one operation leaves on the disk once it is committed. */
static void put(sim_node *n, const op *item)
{
    world *w = n->w;
    disk_stream *s = NULL;
    disk_block *old = NULL;
    switch (item->type) {
    case OP_BLOCK:
        s = disk_stream_of(&n->disk, item->block->sid);
        old = disk_find(s, item->block->first);
        if (!item->announced &&
            (old == NULL || old->block != item->block)) { /* the same one counts as done */
            disk_append(w, n, item->block);
        }
        if (s->durable >= item->block->last) {
            break;
        }
        s->durable = item->block->last;
        if (s->durable > n->ever_durable[item->block->sid]) {
            n->ever_durable[item->block->sid] = s->durable;
        }
        break;
    case OP_REPAIR:
        s = disk_stream_of(&n->disk, item->block->sid);
        old = disk_find(s, item->block->first);
        if (old == NULL) {
            break; /* trimmed meanwhile */
        }
        if (old->block != item->block) {
            fail(w, "node %u: repair of stream %u.%u at %llu puts another block there", n->id,
                 item->block->stream.node, item->block->stream.epoch, (unsigned long long)item->block->first);
        }
        old->bad = false;
        note(w, F_REPAIRED);
        break;
    case OP_VALUE:
        disk_put_value(n, &item->value);
        break;
    case OP_FORGET:
        disk_forget(n, item);
        break;
    case OP_REWIND:
        disk_put_value(n, &item->value);
        disk_rewind(n, item);
        break;
    case OP_TRIM:
        disk_trim(w, n, item->sid, item->index);
        break;
    }
}

/* Says what a commit made durable: LOGGED (or REPAIRED) per block, DURABLE per stream. */
static void tell(sim_node *n, const op *done, size_t count)
{
    ab_block_info info;
    for (size_t i = 0; i < count && !n->crashing; i++) {
        if (done[i].type != OP_BLOCK && done[i].type != OP_REPAIR) {
            continue;
        }
        block_info(done[i].block, &info);
        if (done[i].type == OP_REPAIR) {
            node_step(n, &(ab_event){.type = AB_EV_REPAIRED, .block = &info});
        } else if (!done[i].announced) {
            node_step(n, &(ab_event){.type = AB_EV_LOGGED, .block = &info});
        }
    }
    for (size_t i = 0; i < count && !n->crashing; i++) {
        bool last = done[i].type == OP_BLOCK;
        for (size_t k = i + 1; last && k < count; k++) {
            last = done[k].type != OP_BLOCK || done[k].block->sid != done[i].block->sid;
        }
        if (last) {
            ab_mark mark = {done[i].block->stream, done[i].block->last};
            node_step(n, &(ab_event){.type = AB_EV_DURABLE, .mark = mark});
        }
    }
    for (size_t i = 0; i < count && !n->crashing; i++) {
        if (done[i].type == OP_REWIND) {
            ab_mark mark = {n->w->streams[done[i].sid], done[i].index};
            say(n->w, "n%u went back to %u.%u:%llu", n->id, mark.stream.node, mark.stream.epoch,
                (unsigned long long)mark.index);
            node_step(n, &(ab_event){.type = AB_EV_REWOUND, .mark = mark});
        }
    }
}

void log_commit(sim_node *n)
{
    world *w = n->w;
    sim_event again = {.kind = E_COMMIT, .node = n->position, .generation = n->generation, .a = 1};
    if (!n->committing) {
        n->committing = true;
        n->batch_in_flight = n->batch.count;
        schedule(w, commit_latency(n), again);
        return;
    }
    if (n->full) {
        note(w, F_DISK_FULL);
        schedule(w, FULL_RETRY, again);
        return;
    }
    size_t count = n->batch_in_flight;
    op *done = malloc((count + 1) * sizeof *done);
    memcpy(done, n->batch.items, count * sizeof *done);
    n->batch.count -= count;
    memmove(n->batch.items, n->batch.items + count, n->batch.count * sizeof *n->batch.items);
    n->batch_in_flight = 0;
    n->committing = n->commit_due = false;
    ops refused = {.items = NULL};
    count = refuse_some(n, done, count, &refused);
    say(w, "n%u commits %zu", n->id, count);
    for (size_t i = 0; i < count && !w->failed; i++) {
        put(n, &done[i]);
    }
    tell(n, done, count);
    tell_refused(n, &refused);
    free(refused.items);
    free(done);
    if (n->batch.count > 0 && !n->commit_due) {
        n->commit_due = true;
        again.a = 0;
        schedule(w, n->stopping ? 1 : w->k.interval_ns, again);
    }
    log_kick(n);
}

/* A commit that was under way may have made it, whole or cut; what comes after it is gone. */
void disk_crash(sim_node *n)
{
    world *w = n->w;
    size_t kept = 0;
    if (n->committing && !n->full) {
        uint64_t choice = rng_below(&w->rng, 3);
        kept = choice == 0   ? 0
               : choice == 1 ? n->batch_in_flight
                             : rng_below(&w->rng, n->batch_in_flight + 1);
        if (kept > 0 && kept < n->batch_in_flight) {
            note(w, F_BATCH_CUT);
        }
    }
    for (size_t i = 0; i < kept; i++) {
        const op *item = &n->batch.items[i];
        bool gap = item->type == OP_BLOCK && !item->announced &&
                   item->block->first > disk_last(disk_stream_of(&n->disk, item->block->sid)) + 1;
        if (!gap) { /* else what came before it was refused */
            put(n, item);
        }
    }
    bool lost = false;
    for (size_t i = kept; i < n->batch.count; i++) {
        if (n->batch.items[i].type == OP_BLOCK && n->batch.items[i].announced) {
            check_lost(w, n, n->batch.items[i].block);
            lost = true;
        }
    }
    for (int sid = 0; sid < w->stream_count; sid++) {
        disk_stream *s = disk_stream_of(&n->disk, sid);
        disk_truncate(&n->disk, sid, s->durable > s->base ? s->durable : s->base);
    }
    if (lost) {
        note(w, F_TAIL_LOST);
    }
    n->batch.count = n->queue.count = n->batch_in_flight = 0;
    n->committing = n->commit_due = n->take_due = false;
    n->disk.tail_safe &= !w->k.interval;
}
