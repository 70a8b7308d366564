/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch config`: whether configuration files can be used, and what is in effect. Main thread. */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/reference.h"
#include "tools/anabranch/table.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void print_good(const char *path, const ab_config *config)
{
    const ab_node_config *node = ab_config_node(config);
    char name[256];
    char cluster[256];
    text_quote(path, strlen(path), name, sizeof name);
    text_quote(node->cluster, strlen(node->cluster), cluster, sizeof cluster);
    printf("%s: good: node %" PRIu32 " of cluster %s, %zu peers, %zu groups\n", name, node->node_id, cluster,
           node->peer_count, ab_config_group_count(config));
}

static json_t *check(const char *path, bool json)
{
    ab_config *config;
    ab_message message = {{0}};
    int code = ab_config_load(path, &config, &message);
    if (code == AB_OK && !json) {
        print_good(path, config);
    }
    if (code == AB_OK) {
        ab_config_free(config);
    } else if (!json) {
        complain("%s", message.text[0] != '\0' ? message.text : ab_strerror(code));
    }
    return json_pack("{s:o, s:s, s:o}", "file", json_text(path, strlen(path)), "code", ab_error_name(code),
                     "message", json_text(message.text, strlen(message.text)));
}

static const char *const heads[] = {"KEY", "VALUE", "FROM"};

/* The values of a file under way. */
typedef struct showing {
    const char *path;
    table *table;   /* NULL: JSON */
    json_t *values; /* NULL: table */
} showing;

static bool add_value(void *arg, const ab_config_value *value)
{
    showing *s = arg;
    if (s->values != NULL) {
        json_t *row = json_pack("{s:s, s:o, s:o, s:s?}", "key", value->path, "value",
                                json_text(value->text, strlen(value->text)), "line",
                                value->line > 0 ? json_integer((json_int_t)value->line) : json_null(),
                                "follows", value->follows);
        return json_array_append_new(s->values, row) == 0;
    }
    table_text(s->table, value->path);
    table_text(s->table, value->text);
    if (value->line > 0) {
        table_format(s->table, "%s:%zu", s->path, value->line);
    } else {
        table_text(s->table, value->follows != NULL ? value->follows : "default");
    }
    return true;
}

/* Prints the effective values of a file. */
static json_t *show(const char *path, bool json)
{
    ab_config *config;
    ab_message message = {{0}};
    showing s = {.path = path};
    int code = ab_config_load(path, &config, &message);
    if (code == AB_OK) {
        s.values = json ? json_array() : NULL;
        s.table = json ? NULL : table_new(heads, sizeof heads / sizeof heads[0]);
        code = ab_config_each(config, add_value, &s);
        ab_config_free(config);
    }
    if (code != AB_OK && !json) {
        complain("%s", message.text[0] != '\0' ? message.text : ab_strerror(code));
    } else if (!json) {
        table_print(s.table, stdout);
    }
    table_free(s.table);
    return json_pack("{s:o, s:s, s:o, s:o*}", "file", json_text(path, strlen(path)), "code",
                     ab_error_name(code), "message", json_text(message.text, strlen(message.text)), "values",
                     s.values);
}

extern const command command_config; /* below */

/* Prints the document of `config WORD`; takes `list`. @return the exit code */
static int print_json(const char *word, int result, const char *key, json_t *list)
{
    char name[32];
    snprintf(name, sizeof name, "config %s", word);
    json_t *root =
        json_pack("{s:i, s:s, s:b, s:o}", "format", 1, "command", name, "ok", result == EXIT_FINE, key, list);
    if (root == NULL) {
        complain("out of memory");
        return EXIT_WRONG;
    }
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(root);
    return result;
}

static int reference(int argc, char **argv)
{
    options o;
    command c = command_config;
    c.options = OPTION_WORDS | OPTION_JSON;
    int result = options_read(&o, &c, argc, argv);
    if (result == EXIT_FINE && o.file_count > 0) {
        complain("config reference: %s: takes no file (anabranch help config)", o.files[0]);
        result = EXIT_USAGE;
    } else if (result == EXIT_FINE && o.json) {
        result = print_json("reference", EXIT_FINE, "keys", reference_json());
    } else if (result == EXIT_FINE) {
        reference_print(stdout);
    }
    options_free(&o);
    return result < 0 ? EXIT_FINE : result;
}

static int run(int argc, char **argv)
{
    options o;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        help_command(&command_config, stdout);
        return EXIT_FINE;
    }
    if (argc > 1 && strcmp(argv[1], "reference") == 0) {
        return reference(argc - 1, argv + 1);
    }
    bool shows = argc > 1 && strcmp(argv[1], "show") == 0;
    if (argc < 2 || (strcmp(argv[1], "check") != 0 && !shows)) {
        complain("config: %s: it is check, show or reference (anabranch help config)",
                 argc < 2 ? "no word" : argv[1]);
        return EXIT_USAGE;
    }
    int result = options_read(&o, &command_config, argc - 1, argv + 1);
    if (result != EXIT_FINE) {
        return result < 0 ? EXIT_FINE : result;
    }
    json_t *files = json_array();
    for (size_t i = 0; i < o.file_count; i++) {
        json_t *file = shows ? show(o.files[i], o.json) : check(o.files[i], o.json);
        result = row_good(file, "code") ? result : EXIT_WRONG;
        json_array_append_new(files, file);
    }
    if (o.json) {
        result = print_json(shows ? "show" : "check", result, "files", files);
    } else {
        json_decref(files);
    }
    options_free(&o);
    return result;
}

const command command_config = {
    .name = "config",
    .summary = "check configuration files, show what is in effect and where it comes from, list all keys",
    .run = run,
    .words = "check show reference",
    .options = OPTION_FILES | OPTION_JSON,
    .usage = "check|show FILE... | reference [OPTION...]",
    .about =
        "check reads files as the library does. An error says FILE:LINE: KEY: what is wrong (what is "
        "allowed).\n"
        "show prints every key with the value in effect and where that comes from: the line of the file, "
        "the\n"
        "default, or another key. The mapping `application:` is left to the program that uses the library.\n"
        "reference prints every key that a file may have, those of anabranchd too, with type, default, what "
        "is\n"
        "allowed, what a change needs (a restart, or SIGHUP of anabranchd) and meaning, as Markdown.\n",
    .wrong = "a file cannot be used",
    .examples = "anabranch config check /etc/anabranch/node.yaml\n"
                "anabranch config show node.yaml | grep -v default\n"
                "anabranch config show node.yaml --json | jq '.files[].values[] | select(.line)'\n"
                "anabranch config reference | grep _ms\n",
};
