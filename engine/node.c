/* SPDX-License-Identifier: Apache-2.0 */
/* A node: opens the log, starts the threads and the links, and stops them in the order in which they need each other. */
#include "engine/admin/admin.h"
#include "engine/engine.h"
#include "replication/backends.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* Shares of the memory budget: recent blocks, and what waits for one peer. */
#define CACHE_SHARE 4u
#define LINK_SHARE 8u
/* Beside the budget: free buffers kept for the next blocks. */
#define POOL_SHARE 16u

/* The coarse clock is 1 to 4 ms old, which the counter of the hlc orders anyway, and costs a fifth: the other one was 8 %
 * of what a write of one small entry costs. */
uint64_t ab_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void ab_message_set(ab_message *message, const char *format, ...)
{
    if (message == NULL) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(message->text, sizeof message->text, format, args);
    va_end(args);
}

void ab_node_log(ab_node *node, ab_severity severity, const char *format, ...)
{
    char text[AB_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&node->message_lock);
    if (severity >= AB_LOG_WARN) {
        memcpy(node->message.text, text, sizeof text);
    }
    pthread_mutex_unlock(&node->message_lock);
    if (node->config.log != NULL && severity >= node->config.log_severity) {
        ab_completions_line(node, severity, text);
    }
}

void ab_node_relieve(ab_node *node)
{
    struct timespec moment = {.tv_nsec = 1000000};
    ab_cache_relieve(&node->cache);
    ab_pool_drain(node->budget.pool);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
}

void *ab_alloc_patiently(ab_node *node, size_t size)
{
    void *memory = calloc(1, size);
    while (memory == NULL) {
        ab_node_relieve(node);
        memory = calloc(1, size);
    }
    return memory;
}

void ab_node_message(const ab_node *node, ab_message *message)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&node->message_lock;
    pthread_mutex_lock(lock);
    *message = node->message;
    pthread_mutex_unlock(lock);
}

struct ab_wal *ab_node_wal(const ab_node *node)
{
    return node->wal;
}

uint32_t ab_node_id(const ab_node *node)
{
    return node->config.node_id;
}

uint16_t ab_node_port(const ab_node *node)
{
    return ab_transport_port(node->transport);
}

static char *copy_text(const char *text)
{
    return text != NULL ? strdup(text) : NULL;
}

static void free_config(ab_node_config *config)
{
    free((void *)config->cluster);
    free((void *)config->data_dir);
    free((void *)config->listen_host);
    for (size_t i = 0; i < config->peer_count && config->peers != NULL; i++) {
        free((void *)config->peers[i].host);
    }
    free((void *)config->peers);
}

static int copy_config(const ab_node_config *from, ab_node_config *to)
{
    *to = *from;
    to->cluster = copy_text(from->cluster);
    to->data_dir = copy_text(from->data_dir);
    to->listen_host = copy_text(from->listen_host);
    ab_peer_config *peers = calloc(from->peer_count + 1, sizeof *peers);
    to->peers = peers;
    bool complete = to->cluster != NULL && to->data_dir != NULL && peers != NULL &&
                    (to->listen_host != NULL || from->listen_host == NULL);
    for (size_t i = 0; i < from->peer_count && complete; i++) {
        peers[i] = from->peers[i];
        peers[i].host = copy_text(from->peers[i].host);
        peers[i].admin = NULL; /* not ours to use */
        complete = peers[i].host != NULL || from->peers[i].host == NULL;
        to->peer_count = i + 1;
    }
    if (!complete) {
        free_config(to);
        return AB_ENOMEM;
    }
    return AB_OK;
}

/* The directory belongs to this node of this cluster, or to nobody yet. */
static int check_owner(ab_node *node, const char *key, const char *ours, ab_message *message)
{
    void *data = NULL;
    size_t size = 0;
    ab_bytes name = {key, strlen(key)};
    int code = ab_wal_state_get(node->wal, 0, name, &data, &size);
    if (code == AB_ENOTFOUND) {
        ab_wal_op op = {.type = AB_WAL_PUT_STATE, .key = name, .data = {ours, strlen(ours)}};
        return ab_wal_commit(node->wal, &op, 1, NULL);
    }
    if (code == AB_OK && (size != strlen(ours) || memcmp(data, ours, size) != 0)) {
        ab_message_set(message, "%s: belongs to %s %.*s, this is %s: check data_dir in the configuration",
                       node->config.data_dir, strcmp(key, AB_KEY_NODE) == 0 ? "node" : "cluster", (int)size,
                       (const char *)data, ours);
        code = AB_EIDENTITY;
    }
    free(data);
    return code;
}

/* A start after which tails may be missing begins a new generation, before anything else: a group keeps its epoch only if
 * it was opened in the current one, however many runs ago the crash was. */
static int load_generation(ab_node *node)
{
    ab_bytes key = {AB_KEY_GENERATION, sizeof AB_KEY_GENERATION - 1};
    void *data = NULL;
    size_t size = 0;
    int code = ab_wal_state_get(node->wal, 0, key, &data, &size);
    bool known = code == AB_OK && size == sizeof node->generation;
    if (known) {
        memcpy(&node->generation, data, size);
    }
    free(data);
    if ((code != AB_OK && code != AB_ENOTFOUND) || (known && node->origin.tail_safe)) {
        return code;
    }
    node->generation = node->seed;
    ab_wal_op op = {
        .type = AB_WAL_PUT_STATE, .key = key, .data = {&node->generation, sizeof node->generation}};
    return ab_wal_commit(node->wal, &op, 1, NULL);
}

static int open_log(ab_node *node, ab_message *message)
{
    ab_wal_options options = {.durability = node->config.durability, .max_bytes = node->config.log_max_bytes};
    int code = ab_wal_open(node->config.data_dir, &options, &node->wal, &node->origin, message);
    if (code != AB_OK) {
        return code;
    }
    code = load_generation(node);
    if (code != AB_OK) {
        ab_wal_message(node->wal, message != NULL ? message : &(ab_message){{0}});
        ab_wal_abandon(node->wal); /* groups must not take this for a run that kept their tails */
        node->wal = NULL;
        return code;
    }
    char id[16];
    snprintf(id, sizeof id, "%u", node->config.node_id);
    code = check_owner(node, AB_KEY_CLUSTER, node->config.cluster, message);
    return code == AB_OK ? check_owner(node, AB_KEY_NODE, id, message) : code;
}

static int start_links(ab_node *node, ab_message *message)
{
    const ab_node_config *config = &node->config;
    ab_transport_config links = {.cluster = config->cluster,
                                 .node_id = config->node_id,
                                 .listen_host = config->listen_host,
                                 .listen_port = config->listen_port,
                                 .peers = config->peers,
                                 .peer_count = config->peer_count,
                                 .threads = config->dispatcher_threads,
                                 .retry_min_ms = config->retry_min_ms,
                                 .retry_max_ms = config->retry_max_ms,
                                 .seed = node->seed,
                                 .queue_max_bytes = config->memory_budget / LINK_SHARE,
                                 .budget = &node->budget};
    memcpy(links.store_id, node->origin.store_id, sizeof links.store_id);
    int code = ab_links_load(node);
    if (code != AB_OK) {
        return code;
    }
    return ab_transport_start(&links, &ab_link_callbacks, node, &node->transport, message);
}

static int start_threads(ab_node *node, ab_message *message)
{
    int code = ab_completions_start(node);
    if (code == AB_OK) {
        code = ab_apply_start(node);
    }
    if (code == AB_OK) {
        code = ab_reader_start(node);
    }
    if (code == AB_OK) {
        code = ab_wal_thread_start(node);
    }
    if (code != AB_OK) {
        ab_message_set(message, "cannot start the threads of the node: %s", ab_strerror(code));
    }
    return code;
}

static void free_node(ab_node *node)
{
    while (node->backends != NULL) {
        ab_backend_entry *entry = node->backends;
        node->backends = entry->next;
        free(entry);
    }
    free(node->peer_stores);
    ab_cache_free(&node->cache);
    ab_completions_free(node);
    ab_pool_free(node->budget.pool);
    pthread_rwlock_destroy(&node->registry);
    pthread_mutex_destroy(&node->opening);
    pthread_mutex_destroy(&node->message_lock);
    free_config(&node->config);
    free(node);
}

/* Stops whatever runs. Groups are closed. @return AB_ETIMEDOUT: an apply thread is stuck and the node must stay */
static int stop_all(ab_node *node)
{
    if (node->admin != NULL) {
        ab_admin_stop(node->admin);
        node->admin = NULL;
    }
    ab_reader_stop(node);
    ab_wal_thread_stop(node);
    if (node->transport != NULL) {
        ab_transport_stop(node->transport);
    }
    int code = ab_apply_stop(node);
    ab_wal_thread_drain(node);
    ab_completions_stop(node);
    if (node->log.lost_announced) {
        ab_wal_abandon(node->wal);
    } else {
        ab_wal_close(node->wal);
    }
    return code;
}

static ab_node *new_node(const ab_node_config *config)
{
    ab_node *node = calloc(1, sizeof *node);
    if (node == NULL || copy_config(config, &node->config) != AB_OK) {
        free(node);
        return NULL;
    }
    node->budget.limit = config->memory_budget;
    node->budget.pool = ab_pool_new((size_t)(config->memory_budget / POOL_SHARE)); /* it goes without, too */
    node->opened_ns = ab_monotonic_ns();
    if (getrandom(&node->seed, sizeof node->seed, 0) != (ssize_t)sizeof node->seed) {
        node->seed = node->opened_ns;
    }
    pthread_mutex_init(&node->opening, NULL);
    pthread_rwlock_init(&node->registry, NULL);
    pthread_mutex_init(&node->message_lock, NULL);
    ab_completions_init(node);
    ab_cache_init(&node->cache, config->memory_budget / CACHE_SHARE);
    return node;
}

const ab_backend *ab_backend_built_in(size_t position)
{
    static const ab_backend *const all[] = {&ab_backend_standalone, &ab_backend_multimaster};
    return position < sizeof all / sizeof *all ? all[position] : NULL;
}

int ab_node_open(const ab_node_config *config, ab_node **node_out, ab_message *message)
{
    if (config == NULL || node_out == NULL) {
        return AB_EINVAL;
    }
    *node_out = NULL;
    ab_message_set(message, "%s", "");
    int code = ab_node_config_check(config, message);
    if (code != AB_OK) {
        return code;
    }
    ab_node *node = new_node(config);
    if (node == NULL) {
        return AB_ENOMEM;
    }
    code = open_log(node, message);
    for (size_t i = 0; code == AB_OK && ab_backend_built_in(i) != NULL; i++) {
        code = ab_node_register_backend(node, ab_backend_built_in(i));
    }
    if (code == AB_OK) {
        code = start_threads(node, message);
    }
    if (code == AB_OK) { /* the links bring work to the threads */
        code = start_links(node, message);
    }
    if (code == AB_OK) {
        code = ab_admin_start(node, node->config.data_dir, NULL, &node->admin, message);
    }
    if (code != AB_OK) {
        if (message != NULL && message->text[0] == '\0') {
            ab_message_set(message, "%s: %s", config->data_dir, ab_strerror(code));
        }
        atomic_store(&node->closing, true);
        (void)stop_all(node);
        free_node(node);
        return code;
    }
    *node_out = node;
    return AB_OK;
}

/* Any group that is still open; NULL if there is none. */
static ab_group *next_open(ab_node *node)
{
    ab_group *found = NULL;
    pthread_rwlock_rdlock(&node->registry);
    for (ab_group *group = node->groups.first; group != NULL && found == NULL; group = group->next) {
        if (!atomic_load(&group->closing)) {
            found = group;
        }
    }
    pthread_rwlock_unlock(&node->registry);
    return found;
}

int ab_node_close(ab_node *node)
{
    if (node == NULL) {
        return AB_EINVAL;
    }
    pthread_mutex_lock(&node->opening); /* no group is registered after this */
    bool again = atomic_exchange(&node->closing, true);
    pthread_mutex_unlock(&node->opening);
    if (again) {
        return AB_ECLOSED;
    }
    atomic_store(&node->stop_at, ab_monotonic_ns() + node->config.stop_timeout_ms * 1000000ull);
    if (node->admin != NULL) { /* it looks at groups */
        ab_admin_stop(node->admin);
        node->admin = NULL;
    }
    int code = AB_OK;
    for (ab_group *group = next_open(node); group != NULL; group = next_open(node)) {
        int closed = ab_group_close(group);
        code = code == AB_OK ? closed : code;
    }
    int stopped = stop_all(node);
    if (stopped != AB_OK) {
        return stopped; /* somebody is still in a state machine: the memory stays theirs */
    }
    free_node(node);
    return code;
}

int ab_node_register_backend(ab_node *node, const ab_backend *backend)
{
    if (node == NULL || backend == NULL || backend->name == NULL || strlen(backend->name) > AB_NAME_MAX) {
        return AB_EINVAL;
    }
    if (backend->version != AB_BACKEND_VERSION) {
        return AB_EVERSION;
    }
    if (ab_node_backend(node, backend->name) != NULL) {
        return AB_EEXIST;
    }
    ab_backend_entry *entry = calloc(1, sizeof *entry);
    if (entry == NULL) {
        return AB_ENOMEM;
    }
    entry->backend = backend;
    pthread_rwlock_wrlock(&node->registry);
    entry->next = node->backends;
    node->backends = entry;
    pthread_rwlock_unlock(&node->registry);
    return AB_OK;
}

const ab_backend *ab_node_backend(ab_node *node, const char *name)
{
    const ab_backend *found = NULL;
    pthread_rwlock_rdlock(&node->registry);
    for (ab_backend_entry *entry = node->backends; entry != NULL && found == NULL; entry = entry->next) {
        if (strcmp(entry->backend->name, name) == 0) {
            found = entry->backend;
        }
    }
    pthread_rwlock_unlock(&node->registry);
    return found;
}
