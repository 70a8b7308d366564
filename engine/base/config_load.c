/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file into structs: text to values by the tables, then the checks, then what only the whole
 * file tells. A loaded configuration is constant; any thread. */
#include "engine/base/config_fields.h"
#include "engine/base/config_internal.h"
#include "engine/base/text.h"
#include "engine/base/yaml_scan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int not_a(ab_config_fault *fault, const ab_config_field *field, const char *path, const char *text,
                 const char *what)
{
    char shown[80];
    char allowed[96];
    ab_text_quote(text, strlen(text), shown, sizeof shown);
    ab_field_allowed(field, allowed, sizeof allowed);
    return ab_config_fail(fault, path, "'%s' is %s (%s)", shown, what, allowed);
}

/* A decimal number as a whole; `rest` is where it ends. Octal-looking and signed ones are refused. */
static bool parse_digits(const char *text, uint64_t *value, const char **rest)
{
    if (text[0] < '0' || text[0] > '9' || (text[0] == '0' && text[1] >= '0' && text[1] <= '9')) {
        return false;
    }
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    *rest = end;
    return errno == 0;
}

static bool parse_suffix(const char *suffix, uint64_t *value)
{
    static const char *const names[] = {"", "KiB", "MiB", "GiB", "TiB"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(suffix, names[i]) == 0 && *value <= UINT64_MAX >> (10 * i)) {
            *value <<= 10 * i;
            return true;
        }
    }
    return false;
}

static int parse_number(const ab_config_field *field, const char *path, const char *text, uint64_t *value,
                        ab_config_fault *fault)
{
    const char *rest;
    bool size = field->kind == AB_FIELD_SIZE32 || field->kind == AB_FIELD_SIZE64;
    bool good = parse_digits(text, value, &rest);
    if (size && (!good || !parse_suffix(rest, value))) {
        return not_a(fault, field, path, text,
                     "not a size: a number with KiB, MiB, GiB, TiB or nothing behind it");
    }
    if (!size && (!good || rest[0] != '\0')) {
        return not_a(fault, field, path, text, "not a whole number");
    }
    /* Here and not only in the check: a member may be too narrow to hold it. */
    return *value < field->min || *value > field->max ? not_a(fault, field, path, text, "out of range")
                                                      : AB_OK;
}

static int parse_name(const ab_config_field *field, const char *path, const char *text, uint64_t *value,
                      ab_config_fault *fault)
{
    size_t count;
    const char *const *names = ab_field_names(field->kind, &count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0) {
            *value = i;
            return AB_OK;
        }
    }
    return not_a(fault, field, path, text, "unknown");
}

static void store(const ab_config_field *field, void *base, uint64_t value)
{
    char *at = (char *)base + field->offset;
    uint16_t u16 = (uint16_t)value;
    uint32_t u32 = (uint32_t)value;
    bool flag = value != 0;
    switch (field->kind) {
    case AB_FIELD_U16:
        memcpy(at, &u16, sizeof u16);
        return;
    case AB_FIELD_U64:
    case AB_FIELD_SIZE64:
        memcpy(at, &value, sizeof value);
        return;
    case AB_FIELD_BOOL:
        memcpy(at, &flag, sizeof flag);
        return;
    default:
        memcpy(at, &u32, sizeof u32);
    }
}

static int parse_field(const ab_config_field *field, const char *path, const char *text, void *base,
                       ab_config_fault *fault)
{
    uint64_t value = 0;
    int code = AB_OK;
    switch (field->kind) {
    case AB_FIELD_TEXT:
        memcpy((char *)base + field->offset, &text, sizeof text);
        return AB_OK;
    case AB_FIELD_U16:
    case AB_FIELD_U32:
    case AB_FIELD_U64:
    case AB_FIELD_SIZE32:
    case AB_FIELD_SIZE64:
        code = parse_number(field, path, text, &value, fault);
        break;
    case AB_FIELD_BOOL:
        value = strcmp(text, "true") == 0;
        if (value == 0 && strcmp(text, "false") != 0) {
            return not_a(fault, field, path, text, "unknown");
        }
        break;
    default:
        code = parse_name(field, path, text, &value, fault);
    }
    if (code == AB_OK) {
        store(field, base, value);
    }
    return code;
}

/* All values of one mapping that are there; `prefix` ends in ".". */
static int parse_table(const ab_config_table *table, const char *prefix, char *const *text, void *base,
                       ab_config_fault *fault)
{
    for (size_t i = 0; i < table->count; i++) {
        char path[sizeof fault->path];
        snprintf(path, sizeof path, "%s%s", prefix, table->fields[i].key);
        int code = text[i] == NULL ? AB_OK : parse_field(&table->fields[i], path, text[i], base, fault);
        if (code != AB_OK) {
            return code;
        }
    }
    return AB_OK;
}

/* Puts `prefix` before the path of a fault of a struct. */
static int prefixed(int code, const char *prefix, ab_config_fault *fault)
{
    if (code == AB_ECONFIG) {
        char path[sizeof fault->path];
        int n = snprintf(path, sizeof path, "%s%s", prefix, fault->path);
        memcpy(fault->path, path, n > 0 && (size_t)n < sizeof path ? (size_t)n + 1 : sizeof path);
    }
    return code;
}

static int load_node(ab_config *config, ab_config_fault *fault)
{
    const ab_raw_node *raw = config->raw->node;
    int code = parse_table(&ab_node_table, "node.", raw->text, &config->node, fault);
    if (code != AB_OK) {
        return code;
    }
    config->peers = calloc(raw->peer_count > 0 ? raw->peer_count : 1, sizeof *config->peers);
    if (config->peers == NULL) {
        return AB_ENOMEM;
    }
    config->node.peers = config->peers;
    config->node.peer_count = raw->peer_count;
    for (unsigned i = 0; i < raw->peer_count && code == AB_OK; i++) {
        char prefix[48];
        snprintf(prefix, sizeof prefix, "node.peers[%u].", i);
        code = parse_table(&ab_peer_table, prefix, raw->peers[i].text, &config->peers[i], fault);
    }
    return code != AB_OK ? code : prefixed(ab_node_config_fault(&config->node, fault), "node.", fault);
}

static bool known_node(const ab_node_config *node, uint32_t id)
{
    for (size_t i = 0; i < node->peer_count; i++) {
        if (node->peers[i].node_id == id) {
            return true;
        }
    }
    return node->node_id == id;
}

/* Members against the node of the same file. */
static int check_members(const ab_node_config *node, const ab_group_config *group, const char *prefix,
                         ab_config_fault *fault)
{
    char path[sizeof fault->path];
    bool self = group->member_count == 0;
    for (size_t i = 0; i < group->member_count; i++) {
        if (!known_node(node, group->members[i])) {
            snprintf(path, sizeof path, "%smembers[%zu]", prefix, i);
            return ab_config_fail(fault, path, "node %" PRIu32 " is neither this node nor one of node.peers",
                                  group->members[i]);
        }
        self = self || group->members[i] == node->node_id;
    }
    if (!self) {
        snprintf(path, sizeof path, "%smembers", prefix);
        return ab_config_fail(fault, path,
                              "does not contain this node (add %" PRIu32 ", or leave the group out)",
                              node->node_id);
    }
    return AB_OK;
}

/* `members` has room for those of this group. */
static int load_group(ab_config *config, unsigned position, uint32_t *members, ab_config_fault *fault)
{
    static const ab_config_field member = {"members", AB_FIELD_U32, 0, 1, UINT32_MAX, "", ""};
    const ab_raw_group *raw = &config->raw->groups[position];
    ab_group_config *group = &config->groups[position];
    char prefix[48];
    snprintf(prefix, sizeof prefix, "groups[%u].", position);
    ab_group_config_init(group);
    int code = parse_table(&ab_group_table, prefix, raw->text, group, fault);
    group->members = members;
    group->member_count = raw->member_count;
    for (unsigned i = 0; i < raw->member_count && code == AB_OK; i++) {
        char path[sizeof fault->path];
        snprintf(path, sizeof path, "%smembers[%u]", prefix, i);
        code = parse_field(&member, path, raw->members[i], &members[i], fault);
    }
    code = code != AB_OK ? code : prefixed(ab_group_config_fault(group, fault), prefix, fault);
    return code != AB_OK ? code : check_members(&config->node, group, prefix, fault);
}

static int by_id(const void *a, const void *b)
{
    const ab_group_config *x = *(const ab_group_config *const *)a;
    const ab_group_config *y = *(const ab_group_config *const *)b;
    int order = x->id < y->id ? -1 : x->id > y->id;
    return order != 0 ? order : (x < y ? -1 : x > y);
}

static int by_name(const void *a, const void *b)
{
    const ab_group_config *x = *(const ab_group_config *const *)a;
    const ab_group_config *y = *(const ab_group_config *const *)b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : (x < y ? -1 : x > y);
}

/* Sorted, so that many thousand groups take no quadratic time. */
static int check_doubles(const ab_config *config, const ab_group_config **sorted, ab_config_fault *fault)
{
    size_t count = config->group_count;
    char path[64];
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &config->groups[i];
    }
    qsort(sorted, count, sizeof *sorted, by_id);
    for (size_t i = 1; i < count; i++) {
        if (sorted[i]->id == sorted[i - 1]->id) {
            snprintf(path, sizeof path, "groups[%td].id", sorted[i] - config->groups);
            return ab_config_fail(fault, path, "%" PRIu64 " is the id of groups[%td] already (each id once)",
                                  sorted[i]->id, sorted[i - 1] - config->groups);
        }
    }
    qsort(sorted, count, sizeof *sorted, by_name);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(sorted[i]->name, sorted[i - 1]->name) == 0) {
            snprintf(path, sizeof path, "groups[%td].name", sorted[i] - config->groups);
            return ab_config_fail(fault, path, "%s is the name of groups[%td] already (each name once)",
                                  sorted[i]->name, sorted[i - 1] - config->groups);
        }
    }
    return AB_OK;
}

static int load_groups(ab_config *config, ab_config_fault *fault)
{
    const ab_raw_config *raw = config->raw;
    size_t members = 0;
    for (unsigned i = 0; i < raw->group_count; i++) {
        members += raw->groups[i].member_count;
    }
    config->group_count = raw->group_count;
    config->groups = calloc(raw->group_count > 0 ? raw->group_count : 1, sizeof *config->groups);
    config->members = calloc(members > 0 ? members : 1, sizeof *config->members);
    const ab_group_config **sorted = calloc(raw->group_count > 0 ? raw->group_count : 1, sizeof *sorted);
    int code = config->groups != NULL && config->members != NULL && sorted != NULL ? AB_OK : AB_ENOMEM;
    uint32_t *next = config->members;
    for (unsigned i = 0; i < raw->group_count && code == AB_OK; i++) {
        code = load_group(config, i, next, fault);
        next += raw->groups[i].member_count;
    }
    code = code != AB_OK ? code : check_doubles(config, sorted, fault);
    free(sorted);
    return code;
}

static int load(ab_config *config, const char *text, size_t size, size_t *line, ab_config_fault *fault)
{
    int code = ab_yaml_check(text, size, line, fault);
    if (code != AB_OK) {
        return code;
    }
    code = ab_raw_config_load(text, size, &config->raw, fault);
    if (code == AB_OK && (config->raw == NULL || config->raw->node == NULL)) {
        return ab_config_fail(fault, "node", "is missing (the mapping with cluster, node_id, data_dir, ...)");
    }
    code = code != AB_OK ? code : load_node(config, fault);
    return code != AB_OK ? code : load_groups(config, fault);
}

static void set_message(ab_message *message, const char *name, size_t line, const ab_config_fault *fault)
{
    char shown[AB_MESSAGE_SIZE];
    ab_text_quote(name, strlen(name), shown, sizeof shown);
    if (message == NULL) {
        return;
    }
    int n = snprintf(message->text, sizeof message->text, "%s:%zu: %s%s%s", shown, line, fault->path,
                     fault->path[0] != '\0' ? ": " : "", fault->text);
    if (n < 0 || (size_t)n >= sizeof message->text) { /* a very long path: say the rest without it */
        snprintf(message->text, sizeof message->text, "line %zu: %s: %s", line, fault->path, fault->text);
    }
}

/* For ab_config_each(), which tells where a value stands. */
static int keep_text(ab_config *config, const char *text, size_t size)
{
    config->text = malloc(size + 1);
    if (config->text == NULL) {
        return AB_ENOMEM;
    }
    if (size > 0) {
        memcpy(config->text, text, size);
    }
    config->text[size] = '\0';
    config->size = size;
    return AB_OK;
}

int ab_config_parse(const char *name, const char *text, size_t size, ab_config **out, ab_message *message)
{
    ab_config_fault fault = {{0}, {0}};
    size_t line = 0;
    if (out == NULL || name == NULL || (text == NULL && size > 0)) {
        return AB_EINVAL;
    }
    *out = NULL;
    if (size > AB_YAML_SIZE_MAX) {
        ab_config_fail(&fault, "", "the file has %zu bytes (at most %u)", size, AB_YAML_SIZE_MAX);
        set_message(message, name, 1, &fault);
        return AB_ECONFIG;
    }
    ab_config *config = calloc(1, sizeof *config);
    int code = AB_ENOMEM;
    if (config != NULL) {
        ab_node_config_init(&config->node);
        code = keep_text(config, text, size);
        code = code != AB_OK ? code : load(config, text != NULL ? text : "", size, &line, &fault);
    }
    if (code == AB_OK) {
        *out = config;
        return AB_OK;
    }
    ab_config_free(config);
    if (code == AB_ENOMEM) {
        snprintf(fault.text, sizeof fault.text, "out of memory");
        fault.path[0] = '\0';
        line = 1;
    } else if (line == 0) {
        line = ab_yaml_line(text != NULL ? text : "", size, fault.path);
    }
    set_message(message, name, line, &fault);
    return code;
}

static int read_failed(const char *path, int error, ab_message *message)
{
    char shown[AB_MESSAGE_SIZE - 96];
    ab_text_quote(path, strlen(path), shown, sizeof shown);
    int code = error == ENOENT || error == ENOTDIR ? AB_ENOTFOUND : error == ENOMEM ? AB_ENOMEM : AB_EIO;
    if (message != NULL) {
        snprintf(message->text, sizeof message->text, "%s: cannot be read: %s (name a readable YAML file)",
                 shown, strerror(error));
    }
    return code;
}

/* The whole file, at most one byte beyond the limit. */
static int read_file(FILE *file, char **text, size_t *size)
{
    size_t capacity = 4096;
    char *data = malloc(capacity);
    *size = 0;
    while (data != NULL) {
        *size += fread(data + *size, 1, capacity - *size, file);
        if (*size < capacity || *size > AB_YAML_SIZE_MAX) {
            break;
        }
        char *larger = realloc(data, capacity * 2);
        if (larger == NULL) {
            free(data);
            return ENOMEM;
        }
        data = larger;
        capacity *= 2;
    }
    if (data == NULL) {
        return ENOMEM;
    }
    if (ferror(file)) {
        int error = errno != 0 ? errno : EIO;
        free(data);
        return error;
    }
    *text = data;
    return 0;
}

int ab_config_load(const char *path, ab_config **config, ab_message *message)
{
    if (path == NULL || config == NULL) {
        return AB_EINVAL;
    }
    *config = NULL;
    errno = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return read_failed(path, errno, message);
    }
    char *text;
    size_t size;
    int error = read_file(file, &text, &size);
    fclose(file);
    if (error != 0) {
        return read_failed(path, error, message);
    }
    int code = ab_config_parse(path, text, size, config, message);
    free(text);
    return code;
}

void ab_config_free(ab_config *config)
{
    if (config != NULL) {
        free(config->text);
        ab_raw_config_free(config->raw);
        free(config->peers);
        free(config->groups);
        free(config->members);
        free(config);
    }
}

const ab_node_config *ab_config_node(const ab_config *config)
{
    return &config->node;
}

size_t ab_config_group_count(const ab_config *config)
{
    return config->group_count;
}

const ab_group_config *ab_config_group(const ab_config *config, size_t position)
{
    return position < config->group_count ? &config->groups[position] : NULL;
}
