/* SPDX-License-Identifier: Apache-2.0 */
/* The child processes of one run, see bench_crew.h. Main thread of the bench. */
#include "tools/anabranch/bench_crew.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_TIMEOUT_NS 60000000000ull
#define QUIT_TIMEOUT_NS 60000000000ull
#define LEAVE_TIMEOUT_NS 15000000000ull
#define LEAVE_POLL_NS 2000000u

extern char **environ;

struct ab_bench_crew *ab_bench_crew_new(const char *what, int cancel_fd, FILE *err)
{
    struct ab_bench_crew *crew = calloc(1, sizeof *crew);
    if (crew) {
        crew->what = what;
        crew->cancel_fd = cancel_fd;
        crew->err = err;
    }
    return crew;
}

/* The bench has signals blocked for its descriptor of them; a child must die of them as any program does. */
static int spawn_attributes(posix_spawnattr_t *attr)
{
    sigset_t none;
    sigemptyset(&none);
    int rc = posix_spawnattr_init(attr);
    if (rc == 0) {
        posix_spawnattr_setsigmask(attr, &none);
        posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK);
    }
    return rc;
}

static int spawn_self(int child_fd, pid_t *pid)
{
    char *argv[] = {(char[]){"anabranch"}, (char[]){"bench"}, (char[]){"--child"}, NULL};
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t actions;
    int rc = spawn_attributes(&attr);
    if (rc) {
        return rc;
    }
    rc = posix_spawn_file_actions_init(&actions);
    if (rc == 0) {
        posix_spawn_file_actions_adddup2(&actions, child_fd, STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
        rc = posix_spawn(pid, "/proc/self/exe", &actions, &attr, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    posix_spawnattr_destroy(&attr);
    return rc;
}

static int complain(const struct ab_bench_crew *crew, uint32_t position, const char *what)
{
    fprintf(crew->err, "anabranch bench: %s %u: %s\n", crew->what, position + 1, what);
    return 1;
}

static int complain_ended(const struct ab_bench_crew *crew, uint32_t position, int status)
{
    char text[64] = "ended unexpectedly";
    if (WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "ended by signal %d", WTERMSIG(status));
    } else if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        snprintf(text, sizeof text, "ended with exit status %d", WEXITSTATUS(status));
    }
    return complain(crew, position, text);
}

/* It has closed its end: say how it ended. */
static int complain_gone(struct ab_bench_crew *crew, uint32_t position)
{
    struct ab_bench_member *member = &crew->members[position];
    int status = 0;
    if (waitpid(member->pid, &status, 0) == member->pid) {
        member->pid = 0;
    }
    return complain_ended(crew, position, status);
}

static int await_one(struct ab_bench_crew *crew, uint32_t position, enum ab_bench_msg_type type,
                     uint64_t until)
{
    struct ab_bench_member *member = &crew->members[position];
    switch (ab_bench_receive(member->fd, &member->last, until, crew->cancel_fd)) {
    case AB_BENCH_RECV_OK:
        break;
    case AB_BENCH_RECV_TIMEOUT:
        return complain(crew, position, "does not answer in time");
    case AB_BENCH_RECV_CANCELLED:
        fprintf(crew->err, "anabranch bench: interrupted\n");
        return 1;
    default:
        return complain_gone(crew, position);
    }
    if (member->last.type == AB_BENCH_MSG_ERROR) {
        return complain(crew, position, member->last.as.text);
    }
    if (member->last.type != (uint32_t)type) {
        return complain(crew, position, "answers out of order");
    }
    return 0;
}

int ab_bench_crew_add(struct ab_bench_crew *crew, const struct ab_bench_setup *setup)
{
    uint32_t position = crew->count;
    struct ab_bench_member *member = &crew->members[position];
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return complain(crew, position, strerror(errno));
    }
    int rc = spawn_self(fds[1], &member->pid);
    close(fds[1]);
    if (rc) {
        member->pid = 0;
        close(fds[0]);
        return complain(crew, position, strerror(rc));
    }
    member->fd = fds[0];
    crew->count++;
    if (ab_bench_send(member->fd, AB_BENCH_MSG_SETUP, setup, sizeof *setup) != 0) {
        return complain_gone(crew, position);
    }
    return await_one(crew, position, AB_BENCH_MSG_READY, ab_bench_now() + READY_TIMEOUT_NS);
}

void ab_bench_crew_order(struct ab_bench_crew *crew, enum ab_bench_msg_type type, const void *body,
                         size_t size)
{
    for (uint32_t i = 0; i < crew->count; i++) {
        /* one that is gone may have said why: awaiting its answer finds that */
        ab_bench_send(crew->members[i].fd, type, body, size);
    }
}

int ab_bench_crew_await(struct ab_bench_crew *crew, enum ab_bench_msg_type type, uint64_t timeout_ns)
{
    uint64_t until = ab_bench_now() + timeout_ns;
    for (uint32_t i = 0; i < crew->count; i++) {
        if (await_one(crew, i, type, until) != 0) {
            return 1;
        }
    }
    return 0;
}

/* Waits for its end, kills it if that takes too long. @return its wait status, or 0 if it was gone already */
static int leave(struct ab_bench_member *member, uint64_t until)
{
    int status = 0;
    while (member->pid > 0) {
        pid_t ended = waitpid(member->pid, &status, WNOHANG);
        if (ended == member->pid || (ended < 0 && errno != EINTR)) {
            member->pid = 0;
        } else if (ab_bench_now() >= until) {
            kill(member->pid, SIGKILL);
            waitpid(member->pid, &status, 0);
            member->pid = 0;
        } else {
            ab_bench_sleep_until(ab_bench_now() + LEAVE_POLL_NS);
        }
    }
    return status;
}

int ab_bench_crew_dismiss(struct ab_bench_crew *crew)
{
    ab_bench_crew_order(crew, AB_BENCH_MSG_QUIT, NULL, 0);
    int rc = ab_bench_crew_await(crew, AB_BENCH_MSG_QUIT, QUIT_TIMEOUT_NS);
    uint64_t until = ab_bench_now() + LEAVE_TIMEOUT_NS;
    for (uint32_t i = 0; i < crew->count && rc == 0; i++) {
        int status = leave(&crew->members[i], until);
        if (status != 0) {
            rc = complain_ended(crew, i, status);
        }
    }
    return rc;
}

void ab_bench_crew_free(struct ab_bench_crew *crew)
{
    if (!crew) {
        return;
    }
    for (uint32_t i = 0; i < crew->count; i++) {
        close(crew->members[i].fd);
    }
    uint64_t until = ab_bench_now() + LEAVE_TIMEOUT_NS;
    for (uint32_t i = 0; i < crew->count; i++) {
        (void)leave(&crew->members[i], until);
    }
    free(crew);
}
