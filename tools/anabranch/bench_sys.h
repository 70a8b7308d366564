/* SPDX-License-Identifier: Apache-2.0 */
/* What the bench asks of the system: clock, what this process used, directories. Any thread. */
#ifndef ANABRANCH_TOOLS_BENCH_SYS_H
#define ANABRANCH_TOOLS_BENCH_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Monotonic nanoseconds; comparable between the processes of one machine. */
uint64_t ab_bench_now(void);
void ab_bench_sleep_until(uint64_t when);

/* What this process has used so far. */
struct ab_bench_usage {
    uint64_t cpu_ns;      /* user and system, all threads */
    uint64_t write_bytes; /* sent to the storage layer */
    uint64_t call_bytes;  /* given to write calls, files and sockets */
    bool write_known;     /* the system counts both (/proc/self/io) */
    uint64_t rss_kib;     /* VmRSS: resident now */
    uint64_t peak_kib;    /* VmHWM: resident at most, mapped file pages included */
};
void ab_bench_usage_get(struct ab_bench_usage *usage);
/* `now` becomes the difference to `before`; memory stays. */
void ab_bench_usage_since(struct ab_bench_usage *now, const struct ab_bench_usage *before);

/* Name of the file system of `path` where it matters to the reader: "tmpfs", "ext4", ... or "?". */
const char *ab_bench_fs_name(const char *path);

/* Removes a directory and everything in it. @return 0 or -1 (errno) */
int ab_bench_remove_tree(const char *path);

#endif
