/* SPDX-License-Identifier: Apache-2.0 */
/* A writing thread, see bench_writer.h. Slots pass from the writer to the completion thread with a call and back
 * with its completion, through a ring with one producer and one consumer: no lock per call. */
#include "tools/anabranch/bench_writer.h"
#include "tools/anabranch/bench_sm.h"
#include "tools/anabranch/bench_sys.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000u
#define WAIT_MS 1000u

/* With one entry per call a clock reading each would be a tenth of the cost that is measured. */
#define SAMPLE_ONE 8u

struct slot {
    ab_bench_writer *writer;
    uint64_t due; /* latency counts from here; 0: not sampled */
    uint32_t entries;
    uint32_t number;
};

struct ab_bench_writer {
    const struct ab_bench_work *work;
    uint32_t number;
    uint32_t batch;     /* entries per call */
    uint32_t in_flight; /* slots */
    uint8_t *payloads;  /* `batch` of them */
    ab_bytes *views;
    uint64_t written; /* entries handed over */
    uint64_t quota;   /* entries to write; UINT64_MAX: until `end` */
    uint64_t end;
    uint64_t calls;
    pthread_t thread;

    struct slot *slots;
    _Atomic uint32_t *ring; /* numbers of free slots */
    uint64_t taken;         /* by the writer */
    _Atomic uint64_t given; /* by completions */
    _Atomic uint64_t want;  /* the writer sleeps until `given` reaches this; UINT64_MAX: it is awake */
    _Atomic bool failed;    /* a completion brought an error: stop */
    pthread_mutex_t lock;
    pthread_cond_t freed;

    struct ab_bench_tally tally;
};

/* Counts the latency of a call that was due at `due` and is acknowledged now. */
static void add_latency(struct ab_bench_tally *tally, uint64_t mark, uint64_t due)
{
    tally->last_ack = ab_bench_now();
    if (!tally->warm && tally->last_ack >= mark) {
        tally->warm = true;
        tally->before = tally->entries;
    }
    if (due >= mark) {
        ab_hist_add(&tally->latency, tally->last_ack - due);
    }
}

/* Completion thread. */
static void completed(void *arg, const ab_write_result *result)
{
    struct slot *slot = arg;
    ab_bench_writer *w = slot->writer;
    struct ab_bench_tally *tally = &w->tally;
    if (result->code == AB_OK) {
        if (slot->due) {
            add_latency(tally, w->work->mark, slot->due);
        }
        tally->entries += slot->entries;
        tally->calls++;
    } else {
        tally->code = tally->code ? tally->code : result->code;
        atomic_store(&w->failed, true);
    }
    uint64_t given = atomic_load_explicit(&w->given, memory_order_relaxed);
    atomic_store_explicit(&w->ring[given % w->in_flight], slot->number, memory_order_relaxed);
    /* either we see `want`, or the writer, which stores it before it looks again, sees `given` */
    atomic_store(&w->given, given + 1);
    if (given + 1 >= atomic_load(&w->want)) {
        pthread_mutex_lock(&w->lock);
        atomic_store(&w->want, UINT64_MAX);
        pthread_cond_signal(&w->freed);
        pthread_mutex_unlock(&w->lock);
    }
}

/* Sleeps until `given` has reached `want`. */
static void await_given(ab_bench_writer *w, uint64_t want)
{
    if (atomic_load_explicit(&w->given, memory_order_acquire) >= want) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->want, want);
    while (atomic_load(&w->given) < want) {
        pthread_cond_wait(&w->freed, &w->lock);
    }
    atomic_store(&w->want, UINT64_MAX);
    pthread_mutex_unlock(&w->lock);
}

/* A free slot. When there is none, waits for a quarter of them: one wake for many completions. */
static struct slot *take_slot(ab_bench_writer *w)
{
    if (atomic_load_explicit(&w->given, memory_order_acquire) == w->taken) {
        uint64_t quarter = w->in_flight / 4;
        await_given(w, w->taken + (quarter > 0 ? quarter : 1));
    }
    uint32_t number = atomic_load_explicit(&w->ring[w->taken % w->in_flight], memory_order_relaxed);
    w->taken++;
    return &w->slots[number];
}

/* Every payload differs: who wrote it, and the how manieth it is. */
static void stamp(ab_bench_writer *w, uint32_t count)
{
    uint32_t size = w->work->load->payload;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t number = w->written + i;
        memcpy(w->payloads + (size_t)i * size + 8, &number, sizeof number);
    }
}

/* When the next call is due; with a rate, sleeps until then. */
static uint64_t due(ab_bench_writer *w)
{
    uint64_t rate = w->work->load->rate;
    if (rate == 0) {
        return ab_bench_now();
    }
    double share = (double)rate / w->work->load->writers;
    uint64_t when = w->work->start + (uint64_t)((double)w->written / share * NS_PER_S);
    if (when > ab_bench_now()) {
        ab_bench_sleep_until(when);
    }
    return when;
}

static int call(ab_bench_writer *w, ab_group *group, uint32_t count, struct slot *slot)
{
    ab_write_options options = {.level = w->work->load->level, .wait_ms = WAIT_MS};
    for (;;) {
        int rc = w->work->which == AB_BENCH_MANY
                     ? ab_write_many(group, w->views, count, &options, completed, slot)
                     : ab_write(group, w->views[0].data, w->views[0].size, &options, completed, slot);
        if (rc != AB_EBUSY) {
            return rc;
        }
        w->tally.busy++;
    }
}

static void *write_async(void *arg)
{
    ab_bench_writer *w = arg;
    const struct ab_bench_work *work = w->work;
    uint32_t sample = work->which == AB_BENCH_ONE ? SAMPLE_ONE : 1;
    int rc = AB_OK;
    ab_bench_sleep_until(work->start);
    while (w->written < w->quota && !atomic_load_explicit(&w->failed, memory_order_relaxed)) {
        bool sampled = w->calls % sample == 0;
        uint64_t when = sampled || work->load->rate ? due(w) : 0;
        if (when >= w->end) {
            break;
        }
        struct slot *slot = take_slot(w);
        uint64_t left = w->quota - w->written;
        slot->entries = left < w->batch ? (uint32_t)left : w->batch;
        slot->due = sampled ? when : 0;
        stamp(w, slot->entries);
        rc = call(w, work->groups[(w->number + w->calls) % work->load->groups], slot->entries, slot);
        if (rc != AB_OK) {
            w->taken--; /* the slot was not handed over: its number still stands there */
            break;
        }
        w->written += slot->entries;
        w->calls++;
    }
    await_given(w, w->taken + w->in_flight);
    w->tally.code = w->tally.code ? w->tally.code : rc;
    return NULL;
}

static void *write_waiting(void *arg)
{
    ab_bench_writer *w = arg;
    const struct ab_bench_work *work = w->work;
    ab_write_options options = {.level = work->load->level};
    struct ab_bench_tally *tally = &w->tally;
    ab_bench_sleep_until(work->start);
    while (w->written < w->quota) {
        uint64_t when = due(w);
        if (when >= w->end) {
            break;
        }
        stamp(w, 1);
        tally->code =
            ab_write_wait(work->groups[w->written % work->load->groups], w->views, 1, &options, NULL);
        if (tally->code != AB_OK) {
            break;
        }
        add_latency(tally, work->mark, when);
        tally->entries++;
        tally->calls++;
        w->written++;
    }
    return NULL;
}

/* Those after the warm-up are marked for the state machines. */
static void mark_silence(ab_bench_writer *w, uint64_t now)
{
    bool measured = now >= w->work->mark && w->tally.silences < AB_BENCH_SILENCES_MAX;
    struct ab_bench_silence silence = {
        .magic = measured ? AB_BENCH_SILENCE_MAGIC : 0, .due = now, .number = w->tally.silences};
    w->tally.silences += measured;
    memcpy(w->payloads + AB_BENCH_SILENCE_AT, &silence, sizeof silence);
}

static void *write_and_rest(void *arg)
{
    ab_bench_writer *w = arg;
    ab_write_options options = {.level = w->work->load->level};
    struct ab_bench_tally *tally = &w->tally;
    ab_bench_sleep_until(w->work->start);
    for (uint64_t now = ab_bench_now(); w->written < w->quota && now < w->end; now = ab_bench_now()) {
        bool last = w->written % AB_BENCH_BEFORE_SILENCE == AB_BENCH_BEFORE_SILENCE - 1;
        stamp(w, 1);
        memset(w->payloads + AB_BENCH_SILENCE_AT, 'x', sizeof(struct ab_bench_silence));
        if (last) {
            mark_silence(w, now);
        }
        ab_group *group = w->work->groups[w->written / AB_BENCH_BEFORE_SILENCE % w->work->load->groups];
        tally->code = ab_write_wait(group, w->views, 1, &options, NULL);
        if (tally->code != AB_OK) {
            break;
        }
        add_latency(tally, w->work->mark, 0); /* only counts: what is measured here is arrival */
        tally->entries++;
        tally->calls++;
        w->written++;
        if (last) {
            ab_bench_sleep_until(ab_bench_now() + AB_BENCH_SILENCE_NS);
        }
    }
    return NULL;
}

static bool make_buffers(ab_bench_writer *w)
{
    uint32_t size = w->work->load->payload;
    w->payloads = malloc((size_t)w->batch * size);
    w->views = calloc(w->batch, sizeof w->views[0]);
    w->slots = calloc(w->in_flight, sizeof w->slots[0]);
    w->ring = calloc(w->in_flight, sizeof w->ring[0]);
    if (!w->payloads || !w->views || !w->slots || !w->ring) {
        return false;
    }
    memset(w->payloads, 'x', (size_t)w->batch * size);
    for (uint32_t i = 0; i < w->batch; i++) {
        uint8_t *payload = w->payloads + (size_t)i * size;
        memcpy(payload, &w->work->node, sizeof w->work->node);
        memcpy(payload + sizeof w->work->node, &w->number, sizeof w->number);
        w->views[i] = (ab_bytes){payload, size};
    }
    for (uint32_t i = 0; i < w->in_flight; i++) {
        w->slots[i] = (struct slot){.writer = w, .number = i};
        atomic_init(&w->ring[i], i);
    }
    return true;
}

ab_bench_writer *ab_bench_writer_new(const struct ab_bench_work *work, uint32_t number)
{
    ab_bench_writer *w = calloc(1, sizeof *w);
    if (!w) {
        return NULL;
    }
    const struct ab_bench_load *load = work->load;
    w->work = work;
    w->number = number;
    w->batch = work->which == AB_BENCH_MANY ? load->batch : 1;
    w->in_flight = load->in_flight > w->batch ? load->in_flight / w->batch : 1;
    atomic_init(&w->given, w->in_flight);
    atomic_init(&w->want, UINT64_MAX);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->freed, NULL);
    if (!make_buffers(w)) {
        ab_bench_writer_free(w);
        return NULL;
    }
    return w;
}

int ab_bench_writer_start(ab_bench_writer *w)
{
    const struct ab_bench_load *load = w->work->load;
    uint64_t share = load->entries / load->writers + (w->number < load->entries % load->writers);
    w->quota = load->entries ? share : UINT64_MAX;
    w->end = load->entries ? UINT64_MAX : w->work->mark + load->duration_ns;
    void *(*run)(void *) = w->work->which == AB_BENCH_LATENCY   ? write_waiting
                           : w->work->which == AB_BENCH_SILENCE ? write_and_rest
                                                                : write_async;
    return pthread_create(&w->thread, NULL, run, w);
}

void ab_bench_writer_join(ab_bench_writer *w)
{
    pthread_join(w->thread, NULL);
}

const struct ab_bench_tally *ab_bench_writer_tally(const ab_bench_writer *w)
{
    return &w->tally;
}

void ab_bench_writer_free(ab_bench_writer *w)
{
    if (!w) {
        return;
    }
    pthread_cond_destroy(&w->freed);
    pthread_mutex_destroy(&w->lock);
    free(w->payloads);
    free(w->views);
    free(w->slots);
    free((void *)w->ring);
    free(w);
}
