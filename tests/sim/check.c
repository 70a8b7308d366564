/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold, looked at from outside: on the fakes' own books, never on what a core says. One thread. */
#include "tests/sim/sim.h"

#include "replication/multimaster/mm.h"
#include "wal/block.h"
#include <stdlib.h>
#include <string.h>

/* An index that anybody may have seen belongs to one block for ever. */
void check_announced(sim_node *n, const sim_block *block)
{
    world *w = n->w;
    int sid = block->sid;
    if (w->torn[sid]) {
        return;
    }
    if (block->last >= w->known_capacity[sid]) {
        size_t capacity = (block->last + 1) * 2;
        w->known[sid] = realloc(w->known[sid], capacity * sizeof(sim_block *));
        memset(w->known[sid] + w->known_capacity[sid], 0,
               (capacity - w->known_capacity[sid]) * sizeof(sim_block *));
        w->known_capacity[sid] = capacity;
    }
    for (uint64_t index = block->first; index <= block->last; index++) {
        if (w->known[sid][index] == block) {
            return;
        }
        if (w->known[sid][index] != NULL) {
            fail(w, "node %u: index %llu of stream %u.%u is used a second time, with other content", n->id,
                 (unsigned long long)index, block->stream.node, block->stream.epoch);
            return;
        }
        w->known[sid][index] = (sim_block *)block;
    }
}

void check_acked(sim_node *n, const sim_write *write)
{
    world *w = n->w;
    const disk_stream *s = disk_stream_of(&n->disk, write->sid);
    if (!w->k.interval && s->durable < write->index) {
        fail(w, "node %u: entry %llu of stream %u.%u is acknowledged and not durable", n->id,
             (unsigned long long)write->index, w->streams[write->sid].node, w->streams[write->sid].epoch);
    }
}

uint64_t check_longest(world *w, int sid)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        uint64_t here = disk_last(disk_stream_of(&w->nodes[i].disk, sid));
        last = here > last ? here : last;
    }
    return last;
}

/* What the origin had applied when the write was made must be applied before it here, as far as any log still has it. */
void check_causal(sim_node *n, const sim_write *write)
{
    world *w = n->w;
    for (uint32_t i = 0; !w->k.arrival && i < write->seen_count; i++) {
        ab_mark seen = write->seen[i];
        int sid = stream_id(w, seen.stream);
        if (w->torn[sid] || w->torn[write->sid]) {
            continue;
        }
        if (n->sm.applied[sid] >= seen.index || sid == write->sid) {
            continue;
        }
        uint64_t there = check_longest(w, sid);
        uint64_t need = seen.index < there ? seen.index : there;
        if (n->sm.applied[sid] < need) {
            fail(w,
                 "node %u applies %u.%u:%llu before %u.%u:%llu, which its origin had applied before (here: "
                 "%llu)",
                 n->id, w->streams[write->sid].node, w->streams[write->sid].epoch,
                 (unsigned long long)write->index, seen.stream.node, seen.stream.epoch,
                 (unsigned long long)seen.index, (unsigned long long)n->sm.applied[sid]);
        }
    }
}

static bool has_durable(const sim_node *n, const sim_block *block)
{
    const disk_stream *s = &n->disk.streams[block->sid];
    if (s->base >= block->last) {
        return true;
    }
    for (size_t i = 0; i < s->count; i++) {
        if (s->blocks[i].block == block) {
            return s->durable >= block->last && !s->blocks[i].bad;
        }
    }
    return false;
}

/* `n` loses its copy of the block. If no other disk has it durable, its writes may be lost. Of a stream with two histories
 * what is trimmed may have been the other one. */
void check_lost(world *w, const sim_node *n, const sim_block *block)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        bool trimmed = w->nodes[i].disk.streams[block->sid].base >= block->last;
        if (!(trimmed && w->torn[block->sid]) && &w->nodes[i] != n && has_durable(&w->nodes[i], block)) {
            return;
        }
    }
    for (uint64_t k = 0; k <= block->last - block->first; k++) {
        w->writes[block->writes[k]].may_be_lost = true;
    }
}

static bool good_copy(world *w, int sid, uint64_t index)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        const disk_block *copy = disk_find(&w->nodes[i].disk.streams[sid], index);
        if (copy != NULL && !copy->bad) {
            return true;
        }
    }
    return false;
}

/* Entries after what `n` has that are trimmed where it could get them: at their origin, or, if it is the origin
 * itself, everywhere. */
static bool lacks_trimmed(world *w, const sim_node *n, int sid)
{
    uint64_t last = disk_last(&n->disk.streams[sid]);
    uint64_t most = check_longest(w, sid);
    if (sm_has(w, &n->sm, sid) < n->disk.streams[sid].base) {
        return true; /* its state machine lost what its log has trimmed */
    }
    const sim_node *origin = &w->nodes[w->streams[sid].node - 1];
    if (last >= most) {
        return false;
    }
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        const disk_block *next = disk_find(&w->nodes[i].disk.streams[sid], last + 1);
        bool may_give = n == origin || &w->nodes[i] == origin;
        if (may_give && next != NULL && (!next->bad || good_copy(w, sid, last + 1))) {
            return false;
        }
    }
    return n == origin || disk_last(&origin->disk.streams[sid]) > last;
}

/* A damaged block that the state machine still needs and that nobody can give. */
static bool lacks_repair(world *w, const sim_node *n, int sid)
{
    const disk_stream *s = &n->disk.streams[sid];
    for (size_t i = 0; i < s->count; i++) {
        bool elsewhere = !s->blocks[i].bad || s->blocks[i].block->last <= n->sm.applied[sid];
        for (uint32_t k = 0; k < w->k.nodes && !elsewhere; k++) {
            disk_block *other = disk_find(disk_stream_of(&w->nodes[k].disk, sid), s->blocks[i].block->first);
            elsewhere = other != NULL && !other->bad;
        }
        if (!elsewhere) {
            return true;
        }
    }
    return false;
}

/* Invariants of the core that can be seen at any time. */
void check_core(sim_node *n)
{
    world *w = n->w;
    if (w->k.standalone) {
        return;
    }
    const ab_mm *mm = n->core;
    if (mm->order.blocked) {
        note(w, F_WAITED);
    }
    for (uint32_t i = 0; i < mm->order.count; i++) {
        const ab_order_stream *stream = mm->order.streams[i];
        if (stream->held_count > AB_ORDER_HELD || stream->applied > stream->given ||
            stream->durable > stream->last) {
            fail(w, "node %u: stream %u.%u is beyond its bounds", n->id, stream->stream.node,
                 stream->stream.epoch);
        }
    }
}

/* A stream that a node forgets is trimmed there, and every member's log and state machine once had all of it. */
void check_forgotten(sim_node *n, int sid)
{
    world *w = n->w;
    const disk_stream *s = &n->disk.streams[sid];
    uint64_t end = disk_last(s);
    if (w->torn[sid]) {
        return;
    }
    if (s->count > 0) {
        fail(w, "node %u forgets stream %u.%u, of which its log has %llu-%llu", n->id, w->streams[sid].node,
             w->streams[sid].epoch, (unsigned long long)s->base + 1, (unsigned long long)end);
    }
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        const sim_node *other = &w->nodes[i];
        if (other->ever_durable[sid] < end || other->ever_applied[sid] < end) {
            fail(w,
                 "node %u forgets stream %u.%u, which ends at %llu, but node %u had %llu in its log, %llu in "
                 "its "
                 "state machine",
                 n->id, w->streams[sid].node, w->streams[sid].epoch, (unsigned long long)end, other->id,
                 (unsigned long long)other->ever_durable[sid], (unsigned long long)other->ever_applied[sid]);
        }
    }
}

/* When nothing goes on and nobody needs a snapshot, each member knows of each origin only the stream that it writes to:
 * older ones are folded away, once the origin has written to the new one. */
static bool check_known(void *arg, const ab_stream_status *status)
{
    const sim_node *n = arg;
    ab_stream stream = status->stream;
    const sim_node *origin = &n->w->nodes[stream.node - 1];
    if (stream.epoch != origin->append.stream.epoch && origin->append.index > 0) {
        fail(n->w, "node %u still knows stream %u.%u, and its origin writes to %u.%u", n->id, stream.node,
             stream.epoch, stream.node, origin->append.stream.epoch);
        return false;
    }
    return true;
}

void check_bounded(world *w)
{
    for (uint32_t i = 0; i < w->k.nodes && w->k.checkpoints && !w->rolled_back; i++) {
        w->nodes[i].backend->streams(w->nodes[i].core, check_known, &w->nodes[i]);
    }
}

/* Without snapshots a node whose disk was lost after the others had trimmed stays behind; and with it the streams that it
 * alone would have to hand on. */
bool check_lost_for_good(world *w, int sid, uint64_t first, uint64_t last)
{
    for (uint64_t index = first; index <= last; index++) {
        if (good_copy(w, sid, index)) {
            return false;
        }
    }
    return true;
}

void check_excused(world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        sim_node *n = &w->nodes[i];
        n->excused = n->went_on;
        n->relayed = false;
        for (int sid = 0; sid < w->stream_count && !n->excused; sid++) {
            n->excused = lacks_repair(w, n, sid);
        }
        bool damaged = n->excused;
        for (int sid = 0; sid < w->stream_count && !n->excused; sid++) {
            n->excused = lacks_trimmed(w, n, sid);
        }
        if (n->excused && !damaged && !n->disk_lost) {
            fail(w, "node %u lacks what the others have trimmed, and its disk was never lost", n->id);
        }
    }
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        sim_node *n = &w->nodes[i];
        for (int sid = 0; sid < w->stream_count && !n->relayed; sid++) {
            const sim_node *origin = &w->nodes[w->streams[sid].node - 1];
            n->relayed = origin != n && origin->excused && (w->torn[sid] || lacks_trimmed(w, origin, sid)) &&
                         disk_last(&n->disk.streams[sid]) < check_longest(w, sid);
        }
        n->excused |= n->relayed;
    }
}

/* How far a stream is to come. Of one with two histories a member that needs a snapshot may keep the one that went: what
 * repeats it is trimmed, so it cannot let go of it. */
static uint64_t longest_to_have(world *w, int sid)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        uint64_t here = disk_last(disk_stream_of(&w->nodes[i].disk, sid));
        last = here > last && !(w->torn[sid] && w->nodes[i].excused) ? here : last;
    }
    return last;
}

static bool node_is_done(world *w, sim_node *n, char *why, size_t size)
{
    if (!n->alive) {
        snprintf(why, size, "node %u is down", n->id);
        return false;
    }
    for (int sid = 0; sid < w->stream_count; sid++) {
        const disk_stream *s = disk_stream_of(&n->disk, sid);
        uint64_t most = longest_to_have(w, sid);
        ab_stream stream = w->streams[sid];
        if (w->torn[sid] && w->apart) {
            continue;
        }
        if (disk_last(s) < most || s->durable < most) {
            snprintf(why, size, "node %u has stream %u.%u up to %llu (durable %llu), another one up to %llu",
                     n->id, stream.node, stream.epoch, (unsigned long long)disk_last(s),
                     (unsigned long long)s->durable, (unsigned long long)most);
            return false;
        }
        if (n->sm.applied[sid] < most) {
            snprintf(why, size, "node %u has stream %u.%u up to %llu and applied only %llu", n->id,
                     stream.node, stream.epoch, (unsigned long long)most,
                     (unsigned long long)n->sm.applied[sid]);
            return false;
        }
    }
    if (n->open_count > 0 || n->ticket_count > 0) {
        snprintf(why, size, "node %u has writes that are not answered", n->id);
        return false;
    }
    return true;
}

bool check_converged(world *w, char *why, size_t size)
{
    check_excused(w);
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        if (!w->nodes[i].excused && !node_is_done(w, &w->nodes[i], why, size)) {
            return false;
        }
    }
    return true;
}

/* Final */

static void check_logs_equal(world *w)
{
    for (int sid = 0; sid < w->stream_count; sid++) {
        for (uint32_t i = 0; i < w->k.nodes; i++) {
            const disk_stream *s = disk_stream_of(&w->nodes[i].disk, sid);
            for (size_t k = 0; k < s->count; k++) {
                const sim_block *block = s->blocks[k].block;
                check_announced(&w->nodes[i], block);
            }
        }
    }
}

static bool holds(const sim_block *block, size_t write)
{
    for (uint64_t i = 0; i <= block->last - block->first; i++) {
        if (block->writes[i] == write) {
            return true;
        }
    }
    return false;
}

/* A write of a stream with two histories is in that stream, or in the one that repeats what went. */
static bool found_somewhere(world *w, size_t write)
{
    for (size_t i = 0; i < w->block_count; i++) {
        const sim_block *block = w->blocks[i];
        bool everywhere = holds(block, write);
        for (uint32_t k = 0; everywhere && k < w->k.nodes; k++) {
            const sim_node *n = &w->nodes[k];
            bool logged = has_durable(n, block) && n->sm.applied[block->sid] >= block->last;
            everywhere = n->excused || logged;
        }
        if (everywhere) {
            return true;
        }
    }
    return false;
}

static void check_nothing_lost(world *w)
{
    for (size_t i = 0; i < w->write_count; i++) {
        const sim_write *write = &w->writes[i];
        if (!write->acked || write->may_be_lost) {
            continue;
        }
        if (w->torn[write->sid]) {
            if (!w->apart && !found_somewhere(w, i)) {
                fail(w, "an acknowledged write of node %u (%u.%u:%llu at first) is not everywhere",
                     write->node, w->streams[write->sid].node, w->streams[write->sid].epoch,
                     (unsigned long long)write->index);
                return;
            }
            continue;
        }
        const sim_block *block = w->known[write->sid][write->index];
        if (block == NULL || block->writes[write->index - block->first] != i) {
            fail(w, "an acknowledged write of node %u is not in its stream", write->node);
            return;
        }
        for (uint32_t k = 0; k < w->k.nodes; k++) {
            const sim_node *n = &w->nodes[k];
            if (!n->excused && n->sm.applied[write->sid] < write->index) {
                fail(w, "an acknowledged write of node %u (%u.%u:%llu) is missing on node %u", write->node,
                     w->streams[write->sid].node, w->streams[write->sid].epoch,
                     (unsigned long long)write->index, n->id);
                return;
            }
            bool put = write->kind == WRITE_PUT && !n->excused;
            if (put && (n->sm.hlc[write->key] < write->hlc ||
                        (n->sm.hlc[write->key] == write->hlc && n->sm.node[write->key] < write->node))) {
                fail(w, "node %u: key %u has an older value than an acknowledged one", n->id, write->key);
                return;
            }
        }
    }
}

/* A state machine may have kept entries whose every log was destroyed: then states differ by those. */
static bool some_sm_ahead(world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        for (int sid = 0; sid < w->stream_count; sid++) {
            if (w->nodes[i].sm.applied[sid] > check_longest(w, sid)) {
                return true;
            }
        }
    }
    return false;
}

static void check_states_equal(world *w)
{
    const sim_node *first = NULL;
    if (w->apart || w->sm_ahead || some_sm_ahead(w)) {
        w->sm_ahead = true;
        return;
    }
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        const sim_node *n = &w->nodes[i];
        if (n->excused) {
            continue;
        }
        if (first == NULL) {
            first = n;
            continue;
        }
        bool puts = memcmp(first->sm.value, n->sm.value, sizeof n->sm.value) == 0;
        bool items =
            w->k.arrival || w->rolled_back || memcmp(first->sm.items, n->sm.items, sizeof n->sm.items) == 0;
        for (uint32_t k = 0; !puts && k < KEYS; k++) {
            if (first->sm.value[k] != n->sm.value[k]) {
                fail(w, "the states of nodes %u and %u differ in key %u: %u.%llu, %u.%llu", first->id, n->id,
                     k, first->sm.node[k], (unsigned long long)first->sm.hlc[k], n->sm.node[k],
                     (unsigned long long)n->sm.hlc[k]);
            }
        }
        for (uint32_t k = 0; !items && k < ITEMS_MAX; k++) {
            if (first->sm.items[k] != n->sm.items[k]) {
                fail(w, "the states of nodes %u and %u differ in item %u: %u, %u", first->id, n->id, k,
                     first->sm.items[k], n->sm.items[k]);
            }
        }
    }
}

/* Who needs a snapshot because the others trimmed or folded what it lacks was told, or they were of it. */
static void check_told(world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        sim_node *n = &w->nodes[i];
        for (int sid = 0; sid < w->stream_count && !n->told_trimmed; sid++) {
            if (!w->torn[sid] && lacks_trimmed(w, n, sid)) {
                fail(w, "node %u lacks entries of stream %u.%u that are trimmed, and nobody was told", n->id,
                     w->streams[sid].node, w->streams[sid].epoch);
                return;
            }
        }
    }
}

void check_final(world *w)
{
    check_told(w);
    check_logs_equal(w);
    check_nothing_lost(w);
    check_states_equal(w);
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        const sim_node *n = &w->nodes[i];
        for (uint32_t k = 0; k < READS_MAX; k++) {
            if (n->reads[k].open && n->reads[k].deadline < w->now) {
                fail(w, "node %u: a read was never answered", n->id);
            }
        }
    }
}
