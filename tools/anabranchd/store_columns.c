/* SPDX-License-Identifier: Apache-2.0 */
/* Column keys to ids: a hash table in memory before a trie in LMDB. One thread at a time per table; the trie as its
 * transaction. */
#include "tools/anabranchd/bytes.h"
#include "tools/anabranchd/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* LMDB's keys are at most 511 bytes. */
#define PIECE_MAX 500u
#define SLOTS_MIN 1024u

void ab_columns_clear(ab_columns *columns)
{
    free(columns->list);
    free(columns->table);
    free(columns->fresh);
    ab_arena_clear(&columns->texts);
    *columns = (ab_columns){.next_id = columns->next_id, .live = columns->live};
}

static bool is_column(const ab_column *column, const ab_point *point)
{
    size_t series = point->series.size;
    return column->size == series + 1 + point->field.size &&
           memcmp(column->text, point->series.data, series) == 0 &&
           memcmp(column->text + series + 1, point->field.data, point->field.size) == 0;
}

/* The slot that holds the column or where it belongs. */
static uint32_t *find_slot(const ab_columns *columns, uint64_t hash, const ab_point *point)
{
    for (size_t slot = hash & (columns->slots - 1);; slot = (slot + 1) & (columns->slots - 1)) {
        uint32_t *entry = &columns->table[slot];
        if (*entry == 0) {
            return entry;
        }
        const ab_column *column = &columns->list[*entry - 1];
        if (column->hash == hash && is_column(column, point)) {
            return entry;
        }
    }
}

static int grow_table(ab_columns *columns)
{
    size_t slots = columns->slots == 0 ? SLOTS_MIN : columns->slots * 2;
    uint32_t *table = calloc(slots, sizeof *table);
    if (table == NULL) {
        return AB_ENOMEM;
    }
    for (size_t i = 0; i < columns->count; i++) {
        size_t slot = columns->list[i].hash & (slots - 1);
        while (table[slot] != 0) {
            slot = (slot + 1) & (slots - 1);
        }
        table[slot] = (uint32_t)i + 1;
    }
    free(columns->table);
    columns->table = table;
    columns->slots = slots;
    return AB_OK;
}

static int reserve(ab_columns *columns)
{
    if (columns->count == columns->capacity) {
        size_t capacity = columns->capacity == 0 ? 256 : columns->capacity * 2;
        ab_column *list = realloc(columns->list, capacity * sizeof *list);
        if (list == NULL) {
            return AB_ENOMEM;
        }
        columns->list = list;
        columns->capacity = capacity;
    }
    if (columns->fresh_count == columns->fresh_capacity) {
        size_t capacity = columns->fresh_capacity == 0 ? 256 : columns->fresh_capacity * 2;
        uint32_t *fresh = realloc(columns->fresh, capacity * sizeof *fresh);
        if (fresh == NULL) {
            return AB_ENOMEM;
        }
        columns->fresh = fresh;
        columns->fresh_capacity = capacity;
    }
    return columns->slots < 2 * (columns->count + 1) ? grow_table(columns) : AB_OK;
}

static int add(ab_columns *columns, const ab_trie *trie, const ab_point *point, uint64_t hash)
{
    size_t series = point->series.size;
    size_t size = series + 1 + point->field.size;
    int code = reserve(columns);
    char *text = code == AB_OK ? ab_arena_take(&columns->texts, size) : NULL;
    if (text == NULL) {
        return AB_ENOMEM;
    }
    memcpy(text, point->series.data, series);
    text[series] = ' ';
    memcpy(text + series + 1, point->field.data, point->field.size);
    uint32_t id = 0;
    int found = trie->txn != NULL ? ab_trie_get(trie, text, size, &id) : MDB_NOTFOUND;
    if (found != MDB_SUCCESS && found != MDB_NOTFOUND) {
        return ab_store_code(found);
    }
    if (found == MDB_NOTFOUND) {
        if (columns->next_id == UINT32_MAX) {
            return AB_ETOOBIG;
        }
        id = columns->next_id++;
        columns->fresh[columns->fresh_count++] = (uint32_t)columns->count;
    }
    columns->list[columns->count++] = (ab_column){
        .hash = hash, .key_hash = ab_column_hash(text, size), .text = text, .size = (uint32_t)size, .id = id};
    return AB_OK;
}

int ab_columns_find(ab_columns *columns, const ab_trie *trie, const ab_point *point, uint64_t series_hash,
                    uint32_t *position)
{
    uint64_t hash = XXH3_64bits_withSeed(point->field.data, point->field.size, series_hash);
    if (columns->slots > 0) {
        uint32_t *slot = find_slot(columns, hash, point);
        if (*slot != 0) {
            *position = *slot - 1;
            return AB_OK;
        }
    }
    int code = add(columns, trie, point, hash);
    if (code != AB_OK) {
        return code;
    }
    *position = (uint32_t)columns->count - 1;
    *find_slot(columns, hash, point) = *position + 1;
    return AB_OK;
}

typedef struct node {
    const char *piece;
    size_t size;
    uint32_t id;
    uint32_t child;
} node;

typedef struct node_key {
    uint8_t bytes[4 + PIECE_MAX];
    MDB_val value;
} node_key;

static MDB_val *make_key(node_key *key, uint32_t parent, const char *piece, size_t size)
{
    ab_put_big(key->bytes, parent, 4);
    memcpy(key->bytes + 4, piece, size);
    key->value = (MDB_val){4 + size, key->bytes};
    return &key->value;
}

static int read_links(const MDB_val *data, uint32_t *id, uint32_t *child)
{
    if (data->mv_size != 8) {
        return MDB_CORRUPTED;
    }
    *id = (uint32_t)ab_get_big(data->mv_data, 4);
    *child = (uint32_t)ab_get_big((const uint8_t *)data->mv_data + 4, 4);
    return MDB_SUCCESS;
}

static int get_links(const ab_trie *trie, MDB_val *key, uint32_t *id, uint32_t *child)
{
    MDB_val data;
    int rc = mdb_get(trie->txn, trie->dbi, key, &data);
    return rc == MDB_SUCCESS ? read_links(&data, id, child) : rc;
}

int ab_trie_put(const ab_trie *trie, const char *text, size_t size, uint32_t id, uint32_t *next_node)
{
    uint32_t parent = 0;
    for (;;) {
        node_key key;
        uint8_t links[8];
        uint32_t known = 0;
        uint32_t child = 0;
        bool last = size <= PIECE_MAX;
        int rc = get_links(trie, make_key(&key, parent, text, last ? size : PIECE_MAX), &known, &child);
        if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND) {
            return rc;
        }
        if (!last && child == 0 && *next_node == UINT32_MAX) {
            return ENOSPC;
        }
        if (last || child == 0) {
            child = last ? child : (*next_node)++;
            ab_put_big(links, last ? id : known, 4);
            ab_put_big(links + 4, child, 4);
            MDB_val data = {sizeof links, links};
            rc = mdb_put(trie->txn, trie->dbi, &key.value, &data, 0);
        }
        if (last || (rc != MDB_SUCCESS && rc != MDB_NOTFOUND)) {
            return rc;
        }
        parent = child;
        text += PIECE_MAX;
        size -= PIECE_MAX;
    }
}

int ab_trie_get(const ab_trie *trie, const char *text, size_t size, uint32_t *id)
{
    uint32_t parent = 0;
    for (;;) {
        node_key key;
        uint32_t child = 0;
        bool last = size <= PIECE_MAX;
        int rc = get_links(trie, make_key(&key, parent, text, last ? size : PIECE_MAX), id, &child);
        if (rc != MDB_SUCCESS) {
            return rc;
        }
        if (last) {
            return *id != 0 ? MDB_SUCCESS : MDB_NOTFOUND;
        }
        if (child == 0) {
            return MDB_NOTFOUND;
        }
        parent = child;
        text += PIECE_MAX;
        size -= PIECE_MAX;
    }
}

/* The cursor's node, if it belongs to `parent`. */
static int read_node(const MDB_val *key, const MDB_val *data, uint32_t parent, node *n)
{
    if (key->mv_size < 5) {
        return MDB_CORRUPTED;
    }
    if (ab_get_big(key->mv_data, 4) != parent) {
        return MDB_NOTFOUND;
    }
    n->piece = (const char *)key->mv_data + 4;
    n->size = key->mv_size - 4;
    return read_links(data, &n->id, &n->child);
}

static int seek(MDB_cursor *cursor, uint32_t parent, const char *piece, size_t size, node *n)
{
    node_key key;
    MDB_val data;
    MDB_val *k = make_key(&key, parent, piece, size);
    int rc = mdb_cursor_get(cursor, k, &data, MDB_SET_RANGE);
    return rc == MDB_SUCCESS ? read_node(k, &data, parent, n) : rc;
}

static int step(MDB_cursor *cursor, uint32_t parent, node *n)
{
    MDB_val key;
    MDB_val data;
    int rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    return rc == MDB_SUCCESS ? read_node(&key, &data, parent, n) : rc;
}

typedef struct trie_walk {
    MDB_cursor *cursor;
    char *text;
    size_t size;
    uint32_t id;
} trie_walk;

static int next_below(trie_walk *walk, uint32_t parent, size_t at);

/* The first column at or below the node, whose piece begins at `at`. */
static int first_of(trie_walk *walk, const node *n, size_t at)
{
    if (at + n->size > AB_COLUMN_KEY_MAX || (n->id == 0 && n->child == 0)) {
        return MDB_CORRUPTED;
    }
    memcpy(walk->text + at, n->piece, n->size);
    walk->size = at + n->size;
    walk->id = n->id;
    if (n->id != 0) {
        return MDB_SUCCESS;
    }
    int rc = n->size == PIECE_MAX ? next_below(walk, n->child, walk->size) : MDB_CORRUPTED;
    return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
}

/* The first column below `parent`, whose pieces begin at `at`, that comes after walk->text. Depth is bounded by
 * AB_COLUMN_KEY_MAX / PIECE_MAX. */
static int next_below(trie_walk *walk, uint32_t parent, size_t at)
{
    size_t rest = walk->size - at;
    size_t size = rest < PIECE_MAX ? rest : PIECE_MAX;
    node n;
    int rc = seek(walk->cursor, parent, walk->text + at, size, &n);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    if (n.size == size && memcmp(n.piece, walk->text + at, size) == 0) {
        if (n.child != 0 && size == PIECE_MAX) {
            rc = next_below(walk, n.child, at + PIECE_MAX);
            if (rc != MDB_NOTFOUND) {
                return rc;
            }
            rc = seek(walk->cursor, parent, walk->text + at, size, &n);
            if (rc != MDB_SUCCESS) {
                return rc;
            }
        }
        rc = step(walk->cursor, parent, &n);
        if (rc != MDB_SUCCESS) {
            return rc;
        }
    }
    return first_of(walk, &n, at);
}

int ab_trie_next(const ab_trie *trie, char *text, size_t *size, uint32_t *id)
{
    trie_walk walk = {.text = text, .size = *size};
    int rc = mdb_cursor_open(trie->txn, trie->dbi, &walk.cursor);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = next_below(&walk, 0, 0);
    mdb_cursor_close(walk.cursor);
    if (rc == MDB_SUCCESS) {
        *size = walk.size;
        *id = walk.id;
    }
    return rc;
}
