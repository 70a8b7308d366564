/* SPDX-License-Identifier: Apache-2.0 */
/* JSON against the tables of docs/INSPECTOR.md. One thread. */
#include "tests/support/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 256u
#define NAME_SIZE 48u

typedef struct key {
    char kind[NAME_SIZE];
    char name[NAME_SIZE];
    char type[NAME_SIZE];
    bool always;
    bool seen;
} key;

struct schema {
    key keys[KEYS_MAX];
    size_t count;
};

/* "| `name` | type | yes | what |" */
static bool read_row(schema *s, const char *kind, const char *line)
{
    key *k = &s->keys[s->count];
    char always[NAME_SIZE] = "";
    if (s->count == KEYS_MAX ||
        sscanf(line, "| `%47[^`]` | %47[^|]| %47[^|]|", k->name, k->type, always) < 2) {
        return false;
    }
    for (size_t end = strlen(k->type); end > 0 && k->type[end - 1] == ' '; end--) {
        k->type[end - 1] = '\0';
    }
    snprintf(k->kind, sizeof k->kind, "%s", kind);
    k->always = strncmp(always, "yes", 3) == 0;
    s->count++;
    return true;
}

schema *schema_load(const char *path, char *why, size_t size)
{
    schema *s = calloc(1, sizeof *s);
    FILE *file = fopen(path, "r");
    char line[1024];
    char kind[NAME_SIZE] = "";
    bool good = s != NULL && file != NULL;
    snprintf(why, size, "%s cannot be read", path);
    while (good && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "### ", 4) == 0) {
            snprintf(kind, sizeof kind, "%.*s", (int)strcspn(line + 4, "\n"), line + 4);
        } else if (strncmp(line, "## ", 3) == 0) {
            kind[0] = '\0';
        } else if (kind[0] != '\0' && strncmp(line, "| `", 3) == 0) {
            good = read_row(s, kind, line);
            snprintf(why, size, "%s: %s", path, line);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    if (!good) {
        free(s);
        return NULL;
    }
    return s;
}

void schema_free(schema *s)
{
    free(s);
}

static bool is_kind(const schema *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->keys[i].kind, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool all_of(const json_t *value, const char *set)
{
    const char *text = json_string_value(value);
    return text != NULL && text[0] != '\0' && text[strspn(text, set)] == '\0';
}

static bool is_count(const json_t *value)
{
    return (json_is_integer(value) && json_integer_value(value) >= 0) || all_of(value, "0123456789");
}

static bool is_stream(const char *text)
{
    unsigned node, epoch;
    int used = 0;
    return sscanf(text, "%u.%u%n", &node, &epoch, &used) == 2 && text[used] == '\0';
}

static bool is_frontier(const json_t *value)
{
    const char *stream;
    json_t *index;
    if (!json_is_object(value)) {
        return false;
    }
    json_object_foreach((json_t *)(size_t)value, stream, index)
    {
        if (!is_stream(stream) || !is_count(index)) {
            return false;
        }
    }
    return true;
}

static bool is_simple(const char *type, const json_t *value)
{
    const char *text = json_string_value(value);
    if (strcmp(type, "count") == 0) {
        return is_count(value);
    }
    if (strcmp(type, "number") == 0) {
        return json_is_number(value);
    }
    if (strcmp(type, "bool") == 0) {
        return json_is_boolean(value);
    }
    if (strcmp(type, "frontier") == 0) {
        return is_frontier(value);
    }
    if (strcmp(type, "hex") == 0) {
        return text != NULL && (text[0] == '\0' || all_of(value, "0123456789abcdef"));
    }
    if (strcmp(type, "code") == 0) {
        return text != NULL && strncmp(text, "AB_", 3) == 0;
    }
    return text != NULL && (strcmp(type, "text") == 0 || (strcmp(type, "stream") == 0 && is_stream(text)));
}

static bool check_value(schema *s, const char *type, const json_t *value, char *why, size_t size)
{
    static const char list[] = "list of ";
    static const char or_null[] = " or null";
    char name[NAME_SIZE];
    size_t length = strlen(type);
    snprintf(name, sizeof name, "%s", type);
    if (length > strlen(or_null) && strcmp(type + length - strlen(or_null), or_null) == 0) {
        name[length - strlen(or_null)] = '\0';
        return json_is_null(value) || check_value(s, name, value, why, size);
    }
    if (strncmp(type, list, strlen(list)) == 0) {
        size_t i;
        json_t *item;
        bool good = json_is_array(value);
        json_array_foreach(value, i, item)
        {
            good = good && check_value(s, type + strlen(list), item, why, size);
        }
        return good;
    }
    /* A word that is both: "stream" is a kind where there is an object. */
    return is_kind(s, type) && json_is_object(value) ? schema_check(s, type, value, why, size)
                                                     : is_simple(type, value);
}

static key *find(schema *s, const char *kind, const char *name)
{
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->keys[i].kind, kind) == 0 && strcmp(s->keys[i].name, name) == 0) {
            return &s->keys[i];
        }
    }
    return NULL;
}

bool schema_check(schema *s, const char *kind, const json_t *value, char *why, size_t size)
{
    const char *name;
    json_t *item;
    if (!json_is_object(value)) {
        snprintf(why, size, "%s: not an object", kind);
        return false;
    }
    json_object_foreach((json_t *)(size_t)value, name, item)
    {
        key *k = find(s, kind, name);
        if (k == NULL) {
            snprintf(why, size, "%s.%s is not in the table", kind, name);
            return false;
        }
        why[0] = '\0';
        if (!check_value(s, k->type, item, why, size)) {
            if (why[0] == '\0') {
                snprintf(why, size, "%s.%s is not of type %s", kind, name, k->type);
            }
            return false;
        }
        k->seen = true;
    }
    for (size_t i = 0; i < s->count; i++) {
        const key *k = &s->keys[i];
        if (k->always && strcmp(k->kind, kind) == 0 && json_object_get(value, k->name) == NULL) {
            snprintf(why, size, "%s lacks %s", kind, k->name);
            return false;
        }
    }
    return true;
}

void schema_unseen(const schema *s, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < s->count && used < size; i++) {
        if (!s->keys[i].seen) {
            used += (size_t)snprintf(text + used, size - used, "%s.%s ", s->keys[i].kind, s->keys[i].name);
        }
    }
}
