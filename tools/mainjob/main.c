/* SPDX-License-Identifier: Apache-2.0 */
/* The main job: three nodes take readings at the same time, one is killed and comes back, and all must hold the same.
 * The main thread directs; a thread per node feeds. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "tools/mainjob/mainjob.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "usage: mainjob --bin DIR [--dir DIR] [--input FILE.lp]... [--points N] [--seed N] [--batch N] [--groups "
    "N]\n"
    "\n"
    "Starts three anabranchd, feeds each a third of the readings at the same time, kills node 2 with kill -9 "
    "in\n"
    "mid-stream, restarts it, and checks that all three end with the same data, nothing acknowledged "
    "missing, and\n"
    "each conflict won by the write that the rule names.\n"
    "\n"
    "  --bin DIR        where anabranchd is (and anabranch, whose tables are shown at the end)\n"
    "  --dir DIR        runs in this empty directory and leaves everything there (default: a temporary one)\n"
    "  --keep DIR       the same\n"
    "  --input FILE.lp  lines with time stamps instead of made-up readings; may be repeated\n"
    "  --points N       made-up lines (default 200000)\n"
    "  --seed N         of the made-up lines (default 1)\n"
    "  --batch N        lines per request (default 1000)\n"
    "  --groups N       groups that the series are spread over (default 8)\n"
    "\n"
    "Exits 0 only if every check held, 1 if one did not, 2 for wrong usage.\n";

static bool read_number(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
    char *end = NULL;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-' && *number >= least && *number <= most;
}

static bool read_option(ab_mainjob *job, const char *name, const char *value)
{
    if (strcmp(name, "--bin") == 0) {
        job->bin = value;
        return true;
    }
    if (strcmp(name, "--dir") == 0 || strcmp(name, "--keep") == 0) {
        job->dir = value;
        return true;
    }
    if (strcmp(name, "--input") == 0 && job->input_count < AB_MAINJOB_INPUTS_MAX) {
        job->inputs[job->input_count++] = value;
        return true;
    }
    return (strcmp(name, "--points") == 0 && read_number(value, 300, 100000000, &job->lines)) ||
           (strcmp(name, "--seed") == 0 && read_number(value, 0, UINT64_MAX, &job->seed)) ||
           (strcmp(name, "--batch") == 0 && read_number(value, 1, 100000, &job->batch)) ||
           (strcmp(name, "--groups") == 0 && read_number(value, 1, 128, &job->groups));
}

static int read_arguments(ab_mainjob *job, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (i + 1 == argc || !read_option(job, argv[i], argv[i + 1])) {
            fprintf(stderr, "mainjob: wrong option or value: %s\n%s", argv[i], usage);
            return 2;
        }
    }
    if (job->bin == NULL) {
        fputs(usage, stderr);
        return 2;
    }
    return -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

int main(int argc, char **argv)
{
    static ab_mainjob job = {.lines = 200000, .seed = 1, .batch = 1000, .groups = 8};
    char temporary[] = "/tmp/anabranch-mainjob.XXXXXX";
    int done = read_arguments(&job, argc, argv);
    if (done >= 0) {
        return done;
    }
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool made = job.dir == NULL;
    if (made) {
        job.dir = mkdtemp(temporary);
    } else if (mkdir(job.dir, 0700) != 0 && errno != EEXIST) {
        job.dir = NULL;
    }
    if (job.dir == NULL) {
        fprintf(stderr, "mainjob: cannot make the directory: %s\n", strerror(errno));
        return 1;
    }
    bool held = ab_mainjob_run(&job);
    if (held && made) {
        nftw(job.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    } else if (!held) {
        printf("FAILED: %s\n  data, configuration and logs are in %s\n", job.error, job.dir);
    }
    return held ? 0 : 1;
}
