/* SPDX-License-Identifier: Apache-2.0 */
/* Every key that a configuration file may have, for whoever makes a reference of them. Pure functions; any thread. */
#include "engine/base/config_fields.h"

#include <stdio.h>

static const char *type_of(const ab_config_field *field)
{
    switch (field->kind) {
    case AB_FIELD_U16:
    case AB_FIELD_U32:
    case AB_FIELD_U64:
        return "integer";
    case AB_FIELD_SIZE32:
    case AB_FIELD_SIZE64:
        return "size";
    case AB_FIELD_BOOL:
        return "boolean";
    case AB_FIELD_TEXT:
        return "text";
    default:
        return "name";
    }
}

/* `base`: a struct with all defaults. */
static bool tell_table(const ab_config_table *table, const char *prefix, const void *base,
                       ab_config_key_fn fn, void *arg)
{
    for (size_t i = 0; i < table->count; i++) {
        const ab_config_field *field = &table->fields[i];
        char path[96];
        char scratch[32];
        char allowed[96];
        snprintf(path, sizeof path, "%s%s", prefix, field->key);
        ab_field_allowed(field, allowed, sizeof allowed);
        const char *text = ab_field_text(field, base, scratch, sizeof scratch);
        bool given =
            field->kind == AB_FIELD_TEXT ? text[0] != '\0' : ab_field_number(field, base) >= field->min;
        ab_config_key key = {.path = path,
                             .type = type_of(field),
                             .unit = field->unit,
                             .fallback = given ? text : NULL,
                             .required = !given && field->min > 0,
                             .allowed = allowed,
                             .meaning = field->meaning};
        if (!fn(arg, &key)) {
            return false;
        }
    }
    return true;
}

static bool tell_list(const char *path, unsigned most, const char *meaning, ab_config_key_fn fn, void *arg)
{
    char allowed[48];
    snprintf(allowed, sizeof allowed, "at most %u entries", most);
    ab_config_key key = {.path = path, .type = "list", .unit = "", .allowed = allowed, .meaning = meaning};
    return fn(arg, &key);
}

int ab_config_keys(ab_config_key_fn fn, void *arg)
{
    static const ab_peer_config peer; /* has no defaults */
    ab_node_config node;
    ab_group_config group;
    if (fn == NULL) {
        return AB_EINVAL;
    }
    ab_node_config_init(&node);
    ab_group_config_init(&group);
    bool more = tell_table(&ab_node_table, "node.", &node, fn, arg);
    more = more && tell_list("node.peers", AB_CONFIG_PEERS_MAX, "The other nodes of the cluster.", fn, arg);
    more = more && tell_table(&ab_peer_table, "node.peers[].", &peer, fn, arg);
    more = more && tell_list("groups", AB_CONFIG_GROUPS_MAX,
                             "Groups in which the node has a part. Whether the program opens them, and with "
                             "which state machine, is its own affair.",
                             fn, arg);
    more = more && tell_table(&ab_group_table, "groups[].", &group, fn, arg);
    if (more) {
        tell_list("groups[].members", AB_MEMBERS_MAX,
                  "Node ids of the members, with this node's; each other one must be in `node.peers`. May be "
                  "empty for `standalone` only.",
                  fn, arg);
    }
    return AB_OK;
}
