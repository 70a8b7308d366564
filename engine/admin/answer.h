/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file answer.h
 * The way of an answer from the thread that works on it to the thread that owns the socket: bounded, and ended
 * early by either side. The working thread appends rows to `rows` and flushes; the socket's thread takes.
 */
#ifndef ANABRANCH_ENGINE_ADMIN_ANSWER_H
#define ANABRANCH_ENGINE_ADMIN_ANSWER_H

#include "engine/admin/out.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct ab_answer {
    ab_out rows; /* working thread only */
    int wake_fd; /* eventfd of the socket's thread */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    ab_out ready; /* flushed, not yet taken */
    bool cancelled;
    bool finished;
} ab_answer;

/** @return AB_OK or AB_ENOMEM */
int ab_answer_init(ab_answer *answer, int wake_fd);
void ab_answer_free(ab_answer *answer);

/** Hands over the rows made so far; waits while the reader is slow. Not with locks or transactions held.
 *  @return false: nobody wants the rest, or memory ran out */
bool ab_answer_flush(ab_answer *answer);

/** The same without waiting; beyond a bound the rows are kept back. @return false as above */
bool ab_answer_push(ab_answer *answer);

/** Whether ab_answer_push() would keep rows back: make no more of them. */
bool ab_answer_full(const ab_answer *answer);

/** Waits `ms`, or until nobody wants the rest. @return false: that */
bool ab_answer_pause(ab_answer *answer, uint32_t ms);

/** Whether nobody wants the rest. */
bool ab_answer_cancelled(ab_answer *answer);

/** Last call of the working thread. */
void ab_answer_finish(ab_answer *answer);

/** Socket's thread: moves what is ready to `out`. @return true once the working thread has finished */
bool ab_answer_take(ab_answer *answer, ab_out *out);
void ab_answer_cancel(ab_answer *answer);

#endif
