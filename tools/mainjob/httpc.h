/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file httpc.h
 * A small blocking HTTP/1.1 client for loopback: one connection, kept alive. A client is used by one thread at a time.
 */
#ifndef ANABRANCH_HTTPC_H
#define ANABRANCH_HTTPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct ab_httpc {
    int fd; /**< -1: not connected */
    char *buffer;
    size_t start; /**< bytes read and not used: start ... end */
    size_t end;
    char *body;
    size_t body_size;
    size_t body_capacity;
    unsigned connects; /**< so far */
    uint16_t port;
} ab_httpc;

typedef struct ab_httpc_answer {
    int status;
    size_t size;       /**< of the body */
    const char *body;  /**< NUL-terminated, until the next request; NULL where it went to a file */
    char writes[8300]; /**< header X-Anabranch-Writes; empty if none */
    unsigned retry_after;
    char allow[64];
} ab_httpc_answer;

/** @return whether there is memory */
bool ab_httpc_init(ab_httpc *client);
void ab_httpc_close(ab_httpc *client); /**< the connection; it is made again when needed */
void ab_httpc_free(ab_httpc *client);

/** Sends a request to 127.0.0.1:port and reads the answer, each step within 30 seconds.
 * @param head  further header lines, each with CRLF; may be NULL
 * @param file  where the body of the answer goes; NULL: to memory
 * @return false: no connection, or it broke; then whether the request was carried out is not known */
bool ab_httpc_request(ab_httpc *client, uint16_t port, const char *method, const char *path, const char *head,
                      const void *body, size_t size, FILE *file, ab_httpc_answer *answer);

bool ab_httpc_post(ab_httpc *client, uint16_t port, const char *path, const void *body, size_t size,
                   ab_httpc_answer *answer);
bool ab_httpc_get(ab_httpc *client, uint16_t port, const char *path, ab_httpc_answer *answer);

#endif
