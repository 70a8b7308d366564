/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 at random moments, again and again on one directory. Under `sync` nothing that was confirmed is lost; under
 * `interval` (commits are announced before they are made) what is found is one of the announced moments, whole. In
 * both: no gap, the chain holds, small state agrees with the blocks it was written with. Parent and child process,
 * one thread each.
 *
 *   wal_crash [ROUNDS [SEED]]
 */
#include "tests/unit/test_wal_support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GROUPS 3
#define STREAMS 2
#define LANES (GROUPS * STREAMS)
#define OPS_MAX (LANES * 4)

/* The end of each stream. */
typedef struct moment {
    uint64_t last[LANES];
} moment;

typedef struct round_log {
    moment reported[2]; /* the latest and the one before it */
    unsigned long count;
} round_log;

static uint64_t rng_state;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static uint64_t lane_group(size_t lane)
{
    return lane / STREAMS + 1;
}

static ab_stream lane_stream(size_t lane)
{
    return (ab_stream){(uint32_t)(lane % STREAMS) + 1, 1};
}

static int failed(const char *what, int code)
{
    fprintf(stderr, "wal_crash: %s (%s)\n", what, code < 0 ? "code" : "-");
    fprintf(stderr, "wal_crash: code %d\n", code);
    return 1;
}

static ab_wal_options options_for(bool interval)
{
    return (ab_wal_options){.durability = interval ? AB_DURABILITY_INTERVAL : AB_DURABILITY_SYNC,
                            .max_bytes = 256u << 20};
}

/* --- the child ----------------------------------------------------------------------------------------------- */

static size_t lane_ops(size_t lane, ab_stream_state *state, ab_wal_op *ops, uint8_t **memory,
                       size_t *memories)
{
    size_t count = 0;
    for (uint64_t blocks = rng() % 3; blocks > 0; blocks--) {
        ab_block_header h;
        uint8_t *block = wt_block(lane_group(lane), lane_stream(lane), state->last + 1,
                                  (uint32_t)(rng() % 40) + 1, (size_t)(rng() % 600), state->last_hash, &h);
        memory[(*memories)++] = block;
        ops[count++] = (ab_wal_op){.type = AB_WAL_PUT_BLOCK, .data = {block, ab_block_size(&h)}};
        state->last = h.last;
        state->last_hash = h.checksum;
    }
    if (rng() % 4 == 0 && state->last > 400) {
        ops[count++] = (ab_wal_op){.type = AB_WAL_TRIM,
                                   .group = lane_group(lane),
                                   .stream = lane_stream(lane),
                                   .index = state->last - 400,
                                   .limit = 5};
    }
    return count;
}

/* Commits for ever. Reports each moment: after the commit, or before it (interval). */
static int child(const char *dir, bool interval, int pipe_fd)
{
    ab_wal *wal;
    ab_wal_options options = options_for(interval);
    ab_stream_state states[LANES];
    int code = ab_wal_open(dir, &options, &wal, NULL, NULL);
    if (code != AB_OK) {
        return failed("child cannot open", code);
    }
    for (size_t lane = 0; lane < LANES; lane++) {
        (void)wt_stream(wal, lane_group(lane), lane_stream(lane), &states[lane]);
    }
    for (;;) {
        ab_wal_op ops[OPS_MAX];
        uint8_t *memory[OPS_MAX];
        size_t count = 0;
        size_t memories = 0;
        moment m;
        for (size_t lane = 0; lane < LANES; lane++) {
            count += lane_ops(lane, &states[lane], ops + count, memory, &memories);
            m.last[lane] = states[lane].last;
        }
        for (size_t g = 0; g < GROUPS; g++) {
            ops[count++] = (ab_wal_op){.type = AB_WAL_PUT_STATE,
                                       .group = g + 1,
                                       .key = {"ends", 4},
                                       .data = {&m.last[g * STREAMS], STREAMS * sizeof(uint64_t)}};
        }
        if (interval && write(pipe_fd, &m, sizeof(m)) != sizeof(m)) {
            return failed("report", errno);
        }
        code = ab_wal_commit(wal, ops, count, NULL);
        if (code != AB_OK) {
            return failed("commit", code);
        }
        if (!interval && write(pipe_fd, &m, sizeof(m)) != sizeof(m)) {
            return failed("report", errno);
        }
        while (memories > 0) {
            free(memory[--memories]);
        }
    }
}

/* --- the parent ---------------------------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool read_report(int fd, round_log *log)
{
    moment m;
    size_t got = 0;
    while (got < sizeof(m)) {
        ssize_t n = read(fd, (char *)&m + got, sizeof(m) - got);
        if (n <= 0) {
            return false; /* a report cut short by the kill was not made */
        }
        got += (size_t)n;
    }
    log->reported[1] = log->reported[0];
    log->reported[0] = m;
    log->count++;
    return true;
}

static int run_and_kill(const char *dir, bool interval, round_log *log)
{
    int fds[2];
    int status;
    if (pipe(fds) != 0) {
        return failed("pipe", errno);
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        _exit(child(dir, interval, fds[1]));
    }
    close(fds[1]);
    (void)rng();
    bool alive = pid > 0;
    for (uint64_t reports = rng() % 6; reports > 0 && alive; reports--) {
        alive = read_report(fds[0], log);
    }
    int64_t until = now_ns() + (int64_t)(rng() % 3000000);
    while (now_ns() < until) { /* no sleep: its grain is coarser than a commit */
    }
    kill(pid, SIGKILL);
    while (read_report(fds[0], log)) {
    }
    close(fds[0]);
    if (pid <= 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)) {
        return failed("the child ended by itself", errno);
    }
    return 0;
}

static int found(ab_wal *wal, moment *m)
{
    for (size_t lane = 0; lane < LANES; lane++) {
        ab_stream_state state;
        (void)wt_stream(wal, lane_group(lane), lane_stream(lane), &state);
        m->last[lane] = state.last;
        int code = wt_read_all(wal, lane_group(lane), &state);
        if (code != AB_OK) {
            return failed("a stream is not whole", code);
        }
    }
    for (size_t g = 0; g < GROUPS; g++) {
        void *data = NULL;
        size_t size = 0;
        int code = ab_wal_state_get(wal, g + 1, (ab_bytes){"ends", 4}, &data, &size);
        bool same = code == AB_OK
                        ? size == STREAMS * sizeof(uint64_t) && memcmp(data, &m->last[g * STREAMS], size) == 0
                        : code == AB_ENOTFOUND && m->last[g * STREAMS] == 0 && m->last[g * STREAMS + 1] == 0;
        free(data);
        if (!same) {
            return failed("small state does not agree with the blocks", code);
        }
    }
    int faults = wt_verify(wal);
    return faults == 0 ? 0 : failed("verify", faults);
}

static int inspect(const char *dir, bool interval, const round_log *log, const moment *before, moment *after)
{
    ab_wal *wal;
    ab_message message;
    ab_wal_origin origin;
    ab_wal_options options = {.read_only = true};
    int code = ab_wal_open(dir, &options, &wal, &origin, &message);
    if (code == AB_ENOTFOUND && log->count == 0) {
        memset(after, 0, sizeof(*after)); /* killed before there was a log */
        return 0;
    }
    if (code != AB_OK) {
        fprintf(stderr, "wal_crash: %s\n", message.text);
        return failed("cannot open", code);
    }
    int result = found(wal, after);
    ab_wal_close(wal);
    const moment *confirmed = log->count > 0 ? &log->reported[0] : before;
    const moment *earlier = log->count > 1 ? &log->reported[1] : before;
    if (result != 0) {
        return result;
    }
    if (interval) {
        bool known =
            memcmp(after, confirmed, sizeof(*after)) == 0 || memcmp(after, earlier, sizeof(*after)) == 0;
        return known ? 0 : failed("not one of the announced moments", 0);
    }
    for (size_t lane = 0; lane < LANES; lane++) {
        if (after->last[lane] < confirmed->last[lane]) {
            return failed("a confirmed block is gone", (int)lane);
        }
    }
    return 0;
}

static int tail_is(const char *dir, bool safe)
{
    ab_wal *wal;
    ab_wal_origin origin;
    ab_wal_options options = {.read_only = true};
    int code = ab_wal_open(dir, &options, &wal, &origin, NULL);
    if (code != AB_OK) {
        return failed("cannot open", code);
    }
    ab_wal_close(wal);
    return origin.tail_safe == safe ? 0 : failed("tail_safe is not what it should be", safe);
}

static int rounds(bool interval, unsigned long count, unsigned long seed)
{
    char *dir = wt_dir_new(false);
    moment before = {.last = {0}};
    unsigned long commits = 0;
    int result = 0;
    rng_state = seed * 2 + 1;
    for (unsigned long i = 0; i < count && result == 0; i++) {
        moment after;
        round_log log = {.count = 0};
        result = run_and_kill(dir, interval, &log);
        if (result == 0) {
            result = inspect(dir, interval, &log, &before, &after);
        }
        if (result != 0) {
            fprintf(stderr, "wal_crash: %s, round %lu; replay: wal_crash %lu %lu\n",
                    interval ? "interval" : "sync", i, count, seed);
            break;
        }
        before = after;
        commits += log.count;
    }
    if (result == 0) {
        result = tail_is(dir, !interval);
        printf("wal_crash: %s: %lu kills, %lu commits reported, ends", interval ? "interval" : "sync", count,
               commits);
        for (size_t lane = 0; lane < LANES; lane++) {
            printf(" %llu", (unsigned long long)before.last[lane]);
        }
        printf("\n");
    }
    if (result == 0 && commits == 0) {
        result = failed("no commit was ever reported: nothing was tested", 0);
    }
    wt_dir_remove(dir);
    return result;
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 300;
    unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 20261121;
    signal(SIGPIPE, SIG_IGN);
    return rounds(false, count, seed) != 0 || rounds(true, count / 2, seed) != 0;
}
