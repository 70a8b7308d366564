/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of the nodes: what they write, what they had seen before, what they read. One thread. */
#include "tests/sim/sim.h"

#include "replication/hlc.h"
#include <stdlib.h>
#include <string.h>

static void see(sim_node *n, sim_write *write)
{
    ab_marks seen = {0};
    sm_frontier(n->w, &n->sm, &seen);
    write->seen = seen.marks;
    write->seen_count = seen.count;
}

void node_write(sim_node *n, write_kind kind, uint32_t key)
{
    world *w = n->w;
    if (!n->alive || n->crashing || n->stopping || n->full) {
        return;
    }
    if (w->write_count == w->write_capacity) {
        w->write_capacity = w->write_capacity == 0 ? 256 : w->write_capacity * 2;
        w->writes = realloc(w->writes, w->write_capacity * sizeof *w->writes);
    }
    n->hlc = ab_hlc_now(n->hlc, node_wall_ms(n));
    sim_write write = {.node = n->id, .kind = kind, .key = key, .hlc = n->hlc, .sid = -1};
    see(n, &write);
    w->writes[w->write_count] = write;
    if (n->open_count == n->open_capacity) {
        n->open_capacity = n->open_capacity == 0 ? 16 : n->open_capacity * 2;
        n->open = realloc(n->open, n->open_capacity * sizeof *n->open);
    }
    n->open[n->open_count++] = (uint32_t)w->write_count++;
    log_kick(n);
}

void client_write(sim_node *n)
{
    world *w = n->w;
    if (w->quiet) {
        return;
    }
    uint64_t count = rng_range(&w->rng, 1, rng_chance(&w->rng, 100) ? 12 : 4);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t item = (uint32_t)rng_below(&w->rng, w->item_count + 1);
        if (w->k.sm_rejects && rng_chance(&w->rng, 30)) {
            node_write(n, WRITE_POISON, 0);
        } else if (rng_chance(&w->rng, 300) && w->item_count < ITEMS_MAX) {
            node_write(n, WRITE_INSERT, w->item_count++);
        } else if (item < w->item_count && n->sm.items[item] == 1) {
            node_write(n, WRITE_DELETE, item);
        } else {
            node_write(n, WRITE_PUT, (uint32_t)rng_below(&w->rng, KEYS));
        }
    }
    uint64_t gap = rng_range(&w->rng, 1, 2 * w->k.writes_gap);
    schedule(w, gap, (sim_event){.kind = E_WRITE, .node = n->position, .generation = UINT64_MAX});
}

/* A session that saw what some node has applied reads here. */
void node_read(sim_node *n)
{
    world *w = n->w;
    sim_read *read = &n->reads[w->next_ticket % READS_MAX];
    if (!n->alive || read->open) {
        return;
    }
    ab_marks token = {0};
    sm_frontier(w, &w->nodes[rng_below(&w->rng, w->k.nodes)].sm, &token);
    read->open = true;
    read->ticket = w->next_ticket++;
    read->count = token.count < 8 ? token.count : 8;
    if (read->count > 0) {
        memcpy(read->marks, token.marks, read->count * sizeof *read->marks);
    }
    uint64_t timeout = rng_range(&w->rng, 50 * MS, 800 * MS);
    read->deadline = w->now + timeout;
    ab_event event = {.type = AB_EV_READ,
                      .ticket = read->ticket,
                      .read_level = AB_READ_SESSION,
                      .frontier = {read->marks, read->count},
                      .timeout_ns = timeout};
    node_step(n, &event);
    ab_marks_free(&token);
}
