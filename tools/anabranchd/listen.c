/* SPDX-License-Identifier: Apache-2.0 */
/* A listening TCP socket. Any thread. */
#include "tools/anabranchd/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

static bool is_loopback(const struct addrinfo *address)
{
    if (address->ai_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address->ai_addr, sizeof in);
        return ntohl(in.sin_addr.s_addr) >> 24 == 127;
    }
    struct sockaddr_in6 in6;
    memcpy(&in6, address->ai_addr, sizeof in6);
    return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
}

static int open_socket(const struct addrinfo *address, uint16_t *port)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &size) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    if (bound.ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &bound, sizeof in);
        *port = ntohs(in.sin_port);
    } else {
        struct sockaddr_in6 in6;
        memcpy(&in6, &bound, sizeof in6);
        *port = ntohs(in6.sin6_port);
    }
    return fd;
}

/* Free what is found. */
static int resolve(const char *host, uint16_t port, int flags, struct addrinfo **found)
{
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV | flags};
    snprintf(service, sizeof service, "%u", (unsigned)port);
    *found = NULL;
    return getaddrinfo(host, service, &hints, found);
}

static int check_address(const char *host, const struct addrinfo *address, bool insecure, ab_message *message)
{
    if (insecure || is_loopback(address)) {
        return AB_OK;
    }
    snprintf(message->text, sizeof message->text,
             "application.http_host %.100s is not a loopback address, and HTTP is not encrypted: set "
             "node.insecure: true if the network is trusted",
             host);
    return AB_ECONFIG;
}

int ab_listen_check(const char *host, bool insecure, ab_message *message)
{
    struct addrinfo *found = NULL;
    if (resolve(host, 0, AI_NUMERICHOST, &found) != 0) {
        return AB_OK;
    }
    int code = check_address(host, found, insecure, message);
    freeaddrinfo(found);
    return code;
}

static int fail(const char *host, uint16_t port, int error, ab_message *message)
{
    const char *what = error == EADDRINUSE      ? ": another program has it, or another node"
                       : error == EADDRNOTAVAIL ? ": this machine does not have it"
                       : error == EACCES        ? ": below 1024 only root may"
                                                : "";
    snprintf(message->text, sizeof message->text,
             "cannot listen on %.100s port %u (application.http_host, http_port): %s%s", host, (unsigned)port,
             strerror(error), what);
    return AB_EIO;
}

int ab_listen_bind(const char *host, uint16_t port, bool insecure, int *fd, uint16_t *port_out,
                   ab_message *message)
{
    struct addrinfo *addresses = NULL;
    int failure = resolve(host, port, 0, &addresses);
    if (failure != 0) {
        snprintf(message->text, sizeof message->text, "application.http_host %.100s: %s", host,
                 gai_strerror(failure));
        return failure == EAI_AGAIN ? AB_EIO : AB_ECONFIG; /* a name server that is away is no mistake */
    }
    int code = check_address(host, addresses, insecure, message);
    if (code == AB_OK && (*fd = open_socket(addresses, port_out)) < 0) {
        code = fail(host, port, errno, message);
    }
    freeaddrinfo(addresses);
    return code;
}

int ab_listen_begin(const char *host, uint16_t port, int fd, ab_message *message)
{
    return listen(fd, BACKLOG) == 0 ? AB_OK : fail(host, port, errno, message);
}
