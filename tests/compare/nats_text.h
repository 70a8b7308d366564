/* SPDX-License-Identifier: Apache-2.0 */
/* The text protocol of NATS as a client sees it, and the acknowledgements of JetStream. Pure functions over bytes; any
 * thread. */
#ifndef ANABRANCH_TESTS_COMPARE_NATS_TEXT_H
#define ANABRANCH_TESTS_COMPARE_NATS_TEXT_H

#include "tests/compare/bytes.h"

enum ab_nats_op { AB_NATS_INFO = 1, AB_NATS_MSG, AB_NATS_PING, AB_NATS_PONG, AB_NATS_OK, AB_NATS_ERR };

/* What the server sent, views into the bytes it was read from. */
struct ab_nats_event {
    enum ab_nats_op op;
    const char *subject; /* of MSG; not terminated */
    size_t subject_size;
    const char *payload; /* of MSG; the rest of the line of INFO and ERR; not terminated */
    size_t size;
};

/* Reads one event. @return its bytes; 0: not whole yet; -1: not such an event */
ptrdiff_t ab_nats_parse(const uint8_t *data, size_t size, struct ab_nats_event *event);

void ab_nats_connect(struct ab_cmp_bytes *out);
/* What it says up to the payload; then come the payload and "\r\n". */
void ab_nats_publish(struct ab_cmp_bytes *out, const char *subject, const char *reply, size_t size);

/* The number behind the last dot of a subject. @return false: there is none */
bool ab_nats_tail(const char *subject, size_t size, uint64_t *number);

/* Whether JetStream acknowledged a publish with this text: a sequence number and no error. */
bool ab_nats_acknowledged(const char *payload, size_t size);

#endif
