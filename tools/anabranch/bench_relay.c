/* SPDX-License-Identifier: Apache-2.0 */
/* The relay, see bench_relay.h. A thread accepts; each connection has two ways, each way a thread that reads and stamps
 * and one that waits and writes. What is on a way is bounded, so that a full one holds its sender back. */
#include "tools/anabranch/bench_relay.h"
#include "tools/anabranch/bench_sys.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 16384u
#define ON_WAY_LEAST (256u << 10)
#define ON_WAY_FREE (64u << 20) /* without a rate */
#define NS_PER_S 1000000000ull

struct chunk {
    struct chunk *next;
    uint64_t due;
    size_t size;
    char data[];
};

struct way {
    const ab_bench_relay *relay;
    int from;
    int to;
    uint64_t line_free; /* when the line has taken what was read so far; reading thread */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct chunk *head, *tail;
    size_t bytes;
    bool ended;
    pthread_t reading, writing;
};

struct connection {
    struct connection *next;
    struct way ways[2];
};

struct ab_bench_relay {
    int fd;
    uint16_t port;
    uint16_t to;
    uint64_t delay_ns;
    uint64_t rate;
    size_t room; /* on a way */
    pthread_t accepting;
    struct connection *connections; /* accepting thread, then who joined it */
};

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return name;
}

/* When what is read now has passed the line and the distance. */
static uint64_t due_of(struct way *way, size_t size)
{
    uint64_t now = ab_bench_now();
    uint64_t start = way->line_free > now ? way->line_free : now;
    uint64_t rate = way->relay->rate;
    way->line_free = rate ? start + size * NS_PER_S / rate : start;
    return way->line_free + way->relay->delay_ns;
}

/* Waits for room. @return false: the way has ended */
static bool put(struct way *way, struct chunk *chunk)
{
    pthread_mutex_lock(&way->lock);
    while (!way->ended && way->bytes > way->relay->room) {
        pthread_cond_wait(&way->changed, &way->lock);
    }
    bool taken = !way->ended;
    if (taken) {
        chunk->next = NULL;
        *(way->head ? &way->tail->next : &way->head) = chunk;
        way->tail = chunk;
        way->bytes += chunk->size;
        pthread_cond_broadcast(&way->changed);
    }
    pthread_mutex_unlock(&way->lock);
    return taken;
}

static void end(struct way *way)
{
    pthread_mutex_lock(&way->lock);
    way->ended = true;
    pthread_cond_broadcast(&way->changed);
    pthread_mutex_unlock(&way->lock);
}

static void *read_way(void *arg)
{
    struct way *way = arg;
    for (;;) {
        struct chunk *chunk = malloc(sizeof *chunk + CHUNK);
        ssize_t size = chunk ? recv(way->from, chunk->data, CHUNK, 0) : -1;
        if (size <= 0) {
            free(chunk);
            break;
        }
        chunk->size = (size_t)size;
        chunk->due = due_of(way, chunk->size);
        if (!put(way, chunk)) {
            free(chunk);
            break;
        }
    }
    end(way);
    return NULL;
}

/* NULL: the way has ended and is empty. */
static struct chunk *get(struct way *way)
{
    pthread_mutex_lock(&way->lock);
    while (!way->head && !way->ended) {
        pthread_cond_wait(&way->changed, &way->lock);
    }
    struct chunk *chunk = way->head;
    if (chunk) {
        way->head = chunk->next;
        way->bytes -= chunk->size;
        pthread_cond_broadcast(&way->changed);
    }
    pthread_mutex_unlock(&way->lock);
    return chunk;
}

static bool send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}

static void *write_way(void *arg)
{
    struct way *way = arg;
    struct chunk *chunk;
    bool fine = true;
    while ((chunk = get(way)) != NULL) {
        if (fine) {
            ab_bench_sleep_until(chunk->due);
            fine = send_all(way->to, chunk->data, chunk->size);
        }
        free(chunk);
        if (!fine) {
            shutdown(way->from, SHUT_RDWR);
        }
    }
    shutdown(way->to, SHUT_RDWR);
    return NULL;
}

/* @return false: nothing runs */
static bool start_way(struct way *way, const ab_bench_relay *relay, int from, int to)
{
    *way = (struct way){.relay = relay, .from = from, .to = to};
    pthread_mutex_init(&way->lock, NULL);
    pthread_cond_init(&way->changed, NULL);
    if (pthread_create(&way->reading, NULL, read_way, way) != 0) {
        return false;
    }
    if (pthread_create(&way->writing, NULL, write_way, way) == 0) {
        return true;
    }
    shutdown(from, SHUT_RDWR);
    end(way);
    pthread_join(way->reading, NULL);
    return false;
}

static void join_way(struct way *way)
{
    shutdown(way->from, SHUT_RDWR);
    shutdown(way->to, SHUT_RDWR);
    end(way);
    pthread_join(way->reading, NULL);
    pthread_join(way->writing, NULL);
}

static int dial(uint16_t port)
{
    struct sockaddr_in name = loopback(port);
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof name) != 0) {
        close(fd);
        fd = -1;
    }
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    return fd;
}

/* @return false: the two were closed again */
static bool connect_both(ab_bench_relay *relay, int caller, int target)
{
    struct connection *connection = calloc(1, sizeof *connection);
    bool forth = connection && start_way(&connection->ways[0], relay, caller, target);
    bool back = forth && start_way(&connection->ways[1], relay, target, caller);
    if (back) {
        connection->next = relay->connections;
        relay->connections = connection;
        return true;
    }
    if (forth) {
        join_way(&connection->ways[0]);
    }
    close(caller);
    close(target);
    free(connection);
    return false;
}

static void *accept_all(void *arg)
{
    ab_bench_relay *relay = arg;
    int one = 1;
    int caller;
    while ((caller = accept(relay->fd, NULL, NULL)) >= 0) {
        (void)setsockopt(caller, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        (void)fcntl(caller, F_SETFD, FD_CLOEXEC); /* a node that starts in this very moment would keep it */
        int target = dial(relay->to);
        if (target < 0) {
            close(caller);
        } else {
            (void)connect_both(relay, caller, target);
        }
    }
    return NULL;
}

ab_bench_relay *ab_bench_relay_start(uint16_t to, uint64_t delay_ns, uint64_t rate)
{
    ab_bench_relay *relay = calloc(1, sizeof *relay);
    if (!relay) {
        return NULL;
    }
    struct sockaddr_in name = loopback(0);
    socklen_t size = sizeof name;
    relay->to = to;
    relay->delay_ns = delay_ns;
    relay->rate = rate;
    /* what a line of that rate and length holds, and a tenth of a second of queue before it */
    double held = (double)rate * ((double)delay_ns / 1e9 + 0.1);
    relay->room = !rate ? ON_WAY_FREE : held > ON_WAY_LEAST ? (size_t)held : ON_WAY_LEAST;
    relay->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (relay->fd < 0 || bind(relay->fd, (struct sockaddr *)&name, sizeof name) != 0 ||
        listen(relay->fd, 16) != 0 || getsockname(relay->fd, (struct sockaddr *)&name, &size) != 0 ||
        pthread_create(&relay->accepting, NULL, accept_all, relay) != 0) {
        if (relay->fd >= 0) {
            close(relay->fd);
        }
        free(relay);
        return NULL;
    }
    relay->port = ntohs(name.sin_port);
    return relay;
}

uint16_t ab_bench_relay_port(const ab_bench_relay *relay)
{
    return relay->port;
}

static void free_connection(struct connection *connection)
{
    for (int i = 0; i < 2; i++) {
        join_way(&connection->ways[i]);
    }
    for (int i = 0; i < 2; i++) {
        pthread_cond_destroy(&connection->ways[i].changed);
        pthread_mutex_destroy(&connection->ways[i].lock);
    }
    close(connection->ways[0].from);
    close(connection->ways[0].to);
    free(connection);
}

void ab_bench_relay_stop(ab_bench_relay *relay)
{
    if (!relay) {
        return;
    }
    shutdown(relay->fd, SHUT_RDWR);
    pthread_join(relay->accepting, NULL);
    close(relay->fd);
    while (relay->connections) {
        struct connection *connection = relay->connections;
        relay->connections = connection->next;
        free_connection(connection);
    }
    free(relay);
}
