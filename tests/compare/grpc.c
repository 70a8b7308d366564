/* SPDX-License-Identifier: Apache-2.0 */
/* Unary gRPC calls over HTTP/2, see grpc.h. One thread at a time. */
#include "tests/compare/grpc.h"

#include <string.h>

#define FRAME_HEAD 9u
#define FRAME_MAX 16384u /* what we accept, HTTP/2's least and default */
#define WINDOW_FIRST 65535u
#define WINDOW_MAX 0x7fffffffu
#define WINDOW_RENEW (1u << 30) /* received bytes after which we allow as many more */
#define GRPC_HEAD 5u

enum frame_type {
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_RST_STREAM = 3,
    FRAME_SETTINGS = 4,
    FRAME_PING = 6,
    FRAME_GOAWAY = 7,
    FRAME_WINDOW_UPDATE = 8
};
#define FLAG_END_STREAM 0x1u
#define FLAG_ACK 0x1u
#define FLAG_END_HEADERS 0x4u
#define FLAG_PADDED 0x8u

#define SETTING_INITIAL_WINDOW 4u
#define SETTING_MAX_FRAME 5u

struct frame {
    uint8_t type;
    uint8_t flags;
    uint32_t stream;
    const uint8_t *body;
    size_t size;
};

static void put_be32(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)(value >> 24);
    to[1] = (uint8_t)(value >> 16);
    to[2] = (uint8_t)(value >> 8);
    to[3] = (uint8_t)value;
}

static uint32_t get_be32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static void put_frame_head(struct ab_cmp_bytes *out, uint8_t type, uint8_t flags, uint32_t stream,
                           size_t size)
{
    uint8_t head[FRAME_HEAD] = {(uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, type, flags};
    put_be32(head + 5, stream);
    ab_cmp_bytes_put(out, head, sizeof head);
}

static void put_window_update(struct ab_cmp_bytes *out, uint32_t bytes)
{
    uint8_t body[4];
    put_be32(body, bytes);
    put_frame_head(out, FRAME_WINDOW_UPDATE, 0, 0, sizeof body);
    ab_cmp_bytes_put(out, body, sizeof body);
}

void ab_grpc_start(struct ab_grpc *grpc, struct ab_cmp_bytes *out)
{
    grpc->out = out;
    grpc->next_stream = 1;
    grpc->window = WINDOW_FIRST;
    grpc->stream_window = WINDOW_FIRST;
    grpc->max_frame = FRAME_MAX;
    grpc->received = 0;
    grpc->error = NULL;
    ab_cmp_bytes_text(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    uint8_t setting[6] = {0, SETTING_INITIAL_WINDOW};
    put_be32(setting + 2, WINDOW_MAX);
    put_frame_head(out, FRAME_SETTINGS, 0, 0, sizeof setting);
    ab_cmp_bytes_put(out, setting, sizeof setting);
    put_window_update(out, WINDOW_MAX - WINDOW_FIRST);
}

bool ab_grpc_fits(const struct ab_grpc *grpc, size_t size)
{
    size_t whole = size + GRPC_HEAD;
    return whole <= grpc->stream_window && (int64_t)whole <= grpc->window;
}

/* Literal fields that no table remembers; the names have their numbers in HPACK's static table. */
static void put_headers(struct ab_cmp_bytes *out, uint32_t stream, const char *path)
{
    static const uint8_t method_scheme[] = {0x83, 0x86};    /* POST, http */
    static const uint8_t authority[] = "\x01\x09localhost"; /* 1 */
    static const uint8_t type[] = "\x0f\x10\x10"
                                  "application/grpc"; /* 31: 15 + 16 */
    static const uint8_t te[] = "\x00\x02te\x08trailers";
    uint8_t path_head[2] = {0x04, (uint8_t)strlen(path)};
    size_t size = sizeof method_scheme + sizeof path_head + path_head[1] + sizeof authority - 1 +
                  sizeof type - 1 + sizeof te - 1;
    put_frame_head(out, FRAME_HEADERS, FLAG_END_HEADERS, stream, size);
    ab_cmp_bytes_put(out, method_scheme, sizeof method_scheme);
    ab_cmp_bytes_put(out, path_head, sizeof path_head);
    ab_cmp_bytes_put(out, path, path_head[1]);
    ab_cmp_bytes_put(out, authority, sizeof authority - 1);
    ab_cmp_bytes_put(out, type, sizeof type - 1);
    ab_cmp_bytes_put(out, te, sizeof te - 1);
}

uint32_t ab_grpc_call(struct ab_grpc *grpc, const char *path, const void *message, size_t size)
{
    uint32_t stream = grpc->next_stream;
    grpc->next_stream += 2;
    put_headers(grpc->out, stream, path);
    uint8_t head[GRPC_HEAD] = {0};
    put_be32(head + 1, (uint32_t)size);
    size_t left = size, part = grpc->max_frame - GRPC_HEAD;
    const uint8_t *at = message;
    for (bool first = true; first || left > 0; first = false) {
        part = first ? part : grpc->max_frame;
        part = left < part ? left : part;
        put_frame_head(grpc->out, FRAME_DATA, part == left ? FLAG_END_STREAM : 0, stream,
                       part + (first ? GRPC_HEAD : 0));
        if (first) {
            ab_cmp_bytes_put(grpc->out, head, sizeof head);
        }
        ab_cmp_bytes_put(grpc->out, at, part);
        at += part;
        left -= part;
    }
    grpc->window -= (int64_t)(size + GRPC_HEAD);
    return stream;
}

static bool refuse(struct ab_grpc *grpc, const char *why)
{
    grpc->error = why;
    return false;
}

static bool take_data(struct ab_grpc *grpc, const struct frame *frame)
{
    const uint8_t *body = frame->body;
    size_t size = frame->size;
    if (frame->flags & FLAG_PADDED) {
        if (size < 1 || body[0] + 1u > size) {
            return refuse(grpc, "padding longer than its frame");
        }
        size -= 1u + body[0];
        body++;
    }
    if (size > 0) {
        grpc->on_data(grpc->arg, frame->stream, body, size);
    }
    grpc->received += (uint32_t)frame->size;
    if (grpc->received >= WINDOW_RENEW) {
        put_window_update(grpc->out, grpc->received);
        grpc->received = 0;
    }
    return true;
}

static bool take_settings(struct ab_grpc *grpc, const struct frame *frame)
{
    if (frame->flags & FLAG_ACK) {
        return true;
    }
    if (frame->size % 6 != 0) {
        return refuse(grpc, "settings of a size that cannot be");
    }
    for (size_t at = 0; at < frame->size; at += 6) {
        uint32_t id = (uint32_t)frame->body[at] << 8 | frame->body[at + 1];
        uint32_t value = get_be32(frame->body + at + 2);
        if (id == SETTING_INITIAL_WINDOW) {
            grpc->stream_window = value;
        } else if (id == SETTING_MAX_FRAME && value >= FRAME_MAX) {
            grpc->max_frame = value;
        }
    }
    put_frame_head(grpc->out, FRAME_SETTINGS, FLAG_ACK, 0, 0);
    return true;
}

static bool take_ping(struct ab_grpc *grpc, const struct frame *frame)
{
    if (frame->size != 8) {
        return refuse(grpc, "a ping without its eight bytes");
    }
    if (!(frame->flags & FLAG_ACK)) {
        put_frame_head(grpc->out, FRAME_PING, FLAG_ACK, 0, 8);
        ab_cmp_bytes_put(grpc->out, frame->body, 8);
    }
    return true;
}

static bool take_frame(struct ab_grpc *grpc, const struct frame *frame)
{
    switch (frame->type) {
    case FRAME_DATA:
        if (!take_data(grpc, frame)) {
            return false;
        }
        break;
    case FRAME_HEADERS:
        break;
    case FRAME_RST_STREAM:
        grpc->on_end(grpc->arg, frame->stream, true);
        return true;
    case FRAME_SETTINGS:
        return take_settings(grpc, frame);
    case FRAME_PING:
        return take_ping(grpc, frame);
    case FRAME_GOAWAY:
        return refuse(grpc, "the server goes away");
    case FRAME_WINDOW_UPDATE:
        if (frame->size != 4) {
            return refuse(grpc, "a window update without its four bytes");
        }
        grpc->window += frame->stream == 0 ? get_be32(frame->body) & WINDOW_MAX : 0;
        return true;
    default:
        return true;
    }
    if (frame->flags & FLAG_END_STREAM) {
        grpc->on_end(grpc->arg, frame->stream, false);
    }
    return true;
}

ptrdiff_t ab_grpc_input(struct ab_grpc *grpc, const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (size - at >= FRAME_HEAD) {
        const uint8_t *head = data + at;
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (length > FRAME_MAX) {
            refuse(grpc, "a frame larger than we allowed");
            return -1;
        }
        if (size - at < FRAME_HEAD + length) {
            break;
        }
        struct frame frame = {head[3], head[4], get_be32(head + 5) & WINDOW_MAX, head + FRAME_HEAD, length};
        if (!take_frame(grpc, &frame)) {
            return -1;
        }
        at += FRAME_HEAD + length;
    }
    return (ptrdiff_t)at;
}

/* --- Protocol Buffers --- */

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static size_t put_varint(struct ab_cmp_bytes *out, uint64_t number)
{
    uint8_t bytes[10];
    size_t size = 0;
    for (; number >= 0x80; number >>= 7) {
        bytes[size++] = (uint8_t)(number | 0x80);
    }
    bytes[size++] = (uint8_t)number;
    ab_cmp_bytes_put(out, bytes, size);
    return size;
}

size_t ab_pb_varint_size(uint64_t number)
{
    size_t size = 1;
    for (; number >= 0x80; number >>= 7) {
        size++;
    }
    return size;
}

void ab_pb_number(struct ab_cmp_bytes *out, uint32_t field, uint64_t number)
{
    put_varint(out, (uint64_t)field << 3 | WIRE_VARINT);
    put_varint(out, number);
}

size_t ab_pb_head(struct ab_cmp_bytes *out, uint32_t field, size_t size)
{
    size_t key = put_varint(out, (uint64_t)field << 3 | WIRE_BYTES);
    return key + put_varint(out, size);
}

void ab_pb_bytes(struct ab_cmp_bytes *out, uint32_t field, const void *data, size_t size)
{
    ab_pb_head(out, field, size);
    ab_cmp_bytes_put(out, data, size);
}

struct pb_field {
    uint32_t field;
    enum wire_type type;
    uint64_t number;
    const uint8_t *data;
    size_t size;
};

static bool get_varint(const uint8_t *data, size_t size, size_t *at, uint64_t *number)
{
    *number = 0;
    for (uint32_t shift = 0; shift < 64 && *at < size; shift += 7) {
        uint8_t byte = data[(*at)++];
        *number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return true;
        }
    }
    return false;
}

static bool next_field(const uint8_t *data, size_t size, size_t *at, struct pb_field *field)
{
    uint64_t key = 0;
    if (!get_varint(data, size, at, &key)) {
        return false;
    }
    *field = (struct pb_field){.field = (uint32_t)(key >> 3), .type = (enum wire_type)(key & 7)};
    uint64_t length = 0;
    switch (field->type) {
    case WIRE_VARINT:
        return get_varint(data, size, at, &field->number);
    case WIRE_64:
        length = 8;
        break;
    case WIRE_32:
        length = 4;
        break;
    case WIRE_BYTES:
        if (!get_varint(data, size, at, &length)) {
            return false;
        }
        break;
    default:
        return false;
    }
    if (length > size - *at) {
        return false;
    }
    field->data = data + *at;
    field->size = (size_t)length;
    *at += field->size;
    return true;
}

bool ab_pb_find_number(const uint8_t *data, size_t size, uint32_t field, uint64_t *number)
{
    struct pb_field found;
    for (size_t at = 0; at < size && next_field(data, size, &at, &found);) {
        if (found.field == field && found.type == WIRE_VARINT) {
            *number = found.number;
            return true;
        }
    }
    return false;
}

bool ab_pb_find_bytes(const uint8_t *data, size_t size, uint32_t field, const uint8_t **bytes, size_t *length)
{
    struct pb_field found;
    for (size_t at = 0; at < size && next_field(data, size, &at, &found);) {
        if (found.field == field && found.type == WIRE_BYTES) {
            *bytes = found.data;
            *length = found.size;
            return true;
        }
    }
    return false;
}
