/* SPDX-License-Identifier: Apache-2.0 */
/* A transport under test: records, checks, waits. Callbacks on loop threads, the rest on the test's. */
#include "tests/unit/transport_node.h"

#include "wal/bytes.h"
#include <anabranch/error.h>
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 20000u

static void broken(node *n, const char *what, uint32_t peer, uint64_t value)
{
    if (n->violations++ == 0) {
        (void)snprintf(n->violation, sizeof(n->violation), "node %u, peer %u: %s (%llu)", n->id, peer, what,
                       (unsigned long long)value);
    }
}

static void on_up(void *ctx, uint32_t peer, const uint8_t store_id[16])
{
    node *n = ctx;
    pthread_mutex_lock(&n->lock);
    node_link *link = &n->links[peer];
    if (link->up) {
        broken(n, "up twice", peer, link->ups);
    }
    link->up = true;
    link->ups++;
    link->last_message = 0;
    link->last_block = 0;
    memcpy(link->store_id, store_id, 16);
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

static void on_down(void *ctx, uint32_t peer, int code, const char *reason)
{
    node *n = ctx;
    pthread_mutex_lock(&n->lock);
    node_link *link = &n->links[peer];
    if (!link->up) {
        broken(n, "down without up", peer, link->downs);
    }
    link->up = false;
    link->downs++;
    link->down_code = code;
    (void)snprintf(link->down_reason, sizeof(link->down_reason), "%s", reason);
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

static uint8_t pattern(uint64_t number, size_t at)
{
    return (uint8_t)(number * 31 + at * 7);
}

static int on_message(void *ctx, uint32_t peer, uint64_t group, ab_bytes bytes)
{
    node *n = ctx;
    pthread_mutex_lock(&n->lock);
    node_link *link = &n->links[peer];
    const uint8_t *data = bytes.data;
    if (!link->up) {
        broken(n, "message while down", peer, 0);
    }
    uint64_t number = bytes.size >= 8 ? ab_get_le64(data) : 0;
    if (!n->only_count && (number != link->last_message + 1 || group != number + 7)) {
        broken(n, "message out of order", peer, number);
    }
    for (size_t i = 8; i < bytes.size; i++) {
        if (data[i] != pattern(number, i)) {
            broken(n, "message damaged", peer, number);
            break;
        }
    }
    link->last_message = number;
    link->messages++;
    link->blocks_before = link->blocks;
    link->message_bytes += bytes.size;
    int code = n->message_code;
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
    return code;
}

static int on_block(void *ctx, uint32_t peer, const ab_block_header *header, ab_buf *buf)
{
    node *n = ctx;
    ab_block_header again;
    int code = AB_OK;
    if (n->trust) {
        again = *header;
    } else {
        code = ab_block_check(buf->data, buf->size, &again);
    }
    pthread_mutex_lock(&n->lock);
    node_link *link = &n->links[peer];
    if (!link->up) {
        broken(n, "block while down", peer, 0);
    }
    if (code != AB_OK || again.checksum != header->checksum) {
        broken(n, "block damaged", peer, header->first);
    }
    if (header->first <= link->last_block && !n->only_count) {
        broken(n, "block out of order", peer, header->first);
    }
    link->last_block = header->first;
    link->blocks++;
    link->block_bytes += buf->size;
    if (n->keep_blocks && n->kept_count < sizeof(n->kept) / sizeof(n->kept[0])) {
        n->kept[n->kept_count++] = buf;
        buf = NULL;
    }
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
    ab_buf_unref(buf);
    return AB_OK;
}

static void on_timer(void *ctx, uint64_t key)
{
    node *n = ctx;
    pthread_mutex_lock(&n->lock);
    n->timers++;
    n->timer_keys += key;
    n->timer_at = ab_monotonic_ns();
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

static void on_log(void *ctx, ab_severity severity, const char *text)
{
    node *n = ctx;
    pthread_mutex_lock(&n->lock);
    if (strchr(text, '\n') != NULL) {
        broken(n, "newline in a log line", 0, 0);
    }
    n->contested += strstr(text, "another connection is being made") != NULL ? 1 : 0;
    n->severity[n->logs % NODE_LOGS] = severity;
    (void)snprintf(n->log[n->logs++ % NODE_LOGS], sizeof(n->log[0]), "%s", text);
    if (getenv("AB_TEST_LOG") != NULL) {
        (void)fprintf(stderr, "[%llu] node %u %d: %s\n", (unsigned long long)(ab_monotonic_ns() / 1000000),
                      n->id, (int)severity, text);
    }
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

static const ab_transport_callbacks callbacks = {on_up, on_down, on_message, on_block, on_timer, on_log};

ab_transport_config node_config(uint32_t id, const ab_peer_config *peers, size_t count)
{
    ab_transport_config config = {.cluster = "test",
                                  .node_id = id,
                                  .store_id = {(uint8_t)id, 1, 2, 3},
                                  .peers = peers,
                                  .peer_count = count,
                                  .threads = 1,
                                  .retry_min_ms = 20,
                                  .retry_max_ms = 200,
                                  .seed = id,
                                  .queue_max_bytes = 64u << 20};
    return config;
}

int node_try_start(node *n, const ab_transport_config *config, ab_message *message)
{
    memset(n, 0, sizeof(*n));
    n->id = config->node_id;
    ab_transport_config own = *config;
    if (own.budget == NULL) {
        own.budget = &n->budget;
    } else {
        n->budget.limit = own.budget->limit;
        own.budget = &n->budget;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&n->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&n->lock, NULL);
    int code = ab_transport_start(&own, &callbacks, n, &n->transport, message);
    if (code != AB_OK) {
        n->transport = NULL;
        pthread_mutex_destroy(&n->lock);
        pthread_cond_destroy(&n->changed);
    }
    return code;
}

void node_start(node *n, const ab_transport_config *config)
{
    ab_message message = {""};
    int code = node_try_start(n, config, &message);
    ck_assert_msg(code == AB_OK, "start: %d %s", code, message.text);
}

void node_unkeep(node *n)
{
    pthread_mutex_lock(&n->lock);
    while (n->kept_count > 0) {
        ab_buf_unref(n->kept[--n->kept_count]);
    }
    pthread_mutex_unlock(&n->lock);
}

void node_stop(node *n)
{
    ab_transport_stop(n->transport);
    n->transport = NULL;
    node_unkeep(n);
    ck_assert_msg(n->violations == 0, "%s", n->violation);
    for (int i = 0; i < NODE_PEERS; i++) {
        ck_assert_msg(n->links[i].ups == n->links[i].downs, "node %u, peer %d: %u ups, %u downs", n->id, i,
                      n->links[i].ups, n->links[i].downs);
    }
    ck_assert_uint_eq(n->budget.used, 0);
    pthread_mutex_destroy(&n->lock);
    pthread_cond_destroy(&n->changed);
}

bool node_wait_for(node *n, node_condition condition, uint64_t arg, unsigned ms)
{
    uint64_t end = ab_monotonic_ns() + (uint64_t)ms * 1000000u;
    struct timespec until = {(time_t)(end / 1000000000u), (long)(end % 1000000000u)};
    pthread_mutex_lock(&n->lock);
    bool holds;
    while (!(holds = condition(n, arg))) {
        if (pthread_cond_timedwait(&n->changed, &n->lock, &until) == ETIMEDOUT) {
            holds = condition(n, arg);
            break;
        }
    }
    pthread_mutex_unlock(&n->lock);
    return holds;
}

void node_wait(node *n, node_condition condition, uint64_t arg, const char *what)
{
    bool holds = node_wait_for(n, condition, arg, WAIT_MS);
    ck_assert_msg(holds, "node %u waited in vain for: %s (%llu); last log: %s", n->id, what,
                  (unsigned long long)arg, n->logs > 0 ? n->log[(n->logs - 1) % NODE_LOGS] : "-");
}

bool node_is_up(node *n, uint64_t peer)
{
    return n->links[peer].up;
}

bool node_is_down(node *n, uint64_t peer)
{
    return !n->links[peer].up;
}

bool node_has_messages(node *n, uint64_t arg)
{
    return n->links[arg & 255].messages >= arg >> 8;
}

bool node_has_blocks(node *n, uint64_t arg)
{
    return n->links[arg & 255].blocks >= arg >> 8;
}

bool node_has_downs(node *n, uint64_t arg)
{
    return n->links[arg & 255].downs >= arg >> 8;
}

bool node_has_timers(node *n, uint64_t count)
{
    return n->timers >= count;
}

unsigned node_logged(node *n, const char *text, ab_severity least)
{
    unsigned found = 0;
    pthread_mutex_lock(&n->lock);
    for (unsigned i = 0; i < NODE_LOGS && i < n->logs; i++) {
        found += n->severity[i] >= least && strstr(n->log[i], text) != NULL ? 1 : 0;
    }
    pthread_mutex_unlock(&n->lock);
    return found;
}

typedef struct find_status {
    uint32_t peer;
    ab_link_status status;
} find_status;

static bool find_link(void *arg, const ab_link_status *status)
{
    find_status *find = arg;
    if (status->peer == find->peer) {
        find->status = *status;
    }
    return status->peer != find->peer;
}

ab_link_status node_status(node *n, uint32_t peer)
{
    find_status find = {.peer = peer};
    ab_transport_links(n->transport, find_link, &find);
    ck_assert_uint_eq(find.status.peer, peer);
    return find.status;
}

int node_message(node *n, uint32_t peer, uint64_t number, size_t size)
{
    uint8_t *data = malloc(size);
    ab_put_le64(data, number);
    for (size_t i = 8; i < size; i++) {
        data[i] = pattern(number, i);
    }
    int code = ab_transport_send_message(n->transport, peer, number + 7, (ab_bytes){data, size});
    free(data);
    return code;
}

ab_buf *node_block(ab_budget *budget, uint32_t origin, uint64_t first, size_t size)
{
    ab_buf *buf = ab_buf_new(budget, AB_BLOCK_HEADER + size + AB_ENTRY_OVERHEAD);
    uint8_t *payload = calloc(1, size + 1);
    for (size_t i = 0; i < size; i++) {
        payload[i] = pattern(first, i);
    }
    size_t bytes = ab_entry_pack(buf->data + AB_BLOCK_HEADER, 0, payload, size);
    free(payload);
    ab_block_header header = {.count = 1,
                              .entries_bytes = (uint32_t)bytes,
                              .group = 7,
                              .node = origin,
                              .epoch = 1,
                              .first = first,
                              .hlc_first = 99,
                              .hlc_last = 99};
    buf->size = ab_block_seal(buf->data, &header, NULL, 0);
    return buf;
}

uint16_t node_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

uint64_t node_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
