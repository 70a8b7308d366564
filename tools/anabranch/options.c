/* SPDX-License-Identifier: Apache-2.0 */
/* Options of the inspector's commands. Main thread. */
#include "tools/anabranch/group_name.h"
#include "tools/anabranch/text.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* In the order in which help shows them. */
static const option_text entries[] = {
    {"data", "DIR", OPTION_NODES, "data directory or admin socket of a node; may be given several times"},
    {"config", "FILE", OPTION_NODES,
     "a node's configuration: it, and those of its peers that have `admin`; may be given several times"},
    {"group", "GROUP", OPTION_GROUP,
     "only this group, by name or id; a node that does not have it is a problem"},
    {"all", NULL, OPTION_ALL, "every stream, not only those that are behind"},
    {"streams", NULL, OPTION_STREAMS, "also every stream of every group"},
    {"stream", "N.E", OPTION_RANGE, "only this stream: node and epoch of its origin"},
    {"from", "INDEX", OPTION_RANGE, "from this index of each stream"},
    {"to", "INDEX", OPTION_RANGE, "up to this index of each stream"},
    {"last", "N", OPTION_LOG, "only so many of each stream, the latest ones"},
    {"limit", "N", OPTION_LOG, "at most so many entries of each node"},
    {"follow", NULL, OPTION_LOG, "go on with what is logged later, until interrupted; one running node"},
    {"index", "I", OPTION_QUARANTINE, "only the entry of this index; needs --stream where there are several"},
    {"all", NULL, OPTION_QUARANTINE, "for retry and drop: all entries that the other options leave"},
    {"payload", "KIND", OPTION_PAYLOAD, "auto (as it is), raw, text, msgpack, line (as anabranchd writes)"},
    {"bytes", "N", OPTION_PAYLOAD, "show so many bytes of each payload (40; at most 524288)"},
    {"timeout", "S", OPTION_TIMEOUT, "wait so long for replicas that are still behind (10)"},
    {"watch", "[S]", OPTION_WATCH, "again every S seconds (2)"},
    {"count", "N", OPTION_WATCH, "with --watch: so many times"},
    {"for", "S", OPTION_FOR, "watch the nodes for so many seconds (10; 0: one look)"},
    {"every", "MS", OPTION_EVERY, "look at the nodes every so many milliseconds"},
    {"output", "FILE", OPTION_OUTPUT, "write to this file (also -o)"},
    {"json", NULL, OPTION_JSON, "print JSON instead"},
    {"help", NULL, 0, "this text"},
};
#define BYTES_MAX 524288u
#define ENTRY_COUNT (sizeof entries / sizeof entries[0])

bool option_describe(size_t index, option_text *text)
{
    if (index >= ENTRY_COUNT) {
        return false;
    }
    *text = entries[index];
    return true;
}

void complain(const char *format, ...)
{
    char text[1024];
    char quoted[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text_quote(text, strlen(text), quoted, sizeof quoted);
    fflush(stdout); /* in the order in which things were found */
    fprintf(stderr, "anabranch: %s\n", quoted);
}

static int usage(const options *o, const char *what, const char *why)
{
    complain("%s: %s: %s (anabranch help %s)", o->command, what, why, o->command);
    return EXIT_USAGE;
}

static bool read_number(const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* NODE.EPOCH */
static bool read_stream(const char *text, ab_stream *stream)
{
    char node[16];
    uint64_t numbers[2];
    const char *dot = strchr(text, '.');
    if (dot == NULL || (size_t)(dot - text) >= sizeof node) {
        return false;
    }
    memcpy(node, text, (size_t)(dot - text));
    node[dot - text] = '\0';
    if (!read_number(node, &numbers[0]) || !read_number(dot + 1, &numbers[1]) || numbers[0] > UINT32_MAX ||
        numbers[1] > UINT32_MAX) {
        return false;
    }
    *stream = (ab_stream){.node = (uint32_t)numbers[0], .epoch = (uint32_t)numbers[1]};
    return true;
}

/* Seconds, with at most three places behind the point. */
static bool read_seconds(const char *text, uint64_t *ms)
{
    char *end;
    double seconds = strtod(text, &end);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || !(seconds <= 86400)) {
        return false;
    }
    *ms = (uint64_t)(seconds * 1000 + 0.5);
    return true;
}

/* The admin socket, or where there is none what the path names. */
static bool identify(const char *data, struct stat *about)
{
    char inside[4096];
    int size = snprintf(inside, sizeof inside, "%s/admin.sock", data);
    return ((size_t)size < sizeof inside && stat(inside, about) == 0) || stat(data, about) == 0;
}

/* Named before, if in another way: a node that is asked twice would be compared with itself. */
static bool asked(const options *o, const char *data)
{
    struct stat a;
    struct stat b;
    bool there = identify(data, &a);
    for (size_t i = 0; i < o->data_count; i++) {
        if (strcmp(o->data[i], data) == 0 ||
            (there && identify(o->data[i], &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)) {
            return true;
        }
    }
    return false;
}

static int add_data(options *o, const char *dir)
{
    if (asked(o, dir)) {
        return EXIT_FINE;
    }
    if (o->data_count == CLI_NODES_MAX) {
        return usage(o, dir, "too many nodes (at most 64)");
    }
    o->data[o->data_count++] = dir;
    return EXIT_FINE;
}

/* The peers whose data directory or socket the configuration names. */
static int add_peers(options *o, const ab_node_config *node)
{
    int result = EXIT_FINE;
    for (size_t i = 0; i < node->peer_count && result == EXIT_FINE; i++) {
        const char *admin = node->peers[i].admin;
        result = admin == NULL || admin[0] == '\0' ? EXIT_FINE : add_data(o, admin);
    }
    return result;
}

static int add_config(options *o, const char *path)
{
    ab_message message;
    if (o->config_count == CLI_NODES_MAX) {
        return usage(o, path, "too many nodes (at most 64)");
    }
    ab_config **config = &o->configs[o->config_count];
    if (ab_config_load(path, config, &message) != AB_OK) {
        complain("%s", message.text);
        return EXIT_WRONG;
    }
    o->config_count++;
    const ab_node_config *node = ab_config_node(*config);
    int result = add_data(o, node->data_dir);
    return result == EXIT_FINE ? add_peers(o, node) : result;
}

static int take_number(options *o, const char *name, const char *value, uint64_t *number)
{
    char option[24];
    snprintf(option, sizeof option, "--%s", name);
    /* 0 stands for "not given" elsewhere: it would mean all. */
    uint64_t least = number == &o->from || number == &o->bytes ? 0 : 1;
    bool good = read_number(value, number) && *number >= least;
    if (number == &o->bytes) {
        return good && *number <= BYTES_MAX ? EXIT_FINE
                                            : usage(o, option, "needs a whole number, 0 to 524288");
    }
    return good         ? EXIT_FINE
           : least == 0 ? usage(o, option, "needs a whole number of at least 0")
                        : usage(o, option, "needs a whole number of at least 1");
}

static int take(options *o, const char *name, const char *value)
{
    uint64_t *number = strcmp(name, "from") == 0    ? &o->from
                       : strcmp(name, "to") == 0    ? &o->to
                       : strcmp(name, "limit") == 0 ? &o->limit
                       : strcmp(name, "last") == 0  ? &o->newest
                       : strcmp(name, "index") == 0 ? &o->index
                       : strcmp(name, "bytes") == 0 ? &o->bytes
                       : strcmp(name, "count") == 0 ? &o->count
                       : strcmp(name, "every") == 0 ? &o->every_ms
                                                    : NULL;
    o->bytes_given = o->bytes_given || strcmp(name, "bytes") == 0;
    if (number != NULL) {
        return take_number(o, name, value, number);
    }
    if (strcmp(name, "group") == 0) {
        o->group_name = read_number(value, &o->group) ? NULL : value;
        /* 0 would mean all. */
        return value[0] != '\0' && (o->group != 0 || o->group_name != NULL)
                   ? EXIT_FINE
                   : usage(o, "--group", "needs a name, or an id of at least 1");
    }
    if (strcmp(name, "data") == 0) {
        return add_data(o, value);
    }
    if (strcmp(name, "config") == 0) {
        return add_config(o, value);
    }
    if (strcmp(name, "output") == 0) {
        o->output = value;
        return EXIT_FINE;
    }
    if (strcmp(name, "for") == 0) {
        return read_seconds(value, &o->for_ms) ? EXIT_FINE : usage(o, "--for", "needs seconds, 0 to 86400");
    }
    if (strcmp(name, "stream") == 0) {
        o->one_stream = read_stream(value, &o->stream);
        return o->one_stream ? EXIT_FINE
                             : usage(o, "--stream", "needs NODE.EPOCH, as `anabranch log` shows it");
    }
    if (strcmp(name, "watch") == 0) {
        o->watch_ms = 2000;
        return value == NULL || (read_seconds(value, &o->watch_ms) && o->watch_ms >= 10)
                   ? EXIT_FINE
                   : usage(o, "--watch", "needs seconds, 0.01 to 86400");
    }
    if (strcmp(name, "timeout") == 0) {
        return read_seconds(value, &o->timeout_ms) ? EXIT_FINE
                                                   : usage(o, "--timeout", "needs seconds, 0 to 86400");
    }
    if (strcmp(name, "payload") == 0) {
        return payload_kind_read(value, &o->payload)
                   ? EXIT_FINE
                   : usage(o, "--payload", "is auto, raw, text, msgpack, or line");
    }
    o->follow = o->follow || strcmp(name, "follow") == 0;
    o->json = o->json || strcmp(name, "json") == 0;
    o->all = o->all || strcmp(name, "all") == 0;
    o->streams = o->streams || strcmp(name, "streams") == 0;
    return EXIT_FINE;
}

static int take_files(options *o, unsigned allowed, int argc, char **argv)
{
    for (int i = optind; i < argc; i++) {
        if ((allowed & OPTION_DIRS) != 0) {
            int code = add_data(o, argv[i]);
            if (code != EXIT_FINE) {
                return code;
            }
            continue;
        }
        if ((allowed & (OPTION_FILES | OPTION_WORDS)) == 0) {
            return usage(o, argv[i], "not expected here; name a data directory with --data");
        }
        if (o->file_count == CLI_NODES_MAX) {
            return usage(o, argv[i], "too many files (at most 64)");
        }
        o->files[o->file_count++] = argv[i];
    }
    if (o->count > 0 && o->watch_ms == 0) {
        return usage(o, "--count", "needs --watch");
    }
    if ((allowed & OPTION_FILES) != 0 && o->file_count == 0) {
        return usage(o, "no file", "name at least one");
    }
    if ((allowed & OPTION_NODES) != 0 && o->data_count == 0) {
        return usage(o, "no node",
                     "name data directories with --data DIR, or configurations with --config FILE");
    }
    return EXIT_FINE;
}

/* [VALUE] may be left out; then it is given as --option=VALUE or as a number that follows. */
static int argument_of(const option_text *entry)
{
    return entry->value == NULL     ? no_argument
           : entry->value[0] == '[' ? optional_argument
                                    : required_argument;
}

/* The value of an option that may do without: the next argument, if that is a number. */
static const char *optional_value(int argc, char **argv)
{
    return optarg == NULL && optind < argc && argv[optind][0] >= '0' && argv[optind][0] <= '9'
               ? argv[optind++]
               : optarg;
}

int options_read(options *o, const command *c, int argc, char **argv)
{
    struct option long_options[ENTRY_COUNT + 1];
    const option_text *shown[ENTRY_COUNT];
    int count = 0;
    *o = (options){.command = c->name, .timeout_ms = 10000, .for_ms = 10000};
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        if (entries[i].group == 0 || (entries[i].group & c->options) != 0) {
            shown[count] = &entries[i];
            long_options[count++] =
                (struct option){.name = entries[i].name, .has_arg = argument_of(&entries[i])};
        }
    }
    long_options[count] = (struct option){0};
    optind = 0; /* begin anew */
    opterr = 0;
    int result = EXIT_FINE;
    while (result == EXIT_FINE) {
        int index = 0;
        int found =
            getopt_long(argc, argv, (c->options & OPTION_OUTPUT) != 0 ? ":ho:" : ":h", long_options, &index);
        if (found == -1) {
            result = take_files(o, c->options, argc, argv);
            return result == EXIT_FINE && o->group_name != NULL ? group_by_name(o, o->group_name) : result;
        }
        if (found == 'h' || (found == 0 && strcmp(shown[index]->name, "help") == 0)) {
            help_command(c, stdout);
            return -1;
        }
        if (found == 'o') {
            result = take(o, "output", optarg);
            continue;
        }
        if (found == ':') {
            return usage(o, argv[optind - 1], "needs a value");
        }
        if (found == '?') {
            return usage(o, argv[optind - 1], "not an option of this command");
        }
        const char *value =
            argument_of(shown[index]) == optional_argument ? optional_value(argc, argv) : optarg;
        result = take(o, shown[index]->name, value);
    }
    return result;
}

void options_free(options *o)
{
    for (size_t i = 0; i < o->config_count; i++) {
        ab_config_free(o->configs[i]);
    }
    o->config_count = 0;
}
