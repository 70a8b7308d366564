/* SPDX-License-Identifier: Apache-2.0 */
/* Manual pages from the descriptions of the commands, see generate.h. Main thread. */
#include "tools/anabranch/bench_opts.h"
#include "tools/anabranch/generate.h"

#include <anabranch/node.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Text as it is: nothing in it is taken for a request or an escape. `start`: it begins a line. */
static void plain(FILE *out, const char *text, size_t length, bool start)
{
    for (size_t i = 0; i < length; i++) {
        if (start && (text[i] == '.' || text[i] == '\'')) {
            fputs("\\&", out);
        }
        start = text[i] == '\n';
        if (text[i] == '\\') {
            fputs("\\e", out);
        } else if (text[i] == '-') {
            fputs("\\-", out);
        } else {
            fputc(text[i], out);
        }
    }
}

static void text_line(FILE *out, const char *text)
{
    plain(out, text, strlen(text), true);
    fputc('\n', out);
}

static void section(FILE *out, const char *name)
{
    fprintf(out, ".SH %s\n", name);
}

static void as_it_is(FILE *out, const char *text)
{
    size_t length = strlen(text);
    length -= length > 0 && text[length - 1] == '\n';
    fputs(".nf\n", out);
    plain(out, text, length, true);
    fputs("\n.fi\n", out);
}

/* An empty line parts paragraphs; no line is empty in a page. */
static void paragraphs(FILE *out, const char *text)
{
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        if (length == 0) {
            fputs(".PP\n", out);
        } else {
            plain(out, text, length, true);
            fputc('\n', out);
        }
        text += length + (text[length] == '\n');
    }
}

static void title(FILE *out, const char *name)
{
    fputs(".TH \"", out);
    for (const char *c = name; *c != '\0'; c++) {
        fputc(toupper((unsigned char)*c), out);
    }
    fprintf(out, "\" 1 \"\" \"anabranch %s\" \"Anabranch\"\n", ab_version());
}

static void options_of(const command *c, FILE *out)
{
    option_text option;
    section(out, "OPTIONS");
    for (size_t i = 0; option_describe(i, &option); i++) {
        if (option.group != 0 && (option.group & c->options) == 0) {
            continue;
        }
        fputs(".TP\n\\fB\\-\\-", out);
        plain(out, option.name, strlen(option.name), false);
        fputs("\\fR", out);
        if (option.value != NULL) {
            fputs(" \\fI", out);
            plain(out, option.value, strlen(option.value), false);
            fputs("\\fR", out);
        }
        fputc('\n', out);
        text_line(out, option.text);
    }
}

static void exit_codes(FILE *out, const char *wrong)
{
    section(out, "EXIT STATUS");
    fputs(".TP\n0\nAll is well.\n.TP\n1\n", out);
    if (wrong != NULL) {
        fputs("If ", out);
        plain(out, wrong, strlen(wrong), false);
        fputs(".\n", out);
    } else {
        fputs("Something is wrong with the data or the cluster.\n", out);
    }
    fputs(".TP\n2\nWrong usage.\n", out);
}

static void see_also(FILE *out, const char *first)
{
    section(out, "SEE ALSO");
    fprintf(out, ".BR %s ,\n.BR anabranch.yaml (5),\n.BR anabranchd (8)\n", first);
}

/* A command that describes itself by its own help. */
static void foreign_help(FILE *out)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory == NULL) {
        return;
    }
    ab_bench_help(memory);
    if (fclose(memory) == 0) {
        as_it_is(out, text);
    }
    free(text);
}

static void command_page(const command *c, FILE *out)
{
    char name[64];
    snprintf(name, sizeof name, "anabranch-%s", c->name);
    title(out, name);
    section(out, "NAME");
    plain(out, name, strlen(name), true);
    fputs(" \\- ", out);
    plain(out, c->summary, strlen(c->summary), false);
    fputc('\n', out);
    section(out, "SYNOPSIS");
    fputs("\\fBanabranch ", out);
    plain(out, c->name, strlen(c->name), false);
    fputs("\\fR ", out);
    const char *usage = c->usage != NULL ? c->usage : "[OPTION...]";
    plain(out, usage, strlen(usage), false);
    fputc('\n', out);
    section(out, "DESCRIPTION");
    if (c->usage == NULL) {
        foreign_help(out);
    } else {
        paragraphs(out, c->about);
        options_of(c, out);
        exit_codes(out, c->wrong);
        section(out, "EXAMPLES");
        as_it_is(out, c->examples);
    }
    see_also(out, "anabranch (1)");
}

static void overview_page(FILE *out)
{
    title(out, "anabranch");
    section(out, "NAME");
    fputs("anabranch \\- looks into nodes of Anabranch, running or not\n", out);
    section(out, "SYNOPSIS");
    fputs("\\fBanabranch\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR...]\n", out);
    section(out, "DESCRIPTION");
    fputs("A running node is asked through admin.sock in its data directory; the log of one that does not "
          "run is\n"
          "read as it is, and not a byte of it changes.\n",
          out);
    section(out, "COMMANDS");
    for (size_t i = 0; commands[i] != NULL; i++) {
        fputs(".TP\n\\fB", out);
        plain(out, commands[i]->name, strlen(commands[i]->name), false);
        fputs("\\fR\n", out);
        plain(out, commands[i]->summary, strlen(commands[i]->summary), true);
        fprintf(out, ".\nSee\n.BR anabranch\\-%s (1).\n", commands[i]->name);
    }
    fputs(".TP\n\\fBhelp\\fR [\\fICOMMAND\\fR]\nOptions and examples of a command.\n"
          ".TP\n\\fB\\-\\-version\\fR\nVersion of the library.\n",
          out);
    exit_codes(out, NULL);
    see_also(out, "anabranch\\-status (1)");
}

void man_page(const command *c, FILE *out)
{
    if (c != NULL) {
        command_page(c, out);
    } else {
        overview_page(out);
    }
}
