/* SPDX-License-Identifier: Apache-2.0 */
/* `application:` by libcyaml; the line of an error by libyaml, because libcyaml's own are those of the value before.
 * One thread. */
#include "tools/anabranchd/settings_keys.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* As libcyaml fills it, in the order of the keys; NULL where the file says nothing. Numbers are read here: libcyaml takes
 * "10s" for 10 and -1 for the largest. */
typedef struct raw {
    char *values[AB_SETTINGS_COUNT];
} raw;

typedef struct raw_file {
    raw *application;
} raw_file;

/* The schema that libcyaml wants, made of the table. */
typedef struct schema {
    cyaml_schema_field_t application[AB_SETTINGS_COUNT + 1];
    cyaml_schema_field_t file[4];
    cyaml_schema_value_t whole;
} schema;

static void make_schema(schema *to)
{
    const enum cyaml_flag flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL;
    const cyaml_schema_field_t end = CYAML_FIELD_END;
    for (size_t i = 0; i < AB_SETTINGS_COUNT; i++) {
        cyaml_schema_field_t *field = &to->application[i];
        *field = (cyaml_schema_field_t){.key = ab_settings_keys[i].key,
                                        .data_offset = (uint32_t)(i * sizeof(char *))};
        field->value.type = CYAML_STRING;
        field->value.flags = flags;
        field->value.data_size = sizeof(char);
        field->value.string.max = AB_SETTING_TEXT_MAX;
    }
    to->application[AB_SETTINGS_COUNT] = end;
    const cyaml_schema_field_t file[] = {
        CYAML_FIELD_IGNORE("node", CYAML_FLAG_OPTIONAL), CYAML_FIELD_IGNORE("groups", CYAML_FLAG_OPTIONAL),
        CYAML_FIELD_MAPPING_PTR("application", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, raw_file,
                                application, to->application),
        CYAML_FIELD_END};
    memcpy(to->file, file, sizeof file);
    to->whole = (cyaml_schema_value_t){CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, raw_file, to->file)};
}

/* The first error, and the innermost key it happened at. */
typedef struct capture {
    char what[256];
    char key[64];
    bool backtrace;
} capture;

static void on_log(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
    capture *c = ctx;
    char line[256];
    char key[64];
    if (level < CYAML_LOG_ERROR) {
        return;
    }
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, "Load: Backtrace:") == 0) {
        c->backtrace = true;
    } else if (!c->backtrace && c->what[0] == '\0') {
        const char *text = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
        snprintf(c->what, sizeof c->what, "%s", text);
        if (sscanf(text, "Unexpected key: %63s", key) == 1) {
            snprintf(c->what, sizeof c->what, "is not a known key");
            snprintf(c->key, sizeof c->key, "%s", key);
        }
    } else if (c->backtrace && c->key[0] == '\0' && sscanf(line, "  in mapping field '%63[^']'", key) == 1) {
        snprintf(c->key, sizeof c->key, "%s", key);
    }
}

static const yaml_node_t *find_key(yaml_document_t *document, const yaml_node_t *mapping, const char *key,
                                   const yaml_node_t **value)
{
    if (mapping == NULL || mapping->type != YAML_MAPPING_NODE) {
        return NULL;
    }
    for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *name = yaml_document_get_node(document, pair->key);
        if (name != NULL && name->type == YAML_SCALAR_NODE &&
            strcmp((const char *)name->data.scalar.value, key) == 0) {
            *value = yaml_document_get_node(document, pair->value);
            return name;
        }
    }
    return NULL;
}

/* Line of `application.key` (or of `application`); 0: unknown. */
static size_t find_line(const char *path, const char *key)
{
    FILE *file = fopen(path, "rb");
    yaml_parser_t parser;
    yaml_document_t document;
    size_t line = 0;
    if (file == NULL) {
        return 0;
    }
    if (yaml_parser_initialize(&parser) != 0) {
        yaml_parser_set_input_file(&parser, file);
        if (yaml_parser_load(&parser, &document) != 0) {
            const yaml_node_t *application = NULL;
            const yaml_node_t *value = NULL;
            const yaml_node_t *name =
                find_key(&document, yaml_document_get_root_node(&document), "application", &application);
            line = name != NULL ? name->start_mark.line + 1 : 0;
            name = name != NULL ? find_key(&document, application, key, &value) : NULL;
            line = name != NULL ? name->start_mark.line + 1 : line;
            yaml_document_delete(&document);
        }
        yaml_parser_delete(&parser);
    }
    fclose(file);
    return line;
}

static int fault(const char *path, const char *key, const char *what, ab_message *message)
{
    const char *dot = key[0] != '\0' && strcmp(key, "application") != 0 ? "." : "";
    snprintf(message->text, sizeof message->text, "%.200s:%zu: application%s%s: %s", path,
             find_line(path, key), dot, dot[0] != '\0' ? key : "", what);
    return AB_ECONFIG;
}

static int take_number(const char *path, const ab_setting *setting, const char *given, ab_settings *to,
                       ab_message *message)
{
    uint64_t value = setting->fallback;
    const char *wrong = "is out of range";
    if (given != NULL && !ab_setting_parse(setting, given, &value)) {
        wrong = setting->kind == AB_SETTING_SIZE
                    ? "is not a size: a number with KiB, MiB, GiB, TiB or nothing behind it"
                    : "is not a whole number";
    } else if (value >= setting->least && value <= setting->most) {
        memcpy(ab_setting_member(setting, to), &value, sizeof value);
        return AB_OK;
    }
    char allowed[64];
    char what[192];
    ab_setting_allowed(setting, allowed, sizeof allowed);
    snprintf(what, sizeof what, "%.40s %s (%s)", given, wrong, allowed);
    return fault(path, setting->key, what, message);
}

static int take_text(const char *path, const ab_setting *setting, const char *given, ab_settings *to,
                     ab_message *message)
{
    const char *text = given != NULL ? given : setting->text;
    char *copy = text != NULL ? strdup(text) : NULL;
    memcpy(ab_setting_member(setting, to), &copy, sizeof copy);
    if (text != NULL && text[0] == '\0') {
        return fault(path, setting->key, "is empty (leave it out for the default)", message);
    }
    return copy != NULL || text == NULL ? AB_OK : AB_ENOMEM;
}

static int take_name(const char *path, const ab_setting *setting, const char *given, ab_settings *to,
                     ab_message *message)
{
    const char *name = given != NULL ? given : setting->text;
    char allowed[64];
    char what[128];
    if (setting->kind == AB_SETTING_LEVEL && ab_write_level_parse(name, &to->write_level) == AB_OK) {
        return AB_OK;
    }
    for (unsigned i = 0; setting->kind == AB_SETTING_FORMAT && ab_log_format_name(i) != NULL; i++) {
        if (strcmp(ab_log_format_name(i), name) == 0) {
            to->log_format = (ab_log_format)i;
            return AB_OK;
        }
    }
    ab_setting_allowed(setting, allowed, sizeof allowed);
    snprintf(what, sizeof what, "is not one of %s", allowed);
    return fault(path, setting->key, what, message);
}

static int take(const char *path, const raw *from, ab_settings *to, ab_message *message)
{
    int code = AB_OK;
    for (size_t i = 0; i < AB_SETTINGS_COUNT && code == AB_OK; i++) {
        const ab_setting *setting = &ab_settings_keys[i];
        const char *given = from->values[i];
        code = ab_setting_is_number(setting)      ? take_number(path, setting, given, to, message)
               : setting->kind == AB_SETTING_TEXT ? take_text(path, setting, given, to, message)
                                                  : take_name(path, setting, given, to, message);
    }
    if (code == AB_OK && to->max_bodies < to->max_body) {
        return fault(path, "max_bodies", "must be at least max_body", message);
    }
    return code;
}

int ab_settings_load(const char *path, ab_settings *settings, ab_message *message)
{
    static const raw nothing;
    capture c = {.backtrace = false};
    cyaml_config_t options = {.log_fn = on_log,
                              .log_ctx = &c,
                              .mem_fn = cyaml_mem,
                              .log_level = CYAML_LOG_ERROR,
                              .flags = CYAML_CFG_NO_ALIAS};
    raw_file *file = NULL;
    schema keys;
    make_schema(&keys);
    *settings = (ab_settings){0};
    cyaml_err_t error = cyaml_load_file(path, &options, &keys.whole, (cyaml_data_t **)&file, NULL);
    if (error == CYAML_ERR_OOM) {
        return AB_ENOMEM;
    }
    if (error != CYAML_OK) {
        return fault(path, c.key, c.what[0] != '\0' ? c.what : cyaml_strerror(error), message);
    }
    int code = take(path, file != NULL && file->application != NULL ? file->application : &nothing, settings,
                    message);
    cyaml_free(&options, &keys.whole, file, 0);
    return code;
}

void ab_settings_free(ab_settings *settings)
{
    free(settings->http_host);
    free(settings->token);
    *settings = (ab_settings){0};
}
