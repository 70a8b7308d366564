/* SPDX-License-Identifier: Apache-2.0 */
/* Names of groups to ids, see group_name.h. Main thread. */
#include "tools/anabranch/group_name.h"

#include <inttypes.h>
#include <string.h>

typedef struct search {
    const char *name;
    uint64_t id;        /* 0: not found yet */
    uint64_t other;     /* a second one of that name; 0: none */
    ab_message unknown; /* of the first node that could not be asked; "": all could */
} search;

static void found(search *s, uint64_t id)
{
    if (s->id == 0) {
        s->id = id;
    } else if (s->id != id) {
        s->other = id;
    }
}

static bool look_at_row(void *arg, json_t *row)
{
    search *s = arg;
    if (row_is(row, "group") && strcmp(row_text(row, "name"), s->name) == 0) {
        found(s, row_uint(row, "group"));
    }
    return true;
}

static void ask_node(search *s, const char *data_dir)
{
    query q = {.command = "status"};
    source from;
    source_open(&from, data_dir);
    int code = source_ask(&from, &q, look_at_row, s);
    if (code != AB_OK && s->unknown.text[0] == '\0') {
        s->unknown = from.message;
    }
    source_close(&from);
}

int group_by_name(options *o, const char *name)
{
    search s = {.name = name};
    for (size_t i = 0; i < o->config_count; i++) {
        for (size_t k = 0; k < ab_config_group_count(o->configs[i]); k++) {
            const ab_group_config *group = ab_config_group(o->configs[i], k);
            if (strcmp(group->name, name) == 0) {
                found(&s, group->id);
            }
        }
    }
    for (size_t i = 0; s.id == 0 && i < o->data_count; i++) {
        ask_node(&s, o->data[i]);
    }
    if (s.id == 0 && s.unknown.text[0] != '\0') {
        complain("%s: --group %s: the name cannot be looked up (an id would do): %s", o->command, name,
                 s.unknown.text);
        return EXIT_WRONG;
    }
    if (s.id == 0) {
        complain("%s: --group %s: no such group on these nodes (anabranch groups lists them)", o->command,
                 name);
        return EXIT_WRONG;
    }
    if (s.other != 0) {
        complain("%s: --group %s: groups %" PRIu64 " and %" PRIu64 " are called so: give the id", o->command,
                 name, s.id, s.other);
        return EXIT_WRONG;
    }
    o->group = s.id;
    return EXIT_FINE;
}
