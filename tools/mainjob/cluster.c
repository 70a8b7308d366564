/* SPDX-License-Identifier: Apache-2.0 */
/* Processes on loopback. One thread; see the header. */
#include "tools/mainjob/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_TIMEOUT_MS 30000u
#define END_TIMEOUT_MS 30000u
/* Below the range from which the system takes ports of outgoing connections: nobody takes one between our choice and
 * the daemon's bind by chance. */
#define PORT_FIRST 20000u
#define PORT_COUNT 12000u

static bool fail(ab_cluster *cluster, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(ab_cluster *cluster, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(cluster->error, sizeof cluster->error, format, args);
    va_end(args);
    return false;
}

uint64_t ab_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void ab_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

static bool is_free(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return is;
}

static uint16_t choose_port(unsigned *at)
{
    for (unsigned tries = 0; tries < PORT_COUNT; tries++) {
        uint16_t port = (uint16_t)(PORT_FIRST + (*at)++ % PORT_COUNT);
        if (is_free(port)) {
            return port;
        }
    }
    return 0;
}

static bool write_config(ab_cluster *cluster, size_t i, const ab_cluster_options *options)
{
    ab_cluster_node *node = &cluster->nodes[i];
    char path[300];
    snprintf(path, sizeof path, "%s/config.yaml", node->dir);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return fail(cluster, "%s: %s", path, strerror(errno));
    }
    fprintf(file, "node:\n  cluster: mainjob\n  node_id: %u\n  listen_host: 127.0.0.1\n  listen_port: %u\n",
            (unsigned)node->id, (unsigned)node->port);
    if (options->data_dir[i] != NULL) {
        fprintf(file, "  data_dir: %s\n", options->data_dir[i]);
    } else {
        fprintf(file, "  data_dir: %s/data\n", node->dir);
    }
    fprintf(file, "  durability: sync\n%s", options->node_extra != NULL ? options->node_extra : "");
    fprintf(file, cluster->count > 1 ? "  peers:\n" : "");
    for (size_t k = 0; k < cluster->count; k++) {
        if (k != i) {
            fprintf(file, "    - {node_id: %u, host: 127.0.0.1, port: %u}\n", (unsigned)cluster->nodes[k].id,
                    (unsigned)cluster->nodes[k].port);
        }
    }
    fprintf(file, "application:\n  http_host: 127.0.0.1\n  http_port: 0\n  groups: %u\n%s", options->groups,
            options->application_extra != NULL ? options->application_extra : "");
    return fclose(file) == 0 || fail(cluster, "%s: %s", path, strerror(errno));
}

bool ab_cluster_init(ab_cluster *cluster, const ab_cluster_options *options)
{
    unsigned at = (unsigned)getpid() * 7u;
    *cluster = (ab_cluster){.count = options->count};
    snprintf(cluster->bin, sizeof cluster->bin, "%s", options->bin);
    for (size_t i = 0; i < options->count; i++) {
        ab_cluster_node *node = &cluster->nodes[i];
        node->id = (uint32_t)i + 1;
        node->port = choose_port(&at);
        snprintf(node->dir, sizeof node->dir, "%s/node%zu", options->dir, i + 1);
        if (node->port == 0) {
            return fail(cluster, "no free port");
        }
        if (mkdir(node->dir, 0700) != 0) {
            return fail(cluster, "%s: %s", node->dir, strerror(errno));
        }
    }
    for (size_t i = 0; i < options->count; i++) {
        if (!write_config(cluster, i, options)) {
            return false;
        }
    }
    return true;
}

/* In the child: never returns. */
static void run_daemon(const char *bin, const char *dir, pid_t parent)
{
    char program[300];
    char config[300];
    char ready[300];
    char log[300];
    snprintf(program, sizeof program, "%s/anabranchd", bin);
    snprintf(config, sizeof config, "%s/config.yaml", dir);
    snprintf(ready, sizeof ready, "%s/ready", dir);
    snprintf(log, sizeof log, "%s/log", dir);
    /* A parent that dies takes its daemons with it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (getppid() != parent || fd < 0 || dup2(fd, STDERR_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0) {
        _exit(127);
    }
    close(fd);
    execl(program, program, "--config", config, "--ready-file", ready, (char *)NULL);
    fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

static bool read_ready(const char *path, pid_t pid, uint16_t *port)
{
    unsigned http = 0;
    unsigned node = 0;
    long who = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    bool read = fscanf(file, "http=%u node=%u pid=%ld", &http, &node, &who) == 3 && who == (long)pid;
    fclose(file);
    *port = (uint16_t)http;
    return read;
}

bool ab_cluster_start(ab_cluster *cluster, size_t i)
{
    ab_cluster_node *node = &cluster->nodes[i];
    char ready[300];
    uint16_t port = 0;
    pid_t parent = getpid();
    snprintf(ready, sizeof ready, "%s/ready", node->dir);
    unlink(ready);
    pid_t pid = fork();
    if (pid == 0) {
        run_daemon(cluster->bin, node->dir, parent);
    }
    if (pid < 0) {
        return fail(cluster, "fork: %s", strerror(errno));
    }
    node->pid = pid;
    for (uint64_t until = ab_now_ms() + READY_TIMEOUT_MS; ab_now_ms() < until; ab_pause()) {
        if (read_ready(ready, pid, &port)) {
            atomic_store(&node->http_port, port);
            return true;
        }
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            node->pid = 0;
            return fail(cluster, "node %u ended while it was starting: see %s/log", (unsigned)node->id,
                        node->dir);
        }
    }
    return fail(cluster, "node %u does not get ready: see %s/log", (unsigned)node->id, node->dir);
}

bool ab_cluster_signal(ab_cluster *cluster, size_t i, int number, int *status)
{
    ab_cluster_node *node = &cluster->nodes[i];
    if (node->pid == 0 || kill(node->pid, number) != 0) {
        return fail(cluster, "node %u is not running", (unsigned)node->id);
    }
    if (number != SIGKILL && number != SIGTERM && number != SIGINT) {
        return true;
    }
    atomic_store(&node->http_port, 0);
    int ended = 0;
    for (uint64_t until = ab_now_ms() + END_TIMEOUT_MS; ab_now_ms() < until; ab_pause()) {
        if (waitpid(node->pid, &ended, WNOHANG) == node->pid) {
            node->pid = 0;
            if (status != NULL) {
                *status = ended;
            }
            return true;
        }
    }
    return fail(cluster, "node %u does not end: see %s/log", (unsigned)node->id, node->dir);
}

void ab_cluster_stop(ab_cluster *cluster)
{
    for (size_t i = 0; i < cluster->count; i++) {
        if (cluster->nodes[i].pid != 0) {
            kill(cluster->nodes[i].pid, SIGKILL);
            waitpid(cluster->nodes[i].pid, NULL, 0);
            cluster->nodes[i].pid = 0;
        }
    }
}

uint16_t ab_cluster_http_port(const ab_cluster *cluster, size_t i)
{
    return atomic_load(&cluster->nodes[i].http_port);
}

/* GET /digest of a node as text (freed by the caller), NULL: no answer. */
static char *get_digest(const ab_cluster *cluster, size_t i)
{
    ab_httpc client;
    ab_httpc_answer answer;
    char *text = NULL;
    if (!ab_httpc_init(&client)) {
        return NULL;
    }
    if (ab_httpc_get(&client, ab_cluster_http_port(cluster, i), "/digest", &answer) && answer.status == 200) {
        text = strdup(answer.body);
    }
    ab_httpc_free(&client);
    return text;
}

/* Whether all nodes answer the same now. */
static bool agree(const ab_cluster *cluster, char **text)
{
    bool same = true;
    *text = get_digest(cluster, 0);
    for (size_t i = 1; i < cluster->count && same && *text != NULL; i++) {
        char *other = get_digest(cluster, i);
        same = other != NULL && strcmp(*text, other) == 0;
        free(other);
    }
    return same && *text != NULL;
}

bool ab_cluster_converge(ab_cluster *cluster, unsigned timeout_ms, char **text)
{
    uint64_t until = ab_now_ms() + timeout_ms;
    for (;;) {
        char *digest = NULL;
        if (agree(cluster, &digest)) {
            if (text != NULL) {
                *text = digest;
            } else {
                free(digest);
            }
            return true;
        }
        free(digest);
        if (ab_now_ms() >= until) {
            return fail(cluster, "the digests still differ after %u ms", timeout_ms);
        }
        ab_pause();
    }
}

bool ab_cluster_export(ab_cluster *cluster, size_t i, const char *path)
{
    ab_httpc client;
    ab_httpc_answer answer = {0};
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return fail(cluster, "%s: %s", path, strerror(errno));
    }
    bool got = ab_httpc_init(&client) && ab_httpc_request(&client, ab_cluster_http_port(cluster, i), "GET",
                                                          "/export", NULL, "", 0, file, &answer);
    ab_httpc_free(&client);
    bool stored = fclose(file) == 0;
    if (!got || answer.status != 200 || !stored) {
        return fail(cluster, "export of node %zu failed (status %d)", i + 1, answer.status);
    }
    return true;
}
