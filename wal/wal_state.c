/* SPDX-License-Identifier: Apache-2.0 */
/* Small state: values with a checksum over key and value. The ab_wal_txn_* functions run inside the caller's
 * transaction; the others on any thread. */
#include "wal/wal_internal.h"

#include "wal/bytes.h"
#include <stdlib.h>

int ab_wal_txn_state_get(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_bytes name, ab_bytes *value)
{
    uint8_t bytes[8 + AB_WAL_STATE_KEY_MAX];
    if (name.size == 0 || name.size > AB_WAL_STATE_KEY_MAX) {
        return AB_ENOTFOUND;
    }
    MDB_val key = {ab_wal_state_key(bytes, group, name.data, name.size), bytes};
    MDB_val data;
    int rc = mdb_get(txn, wal->state_db, &key, &data);
    if (rc == MDB_NOTFOUND && !wal->bad_state) {
        return AB_ENOTFOUND;
    }
    if (rc == MDB_NOTFOUND) {
        return ab_wal_fail(wal, AB_ECORRUPT,
                           "%s: small state is damaged: this part of it may be what is missing", wal->dir);
    }
    if (rc != MDB_SUCCESS) {
        return ab_wal_lmdb_fail(wal, rc, "read small state");
    }
    size_t size = data.mv_size < AB_WAL_STATE_SUM ? 0 : data.mv_size - AB_WAL_STATE_SUM;
    const uint8_t *p = data.mv_data;
    if (data.mv_size < AB_WAL_STATE_SUM ||
        ab_get_le64(p + size) != ab_wal_state_sum(key.mv_data, key.mv_size, p, size)) {
        return ab_wal_fail(wal, AB_ECORRUPT, "%s: small state of group %llu is damaged", wal->dir,
                           (unsigned long long)group);
    }
    *value = (ab_bytes){p, size};
    return AB_OK;
}

/* LMDB reuses a longer run of pages for a shorter value, and the structural check wants them to fit. */
static int make_way(ab_wal *wal, MDB_txn *txn, MDB_val *key, size_t size)
{
    MDB_val old;
    int rc = mdb_get(txn, wal->state_db, key, &old);
    if (rc == MDB_SUCCESS && old.mv_size != size && old.mv_size > wal->page_size / 4) {
        return mdb_del(txn, wal->state_db, key, NULL);
    }
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

int ab_wal_txn_state_put(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_bytes name, ab_bytes value)
{
    uint8_t bytes[8 + AB_WAL_STATE_KEY_MAX];
    MDB_val key = {ab_wal_state_key(bytes, group, name.data, name.size), bytes};
    MDB_val data = {value.size + AB_WAL_STATE_SUM, NULL};
    int rc = make_way(wal, txn, &key, data.mv_size);
    if (rc == MDB_SUCCESS) {
        rc = mdb_put(txn, wal->state_db, &key, &data, MDB_RESERVE);
    }
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    uint8_t *p = data.mv_data;
    if (value.size > 0) {
        memcpy(p, value.data, value.size);
    }
    ab_put_le64(p + value.size, ab_wal_state_sum(bytes, key.mv_size, p, value.size));
    return MDB_SUCCESS;
}

int ab_wal_txn_state_del(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_bytes name)
{
    uint8_t bytes[8 + AB_WAL_STATE_KEY_MAX];
    MDB_val key = {ab_wal_state_key(bytes, group, name.data, name.size), bytes};
    int rc = mdb_del(txn, wal->state_db, &key, NULL);
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

int ab_wal_txn_record_get(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_stream stream, ab_wal_record *record)
{
    uint8_t name[AB_WAL_STREAM_NAME];
    ab_wal_stream_name(name, stream);
    ab_bytes value;
    int code = ab_wal_txn_state_get(wal, txn, group, (ab_bytes){name, sizeof(name)}, &value);
    if (code != AB_OK) {
        return code;
    }
    return ab_wal_record_decode(value.data, value.size, record) ? AB_OK : AB_ECORRUPT;
}

int ab_wal_txn_record_put(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_stream stream,
                          const ab_wal_record *record)
{
    uint8_t name[AB_WAL_STREAM_NAME];
    uint8_t data[AB_WAL_RECORD_SIZE];
    ab_wal_stream_name(name, stream);
    ab_wal_record_encode(data, record);
    return ab_wal_txn_state_put(wal, txn, group, (ab_bytes){name, sizeof(name)},
                                (ab_bytes){data, sizeof(data)});
}

int ab_wal_txn_record_del(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_stream stream)
{
    uint8_t name[AB_WAL_STREAM_NAME];
    ab_wal_stream_name(name, stream);
    return ab_wal_txn_state_del(wal, txn, group, (ab_bytes){name, sizeof(name)});
}

int ab_wal_state_get(ab_wal *wal, uint64_t group, ab_bytes key, void **data, size_t *size)
{
    MDB_txn *txn;
    int code = ab_wal_read_begin(wal, &txn);
    if (code != AB_OK) {
        return code;
    }
    ab_bytes value;
    code = ab_wal_txn_state_get(wal, txn, group, key, &value);
    if (code == AB_OK) {
        *data = malloc(value.size > 0 ? value.size : 1);
        if (*data == NULL) {
            code = ab_wal_fail(wal, AB_ENOMEM, "out of memory for small state");
        } else {
            memcpy(*data, value.data, value.size);
            *size = value.size;
        }
    }
    ab_wal_read_end(wal, txn);
    return code;
}

/* A key and its value copied out of a transaction; reused from item to item. */
typedef struct state_item {
    uint8_t key[8 + AB_WAL_STATE_KEY_MAX];
    size_t key_size;
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool good;
} state_item;

static int item_copy(ab_wal *wal, state_item *item, const MDB_val *key, const MDB_val *data)
{
    if (key->mv_size < 8 || key->mv_size > sizeof(item->key)) {
        return ab_wal_fail(wal, AB_ECORRUPT, "%s: a key of small state is damaged", wal->dir);
    }
    if (data->mv_size > item->capacity) {
        uint8_t *bigger = realloc(item->data, data->mv_size);
        if (bigger == NULL) {
            return ab_wal_fail(wal, AB_ENOMEM, "out of memory for small state");
        }
        item->data = bigger;
        item->capacity = data->mv_size;
    }
    memcpy(item->key, key->mv_data, key->mv_size);
    item->key_size = key->mv_size;
    if (data->mv_size < AB_WAL_STATE_SUM) {
        item->good = false;
        return AB_OK;
    }
    memcpy(item->data, data->mv_data, data->mv_size);
    item->size = data->mv_size - AB_WAL_STATE_SUM;
    item->good = ab_get_le64(item->data + item->size) ==
                 ab_wal_state_sum(item->key, item->key_size, item->data, item->size);
    return AB_OK;
}

/* First item at (`after`: behind) item->key, in a transaction of its own: callbacks run outside of any. */
static int item_next(ab_wal *wal, state_item *item, bool after)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    int code = ab_wal_read_begin(wal, &txn);
    if (code != AB_OK) {
        return code;
    }
    MDB_val key = {item->key_size, item->key};
    MDB_val data;
    int rc = mdb_cursor_open(txn, wal->state_db, &cursor);
    if (rc == MDB_SUCCESS) {
        rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
        if (rc == MDB_SUCCESS && after && key.mv_size == item->key_size &&
            memcmp(key.mv_data, item->key, key.mv_size) == 0) {
            rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
        }
        code = rc == MDB_SUCCESS ? item_copy(wal, item, &key, &data)
                                 : ab_wal_lmdb_fail(wal, rc, "read small state");
        mdb_cursor_close(cursor);
    } else {
        code = ab_wal_lmdb_fail(wal, rc, "read small state");
    }
    ab_wal_read_end(wal, txn);
    return code;
}

static bool item_has(const state_item *item, uint64_t group, ab_bytes prefix)
{
    return ab_get_be64(item->key) == group && item->key_size - 8 >= prefix.size &&
           (prefix.size == 0 || memcmp(item->key + 8, prefix.data, prefix.size) == 0);
}

int ab_wal_state_each(ab_wal *wal, uint64_t group, ab_bytes prefix, ab_wal_state_fn fn, void *arg)
{
    if (prefix.size > AB_WAL_STATE_KEY_MAX) {
        return AB_OK;
    }
    state_item item = {.key_size = 0};
    item.key_size = ab_wal_state_key(item.key, group, prefix.data, prefix.size);
    int damaged = wal->bad_state ? AB_ECORRUPT : AB_OK;
    int code;
    bool after = false;
    while ((code = item_next(wal, &item, after)) == AB_OK && item_has(&item, group, prefix)) {
        after = true;
        if (!item.good) {
            damaged = ab_wal_fail(wal, AB_ECORRUPT, "%s: small state of group %llu is damaged", wal->dir,
                                  (unsigned long long)group);
        } else if (!fn(arg, group, (ab_bytes){item.key + 8, item.key_size - 8},
                       (ab_bytes){item.data, item.size})) {
            break;
        }
    }
    free(item.data);
    return code == AB_OK || code == AB_ENOTFOUND ? damaged : code;
}

/* Moves to the first stream record at or behind the item's position. Skips from group to group. */
static int record_next(ab_wal *wal, state_item *item, uint64_t *group, bool one_group, bool after)
{
    const ab_bytes prefix = {AB_WAL_STREAM_PREFIX, AB_WAL_STREAM_PREFIX_SIZE};
    for (;;) {
        int code = item_next(wal, item, after);
        if (code != AB_OK || item_has(item, *group, prefix)) {
            return code;
        }
        uint64_t found = ab_get_be64(item->key);
        if (one_group) {
            return AB_ENOTFOUND;
        }
        if (found == *group) { /* behind the records of this group */
            if (found == UINT64_MAX) {
                return AB_ENOTFOUND;
            }
            found++;
        }
        *group = found;
        item->key_size = ab_wal_state_key(item->key, *group, prefix.data, prefix.size);
        after = false;
    }
}

int ab_wal_streams(ab_wal *wal, uint64_t group, ab_wal_stream_fn fn, void *arg)
{
    state_item item = {.key_size = 0};
    bool one_group = group != 0;
    int damaged = wal->bad_state ? AB_ECORRUPT : AB_OK;
    int code;
    bool after = false;
    uint64_t at = one_group ? group : 1;
    item.key_size = ab_wal_state_key(item.key, at, AB_WAL_STREAM_PREFIX, AB_WAL_STREAM_PREFIX_SIZE);
    while ((code = record_next(wal, &item, &at, one_group, after)) == AB_OK) {
        after = true;
        ab_stream_state state = {.base = 0};
        ab_wal_record record;
        if (!item.good || !ab_wal_stream_name_read(item.key + 8, item.key_size - 8, &state.stream) ||
            !ab_wal_record_decode(item.data, item.size, &record)) {
            damaged = ab_wal_fail(wal, AB_ECORRUPT, "%s: the record of a stream of group %llu is damaged",
                                  wal->dir, (unsigned long long)at);
            continue;
        }
        state.base = record.base;
        state.base_hash = record.base_hash;
        state.last = record.last;
        state.last_hash = record.last_hash;
        state.hlc_last = record.hlc_last;
        if (!fn(arg, at, &state)) {
            break;
        }
    }
    free(item.data);
    return code == AB_OK || code == AB_ENOTFOUND ? damaged : code;
}

int ab_wal_groups(ab_wal *wal, ab_wal_group_fn fn, void *arg)
{
    state_item item = {.key_size = 0};
    int code;
    uint64_t group = 1;
    item.key_size = ab_wal_state_key(item.key, group, NULL, 0);
    while ((code = item_next(wal, &item, false)) == AB_OK) {
        group = ab_get_be64(item.key);
        if (!fn(arg, group) || group == UINT64_MAX) {
            break;
        }
        item.key_size = ab_wal_state_key(item.key, group + 1, NULL, 0);
    }
    free(item.data);
    return code == AB_ENOTFOUND ? AB_OK : code;
}

int ab_wal_state_sums(ab_wal *wal, ab_wal_group_fn bad, void *arg)
{
    state_item item = {.key_size = 0};
    int code;
    bool after = false;
    item.key_size = ab_wal_state_key(item.key, 0, NULL, 0);
    while ((code = item_next(wal, &item, after)) == AB_OK) {
        after = true;
        if (!item.good && !bad(arg, ab_get_be64(item.key))) {
            break;
        }
    }
    free(item.data);
    return code == AB_ENOTFOUND ? AB_OK : code;
}
