/* SPDX-License-Identifier: Apache-2.0 */
/* Clock, resource usage and directories for the bench, see bench_sys.h. Any thread. */
#define _XOPEN_SOURCE 700 /* nftw */

#include "tools/anabranch/bench_sys.h"

#include <errno.h>
#include <ftw.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <time.h>

#define NS_PER_S 1000000000u
#define XFS_MAGIC 0x58465342

uint64_t ab_bench_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void ab_bench_sleep_until(uint64_t when)
{
    struct timespec ts = {(time_t)(when / NS_PER_S), (long)(when % NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR) {
        continue;
    }
}

/* Finds "NAME: number" in a file of /proc. */
static bool proc_number(const char *path, const char *name, uint64_t *number)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    char line[256];
    size_t length = strlen(name);
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) {
        found = strncmp(line, name, length) == 0 && line[length] == ':';
        *number = found ? strtoull(line + length + 1, NULL, 10) : 0;
    }
    fclose(file);
    return found;
}

static uint64_t timeval_ns(struct timeval tv)
{
    return (uint64_t)tv.tv_sec * NS_PER_S + (uint64_t)tv.tv_usec * 1000u;
}

void ab_bench_usage_get(struct ab_bench_usage *usage)
{
    memset(usage, 0, sizeof *usage);
    struct rusage ru;
    if (getrusage(RUSAGE_SELF, &ru) == 0) {
        usage->cpu_ns = timeval_ns(ru.ru_utime) + timeval_ns(ru.ru_stime);
    }
    usage->write_known = proc_number("/proc/self/io", "write_bytes", &usage->write_bytes) &&
                         proc_number("/proc/self/io", "wchar", &usage->call_bytes);
    proc_number("/proc/self/status", "VmRSS", &usage->rss_kib);
    proc_number("/proc/self/status", "VmHWM", &usage->peak_kib);
}

void ab_bench_usage_since(struct ab_bench_usage *now, const struct ab_bench_usage *before)
{
    now->cpu_ns -= before->cpu_ns;
    now->write_bytes -= before->write_bytes;
    now->call_bytes -= before->call_bytes;
    now->write_known = now->write_known && before->write_known;
}

const char *ab_bench_fs_name(const char *path)
{
    struct statfs fs;
    if (statfs(path, &fs) != 0) {
        return "?";
    }
    switch ((unsigned long)fs.f_type) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
        return "tmpfs";
    case EXT4_SUPER_MAGIC:
        return "ext4";
    case XFS_MAGIC:
        return "xfs";
    case BTRFS_SUPER_MAGIC:
        return "btrfs";
    case OVERLAYFS_SUPER_MAGIC:
        return "overlayfs";
    default:
        return "?";
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

int ab_bench_remove_tree(const char *path)
{
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
