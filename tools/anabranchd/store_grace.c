/* SPDX-License-Identifier: Apache-2.0 */
/* When a tombstone may go: once every member was heard with an entry that is later than it by the grace. Clocks of one
 * stream only go forward, so whatever a member wrote before that entry was applied here before it, and whatever it writes after it
 * is later than the tombstone; the grace is for what this leaves: a member that forgot its clock together with its data and
 * starts with a wrong one, and entries that lay unapplied on another member for that long. What is heard depends on which
 * entries were applied alone, not on their order, and so does which tombstones are kept: digests stay comparable. The thread that
 * applies; `heard` is read by others under summary_lock. */
#include "tools/anabranchd/bytes.h"
#include "tools/anabranchd/store_internal.h"

#include <stdlib.h>

/* Milliseconds of an hlc begin here. */
#define HLC_MS 16

static ab_heard *find(const ab_store *store, uint32_t node)
{
    for (size_t i = 0; i < store->heard_count; i++) {
        if (store->heard[i].node == node) {
            return &store->heard[i];
        }
    }
    return NULL;
}

static int add(ab_store *store, uint32_t node)
{
    int code = AB_OK;
    pthread_mutex_lock(&store->summary_lock);
    ab_heard *heard = realloc(store->heard, (store->heard_count + 1) * sizeof *heard);
    if (heard != NULL) {
        store->heard = heard;
        heard[store->heard_count++] = (ab_heard){.node = node};
    } else {
        code = AB_ENOMEM;
    }
    pthread_mutex_unlock(&store->summary_lock);
    return code;
}

int ab_heard_reserve(ab_store *store, const ab_entry *entries, size_t count)
{
    int code = AB_OK;
    for (size_t i = 0; i < count && code == AB_OK; i++) {
        bool same = i > 0 && entries[i].stream.node == entries[i - 1].stream.node;
        if (!same && find(store, entries[i].stream.node) == NULL) {
            code = add(store, entries[i].stream.node);
        }
    }
    return code;
}

/* The newest stream of a node counts alone: in it the clock goes on from where the node now is. */
void ab_heard_note(ab_store *store, const ab_entry *entries, size_t count)
{
    pthread_mutex_lock(&store->summary_lock);
    for (size_t i = 0; i < count; i++) {
        ab_heard *h = find(store, entries[i].stream.node);
        if (h == NULL || entries[i].stream.epoch < h->epoch) {
            continue;
        }
        bool newer = entries[i].stream.epoch > h->epoch;
        h->epoch = entries[i].stream.epoch;
        h->hlc = newer || entries[i].hlc > h->hlc ? entries[i].hlc : h->hlc;
    }
    pthread_mutex_unlock(&store->summary_lock);
}

int ab_store_set_grace(ab_store *store, const uint32_t *members, size_t count, uint64_t grace_ms)
{
    uint32_t *copy = malloc(count * sizeof *copy + 1);
    if (copy == NULL) {
        return AB_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        copy[i] = members[i];
    }
    free(store->members);
    store->members = copy;
    store->member_count = count;
    store->grace_ms = grace_ms;
    return AB_OK;
}

uint64_t ab_store_horizon(const ab_store *store)
{
    uint64_t grace = store->grace_ms << HLC_MS;
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < store->member_count; i++) {
        const ab_heard *h = find(store, store->members[i]);
        uint64_t hlc = h != NULL ? h->hlc : 0;
        least = hlc < least ? hlc : least;
    }
    return store->member_count > 0 && least > grace ? least - grace : 0;
}

bool ab_store_wants_sign(const ab_store *store, uint32_t node, uint64_t now_ms)
{
    ab_store *s = (ab_store *)(uintptr_t)store;
    pthread_mutex_lock(&s->summary_lock);
    uint64_t oldest_ms = s->counters.oldest >> HLC_MS;
    const ab_heard *h = find(s, node);
    uint64_t heard_ms = h != NULL ? h->hlc >> HLC_MS : 0;
    bool kept = s->counters.tombstones > 0 && s->member_count > 0;
    pthread_mutex_unlock(&s->summary_lock);
    /* Not the moment when one could go, but when some could. */
    uint64_t due_ms = oldest_ms + store->grace_ms + store->grace_ms / 8 + 1;
    return kept && now_ms > due_ms && heard_ms <= oldest_ms + store->grace_ms;
}

#define HEARD_SIZE 16u /* node u32, epoch u32, hlc u64; little-endian */

static MDB_val record_key(void)
{
    return (MDB_val){5, (void *)(uintptr_t) "heard"};
}

int ab_heard_load(ab_store *store, MDB_txn *txn)
{
    MDB_val key = record_key();
    MDB_val data;
    int rc = mdb_get(txn, store->meta_dbi, &key, &data);
    if (rc == MDB_NOTFOUND) {
        return AB_OK; /* of a format before 3: nobody was heard yet */
    }
    if (rc != MDB_SUCCESS || data.mv_size % HEARD_SIZE != 0) {
        return AB_ECORRUPT;
    }
    size_t count = data.mv_size / HEARD_SIZE;
    store->heard = malloc(count * sizeof *store->heard + 1);
    if (store->heard == NULL) {
        return AB_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *in = (const uint8_t *)data.mv_data + i * HEARD_SIZE;
        store->heard[i] = (ab_heard){(uint32_t)ab_get_little(in, 4), (uint32_t)ab_get_little(in + 4, 4),
                                     ab_get_little(in + 8, 8)};
    }
    store->heard_count = count;
    return AB_OK;
}

int ab_heard_save(const ab_store *store, MDB_txn *txn)
{
    MDB_val key = record_key();
    MDB_val data = {store->heard_count * HEARD_SIZE, NULL};
    int rc = mdb_put(txn, store->meta_dbi, &key, &data, MDB_RESERVE);
    for (size_t i = 0; i < store->heard_count && rc == MDB_SUCCESS; i++) {
        uint8_t *out = (uint8_t *)data.mv_data + i * HEARD_SIZE;
        ab_put_little(out, store->heard[i].node, 4);
        ab_put_little(out + 4, store->heard[i].epoch, 4);
        ab_put_little(out + 8, store->heard[i].hlc, 8);
    }
    return rc;
}
