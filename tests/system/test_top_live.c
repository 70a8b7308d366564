/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch top` on a pseudo-terminal, with live nodes: what appears, keys, a change of size, and where there is no
 * terminal. */
#define _GNU_SOURCE
#include "tests/support/nodes.h"
#include "tests/support/run.h"

#include <check.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROWS_MAX 60
#define COLUMNS_MAX 200

static test_cluster cluster;
static int terminal = -1;
static pid_t child;

/* What a VT52 would show: the simplest terminal that ncurses knows, so that an emulation fits here. */
static struct vt52 {
    char cells[ROWS_MAX][COLUMNS_MAX + 1];
    int row, column;
    int escape; /* bytes of an escape sequence so far */
    int wanted_row;
    char raw[4096]; /* the beginning of what was written, as it came */
    size_t raw_used;
} vt;

static void clear_from(int row, int column, bool below)
{
    memset(&vt.cells[row][column], ' ', (size_t)(COLUMNS_MAX - column));
    for (int i = row + 1; below && i < ROWS_MAX; i++) {
        memset(vt.cells[i], ' ', COLUMNS_MAX);
    }
}

static void move_to(int row, int column)
{
    vt.row = row < 0 ? 0 : row < ROWS_MAX ? row : ROWS_MAX - 1;
    vt.column = column < 0 ? 0 : column < COLUMNS_MAX ? column : COLUMNS_MAX - 1;
}

static void end_escape(unsigned char c)
{
    vt.escape = 0;
    switch (c) {
    case 'A':
        move_to(vt.row - 1, vt.column);
        break;
    case 'B':
        move_to(vt.row + 1, vt.column);
        break;
    case 'C':
        move_to(vt.row, vt.column + 1);
        break;
    case 'D':
        move_to(vt.row, vt.column - 1);
        break;
    case 'H':
        move_to(0, 0);
        break;
    case 'J':
    case 'K':
        clear_from(vt.row, vt.column, c == 'J');
        break;
    case 'Y':
        vt.escape = 2;
        break;
    default: /* keypad modes and the like */
        break;
    }
}

static void take_byte(unsigned char c)
{
    if (vt.raw_used + 1 < sizeof vt.raw) {
        vt.raw[vt.raw_used++] = (char)c;
    }
    if (vt.escape == 1) {
        end_escape(c);
    } else if (vt.escape == 2) {
        vt.wanted_row = c - ' ';
        vt.escape = 3;
    } else if (vt.escape == 3) {
        move_to(vt.wanted_row, c - ' ');
        vt.escape = 0;
    } else if (c == 0x1b) {
        vt.escape = 1;
    } else if (c == '\r') {
        move_to(vt.row, 0);
    } else if (c == '\n') {
        move_to(vt.row + 1, vt.column);
    } else if (c == '\b') {
        move_to(vt.row, vt.column - 1);
    } else if (c == '\t') {
        move_to(vt.row, vt.column / 8 * 8 + 8);
    } else if (c >= ' ') {
        vt.cells[vt.row][vt.column] = (char)c;
        move_to(vt.row, vt.column + 1);
    }
}

static bool shown(const char *text)
{
    for (int i = 0; i < ROWS_MAX; i++) {
        if (strstr(vt.cells[i], text) != NULL) {
            return true;
        }
    }
    return strstr(vt.raw, text) != NULL && vt.raw_used < 200; /* a message before there is a screen */
}

static void setup(void)
{
    test_cluster_init(&cluster, 3);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(test_cluster_open(&cluster, i), AB_OK);
    }
    ck_assert_int_eq(test_write_range(cluster.nodes[0].group, "entry", 0, 20), AB_OK);
    memset(&vt, 0, sizeof vt);
    clear_from(0, 0, true);
}

static void teardown(void)
{
    if (terminal >= 0) {
        close(terminal);
        terminal = -1;
    }
    test_cluster_free(&cluster);
}

static void start(const char *term)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    child = forkpty(&terminal, NULL, NULL, &size);
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        setenv("TERM", term, 1);
        unsetenv("LINES");
        unsetenv("COLUMNS");
        execl(ANABRANCH, ANABRANCH, "top", cluster.nodes[0].dir, "--data", cluster.nodes[1].dir,
              cluster.nodes[2].dir, "--every", "100", (char *)NULL);
        _exit(127);
    }
}

/* Reads until the text is on the screen, or gone from it. The time limit of the test is that of the wait. */
static void await(const char *text, bool there)
{
    char bytes[4096];
    while (shown(text) != there) {
        ssize_t got = read(terminal, bytes, sizeof bytes);
        ck_assert_msg(got > 0, "\"%s\" did not appear", text);
        for (ssize_t i = 0; i < got; i++) {
            take_byte((unsigned char)bytes[i]);
        }
    }
}

static void press(const char *keys)
{
    ck_assert_int_eq(write(terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
}

static int ended(void)
{
    char bytes[4096];
    int status = 0;
    /* What it still writes must go somewhere, or it waits for that. */
    while (read(terminal, bytes, sizeof bytes) > 0) {
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void resize(unsigned short rows, unsigned short columns)
{
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    clear_from(0, 0, true); /* a terminal of another size begins anew */
    ck_assert_int_eq(ioctl(terminal, TIOCSWINSZ, &size), 0);
}

START_TEST(keys)
{
    start("vt52");
    await("anabranch top", true);
    await("3 of 3 nodes run", true);
    await("CATCHES UP IN", true);
    await("node 3   runs", true);
    await("by name", true);
    await("h help", true);
    ck_assert_int_eq(strncmp(vt.cells[23], "q quit  s sort  p pause  h help", 31), 0);
    press("s");
    await("by rate", true);
    press("p");
    await("PAUSED", true);
    press("h"); /* while it pauses, too */
    await("s sort by name, rate, lag", true);
    await("CATCHES UP IN   SENT/s", false);
    press("hp");
    await("CATCHES UP IN   SENT/s", true);
    await("PAUSED", false);
    press("q");
    ck_assert_int_eq(ended(), 0);
}
END_TEST

START_TEST(sizes)
{
    start("vt52");
    await("h help", true);
    resize(12, 60);
    await("shown: 2 of 3 nodes", true);
    ck_assert_int_eq(strncmp(vt.cells[11], "q s p h", 7), 0);
    resize(50, 130);
    await("TO APPLY    BEHIND  OLDEST", true);
    await("h help", true);
    ck_assert_int_eq(strncmp(vt.cells[49], "q quit", 6), 0);
    resize(2, 9);
    await("q s p h", true);
    press("q");
    ck_assert_int_eq(ended(), 0);
}
END_TEST

/* Nodes come and go while it looks. */
START_TEST(node_goes)
{
    start("vt52");
    await("node 2   runs", true);
    ck_assert_int_eq(test_cluster_close(&cluster, 1), AB_OK);
    await("node 2   stopped", true);
    await("down", true);
    ck_assert_int_eq(test_cluster_open(&cluster, 1), AB_OK);
    await("node 2   runs", true);
    await("down", false);
    press("q");
    ck_assert_int_eq(ended(), 0);
}
END_TEST

/* Nobody is there any more: it must not go on for ever, not under nohup either. */
START_TEST(terminal_goes)
{
    int status;
    signal(SIGHUP, _i == 0 ? SIG_DFL : SIG_IGN);
    start("vt52");
    await("h help", true);
    close(terminal);
    terminal = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(_i == 0 ? WIFSIGNALED(status) : WIFEXITED(status));
}
END_TEST

START_TEST(unknown_terminal)
{
    static const char *const terms[] = {"no-such-terminal", "dumb"};
    char text[80];
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* ncurses keeps what it had before it failed */
    start(terms[_i]);
    snprintf(text, sizeof text, "cannot use a terminal of the type TERM=%s", terms[_i]);
    await(text, true);
    ck_assert_int_eq(ended(), 2);
}
END_TEST

START_TEST(no_terminal)
{
    char command[512];
    char said[512] = "";
    snprintf(command, sizeof command, "'%s' top '%s' 2>&1 </dev/null", ANABRANCH, cluster.nodes[0].dir);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    ck_assert_uint_gt(fread(said, 1, sizeof said - 1, pipe), 0);
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 2);
    ck_assert_ptr_nonnull(strstr(said, "needs a terminal, and stdout is none"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("top");
    TCase *tests = tcase_create("top");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, keys);
    tcase_add_test(tests, sizes);
    tcase_add_test(tests, node_goes);
    tcase_add_loop_test(tests, terminal_goes, 0, 2);
    tcase_add_loop_test(tests, unknown_terminal, 0, 2);
    tcase_add_test(tests, no_terminal);
    suite_add_tcase(suite, tests);
    return test_run(suite);
}
