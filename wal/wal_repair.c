/* SPDX-License-Identifier: Apache-2.0 */
/* What changes the log otherwise than at its ends: a sound block over a damaged one, a stream that goes back. Both hold
 * against what stands around the place. The one writer's thread. */
#include "wal/wal_commit.h"

/* What is known for sure of the block before a place. */
typedef struct before_it {
    bool known;
    uint64_t last;
    uint64_t hash;
    uint64_t hlc; /* 0: not known */
} before_it;

static before_it look_before(ab_commit *c, const ab_block_header *h, const ab_wal_record *record)
{
    uint8_t bytes[AB_WAL_BLOCK_KEY];
    ab_block_header header;
    if (h->first == record->base + 1) {
        return (before_it){true, record->base, record->base_hash, 0};
    }
    const ab_stream stream = {h->node, h->epoch};
    ab_wal_block_key(bytes, h->group, stream, h->first);
    MDB_val key = {sizeof(bytes), bytes};
    MDB_val value;
    MDB_cursor *cursor;
    if (mdb_cursor_open(c->txn, c->wal->blocks_db, &cursor) != MDB_SUCCESS) {
        return (before_it){.known = false};
    }
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    rc = mdb_cursor_get(cursor, &key, &value, rc == MDB_SUCCESS ? MDB_PREV : MDB_LAST);
    bool known = rc == MDB_SUCCESS && ab_wal_block_key_is(&key, h->group, stream) &&
                 ab_wal_block_check(&key, &value, &header) == AB_OK;
    mdb_cursor_close(cursor);
    return known ? (before_it){true, header.last, header.checksum, header.hlc_last}
                 : (before_it){.known = false};
}

/* Removes what stands in the place of `h` and is not sound. `*there`: the very block is, and is sound. */
static int clear_place(ab_commit *c, const ab_block_header *h, const ab_wal_record *record, bool *there)
{
    const ab_stream stream = {h->node, h->epoch};
    ab_neighbours n = {.first = 0};
    int code;
    *there = false;
    while ((code = ab_commit_look(c, h->group, stream, h->first, record->last, &n)) == AB_OK &&
           n.first <= h->last) {
        ab_block_header old;
        if (ab_block_check(n.value.mv_data, n.value.mv_size, &old) == AB_OK && old.group == h->group &&
            old.node == h->node && old.epoch == h->epoch && old.first == n.first) {
            *there = old.checksum == h->checksum;
            return *there ? AB_OK : ab_commit_invalid(c, h, "there is a sound block in its place");
        }
        code = ab_commit_block_delete(c, h->group, stream, &n);
        if (code != AB_OK) {
            return code;
        }
    }
    return code == AB_ENOTFOUND ? AB_OK : code;
}

/* Whether `h` fills its place: ends where the next begins, or the stream ends; and the chain holds on both sides. */
static bool fits_place(ab_commit *c, const ab_block_header *h, const ab_wal_record *record)
{
    ab_block_header next;
    ab_neighbours n = {.first = 0};
    before_it before = look_before(c, h, record);
    if (before.known &&
        (before.last >= h->first || (before.last == h->first - 1 && before.hash != h->prev_hash))) {
        return false;
    }
    if (ab_commit_look(c, h->group, (ab_stream){h->node, h->epoch}, h->first, record->last, &n) != AB_OK) {
        return h->last == record->last && h->checksum == record->last_hash;
    }
    return n.first == h->last + 1 && (ab_block_check(n.value.mv_data, n.value.mv_size, &next) != AB_OK ||
                                      next.prev_hash == h->checksum);
}

int ab_commit_replace_block(ab_commit *c, const ab_wal_op *op)
{
    ab_block_header h;
    ab_wal_record record;
    bool there = false;
    int code = ab_commit_block_read(c, op, &h);
    if (code == AB_OK && ab_block_check(op->data.data, op->data.size, &h) != AB_OK) {
        code = ab_commit_invalid(c, &h, "the block meant to repair is damaged itself");
    }
    if (code == AB_OK) {
        code = ab_commit_record(c, h.group, (ab_stream){h.node, h.epoch}, &record);
    }
    if (code == AB_OK && (h.first <= record.base || h.last > record.last)) {
        code = ab_commit_invalid(c, &h, "there is no such block to repair");
    }
    if (code == AB_OK) {
        code = clear_place(c, &h, &record, &there);
    }
    if (code != AB_OK || there) {
        return code;
    }
    if (!fits_place(c, &h, &record)) {
        return ab_commit_invalid(c, &h, "does not fit its neighbours in the chain");
    }
    return ab_commit_block_write(c, &h, op->data);
}

/* What the block behind a place says of the one before it; `known` only if it is sound. It begins there, or the place is
 * in the middle of a block. */
static before_it look_behind(ab_commit *c, const ab_wal_op *op, const ab_wal_record *record)
{
    ab_neighbours n = {.first = 0};
    ab_block_header header;
    bool known = ab_commit_look(c, op->group, op->stream, op->index + 1, record->last, &n) == AB_OK &&
                 ab_block_check(n.value.mv_data, n.value.mv_size, &header) == AB_OK &&
                 header.first == op->index + 1;
    return known ? (before_it){true, op->index, header.prev_hash, 0} : (before_it){.known = false};
}

/* Only where a block ends, and only in the history that the caller knows. Where that block is damaged the one behind it,
 * about to go, is the witness. Where both are the caller is believed: the fork is what it and a peer found equal, or what the
 * stream's origin says. No second history comes of it even if that is wrong: what follows must continue the chain from that hash,
 * a repair must have it and fit the block before it, and until then the damaged block is neither sent nor applied. */
static bool may_rewind(ab_commit *c, const ab_wal_op *op, const ab_wal_record *record, uint64_t *hlc)
{
    ab_block_header h = {.node = op->stream.node, .epoch = op->stream.epoch, .group = op->group};
    h.first = op->index + 1;
    before_it before = look_before(c, &h, record);
    *hlc = before.known ? before.hlc : 0;
    if (op->index <= record->base) {
        return op->index < record->base || op->hash == record->base_hash;
    }
    if (!before.known) {
        before = look_behind(c, op, record);
    }
    return !before.known || (before.last == op->index && before.hash == op->hash);
}

int ab_commit_rewind(ab_commit *c, const ab_wal_op *op)
{
    ab_wal_record record;
    int code = ab_commit_record(c, op->group, op->stream, &record);
    if (code != AB_OK || record.last <= op->index) {
        return code;
    }
    uint64_t hlc = 0;
    if (!may_rewind(c, op, &record, &hlc)) {
        return ab_wal_fail(c->wal, AB_EINVAL, "group %llu, stream %u/%u: no block of that hash ends at %llu",
                           (unsigned long long)op->group, op->stream.node, op->stream.epoch,
                           (unsigned long long)op->index);
    }
    record.last = op->index;
    record.last_hash = op->hash;
    record.hlc_last = hlc;
    if (record.base > op->index) {
        record.base = op->index;
        record.base_hash = op->hash;
    }
    code = ab_commit_clear_behind(c, op->group, op->stream, record.last);
    return code == AB_OK ? ab_commit_record_store(c, op->group, op->stream, &record) : code;
}
