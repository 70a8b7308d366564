/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of the admin endpoint: poll() over the listening socket and a few clients. It only moves bytes; each
 * request is worked on by a thread of its own, so nothing here waits for the node or for a slow reader. */
#define _GNU_SOURCE /* accept4 */
#include "engine/admin/server.h"
#include "engine/admin/command.h"
#include "wal/bytes.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_HEADER 4u

typedef struct client {
    int fd;       /* -1: gone; the slot is free unless `working` */
    bool working; /* a thread works on its request */
    pthread_t thread;
    ab_node *node;
    ab_admin_request request;
    ab_answer answer;
    ab_out out;
    uint64_t deadline; /* monotonic ms; it is let go then */
    size_t in_size;
    uint8_t in[FRAME_HEADER + AB_ADMIN_REQUEST_MAX];
} client;

struct ab_admin {
    ab_node *node;
    int dir_fd;
    ab_admin_callbacks callbacks;
    ab_admin_limits limits;
    int listen_fd;
    int wake_fd;
    atomic_bool stop;
    pthread_t thread;
    client clients[AB_ADMIN_CLIENTS_MAX];
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void say(const ab_admin *admin, ab_severity severity, const char *text)
{
    if (admin->callbacks.log != NULL) {
        admin->callbacks.log(admin->callbacks.ctx, severity, text);
    }
}

/* A thread that takes no signals: they belong to the program. */
static int start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0 ? AB_OK : AB_ENOMEM;
}

static void *work(void *arg)
{
    client *c = arg;
    ab_admin_answer(c->node, &c->request, &c->answer);
    return NULL;
}

/* Closes the connection; the slot is free once its thread has ended too. */
static void let_go(client *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    if (c->working) {
        ab_answer_cancel(&c->answer);
    } else {
        ab_out_release(&c->out);
        ab_out_init(&c->out);
    }
}

static void end_work(client *c)
{
    pthread_join(c->thread, NULL);
    ab_answer_free(&c->answer);
    c->working = false;
}

/* Puts the refusal into the client's own buffer: there is no thread for it. */
static void refuse(const ab_admin *admin, client *c, int code, const char *text)
{
    ab_answer answer;
    if (ab_answer_init(&answer, admin->wake_fd) != AB_OK) {
        let_go(c);
        return;
    }
    ab_admin_refuse(&answer, code, text);
    ab_answer_take(&answer, &c->out);
    ab_answer_free(&answer);
}

static void start_work(ab_admin *admin, client *c, size_t size)
{
    ab_message message = {{0}};
    int code = ab_admin_request_read(c->in + FRAME_HEADER, size, &c->request, &message);
    if (code != AB_OK) {
        refuse(admin, c, code, message.text);
        return;
    }
    if (ab_answer_init(&c->answer, admin->wake_fd) != AB_OK) {
        let_go(c);
        return;
    }
    if (start_thread(&c->thread, work, c) != AB_OK) {
        ab_answer_free(&c->answer);
        refuse(admin, c, AB_ENOMEM, "no thread could be started for the request");
        return;
    }
    c->working = true;
}

/* Starts on a request if a whole one has arrived. */
static void take_request(ab_admin *admin, client *c)
{
    if (c->fd < 0 || c->working || ab_out_waiting(&c->out) > 0 || c->in_size < FRAME_HEADER) {
        return;
    }
    uint32_t size = ab_get_le32(c->in);
    if (size == 0 || size > AB_ADMIN_REQUEST_MAX) {
        say(admin, AB_LOG_WARN, "admin: a client sent no request of this protocol: closed");
        let_go(c);
        return;
    }
    if (c->in_size < FRAME_HEADER + size) {
        return;
    }
    start_work(admin, c, size);
    c->in_size -= FRAME_HEADER + size;
    memmove(c->in, c->in + FRAME_HEADER + size, c->in_size);
    c->deadline = now_ms() + admin->limits.stall_ms;
}

static void receive(client *c)
{
    if (c->in_size == sizeof c->in) {
        return;
    }
    ssize_t n = recv(c->fd, c->in + c->in_size, sizeof c->in - c->in_size, 0);
    if (n > 0) {
        c->in_size += (size_t)n;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        let_go(c);
    }
}

/* Sends what there is. A client that reads gets time again. */
static void deliver(const ab_admin *admin, client *c)
{
    if (c->fd < 0 || ab_out_waiting(&c->out) == 0) {
        return;
    }
    ssize_t n = send(c->fd, c->out.data + c->out.sent, ab_out_waiting(&c->out), MSG_NOSIGNAL);
    if (n > 0) {
        ab_out_sent(&c->out, (size_t)n);
        bool more = c->working || ab_out_waiting(&c->out) > 0;
        c->deadline = now_ms() + (more ? admin->limits.stall_ms : admin->limits.idle_ms);
    } else if (errno != EAGAIN && errno != EINTR) {
        let_go(c);
    }
}

/* Moves the answer of a client on. What the working thread adds after this look at it wakes poll() again; what does not
 * fit into the socket makes it wait for POLLOUT. @return whether the thread that works on it has finished */
static bool pump(const ab_admin *admin, client *c)
{
    deliver(admin, c);
    if (!c->working) {
        return false;
    }
    bool finished = ab_answer_take(&c->answer, &c->out);
    if (c->fd < 0) {
        ab_out_sent(&c->out, ab_out_waiting(&c->out));
    } else if (ab_out_waiting(&c->out) == 0) {
        c->deadline = now_ms() + admin->limits.stall_ms; /* it waits for us, not we for it */
    } else {
        deliver(admin, c);
    }
    return finished;
}

static void advance(ab_admin *admin, client *c)
{
    if (pump(admin, c)) {
        end_work(c);
        if (c->fd < 0) {
            let_go(c); /* now the slot is free */
        }
    }
    if (c->out.failed) {
        let_go(c);
    }
    take_request(admin, c);
    if (c->fd >= 0 && now_ms() >= c->deadline) {
        let_go(c);
    }
}

static void accept_client(ab_admin *admin)
{
    for (uint32_t i = 0; i < admin->limits.clients; i++) {
        client *c = &admin->clients[i];
        if (c->fd >= 0 || c->working) {
            continue;
        }
        int fd = accept4(admin->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            c->fd = fd;
            c->in_size = 0;
            c->deadline = now_ms() + admin->limits.idle_ms;
        }
        return;
    }
}

typedef struct poll_set {
    struct pollfd fds[AB_ADMIN_CLIENTS_MAX + 2];
    client *clients[AB_ADMIN_CLIENTS_MAX + 2];
    nfds_t count;
    int timeout;
} poll_set;

static void poll_add(poll_set *set, int fd, short events, client *c)
{
    set->fds[set->count] = (struct pollfd){.fd = fd, .events = events};
    set->clients[set->count++] = c;
}

static void poll_fill(ab_admin *admin, poll_set *set)
{
    bool room = false;
    uint64_t now = now_ms();
    set->count = 0;
    set->timeout = -1;
    poll_add(set, admin->wake_fd, POLLIN, NULL);
    for (uint32_t i = 0; i < admin->limits.clients; i++) {
        client *c = &admin->clients[i];
        room = room || (c->fd < 0 && !c->working);
        if (c->fd < 0) {
            continue;
        }
        short events = ab_out_waiting(&c->out) > 0 ? POLLOUT : 0;
        events |= !c->working && ab_out_waiting(&c->out) == 0 ? POLLIN : 0;
        poll_add(set, c->fd, events, c);
        uint64_t left = c->deadline > now ? c->deadline - now : 0;
        if (set->timeout < 0 || left < (uint64_t)set->timeout) {
            set->timeout = left < 60000 ? (int)left : 60000;
        }
    }
    if (room) {
        poll_add(set, admin->listen_fd, POLLIN, NULL);
    }
}

static void *serve(void *arg)
{
    ab_admin *admin = arg;
    poll_set set;
    while (!atomic_load(&admin->stop)) {
        poll_fill(admin, &set);
        if (poll(set.fds, set.count, set.timeout) < 0 && errno != EINTR) {
            say(admin, AB_LOG_ERROR, "admin: poll failed: the endpoint is closed");
            break;
        }
        uint64_t counter;
        ssize_t ignored = read(admin->wake_fd, &counter, sizeof counter);
        (void)ignored;
        for (nfds_t i = 1; i < set.count; i++) {
            client *c = set.clients[i];
            if (c == NULL && (set.fds[i].revents & POLLIN) != 0) {
                accept_client(admin);
            } else if (c != NULL && (set.fds[i].revents & POLLIN) != 0) {
                receive(c);
            } else if (c != NULL && (set.fds[i].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
                let_go(c);
            }
        }
        for (uint32_t i = 0; i < admin->limits.clients; i++) {
            advance(admin, &admin->clients[i]);
        }
    }
    return NULL;
}

static void admin_free(ab_admin *admin)
{
    for (uint32_t i = 0; i < AB_ADMIN_CLIENTS_MAX; i++) {
        client *c = &admin->clients[i];
        let_go(c);
        if (c->working) {
            end_work(c);
            let_go(c);
        }
        ab_out_release(&c->out);
    }
    if (admin->listen_fd >= 0) {
        close(admin->listen_fd);
        ab_admin_unlink(admin->dir_fd);
    }
    if (admin->dir_fd >= 0) {
        close(admin->dir_fd);
    }
    if (admin->wake_fd >= 0) {
        close(admin->wake_fd);
    }
    free(admin);
}

static ab_admin *admin_new(ab_node *node, const ab_admin_callbacks *callbacks, const ab_admin_limits *limits)
{
    ab_admin *admin = calloc(1, sizeof *admin);
    if (admin == NULL) {
        return NULL;
    }
    admin->node = node;
    admin->limits = *limits;
    admin->dir_fd = -1;
    admin->listen_fd = -1;
    admin->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (callbacks != NULL) {
        admin->callbacks = *callbacks;
    }
    for (uint32_t i = 0; i < AB_ADMIN_CLIENTS_MAX; i++) {
        admin->clients[i].fd = -1;
        admin->clients[i].node = node;
        ab_out_init(&admin->clients[i].out);
    }
    if (admin->wake_fd < 0) {
        admin_free(admin);
        return NULL;
    }
    return admin;
}

int ab_admin_start_limited(ab_node *node, const char *data_dir, const ab_admin_callbacks *callbacks,
                           const ab_admin_limits *limits, ab_admin **out, ab_message *message)
{
    ab_admin *admin = admin_new(node, callbacks, limits);
    *out = NULL;
    int code =
        admin != NULL ? ab_admin_listen(data_dir, &admin->dir_fd, &admin->listen_fd, message) : AB_ENOMEM;
    code = code != AB_OK ? code : start_thread(&admin->thread, serve, admin);
    if (code == AB_OK) {
        *out = admin;
        return AB_OK;
    }
    if (code == AB_ENOMEM && message != NULL) {
        snprintf(message->text, sizeof message->text, "%s: no memory or thread for the admin endpoint",
                 data_dir);
    }
    if (admin != NULL) {
        admin_free(admin);
    }
    return code;
}

int ab_admin_start(ab_node *node, const char *data_dir, const ab_admin_callbacks *callbacks, ab_admin **admin,
                   ab_message *message)
{
    static const ab_admin_limits limits = {
        .idle_ms = 10000, .stall_ms = 10000, .clients = AB_ADMIN_CLIENTS_MAX};
    return ab_admin_start_limited(node, data_dir, callbacks, &limits, admin, message);
}

void ab_admin_stop(ab_admin *admin)
{
    if (admin == NULL) {
        return;
    }
    uint64_t one = 1;
    atomic_store(&admin->stop, true);
    ssize_t ignored = write(admin->wake_fd, &one, sizeof one);
    (void)ignored;
    pthread_join(admin->thread, NULL);
    admin_free(admin);
}
