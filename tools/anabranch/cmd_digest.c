/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch digest`: compares the data of replicas, and waits for those that are still behind. Main thread. */
#include "tools/anabranch/digest_why.h"
#include "tools/anabranch/table.h"
#include "tools/anabranch/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Between two rounds of asking. */
#define PAUSE_MS 200
/* What a round gives a busy apply thread. */
#define ROUND_MS 5000u
/* The same of the last round: one that is not busy at all needs a moment, too. */
#define LAST_ROUND_MS 200u

/* MOVING: frontiers differ. BEHIND: and something keeps a replica from catching up. */
typedef enum verdict { EQUAL, DIFFERS, MOVING, BEHIND, UNKNOWN } verdict;

/* One group over all nodes asked. */
typedef struct comparison {
    uint64_t group;
    const char *name;
    const json_t *rows[CLI_NODES_MAX];    /* digest of node i; NULL: the group is not open there */
    const json_t *answers[CLI_NODES_MAX]; /* of node i */
    size_t count;
    size_t known; /* that gave a digest */
    verdict verdict;
    const reasons *why;
} comparison;

static const char *const heads[] = {">GROUP", "NAME", ">NODE", "?DATA", ">?ENTRIES", "DIGEST", "RESULT"};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static const json_t *find_digest(const json_t *answer, uint64_t group)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(answer, "digests"), i, row)
    {
        if (row_uint(row, "group") == group) {
            return row;
        }
    }
    return NULL;
}

static bool known(const json_t *row)
{
    return row != NULL && row_good(row, "code");
}

/* Over the nodes that gave a digest; one that does not is a problem of its own. */
static verdict judge(const comparison *c)
{
    const json_t *first = NULL;
    verdict result = UNKNOWN;
    for (size_t i = 0; i < c->count; i++) {
        const json_t *row = c->rows[i];
        if (row != NULL && strcmp(row_text(row, "code"), "AB_ETIMEDOUT") == 0) {
            return MOVING; /* its apply thread is busy */
        }
        if (!known(row)) {
            continue;
        }
        if (first == NULL) {
            first = row;
            result = EQUAL;
        } else if (!json_equal(json_object_get(row, "frontier"), json_object_get(first, "frontier"))) {
            return MOVING;
        } else if (strcmp(row_text(row, "digest"), row_text(first, "digest")) != 0) {
            result = DIFFERS;
        }
    }
    return result;
}

/* A stream of which node i has less than some other. */
typedef struct lack {
    const char *stream; /* NULL: there is none */
    uint64_t entries;
    size_t holder; /* position of the other */
} lack;

static lack find_lack(const comparison *c, size_t i)
{
    for (size_t k = 0; known(c->rows[i]) && k < c->count; k++) {
        const char *stream;
        json_t *index;
        json_t *held = json_object_get(c->rows[k], "frontier");
        json_object_foreach(held, stream, index)
        {
            uint64_t more = row_uint(held, stream);
            uint64_t less = row_uint(json_object_get(c->rows[i], "frontier"), stream);
            if (less < more) {
                return (lack){.stream = stream, .entries = more - less, .holder = k};
            }
        }
    }
    return (lack){.stream = NULL};
}

/* What keeps node i from catching up; false: nothing that is known does. */
static bool tell_why(const comparison *c, size_t i, char *text, size_t size)
{
    lack l = find_lack(c, i);
    bool busy = c->rows[i] != NULL && strcmp(row_text(c->rows[i], "code"), "AB_ETIMEDOUT") == 0;
    return (l.stream != NULL || busy) && reasons_tell(c->why, i, c->group, l.stream, text, size);
}

static bool cannot_catch_up(const comparison *c)
{
    char text[256];
    for (size_t i = 0; i < c->count; i++) {
        if (tell_why(c, i, text, sizeof text)) {
            return true;
        }
    }
    return false;
}

static comparison compare(const report *r, const reasons *why, uint64_t group)
{
    comparison c = {.group = group, .name = "", .why = why};
    size_t i;
    json_t *answer;
    json_array_foreach(r->nodes, i, answer)
    {
        c.answers[c.count] = answer;
        c.rows[c.count] = find_digest(answer, group);
        if (c.rows[c.count] != NULL && c.name[0] == '\0') {
            c.name = row_text(c.rows[c.count], "name");
        }
        c.known += known(c.rows[c.count]);
        c.count++;
    }
    c.verdict = judge(&c);
    c.verdict = c.verdict == MOVING && cannot_catch_up(&c) ? BEHIND : c.verdict;
    return c;
}

typedef void (*group_fn)(void *arg, const comparison *c);

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Calls `fn` for each group that any node has, ascending. @return false: out of memory */
static bool each_group(const report *r, const reasons *why, group_fn fn, void *arg)
{
    size_t total = 0, count = 0, i, k;
    json_t *answer, *row;
    json_array_foreach(r->nodes, i, answer)
    {
        total += json_array_size(json_object_get(answer, "digests"));
    }
    uint64_t *ids = calloc(total + 1, sizeof *ids);
    if (ids == NULL) {
        return false;
    }
    json_array_foreach(r->nodes, i, answer)
    {
        json_array_foreach(json_object_get(answer, "digests"), k, row)
        {
            ids[count++] = row_uint(row, "group");
        }
    }
    qsort(ids, count, sizeof *ids, by_value);
    for (i = 0; i < count; i++) {
        if (i == 0 || ids[i] != ids[i - 1]) {
            comparison c = compare(r, why, ids[i]);
            fn(arg, &c);
        }
    }
    free(ids);
    return true;
}

/* How many groups cannot be compared yet. */
typedef struct count {
    size_t groups;
    size_t moving;
} count;

static void count_moving(void *arg, const comparison *c)
{
    count *all = arg;
    all->groups++;
    all->moving += c->verdict == MOVING;
}

/* Of the digests that are known, the one that most nodes have; NULL where two are equally common. */
static const char *majority(const comparison *c)
{
    const char *best = NULL;
    size_t most = 0;
    bool tie = false;
    for (size_t i = 0; i < c->count; i++) {
        const char *digest = row_text(c->rows[i], "digest");
        size_t votes = 0;
        for (size_t k = 0; known(c->rows[i]) && k < c->count; k++) {
            votes += strcmp(row_text(c->rows[k], "digest"), digest) == 0;
        }
        if (votes > most) {
            best = digest;
            most = votes;
            tie = false;
        } else if (votes > 0 && votes == most && strcmp(digest, best) != 0) {
            tie = true;
        }
    }
    return tie ? NULL : best;
}

static void say_differs(report *r, const comparison *c)
{
    const char *most = majority(c);
    for (size_t i = 0; i < c->count; i++) {
        char name[512];
        report_name(c->answers[i], name, sizeof name);
        if (!known(c->rows[i])) {
            continue;
        }
        if (most == NULL) {
            report_problem(r,
                           "group %" PRIu64 " (%s): replicas differ at the same frontier: %s has digest %s",
                           c->group, c->name, name, row_text(c->rows[i], "digest"));
        } else if (strcmp(row_text(c->rows[i], "digest"), most) != 0) {
            report_problem(r,
                           "group %" PRIu64 " (%s): %s differs from the other replicas at the same frontier",
                           c->group, c->name, name);
        }
    }
}

static void say_lack(report *r, const comparison *c, size_t i, lack l, const char *why)
{
    char behind[512];
    char ahead[512];
    report_name(c->answers[i], behind, sizeof behind);
    report_name(c->answers[l.holder], ahead, sizeof ahead);
    report_problem(r, "group %" PRIu64 " (%s): %s lacks %" PRIu64 " entries of stream %s that %s has%s%s",
                   c->group, c->name, behind, l.entries, l.stream, ahead, why != NULL ? ": " : "",
                   why != NULL ? why : "");
}

/* Names a stream that some node has less of than another. */
static void say_moving(report *r, const comparison *c)
{
    for (size_t i = 0; i < c->count; i++) {
        lack l = find_lack(c, i);
        if (l.stream != NULL) {
            say_lack(r, c, i, l, NULL);
            return;
        }
    }
    report_problem(r,
                   "group %" PRIu64 " (%s): not comparable in time: apply is busy (try a longer --timeout)",
                   c->group, c->name);
}

/* Each node that something keeps from catching up. */
static void say_behind(report *r, const comparison *c)
{
    for (size_t i = 0; i < c->count; i++) {
        char why[256];
        char name[512];
        lack l = find_lack(c, i);
        if (!tell_why(c, i, why, sizeof why)) {
            continue;
        }
        if (l.stream != NULL) {
            say_lack(r, c, i, l, why);
        } else {
            report_name(c->answers[i], name, sizeof name);
            report_problem(r, "group %" PRIu64 " (%s): no digest from %s in time: %s", c->group, c->name,
                           name, why);
        }
    }
}

static void say_unknown(report *r, const comparison *c)
{
    for (size_t i = 0; i < c->count; i++) {
        char name[512];
        report_name(c->answers[i], name, sizeof name);
        if (c->rows[i] == NULL && row_bool(c->answers[i], "running") && row_good(c->answers[i], "code")) {
            report_problem(r, "group %" PRIu64 " (%s): is not open on %s", c->group, c->name, name);
        } else if (c->rows[i] != NULL && !known(c->rows[i]) && row_bool(c->answers[i], "running")) {
            report_problem(r, "group %" PRIu64 " (%s): no digest from %s: %s", c->group, c->name, name,
                           code_words(row_text(c->rows[i], "code")));
        }
    }
}

static void say(void *arg, const comparison *c)
{
    report *r = arg;
    if (c->verdict == DIFFERS) {
        say_differs(r, c);
    } else if (c->verdict == MOVING) {
        say_moving(r, c);
    } else if (c->verdict == BEHIND) {
        say_behind(r, c);
    }
    say_unknown(r, c);
}

static const char *result_of(const comparison *c, size_t i)
{
    const char *most;
    char why[256];
    if (c->rows[i] == NULL && row_bool(c->answers[i], "running") && row_good(c->answers[i], "code")) {
        return "not open";
    }
    if (c->verdict == BEHIND && tell_why(c, i, why, sizeof why)) {
        return "BEHIND";
    }
    if (!known(c->rows[i]) && c->verdict != MOVING) {
        return "unknown";
    }
    switch (c->verdict) {
    case EQUAL:
        return c->known > 1 ? "equal" : "alone";
    case MOVING:
        return "still moving";
    case BEHIND:
        return find_lack(c, i).stream != NULL ? "still moving" : "ahead";
    case DIFFERS:
        most = majority(c);
        return most != NULL && strcmp(row_text(c->rows[i], "digest"), most) == 0 ? "as most" : "DIFFERS";
    case UNKNOWN:
        break;
    }
    return "unknown";
}

static void add_rows(void *arg, const comparison *c)
{
    table *t = arg;
    for (size_t i = 0; i < c->count; i++) {
        uint64_t entries = 0;
        const char *stream;
        json_t *index;
        const json_t *frontier = json_object_get(c->rows[i], "frontier");
        json_object_foreach((json_t *)(uintptr_t)frontier, stream, index)
        {
            entries += row_uint(frontier, stream);
        }
        table_format(t, "%" PRIu64, c->group);
        table_text(t, c->name);
        uint64_t id = row_uint(json_object_get(c->answers[i], "node"), "node_id");
        if (id != 0) {
            table_format(t, "%" PRIu64, id);
        } else {
            table_text(t, "");
        }
        table_text(t, row_text(c->answers[i], "data"));
        table_count(t, entries);
        table_text(t, row_text(c->rows[i], "digest"));
        const char *result = result_of(c, i);
        table_text(t, result);
        table_style(t, c->verdict == EQUAL && known(c->rows[i]) ? STYLE_GOOD
                       : strcmp(result, "DIFFERS") == 0 || strcmp(result, "BEHIND") == 0 || !known(c->rows[i])
                           ? STYLE_BAD
                           : STYLE_WARN);
    }
}

static void add_json(void *arg, const comparison *c)
{
    static const char *const names[] = {"equal", "differs", "moving", "behind", "unknown"};
    bool incomplete = c->verdict == EQUAL && c->known < c->count;
    json_array_append_new(arg, json_pack("{s:o, s:o, s:s}", "group", json_uint(c->group), "name",
                                         json_text(c->name, strlen(c->name)), "result",
                                         incomplete ? "incomplete" : names[c->verdict]));
}

/* Asks all nodes once. @return false: out of memory */
static bool ask(report *r, const options *o, uint64_t end)
{
    uint64_t now = now_ms();
    uint64_t left = end > now ? end - now : 0;
    left = left > ROUND_MS ? ROUND_MS : left < LAST_ROUND_MS ? LAST_ROUND_MS : left;
    query q = {.command = "digest", .group = o->group, .timeout_ms = left};
    json_array_clear(r->nodes);
    for (size_t i = 0; i < o->data_count; i++) {
        if (report_ask(r, o->data[i], &q, NULL, NULL) == NULL) {
            return false;
        }
    }
    return true;
}

/* Asks until nothing is moving any more, or the time is over. */
static bool ask_until_still(report *r, reasons *why, const options *o)
{
    uint64_t end = now_ms() + o->timeout_ms;
    progress p = {.name = "waiting for equal frontiers"};
    for (;;) {
        count all = {0};
        if (!ask(r, o, end) || !each_group(r, why, count_moving, &all)) {
            return false;
        }
        if (all.moving == 0 || now_ms() >= end) {
            progress_clear();
            return all.moving == 0 || reasons_ask(why, o);
        }
        progress_show(&p, all.groups - all.moving, all.groups, "groups");
        struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
}

static void node_problems(report *r)
{
    size_t i;
    json_t *answer;
    json_array_foreach(r->nodes, i, answer)
    {
        if (!row_good(answer, "code")) {
            report_problem(r, "%s", row_text(answer, "message"));
        } else if (!row_bool(answer, "running")) {
            char name[512];
            report_name(answer, name, sizeof name);
            report_problem(r, "%s: is not running: its digest is not known", name);
        }
    }
}

static void print_table(const report *r, const reasons *why)
{
    table *t = table_new(heads, sizeof heads / sizeof heads[0]);
    each_group(r, why, add_rows, t);
    if (table_rows(t) > 0) {
        table_print(t, stdout);
        putchar('\n');
    }
    table_free(t);
}

extern const command command_digest; /* below */

static int once(const options *o, void *arg)
{
    report r;
    reasons why = {.asked = false};
    (void)arg;
    if (!report_new(&r, "digest")) {
        return EXIT_WRONG;
    }
    json_t *groups = json_array();
    if (!ask_until_still(&r, &why, o) || groups == NULL) {
        report_problem(&r, "out of memory");
    }
    node_problems(&r);
    each_group(&r, &why, say, &r);
    each_group(&r, &why, add_json, groups);
    json_object_set_new(r.root, "groups", groups);
    if (!o->json) {
        print_table(&r, &why);
    }
    int result =
        report_end(&r, o, o->data_count > 1 ? "All replicas are equal." : "Only one replica was asked.");
    report_free(&r);
    reasons_free(&why);
    return result;
}

static int run(int argc, char **argv)
{
    options o;
    int result = options_read(&o, &command_digest, argc, argv);
    if (result == EXIT_FINE) {
        result = watch(&o, once, NULL);
    }
    options_free(&o);
    return result < 0 ? EXIT_FINE : result;
}

const command command_digest = {
    .name = "digest",
    .summary = "compare the data of replicas",
    .run = run,
    .options = OPTION_NODES | OPTION_GROUP | OPTION_TIMEOUT | OPTION_WATCH | OPTION_JSON,
    .usage = "--data DIR --data DIR... [OPTION...]",
    .about = "Asks each node for the digest of its state machine and for the frontier it stands for. "
             "Replicas with\n"
             "the same frontier must have the same digest. While frontiers differ it asks again; when the "
             "time is\n"
             "over it says what keeps a replica behind, as far as the nodes know: a link that is down, a log "
             "that is\n"
             "full, a state machine that fails, entries that were trimmed.\n",
    .wrong = "replicas differ, do not catch up in time, or cannot be asked",
    .examples = "anabranch digest --data n1 --data n2 --data n3\n"
                "anabranch digest --config a.yaml --config b.yaml --group 3 --timeout 60\n",
};
