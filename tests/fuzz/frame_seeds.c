/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the hand-made part of the corpus of the frame decoder into a directory. */
#include "engine/transport/frame.h"
#include "engine/transport/hello.h"
#include "wal/bytes.h"

#include <anabranch/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct seed {
    uint8_t data[4096];
    size_t size;
} seed;

static void control(seed *s, ab_frame_type type, const void *body, size_t size)
{
    memcpy(s->data + s->size + AB_FRAME_HEADER, body, size);
    ab_frame_seal(s->data + s->size, type, size);
    s->size += AB_FRAME_HEADER + size;
}

static void block(seed *s, size_t marks)
{
    uint8_t bytes[512];
    ab_mark deps[2] = {{{1, 1}, 7}, {{2, 1}, 8}};
    size_t size = ab_entry_pack(bytes + AB_BLOCK_HEADER, 0, "temperature", 11);
    size += ab_entry_pack(bytes + AB_BLOCK_HEADER + size, 5, "", 0);
    ab_block_header header = {.count = 2,
                              .entries_bytes = (uint32_t)size,
                              .group = 1,
                              .node = 3,
                              .epoch = 1,
                              .first = 1,
                              .hlc_first = 100,
                              .hlc_last = 105};
    size = ab_block_seal(bytes, &header, deps, marks);
    ab_frame_block_header(s->data + s->size, size);
    memcpy(s->data + s->size + AB_FRAME_HEADER, bytes, size);
    s->size += AB_FRAME_HEADER + size;
}

static int save(const char *dir, const char *name, const seed *s)
{
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(s->data, 1, s->size, file) != s->size || fclose(file) != 0) {
        (void)fprintf(stderr, "cannot write %s\n", path);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: fuzz_frame_seeds DIR\n");
        return 2;
    }
    uint8_t body[AB_HELLO_SIZE + 256] = {0};
    ab_hello hello = {.protocol = 1, .block_version = 1, .cluster = "plant", .node_id = 3, .nonce = 1u << 20};
    size_t size = ab_hello_encode(&hello, body);
    seed s = {.data = {1 | 200}, .size = 1};
    control(&s, AB_FRAME_HELLO, body, size);
    int failed = save(argv[1], "hello", &s);
    control(&s, AB_FRAME_READY, body, 8);
    failed |= save(argv[1], "handshake", &s);
    s = (seed){.data = {1 | 6}, .size = 1};
    memcpy(s.data + 1, body, size);
    s.size += size;
    failed |= save(argv[1], "hello-bare", &s);
    s = (seed){.data = {1}, .size = 1};
    control(&s, AB_FRAME_GOODBYE, body, ab_goodbye_encode(AB_EIDENTITY, "cluster 'a', here 'b'", body));
    failed |= save(argv[1], "goodbye", &s);
    s = (seed){.data = {0xfe}, .size = 1};
    control(&s, AB_FRAME_MESSAGE, body, 100);
    control(&s, AB_FRAME_PING, body, 8);
    block(&s, 2);
    control(&s, AB_FRAME_PONG, body, 8);
    block(&s, 0);
    failed |= save(argv[1], "stream", &s);
    s.data[0] = 0x12;
    failed |= save(argv[1], "stream-portions", &s);
    s.data[s.size - 30] ^= 1;
    failed |= save(argv[1], "damaged-block", &s);
    s.size -= 40;
    failed |= save(argv[1], "cut", &s);
    s = (seed){.data = {0xfe}, .size = 1};
    ab_frame_block_header(s.data + 1, AB_BLOCK_MAX);
    s.size += AB_FRAME_HEADER;
    failed |= save(argv[1], "largest-block", &s);
    return failed;
}
