/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch`, the inspector: finds the command. Main thread. */
#include "tools/anabranch/bench.h"
#include "tools/anabranch/cli.h"

#include <anabranch/node.h>
#include <stdio.h>
#include <string.h>

static int cmd_help(int argc, char **argv);

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"status", cmd_status}, {"peers", cmd_peers},   {"log", cmd_log},     {"verify", cmd_verify},
    {"digest", cmd_digest}, {"config", cmd_config}, {"bench", cmd_bench}, {"help", cmd_help},
};

static int unknown(const char *name)
{
    complain("%s: no such command (anabranch --help)", name);
    return EXIT_USAGE;
}

static int cmd_help(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        char help[] = "--help";
        char *bench[] = {argv[1], help, NULL};
        return cmd_bench(2, bench);
    }
    return help_print(argc > 1 ? argv[1] : NULL, stdout) ? EXIT_FINE : unknown(argv[1]);
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
        help_print(NULL, stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help_print(NULL, stdout);
        return flushed(EXIT_FINE);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("anabranch %s\n", ab_version());
        return flushed(EXIT_FINE);
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return flushed(commands[i].run(argc - 1, argv + 1));
        }
    }
    return unknown(argv[1]);
}
