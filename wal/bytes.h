/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file bytes.h
 * Integers in memory of any alignment: little-endian for values, big-endian for LMDB keys. Pure functions; knows
 * the C library only.
 */
#ifndef ANABRANCH_WAL_BYTES_H
#define ANABRANCH_WAL_BYTES_H

#include <stdint.h>
#include <string.h>

/* Compilers turn these into one load or store (and a swap where the byte order differs). */
static inline uint16_t ab_get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t ab_get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t ab_get_le64(const uint8_t *p)
{
    return (uint64_t)ab_get_le32(p) | (uint64_t)ab_get_le32(p + 4) << 32;
}

static inline uint16_t ab_get_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t ab_get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static inline uint64_t ab_get_be64(const uint8_t *p)
{
    return (uint64_t)ab_get_be32(p) << 32 | (uint64_t)ab_get_be32(p + 4);
}

static inline void ab_put_le16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static inline void ab_put_le32(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    p[2] = (uint8_t)(value >> 16);
    p[3] = (uint8_t)(value >> 24);
}

static inline void ab_put_le64(uint8_t *p, uint64_t value)
{
    ab_put_le32(p, (uint32_t)value);
    ab_put_le32(p + 4, (uint32_t)(value >> 32));
}

static inline void ab_put_be32(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 24);
    p[1] = (uint8_t)(value >> 16);
    p[2] = (uint8_t)(value >> 8);
    p[3] = (uint8_t)value;
}

static inline void ab_put_be64(uint8_t *p, uint64_t value)
{
    ab_put_be32(p, (uint32_t)(value >> 32));
    ab_put_be32(p + 4, (uint32_t)value);
}

#endif
