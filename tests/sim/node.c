/* SPDX-License-Identifier: Apache-2.0 */
/* A node: the driver around one core. Steps it, keeps its timer, starts and kills it. One thread. */
#include "tests/sim/sim.h"

#include "replication/hlc.h"
#include "tests/sim/words.h"
#include "wal/block.h"
#include <stdlib.h>
#include <string.h>

#define SPINS_MAX 200u

uint64_t node_wall_ms(const sim_node *n)
{
    int64_t ms = (int64_t)(1000000 + n->w->now / MS) + n->clock_offset_ms;
    return ms > 1000 ? (uint64_t)ms : 1000;
}

static void arm_timer(sim_node *n)
{
    world *w = n->w;
    uint64_t deadline = n->backend->deadline(n->core);
    if (deadline >= n->timer) {
        return; /* what is armed comes first, and looks again */
    }
    n->timer = deadline;
    schedule(w, deadline > w->now ? deadline - w->now : 0,
             (sim_event){.kind = E_TIMER, .node = n->position, .generation = n->generation, .a = deadline});
}

static void fire_timer(sim_node *n, uint64_t armed)
{
    world *w = n->w;
    if (armed != n->timer) {
        return;
    }
    n->timer = AB_NEVER;
    if (n->backend->deadline(n->core) <= w->now) {
        node_step(n, &(ab_event){.type = AB_EV_TIMER});
        bool again = n->alive && !n->crashing && n->backend->deadline(n->core) <= w->now;
        n->timer_spins = again ? n->timer_spins + 1 : 0;
        if (n->timer_spins > SPINS_MAX) {
            fail(w, "node %u: the deadline stays in the past", n->id);
        }
    } else {
        arm_timer(n);
    }
}

static int one_step(sim_node *n, const ab_event *event, sim_follow *later)
{
    world *w = n->w;
    trace(w, "step", n->id, event->type, event->mark.index, event->peer);
    int code = n->backend->step(n->core, event, w->now, &n->actions);
    for (size_t i = 0; i < n->actions.count && !n->crashing && !w->failed; i++) {
        action_carry_out(n, ab_actions_at(&n->actions, i), later);
        if (n->crash_in > 0 && --n->crash_in == 0) {
            note(w, F_CRASH_IN_STEP);
            n->crashing = true;
            n->stopping = false;
        }
    }
    ab_actions_clear(&n->actions);
    return code;
}

void node_step(sim_node *n, const ab_event *event)
{
    world *w = n->w;
    if (!n->alive || n->crashing || w->failed) {
        return;
    }
    sim_follow later = {.count = 0};
    int code = one_step(n, event, &later);
    if (code != AB_OK && !n->crashing) {
        fail(w, "node %u: event %d was refused: %s", n->id, (int)event->type, word_of_code(code));
    }
    while (later.next < later.count && !n->crashing && !w->failed) {
        ab_event sent = later.events[later.next++];
        if (later.next == later.count) {
            later.next = later.count = 0;
        }
        (void)one_step(n, &sent, &later);
    }
    if (!n->crashing && !w->failed) {
        check_core(n);
        arm_timer(n);
    }
}

/* Life and death */

static void recover_hlc(sim_node *n)
{
    n->hlc = 0;
    for (int sid = 0; sid < n->w->stream_count; sid++) {
        const disk_stream *s = disk_stream_of(&n->disk, sid);
        for (size_t i = 0; i < s->count; i++) {
            bool later = s->blocks[i].block->hlc_last > n->hlc;
            bool skewed = false;
            uint64_t merged = ab_hlc_merge(n->hlc, s->blocks[i].block->hlc_last, node_wall_ms(n),
                                           n->w->k.max_skew_ms, &skewed);
            bool own = s->blocks[i].block->stream.node == n->id;
            n->hlc = own && later ? s->blocks[i].block->hlc_last : merged;
        }
    }
}

static int by_stream(const void *a, const void *b)
{
    return ab_stream_compare(((const ab_stream_state *)a)->stream, ((const ab_stream_state *)b)->stream);
}

static size_t list_streams(sim_node *n, ab_stream_state *states)
{
    size_t count = 0;
    for (int sid = 0; sid < n->w->stream_count; sid++) {
        disk_stream *s = disk_stream_of(&n->disk, sid);
        uint64_t last = disk_last(s);
        if (n->sm.applied[sid] > last) {
            note(n->w, F_SM_AHEAD);
        }
        if (last > n->sm.applied[sid]) {
            note(n->w, F_SM_REPLAY);
        }
        if (last > 0 && !s->forgotten) {
            states[count++] = (ab_stream_state){.stream = n->w->streams[sid],
                                                .base = s->base,
                                                .base_hash = s->base_hash,
                                                .last = last,
                                                .last_hash = disk_last_hash(s)};
        }
    }
    qsort(states, count, sizeof *states, by_stream);
    return count;
}

static int create_core(sim_node *n)
{
    world *w = n->w;
    static ab_stream_state states[STREAMS_MAX];
    ab_member members[NODES_MAX];
    ab_marks applied = {0};
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        members[i] = (ab_member){w->nodes[i].id, AB_MEMBER_ACTIVE};
    }
    sm_stored(w, &n->sm, &applied);
    ab_state_value values[VALUES_MAX];
    for (size_t i = 0; i < n->disk.value_count; i++) {
        const sim_value *value = &n->disk.values[i];
        values[i] = (ab_state_value){{value->key, value->key_size}, {value->data, value->size}};
    }
    ab_core_init init = {.group = GROUP,
                         .self = n->id,
                         .members = members,
                         .member_count = w->k.nodes,
                         .streams = states,
                         .stream_count = list_streams(n, states),
                         .applied = ab_marks_view(&applied),
                         .state = values,
                         .state_count = n->disk.value_count,
                         .tail_safe = n->disk.tail_safe,
                         .wall_seconds = (uint32_t)(node_wall_ms(n) / 1000),
                         .seed = rng_next(&w->rng),
                         .apply_order = w->k.arrival ? AB_APPLY_ARRIVAL : AB_APPLY_CAUSAL,
                         .window_blocks = w->k.window_blocks,
                         .window_bytes = w->k.window_bytes,
                         .retry_min_ms = 100,
                         .retry_max_ms = 1000,
                         .gossip_ms = 20};
    int code = n->backend->create(&init, &n->core);
    ab_marks_free(&applied);
    return code;
}

void node_start(sim_node *n)
{
    world *w = n->w;
    if (n->alive) {
        return;
    }
    n->generation++;
    n->sm = n->disk.sm;
    if (n->disk_lost && (uint32_t)(node_wall_ms(n) / 1000) <= n->top_epoch) {
        /* Assumed: by the time a lost disk is replaced the clock shows a second that was no epoch yet. */
        n->clock_offset_ms += ((int64_t)n->top_epoch + 1) * 1000 - (int64_t)node_wall_ms(n);
    }
    recover_hlc(n);
    int code = create_core(n);
    if (code != AB_OK) {
        fail(w, "node %u: create failed with %d", n->id, code);
        return;
    }
    n->alive = true;
    n->timer = AB_NEVER;
    n->timer_spins = 0;
    memset(&n->append, 0, sizeof n->append);
    memset(n->sending, 0, sizeof n->sending);
    memset(n->reads, 0, sizeof n->reads);
    say(w, "n%u starts%s", n->id, n->disk.tail_safe ? "" : ", its tail may be lost");
    n->starting = true;
    node_step(n, &(ab_event){.type = AB_EV_START});
    n->starting = false;
    for (uint32_t other = 0; other < w->k.nodes; other++) {
        if (other != n->position) {
            net_connect(w, n->position, other, rng_range(&w->rng, 1 * MS, 20 * MS));
        }
    }
}

void node_crash(sim_node *n)
{
    world *w = n->w;
    if (!n->alive) {
        n->crashing = false;
        return;
    }
    say(w, "n%u %s", n->id, n->stopping ? "stops" : "is killed");
    n->backend->destroy(n->core);
    n->core = NULL;
    n->alive = n->crashing = false;
    n->generation++;
    disk_crash(n);
    n->disk.tail_safe |= n->stopping;
    n->stopping = false;
    n->open_count = n->ticket_count = n->apply_count = n->untold_count = 0;
    n->applying = n->checkpoint_due = false;
    n->crash_in = 0;
    net_node_died(n);
}

void node_handle(world *w, sim_event *event)
{
    sim_node *n = &w->nodes[event->node];
    switch (event->kind) {
    case E_RESTART:
        node_start(n);
        return;
    case E_WRITE:
        client_write(n);
        return;
    case E_READ:
        node_read(n);
        if (!w->quiet) {
            schedule(w, rng_range(&w->rng, 20 * MS, 300 * MS), *event);
        }
        return;
    default:
        break;
    }
    if (!n->alive) {
        return;
    }
    switch (event->kind) {
    case E_TIMER:
        fire_timer(n, event->a);
        break;
    case E_TAKE:
        log_take(n);
        break;
    case E_COMMIT:
        log_commit(n);
        break;
    case E_APPLY:
        sm_apply(n);
        break;
    case E_CHECKPOINT:
        sm_checkpoint(n);
        break;
    case E_COLD_SEND:
    case E_COLD_LOAD:
    case E_FORGET:
    case E_COLD_COPY:
        action_late(n, event);
        break;
    default:
        break;
    }
}
