/* SPDX-License-Identifier: Apache-2.0 */
/* Between the links and the groups: which peer has which group open, messages and blocks to the cores, timers. Runs on
 * dispatcher threads; never blocks on disk or user code.
 *
 * A message of a group begins with one byte: what follows is for the core, or says whether the sender has the group
 * open (with its name and backend, which must agree). */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_CORE = 0, MESSAGE_OPEN = 1, MESSAGE_CLOSED = 2 };

/* MESSAGE_OPEN: kind, flags, instance (8 bytes), name, tab, backend. The instance is drawn when a group is opened: the
 * same one again is no news. */
#define OPEN_ASKS 1u /* flag: please say whether you have it open too */
#define OPEN_HEAD (2u + sizeof(uint64_t))

static ab_group_peer *find_peer(ab_group *group, uint32_t node)
{
    for (size_t i = 0; i < group->peer_count; i++) {
        if (group->peers[i].node == node) {
            return &group->peers[i];
        }
    }
    return NULL;
}

int ab_group_send(ab_group *group, uint32_t peer, ab_bytes bytes)
{
    uint8_t small[512];
    uint8_t *message = bytes.size + 1 <= sizeof small ? small : malloc(bytes.size + 1);
    if (message == NULL) {
        return AB_ENOMEM;
    }
    message[0] = MESSAGE_CORE;
    memcpy(message + 1, bytes.data, bytes.size);
    int code = ab_transport_send_message(group->node->transport, peer, group->id,
                                         (ab_bytes){message, bytes.size + 1});
    if (message != small) {
        free(message);
    }
    return code;
}

/* Name and backend, as both sides must have them. */
static size_t describe(const ab_group *group, char *text, size_t size)
{
    return (size_t)snprintf(text, size, "%s\t%s", group->name, group->backend->name);
}

/* What could not be said stays unknown until there is a new link: makes one. */
static void told(ab_group *group, uint32_t peer, int code)
{
    if (code != AB_OK && code != AB_ECLOSED) {
        ab_transport_drop(group->node->transport, peer, code,
                          "a group that was opened or closed could not be announced");
    }
}

static void send_open(ab_group *group, uint32_t peer, bool asks)
{
    char message[OPEN_HEAD + 2 * (AB_NAME_MAX + 1)];
    message[0] = MESSAGE_OPEN;
    message[1] = asks ? OPEN_ASKS : 0;
    memcpy(message + 2, &group->instance, sizeof group->instance);
    size_t length = OPEN_HEAD + describe(group, message + OPEN_HEAD, sizeof message - OPEN_HEAD);
    int code = AB_OK;
    pthread_mutex_lock(&group->core_lock); /* else it might overtake the word that the group is closed */
    if (ab_group_is_open(group)) {
        code =
            ab_transport_send_message(group->node->transport, peer, group->id, (ab_bytes){message, length});
    }
    pthread_mutex_unlock(&group->core_lock);
    told(group, peer, code); /* else the peer would never send */
}

void ab_group_announce(ab_group *group)
{
    for (size_t i = 0; i < group->peer_count; i++) {
        send_open(group, group->peers[i].node, true);
    }
}

void ab_group_retire(ab_group *group)
{
    uint8_t message = MESSAGE_CLOSED;
    pthread_mutex_lock(&group->core_lock); /* for send_open() */
    for (size_t i = 0; i < group->peer_count; i++) {
        uint32_t peer = group->peers[i].node;
        int code =
            ab_transport_send_message(group->node->transport, peer, group->id, (ab_bytes){&message, 1});
        told(group, peer, code); /* else it would go on sending, and count on who does not answer */
    }
    pthread_mutex_unlock(&group->core_lock);
}

static void step_peer(ab_group *group, uint32_t peer, ab_event_type type)
{
    ab_event event = {.type = type, .peer = peer};
    (void)ab_group_step(group, &event);
}

static void set_down(ab_group *group, ab_group_peer *peer)
{
    if (atomic_exchange(&peer->up, false)) {
        step_peer(group, peer->node, AB_EV_PEER_DOWN);
    }
}

/* The peer has the group open. Its name and backend must be ours, else the two would never understand each other. */
static void on_open(ab_group *group, ab_group_peer *peer, ab_bytes bytes)
{
    char ours[2 * (AB_NAME_MAX + 1)];
    size_t length = describe(group, ours, sizeof ours);
    const char *text = bytes.data;
    if (bytes.size != OPEN_HEAD + length || memcmp(text + OPEN_HEAD, ours, length) != 0) {
        ab_node_log(group->node, AB_LOG_ERROR,
                    "group %llu: node %u knows it by another name or backend; ours: %s with %s: mend the "
                    "configuration",
                    (unsigned long long)group->id, peer->node, group->name, group->backend->name);
        atomic_fetch_add(&group->node->counters.protocol_errors, 1);
        return;
    }
    if ((text[1] & OPEN_ASKS) != 0) {
        send_open(group, peer->node, false);
    }
    uint64_t instance;
    memcpy(&instance, text + 2, sizeof instance);
    if (atomic_load(&peer->up) && peer->instance == instance) {
        return;
    }
    set_down(group, peer); /* it was opened anew */
    peer->instance = instance;
    atomic_store(&peer->up, true);
    step_peer(group, peer->node, AB_EV_PEER_UP);
}

static int on_message(void *ctx, uint32_t peer_id, uint64_t group_id, ab_bytes bytes)
{
    ab_node *node = ctx;
    ab_group *group = ab_group_get(node, group_id);
    if (group == NULL) {
        return AB_OK; /* not open here; it is told when it is */
    }
    ab_group_peer *peer = find_peer(group, peer_id);
    const uint8_t *kind = bytes.data;
    int code = AB_OK;
    if (peer == NULL || bytes.size == 0) {
        code = bytes.size == 0 ? AB_EPROTO : AB_OK;
    } else if (*kind == MESSAGE_OPEN) {
        if (ab_group_is_open(group)) {
            on_open(group, peer, bytes);
        }
    } else if (*kind == MESSAGE_CLOSED) {
        set_down(group, peer);
    } else if (*kind == MESSAGE_CORE && atomic_load(&peer->up)) {
        ab_event event = {.type = AB_EV_MESSAGE, .peer = peer_id, .bytes = {kind + 1, bytes.size - 1}};
        code = ab_group_step(group, &event);
    }
    ab_group_unref(group);
    if (code == AB_EPROTO) {
        atomic_fetch_add(&node->counters.protocol_errors, 1);
        return code;
    }
    return AB_OK;
}

static int on_block(void *ctx, uint32_t peer_id, const ab_block_header *header, ab_buf *buf)
{
    ab_node *node = ctx;
    ab_group *group = ab_group_get(node, header->group);
    ab_group_peer *peer = group != NULL ? find_peer(group, peer_id) : NULL;
    ab_incoming *incoming = peer != NULL && atomic_load(&peer->up) ? calloc(1, sizeof *incoming) : NULL;
    int code = AB_OK;
    if (incoming != NULL) {
        incoming->buf = buf;
        incoming->header = *header;
        atomic_fetch_add_explicit(&node->counters.blocks_received, 1, memory_order_relaxed);
        code = ab_group_receive(group, peer_id, incoming);
    } else {
        ab_buf_unref(buf); /* as if lost on the way */
    }
    if (group != NULL) {
        ab_group_unref(group);
    }
    if (code == AB_EPROTO) {
        atomic_fetch_add(&node->counters.protocol_errors, 1);
        return code;
    }
    return AB_OK;
}

/* Calls `fn` for the open groups that have `peer` as a member, without holding the registry over it. */
static void each_group_of(ab_node *node, uint32_t peer, void (*fn)(ab_group *, ab_group_peer *))
{
    pthread_rwlock_rdlock(&node->registry);
    size_t count = node->groups.count, used = 0;
    ab_group **groups = malloc((count + 1) * sizeof(ab_group *));
    for (ab_group *group = node->groups.first; groups != NULL && group != NULL; group = group->next) {
        if (find_peer(group, peer) != NULL && ab_group_is_open(group) && ab_group_try_ref(group)) {
            groups[used++] = group;
        }
    }
    pthread_rwlock_unlock(&node->registry);
    for (size_t i = 0; i < used; i++) {
        fn(groups[i], find_peer(groups[i], peer));
        ab_group_unref(groups[i]);
    }
    if (groups == NULL) {
        ab_node_log(node, AB_LOG_ERROR, "out of memory when the link to node %u changed", peer);
        ab_transport_drop(node->transport, peer, AB_ENOMEM, "out of memory");
    }
    free(groups);
}

static void ask_open(ab_group *group, ab_group_peer *peer)
{
    send_open(group, peer->node, true);
}

static ab_bytes store_key(uint32_t peer, char *key, size_t size)
{
    return (ab_bytes){key, (size_t)snprintf(key, size, AB_KEY_PEER "%u", peer)};
}

int ab_links_load(ab_node *node)
{
    size_t count = node->config.peer_count;
    node->peer_stores = calloc(count + 1, sizeof *node->peer_stores);
    if (node->peer_stores == NULL) {
        return AB_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        char key[64];
        void *id = NULL;
        size_t size = 0;
        ab_bytes name = store_key(node->config.peers[i].node_id, key, sizeof key);
        int code = ab_wal_state_get(node->wal, 0, name, &id, &size);
        if (code == AB_OK && size == sizeof node->peer_stores[i].id) {
            memcpy(node->peer_stores[i].id, id, size);
            node->peer_stores[i].known = true;
        }
        free(id);
    }
    return AB_OK;
}

/* Remembers which store the peer has: another one under the same id means that its disk was replaced. */
static void note_store(ab_node *node, uint32_t peer, const uint8_t store_id[16])
{
    size_t i = 0;
    while (i < node->config.peer_count && node->config.peers[i].node_id != peer) {
        i++;
    }
    if (i == node->config.peer_count) {
        return;
    }
    ab_peer_store *store = &node->peer_stores[i];
    if (store->known && memcmp(store->id, store_id, sizeof store->id) == 0) {
        return;
    }
    if (store->known) {
        ab_node_log(node, AB_LOG_WARN,
                    "node %u came back with another store: its data directory was replaced", peer);
    }
    char key[64];
    memcpy(store->id, store_id, sizeof store->id);
    store->known = true;
    ab_wal_thread_state(node, 0, store_key(peer, key, sizeof key), (ab_bytes){store_id, sizeof store->id},
                        false);
}

static void on_peer_up(void *ctx, uint32_t peer, const uint8_t store_id[16])
{
    ab_node *node = ctx;
    note_store(node, peer, store_id);
    each_group_of(node, peer, ask_open);
}

static void on_peer_down(void *ctx, uint32_t peer, int code, const char *reason)
{
    (void)code; /* the transport has said it, with the address */
    (void)reason;
    each_group_of(ctx, peer, set_down);
}

static void on_timer(void *ctx, uint64_t key)
{
    ab_group *group = ab_group_get(ctx, key);
    if (group == NULL) {
        return;
    }
    ab_group_timer(group);
    ab_group_unref(group);
}

static void on_log(void *ctx, ab_severity severity, const char *text)
{
    ab_node_log(ctx, severity, "%s", text);
}

const ab_transport_callbacks ab_link_callbacks = {.peer_up = on_peer_up,
                                                  .peer_down = on_peer_down,
                                                  .message = on_message,
                                                  .block = on_block,
                                                  .timer = on_timer,
                                                  .log = on_log};
