/* SPDX-License-Identifier: Apache-2.0 */
/* Messages over socket pairs, see bench_proto.h. One thread per end. */
#include "tools/anabranch/bench_proto.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MSG_HEADER (2 * sizeof(uint32_t))

static int send_all(int fd, const void *data, size_t size)
{
    const char *from = data;
    while (size > 0) {
        ssize_t n = send(fd, from, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        from += n;
        size -= (size_t)n;
    }
    return 0;
}

int ab_bench_send(int fd, enum ab_bench_msg_type type, const void *body, size_t size)
{
    uint32_t header[2] = {(uint32_t)type, (uint32_t)size};
    if (send_all(fd, header, sizeof header) != 0) {
        return -1;
    }
    return size ? send_all(fd, body, size) : 0;
}

static int poll_timeout(uint64_t until)
{
    if (until == UINT64_MAX) {
        return -1;
    }
    uint64_t now = ab_bench_now();
    if (now >= until) {
        return 0;
    }
    uint64_t ms = (until - now) / 1000000u + 1;
    return ms < 60000 ? (int)ms : 60000;
}

static enum ab_bench_recv wait_readable(int fd, uint64_t until, int cancel_fd)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
        int timeout = poll_timeout(until);
        int n = poll(fds, 2, timeout);
        if (n < 0 && errno != EINTR) {
            return AB_BENCH_RECV_GONE;
        }
        if (n > 0 && fds[1].revents) {
            return AB_BENCH_RECV_CANCELLED;
        }
        if (n > 0 && fds[0].revents) {
            return AB_BENCH_RECV_OK;
        }
        if (n == 0 && timeout == 0) {
            return AB_BENCH_RECV_TIMEOUT;
        }
    }
}

static enum ab_bench_recv read_all(int fd, void *data, size_t size, uint64_t until, int cancel_fd)
{
    char *to = data;
    while (size > 0) {
        enum ab_bench_recv state = wait_readable(fd, until, cancel_fd);
        if (state != AB_BENCH_RECV_OK) {
            return state;
        }
        ssize_t n = read(fd, to, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return AB_BENCH_RECV_GONE;
        }
        to += n;
        size -= (size_t)n;
    }
    return AB_BENCH_RECV_OK;
}

enum ab_bench_recv ab_bench_receive(int fd, struct ab_bench_msg *msg, uint64_t until, int cancel_fd)
{
    uint32_t header[2] = {0, 0};
    enum ab_bench_recv state = read_all(fd, header, MSG_HEADER, until, cancel_fd);
    if (state != AB_BENCH_RECV_OK) {
        return state;
    }
    if (header[1] > sizeof msg->as) {
        return AB_BENCH_RECV_GONE;
    }
    memset(msg, 0, sizeof *msg);
    msg->type = header[0];
    msg->size = header[1];
    state = read_all(fd, &msg->as, header[1], until, cancel_fd);
    if (msg->type == AB_BENCH_MSG_ERROR) {
        msg->as.text[AB_BENCH_TEXT_MAX - 1] = '\0';
    }
    return state;
}
