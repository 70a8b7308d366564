/* SPDX-License-Identifier: Apache-2.0 */
/* Verification of the whole log: a short read transaction per block, findings told outside of it. Any thread. */
#include "wal/wal_internal.h"

#include "wal/bytes.h"
#include <stdio.h>
#include <stdlib.h>

#define FAULTS_MAX 6u /* that one step can find */
#define PROGRESS_EVERY 64u

typedef struct verify {
    ab_wal *wal;
    ab_wal_verify_fn fn;
    void *arg;
    uint64_t blocks;
    uint64_t total;
    bool faulty;
    bool stopped;
    ab_wal_fault faults[FAULTS_MAX];
    size_t fault_count;

    uint8_t seek[AB_WAL_BLOCK_KEY]; /* the next block is at or behind it */
    bool in_stream;
    uint64_t group;
    ab_stream stream;
    uint64_t expected;
    uint64_t hash; /* of the block before */
    bool hash_known;
} verify;

static void note(verify *v, uint64_t first, uint64_t last, int code, const char *what)
{
    v->faulty = true;
    if (v->fault_count < FAULTS_MAX) {
        v->faults[v->fault_count++] = (ab_wal_fault){v->group, v->stream, first, last, code, what};
    }
}

static void tell(verify *v)
{
    for (size_t i = 0; i < v->fault_count && !v->stopped; i++) {
        v->stopped = !v->fn(v->arg, &v->faults[i], v->blocks, v->total);
    }
    v->fault_count = 0;
}

/* The stream's record in this transaction. The writer may have trimmed since the step before. */
static bool record_now(verify *v, MDB_txn *txn, ab_wal_record *record)
{
    if (ab_wal_txn_record_get(v->wal, txn, v->group, v->stream, record) != AB_OK) {
        return false;
    }
    if (record->base >= v->expected) {
        v->expected = record->base + 1;
        v->hash = record->base_hash;
        v->hash_known = true;
    }
    return true;
}

static void stream_end(verify *v, MDB_txn *txn)
{
    ab_wal_record record;
    v->in_stream = false;
    if (!record_now(v, txn, &record)) {
        return; /* told at its beginning */
    }
    if (v->expected <= record.last) {
        note(v, v->expected, record.last, AB_ECORRUPT, "blocks are missing at the end of the stream");
    } else if (v->expected > record.last + 1) {
        note(v, record.last + 1, v->expected - 1, AB_ECORRUPT,
             "blocks behind the recorded end of the stream");
    } else if (v->hash_known && v->hash != record.last_hash) {
        note(v, record.last, record.last, AB_EDIVERGED, "last block is not the one on record");
    }
}

static void stream_begin(verify *v, MDB_txn *txn, const MDB_val *key)
{
    const uint8_t *p = key->mv_data;
    ab_wal_record record;
    v->in_stream = true;
    v->group = ab_get_be64(p);
    v->stream = (ab_stream){ab_get_be32(p + 8), ab_get_be32(p + 12)};
    v->expected = 0;
    v->hash_known = false;
    if (!record_now(v, txn, &record)) {
        v->expected = ab_wal_block_key_first(key);
        note(v, v->expected, v->expected, AB_ECORRUPT, "blocks of a stream that is not on record");
    }
}

static bool entries_good(const void *block, const ab_block_header *header)
{
    ab_block_iter iter;
    ab_entry entry;
    int code;
    ab_block_iter_init(&iter, block, header);
    while ((code = ab_block_iter_next(&iter, &entry)) == AB_OK) {
    }
    return code == AB_ENOTFOUND;
}

/* Where a block that cannot be trusted ends: before the next key, or at the stream's end. */
static uint64_t end_by_next(verify *v, MDB_txn *txn, MDB_cursor *cursor, uint64_t first)
{
    MDB_val key;
    MDB_val value;
    ab_wal_record record;
    if (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == MDB_SUCCESS &&
        ab_wal_block_key_is(&key, v->group, v->stream)) {
        return ab_wal_block_key_first(&key) - 1;
    }
    return record_now(v, txn, &record) && record.last >= first ? record.last : first;
}

static void block_verify(verify *v, MDB_txn *txn, MDB_cursor *cursor, const MDB_val *key,
                         const MDB_val *value)
{
    ab_block_header header;
    uint64_t first = ab_wal_block_key_first(key);
    if (first > v->expected) {
        note(v, v->expected, first - 1, AB_ECORRUPT, "blocks are missing");
        v->hash_known = false;
    } else if (first < v->expected) {
        note(v, first, v->expected - 1, AB_ECORRUPT, "blocks overlap");
        v->hash_known = false;
    }
    int code = ab_wal_block_check(key, value, &header);
    if (code != AB_OK) {
        uint64_t last = end_by_next(v, txn, cursor, first);
        note(v, first, last, code == AB_EVERSION ? code : AB_ECORRUPT,
             code == AB_EVERSION ? "block of an unknown version" : "block is damaged");
        v->expected = last + 1;
        v->hash_known = false;
        return;
    }
    if (!entries_good(value->mv_data, &header)) {
        note(v, first, header.last, AB_ECORRUPT, "entries are malformed though the checksum holds");
    }
    if (v->hash_known && header.prev_hash != v->hash) {
        note(v, first, header.last, AB_EDIVERGED, "does not follow the block before it in the chain");
    }
    v->expected = header.last + 1;
    v->hash = header.checksum;
    v->hash_known = true;
}

static void seek_behind(verify *v, uint64_t first)
{
    if (first < UINT64_MAX) {
        ab_wal_block_key(v->seek, v->group, v->stream, first + 1);
        return;
    }
    for (size_t i = AB_WAL_BLOCK_KEY; i-- > 0 && ++v->seek[i] == 0;) {
    }
}

/* One block. @return AB_OK, AB_ENOTFOUND at the end, ... */
static int step(verify *v)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_stat stat;
    int code = ab_wal_read_begin(v->wal, &txn);
    if (code != AB_OK) {
        return code;
    }
    int rc = mdb_stat(txn, v->wal->blocks_db, &stat);
    if (rc == MDB_SUCCESS) {
        v->total = stat.ms_entries > v->blocks ? stat.ms_entries : v->blocks;
        rc = mdb_cursor_open(txn, v->wal->blocks_db, &cursor);
    }
    if (rc == MDB_SUCCESS) {
        MDB_val key = {sizeof(v->seek), v->seek};
        MDB_val value;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (v->in_stream &&
            (rc == MDB_NOTFOUND || (rc == MDB_SUCCESS && !ab_wal_block_key_is(&key, v->group, v->stream)))) {
            stream_end(v, txn);
        }
        if (rc == MDB_SUCCESS) {
            if (!v->in_stream) {
                stream_begin(v, txn, &key);
            }
            ab_wal_record record;
            uint64_t first = ab_wal_block_key_first(&key);
            (void)record_now(v, txn, &record);
            block_verify(v, txn, cursor, &key, &value);
            seek_behind(v, first);
            v->blocks++;
        }
        mdb_cursor_close(cursor);
    }
    code = ab_wal_lmdb_fail(v->wal, rc, "verify");
    ab_wal_read_end(v->wal, txn);
    return code;
}

/* A stream on record of which not one block is there. */
static bool stream_has_blocks(void *arg, uint64_t group, const ab_stream_state *state)
{
    verify *v = arg;
    MDB_txn *txn;
    MDB_cursor *cursor;
    ab_wal_record record;
    v->group = group;
    v->stream = state->stream;
    if (ab_wal_read_begin(v->wal, &txn) != AB_OK) {
        return false;
    }
    if (ab_wal_txn_record_get(v->wal, txn, group, state->stream, &record) == AB_OK &&
        record.base < record.last && mdb_cursor_open(txn, v->wal->blocks_db, &cursor) == MDB_SUCCESS) {
        uint8_t bytes[AB_WAL_BLOCK_KEY];
        ab_wal_block_key(bytes, group, state->stream, 0);
        MDB_val key = {sizeof(bytes), bytes};
        MDB_val value;
        if (mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE) != MDB_SUCCESS ||
            !ab_wal_block_key_is(&key, group, state->stream)) {
            note(v, record.base + 1, record.last, AB_ECORRUPT, "blocks are missing");
        }
        mdb_cursor_close(cursor);
    }
    ab_wal_read_end(v->wal, txn);
    tell(v);
    return !v->stopped;
}

static bool state_bad(void *arg, uint64_t group)
{
    verify *v = arg;
    v->group = group;
    v->stream = (ab_stream){0, 0};
    note(v, 0, 0, AB_ECORRUPT, "small state is damaged");
    tell(v);
    return !v->stopped;
}

/* Only where nobody writes; an open for writing has done the same as far as its time allows. */
static int structure_verify(verify *v)
{
    ab_check_report report;
    ab_message message;
    size_t size = strlen(v->wal->dir) + sizeof("/data.mdb");
    char *path = malloc(size);
    if (path == NULL) {
        return ab_wal_fail(v->wal, AB_ENOMEM, "out of memory");
    }
    snprintf(path, size, "%s/data.mdb", v->wal->dir);
    int code = ab_check_file(path, UINT64_MAX, &report, &message);
    free(path);
    if (code == AB_ECORRUPT) {
        note(v, 0, 0, AB_ECORRUPT, message.text);
        tell(v);
        return AB_OK;
    }
    return code == AB_OK ? AB_OK : ab_wal_fail(v->wal, code, "%s", message.text);
}

int ab_wal_verify(ab_wal *wal, ab_wal_verify_fn fn, void *arg)
{
    verify v = {.wal = wal, .fn = fn, .arg = arg};
    int code = wal->options.read_only ? structure_verify(&v) : AB_OK;
    while (code == AB_OK && !v.stopped) {
        code = step(&v);
        tell(&v);
        if (code == AB_OK && v.blocks % PROGRESS_EVERY == 0 && !v.stopped) {
            v.stopped = !fn(arg, NULL, v.blocks, v.total);
        }
    }
    if (code == AB_ENOTFOUND && !v.stopped) {
        code = ab_wal_streams(wal, 0, stream_has_blocks, &v);
        code = code == AB_ECORRUPT ? AB_OK : code; /* damaged records show below */
    }
    if (code == AB_OK && !v.stopped) {
        code = ab_wal_state_sums(wal, state_bad, &v);
    }
    if (code == AB_OK && !v.stopped) {
        v.stopped = !fn(arg, NULL, v.blocks, v.blocks);
    }
    if (v.stopped) {
        return AB_ECLOSED;
    }
    return code == AB_OK && v.faulty ? AB_ECORRUPT : code;
}
