/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file out.h
 * Bytes on their way to an inspector: framed msgpack maps, built field by field. One owner, one thread.
 */
#ifndef ANABRANCH_ENGINE_ADMIN_OUT_H
#define ANABRANCH_ENGINE_ADMIN_OUT_H

#include <anabranch/types.h>

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ab_out {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t sent;   /* bytes at the start that were written to the socket */
    size_t frame;  /* where the frame under way begins */
    size_t map;    /* where the open map of the frame begins */
    uint32_t keys; /* in it */
    bool failed;   /* out of memory: nothing more is appended */
    msgpack_packer packer;
} ab_out;

void ab_out_init(ab_out *out);
void ab_out_release(ab_out *out);

/** Bytes that wait to be sent. */
size_t ab_out_waiting(const ab_out *out);

/** Counts `bytes` as sent and lets go of them. */
void ab_out_sent(ab_out *out, size_t bytes);

/** Appends finished frames. */
void ab_out_raw(ab_out *out, const void *data, size_t size);

/** A message: begin, fields, end. `type` becomes its field "type". */
void ab_out_begin(ab_out *out, const char *type);
void ab_out_end(ab_out *out);

void ab_out_uint(ab_out *out, const char *key, uint64_t value);
void ab_out_bool(ab_out *out, const char *key, bool value);
void ab_out_double(ab_out *out, const char *key, double value);
void ab_out_text(ab_out *out, const char *key, const char *value); /* NULL: nil */
void ab_out_bin(ab_out *out, const char *key, const void *data, size_t size);
void ab_out_nil(ab_out *out, const char *key);
void ab_out_code(ab_out *out, const char *key, int code);           /* as name, e.g. "AB_EIO" */
void ab_out_stream(ab_out *out, const char *key, ab_stream stream); /* as "NODE.EPOCH" */
void ab_out_frontier(ab_out *out, const char *key, ab_frontier frontier);

#endif
