/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of `anabranch top`, see top_view.h. Main thread. */
#include "tools/anabranch/top_view.h"
#include "tools/anabranch/plot.h"
#include "tools/anabranch/source.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_COLUMNS 8
#define GROUP_COLUMNS 19
#define FULL_COLUMNS 80u /* of a screen that has room for everything */
#define GROUP_MORE 40u   /* what a group's name gets at most of a wider one */
#define GROUP_LESS 9u    /* and gives at most to a narrower one */
#define NARROW 64u       /* below that heads and keys are in fewer words */
#define SMALL_ROWS 18u   /* without empty lines below that */
#define VALUE 24

/* Copies whole characters as long as they fit. */
static void cut(const char *text, size_t columns, char *out, size_t size)
{
    size_t used = 0;
    for (size_t width = 0; *text != '\0' && width < columns; width++) {
        size_t bytes = text_char(text, strlen(text));
        bytes = bytes > 0 ? bytes : 1;
        if (used + bytes >= size) {
            break;
        }
        memcpy(out + used, text, bytes);
        used += bytes;
        text += bytes;
    }
    out[used] = '\0';
}

static void add(top_view *v, style s, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add(top_view *v, style s, const char *format, ...)
{
    char text[TOP_LINE_MAX];
    va_list args;
    if (v->used >= v->rows) {
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    top_line *line = &v->lines[v->used++];
    line->style = s;
    cut(text, v->columns, line->text, sizeof line->text);
}

static void node_name(const node_sample *s, const char *data_dir, char *out, size_t size)
{
    char text[64];
    snprintf(text, sizeof text, "node %" PRIu32, s->node_id);
    cut(s->node_id != 0 ? text : data_dir, NAME_COLUMNS, out, size);
}

/* A column of a list. Where the screen is narrow the one with the highest weight goes first; 0: never. */
typedef struct column {
    const char *head;
    size_t width;
    bool left; /* aligned; else right */
    unsigned weight;
} column;

static const column node_columns[] = {
    {"NODE", NAME_COLUMNS, true, 0},
    {"STATE", 7, true, 0},
    {"WRITE/s", 7, false, 0},
    {"LOG/s", 7, false, 5},
    {"APPLY/s", 7, false, 3},
    {"P50", 7, false, 7},
    {"P99", 7, false, 4},
    {"QUEUED", 8, false, 6},
    {"LOG", 8, false, 1},
    {"CPU%", 4, false, 2},
};
static const column peer_columns[] = {
    {"NODE", NAME_COLUMNS, true, 0}, {"PEER", NAME_COLUMNS, true, 0}, {"LINK", 4, true, 0},
    {"BEHIND", 9, false, 0},         {"BYTES", 8, false, 3},          {"OLDEST", 7, false, 1},
    {"CATCHES UP IN", 14, false, 2}, {"SENT/s", 8, false, 4},
};
#define GROUP_NAME 1 /* its width follows that of the screen */
static const column group_columns[] = {
    {"NODE", NAME_COLUMNS, true, 0}, {"GROUP", GROUP_COLUMNS, true, 0}, {"WRITE/s", 7, false, 1},
    {"APPLY/s", 7, false, 2},        {"QUEUED", 7, false, 4},           {"TO APPLY", 8, false, 5},
    {"BEHIND", 9, false, 0},         {"OLDEST", 7, false, 3},
};
#define COUNT(columns) (sizeof(columns) / sizeof(columns)[0])
#define COLUMNS_MAX 10

/* A list's columns on this screen; of width 0 are those that it has no room for. */
typedef struct layout {
    column columns[COLUMNS_MAX];
    size_t count;
} layout;

static layout lay_out(const top_view *v, const column *columns, size_t count)
{
    layout l = {.count = count};
    memcpy(l.columns, columns, count * sizeof *columns);
    if (columns == group_columns) {
        size_t more = v->columns > FULL_COLUMNS ? v->columns - FULL_COLUMNS : 0;
        size_t less = v->columns < FULL_COLUMNS ? FULL_COLUMNS - v->columns : 0;
        l.columns[GROUP_NAME].width += more < GROUP_MORE ? more : GROUP_MORE;
        l.columns[GROUP_NAME].width -= less < GROUP_LESS ? less : GROUP_LESS;
    }
    for (;;) {
        size_t sum = 0;
        column *first = NULL; /* to go */
        for (size_t i = 0; i < count; i++) {
            column *c = &l.columns[i];
            sum += c->width > 0 ? c->width + 1 : 0;
            if (c->width > 0 && c->weight > (first != NULL ? first->weight : 0)) {
                first = c;
            }
        }
        if (sum <= v->columns + 1 || first == NULL) {
            return l;
        }
        first->width = 0;
    }
}

/* `cells` NULL: the head. */
static void add_row(top_view *v, style s, const layout *l, const char *const *cells)
{
    char text[TOP_LINE_MAX];
    size_t used = 0;
    for (size_t i = 0; i < l->count; i++) {
        const column *c = &l->columns[i];
        char cell[TOP_LINE_MAX / 2];
        if (c->width == 0) {
            continue;
        }
        cut(cells != NULL ? cells[i] : c->head, c->width, cell, sizeof cell);
        int pad = (int)(c->width - text_width(cell));
        int written = snprintf(text + used, sizeof text - used, "%s%*s%s%*s", used > 0 ? " " : "",
                               c->left ? 0 : pad, "", cell, c->left && i + 1 < l->count ? pad : 0, "");
        used += (size_t)written < sizeof text - used ? (size_t)written : sizeof text - used - 1;
    }
    text[used] = '\0';
    add(v, s, "%s", text);
}

/* One row that may be shown, and what it is sorted by. */
typedef struct item {
    const top_node *node;
    const peer_sample *peer;
    const group_sample *group;
    double rate;
    double lag;
    size_t place; /* in the order of the command line */
} item;

typedef struct item_list {
    item *items;
    size_t count;
} item_list;

static double number(double value)
{
    return isnan(value) ? -1 : value;
}

static int by_place(const item *a, const item *b)
{
    return (a->place > b->place) - (a->place < b->place);
}

static int by_rate(const void *x, const void *y)
{
    const item *a = x;
    const item *b = y;
    int order = (number(a->rate) < number(b->rate)) - (number(a->rate) > number(b->rate));
    return order != 0 ? order : by_place(a, b);
}

static int by_lag(const void *x, const void *y)
{
    const item *a = x;
    const item *b = y;
    int order = (a->lag < b->lag) - (a->lag > b->lag);
    return order != 0 ? order : by_place(a, b);
}

static void sort(item_list *list, top_sort key)
{
    if (key != TOP_BY_NAME && list->count > 1) {
        qsort(list->items, list->count, sizeof *list->items, key == TOP_BY_RATE ? by_rate : by_lag);
    }
}

static void push(item_list *list, item i)
{
    i.place = list->count;
    list->items[list->count++] = i;
}

static uint64_t elapsed(const top_node *n)
{
    return n->before.answer != NULL ? n->now.at_ms - n->before.at_ms : 0;
}

static double figure_rate(const top_node *n, figure f)
{
    return n->before.answer != NULL ? sample_figure_rate(&n->before, &n->now, f) : NAN;
}

static double peer_rate(const top_node *n, const peer_sample *p)
{
    const peer_sample *before = sample_peer(&n->before, p->peer);
    return before != NULL ? sample_rate(before->sent_bytes, p->sent_bytes, elapsed(n)) : NAN;
}

static double group_rate(const top_node *n, const group_sample *g, bool applied)
{
    const group_sample *before = sample_group(&n->before, g->group);
    if (before == NULL) {
        return NAN;
    }
    return applied ? sample_rate(before->applied_entries, g->applied_entries, elapsed(n))
                   : sample_rate(before->last_index, g->last_index, elapsed(n));
}

typedef struct contents {
    item_list nodes;
    item_list peers;
    item_list groups;
} contents;

static void free_contents(contents *c)
{
    free(c->nodes.items);
    free(c->peers.items);
    free(c->groups.items);
}

static bool collect(const top_state *s, contents *c)
{
    size_t peers = 0;
    size_t groups = 0;
    for (size_t i = 0; i < s->node_count; i++) {
        peers += s->nodes[i].now.peer_count;
        groups += s->nodes[i].now.group_count;
    }
    c->nodes.items = calloc(s->node_count + 1, sizeof(item));
    c->peers.items = calloc(peers + 1, sizeof(item));
    c->groups.items = calloc(groups + 1, sizeof(item));
    if (c->nodes.items == NULL || c->peers.items == NULL || c->groups.items == NULL) {
        return false;
    }
    for (size_t i = 0; i < s->node_count; i++) {
        const top_node *n = &s->nodes[i];
        double most = 0;
        for (size_t k = 0; k < n->now.peer_count; k++) {
            const peer_sample *p = &n->now.peers[k];
            most = fmax(most, (double)p->lag_entries);
            push(&c->peers,
                 (item){.node = n, .peer = p, .rate = peer_rate(n, p), .lag = (double)p->lag_entries});
        }
        for (size_t k = 0; k < n->now.group_count; k++) {
            const group_sample *g = &n->now.groups[k];
            push(&c->groups, (item){.node = n,
                                    .group = g,
                                    .rate = group_rate(n, g, true),
                                    .lag = (double)g->lag_entries + (g->good ? 0 : 1e18)});
        }
        push(&c->nodes, (item){.node = n, .rate = figure_rate(n, FIGURE_LOGGED), .lag = most});
    }
    sort(&c->nodes, s->sort);
    sort(&c->peers, s->sort);
    sort(&c->groups, s->sort);
    return true;
}

static const char *state_of(const node_sample *now, style *s)
{
    *s = STYLE_BAD;
    if (!row_bool(now->answer, "running")) {
        return "stopped";
    }
    if (!row_good(now->answer, "code")) {
        return "silent";
    }
    if (!row_good(json_object_get(now->answer, "node"), "log_code")) {
        return "refuses";
    }
    *s = STYLE_PLAIN;
    return "runs";
}

static void node_line(top_view *v, const layout *l, const item *i)
{
    const node_sample *now = &i->node->now;
    char name[64];
    char text[7][VALUE];
    style s;
    const char *state = state_of(now, &s);
    node_name(now, i->node->data_dir, name, sizeof name);
    plot_value(PLOT_NUMBER, figure_rate(i->node, FIGURE_WRITTEN), text[0], VALUE);
    plot_value(PLOT_NUMBER, figure_rate(i->node, FIGURE_LOGGED), text[1], VALUE);
    plot_value(PLOT_NUMBER, figure_rate(i->node, FIGURE_APPLIED), text[2], VALUE);
    plot_value(PLOT_SECONDS, now->figures[FIGURE_ACK_P50], text[3], VALUE);
    plot_value(PLOT_SECONDS, now->figures[FIGURE_ACK_P99], text[4], VALUE);
    plot_value(PLOT_BYTES, now->figures[FIGURE_QUEUED_BYTES], text[5], VALUE);
    plot_value(PLOT_BYTES, now->figures[FIGURE_LOG_BYTES], text[6], VALUE);
    double cpu = figure_rate(i->node, FIGURE_CPU) * 100;
    char percent[VALUE] = "-";
    if (isfinite(cpu)) {
        snprintf(percent, sizeof percent, "%.0f", cpu);
    }
    add_row(v, s, l,
            (const char *const[]){name, state, text[0], text[1], text[2], text[3], text[4], text[5], text[6],
                                  percent});
}

static void peer_line(top_view *v, const layout *l, const item *i)
{
    const peer_sample *p = i->peer;
    char name[64];
    char peer[32];
    char text[5][VALUE];
    node_name(&i->node->now, i->node->data_dir, name, sizeof name);
    snprintf(peer, sizeof peer, "node %" PRIu32, p->peer);
    text_count(p->lag_entries, text[0], VALUE);
    text_bytes(p->lag_bytes, text[1], VALUE);
    snprintf(text[2], VALUE, "-");
    if (p->lag_entries > 0) {
        text_duration(p->lag_ms, text[2], VALUE);
    }
    double seconds = sample_catch_up(sample_peer(&i->node->before, p->peer), p, elapsed(i->node));
    sample_catch_up_text(p->up, seconds, text[3], VALUE);
    plot_value(PLOT_BYTES, i->rate, text[4], VALUE);
    style s = !p->up ? STYLE_BAD : isinf(seconds) ? STYLE_WARN : STYLE_PLAIN;
    add_row(v, s, l,
            (const char *const[]){name, peer, p->up ? "up" : "down", text[0], text[1], text[2], text[3],
                                  text[4]});
}

static void group_line(top_view *v, const layout *l, const item *i)
{
    const group_sample *g = i->group;
    char name[64];
    char text[6][VALUE];
    node_name(&i->node->now, i->node->data_dir, name, sizeof name);
    plot_value(PLOT_NUMBER, group_rate(i->node, g, false), text[0], VALUE);
    plot_value(PLOT_NUMBER, i->rate, text[1], VALUE);
    text_count(g->queued_entries, text[2], VALUE);
    text_count(g->apply_blocks, text[3], VALUE);
    text_count(g->lag_entries, text[4], VALUE);
    snprintf(text[5], VALUE, "-");
    if (g->lag_entries > 0) {
        text_duration(g->lag_ms, text[5], VALUE);
    }
    add_row(v, g->good ? STYLE_PLAIN : STYLE_BAD, l,
            (const char *const[]){name, g->name, text[0], text[1], text[2], text[3], text[4], text[5]});
}

static void head_lines(top_view *v, const top_state *s)
{
    static const char *const keys[] = {"name", "rate", "lag"};
    size_t running = 0;
    double written = 0;
    uint64_t behind = 0;
    uint64_t ms = 0;
    char text[4][VALUE];
    for (size_t i = 0; i < s->node_count; i++) {
        const top_node *n = &s->nodes[i];
        double rate = figure_rate(n, FIGURE_WRITTEN);
        running += row_bool(n->now.answer, "running") && row_good(n->now.answer, "code");
        written += isnan(rate) ? 0 : rate;
        for (size_t k = 0; k < n->now.peer_count; k++) {
            const peer_sample *p = &n->now.peers[k];
            behind = p->lag_entries > behind ? p->lag_entries : behind;
            ms = p->lag_ms > ms ? p->lag_ms : ms;
        }
    }
    text_duration(s->every_ms, text[0], VALUE);
    plot_value(PLOT_NUMBER, written, text[1], VALUE);
    text_count(behind, text[2], VALUE);
    text_duration(ms, text[3], VALUE);
    bool narrow = v->columns < NARROW;
    const char *paused = s->paused ? "  PAUSED" : "";
    if (narrow) {
        add(v, STYLE_HEAD, "%s  %zu of %zu run  by %s%s", s->clock, running, s->node_count, keys[s->sort],
            paused);
    } else {
        add(v, STYLE_HEAD, "anabranch top  %s  %zu of %zu nodes run  every %s  by %s%s", s->clock, running,
            s->node_count, text[0], keys[s->sort], paused);
    }
    if (behind == 0) {
        add(v, STYLE_PLAIN, "%s entries/s written; no peer is behind", text[1]);
    } else {
        add(v, STYLE_PLAIN,
            narrow ? "%s/s written; behind: %s, %s"
                   : "%s entries/s written; slowest peer %s entries behind, the oldest %s old",
            text[1], text[2], text[3]);
    }
}

static void help_lines(top_view *v)
{
    static const char *const lines[] = {
        "",
        "Keys:  q quit   s sort by name, rate, lag   p pause, go on   h this help",
        "",
        "WRITE/s   entries that the node's own callers write",
        "LOG/s     entries logged, own and received; APPLY/s given to state machines",
        "P50 P99   time from a write to its local acknowledgement, over 10 s",
        "QUEUED    written, not yet logged; TO APPLY blocks logged, not yet applied",
        "LOG       of the log on disk; CPU in percent of one core",
        "BEHIND    entries that the peer has not confirmed as durable",
        "OLDEST    age of the oldest of them",
        "CATCHES UP IN  at the speed of the last interval",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        add(v, STYLE_PLAIN, "%s", lines[i]);
    }
}

/* How many rows each list gets: an even share at first, then what others leave. */
static void share_out(const contents *c, size_t room, size_t given[3])
{
    const size_t wanted[3] = {c->nodes.count, c->peers.count, c->groups.count};
    for (size_t i = 0; i < 3; i++) {
        size_t share = room / (3 - i);
        size_t after = 0; /* what the lists after this one want */
        for (size_t k = i + 1; k < 3; k++) {
            after += wanted[k];
        }
        size_t spare = room > after ? room - after : 0;
        share = share > spare ? share : spare;
        given[i] = wanted[i] < share ? wanted[i] : share;
        room -= given[i];
    }
}

static void list_lines(top_view *v, const item_list *list, size_t rows, layout l,
                       void (*line)(top_view *v, const layout *l, const item *i))
{
    add_row(v, STYLE_HEAD, &l, NULL);
    for (size_t i = 0; i < rows; i++) {
        line(v, &l, &list->items[i]);
    }
}

/* What there was no room for, for the last line. */
static void note_left_out(const contents *c, const size_t given[3], char *note, size_t size)
{
    const size_t wanted[3] = {c->nodes.count, c->peers.count, c->groups.count};
    static const char *const names[3] = {"nodes", "peers", "groups"};
    size_t used = 0;
    for (size_t i = 0; i < 3; i++) {
        if (given[i] < wanted[i] && used < size) {
            used += (size_t)snprintf(note + used, size - used, "%s%zu of %zu %s",
                                     used > 0 ? ", " : "   shown: ", given[i], wanted[i], names[i]);
        }
    }
}

static void gap(top_view *v, bool roomy)
{
    if (roomy) {
        add(v, STYLE_PLAIN, "%s", "");
    }
}

static void tables(top_view *v, const contents *c, char *note, size_t size)
{
    size_t given[3];
    bool roomy = v->rows + 1 >= SMALL_ROWS;
    size_t fixed = v->used + 3 + (roomy ? 3 : 0);
    share_out(c, v->rows > fixed ? v->rows - fixed : 0, given);
    gap(v, roomy);
    list_lines(v, &c->nodes, given[0], lay_out(v, node_columns, COUNT(node_columns)), node_line);
    gap(v, roomy);
    list_lines(v, &c->peers, given[1], lay_out(v, peer_columns, COUNT(peer_columns)), peer_line);
    gap(v, roomy);
    list_lines(v, &c->groups, given[2], lay_out(v, group_columns, COUNT(group_columns)), group_line);
    note_left_out(c, given, note, size);
}

bool top_view_make(top_view *v, const top_state *s)
{
    contents c = {0};
    char note[128] = "";
    v->used = 0;
    v->rows--; /* the last line is that of the keys, however small the screen is */
    head_lines(v, s);
    if (s->help) {
        help_lines(v);
    } else {
        if (!collect(s, &c)) {
            free_contents(&c);
            v->rows++;
            return false;
        }
        tables(v, &c, note, sizeof note);
        free_contents(&c);
    }
    while (v->used < v->rows) {
        add(v, STYLE_PLAIN, "%s", "");
    }
    v->rows++;
    if (v->columns < NARROW) {
        add(v, STYLE_HEAD, "q s p h%s", note);
    } else {
        add(v, STYLE_HEAD, "q quit  s sort  p %s  h help%s", s->paused ? "go on" : "pause", note);
    }
    return true;
}
