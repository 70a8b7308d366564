/* SPDX-License-Identifier: Apache-2.0 */
/* `anabranch config check`: whether configuration files can be used. Main thread. */
#include "tools/anabranch/cli.h"
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

extern const command command_config; /* below */

static int run(int argc, char **argv)
{
    options o;
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        help_command(&command_config, stdout);
        return EXIT_FINE;
    }
    if (argc < 2 || strcmp(argv[1], "check") != 0) {
        complain("config: %s: there is only `config check` (anabranch help config)",
                 argc < 2 ? "no word" : argv[1]);
        return EXIT_USAGE;
    }
    int result = options_read(&o, &command_config, argc - 1, argv + 1);
    if (result != EXIT_FINE) {
        return result < 0 ? EXIT_FINE : result;
    }
    json_t *files = json_array();
    for (size_t i = 0; i < o.file_count; i++) {
        json_t *file = check(o.files[i], o.json);
        result = row_good(file, "code") ? result : EXIT_WRONG;
        json_array_append_new(files, file);
    }
    json_t *root = json_pack("{s:i, s:s, s:b, s:o}", "format", 1, "command", "config check", "ok",
                             result == EXIT_FINE, "files", files);
    if (root == NULL) {
        complain("out of memory");
        return EXIT_WRONG;
    }
    if (o.json) {
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
        putchar('\n');
    }
    json_decref(root);
    options_free(&o);
    return result;
}

const command command_config = {
    .name = "config",
    .summary = "check configuration files, as the library reads them",
    .run = run,
    .words = "check",
    .options = OPTION_FILES | OPTION_JSON,
    .usage = "check FILE... [OPTION...]",
    .about = "An error says FILE:LINE: KEY: what is wrong (what is allowed). The mapping `application:` is "
             "left to\n"
             "the program that uses the library.\n",
    .wrong = "a file cannot be used",
    .examples = "anabranch config check /etc/anabranch/node.yaml\n",
};
