/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: the least that a durable log on LMDB can be. One thread encodes entries into one block record
 * per commit, deletes the oldest block beyond the backlog in the same transaction, and syncs. Main thread only. */
#include "tools/anabranch/bench_child.h"

#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

#define KEY_SIZE 24u
#define FRAMING 3u      /* hlc delta (fixint) and bin 8 header of msgpack */
#define FRAMING_LONG 6u /* and bin 32 */

struct loop {
    const struct ab_bench_setup *setup;
    MDB_env *env;
    MDB_dbi dbi;
    uint8_t *payload;
    uint64_t next;   /* index of the next entry */
    uint64_t oldest; /* first index of the oldest block kept */
    uint64_t blocks; /* kept */
    struct ab_bench_done done;
    struct ab_hist latency;
};

/* The key of a block as the log has it: group, node, epoch, first index; big-endian so that they sort. */
static void make_key(uint8_t key[KEY_SIZE], uint32_t node, uint64_t first)
{
    memset(key, 0, KEY_SIZE);
    key[7] = 1;
    key[11] = (uint8_t)node;
    key[15] = 1;
    for (unsigned i = 0; i < 8; i++) {
        key[16 + i] = (uint8_t)(first >> (56 - 8 * i));
    }
}

static size_t entry_size(uint32_t payload)
{
    return payload + (payload < 256 ? FRAMING : FRAMING_LONG);
}

static uint8_t *encode(uint8_t *to, const struct loop *loop, uint64_t index)
{
    uint32_t size = loop->setup->load.payload;
    *to++ = 1;
    if (size < 256) {
        *to++ = 0xc4;
        *to++ = (uint8_t)size;
    } else {
        *to++ = 0xc6;
        for (int shift = 24; shift >= 0; shift -= 8) {
            *to++ = (uint8_t)(size >> shift);
        }
    }
    memcpy(to, loop->payload, size);
    memcpy(to, &index, sizeof index);
    return to + size;
}

static int commit_block(struct loop *loop)
{
    uint32_t count = loop->setup->ref.block;
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(loop->env, NULL, 0, &txn);
    if (rc) {
        return rc;
    }
    uint8_t bytes[KEY_SIZE];
    MDB_val key = {KEY_SIZE, bytes};
    MDB_val value = {count * entry_size(loop->setup->load.payload), NULL};
    make_key(bytes, loop->setup->id, loop->next);
    rc = mdb_put(txn, loop->dbi, &key, &value, MDB_RESERVE | MDB_APPEND);
    if (rc == 0) {
        uint8_t *to = value.mv_data;
        for (uint32_t i = 0; i < count; i++) {
            to = encode(to, loop, loop->next + i);
        }
        if (loop->blocks >= loop->setup->ref.backlog) {
            make_key(bytes, loop->setup->id, loop->oldest);
            rc = mdb_del(txn, loop->dbi, &key, NULL);
        }
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = mdb_txn_commit(txn);
    if (rc == 0) {
        loop->next += count;
        loop->blocks++;
        if (loop->blocks > loop->setup->ref.backlog) {
            loop->blocks--;
            loop->oldest += count;
        }
    }
    return rc;
}

static int open_env(struct loop *loop)
{
    int rc = mdb_env_create(&loop->env);
    if (rc) {
        return rc;
    }
    rc = mdb_env_set_mapsize(loop->env, (size_t)64 << 30);
    if (rc == 0) {
        rc = mdb_env_open(loop->env, loop->setup->dir, 0, 0600);
    }
    MDB_txn *txn = NULL;
    if (rc == 0) {
        rc = mdb_txn_begin(loop->env, NULL, 0, &txn);
    }
    if (rc) {
        return rc;
    }
    rc = mdb_dbi_open(txn, NULL, 0, &loop->dbi);
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int run(struct loop *loop, const struct ab_bench_go *go, struct ab_bench_usage *before)
{
    uint64_t end = go->mark + loop->setup->load.duration_ns;
    bool warm = false;
    ab_bench_sleep_until(go->start);
    uint64_t begun = ab_bench_now();
    while (begun < end) {
        if (!warm && begun >= go->mark) {
            warm = true;
            loop->done.before = loop->done.entries;
            ab_bench_usage_get(before);
        }
        int rc = commit_block(loop);
        if (rc) {
            return rc;
        }
        uint64_t now = ab_bench_now();
        loop->done.calls++;
        bool rests = loop->setup->ref.rests;
        bool last = rests && loop->done.calls % AB_BENCH_BEFORE_SILENCE == 0;
        if (warm && (last || !rests)) {
            ab_hist_add(&loop->latency, now - begun);
        }
        loop->done.entries += loop->setup->ref.block;
        loop->done.last_ack = now;
        if (last) {
            ab_bench_sleep_until(now + AB_BENCH_SILENCE_NS);
        }
        begun = last ? ab_bench_now() : now;
    }
    return 0;
}

static int serve(struct loop *loop)
{
    struct ab_bench_msg *msg = calloc(1, sizeof *msg);
    struct ab_bench_stats *stats = calloc(1, sizeof *stats);
    struct ab_bench_ready ready = {0};
    struct ab_bench_usage before = {0};
    int code = 1;
    if (!msg || !stats) {
        code = ab_bench_fail("out of memory");
        goto out;
    }
    ab_bench_answer(AB_BENCH_MSG_READY, &ready, sizeof ready);
    if (ab_bench_order(msg, AB_BENCH_MSG_GO) != 0) {
        goto out;
    }
    int rc = run(loop, &msg->as.go, &before);
    if (rc) {
        code = ab_bench_fail("reference loop in %s: %s", loop->setup->dir, mdb_strerror(rc));
        goto out;
    }
    ab_bench_usage_get(&stats->usage);
    ab_bench_usage_since(&stats->usage, &before);
    stats->latency = loop->latency;
    ab_bench_answer(AB_BENCH_MSG_DONE, &loop->done, sizeof loop->done);
    if (ab_bench_order(msg, AB_BENCH_MSG_STATS) != 0) {
        goto out;
    }
    ab_bench_answer(AB_BENCH_MSG_STATS, stats, sizeof *stats);
    if (ab_bench_order(msg, AB_BENCH_MSG_QUIT) == 0) {
        code = 0;
    }
out:
    free(msg);
    free(stats);
    return code;
}

int ab_bench_loop_main(const struct ab_bench_setup *setup)
{
    struct loop *loop = calloc(1, sizeof *loop);
    uint8_t *payload = malloc(setup->load.payload);
    int code = 1;
    if (!loop || !payload) {
        code = ab_bench_fail("out of memory");
        goto out;
    }
    memset(payload, 'x', setup->load.payload);
    loop->setup = setup;
    loop->payload = payload;
    loop->next = 1;
    loop->oldest = 1;
    int rc = open_env(loop);
    if (rc) {
        code = ab_bench_fail("reference loop in %s: %s", setup->dir, mdb_strerror(rc));
    } else {
        code = serve(loop);
    }
out:
    if (loop && loop->env) {
        mdb_env_close(loop->env);
    }
    free(payload);
    free(loop);
    if (code == 0) {
        ab_bench_answer(AB_BENCH_MSG_QUIT, NULL, 0);
    }
    return code;
}
