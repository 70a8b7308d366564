/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structure of data.mdb, checked without LMDB, which trusts its pages: a flipped bit in one of them makes it
 * crash, loop or give away live pages. Runs while nobody writes the file: at open, with LOCK held, and for
 * `verify`. One thread; all it knows lies in its own struct. On hosts whose layout it does not know it says "not
 * complete" and leaves it at that.
 */
#include "wal/wal_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_META 0x08u
#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1u
#define META_SIZE 136u
#define DB_INTEGER_KEY 0x08u
#define MAP_MAX (1ull << 47)
/* Each costs a read somewhere in the file. Those not looked at here are mended when they are freed. */
#define HEADERS_MAX 4096u

static bool host_layout_known(void)
{
    const uint16_t one = 1;
    return sizeof(size_t) == 8 && *(const uint8_t *)&one == 1;
}

int ab_check_bad(check *c, uint64_t page, const char *what)
{
    ab_wal_say(c->message, "%s: page %llu: %s; the file is damaged: restore it, or start this node empty",
               c->path, (unsigned long long)page, what);
    return AB_ECORRUPT;
}

int ab_check_foreign(check *c)
{
    ab_wal_say(
        c->message,
        "%s: an LMDB file, but not of Anabranch: its root directory %s%s%s, and none of the entries of a "
        "log; name another directory",
        c->path, c->strangers > 0 ? "has \"" : "is empty", c->stranger, c->strangers > 0 ? "\"" : "");
    return AB_ECORRUPT;
}

int ab_check_read(check *c, void *data, size_t size, uint64_t offset)
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
            return ab_check_bad(c, offset / c->page_size, "lies beyond the end of the file");
        }
        p += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return AB_OK;
}

static void meta_decode(const uint8_t *p, meta_record *meta)
{
    meta->page_size = host32(p + 24); /* kept where the free list's record has a field to spare */
    meta->map_size = host64(p + 16);
    ab_check_db_decode(p + 24, &meta->free);
    ab_check_db_decode(p + 72, &meta->main);
    meta->last_page = host64(p + 120);
    meta->txnid = host64(p + 128);
}

static int meta_read(check *c, uint64_t number, meta_record *meta)
{
    uint8_t page[PAGE_HEADER + META_SIZE];
    int code = ab_check_read(c, page, sizeof(page), number * c->page_size);
    if (code != AB_OK) {
        return code;
    }
    const uint8_t *p = page + PAGE_HEADER;
    if (host64(page) != number || host16(page + 10) != PAGE_META || host32(p) != META_MAGIC) {
        return ab_check_bad(c, number, "is not a meta page");
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
        return ab_check_bad(c, number, "is a damaged meta page");
    }
    return AB_OK;
}

static int use_meta(check *c, const meta_record *meta)
{
    c->pages = meta->last_page + 1;
    c->txnid = meta->txnid;
    c->has_blocks = c->has_state = c->has_commit = false;
    c->strangers = 0;
    c->stranger[0] = '\0';
    int code = ab_check_db(c, &meta->free, DB_INTEGER_KEY);
    return code != AB_OK ? code : ab_check_db(c, &meta->main, 0);
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
        return ab_check_bad(c, newest, "meta pages do not follow each other");
    }
    ab_message *message = c->message;
    c->message = NULL;
    int code = use_meta(c, older);
    if (code == AB_OK) {
        code = ab_check_tree(c, TREE_MAIN, &older->main);
    }
    c->message = message;
    if (code == AB_ENOMEM || code == AB_EIO) {
        return code;
    }
    if (code == AB_OK && c->has_commit && c->commit_txnid != older->txnid) {
        return ab_check_bad(c, 1 - newest, "meta page hides a later commit");
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
        return ab_check_bad(c, 1, "meta pages do not agree on the size of a page");
    }
    return code;
}

static int trees_check(check *c, const meta_record *meta, uint64_t budget, ab_check_report *report)
{
    uint64_t small = c->state.branch + c->state.leaf + meta->free.branch + meta->free.leaf;
    uint64_t blocks = c->blocks.branch + c->blocks.leaf;
    /* A file shorter than it should be would end LMDB in a bus error: then look at everything. */
    report->complete = small + blocks <= budget || c->file_size < c->pages * c->page_size;
    c->headers = report->complete && c->blocks.entries <= HEADERS_MAX;
    if (report->complete) {
        c->seen = calloc(1, (size_t)(c->pages / 8 + 1));
        if (c->seen == NULL) {
            return AB_ENOMEM;
        }
        c->accounted = 2;
        int again = ab_check_tree(c, TREE_MAIN, &meta->main); /* this time its pages are noted */
        if (again != AB_OK) {
            return again;
        }
    }
    int code = ab_check_tree(c, TREE_STATE, &c->state);
    if (code == AB_OK) {
        code = ab_check_tree(c, TREE_FREE, &meta->free);
    }
    if (code == AB_OK && report->complete) {
        code = ab_check_tree(c, TREE_BLOCKS, &c->blocks);
    }
    if (code == AB_OK && report->complete && c->accounted != c->pages) {
        return ab_check_bad(c, c->pages, "is not the end: pages are neither in use nor free");
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
        return code != AB_OK || chosen->main.root == NO_PAGE ? code
                                                             : ab_check_bad(c, 0, "is a damaged meta page");
    }
    code = chosen->main.root == NO_PAGE ? ab_check_foreign(c) : ab_check_tree(c, TREE_MAIN, &chosen->main);
    if (code != AB_OK) {
        return code;
    }
    if (!c->has_commit || !c->has_blocks || !c->has_state || c->commit_txnid != chosen->txnid ||
        c->commit_blocks != c->blocks.entries || c->commit_state != c->state.entries) {
        return ab_check_bad(c, chosen->main.root, "does not hold the last commit");
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
    report->bad_states = c.bad_states;
    memcpy(report->bad_name, c.bad_name, sizeof(report->bad_name));
    for (unsigned i = 0; i < DEPTH_MAX; i++) {
        free(c.level[i]);
    }
    free(c.seen);
    close(c.fd);
    return code;
}
