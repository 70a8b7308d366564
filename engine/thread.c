/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and condition variables on the monotonic clock. */
#include "engine/thread.h"

#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#define NS_PER_S 1000000000ull

void ab_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

void ab_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline)
{
    if (deadline == UINT64_MAX) {
        pthread_cond_wait(cond, lock);
        return;
    }
    struct timespec until = {.tv_sec = (time_t)(deadline / NS_PER_S), .tv_nsec = (long)(deadline % NS_PER_S)};
    pthread_cond_timedwait(cond, lock, &until);
}

void ab_thread_begin(const char *name)
{
    sigset_t all;
    sigfillset(&all);
    static const int of_this_thread[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    for (size_t i = 0; i < sizeof of_this_thread / sizeof of_this_thread[0]; i++) {
        sigdelset(&all, of_this_thread[i]);
    }
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    prctl(PR_SET_NAME, name, 0, 0, 0);
}
