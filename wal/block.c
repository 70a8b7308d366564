/* SPDX-License-Identifier: Apache-2.0 */
/* The block format: header, entries, dependency marks, checksum. Pure functions, safe on any thread. */
#include "wal/block.h"

#include "wal/bytes.h"
#include <msgpack/pack.h>
/* Inlined: the streaming state is on the stack, and its layout is not part of the shared library's ABI. */
#define XXH_INLINE_ALL
#include <xxhash.h>

/* A packed entry is at least a one-byte delta and an empty bin. */
#define ENTRY_MIN 3u
#define CHECKSUM_OFFSET 88u

static void header_decode(const uint8_t *p, ab_block_header *h)
{
    h->magic = ab_get_le32(p);
    h->version = p[4];
    h->flags = p[5];
    h->reserved = ab_get_le16(p + 6);
    h->count = ab_get_le32(p + 8);
    h->entries_bytes = ab_get_le32(p + 12);
    h->group = ab_get_le64(p + 16);
    h->node = ab_get_le32(p + 24);
    h->epoch = ab_get_le32(p + 28);
    h->first = ab_get_le64(p + 32);
    h->last = ab_get_le64(p + 40);
    h->term = ab_get_le64(p + 48);
    h->hlc_first = ab_get_le64(p + 56);
    h->hlc_last = ab_get_le64(p + 64);
    h->prev_hash = ab_get_le64(p + 72);
    h->mark_count = ab_get_le32(p + 80);
    h->reserved2 = ab_get_le32(p + 84);
    h->checksum = ab_get_le64(p + CHECKSUM_OFFSET);
}

static void header_encode(uint8_t *p, const ab_block_header *h)
{
    ab_put_le32(p, h->magic);
    p[4] = h->version;
    p[5] = h->flags;
    ab_put_le16(p + 6, h->reserved);
    ab_put_le32(p + 8, h->count);
    ab_put_le32(p + 12, h->entries_bytes);
    ab_put_le64(p + 16, h->group);
    ab_put_le32(p + 24, h->node);
    ab_put_le32(p + 28, h->epoch);
    ab_put_le64(p + 32, h->first);
    ab_put_le64(p + 40, h->last);
    ab_put_le64(p + 48, h->term);
    ab_put_le64(p + 56, h->hlc_first);
    ab_put_le64(p + 64, h->hlc_last);
    ab_put_le64(p + 72, h->prev_hash);
    ab_put_le32(p + 80, h->mark_count);
    ab_put_le32(p + 84, h->reserved2);
    ab_put_le64(p + CHECKSUM_OFFSET, h->checksum);
}

int ab_block_header_read(const void *data, size_t size, ab_block_header *header)
{
    if (size < AB_BLOCK_HEADER) {
        return AB_ECORRUPT;
    }
    header_decode(data, header);
    if (header->magic != AB_BLOCK_MAGIC) {
        return AB_ECORRUPT;
    }
    if (header->version != AB_BLOCK_VERSION || (header->flags & ~AB_BLOCK_FLAGS_KNOWN) != 0) {
        return AB_EVERSION;
    }
    if (header->reserved != 0 || header->reserved2 != 0) {
        return AB_ECORRUPT;
    }
    if (header->count == 0 || header->first == 0 || header->last < header->first ||
        header->last - header->first != header->count - 1) {
        return AB_ECORRUPT;
    }
    if (header->hlc_last < header->hlc_first || header->entries_bytes / ENTRY_MIN < header->count) {
        return AB_ECORRUPT;
    }
    if (header->mark_count > AB_MARKS_MAX || ab_block_size(header) > AB_BLOCK_MAX) {
        return AB_ETOOBIG;
    }
    return AB_OK;
}

size_t ab_block_size(const ab_block_header *header)
{
    size_t origin = (header->flags & AB_BLOCK_ORIGIN) != 0 ? AB_BLOCK_ORIGIN_BYTES : 0;
    return (size_t)AB_BLOCK_HEADER + header->entries_bytes + (size_t)AB_BLOCK_MARK * header->mark_count +
           origin;
}

/* Two pieces, because the checksum's own field lies between them. */
static uint64_t block_checksum(const uint8_t *block, size_t size)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, block, CHECKSUM_OFFSET);
    XXH3_64bits_update(&state, block + AB_BLOCK_HEADER, size - AB_BLOCK_HEADER);
    return XXH3_64bits_digest(&state);
}

static void mark_decode(const uint8_t *p, ab_mark *mark)
{
    mark->stream.node = ab_get_le32(p);
    mark->stream.epoch = ab_get_le32(p + 4);
    mark->index = ab_get_le64(p + 8);
}

static void mark_encode(uint8_t *p, ab_mark mark)
{
    ab_put_le32(p, mark.stream.node);
    ab_put_le32(p + 4, mark.stream.epoch);
    ab_put_le64(p + 8, mark.index);
}

static bool marks_sorted(const uint8_t *p, uint32_t count)
{
    ab_mark before;
    ab_mark mark;
    for (uint32_t i = 0; i < count; i++, p += AB_BLOCK_MARK) {
        mark_decode(p, &mark);
        if (i > 0 && ab_stream_compare(before.stream, mark.stream) >= 0) {
            return false;
        }
        before = mark;
    }
    return true;
}

void ab_block_origin_read(const uint8_t *p, ab_block_origin *origin)
{
    *origin = (ab_block_origin){.epoch = ab_get_le32(p),
                                .rewound = ab_get_le32(p + 4),
                                .fork = ab_get_le64(p + 8),
                                .end = ab_get_le64(p + 16),
                                .fork_hash = ab_get_le64(p + 24),
                                .hash = ab_get_le64(p + 32)};
}

void ab_block_origin_write(uint8_t *p, const ab_block_origin *origin)
{
    ab_put_le32(p, origin->epoch);
    ab_put_le32(p + 4, origin->rewound);
    ab_put_le64(p + 8, origin->fork);
    ab_put_le64(p + 16, origin->end);
    ab_put_le64(p + 24, origin->fork_hash);
    ab_put_le64(p + 32, origin->hash);
}

/* What it says of itself can be: an older stream, and a range that this block is a part of. */
static bool origin_fits(const ab_block_header *header, const ab_block_origin *origin)
{
    return origin->epoch > 0 && origin->epoch < header->epoch && origin->rewound < header->epoch &&
           origin->fork < origin->end && header->last <= origin->end - origin->fork &&
           origin->end < UINT64_MAX;
}

int ab_block_check(const void *data, size_t size, ab_block_header *header)
{
    int code = ab_block_header_read(data, size, header);
    if (code != AB_OK) {
        return code;
    }
    if (size != ab_block_size(header) || block_checksum(data, size) != header->checksum) {
        return AB_ECORRUPT;
    }
    const uint8_t *marks = (const uint8_t *)data + AB_BLOCK_HEADER + header->entries_bytes;
    if (!marks_sorted(marks, header->mark_count)) {
        return AB_ECORRUPT;
    }
    ab_block_origin origin;
    if ((header->flags & AB_BLOCK_ORIGIN) == 0) {
        return AB_OK;
    }
    ab_block_origin_read(marks + (size_t)AB_BLOCK_MARK * header->mark_count, &origin);
    return origin_fits(header, &origin) ? AB_OK : AB_ECORRUPT;
}

void ab_block_info_read(const void *data, const ab_block_header *header, ab_mark *marks, ab_block_info *info)
{
    const uint8_t *p = (const uint8_t *)data + AB_BLOCK_HEADER + header->entries_bytes;
    for (uint32_t i = 0; i < header->mark_count; i++, p += AB_BLOCK_MARK) {
        mark_decode(p, &marks[i]);
    }
    *info = (ab_block_info){.stream = {header->node, header->epoch},
                            .first = header->first,
                            .last = header->last,
                            .term = header->term,
                            .hlc_last = header->hlc_last,
                            .hash = header->checksum,
                            .prev_hash = header->prev_hash,
                            .bytes = (uint32_t)ab_block_size(header),
                            .deps = marks,
                            .dep_count = header->mark_count};
    if ((header->flags & AB_BLOCK_ORIGIN) != 0) {
        ab_block_origin_read(p, &info->origin);
    }
}

void ab_block_iter_init(ab_block_iter *iter, const void *block, const ab_block_header *header)
{
    *iter = (ab_block_iter){.data = (const uint8_t *)block + AB_BLOCK_HEADER,
                            .size = header->entries_bytes,
                            .index = header->first,
                            .hlc = header->hlc_first,
                            .term = header->term,
                            .stream = {header->node, header->epoch},
                            .left = header->count,
                            .hlc_last = header->hlc_last};
}

/* Reads a msgpack unsigned integer of any width. @return bytes it took; 0 if it is none or does not fit */
static size_t read_uint(const uint8_t *p, size_t size, uint64_t *value)
{
    if (size == 0) {
        return 0;
    }
    switch (p[0]) {
    case 0xcc:
        *value = size >= 2 ? p[1] : 0;
        return size >= 2 ? 2 : 0;
    case 0xcd:
        *value = size >= 3 ? ab_get_be16(p + 1) : 0;
        return size >= 3 ? 3 : 0;
    case 0xce:
        *value = size >= 5 ? ab_get_be32(p + 1) : 0;
        return size >= 5 ? 5 : 0;
    case 0xcf:
        *value = size >= 9 ? ab_get_be64(p + 1) : 0;
        return size >= 9 ? 9 : 0;
    default:
        *value = p[0];
        return p[0] <= 0x7f ? 1 : 0;
    }
}

/* Reads the header of a msgpack bin. @return bytes it took; 0 if it is none or does not fit */
static size_t read_bin(const uint8_t *p, size_t size, size_t *length)
{
    if (size >= 2 && p[0] == 0xc4) {
        *length = p[1];
        return 2;
    }
    if (size >= 3 && p[0] == 0xc5) {
        *length = ab_get_be16(p + 1);
        return 3;
    }
    if (size >= 5 && p[0] == 0xc6) {
        *length = ab_get_be32(p + 1);
        return 5;
    }
    return 0;
}

/* msgpack_unpack_next() would do, at a quarter of the speed: an entry is always these two objects. */
int ab_block_iter_next(ab_block_iter *iter, ab_entry *entry)
{
    if (iter->left == 0) {
        return iter->offset == iter->size && iter->hlc == iter->hlc_last ? AB_ENOTFOUND : AB_ECORRUPT;
    }
    const uint8_t *p = iter->data + iter->offset;
    size_t room = iter->size - iter->offset;
    uint64_t delta;
    size_t used = read_uint(p, room, &delta);
    if (used == 0 || delta > iter->hlc_last - iter->hlc) {
        return AB_ECORRUPT;
    }
    size_t length;
    size_t bin = read_bin(p + used, room - used, &length);
    if (bin == 0 || length > room - used - bin) {
        return AB_ECORRUPT;
    }
    used += bin;
    iter->hlc += delta;
    *entry = (ab_entry){iter->stream, iter->index, iter->hlc, iter->term, p + used, length};
    iter->offset += used + length;
    iter->index++;
    iter->left--;
    return AB_OK;
}

static int append(void *data, const char *bytes, size_t size)
{
    uint8_t **cursor = data;
    memcpy(*cursor, bytes, size);
    *cursor += size;
    return 0;
}

size_t ab_entry_pack(uint8_t *dst, uint64_t delta, const void *payload, size_t size)
{
    uint8_t *cursor = dst;
    msgpack_packer packer = {.data = &cursor, .callback = append};
    msgpack_pack_uint64(&packer, delta);
    msgpack_pack_bin(&packer, size);
    if (size > 0) {
        memcpy(cursor, payload, size);
    }
    return (size_t)(cursor - dst) + size;
}

/* All that follows the header stands: writes it, with the checksum over both. @return whole size */
static size_t finish(uint8_t *block, ab_block_header *header)
{
    size_t size = ab_block_size(header);
    header_encode(block, header);
    header->checksum = block_checksum(block, size);
    ab_put_le64(block + CHECKSUM_OFFSET, header->checksum);
    return size;
}

size_t ab_block_seal(uint8_t *block, ab_block_header *header, const ab_mark *marks, size_t mark_count)
{
    header->magic = AB_BLOCK_MAGIC;
    header->version = AB_BLOCK_VERSION;
    header->reserved = 0;
    header->reserved2 = 0;
    header->last = header->first + header->count - 1;
    header->mark_count = (uint32_t)mark_count;
    uint8_t *p = block + AB_BLOCK_HEADER + header->entries_bytes;
    for (size_t i = 0; i < mark_count; i++, p += AB_BLOCK_MARK) {
        mark_encode(p, marks[i]);
    }
    return finish(block, header);
}

size_t ab_block_repeat_size(const ab_block_header *old)
{
    return ab_block_size(old) + AB_BLOCK_MARK + AB_BLOCK_ORIGIN_BYTES;
}

/* Copies the old block's marks and puts `fork` among them. @return how many */
static uint32_t repeat_marks(uint8_t *to, const uint8_t *from, uint32_t count, ab_mark fork)
{
    uint32_t written = 0;
    bool put = fork.index == 0;
    for (uint32_t i = 0; i < count; i++, from += AB_BLOCK_MARK) {
        ab_mark mark;
        mark_decode(from, &mark);
        if (ab_stream_compare(mark.stream, fork.stream) == 0) {
            continue; /* a block never depends on its own stream */
        }
        if (!put && ab_stream_compare(fork.stream, mark.stream) < 0) {
            mark_encode(to + (size_t)AB_BLOCK_MARK * written++, fork);
            put = true;
        }
        mark_encode(to + (size_t)AB_BLOCK_MARK * written++, mark);
    }
    if (!put) {
        mark_encode(to + (size_t)AB_BLOCK_MARK * written++, fork);
    }
    return written;
}

size_t ab_block_repeat(uint8_t *block, ab_block_header *header, const void *old,
                       const ab_block_header *old_header, uint32_t epoch, uint64_t prev_hash,
                       ab_block_origin *origin)
{
    if (old_header->first <= origin->fork || old_header->flags != 0) {
        return 0;
    }
    const uint8_t *marks = (const uint8_t *)old + AB_BLOCK_HEADER + old_header->entries_bytes;
    *header = *old_header;
    header->flags = AB_BLOCK_ORIGIN;
    header->epoch = epoch;
    header->first = old_header->first - origin->fork;
    header->last = old_header->last - origin->fork;
    header->prev_hash = prev_hash;
    origin->hash = old_header->checksum;
    memcpy(block + AB_BLOCK_HEADER, (const uint8_t *)old + AB_BLOCK_HEADER, old_header->entries_bytes);
    uint8_t *p = block + AB_BLOCK_HEADER + old_header->entries_bytes;
    ab_mark fork = {{old_header->node, origin->epoch}, header->first == 1 ? origin->fork : 0};
    header->mark_count = repeat_marks(p, marks, old_header->mark_count, fork);
    ab_block_origin_write(p + (size_t)AB_BLOCK_MARK * header->mark_count, origin);
    return finish(block, header);
}

int ab_stream_compare(ab_stream a, ab_stream b)
{
    if (a.node != b.node) {
        return a.node < b.node ? -1 : 1;
    }
    return a.epoch == b.epoch ? 0 : a.epoch < b.epoch ? -1 : 1;
}
