/* SPDX-License-Identifier: Apache-2.0 */
/* Colours, width, progress. Main thread. */
#include "tools/anabranch/terminal.h"
#include "tools/anabranch/text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR 24u
#define PROGRESS_MS 100u

size_t terminal_columns(void)
{
    const char *text = getenv("COLUMNS");
    char *end = NULL;
    unsigned long columns = text != NULL ? strtoul(text, &end, 10) : 0;
    if (text != NULL && text[0] >= '0' && text[0] <= '9' && *end == '\0' && columns <= 100000) {
        return columns;
    }
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static bool colours(void)
{
    const char *no = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return (no == NULL || no[0] == '\0') && (term == NULL || strcmp(term, "dumb") != 0) &&
           isatty(STDOUT_FILENO);
}

const char *terminal_begin(style s)
{
    static const char *const sequences[] = {
        [STYLE_PLAIN] = "",        [STYLE_HEAD] = "\033[1m",   [STYLE_GOOD] = "\033[32m",
        [STYLE_WARN] = "\033[33m", [STYLE_BAD] = "\033[1;31m",
    };
    return s != STYLE_PLAIN && colours() ? sequences[s] : "";
}

const char *terminal_end(style s)
{
    return s != STYLE_PLAIN && colours() ? "\033[0m" : "";
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void progress_show(progress *p, uint64_t done, uint64_t total, const char *unit)
{
    uint64_t now = now_ms();
    if (!isatty(STDERR_FILENO) || (p->shown_at != 0 && now - p->shown_at < PROGRESS_MS)) {
        return;
    }
    p->shown_at = now;
    char quoted[64];
    char a[32];
    char b[32];
    char bar[BAR + 1];
    size_t filled = total == 0 ? 0 : done >= total ? BAR : (size_t)((double)done / (double)total * BAR);
    memset(bar, ' ', BAR);
    memset(bar, '#', filled);
    bar[BAR] = '\0';
    text_quote(p->name, strlen(p->name), quoted, sizeof quoted);
    text_count(done, a, sizeof a);
    text_count(total, b, sizeof b);
    if (total > 0) {
        fprintf(stderr, "\r%s  [%s] %s of about %s %s\033[K", quoted, bar, a, b, unit);
    } else {
        fprintf(stderr, "\r%s  %s %s\033[K", quoted, a, unit);
    }
}

void progress_clear(void)
{
    if (isatty(STDERR_FILENO)) {
        fputs("\r\033[K", stderr);
    }
}
