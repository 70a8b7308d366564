/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file message.h
 * What multimaster cores say to each other, as msgpack. Pure functions on memory.
 *
 * Every message is a map with small integers as keys, so that it can gain keys: an unknown key is skipped, an unknown
 * kind is ignored. Decoding allocates nothing, believes no length before it has seen the bytes, and
 * looks at a whole message before anything of it counts.
 */
#ifndef ANABRANCH_REPLICATION_MULTIMASTER_MESSAGE_H
#define ANABRANCH_REPLICATION_MULTIMASTER_MESSAGE_H

#include <anabranch/error.h>
#include <anabranch/types.h>

typedef enum ab_mm_kind {
    /* Up to where the sender has streams. */
    AB_MM_HAVE = 1,
    /* A block came too early: send from `first` on. */
    AB_MM_EXPECT = 2,
    /* Send `first` ... `last` of a stream, whoever wrote it. */
    AB_MM_FETCH = 3,
    /* The answer where that is trimmed: `first` is the last index that is gone. `last` is the same where it is lost (no member
     * has it any more, trimmed or not), else 0. */
    AB_MM_TRIMMED = 4,
    /* My history of the stream differs from yours at `first`, where mine has `hash`; `last` is which history it is (as
     * `rewound` of a HAVE). */
    AB_MM_DIVERGED = 5,
    /* Where do your blocks of the stream end, from `first` on? `last` as above. */
    AB_MM_HISTORY = 6,
    /* The answer: ends of consecutive blocks and their hashes; `first`, `last` of the question. */
    AB_MM_POINTS = 7,
    /* The answer to FETCH where the block at `first` is damaged here, too. */
    AB_MM_LACK = 8
} ab_mm_kind;

/** Flags of a HAVE. */
#define AB_MM_FULL 1u /* names every stream the sender has */
#define AB_MM_ASK 2u  /* the sender waits for a full one in return */

/** Flags of one stream in a HAVE. */
#define AB_MM_ENDED 1u /* from its origin: nothing beyond `accepted` exists or ever will */
#define AB_MM_OVER                                                                                           \
    2u /* it ended at `accepted`, and the sender's log and state machine have all of it for good */
#define AB_MM_SEEN 4u /* the sender knows that it is over at the receiver */
#define AB_MM_TELL 8u /* the sender wants to hear AB_MM_SEEN */

/** One stream in a HAVE. */
typedef struct ab_mm_have {
    ab_stream stream;
    uint64_t durable;  /* everything up to here survives the sender's crash */
    uint64_t hash;     /* of the block that ends there; 0: not known */
    uint64_t accepted; /* taken for logging up to here, >= durable */
    uint32_t flags;
    uint32_t
        rewound; /* which history of the stream: 0 the first, else the epoch of the stream that repeats what the
                         history before it lost */
} ab_mm_have;

/** The folded streams of one origin in a HAVE. */
typedef struct ab_mm_folded {
    uint32_t node;
    uint32_t epoch; /* the sender folded its streams up to this one; 0: none */
    uint64_t total; /* entries in all of them */
    uint64_t hash;  /* over their histories (replication/folds.h) */
    uint32_t heard; /* the sender knows that the receiver did so up to this one */
    uint32_t flags; /* AB_MM_TELL: the sender wants to hear that back */
} ab_mm_folded;

/** The end of a block: an index and the hash of the block that ends there; 0, 0 is the beginning. */
typedef struct ab_mm_point {
    uint64_t index;
    uint64_t hash;
} ab_mm_point;

/** Points of one message: the end before the first block that is listed, and of so many blocks. */
#define AB_MM_POINT_BLOCKS 64u
#define AB_MM_POINTS_MAX (AB_MM_POINT_BLOCKS + 1)

/** Bytes that one stream takes at most, an origin's folded ones, one point, and all the rest of a message. */
#define AB_MM_HAVE_BYTES 53u
#define AB_MM_FOLDED_BYTES 48u
#define AB_MM_POINT_BYTES 19u
#define AB_MM_MESSAGE_BYTES 64u

typedef struct ab_mm_message {
    ab_mm_kind kind;
    uint32_t flags; /* HAVE */
    ab_stream stream;
    uint64_t first;
    uint64_t last;
    uint64_t hash;
    const uint8_t *haves; /* HAVE: encoded, validated */
    size_t haves_size;
    uint32_t have_count;
    const uint8_t *folds; /* the same */
    size_t folds_size;
    uint32_t fold_count;
    uint32_t point_count;
    ab_mm_point points[AB_MM_POINTS_MAX]; /* POINTS */
} ab_mm_message;

/** Writes a POINTS. `data` has room for AB_MM_MESSAGE_BYTES + count * AB_MM_POINT_BYTES. @return its size */
size_t ab_mm_encode_points(const ab_mm_message *message, uint8_t *data);

/** Writes a message that is neither a HAVE nor a POINTS. `data` has room for AB_MM_MESSAGE_BYTES. @return its size */
size_t ab_mm_encode(const ab_mm_message *message, uint8_t *data);

/** Writes a HAVE piece by piece: begin, then `count` streams sorted by stream; if `folds`, then their count and so
 * many origins sorted by node. `data` has room for AB_MM_MESSAGE_BYTES + count * AB_MM_HAVE_BYTES
 * + folds * AB_MM_FOLDED_BYTES. @return bytes written */
size_t ab_mm_encode_have_begin(uint32_t flags, uint32_t count, bool folds, uint8_t *data);
size_t ab_mm_encode_have(const ab_mm_have *have, uint8_t *data);
size_t ab_mm_encode_folds_begin(uint32_t folds, uint8_t *data);
size_t ab_mm_encode_folded(const ab_mm_folded *folded, uint8_t *data);

/** Reads and checks a whole message; views into `bytes`. @return AB_OK; AB_EPROTO (makes no sense);
 * AB_EUNSUPPORTED (a kind of a later version: ignore it) */
int ab_mm_decode(ab_bytes bytes, ab_mm_message *message);

/** Next stream of a decoded HAVE; start with *offset = 0. False at the end. */
bool ab_mm_next_have(const ab_mm_message *message, size_t *offset, ab_mm_have *have);
bool ab_mm_next_folded(const ab_mm_message *message, size_t *offset, ab_mm_folded *folded);

#endif
