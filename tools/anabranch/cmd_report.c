/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch report`: the state of a cluster and how it did for a while, as one HTML file. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/history.h"
#include "tools/anabranch/markup.h"
#include "tools/anabranch/page.h"
#include "tools/anabranch/page_cluster.h"
#include "tools/anabranch/plot.h"
#include "tools/anabranch/text.h"
#include "tools/anabranch/watch.h"

#include <anabranch/node.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EVERY_MS 500u
#define LOOKS_MAX 20000u /* some hours at two a second; 3 MB a node */

extern const command command_report; /* below */

static bool anyone_runs(const history *h)
{
    for (size_t i = 0; i < h->node_count; i++) {
        if (row_bool(h->nodes[i].last.answer, "running")) {
            return true;
        }
    }
    return false;
}

/* Looks until the time is over or a signal says that it is enough; the last look is a thorough one.
 * @return false: out of memory */
static bool watch_nodes(history *h, const options *o, uint64_t every_ms)
{
    progress p = {.name = "looking"};
    uint64_t end = h->began_ms + o->for_ms;
    uint64_t now = h->began_ms;
    bool more = true;
    bool good = true;
    watch_begin();
    /* Not so close to the end that the rates of the last look were of a moment only. */
    while (good && more && now + every_ms / 2 < end) {
        good = history_look(h, false);
        if (!anyone_runs(h)) {
            h->count = 0;
            break;
        }
        now = sample_now_ms();
        uint64_t next = now + every_ms - (now - h->began_ms) % every_ms;
        next = next < end ? next : end;
        progress_show(&p, now - h->began_ms, o->for_ms, "ms");
        more = watch_sleep(next > now ? next - now : 1);
        now = sample_now_ms();
    }
    watch_end();
    progress_clear();
    return good && history_look(h, true);
}

/* A problem that another one says in more words is left out. */
static bool said_better(const report *r, size_t index)
{
    const char *text = json_string_value(json_array_get(r->problems, index));
    for (size_t i = 0; i < json_array_size(r->problems); i++) {
        const char *other = json_string_value(json_array_get(r->problems, i));
        bool longer = strlen(other) > strlen(text) || (strlen(other) == strlen(text) && i < index);
        if (i != index && longer && strncmp(other, text, strlen(text)) == 0) {
            return true;
        }
    }
    return false;
}

static void judge(report *r, const history *h, const options *o)
{
    for (size_t i = 0; i < h->node_count; i++) {
        judge_status(r, h->nodes[i].last.answer, o);
        judge_peers(r, h->nodes[i].last.answer, o);
        bool there =
            row_bool(h->nodes[i].last.answer, "running") && row_good(h->nodes[i].last.answer, "code");
        if (there && h->nodes[i].missed > 0) {
            char name[512];
            report_name(h->nodes[i].last.answer, name, sizeof name);
            report_problem(r, "%s: gave no answer at %zu of %zu looks", name, h->nodes[i].missed, h->count);
        }
    }
    for (size_t i = json_array_size(r->problems); i-- > 0;) {
        if (said_better(r, i)) {
            json_array_remove(r->problems, i);
        }
    }
}

static void write_problems(const report *r, FILE *out)
{
    size_t count = json_array_size(r->problems);
    size_t i;
    json_t *problem;
    if (count == 0) {
        fputs("<div class=\"problems fine\"><p class=\"good\">No problems.</p></div>\n", out);
        return;
    }
    fprintf(out,
            "<div class=\"problems\" role=\"group\" aria-label=\"Problems\"><p class=\"bad\">%zu "
            "problem%s</p>\n<ul>\n",
            count, count > 1 ? "s" : "");
    json_array_foreach(r->problems, i, problem)
    {
        fputs("<li>", out);
        markup_text(out, json_string_value(problem));
        fputs("</li>\n", out);
    }
    fputs("</ul></div>\n", out);
}

static void tile_rate(const history *h, FILE *out)
{
    double sum = NAN;
    char text[64];
    for (size_t i = 0; i < h->node_count; i++) {
        double mean = history_mean(h, h->nodes[i].figures[FIGURE_WRITTEN]);
        sum = isnan(sum) ? mean : isnan(mean) ? sum : sum + mean;
    }
    plot_value(PLOT_NUMBER, sum, text, sizeof text);
    page_tile(out, STYLE_PLAIN, text, "entries/s written, all nodes");
}

static void tile_lag(const history *h, FILE *out)
{
    uint64_t entries = 0;
    uint64_t ms = 0;
    bool known = false;
    char text[64];
    for (size_t i = 0; i < h->node_count; i++) {
        const node_sample *s = &h->nodes[i].last;
        known |= s->peer_count > 0;
        for (size_t k = 0; k < s->peer_count; k++) {
            entries = s->peers[k].lag_entries > entries ? s->peers[k].lag_entries : entries;
            ms = s->peers[k].lag_ms > ms ? s->peers[k].lag_ms : ms;
        }
    }
    text_count(entries, text, sizeof text);
    page_tile(out, STYLE_PLAIN, known ? text : "-", "entries behind, slowest peer");
    text_duration(ms, text, sizeof text);
    page_tile(out, STYLE_PLAIN, entries > 0 ? text : "-", "age of the oldest of them");
}

static void tile_latency(const history *h, FILE *out)
{
    double most = NAN;
    char text[64];
    for (size_t i = 0; i < h->node_count; i++) {
        most = fmax(most, h->nodes[i].last.figures[FIGURE_ACK_P99]); /* of a number and none the number */
    }
    plot_value(PLOT_SECONDS, most, text, sizeof text);
    page_tile(out, STYLE_PLAIN, text, "acknowledged here, p99 of the slowest node");
}

/* Of nodes that do not run, too. */
static void tile_log(const history *h, FILE *out)
{
    uint64_t sum = 0;
    bool known = false;
    char text[64];
    for (size_t i = 0; i < h->node_count; i++) {
        const json_t *node = json_object_get(h->nodes[i].last.answer, "node");
        known |= node != NULL;
        sum += row_uint(node, "log_bytes");
    }
    text_bytes(sum, text, sizeof text);
    page_tile(out, STYLE_PLAIN, known ? text : "-", "of logs, all nodes");
}

static void write_tiles(const history *h, FILE *out)
{
    size_t running = 0;
    char text[64];
    for (size_t i = 0; i < h->node_count; i++) {
        running += row_bool(h->nodes[i].last.answer, "running");
    }
    fputs("<div class=\"tiles\">\n", out);
    snprintf(text, sizeof text, "%zu of %zu", running, h->node_count);
    page_tile(out, running == h->node_count ? STYLE_GOOD : STYLE_BAD, text, "nodes running");
    tile_rate(h, out);
    tile_lag(h, out);
    tile_latency(h, out);
    tile_log(h, out);
    fputs("</div>\n", out);
}

static void write_head(const history *h, FILE *out)
{
    char when[64] = "?";
    char took[32];
    time_t now = time(NULL);
    struct tm parts;
    if (gmtime_r(&now, &parts) != NULL) {
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &parts);
    }
    text_duration(h->count > 0 ? (uint64_t)(h->at[h->count - 1] * 1000) : 0, took, sizeof took);
    fputs("<header>\n<h1>Anabranch cluster</h1>\n", out);
    if (h->count > 1) {
        page_note(out, "%s; %zu looks in %s; anabranch %s", when, h->count, took, ab_version());
    } else {
        page_note(out, "%s; one look; anabranch %s", when, ab_version());
    }
    fputs("</header>\n", out);
}

static void write_page(const history *h, const report *r, const options *o, FILE *out)
{
    static const char *const sections[] = {"nodes", "peers", "groups", "streams", "configuration"};
    page_begin(out, "Anabranch cluster");
    write_head(h, out);
    fputs("<nav aria-label=\"Sections\"><ul>", out);
    for (size_t i = h->count > 1 ? 0 : 1; i < 1 + sizeof sections / sizeof sections[0]; i++) {
        const char *id = i == 0 ? "plots" : sections[i - 1];
        fprintf(out, "<li><a href=\"#%s\">%s</a></li>", id, i == 0 ? "over time" : id);
    }
    fputs("</ul></nav>\n<main>\n", out);
    write_problems(r, out);
    write_tiles(h, out);
    page_plots(h, out);
    page_nodes(h, out);
    page_peers(h, out);
    page_groups(h, out);
    page_streams(h, out);
    page_settings(h, o, out);
    fputs("</main>\n", out);
    page_end(out);
}

/* The file is there as a whole or not at all. @return exit code */
static int write_file(const history *h, const report *r, const options *o)
{
    char path[4200];
    if (strcmp(o->output, "-") == 0) {
        write_page(h, r, o, stdout);
        return EXIT_FINE;
    }
    int length = snprintf(path, sizeof path, "%s.%d.part", o->output, (int)getpid());
    FILE *out = length < (int)sizeof path ? fopen(path, "we") : NULL;
    if (out == NULL) {
        complain("%s: %s", o->output, length < (int)sizeof path ? strerror(errno) : "the name is too long");
        return EXIT_WRONG;
    }
    write_page(h, r, o, out);
    bool written = ferror(out) == 0;
    written = fclose(out) == 0 && written;
    if (!written || rename(path, o->output) != 0) {
        complain("%s: %s", o->output, strerror(errno));
        unlink(path);
        return EXIT_WRONG;
    }
    return EXIT_FINE;
}

static int make_report(const options *o)
{
    history h;
    report r;
    uint64_t every_ms = o->every_ms > 0 ? o->every_ms : EVERY_MS;
    uint64_t looks = o->for_ms / every_ms + 3;
    if (o->output == NULL) {
        complain("report: name the file to write with -o FILE (anabranch help report)");
        return EXIT_USAGE;
    }
    if (looks > LOOKS_MAX) {
        complain("report: that would be %" PRIu64 " looks, more than %u: make --every longer", looks,
                 LOOKS_MAX);
        return EXIT_USAGE;
    }
    if (!report_new(&r, "report")) {
        return EXIT_WRONG;
    }
    if (!history_init(&h, o->data, o->data_count, (size_t)looks)) {
        complain("out of memory");
        report_free(&r);
        return EXIT_WRONG;
    }
    int result = EXIT_WRONG;
    if (watch_nodes(&h, o, every_ms)) {
        judge(&r, &h, o);
        result = write_file(&h, &r, o);
        if (result == EXIT_FINE && strcmp(o->output, "-") != 0) {
            result = report_end(&r, o, "No problems.");
        } else if (result == EXIT_FINE) {
            result = json_array_size(r.problems) == 0 ? EXIT_FINE : EXIT_WRONG;
        }
    } else {
        complain("out of memory");
    }
    history_free(&h);
    report_free(&r);
    return result;
}

static int run(int argc, char **argv)
{
    options o;
    int result = options_read(&o, &command_report, argc, argv);
    if (result == EXIT_FINE) {
        result = make_report(&o);
    }
    options_free(&o);
    return result < 0 ? EXIT_FINE : result;
}

const command command_report = {
    .name = "report",
    .summary = "the state of a cluster and how it did for a while, as one HTML file",
    .run = run,
    .options = OPTION_NODES | OPTION_DIRS | OPTION_FOR | OPTION_EVERY | OPTION_OUTPUT,
    .usage = "DIR... -o FILE [OPTION...]",
    .about = "Looks at the nodes every 500 ms for 10 seconds (Ctrl-C: that is enough) and writes a page that "
             "stands\n"
             "alone: problems, plots of throughput, lag, latency, disk and memory, tables of nodes, peers, "
             "groups,\n"
             "streams and configuration. -o - writes to stdout. A DIR is a node's data directory, as with "
             "--data; of\n"
             "nodes that do not run the page has what their logs tell.\n",
    .wrong = "the file cannot be written, or for what `status` and `peers` call a problem",
    .examples = "anabranch report n1 n2 n3 -o cluster.html\n"
                "anabranch report --config /etc/anabranch/node.yaml --for 60 --every 1000 -o node.html\n"
                "anabranch report n1 --for 0 -o now.html\n",
};
