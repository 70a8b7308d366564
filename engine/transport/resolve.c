/* SPDX-License-Identifier: Apache-2.0 */
/* Asks for addresses on a detached thread. A question has two owners, the asker and the thread; the last one frees. */
#define _GNU_SOURCE
#include "engine/transport/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ab_resolve {
    pthread_mutex_t lock;
    unsigned owners;
    bool done;
    ab_resolve_fn fn; /* NULL: cancelled */
    void *arg;
    ab_addresses addresses;
    uint16_t port;
    char host[];
};

bool ab_resolve_numeric(const char *host, uint16_t port, ab_addresses *addresses)
{
    ab_address *address = &addresses->list[0];
    memset(addresses, 0, sizeof(*addresses));
    if (inet_pton(AF_INET, host, &address->in.sin_addr) == 1) {
        address->in.sin_family = AF_INET;
        address->in.sin_port = htons(port);
    } else if (inet_pton(AF_INET6, host, &address->in6.sin6_addr) == 1) {
        address->in6.sin6_family = AF_INET6;
        address->in6.sin6_port = htons(port);
    } else {
        return false; /* with an interface ("fe80::1%eth0") it takes the other way too */
    }
    addresses->count = 1;
    return true;
}

void ab_resolve_now(const char *host, uint16_t port, bool passive, ab_addresses *addresses)
{
    char service[8];
    (void)snprintf(service, sizeof(service), "%u", (unsigned)port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0)};
    struct addrinfo *found = NULL;
    memset(addresses, 0, sizeof(*addresses));
    addresses->error = getaddrinfo(host, service, &hints, &found);
    if (addresses->error != 0) {
        return;
    }
    for (const struct addrinfo *at = found; at != NULL && addresses->count < AB_ADDRESSES_MAX;
         at = at->ai_next) {
        if ((at->ai_family == AF_INET || at->ai_family == AF_INET6) &&
            at->ai_addrlen <= sizeof(addresses->list[0])) {
            memcpy(&addresses->list[addresses->count++], at->ai_addr, at->ai_addrlen);
        }
    }
    freeaddrinfo(found);
    if (addresses->count == 0) {
        addresses->error = EAI_NONAME;
    }
}

/* Gives up one ownership; the lock is held. */
static void leave(ab_resolve *resolve)
{
    unsigned left = --resolve->owners;
    pthread_mutex_unlock(&resolve->lock);
    if (left == 0) {
        pthread_mutex_destroy(&resolve->lock);
        free(resolve);
    }
}

static void *resolve_main(void *arg)
{
    ab_resolve *resolve = arg;
    ab_addresses addresses;
    (void)pthread_setname_np(pthread_self(), "ab-resolve");
    ab_resolve_now(resolve->host, resolve->port, false, &addresses);
    pthread_mutex_lock(&resolve->lock);
    resolve->addresses = addresses;
    resolve->done = true;
    if (resolve->fn != NULL) {
        resolve->fn(resolve->arg);
    }
    leave(resolve);
    return NULL;
}

ab_resolve *ab_resolve_start(const char *host, uint16_t port, ab_resolve_fn fn, void *arg)
{
    size_t size = strlen(host) + 1;
    ab_resolve *resolve = calloc(1, sizeof(*resolve) + size);
    if (resolve == NULL) {
        return NULL;
    }
    memcpy(resolve->host, host, size);
    resolve->port = port;
    resolve->fn = fn;
    resolve->arg = arg;
    resolve->owners = 2;
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_mutex_init(&resolve->lock, NULL) != 0) {
        free(resolve);
        return NULL;
    }
    bool started = pthread_attr_init(&attributes) == 0;
    if (started) {
        started = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                  pthread_create(&thread, &attributes, resolve_main, resolve) == 0;
        pthread_attr_destroy(&attributes);
    }
    if (!started) {
        pthread_mutex_destroy(&resolve->lock);
        free(resolve);
        return NULL;
    }
    return resolve;
}

bool ab_resolve_done(ab_resolve *resolve)
{
    pthread_mutex_lock(&resolve->lock);
    bool done = resolve->done;
    pthread_mutex_unlock(&resolve->lock);
    return done;
}

void ab_resolve_take(ab_resolve *resolve, ab_addresses *addresses)
{
    pthread_mutex_lock(&resolve->lock);
    *addresses = resolve->addresses;
    leave(resolve);
}

void ab_resolve_cancel(ab_resolve *resolve)
{
    if (resolve == NULL) {
        return;
    }
    pthread_mutex_lock(&resolve->lock);
    resolve->fn = NULL;
    leave(resolve);
}
