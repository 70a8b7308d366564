/* SPDX-License-Identifier: Apache-2.0 */
/* What lies on a node's disk: its streams' blocks, with a durable prefix each, and small values. One thread. */
#include "tests/sim/sim.h"

#include "replication/epoch.h"
#include "wal/bytes.h"
#include <stdlib.h>
#include <string.h>

disk_stream *disk_stream_of(disk *d, int sid)
{
    return &d->streams[sid];
}

uint64_t disk_last(const disk_stream *s)
{
    return s->count > 0 ? s->blocks[s->count - 1].block->last : s->base;
}

uint64_t disk_last_hash(const disk_stream *s)
{
    return s->count > 0 ? s->blocks[s->count - 1].block->hash : s->base_hash;
}

disk_block *disk_find(disk_stream *s, uint64_t index)
{
    size_t low = 0;
    size_t high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->blocks[middle].block->last < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < s->count && s->blocks[low].block->first <= index ? &s->blocks[low] : NULL;
}

void disk_append(world *w, sim_node *n, sim_block *block)
{
    disk_stream *s = disk_stream_of(&n->disk, block->sid);
    if (block->first != disk_last(s) + 1 || block->prev_hash != disk_last_hash(s)) {
        fail(w, "node %u: block %llu-%llu of stream %u.%u does not follow its log, which ends at %llu", n->id,
             (unsigned long long)block->first, (unsigned long long)block->last, block->stream.node,
             block->stream.epoch, (unsigned long long)disk_last(s));
        return;
    }
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 16 : s->capacity * 2;
        s->blocks = realloc(s->blocks, s->capacity * sizeof *s->blocks);
    }
    s->blocks[s->count++] = (disk_block){block, false};
}

void disk_truncate(disk *d, int sid, uint64_t index)
{
    disk_stream *s = disk_stream_of(d, sid);
    while (s->count > 0 && s->blocks[s->count - 1].block->last > index) {
        s->count--;
    }
}

uint32_t disk_epoch(const disk *d)
{
    for (size_t i = 0; i < d->value_count; i++) {
        const sim_value *v = &d->values[i];
        if (v->key_size == strlen(AB_EPOCH_KEY) && memcmp(v->key, AB_EPOCH_KEY, v->key_size) == 0) {
            return ab_get_le32(v->data);
        }
    }
    return 0;
}

void value_set(sim_value *value, ab_bytes key, ab_bytes data)
{
    memcpy(value->key, key.data, key.size);
    if (data.size > 0) {
        memcpy(value->data, data.data, data.size);
    }
    value->key_size = key.size;
    value->size = data.size;
}

void disk_put_value(sim_node *n, const sim_value *value)
{
    disk *d = &n->disk;
    size_t i = 0;
    while (i < d->value_count && (d->values[i].key_size != value->key_size ||
                                  memcmp(d->values[i].key, value->key, value->key_size) != 0)) {
        i++;
    }
    if (value->size == 0) { /* forgets it */
        d->values[i] = i < d->value_count ? d->values[--d->value_count] : d->values[i];
        return;
    }
    if (i == VALUES_MAX) {
        fail(n->w, "node %u persists more than can be", n->id);
        return;
    }
    d->values[i] = *value;
    d->value_count += i == d->value_count;
    if (value->key_size == strlen(AB_EPOCH_KEY)) {
        d->has_epoch = true;
        d->tail_safe = true; /* not before: until then the doubts of this start go on */
    }
}

/* The log goes back to `index`, which must be the end of a block, or of what is trimmed. */
void disk_rewind(sim_node *n, const op *item)
{
    world *w = n->w;
    disk_stream *s = disk_stream_of(&n->disk, item->sid);
    if (disk_last(s) <= item->index) {
        return;
    }
    disk_truncate(&n->disk, item->sid, item->index);
    if (s->base > item->index) {
        s->base = item->index;
        s->base_hash = item->hash;
    }
    s->durable = s->durable < item->index ? s->durable : item->index;
    if (disk_last(s) != item->index || disk_last_hash(s) != item->hash) {
        fail(w, "node %u: no block of stream %u.%u ends at the fork, %llu", n->id, w->streams[item->sid].node,
             w->streams[item->sid].epoch, (unsigned long long)item->index);
    }
    if (!w->torn[item->sid]) {
        fail(w, "node %u: stream %u.%u is taken back, and it has one history", n->id,
             w->streams[item->sid].node, w->streams[item->sid].epoch);
    }
    note(w, F_REWOUND);
    faults_rewound(n);
}

void disk_trim(world *w, sim_node *n, int sid, uint64_t index)
{
    disk_stream *s = disk_stream_of(&n->disk, sid);
    size_t gone = 0;
    while (gone < s->count && s->blocks[gone].block->last <= index) {
        gone++;
    }
    if (gone == 0) {
        return;
    }
    s->base = s->blocks[gone - 1].block->last;
    s->base_hash = s->blocks[gone - 1].block->hash;
    s->count -= gone;
    memmove(s->blocks, s->blocks + gone, s->count * sizeof *s->blocks);
    note(w, F_TRIM);
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        if (w->nodes[i].ever_durable[sid] < s->base) {
            fail(
                w,
                "node %u trimmed stream %u.%u up to %llu, but node %u never had more than %llu of it durable",
                n->id, w->streams[sid].node, w->streams[sid].epoch, (unsigned long long)s->base,
                w->nodes[i].id, (unsigned long long)w->nodes[i].ever_durable[sid]);
        }
    }
    if (sm_has(w, &n->disk.sm, sid) < s->base) {
        fail(w, "node %u trimmed stream %u.%u up to %llu, its state machine has %llu durable", n->id,
             w->streams[sid].node, w->streams[sid].epoch, (unsigned long long)s->base,
             (unsigned long long)n->disk.sm.applied[sid]);
    }
}

void disk_forget(sim_node *n, const op *item)
{
    disk_stream *s = disk_stream_of(&n->disk, item->sid);
    say(n->w, "n%u forgets %u.%u", n->id, n->w->streams[item->sid].node, n->w->streams[item->sid].epoch);
    check_forgotten(n, item->sid);
    s->forgotten = true;
    s->count = 0;
    note(n->w, F_FOLDED);
    sm_drop(n, n->w->streams[item->sid].node, (uint32_t)item->index);
}

void disk_copy(disk *to, const disk *from)
{
    *to = *from;
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        disk_stream *s = &to->streams[i];
        s->blocks = NULL;
        s->capacity = s->count;
        if (s->count > 0) {
            s->blocks = malloc(s->count * sizeof *s->blocks);
            memcpy(s->blocks, from->streams[i].blocks, s->count * sizeof *s->blocks);
        }
    }
}

void disk_free(disk *d)
{
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        free(d->streams[i].blocks);
    }
    memset(d, 0, sizeof *d);
}

void ops_push(ops *list, op item)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 32 : list->capacity * 2;
        list->items = realloc(list->items, list->capacity * sizeof *list->items);
    }
    list->items[list->count++] = item;
}
