/* SPDX-License-Identifier: Apache-2.0 */
/* The LMDB environment of a store: opening, growing, its small records. Called by the thread that applies, and by
 * ab_store_open(). */
#include "tools/anabranchd/bytes.h"
#include "tools/anabranchd/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Small: a node may have hundreds of groups. It doubles when it is full; LMDB opens a larger file with a larger map. */
#define MAP_INITIAL (16u << 20)
#define DATABASES 4

int ab_store_code(int lmdb_code)
{
    switch (lmdb_code) {
    case MDB_SUCCESS:
        return AB_OK;
    case ENOMEM:
        return AB_ENOMEM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return AB_ENOSPC;
    case MDB_VERSION_MISMATCH:
        return AB_EVERSION;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
        return AB_ECORRUPT;
    default:
        return AB_EIO;
    }
}

static int report(const ab_store *store, ab_message *message, int code, const char *what, const char *why)
{
    if (message != NULL) {
        snprintf(message->text, sizeof message->text, "point store %.300s: %s: %s", store->dir, what, why);
    }
    return code;
}

static int open_databases(ab_store *store)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = mdb_dbi_open(txn, "columns", MDB_CREATE, &store->columns_dbi);
    rc = rc == MDB_SUCCESS ? mdb_dbi_open(txn, "points", MDB_CREATE, &store->points_dbi) : rc;
    rc = rc == MDB_SUCCESS ? mdb_dbi_open(txn, "tombstones", MDB_CREATE, &store->tombstones_dbi) : rc;
    rc = rc == MDB_SUCCESS ? mdb_dbi_open(txn, "meta", MDB_CREATE, &store->meta_dbi) : rc;
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

int ab_store_env_open(ab_store *store, ab_message *message)
{
    if (mkdir(store->dir, 0700) != 0 && errno != EEXIST) {
        int code = ab_store_code(errno);
        return report(store, message, code, "cannot make the directory", strerror(errno));
    }
    int rc = mdb_env_create(&store->env);
    if (rc != MDB_SUCCESS) {
        store->env = NULL;
        return report(store, message, ab_store_code(rc), "cannot open", mdb_strerror(rc));
    }
    rc = mdb_env_set_maxdbs(store->env, DATABASES);
    rc = rc == MDB_SUCCESS ? mdb_env_set_mapsize(store->env, MAP_INITIAL) : rc;
    rc = rc == MDB_SUCCESS ? mdb_env_open(store->env, store->dir, MDB_NOTLS, 0600) : rc;
    rc = rc == MDB_SUCCESS ? open_databases(store) : rc;
    if (rc != MDB_SUCCESS) {
        mdb_env_close(store->env);
        store->env = NULL;
        return report(store, message, ab_store_code(rc), "cannot open",
                      rc == EMFILE ? "too many open files: raise their limit (ulimit -n; LimitNOFILE of the "
                                     "service), a group takes three, or have fewer groups"
                                   : mdb_strerror(rc));
    }
    return AB_OK;
}

int ab_store_env_grow(ab_store *store)
{
    MDB_envinfo info;
    pthread_rwlock_wrlock(&store->lock);
    int rc = mdb_env_info(store->env, &info);
    rc = rc == MDB_SUCCESS ? mdb_env_set_mapsize(store->env, info.me_mapsize * 2) : rc;
    pthread_rwlock_unlock(&store->lock);
    return ab_store_code(rc);
}

int ab_store_env_reopen(ab_store *store)
{
    pthread_rwlock_wrlock(&store->lock);
    if (store->env != NULL) {
        mdb_env_close(store->env);
        store->env = NULL;
    }
    int code = store->closed ? AB_ECLOSED : ab_store_env_open(store, NULL);
    pthread_rwlock_unlock(&store->lock);
    return code;
}

static int get_record(const ab_store *store, MDB_txn *txn, const char *name, MDB_val *data)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name};
    return mdb_get(txn, store->meta_dbi, &key, data);
}

static int put_record(const ab_store *store, MDB_txn *txn, const char *name, const void *bytes, size_t size)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name};
    MDB_val data = {size, (void *)(uintptr_t)bytes};
    return mdb_put(txn, store->meta_dbi, &key, &data, 0);
}

/* Records of numbers: u64, little-endian. */

enum { HEAD_FORMAT, HEAD_GROUP, HEAD_SIZE };
enum {
    COUNT_POINTS,
    COUNT_COLUMNS,
    COUNT_DIGEST_LOW,
    COUNT_DIGEST_HIGH,
    COUNT_NEXT_ID,
    COUNT_NEXT_NODE,
    COUNT_SIZE
};

static int load_head(const ab_store *store, MDB_txn *txn, ab_message *message)
{
    MDB_val data;
    int rc = get_record(store, txn, "head", &data);
    if (rc == MDB_NOTFOUND) {
        return AB_OK;
    }
    if (rc != MDB_SUCCESS || data.mv_size < 8) {
        return report(store, message, AB_ECORRUPT, "damaged", "its head cannot be read");
    }
    uint64_t format = ab_get_little(data.mv_data, 8);
    if (format == 0 || format > AB_STORE_FORMAT) {
        return report(store, message, AB_EVERSION, "unknown format",
                      "written by another version of anabranchd: use that version");
    }
    if (data.mv_size != 8 * HEAD_SIZE || ab_get_little((uint8_t *)data.mv_data + 8, 8) != store->group) {
        return report(store, message, AB_EIDENTITY, "belongs to another group", "wrong directory?");
    }
    return AB_OK;
}

static int load_counters(ab_store *store, MDB_txn *txn)
{
    MDB_val data;
    int rc = get_record(store, txn, "counters", &data);
    if (rc == MDB_NOTFOUND) {
        return AB_OK;
    }
    if (rc != MDB_SUCCESS || data.mv_size != 8 * COUNT_SIZE) {
        return AB_ECORRUPT;
    }
    const uint8_t *in = data.mv_data;
    store->counters.points = ab_get_little(in + 8 * COUNT_POINTS, 8);
    store->counters.columns = ab_get_little(in + 8 * COUNT_COLUMNS, 8);
    store->counters.digest =
        (ab_sum){ab_get_little(in + 8 * COUNT_DIGEST_LOW, 8), ab_get_little(in + 8 * COUNT_DIGEST_HIGH, 8)};
    store->counters.next_node = (uint32_t)ab_get_little(in + 8 * COUNT_NEXT_NODE, 8);
    store->columns.next_id = (uint32_t)ab_get_little(in + 8 * COUNT_NEXT_ID, 8);
    return store->counters.next_node != 0 && store->columns.next_id != 0 ? AB_OK : AB_ECORRUPT;
}

#define MARK_SIZE 16u /* node u32, epoch u32, index u64 */

static int load_frontier(ab_store *store, MDB_txn *txn)
{
    MDB_val data;
    int rc = get_record(store, txn, "frontier", &data);
    if (rc == MDB_NOTFOUND) {
        return AB_OK;
    }
    if (rc != MDB_SUCCESS || data.mv_size % MARK_SIZE != 0) {
        return AB_ECORRUPT;
    }
    size_t count = data.mv_size / MARK_SIZE;
    if (count == 0) {
        return AB_OK;
    }
    store->durable.list = malloc(count * sizeof(ab_mark));
    store->applied.list = malloc(count * sizeof(ab_mark));
    if (store->durable.list == NULL || store->applied.list == NULL) {
        return AB_ENOMEM;
    }
    store->durable.capacity = store->applied.capacity = count;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *in = (const uint8_t *)data.mv_data + i * MARK_SIZE;
        uint64_t stream = ab_get_little(in, 8);
        store->durable.list[i] =
            (ab_mark){{(uint32_t)stream, (uint32_t)(stream >> 32)}, ab_get_little(in + 8, 8)};
    }
    memcpy(store->applied.list, store->durable.list, count * sizeof(ab_mark));
    store->durable.count = store->applied.count = count;
    return AB_OK;
}

int ab_store_meta_load(ab_store *store, ab_message *message)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    if (rc != MDB_SUCCESS) {
        return report(store, message, ab_store_code(rc), "cannot read", mdb_strerror(rc));
    }
    store->counters = (ab_counters){.next_node = 1};
    store->columns.next_id = 1;
    store->columns.live = 1;
    int code = load_head(store, txn, message);
    if (code == AB_OK) {
        code = load_counters(store, txn);
        code = code == AB_OK ? load_frontier(store, txn) : code;
        code = code == AB_OK ? ab_heard_load(store, txn) : code;
        if (code != AB_OK) {
            report(store, message, code, "cannot read its records", ab_strerror(code));
        }
    }
    mdb_txn_abort(txn);
    return code;
}

static int save_frontier(const ab_store *store, MDB_txn *txn)
{
    MDB_val key = {8, (void *)(uintptr_t) "frontier"};
    MDB_val data = {store->applied.count * MARK_SIZE, NULL};
    int rc = mdb_put(txn, store->meta_dbi, &key, &data, MDB_RESERVE);
    for (size_t i = 0; i < store->applied.count && rc == MDB_SUCCESS; i++) {
        const ab_mark *mark = &store->applied.list[i];
        uint8_t *out = (uint8_t *)data.mv_data + i * MARK_SIZE;
        ab_put_little(out, mark->stream.node | (uint64_t)mark->stream.epoch << 32, 8);
        ab_put_little(out + 8, mark->index, 8);
    }
    return rc;
}

int ab_store_counters_save(ab_store *store, MDB_txn *txn, const ab_counters *counters)
{
    uint8_t head[8 * HEAD_SIZE];
    uint8_t counts[8 * COUNT_SIZE];
    ab_put_little(head + 8 * HEAD_FORMAT, AB_STORE_FORMAT, 8);
    ab_put_little(head + 8 * HEAD_GROUP, store->group, 8);
    ab_put_little(counts + 8 * COUNT_POINTS, counters->points, 8);
    ab_put_little(counts + 8 * COUNT_COLUMNS, counters->columns, 8);
    ab_put_little(counts + 8 * COUNT_DIGEST_LOW, counters->digest.low, 8);
    ab_put_little(counts + 8 * COUNT_DIGEST_HIGH, counters->digest.high, 8);
    ab_put_little(counts + 8 * COUNT_NEXT_ID, store->columns.next_id, 8);
    ab_put_little(counts + 8 * COUNT_NEXT_NODE, counters->next_node, 8);
    int rc = put_record(store, txn, "head", head, sizeof head);
    return rc == MDB_SUCCESS ? put_record(store, txn, "counters", counts, sizeof counts) : rc;
}

int ab_store_meta_save(ab_store *store, MDB_txn *txn, const ab_counters *counters)
{
    int rc = ab_store_counters_save(store, txn, counters);
    rc = rc == MDB_SUCCESS ? ab_heard_save(store, txn) : rc;
    return rc == MDB_SUCCESS ? save_frontier(store, txn) : rc;
}
