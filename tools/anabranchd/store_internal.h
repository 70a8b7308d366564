/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file store_internal.h
 * What the files of the store share. See store.h for the threads.
 */
#ifndef ANABRANCHD_STORE_INTERNAL_H
#define ANABRANCHD_STORE_INTERNAL_H

#include "tools/anabranchd/arena.h"
#include "tools/anabranchd/pack.h"
#include "tools/anabranchd/store.h"

#include <lmdb.h>
#include <pthread.h>

#define AB_COLUMN_KEY_MAX (AB_LP_KEY_MAX + 1 + AB_LP_NAME_MAX)
#define AB_POINT_KEY_SIZE 12u
#define AB_POINT_HEADER 13u /* type, hlc, node */

/* A 128-bit sum. */
typedef struct ab_sum {
    uint64_t low;
    uint64_t high;
} ab_sum;

static inline void ab_sum_add(ab_sum *sum, ab_sum term)
{
    sum->low += term.low;
    sum->high += term.high + (sum->low < term.low ? 1 : 0);
}

static inline void ab_sum_subtract(ab_sum *sum, ab_sum term)
{
    uint64_t borrow = sum->low < term.low ? 1 : 0;
    sum->low -= term.low;
    sum->high -= term.high + borrow;
}

/* store_point.c: a point as stored. */

typedef struct ab_stamp {
    uint64_t hlc;
    uint32_t node;
} ab_stamp;

int ab_stamp_compare(ab_stamp a, ab_stamp b);
void ab_point_key_pack(uint32_t column, int64_t time, uint8_t out[AB_POINT_KEY_SIZE]);
bool ab_point_key_unpack(const MDB_val *key, uint32_t *column, int64_t *time);
size_t ab_point_size(const ab_value *value);
void ab_point_pack(const ab_value *value, ab_stamp stamp, uint8_t *out);
/* False: damaged. `value` borrows. */
bool ab_point_unpack(const MDB_val *data, ab_value *value, ab_stamp *stamp);

/* Scratch in which a point's hash is computed. */
typedef struct ab_point_hasher {
    uint8_t *bytes;
    size_t capacity;
} ab_point_hasher;

/* The hash of one point, from content alone. @return AB_OK, AB_ENOMEM */
int ab_point_hash(ab_point_hasher *hasher, ab_sum column_hash, int64_t time, const MDB_val *data,
                  ab_sum *hash);
ab_sum ab_column_hash(const char *text, size_t size);

/* store_columns.c: column keys to ids. */

typedef struct ab_column {
    uint64_t hash; /* of series and field, for the table */
    ab_sum key_hash;
    const char *text;
    uint32_t size;
    uint32_t id;
    uint32_t live; /* as columns->live: it has points */
} ab_column;

typedef struct ab_columns {
    ab_column *list;
    size_t count;
    size_t capacity;
    uint32_t *table; /* position in list + 1; 0: free */
    size_t slots;    /* a power of two */
    uint32_t *fresh; /* positions of columns that no flush has written */
    size_t fresh_count;
    size_t fresh_capacity;
    ab_arena texts;
    uint32_t next_id;
    uint32_t live; /* changes when what is known of columns that have points does not hold any more; not 0 */
} ab_columns;

/* How to look a column up that the cache does not have. */
typedef struct ab_trie {
    MDB_txn *txn;
    MDB_dbi dbi;
} ab_trie;

void ab_columns_clear(ab_columns *columns);
/* Position of the column; given an id if it is new. `trie` may have no txn: then nothing is stored yet.
 * @return AB_OK, AB_ENOMEM, AB_ETOOBIG (all ids are used), AB_EIO, AB_ECORRUPT */
int ab_columns_find(ab_columns *columns, const ab_trie *trie, const ab_point *point, uint64_t series_hash,
                    uint32_t *position);
/* An LMDB code. */
int ab_trie_put(const ab_trie *trie, const char *text, size_t size, uint32_t id, uint32_t *next_node);
int ab_trie_get(const ab_trie *trie, const char *text, size_t size, uint32_t *id);
/* The first column after `text` (size 0: the first of all), put into `text`, which has room for AB_COLUMN_KEY_MAX.
 * MDB_NOTFOUND: none. */
int ab_trie_next(const ab_trie *trie, char *text, size_t *size, uint32_t *id);

/* store.c */

typedef struct ab_pending {
    uint32_t column;   /* id */
    uint32_t position; /* in the columns' list */
    int64_t time;
    ab_stamp stamp;
    uint32_t sequence;
    ab_value value;
} ab_pending;

typedef struct ab_tombstone {
    ab_stamp stamp;
    ab_selection selection; /* of payload */
    char *payload;
    size_t size;
    bool fresh;    /* not stored yet */
    bool needless; /* in this flush: a later one covers it */
    bool expired;  /* in this flush: nothing that it covers can come any more once this is written */
} ab_tombstone;

/* Where to find a tombstone by what its selection begins with. */
typedef struct ab_tombstone_place {
    uint64_t hash;
    uint32_t position;
} ab_tombstone_place;

/* The last entry that was applied of a node's newest stream. */
typedef struct ab_heard {
    uint32_t node;
    uint32_t epoch;
    uint64_t hlc;
} ab_heard;

/* Sorted by stamp; none covers another with a smaller stamp. */
typedef struct ab_tombstones {
    ab_tombstone *list;
    size_t count;
    size_t capacity;
} ab_tombstones;

typedef struct ab_marks {
    ab_mark *list;
    size_t count;
    size_t capacity;
} ab_marks;

typedef struct ab_counters {
    uint64_t points;
    uint64_t columns; /* that have points */
    uint64_t tombstones;
    uint64_t oldest; /* hlc of the first tombstone */
    ab_sum digest;
    uint32_t next_node;
} ab_counters;

struct ab_store {
    char *dir;
    uint64_t group;
    pthread_rwlock_t
        lock;     /* shared: a transaction of an export; exclusive: the environment is replaced or its map
                              moved. Guards env */
    MDB_env *env; /* NULL: closed, or a reopen failed */
    bool closed;
    MDB_dbi columns_dbi;
    MDB_dbi points_dbi;
    MDB_dbi tombstones_dbi;
    MDB_dbi meta_dbi;
    pthread_mutex_t summary_lock; /* guards counters and heard, which the thread that applies changes */
    ab_counters counters;         /* as of the last flush */
    ab_columns columns;
    ab_pending *pending;
    size_t pending_count;
    size_t pending_capacity;
    ab_arena texts;           /* of pending strings */
    ab_tombstones deletes;    /* applied, not flushed: in the order in which they came */
    ab_tombstones tombstones; /* stored */
    ab_tombstones merged;     /* both, during a flush; borrows the payloads */
    bool merging;             /* in this flush: merged is what counts */
    uint32_t *candidates;     /* during a flush: those that select the column at hand */
    uint32_t candidates_of;   /* its position */
    size_t candidate_count;
    size_t candidate_capacity;
    ab_tombstone_place *places; /* during a flush: sorted; as much room as for candidates */
    size_t place_count;         /* 0: not made yet */
    ab_heard *heard;
    size_t heard_count;
    uint32_t *members; /* that must be heard before a tombstone goes; none: it never goes */
    size_t member_count;
    uint64_t grace_ms;
    ab_marks durable;
    ab_marks applied;
    bool dirty; /* applied differs from durable */
    ab_point_hasher hasher;
    uint8_t *packed; /* a value, as stored */
    size_t packed_capacity;
};

int ab_store_code(int lmdb_code);

/* store_env.c: the files. */

int ab_store_env_open(ab_store *store, ab_message *message);
int ab_store_env_grow(ab_store *store);
/* After LMDB gave up on the environment. */
int ab_store_env_reopen(ab_store *store);
int ab_store_meta_load(ab_store *store, ab_message *message);
int ab_store_meta_save(ab_store *store, MDB_txn *txn, const ab_counters *counters); /* LMDB code */
int ab_store_counters_save(ab_store *store, MDB_txn *txn,
                           const ab_counters *counters); /* the same, no frontier */

/* store.c: counters that were committed */
void ab_store_set_counters(ab_store *store, const ab_counters *counters);

/* store_flush.c: an LMDB code */
int ab_store_write(ab_store *store, ab_counters *counters);
int ab_store_count_point(ab_store *store, ab_sum column_hash, int64_t time, const MDB_val *data, bool add,
                         ab_sum *digest);
/* MDB_NOTFOUND: the column has no points. Moves the cursor. */
int ab_store_first_point(MDB_cursor *cursor, uint32_t column);

/* store_delete.c: tombstones. */

/* Holds a delete until the next flush. */
int ab_tombstones_hold(ab_store *store, const ab_entry *entry);
/* Drops what was held beyond the first `count`. */
void ab_tombstones_drop(ab_tombstones *tombstones, size_t count);
int ab_tombstones_load(ab_store *store);
/* Makes store->merged where deletes came or some expire. @return AB_OK, AB_ENOMEM */
int ab_tombstones_merge(ab_store *store);
/* Those that count in this flush. */
const ab_tombstones *ab_tombstones_current(const ab_store *store);
int ab_tombstones_write(ab_store *store, MDB_txn *txn, ab_counters *counters); /* LMDB code */
/* After the commit: merged is what is stored. */
void ab_tombstones_written(ab_store *store);
ab_sum ab_tombstone_hash(const MDB_val *key, const MDB_val *payload);

/* store_cover.c */

/* At the start of a flush with up to `most` tombstones. @return AB_OK, AB_ENOMEM */
int ab_cover_begin(ab_store *store, size_t most);
/* Makes candidates of those that select the series, by stamp. */
void ab_cover_choose(ab_store *store, ab_bytes series);
/* Whether a delete covers the point. */
bool ab_tombstones_cover(ab_store *store, const ab_pending *point);

/* store_grace.c: whom of the members we have heard of, and how long tombstones are kept. */

/* Room for the origins of entries; then they can be noted. @return AB_OK, AB_ENOMEM */
int ab_heard_reserve(ab_store *store, const ab_entry *entries, size_t count);
void ab_heard_note(ab_store *store, const ab_entry *entries, size_t count);
/* Tombstones with a smaller hlc are not needed any more; 0: all are. */
uint64_t ab_store_horizon(const ab_store *store);
int ab_heard_load(ab_store *store, MDB_txn *txn);
int ab_heard_save(const ab_store *store, MDB_txn *txn); /* LMDB code */

/* store_sweep.c: takes away what fresh tombstones cover, in transactions of bounded size. LMDB code */
int ab_store_sweep(ab_store *store);

#endif
