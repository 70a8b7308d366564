/* SPDX-License-Identifier: Apache-2.0 */
/* The relay's thread sleeps in ppoll; everything else it does under one lock, which the setters take too. */
#define _GNU_SOURCE
#include "tests/support/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE (64u * 1024)
#define QUEUE_MAX (16u << 20) /* per direction: delay times rate, with a margin */
#define AHEAD_NS 50000000u    /* a limited direction is not read further ahead than this */
#define NEVER UINT64_MAX
#define PAIRS_MAX 256u

typedef struct piece {
    struct piece *next;
    uint64_t due;
    size_t size;
    size_t done;
    uint8_t data[];
} piece;

/* One direction of one connection. */
typedef struct flow {
    int from;
    int to;
    piece *head, *tail;
    size_t queued;
    bool ended;  /* from has no more */
    bool closed; /* to has been told */
} flow;

typedef struct pair {
    struct pair *next;
    bool connected;
    bool broken;
    flow flows[2]; /* forth, back */
} pair;

/* What holds for a direction. */
typedef struct way {
    uint64_t delay_ns;
    uint64_t rate;
    uint64_t free_at; /* when a limited direction can take the next byte */
    bool cut;
    bool corrupt;
    uint64_t corrupt_at;
    uint64_t bytes;
} way;

struct relay {
    pthread_mutex_t lock;
    pthread_t thread;
    int listener;
    int wake;
    uint16_t port;
    uint16_t to;
    bool stop;
    bool refuse;
    bool drop;
    unsigned damaged;
    unsigned count;
    pair *pairs;
    way ways[2];
    struct pollfd polls[2 + 2 * PAIRS_MAX];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return address;
}

static void reset(int fd)
{
    struct linger hard = {.l_onoff = 1};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    (void)close(fd);
}

/* --- connections --- */

static void pair_free(pair *p)
{
    for (int i = 0; i < 2; i++) {
        while (p->flows[i].head != NULL) {
            piece *next = p->flows[i].head->next;
            free(p->flows[i].head);
            p->flows[i].head = next;
        }
    }
    if (p->broken) {
        reset(p->flows[0].from);
        if (p->flows[0].to >= 0) {
            reset(p->flows[0].to);
        }
    } else {
        (void)close(p->flows[0].from);
        (void)close(p->flows[0].to);
    }
    free(p);
}

static void pair_connect(relay *r, pair *p)
{
    int on = 1;
    struct sockaddr_in address = loopback(r->to);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        p->broken = true;
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    p->flows[0].to = p->flows[1].from = fd;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        p->connected = true;
    } else if (errno != EINPROGRESS) {
        p->broken = true;
    }
}

static void accept_one(relay *r)
{
    int on = 1;
    int fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    pair *p = r->refuse || r->count >= PAIRS_MAX ? NULL : calloc(1, sizeof(*p));
    if (p == NULL) {
        reset(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    p->flows[0] = (flow){.from = fd, .to = -1};
    p->flows[1] = (flow){.from = -1, .to = fd};
    p->next = r->pairs;
    r->pairs = p;
    r->count++;
}

/* --- one direction --- */

static bool may_read(const flow *f, const way *w, uint64_t now)
{
    return !w->cut && !f->ended && f->queued < QUEUE_MAX && (w->rate == 0 || w->free_at < now + AHEAD_NS);
}

static bool may_write(const flow *f, const way *w, uint64_t now)
{
    return !w->cut && f->head != NULL && f->head->due <= now;
}

static void queue_piece(relay *r, flow *f, way *w, piece *got, uint64_t now)
{
    uint64_t start = w->free_at > now ? w->free_at : now;
    if (w->rate > 0) {
        w->free_at = start + got->size * 1000000000u / w->rate;
        start = w->free_at;
    }
    got->due = start + w->delay_ns;
    if (w->corrupt && w->corrupt_at < w->bytes + got->size) {
        got->data[w->corrupt_at - w->bytes] ^= 0x10;
        w->corrupt = false;
        r->damaged++;
    }
    w->bytes += got->size;
    f->queued += got->size;
    if (f->head == NULL) {
        f->head = got;
    } else {
        f->tail->next = got;
    }
    f->tail = got;
}

static void flow_read(relay *r, pair *p, flow *f, way *w, uint64_t now)
{
    size_t room = PIECE;
    if (w->rate > 0 && w->rate / 200 < room) {
        room = (size_t)(w->rate / 200) + 1;
    }
    piece *got = malloc(sizeof(*got) + room);
    ssize_t size = got != NULL ? recv(f->from, got->data, room, 0) : -1;
    if (size > 0) {
        got->next = NULL;
        got->size = (size_t)size;
        got->done = 0;
        queue_piece(r, f, w, got, now);
        return;
    }
    if (size == 0) {
        f->ended = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        p->broken = true;
    }
    free(got);
}

static void flow_write(pair *p, flow *f, uint64_t now)
{
    while (f->head != NULL && f->head->due <= now) {
        piece *out = f->head;
        ssize_t size = send(f->to, out->data + out->done, out->size - out->done, MSG_NOSIGNAL);
        if (size < 0) {
            p->broken = p->broken || (errno != EAGAIN && errno != EINTR);
            return;
        }
        out->done += (size_t)size;
        if (out->done < out->size) {
            return;
        }
        f->queued -= out->size;
        f->head = out->next;
        free(out);
    }
}

static void flow_close(flow *f, const way *w)
{
    if (f->ended && f->head == NULL && !f->closed && !w->cut) {
        (void)shutdown(f->to, SHUT_WR);
        f->closed = true;
    }
}

/* --- the thread --- */

/* When the flow wants attention without any socket becoming ready. */
static uint64_t flow_due(const flow *f, const way *w, uint64_t now)
{
    uint64_t due = NEVER;
    if (!w->cut && f->head != NULL && f->head->due > now) {
        due = f->head->due;
    }
    if (!w->cut && !f->ended && f->queued < QUEUE_MAX && w->rate > 0 && w->free_at >= now + AHEAD_NS) {
        uint64_t read_at = w->free_at - AHEAD_NS + 1;
        due = read_at < due ? read_at : due;
    }
    return due;
}

/* A descriptor that nothing is wanted of is not polled at all: a cut hides closings, too. */
static void want(relay *r, unsigned slot, int fd, bool in, bool out)
{
    short events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0));
    r->polls[slot] = (struct pollfd){.fd = events != 0 ? fd : -1, .events = events};
}

static unsigned prepare(relay *r, uint64_t now, uint64_t *due)
{
    unsigned slots = 2;
    *due = NEVER;
    want(r, 0, r->wake, true, false);
    want(r, 1, r->listener, true, false);
    for (pair *p = r->pairs; p != NULL; p = p->next, slots += 2) {
        const flow *forth = &p->flows[0];
        const flow *back = &p->flows[1];
        if (!p->connected) {
            want(r, slots, -1, false, false);
            want(r, slots + 1, forth->to, false, true);
            continue;
        }
        want(r, slots, forth->from, may_read(forth, &r->ways[0], now), may_write(back, &r->ways[1], now));
        want(r, slots + 1, back->from, may_read(back, &r->ways[1], now), may_write(forth, &r->ways[0], now));
        for (int i = 0; i < 2; i++) {
            uint64_t at = flow_due(&p->flows[i], &r->ways[i], now);
            *due = at < *due ? at : *due;
        }
    }
    return slots;
}

static void serve(relay *r, pair *p, const struct pollfd *polls, uint64_t now)
{
    if (!p->connected) {
        int error = 0;
        socklen_t size = sizeof(error);
        if (p->flows[0].to < 0 && !r->ways[0].cut && !r->ways[1].cut) {
            pair_connect(r, p);
        } else if (polls[1].revents != 0) {
            p->broken = getsockopt(p->flows[0].to, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0;
            p->connected = !p->broken;
        }
        return;
    }
    for (int i = 0; i < 2 && !p->broken; i++) {
        flow *f = &p->flows[i];
        way *w = &r->ways[i];
        short ready = polls[i].revents;
        if ((ready & (POLLIN | POLLHUP | POLLERR)) != 0 && may_read(f, w, now)) {
            flow_read(r, p, f, w, now);
        }
        if (!w->cut) {
            flow_write(p, f, now);
        }
        flow_close(f, w);
    }
}

static bool is_over(const pair *p)
{
    return p->broken || (p->flows[0].closed && p->flows[1].closed);
}

static void sweep(relay *r)
{
    for (pair **at = &r->pairs; *at != NULL;) {
        pair *p = *at;
        p->broken = p->broken || r->drop;
        if (is_over(p)) {
            *at = p->next;
            r->count--;
            pair_free(p);
        } else {
            at = &p->next;
        }
    }
    r->drop = false;
}

static void *relay_main(void *arg)
{
    relay *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        uint64_t due;
        uint64_t now = now_ns();
        unsigned slots = prepare(r, now, &due);
        struct timespec wait = {0, 0};
        if (due != NEVER && due > now) {
            wait = (struct timespec){(time_t)((due - now) / 1000000000u), (long)((due - now) % 1000000000u)};
        }
        pthread_mutex_unlock(&r->lock);
        int ready = ppoll(r->polls, slots, due != NEVER ? &wait : NULL, NULL);
        pthread_mutex_lock(&r->lock);
        now = now_ns();
        for (unsigned i = 0; i < slots && ready <= 0; i++) {
            r->polls[i].revents = 0;
        }
        if (r->polls[0].revents != 0) {
            uint64_t value;
            (void)!read(r->wake, &value, sizeof(value));
        }
        unsigned slot = 2;
        for (pair *p = r->pairs; p != NULL; p = p->next, slot += 2) {
            serve(r, p, &r->polls[slot], now);
        }
        if (r->polls[1].revents != 0) {
            accept_one(r);
            if (r->pairs != NULL && r->pairs->flows[0].to < 0) {
                static const struct pollfd none[2];
                serve(r, r->pairs, none, now);
            }
        }
        sweep(r);
    }
    r->drop = true;
    sweep(r);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* --- from outside --- */

static void poke(relay *r)
{
    uint64_t one = 1;
    (void)!write(r->wake, &one, sizeof(one));
    pthread_mutex_unlock(&r->lock);
}

static bool open_listener(relay *r)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    r->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->listener < 0 || bind(r->listener, (struct sockaddr *)&address, size) != 0 ||
        listen(r->listener, 64) != 0 || getsockname(r->listener, (struct sockaddr *)&address, &size) != 0) {
        return false;
    }
    r->port = ntohs(address.sin_port);
    return true;
}

static void close_all(relay *r)
{
    if (r->listener >= 0) {
        (void)close(r->listener);
    }
    if (r->wake >= 0) {
        (void)close(r->wake);
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

relay *relay_start(uint16_t to)
{
    relay *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return NULL;
    }
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    r->to = to;
    r->listener = -1;
    pthread_mutex_init(&r->lock, NULL);
    r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->wake < 0 || !open_listener(r)) {
        close_all(r);
        return NULL;
    }
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&r->thread, NULL, relay_main, r);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        close_all(r);
        return NULL;
    }
    return r;
}

void relay_stop(relay *r)
{
    if (r == NULL) {
        return;
    }
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    poke(r);
    pthread_join(r->thread, NULL);
    close_all(r);
}

uint16_t relay_port(const relay *r)
{
    return r->port;
}

void relay_target(relay *r, uint16_t to)
{
    pthread_mutex_lock(&r->lock);
    r->to = to;
    poke(r);
}

void relay_delay(relay *r, int ways, uint32_t microseconds)
{
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < 2; i++) {
        if ((ways & 1 << i) != 0) {
            r->ways[i].delay_ns = (uint64_t)microseconds * 1000u;
        }
    }
    poke(r);
}

void relay_rate(relay *r, int ways, uint64_t bytes_per_second)
{
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < 2; i++) {
        if ((ways & 1 << i) != 0) {
            r->ways[i].rate = bytes_per_second;
            r->ways[i].free_at = 0;
        }
    }
    poke(r);
}

void relay_cut(relay *r, int ways)
{
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < 2; i++) {
        r->ways[i].cut = (ways & 1 << i) != 0;
    }
    poke(r);
}

void relay_drop(relay *r)
{
    pthread_mutex_lock(&r->lock);
    r->drop = true;
    poke(r);
}

void relay_refuse(relay *r, bool refuse)
{
    pthread_mutex_lock(&r->lock);
    r->refuse = refuse;
    poke(r);
}

void relay_corrupt(relay *r, int ways, uint64_t position)
{
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < 2; i++) {
        if ((ways & 1 << i) != 0) {
            r->ways[i].corrupt = true;
            r->ways[i].corrupt_at = r->ways[i].bytes + position;
        }
    }
    poke(r);
}

uint64_t relay_bytes(relay *r, int ways)
{
    uint64_t sum = 0;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < 2; i++) {
        sum += (ways & 1 << i) != 0 ? r->ways[i].bytes : 0;
    }
    pthread_mutex_unlock(&r->lock);
    return sum;
}

unsigned relay_connections(relay *r)
{
    pthread_mutex_lock(&r->lock);
    unsigned count = r->count;
    pthread_mutex_unlock(&r->lock);
    return count;
}

unsigned relay_damaged(relay *r)
{
    pthread_mutex_lock(&r->lock);
    unsigned damaged = r->damaged;
    pthread_mutex_unlock(&r->lock);
    return damaged;
}
