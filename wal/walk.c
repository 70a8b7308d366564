/* SPDX-License-Identifier: Apache-2.0 */
/* A resumable walk over entries, on top of ab_wal_streams and ab_wal_read. One walk: one thread. */
#include "wal/walk.h"

#include <stdlib.h>

typedef struct walk_stream {
    uint64_t group;
    ab_stream stream;
    uint64_t first;
    uint64_t last;
} walk_stream;

struct ab_wal_walk {
    ab_wal *wal;
    ab_wal_walk_options options;
    walk_stream *streams;
    size_t count;
    size_t capacity;
    size_t position;
    bool no_memory;
    uint64_t next; /* index to go on with in the current stream; 0: not begun */
    void *block;   /* NULL: none loaded */
    ab_block_header header;
    ab_block_iter iter;
};

static bool collect(void *arg, uint64_t group, const ab_stream_state *state)
{
    ab_wal_walk *walk = arg;
    const ab_wal_walk_options *o = &walk->options;
    if ((o->one_stream && ab_stream_compare(o->stream, state->stream) != 0) || state->last == state->base) {
        return true;
    }
    if (walk->count == walk->capacity) {
        size_t capacity = walk->capacity > 0 ? walk->capacity * 2 : 16;
        walk_stream *larger = realloc(walk->streams, capacity * sizeof *larger);
        if (larger == NULL) {
            walk->no_memory = true;
            return false;
        }
        walk->streams = larger;
        walk->capacity = capacity;
    }
    uint64_t first = o->from > state->base ? o->from : state->base + 1;
    uint64_t last = o->to != 0 && o->to < state->last ? o->to : state->last;
    if (o->newest != 0 && last >= first && last - first >= o->newest) {
        first = last - o->newest + 1;
    }
    walk->streams[walk->count++] =
        (walk_stream){.group = group, .stream = state->stream, .first = first, .last = last};
    return true;
}

int ab_wal_walk_open(ab_wal *wal, const ab_wal_walk_options *options, ab_wal_walk **out)
{
    ab_wal_walk *walk = calloc(1, sizeof *walk);
    if (walk == NULL) {
        return AB_ENOMEM;
    }
    walk->wal = wal;
    walk->options = *options;
    int code = ab_wal_streams(wal, options->group, collect, walk);
    code = walk->no_memory ? AB_ENOMEM : code;
    if (code != AB_OK) {
        ab_wal_walk_close(walk);
        return code;
    }
    *out = walk;
    return AB_OK;
}

/* The streams that `before` had go on where it ended. Both are in the order of their keys. */
static void carry_on(ab_wal_walk *walk, const walk_stream *before, size_t count)
{
    size_t k = 0;
    for (size_t i = 0; i < walk->count; i++) {
        walk_stream *at = &walk->streams[i];
        while (k < count &&
               (before[k].group < at->group ||
                (before[k].group == at->group && ab_stream_compare(before[k].stream, at->stream) < 0))) {
            k++;
        }
        bool same =
            k < count && before[k].group == at->group && ab_stream_compare(before[k].stream, at->stream) == 0;
        if (same && at->first <= before[k].last) {
            at->first = before[k].last + 1;
        }
    }
}

static void drop_block(ab_wal_walk *walk)
{
    free(walk->block);
    walk->block = NULL;
}

static void next_stream(ab_wal_walk *walk)
{
    drop_block(walk);
    walk->position++;
    walk->next = 0;
}

/* Reports first ... last as unreadable and goes on behind it. */
static int gap(ab_wal_walk *walk, int code, uint64_t first, uint64_t last, ab_wal_step *step)
{
    const walk_stream *at = &walk->streams[walk->position];
    drop_block(walk);
    last = last < first ? first : last;
    *step = (ab_wal_step){.group = at->group, .code = code, .first = first, .last = last};
    step->entry.stream = at->stream;
    walk->next = last == UINT64_MAX ? last : last + 1;
    return AB_OK;
}

static bool find_base(void *arg, uint64_t group, const ab_stream_state *state)
{
    walk_stream *at = arg;
    (void)group;
    if (ab_stream_compare(at->stream, state->stream) != 0) {
        return true;
    }
    at->first = state->base + 1;
    return false;
}

/* What we wanted to read next has gone meanwhile: find where the stream begins now. */
static int trimmed(ab_wal_walk *walk, ab_wal_step *step)
{
    walk_stream *at = &walk->streams[walk->position];
    uint64_t first = walk->next;
    int code = ab_wal_streams(walk->wal, at->group, find_base, at);
    return code != AB_OK ? code : gap(walk, AB_ETRIMMED, first, at->first - 1, step);
}

/* The walk owns the memory from the start, so that nothing is lost when the read fails behind it. */
static void *take_memory(void *arg, size_t size)
{
    ab_wal_walk *walk = arg;
    drop_block(walk);
    walk->block = malloc(size);
    return walk->block;
}

/* Loads the block of the next index. *stepped: `step` was filled instead. */
static int load(ab_wal_walk *walk, ab_wal_step *step, bool *stepped)
{
    const walk_stream *at = &walk->streams[walk->position];
    size_t size;
    void *block = NULL;
    walk->header = (ab_block_header){0};
    int code = ab_wal_read(walk->wal, at->group, at->stream, walk->next, take_memory, walk, &walk->header,
                           &block, &size);
    if (code != AB_OK) {
        drop_block(walk);
    }
    switch (code) {
    case AB_OK:
        ab_block_iter_init(&walk->iter, block, &walk->header);
        return AB_OK;
    case AB_ENOTFOUND:
        next_stream(walk);
        return AB_OK;
    case AB_ETRIMMED:
        *stepped = true;
        return trimmed(walk, step);
    case AB_ECORRUPT:
    case AB_EVERSION:
        *stepped = true;
        return gap(walk, code, walk->next, walk->header.last, step);
    default:
        return code;
    }
}

/* Next entry of the loaded block that is wanted. */
static int from_block(ab_wal_walk *walk, ab_wal_step *step, bool *stepped)
{
    const walk_stream *at = &walk->streams[walk->position];
    int code = ab_block_iter_next(&walk->iter, &step->entry);
    if (code == AB_ENOTFOUND) {
        uint64_t last = walk->header.last;
        drop_block(walk);
        walk->next = last + 1;
        return AB_OK;
    }
    if (code != AB_OK) {
        *stepped = true;
        return gap(walk, code, walk->next, walk->header.last, step);
    }
    if (step->entry.index < walk->next) {
        return AB_OK;
    }
    *stepped = true;
    step->group = at->group;
    step->code = AB_OK;
    step->first = step->last = walk->next = step->entry.index;
    walk->next++;
    return AB_OK;
}

int ab_wal_walk_next(ab_wal_walk *walk, ab_wal_step *step)
{
    bool stepped = false;
    int code = AB_OK;
    while (code == AB_OK && !stepped) {
        if (walk->position == walk->count) {
            return AB_ENOTFOUND;
        }
        const walk_stream *at = &walk->streams[walk->position];
        if (walk->next == 0) {
            walk->next = at->first;
        }
        if (walk->next > at->last) {
            next_stream(walk);
        } else if (walk->block == NULL) {
            code = load(walk, step, &stepped);
        } else {
            code = from_block(walk, step, &stepped);
        }
    }
    return code;
}

int ab_wal_walk_again(ab_wal_walk *walk)
{
    walk_stream *before = walk->streams;
    size_t count = walk->count;
    walk->streams = NULL;
    walk->count = walk->capacity = walk->position = 0;
    walk->next = 0;
    walk->no_memory = false;
    walk->options.newest = 0;
    int code = ab_wal_streams(walk->wal, walk->options.group, collect, walk);
    code = walk->no_memory ? AB_ENOMEM : code;
    if (code == AB_OK) {
        carry_on(walk, before, count);
        free(before);
        return AB_OK;
    }
    free(walk->streams); /* as before the call, at the end */
    walk->streams = before;
    walk->count = walk->capacity = walk->position = count;
    return code;
}

void ab_wal_walk_close(ab_wal_walk *walk)
{
    if (walk != NULL) {
        free(walk->block);
        free(walk->streams);
        free(walk);
    }
}
