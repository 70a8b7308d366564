/* SPDX-License-Identifier: Apache-2.0 */
/* `application:` by libcyaml; the line of an error by libyaml, because libcyaml's own are those of the value before.
 * One thread. */
#include "tools/anabranchd/settings.h"

#include <cyaml/cyaml.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* As libcyaml fills it: NULL where the file says nothing. */
typedef struct raw {
    char *http_host;
    char *token;
    char *write_level;
    char *log_format;
    uint64_t *http_port;
    uint64_t *http_threads;
    uint64_t *groups;
    uint64_t *timeout_ms;
    uint64_t *max_body;
    uint64_t *max_bodies;
    uint64_t *max_connections;
    uint64_t *idle_timeout_s;
} raw;

typedef struct raw_file {
    raw *application;
} raw_file;

#define NUMBER(member) CYAML_FIELD_UINT_PTR(#member, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, raw, member)
#define TEXT(member)                                                                                         \
    CYAML_FIELD_STRING_PTR(#member, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, raw, member, 0, 255)

static const cyaml_schema_field_t application_fields[] = {
    TEXT(http_host),   TEXT(token),          TEXT(log_format),        TEXT(write_level),
    NUMBER(http_port), NUMBER(http_threads), NUMBER(groups),          NUMBER(timeout_ms),
    NUMBER(max_body),  NUMBER(max_bodies),   NUMBER(max_connections), NUMBER(idle_timeout_s),
    CYAML_FIELD_END};

static const cyaml_schema_field_t file_fields[] = {
    CYAML_FIELD_IGNORE("node", CYAML_FLAG_OPTIONAL), CYAML_FIELD_IGNORE("groups", CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_MAPPING_PTR("application", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, raw_file, application,
                            application_fields),
    CYAML_FIELD_END};

static const cyaml_schema_value_t file_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, raw_file, file_fields)};

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

typedef struct range {
    const char *key;
    uint64_t *value;
    const uint64_t *given;
    uint64_t fallback;
    uint64_t least;
    uint64_t most;
} range;

static int take_numbers(const char *path, const raw *from, ab_settings *to, ab_message *message)
{
    const range ranges[] = {
        {"http_port", &to->http_port, from->http_port, AB_DEFAULT_HTTP_PORT, 0, 65535},
        {"http_threads", &to->http_threads, from->http_threads, AB_DEFAULT_HTTP_THREADS, 1, 64},
        {"groups", &to->groups, from->groups, AB_DEFAULT_GROUPS, 1, 4096},
        {"timeout_ms", &to->timeout_ms, from->timeout_ms, AB_DEFAULT_TIMEOUT_MS, 1, 600000},
        {"max_body", &to->max_body, from->max_body, AB_DEFAULT_MAX_BODY, 1024, 1u << 30},
        {"max_bodies", &to->max_bodies, from->max_bodies, AB_DEFAULT_MAX_BODIES, 1024, 1ull << 40},
        {"max_connections", &to->max_connections, from->max_connections, AB_DEFAULT_MAX_CONNECTIONS, 1,
         65000},
        {"idle_timeout_s", &to->idle_timeout_s, from->idle_timeout_s, AB_DEFAULT_IDLE_TIMEOUT_S, 1, 86400},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        const range *r = &ranges[i];
        *r->value = r->given != NULL ? *r->given : r->fallback;
        if (*r->value < r->least || *r->value > r->most) {
            char what[128];
            snprintf(what, sizeof what, "%" PRIu64 " is out of range (%" PRIu64 " to %" PRIu64 ")", *r->value,
                     r->least, r->most);
            return fault(path, r->key, what, message);
        }
    }
    if (to->max_bodies < to->max_body) {
        return fault(path, "max_bodies", "must be at least max_body", message);
    }
    return AB_OK;
}

static int take(const char *path, const raw *from, ab_settings *to, ab_message *message)
{
    int code = take_numbers(path, from, to, message);
    if (code != AB_OK) {
        return code;
    }
    if (from->write_level != NULL && ab_write_level_parse(from->write_level, &to->write_level) != AB_OK) {
        return fault(path, "write_level", "is not a write level (memory, local, quorum, all)", message);
    }
    if (from->log_format != NULL && strcmp(from->log_format, "json") == 0) {
        to->log_format = AB_LOG_JSON;
    } else if (from->log_format != NULL && strcmp(from->log_format, "logfmt") != 0) {
        return fault(path, "log_format", "is neither logfmt nor json", message);
    }
    const char *host = from->http_host != NULL ? from->http_host : AB_DEFAULT_HTTP_HOST;
    if (host[0] == '\0') {
        return fault(path, "http_host", "is empty: give an address, 0.0.0.0 for all", message);
    }
    if (from->token != NULL && from->token[0] == '\0') {
        return fault(path, "token", "is empty: leave it out to let everybody in", message);
    }
    to->http_host = strdup(host);
    to->token = from->token != NULL ? strdup(from->token) : NULL;
    return to->http_host != NULL && (to->token != NULL || from->token == NULL) ? AB_OK : AB_ENOMEM;
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
    *settings = (ab_settings){0};
    cyaml_err_t error = cyaml_load_file(path, &options, &file_schema, (cyaml_data_t **)&file, NULL);
    if (error == CYAML_ERR_OOM) {
        return AB_ENOMEM;
    }
    if (error != CYAML_OK) {
        return fault(path, c.key, c.what[0] != '\0' ? c.what : cyaml_strerror(error), message);
    }
    int code = take(path, file != NULL && file->application != NULL ? file->application : &nothing, settings,
                    message);
    cyaml_free(&options, &file_schema, file, 0);
    return code;
}

void ab_settings_free(ab_settings *settings)
{
    free(settings->http_host);
    free(settings->token);
    *settings = (ab_settings){0};
}
