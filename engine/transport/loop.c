/* SPDX-License-Identifier: Apache-2.0 */
/* A dispatcher thread: a libuv loop and its inbox. Everything here but init, start, stop and free, and what is named
 * "under the lock" in internal.h, runs on the loop's own thread. */
#define _GNU_SOURCE
#include "engine/transport/internal.h"

#include <anabranch/error.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STALL_RETRY_MS 5u
#define TIMERS_AT_ONCE 256u /* then what they gave rise to is sent */

uint64_t ab_loop_now_ms(ab_loop *loop)
{
    return uv_now(&loop->uv);
}

void ab_loop_awake(ab_loop *loop)
{
    if (atomic_load_explicit(&loop->asleep, memory_order_relaxed)) {
        atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    }
}

void ab_loop_wake(ab_loop *loop)
{
    /* A loop that is awake empties its inbox before it sleeps: only one of many callers pays for the wake. */
    if (!loop->closed && atomic_exchange_explicit(&loop->asleep, false, memory_order_relaxed)) {
        (void)uv_async_send(&loop->async);
    }
}

void ab_loop_dirty(ab_peer *peer)
{
    ab_loop *loop = peer->loop;
    if (!peer->dirty && !loop->closed) {
        peer->dirty = true;
        peer->dirty_next = loop->dirty;
        loop->dirty = peer;
    }
    ab_loop_wake(loop);
}

static void on_async(uv_async_t *handle)
{
    ab_loop_awake(handle->data);
}

static void on_idle(uv_idle_t *handle)
{
    (void)handle; /* its being active keeps the loop from sleeping */
}

static void on_tick(uv_timer_t *timer)
{
    ab_loop_awake(timer->data);
    ab_link_tick(timer->data);
}

static void on_stall(uv_timer_t *timer)
{
    ab_loop *loop = timer->data;
    ab_loop_awake(loop);
    for (ab_conn *conn = loop->conns, *next; conn != NULL && !loop->paused; conn = next) {
        next = conn->next;
        if (conn->stalled) {
            ab_conn_unstall(conn);
        }
    }
    if (loop->stalled == 0 || loop->paused) {
        uv_timer_stop(timer);
    }
}

void ab_loop_stalled(ab_loop *loop)
{
    if (!uv_is_active((uv_handle_t *)&loop->stall)) {
        uv_timer_start(&loop->stall, on_stall, STALL_RETRY_MS, STALL_RETRY_MS);
    }
}

void ab_loop_ticking(ab_loop *loop, bool on)
{
    if (on) {
        uv_timer_start(&loop->tick, on_tick, loop->transport->ping_ms, loop->transport->ping_ms);
    } else {
        uv_timer_stop(&loop->tick);
    }
}

void ab_loop_flush_later(ab_peer *peer)
{
    pthread_mutex_lock(&peer->loop->lock);
    ab_loop_dirty(peer);
    pthread_mutex_unlock(&peer->loop->lock);
}

static void on_alarm(uv_timer_t *timer);

/* Sets the alarm for the earliest timer. libuv counts milliseconds: rounded up, and checked when it rings. */
static void set_alarm(ab_loop *loop)
{
    ab_transport *transport = loop->transport;
    pthread_mutex_lock(&transport->timers_lock);
    uint64_t when = ab_timers_next(&transport->timers);
    transport->alarm_at = when;
    pthread_mutex_unlock(&transport->timers_lock);
    if (when == UINT64_MAX) {
        uv_timer_stop(&loop->alarm);
        return;
    }
    uv_update_time(&loop->uv);
    uint64_t now = ab_monotonic_ns();
    uint64_t wait = when > now ? (when - now + 999999u) / 1000000u : 0;
    uv_timer_start(&loop->alarm, on_alarm, wait, 0);
}

static void on_alarm(uv_timer_t *timer)
{
    ab_loop *loop = timer->data;
    ab_transport *transport = loop->transport;
    uint64_t now = ab_monotonic_ns();
    ab_loop_awake(loop);
    /* Bounded, because what is called may arm again for a time that has passed. */
    for (unsigned i = 0; i < TIMERS_AT_ONCE; i++) {
        uint64_t key;
        pthread_mutex_lock(&transport->timers_lock);
        bool due = ab_timers_pop(&transport->timers, now, &key);
        pthread_mutex_unlock(&transport->timers_lock);
        if (!due) {
            break;
        }
        transport->callbacks.timer(transport->ctx, key);
    }
    set_alarm(loop);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* Closes everything that the loop has; it ends by itself when that is done. */
static void stop_all(ab_loop *loop)
{
    ab_transport *transport = loop->transport;
    loop->stopping = true;
    ab_listen_stop(loop);
    for (size_t i = 0; i < transport->peer_count; i++) {
        if (transport->peers[i].loop == loop) {
            ab_link_stop(&transport->peers[i]);
            ab_dial_stop(&transport->peers[i]);
        }
    }
    for (ab_conn *conn = loop->conns, *next; conn != NULL; conn = next) {
        next = conn->next;
        ab_conn_close(conn);
    }
    pthread_mutex_lock(&loop->lock);
    loop->closed = true;
    pthread_mutex_unlock(&loop->lock);
    close_handle((uv_handle_t *)&loop->async);
    close_handle((uv_handle_t *)&loop->prepare);
    close_handle((uv_handle_t *)&loop->idle);
    close_handle((uv_handle_t *)&loop->tick);
    close_handle((uv_handle_t *)&loop->stall);
    close_handle((uv_handle_t *)&loop->alarm);
}

static void apply_pause(ab_loop *loop)
{
    loop->paused = atomic_load(&loop->transport->paused);
    for (ab_conn *conn = loop->conns, *next; conn != NULL; conn = next) {
        next = conn->next;
        ab_conn_update_reading(conn);
    }
    if (loop->stalled > 0) {
        ab_loop_stalled(loop);
    }
}

/* What other threads, and callbacks on this one, queued for the peer goes to its link. Holds the lock. */
static void take_queues(ab_peer *peer)
{
    if (peer->link != NULL) {
        ab_out_append(&peer->link->control, &peer->control);
        ab_out_append(&peer->link->blocks, &peer->blocks);
    }
}

void ab_loop_flush_much(ab_peer *peer)
{
    if (peer->link == NULL ||
        atomic_load_explicit(&peer->queued_control, memory_order_relaxed) < AB_CONTROL_MUCH) {
        return;
    }
    pthread_mutex_lock(&peer->loop->lock);
    take_queues(peer);
    pthread_mutex_unlock(&peer->loop->lock);
    ab_conn_flush(peer->link);
}

/* What was in the inbox, taken out in one go. */
typedef struct work {
    ab_peer *peers;
    ab_handover *handovers;
    bool stop;
    bool pause_changed;
    bool alarm_changed;
} work;

/* @return false: there was nothing, and from now on the loop counts as asleep */
static bool take_work(ab_loop *loop, work *out)
{
    pthread_mutex_lock(&loop->lock);
    *out = (work){NULL, loop->handovers, loop->stop, loop->pause_changed, loop->alarm_changed};
    bool any = loop->dirty != NULL || out->handovers != NULL || out->stop || out->pause_changed ||
               out->alarm_changed;
    while (loop->dirty != NULL) {
        ab_peer *peer = loop->dirty;
        loop->dirty = peer->dirty_next;
        peer->dirty = false;
        take_queues(peer);
        peer->work_next = out->peers;
        out->peers = peer;
    }
    loop->handovers = NULL;
    loop->stop = false;
    loop->pause_changed = false;
    loop->alarm_changed = false;
    atomic_store_explicit(&loop->asleep, !any, memory_order_relaxed);
    pthread_mutex_unlock(&loop->lock);
    return any;
}

/* Right before the loop would sleep. One round only: under a constant stream of work it must read, too. */
static void on_prepare(uv_prepare_t *handle)
{
    ab_loop *loop = handle->data;
    work todo;
    if (!take_work(loop, &todo)) {
        uv_idle_stop(&loop->idle);
        return;
    }
    uv_idle_start(&loop->idle, on_idle); /* look again after a poll that does not wait */
    if (todo.pause_changed) {
        apply_pause(loop);
    }
    if (todo.alarm_changed) {
        set_alarm(loop);
    }
    for (ab_peer *peer = todo.peers, *next; peer != NULL; peer = next) {
        next = peer->work_next;
        ab_link_work(peer);
    }
    for (ab_handover *handover = todo.handovers, *next; handover != NULL; handover = next) {
        next = handover->next;
        ab_link_adopt(handover);
    }
    if (todo.stop) {
        stop_all(loop);
    }
}

static void *loop_main(void *arg)
{
    ab_loop *loop = arg;
    char name[16];
    (void)snprintf(name, sizeof(name), "ab-net-%u", loop->number);
    (void)pthread_setname_np(pthread_self(), name);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    return NULL;
}

int ab_loop_init(ab_transport *transport, ab_loop *loop, unsigned number)
{
    loop->transport = transport;
    loop->number = number;
    if (pthread_mutex_init(&loop->lock, NULL) != 0) {
        return AB_ENOMEM;
    }
    int code = uv_loop_init(&loop->uv);
    if (code != 0) {
        pthread_mutex_destroy(&loop->lock);
        return code == UV_ENOMEM ? AB_ENOMEM : AB_EIO;
    }
    code = uv_async_init(&loop->uv, &loop->async, on_async);
    if (code != 0) {
        (void)uv_loop_close(&loop->uv);
        pthread_mutex_destroy(&loop->lock);
        return code == UV_ENOMEM ? AB_ENOMEM : AB_EIO;
    }
    /* None of these can fail. */
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_idle_init(&loop->uv, &loop->idle);
    uv_timer_init(&loop->uv, &loop->tick);
    uv_timer_init(&loop->uv, &loop->stall);
    uv_timer_init(&loop->uv, &loop->alarm);
    loop->async.data = loop->prepare.data = loop->tick.data = loop->stall.data = loop->alarm.data = loop;
    uv_prepare_start(&loop->prepare, on_prepare);
    return AB_OK;
}

int ab_loop_start(ab_loop *loop)
{
    sigset_t all;
    sigset_t before;
    /* The application's signals are not for our threads, and a write to a closed socket must not kill it. */
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) {
        return AB_EIO;
    }
    loop->started = pthread_create(&loop->thread, NULL, loop_main, loop) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return loop->started ? AB_OK : AB_ENOMEM;
}

void ab_loop_stop(ab_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stop = true;
    ab_loop_wake(loop);
    pthread_mutex_unlock(&loop->lock);
    if (loop->started) {
        pthread_join(loop->thread, NULL);
    } else {
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    }
}

void ab_loop_free(ab_loop *loop)
{
    while (loop->handovers != NULL) {
        ab_handover *handover = loop->handovers;
        loop->handovers = handover->next;
        (void)close(handover->fd);
        free(handover);
    }
    (void)uv_loop_close(&loop->uv);
    pthread_mutex_destroy(&loop->lock);
}
