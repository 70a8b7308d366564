/* SPDX-License-Identifier: Apache-2.0 */
/* A node: the driver around one core. Carries its actions out on the fakes, as the engine does on threads. One thread. */
#include "tests/sim/sim.h"

#include "replication/epoch.h"
#include "replication/hlc.h"
#include "replication/order.h"
#include "tests/sim/words.h"
#include "wal/block.h"
#include <stdlib.h>
#include <string.h>

#define FOLLOW_MAX 32u
#define SPINS_MAX 200u

/* Answers to AB_ACT_SEND that was served at once: told to the core when the list at hand is done. */
typedef struct follow {
    ab_event events[FOLLOW_MAX];
    size_t count;
    size_t next;
} follow;

uint64_t node_wall_ms(const sim_node *n)
{
    int64_t ms = (int64_t)(1000000 + n->w->now / MS) + n->clock_offset_ms;
    return ms > 1000 ? (uint64_t)ms : 1000;
}

static uint32_t position_of(const world *w, uint32_t id)
{
    (void)w;
    return id - 1;
}

/* Sending */

static ab_event serve_send(sim_node *n, const ab_action *action)
{
    world *w = n->w;
    int sid = stream_id(w, action->mark.stream);
    uint32_t to = position_of(w, action->peer);
    disk_stream *s = disk_stream_of(&n->disk, sid);
    ab_event sent = {.type = AB_EV_SENT, .peer = action->peer, .mark = action->mark};
    sent.mark.index--;
    while (sent.blocks_sent < action->blocks) {
        uint64_t next = sent.mark.index + 1;
        disk_block *found = disk_find(s, next);
        if (found == NULL) {
            sent.code = next <= s->base ? AB_ETRIMMED : AB_OK;
            break;
        }
        if (found->bad || found->block->first != next) {
            sent.code = found->bad ? AB_ECORRUPT : AB_EDIVERGED;
            break;
        }
        if (sent.blocks_sent > 0 && sent.bytes_sent + found->block->bytes > action->bytes) {
            break;
        }
        if (!net_send(n, to, found->block, (ab_bytes){NULL, 0})) {
            sent.code = link_of(w, n->position, to)->up[n->position < to ? 0 : 1] ? AB_EBUSY : AB_ECLOSED;
            break;
        }
        if (found->block->last <= n->sent_upto[to][sid]) {
            note(w, F_RESEND);
        } else {
            n->sent_upto[to][sid] = found->block->last;
        }
        sent.blocks_sent++;
        sent.bytes_sent += found->block->bytes;
        sent.mark.index = found->block->last;
    }
    say(w, "n%u sends n%u %u blocks of %u.%u from %llu%s%s", n->id, action->peer, sent.blocks_sent,
        action->mark.stream.node, action->mark.stream.epoch, (unsigned long long)action->mark.index,
        sent.code != AB_OK ? ": " : "", sent.code != AB_OK ? word_of_code(sent.code) : "");
    return sent;
}

static void act_send(sim_node *n, const ab_action *action, follow *later)
{
    world *w = n->w;
    int sid = stream_id(w, action->mark.stream);
    bool *under_way = &n->sending[position_of(w, action->peer)][sid];
    if (*under_way) {
        fail(w, "node %u: a second send of stream %u.%u to node %u", n->id, action->mark.stream.node,
             action->mark.stream.epoch, action->peer);
    }
    if (later->count < FOLLOW_MAX && (w->golden || rng_chance(&w->rng, 700))) {
        later->events[later->count++] = serve_send(n, action);
        return;
    }
    *under_way = true;
    schedule(w, rng_range(&w->rng, MS / 20, 5 * MS),
             (sim_event){
                 .kind = E_COLD_SEND, .node = n->position, .generation = n->generation, .action = *action});
}

static void cold_send(sim_node *n, const ab_action *action)
{
    ab_event sent = serve_send(n, action);
    n->sending[position_of(n->w, action->peer)][stream_id(n->w, action->mark.stream)] = false;
    node_step(n, &sent);
}

/* Reading back */

static void cold_load(sim_node *n, const ab_action *action)
{
    world *w = n->w;
    disk_stream *s = disk_stream_of(&n->disk, stream_id(w, action->mark.stream));
    ab_block_info infos[AB_ORDER_LOAD_BLOCKS];
    size_t count = 0;
    uint64_t next = action->mark.index;
    note(w, F_LOAD);
    while (count < action->blocks && count < AB_ORDER_LOAD_BLOCKS) {
        disk_block *found = disk_find(s, next);
        if (found == NULL) {
            break;
        }
        block_info(found->block, &infos[count]);
        if (found->bad) {
            note(w, F_BAD_SEEN);
            say(w, "n%u finds %u.%u:%llu-%llu damaged", n->id, found->block->stream.node,
                found->block->stream.epoch, (unsigned long long)found->block->first,
                (unsigned long long)found->block->last);
            node_step(n, &(ab_event){.type = AB_EV_BAD, .block = &infos[count]});
            break;
        }
        next = found->block->last + 1;
        count++;
    }
    if (!n->crashing) {
        node_step(n, &(ab_event){
                         .type = AB_EV_LOADED, .mark = action->mark, .blocks = infos, .block_count = count});
    }
}

/* Actions */

static void act_log(sim_node *n, const ab_action *action)
{
    world *w = n->w;
    sim_block *block = (sim_block *)(uintptr_t)action->token;
    bool skewed = false;
    n->hlc = ab_hlc_merge(n->hlc, block->hlc_last, node_wall_ms(n), w->k.max_skew_ms, &skewed);
    if (skewed) {
        note(w, F_SKEWED);
    }
    say(w, "n%u logs %u.%u:%llu-%llu%s", n->id, block->stream.node, block->stream.epoch,
        (unsigned long long)block->first, (unsigned long long)block->last,
        action->type == AB_ACT_REPAIR ? " over the damaged one" : "");
    ops_push(&n->queue, (op){.type = action->type == AB_ACT_REPAIR ? OP_REPAIR : OP_BLOCK, .block = block});
    log_kick(n);
}

static void push_apply(sim_node *n, apply_item item)
{
    if (n->apply_count == n->apply_capacity) {
        n->apply_capacity = n->apply_capacity == 0 ? 16 : n->apply_capacity * 2;
        n->apply = realloc(n->apply, n->apply_capacity * sizeof *n->apply);
    }
    n->apply[n->apply_count++] = item;
    sm_kick(n);
}

static void act_apply(sim_node *n, const ab_action *action)
{
    push_apply(n, (apply_item){.sid = stream_id(n->w, action->mark.stream),
                               .first = action->first,
                               .last = action->mark.index});
    if (n->apply_count > AB_ORDER_GIVEN + 8) {
        fail(n->w, "node %u: %zu blocks given to a state machine that takes none", n->id, n->apply_count);
    }
}

static void act_acked(sim_node *n, const ab_action *action)
{
    world *w = n->w;
    size_t kept = 0;
    for (size_t i = 0; i < n->ticket_count; i++) {
        sim_block *block = n->tickets[i];
        bool same = ab_stream_compare(block->stream, action->mark.stream) == 0;
        if (!same || block->last > action->mark.index) {
            n->tickets[kept++] = block;
            continue;
        }
        check_announced(n, block);
        for (uint64_t k = 0; k <= block->last - block->first; k++) {
            w->writes[block->writes[k]].acked = true;
            check_acked(n, &w->writes[block->writes[k]]);
        }
    }
    n->ticket_count = kept;
    say(w, "n%u answers writes up to %u.%u:%llu", n->id, action->mark.stream.node, action->mark.stream.epoch,
        (unsigned long long)action->mark.index);
}

static void act_append(sim_node *n, const ab_action *action)
{
    world *w = n->w;
    if (n->append.stream.node != 0) {
        note(w, F_NEW_EPOCH_RUNNING);
    }
    n->top_epoch = action->mark.stream.epoch > n->top_epoch ? action->mark.stream.epoch : n->top_epoch;
    n->append = action->mark;
    n->append_hash = action->hash;
    n->append_code = action->code;
    say(w, "n%u writes to %u.%u after %llu", n->id, action->mark.stream.node, action->mark.stream.epoch,
        (unsigned long long)action->mark.index);
}

static void act_persist(sim_node *n, const ab_action *action)
{
    bool epoch = action->key.size == strlen(AB_EPOCH_KEY);
    op item = {.type = OP_VALUE};
    value_set(&item.value, action->key, action->data);
    if (epoch) {
        note(n->w, F_NEW_EPOCH);
    }
    ops_push(&n->queue, item);
    log_kick(n);
}

/* A later commit will do, too. */
static void act_forget(sim_node *n, const ab_action *action)
{
    world *w = n->w;
    sim_event later = {.kind = E_FORGET, .node = n->position, .generation = n->generation, .action = *action};
    bool wait = w->faults && rng_chance(&w->rng, 300);
    schedule(w, wait ? rng_range(&w->rng, 10 * MS, 400 * MS) : 0, later);
    if (n->starting) {
        note(w, F_FOLDED_AGAIN);
    }
}

static void forget(sim_node *n, const ab_action *action)
{
    op item = {.type = OP_FORGET, .sid = stream_id(n->w, action->mark.stream), .index = action->first};
    ops_push(&n->queue, item);
    log_kick(n);
}

static void act_rewind(sim_node *n, const ab_action *action)
{
    op item = {.type = OP_REWIND,
               .sid = stream_id(n->w, action->mark.stream),
               .index = action->mark.index,
               .hash = action->hash};
    value_set(&item.value, action->key, action->data);
    ops_push(&n->queue, item);
    log_kick(n);
}

static void act_move(sim_node *n, const ab_action *action)
{
    push_apply(n, (apply_item){
                      .sid = stream_id(n->w, action->mark.stream), .last = action->mark.index, .move = true});
}

static void cold_copy(sim_node *n, const ab_action *action)
{
    world *w = n->w;
    ab_stream from = {action->mark.stream.node, action->origin.epoch};
    uint64_t first = action->origin.fork + action->mark.index + 1;
    disk_block *found = disk_find(disk_stream_of(&n->disk, stream_id(w, from)), first);
    if (found == NULL || found->block->first != first) {
        fail(w, "node %u: no block of stream %u.%u starts at %llu, where it is to be repeated", n->id,
             from.node, from.epoch, (unsigned long long)first);
        return;
    }
    if (found->bad) {
        ab_block_info info;
        block_info(found->block, &info);
        node_step(n, &(ab_event){.type = AB_EV_BAD, .block = &info});
        return;
    }
    note(w, F_COPIED);
    sim_block *block = block_repeat(w, found->block, action->mark, action->hash, action->origin);
    say(w, "n%u logs %u.%u:%llu-%llu again as %u.%u:%llu-%llu", n->id, from.node, from.epoch,
        (unsigned long long)found->block->first, (unsigned long long)found->block->last, block->stream.node,
        block->stream.epoch, (unsigned long long)block->first, (unsigned long long)block->last);
    ops_push(&n->queue, (op){.type = OP_BLOCK, .block = block});
    log_kick(n);
}

static void act_trim(sim_node *n, const ab_action *action)
{
    say(n->w, "n%u may trim %u.%u up to %llu", n->id, action->mark.stream.node, action->mark.stream.epoch,
        (unsigned long long)action->mark.index);
    ops_push(&n->queue,
             (op){.type = OP_TRIM, .sid = stream_id(n->w, action->mark.stream), .index = action->mark.index});
    log_kick(n);
}

static void act_read_done(sim_node *n, const ab_action *action)
{
    world *w = n->w;
    sim_read *read = &n->reads[action->ticket % READS_MAX];
    if (!read->open || read->ticket != action->ticket) {
        fail(w, "node %u: read %llu is answered but nobody asked", n->id, (unsigned long long)action->ticket);
        return;
    }
    read->open = false;
    note(w, action->code == AB_OK ? F_READ_SESSION : F_READ_TIMEOUT);
    if (action->code != AB_OK && w->now < read->deadline) {
        fail(w, "node %u: read %llu timed out before its time", n->id, (unsigned long long)action->ticket);
    }
    for (uint32_t i = 0; action->code == AB_OK && i < read->count; i++) {
        uint64_t need = read->marks[i].index;
        int sid = stream_id(w, read->marks[i].stream);
        uint64_t most = check_longest(w, sid);
        if (n->disk.streams[sid].forgotten && most < need) {
            need = most; /* the rest was lost with every log that had it */
        }
        if (sm_has(w, &n->sm, sid) < need) {
            fail(w, "node %u: a session read ran before %u.%u:%llu was applied", n->id,
                 read->marks[i].stream.node, read->marks[i].stream.epoch, (unsigned long long)need);
        }
    }
}

static void act_report(sim_node *n, const ab_action *action)
{
    if (action->code == AB_ETRIMMED) {
        n->told_trimmed = true;
        if (action->peer != 0) {
            n->w->nodes[action->peer - 1].told_trimmed = true;
        }
        n->w->apart |= n->w->torn[stream_id(n->w, action->mark.stream)];
    }
    say(n->w, "n%u reports %s: %u.%u:%llu, n%u: %.*s", n->id, word_of_code(action->code),
        action->mark.stream.node, action->mark.stream.epoch, (unsigned long long)action->mark.index,
        action->peer, (int)action->data.size, (const char *)action->data.data);
    if (action->code == AB_EDIVERGED) {
        note(n->w, F_DIVERGED);
    }
    if (action->code == AB_EDIVERGED && !n->w->torn[stream_id(n->w, action->mark.stream)]) {
        fail(n->w, "node %u reports diverged histories of stream %u.%u at %llu", n->id,
             action->mark.stream.node, action->mark.stream.epoch, (unsigned long long)action->mark.index);
    }
}

static void carry_out(sim_node *n, const ab_action *action, follow *later)
{
    world *w = n->w;
    trace(w, "action", n->id, action->type, action->mark.index, action->first ^ action->data.size);
    switch (action->type) {
    case AB_ACT_LOG:
    case AB_ACT_REPAIR:
        act_log(n, action);
        break;
    case AB_ACT_SEND:
        act_send(n, action, later);
        break;
    case AB_ACT_MESSAGE:
        say_message(w, n->id, action->peer, action->data);
        (void)net_send(n, position_of(w, action->peer), NULL, action->data);
        break;
    case AB_ACT_APPLY:
        act_apply(n, action);
        break;
    case AB_ACT_LOAD:
        schedule(
            w, rng_range(&w->rng, MS / 20, 2 * MS),
            (sim_event){
                .kind = E_COLD_LOAD, .node = n->position, .generation = n->generation, .action = *action});
        break;
    case AB_ACT_ACKED:
        act_acked(n, action);
        break;
    case AB_ACT_TRIM:
        act_trim(n, action);
        break;
    case AB_ACT_PERSIST:
        act_persist(n, action);
        break;
    case AB_ACT_APPEND:
        act_append(n, action);
        break;
    case AB_ACT_READ_DONE:
        act_read_done(n, action);
        break;
    case AB_ACT_REPORT:
        act_report(n, action);
        break;
    case AB_ACT_FORGET:
        act_forget(n, action);
        break;
    case AB_ACT_COPY:
        n->top_epoch = action->mark.stream.epoch > n->top_epoch ? action->mark.stream.epoch : n->top_epoch;
        schedule(
            w, rng_range(&w->rng, MS / 20, 2 * MS),
            (sim_event){
                .kind = E_COLD_COPY, .node = n->position, .generation = n->generation, .action = *action});
        break;
    case AB_ACT_REWIND:
        act_rewind(n, action);
        break;
    case AB_ACT_FRONTIER:
        act_move(n, action);
        break;
    }
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

static int one_step(sim_node *n, const ab_event *event, follow *later)
{
    world *w = n->w;
    trace(w, "step", n->id, event->type, event->mark.index, event->peer);
    int code = n->backend->step(n->core, event, w->now, &n->actions);
    for (size_t i = 0; i < n->actions.count && !n->crashing && !w->failed; i++) {
        carry_out(n, ab_actions_at(&n->actions, i), later);
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
    follow later = {.count = 0};
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
        cold_send(n, &event->action);
        break;
    case E_COLD_LOAD:
        cold_load(n, &event->action);
        break;
    case E_FORGET:
        forget(n, &event->action);
        break;
    case E_COLD_COPY:
        cold_copy(n, &event->action);
        break;
    default:
        break;
    }
}
