/* SPDX-License-Identifier: Apache-2.0 */
/* A child process that is one node of the measured cluster: opens it through the public interface, writes on order,
 * waits until it has applied everything, tells what it used. Main thread of the child. */
#include "tools/anabranch/bench_child.h"
#include "tools/anabranch/bench_sm.h"
#include "tools/anabranch/bench_writer.h"

#include <anabranch/anabranch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINK_TIMEOUT_NS 10000000000ull
#define LINK_POLL_NS 2000000u
#define DIGEST_TIMEOUT_MS 30000u

struct child {
    const struct ab_bench_setup *setup;
    ab_node *node;
    ab_group **groups;
    struct ab_bench_sm *machines;
    struct ab_bench_progress progress;
    struct ab_bench_work work;
    ab_bench_writer **writers;
    uint32_t writer_count;
    struct ab_bench_usage usage; /* at the end of the warm-up */
    uint64_t sent;               /* on all links, at the end of the warm-up */
    struct ab_bench_stats stats;
    uint64_t opened_ns;
    _Atomic uint32_t arrivals[AB_BENCH_SILENCES_MAX];
    struct ab_bench_msg msg;
};

static void log_line(void *ctx, ab_severity severity, const char *text)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    const struct child *child = ctx;
    fprintf(stderr, "anabranch bench: node %u: %s: %s\n", child->setup->id, names[severity], text);
}

static int open_node(struct child *child)
{
    const struct ab_bench_setup *setup = child->setup;
    ab_peer_config peers[AB_BENCH_NODES_MAX];
    ab_node_config config;
    ab_message message = {""};
    size_t count = 0;
    for (uint32_t id = 1; id <= setup->load.nodes; id++) {
        if (id != setup->id) {
            bool dial = id < setup->id;
            peers[count++] = (ab_peer_config){
                .node_id = id, .host = dial ? "127.0.0.1" : NULL, .port = setup->ports[id - 1]};
        }
    }
    ab_node_config_init(&config);
    config.cluster = "bench";
    config.node_id = setup->id;
    config.data_dir = setup->dir;
    config.listen_host = "127.0.0.1";
    config.peers = peers;
    config.peer_count = count;
    config.durability = setup->load.durability;
    config.queue_bytes = setup->load.queue_bytes;
    config.block_bytes = setup->load.block_bytes;
    config.dispatcher_threads = setup->load.dispatcher_threads;
    config.apply_threads = setup->load.apply_threads;
    config.log = log_line;
    config.log_ctx = child;
    config.log_severity = setup->verbose ? AB_LOG_WARN : AB_LOG_ERROR;
    int rc = ab_node_open(&config, &child->node, &message);
    return rc ? ab_bench_fail("opening: %s: %s", ab_error_name(rc), message.text) : 0;
}

static int open_group(struct child *child, uint32_t position)
{
    const struct ab_bench_setup *setup = child->setup;
    /* one for all where nothing is written: its own memory is not what is measured */
    struct ab_bench_sm *sm = &child->machines[setup->which == AB_BENCH_IDLE ? 0 : position];
    uint32_t members[AB_BENCH_NODES_MAX];
    ab_group_config config;
    ab_message message = {""};
    char name[AB_NAME_MAX + 1];
    for (uint32_t i = 0; i < setup->load.nodes; i++) {
        members[i] = i + 1;
    }
    snprintf(name, sizeof name, "bench-%u", position + 1);
    ab_group_config_init(&config);
    config.id = position + 1;
    config.name = name;
    config.backend = setup->load.backend;
    config.members = members;
    config.member_count = setup->load.nodes;
    config.apply_order = setup->load.order;
    int rc = ab_bench_sm_init(sm, &child->progress, config.id, setup->dir);
    if (rc == AB_OK) {
        rc = ab_group_open(child->node, &config, &ab_bench_statemachine, sm, &child->groups[position],
                           &message);
    }
    return rc ? ab_bench_fail("opening group %s: %s: %s", name, ab_error_name(rc), message.text) : 0;
}

struct link_sum {
    uint32_t up;
    uint64_t sent;
    char text[160];
};

static bool add_link(void *arg, const ab_link_status *status)
{
    struct link_sum *sum = arg;
    sum->up += status->up;
    sum->sent += status->sent_bytes;
    if (!status->up) {
        snprintf(sum->text, sizeof sum->text, "%s", status->last_error);
    }
    return true;
}

static struct link_sum links(const struct child *child)
{
    struct link_sum sum = {.text = ""};
    ab_node_links(child->node, add_link, &sum);
    return sum;
}

static int await_links(struct child *child)
{
    uint64_t until = ab_bench_now() + LINK_TIMEOUT_NS;
    uint32_t wanted = child->setup->load.nodes - 1;
    for (;;) {
        struct link_sum sum = links(child);
        if (sum.up == wanted) {
            return 0;
        }
        uint64_t now = ab_bench_now();
        if (now > until) {
            return ab_bench_fail("%u of %u links stand after 10 s; %s", sum.up, wanted, sum.text);
        }
        ab_bench_sleep_until(now + LINK_POLL_NS);
    }
}

static int make_writers(struct child *child)
{
    const struct ab_bench_setup *setup = child->setup;
    child->work = (struct ab_bench_work){
        .load = &setup->load, .which = setup->which, .node = setup->id, .groups = child->groups};
    uint32_t count = setup->writes ? setup->load.writers : 0;
    child->writers = calloc(count + 1u, sizeof child->writers[0]);
    if (!child->writers) {
        return ab_bench_fail("out of memory");
    }
    for (; child->writer_count < count; child->writer_count++) {
        child->writers[child->writer_count] = ab_bench_writer_new(&child->work, child->writer_count);
        if (!child->writers[child->writer_count]) {
            return ab_bench_fail("out of memory");
        }
    }
    return 0;
}

/* Waits for the end of the warm-up. */
static void begin_measuring(struct child *child)
{
    ab_bench_sleep_until(child->work.mark);
    child->sent = links(child).sent;
    ab_bench_usage_get(&child->usage);
}

/* Runs the writers until each has written its part and got every answer. */
static int write_all(struct child *child, struct ab_bench_done *done)
{
    uint32_t started = 0;
    int rc = 0;
    while (started < child->writer_count && rc == 0) {
        rc = ab_bench_writer_start(child->writers[started]);
        started += rc == 0;
    }
    begin_measuring(child);
    if (child->setup->which == AB_BENCH_IDLE) {
        ab_bench_sleep_until(child->work.mark + child->setup->load.duration_ns);
    }
    int code = AB_OK;
    for (uint32_t i = 0; i < started; i++) {
        ab_bench_writer_join(child->writers[i]);
        const struct ab_bench_tally *tally = ab_bench_writer_tally(child->writers[i]);
        done->entries += tally->entries;
        done->before += tally->warm ? tally->before : tally->entries;
        done->calls += tally->calls;
        done->busy += tally->busy;
        done->last_ack = tally->last_ack > done->last_ack ? tally->last_ack : done->last_ack;
        ab_hist_merge(&child->stats.latency, &tally->latency);
        child->stats.arrivals = tally->silences;
        code = code ? code : tally->code;
    }
    if (rc) {
        return ab_bench_fail("starting a writer: %s", strerror(rc));
    }
    if (code) {
        ab_message message;
        ab_node_message(child->node, &message);
        return ab_bench_fail("writing: %s (%s)%s%s", ab_error_name(code), ab_strerror(code),
                             message.text[0] != '\0' ? ": " : "", message.text);
    }
    return 0;
}

struct lag_text {
    char text[AB_BENCH_TEXT_MAX / 2];
    size_t used;
};

static bool add_lag(void *arg, const ab_sync_status *status)
{
    struct lag_text *lag = arg;
    const ab_peer_status *peer = &status->peer;
    if (status->lag_entries > 0 || peer->code) {
        int n = snprintf(lag->text + lag->used, sizeof lag->text - lag->used,
                         "; peer %u has our stream %u/%u up to %" PRIu64 " (lag %" PRIu64 ", next %" PRIu64
                         ", %s)",
                         peer->peer, peer->stream.node, peer->stream.epoch, peer->sync_index,
                         status->lag_entries, peer->next, ab_error_name(peer->code));
        lag->used += n > 0 ? (size_t)n : 0;
    }
    return lag->used < sizeof lag->text;
}

/* Says for the operator where things stand when they did not become equal. */
static int fail_behind(const struct child *child, const struct ab_bench_await *await)
{
    struct lag_text lag = {.text = ""};
    ab_group_status status = {0};
    uint64_t waiting = 0;
    int apply_code = AB_OK;
    for (uint32_t i = 0; i < child->setup->load.groups && lag.used < sizeof lag.text; i++) {
        ab_group_syncs(child->groups[i], add_lag, &lag);
        ab_group_get_status(child->groups[i], &status);
        waiting += status.apply_blocks;
        apply_code = apply_code ? apply_code : status.apply_code;
    }
    return ab_bench_fail("applied %" PRIu64 " of %" PRIu64 " entries after %" PRIu64 " s, %" PRIu64
                         " blocks wait for apply (%s)%s",
                         atomic_load(&child->progress.applied), await->entries,
                         await->timeout_ns / 1000000000u, waiting, ab_error_name(apply_code), lag.text);
}

static int await_equal(struct child *child, const struct ab_bench_await *await, struct ab_bench_equal *equal)
{
    if (!ab_bench_progress_await(&child->progress, await->entries, await->timeout_ns)) {
        return fail_behind(child, await);
    }
    uint32_t groups = child->setup->which == AB_BENCH_IDLE ? 1 : child->setup->load.groups;
    for (uint32_t i = 0; i < groups; i++) {
        ab_digest digest;
        uint64_t words[2];
        int rc = ab_group_digest(child->groups[i], DIGEST_TIMEOUT_MS, &digest, NULL);
        if (rc) {
            return ab_bench_fail("digest of group %u: %s", i + 1, ab_error_name(rc));
        }
        memcpy(words, digest.bytes, sizeof words);
        equal->digest[0] += words[0];
        equal->digest[1] += words[1];
    }
    uint64_t faults = atomic_load(&child->progress.faults);
    if (faults) {
        return ab_bench_fail("%" PRIu64 " entries were not the next of their stream", faults);
    }
    equal->entries = atomic_load(&child->progress.applied);
    uint64_t before = atomic_load(&child->progress.before);
    equal->before = before < equal->entries ? before : equal->entries;
    equal->last_apply = atomic_load(&child->progress.last);
    return 0;
}

static bool print_metric(void *arg, const ab_metric *metric)
{
    const struct child *child = arg;
    if (metric->value > 0) {
        fprintf(stderr, "anabranch bench: node %u: %s", child->setup->id, metric->name);
        if (metric->group) {
            fprintf(stderr, " group %" PRIu64, metric->group);
        }
        if (metric->peer) {
            fprintf(stderr, " peer %u", metric->peer);
        }
        fprintf(stderr, " %.15g\n", metric->value);
    }
    return true;
}

static int take_stats(struct child *child)
{
    struct ab_bench_stats *stats = &child->stats;
    ab_bench_usage_get(&stats->usage);
    ab_bench_usage_since(&stats->usage, &child->usage);
    for (uint32_t i = 0; i < AB_BENCH_SILENCES_MAX; i++) {
        stats->arrival_us[i] = atomic_load(&child->arrivals[i]);
    }
    stats->sent_bytes = links(child).sent - child->sent;
    if (child->setup->verbose) {
        ab_node_metrics(child->node, print_metric, child);
    }
    return ab_bench_answer(AB_BENCH_MSG_STATS, stats, sizeof *stats);
}

/* The run, order by order. A closed input means that the bench is gone: leave without a word. */
static int serve(struct child *child)
{
    struct ab_bench_msg *msg = &child->msg;
    struct ab_bench_ready ready = {ab_node_port(child->node), child->opened_ns};
    struct ab_bench_done done = {0};
    struct ab_bench_equal equal = {0};
    ab_bench_answer(AB_BENCH_MSG_READY, &ready, sizeof ready);
    if (ab_bench_order(msg, AB_BENCH_MSG_LINK) != 0 || await_links(child) != 0) {
        return 1;
    }
    ab_bench_answer(AB_BENCH_MSG_LINK, NULL, 0);
    if (ab_bench_order(msg, AB_BENCH_MSG_GO) != 0) {
        return 1;
    }
    child->work.start = msg->as.go.start;
    child->work.mark = msg->as.go.mark;
    atomic_store(&child->progress.mark, msg->as.go.mark);
    if (write_all(child, &done) != 0) {
        return 1;
    }
    ab_bench_answer(AB_BENCH_MSG_DONE, &done, sizeof done);
    if (ab_bench_order(msg, AB_BENCH_MSG_AWAIT) != 0 || await_equal(child, &msg->as.await, &equal) != 0) {
        return 1;
    }
    ab_bench_answer(AB_BENCH_MSG_EQUAL, &equal, sizeof equal);
    if (ab_bench_order(msg, AB_BENCH_MSG_STATS) != 0) {
        return 1;
    }
    take_stats(child);
    return ab_bench_order(msg, AB_BENCH_MSG_QUIT) == 0 ? 0 : 1;
}

static int open_and_serve(struct child *child)
{
    uint32_t groups = child->setup->load.groups;
    child->groups = calloc(groups, sizeof child->groups[0]);
    child->machines = calloc(child->setup->which == AB_BENCH_IDLE ? 1 : groups, sizeof child->machines[0]);
    uint64_t begun = ab_bench_now();
    if (!child->groups || !child->machines) {
        return ab_bench_fail("out of memory");
    }
    int code = open_node(child);
    for (uint32_t i = 0; i < groups && code == 0; i++) {
        code = open_group(child, i);
    }
    child->opened_ns = ab_bench_now() - begun;
    if (code == 0) {
        code = make_writers(child);
    }
    return code ? code : serve(child);
}

int ab_bench_node_main(const struct ab_bench_setup *setup)
{
    struct child *child = calloc(1, sizeof *child);
    if (!child || ab_bench_progress_init(&child->progress) != 0) {
        free(child);
        return ab_bench_fail("out of memory");
    }
    child->setup = setup;
    child->progress.arrivals = setup->which == AB_BENCH_SILENCE ? child->arrivals : NULL;
    int code = open_and_serve(child);
    int rc = child->node ? ab_node_close(child->node) : AB_OK;
    if (code == 0 && rc != AB_OK) {
        code = ab_bench_fail("closing: %s", ab_error_name(rc));
    }
    if (rc == AB_ETIMEDOUT) {
        return code; /* an apply thread may still be using what would be freed here */
    }
    if (code == 0) {
        ab_bench_answer(AB_BENCH_MSG_QUIT, NULL, 0);
    }
    for (uint32_t i = 0; i < child->writer_count; i++) {
        ab_bench_writer_free(child->writers[i]);
    }
    free(child->writers);
    free((void *)child->groups);
    free(child->machines);
    ab_bench_progress_destroy(&child->progress);
    free(child);
    return code;
}
