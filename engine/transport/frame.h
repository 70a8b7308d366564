/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file frame.h
 * Frames on a connection: encoding, and a decoder that is fed with bytes in any portions. Pure: no I/O, no
 * clock, no threads; a reader belongs to one thread. docs/FORMATS.md has the layout.
 */
#ifndef ANABRANCH_ENGINE_TRANSPORT_FRAME_H
#define ANABRANCH_ENGINE_TRANSPORT_FRAME_H

#include "engine/buf.h"
#include "wal/block.h"
#include <anabranch/types.h>

#define AB_FRAME_MAGIC 0x52464241u /* "ABFR" */
#define AB_FRAME_HEADER 16u
/** Longest body of a control frame: a frontier message of AB_MARKS_MAX marks with hashes is about 120 KB. */
#define AB_FRAME_CONTROL_MAX (256u * 1024)
/** Longest body before the handshake is done: what a stranger can make us allocate. */
#define AB_FRAME_HELLO_MAX 4096u

typedef enum ab_frame_type {
    AB_FRAME_HELLO = 1,   /* who I am (hello.h) */
    AB_FRAME_READY = 2,   /* u64 link id: this connection is the link from now on */
    AB_FRAME_MESSAGE = 3, /* u64 group, bytes */
    AB_FRAME_BLOCK = 4,   /* a block as it is */
    AB_FRAME_PING = 5,    /* u64, comes back in a PONG */
    AB_FRAME_PONG = 6,
    AB_FRAME_GOODBYE = 7 /* i32 code, text: why the sender closes */
} ab_frame_type;

/** A received frame. */
typedef struct ab_frame {
    ab_frame_type type;
    ab_bytes body;         /* control frames; borrowed until the next call into the reader */
    ab_buf *buf;           /* BLOCK: checked; the reference passes to whoever reads the frame */
    ab_block_header block; /* BLOCK */
} ab_frame;

typedef struct ab_reader {
    ab_budget *budget; /* of block buffers; may be NULL; a limit of 0 is none */
    bool handshake;    /* only HELLO, READY and GOODBYE, small, and never a byte read beyond a frame */
    bool force;        /* take the next block although the budget is used up (once) */
    bool bulk;         /* the last frame was a block: the next one probably is */
    bool parsed;       /* the frame header in `head` is complete and good */
    bool done;         /* the frame in `head` and `body` has been given out */
    uint8_t type;
    uint32_t length;
    uint32_t checksum;
    size_t head_size;
    uint8_t head[AB_FRAME_HEADER + AB_BLOCK_HEADER];
    uint8_t *body; /* of a control frame that came in portions */
    size_t body_size;
    ab_buf *buf;
    ab_block_header block;
    const char *reason; /* after an error: what is wrong, static */
} ab_reader;

void ab_reader_init(ab_reader *reader, ab_budget *budget);
void ab_reader_clear(ab_reader *reader);

/** Where the next bytes should be received to without a copy; NULL: into memory of the caller's, for
 * ab_reader_next(). */
void *ab_reader_space(ab_reader *reader, size_t *size);
/** `size` bytes were received into ab_reader_space(). */
void ab_reader_added(ab_reader *reader, size_t size);

/**
 * Takes bytes from the front of `input` until a frame is complete.
 * @return AB_OK: `frame` is one; AB_ENOTFOUND: input is used up; AB_EBUSY: a block is announced and the budget
 * is used up, call again later with what is left of `input`; AB_ENOMEM; AB_EPROTO, AB_EVERSION, AB_ETOOBIG,
 * AB_ECORRUPT: `reason` tells what is wrong, the connection is of no more use
 */
int ab_reader_next(ab_reader *reader, ab_bytes *input, ab_frame *frame);

/** Writes the header in front of a control frame's body, which is at `frame` + AB_FRAME_HEADER. */
void ab_frame_seal(uint8_t *frame, ab_frame_type type, size_t body_size);
/** Writes the header of a BLOCK frame; the block follows from a buffer of its own. */
void ab_frame_block_header(uint8_t header[AB_FRAME_HEADER], size_t block_size);

#endif
