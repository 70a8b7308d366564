/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual time, the queue of events, random numbers, the trace. One thread. */
#include "tests/sim/sim.h"

#include "wal/block.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

uint64_t rng_next(rng *r)
{
    uint64_t x = r->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t rng_below(rng *r, uint64_t bound)
{
    return bound == 0 ? 0 : rng_next(r) % bound;
}

uint64_t rng_range(rng *r, uint64_t low, uint64_t high)
{
    return low + rng_below(r, high - low + 1);
}

bool rng_chance(rng *r, unsigned per_mille)
{
    return per_mille > 0 && rng_below(r, 1000) < per_mille;
}

const char *fault_text(fault f)
{
    static const char *const texts[] = {
#define FAULT_TEXT(name, text) text,
        FAULT_LIST(FAULT_TEXT)
#undef FAULT_TEXT
    };
    return texts[f];
}

void note(world *w, fault f)
{
    w->counters[f]++;
}

static void mix(world *w, uint64_t value)
{
    w->trace_hash = (w->trace_hash ^ value) * UINT64_C(0x100000001b3);
    w->trace_hash ^= w->trace_hash >> 29;
}

void trace(world *w, const char *what, uint32_t node, uint64_t a, uint64_t b, uint64_t c)
{
    mix(w, w->now);
    mix(w, (uint64_t)(unsigned char)what[0] << 32 | node);
    mix(w, a);
    mix(w, b);
    mix(w, c);
}

void say(world *w, const char *format, ...)
{
    if (w->trace == NULL) {
        return;
    }
    va_list arguments;
    fprintf(w->trace, "%10.3f  ", (double)w->now / (double)MS);
    va_start(arguments, format);
    vfprintf(w->trace, format, arguments);
    va_end(arguments);
    fputc('\n', w->trace);
}

void fail(world *w, const char *format, ...)
{
    if (w->failed) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(w->failure, sizeof w->failure, format, arguments);
    va_end(arguments);
    w->failed = true;
    say(w, "FAILED: %s", w->failure);
}

int stream_id(world *w, ab_stream stream)
{
    for (int i = w->stream_count; i-- > 0;) {
        if (ab_stream_compare(w->streams[i], stream) == 0) {
            return i;
        }
    }
    if (w->stream_count == (int)STREAMS_MAX) {
        fail(w, "more streams than the simulator can hold");
        return 0;
    }
    w->streams[w->stream_count] = stream;
    return w->stream_count++;
}

/* The queue: a binary heap by time, then by the order in which events were scheduled. */

static bool before(const sim_event *a, const sim_event *b)
{
    return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}

void schedule(world *w, uint64_t delay, sim_event event)
{
    if (w->heap_count == w->heap_capacity) {
        w->heap_capacity = w->heap_capacity == 0 ? 256 : w->heap_capacity * 2;
        w->heap = realloc(w->heap, w->heap_capacity * sizeof *w->heap);
    }
    event.at = w->now + delay;
    event.seq = w->seq++;
    size_t at = w->heap_count++;
    while (at > 0 && before(&event, &w->heap[(at - 1) / 2])) {
        w->heap[at] = w->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    w->heap[at] = event;
}

static sim_event pop(world *w)
{
    sim_event top = w->heap[0];
    sim_event last = w->heap[--w->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= w->heap_count) {
            break;
        }
        if (child + 1 < w->heap_count && before(&w->heap[child + 1], &w->heap[child])) {
            child++;
        }
        if (!before(&w->heap[child], &last)) {
            break;
        }
        w->heap[at] = w->heap[child];
        at = child;
    }
    if (w->heap_count > 0) {
        w->heap[at] = last;
    }
    return top;
}

static void dispatch(world *w, sim_event *event)
{
    switch (event->kind) {
    case E_CONNECT:
    case E_UP:
    case E_DOWN:
    case E_PACKET:
        net_handle(w, event);
        break;
    case E_FAULT:
    case E_HEAL:
        faults_handle(w, event);
        break;
    default:
        node_handle(w, event);
        break;
    }
}

bool world_step(world *w)
{
    if (w->heap_count == 0 || w->failed) {
        return false;
    }
    sim_event event = pop(w);
    w->now = event.at;
    w->steps++;
    bool current = event.generation == UINT64_MAX || event.generation == w->nodes[event.node].generation;
    if (current) {
        trace(w, "event", event.node, event.kind, event.a, event.b);
        dispatch(w, &event);
    }
    free(event.packet);
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        if (w->nodes[i].crashing) {
            node_crash(&w->nodes[i]);
        }
    }
    return !w->failed;
}

void world_run(world *w, uint64_t until)
{
    while (!w->failed && w->heap_count > 0 && w->heap[0].at <= until) {
        world_step(w);
    }
    w->now = w->now < until ? until : w->now;
}

void world_init(world *w, uint64_t seed, const knobs *k)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->rng.state = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    w->k = *k;
    w->now = 10 * SECOND;
    for (uint32_t i = 0; i < k->nodes; i++) {
        sim_node *n = &w->nodes[i];
        n->w = w;
        n->id = i + 1;
        n->position = i;
        n->disk.tail_safe = false;
        n->backend = k->standalone ? &ab_backend_standalone : &ab_backend_multimaster;
    }
}

void world_free(world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        sim_node *n = &w->nodes[i];
        if (n->core != NULL) {
            n->backend->destroy(n->core);
        }
        ab_actions_free(&n->actions);
        disk_free(&n->disk);
        if (n->copy != NULL) {
            disk_free(n->copy);
            free(n->copy);
        }
        free(n->open);
        free(n->queue.items);
        free(n->batch.items);
        free(n->apply);
        free(n->tickets);
    }
    for (size_t i = 0; i < w->heap_count; i++) {
        free(w->heap[i].packet);
    }
    for (size_t i = 0; i < w->block_count; i++) {
        free(w->blocks[i]->deps);
        free(w->blocks[i]->writes);
        free(w->blocks[i]);
    }
    for (size_t i = 0; i < w->write_count; i++) {
        free(w->writes[i].seen);
    }
    for (int i = 0; i < w->stream_count; i++) {
        free(w->known[i]);
    }
    free(w->heap);
    free(w->blocks);
    free(w->writes);
}
