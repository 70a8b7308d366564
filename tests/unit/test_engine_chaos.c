/* SPDX-License-Identifier: Apache-2.0 */
/* Three nodes of one process under writers on every node, while nodes are closed and opened, state machines stall and
 * ask for time, queues are small and memory is short: at the end nothing acknowledged is missing anywhere, nothing is
 * there twice, and all are equal. The order of what happens comes from a seed that is printed on failure; AB_SEED sets it,
 * AB_LONG makes it long. */
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NODES 3u
#define WAIT_MS 60000u

static test_cluster cluster;

/* A writer of one node. Its group goes away and comes back under it. */
typedef struct writer {
    pthread_t thread;
    pthread_mutex_t lock; /* held while `group` is used or changed */
    ab_group *group;      /* NULL: the node is closed */
    size_t node;
    atomic_bool stop;
    atomic_uint accepted, completed;
    atomic_uchar *acked; /* by number of the write */
    unsigned capacity;
    unsigned next;
} writer;

static writer writers[NODES];

typedef struct write_ref {
    writer *by;
    unsigned number;
} write_ref;

static void on_write(void *arg, const ab_write_result *result)
{
    write_ref *ref = arg;
    if (result->code == AB_OK) {
        atomic_store(&ref->by->acked[ref->number], 1);
    }
    atomic_fetch_add(&ref->by->completed, 1);
    free(ref);
}

static void write_one(writer *self)
{
    char text[40];
    write_ref *ref = malloc(sizeof *ref);
    if (ref == NULL) {
        return;
    }
    *ref = (write_ref){self, self->next};
    int length = snprintf(text, sizeof text, "%zu-%u", self->node, self->next);
    ab_write_options options = {.wait_ms = 20};
    int code = ab_write(self->group, text, (size_t)length, &options, on_write, ref);
    if (code == AB_OK) {
        atomic_fetch_add(&self->accepted, 1);
        self->next++;
    } else {
        free(ref);
    }
}

static void *writer_main(void *arg)
{
    writer *self = arg;
    struct timespec pause = {.tv_nsec = 200000};
    while (!atomic_load(&self->stop) && self->next < self->capacity) {
        pthread_mutex_lock(&self->lock);
        for (unsigned i = 0; i < 8 && self->group != NULL && self->next < self->capacity; i++) {
            write_one(self);
        }
        pthread_mutex_unlock(&self->lock);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* paces the load; nothing waits for it */
    }
    return NULL;
}

static void open_node(size_t i)
{
    ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    pthread_mutex_lock(&writers[i].lock);
    writers[i].group = cluster.nodes[i].group;
    pthread_mutex_unlock(&writers[i].lock);
}

static void close_node(size_t i)
{
    pthread_mutex_lock(&writers[i].lock);
    writers[i].group = NULL;
    pthread_mutex_unlock(&writers[i].lock);
    ck_assert_int_eq(test_cluster_close(&cluster, i), AB_OK);
    ck_assert_uint_eq(atomic_load(&writers[i].accepted), atomic_load(&writers[i].completed));
}

static void small(ab_node_config *config)
{
    config->payload_max = 1024;
    config->queue_bytes = 8192;
    config->block_bytes = 4096;
    config->memory_budget = 8u << 20;
    config->window_blocks = 4;
    config->apply_threads = 1;
    config->dispatcher_threads = 2;
}

static unsigned pick(unsigned *seed, unsigned below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 16) % below;
}

static void wait_for_traffic(size_t i, unsigned more)
{
    struct timespec pause = {.tv_nsec = 1000000};
    unsigned goal = atomic_load(&writers[i].completed) + more;
    for (unsigned k = 0; k < WAIT_MS && atomic_load(&writers[i].completed) < goal; k++) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
}

static void disturb(unsigned *seed)
{
    size_t victim = pick(seed, NODES), other = (victim + 1) % NODES;
    test_sm *sm = &cluster.nodes[victim].sm;
    switch (pick(seed, 4)) {
    case 0:
        test_sm_block(sm, true);
        wait_for_traffic(other, 100);
        test_sm_block(sm, false);
        break;
    case 1:
        pthread_mutex_lock(&sm->lock);
        sm->fail_code = AB_ERETRY;
        sm->fail_times = 3;
        pthread_mutex_unlock(&sm->lock);
        wait_for_traffic(victim, 50);
        break;
    default:
        close_node(victim);
        wait_for_traffic(other, 50 + pick(seed, 200));
        open_node(victim);
        wait_for_traffic(victim, 20);
        break;
    }
}

/* Every acknowledged write of `by` is in `sm` exactly once, every other one at most once. */
static void check_node(test_sm *sm, const writer *by, size_t node)
{
    unsigned char *seen = calloc(by->capacity, 1);
    for (size_t i = 0; i < sm->count; i++) {
        size_t from = 0;
        unsigned number = 0;
        ck_assert_int_eq(sscanf(sm->entries[i].text, "%zu-%u", &from, &number), 2);
        if (from == by->node) {
            ck_assert_msg(seen[number] == 0, "node %zu has %s twice", node, sm->entries[i].text);
            seen[number] = 1;
        }
    }
    for (unsigned number = 0; number < by->next; number++) {
        ck_assert_msg(seen[number] == 1 || !atomic_load(&by->acked[number]),
                      "node %zu lacks acknowledged %zu-%u", node, by->node, number);
    }
    free(seen);
}

static size_t most_applied(void)
{
    size_t most = 0;
    for (size_t i = 0; i < NODES; i++) {
        size_t count = test_sm_count(&cluster.nodes[i].sm);
        most = count > most ? count : most;
    }
    return most;
}

/* Waits until all have the same number of entries and nothing is under way. */
static void settle(void)
{
    size_t goal = 0;
    for (size_t i = 0; i < NODES; i++) {
        ck_assert_int_eq(ab_write_wait(cluster.nodes[i].group, &(ab_bytes){"9-0", 3}, 1, NULL, NULL), AB_OK);
        goal += writers[i].next + 1; /* nobody was killed: what was accepted is stored */
    }
    for (size_t i = 0; i < NODES; i++) {
        ck_assert_msg(test_sm_wait(&cluster.nodes[i].sm, goal, WAIT_MS),
                      "node %zu has %zu of %zu entries (most: %zu)", i + 1,
                      test_sm_count(&cluster.nodes[i].sm), goal, most_applied());
    }
}

START_TEST(nodes_come_and_go)
{
    unsigned seed = getenv("AB_SEED") != NULL ? (unsigned)atoi(getenv("AB_SEED")) : (unsigned)time(NULL);
    unsigned rounds = getenv("AB_LONG") != NULL ? 200 : 12;
    fprintf(stderr, "test_engine_chaos: again with AB_SEED=%u\n", seed);
    test_cluster_init(&cluster, NODES);
    cluster.tune = small;
    for (size_t i = 0; i < NODES; i++) {
        writer *self = &writers[i];
        self->node = i;
        self->capacity = rounds * 4000;
        self->acked = calloc(self->capacity, sizeof *self->acked);
        pthread_mutex_init(&self->lock, NULL);
        open_node(i);
        ck_assert_int_eq(pthread_create(&self->thread, NULL, writer_main, self), 0);
    }
    for (unsigned round = 0; round < rounds; round++) {
        disturb(&seed);
    }
    for (size_t i = 0; i < NODES; i++) {
        atomic_store(&writers[i].stop, true);
        pthread_join(writers[i].thread, NULL);
    }
    settle();
    ab_digest digests[NODES];
    for (size_t i = 0; i < NODES; i++) {
        test_sm *sm = &cluster.nodes[i].sm;
        ck_assert_int_eq(ab_group_digest(cluster.nodes[i].group, WAIT_MS, &digests[i], NULL), AB_OK);
        ck_assert_mem_eq(&digests[i], &digests[0], sizeof digests[0]);
        ck_assert_int_eq(sm->order_errors, 0);
        for (size_t k = 0; k < NODES; k++) {
            check_node(sm, &writers[k], i + 1);
        }
    }
    test_cluster_free(&cluster);
    for (size_t i = 0; i < NODES; i++) {
        free(writers[i].acked);
        pthread_mutex_destroy(&writers[i].lock);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("chaos");
    tcase_set_timeout(tcase, 1200);
    tcase_add_test(tcase, nodes_come_and_go);
    Suite *suite = suite_create("engine_chaos");
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
