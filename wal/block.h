/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file block.h
 * The block: a run of consecutive entries of one stream, encoded once; the unit of the log, the cache and the
 * wire. Pure functions on memory; no I/O, no state. docs/FORMATS.md has it byte by byte.
 *
 *   header (AB_BLOCK_HEADER bytes, little-endian) | entries (msgpack) | dependency marks | origin, if flagged
 *
 * Entries are msgpack objects, two per entry: unsigned hlc delta against the entry before (the first one's
 * against header.hlc_first, so 0), then the payload as bin. Index = header.first + position. A later format
 * sets a flag and adds objects per entry (raft: client id and sequence); an unknown flag is AB_EVERSION. A
 * dependency mark is node u32, epoch u32, index u64, little-endian, sorted by (node, epoch).
 *
 * The checksum is XXH3-64 over the header (without the checksum) and all that follows; it covers prev_hash,
 * so it is also the block's hash in the chain.
 */
#ifndef ANABRANCH_WAL_BLOCK_H
#define ANABRANCH_WAL_BLOCK_H

#include <anabranch/backend.h>
#include <anabranch/error.h>
#include <anabranch/types.h>

#define AB_BLOCK_MAGIC 0x4b424241u /* "ABBK" */
#define AB_BLOCK_VERSION 1u
#define AB_BLOCK_HEADER 96u
#define AB_BLOCK_MARK 16u
#define AB_BLOCK_ORIGIN 1u /* flag: the block repeats one of an older stream, and says which */
#define AB_BLOCK_FLAGS_KNOWN AB_BLOCK_ORIGIN
#define AB_BLOCK_ORIGIN_BYTES 40u
/** Entry framing at most: uint64 (9) + bin32 header (5). */
#define AB_ENTRY_OVERHEAD 14u

typedef struct ab_block_header {
    uint32_t magic;         /*  0 */
    uint8_t version;        /*  4 */
    uint8_t flags;          /*  5 */
    uint16_t reserved;      /*  6 must be 0 */
    uint32_t count;         /*  8 entries, at least 1 */
    uint32_t entries_bytes; /* 12 */
    uint64_t group;         /* 16 */
    uint32_t node;          /* 24 */
    uint32_t epoch;         /* 28 */
    uint64_t first;         /* 32 */
    uint64_t last;          /* 40 = first + count - 1 */
    uint64_t term;          /* 48 */
    uint64_t hlc_first;     /* 56 */
    uint64_t hlc_last;      /* 64 */
    uint64_t prev_hash;     /* 72 */
    uint32_t mark_count;    /* 80 */
    uint32_t reserved2;     /* 84 must be 0 */
    uint64_t checksum;      /* 88 */
} ab_block_header;

/**
 * Reads a header and checks everything that needs no more than the header: magic, version, flags, reserved
 * fields, count, last, sizes against AB_BLOCK_MAX and, if `size` >= AB_BLOCK_HEADER, nothing beyond it.
 * @return AB_OK, AB_ECORRUPT, AB_EVERSION, AB_ETOOBIG (fewer bytes than a header: AB_ECORRUPT)
 */
int ab_block_header_read(const void *data, size_t size, ab_block_header *header);

/** Whole size that a (good) header announces. */
size_t ab_block_size(const ab_block_header *header);

/** ab_block_header_read, then: `size` is exactly the whole block, checksum, marks sorted.
 *  Does not walk the entries. @return AB_OK, AB_ECORRUPT, AB_EVERSION, AB_ETOOBIG */
int ab_block_check(const void *data, size_t size, ab_block_header *header);

/** Info of a block that passed ab_block_header_read(); `marks` has room for header->mark_count and becomes
 * info->deps. `data` is the whole block. */
void ab_block_info_read(const void *data, const ab_block_header *header, ab_mark *marks, ab_block_info *info);

/** Walks the entries of a checked block. */
typedef struct ab_block_iter {
    const uint8_t *data; /* entries */
    size_t size;
    size_t offset;
    uint64_t index; /* of the next */
    uint64_t hlc;   /* of the one before */
    uint64_t term;
    ab_stream stream;
    uint64_t left;
    uint64_t hlc_last;
} ab_block_iter;

void ab_block_iter_init(ab_block_iter *iter, const void *block, const ab_block_header *header);

/** Next entry. @return AB_OK; AB_ENOTFOUND at the end; AB_ECORRUPT (an entry is malformed, the count or
 * hlc_last does not agree with the header, or bytes are left over) */
int ab_block_iter_next(ab_block_iter *iter, ab_entry *entry);

/** Packs one entry at `dst` (room for size + AB_ENTRY_OVERHEAD). `delta` = hlc - hlc of the entry before.
 *  @return bytes written */
size_t ab_entry_pack(uint8_t *dst, uint64_t delta, const void *payload, size_t size);

/**
 * Completes a block in place: `block` has AB_BLOCK_HEADER free bytes, then header->entries_bytes of entries,
 * then room for the marks. Sets magic, version, last, mark_count and checksum in `header` and writes header
 * and marks.
 * @return whole size
 */
size_t ab_block_seal(uint8_t *block, ab_block_header *header, const ab_mark *marks, size_t mark_count);

/** An origin as it stands in a block: AB_BLOCK_ORIGIN_BYTES bytes. Nothing is checked. */
void ab_block_origin_read(const uint8_t *p, ab_block_origin *origin);
void ab_block_origin_write(uint8_t *p, const ab_block_origin *origin);

/** Bytes that ab_block_repeat() writes at most. */
size_t ab_block_repeat_size(const ab_block_header *old);

/**
 * Writes `old` (a whole, checked block with its header) to `block` once more, as the next block of another stream of the
 * same origin: epoch and first index are new, `prev_hash` continues that stream's chain, entries and hlcs are the
 * same. The dependency marks are the old ones and, in the stream's first block, one on the old stream up to the
 * fork. `origin` says what is repeated; its `hash` is set to the old block's.
 * @param header  out: header of the new block
 * @return whole size; 0 if the old block is not after origin->fork, or is a repetition itself
 */
size_t ab_block_repeat(uint8_t *block, ab_block_header *header, const void *old,
                       const ab_block_header *old_header, uint32_t epoch, uint64_t prev_hash,
                       ab_block_origin *origin);

/** Order of streams: by node, then epoch. <0, 0, >0. */
int ab_stream_compare(ab_stream a, ab_stream b);

#endif
