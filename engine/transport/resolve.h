/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file resolve.h
 * Names to addresses without blocking: a short-lived thread per question. (libuv's own pool is shared with the
 * application, and a question that hangs there would keep a stop from returning.)
 */
#ifndef ANABRANCH_ENGINE_TRANSPORT_RESOLVE_H
#define ANABRANCH_ENGINE_TRANSPORT_RESOLVE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AB_ADDRESSES_MAX 8u

typedef union ab_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} ab_address;

typedef struct ab_addresses {
    ab_address list[AB_ADDRESSES_MAX];
    size_t count;
    int error; /* of getaddrinfo, where count is 0 */
} ab_addresses;

/** Numeric addresses only; does not block. @return false: it is a name */
bool ab_resolve_numeric(const char *host, uint16_t port, ab_addresses *addresses);

/** Blocks. */
void ab_resolve_now(const char *host, uint16_t port, bool passive, ab_addresses *addresses);

typedef struct ab_resolve ab_resolve;

/** Called on the resolver's thread when there is an answer, unless cancelled before. */
typedef void (*ab_resolve_fn)(void *arg);

/** @return NULL: no memory or no thread */
ab_resolve *ab_resolve_start(const char *host, uint16_t port, ab_resolve_fn fn, void *arg);
/** After `fn` was called: the answer; frees. */
void ab_resolve_take(ab_resolve *resolve, ab_addresses *addresses);
/** `fn` is not running and will not be called once this returns; frees. Does not wait for the answer. NULL is
 * allowed. */
void ab_resolve_cancel(ab_resolve *resolve);
/** Whether `fn` was called. */
bool ab_resolve_done(ab_resolve *resolve);

#endif
