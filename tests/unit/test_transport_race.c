/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both nodes dial at the same moment: there is always exactly one link in the end, the same on both sides, and every up
 * has its down. With restarts, drops and other nodes meanwhile. AB_SEED=N repeats one seed, AB_LONG=1 runs many.
 */
#include "tests/support/run.h"
#include "tests/unit/transport_node.h"

#include <anabranch/error.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES 3

typedef struct cluster {
    node nodes[NODES];
    ab_peer_config peers[NODES]; /* the same list for all: own entries are skipped */
    uint64_t seed;
    unsigned incarnation;
} cluster;

static uint64_t first_seed(void)
{
    const char *text = getenv("AB_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

static unsigned rounds(unsigned usual)
{
    if (getenv("AB_SEED") != NULL) {
        return 1;
    }
    return getenv("AB_LONG") != NULL ? usual * 20 : usual;
}

static int start_node(cluster *c, unsigned i)
{
    ab_message message;
    ab_transport_config config = node_config(i + 1, c->peers, NODES);
    config.listen_host = "127.0.0.1";
    config.listen_port = c->peers[i].port;
    config.retry_min_ms = 1;
    config.retry_max_ms = 20;
    config.threads = 1 + (uint32_t)(c->seed % 2);
    config.seed = c->seed * 100 + i + c->incarnation++;
    return node_try_start(&c->nodes[i], &config, &message);
}

static void cluster_start(cluster *c, uint64_t seed)
{
    memset(c, 0, sizeof(*c));
    c->seed = seed;
    for (unsigned started = 0; started < NODES;) {
        if (started == 0) {
            for (unsigned i = 0; i < NODES; i++) {
                c->peers[i] =
                    (ab_peer_config){.node_id = i + 1, .host = "127.0.0.1", .port = node_free_port()};
            }
        }
        if (start_node(c, started) == AB_OK) {
            started++;
            continue;
        }
        while (started > 0) { /* somebody else took the port meanwhile */
            node_stop(&c->nodes[--started]);
        }
    }
}

static bool all_up(node *n, uint64_t nodes)
{
    for (uint32_t id = 1; id <= nodes; id++) {
        if (id != n->id && !n->links[id].up) {
            return false;
        }
    }
    return true;
}

static void wait_all_up(cluster *c)
{
    for (unsigned i = 0; i < NODES; i++) {
        bool up = node_wait_for(&c->nodes[i], all_up, NODES, 15000);
        ck_assert_msg(up, "node %u is not linked with all; repeat with AB_SEED=%llu", i + 1,
                      (unsigned long long)c->seed);
    }
}

static bool fell_since(node *n, uint64_t downs)
{
    uint64_t sum = 0;
    for (uint32_t id = 1; id <= NODES; id++) {
        sum += n->links[id].downs;
    }
    return sum > downs;
}

static uint64_t downs_of(node *n)
{
    uint64_t sum = 0;
    pthread_mutex_lock(&n->lock);
    for (uint32_t id = 1; id <= NODES; id++) {
        sum += n->links[id].downs;
    }
    pthread_mutex_unlock(&n->lock);
    return sum;
}

/* Every pair has one link that works both ways, and stays. */
static void check_settled(cluster *c)
{
    uint64_t downs[NODES];
    for (unsigned attempt = 0;; attempt++) {
        wait_all_up(c);
        bool fell = false;
        for (unsigned i = 0; i < NODES; i++) {
            downs[i] = downs_of(&c->nodes[i]);
        }
        for (unsigned i = 0; i < NODES; i++) {
            fell = node_wait_for(&c->nodes[i], fell_since, downs[i], 10) || fell;
        }
        if (!fell) {
            break;
        }
        ck_assert_msg(attempt < 50, "links keep falling; repeat with AB_SEED=%llu",
                      (unsigned long long)c->seed);
    }
}

static uint64_t all_downs(cluster *c)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < NODES; i++) {
        sum += downs_of(&c->nodes[i]);
    }
    return sum;
}

/* @return false: it was not taken, or did not arrive and a link fell meanwhile */
static bool message_arrives(cluster *c, node *from, uint32_t to)
{
    node *receiver = &c->nodes[to - 1];
    uint64_t downs = all_downs(c);
    pthread_mutex_lock(&receiver->lock);
    uint64_t number = receiver->links[from->id].last_message + 1;
    unsigned count = receiver->links[from->id].messages + 1;
    pthread_mutex_unlock(&receiver->lock);
    bool there = false;
    if (node_message(from, to, number, 64) != AB_OK) {
        return false;
    }
    for (unsigned waited = 0; waited < 300 && !there && all_downs(c) == downs; waited++) {
        there = node_wait_for(receiver, node_has_messages, NODE_COUNT(from->id, count), 100);
    }
    ck_assert_msg(there || all_downs(c) != downs, "a message of node %u to node %u is lost", from->id, to);
    return there;
}

/* What was dropped a moment ago may fall once more: both sides were told to, each in its own time. */
static void check_messages(cluster *c)
{
    for (unsigned i = 0; i < NODES; i++) {
        for (uint32_t peer = 1; peer <= NODES; peer++) {
            unsigned attempts = 0;
            while (peer != i + 1 && !message_arrives(c, &c->nodes[i], peer)) {
                ck_assert_uint_lt(++attempts, 50);
                check_settled(c);
            }
        }
    }
}

static void cluster_stop(cluster *c)
{
    for (unsigned i = 0; i < NODES; i++) {
        unsigned at = (unsigned)((c->seed + i) % NODES);
        node_stop(&c->nodes[at]);
    }
}

/* All start together; each pair may connect both ways at once. No link that stood may fall. */
START_TEST(simultaneous_start)
{
    unsigned flaps = 0;
    for (unsigned r = 0; r < rounds(150); r++) {
        cluster c;
        cluster_start(&c, first_seed() + r);
        check_settled(&c);
        check_messages(&c);
        for (unsigned i = 0; i < NODES; i++) {
            flaps += (unsigned)downs_of(&c.nodes[i]);
        }
        cluster_stop(&c);
    }
    ck_assert_uint_eq(flaps, 0);
}
END_TEST

/* Links are dropped from both sides at once, so that both dial at the same moment, hundreds of times. */
START_TEST(simultaneous_drops)
{
    cluster c;
    cluster_start(&c, first_seed());
    for (unsigned r = 0; r < rounds(200); r++) {
        check_settled(&c);
        if (r % 10 == 0) {
            check_messages(&c);
        }
        for (unsigned i = 0; i < NODES; i++) {
            for (uint32_t peer = 1; peer <= NODES; peer++) {
                ab_transport_drop(c.nodes[i].transport, peer, AB_ENOMEM, "test");
            }
        }
    }
    check_settled(&c);
    check_messages(&c);
    unsigned contested = 0;
    for (unsigned i = 0; i < NODES; i++) {
        contested += c.nodes[i].contested;
    }
    cluster_stop(&c);
    ck_assert_msg(contested > 0 || getenv("AB_SEED") != NULL,
                  "no two connections ever met: the test shows nothing");
}
END_TEST

/* A node goes and comes back while the others dial it. */
START_TEST(restarts)
{
    uint64_t seed = first_seed();
    cluster c;
    cluster_start(&c, seed);
    for (unsigned r = 0; r < rounds(60); r++) {
        unsigned at = (unsigned)(node_random(&seed) % NODES);
        if (node_random(&seed) % 2 == 0) {
            check_settled(&c);
        }
        node_stop(&c.nodes[at]);
        if (node_random(&seed) % 2 == 0) {
            (void)node_wait_for(&c.nodes[(at + 1) % NODES], node_is_down, at + 1, 50);
        }
        while (start_node(&c, at) != AB_OK) {
            /* somebody dials from that very port as an ephemeral one: it will be free again */
        }
    }
    check_settled(&c);
    check_messages(&c);
    cluster_stop(&c);
}
END_TEST

/* Traffic from several threads while links come and go: nothing is damaged, doubled or reordered within a link. */
typedef struct sender {
    pthread_t thread;
    node *from;
    uint32_t peer;
    _Atomic bool *stop;
} sender;

static void *send_blocks(void *arg)
{
    sender *s = arg;
    uint64_t first = 1;
    while (!atomic_load(s->stop)) {
        ab_buf *buf = node_block(&s->from->budget, s->from->id, first, 1000 + first % 50000);
        first++;
        (void)ab_transport_send_block(s->from->transport, s->peer, buf);
        ab_buf_unref(buf);
        if (first % 16 == 0) {
            (void)ab_transport_timer(s->from->transport, first % 64, ab_monotonic_ns() + 1000000);
        }
    }
    return NULL;
}

START_TEST(traffic_under_drops)
{
    cluster c;
    _Atomic bool stop = false;
    sender senders[NODES * NODES];
    unsigned count = 0;
    cluster_start(&c, first_seed());
    wait_all_up(&c);
    for (unsigned i = 0; i < NODES; i++) {
        for (uint32_t peer = 1; peer <= NODES; peer++) {
            if (peer != i + 1) {
                sender *s = &senders[count++];
                *s = (sender){.from = &c.nodes[i], .peer = peer, .stop = &stop};
                ck_assert_int_eq(pthread_create(&s->thread, NULL, send_blocks, s), 0);
            }
        }
    }
    uint64_t seed = c.seed;
    for (unsigned r = 0; r < rounds(60); r++) {
        node *n = &c.nodes[node_random(&seed) % NODES];
        uint32_t peer = 1 + (uint32_t)(node_random(&seed) % NODES);
        if (peer == n->id) {
            continue;
        }
        pthread_mutex_lock(&n->lock);
        unsigned blocks = n->links[peer].blocks;
        pthread_mutex_unlock(&n->lock);
        (void)node_wait_for(n, node_has_blocks, NODE_COUNT(peer, blocks + 3), 100);
        ab_transport_drop(n->transport, peer, AB_ENOMEM, "test");
        ab_transport_pause(n->transport, r % 3 == 0);
    }
    for (unsigned i = 0; i < NODES; i++) {
        ab_transport_pause(c.nodes[i].transport, false);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < count; i++) {
        pthread_join(senders[i].thread, NULL);
    }
    wait_all_up(&c);
    cluster_stop(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport-race");
    TCase *tcase = tcase_create("race");
    tcase_set_timeout(tcase, getenv("AB_LONG") != NULL ? 3600 : 110);
    tcase_add_test(tcase, simultaneous_start);
    tcase_add_test(tcase, simultaneous_drops);
    tcase_add_test(tcase, restarts);
    tcase_add_test(tcase, traffic_under_drops);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
