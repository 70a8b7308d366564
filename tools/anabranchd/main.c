/* SPDX-License-Identifier: Apache-2.0 */
/* anabranchd: options, signals, exit codes. The main thread waits for a signal; everything else runs on threads of the
 * node and of the HTTP server. */
#include "tools/anabranchd/daemon.h"
#include "tools/anabranchd/log.h"
#include "tools/anabranchd/notify.h"
#include "tools/anabranchd/ready.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXIT_FINE 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2

typedef struct arguments {
    const char *config;
    const char *ready_file;
    bool check;
} arguments;

static const char usage[] =
    "usage: anabranchd --config FILE [--check] [--ready-file PATH]\n"
    "\n"
    "Takes points in InfluxDB line protocol over HTTP and replicates them to its peers.\n"
    "\n"
    "  -c, --config FILE      YAML: node, groups, application (docs/ANABRANCHD.md)\n"
    "      --check            check the configuration and exit\n"
    "      --ready-file PATH  once it serves, write a line with its ports and pid there\n"
    "  -h, --help             this text\n"
    "  -V, --version          version\n"
    "\n"
    "SIGTERM and SIGINT stop it in order; SIGHUP reads the configuration again. Exit codes: 0 stopped in "
    "order, 1 failed, 2 usage or "
    "configuration.\n";

/* @return -1: go on; else exit with it */
static int read_arguments(int argc, char **argv, arguments *to)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},     {"check", no_argument, NULL, 'k'},
        {"ready-file", required_argument, NULL, 'r'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},          {NULL, 0, NULL, 0}};
    for (int option = 0; (option = getopt_long(argc, argv, "c:hV", options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            to->config = optarg;
            break;
        case 'k':
            to->check = true;
            break;
        case 'r':
            to->ready_file = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return EXIT_FINE;
        case 'V':
            printf("anabranchd %s\n", ab_version());
            return EXIT_FINE;
        default:
            fputs(usage, stderr);
            return EXIT_USAGE;
        }
    }
    if (to->config == NULL || optind != argc) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    return -1;
}

/* Connections and stores need descriptors: take all that the system allows without asking. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Closed ones would be the numbers of the first files that are opened, and log lines would go into those. */
static bool open_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
            return false;
        }
    }
    return true;
}

/* Blocked in all threads; the main thread fetches them. */
static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int wait_for_signal(ab_daemon *daemon, const sigset_t *signals)
{
    uint64_t ms = ab_daemon_look_ms(daemon);
    const struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    for (;;) {
        int caught = sigtimedwait(signals, NULL, &pause);
        if (caught > 0) {
            return caught;
        }
        ab_daemon_look(daemon);
    }
}

static int serve(ab_daemon *daemon, ab_ready *ready, const sigset_t *signals)
{
    ab_message message = {""};
    uint16_t http_port = ab_http_port(daemon->http);
    uint16_t node_port = ab_node_port(daemon->node);
    const ab_log_field fields[] = {
        {"http_host", daemon->settings->http_host, 0},  {"http_port", NULL, http_port},
        {"node_id", NULL, daemon->node_config.node_id}, {"node_port", NULL, node_port},
        {"groups", NULL, (int64_t)daemon->group_count}, {"version", ab_version(), 0}};
    ab_log_fields(AB_LOG_INFO, "ready", fields, sizeof fields / sizeof *fields);
    if (ab_ready_write(ready, http_port, node_port, &message) != AB_OK) {
        ab_log(AB_LOG_ERROR, "%s", message.text);
        return EXIT_FAILED;
    }
    ab_notify("READY=1\nSTATUS=serving\n");
    for (;;) {
        int caught = wait_for_signal(daemon, signals);
        if (caught != SIGHUP) {
            ab_notify("STOPPING=1\nSTATUS=stopping\n");
            ab_log_fields(AB_LOG_INFO, "stopping",
                          &(ab_log_field){"signal", caught == SIGTERM ? "SIGTERM" : "SIGINT", 0}, 1);
            break;
        }
        ab_notify("RELOADING=1\n");
        ab_daemon_reload(daemon);
        ab_notify("READY=1\n");
    }
    return EXIT_FINE;
}

/* LMDB allocates a commit's pages anew for each and frees them together; the C library would return them to the system
 * every time, and faulting them in again takes as long as writing them. */
static void keep_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

int main(int argc, char **argv)
{
    arguments given = {NULL, NULL, false};
    ab_daemon daemon;
    ab_ready ready;
    ab_message message = {""};
    sigset_t signals;
    int done = read_arguments(argc, argv, &given);
    if (done >= 0) {
        return done;
    }
    if (!open_standard_descriptors()) {
        return EXIT_FAILED; /* and nowhere to say why */
    }
    keep_memory();
    block_signals(&signals);
    raise_descriptor_limit();
    int code = ab_daemon_configure(&daemon, given.config, &message);
    if (code != AB_OK) {
        ab_log(AB_LOG_ERROR, "%s", message.text[0] != '\0' ? message.text : ab_strerror(code));
        ab_daemon_stop(&daemon);
        return EXIT_USAGE;
    }
    ab_log_configure(daemon.node_config.log_severity, daemon.settings->log_format);
    if (given.check) {
        printf("%s: configuration is fine\n", given.config);
        ab_daemon_stop(&daemon);
        return EXIT_FINE;
    }
    code = ab_ready_begin(&ready, given.ready_file, &message);
    code = code == AB_OK ? ab_daemon_start(&daemon, &message) : code;
    int status = EXIT_FAILED;
    if (code == AB_OK) {
        status = serve(&daemon, &ready, &signals);
    } else {
        ab_log(AB_LOG_ERROR, "%s", message.text[0] != '\0' ? message.text : ab_strerror(code));
        status = code == AB_ECONFIG ? EXIT_USAGE : EXIT_FAILED;
    }
    code = ab_daemon_stop(&daemon);
    ab_ready_end(&ready);
    if (code != AB_OK) {
        ab_log(AB_LOG_ERROR, "not stopped in order: %s", ab_strerror(code));
        return EXIT_FAILED;
    }
    if (status == EXIT_FINE) {
        ab_log(AB_LOG_INFO, "stopped");
    }
    return status;
}
