/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, messages and read transactions of the log. Any thread. */
#include "wal/wal_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void ab_wal_say(ab_message *message, const char *format, ...)
{
    if (message == NULL) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(message->text, sizeof(message->text), format, args);
    va_end(args);
}

int ab_wal_fail(ab_wal *wal, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&wal->message_lock);
    vsnprintf(wal->message.text, sizeof(wal->message.text), format, args);
    pthread_mutex_unlock(&wal->message_lock);
    va_end(args);
    return code;
}

void ab_wal_message(const ab_wal *wal, ab_message *message)
{
    ab_wal *w = (ab_wal *)wal; /* the lock is not part of what const promises */
    pthread_mutex_lock(&w->message_lock);
    *message = w->message;
    pthread_mutex_unlock(&w->message_lock);
}

int ab_wal_code(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return AB_OK;
    case MDB_NOTFOUND:
        return AB_ENOTFOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return AB_ENOSPC;
    case ENOMEM:
        return AB_ENOMEM;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
        return AB_ECORRUPT;
    case MDB_VERSION_MISMATCH:
        return AB_EVERSION;
    case MDB_TXN_FULL:
        return AB_ETOOBIG;
    default:
        return AB_EIO;
    }
}

int ab_wal_lmdb_fail(ab_wal *wal, int rc, const char *what)
{
    int code = ab_wal_code(rc);
    return code == AB_OK ? AB_OK
                         : ab_wal_fail(wal, code, "%s/data.mdb: %s: %s", wal->dir, what, mdb_strerror(rc));
}

void ab_wal_env_lock(ab_wal *wal)
{
    pthread_mutex_lock(&wal->turnstile);
    pthread_rwlock_wrlock(&wal->env_lock);
}

void ab_wal_env_unlock(ab_wal *wal)
{
    pthread_rwlock_unlock(&wal->env_lock);
    pthread_mutex_unlock(&wal->turnstile);
}

static MDB_txn *idle_take(ab_wal *wal)
{
    MDB_txn *txn = NULL;
    pthread_mutex_lock(&wal->idle_lock);
    if (wal->idle_count > 0) {
        txn = wal->idle[--wal->idle_count];
    }
    pthread_mutex_unlock(&wal->idle_lock);
    return txn;
}

int ab_wal_read_begin(ab_wal *wal, MDB_txn **txn)
{
    pthread_mutex_lock(&wal->turnstile);
    pthread_rwlock_rdlock(&wal->env_lock);
    pthread_mutex_unlock(&wal->turnstile);
    if (wal->env == NULL) {
        pthread_rwlock_unlock(&wal->env_lock);
        return ab_wal_fail(wal, AB_EIO, "%s: the log could not be reopened after a failed write", wal->dir);
    }
    *txn = idle_take(wal);
    int rc = *txn != NULL ? mdb_txn_renew(*txn) : mdb_txn_begin(wal->env, NULL, MDB_RDONLY, txn);
    if (rc == MDB_SUCCESS) {
        return AB_OK;
    }
    if (*txn != NULL) {
        mdb_txn_abort(*txn);
        *txn = NULL;
    }
    int code = ab_wal_lmdb_fail(wal, rc, "begin to read");
    pthread_rwlock_unlock(&wal->env_lock);
    return code;
}

void ab_wal_read_end(ab_wal *wal, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    pthread_mutex_lock(&wal->idle_lock);
    if (wal->idle_count < AB_WAL_IDLE_READERS) {
        wal->idle[wal->idle_count++] = txn;
        txn = NULL;
    }
    pthread_mutex_unlock(&wal->idle_lock);
    if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    pthread_rwlock_unlock(&wal->env_lock);
}

void ab_wal_idle_drop(ab_wal *wal)
{
    while (wal->idle_count > 0) {
        mdb_txn_abort(wal->idle[--wal->idle_count]);
    }
}
