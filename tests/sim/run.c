/* SPDX-License-Identifier: Apache-2.0 */
/* One seed: faults, then healing, then what must hold. One thread. */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#define STILL_BOUND                                                                                          \
    (15 * SECOND)           /* without any progress: fifteen of the longest pauses between two retries */
#define SETTLE (1 * SECOND) /* slow packets and commits of the phase of faults arrive */
/* Of what full lines could carry, in per cent, and a window to each peer for every slow commit, of which nothing is heard for
 * so long. Usual are 2; 40 with a fixed wait. */
#define SENT_TWICE_MAX 30u
#define LOOK_EVERY (50 * MS)
#define IDLE_AFTER (5 * SECOND)

static void begin(world *w)
{
    w->faults = true;
    w->disk_losses = rng_chance(&w->rng, 800) ? 1 : 4;
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        sim_node *n = &w->nodes[i];
        n->clock_offset_ms = (int64_t)rng_range(&w->rng, 0, 2000) - 1000;
        schedule(w, rng_range(&w->rng, 0, 30 * MS),
                 (sim_event){.kind = E_RESTART, .node = i, .generation = UINT64_MAX});
        schedule(w, rng_range(&w->rng, 30 * MS, 60 * MS),
                 (sim_event){.kind = E_WRITE, .node = i, .generation = UINT64_MAX});
        schedule(w, rng_range(&w->rng, 30 * MS, 300 * MS),
                 (sim_event){.kind = E_READ, .node = i, .generation = UINT64_MAX});
    }
    if (w->k.fault_gap > 0) {
        schedule(w, rng_range(&w->rng, 1, w->k.fault_gap),
                 (sim_event){.kind = E_FAULT, .generation = UINT64_MAX});
    }
}

static uint64_t progress(const world *w)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        for (int sid = 0; sid < w->stream_count; sid++) {
            sum += w->nodes[i].disk.streams[sid].durable + w->nodes[i].sm.applied[sid];
        }
    }
    return sum;
}

static void wait_until_equal(world *w, uint64_t bound, const char *after)
{
    char why[256] = "";
    uint64_t moved = w->now;
    uint64_t before = 0;
    while (!w->failed && !check_converged(w, why, sizeof why)) {
        if (progress(w) != before) {
            before = progress(w);
            moved = bound > 0 ? w->now : moved;
        }
        if (w->now - moved >= bound) {
            fail(w, "%s: not equal, and no progress for %llu ms: %s", after, (unsigned long long)(bound / MS),
                 why);
            return;
        }
        world_run(w, w->now + LOOK_EVERY);
    }
}

/* The last write before a silence arrives as fast as any other. */
static void last_write(world *w)
{
    sim_node *n = &w->nodes[rng_below(&w->rng, w->k.nodes)];
    if (n->excused) {
        return;
    }
    node_write(n, WRITE_PUT, 0);
    uint64_t pause = w->k.delay_max + w->k.commit_max + (w->k.interval ? w->k.interval_ns : 0);
    world_run(w, w->now + 4 * pause + 20 * MS);
    wait_until_equal(w, 0, "the last write before a silence");
}

/* Nothing to do: no timer, no message. Nor where only a snapshot would help: it will not come by asking for it. Who waits for
 * a member that needs one goes on asking: where its stream ends is for that member to say, and may change. */
static void be_idle(world *w)
{
    bool asks = w->apart; /* a stream with two histories may want its tail for ever */
    bool excused = w->apart;
    world_run(w, w->now + IDLE_AFTER);
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        excused |= w->nodes[i].excused;
        asks |= w->nodes[i].relayed || (w->rolled_back && w->nodes[i].excused);
    }
    for (uint32_t i = 0; !asks && !w->failed && i < w->k.nodes; i++) {
        if (w->nodes[i].backend->deadline(w->nodes[i].core) != AB_NEVER) {
            fail(w, "node %u wants a timer though nothing goes on", w->nodes[i].id);
        }
    }
    if (!excused && !w->failed) {
        check_bounded(w);
    }
}

/* Lines that are full and lose nothing. In the first half it is learnt how long a confirmation takes. */
static void run_narrow(world *w)
{
    world_run(w, w->now + w->k.duration / 2);
    uint64_t before = w->counters[F_RESEND];
    uint64_t slow_before = w->counters[F_DISK_SLOW];
    world_run(w, w->now + w->k.duration / 2);
    uint64_t again = w->counters[F_RESEND] - before;
    uint64_t slow = (w->counters[F_DISK_SLOW] - slow_before) * w->k.window_blocks * (w->k.nodes - 1);
    uint64_t carried = w->k.duration / 2 / w->k.block_ns * w->k.nodes * (w->k.nodes - 1);
    if (again > slow && (again - slow) * 100 > carried * SENT_TWICE_MAX) {
        fail(w, "full lines that lose nothing: %llu blocks were sent again, where %llu could be carried",
             (unsigned long long)again, (unsigned long long)carried);
    }
}

void run_seed(uint64_t seed, FILE *trace_to, bool ack_early, run_result *result)
{
    world *w = malloc(sizeof *w);
    knobs k;
    rng r = {seed * UINT64_C(0x9e3779b97f4a7c15) + 77};
    faults_draw(&k, &r);
    world_init(w, seed, &k);
    w->trace = trace_to;
    w->ack_early = ack_early;
    if (k.interval) {
        note(w, F_INTERVAL);
    }
    if (k.standalone) {
        note(w, F_STANDALONE);
    }
    if (k.arrival) {
        note(w, F_ARRIVAL);
    }
    begin(w);
    if (k.block_ns > 0) {
        run_narrow(w);
    } else {
        world_run(w, w->now + k.duration);
    }
    w->quiet = true;
    faults_heal(w);
    wait_until_equal(w, STILL_BOUND, "after the faults");
    if (!w->failed) {
        world_run(w, w->now + SETTLE);
        last_write(w);
    }
    if (!w->failed) {
        be_idle(w);
    }
    if (!w->failed) {
        wait_until_equal(w, 0, "at the end");
        check_final(w);
    }
    memset(result, 0, sizeof *result);
    result->ok = !w->failed;
    result->hash = w->trace_hash;
    result->steps = w->steps;
    result->virtual_ns = w->now;
    result->sm_ahead = w->sm_ahead || w->apart;
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        result->excused += w->nodes[i].excused;
    }
    memcpy(result->counters, w->counters, sizeof result->counters);
    snprintf(result->failure, sizeof result->failure, "%s", w->failure);
    world_free(w);
    free(w);
}
