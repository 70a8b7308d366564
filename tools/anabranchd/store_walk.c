/* SPDX-License-Identifier: Apache-2.0 */
/* Walks over all points in the order of their column keys, in short read transactions: exports and recounts. Any
 * thread, one per walk. */
#include "tools/anabranchd/store_internal.h"

#include <stdlib.h>
#include <string.h>

/* What one call of ab_export_next() gathers. */
#define SLICE (64u * 1024)
/* Columns and points looked at in one transaction. */
#define SHARE 20000u

typedef struct walk {
    const ab_selection *selection; /* NULL: all */
    char column[AB_COLUMN_KEY_MAX];
    size_t size;  /* of the column key; 0: before the first */
    uint32_t id;  /* of the column; 0: look for the next */
    int64_t time; /* go on at this time */
    bool begun;
    bool done;
    size_t share; /* left of this transaction's */
} walk;

/* Takes a point. @return false: enough for now; the point counts as taken */
typedef bool (*point_fn)(void *arg, const walk *at, int64_t time, const MDB_val *data, int *code);

/* Points of the column from walk->time on. @return MDB_SUCCESS; *enough: `take` said so, or the share is used up */
static int walk_column(const ab_store *store, MDB_txn *txn, walk *w, point_fn take, void *arg, int *code,
                       bool *enough)
{
    MDB_cursor *cursor = NULL;
    uint8_t bytes[AB_POINT_KEY_SIZE];
    int64_t stop = w->selection != NULL ? w->selection->stop : INT64_MAX;
    ab_point_key_pack(w->id, w->time, bytes);
    MDB_val key = {sizeof bytes, bytes};
    MDB_val data;
    int rc = mdb_cursor_open(txn, store->points_dbi, &cursor);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
    bool more = true;
    while (rc == MDB_SUCCESS) {
        uint32_t id = 0;
        int64_t time = 0;
        if (!ab_point_key_unpack(&key, &id, &time)) {
            rc = MDB_CORRUPTED;
            break;
        }
        if (id != w->id || time > stop) {
            rc = MDB_NOTFOUND;
            break;
        }
        w->share--;
        more = take(arg, w, time, &data, code) && w->share > 0;
        if (!more || *code != AB_OK) {
            w->time = time == INT64_MAX ? time : time + 1;
            more = time == INT64_MAX;
            break;
        }
        rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    *enough = rc == MDB_SUCCESS;
    if (rc == MDB_NOTFOUND || (rc == MDB_SUCCESS && more)) {
        w->id = 0;
        rc = MDB_SUCCESS;
    }
    return rc;
}

/* The next column of the selection, or walk->done. MDB_SUCCESS with id 0: the share is used up. */
static int next_column(const ab_trie *trie, walk *w)
{
    const ab_selection *selection = w->selection;
    while (w->share > 0) {
        int rc = ab_trie_next(trie, w->column, &w->size, &w->id);
        if (rc == MDB_NOTFOUND || (rc == MDB_SUCCESS && selection != NULL &&
                                   ab_selection_is_before(selection, w->column, w->size))) {
            w->done = true;
            w->id = 0;
            return MDB_SUCCESS;
        }
        w->share--;
        w->time = selection != NULL ? selection->start : INT64_MIN;
        if (rc != MDB_SUCCESS || selection == NULL ||
            ab_selection_has_series(selection, ab_column_series(w->column, w->size))) {
            return rc;
        }
        w->id = 0;
    }
    return MDB_SUCCESS;
}

static int walk_slice(const ab_store *store, MDB_txn *txn, walk *w, point_fn take, void *arg, int *code)
{
    ab_trie trie = {txn, store->columns_dbi};
    bool enough = false;
    int rc = MDB_SUCCESS;
    w->share = SHARE;
    if (!w->begun) {
        w->size = w->selection != NULL ? ab_selection_begin(w->selection, w->column) : 0;
        w->begun = true;
    }
    while (rc == MDB_SUCCESS && !enough && !w->done && w->share > 0 && *code == AB_OK) {
        if (w->id == 0) {
            rc = next_column(&trie, w);
        }
        if (rc == MDB_SUCCESS && w->id != 0 && w->share > 0) {
            rc = walk_column(store, txn, w, take, arg, code, &enough);
        }
    }
    return rc;
}

/* Takes points until `take` has enough or there are no more. */
static int walk_on(ab_store *store, walk *w, point_fn take, void *arg)
{
    int code = AB_OK;
    pthread_rwlock_rdlock(&store->lock);
    if (store->env == NULL) {
        code = store->closed ? AB_ECLOSED : AB_EIO;
    } else {
        MDB_txn *txn = NULL;
        int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
        if (rc == MDB_SUCCESS) {
            rc = walk_slice(store, txn, w, take, arg, &code);
            mdb_txn_abort(txn);
        }
        code = rc != MDB_SUCCESS ? ab_store_code(rc) : code;
    }
    pthread_rwlock_unlock(&store->lock);
    return code;
}

struct ab_export {
    char *text;
    size_t size;
    size_t capacity;
    walk at;
};

ab_export *ab_export_new(const ab_selection *selection)
{
    ab_export *export = calloc(1, sizeof *export);
    if (export != NULL) {
        export->at.selection = selection;
    }
    return export;
}

bool ab_export_ended(const ab_export *export)
{
    return export->at.done;
}

void ab_export_free(ab_export *export)
{
    if (export != NULL) {
        free(export->text);
        free(export);
    }
}

static bool export_point(void *arg, const walk *at, int64_t time, const MDB_val *data, int *code)
{
    ab_export *export = arg;
    ab_value value;
    ab_stamp stamp;
    if (!ab_point_unpack(data, &value, &stamp)) {
        *code = AB_ECORRUPT;
        return false;
    }
    size_t text = value.type == AB_VALUE_STRING ? value.as.text.size : 0;
    size_t need = export->size + at->size + AB_VALUE_TEXT_MAX(text) + 32;
    if (need > export->capacity) {
        size_t capacity = need > SLICE + SLICE / 2 ? need : SLICE + SLICE / 2;
        char *bytes = realloc(export->text, capacity);
        if (bytes == NULL) {
            *code = AB_ENOMEM;
            return false;
        }
        export->text = bytes;
        export->capacity = capacity;
    }
    char *out = export->text + export->size;
    memcpy(out, at->column, at->size);
    out += at->size;
    *out++ = '=';
    out += ab_value_format(&value, out);
    *out++ = ' ';
    out += ab_integer_format(time, out);
    *out++ = '\n';
    export->size = (size_t)(out - export->text);
    return export->size < SLICE;
}

int ab_export_next(ab_export *export, ab_store *store, const char **text, size_t *size)
{
    export->size = 0;
    int code = export->at.done ? AB_OK : walk_on(store, &export->at, export_point, export);
    *text = export->text;
    *size = code == AB_OK ? export->size : 0;
    return code;
}

typedef struct recount {
    ab_store_summary *summary;
    ab_sum digest;
    ab_point_hasher hasher;
    uint32_t last_column;
    size_t slice;
} recount;

static bool recount_point(void *arg, const walk *at, int64_t time, const MDB_val *data, int *code)
{
    recount *r = arg;
    ab_sum hash;
    *code = ab_point_hash(&r->hasher, ab_column_hash(at->column, at->size), time, data, &hash);
    if (*code != AB_OK) {
        return false;
    }
    ab_sum_add(&r->digest, hash);
    r->summary->points++;
    if (r->last_column != at->id) {
        r->last_column = at->id;
        r->summary->columns++;
    }
    r->slice++;
    return r->slice % 4096 != 0;
}

/* Adds up what the database of tombstones has. */
static int recount_tombstones(ab_store *store, recount *r)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val data;
    pthread_rwlock_rdlock(&store->lock);
    int rc = store->env != NULL ? mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn) : MDB_PANIC;
    rc = rc == MDB_SUCCESS ? mdb_cursor_open(txn, store->tombstones_dbi, &cursor) : rc;
    rc = rc == MDB_SUCCESS ? mdb_cursor_get(cursor, &key, &data, MDB_FIRST) : rc;
    while (rc == MDB_SUCCESS) {
        ab_sum_add(&r->digest, ab_tombstone_hash(&key, &data));
        r->summary->tombstones++;
        rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    if (cursor != NULL) {
        mdb_cursor_close(cursor);
    }
    if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    pthread_rwlock_unlock(&store->lock);
    return rc == MDB_NOTFOUND ? AB_OK : ab_store_code(rc);
}

int ab_store_scan(ab_store *store, ab_store_summary *summary)
{
    walk *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return AB_ENOMEM;
    }
    *summary = (ab_store_summary){0};
    recount r = {.summary = summary};
    int code = AB_OK;
    while (code == AB_OK && !w->done) {
        code = walk_on(store, w, recount_point, &r);
    }
    code = code == AB_OK ? recount_tombstones(store, &r) : code;
    for (int i = 0; i < 8; i++) {
        summary->digest.bytes[i] = (uint8_t)(r.digest.high >> (56 - 8 * i));
        summary->digest.bytes[8 + i] = (uint8_t)(r.digest.low >> (56 - 8 * i));
    }
    free(r.hasher.bytes);
    free(w);
    return code;
}
