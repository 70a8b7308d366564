/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structure of data.mdb, checked without LMDB, which trusts its pages: a flipped bit in one of them makes it
 * crash, loop or give away live pages. Runs while nobody writes the file: at open, with LOCK held, and for
 * `verify`. One thread; all it knows lies in its own struct.
 *
 * The layout is that of LMDB 0.9 (data version 1) on 64-bit hosts, in the host's byte order; elsewhere the check
 * says "not complete" and leaves it at that.
 */
#include "wal/wal_internal.h"

#include "wal/bytes.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_HEADER 16u
#define NODE_HEADER 8u
#define PAGE_BRANCH 0x01u
#define PAGE_LEAF 0x02u
#define PAGE_OVERFLOW 0x04u
#define PAGE_META 0x08u
#define NODE_BIG 0x01u
#define NODE_DB 0x02u
#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1u
#define META_SIZE 136u
#define DB_SIZE 48u
#define DB_INTEGER_KEY 0x08u
#define NO_PAGE UINT64_MAX
#define DEPTH_MAX 32u
#define KEY_MAX 511u
#define PAGE_SIZE_MAX 65536u
#define MAP_MAX (1ull << 47)

typedef enum tree_kind { TREE_FREE, TREE_MAIN, TREE_BLOCKS, TREE_STATE } tree_kind;

/* MDB_db */
typedef struct db_record {
    uint16_t flags;
    uint16_t depth;
    uint64_t branch;
    uint64_t leaf;
    uint64_t overflow;
    uint64_t entries;
    uint64_t root;
} db_record;

/* MDB_meta */
typedef struct meta_record {
    db_record free;
    db_record main;
    uint32_t page_size;
    uint64_t map_size;
    uint64_t last_page;
    uint64_t txnid;
} meta_record;

typedef struct check {
    int fd;
    uint32_t page_size;
    uint32_t node_max; /* a larger node has its data on overflow pages */
    uint64_t pages;    /* last page + 1 */
    uint64_t file_size;
    uint64_t txnid;
    uint8_t *seen;      /* a bit per page: reached or free; NULL: not kept */
    uint64_t accounted; /* bits set */
    bool headers;       /* read the headers of overflow pages */
    bool bad_state;
    db_record blocks;
    db_record state;
    bool has_blocks;
    bool has_state;
    bool has_commit;
    uint64_t commit_txnid;
    uint64_t commit_blocks;
    uint64_t commit_state;
    uint8_t *level[DEPTH_MAX];
    const char *path;
    ab_message *message;
} check;

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

static uint16_t host16(const uint8_t *p)
{
    uint16_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static uint32_t host32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static uint64_t host64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof(value));
    return value;
}

static bool host_layout_known(void)
{
    const uint16_t one = 1;
    return sizeof(size_t) == 8 && *(const uint8_t *)&one == 1;
}

static int bad(check *c, uint64_t page, const char *what)
{
    ab_wal_say(c->message, "%s: page %llu: %s; the file is damaged: restore it, or start this node empty",
               c->path, (unsigned long long)page, what);
    return AB_ECORRUPT;
}

static int read_at(check *c, void *data, size_t size, uint64_t offset)
{
    uint8_t *p = data;
    while (size > 0) {
        ssize_t got = pread(c->fd, p, size, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            ab_wal_say(c->message, "%s: cannot read: %s", c->path, strerror(errno));
            return AB_EIO;
        }
        if (got == 0) {
            return bad(c, offset / c->page_size, "lies beyond the end of the file");
        }
        p += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return AB_OK;
}

static int account(check *c, uint64_t page, uint64_t count)
{
    if (page < 2 || page >= c->pages || count > c->pages - page) {
        return bad(c, page, "is out of range");
    }
    for (uint64_t i = page; c->seen != NULL && i < page + count; i++) {
        uint8_t bit = (uint8_t)(1u << (i & 7));
        if ((c->seen[i >> 3] & bit) != 0) {
            return bad(c, i, "is used twice");
        }
        c->seen[i >> 3] |= bit;
        c->accounted++;
    }
    return AB_OK;
}

static void db_decode(const uint8_t *p, db_record *db)
{
    db->flags = host16(p + 4);
    db->depth = host16(p + 6);
    db->branch = host64(p + 8);
    db->leaf = host64(p + 16);
    db->overflow = host64(p + 24);
    db->entries = host64(p + 32);
    db->root = host64(p + 40);
}

static int db_check(check *c, const db_record *db, uint16_t flags)
{
    bool none = db->root == NO_PAGE;
    if (db->flags != flags || db->depth > DEPTH_MAX || none != (db->depth == 0) ||
        none != (db->branch + db->leaf == 0) || none != (db->entries == 0) || db->branch > c->pages ||
        db->leaf > c->pages || db->overflow > c->pages) {
        return bad(c, db->root, "root record makes no sense");
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
    uint8_t starts[PAGE_SIZE_MAX / 16] = {0};
    size_t total = 0;
    if (host64(page) != number || host16(page + 10) != (branch ? PAGE_BRANCH : PAGE_LEAF)) {
        return bad(c, number, "is not the page that it should be");
    }
    if (lower < PAGE_HEADER + (branch ? 4 : 2) || lower % 2 != 0 || upper % 2 != 0 || lower > upper ||
        upper > c->page_size) {
        return bad(c, number, "has impossible bounds");
    }
    for (unsigned i = 0; i < (lower - PAGE_HEADER) / 2; i++) {
        node n;
        size_t used = node_read(w, page, i, branch, &n);
        if (used == 0) {
            return bad(c, number, "has a malformed node");
        }
        uint32_t from = host16(page + PAGE_HEADER + 2 * i);
        for (uint32_t at = from / 2; at < (from + used) / 2; at++) {
            if ((starts[at >> 3] >> (at & 7) & 1) != 0) {
                return bad(c, number, "has overlapping nodes");
            }
            starts[at >> 3] |= (uint8_t)(1u << (at & 7));
        }
        total += used;
    }
    return total == c->page_size - upper ? AB_OK : bad(c, number, "has lost nodes");
}

/* Accounts the overflow pages of a node. */
static int overflow_check(walk *w, const node *n, uint64_t *first)
{
    check *c = w->c;
    uint64_t count = (PAGE_HEADER - 1 + n->size) / c->page_size + 1;
    *first = host64(n->data);
    if (*first < 2 || *first >= c->pages || count > c->pages - *first) {
        return bad(c, *first, "of an overflow run is out of range");
    }
    if (c->headers) {
        uint8_t header[PAGE_HEADER];
        int code = read_at(c, header, sizeof(header), *first * c->page_size);
        if (code != AB_OK) {
            return code;
        }
        uint32_t pages = host32(header + 12);
        if (host64(header) != *first || host16(header + 10) != PAGE_OVERFLOW || pages < count ||
            (pages != count && w->kind != TREE_FREE)) {
            return bad(c, *first, "is not the overflow run that it should be");
        }
        count = pages;
    }
    if ((*first + count) * c->page_size > c->file_size) {
        return bad(c, *first, "lies beyond the end of the file");
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
    int code = read_at(c, *owned, n->size, first * c->page_size + PAGE_HEADER);
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
        return bad(c, c->pages, "free list is malformed");
    }
    uint64_t count = host64(data);
    if (count > n->size / 8 - 1) {
        return bad(c, c->pages, "free list is too long");
    }
    uint64_t before = UINT64_MAX;
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = host64(data + 8 * i);
        if (page >= before) {
            return bad(c, page, "in the free list is out of order");
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

static int main_node_check(check *c, const node *n)
{
    if (n->db && n->size == DB_SIZE && key_is(n, "blocks")) {
        db_decode(n->data, &c->blocks);
        c->has_blocks = true;
        return db_check(c, &c->blocks, 0);
    }
    if (n->db && n->size == DB_SIZE && key_is(n, "state")) {
        db_decode(n->data, &c->state);
        c->has_state = true;
        return db_check(c, &c->state, 0);
    }
    if (!n->db && !n->big && key_is(n, AB_WAL_COMMIT_KEY) &&
        ab_wal_commit_record_decode(n->data, n->size, &c->commit_txnid, &c->commit_blocks,
                                    &c->commit_state)) {
        c->has_commit = true;
        return AB_OK;
    }
    return bad(c, c->pages, "root directory has an entry that is not of this log");
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
        return bad(c, c->pages, "holds an impossible size");
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
        return bad(c, c->pages, "holds an impossible size");
    }
    if ((code = node_value(c, n, first, &data, &owned)) != AB_OK) {
        return code;
    }
    if (w->kind == TREE_FREE) {
        code = free_list_check(c, n, data);
    } else if (n->size < AB_WAL_STATE_SUM ||
               ab_get_le64(data + n->size - AB_WAL_STATE_SUM) !=
                   ab_wal_state_sum(n->key, n->key_size, data, n->size - AB_WAL_STATE_SUM)) {
        c->bad_state = true;
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
    return code != AB_OK ? code : read_at(c, c->level[level], c->page_size, number * c->page_size);
}

static int leaf_check(walk *w, const uint8_t *page, uint64_t number)
{
    for (unsigned i = 0; i < (host16(page + 12) - PAGE_HEADER) / 2; i++) {
        node n;
        node_read(w, page, i, false, &n);
        if (!order_holds(w, &n, false)) {
            return bad(w->c, number, "has keys out of order");
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
        return bad(c, number, "is one too many in its tree");
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
            return bad(c, number, "has keys out of order");
        }
        code = subtree_check(w, n.child, level + 1);
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

static int tree_check(check *c, tree_kind kind, const db_record *db)
{
    if (db->root == NO_PAGE) {
        return AB_OK;
    }
    walk w = {.c = c, .kind = kind, .db = db};
    int code = subtree_check(&w, db->root, 0);
    if (code != AB_OK) {
        return code;
    }
    if (w.branch != db->branch || w.leaf != db->leaf || w.entries != db->entries ||
        (c->headers && w.overflow != db->overflow)) {
        return bad(c, db->root, "roots a tree that has lost pages or entries");
    }
    return AB_OK;
}

static void meta_decode(const uint8_t *p, meta_record *meta)
{
    meta->page_size = host32(p + 24); /* kept where the free list's record has a field to spare */
    meta->map_size = host64(p + 16);
    db_decode(p + 24, &meta->free);
    db_decode(p + 72, &meta->main);
    meta->last_page = host64(p + 120);
    meta->txnid = host64(p + 128);
}

static int meta_read(check *c, uint64_t number, meta_record *meta)
{
    uint8_t page[PAGE_HEADER + META_SIZE];
    int code = read_at(c, page, sizeof(page), number * c->page_size);
    if (code != AB_OK) {
        return code;
    }
    const uint8_t *p = page + PAGE_HEADER;
    if (host64(page) != number || host16(page + 10) != PAGE_META || host32(p) != META_MAGIC) {
        return bad(c, number, "is not a meta page");
    }
    if (host32(p + 4) != META_VERSION) {
        ab_wal_say(c->message, "%s: written by another version of LMDB (data version %u)", c->path,
                   host32(p + 4));
        return AB_EVERSION;
    }
    meta_decode(p, meta);
    uint32_t size = meta->page_size;
    if (size < 512 || size > PAGE_SIZE_MAX || (size & (size - 1)) != 0 || meta->map_size > MAP_MAX ||
        meta->last_page < 1 || meta->last_page > MAP_MAX / size) {
        return bad(c, number, "is a damaged meta page");
    }
    return AB_OK;
}

static int use_meta(check *c, const meta_record *meta)
{
    c->pages = meta->last_page + 1;
    c->txnid = meta->txnid;
    c->has_blocks = c->has_state = c->has_commit = false;
    int code = db_check(c, &meta->free, DB_INTEGER_KEY);
    return code != AB_OK ? code : db_check(c, &meta->main, 0);
}

/*
 * LMDB takes the meta page with the greater transaction id; each commit writes the one whose number has the same
 * parity. A damaged id would silently bring back the state before the last commit, which is whole, too. So the ids
 * must be neighbours, and neither tree may contain a commit record that is newer than its page claims.
 */
static int metas_choose(check *c, const meta_record meta[2], const meta_record **chosen)
{
    unsigned newest = meta[1].txnid > meta[0].txnid ? 1 : 0;
    const meta_record *older = &meta[1 - newest];
    *chosen = &meta[newest];
    if (meta[0].txnid == 0 && meta[1].txnid == 0) {
        return AB_OK;
    }
    if (meta[newest].txnid != older->txnid + 1 || (meta[newest].txnid & 1) != newest) {
        return bad(c, newest, "meta pages do not follow each other");
    }
    ab_message *message = c->message;
    c->message = NULL;
    int code = use_meta(c, older);
    if (code == AB_OK) {
        code = tree_check(c, TREE_MAIN, &older->main);
    }
    c->message = message;
    if (code == AB_ENOMEM || code == AB_EIO) {
        return code;
    }
    if (code == AB_OK && c->has_commit && c->commit_txnid != older->txnid) {
        return bad(c, 1 - newest, "meta page hides a later commit");
    }
    return AB_OK;
}

static int metas_read(check *c, meta_record meta[2])
{
    c->page_size = 4096; /* for messages, until it is known */
    int code = meta_read(c, 0, &meta[0]);
    if (code != AB_OK) {
        return code;
    }
    c->page_size = meta[0].page_size;
    c->node_max = (((c->page_size - PAGE_HEADER) / 2) & ~1u) - 2;
    code = meta_read(c, 1, &meta[1]);
    if (code == AB_OK && meta[1].page_size != c->page_size) {
        return bad(c, 1, "meta pages do not agree on the size of a page");
    }
    return code;
}

static int trees_check(check *c, const meta_record *meta, uint64_t budget, ab_check_report *report)
{
    uint64_t small = c->state.branch + c->state.leaf + meta->free.branch + meta->free.leaf;
    uint64_t blocks = c->blocks.branch + c->blocks.leaf;
    /* A file shorter than it should be would end LMDB in a bus error: then look at everything. */
    bool whole = small + blocks <= budget || c->file_size < c->pages * c->page_size;
    report->complete = whole && c->blocks.entries <= budget;
    c->headers = report->complete;
    if (report->complete) {
        c->seen = calloc(1, (size_t)(c->pages / 8 + 1));
        if (c->seen == NULL) {
            return AB_ENOMEM;
        }
        c->accounted = 2;
        int again = tree_check(c, TREE_MAIN, &meta->main); /* this time its pages are noted */
        if (again != AB_OK) {
            return again;
        }
    }
    int code = tree_check(c, TREE_STATE, &c->state);
    if (code == AB_OK) {
        code = tree_check(c, TREE_FREE, &meta->free);
    }
    if (code == AB_OK && whole) {
        code = tree_check(c, TREE_BLOCKS, &c->blocks);
    }
    if (code == AB_OK && report->complete && c->accounted != c->pages) {
        return bad(c, c->pages, "is not the end: pages are neither in use nor free");
    }
    return code;
}

static int file_check(check *c, uint64_t budget, ab_check_report *report)
{
    meta_record meta[2];
    const meta_record *chosen;
    int code = metas_read(c, meta);
    if (code != AB_OK) {
        return code;
    }
    code = metas_choose(c, meta, &chosen);
    if (code != AB_OK) {
        return code;
    }
    report->page_size = c->page_size;
    report->txnid = chosen->txnid;
    report->last_page = chosen->last_page;
    report->empty = chosen->txnid == 0;
    code = use_meta(c, chosen);
    if (code != AB_OK || report->empty) {
        return code != AB_OK || chosen->main.root == NO_PAGE ? code : bad(c, 0, "is a damaged meta page");
    }
    code = tree_check(c, TREE_MAIN, &chosen->main);
    if (code != AB_OK) {
        return code;
    }
    if (!c->has_commit || !c->has_blocks || !c->has_state || c->commit_txnid != chosen->txnid ||
        c->commit_blocks != c->blocks.entries || c->commit_state != c->state.entries) {
        return bad(c, chosen->main.root, "does not hold the last commit");
    }
    return trees_check(c, chosen, budget, report);
}

int ab_check_file(const char *path, uint64_t budget, ab_check_report *report, ab_message *message)
{
    *report = (ab_check_report){.empty = true};
    check c = {.path = path, .message = message};
    struct stat st;
    c.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (c.fd < 0 && errno == ENOENT) {
        return AB_OK;
    }
    if (c.fd < 0 || fstat(c.fd, &st) != 0) {
        ab_wal_say(message, "%s: cannot open: %s", path, strerror(errno));
        if (c.fd >= 0) {
            close(c.fd);
        }
        return AB_EIO;
    }
    c.file_size = (uint64_t)st.st_size;
    int code = AB_OK;
    if (c.file_size > 0 && host_layout_known()) {
        code = file_check(&c, budget, report);
    } else {
        report->empty = c.file_size == 0;
    }
    report->bad_state = c.bad_state;
    for (unsigned i = 0; i < DEPTH_MAX; i++) {
        free(c.level[i]);
    }
    free(c.seen);
    close(c.fd);
    return code;
}
