/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch`, the inspector: finds the command. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/generate.h"

#include <anabranch/node.h>
#include <stdio.h>
#include <string.h>

static int unknown(const char *name)
{
    complain("%s: no such command (anabranch --help)", name);
    return EXIT_USAGE;
}

static int help(const char *name)
{
    if (name == NULL) {
        help_overview(stdout);
        return EXIT_FINE;
    }
    const command *c = command_find(name);
    if (c == NULL) {
        return unknown(name);
    }
    if (c->usage == NULL) {
        char self[32];
        char option[] = "--help";
        char *argv[] = {self, option, NULL};
        snprintf(self, sizeof self, "%s", name);
        return c->run(2, argv);
    }
    help_command(c, stdout);
    return EXIT_FINE;
}

/* For the build: `help --man [COMMAND]`, `help --completion`. */
static int generate(int argc, char **argv)
{
    if (strcmp(argv[2], "--completion") == 0) {
        completion_bash(stdout);
        return EXIT_FINE;
    }
    const command *c = argc > 3 ? command_find(argv[3]) : NULL;
    if (argc > 3 && c == NULL) {
        return unknown(argv[3]);
    }
    man_page(c, stdout);
    return EXIT_FINE;
}

static int run(int argc, char **argv)
{
    const char *name = argv[1];
    if (strcmp(name, "help") == 0 && argc > 2 &&
        (strcmp(argv[2], "--man") == 0 || strcmp(argv[2], "--completion") == 0)) {
        return generate(argc, argv);
    }
    if (strcmp(name, "help") == 0) {
        return help(argc > 2 ? argv[2] : NULL);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        return help(NULL);
    }
    if (strcmp(name, "--version") == 0) {
        printf("anabranch %s\n", ab_version());
        return EXIT_FINE;
    }
    const command *c = command_find(name);
    return c != NULL ? c->run(argc - 1, argv + 1) : unknown(name);
}

/* A full disk or a closed pipe behind stdout must not pass as success. */
static int flushed(int result)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        complain("the output cannot be written");
        return result == EXIT_FINE ? EXIT_WRONG : result;
    }
    return result;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help_overview(stderr);
        return EXIT_USAGE;
    }
    return flushed(run(argc, argv));
}
