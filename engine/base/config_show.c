/* SPDX-License-Identifier: Apache-2.0 */
/* The values of a loaded configuration as text, and where each comes from. Pure functions; any thread. */
#include "engine/base/config_internal.h"
#include "engine/base/yaml_scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMBERS_TEXT (AB_MEMBERS_MAX * 12u)

/* Lines of the keys, found in one walk over the text. */
typedef struct lines {
    const ab_config *config;
    size_t node[AB_NODE_FIELDS_MAX];
    size_t (*peers)[AB_PEER_FIELDS_MAX];
    size_t (*groups)[AB_GROUP_FIELDS_MAX];
    size_t *members; /* of each group */
} lines;

static void set_line(const ab_config_table *table, const char *key, size_t line, size_t *into)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->fields[i].key, key) == 0) {
            into[i] = line;
        }
    }
}

/* "PREFIX[N].KEY": N and KEY. @return false: it is something else */
static bool read_item(const char *path, const char *prefix, size_t count, size_t *position, const char **key)
{
    size_t length = strlen(prefix);
    char *end;
    if (strncmp(path, prefix, length) != 0 || path[length] != '[') {
        return false;
    }
    *position = strtoul(path + length + 1, &end, 10);
    if (strncmp(end, "].", 2) != 0 || *position >= count) {
        return false;
    }
    *key = end + 2;
    return true;
}

static void note_place(void *arg, const char *path, size_t line)
{
    lines *l = arg;
    size_t position;
    const char *key;
    if (read_item(path, "groups", l->config->group_count, &position, &key)) {
        set_line(&ab_group_table, key, line, l->groups[position]);
        if (strcmp(key, "members") == 0) {
            l->members[position] = line;
        }
    } else if (read_item(path, "node.peers", l->config->node.peer_count, &position, &key)) {
        set_line(&ab_peer_table, key, line, l->peers[position]);
    } else if (strncmp(path, "node.", 5) == 0) {
        set_line(&ab_node_table, path + 5, line, l->node);
    }
}

/* The node's key that a group's level follows where it is "default"; NULL: none. */
static const char *followed(const ab_config_field *field, const void *base)
{
    bool level = field->kind == AB_FIELD_WRITE_LEVEL || field->kind == AB_FIELD_READ_LEVEL;
    if (!level || ab_field_number(field, base) != 0) {
        return NULL;
    }
    return field->kind == AB_FIELD_WRITE_LEVEL ? "node.write_level" : "node.read_level";
}

static bool show_table(const ab_config *config, const ab_config_table *table, const char *prefix,
                       const void *base, const size_t *found, ab_config_value_fn fn, void *arg)
{
    for (size_t i = 0; i < table->count; i++) {
        const ab_config_field *field = &table->fields[i];
        char path[96];
        char scratch[32];
        snprintf(path, sizeof path, "%s%s", prefix, field->key);
        ab_config_value value = {
            .path = path, .text = ab_field_text(field, base, scratch, sizeof scratch), .line = found[i]};
        value.follows = table == &ab_group_table ? followed(field, base) : NULL;
        if (value.follows != NULL) {
            value.text = field->kind == AB_FIELD_WRITE_LEVEL ? ab_write_level_name(config->node.write_level)
                                                             : ab_read_level_name(config->node.read_level);
        }
        if (!fn(arg, &value)) {
            return false;
        }
    }
    return true;
}

static bool show_members(const ab_group_config *group, const char *prefix, size_t line, ab_config_value_fn fn,
                         void *arg)
{
    char path[96];
    char text[MEMBERS_TEXT] = "";
    size_t used = 0;
    snprintf(path, sizeof path, "%smembers", prefix);
    for (size_t i = 0; i < group->member_count && used < sizeof text; i++) {
        int n = snprintf(text + used, sizeof text - used, "%s%" PRIu32, i > 0 ? ", " : "", group->members[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    ab_config_value value = {.path = path, .text = text, .line = line};
    return fn(arg, &value);
}

static void show_all(const ab_config *config, const lines *l, ab_config_value_fn fn, void *arg)
{
    char prefix[48];
    bool more = show_table(config, &ab_node_table, "node.", &config->node, l->node, fn, arg);
    for (size_t i = 0; i < config->node.peer_count && more; i++) {
        snprintf(prefix, sizeof prefix, "node.peers[%zu].", i);
        more = show_table(config, &ab_peer_table, prefix, &config->peers[i], l->peers[i], fn, arg);
    }
    for (size_t i = 0; i < config->group_count && more; i++) {
        snprintf(prefix, sizeof prefix, "groups[%zu].", i);
        more = show_table(config, &ab_group_table, prefix, &config->groups[i], l->groups[i], fn, arg) &&
               show_members(&config->groups[i], prefix, l->members[i], fn, arg);
    }
}

int ab_config_each(const ab_config *config, ab_config_value_fn fn, void *arg)
{
    if (config == NULL || fn == NULL) {
        return AB_EINVAL;
    }
    lines l = {.config = config};
    l.peers = calloc(config->node.peer_count + 1, sizeof *l.peers);
    l.groups = calloc(config->group_count + 1, sizeof *l.groups);
    l.members = calloc(config->group_count + 1, sizeof *l.members);
    int code = l.peers != NULL && l.groups != NULL && l.members != NULL
                   ? ab_yaml_places(config->text, config->size, note_place, &l)
                   : AB_ENOMEM;
    if (code == AB_OK) {
        show_all(config, &l, fn, arg);
    }
    free(l.peers);
    free(l.groups);
    free(l.members);
    return code;
}
