/* SPDX-License-Identifier: Apache-2.0 */
/* A point as stored. Pure functions: any thread.
 *
 * Key: column id u32, time u64 with the sign bit flipped, big-endian, so that LMDB sorts by column, then time.
 * Value, little-endian: type u8, hlc u64, node u32, then float64, i64, u64, one byte of boolean, or the string. */
#include "tools/anabranchd/bytes.h"
#include "tools/anabranchd/store_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

int ab_stamp_compare(ab_stamp a, ab_stamp b)
{
    if (a.hlc != b.hlc) {
        return a.hlc < b.hlc ? -1 : 1;
    }
    return (a.node > b.node) - (a.node < b.node);
}

void ab_point_key_pack(uint32_t column, int64_t time, uint8_t out[AB_POINT_KEY_SIZE])
{
    ab_put_big(out, column, 4);
    ab_put_big(out + 4, (uint64_t)time ^ (1ull << 63), 8);
}

bool ab_point_key_unpack(const MDB_val *key, uint32_t *column, int64_t *time)
{
    if (key->mv_size != AB_POINT_KEY_SIZE) {
        return false;
    }
    const uint8_t *in = key->mv_data;
    *column = (uint32_t)ab_get_big(in, 4);
    *time = (int64_t)(ab_get_big(in + 4, 8) ^ (1ull << 63));
    return true;
}

size_t ab_point_size(const ab_value *value)
{
    switch (value->type) {
    case AB_VALUE_STRING:
        return AB_POINT_HEADER + value->as.text.size;
    case AB_VALUE_BOOLEAN:
        return AB_POINT_HEADER + 1;
    default:
        return AB_POINT_HEADER + 8;
    }
}

void ab_point_pack(const ab_value *value, ab_stamp stamp, uint8_t *out)
{
    uint64_t bits = 0;
    out[0] = (uint8_t)value->type;
    ab_put_little(out + 1, stamp.hlc, 8);
    ab_put_little(out + 9, stamp.node, 4);
    out += AB_POINT_HEADER;
    switch (value->type) {
    case AB_VALUE_FLOAT:
        memcpy(&bits, &value->as.real, sizeof bits);
        ab_put_little(out, bits, 8);
        break;
    case AB_VALUE_INTEGER:
        ab_put_little(out, (uint64_t)value->as.integer, 8);
        break;
    case AB_VALUE_UNSIGNED:
        ab_put_little(out, value->as.natural, 8);
        break;
    case AB_VALUE_STRING:
        memcpy(out, value->as.text.data, value->as.text.size);
        break;
    case AB_VALUE_BOOLEAN:
        out[0] = value->as.truth ? 1 : 0;
        break;
    }
}

bool ab_point_unpack(const MDB_val *data, ab_value *value, ab_stamp *stamp)
{
    const uint8_t *in = data->mv_data;
    if (data->mv_size < AB_POINT_HEADER) {
        return false;
    }
    size_t size = data->mv_size - AB_POINT_HEADER;
    value->type = (ab_value_type)in[0];
    stamp->hlc = ab_get_little(in + 1, 8);
    stamp->node = (uint32_t)ab_get_little(in + 9, 4);
    in += AB_POINT_HEADER;
    uint64_t bits = size == 8 ? ab_get_little(in, 8) : 0;
    switch (value->type) {
    case AB_VALUE_FLOAT:
        memcpy(&value->as.real, &bits, sizeof bits);
        return size == 8 && isfinite(value->as.real);
    case AB_VALUE_INTEGER:
        value->as.integer = (int64_t)bits;
        return size == 8;
    case AB_VALUE_UNSIGNED:
        value->as.natural = bits;
        return size == 8;
    case AB_VALUE_STRING:
        value->as.text = (ab_bytes){in, size};
        return true;
    case AB_VALUE_BOOLEAN:
        value->as.truth = size == 1 && in[0] == 1;
        return size == 1 && in[0] <= 1;
    }
    return false;
}

ab_sum ab_column_hash(const char *text, size_t size)
{
    XXH128_hash_t hash = XXH3_128bits(text, size);
    return (ab_sum){hash.low64, hash.high64};
}

int ab_point_hash(ab_point_hasher *hasher, ab_sum column_hash, int64_t time, const MDB_val *data,
                  ab_sum *hash)
{
    size_t size = 24 + data->mv_size;
    if (hasher->capacity < size) {
        uint8_t *bytes = realloc(hasher->bytes, size * 2);
        if (bytes == NULL) {
            return AB_ENOMEM;
        }
        hasher->bytes = bytes;
        hasher->capacity = size * 2;
    }
    ab_put_little(hasher->bytes, column_hash.low, 8);
    ab_put_little(hasher->bytes + 8, column_hash.high, 8);
    ab_put_little(hasher->bytes + 16, (uint64_t)time, 8);
    memcpy(hasher->bytes + 24, data->mv_data, data->mv_size);
    XXH128_hash_t h = XXH3_128bits(hasher->bytes, size);
    *hash = (ab_sum){h.low64, h.high64};
    return AB_OK;
}
