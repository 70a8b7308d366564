/* SPDX-License-Identifier: Apache-2.0 */
/* Directories, processes and connections of a run, see site.h. Main thread. */
#include "tests/compare/site.h"
#include "tools/anabranch/bench_sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MS 10000
#define RECEIVE_BYTES 65536u
#define LOG_TAIL 400

int ab_cmp_fail(struct ab_cmp_site *site, const char *format, ...)
{
    if (!site->error[0]) {
        va_list args;
        va_start(args, format);
        vsnprintf(site->error, sizeof site->error, format, args);
        va_end(args);
    }
    return -1;
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Ports that were free a moment ago; all are held until the last is known, so that they differ. */
static int find_ports(struct ab_cmp_site *site)
{
    enum { COUNT = sizeof site->ports / sizeof site->ports[0] };
    int fds[COUNT], rc = 0;
    for (int i = 0; i < COUNT; i++) {
        struct sockaddr_in address = loopback(0);
        socklen_t length = sizeof address;
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fds[i] < 0 || bind(fds[i], (struct sockaddr *)&address, sizeof address) != 0 ||
            getsockname(fds[i], (struct sockaddr *)&address, &length) != 0) {
            rc = ab_cmp_fail(site, "a free port: %s", strerror(errno));
        }
        site->ports[i] = ntohs(address.sin_port);
    }
    for (int i = 0; i < COUNT; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    return rc;
}

int ab_cmp_site_open(struct ab_cmp_site *site, const char *name)
{
    site->count = 0;
    int n = snprintf(site->dir, sizeof site->dir, "%s/%s", site->base, name);
    if (n < 0 || (size_t)n >= sizeof site->dir - 64) {
        return ab_cmp_fail(site, "%s: path too long", site->base);
    }
    if (mkdir(site->dir, 0700) != 0) {
        return ab_cmp_fail(site, "%s: %s", site->dir, strerror(errno));
    }
    return find_ports(site);
}

/* Looks whether a process has ended. */
static void look_at(struct ab_cmp_process *process, int options)
{
    if (!process->ended && waitpid(process->pid, &process->status, options) == process->pid) {
        process->ended = true;
    }
}

/* The end of what a node's program said, into the error. */
static void add_log(struct ab_cmp_site *site, uint32_t node)
{
    char path[AB_CMP_PATH_MAX + 32], tail[LOG_TAIL + 1];
    snprintf(path, sizeof path, "%s/node%u.log", site->dir, node + 1);
    FILE *file = fopen(path, "re");
    if (!file) {
        return;
    }
    if (fseek(file, -LOG_TAIL, SEEK_END) != 0) {
        rewind(file);
    }
    size_t size = fread(tail, 1, LOG_TAIL, file);
    tail[size] = '\0';
    fclose(file);
    size_t used = strlen(site->error);
    snprintf(site->error + used, sizeof site->error - used, "; the end of its log:\n%s", tail);
}

void ab_cmp_site_close(struct ab_cmp_site *site)
{
    for (uint32_t i = 0; i < site->count; i++) {
        look_at(&site->processes[i], WNOHANG);
        if (!site->processes[i].ended) {
            kill(-site->processes[i].pid, SIGKILL);
            look_at(&site->processes[i], 0);
        }
    }
    site->count = 0;
    if (!site->options->keep && ab_bench_remove_tree(site->dir) != 0) {
        fprintf(stderr, "compare: removing %s: %s\n", site->dir, strerror(errno));
    }
}

int ab_cmp_site_file(struct ab_cmp_site *site, uint32_t node, const char *name, const char *text)
{
    char path[AB_CMP_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/node%u", site->dir, node + 1);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return ab_cmp_fail(site, "%s: %s", path, strerror(errno));
    }
    if (!text) {
        return 0;
    }
    snprintf(path, sizeof path, "%s/node%u/%s", site->dir, node + 1, name);
    FILE *file = fopen(path, "we");
    if (!file) {
        return ab_cmp_fail(site, "%s: %s", path, strerror(errno));
    }
    bool written = fputs(text, file) >= 0;
    return fclose(file) == 0 && written ? 0 : ab_cmp_fail(site, "%s: %s", path, strerror(errno));
}

/* In the child: everything that makes it a server of its own which dies with its parent. */
static void become(const struct ab_cmp_site *site, char *const argv[], pid_t parent)
{
    char path[AB_CMP_PATH_MAX + 64];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(path, sizeof path, "%s/node%u.log", site->dir, site->count + 1);
    int log = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int null = open("/dev/null", O_RDONLY);
    snprintf(path, sizeof path, "%s/node%u", site->dir, site->count + 1);
    if (getppid() != parent || log < 0 || null < 0 || chdir(path) != 0) {
        _exit(126);
    }
    dup2(null, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execvp(argv[0], argv);
    fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int ab_cmp_site_start(struct ab_cmp_site *site, char *const argv[])
{
    if (ab_cmp_site_file(site, site->count, "", NULL) != 0) {
        return -1;
    }
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        return ab_cmp_fail(site, "starting %s: %s", argv[0], strerror(errno));
    }
    if (pid == 0) {
        become(site, argv, parent);
    }
    setpgid(pid, pid); /* whoever of both comes first */
    site->processes[site->count++] = (struct ab_cmp_process){.pid = pid};
    return 0;
}

static int cancelled(struct ab_cmp_site *site)
{
    site->cancelled = true;
    return ab_cmp_fail(site, "interrupted");
}

int ab_cmp_pause(struct ab_cmp_site *site, uint32_t ms, uint64_t until, const char *what)
{
    struct pollfd fd = {.fd = site->cancel_fd, .events = POLLIN};
    if (poll(&fd, 1, (int)ms) > 0) {
        return cancelled(site);
    }
    for (uint32_t i = 0; i < site->count; i++) {
        look_at(&site->processes[i], WNOHANG);
        if (site->processes[i].ended) {
            ab_cmp_fail(site, "node %u ended by itself (status %d)", i + 1, site->processes[i].status);
            add_log(site, i);
            return -1;
        }
    }
    if (ab_bench_now() < until) {
        return 0;
    }
    ab_cmp_fail(site, "%s: it takes too long", what);
    if (site->count > 0) {
        add_log(site, 0);
    }
    return -1;
}

int ab_cmp_site_wait(struct ab_cmp_site *site, uint64_t until)
{
    struct ab_cmp_process *process = &site->processes[0];
    struct pollfd fd = {.fd = site->cancel_fd, .events = POLLIN};
    for (;;) {
        look_at(process, WNOHANG);
        if (process->ended) {
            int code = WIFEXITED(process->status) ? WEXITSTATUS(process->status) : 128;
            if (code != 0) {
                ab_cmp_fail(site, "it failed with status %d", code);
                add_log(site, 0);
            }
            return code;
        }
        if (poll(&fd, 1, 20) > 0 || ab_bench_now() >= until) {
            break;
        }
    }
    kill(process->pid, SIGTERM); /* it cleans up */
    uint64_t patience = ab_bench_now() + 5000000000u;
    while (!process->ended && ab_bench_now() < patience) {
        look_at(process, WNOHANG);
        poll(NULL, 0, 10);
    }
    return fd.revents ? cancelled(site) : ab_cmp_fail(site, "it takes too long");
}

/* User and system time of a process and of its children that it has waited for. */
static uint64_t cpu_of(pid_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    size_t size = file ? fread(line, 1, sizeof line - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    line[size] = '\0';
    const char *at = strrchr(line, ')'); /* the name before it may hold anything */
    uint64_t ticks[4] = {0}, hz = (uint64_t)sysconf(_SC_CLK_TCK);
    if (!at || sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu", &ticks[0],
                      &ticks[1], &ticks[2], &ticks[3]) != 4) {
        return 0;
    }
    return (ticks[0] + ticks[1] + ticks[2] + ticks[3]) * (1000000000u / hz);
}

uint64_t ab_cmp_site_cpu_ns(const struct ab_cmp_site *site)
{
    struct ab_bench_usage own;
    ab_bench_usage_get(&own);
    uint64_t sum = own.cpu_ns;
    for (uint32_t i = 0; i < site->count; i++) {
        sum += cpu_of(site->processes[i].pid);
    }
    return sum;
}

int ab_cmp_dial(uint16_t port)
{
    struct sockaddr_in address = loopback(port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int code = errno;
        close(fd);
        errno = code;
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

int ab_cmp_line_send(struct ab_cmp_site *site, struct ab_cmp_line *line, struct ab_cmp_bytes *out)
{
    if (out->failed) {
        return ab_cmp_fail(site, "out of memory");
    }
    while (ab_cmp_bytes_size(out) > 0) {
        ssize_t n = send(line->fd, ab_cmp_bytes_data(out), ab_cmp_bytes_size(out), MSG_NOSIGNAL);
        if (n < 0) {
            return ab_cmp_fail(site, "asking a server: %s", strerror(errno));
        }
        ab_cmp_bytes_consume(out, (size_t)n);
    }
    return 0;
}

int ab_cmp_line_receive(struct ab_cmp_site *site, struct ab_cmp_line *line)
{
    struct pollfd fds[2] = {{.fd = line->fd, .events = POLLIN}, {.fd = site->cancel_fd, .events = POLLIN}};
    int ready = poll(fds, 2, ANSWER_MS);
    if (fds[1].revents) {
        return cancelled(site);
    }
    if (ready <= 0) {
        return ab_cmp_fail(site, "a server does not answer");
    }
    uint8_t *room = ab_cmp_bytes_room(&line->in, RECEIVE_BYTES);
    if (!room) {
        return ab_cmp_fail(site, "out of memory");
    }
    ssize_t n = recv(line->fd, room, RECEIVE_BYTES, 0);
    if (n <= 0) {
        return ab_cmp_fail(site, "asking a server: %s", n == 0 ? "it hung up" : strerror(errno));
    }
    ab_cmp_bytes_grow(&line->in, (size_t)n);
    return 0;
}

void ab_cmp_line_close(struct ab_cmp_line *line)
{
    if (line->fd >= 0) {
        close(line->fd);
    }
    line->fd = -1;
    ab_cmp_bytes_free(&line->in);
}
