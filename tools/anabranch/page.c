/* SPDX-License-Identifier: Apache-2.0 */
/* HTML, see page.h. One page: one thread. */
#include "tools/anabranch/page.h"
#include "tools/anabranch/markup.h"
#include "tools/anabranch/plot.h"
#include "tools/anabranch/text.h"

#include <stdarg.h>

/* The system's fonts and colour scheme. 320 px is the narrowest screen; nothing makes the page itself wider than that. */
static const char style_sheet[] =
    ":root{color-scheme:light dark;--text:#1c2329;--faint:#55616b;--line:#d5dbe0;--paper:#fff;--well:#f4f6f8;"
    "--good:#00683f;--warn:#8a5300;--bad:#b3161f}\n"
    "@media (prefers-color-scheme:dark){:root{--text:#e6eaee;--faint:#a9b4be;--line:#3a444d;--paper:#14191d;"
    "--well:#1d242a;--good:#4fd39b;--warn:#f0b04a;--bad:#ff8a80}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:16px;max-width:1320px;background:var(--paper);color:var(--text);"
    "font:15px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}\n"
    "h1{font-size:1.5rem;margin:0 0 4px}h2{font-size:1.15rem;margin:28px 0 8px}\n"
    "p{margin:4px 0 8px}a{color:inherit}\n"
    ".faint{color:var(--faint)}.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}\n"
    ".good,.warn,.bad{font-weight:600}\n"
    "nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;padding:0;margin:8px 0}\n"
    "nav a{display:inline-block;padding:6px 0}\n"
    ".problems{border-left:4px solid var(--bad);background:var(--well);padding:8px 12px;margin:12px 0}\n"
    ".fine{border-color:var(--good)}\n"
    ".problems ul{margin:4px 0;padding-left:20px}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:8px;margin:12px 0}\n"
    ".tile{background:var(--well);border-radius:6px;padding:10px 12px}\n"
    ".tile b{display:block;font-size:1.3rem;font-weight:650}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:12px}\n"
    ".plots figure{margin:0;border:1px solid var(--line);border-radius:6px;padding:6px 2px;min-width:0}\n"
    ".wide{overflow-x:auto;border:1px solid var(--line);border-radius:6px;margin:8px 0}\n"
    ".wide:focus-visible{outline:2px solid currentColor}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
    "caption{text-align:left;padding:6px 10px;color:var(--faint)}\n"
    "caption span{position:sticky;left:10px;display:inline-block;max-width:calc(100vw - 54px)}\n"
    "th,td{padding:5px 10px;text-align:left;border-top:1px solid var(--line);white-space:nowrap}\n"
    "th{font-weight:600;font-size:.86rem;color:var(--faint)}\n"
    "td.long{white-space:normal;min-width:16em}\n"
    ".n{text-align:right}\n"
    "@media print{.wide{overflow:visible}nav{display:none}}\n";

void page_begin(FILE *out, const char *title)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
          "'unsafe-inline'\">\n"
          "<title>",
          out);
    markup_text(out, title);
    fputs("</title>\n<style>\n", out);
    fputs(style_sheet, out);
    plot_style(out);
    fputs("</style>\n</head>\n<body>\n", out);
}

void page_end(FILE *out)
{
    fputs("</body>\n</html>\n", out);
}

void page_section(FILE *out, const char *id, const char *heading)
{
    fprintf(out, "<section aria-labelledby=\"%s\">\n<h2 id=\"%s\">", id, id);
    markup_text(out, heading);
    fputs("</h2>\n", out);
}

void page_section_end(FILE *out)
{
    fputs("</section>\n", out);
}

void page_note(FILE *out, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fputs("<p class=\"faint\">", out);
    markup_text(out, text);
    fputs("</p>\n", out);
}

static const char *class_of(style s)
{
    return s == STYLE_GOOD ? "good" : s == STYLE_WARN ? "warn" : s == STYLE_BAD ? "bad" : "plain";
}

void page_tile(FILE *out, style s, const char *value, const char *label)
{
    fprintf(out, "<div class=\"tile\"><b class=\"%s\">", class_of(s));
    markup_text(out, value);
    fputs("</b>", out);
    markup_text(out, label);
    fputs("</div>\n", out);
}

void page_table_begin(page_table *t, FILE *out, const char *caption, const char *const *heads, size_t columns)
{
    *t = (page_table){.out = out, .heads = heads, .columns = columns};
    /* What scrolls must be reachable with the keyboard. */
    fputs("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"", out);
    markup_text(out, caption);
    fputs("\">\n<table>\n<caption><span>", out);
    markup_text(out, caption);
    fputs("</span></caption>\n<thead><tr>", out);
    for (size_t i = 0; i < columns; i++) {
        bool number = heads[i][0] == '>';
        fprintf(out, "<th scope=\"col\"%s>", number ? " class=\"n\"" : "");
        markup_text(out, heads[i] + number);
        fputs("</th>", out);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
}

void page_table_end(page_table *t)
{
    fputs("</tbody>\n</table>\n</div>\n", t->out);
}

static void cell(page_table *t, const char *class_name, const char *text)
{
    bool number = t->heads[t->column][0] == '>';
    if (t->column == 0) {
        fputs("<tr>", t->out);
        t->rows++;
    }
    bool is_long = !number && text_width(text) > 48;
    fprintf(t->out, "<td%s>", number ? " class=\"n\"" : is_long ? " class=\"long\"" : "");
    if (class_name != NULL) {
        fprintf(t->out, "<span class=\"%s\">", class_name);
    }
    markup_text(t->out, text[0] != '\0' ? text : "-");
    fputs(class_name != NULL ? "</span></td>" : "</td>", t->out);
    if (++t->column == t->columns) {
        t->column = 0;
        fputs("</tr>\n", t->out);
    }
}

void page_text(page_table *t, const char *text)
{
    cell(t, NULL, text);
}

void page_state(page_table *t, style s, const char *text)
{
    cell(t, s == STYLE_PLAIN ? NULL : class_of(s), text);
}

void page_count(page_table *t, uint64_t count)
{
    char text[40];
    text_count(count, text, sizeof text);
    cell(t, NULL, text);
}

void page_bytes(page_table *t, uint64_t bytes)
{
    char text[40];
    text_bytes(bytes, text, sizeof text);
    cell(t, NULL, text);
}

void page_duration(page_table *t, uint64_t ms)
{
    char text[40];
    text_duration(ms, text, sizeof text);
    cell(t, NULL, text);
}
