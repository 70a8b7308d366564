/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP client. One thread per client. */
#include "tools/mainjob/httpc.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define BUFFER (64u * 1024)
#define TIMEOUT_S 30

bool ab_httpc_init(ab_httpc *client)
{
    *client = (ab_httpc){.fd = -1};
    client->buffer = malloc(BUFFER);
    return client->buffer != NULL;
}

void ab_httpc_close(ab_httpc *client)
{
    if (client->fd >= 0) {
        close(client->fd);
    }
    client->fd = -1;
    client->start = client->end = 0;
}

void ab_httpc_free(ab_httpc *client)
{
    ab_httpc_close(client);
    free(client->buffer);
    free(client->body);
    *client = (ab_httpc){.fd = -1};
}

static bool connect_to(ab_httpc *client, uint16_t port)
{
    if (client->fd >= 0 && client->port == port) {
        return true;
    }
    ab_httpc_close(client);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    int on = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0) {
        return false;
    }
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        ab_httpc_close(client);
        return false;
    }
    client->port = port;
    client->connects++;
    return true;
}

static bool send_all(ab_httpc *client, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(client->fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* More bytes into the buffer. */
static bool fill(ab_httpc *client)
{
    if (client->start > 0) {
        memmove(client->buffer, client->buffer + client->start, client->end - client->start);
        client->end -= client->start;
        client->start = 0;
    }
    if (client->end == BUFFER) {
        return false;
    }
    ssize_t n = 0;
    do {
        n = recv(client->fd, client->buffer + client->end, BUFFER - client->end, 0);
    } while (n < 0 && errno == EINTR);
    client->end += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* A line without its CRLF, NUL-terminated, valid until the next fill(); NULL: the connection broke. */
static char *read_line(ab_httpc *client)
{
    for (;;) {
        char *line = client->buffer + client->start;
        char *end = memchr(line, '\n', client->end - client->start);
        if (end != NULL) {
            client->start = (size_t)(end - client->buffer) + 1;
            *end = '\0';
            if (end > line && end[-1] == '\r') {
                end[-1] = '\0';
            }
            return line;
        }
        if (!fill(client)) {
            return NULL;
        }
    }
}

static bool keep(ab_httpc *client, const char *data, size_t size, FILE *file)
{
    if (file != NULL) {
        return fwrite(data, 1, size, file) == size;
    }
    if (client->body_capacity < client->body_size + size + 1) {
        size_t capacity = 2 * (client->body_size + size + 1);
        char *body = realloc(client->body, capacity);
        if (body == NULL) {
            return false;
        }
        client->body = body;
        client->body_capacity = capacity;
    }
    memcpy(client->body + client->body_size, data, size);
    client->body[client->body_size + size] = '\0';
    return true;
}

static bool read_bytes(ab_httpc *client, size_t size, FILE *file)
{
    while (size > 0) {
        size_t have = client->end - client->start;
        if (have == 0) {
            if (!fill(client)) {
                return false;
            }
            continue;
        }
        size_t take = have < size ? have : size;
        if (!keep(client, client->buffer + client->start, take, file)) {
            return false;
        }
        client->start += take;
        client->body_size += take;
        size -= take;
    }
    return true;
}

static bool read_chunks(ab_httpc *client, FILE *file)
{
    for (;;) {
        char *line = read_line(client);
        if (line == NULL) {
            return false;
        }
        size_t size = strtoull(line, NULL, 16);
        if (size == 0) {
            return read_line(client) != NULL;
        }
        if (!read_bytes(client, size, file) || read_line(client) == NULL) {
            return false;
        }
    }
}

typedef struct framing {
    bool chunked;
    bool close;
    size_t length;
} framing;

/* The value of the header line if it has this name, else NULL. */
static const char *value_of(const char *line, const char *name)
{
    size_t size = strlen(name);
    if (strncasecmp(line, name, size) != 0 || line[size] != ':') {
        return NULL;
    }
    line += size + 1;
    return line + strspn(line, " ");
}

static void take_header(const char *line, framing *f, ab_httpc_answer *answer)
{
    const char *value = NULL;
    if ((value = value_of(line, "Content-Length")) != NULL) {
        f->length = strtoull(value, NULL, 10);
    } else if ((value = value_of(line, "Transfer-Encoding")) != NULL) {
        f->chunked = strcasecmp(value, "chunked") == 0;
    } else if ((value = value_of(line, "Connection")) != NULL) {
        f->close = strcasecmp(value, "close") == 0;
    } else if ((value = value_of(line, "Retry-After")) != NULL) {
        answer->retry_after = (unsigned)strtoul(value, NULL, 10);
    } else if ((value = value_of(line, "Allow")) != NULL) {
        snprintf(answer->allow, sizeof answer->allow, "%s", value);
    } else if ((value = value_of(line, "X-Anabranch-Writes")) != NULL) {
        snprintf(answer->writes, sizeof answer->writes, "%s", value);
    }
}

static bool read_head(ab_httpc *client, framing *f, ab_httpc_answer *answer)
{
    char *line = NULL;
    do { /* past "100 Continue" */
        line = read_line(client);
        if (line == NULL || strncmp(line, "HTTP/1.1 ", 9) != 0) {
            return false;
        }
        answer->status = (int)strtol(line + 9, NULL, 10);
        while ((line = read_line(client)) != NULL && line[0] != '\0') {
            take_header(line, f, answer);
        }
    } while (line != NULL && answer->status == 100);
    return line != NULL;
}

static bool read_answer(ab_httpc *client, bool bodyless, FILE *file, ab_httpc_answer *answer)
{
    framing f = {false, false, 0};
    *answer = (ab_httpc_answer){0};
    client->body_size = 0;
    if (!read_head(client, &f, answer) || !keep(client, "", 0, NULL)) {
        return false;
    }
    if (!bodyless && answer->status != 204 &&
        !(f.chunked ? read_chunks(client, file) : read_bytes(client, f.length, file))) {
        return false;
    }
    answer->size = client->body_size;
    answer->body = file == NULL ? client->body : NULL;
    if (f.close) {
        ab_httpc_close(client);
    }
    return true;
}

bool ab_httpc_request(ab_httpc *client, uint16_t port, const char *method, const char *path, const char *head,
                      const void *body, size_t size, FILE *file, ab_httpc_answer *answer)
{
    char text[1024];
    if (!connect_to(client, port)) {
        return false;
    }
    int n = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %zu\r\n%s\r\n",
                     method, path, size, head != NULL ? head : "");
    bool bodyless = strcmp(method, "HEAD") == 0;
    bool sent =
        n > 0 && (size_t)n < sizeof text && send_all(client, text, (size_t)n) && send_all(client, body, size);
    /* Also where sending failed there may be an answer: a refusal before the end of the body. */
    if (!read_answer(client, bodyless, file, answer)) {
        ab_httpc_close(client);
        return false;
    }
    if (!sent) {
        ab_httpc_close(client);
    }
    return true;
}

bool ab_httpc_post(ab_httpc *client, uint16_t port, const char *path, const void *body, size_t size,
                   ab_httpc_answer *answer)
{
    return ab_httpc_request(client, port, "POST", path, NULL, body, size, NULL, answer);
}

bool ab_httpc_get(ab_httpc *client, uint16_t port, const char *path, ab_httpc_answer *answer)
{
    return ab_httpc_request(client, port, "GET", path, NULL, "", 0, NULL, answer);
}
