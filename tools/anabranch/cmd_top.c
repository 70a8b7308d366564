/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch top`: a live screen of rates, lag and queues. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/top_view.h"

#include <curses.h>
#include <locale.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EVERY_MS 2000u
#define EVERY_MIN_MS 50u
/* The screen must not hang on one node that is stopped. */
#define SILENCE_MS 1500

extern const command command_top; /* below */

typedef struct top {
    top_node *nodes;
    size_t count;
    top_state state;
    char clock[16];
    bool ascii; /* the terminal takes no other characters */
} top;

static void look(top *t, bool *no_memory)
{
    time_t now = time(NULL);
    struct tm parts;
    for (size_t i = 0; i < t->count && !*no_memory; i++) {
        top_node *n = &t->nodes[i];
        sample_free(&n->before);
        n->before = n->now;
        *no_memory = !sample_take(&n->now, n->data_dir, false, SILENCE_MS);
        n->now.node_id = n->now.node_id != 0 ? n->now.node_id : n->before.node_id;
    }
    if (localtime_r(&now, &parts) != NULL) {
        strftime(t->clock, sizeof t->clock, "%H:%M:%S", &parts);
    }
}

static chtype attributes(style s)
{
    bool colours =
        has_colors() && COLOR_PAIRS > 2 && (getenv("NO_COLOR") == NULL || *getenv("NO_COLOR") == '\0');
    switch (s) {
    case STYLE_HEAD:
        return A_BOLD;
    case STYLE_BAD:
        return A_BOLD | (colours ? COLOR_PAIR(1) : A_REVERSE);
    case STYLE_WARN:
        return colours ? COLOR_PAIR(2) : A_UNDERLINE;
    default:
        return A_NORMAL;
    }
}

static void to_ascii(char *text)
{
    for (; *text != '\0'; text++) {
        *text = (unsigned char)*text < 0x80 ? *text : '?';
    }
}

static bool paint(top *t)
{
    top_view v = {.columns = COLS > 0 ? (size_t)COLS : 1, .rows = LINES > 0 ? (size_t)LINES : 1};
    v.lines = calloc(v.rows, sizeof *v.lines);
    if (v.lines == NULL || !top_view_make(&v, &t->state)) {
        free(v.lines);
        return false;
    }
    erase();
    for (size_t i = 0; i < v.used; i++) {
        if (t->ascii) {
            to_ascii(v.lines[i].text);
        }
        attrset(attributes(v.lines[i].style));
        mvaddstr((int)i, 0, v.lines[i].text);
    }
    attrset(A_NORMAL);
    refresh();
    free(v.lines);
    return true;
}

/* @return false: quit */
static bool take_key(top *t, int key)
{
    switch (key) {
    case 'q':
    case 'Q':
        return false;
    case 's':
        t->state.sort = (top_sort)((t->state.sort + 1) % TOP_SORTS);
        return true;
    case 'p':
    case ' ':
        t->state.paused = !t->state.paused;
        return true;
    case 'h':
    case '?':
        t->state.help = !t->state.help;
        return true;
    case KEY_RESIZE: /* what a terminal does with what was on it nobody knows */
    case 'L' & 0x1f:
        clearok(curscr, TRUE);
        return true;
    default:
        return true;
    }
}

/* Whoever ignores SIGHUP (nohup) outlives its terminal: reading then fails at once, again and again. */
static bool terminal_is_gone(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/* @return false: out of memory */
static bool run_screen(top *t)
{
    bool no_memory = false;
    bool more = true;
    uint64_t next = 0;
    while (more) {
        uint64_t now = sample_now_ms();
        if (!t->state.paused && now >= next) {
            look(t, &no_memory);
            now = sample_now_ms();
            next = now + t->state.every_ms;
        }
        if (no_memory || !paint(t)) {
            return false;
        }
        timeout(t->state.paused ? -1 : next > now ? (int)(next - now) : 0);
        int key = getch();
        if (key == ERR && (t->state.paused || terminal_is_gone())) {
            return true;
        }
        more = take_key(t, key);
    }
    return true;
}

static int with_screen(top *t)
{
    const char *term = getenv("TERM");
    bool dumb = term != NULL && strcmp(term, "dumb") == 0; /* ncurses tries, with one line over the other */
    setlocale(LC_CTYPE, "");
    t->ascii = MB_CUR_MAX == 1;
    SCREEN *screen = dumb ? NULL : newterm(NULL, stdout, stdin);
    if (screen == NULL) {
        complain("top: cannot use a terminal of the type TERM=%s", term != NULL ? term : "");
        return EXIT_USAGE;
    }
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
    if (has_colors()) {
        start_color();
        use_default_colors();
        init_pair(1, COLOR_RED, -1);
        init_pair(2, COLOR_YELLOW, -1);
    }
    bool good = run_screen(t);
    endwin();
    delscreen(screen);
    if (!good) {
        complain("out of memory");
    }
    return good ? EXIT_FINE : EXIT_WRONG;
}

static int show(const options *o)
{
    top t = {.count = o->data_count};
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        complain("top: needs a terminal, and %s is none; `anabranch status --watch` needs none",
                 isatty(STDOUT_FILENO) ? "stdin" : "stdout");
        return EXIT_USAGE;
    }
    if (o->every_ms != 0 && (o->every_ms < EVERY_MIN_MS || o->every_ms > 3600000)) {
        complain("top: --every: needs 50 to 3600000 milliseconds");
        return EXIT_USAGE;
    }
    t.nodes = calloc(o->data_count, sizeof *t.nodes);
    if (t.nodes == NULL) {
        complain("out of memory");
        return EXIT_WRONG;
    }
    for (size_t i = 0; i < t.count; i++) {
        t.nodes[i].data_dir = o->data[i];
    }
    t.state = (top_state){.nodes = t.nodes,
                          .node_count = t.count,
                          .every_ms = o->every_ms > 0 ? o->every_ms : EVERY_MS,
                          .clock = t.clock};
    int result = with_screen(&t);
    for (size_t i = 0; i < t.count; i++) {
        sample_free(&t.nodes[i].before);
        sample_free(&t.nodes[i].now);
    }
    free(t.nodes);
    return result;
}

static int run(int argc, char **argv)
{
    options o;
    int result = options_read(&o, &command_top, argc, argv);
    if (result == EXIT_FINE) {
        result = show(&o);
    }
    options_free(&o);
    return result < 0 ? EXIT_FINE : result;
}

const command command_top = {
    .name = "top",
    .summary = "live screen of rates, lag and queues",
    .run = run,
    .options = OPTION_NODES | OPTION_DIRS | OPTION_EVERY,
    .usage = "DIR... [OPTION...]",
    .about =
        "Looks every 2000 ms unless --every says otherwise. A DIR is a node's data directory, as with "
        "--data.\n"
        "Keys: q quit, s sort by name, rate or lag, p pause and go on, h help. Where there are more rows "
        "than\n"
        "the screen has, the first by the sort order are shown.\n",
    .wrong = "memory runs out (a node that is down is shown so)",
    .examples = "anabranch top n1 n2 n3\n"
                "anabranch top --config /etc/anabranch/node.yaml --every 500\n",
};
