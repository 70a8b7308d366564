/* SPDX-License-Identifier: Apache-2.0 */
/* The fake log of a node: group commit with latency, a durable prefix per stream, what a crash leaves of it. One thread. */
#include "tests/sim/sim.h"

#include "replication/epoch.h"
#include "tests/sim/words.h"
#include <stdlib.h>
#include <string.h>

#define FULL_RETRY (50 * MS)

disk_stream *disk_stream_of(disk *d, int sid)
{
    return &d->streams[sid];
}

uint64_t disk_last(const disk_stream *s)
{
    return s->count > 0 ? s->blocks[s->count - 1].block->last : s->base;
}

uint64_t disk_last_hash(const disk_stream *s)
{
    return s->count > 0 ? s->blocks[s->count - 1].block->hash : s->base_hash;
}

disk_block *disk_find(disk_stream *s, uint64_t index)
{
    size_t low = 0;
    size_t high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->blocks[middle].block->last < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < s->count && s->blocks[low].block->first <= index ? &s->blocks[low] : NULL;
}

void disk_append(world *w, sim_node *n, sim_block *block)
{
    disk_stream *s = disk_stream_of(&n->disk, block->sid);
    if (block->first != disk_last(s) + 1 || block->prev_hash != disk_last_hash(s)) {
        fail(w, "node %u: block %llu-%llu of stream %u.%u does not follow its log, which ends at %llu", n->id,
             (unsigned long long)block->first, (unsigned long long)block->last, block->stream.node,
             block->stream.epoch, (unsigned long long)disk_last(s));
        return;
    }
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 16 : s->capacity * 2;
        s->blocks = realloc(s->blocks, s->capacity * sizeof *s->blocks);
    }
    s->blocks[s->count++] = (disk_block){block, false};
}

void disk_truncate(disk *d, int sid, uint64_t index)
{
    disk_stream *s = disk_stream_of(d, sid);
    while (s->count > 0 && s->blocks[s->count - 1].block->last > index) {
        s->count--;
    }
}

uint32_t disk_epoch(const disk *d)
{
    for (size_t i = 0; i < d->value_count; i++) {
        const sim_value *v = &d->values[i];
        if (v->key_size == strlen(AB_EPOCH_KEY) && memcmp(v->key, AB_EPOCH_KEY, v->key_size) == 0) {
            return (uint32_t)v->data[0] | (uint32_t)v->data[1] << 8 | (uint32_t)v->data[2] << 16 |
                   (uint32_t)v->data[3] << 24;
        }
    }
    return 0;
}

void value_set(sim_value *value, ab_bytes key, ab_bytes data)
{
    memcpy(value->key, key.data, key.size);
    if (data.size > 0) {
        memcpy(value->data, data.data, data.size);
    }
    value->key_size = key.size;
    value->size = data.size;
}

static void put_value(sim_node *n, const sim_value *value)
{
    disk *d = &n->disk;
    size_t i = 0;
    while (i < d->value_count && (d->values[i].key_size != value->key_size ||
                                  memcmp(d->values[i].key, value->key, value->key_size) != 0)) {
        i++;
    }
    if (value->size == 0) { /* forgets it */
        d->values[i] = i < d->value_count ? d->values[--d->value_count] : d->values[i];
        return;
    }
    if (i == VALUES_MAX) {
        fail(n->w, "node %u persists more than can be", n->id);
        return;
    }
    d->values[i] = *value;
    d->value_count += i == d->value_count;
    if (value->key_size == strlen(AB_EPOCH_KEY)) {
        d->has_epoch = true;
        d->tail_safe = true; /* not before: until then the doubts of this start go on */
    }
}

/* The log goes back to `index`, which must be the end of a block, or of what is trimmed. */
static void rewind_stream(sim_node *n, const op *item)
{
    world *w = n->w;
    disk_stream *s = disk_stream_of(&n->disk, item->sid);
    if (disk_last(s) <= item->index) {
        return;
    }
    disk_truncate(&n->disk, item->sid, item->index);
    if (s->base > item->index) {
        s->base = item->index;
        s->base_hash = item->hash;
    }
    s->durable = s->durable < item->index ? s->durable : item->index;
    if (disk_last(s) != item->index || disk_last_hash(s) != item->hash) {
        fail(w, "node %u: no block of stream %u.%u ends at the fork, %llu", n->id, w->streams[item->sid].node,
             w->streams[item->sid].epoch, (unsigned long long)item->index);
    }
    if (!w->torn[item->sid]) {
        fail(w, "node %u: stream %u.%u is taken back, and it has one history", n->id,
             w->streams[item->sid].node, w->streams[item->sid].epoch);
    }
    note(w, F_REWOUND);
    faults_rewound(n);
}

void disk_trim(world *w, sim_node *n, int sid, uint64_t index)
{
    disk_stream *s = disk_stream_of(&n->disk, sid);
    size_t gone = 0;
    while (gone < s->count && s->blocks[gone].block->last <= index) {
        gone++;
    }
    if (gone == 0) {
        return;
    }
    s->base = s->blocks[gone - 1].block->last;
    s->base_hash = s->blocks[gone - 1].block->hash;
    s->count -= gone;
    memmove(s->blocks, s->blocks + gone, s->count * sizeof *s->blocks);
    note(w, F_TRIM);
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        if (w->nodes[i].ever_durable[sid] < s->base) {
            fail(
                w,
                "node %u trimmed stream %u.%u up to %llu, but node %u never had more than %llu of it durable",
                n->id, w->streams[sid].node, w->streams[sid].epoch, (unsigned long long)s->base,
                w->nodes[i].id, (unsigned long long)w->nodes[i].ever_durable[sid]);
        }
    }
    if (sm_has(w, &n->disk.sm, sid) < s->base) {
        fail(w, "node %u trimmed stream %u.%u up to %llu, its state machine has %llu durable", n->id,
             w->streams[sid].node, w->streams[sid].epoch, (unsigned long long)s->base,
             (unsigned long long)n->disk.sm.applied[sid]);
    }
}

static void forget(sim_node *n, const op *item)
{
    disk_stream *s = disk_stream_of(&n->disk, item->sid);
    say(n->w, "n%u forgets %u.%u", n->id, n->w->streams[item->sid].node, n->w->streams[item->sid].epoch);
    check_forgotten(n, item->sid);
    s->forgotten = true;
    s->count = 0;
    note(n->w, F_FOLDED);
    sm_drop(n, n->w->streams[item->sid].node, (uint32_t)item->index);
}

void disk_copy(disk *to, const disk *from)
{
    *to = *from;
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        disk_stream *s = &to->streams[i];
        s->blocks = NULL;
        s->capacity = s->count;
        if (s->count > 0) {
            s->blocks = malloc(s->count * sizeof *s->blocks);
            memcpy(s->blocks, from->streams[i].blocks, s->count * sizeof *s->blocks);
        }
    }
}

void disk_free(disk *d)
{
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        free(d->streams[i].blocks);
    }
    memset(d, 0, sizeof *d);
}

void ops_push(ops *list, op item)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 32 : list->capacity * 2;
        list->items = realloc(list->items, list->capacity * sizeof *list->items);
    }
    list->items[list->count++] = item;
}

/* Blocks */

static uint64_t hash_mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static void keep(world *w, sim_block *block)
{
    if (w->block_count == w->block_capacity) {
        w->block_capacity = w->block_capacity == 0 ? 256 : w->block_capacity * 2;
        w->blocks = realloc(w->blocks, w->block_capacity * sizeof(sim_block *));
    }
    w->blocks[w->block_count++] = block;
}

sim_block *block_make(world *w, sim_node *n, const uint32_t *writes, size_t count, ab_frontier deps)
{
    sim_block *block = calloc(1, sizeof *block);
    block->stream = n->append.stream;
    block->sid = stream_id(w, block->stream);
    block->first = n->append.index + 1;
    block->last = n->append.index + count;
    block->prev_hash = n->append_hash;
    block->bytes = (uint32_t)(96 + count * 110 + deps.count * 16);
    block->writes = malloc(count * sizeof *block->writes);
    memcpy(block->writes, writes, count * sizeof *writes);
    block->dep_count = (uint32_t)deps.count;
    uint64_t hash = hash_mix(block->prev_hash + 1, block->first);
    if (deps.count > 0) {
        block->deps = malloc(deps.count * sizeof *block->deps);
        memcpy(block->deps, deps.marks, deps.count * sizeof *block->deps);
    }
    for (size_t i = 0; i < count; i++) {
        sim_write *write = &w->writes[writes[i]];
        write->sid = block->sid;
        write->index = block->first + i;
        block->hlc_last = write->hlc;
        hash = hash_mix(hash, (uint64_t)writes[i] << 32 | write->node);
    }
    block->hash = hash | 1; /* never 0: that stands for "none" */
    keep(w, block);
    return block;
}

/* As ab_block_repeat(): the entries of `old` as the next block of the copy. */
sim_block *block_repeat(world *w, const sim_block *old, ab_mark after, uint64_t prev_hash,
                        ab_block_origin origin)
{
    sim_block *block = calloc(1, sizeof *block);
    size_t count = old->last - old->first + 1;
    ab_marks deps = {0};
    *block = *old;
    block->stream = after.stream;
    block->sid = stream_id(w, after.stream);
    block->first = after.index + 1;
    block->last = after.index + count;
    block->prev_hash = prev_hash;
    block->origin = origin;
    block->origin.hash = old->hash;
    for (uint32_t i = 0; i < old->dep_count; i++) {
        (void)ab_marks_set(&deps, old->deps[i]);
    }
    if (block->first == 1) {
        (void)ab_marks_set(&deps, (ab_mark){old->stream, origin.fork});
    }
    block->deps = deps.marks;
    block->dep_count = deps.count;
    block->writes = malloc(count * sizeof *block->writes);
    memcpy(block->writes, old->writes, count * sizeof *block->writes);
    block->hash = hash_mix(hash_mix(prev_hash + 2, block->first), old->hash) | 1;
    keep(w, block);
    return block;
}

void block_info(const sim_block *block, ab_block_info *info)
{
    *info = (ab_block_info){.stream = block->stream,
                            .first = block->first,
                            .last = block->last,
                            .hlc_last = block->hlc_last,
                            .hash = block->hash,
                            .prev_hash = block->prev_hash,
                            .bytes = block->bytes,
                            .deps = block->deps,
                            .dep_count = block->dep_count,
                            .origin = block->origin};
}

/* The log thread */

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
        put_value(n, &item->value);
        break;
    case OP_FORGET:
        forget(n, item);
        break;
    case OP_REWIND:
        put_value(n, &item->value);
        rewind_stream(n, item);
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
