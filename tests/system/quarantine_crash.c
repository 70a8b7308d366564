/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 at random moments, again and again on one directory, while entries are refused, tried again and dropped. What
 * was acknowledged is, afterwards, applied once, or in quarantine with its payload; what was confirmed as applied from
 * quarantine is applied and no longer there; what was confirmed as dropped is no longer there. The state machine keeps
 * things in memory between checkpoints, so an entry that left quarantine before a checkpoint would be lost. The parent
 * has one thread; each child opens the node and is killed, or checks.
 *
 *   quarantine_crash [ROUNDS [SEED]]
 */
#include "tests/support/nodes.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NUMBERS 32768u
#define WAIT_MS 20000u

static uint64_t rng_state;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static bool is_bad(unsigned number)
{
    return number % 3 == 1;
}

/* What the parent was told of each number. */
typedef struct journal {
    bool acked;
    bool retrying, retried;
    bool dropping, dropped;
} journal;

static journal told[NUMBERS];

/* --- the state machine: how often each number was applied --- */
typedef struct counts {
    unsigned char of[NUMBERS];
    size_t mark_count;
    ab_mark marks[16];
} counts;

typedef struct counting_sm {
    counts now;
    char path[96];
    _Atomic bool accept[NUMBERS]; /* of the bad ones; only while its bit of quarantine is tried again */
} counting_sm;

static int sm_open(void *ctx, ab_group *group, ab_frontier_out *durable)
{
    counting_sm *sm = ctx;
    (void)group;
    FILE *file = fopen(sm->path, "rb");
    if (file == NULL) {
        return errno == ENOENT ? AB_OK : AB_EIO;
    }
    bool whole = fread(&sm->now, sizeof sm->now, 1, file) == 1;
    fclose(file);
    int code = whole ? AB_OK : AB_ECORRUPT;
    for (size_t i = 0; i < sm->now.mark_count && code == AB_OK; i++) {
        code = ab_frontier_add(durable, sm->now.marks[i]);
    }
    return code;
}

static unsigned number_of(const ab_entry *entry)
{
    char text[32] = "";
    memcpy(text, entry->payload, entry->size < sizeof text ? entry->size : sizeof text - 1);
    unsigned long number = strtoul(text, NULL, 10);
    return number < NUMBERS ? (unsigned)number : 0;
}

static int sm_apply(void *ctx, const ab_entry *entries, size_t count, ab_frontier after, size_t *failed)
{
    counting_sm *sm = ctx;
    for (size_t i = 0; i < count; i++) {
        unsigned number = number_of(&entries[i]);
        if (is_bad(number) && !sm->accept[number]) {
            *failed = i;
            return AB_EREJECT;
        }
    }
    for (size_t i = 0; i < count; i++) {
        sm->now.of[number_of(&entries[i])]++;
    }
    sm->now.mark_count = after.count < 16 ? after.count : 16;
    memcpy(sm->now.marks, after.marks, sm->now.mark_count * sizeof sm->now.marks[0]);
    return AB_OK;
}

static int sm_checkpoint(void *ctx, ab_frontier_out *durable)
{
    counting_sm *sm = ctx;
    char other[104];
    snprintf(other, sizeof other, "%s.new", sm->path);
    FILE *file = fopen(other, "wb");
    bool written = file != NULL && fwrite(&sm->now, sizeof sm->now, 1, file) == 1;
    if ((file != NULL && fclose(file) != 0) || !written || rename(other, sm->path) != 0) {
        return AB_EIO;
    }
    int code = AB_OK;
    for (size_t i = 0; i < sm->now.mark_count && code == AB_OK; i++) {
        code = ab_frontier_add(durable, sm->now.marks[i]);
    }
    return code;
}

static const ab_statemachine counting = {
    .version = AB_STATEMACHINE_VERSION, .open = sm_open, .apply = sm_apply, .checkpoint = sm_checkpoint};

/* --- a child --- */
static void die(const char *what, int code)
{
    fprintf(stderr, "quarantine_crash: %s: %s\n", what, ab_error_name(code));
    _exit(1);
}

static counting_sm sm;
static ab_node *node;
static ab_group *group;

static void open_node(const char *dir)
{
    ab_node_config config;
    ab_group_config group_config;
    ab_message message = {{0}};
    uint32_t self = 1;
    snprintf(sm.path, sizeof sm.path, "%s/counts", dir);
    ab_node_config_init(&config);
    config.cluster = "test";
    config.node_id = 1;
    config.data_dir = dir;
    config.checkpoint_ms = 20;
    config.log = test_log;
    int code = ab_node_open(&config, &node, &message);
    ab_group_config_init(&group_config);
    group_config.id = 1;
    group_config.name = "test";
    group_config.backend = "standalone";
    group_config.members = &self;
    group_config.member_count = 1;
    code = code == AB_OK ? ab_group_open(node, &group_config, &counting, &sm, &group, &message) : code;
    if (code != AB_OK) {
        die(message.text, code);
    }
}

static void tell(int fd, char what, unsigned number)
{
    char line[16];
    int size = snprintf(line, sizeof line, "%c%u\n", what, number);
    if (write(fd, line, (size_t)size) != size) {
        _exit(0); /* the parent is gone */
    }
}

typedef struct choice {
    unsigned seen, number;
    ab_stream stream;
    uint64_t index;
} choice;

/* One of those listed, each as likely. */
static bool choose(void *arg, const ab_quarantined *record)
{
    choice *c = arg;
    if (rng() % ++c->seen == 0) {
        c->number = number_of(&record->entry);
        c->stream = record->entry.stream;
        c->index = record->entry.index;
    }
    return true;
}

static void work_on_one(int fd)
{
    choice c = {0};
    int code = ab_quarantine_list(group, choose, &c);
    if (code != AB_OK) {
        die("list", code);
    }
    if (c.seen == 0) {
        return;
    }
    switch (rng() % 3) {
    case 0:
        code = ab_quarantine_retry(group, c.stream, c.index, WAIT_MS);
        if (code != AB_EREJECT) {
            die("retry of what is still refused", code);
        }
        break;
    case 1:
        tell(fd, 'r', c.number);
        sm.accept[c.number] = true;
        code = ab_quarantine_retry(group, c.stream, c.index, WAIT_MS);
        if (code != AB_OK) {
            die("retry", code);
        }
        tell(fd, 'R', c.number);
        break;
    default:
        tell(fd, 'd', c.number);
        code = ab_quarantine_drop(group, c.stream, c.index, WAIT_MS);
        if (code != AB_OK) {
            die("drop", code);
        }
        tell(fd, 'D', c.number);
        break;
    }
}

static void child(const char *dir, int fd, unsigned next)
{
    open_node(dir);
    for (; next < NUMBERS; next++) {
        char text[16];
        ab_bytes payload = {text, (size_t)snprintf(text, sizeof text, "%u", next)};
        int code = ab_write_wait(group, &payload, 1, NULL, NULL);
        if (code != AB_OK) {
            die("write", code);
        }
        tell(fd, 'W', next);
        if (rng() % 2 == 0) {
            work_on_one(fd);
        }
    }
    _exit(0);
}

/* --- the check, in a child of its own --- */
static bool listed[NUMBERS];

static bool take_listed(void *arg, const ab_quarantined *record)
{
    char text[16];
    unsigned number = number_of(&record->entry);
    int size = snprintf(text, sizeof text, "%u", number);
    if (listed[number] || record->entry.size != (size_t)size ||
        memcmp(record->entry.payload, text, (size_t)size) != 0) {
        *(bool *)arg = false;
    }
    listed[number] = true;
    return true;
}

static const char *fault_of(unsigned number)
{
    const journal *j = &told[number];
    unsigned applied = sm.now.of[number];
    if (!j->acked) {
        return applied > 0 && listed[number] ? "not acknowledged: in two places" : NULL;
    }
    if (!is_bad(number)) {
        return applied == 1 && !listed[number] ? NULL : "a good one: not applied once";
    }
    if (j->retried) {
        return applied > 0 && !listed[number] ? NULL
                                              : "tried again with success: lost, or still in quarantine";
    }
    if (j->dropped) {
        return !listed[number] && (applied == 0 || j->retrying) ? NULL : "dropped: still there";
    }
    if (j->dropping) {
        return NULL;
    }
    if (j->retrying) {
        return applied > 0 || listed[number] ? NULL : "was being tried again: lost";
    }
    return applied == 0 && listed[number] ? NULL : "refused: not in quarantine";
}

static void check(const char *dir, unsigned end)
{
    bool sound = true;
    open_node(dir);
    int code = ab_read_wait(group, NULL);
    code = code == AB_OK ? ab_quarantine_list(group, take_listed, &sound) : code;
    if (code != AB_OK || !sound) {
        die(sound ? "check" : "a record is there twice, or is not what was written", code);
    }
    for (unsigned number = 0; number < end; number++) {
        const char *fault = fault_of(number);
        if (fault != NULL) {
            fprintf(stderr, "quarantine_crash: %u: %s (applied %u, listed %d)\n", number, fault,
                    sm.now.of[number], listed[number]);
            _exit(1);
        }
    }
    code = ab_node_close(node);
    _exit(code == AB_OK ? 0 : 1);
}

/* --- the parent --- */
static void note(const char *line, unsigned *next)
{
    unsigned number = (unsigned)strtoul(line + 1, NULL, 10);
    journal *j = &told[number < NUMBERS ? number : 0];
    j->acked = j->acked || line[0] == 'W';
    j->retrying = j->retrying || line[0] == 'r';
    j->retried = j->retried || line[0] == 'R';
    j->dropping = j->dropping || line[0] == 'd';
    j->dropped = j->dropped || line[0] == 'D';
    *next = line[0] == 'W' && number >= *next ? number + 1 : *next;
}

/* Runs a child until it has told `lines` lines, kills it, and takes in what it told before it died. @return 0 or 1 */
static int run_and_kill(const char *dir, unsigned *next, unsigned lines)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return 1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        child(dir, ends[1], *next);
    }
    close(ends[1]);
    FILE *pipe_end = fdopen(ends[0], "r");
    char line[32];
    unsigned seen = 0;
    while (fgets(line, sizeof line, pipe_end) != NULL) {
        note(line, next);
        if (++seen == lines) {
            kill(pid, SIGKILL);
        }
    }
    fclose(pipe_end);
    int status = 0;
    waitpid(pid, &status, 0);
    (*next)++; /* the write under way may be there or not: its number is not used again */
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : 1;
}

static int run_check(const char *dir, unsigned next)
{
    pid_t pid = fork();
    if (pid == 0) {
        check(dir, next);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : getenv("AB_LONG") != NULL ? 400 : 25;
    rng_state = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
    unsigned long long seed = rng_state;
    char dir[64];
    unsigned next = 0;
    test_directory(dir, sizeof dir);
    for (unsigned round = 0; round < rounds && next < NUMBERS - 1000; round++) {
        unsigned lines = 1 + (unsigned)(rng() % 60);
        if (run_and_kill(dir, &next, lines) != 0 || run_check(dir, next) != 0) {
            fprintf(stderr,
                    "quarantine_crash: round %u failed; again with: quarantine_crash %u %llu (data: %s)\n",
                    round, rounds, seed, dir);
            return 1;
        }
    }
    unsigned retried = 0, dropped = 0;
    for (unsigned i = 0; i < next; i++) {
        retried += told[i].retried;
        dropped += told[i].dropped;
    }
    printf("quarantine_crash: %u rounds, %u writes, %u applied from quarantine, %u dropped\n", rounds, next,
           retried, dropped);
    test_remove(dir);
    return retried > 0 && dropped > 0 ? 0 : 1;
}
