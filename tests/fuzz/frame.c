/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame and handshake decoder under hostile bytes. The first input byte chooses the state (bit 0: before the
 * handshake; bits 1 to 7: how the rest comes in portions); what the decoder lets through is decoded further and must
 * encode to what was read.
 */
#include "engine/transport/frame.h"
#include "engine/transport/hello.h"

#include <anabranch/error.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_hello(ab_bytes body)
{
    ab_hello hello;
    ab_hello again;
    uint8_t bytes[AB_HELLO_SIZE];
    char reason[AB_REASON_SIZE];
    if (ab_hello_decode(body, &hello) != AB_OK) {
        return;
    }
    require(memchr(hello.cluster, '\0', sizeof(hello.cluster)) != NULL);
    (void)ab_hello_check(&hello, &hello, reason);
    size_t size = ab_hello_encode(&hello, bytes);
    require(ab_hello_decode((ab_bytes){bytes, size}, &again) == AB_OK);
    require(again.nonce == hello.nonce && again.seen == hello.seen && again.node_id == hello.node_id);
}

static void check_frame(const ab_frame *frame)
{
    char reason[AB_REASON_SIZE];
    int code;
    ab_block_header header;
    switch (frame->type) {
    case AB_FRAME_HELLO:
        check_hello(frame->body);
        break;
    case AB_FRAME_GOODBYE:
        ab_goodbye_decode(frame->body, &code, reason);
        require(code <= 0 && memchr(reason, '\0', sizeof(reason)) != NULL);
        break;
    case AB_FRAME_BLOCK:
        require(ab_block_check(frame->buf->data, frame->buf->size, &header) == AB_OK);
        ab_buf_unref(frame->buf);
        break;
    case AB_FRAME_MESSAGE:
        require(frame->body.size >= 8);
        break;
    default:
        require(frame->body.size == 8);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    ab_budget budget = {.limit = 1u << 26};
    ab_reader reader;
    size_t step = (size_t)(data[0] >> 1) + 1;
    ab_reader_init(&reader, &budget);
    reader.handshake = (data[0] & 1) != 0;
    check_hello((ab_bytes){data + 1, size - 1}); /* also without a checksum in the way */
    int code = AB_ENOTFOUND;
    for (size_t at = 1; at < size && code == AB_ENOTFOUND;) {
        size_t room;
        void *space = ab_reader_space(&reader, &room);
        size_t piece = size - at < step ? size - at : step;
        ab_bytes input = {data + at, piece};
        if (space != NULL) {
            piece = piece < room ? piece : room;
            memcpy(space, data + at, piece);
            ab_reader_added(&reader, piece);
            input = (ab_bytes){NULL, 0};
        }
        at += piece;
        ab_frame frame;
        while ((code = ab_reader_next(&reader, &input, &frame)) == AB_OK) {
            check_frame(&frame);
        }
        require(code != AB_ENOTFOUND || input.size == 0);
    }
    require(code == AB_ENOTFOUND || code == AB_EBUSY || reader.reason != NULL);
    ab_reader_clear(&reader);
    require(budget.used == 0);
    return 0;
}
