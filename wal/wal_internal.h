/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file wal_internal.h
 * What the files of the log share. Threading: `env_lock` is held shared by every read transaction, exclusively
 * while the map is resized or the environment reopened; everything under "writer" belongs to the one writer.
 */
#ifndef ANABRANCH_WAL_INTERNAL_H
#define ANABRANCH_WAL_INTERNAL_H

#include "wal/wal.h"
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#define AB_WAL_BLOCK_KEY 24u     /* group, node, epoch, first index */
#define AB_WAL_STATE_KEY_MAX 503 /* LMDB's limit of 511 less the group */
#define AB_WAL_STATE_SUM 8u      /* checksum behind every value of the state database */
#define AB_WAL_IDLE_READERS 8
#define AB_WAL_STREAM_PREFIX "stream/"
#define AB_WAL_STREAM_PREFIX_SIZE 7u
#define AB_WAL_STREAM_NAME (AB_WAL_STREAM_PREFIX_SIZE + 8u)
#define AB_WAL_COMMIT_KEY "commit"
#define AB_WAL_COMMIT_KEY_SIZE 6u
#define AB_WAL_META_SIZE 152u    /* LMDB's page header and meta record */
#define AB_WAL_COMMIT_RECORD 32u /* transaction id, entries in "blocks", entries in "state", checksum */

struct ab_wal {
    char *dir;
    ab_wal_options options;
    int lock_fd;
    MDB_env *env; /* NULL only while a reopen failed: then every call tries again */
    MDB_dbi main_db;
    MDB_dbi blocks_db;
    MDB_dbi state_db;
    uint32_t page_size;
    uint64_t map_limit; /* the map is never grown beyond */

    pthread_mutex_t turnstile; /* so that a stream of readers does not keep out who wants the lock alone */
    pthread_rwlock_t env_lock;

    pthread_mutex_t idle_lock;
    MDB_txn *idle[AB_WAL_IDLE_READERS]; /* reset read transactions: their reader slot is reused */
    size_t idle_count;

    pthread_mutex_t message_lock;
    ab_message message;

    _Atomic uint64_t commits;
    _Atomic uint64_t map_bytes;

    /* writer */
    bool env_failed; /* the environment refuses to go on (a meta page could not be written): reopen */
    uint8_t meta[AB_WAL_META_SIZE]; /* the meta page that the commit under way replaces, as it was */
    uint64_t meta_at;               /* where it lies */
    bool bad_state; /* read_only: a value or key of small state is damaged: what is missing is not certain */
    bool ready;     /* opened in full: closing marks the run as closed */
};

/* The record of a stream, kept in "state" in the transaction that moves it. */
typedef struct ab_wal_record {
    uint64_t base;
    uint64_t base_hash;
    uint64_t last;
    uint64_t last_hash;
    uint64_t hlc_last;
} ab_wal_record;
#define AB_WAL_RECORD_SIZE 40u

/* wal_keys.c: keys and values of both databases; pure functions. */
void ab_wal_block_key(uint8_t key[AB_WAL_BLOCK_KEY], uint64_t group, ab_stream stream, uint64_t first);
bool ab_wal_block_key_is(const MDB_val *key, uint64_t group, ab_stream stream);
uint64_t ab_wal_block_key_first(const MDB_val *key);
size_t ab_wal_state_key(uint8_t *key, uint64_t group, const void *name, size_t size);
void ab_wal_stream_name(uint8_t name[AB_WAL_STREAM_NAME], ab_stream stream);
bool ab_wal_stream_name_read(const uint8_t *name, size_t size, ab_stream *stream);
uint64_t ab_wal_state_sum(const void *key, size_t key_size, const void *data, size_t size);
void ab_wal_record_encode(uint8_t data[AB_WAL_RECORD_SIZE], const ab_wal_record *record);
bool ab_wal_record_decode(const void *data, size_t size, ab_wal_record *record);
void ab_wal_commit_record_encode(uint8_t data[AB_WAL_COMMIT_RECORD], uint64_t txnid, uint64_t blocks,
                                 uint64_t state);
bool ab_wal_commit_record_decode(const void *data, size_t size, uint64_t *txnid, uint64_t *blocks,
                                 uint64_t *state);

/* wal_util.c: errors, messages, read transactions; any thread. */
void ab_wal_say(ab_message *message, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Sets the message of the log. @return code */
int ab_wal_fail(ab_wal *wal, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Code for what an LMDB function returned. */
int ab_wal_code(int rc);
/* The same, with a message: what was tried. */
int ab_wal_lmdb_fail(ab_wal *wal, int rc, const char *what);
int ab_wal_read_begin(ab_wal *wal, MDB_txn **txn);
void ab_wal_read_end(ab_wal *wal, MDB_txn *txn);
/* Alone with the environment: no read transaction is active. */
void ab_wal_env_lock(ab_wal *wal);
void ab_wal_env_unlock(ab_wal *wal);
/* Aborts the idle read transactions (env_lock held alone, or no other user). */
void ab_wal_idle_drop(ab_wal *wal);

/* wal_state.c: values of "state" inside a transaction. `value` is borrowed from the transaction.
 * @return AB_OK, AB_ENOTFOUND, AB_ECORRUPT, ... */
int ab_wal_txn_state_get(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_bytes name, ab_bytes *value);
int ab_wal_txn_state_put(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_bytes name, ab_bytes value);
int ab_wal_txn_state_del(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_bytes name);
int ab_wal_txn_record_get(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_stream stream, ab_wal_record *record);
int ab_wal_txn_record_put(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_stream stream,
                          const ab_wal_record *record);
int ab_wal_txn_record_del(ab_wal *wal, MDB_txn *txn, uint64_t group, ab_stream stream);

/* Calls `bad` with the group of every value that does not match its checksum, until it returns false. */
int ab_wal_state_sums(ab_wal *wal, ab_wal_group_fn bad, void *arg);

/* wal_lock.c: the file LOCK. Shared for read_only (changes no byte; *fd -1 if there is no LOCK), alone else. */
int ab_wal_lock_take(const char *dir, bool read_only, int *fd, ab_message *message);

/* wal_env.c: the LMDB environment. Opens what passed ab_check_file(); fills env, databases, map. */
int ab_wal_env_open(ab_wal *wal, bool *created, ab_message *message);
void ab_wal_env_close(ab_wal *wal);
/* Notes the meta page that this transaction's commit will replace. */
int ab_wal_env_note(ab_wal *wal, MDB_txn *txn);
/* After a failure that left the environment unusable: puts that page back, closes, checks and opens again. */
int ab_wal_env_reopen(ab_wal *wal);
/* Doubles the map. @return AB_OK, AB_ENOSPC at the limit, ... */
int ab_wal_env_grow(ab_wal *wal);
/* Pages in use times their size, as this transaction sees it. */
int ab_wal_used_bytes(ab_wal *wal, MDB_txn *txn, uint64_t *used);

/* wal_commit.c */
/* Adds the commit record and commits; the transaction is gone afterwards. @return what LMDB returned */
int ab_wal_txn_finish(ab_wal *wal, MDB_txn *txn);

/* wal_read.c: checks a stored block: key against header, header, checksum. */
int ab_wal_block_check(const MDB_val *key, const MDB_val *value, ab_block_header *header);

#define AB_CHECK_NAME 96u

/* wal_check.c: the structure of data.mdb, read without LMDB, which trusts its pages blindly. */
typedef struct ab_check_report {
    bool empty;          /* no file, or nothing was ever committed */
    bool complete;       /* every page was accounted for; else "blocks" was too large and was skipped */
    unsigned bad_states; /* values in "state" that do not match their checksums */
    char bad_name[AB_CHECK_NAME]; /* the first of them, in words */
    uint32_t page_size;
    uint64_t txnid;
    uint64_t last_page;
} ab_check_report;
/* Pages of trees that a check at open reads at most: 128 MB, some 0.2 s. Beyond it "blocks" is skipped. */
#define AB_CHECK_BUDGET 32768u
/* @return AB_OK, AB_ECORRUPT, AB_EVERSION, AB_EIO, AB_ENOMEM */
int ab_check_file(const char *path, uint64_t budget, ab_check_report *report, ab_message *message);

#endif
