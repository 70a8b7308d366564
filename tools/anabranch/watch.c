/* SPDX-License-Identifier: Apache-2.0 */
/* --watch. The signals that end it are taken synchronously, so that no run is cut short. Main thread. */
#include "tools/anabranch/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

void watch_begin(void)
{
    sigset_t set;
    signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

void watch_end(void)
{
    sigset_t set;
    signals(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

bool watch_sleep(uint64_t ms)
{
    sigset_t set;
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000L};
    signals(&set);
    int taken;
    do {
        taken = sigtimedwait(&set, NULL, &pause);
    } while (taken < 0 && errno == EINTR);
    return taken < 0;
}

int watch(const options *o, int (*once)(const options *o, void *arg), void *arg)
{
    if (o->watch_ms == 0) {
        return once(o, arg);
    }
    watch_begin();
    int result;
    for (uint64_t runs = 1;; runs++) {
        if (isatty(STDOUT_FILENO) && !o->json) {
            fputs("\033[H\033[2J", stdout);
        }
        result = once(o, arg);
        if (fflush(stdout) != 0 || ferror(stdout) || runs == o->count || !watch_sleep(o->watch_ms)) {
            break;
        }
        if (!isatty(STDOUT_FILENO) && !o->json) {
            putchar('\n');
        }
    }
    watch_end();
    return result;
}
