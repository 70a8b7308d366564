/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch help`: what the descriptions of the commands say, laid out. Any thread. */
#include "tools/anabranch/command.h"

#include <string.h>

void help_overview(FILE *out)
{
    fputs("anabranch: looks into nodes of Anabranch, running or not.\n"
          "\n"
          "Usage: anabranch COMMAND [OPTION...]\n"
          "\n",
          out);
    for (size_t i = 0; commands[i] != NULL; i++) {
        fprintf(out, "  %-16s %s\n", commands[i]->name, commands[i]->summary);
    }
    fputs(
        "  help COMMAND     options and examples of a command; also COMMAND --help\n"
        "  --version        version of the library\n"
        "\n"
        "A running node is asked through admin.sock in its data directory; the log of one that does not run "
        "is read\n"
        "as it is, and not a byte of it changes. Exit codes: 0 all is well, 1 something is wrong with the "
        "data or the\n"
        "cluster, 2 wrong usage.\n",
        out);
}

static void print_options(const command *c, FILE *out)
{
    option_text option;
    for (size_t i = 0; option_describe(i, &option); i++) {
        if ((option.group & c->options) != 0) {
            char name[32];
            snprintf(name, sizeof name, "--%s%s%s", option.name, option.value != NULL ? " " : "",
                     option.value != NULL ? option.value : "");
            fprintf(out, "  %-16s %s\n", name, option.text);
        }
    }
}

/* Examples, each on a line of its own, indented. */
static void print_examples(const char *text, FILE *out)
{
    fputs("\nExamples:\n", out);
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        fprintf(out, "  %.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

void help_command(const command *c, FILE *out)
{
    fprintf(out, "anabranch %s: %s.\n\nUsage: anabranch %s %s\n\n", c->name, c->summary, c->name, c->usage);
    print_options(c, out);
    fprintf(out, "\n%s\nExit code 1 if %s.\n", c->about, c->wrong);
    print_examples(c->examples, out);
}
