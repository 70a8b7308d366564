/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out what a core asks for on the fakes, at once or later, as the engine does on threads. One thread. */
#include "tests/sim/sim.h"

#include "replication/epoch.h"
#include "replication/hlc.h"
#include "replication/order.h"
#include "tests/sim/words.h"
#include "wal/block.h"
#include <stdlib.h>
#include <string.h>

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

static void act_send(sim_node *n, const ab_action *action, sim_follow *later)
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

/* Whether a stream that the report is about has two histories. One of folds names the last stream, without an index. */
static bool is_torn(world *w, ab_mark mark)
{
    bool torn = w->torn[stream_id(w, mark.stream)];
    for (int sid = 0; mark.index == 0 && sid < w->stream_count; sid++) {
        ab_stream stream = w->streams[sid];
        torn |= stream.node == mark.stream.node && stream.epoch < mark.stream.epoch && w->torn[sid];
    }
    return torn;
}

static void act_report(sim_node *n, const ab_action *action)
{
    bool of_folds = action->code == AB_EDIVERGED && action->mark.index == 0;
    if (of_folds) { /* what was written before it was heard of is in one log only, and stays there */
        n->w->apart |= is_torn(n->w, action->mark);
    }
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
    if (action->code == AB_EDIVERGED && !is_torn(n->w, action->mark)) {
        fail(n->w, "node %u reports diverged histories of stream %u.%u at %llu", n->id,
             action->mark.stream.node, action->mark.stream.epoch, (unsigned long long)action->mark.index);
    }
}

void action_carry_out(sim_node *n, const ab_action *action, sim_follow *later)
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

void action_late(sim_node *n, const sim_event *event)
{
    switch (event->kind) {
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
