/* SPDX-License-Identifier: Apache-2.0 */
/* The reference of configuration keys, from the tables of the library and of anabranchd; see reference.h. */
#include "tools/anabranch/reference.h"
#include "tools/anabranchd/settings_keys.h"

#include <string.h>

/* A key of the library or the daemon. */
typedef struct key {
    ab_config_key of;
    ab_change change; /* what anabranchd needs to take it over */
} key;

typedef void (*key_fn)(void *arg, const key *k);

typedef struct caller {
    key_fn fn;
    void *arg;
} caller;

static bool library_key(void *arg, const ab_config_key *of)
{
    const caller *to = arg;
    key k = {*of, ab_key_change(of->path)};
    to->fn(to->arg, &k);
    return true;
}

static void daemon_key(const ab_setting *setting, const caller *to)
{
    static const char *const types[] = {[AB_SETTING_NUMBER] = "integer",
                                        [AB_SETTING_SIZE] = "size",
                                        [AB_SETTING_TEXT] = "text",
                                        [AB_SETTING_LEVEL] = "name",
                                        [AB_SETTING_FORMAT] = "name"};
    char path[64];
    char number[32];
    char allowed[96];
    snprintf(path, sizeof path, "application.%s", setting->key);
    ab_setting_number(setting, setting->fallback, number, sizeof number);
    ab_setting_allowed(setting, allowed, sizeof allowed);
    key k = {.of = {.path = path,
                    .type = types[setting->kind],
                    .unit = setting->unit,
                    .fallback = ab_setting_is_number(setting) ? number : setting->text,
                    .allowed = allowed,
                    .meaning = setting->meaning},
             .change = setting->change};
    to->fn(to->arg, &k);
}

static void each_key(key_fn fn, void *arg)
{
    caller to = {fn, arg};
    ab_config_keys(library_key, &to);
    for (size_t i = 0; i < AB_SETTINGS_COUNT; i++) {
        daemon_key(&ab_settings_keys[i], &to);
    }
}

/* What comes before the keys of a section. */
typedef struct section {
    const char *prefix; /* of the paths in it */
    const char *head;
} section;

static const section sections[] = {
    {"node.", "\n## node\n\nA mapping, required.\n\n"},
    {"node.peers[].", "\n### node.peers\n\nEach entry:\n\n"},
    {"groups[].", "Each entry:\n\n"},
    {"application.", "\n## application\n\nA mapping. Here the keys of [anabranchd](ANABRANCHD.md); another "
                     "program has its own.\n\n"},
};
#define SECTION_COUNT (sizeof sections / sizeof sections[0])

/* The section of a path: the longest prefix; SECTION_COUNT: none. */
static size_t section_of(const char *path)
{
    size_t best = SECTION_COUNT;
    size_t length = 0;
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        size_t n = strlen(sections[i].prefix);
        if (strncmp(sections[i].prefix, path, n) == 0 && n > length) {
            best = i;
            length = n;
        }
    }
    return best;
}

typedef struct page {
    FILE *out;
    size_t section; /* of the key before; SECTION_COUNT: none yet */
} page;

static void print_key(void *arg, const key *k)
{
    page *p = arg;
    const ab_config_key *of = &k->of;
    size_t at = section_of(of->path);
    if (at == SECTION_COUNT) { /* a list at the top level */
        fprintf(p->out, "\n## %s\n\nA %s, %s. %s ", of->path, of->type, of->allowed, of->meaning);
        return;
    }
    if (at != p->section) {
        fprintf(p->out,
                "%s| key | type | default | allowed | change needs | meaning |\n|---|---|---|---|---|---|\n",
                sections[at].head);
        p->section = at;
    }
    const char *fallback = of->required ? "required" : of->fallback != NULL ? of->fallback : "none";
    bool unit = of->unit[0] != '\0' && strcmp(of->type, "size") != 0; /* a size says its unit itself */
    fprintf(p->out, "| `%s` | %s%s%s | %s | %s | %s | %s |\n", of->path + strlen(sections[at].prefix),
            of->type, unit ? ", " : "", unit ? of->unit : "", fallback, of->allowed,
            ab_change_name(k->change), of->meaning);
}

void reference_print(FILE *out)
{
    page p = {.out = out, .section = SECTION_COUNT};
    fputs("<!-- From here on this is what `anabranch config reference` prints: made, not written. -->\n",
          out);
    each_key(print_key, &p);
}

static void add_key(void *arg, const key *k)
{
    const ab_config_key *of = &k->of;
    json_array_append_new(arg, json_pack("{s:s, s:s, s:s, s:b, s:s*, s:s, s:s, s:s}", "key", of->path, "type",
                                         of->type, "unit", of->unit, "required", of->required, "default",
                                         of->fallback, "allowed", of->allowed, "change",
                                         ab_change_name(k->change), "meaning", of->meaning));
}

json_t *reference_json(void)
{
    json_t *keys = json_array();
    if (keys != NULL) {
        each_key(add_key, keys);
    }
    return keys;
}
