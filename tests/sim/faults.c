/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong, how often, for how long, and how it is healed. One thread. */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

typedef enum kind {
    K_ISOLATE,
    K_ONE_WAY,
    K_PARTIAL,
    K_BREAK,
    K_SLOW_LINK,
    K_CRASH,
    K_CRASH_IN_STEP,
    K_STOP,
    K_CLOCK_FORWARD,
    K_CLOCK_BACK,
    K_DISK_FULL,
    K_DISK_SLOW,
    K_WIPE,
    K_COPY,
    K_RESTORE,
    K_ROLL_BACK,
    K_BAD_BLOCK,
    K_REFUSE,
    K_SM_SLOW,
    K_SM_STUCK,
    K_COUNT
} kind;

/* How likely a kind is allowed in a run, per mille. */
static const unsigned allowed_chance[K_COUNT] = {
    [K_ISOLATE] = 400,       [K_ONE_WAY] = 300,    [K_PARTIAL] = 300,       [K_BREAK] = 500,
    [K_SLOW_LINK] = 300,     [K_CRASH] = 600,      [K_CRASH_IN_STEP] = 500, [K_STOP] = 300,
    [K_CLOCK_FORWARD] = 300, [K_CLOCK_BACK] = 300, [K_DISK_FULL] = 250,     [K_DISK_SLOW] = 300,
    [K_WIPE] = 80,           [K_COPY] = 700,       [K_RESTORE] = 120,       [K_ROLL_BACK] = 300,
    [K_BAD_BLOCK] = 250,     [K_REFUSE] = 250,     [K_SM_SLOW] = 300,       [K_SM_STUCK] = 250};

static uint64_t draw(rng *r, uint64_t low, uint64_t high)
{
    return rng_range(r, low, high);
}

/* Lines that carry less than is written, and lose nothing: what stands in their queues must not be sent twice. */
static void draw_narrow(knobs *k, rng *r)
{
    k->drop = k->duplicate = 0;
    k->interval = false;
    k->duration = 4000 * MS;
    k->block_ns = draw(r, 8, 12) * MS;
    k->writes_gap = draw(r, 3, 8) * MS;
    k->window_blocks = (uint32_t)draw(r, 16, 32); /* less than retry_max, both ways */
    k->window_bytes = 1 << 20;
    k->queue_packets = 10000;
    k->fault_gap = draw(r, 300, 600) * MS;
    k->allowed = 1u << K_DISK_SLOW | 1u << K_SM_SLOW;
}

void faults_draw(knobs *k, rng *r)
{
    uint64_t size = rng_below(r, 100);
    memset(k, 0, sizeof *k);
    k->standalone = rng_chance(r, 30);
    k->nodes = k->standalone ? 1 : size < 15 ? 2 : size < 85 ? 3 : size < 95 ? 4 : 5;
    k->interval = rng_chance(r, 350);
    k->arrival = rng_chance(r, 150);
    k->sm_syncs = rng_chance(r, 300);
    k->sm_rejects = rng_chance(r, 200);
    k->checkpoints = rng_chance(r, 700);
    k->drop = rng_chance(r, 600) ? (unsigned)draw(r, 1, 150) : 0;
    k->duplicate = rng_chance(r, 500) ? (unsigned)draw(r, 1, 100) : 0;
    k->delay_min = MS / 10;
    k->delay_max = draw(r, MS / 5, 20 * MS);
    k->commit_min = MS / 5;
    k->commit_max = draw(r, MS / 2, 15 * MS);
    k->interval_ns = draw(r, 20, 150) * MS;
    k->writes_gap = draw(r, 15, 120) * MS;
    k->duration = draw(r, 1500, 3500) * MS;
    k->fault_gap = rng_chance(r, 900) ? draw(r, 60, 500) * MS : 0;
    for (unsigned i = 0; i < K_COUNT; i++) {
        k->allowed |= rng_chance(r, allowed_chance[i]) ? 1u << i : 0;
    }
    const uint32_t losses = 1u << K_WIPE | 1u << K_RESTORE | 1u << K_ROLL_BACK;
    bool rolls_back = (k->allowed & 1u << K_ROLL_BACK) != 0;
    if ((k->allowed & losses) != 0 && rng_chance(r, rolls_back ? 900 : 750)) {
        k->checkpoints = false; /* nothing is trimmed: a lost disk is made good from the peers, not excused */
    }
    k->allowed |= rolls_back ? 1u << K_COPY : 0;
    if (rolls_back && !k->checkpoints) {
        k->sm_syncs |= rng_chance(r, 600); /* else it has stored no frontier that a rewind must translate */
    }
    k->window_blocks = (uint32_t)draw(r, 1, 24);
    k->window_bytes = draw(r, 200, 20000);
    k->queue_packets = (uint32_t)draw(r, 4, 64);
    k->max_skew_ms = (uint32_t)draw(r, 500, 60000);
    if (!k->standalone && rng_chance(r, 30)) {
        draw_narrow(k, r);
    }
}

static void heal_after(world *w, uint32_t node, uint32_t peer, kind k, uint64_t low_ms, uint64_t high_ms)
{
    schedule(w, rng_range(&w->rng, low_ms, high_ms) * MS,
             (sim_event){.kind = E_HEAL, .node = node, .peer = peer, .generation = UINT64_MAX, .a = k});
}

/* Links */

static void cut(world *w, uint32_t from, uint32_t to, bool on)
{
    link_of(w, from, to)->cut[from < to ? 0 : 1] = on;
}

static void cut_pair(world *w, uint32_t a, uint32_t b, kind k)
{
    cut(w, a, b, true);
    cut(w, b, a, true);
    if (rng_chance(&w->rng, 500)) {
        net_break(w, a, b); /* it is noticed */
    }
    heal_after(w, a, b, k, 50, 900);
}

static void isolate(world *w, uint32_t node)
{
    note(w, F_PARTITION_FULL);
    say(w, "-- n%u is cut off", w->nodes[node].id);
    for (uint32_t other = 0; other < w->k.nodes; other++) {
        if (other != node) {
            cut_pair(w, node, other, K_ISOLATE);
        }
    }
}

static void cut_some(world *w)
{
    note(w, F_PARTITION_PARTIAL);
    say(w, "-- some links are cut");
    for (uint32_t a = 0; a < w->k.nodes; a++) {
        for (uint32_t b = a + 1; b < w->k.nodes; b++) {
            if (rng_chance(&w->rng, 500)) {
                cut_pair(w, a, b, K_PARTIAL);
            }
        }
    }
}

static void link_fault(world *w, kind k, uint32_t a)
{
    uint32_t b = (uint32_t)((a + 1 + rng_below(&w->rng, w->k.nodes - 1)) % w->k.nodes);
    switch (k) {
    case K_ISOLATE:
        isolate(w, a);
        break;
    case K_ONE_WAY:
        note(w, F_PARTITION_ONE_WAY);
        say(w, "-- n%u cannot reach n%u", w->nodes[a].id, w->nodes[b].id);
        cut(w, a, b, true);
        heal_after(w, a, b, k, 50, 900);
        break;
    case K_PARTIAL:
        cut_some(w);
        break;
    case K_BREAK:
        note(w, F_LINK_DOWN);
        net_break(w, a, b);
        break;
    default:
        say(w, "-- slow link between n%u and n%u", w->nodes[a].id, w->nodes[b].id);
        link_of(w, a, b)->slow = true;
        heal_after(w, a, b, k, 100, 800);
        break;
    }
}

/* Nodes */

static void restart_later(sim_node *n)
{
    world *w = n->w;
    schedule(w, rng_range(&w->rng, 5, 800) * MS,
             (sim_event){.kind = E_RESTART, .node = n->position, .generation = UINT64_MAX});
}

static void kill_now(sim_node *n, fault f)
{
    if (n->alive) {
        note(n->w, f);
        n->crashing = true;
        n->stopping &= f == F_STOP;
        node_crash(n);
    }
    restart_later(n);
}

/* Flushes by waiting for the log: new writes are refused meanwhile. */
static void stop_in_order(sim_node *n)
{
    world *w = n->w;
    if (!n->alive || n->full) {
        return;
    }
    n->stopping = true;
    heal_after(w, n->position, 0, K_STOP, 1, 1);
}

static void finish_stop(sim_node *n)
{
    world *w = n->w;
    if (!n->alive || !n->stopping) {
        return;
    }
    if (n->open_count > 0 || n->queue.count > 0 || n->batch.count > 0) {
        heal_after(w, n->position, 0, K_STOP, 1, 2);
        return;
    }
    sm_store(n);
    kill_now(n, F_STOP);
}

static bool any_damage(const world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        for (int sid = 0; sid < w->stream_count; sid++) {
            const disk_stream *s = &w->nodes[i].disk.streams[sid];
            for (size_t k = 0; k < s->count; k++) {
                if (s->blocks[k].bad) {
                    return true;
                }
            }
        }
    }
    return false;
}

static bool disk_has(const disk *d, const sim_block *block)
{
    const disk_stream *s = &d->streams[block->sid];
    if (s->base >= block->last) {
        return true;
    }
    for (size_t i = 0; i < s->count; i++) {
        if (s->blocks[i].block == block) {
            return true;
        }
    }
    return false;
}

/* Puts `replacement` (NULL: an empty one) in the place of the disk of a dead node. */
static void replace_disk(sim_node *n, const disk *replacement)
{
    world *w = n->w;
    disk old = n->disk;
    bool keep_sm = rng_chance(&w->rng, 400);
    memset(&n->disk, 0, sizeof n->disk);
    if (replacement != NULL) {
        disk_copy(&n->disk, replacement);
    }
    for (size_t i = 0; i < w->block_count; i++) {
        if (disk_has(&old, w->blocks[i]) && !disk_has(&n->disk, w->blocks[i])) {
            check_lost(w, n, w->blocks[i]);
        }
    }
    if (keep_sm) {
        n->disk.sm = old.sm;
    }
    n->disk.tail_safe = false;
    n->disk_lost = true;
    n->sm_kept |= keep_sm;
    disk_free(&old);
}

static void lose_disk(sim_node *n, bool restore)
{
    world *w = n->w;
    if (w->disk_losses == 0 || any_damage(w) || (restore && n->copy == NULL)) {
        return;
    }
    w->disk_losses--;
    say(w, "-- n%u: its disk is %s", n->id, restore ? "replaced by an older copy" : "lost");
    kill_now(n, F_CRASH);
    note(w, restore ? F_DISK_RESTORED : F_DISK_WIPED);
    replace_disk(n, restore ? n->copy : NULL);
}

/* The image brings back more of a stream than the others had when they folded it: their history of it ends before. */
static void tear_folded(sim_node *n)
{
    world *w = n->w;
    for (int sid = 0; sid < w->stream_count; sid++) {
        for (uint32_t i = 0; i < w->k.nodes; i++) {
            const disk_stream *s = &w->nodes[i].disk.streams[sid];
            bool folded = &w->nodes[i] != n && s->forgotten;
            w->torn[sid] |= folded && disk_last(&n->copy->streams[sid]) > disk_last(s);
        }
    }
}

/* What a virtual machine's snapshot does: log and state machine go back together, and everything looks as it was left. */
static void roll_back(sim_node *n)
{
    world *w = n->w;
    bool trusted = n->copy != NULL && n->copy->tail_safe && n->copy->has_epoch && !w->k.interval;
    if (!trusted || w->disk_losses == 0 || any_damage(w)) {
        return;
    }
    w->disk_losses--;
    w->rolled_back = true;
    w->torn[stream_id(w, (ab_stream){n->id, disk_epoch(n->copy)})] = true;
    tear_folded(n);
    say(w, "-- n%u: its disk is rolled back, unnoticed", n->id);
    kill_now(n, F_CRASH);
    note(w, F_DISK_ROLLED_BACK);
    replace_disk(n, n->copy);
    n->disk.sm = n->copy->sm;
    n->disk.tail_safe = true;
}

static void take_copy(sim_node *n)
{
    if (any_damage(n->w) || n->committing || n->batch.count > 0) {
        return;
    }
    if (n->copy == NULL) {
        n->copy = calloc(1, sizeof *n->copy);
    } else {
        disk_free(n->copy);
    }
    disk_copy(n->copy, &n->disk);
}

/* Damages a block, if some other node has it whole. @return whether it did */
static bool damage(sim_node *n, int sid, disk_block *block)
{
    world *w = n->w;
    if (w->rolled_back || block->bad || block->block->last > n->disk.streams[sid].durable) {
        return false;
    }
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        sim_node *other = &w->nodes[i];
        disk_block *copy = disk_find(disk_stream_of(&other->disk, sid), block->block->first);
        if (other != n && copy != NULL && !copy->bad &&
            other->disk.streams[sid].durable >= block->block->last) {
            block->bad = true;
            note(w, F_BAD_BLOCK);
            say(w, "-- n%u: %u.%u:%llu-%llu is damaged on its disk", n->id, block->block->stream.node,
                block->block->stream.epoch, (unsigned long long)block->block->first,
                (unsigned long long)block->block->last);
            return true;
        }
    }
    return false;
}

static void damage_any(sim_node *n)
{
    world *w = n->w;
    if (w->stream_count == 0) {
        return;
    }
    int sid = (int)rng_below(&w->rng, (uint64_t)w->stream_count);
    disk_stream *s = disk_stream_of(&n->disk, sid);
    if (s->count > 0) {
        (void)damage(n, sid, &s->blocks[rng_below(&w->rng, s->count)]);
    }
}

/* The state machine has a part of the block, and may have made it durable. */
bool faults_in_middle(sim_node *n, int sid, disk_block *block)
{
    return n->w->faults && (n->w->k.allowed & 1u << K_BAD_BLOCK) != 0 && rng_chance(&n->w->rng, 15) &&
           damage(n, sid, block);
}

static void jump(sim_node *n, bool forward)
{
    world *w = n->w;
    int64_t by = (int64_t)rng_range(&w->rng, 1, rng_chance(&w->rng, 200) ? 100000 : 3000);
    note(w, forward ? F_CLOCK_FORWARD : F_CLOCK_BACK);
    n->clock_offset_ms += forward ? by : -by;
}

static void plan_crash(sim_node *n, uint64_t most)
{
    if (n->alive && n->crash_in == 0) {
        n->crash_in = (unsigned)rng_range(&n->w->rng, 1, most);
        heal_after(n->w, n->position, 0, K_CRASH_IN_STEP, 300, 900);
    }
}

/* What the state machine has stored by then is of the history that went. */
void faults_rewound(sim_node *n)
{
    if (n->w->faults && (n->w->k.allowed & 1u << K_CRASH_IN_STEP) != 0 && rng_chance(&n->w->rng, 400)) {
        plan_crash(n, 10);
    }
}

/* It stores what it has, under the old name, at a time of its own; and dies before it hears of the new one. */
void faults_moved(sim_node *n)
{
    if (n->w->faults && (n->w->k.sm_syncs || n->w->k.checkpoints) && rng_chance(&n->w->rng, 700)) {
        sm_store(n);
        plan_crash(n, 3);
    }
}

static void node_fault(sim_node *n, kind k)
{
    world *w = n->w;
    switch (k) {
    case K_CRASH:
        kill_now(n, F_CRASH);
        break;
    case K_CRASH_IN_STEP:
        plan_crash(n, 40);
        break;
    case K_STOP:
        stop_in_order(n);
        break;
    case K_CLOCK_FORWARD:
    case K_CLOCK_BACK:
        jump(n, k == K_CLOCK_FORWARD);
        break;
    case K_DISK_FULL:
    case K_DISK_SLOW:
        *(k == K_DISK_FULL ? &n->full : &n->slow_disk) = true;
        heal_after(w, n->position, 0, k, 50, 700);
        break;
    case K_WIPE:
    case K_RESTORE:
        lose_disk(n, k == K_RESTORE);
        break;
    case K_ROLL_BACK:
        roll_back(n);
        break;
    case K_COPY:
        take_copy(n);
        break;
    case K_BAD_BLOCK:
        damage_any(n);
        break;
    case K_REFUSE:
        *(rng_chance(&w->rng, 500) ? &n->refuse : &n->refuse_repair) = true;
        break;
    default:
        *(k == K_SM_SLOW ? &n->sm_slow : &n->sm_stuck) = true;
        heal_after(w, n->position, 0, k, 100, 900);
        break;
    }
}

static void heal(world *w, const sim_event *event)
{
    sim_node *n = &w->nodes[event->node];
    switch ((kind)event->a) {
    case K_ISOLATE:
    case K_PARTIAL:
    case K_ONE_WAY:
        cut(w, event->node, event->peer, false);
        cut(w, event->peer, event->node, false);
        break;
    case K_SLOW_LINK:
        link_of(w, event->node, event->peer)->slow = false;
        break;
    case K_CRASH_IN_STEP:
        restart_later(n);
        break;
    case K_STOP:
        finish_stop(n);
        break;
    case K_DISK_FULL:
        n->full = false;
        break;
    case K_DISK_SLOW:
        n->slow_disk = false;
        break;
    case K_SM_SLOW:
        n->sm_slow = false;
        break;
    case K_SM_STUCK:
        n->sm_stuck = false;
        break;
    default:
        break;
    }
}

void faults_handle(world *w, sim_event *event)
{
    if (event->kind == E_HEAL) {
        heal(w, event);
        return;
    }
    if (!w->faults) {
        return;
    }
    kind k = (kind)rng_below(&w->rng, K_COUNT);
    uint32_t node = (uint32_t)rng_below(&w->rng, w->k.nodes);
    if ((w->k.allowed & 1u << K_ROLL_BACK) != 0 && rng_chance(&w->rng, 80)) {
        k = w->nodes[node].copy == NULL ? K_COPY
                                        : K_ROLL_BACK; /* needs both, and that writes come in between */
    }
    if ((w->k.allowed & 1u << k) != 0) {
        if (k > K_SLOW_LINK) {
            node_fault(&w->nodes[node], k);
        } else if (w->k.nodes > 1) {
            link_fault(w, k, node);
        }
    }
    schedule(w, rng_range(&w->rng, 1, w->k.fault_gap / 2),
             (sim_event){.kind = E_FAULT, .generation = UINT64_MAX});
}

/* The end of the phase of faults: everything is mended, everybody is there. */
void faults_heal(world *w)
{
    w->faults = false;
    say(w, "-- no more faults");
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        sim_node *n = &w->nodes[i];
        n->full = n->slow_disk = n->sm_slow = n->sm_stuck = n->stopping = n->refuse = n->refuse_repair =
            false;
        n->crash_in = 0;
        for (uint32_t k = i + 1; k < w->k.nodes; k++) {
            sim_link *link = link_of(w, i, k);
            link->slow = link->cut[0] = link->cut[1] = false;
        }
        if (!n->alive) {
            node_start(n);
        }
    }
}
