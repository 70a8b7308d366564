/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hello.h
 * What two nodes tell each other before a link stands, and the farewell. Pure functions; docs/FORMATS.md has
 * the bytes.
 */
#ifndef ANABRANCH_ENGINE_TRANSPORT_HELLO_H
#define ANABRANCH_ENGINE_TRANSPORT_HELLO_H

#include "engine/transport/frame.h"

#define AB_PROTOCOL_VERSION 1u
/** Features this version has; a peer that requires another one is refused. */
#define AB_FEATURES_KNOWN 0u
/** Room for an encoded HELLO body. */
#define AB_HELLO_SIZE 256u
/** Room for a farewell's text with its NUL. */
#define AB_REASON_SIZE 160u

typedef struct ab_hello {
    uint32_t protocol;
    uint32_t block_version;
    uint64_t features; /* offered */
    uint64_t required; /* refused by who does not know them */
    char cluster[AB_NAME_MAX + 1];
    uint32_t node_id;
    uint8_t store_id[16];
    uint64_t nonce; /* drawn at each start of the process: tells a restart from a second connection */
    uint64_t seen;  /* id of the last link to you that stood for me; 0: none */
} ab_hello;

/** @return bytes written to `body` */
size_t ab_hello_encode(const ab_hello *hello, uint8_t body[AB_HELLO_SIZE]);

/** Unknown keys are skipped. @return AB_OK; AB_EPROTO (malformed or incomplete); AB_EVERSION (another protocol
 * version: only `protocol` is set) */
int ab_hello_decode(ab_bytes body, ab_hello *hello);

/** Whether `peer` may talk to `self`, as far as the two greetings tell. On error `reason` says why, for both
 * sides. @return AB_OK, AB_EVERSION, AB_EIDENTITY */
int ab_hello_check(const ab_hello *self, const ab_hello *peer, char reason[AB_REASON_SIZE]);

/** @return bytes written to `body` (room for 4 + AB_REASON_SIZE) */
size_t ab_goodbye_encode(int code, const char *reason, uint8_t *body);
/** Never fails: a code that is none becomes AB_EPROTO, unprintable text becomes dots. `body` is at least 4
 * bytes (the frame's decoder holds that). */
void ab_goodbye_decode(ab_bytes body, int *code, char reason[AB_REASON_SIZE]);

#endif
