/* SPDX-License-Identifier: Apache-2.0 */
/* A large log opens fast and in little memory: fills one, then opens it in processes of their own and measures them. 64 MB, or
 * as many as the first argument says (AB_LONG=1: 10,000). One thread. */
#include "tests/unit/test_wal_support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MB (1024ull * 1024)
#define PAYLOAD 1000u
#define ENTRIES 256u
#define COMMIT 16u
#define STREAMS 3u
#define OPENINGS 3
/* Far above what was measured, far below what reading the blocks would take. */
#define SECONDS_MAX 3.0
#define GROWN_KB_MAX (32L * 1024)

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static ab_wal *open_it(const char *dir)
{
    ab_wal_options options = {.durability = AB_DURABILITY_NONE};
    ab_wal_origin origin;
    ab_message message;
    ab_wal *wal = NULL;
    if (ab_wal_open(dir, &options, &wal, &origin, &message) != AB_OK) {
        fprintf(stderr, "%s\n", message.text);
        exit(1);
    }
    return wal;
}

/* Blocks of about 256 KB, in turn of three streams. */
static uint64_t fill(const char *dir, uint64_t bytes)
{
    ab_wal *wal = open_it(dir);
    uint64_t blocks = 0;
    uint64_t hash[STREAMS] = {0};
    uint64_t next[STREAMS] = {1, 1, 1};
    for (uint64_t done = 0; done < bytes;) {
        ab_wal_op ops[COMMIT];
        uint8_t *data[COMMIT];
        for (size_t i = 0; i < COMMIT; i++, blocks++) {
            size_t k = blocks % STREAMS;
            ab_stream stream = {(uint32_t)k + 1, 7};
            ab_block_header header;
            data[i] = wt_block(1, stream, next[k], ENTRIES, PAYLOAD, hash[k], &header);
            next[k] += ENTRIES;
            hash[k] = header.checksum;
            ops[i] = (ab_wal_op){.type = AB_WAL_PUT_BLOCK, .data = {data[i], ab_block_size(&header)}};
            done += ops[i].data.size;
        }
        size_t failed;
        if (ab_wal_commit(wal, ops, COMMIT, &failed) != AB_OK) {
            ab_message message;
            ab_wal_message(wal, &message);
            fprintf(stderr, "%s\n", message.text);
            exit(1);
        }
        for (size_t i = 0; i < COMMIT; i++) {
            free(data[i]);
        }
    }
    ab_wal_close(wal);
    return blocks;
}

/* As after a restart of the machine: nothing of the file is in memory. */
static void forget_pages(const char *dir)
{
    char *path = wt_path(dir, "data.mdb");
    int fd = open(path, O_RDWR);
    if (fd < 0 || fdatasync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) {
        perror(path);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(path);
}

/* Opens, looks up every stream, reads its last block. What an opening costs in time and memory. @return exit code */
static int measure(const char *dir)
{
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    double start = now();
    ab_wal *wal = open_it(dir);
    double seconds = now() - start;
    getrusage(RUSAGE_SELF, &after);
    long grown = after.ru_maxrss - before.ru_maxrss;
    for (uint32_t k = 1; k <= STREAMS; k++) {
        ab_stream_state state;
        ab_block_header header;
        void *data = NULL;
        size_t size = 0;
        if (!wt_stream(wal, 1, (ab_stream){k, 7}, &state) ||
            ab_wal_read(wal, 1, state.stream, state.last, wt_alloc, NULL, &header, &data, &size) != AB_OK ||
            !wt_block_good(data, &header)) {
            fprintf(stderr, "stream %u: its last block cannot be read\n", k);
            return 1;
        }
        free(data);
    }
    printf("opened in %.1f ms, %ld KB more memory at most\n", seconds * 1e3, grown);
    ab_wal_close(wal);
    return seconds > SECONDS_MAX || grown > GROWN_KB_MAX ? 1 : 0;
}

int main(int argc, char **argv)
{
    uint64_t megabytes = argc > 1 ? strtoull(argv[1], NULL, 10) : getenv("AB_LONG") != NULL ? 10000 : 64;
    char *dir = wt_dir_new(false);
    int failed = 0;
    if (dir == NULL) {
        perror("directory");
        return 1;
    }
    double start = now();
    uint64_t blocks = fill(dir, megabytes * MB);
    printf("%llu MB in %llu blocks, written in %.1f s\n", (unsigned long long)megabytes,
           (unsigned long long)blocks, now() - start);
    fflush(stdout);
    for (int i = 0; i < OPENINGS; i++) {
        forget_pages(dir);
        pid_t child = fork();
        if (child == 0) {
            int code = measure(dir);
            fflush(stdout);
            _exit(code);
        }
        int status = 1;
        failed |= child < 0 || waitpid(child, &status, 0) != child || status != 0;
    }
    wt_dir_remove(dir);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
