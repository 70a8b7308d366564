/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and records of the log's two databases. Pure functions, safe on any thread. */
#include "wal/wal_internal.h"

#include "wal/bytes.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

void ab_wal_block_key(uint8_t key[AB_WAL_BLOCK_KEY], uint64_t group, ab_stream stream, uint64_t first)
{
    ab_put_be64(key, group);
    ab_put_be32(key + 8, stream.node);
    ab_put_be32(key + 12, stream.epoch);
    ab_put_be64(key + 16, first);
}

bool ab_wal_block_key_is(const MDB_val *key, uint64_t group, ab_stream stream)
{
    const uint8_t *p = key->mv_data;
    return key->mv_size == AB_WAL_BLOCK_KEY && ab_get_be64(p) == group && ab_get_be32(p + 8) == stream.node &&
           ab_get_be32(p + 12) == stream.epoch;
}

uint64_t ab_wal_block_key_first(const MDB_val *key)
{
    return ab_get_be64((const uint8_t *)key->mv_data + 16);
}

size_t ab_wal_state_key(uint8_t *key, uint64_t group, const void *name, size_t size)
{
    ab_put_be64(key, group);
    if (size > 0) {
        memcpy(key + 8, name, size);
    }
    return 8 + size;
}

void ab_wal_stream_name(uint8_t name[AB_WAL_STREAM_NAME], ab_stream stream)
{
    memcpy(name, AB_WAL_STREAM_PREFIX, AB_WAL_STREAM_PREFIX_SIZE);
    ab_put_be32(name + AB_WAL_STREAM_PREFIX_SIZE, stream.node);
    ab_put_be32(name + AB_WAL_STREAM_PREFIX_SIZE + 4, stream.epoch);
}

bool ab_wal_stream_name_read(const uint8_t *name, size_t size, ab_stream *stream)
{
    if (size != AB_WAL_STREAM_NAME || memcmp(name, AB_WAL_STREAM_PREFIX, AB_WAL_STREAM_PREFIX_SIZE) != 0) {
        return false;
    }
    stream->node = ab_get_be32(name + AB_WAL_STREAM_PREFIX_SIZE);
    stream->epoch = ab_get_be32(name + AB_WAL_STREAM_PREFIX_SIZE + 4);
    return true;
}

uint64_t ab_wal_state_sum(const void *key, size_t key_size, const void *data, size_t size)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, key, key_size);
    if (size > 0) {
        XXH3_64bits_update(&state, data, size);
    }
    return XXH3_64bits_digest(&state);
}

void ab_wal_record_encode(uint8_t data[AB_WAL_RECORD_SIZE], const ab_wal_record *record)
{
    ab_put_le64(data, record->base);
    ab_put_le64(data + 8, record->base_hash);
    ab_put_le64(data + 16, record->last);
    ab_put_le64(data + 24, record->last_hash);
    ab_put_le64(data + 32, record->hlc_last);
}

bool ab_wal_record_decode(const void *data, size_t size, ab_wal_record *record)
{
    const uint8_t *p = data;
    if (size != AB_WAL_RECORD_SIZE) {
        return false;
    }
    record->base = ab_get_le64(p);
    record->base_hash = ab_get_le64(p + 8);
    record->last = ab_get_le64(p + 16);
    record->last_hash = ab_get_le64(p + 24);
    record->hlc_last = ab_get_le64(p + 32);
    return record->base <= record->last;
}

void ab_wal_commit_record_encode(uint8_t data[AB_WAL_COMMIT_RECORD], uint64_t txnid, uint64_t blocks,
                                 uint64_t state)
{
    ab_put_le64(data, txnid);
    ab_put_le64(data + 8, blocks);
    ab_put_le64(data + 16, state);
    ab_put_le64(data + 24, XXH3_64bits(data, 24));
}

bool ab_wal_commit_record_decode(const void *data, size_t size, uint64_t *txnid, uint64_t *blocks,
                                 uint64_t *state)
{
    const uint8_t *p = data;
    if (size != AB_WAL_COMMIT_RECORD || ab_get_le64(p + 24) != XXH3_64bits(p, 24)) {
        return false;
    }
    *txnid = ab_get_le64(p);
    *blocks = ab_get_le64(p + 8);
    *state = ab_get_le64(p + 16);
    return true;
}
