/* SPDX-License-Identifier: Apache-2.0 */
/* The libcyaml schema, made from the tables of keys, and its errors turned into path and words. libcyaml's
 * own lines are off by a node; they are not used. No shared state; any thread. */
#include "engine/base/config_raw.h"
#include "engine/base/text.h"
#include "engine/base/yaml_scan.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXTRA_FIELDS 2u /* peers or members, and the end mark */

typedef struct schema {
    cyaml_schema_field_t peer_fields[AB_PEER_FIELDS_MAX + EXTRA_FIELDS];
    cyaml_schema_field_t node_fields[AB_NODE_FIELDS_MAX + EXTRA_FIELDS];
    cyaml_schema_field_t group_fields[AB_GROUP_FIELDS_MAX + EXTRA_FIELDS];
    cyaml_schema_field_t file_fields[4];
    cyaml_schema_value_t peer;
    cyaml_schema_value_t group;
    cyaml_schema_value_t member;
    cyaml_schema_value_t file;
} schema;

/* What libcyaml said about the first error, and where it said it was. */
typedef struct capture {
    char first[256];
    char path[128];
    bool backtrace;
} capture;

static const enum cyaml_flag optional = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL;

static cyaml_schema_field_t text_field(const char *key, size_t offset)
{
    return (cyaml_schema_field_t){
        .key = key,
        .data_offset = (uint32_t)offset,
        .value = {.type = CYAML_STRING, .flags = optional, .data_size = 1, .string = {0, CYAML_UNLIMITED}},
    };
}

static cyaml_schema_field_t list_field(const char *key, size_t offset, size_t count_offset, size_t item_size,
                                       const cyaml_schema_value_t *item, uint32_t max)
{
    return (cyaml_schema_field_t){
        .key = key,
        .data_offset = (uint32_t)offset,
        .count_offset = (uint32_t)count_offset,
        .count_size = sizeof(unsigned),
        .value = {.type = CYAML_SEQUENCE,
                  .flags = optional,
                  .data_size = (uint32_t)item_size,
                  .sequence = {.entry = item, .min = 0, .max = max}},
    };
}

/* One text field for each field of the table, in an array `text` at the start of the raw struct. */
static size_t table_fields(const ab_config_table *table, cyaml_schema_field_t *fields)
{
    for (size_t i = 0; i < table->count; i++) {
        fields[i] = text_field(table->fields[i].key, i * sizeof(char *));
    }
    return table->count;
}

_Static_assert(offsetof(ab_raw_peer, text) == 0 && offsetof(ab_raw_node, text) == 0 &&
                   offsetof(ab_raw_group, text) == 0,
               "table_fields() counts on it");

static cyaml_schema_value_t mapping(enum cyaml_flag flags, size_t size, const cyaml_schema_field_t *fields)
{
    return (cyaml_schema_value_t){
        .type = CYAML_MAPPING, .flags = flags, .data_size = (uint32_t)size, .mapping = {.fields = fields}};
}

static void schema_make(schema *s)
{
    *s = (schema){0};
    size_t n = table_fields(&ab_peer_table, s->peer_fields);
    s->peer_fields[n] = (cyaml_schema_field_t)CYAML_FIELD_END;
    s->peer = mapping(CYAML_FLAG_DEFAULT, sizeof(ab_raw_peer), s->peer_fields);

    n = table_fields(&ab_node_table, s->node_fields);
    s->node_fields[n++] = list_field("peers", offsetof(ab_raw_node, peers), offsetof(ab_raw_node, peer_count),
                                     sizeof(ab_raw_peer), &s->peer, AB_CONFIG_PEERS_MAX);
    s->node_fields[n] = (cyaml_schema_field_t)CYAML_FIELD_END;

    s->member = (cyaml_schema_value_t){
        .type = CYAML_STRING, .flags = CYAML_FLAG_POINTER, .data_size = 1, .string = {0, CYAML_UNLIMITED}};
    n = table_fields(&ab_group_table, s->group_fields);
    s->group_fields[n++] =
        list_field("members", offsetof(ab_raw_group, members), offsetof(ab_raw_group, member_count),
                   sizeof(char *), &s->member, AB_MEMBERS_MAX);
    s->group_fields[n] = (cyaml_schema_field_t)CYAML_FIELD_END;
    s->group = mapping(CYAML_FLAG_DEFAULT, sizeof(ab_raw_group), s->group_fields);

    s->file_fields[0] = (cyaml_schema_field_t){
        .key = "node",
        .data_offset = offsetof(ab_raw_config, node),
        .value = mapping(optional, sizeof(ab_raw_node), s->node_fields),
    };
    s->file_fields[1] =
        list_field("groups", offsetof(ab_raw_config, groups), offsetof(ab_raw_config, group_count),
                   sizeof(ab_raw_group), &s->group, AB_CONFIG_GROUPS_MAX);
    s->file_fields[2] = (cyaml_schema_field_t){.key = "application",
                                               .value = {.type = CYAML_IGNORE, .flags = CYAML_FLAG_OPTIONAL}};
    s->file_fields[3] = (cyaml_schema_field_t)CYAML_FIELD_END;
    s->file = mapping(CYAML_FLAG_POINTER, sizeof(ab_raw_config), s->file_fields);
}

/* Puts `part` before the path: libcyaml names the innermost place first. */
static void path_prepend(capture *c, const char *part)
{
    char joined[sizeof c->path];
    bool dot = c->path[0] != '\0' && c->path[0] != '[';
    int n = snprintf(joined, sizeof joined, "%s%s%s", part, dot ? "." : "", c->path);
    if (n > 0 && (size_t)n < sizeof joined) {
        memcpy(c->path, joined, (size_t)n + 1);
    }
}

static void take_place(capture *c, char *line)
{
    static const char field[] = "  in mapping field '";
    static const char entry[] = "  in sequence entry '";
    if (strncmp(line, field, sizeof field - 1) == 0) {
        char *key = line + sizeof field - 1;
        char *end = strchr(key, '\'');
        if (end != NULL) {
            *end = '\0';
            path_prepend(c, key);
        }
    } else if (strncmp(line, entry, sizeof entry - 1) == 0) {
        unsigned long position = strtoul(line + sizeof entry - 1, NULL, 10); /* counted from 1 */
        char text[32];
        snprintf(text, sizeof text, "[%lu]", position > 0 ? position - 1 : 0);
        path_prepend(c, text);
    }
}

__attribute__((format(printf, 3, 0))) static void on_log(cyaml_log_t level, void *ctx, const char *format,
                                                         va_list args)
{
    capture *c = ctx;
    char line[sizeof c->first];
    if (level < CYAML_LOG_ERROR) {
        return;
    }
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, "Load: Backtrace:") == 0) {
        c->backtrace = true;
    } else if (c->backtrace) {
        take_place(c, line);
    } else if (c->first[0] == '\0') {
        memcpy(c->first, line, sizeof line);
    }
}

/* In front of each piece of memory that libcyaml has. */
typedef union piece {
    size_t capacity;
    max_align_t align;
} piece;

/* libcyaml grows a list by one entry at a time. Growing by half instead keeps long lists from being copied each time. */
static void *on_memory(void *ctx, void *memory, size_t size)
{
    (void)ctx;
    piece *p = memory != NULL ? (piece *)memory - 1 : NULL;
    if (size == 0) {
        free(p);
        return NULL;
    }
    if (p != NULL && p->capacity >= size) {
        return memory;
    }
    size_t capacity = p != NULL ? size + size / 2 : size;
    p = realloc(p, sizeof *p + capacity);
    if (p == NULL) {
        return NULL;
    }
    p->capacity = capacity;
    return p + 1;
}

static cyaml_config_t cyaml_options(capture *c)
{
    return (cyaml_config_t){.log_fn = on_log,
                            .log_ctx = c,
                            .mem_fn = on_memory,
                            .log_level = CYAML_LOG_ERROR,
                            .flags = CYAML_CFG_NO_ALIAS};
}

/* Edits (insert, delete, replace) between two short names; 99 if either is too long. */
static size_t distance(const char *a, const char *b)
{
    size_t row[AB_YAML_KEY_SHOWN + 1];
    size_t length = strlen(b);
    if (length > AB_YAML_KEY_SHOWN) {
        return 99;
    }
    for (size_t j = 0; j <= length; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            size_t replace = diagonal + (a[i] == b[j] ? 0 : 1);
            size_t least = row[j] < row[j + 1] ? row[j] + 1 : row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = replace < least ? replace : least;
        }
    }
    return row[length];
}

/* The keys of the mapping at `path`. */
static const cyaml_schema_field_t *fields_at(const schema *s, const char *path)
{
    if (path[0] == '\0') {
        return s->file_fields;
    }
    if (strcmp(path, "node") == 0) {
        return s->node_fields;
    }
    return strncmp(path, "node.peers", strlen("node.peers")) == 0 ? s->peer_fields : s->group_fields;
}

static int unknown_key(const schema *s, capture *c, const char *key, ab_config_fault *fault)
{
    char shown[AB_YAML_KEY_SHOWN];
    char path[sizeof c->path + AB_YAML_KEY_SHOWN + 1];
    ab_text_quote(key, strlen(key), shown, sizeof shown);
    const char *nearest = NULL;
    size_t least = strlen(shown) / 3 + 1;
    for (const cyaml_schema_field_t *field = fields_at(s, c->path); field->key != NULL; field++) {
        size_t edits = distance(shown, field->key);
        if (edits <= least && (nearest == NULL || edits < least)) {
            nearest = field->key;
            least = edits;
        }
    }
    snprintf(path, sizeof path, "%s%s%s", c->path, c->path[0] != '\0' ? "." : "", shown);
    if (nearest != NULL) {
        return ab_config_fail(fault, path, "is not a known key (did you mean %s?)", nearest);
    }
    return ab_config_fail(fault, path, "is not a known key (docs/CONFIGURATION.md has all of them)");
}

static const char *kind_in_words(const char *text)
{
    if (strncmp(text, "MAPPING", 7) == 0) {
        return "a mapping (key: value)";
    }
    return strncmp(text, "SEQUENCE", 8) == 0 ? "a list" : "a single value";
}

static int explain(const schema *s, capture *c, cyaml_err_t err, ab_config_fault *fault)
{
    static const char unexpected[] = "Load: Unexpected key: ";
    static const char expecting[] = "Load: Expecting ";
    static const char event[] = ", got event: ";
    if (err == CYAML_ERR_OOM) {
        return AB_ENOMEM;
    }
    if (err == CYAML_ERR_INVALID_KEY && strncmp(c->first, unexpected, sizeof unexpected - 1) == 0) {
        return unknown_key(s, c, c->first + sizeof unexpected - 1, fault);
    }
    const char *got = strstr(c->first, event);
    if (strncmp(c->first, expecting, sizeof expecting - 1) == 0 && got != NULL) {
        return ab_config_fail(fault, c->path, "should be %s, not %s",
                              kind_in_words(c->first + sizeof expecting - 1),
                              kind_in_words(got + sizeof event - 1));
    }
    if (strncmp(c->first, "Load: Mapping field already seen", 32) == 0) {
        return ab_config_fail(fault, c->path, "is given twice (give it once)");
    }
    if (err == CYAML_ERR_SEQUENCE_ENTRIES_MAX) {
        unsigned long max = strtoul(c->first + strlen("Load: Excessive entries ("), NULL, 10);
        char *entry = strrchr(c->path, '[');
        if (entry != NULL) {
            *entry = '\0';
        }
        return ab_config_fail(fault, c->path, "has too many entries (at most %lu)", max);
    }
    return ab_config_fail(fault, c->path, "%s (%s)", cyaml_strerror(err), c->first);
}

int ab_raw_config_load(const char *text, size_t size, ab_raw_config **raw, ab_config_fault *fault)
{
    schema s;
    capture c = {{0}, {0}, false};
    cyaml_config_t options = cyaml_options(&c);
    cyaml_data_t *data = NULL;
    schema_make(&s);
    *raw = NULL;
    cyaml_err_t err = cyaml_load_data((const uint8_t *)text, size, &options, &s.file, &data, NULL);
    if (err != CYAML_OK) {
        return explain(&s, &c, err, fault);
    }
    *raw = data;
    return AB_OK;
}

void ab_raw_config_free(ab_raw_config *raw)
{
    schema s;
    capture c = {{0}, {0}, false};
    cyaml_config_t options = cyaml_options(&c);
    if (raw != NULL) {
        schema_make(&s);
        cyaml_free(&options, &s.file, raw, 0);
    }
}
