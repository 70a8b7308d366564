/* SPDX-License-Identifier: Apache-2.0 */
/* Fake links: one connection per pair that comes and goes; packets that get lost, doubled, late or overtaken. One thread. */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#define RECONNECT_MIN (5 * MS)
#define RECONNECT_MAX (60 * MS)

sim_link *link_of(world *w, uint32_t a, uint32_t b)
{
    return a < b ? &w->links[a][b] : &w->links[b][a];
}

/* Which end of its link node `a` is, towards `b`. */
static unsigned end_of(uint32_t a, uint32_t b)
{
    return a < b ? 0 : 1;
}

static uint64_t delay_of(world *w, const sim_link *link)
{
    if (link->slow) {
        note(w, F_SLOW_LINK);
        return rng_range(&w->rng, 100 * MS, 600 * MS);
    }
    uint64_t delay = rng_range(&w->rng, w->k.delay_min, w->k.delay_max);
    if (w->faults && rng_chance(&w->rng, 20)) {
        note(w, F_REORDER);
        delay *= rng_range(&w->rng, 2, 8);
    }
    return delay;
}

/* In turn, at the speed of the line. */
static uint64_t queue_of(world *w, sim_link *link, unsigned end, const sim_block *block)
{
    uint64_t begin = link->free_at[end] > w->now ? link->free_at[end] : w->now;
    link->free_at[end] = begin + (block != NULL ? w->k.block_ns : 0);
    return link->free_at[end] - w->now + w->k.delay_min;
}

static void post(sim_node *from, uint32_t to, sim_link *link, sim_block *block, ab_bytes bytes)
{
    world *w = from->w;
    bool narrow = w->faults && w->k.block_ns > 0;
    packet *p = malloc(sizeof *p + bytes.size);
    p->from = from->position;
    p->to = to;
    p->session = link->session[end_of(from->position, to)];
    p->block = block;
    p->size = bytes.size;
    if (bytes.size > 0) {
        memcpy(p->bytes, bytes.data, bytes.size);
    }
    schedule(
        w, narrow ? queue_of(w, link, end_of(from->position, to), block) : delay_of(w, link),
        (sim_event){
            .kind = E_PACKET, .node = to, .peer = from->position, .generation = UINT64_MAX, .packet = p});
}

bool net_send(sim_node *from, uint32_t to, sim_block *block, ab_bytes bytes)
{
    world *w = from->w;
    sim_link *link = link_of(w, from->position, to);
    unsigned end = end_of(from->position, to);
    if (!link->up[end]) {
        return false;
    }
    if (block != NULL) {
        check_announced(from, block);
    }
    if (link->queued[end] >= w->k.queue_packets && block != NULL) {
        note(w, F_BUSY);
        return false;
    }
    if (block != NULL && w->drop_blocks[from->position][to] > 0) {
        w->drop_blocks[from->position][to]--;
        say(w, "-- a block from n%u to n%u is lost", from->id, w->nodes[to].id);
        return true;
    }
    if (link->cut[end] || (w->faults && rng_chance(&w->rng, w->k.drop))) {
        note(w, F_DROP);
        return true;
    }
    link->queued[end]++;
    post(from, to, link, block, bytes);
    if (w->faults && rng_chance(&w->rng, w->k.duplicate)) {
        note(w, F_DUPLICATE);
        link->queued[end]++;
        post(from, to, link, block, bytes);
    }
    return true;
}

static void arrive(world *w, const packet *p)
{
    sim_node *n = &w->nodes[p->to];
    sim_link *link = link_of(w, p->from, p->to);
    unsigned sender = end_of(p->from, p->to);
    unsigned end = end_of(p->to, p->from);
    link->queued[sender] -= link->queued[sender] > 0;
    if (!n->alive || !link->up[end] || link->session[end] != p->session || link->cut[sender]) {
        return;
    }
    if (p->block == NULL) {
        ab_event message = {
            .type = AB_EV_MESSAGE, .peer = w->nodes[p->from].id, .bytes = {p->bytes, p->size}};
        node_step(n, &message);
        return;
    }
    ab_block_info info;
    block_info(p->block, &info);
    node_step(n, &(ab_event){.type = AB_EV_BLOCK,
                             .peer = w->nodes[p->from].id,
                             .block = &info,
                             .token = (uint64_t)(uintptr_t)p->block});
}

void net_connect(world *w, uint32_t a, uint32_t b, uint64_t delay)
{
    sim_link *link = link_of(w, a, b);
    if (link->connecting) {
        return;
    }
    link->connecting = true;
    schedule(w, delay, (sim_event){.kind = E_CONNECT, .node = a, .peer = b, .generation = UINT64_MAX});
}

static uint64_t pause(world *w)
{
    return rng_range(&w->rng, RECONNECT_MIN, RECONNECT_MAX);
}

static void connect_now(world *w, uint32_t a, uint32_t b)
{
    sim_link *link = link_of(w, a, b);
    link->connecting = false;
    if (!w->nodes[a].alive || !w->nodes[b].alive) {
        return; /* the one that starts connects again */
    }
    if (link->up[0] || link->up[1] || link->cut[0] || link->cut[1]) {
        net_connect(w, a, b, pause(w));
        return;
    }
    uint64_t session = ++w->next_session;
    uint32_t ends[2] = {a < b ? a : b, a < b ? b : a};
    link->queued[0] = link->queued[1] = 0;
    for (unsigned i = 0; i < 2; i++) {
        link->session[i] = session;
        schedule(w, rng_range(&w->rng, 0, 3 * MS),
                 (sim_event){.kind = E_UP,
                             .node = ends[i],
                             .peer = ends[1 - i],
                             .generation = w->nodes[ends[i]].generation,
                             .a = session});
    }
}

static void end_up(world *w, const sim_event *event)
{
    sim_node *n = &w->nodes[event->node];
    sim_link *link = link_of(w, event->node, event->peer);
    unsigned end = end_of(event->node, event->peer);
    if (!n->alive || link->session[end] != event->a || link->up[end]) {
        return;
    }
    link->up[end] = true;
    say(w, "n%u: link to n%u is up", n->id, w->nodes[event->peer].id);
    node_step(n, &(ab_event){.type = AB_EV_PEER_UP, .peer = w->nodes[event->peer].id});
}

static void end_down(world *w, const sim_event *event)
{
    sim_node *n = &w->nodes[event->node];
    sim_link *link = link_of(w, event->node, event->peer);
    unsigned end = end_of(event->node, event->peer);
    if (link->session[end] != event->a) {
        return;
    }
    link->session[end] = 0; /* an UP of it that is still on its way does not count any more */
    if (link->up[end] && n->alive) {
        link->up[end] = false;
        say(w, "n%u: link to n%u is down", n->id, w->nodes[event->peer].id);
        node_step(n, &(ab_event){.type = AB_EV_PEER_DOWN, .peer = w->nodes[event->peer].id});
    }
    link->up[end] = false;
    net_connect(w, event->node, event->peer, pause(w));
}

/* Both ends notice, one after the other. */
void net_break(world *w, uint32_t a, uint32_t b)
{
    sim_link *link = link_of(w, a, b);
    uint32_t ends[2] = {a < b ? a : b, a < b ? b : a};
    for (unsigned i = 0; i < 2; i++) {
        if (link->session[i] == 0) {
            continue;
        }
        schedule(w, rng_range(&w->rng, 0, 20 * MS),
                 (sim_event){.kind = E_DOWN,
                             .node = ends[i],
                             .peer = ends[1 - i],
                             .generation = UINT64_MAX,
                             .a = link->session[i]});
    }
}

void net_node_died(sim_node *n)
{
    world *w = n->w;
    for (uint32_t other = 0; other < w->k.nodes; other++) {
        if (other == n->position) {
            continue;
        }
        sim_link *link = link_of(w, n->position, other);
        net_break(w, n->position, other);
        link->up[end_of(n->position, other)] = false;
        link->session[end_of(n->position, other)] = 0;
    }
}

void net_handle(world *w, sim_event *event)
{
    switch (event->kind) {
    case E_CONNECT:
        connect_now(w, event->node, event->peer);
        break;
    case E_UP:
        end_up(w, event);
        break;
    case E_DOWN:
        end_down(w, event);
        break;
    default:
        arrive(w, event->packet);
        break;
    }
}
