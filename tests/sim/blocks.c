/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks of a world: made, repeated, described; the world keeps them to its end. One thread. */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static void keep(world *w, sim_block *block)
{
    if (w->block_count == w->block_capacity) {
        w->block_capacity = w->block_capacity == 0 ? 256 : w->block_capacity * 2;
        w->blocks = realloc(w->blocks, w->block_capacity * sizeof(sim_block *));
    }
    w->blocks[w->block_count++] = block;
}

sim_block *block_make(world *w, sim_node *n, const uint32_t *writes, size_t count, ab_frontier deps)
{
    sim_block *block = calloc(1, sizeof *block);
    block->stream = n->append.stream;
    block->sid = stream_id(w, block->stream);
    block->first = n->append.index + 1;
    block->last = n->append.index + count;
    block->prev_hash = n->append_hash;
    block->bytes = (uint32_t)(96 + count * 110 + deps.count * 16);
    block->writes = malloc(count * sizeof *block->writes);
    memcpy(block->writes, writes, count * sizeof *writes);
    block->dep_count = (uint32_t)deps.count;
    uint64_t hash = hash_mix(block->prev_hash + 1, block->first);
    if (deps.count > 0) {
        block->deps = malloc(deps.count * sizeof *block->deps);
        memcpy(block->deps, deps.marks, deps.count * sizeof *block->deps);
    }
    for (size_t i = 0; i < count; i++) {
        sim_write *write = &w->writes[writes[i]];
        write->sid = block->sid;
        write->index = block->first + i;
        block->hlc_last = write->hlc;
        hash = hash_mix(hash, (uint64_t)writes[i] << 32 | write->node);
    }
    block->hash = hash | 1; /* never 0: that stands for "none" */
    keep(w, block);
    return block;
}

/* As ab_block_repeat(): the entries of `old` as the next block of the copy. */
sim_block *block_repeat(world *w, const sim_block *old, ab_mark after, uint64_t prev_hash,
                        ab_block_origin origin)
{
    sim_block *block = calloc(1, sizeof *block);
    size_t count = old->last - old->first + 1;
    ab_marks deps = {0};
    *block = *old;
    block->stream = after.stream;
    block->sid = stream_id(w, after.stream);
    block->first = after.index + 1;
    block->last = after.index + count;
    block->prev_hash = prev_hash;
    block->origin = origin;
    block->origin.hash = old->hash;
    for (uint32_t i = 0; i < old->dep_count; i++) {
        (void)ab_marks_set(&deps, old->deps[i]);
    }
    if (block->first == 1) {
        (void)ab_marks_set(&deps, (ab_mark){old->stream, origin.fork});
    }
    block->deps = deps.marks;
    block->dep_count = deps.count;
    block->writes = malloc(count * sizeof *block->writes);
    memcpy(block->writes, old->writes, count * sizeof *block->writes);
    block->hash = hash_mix(hash_mix(prev_hash + 2, block->first), old->hash) | 1;
    keep(w, block);
    return block;
}

void block_info(const sim_block *block, ab_block_info *info)
{
    *info = (ab_block_info){.stream = block->stream,
                            .first = block->first,
                            .last = block->last,
                            .hlc_last = block->hlc_last,
                            .hash = block->hash,
                            .prev_hash = block->prev_hash,
                            .bytes = block->bytes,
                            .deps = block->deps,
                            .dep_count = block->dep_count,
                            .origin = block->origin};
}
