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
        bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0 ||
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

int ab_listen(const char *host, uint16_t port, bool insecure, int *fd, uint16_t *port_out,
              ab_message *message)
{
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    snprintf(service, sizeof service, "%u", (unsigned)port);
    int found = getaddrinfo(host, service, &hints, &addresses);
    if (found != 0) {
        snprintf(message->text, sizeof message->text, "application.http_host %.100s: %s", host,
                 gai_strerror(found));
        return AB_ECONFIG;
    }
    int code = AB_OK;
    if (!insecure && !is_loopback(addresses)) {
        snprintf(message->text, sizeof message->text,
                 "application.http_host %.100s is not a loopback address, and HTTP is not encrypted: set "
                 "node.insecure: "
                 "true if the network is trusted",
                 host);
        code = AB_ECONFIG;
    } else if ((*fd = open_socket(addresses, port_out)) < 0) {
        snprintf(message->text, sizeof message->text, "cannot listen on %.100s port %u: %s", host,
                 (unsigned)port, strerror(errno));
        code = AB_EIO;
    }
    freeaddrinfo(addresses);
    return code;
}
