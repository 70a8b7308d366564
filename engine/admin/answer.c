/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded pipe of bytes between two threads. Threads: see answer.h at each function. */
#include "engine/admin/answer.h"
#include "engine/thread.h"
#include "engine/transport/transport.h"
#include <anabranch/error.h>

#include <string.h>
#include <unistd.h>

/* So much may wait for the socket before the working thread waits too. */
#define READY_MAX (256u * 1024)
/* And so much where it must not wait. */
#define KEPT_MAX (4u * 1024 * 1024)

int ab_answer_init(ab_answer *answer, int wake_fd)
{
    memset(answer, 0, sizeof *answer);
    answer->wake_fd = wake_fd;
    ab_out_init(&answer->rows);
    ab_out_init(&answer->ready);
    if (pthread_mutex_init(&answer->lock, NULL) != 0) {
        return AB_ENOMEM;
    }
    ab_cond_init(&answer->changed);
    return AB_OK;
}

void ab_answer_free(ab_answer *answer)
{
    pthread_cond_destroy(&answer->changed);
    pthread_mutex_destroy(&answer->lock);
    ab_out_release(&answer->rows);
    ab_out_release(&answer->ready);
}

static void wake(const ab_answer *answer)
{
    uint64_t one = 1;
    /* It can only fail when the counter is full: then the thread is awake already. */
    ssize_t ignored = write(answer->wake_fd, &one, sizeof one);
    (void)ignored;
}

/* With the lock held. */
static bool hand_over(ab_answer *answer)
{
    if (answer->rows.failed || answer->cancelled) {
        return false;
    }
    if (ab_out_waiting(&answer->rows) > 0) {
        ab_out_raw(&answer->ready, answer->rows.data, answer->rows.size);
        ab_out_sent(&answer->rows, answer->rows.size);
        wake(answer);
    }
    return !answer->ready.failed;
}

bool ab_answer_flush(ab_answer *answer)
{
    pthread_mutex_lock(&answer->lock);
    while (!answer->cancelled && ab_out_waiting(&answer->ready) > READY_MAX) {
        pthread_cond_wait(&answer->changed, &answer->lock);
    }
    bool good = hand_over(answer);
    pthread_mutex_unlock(&answer->lock);
    return good;
}

bool ab_answer_push(ab_answer *answer)
{
    pthread_mutex_lock(&answer->lock);
    bool good = !answer->cancelled && !answer->rows.failed;
    if (good && ab_out_waiting(&answer->ready) <= READY_MAX) {
        good = hand_over(answer);
    }
    pthread_mutex_unlock(&answer->lock);
    return good;
}

bool ab_answer_full(const ab_answer *answer)
{
    return ab_out_waiting(&answer->rows) > KEPT_MAX;
}

bool ab_answer_pause(ab_answer *answer, uint32_t ms)
{
    uint64_t until = ab_monotonic_ns() + ms * 1000000ull;
    pthread_mutex_lock(&answer->lock);
    while (!answer->cancelled && ab_monotonic_ns() < until) {
        ab_cond_wait_until(&answer->changed, &answer->lock, until);
    }
    bool wanted = !answer->cancelled;
    pthread_mutex_unlock(&answer->lock);
    return wanted;
}

bool ab_answer_cancelled(ab_answer *answer)
{
    pthread_mutex_lock(&answer->lock);
    bool cancelled = answer->cancelled;
    pthread_mutex_unlock(&answer->lock);
    return cancelled;
}

void ab_answer_finish(ab_answer *answer)
{
    pthread_mutex_lock(&answer->lock);
    hand_over(answer);
    answer->finished = true;
    wake(answer);
    pthread_mutex_unlock(&answer->lock);
}

bool ab_answer_take(ab_answer *answer, ab_out *out)
{
    pthread_mutex_lock(&answer->lock);
    if (ab_out_waiting(out) == 0 && ab_out_waiting(&answer->ready) > 0) {
        ab_out_raw(out, answer->ready.data, answer->ready.size);
        ab_out_sent(&answer->ready, answer->ready.size);
        pthread_cond_signal(&answer->changed);
    }
    out->failed = out->failed || answer->ready.failed || (answer->finished && answer->rows.failed);
    bool finished = answer->finished && ab_out_waiting(&answer->ready) == 0;
    pthread_mutex_unlock(&answer->lock);
    return finished;
}

void ab_answer_cancel(ab_answer *answer)
{
    pthread_mutex_lock(&answer->lock);
    answer->cancelled = true;
    pthread_cond_signal(&answer->changed);
    pthread_mutex_unlock(&answer->lock);
}
