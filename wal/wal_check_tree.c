/* SPDX-License-Identifier: Apache-2.0 */
/* The B-trees of data.mdb, walked page by page in key order. Used by wal_check.c; see there. One thread. */
#include "wal/wal_check.h"

#include "wal/bytes.h"
#include <stdio.h>
#include <stdlib.h>

#define NODE_HEADER 8u
#define PAGE_BRANCH 0x01u
#define PAGE_LEAF 0x02u
#define PAGE_OVERFLOW 0x04u
#define NODE_BIG 0x01u
#define NODE_DB 0x02u
#define KEY_MAX 511u

/* One walk through one tree, in key order. */
typedef struct walk {
    check *c;
    tree_kind kind;
    const db_record *db;
    uint64_t branch;
    uint64_t leaf;
    uint64_t overflow;
    uint64_t entries;
    uint8_t before[KEY_MAX]; /* every later key is greater (or equal, where it is a separator's) */
    size_t before_size;
    bool before_equal;
    bool before_any;
} walk;

typedef struct node {
    const uint8_t *key;
    size_t key_size;
    const uint8_t *data; /* in the page; the number of the first overflow page where `big` */
    size_t size;
    bool big;
    bool db;
    uint64_t child;
} node;

static int account(check *c, uint64_t page, uint64_t count)
{
    if (page < 2 || page >= c->pages || count > c->pages - page) {
        return ab_check_bad(c, page, "is out of range");
    }
    for (uint64_t i = page; c->seen != NULL && i < page + count; i++) {
        uint8_t bit = (uint8_t)(1u << (i & 7));
        if ((c->seen[i >> 3] & bit) != 0) {
            return ab_check_bad(c, i, "is used twice");
        }
        c->seen[i >> 3] |= bit;
        c->accounted++;
    }
    return AB_OK;
}

void ab_check_db_decode(const uint8_t *p, db_record *db)
{
    db->flags = host16(p + 4);
    db->depth = host16(p + 6);
    db->branch = host64(p + 8);
    db->leaf = host64(p + 16);
    db->overflow = host64(p + 24);
    db->entries = host64(p + 32);
    db->root = host64(p + 40);
}

int ab_check_db(check *c, const db_record *db, uint16_t flags)
{
    bool none = db->root == NO_PAGE;
    if (db->flags != flags || db->depth > DEPTH_MAX || none != (db->depth == 0) ||
        none != (db->branch + db->leaf == 0) || none != (db->entries == 0) || db->branch > c->pages ||
        db->leaf > c->pages || db->overflow > c->pages) {
        return ab_check_bad(c, db->root, "root record makes no sense");
    }
    return AB_OK;
}

static int compare_keys(tree_kind kind, const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    if (kind == TREE_FREE) {
        uint64_t x = host64(a);
        uint64_t y = host64(b);
        return x < y ? -1 : x > y;
    }
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order != 0 ? order : a_size < b_size ? -1 : a_size > b_size;
}

/* Keys come in order: leaf keys ascend; a separator lies behind all keys before it, and is at most the next. */
static bool order_holds(walk *w, const node *n, bool separator)
{
    if (w->before_any) {
        int order = compare_keys(w->kind, w->before, w->before_size, n->key, n->key_size);
        if (order > 0 || (order == 0 && !w->before_equal)) {
            return false;
        }
    }
    memcpy(w->before, n->key, n->key_size);
    w->before_size = n->key_size;
    w->before_equal = separator;
    w->before_any = true;
    return true;
}

static bool key_size_good(tree_kind kind, size_t size)
{
    switch (kind) {
    case TREE_FREE:
        return size == 8;
    case TREE_BLOCKS:
        return size == AB_WAL_BLOCK_KEY;
    case TREE_STATE:
        return size > 8 && size <= KEY_MAX;
    default:
        return size > 0 && size <= KEY_MAX;
    }
}

/* Reads node `i`. @return bytes it takes in the page, 0 if it is malformed */
static size_t node_read(const walk *w, const uint8_t *page, unsigned i, bool branch, node *n)
{
    uint32_t size = w->c->page_size;
    uint32_t offset = host16(page + PAGE_HEADER + 2 * i);
    *n = (node){.key = NULL};
    if (offset % 2 != 0 || offset < host16(page + 14) || offset > size - NODE_HEADER) {
        return 0;
    }
    const uint8_t *p = page + offset;
    uint32_t low = (uint32_t)host16(p) | (uint32_t)host16(p + 2) << 16;
    uint16_t flags = host16(p + 4);
    *n = (node){.key = p + NODE_HEADER, .key_size = host16(p + 6)};
    size_t used = NODE_HEADER + n->key_size;
    if (used > size - offset || (!(branch && i == 0) && !key_size_good(w->kind, n->key_size))) {
        return 0;
    }
    if (branch) {
        n->child = (uint64_t)low | (uint64_t)flags << 32;
        return used + (used & 1);
    }
    n->big = (flags & NODE_BIG) != 0;
    n->db = (flags & NODE_DB) != 0;
    n->data = p + used;
    n->size = low;
    if ((flags & ~(NODE_BIG | NODE_DB)) != 0 || (n->db && (w->kind != TREE_MAIN || n->big)) ||
        (!n->big && used + n->size > w->c->node_max) ||
        (n->big && w->kind != TREE_FREE && used + n->size <= w->c->node_max)) {
        return 0;
    }
    used += n->big ? 8 : n->size;
    return used <= size - offset ? used + (used & 1) : 0;
}

/* The page's own fields, and that its nodes fill the upper part without gap or overlap. */
static int page_check(walk *w, const uint8_t *page, uint64_t number, bool branch)
{
    check *c = w->c;
    uint32_t lower = host16(page + 12);
    uint32_t upper = host16(page + 14);
    uint8_t taken[PAGE_SIZE_MAX / 2]; /* nodes begin at even places */
    size_t total = 0;
    if (host64(page) != number || host16(page + 10) != (branch ? PAGE_BRANCH : PAGE_LEAF)) {
        return ab_check_bad(c, number, "is not the page that it should be");
    }
    if (lower < PAGE_HEADER + (branch ? 4 : 2) || lower % 2 != 0 || upper % 2 != 0 || lower > upper ||
        upper > c->page_size) {
        return ab_check_bad(c, number, "has impossible bounds");
    }
    memset(taken, 0, c->page_size / 2);
    for (unsigned i = 0; i < (lower - PAGE_HEADER) / 2; i++) {
        node n;
        size_t used = node_read(w, page, i, branch, &n);
        if (used == 0) {
            return ab_check_bad(c, number, "has a malformed node");
        }
        uint32_t from = host16(page + PAGE_HEADER + 2 * i);
        if (memchr(taken + from / 2, 1, used / 2) != NULL) {
            return ab_check_bad(c, number, "has overlapping nodes");
        }
        memset(taken + from / 2, 1, used / 2);
        total += used;
    }
    return total == c->page_size - upper ? AB_OK : ab_check_bad(c, number, "has lost nodes");
}

/* Accounts the overflow pages of a node. */
static int overflow_check(walk *w, const node *n, uint64_t *first)
{
    check *c = w->c;
    uint64_t count = (PAGE_HEADER - 1 + n->size) / c->page_size + 1;
    *first = host64(n->data);
    if (*first < 2 || *first >= c->pages || count > c->pages - *first) {
        return ab_check_bad(c, *first, "of an overflow run is out of range");
    }
    if (c->headers || w->kind != TREE_BLOCKS) {
        uint8_t header[PAGE_HEADER];
        int code = ab_check_read(c, header, sizeof(header), *first * c->page_size);
        if (code != AB_OK) {
            return code;
        }
        uint32_t pages = host32(header + 12);
        if (host64(header) != *first || host16(header + 10) != PAGE_OVERFLOW || pages < count ||
            (pages != count && w->kind != TREE_FREE)) {
            return ab_check_bad(c, *first, "is not the overflow run that it should be");
        }
        count = pages;
    }
    if ((*first + count) * c->page_size > c->file_size) {
        return ab_check_bad(c, *first, "lies beyond the end of the file");
    }
    w->overflow += count;
    return account(c, *first, count);
}

/* The value of a node in `*data`; where it lies on overflow pages, in memory of its own (`*owned`). */
static int node_value(check *c, const node *n, uint64_t first, const uint8_t **data, uint8_t **owned)
{
    *owned = NULL;
    *data = n->data;
    if (!n->big) {
        return AB_OK;
    }
    *owned = malloc(n->size);
    if (*owned == NULL) {
        return AB_ENOMEM;
    }
    *data = *owned;
    int code = ab_check_read(c, *owned, n->size, first * c->page_size + PAGE_HEADER);
    if (code != AB_OK) {
        free(*owned);
        *owned = NULL;
    }
    return code;
}

/* A record of the free list: pages in descending order, freed by a transaction of the past. */
static int free_list_check(check *c, const node *n, const uint8_t *data)
{
    if (n->size < 8 || n->size % 8 != 0 || host64(n->key) == 0 || host64(n->key) > c->txnid) {
        return ab_check_bad(c, c->pages, "free list is malformed");
    }
    uint64_t count = host64(data);
    if (count > n->size / 8 - 1) {
        return ab_check_bad(c, c->pages, "free list is too long");
    }
    uint64_t before = UINT64_MAX;
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = host64(data + 8 * i);
        if (page >= before) {
            return ab_check_bad(c, page, "in the free list is out of order");
        }
        before = page;
        int code = account(c, page, 1);
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

static bool key_is(const node *n, const char *name)
{
    return n->key_size == strlen(name) && memcmp(n->key, name, n->key_size) == 0;
}

/* The root directory of a log has three entries. */
#define MAIN_ENTRIES 3u

/* There are entries that a log does not have: where it has none of its own, either, it never was one. */
static int strangers_tell(check *c)
{
    return c->has_blocks || c->has_state || c->has_commit
               ? ab_check_bad(c, c->pages, "root directory has an entry that is not of this log")
               : ab_check_foreign(c);
}

/* Only what can be printed. */
static size_t printable(const uint8_t *text, size_t size, char *out, size_t room)
{
    size_t used = 0;
    for (size_t i = 0; i < size && used + 1 < room; i++) {
        out[used++] = text[i] > ' ' && text[i] < 0x7f && text[i] != '"' ? (char)text[i] : '.';
    }
    out[used] = '\0';
    return used;
}

static int note_stranger(check *c, const node *n)
{
    if (c->strangers++ == 0) {
        printable(n->key, n->key_size, c->stranger, sizeof(c->stranger));
    }
    return c->strangers > MAIN_ENTRIES ? strangers_tell(c) : AB_OK; /* others may have any number */
}

static int main_node_check(check *c, const node *n)
{
    if (n->db && n->size == DB_SIZE && key_is(n, "blocks")) {
        ab_check_db_decode(n->data, &c->blocks);
        c->has_blocks = true;
        return ab_check_db(c, &c->blocks, 0);
    }
    if (n->db && n->size == DB_SIZE && key_is(n, "state")) {
        ab_check_db_decode(n->data, &c->state);
        c->has_state = true;
        return ab_check_db(c, &c->state, 0);
    }
    if (!n->db && !n->big && key_is(n, AB_WAL_COMMIT_KEY) &&
        ab_wal_commit_record_decode(n->data, n->size, &c->commit_txnid, &c->commit_blocks,
                                    &c->commit_state)) {
        c->has_commit = true;
        return AB_OK;
    }
    return note_stranger(c, n);
}

/* Keeps what the first one is called: its key may be what is damaged, so only what can be printed. */
static void note_bad_state(check *c, const node *n)
{
    if (c->bad_states++ > 0) {
        return;
    }
    uint64_t group = n->key_size >= 8 ? ab_get_be64(n->key) : 0;
    int used = snprintf(c->bad_name, sizeof(c->bad_name), "group %llu, \"", (unsigned long long)group);
    size_t at = (size_t)used;
    if (n->key_size > 8) {
        at += printable(n->key + 8, n->key_size - 8, c->bad_name + at, sizeof(c->bad_name) - at - 1);
    }
    c->bad_name[at] = '"';
    c->bad_name[at + 1] = '\0';
}

static int leaf_node_check(walk *w, const node *n)
{
    check *c = w->c;
    uint64_t first = 0;
    int code = AB_OK;
    if (w->kind == TREE_MAIN) {
        return main_node_check(c, n);
    }
    if (n->size > AB_BLOCK_MAX && w->kind != TREE_FREE) {
        return ab_check_bad(c, c->pages, "holds an impossible size");
    }
    if (n->big && (code = overflow_check(w, n, &first)) != AB_OK) {
        return code;
    }
    if (w->kind == TREE_BLOCKS) {
        return AB_OK; /* blocks have checksums of their own, looked at when they are read */
    }
    const uint8_t *data;
    uint8_t *owned;
    if (n->size > c->file_size) {
        return ab_check_bad(c, c->pages, "holds an impossible size");
    }
    if ((code = node_value(c, n, first, &data, &owned)) != AB_OK) {
        return code;
    }
    if (w->kind == TREE_FREE) {
        code = free_list_check(c, n, data);
    } else if (n->size < AB_WAL_STATE_SUM ||
               ab_get_le64(data + n->size - AB_WAL_STATE_SUM) !=
                   ab_wal_state_sum(n->key, n->key_size, data, n->size - AB_WAL_STATE_SUM)) {
        note_bad_state(c, n);
    }
    free(owned);
    return code;
}

static int page_read(check *c, unsigned level, uint64_t number)
{
    if (c->level[level] == NULL) {
        c->level[level] = malloc(c->page_size);
        if (c->level[level] == NULL) {
            return AB_ENOMEM;
        }
    }
    int code = account(c, number, 1);
    return code != AB_OK ? code : ab_check_read(c, c->level[level], c->page_size, number * c->page_size);
}

static int leaf_check(walk *w, const uint8_t *page, uint64_t number)
{
    for (unsigned i = 0; i < (host16(page + 12) - PAGE_HEADER) / 2; i++) {
        node n;
        node_read(w, page, i, false, &n);
        if (!order_holds(w, &n, false)) {
            return ab_check_bad(w->c, number, "has keys out of order");
        }
        int code = leaf_node_check(w, &n);
        if (code != AB_OK) {
            return code;
        }
        w->entries++;
    }
    return AB_OK;
}

static int subtree_check(walk *w, uint64_t number, unsigned level)
{
    check *c = w->c;
    bool branch = level + 1 < w->db->depth;
    /* The counts bound the walk where there is no map of pages seen. */
    if (branch ? w->branch++ >= w->db->branch : w->leaf++ >= w->db->leaf) {
        return ab_check_bad(c, number, "is one too many in its tree");
    }
    int code = page_read(c, level, number);
    const uint8_t *page = c->level[level];
    if (code == AB_OK) {
        code = page_check(w, page, number, branch);
    }
    if (code != AB_OK || !branch) {
        return code != AB_OK ? code : leaf_check(w, page, number);
    }
    for (unsigned i = 0; i < (host16(page + 12) - PAGE_HEADER) / 2; i++) {
        node n;
        node_read(w, page, i, true, &n);
        if (i > 0 && !order_holds(w, &n, true)) {
            return ab_check_bad(c, number, "has keys out of order");
        }
        code = subtree_check(w, n.child, level + 1);
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

int ab_check_tree(check *c, tree_kind kind, const db_record *db)
{
    if (db->root == NO_PAGE) {
        return AB_OK;
    }
    walk w = {.c = c, .kind = kind, .db = db};
    int code = subtree_check(&w, db->root, 0);
    if (code != AB_OK) {
        return code;
    }
    if (kind == TREE_MAIN && c->strangers > 0) {
        return strangers_tell(c);
    }
    if (w.branch != db->branch || w.leaf != db->leaf || w.entries != db->entries ||
        w.overflow != db->overflow) {
        return ab_check_bad(c, db->root, "roots a tree that has lost pages or entries");
    }
    return AB_OK;
}
