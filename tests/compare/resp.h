/* SPDX-License-Identifier: Apache-2.0 */
/* RESP 2, the protocol of redis: commands out, replies in. Pure functions over bytes; any thread. */
#ifndef ANABRANCH_TESTS_COMPARE_RESP_H
#define ANABRANCH_TESTS_COMPARE_RESP_H

#include "tests/compare/bytes.h"

enum ab_resp_type { AB_RESP_STATUS = 1, AB_RESP_ERROR, AB_RESP_INTEGER, AB_RESP_BULK, AB_RESP_NULL };

/* A reply, a view into the bytes it was read from. */
struct ab_resp {
    enum ab_resp_type type;
    int64_t integer;
    const char *text; /* of a status, an error, a bulk string; not terminated */
    size_t size;
};

/* Reads one reply (arrays are not asked for). @return its bytes; 0: not whole yet; -1: not such a reply */
ptrdiff_t ab_resp_parse(const uint8_t *data, size_t size, struct ab_resp *reply);

/* The head of a command with `count` words, then each word. */
void ab_resp_head(struct ab_cmp_bytes *out, size_t count);
void ab_resp_word(struct ab_cmp_bytes *out, const void *data, size_t size);
/* A whole command of words without blanks, as one would type it. */
void ab_resp_line(struct ab_cmp_bytes *out, const char *line);

/* The number after "\nNAME:" in the text of INFO. @return false: no such line */
bool ab_resp_info_number(const char *text, size_t size, const char *name, uint64_t *number);

#endif
