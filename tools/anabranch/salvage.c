/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks are found by their magic and believed by their checksum: neither the pages around them nor any record of the log
 * is needed. Blocks that were trimmed lie around until their pages are used again, so there may be more than the log
 * had. Main thread. */
#define _GNU_SOURCE /* memmem */
#include "tools/anabranch/salvage.h"
#include "tools/anabranch/terminal.h"
#include "wal/block.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (1u << 20)
#define MAGIC "ABBK"
#define MAGIC_SIZE 4u

typedef struct found {
    uint64_t group;
    ab_stream stream;
    uint64_t first, last;
    off_t offset;
    size_t size;
} found;

typedef struct salvage {
    int fd;
    uint64_t file_size;
    found *blocks;
    size_t count, capacity;
    uint64_t newer; /* blocks of a version that is not known */
    uint8_t *piece;
    uint8_t *block; /* AB_BLOCK_MAX */
    row_fn fn;
    void *arg;
    bool stopped, no_memory;
} salvage;

bool salvage_answers(const query *q)
{
    static const char *const names[] = {"status", "groups", "log", "verify"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(q->command, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool read_at(const salvage *v, void *data, size_t size, off_t offset)
{
    ssize_t n = pread(v->fd, data, size, offset);
    return n >= 0 && (size_t)n == size;
}

static bool add(salvage *v, const ab_block_header *header, off_t offset, size_t size)
{
    if (v->count == v->capacity) {
        size_t capacity = v->capacity > 0 ? v->capacity * 2 : 256;
        found *larger = realloc(v->blocks, capacity * sizeof *larger);
        if (larger == NULL) {
            v->no_memory = true;
            return false;
        }
        v->blocks = larger;
        v->capacity = capacity;
    }
    v->blocks[v->count++] = (found){.group = header->group,
                                    .stream = {header->node, header->epoch},
                                    .first = header->first,
                                    .last = header->last,
                                    .offset = offset,
                                    .size = size};
    return true;
}

/* Looks at what may be a block. @return bytes to go on behind it */
static size_t look_at(salvage *v, off_t offset)
{
    uint8_t head[AB_BLOCK_HEADER];
    ab_block_header header;
    if (!read_at(v, head, sizeof head, offset)) {
        return MAGIC_SIZE;
    }
    int code = ab_block_header_read(head, sizeof head, &header);
    v->newer += code == AB_EVERSION;
    if (code != AB_OK) {
        return MAGIC_SIZE;
    }
    size_t size = ab_block_size(&header);
    if (size > AB_BLOCK_MAX || !read_at(v, v->block, size, offset) ||
        ab_block_check(v->block, size, &header) != AB_OK) {
        return MAGIC_SIZE;
    }
    return add(v, &header, offset, size) ? size : MAGIC_SIZE;
}

static int search(salvage *v, progress *p)
{
    for (off_t at = 0; (uint64_t)at < v->file_size && !v->no_memory;) {
        ssize_t n = pread(v->fd, v->piece, PIECE, at);
        if (n < 0 && errno != EINTR) {
            return AB_EIO;
        }
        if (n == 0) {
            break;
        }
        off_t next = at + (n > (ssize_t)MAGIC_SIZE ? n - (ssize_t)MAGIC_SIZE + 1 : n);
        const uint8_t *hit = n > 0 ? memmem(v->piece, (size_t)n, MAGIC, MAGIC_SIZE) : NULL;
        if (hit != NULL) {
            off_t offset = at + (hit - v->piece);
            next = offset + (off_t)look_at(v, offset);
        }
        at = n < 0 ? at : next;
        progress_show(p, (uint64_t)at, v->file_size, "bytes");
    }
    progress_clear();
    return v->no_memory ? AB_ENOMEM : AB_OK;
}

static int by_place(const void *a, const void *b)
{
    const found *x = a;
    const found *y = b;
    if (x->group != y->group) {
        return x->group < y->group ? -1 : 1;
    }
    int order = ab_stream_compare(x->stream, y->stream);
    if (order != 0) {
        return order;
    }
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : x->last < y->last ? -1 : x->last > y->last;
}

/* In order, each once: pages are copied on write, so old ones hold blocks again. */
static void sort(salvage *v)
{
    if (v->count == 0) {
        return;
    }
    qsort(v->blocks, v->count, sizeof *v->blocks, by_place);
    size_t kept = 1;
    for (size_t i = 1; i < v->count; i++) {
        if (by_place(&v->blocks[i], &v->blocks[kept - 1]) != 0) {
            v->blocks[kept++] = v->blocks[i];
        }
    }
    v->count = kept;
}

/* Gives the row away. */
static bool emit(salvage *v, json_t *row)
{
    if (row == NULL) {
        v->no_memory = true;
        return false;
    }
    json_object_set_new(row, "salvaged", json_true());
    v->stopped = !v->fn(v->arg, row);
    json_decref(row);
    return !v->stopped;
}

static json_t *stream_json(ab_stream stream)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu32 ".%" PRIu32, stream.node, stream.epoch);
    return json_string(text);
}

static bool same_stream(const found *a, const found *b)
{
    return a->group == b->group && ab_stream_compare(a->stream, b->stream) == 0;
}

/* From `i` on: the blocks of one stream. @return behind them */
static size_t end_of_stream(const salvage *v, size_t i)
{
    size_t end = i + 1;
    while (end < v->count && same_stream(&v->blocks[i], &v->blocks[end])) {
        end++;
    }
    return end;
}

static bool emit_streams(salvage *v, size_t from, size_t to)
{
    for (size_t i = from; i < to;) {
        const found *b = &v->blocks[i];
        size_t end = end_of_stream(v, i);
        if (!emit(v, json_pack("{s:s, s:o, s:o, s:o, s:o}", "type", "stream", "group", json_uint(b->group),
                               "stream", stream_json(b->stream), "base", json_uint(b->first - 1), "logged",
                               json_uint(v->blocks[end - 1].last)))) {
            return false;
        }
        i = end;
    }
    return true;
}

static bool emit_group(salvage *v, size_t from, size_t to)
{
    uint64_t streams = 0;
    uint64_t entries = 0;
    uint64_t bytes = 0;
    for (size_t i = from; i < to; i++) {
        streams += i == from || !same_stream(&v->blocks[i - 1], &v->blocks[i]);
        entries += v->blocks[i].last - v->blocks[i].first + 1;
        bytes += v->blocks[i].size;
    }
    return emit(v, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "type", "group", "group",
                             json_uint(v->blocks[from].group), "streams", json_uint(streams), "entries",
                             json_uint(entries), "log_blocks", json_uint(to - from), "log_bytes",
                             json_uint(bytes)));
}

static void emit_groups(salvage *v, const query *q)
{
    for (size_t i = 0; i < v->count;) {
        size_t end = i;
        while (end < v->count && v->blocks[end].group == v->blocks[i].group) {
            end++;
        }
        if ((q->group == 0 || q->group == v->blocks[i].group) &&
            (!emit_group(v, i, end) || (q->detail && !emit_streams(v, i, end)))) {
            return;
        }
        i = end;
    }
}

static bool emit_gap(salvage *v, const found *b, uint64_t first, uint64_t last)
{
    return emit(v, json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:s}", "type", "fault", "group",
                             json_uint(b->group), "stream", stream_json(b->stream), "first", json_uint(first),
                             "last", json_uint(last), "code", "AB_ECORRUPT", "what",
                             "no block of it was found"));
}

static bool emit_entry(salvage *v, const query *q, uint64_t group, const ab_entry *e)
{
    size_t shown = e->size < q->payload_max ? e->size : (size_t)q->payload_max;
    return emit(v, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "type", "entry", "group",
                             json_uint(group), "stream", stream_json(e->stream), "index", json_uint(e->index),
                             "hlc", json_uint(e->hlc), "term", json_uint(e->term), "size", json_uint(e->size),
                             "payload_hex", json_hex(e->payload, shown)));
}

/* Entries of one block that the query wants, from `least` on. @return false: enough */
static bool emit_block(salvage *v, const query *q, const found *b, uint64_t least, uint64_t *entries)
{
    ab_block_header header;
    ab_block_iter iter;
    ab_entry entry;
    if (!read_at(v, v->block, b->size, b->offset) || ab_block_check(v->block, b->size, &header) != AB_OK) {
        return emit_gap(v, b, b->first, b->last); /* the file changed under us */
    }
    ab_block_iter_init(&iter, v->block, &header);
    int code;
    while ((code = ab_block_iter_next(&iter, &entry)) == AB_OK) {
        if (entry.index < least || (q->to != 0 && entry.index > q->to)) {
            continue;
        }
        if (!emit_entry(v, q, b->group, &entry) || ++*entries == q->limit) {
            return false;
        }
    }
    return code == AB_ENOTFOUND || emit_gap(v, b, b->first, b->last);
}

/* The entries of one stream, whose blocks are `from` to `to`. @return false: enough */
static bool emit_stream_log(salvage *v, const query *q, size_t from, size_t to, uint64_t *entries)
{
    uint64_t last = v->blocks[to - 1].last;
    uint64_t least = q->from;
    last = q->to != 0 && q->to < last ? q->to : last;
    if (q->newest != 0 && last >= q->newest && last - q->newest + 1 > least) {
        least = last - q->newest + 1;
    }
    for (size_t i = from; i < to; i++) {
        const found *b = &v->blocks[i];
        if (b->last < least || b->first > last) {
            continue;
        }
        uint64_t expected = i > from ? v->blocks[i - 1].last + 1 : b->first;
        if (b->first > expected && b->first > least && !emit_gap(v, b, expected, b->first - 1)) {
            return false;
        }
        if (!emit_block(v, q, b, least, entries)) {
            return false;
        }
    }
    return true;
}

static void emit_log(salvage *v, const query *q)
{
    uint64_t entries = 0;
    for (size_t i = 0; i < v->count;) {
        const found *b = &v->blocks[i];
        size_t end = end_of_stream(v, i);
        bool wanted = (q->group == 0 || b->group == q->group) &&
                      (!q->one_stream || ab_stream_compare(b->stream, q->stream) == 0);
        if (wanted && !emit_stream_log(v, q, i, end, &entries)) {
            return;
        }
        i = end;
    }
}

/* Completes the message about the directory. */
static void tell(source *s, const salvage *v)
{
    size_t used = strlen(s->message.text);
    char *end = s->message.text + used;
    size_t room = sizeof s->message.text - used;
    if (v->count > 0) {
        snprintf(end, room, "; blocks found in the file that are whole: %zu (trimmed ones may be among them)",
                 v->count);
    } else if (v->newer > 0) {
        snprintf(end, room, "; blocks of a newer version found in the file: %" PRIu64, v->newer);
    } else if (strstr(s->message.text, "not of Anabranch") == NULL) { /* else that is said */
        snprintf(end, room, "; no block was found in the file: is it a log of Anabranch at all?");
    }
}

static int open_file(salvage *v, const char *data_dir)
{
    char path[4200];
    struct stat about;
    snprintf(path, sizeof path, "%s/data.mdb", data_dir);
    v->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (v->fd < 0 || fstat(v->fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        return AB_EIO;
    }
    v->file_size = (uint64_t)about.st_size;
    v->piece = malloc(PIECE);
    v->block = malloc(AB_BLOCK_MAX);
    return v->piece != NULL && v->block != NULL ? AB_OK : AB_ENOMEM;
}

int salvage_ask(source *s, const query *q, row_fn fn, void *arg)
{
    salvage v = {.fd = -1, .fn = fn, .arg = arg};
    progress p = {.name = s->data_dir};
    int code = open_file(&v, s->data_dir);
    code = code == AB_OK ? search(&v, &p) : code;
    if (code == AB_OK) {
        sort(&v);
        tell(s, &v);
        if (strcmp(q->command, "log") == 0) {
            emit_log(&v, q);
        } else if (strcmp(q->command, "verify") != 0) {
            emit_groups(&v, q);
        }
        code = v.no_memory ? AB_ENOMEM : v.stopped ? AB_ECLOSED : AB_OK;
    }
    if (v.fd >= 0) {
        close(v.fd);
    }
    free(v.blocks);
    free(v.piece);
    free(v.block);
    return code;
}
