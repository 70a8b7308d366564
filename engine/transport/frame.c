/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and decoding of frames. Pure; a reader belongs to one thread. */
#include "engine/transport/frame.h"

#include "wal/bytes.h"
#include <anabranch/error.h>
#include <stdlib.h>
#include <string.h>
/* Inlined: the streaming state is on the stack, and its layout is not part of the shared library's ABI. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#define CHECKSUM_OFFSET 12u

/* Shortest and longest body of each type. */
static const struct {
    uint32_t least;
    uint32_t most;
} lengths[] = {
    [AB_FRAME_HELLO] = {1, AB_FRAME_HELLO_MAX},
    [AB_FRAME_READY] = {8, 8},
    [AB_FRAME_MESSAGE] = {8, AB_FRAME_CONTROL_MAX},
    [AB_FRAME_BLOCK] = {AB_BLOCK_HEADER, AB_BLOCK_MAX},
    [AB_FRAME_PING] = {8, 8},
    [AB_FRAME_PONG] = {8, 8},
    [AB_FRAME_GOODBYE] = {4, AB_FRAME_HELLO_MAX},
};

/* Two pieces, because the checksum's own field lies between them. */
static uint32_t checksum(const uint8_t *header, const void *body, size_t size)
{
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, header, CHECKSUM_OFFSET);
    if (size > 0) {
        XXH3_64bits_update(&state, body, size);
    }
    return (uint32_t)XXH3_64bits_digest(&state);
}

static void header_write(uint8_t *p, ab_frame_type type, size_t length)
{
    ab_put_le32(p, AB_FRAME_MAGIC);
    p[4] = (uint8_t)type;
    p[5] = 0;
    ab_put_le16(p + 6, 0);
    ab_put_le32(p + 8, (uint32_t)length);
}

void ab_frame_seal(uint8_t *frame, ab_frame_type type, size_t body_size)
{
    header_write(frame, type, body_size);
    ab_put_le32(frame + CHECKSUM_OFFSET, checksum(frame, frame + AB_FRAME_HEADER, body_size));
}

void ab_frame_block_header(uint8_t header[AB_FRAME_HEADER], size_t block_size)
{
    header_write(header, AB_FRAME_BLOCK, block_size);
    ab_put_le32(header + CHECKSUM_OFFSET, checksum(header, NULL, 0));
}

void ab_reader_init(ab_reader *reader, ab_budget *budget)
{
    memset(reader, 0, sizeof(*reader));
    reader->budget = budget;
    reader->handshake = true;
}

void ab_reader_clear(ab_reader *reader)
{
    free(reader->body);
    reader->body = NULL;
    ab_buf_unref(reader->buf);
    reader->buf = NULL;
    reader->head_size = 0;
    reader->body_size = 0;
    reader->parsed = false;
    reader->done = false;
}

static int fault(ab_reader *reader, int code, const char *reason)
{
    reader->reason = reason;
    return code;
}

static size_t take(uint8_t *to, size_t wanted, ab_bytes *input)
{
    size_t size = wanted < input->size ? wanted : input->size;
    if (size > 0) {
        memcpy(to, input->data, size);
        input->data = (const uint8_t *)input->data + size;
        input->size -= size;
    }
    return size;
}

/* Checks the frame header before anything is allocated for what it announces. */
static int header_check(ab_reader *reader)
{
    const uint8_t *p = reader->head;
    reader->type = p[4];
    reader->length = ab_get_le32(p + 8);
    reader->checksum = ab_get_le32(p + CHECKSUM_OFFSET);
    if (ab_get_le32(p) != AB_FRAME_MAGIC) {
        return fault(reader, AB_EPROTO, "not the protocol of Anabranch (bad magic)");
    }
    if (p[5] != 0) {
        return fault(reader, AB_EVERSION, "unknown frame flags");
    }
    if (ab_get_le16(p + 6) != 0) {
        return fault(reader, AB_EPROTO, "reserved bytes of a frame are not 0");
    }
    if (reader->type == 0 || reader->type >= sizeof(lengths) / sizeof(lengths[0])) {
        return fault(reader, AB_EVERSION, "unknown frame type");
    }
    bool early = reader->type == AB_FRAME_HELLO || reader->type == AB_FRAME_READY;
    if (reader->type != AB_FRAME_GOODBYE && early != reader->handshake) {
        return fault(reader, AB_EPROTO,
                     early ? "handshake frame on a standing link" : "frame before the handshake was done");
    }
    if (reader->length > lengths[reader->type].most) {
        return fault(reader, AB_ETOOBIG, "frame is longer than allowed");
    }
    if (reader->length < lengths[reader->type].least) {
        return fault(reader, AB_EPROTO, "frame is too short for its type");
    }
    if (reader->type == AB_FRAME_BLOCK && checksum(p, NULL, 0) != reader->checksum) {
        return fault(reader, AB_ECORRUPT, "wrong checksum of a block frame's header");
    }
    return AB_OK;
}

static int block_begin(ab_reader *reader)
{
    int code = ab_block_header_read(reader->head + AB_FRAME_HEADER, AB_BLOCK_HEADER, &reader->block);
    if (code != AB_OK) {
        return fault(reader, code, "bad block header");
    }
    if (ab_block_size(&reader->block) != reader->length) {
        return fault(reader, AB_EPROTO, "frame and block disagree on the block's size");
    }
    ab_budget *budget = reader->budget;
    if (budget != NULL && budget->limit != 0 && !reader->force &&
        atomic_load_explicit(&budget->used, memory_order_relaxed) + reader->length > budget->limit) {
        return AB_EBUSY;
    }
    reader->buf = ab_buf_new(budget, reader->length);
    if (reader->buf == NULL) {
        return fault(reader, AB_ENOMEM, "no memory for a received block");
    }
    reader->force = false;
    memcpy(reader->buf->data, reader->head + AB_FRAME_HEADER, AB_BLOCK_HEADER);
    reader->buf->size = AB_BLOCK_HEADER;
    return AB_OK;
}

static int next_block(ab_reader *reader, ab_bytes *input, ab_frame *frame)
{
    size_t head = sizeof(reader->head);
    reader->head_size += take(reader->head + reader->head_size, head - reader->head_size, input);
    if (reader->head_size < head) {
        return AB_ENOTFOUND;
    }
    int code = reader->buf == NULL ? block_begin(reader) : AB_OK;
    if (code != AB_OK) {
        return code;
    }
    ab_buf *buf = reader->buf;
    buf->size += take(buf->data + buf->size, reader->length - buf->size, input);
    if (buf->size < reader->length) {
        return AB_ENOTFOUND;
    }
    code = ab_block_check(buf->data, buf->size, &reader->block);
    if (code != AB_OK) {
        return fault(reader, code, "damaged block");
    }
    *frame = (ab_frame){.type = AB_FRAME_BLOCK, .buf = buf, .block = reader->block};
    reader->buf = NULL;
    reader->bulk = true;
    reader->done = true;
    return AB_OK;
}

static int next_control(ab_reader *reader, ab_bytes *input, ab_frame *frame)
{
    const uint8_t *body = reader->body;
    if (body == NULL && input->size >= reader->length) {
        body = input->data; /* the usual case: no copy, no allocation */
        input->data = body + reader->length;
        input->size -= reader->length;
    } else {
        if (body == NULL && (body = reader->body = malloc(reader->length)) == NULL) {
            return fault(reader, AB_ENOMEM, "no memory for a received message");
        }
        reader->body_size +=
            take(reader->body + reader->body_size, reader->length - reader->body_size, input);
        if (reader->body_size < reader->length) {
            return AB_ENOTFOUND;
        }
    }
    if (checksum(reader->head, body, reader->length) != reader->checksum) {
        return fault(reader, AB_ECORRUPT, "wrong checksum of a frame");
    }
    *frame = (ab_frame){.type = (ab_frame_type)reader->type, .body = {body, reader->length}};
    reader->bulk = false;
    reader->done = true;
    return AB_OK;
}

int ab_reader_next(ab_reader *reader, ab_bytes *input, ab_frame *frame)
{
    if (reader->done) {
        ab_reader_clear(reader);
    }
    if (!reader->parsed) {
        reader->head_size +=
            take(reader->head + reader->head_size, AB_FRAME_HEADER - reader->head_size, input);
        if (reader->head_size < AB_FRAME_HEADER) {
            return AB_ENOTFOUND;
        }
        int code = header_check(reader);
        if (code != AB_OK) {
            return code;
        }
        reader->parsed = true;
    }
    return reader->type == AB_FRAME_BLOCK ? next_block(reader, input, frame)
                                          : next_control(reader, input, frame);
}

void *ab_reader_space(ab_reader *reader, size_t *size)
{
    if (reader->done) {
        ab_reader_clear(reader);
    }
    if (reader->buf != NULL) {
        *size = reader->length - reader->buf->size;
        return reader->buf->data + reader->buf->size;
    }
    if (reader->body != NULL) {
        *size = reader->length - reader->body_size;
        return reader->body + reader->body_size;
    }
    if (reader->handshake) {
        *size = AB_FRAME_HEADER - reader->head_size;
        return reader->head + reader->head_size;
    }
    *size = 0;
    return NULL;
}

void ab_reader_added(ab_reader *reader, size_t size)
{
    if (reader->buf != NULL) {
        reader->buf->size += size;
    } else if (reader->body != NULL) {
        reader->body_size += size;
    } else {
        reader->head_size += size;
    }
}
