/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between multimaster cores. Pure functions on memory, any thread.
 *
 * Packing is msgpack-c's. Reading is a small cursor of its own: msgpack-c builds a tree and takes memory by the lengths that
 * a message claims, and a peer's claims are not to be believed. */
#include "replication/multimaster/message.h"

#include "wal/block.h"
#include <msgpack.h>
#include <string.h>

enum {
    KEY_KIND = 0,
    KEY_FLAGS = 1,
    KEY_STREAM = 2,
    KEY_FIRST = 3,
    KEY_LAST = 4,
    KEY_HASH = 5,
    KEY_HAVES = 6,
    KEY_FOLDS = 7,
    KEY_POINTS = 8
};

#define HAVE_FIELDS 7u
#define FOLDED_FIELDS 6u
#define DEPTH_MAX 8u
#define KEYS_MAX 32u

/* Encoding */

typedef struct writer {
    uint8_t *data;
    size_t size;
} writer;

static int write_bytes(void *arg, const char *bytes, size_t size)
{
    writer *to = arg;
    memcpy(to->data + to->size, bytes, size);
    to->size += size;
    return 0;
}

static void put_uint(msgpack_packer *packer, int key, uint64_t value)
{
    msgpack_pack_int(packer, key);
    msgpack_pack_uint64(packer, value);
}

/* What every message about one stream begins with: four keys. */
static void put_about(msgpack_packer *packer, const ab_mm_message *message)
{
    put_uint(packer, KEY_KIND, message->kind);
    msgpack_pack_int(packer, KEY_STREAM);
    msgpack_pack_array(packer, 2);
    msgpack_pack_uint32(packer, message->stream.node);
    msgpack_pack_uint32(packer, message->stream.epoch);
    put_uint(packer, KEY_FIRST, message->first);
    put_uint(packer, KEY_LAST, message->last);
}

size_t ab_mm_encode(const ab_mm_message *message, uint8_t *data)
{
    writer to = {data, 0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &to, write_bytes);
    msgpack_pack_map(&packer, 5);
    put_about(&packer, message);
    put_uint(&packer, KEY_HASH, message->hash);
    return to.size;
}

size_t ab_mm_encode_points(const ab_mm_message *message, uint8_t *data)
{
    writer to = {data, 0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &to, write_bytes);
    msgpack_pack_map(&packer, 5);
    put_about(&packer, message);
    msgpack_pack_int(&packer, KEY_POINTS);
    msgpack_pack_array(&packer, message->point_count);
    for (uint32_t i = 0; i < message->point_count; i++) {
        msgpack_pack_array(&packer, 2);
        msgpack_pack_uint64(&packer, message->points[i].index);
        msgpack_pack_uint64(&packer, message->points[i].hash);
    }
    return to.size;
}

size_t ab_mm_encode_have_begin(uint32_t flags, uint32_t count, bool folds, uint8_t *data)
{
    writer to = {data, 0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &to, write_bytes);
    msgpack_pack_map(&packer, folds ? 4 : 3);
    put_uint(&packer, KEY_KIND, AB_MM_HAVE);
    put_uint(&packer, KEY_FLAGS, flags);
    msgpack_pack_int(&packer, KEY_HAVES);
    msgpack_pack_array(&packer, count);
    return to.size;
}

size_t ab_mm_encode_have(const ab_mm_have *have, uint8_t *data)
{
    writer to = {data, 0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &to, write_bytes);
    msgpack_pack_array(&packer, HAVE_FIELDS);
    msgpack_pack_uint32(&packer, have->stream.node);
    msgpack_pack_uint32(&packer, have->stream.epoch);
    msgpack_pack_uint64(&packer, have->durable);
    msgpack_pack_uint64(&packer, have->hash);
    msgpack_pack_uint64(&packer, have->accepted);
    msgpack_pack_uint32(&packer, have->flags);
    msgpack_pack_uint32(&packer, have->rewound);
    return to.size;
}

size_t ab_mm_encode_folds_begin(uint32_t folds, uint8_t *data)
{
    writer to = {data, 0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &to, write_bytes);
    msgpack_pack_int(&packer, KEY_FOLDS);
    msgpack_pack_array(&packer, folds);
    return to.size;
}

size_t ab_mm_encode_folded(const ab_mm_folded *folded, uint8_t *data)
{
    writer to = {data, 0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &to, write_bytes);
    msgpack_pack_array(&packer, FOLDED_FIELDS);
    msgpack_pack_uint32(&packer, folded->node);
    msgpack_pack_uint32(&packer, folded->epoch);
    msgpack_pack_uint64(&packer, folded->total);
    msgpack_pack_uint64(&packer, folded->hash);
    msgpack_pack_uint32(&packer, folded->heard);
    msgpack_pack_uint32(&packer, folded->flags);
    return to.size;
}

/* Decoding */

typedef struct reader {
    const uint8_t *data;
    size_t size;
    size_t offset;
} reader;

static bool take_be(reader *from, size_t bytes, uint64_t *value)
{
    if (from->size - from->offset < bytes) {
        return false;
    }
    *value = 0;
    for (size_t i = 0; i < bytes; i++) {
        *value = *value << 8 | from->data[from->offset++];
    }
    return true;
}

static bool take_tag(reader *from, uint8_t *tag)
{
    uint64_t value = 0;
    bool taken = take_be(from, 1, &value);
    *tag = (uint8_t)value;
    return taken;
}

static bool take_uint(reader *from, uint64_t *value)
{
    uint8_t tag = 0;
    if (!take_tag(from, &tag)) {
        return false;
    }
    if (tag <= 0x7f) {
        *value = tag;
        return true;
    }
    return tag >= 0xcc && tag <= 0xcf && take_be(from, (size_t)1 << (tag - 0xcc), value);
}

static bool take_u32(reader *from, uint32_t *value)
{
    uint64_t wide = 0;
    bool taken = take_uint(from, &wide) && wide <= UINT32_MAX;
    *value = (uint32_t)wide;
    return taken;
}

/* Length of an array (small tag 0x90, then 0xdc, 0xdd) or a map (0x80, 0xde, 0xdf). */
static bool take_length(reader *from, uint8_t small, uint8_t wide, uint64_t *length)
{
    uint8_t tag = 0;
    if (!take_tag(from, &tag)) {
        return false;
    }
    if ((tag & 0xf0) == small) {
        *length = tag & 0x0f;
        return true;
    }
    return (tag == wide || tag == wide + 1) && take_be(from, tag == wide ? 2 : 4, length);
}

static bool take_array(reader *from, uint64_t *length)
{
    return take_length(from, 0x90, 0xdc, length);
}

static bool take_map(reader *from, uint64_t *length)
{
    return take_length(from, 0x80, 0xde, length);
}

/* Bytes that follow the tag of a scalar, or how many objects a container holds; false: not msgpack. */
static bool skip_head(reader *from, uint64_t *bytes, uint64_t *objects)
{
    static const uint8_t fixed[] = {1, 2, 4, 8, 1, 2, 4, 8}; /* 0xcc ... 0xd3 */
    static const uint8_t small_ext[] = {2, 3, 5, 9, 17};     /* 0xd4 ... 0xd8, with the type */
    uint8_t tag = 0;
    *bytes = *objects = 0;
    if (!take_tag(from, &tag)) {
        return false;
    }
    if (tag <= 0x7f || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3) {
        return true;
    }
    if (tag <= 0x8f || tag == 0xde || tag == 0xdf) { /* map */
        *objects = tag & 0x0f;
        bool counted = tag <= 0x8f || take_be(from, tag == 0xde ? 2 : 4, objects);
        *objects *= 2;
        return counted;
    }
    if (tag <= 0x9f || tag == 0xdc || tag == 0xdd) { /* array */
        *objects = tag & 0x0f;
        return tag <= 0x9f || take_be(from, tag == 0xdc ? 2 : 4, objects);
    }
    if (tag <= 0xbf) { /* short string */
        *bytes = tag & 0x1f;
        return true;
    }
    if (tag >= 0xc4 && tag <= 0xc9) { /* bin, ext */
        bool ext = tag >= 0xc7;
        bool counted = take_be(from, (size_t)1 << (tag - (ext ? 0xc7 : 0xc4)), bytes);
        *bytes += ext;
        return counted;
    }
    if (tag == 0xca || tag == 0xcb) { /* float */
        *bytes = tag == 0xca ? 4 : 8;
        return true;
    }
    if (tag >= 0xcc && tag <= 0xd3) {
        *bytes = fixed[tag - 0xcc];
        return true;
    }
    if (tag >= 0xd4 && tag <= 0xd8) {
        *bytes = small_ext[tag - 0xd4];
        return true;
    }
    return tag >= 0xd9 && tag <= 0xdb && take_be(from, (size_t)1 << (tag - 0xd9), bytes);
}

/* Skips one object of a later version. The work is bounded by the message's bytes, the depth by DEPTH_MAX. */
static bool skip_object(reader *from)
{
    uint64_t open[DEPTH_MAX] = {1};
    size_t depth = 0;
    for (;;) {
        while (open[depth] == 0) {
            if (depth == 0) {
                return true;
            }
            depth--;
        }
        open[depth]--;
        uint64_t bytes = 0;
        uint64_t objects = 0;
        if (!skip_head(from, &bytes, &objects) || bytes > from->size - from->offset) {
            return false;
        }
        from->offset += (size_t)bytes;
        if (objects > 0) {
            if (++depth == DEPTH_MAX) {
                return false;
            }
            open[depth] = objects;
        }
    }
}

/* What a later version added at the end of an array. */
static bool skip_objects(reader *from, uint64_t count)
{
    while (count > 0 && skip_object(from)) {
        count--;
    }
    return count == 0;
}

static bool take_stream(reader *from, ab_stream *stream)
{
    return take_u32(from, &stream->node) && take_u32(from, &stream->epoch) && stream->node != 0 &&
           stream->epoch != 0;
}

static bool take_have(reader *from, ab_mm_have *have)
{
    uint64_t fields = 0;
    if (!take_array(from, &fields) || fields < HAVE_FIELDS || fields > KEYS_MAX ||
        !take_stream(from, &have->stream) || !take_uint(from, &have->durable) ||
        !take_uint(from, &have->hash) || !take_uint(from, &have->accepted) || !take_u32(from, &have->flags) ||
        !take_u32(from, &have->rewound) || !skip_objects(from, fields - HAVE_FIELDS)) {
        return false;
    }
    /* The last index of all is reserved: index + 1 must not wrap. */
    return have->accepted >= have->durable && have->accepted < UINT64_MAX;
}

static bool take_haves(reader *from, ab_mm_message *message)
{
    uint64_t count = 0;
    if (!take_array(from, &count) || count > AB_MARKS_MAX) {
        return false;
    }
    message->haves = from->data + from->offset;
    message->have_count = (uint32_t)count;
    size_t start = from->offset;
    ab_mm_have before = {0};
    for (uint64_t i = 0; i < count; i++) {
        ab_mm_have have = {0};
        if (!take_have(from, &have) || (i > 0 && ab_stream_compare(before.stream, have.stream) >= 0)) {
            return false;
        }
        before = have;
    }
    message->haves_size = from->offset - start;
    return true;
}

static bool take_folded(reader *from, ab_mm_folded *folded)
{
    uint64_t fields = 0;
    if (!take_array(from, &fields) || fields < FOLDED_FIELDS || fields > KEYS_MAX ||
        !take_u32(from, &folded->node) || !take_u32(from, &folded->epoch) ||
        !take_uint(from, &folded->total) || !take_uint(from, &folded->hash) ||
        !take_u32(from, &folded->heard) || !take_u32(from, &folded->flags) ||
        !skip_objects(from, fields - FOLDED_FIELDS)) {
        return false;
    }
    return folded->node != 0 && folded->epoch < UINT32_MAX; /* some epoch must follow */
}

static bool take_folds(reader *from, ab_mm_message *message)
{
    uint64_t count = 0;
    if (!take_array(from, &count) || count > AB_MARKS_MAX) {
        return false;
    }
    message->folds = from->data + from->offset;
    message->fold_count = (uint32_t)count;
    size_t start = from->offset;
    ab_mm_folded before = {0};
    for (uint64_t i = 0; i < count; i++) {
        ab_mm_folded folded = {0};
        if (!take_folded(from, &folded) || folded.node <= before.node) {
            return false;
        }
        before = folded;
    }
    message->folds_size = from->offset - start;
    return true;
}

/* Ends of consecutive blocks: at least the one before the first, and each beyond the one before. */
static bool take_points(reader *from, ab_mm_message *message)
{
    uint64_t count = 0;
    if (!take_array(from, &count) || count == 0 || count > AB_MM_POINTS_MAX) {
        return false;
    }
    for (uint64_t i = 0; i < count; i++) {
        ab_mm_point *point = &message->points[i];
        uint64_t fields = 0;
        if (!take_array(from, &fields) || fields != 2 || !take_uint(from, &point->index) ||
            !take_uint(from, &point->hash) || point->index == UINT64_MAX ||
            (i > 0 && point->index <= point[-1].index)) {
            return false;
        }
    }
    message->point_count = (uint32_t)count;
    return true;
}

static bool take_value(reader *from, uint64_t key, ab_mm_message *message)
{
    uint64_t kind = 0;
    uint64_t length = 0;
    switch (key) {
    case KEY_KIND:
        if (!take_uint(from, &kind) || kind == 0 || kind > 1000) {
            return false;
        }
        message->kind = (ab_mm_kind)kind;
        return true;
    case KEY_FLAGS:
        return take_u32(from, &message->flags);
    case KEY_STREAM:
        return take_array(from, &length) && length == 2 && take_stream(from, &message->stream);
    case KEY_FIRST:
        return take_uint(from, &message->first);
    case KEY_LAST:
        return take_uint(from, &message->last);
    case KEY_HASH:
        return take_uint(from, &message->hash);
    case KEY_HAVES:
        return take_haves(from, message);
    case KEY_FOLDS:
        return take_folds(from, message);
    case KEY_POINTS:
        return take_points(from, message);
    default:
        return skip_object(from);
    }
}

/* What a kind needs beyond being well formed. `seen` has a bit for each key below KEYS_MAX. */
static int check(const ab_mm_message *message, uint32_t seen)
{
    const uint32_t about_stream = 1u << KEY_STREAM | 1u << KEY_FIRST;
    switch (message->kind) {
    case AB_MM_HAVE:
        return (seen & 1u << KEY_HAVES) != 0 ? AB_OK : AB_EPROTO;
    case AB_MM_EXPECT:
    case AB_MM_TRIMMED:
    case AB_MM_DIVERGED:
    case AB_MM_HISTORY:
    case AB_MM_LACK:
        break;
    case AB_MM_POINTS:
        if (message->point_count == 0) {
            return AB_EPROTO;
        }
        break;
    case AB_MM_FETCH:
        if ((seen & 1u << KEY_LAST) == 0 || message->last < message->first || message->last == UINT64_MAX) {
            return AB_EPROTO;
        }
        break;
    default:
        return AB_EUNSUPPORTED;
    }
    bool fits = (seen & about_stream) == about_stream && message->first > 0 && message->first < UINT64_MAX;
    return fits ? AB_OK : AB_EPROTO;
}

int ab_mm_decode(ab_bytes bytes, ab_mm_message *message)
{
    reader from = {bytes.data, bytes.size, 0};
    uint64_t keys = 0;
    uint32_t seen = 0;
    memset(message, 0, sizeof *message);
    if (!take_map(&from, &keys) || keys > KEYS_MAX) {
        return AB_EPROTO;
    }
    for (uint64_t i = 0; i < keys; i++) {
        uint64_t key = 0;
        if (!take_uint(&from, &key) || (key < KEYS_MAX && (seen & 1u << key) != 0) ||
            !take_value(&from, key, message)) {
            return AB_EPROTO;
        }
        seen |= key < KEYS_MAX ? 1u << key : 0;
    }
    if (from.offset != from.size || (seen & 1u << KEY_KIND) == 0) {
        return AB_EPROTO;
    }
    return check(message, seen);
}

bool ab_mm_next_have(const ab_mm_message *message, size_t *offset, ab_mm_have *have)
{
    reader from = {message->haves, message->haves_size, *offset};
    if (*offset >= message->haves_size || !take_have(&from, have)) {
        return false;
    }
    *offset = from.offset;
    return true;
}

bool ab_mm_next_folded(const ab_mm_message *message, size_t *offset, ab_mm_folded *folded)
{
    reader from = {message->folds, message->folds_size, *offset};
    if (*offset >= message->folds_size || !take_folded(&from, folded)) {
        return false;
    }
    *offset = from.offset;
    return true;
}
