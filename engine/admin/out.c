/* SPDX-License-Identifier: Apache-2.0 */
/* Framed msgpack maps in a growing buffer. The counts of bytes and keys are written last. One owner, one thread. */
#include "engine/admin/out.h"
#include "wal/bytes.h"
#include <anabranch/error.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_HEADER 4u
#define MAP_HEADER 3u /* map16 */

static int append(void *arg, const char *data, size_t size)
{
    ab_out *out = arg;
    if (out->failed) {
        return -1;
    }
    if (out->capacity - out->size < size) {
        size_t capacity = out->capacity > 0 ? out->capacity : 4096;
        while (capacity - out->size < size) {
            capacity *= 2;
        }
        uint8_t *larger = realloc(out->data, capacity);
        if (larger == NULL) {
            out->failed = true;
            return -1;
        }
        out->data = larger;
        out->capacity = capacity;
    }
    memcpy(out->data + out->size, data, size);
    out->size += size;
    return 0;
}

void ab_out_raw(ab_out *out, const void *data, size_t size)
{
    append(out, data, size);
}

void ab_out_init(ab_out *out)
{
    *out = (ab_out){0};
    msgpack_packer_init(&out->packer, out, append);
}

void ab_out_release(ab_out *out)
{
    free(out->data);
    out->data = NULL;
}

size_t ab_out_waiting(const ab_out *out)
{
    return out->size - out->sent;
}

void ab_out_sent(ab_out *out, size_t bytes)
{
    out->sent += bytes;
    if (out->sent == out->size) {
        out->sent = out->size = 0;
    } else if (out->sent > out->capacity / 2) {
        memmove(out->data, out->data + out->sent, out->size - out->sent);
        out->size -= out->sent;
        out->sent = 0;
    }
}

static void pack_text(ab_out *out, const char *text)
{
    size_t length = strlen(text);
    msgpack_pack_str(&out->packer, length);
    msgpack_pack_str_body(&out->packer, text, length);
}

static void key(ab_out *out, const char *name)
{
    out->keys++;
    pack_text(out, name);
}

void ab_out_begin(ab_out *out, const char *type)
{
    static const char header[FRAME_HEADER + MAP_HEADER] = {0, 0, 0, 0, (char)0xde, 0, 0};
    out->frame = out->size;
    out->map = out->size + FRAME_HEADER;
    out->keys = 0;
    append(out, header, sizeof header);
    ab_out_text(out, "type", type);
}

void ab_out_end(ab_out *out)
{
    if (out->failed) {
        return;
    }
    ab_put_le32(out->data + out->frame, (uint32_t)(out->size - out->frame - FRAME_HEADER));
    out->data[out->map + 1] = (uint8_t)(out->keys >> 8);
    out->data[out->map + 2] = (uint8_t)out->keys;
}

void ab_out_uint(ab_out *out, const char *name, uint64_t value)
{
    key(out, name);
    msgpack_pack_uint64(&out->packer, value);
}

void ab_out_bool(ab_out *out, const char *name, bool value)
{
    key(out, name);
    if (value) {
        msgpack_pack_true(&out->packer);
    } else {
        msgpack_pack_false(&out->packer);
    }
}

void ab_out_double(ab_out *out, const char *name, double value)
{
    key(out, name);
    msgpack_pack_double(&out->packer, value);
}

void ab_out_nil(ab_out *out, const char *name)
{
    key(out, name);
    msgpack_pack_nil(&out->packer);
}

void ab_out_text(ab_out *out, const char *name, const char *value)
{
    if (value == NULL) {
        ab_out_nil(out, name);
        return;
    }
    key(out, name);
    pack_text(out, value);
}

void ab_out_bin(ab_out *out, const char *name, const void *data, size_t size)
{
    key(out, name);
    msgpack_pack_bin(&out->packer, size);
    if (size > 0) {
        msgpack_pack_bin_body(&out->packer, data, size);
    }
}

void ab_out_code(ab_out *out, const char *name, int code)
{
    ab_out_text(out, name, ab_error_name(code));
}

static void stream_text(ab_stream stream, char *text, size_t size)
{
    snprintf(text, size, "%" PRIu32 ".%" PRIu32, stream.node, stream.epoch);
}

void ab_out_stream(ab_out *out, const char *name, ab_stream stream)
{
    char text[32];
    stream_text(stream, text, sizeof text);
    ab_out_text(out, name, text);
}

void ab_out_frontier(ab_out *out, const char *name, ab_frontier frontier)
{
    key(out, name);
    msgpack_pack_map(&out->packer, frontier.count);
    for (size_t i = 0; i < frontier.count; i++) {
        char text[32];
        stream_text(frontier.marks[i].stream, text, sizeof text);
        pack_text(out, text);
        msgpack_pack_uint64(&out->packer, frontier.marks[i].index);
    }
}
