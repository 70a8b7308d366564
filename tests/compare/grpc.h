/* SPDX-License-Identifier: Apache-2.0 */
/* As much of gRPC as unary calls to etcd need: HTTP/2 frames over one plain connection, and Protocol Buffers fields.
 * Headers of answers are not decoded: a unary call that failed ends without a message. Works on bytes, knows no socket; one
 * thread at a time. */
#ifndef ANABRANCH_TESTS_COMPARE_GRPC_H
#define ANABRANCH_TESTS_COMPARE_GRPC_H

#include "tests/compare/bytes.h"

/* A piece of the message of an answer, and the end of a call (failed: reset by the server). */
typedef void (*ab_grpc_data_fn)(void *arg, uint32_t stream, const uint8_t *data, size_t size);
typedef void (*ab_grpc_end_fn)(void *arg, uint32_t stream, bool failed);

struct ab_grpc {
    struct ab_cmp_bytes *out; /* to be sent */
    ab_grpc_data_fn on_data;  /* with the five bytes before each message */
    ab_grpc_end_fn on_end;
    void *arg;
    uint32_t next_stream;
    int64_t window;         /* bytes that the server takes on this connection before it says more */
    uint32_t stream_window; /* and on each new stream */
    uint32_t max_frame;
    uint32_t received; /* since our last window update */
    const char *error; /* why input was refused */
};

void ab_grpc_start(struct ab_grpc *grpc, struct ab_cmp_bytes *out);

/* Whether a message of this size can be sent now. (Never, if it is larger than `stream_window`.) */
bool ab_grpc_fits(const struct ab_grpc *grpc, size_t size);

/* Starts a call. @return its stream: 1, 3, 5, ... */
uint32_t ab_grpc_call(struct ab_grpc *grpc, const char *path, const void *message, size_t size);

/* Takes whole frames. @return bytes consumed, -1: see `error` */
ptrdiff_t ab_grpc_input(struct ab_grpc *grpc, const uint8_t *data, size_t size);

/* --- Protocol Buffers --- */
void ab_pb_number(struct ab_cmp_bytes *out, uint32_t field, uint64_t number);
void ab_pb_bytes(struct ab_cmp_bytes *out, uint32_t field, const void *data, size_t size);
/* The key and the length of a field; its `size` bytes follow. @return bytes of both */
size_t ab_pb_head(struct ab_cmp_bytes *out, uint32_t field, size_t size);
size_t ab_pb_varint_size(uint64_t number);

/* The first field with this number; a varint into `number`, else the bytes. @return false: none, or damaged */
bool ab_pb_find_number(const uint8_t *data, size_t size, uint32_t field, uint64_t *number);
bool ab_pb_find_bytes(const uint8_t *data, size_t size, uint32_t field, const uint8_t **found,
                      size_t *length);

#endif
