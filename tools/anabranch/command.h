/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the inspector. Each is described once, in its own file, as constant data; overview, help, options
 * and whatever else is made of them (manual pages, completion) come from here. Any thread. */
#ifndef ANABRANCH_TOOLS_COMMAND_H
#define ANABRANCH_TOOLS_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Options a command may take. */
enum {
    OPTION_NODES = 1u << 0, /* --data, --config: at least one */
    OPTION_JSON = 1u << 1,
    OPTION_GROUP = 1u << 2,
    OPTION_ALL = 1u << 3,
    OPTION_STREAMS = 1u << 4,
    OPTION_RANGE = 1u << 5, /* --stream, --from, --to */
    OPTION_TIMEOUT = 1u << 6,
    OPTION_FILES = 1u << 7,       /* arguments that are no options: at least one */
    OPTION_WORDS = 1u << 8,       /* the same, or none */
    OPTION_WATCH = 1u << 9,       /* --watch, --count */
    OPTION_PAYLOAD = 1u << 10,    /* --payload, --bytes */
    OPTION_LOG = 1u << 11,        /* --last, --limit, --follow */
    OPTION_QUARANTINE = 1u << 12, /* --index, --all */
    OPTION_EVERY = 1u << 13,      /* --every */
    OPTION_FOR = 1u << 14,        /* --for */
    OPTION_OUTPUT = 1u << 15,     /* --output, -o */
    OPTION_DIRS = 1u << 16 /* with OPTION_NODES: an argument that is no option is a data directory, too */
};

typedef struct command {
    const char *name;
    const char *summary;               /* one line, begins small, no full stop */
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit code */
    const char *words;                 /* what may follow the name: "check show"; NULL: nothing */
    unsigned options;                  /* OPTION_... */
    const char *usage;                 /* what follows the name; NULL: --help is the command's own affair */
    const char *about;                 /* paragraphs, lines of at most 100 columns */
    const char *wrong;                 /* when the exit code is 1 */
    const char *examples;              /* one per line, beginning with "anabranch" */
} command;

/* commands.c: all of them, in the order of the overview; NULL at the end. */
extern const command *const commands[];

/* NULL: there is none of that name. */
const command *command_find(const char *name);

/* The overview. */
void help_overview(FILE *out);
/* Usage, options, exit code and examples of a command. */
void help_command(const command *c, FILE *out);

/* Option `index` of those that commands take, for the places that list them; false: there are no more. */
typedef struct option_text {
    const char *name;  /* without the dashes */
    const char *value; /* "DIR"; NULL: takes none */
    unsigned group;    /* OPTION_...; 0: every command takes it */
    const char *text;
} option_text;
bool option_describe(size_t index, option_text *text);

#endif
