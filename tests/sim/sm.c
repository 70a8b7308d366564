/* SPDX-License-Identifier: Apache-2.0 */
/* The fake state machine: last writer wins for puts, naive for inserts and deletes (a delete that overtakes its insert is
 * lost, and the states differ). Volatile between checkpoints. One thread. */
#include "tests/sim/sim.h"

#include "wal/block.h"
#include <string.h>

#define RETRY_PAUSE (10 * MS)

/* The copy that a stream is, if it is one. */
static const sim_block *copy_of(world *w, int sid)
{
    for (size_t i = 0; i < w->block_count; i++) {
        if (w->blocks[i]->sid == sid) {
            return w->blocks[i]->origin.epoch != 0 ? w->blocks[i] : NULL;
        }
    }
    return NULL;
}

uint64_t sm_has(world *w, const sm_state *sm, int sid)
{
    const sim_block *copy = sm->applied[sid] == 0 && w->rolled_back ? copy_of(w, sid) : NULL;
    if (copy == NULL) {
        return sm->applied[sid];
    }
    uint64_t before = sm->applied[stream_id(w, (ab_stream){copy->stream.node, copy->origin.epoch})];
    return before > copy->origin.fork ? before - copy->origin.fork : 0;
}

void sm_move(sim_node *n, const apply_item *item)
{
    world *w = n->w;
    size_t i = 0;
    while (i < n->untold_count && stream_id(w, n->untold[i].stream) != item->sid) {
        i++;
    }
    if (i == n->untold_count) {
        n->untold[n->untold_count++] = (ab_mark){w->streams[item->sid], n->sm.applied[item->sid]};
    }
    n->sm.applied[item->sid] = item->last;
    say(w, "n%u has %u.%u:%llu applied by another name", n->id, w->streams[item->sid].node,
        w->streams[item->sid].epoch, (unsigned long long)item->last);
    faults_moved(n);
}

void sm_frontier(world *w, const sm_state *sm, ab_marks *out)
{
    for (int sid = 0; sid < w->stream_count; sid++) {
        if (sm->applied[sid] > 0) {
            (void)ab_marks_set(out, (ab_mark){w->streams[sid], sm->applied[sid]});
        }
    }
}

void sm_stored(world *w, const sm_state *sm, ab_marks *out)
{
    for (int sid = 0; sid < w->stream_count; sid++) {
        if (sm->applied[sid] > 0 && !sm->dropped[sid]) {
            (void)ab_marks_set(out, (ab_mark){w->streams[sid], sm->applied[sid]});
        }
    }
}

/* A state machine knows a frontier only by what it is given with entries: until then it keeps the old one. */
void sm_store(sim_node *n)
{
    n->disk.sm = n->sm;
    for (size_t i = 0; i < n->untold_count; i++) {
        note(n->w, F_MOVED);
        n->disk.sm.applied[stream_id(n->w, n->untold[i].stream)] = n->untold[i].index;
    }
    for (int sid = 0; sid < n->w->stream_count; sid++) {
        uint64_t has = n->sm.applied[sid];
        n->ever_applied[sid] = has > n->ever_applied[sid] ? has : n->ever_applied[sid];
    }
}

void sm_drop(sim_node *n, uint32_t node, uint32_t epoch)
{
    for (int sid = 0; sid < n->w->stream_count; sid++) {
        ab_stream stream = n->w->streams[sid];
        n->sm.dropped[sid] |= stream.node == node && stream.epoch < epoch;
    }
}

static uint64_t apply_latency(sim_node *n)
{
    world *w = n->w;
    if (n->sm_slow) {
        note(w, F_SM_SLOW);
        return rng_range(&w->rng, 20 * MS, 80 * MS);
    }
    return rng_range(&w->rng, MS / 50, MS / 2);
}

static void apply_after(sim_node *n, uint64_t delay)
{
    n->applying = true;
    schedule(n->w, delay, (sim_event){.kind = E_APPLY, .node = n->position, .generation = n->generation});
}

void sm_kick(sim_node *n)
{
    if (!n->applying && n->apply_count > 0) {
        apply_after(n, apply_latency(n));
    }
}

static void apply_write(sim_node *n, const sim_block *block, uint64_t index)
{
    world *w = n->w;
    const sim_write *write = &w->writes[block->writes[index - block->first]];
    sm_state *sm = &n->sm;
    uint64_t next = sm->applied[block->sid] + 1;
    if (index > next && check_lost_for_good(w, block->sid, next, index - 1)) {
        n->went_on = true;
    } else if (next != index) {
        fail(w, "node %u: entry %llu of stream %u.%u is applied after %llu", n->id, (unsigned long long)index,
             block->stream.node, block->stream.epoch, (unsigned long long)sm->applied[block->sid]);
        return;
    }
    uint32_t number = block->writes[index - block->first];
    uint8_t bit = (uint8_t)(1u << number % 8);
    /* Ahead of a log that was replaced, it cannot be told of which of two histories it has what the log lacks. */
    bool twice = n->sm_kept && write->sid != block->sid && w->torn[write->sid];
    if (number < WRITES_SEEN && (sm->seen[number / 8] & bit) != 0 && !twice) {
        fail(w, "node %u applies entry %llu of stream %u.%u, which it has applied before", n->id,
             (unsigned long long)index, block->stream.node, block->stream.epoch);
        return;
    }
    if (number < WRITES_SEEN) {
        sm->seen[number / 8] |= bit;
    }
    n->untold_count = 0;
    check_causal(n, write);
    switch (write->kind) {
    case WRITE_PUT:
        /* A node that lost its tail while its clock went back may stamp twice alike: then the later stream wins. */
        if (write->hlc > sm->hlc[write->key] ||
            (write->hlc == sm->hlc[write->key] && write->node > sm->node[write->key]) ||
            (write->hlc == sm->hlc[write->key] && write->node == sm->node[write->key] &&
             block->stream.epoch > sm->epoch[write->key])) {
            sm->epoch[write->key] = block->stream.epoch;
            sm->hlc[write->key] = write->hlc;
            sm->node[write->key] = write->node;
            sm->value[write->key] = block->writes[index - block->first];
        }
        break;
    case WRITE_INSERT:
        sm->items[write->key] = 1;
        break;
    case WRITE_DELETE:
        sm->items[write->key] = sm->items[write->key] == 1 ? 2 : sm->items[write->key];
        break;
    case WRITE_POISON:
        note(w, F_SM_REJECT); /* quarantined: the frontier moves, the state does not */
        break;
    }
    sm->applied[block->sid] = index;
}

static void checkpoint_soon(sim_node *n)
{
    world *w = n->w;
    if (!n->checkpoint_due && w->k.checkpoints) {
        n->checkpoint_due = true;
        schedule(w, rng_range(&w->rng, 20 * MS, 200 * MS),
                 (sim_event){.kind = E_CHECKPOINT, .node = n->position, .generation = n->generation});
    }
}

static void done(sim_node *n)
{
    apply_item item = n->apply[0];
    n->apply_count--;
    memmove(n->apply, n->apply + 1, n->apply_count * sizeof *n->apply);
    if (n->w->k.sm_syncs) {
        sm_store(n);
    }
    checkpoint_soon(n);
    say(n->w, "n%u applied %u.%u:%llu-%llu", n->id, n->w->streams[item.sid].node,
        n->w->streams[item.sid].epoch, (unsigned long long)item.first, (unsigned long long)item.last);
    node_step(n, &(ab_event){.type = AB_EV_APPLIED, .mark = {n->w->streams[item.sid], item.last}});
    if (!n->crashing) {
        sm_kick(n);
    }
}

/* Some of a block only, as when an entry in the middle is put aside; a crash may find it durable like that. */
static uint64_t stop_in_middle(sim_node *n, const apply_item *item)
{
    world *w = n->w;
    if (!w->faults || item->last == item->first || !rng_chance(&w->rng, 50)) {
        return item->last;
    }
    return rng_range(&w->rng, item->first, item->last - 1);
}

/* What moves the frontier is not the core's to give again. */
static void keep_moves(sim_node *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n->apply_count; i++) {
        if (n->apply[i].move) {
            n->apply[kept++] = n->apply[i];
        }
    }
    n->apply_count = kept;
}

void sm_apply(sim_node *n)
{
    world *w = n->w;
    n->applying = false;
    if (n->apply_count == 0) {
        return;
    }
    apply_item *item = &n->apply[0];
    if (n->sm_stuck || (w->faults && rng_chance(&w->rng, 15))) {
        note(w, n->sm_stuck ? F_SM_STUCK : F_SM_RETRY);
        apply_after(n, RETRY_PAUSE);
        return;
    }
    if (item->move) {
        sm_move(n, item);
        n->apply_count--;
        memmove(n->apply, n->apply + 1, n->apply_count * sizeof *n->apply);
        sm_kick(n);
        return;
    }
    disk_block *found = disk_find(disk_stream_of(&n->disk, item->sid), item->first);
    if (found == NULL) {
        fail(w, "node %u is to apply %u.%u:%llu, which its log does not have", n->id,
             w->streams[item->sid].node, w->streams[item->sid].epoch, (unsigned long long)item->first);
        return;
    }
    if (found->bad) {
        ab_block_info info;
        const ab_mark has = {w->streams[item->sid], n->sm.applied[item->sid]};
        note(w, F_BAD_SEEN);
        block_info(found->block, &info);
        note(w, F_UNAPPLIED);
        keep_moves(n);
        node_step(n, &(ab_event){.type = AB_EV_BAD, .block = &info});
        node_step(n, &(ab_event){.type = AB_EV_UNAPPLIED, .mark = has});
        return;
    }
    if (item->first <= n->sm.applied[item->sid]) {
        item->first = n->sm.applied[item->sid] + 1; /* given again after it was let go of in the middle */
    }
    uint64_t upto = stop_in_middle(n, item);
    for (uint64_t index = item->first; index <= upto && !w->failed; index++) {
        apply_write(n, found->block, index);
    }
    if (upto < item->last) {
        item->first = upto + 1;
        if (w->k.sm_syncs || rng_chance(&w->rng, 300)) {
            note(w, F_SM_MIDDLE);
            sm_store(n);
        }
        checkpoint_soon(n);
        bool damaged = faults_in_middle(n, item->sid, found);
        apply_after(n, damaged ? rng_range(&w->rng, 20 * MS, 150 * MS) : apply_latency(n));
        return;
    }
    done(n);
}

void sm_checkpoint(sim_node *n)
{
    ab_marks frontier = {0};
    n->checkpoint_due = false;
    sm_store(n);
    sm_stored(n->w, &n->disk.sm, &frontier);
    node_step(n, &(ab_event){.type = AB_EV_CHECKPOINTED, .frontier = ab_marks_view(&frontier)});
    ab_marks_free(&frontier);
}
