/* SPDX-License-Identifier: Apache-2.0 */
/** @file thread.h Threads and condition variables on the monotonic clock. */
#ifndef ANABRANCH_ENGINE_THREAD_H
#define ANABRANCH_ENGINE_THREAD_H

#include <pthread.h>
#include <stdint.h>

/** A condition variable that waits on the monotonic clock. */
void ab_cond_init(pthread_cond_t *cond);

/** Waits until signalled or `deadline` (monotonic ns; UINT64_MAX: for ever) has passed. May wake spuriously. */
void ab_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline);

/** First call of a thread of the library: blocks all signals that are the program's and names the thread. */
void ab_thread_begin(const char *name);

#endif
