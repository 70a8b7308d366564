/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file bytes.h
 * Whole numbers in the store: big-endian in keys, so that they sort, little-endian in most values. Pure functions. The
 * daemon is built on the public headers alone, so it has its own.
 */
#ifndef ANABRANCHD_BYTES_H
#define ANABRANCHD_BYTES_H

#include <stddef.h>
#include <stdint.h>

/** The lowest `size` bytes of `number`, 1 to 8. */
static inline void ab_put_big(uint8_t *out, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(number >> (8 * (size - 1 - i)));
    }
}

static inline uint64_t ab_get_big(const uint8_t *in, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        number = number << 8 | in[i];
    }
    return number;
}

static inline void ab_put_little(uint8_t *out, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(number >> (8 * i));
    }
}

static inline uint64_t ab_get_little(const uint8_t *in, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        number |= (uint64_t)in[i] << (8 * i);
    }
    return number;
}

#endif
