/* SPDX-License-Identifier: Apache-2.0 */
/* Expected points in a hash table, held against an export. One thread. */
#include "tools/mainjob/verdict.h"
#include "tools/anabranchd/lineprotocol.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* A point that must be there. Names and strings point into the feeds' texts or into copies. */
typedef struct expected {
    char *key; /* series, space, field; owned */
    size_t key_size;
    int64_t time;
    char *value; /* as text; owned */
    uint64_t hlc;
    uint32_t node;
    bool conflict; /* another node wrote another value */
    bool unclear;  /* a batch that was never acknowledged may have written it, too */
    bool certain;  /* an acknowledged batch wrote it */
    bool seen;     /* in the export */
} expected;

struct ab_verdict {
    unsigned groups;
    expected *points;
    size_t count;
    size_t capacity;
    uint32_t *table;
    size_t slots;
    ab_lp_parser *parser;
};

ab_verdict *ab_verdict_new(unsigned groups)
{
    ab_verdict *verdict = calloc(1, sizeof *verdict);
    if (verdict == NULL) {
        return NULL;
    }
    verdict->groups = groups;
    verdict->slots = 1 << 16;
    verdict->table = calloc(verdict->slots, sizeof *verdict->table);
    verdict->parser = ab_lp_new();
    if (verdict->table == NULL || verdict->parser == NULL) {
        ab_verdict_free(verdict);
        return NULL;
    }
    return verdict;
}

void ab_verdict_free(ab_verdict *verdict)
{
    if (verdict == NULL) {
        return;
    }
    for (size_t i = 0; i < verdict->count; i++) {
        free(verdict->points[i].key);
        free(verdict->points[i].value);
    }
    free(verdict->points);
    free(verdict->table);
    ab_lp_free(verdict->parser);
    free(verdict);
}

static uint64_t hash_of(const char *key, size_t size, int64_t time)
{
    return XXH3_64bits_withSeed(key, size, (uint64_t)time);
}

static uint32_t *find(const ab_verdict *verdict, const char *key, size_t size, int64_t time)
{
    size_t slot = hash_of(key, size, time) & (verdict->slots - 1);
    for (;; slot = (slot + 1) & (verdict->slots - 1)) {
        uint32_t *entry = &verdict->table[slot];
        if (*entry == 0) {
            return entry;
        }
        const expected *p = &verdict->points[*entry - 1];
        if (p->time == time && p->key_size == size && memcmp(p->key, key, size) == 0) {
            return entry;
        }
    }
}

static bool grow(ab_verdict *verdict)
{
    if (verdict->count == verdict->capacity) {
        size_t capacity = verdict->capacity == 0 ? 4096 : 2 * verdict->capacity;
        expected *points = realloc(verdict->points, capacity * sizeof *points);
        if (points == NULL) {
            return false;
        }
        verdict->points = points;
        verdict->capacity = capacity;
    }
    if (2 * (verdict->count + 1) <= verdict->slots) {
        return true;
    }
    uint32_t *old = verdict->table;
    verdict->table = calloc(verdict->slots * 2, sizeof *verdict->table);
    if (verdict->table == NULL) {
        verdict->table = old;
        return false;
    }
    verdict->slots *= 2;
    free(old);
    for (size_t i = 0; i < verdict->count; i++) {
        const expected *p = &verdict->points[i];
        *find(verdict, p->key, p->key_size, p->time) = (uint32_t)i + 1;
    }
    return true;
}

/* One field of a line as it was written. */
typedef struct candidate {
    char key[AB_LP_KEY_MAX + 1 + AB_LP_NAME_MAX];
    size_t key_size;
    int64_t time;
    char *value; /* as text, NUL-terminated */
    size_t value_capacity;
    uint64_t hlc;
    uint32_t node;
    bool certain;
} candidate;

static bool describe(candidate *c, const ab_lp_line *line, const ab_lp_field *field)
{
    size_t text = field->value.type == AB_VALUE_STRING ? field->value.as.text.size : 0;
    size_t need = AB_VALUE_TEXT_MAX(text) + 1;
    if (c->value_capacity < need) {
        char *value = realloc(c->value, need);
        if (value == NULL) {
            return false;
        }
        c->value = value;
        c->value_capacity = need;
    }
    memcpy(c->key, line->series.data, line->series.size);
    c->key[line->series.size] = ' ';
    memcpy(c->key + line->series.size + 1, field->key.data, field->key.size);
    c->key_size = line->series.size + 1 + field->key.size;
    c->time = line->time;
    c->value[ab_value_format(&field->value, c->value)] = '\0';
    return true;
}

static bool add_new(ab_verdict *verdict, const candidate *c)
{
    if (!grow(verdict)) {
        return false;
    }
    expected point = {.key = malloc(c->key_size + 1),
                      .key_size = c->key_size,
                      .time = c->time,
                      .value = strdup(c->value),
                      .hlc = c->hlc,
                      .node = c->node,
                      .certain = c->certain,
                      .unclear = !c->certain};
    if (point.key == NULL || point.value == NULL) {
        free(point.key);
        free(point.value);
        return false;
    }
    memcpy(point.key, c->key, c->key_size);
    point.key[c->key_size] = '\0';
    verdict->points[verdict->count++] = point;
    *find(verdict, c->key, c->key_size, c->time) = (uint32_t)verdict->count;
    return true;
}

/* The rule: the greater (hlc, node) wins; of one write the later line. */
static bool add_candidate(ab_verdict *verdict, const candidate *c)
{
    uint32_t entry = *find(verdict, c->key, c->key_size, c->time);
    if (entry == 0) {
        return add_new(verdict, c);
    }
    expected *p = &verdict->points[entry - 1];
    if (!c->certain) {
        p->unclear = true;
        return true;
    }
    if (p->certain && p->node != c->node && strcmp(p->value, c->value) != 0) {
        p->conflict = true;
    }
    if (p->certain && (p->hlc > c->hlc || (p->hlc == c->hlc && p->node > c->node))) {
        return true;
    }
    char *value = strdup(c->value);
    if (value == NULL) {
        return false;
    }
    free(p->value);
    p->value = value;
    p->hlc = c->hlc;
    p->node = c->node;
    p->certain = true;
    return true;
}

static const ab_receipt *receipt_of(const ab_verdict *verdict, const ab_feed_batch *batch, ab_bytes series)
{
    uint64_t group = 1 + XXH3_64bits(series.data, series.size) % verdict->groups;
    for (size_t i = 0; i < batch->receipt_count; i++) {
        if (batch->receipts[i].group == group) {
            return &batch->receipts[i];
        }
    }
    return NULL;
}

static bool add_line(ab_verdict *verdict, const ab_feed_batch *batch, const ab_lp_line *line, candidate *c,
                     ab_verdict_counts *counts)
{
    const ab_receipt *receipt = receipt_of(verdict, batch, line->series);
    if (batch->acknowledged && (receipt == NULL || receipt->first != receipt->last)) {
        snprintf(counts->error, sizeof counts->error,
                 "the receipt of a batch does not tell where %.100s went", (const char *)line->series.data);
        return false;
    }
    c->certain = batch->acknowledged;
    c->hlc = batch->acknowledged ? receipt->hlc : 0;
    c->node = batch->acknowledged ? receipt->node : 0;
    for (size_t i = 0; i < line->field_count; i++) {
        if (!describe(c, line, &line->fields[i]) || !add_candidate(verdict, c)) {
            snprintf(counts->error, sizeof counts->error, "out of memory");
            return false;
        }
    }
    return true;
}

static bool add_batch(ab_verdict *verdict, const ab_feed_batch *batch, candidate *c,
                      ab_verdict_counts *counts)
{
    ab_lp_line line;
    ab_lp_error error;
    int code = AB_OK;
    if (batch->attempts == 0) {
        return true;
    }
    ab_lp_begin(verdict->parser, batch->text, batch->size, 1, INT64_MIN);
    while ((code = ab_lp_next(verdict->parser, &line, &error)) == AB_OK) {
        if (!add_line(verdict, batch, &line, c, counts)) {
            return false;
        }
    }
    if (code == AB_EINVAL) {
        snprintf(counts->error, sizeof counts->error, "malformed line: %s", error.reason);
    }
    return code == AB_ENOTFOUND;
}

static void count(const ab_verdict *verdict, ab_verdict_counts *counts)
{
    counts->points = counts->conflicts = counts->unclear = 0;
    for (size_t i = 0; i < verdict->count; i++) {
        const expected *p = &verdict->points[i];
        counts->points += p->certain ? 1 : 0;
        counts->conflicts += p->conflict ? 1 : 0;
        counts->unclear += p->unclear ? 1 : 0;
    }
}

bool ab_verdict_add(ab_verdict *verdict, const ab_feed *feed, ab_verdict_counts *counts)
{
    candidate *c = calloc(1, sizeof *c);
    counts->error[0] = '\0';
    bool added = c != NULL;
    for (size_t i = 0; i < feed->batch_count && added; i++) {
        added = add_batch(verdict, &feed->batches[i], c, counts);
    }
    if (c != NULL) {
        free(c->value);
    }
    free(c);
    count(verdict, counts);
    return added;
}

static bool check_point(ab_verdict *verdict, const candidate *c, ab_verdict_counts *counts)
{
    uint32_t entry = *find(verdict, c->key, c->key_size, c->time);
    expected *p = entry != 0 ? &verdict->points[entry - 1] : NULL;
    if (p == NULL) {
        snprintf(counts->error, sizeof counts->error, "nobody wrote %.*s=%s %" PRId64, (int)c->key_size,
                 c->key, c->value, c->time);
        return false;
    }
    if (p->seen) {
        snprintf(counts->error, sizeof counts->error, "twice in the export: %s at %" PRId64, p->key, p->time);
        return false;
    }
    p->seen = true;
    if (!p->unclear && strcmp(p->value, c->value) != 0) {
        snprintf(counts->error, sizeof counts->error,
                 "%s at %" PRId64 " is %s, but the greatest write (hlc %" PRIu64 ", node %" PRIu32
                 ") said %s",
                 p->key, p->time, c->value, p->hlc, p->node, p->value);
        return false;
    }
    return true;
}

static bool check_text(ab_verdict *verdict, const char *text, size_t size, candidate *c,
                       ab_verdict_counts *counts)
{
    ab_lp_line line;
    ab_lp_error error;
    int code = AB_OK;
    ab_lp_begin(verdict->parser, text, size, 1, INT64_MIN);
    while ((code = ab_lp_next(verdict->parser, &line, &error)) == AB_OK) {
        if (!describe(c, &line, &line.fields[0]) || !check_point(verdict, c, counts)) {
            return false;
        }
    }
    if (code == AB_EINVAL) {
        snprintf(counts->error, sizeof counts->error, "line %zu of the export: %s", error.line, error.reason);
    }
    return code == AB_ENOTFOUND;
}

static bool check_missing(const ab_verdict *verdict, ab_verdict_counts *counts)
{
    for (size_t i = 0; i < verdict->count; i++) {
        const expected *p = &verdict->points[i];
        if (p->certain && !p->seen) {
            snprintf(counts->error, sizeof counts->error, "acknowledged but missing: %s=%s %" PRId64, p->key,
                     p->value, p->time);
            return false;
        }
    }
    return true;
}

/* The whole file; NULL: unreadable. */
static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    if (file == NULL) {
        return NULL;
    }
    long end = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (end >= 0 && fseek(file, 0, SEEK_SET) == 0) {
        text = malloc((size_t)end + 1);
        *size = (size_t)end;
    }
    if (text != NULL && fread(text, 1, *size, file) != *size) {
        free(text);
        text = NULL;
    }
    fclose(file);
    return text;
}

bool ab_verdict_check(ab_verdict *verdict, const char *path, ab_verdict_counts *counts)
{
    size_t size = 0;
    char *text = read_file(path, &size);
    candidate *c = calloc(1, sizeof *c);
    bool right = false;
    counts->error[0] = '\0';
    if (text == NULL || c == NULL) {
        snprintf(counts->error, sizeof counts->error, "cannot read %.200s", path);
    } else {
        for (size_t i = 0; i < verdict->count; i++) {
            verdict->points[i].seen = false;
        }
        right = check_text(verdict, text, size, c, counts) && check_missing(verdict, counts);
    }
    if (c != NULL) {
        free(c->value);
    }
    free(c);
    free(text);
    return right;
}
