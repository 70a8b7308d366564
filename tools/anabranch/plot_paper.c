/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of a plot: style, title, legend, axes; see plot_internal.h. One stream: one thread. */
#include "tools/anabranch/markup.h"
#include "tools/anabranch/plot_internal.h"
#include "tools/anabranch/text.h"

#include <math.h>
#include <string.h>

#define WIDTH 400u
#define HEIGHT 250u
#define LINE 16.0     /* height of a line of text */
#define CHARACTER 6.3 /* width of one, on the average of fonts */
#define NAME_MAX 28u  /* characters of a name in the legend */
#define TICKS_MAX 6u
#define MARGIN 10.0

/* Told apart by those who do not see colours well, too; each has 3:1 or more against its background. */
static const char *const light[PLOT_COLOURS] = {"#0067b1", "#c2500a", "#00794f", "#a3397f",
                                                "#6b6500", "#5b4bc4", "#b3262e", "#4d5a66"};
static const char *const dark[PLOT_COLOURS] = {"#62b5f5", "#f5984a", "#3fc995", "#e88cc8",
                                               "#d6cc4a", "#a99bff", "#ff8a80", "#b4c0cc"};

static void colour_rules(FILE *out, const char *const *colours)
{
    for (unsigned i = 0; i < PLOT_COLOURS; i++) {
        fprintf(out, "--plot-%u:%s;", i, colours[i]);
    }
}

void plot_style(FILE *out)
{
    fputs(".plot{--plot-text:#1c2329;--plot-faint:#55616b;--plot-grid:#d5dbe0;--plot-paper:#fff;", out);
    colour_rules(out, light);
    fputs("}\n@media (prefers-color-scheme:dark){.plot{--plot-text:#e6eaee;--plot-faint:#a9b4be;"
          "--plot-grid:#3a444d;--plot-paper:#14191d;",
          out);
    colour_rules(out, dark);
    fputs("}}\n"
          ".plot{display:block;width:100%;height:auto;font:12px system-ui,sans-serif;fill:var(--plot-text)}\n"
          ".plot .paper{fill:var(--plot-paper)}\n"
          ".plot .title{font-weight:600;font-size:13px}\n"
          ".plot .small{font-size:10px}\n"
          ".plot .faint{fill:var(--plot-faint)}\n"
          ".plot .grid{stroke:var(--plot-grid);stroke-width:1;fill:none}\n"
          ".plot .axis{stroke:var(--plot-faint);stroke-width:1;fill:none}\n"
          ".plot .line{fill:none;stroke-width:1.7;stroke-linejoin:round}\n"
          ".plot .whisker{stroke:var(--plot-text);stroke-width:1;fill:none}\n"
          ".plot .again{stroke-dasharray:5 3}\n",
          out);
    for (unsigned i = 0; i < PLOT_COLOURS; i++) {
        fprintf(out, ".plot .line.c%u{stroke:var(--plot-%u)}.plot .fill.c%u{fill:var(--plot-%u)}\n", i, i, i,
                i);
    }
}

bool plot_fits(const plot_scale *scale, double value)
{
    return isfinite(value) && (!scale->log || value > 0);
}

double plot_place(const plot_scale *scale, double value)
{
    double part = scale->log ? log(value / scale->low) / log(scale->high / scale->low)
                             : (value - scale->low) / (scale->high - scale->low);
    return scale->at_low + part * (scale->at_high - scale->at_low);
}

static void log_range(const plot_axis *axis, double least, double greatest, plot_scale *scale)
{
    double base = axis->unit == PLOT_BYTES ? 2 : 10;
    if (!(least <= greatest)) {
        least = greatest = axis->at_least > 0 ? axis->at_least : 1;
    }
    greatest = fmax(greatest, axis->at_least);
    scale->low = pow(base, floor(log(least) / log(base) + 1e-9));
    scale->high = pow(base, ceil(log(greatest) / log(base) - 1e-9));
    if (scale->high <= scale->low) {
        scale->high = scale->low * base;
    }
}

void plot_range(const plot_axis *axis, double least, double greatest, plot_scale *scale)
{
    double ticks[TICKS_MAX];
    scale->unit = axis->unit;
    scale->log = axis->log;
    if (axis->log) {
        log_range(axis, least, greatest, scale);
        return;
    }
    scale->low = least < 0 ? least : 0;
    scale->high = fmax(least <= greatest ? greatest : 0, axis->at_least);
    if (!(scale->high > scale->low)) {
        scale->high = scale->low + 1;
    }
    /* To the next tick, so that the top line has a number. One tick is left for that. */
    size_t count = plot_ticks(axis->unit, false, scale->low, scale->high, TICKS_MAX - 1, ticks);
    if (count >= 2) {
        double step = ticks[1] - ticks[0];
        scale->high = ceil(scale->high / step - 1e-9) * step;
        scale->low = floor(scale->low / step + 1e-9) * step;
    }
}

void plot_class(FILE *out, const char *kind, size_t colour)
{
    fprintf(out, "class=\"%s c%zu%s\"", kind, colour % PLOT_COLOURS,
            colour / PLOT_COLOURS % 2 == 1 ? " again" : "");
}

static double name_width(const char *name)
{
    return (double)(text_width(name) < NAME_MAX ? text_width(name) : NAME_MAX) * CHARACTER + 28;
}

/* Writes the entries (out not NULL) below each other where a line is full. @return lines */
static unsigned legend_lines(const plot_legend *legend, const plot_paper *p, double top, bool write)
{
    double x = MARGIN;
    unsigned lines = legend->count > 0;
    for (size_t i = 0; i < legend->count; i++) {
        const char *name = legend->name(legend->chart, i);
        if (x > MARGIN && x + name_width(name) > p->width - MARGIN) {
            x = MARGIN;
            lines++;
        }
        if (write) {
            double y = top + (lines - 1) * LINE;
            fprintf(p->out, "<path ");
            plot_class(p->out, "line", legend->colour != NULL ? legend->colour(legend->chart, i) : i);
            fprintf(p->out, " style=\"stroke-width:4\" d=\"M%.1f %.1fh14\"/><text x=\"%.1f\" y=\"%.1f\">", x,
                    y - 4, x + 19, y);
            markup_cut(p->out, name, NAME_MAX);
            fputs("</text>\n", p->out);
        }
        x += name_width(name);
    }
    return lines;
}

/* The widest label of the y axis. */
static double label_width(const plot_scale *scale, const double *ticks, size_t count)
{
    size_t widest = 1;
    for (size_t i = 0; i < count; i++) {
        char text[64];
        plot_value(scale->unit, ticks[i], text, sizeof text);
        widest = strlen(text) > widest ? strlen(text) : widest;
    }
    return (double)widest * CHARACTER;
}

static void y_axis(const plot_paper *p, const double *ticks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[64];
        double y = plot_place(&p->y, ticks[i]);
        plot_value(p->y.unit, ticks[i], text, sizeof text);
        fprintf(p->out,
                "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/><text class=\"faint\" x=\"%.1f\" y=\"%.1f\" "
                "text-anchor=\"end\">%s</text>\n",
                p->left, y, p->right, p->left - 6, y + 4, text);
    }
    fprintf(p->out, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n", p->left, p->bottom, p->right);
}

static void open_svg(const plot_paper *p, const plot_frame *frame)
{
    fprintf(p->out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" role=\"img\" "
            "aria-labelledby=\"%s-title\" viewBox=\"0 0 %.0f %.0f\"",
            frame->id, p->width, p->height);
    if (frame->standalone) {
        fprintf(p->out, " width=\"%.0f\" height=\"%.0f\"", p->width, p->height);
    }
    fprintf(p->out, ">\n<title id=\"%s-title\">", frame->id);
    markup_text(p->out, frame->title);
    fputs("</title>\n", p->out);
    if (frame->standalone) {
        fputs("<style>\n", p->out);
        plot_style(p->out);
        fputs("</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n", p->out);
    }
}

void plot_begin(plot_paper *p, FILE *out, const plot_frame *frame, const plot_axis *y,
                const plot_legend *legend)
{
    double ticks[TICKS_MAX];
    size_t count = plot_ticks(p->y.unit, p->y.log, p->y.low, p->y.high, TICKS_MAX, ticks);
    bool labelled = y->label != NULL && y->label[0] != '\0';
    p->out = out;
    p->width = frame->width > 0 ? frame->width : WIDTH;
    double lines = legend_lines(legend, p, 0, false);
    p->height = (frame->height > 0 ? frame->height : HEIGHT) + lines * LINE;
    p->left = MARGIN + label_width(&p->y, ticks, count) + 6;
    p->right = p->width - MARGIN - CHARACTER;
    p->top = 24 + lines * LINE + (labelled ? LINE : 0) + 8;
    p->bottom = p->height - 2 * LINE - 6;
    p->y.at_low = p->bottom;
    p->y.at_high = p->top;
    open_svg(p, frame);
    fprintf(out, "<text class=\"title\" x=\"%.1f\" y=\"18\">", MARGIN);
    markup_text(out, frame->title);
    fputs("</text>\n", out);
    legend_lines(legend, p, 20 + LINE, true);
    if (labelled) {
        fprintf(out, "<text class=\"faint\" x=\"%.1f\" y=\"%.1f\">", MARGIN, 20 + (lines + 1) * LINE);
        markup_text(out, y->label);
        fputs("</text>\n", out);
    }
    y_axis(p, ticks, count);
}

bool plot_end(plot_paper *p)
{
    fputs("</svg>\n", p->out);
    return ferror(p->out) == 0;
}
