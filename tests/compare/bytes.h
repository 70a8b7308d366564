/* SPDX-License-Identifier: Apache-2.0 */
/* A growing run of bytes that is filled at its end and consumed at its beginning: what a connection sends and receives.
 * A plain value; one thread at a time. */
#ifndef ANABRANCH_TESTS_COMPARE_BYTES_H
#define ANABRANCH_TESTS_COMPARE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty one. */
struct ab_cmp_bytes {
    uint8_t *data;
    size_t begin;
    size_t end;
    size_t capacity;
    bool failed; /* memory ran out: what was put since is lost; checked once by whoever sends it */
};

/* Room for `size` bytes at the end, to be claimed by ab_cmp_bytes_grow. @return NULL without memory */
uint8_t *ab_cmp_bytes_room(struct ab_cmp_bytes *bytes, size_t size);
void ab_cmp_bytes_grow(struct ab_cmp_bytes *bytes, size_t size);
void ab_cmp_bytes_put(struct ab_cmp_bytes *bytes, const void *data, size_t size);
void ab_cmp_bytes_text(struct ab_cmp_bytes *bytes, const char *text);
/* The digits of a number. */
void ab_cmp_bytes_number(struct ab_cmp_bytes *bytes, uint64_t number);
void ab_cmp_bytes_consume(struct ab_cmp_bytes *bytes, size_t size);
size_t ab_cmp_bytes_size(const struct ab_cmp_bytes *bytes);
const uint8_t *ab_cmp_bytes_data(const struct ab_cmp_bytes *bytes);
void ab_cmp_bytes_free(struct ab_cmp_bytes *bytes);

#endif
