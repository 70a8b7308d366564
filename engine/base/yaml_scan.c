/* SPDX-License-Identifier: Apache-2.0 */
/* The walk behind ab_yaml_check and ab_yaml_line: a stack of open mappings and sequences and the path as
 * text. Pure functions; any thread. */
#include "engine/base/yaml_scan.h"
#include "engine/base/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

/* Paths are for messages; a longer one is cut. */
#define PATH_SIZE 512u

typedef struct frame {
    bool mapping;
    bool have_key;      /* mapping: the next node is the value of a key */
    size_t count;       /* sequence: items so far */
    size_t path_length; /* of the container itself */
} frame;

typedef struct scan {
    yaml_parser_t parser;
    frame stack[AB_YAML_DEPTH_MAX];
    size_t depth;
    size_t documents;
    char path[PATH_SIZE];
    size_t path_length;
    size_t key_line;
    const char *target; /* NULL: check only */
    size_t target_length;
    size_t best; /* length of the longest prefix of target seen */
    size_t line;
    ab_config_fault *fault;
    ab_yaml_place_fn place; /* NULL: nobody wants to know */
    void *place_arg;
} scan;

static int refuse(scan *s, size_t line, const char *what)
{
    s->line = line;
    return ab_config_fail(s->fault, s->path, "%s", what);
}

static bool in_application(const scan *s)
{
    static const char name[] = "application";
    size_t length = sizeof name - 1;
    return strncmp(s->path, name, length) == 0 &&
           (s->path[length] == '\0' || s->path[length] == '.' || s->path[length] == '[');
}

static void path_cut(scan *s, size_t length)
{
    s->path_length = length;
    s->path[length] = '\0';
}

static void path_add(scan *s, const char *text)
{
    int n = snprintf(s->path + s->path_length, sizeof s->path - s->path_length, "%s", text);
    s->path_length += n > 0 ? (size_t)n : 0;
    if (s->path_length >= sizeof s->path) {
        s->path_length = sizeof s->path - 1;
    }
}

/* The path now names a node that starts at `line`: is it the target, or a part of the way there? */
static void path_arrived(scan *s, size_t line)
{
    if (s->place != NULL) {
        s->place(s->place_arg, s->path, line);
    }
    if (s->target == NULL || s->path_length > s->target_length || s->path_length < s->best) {
        return;
    }
    char after = s->target[s->path_length];
    bool boundary = after == '\0' || after == '.' || after == '[';
    if (boundary && memcmp(s->path, s->target, s->path_length) == 0) {
        s->best = s->path_length;
        s->line = line;
    }
}

static int take_key(scan *s, frame *top, const yaml_event_t *event, size_t line)
{
    char shown[AB_YAML_KEY_SHOWN];
    path_cut(s, top->path_length);
    if (event->type != YAML_SCALAR_EVENT) {
        return refuse(s, line, "has a key that is a mapping or a list (keys are names)");
    }
    if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length) {
        return refuse(s, line, "has a key with the control character \\x00 (keys are names)");
    }
    ab_text_quote((const char *)event->data.scalar.value, event->data.scalar.length, shown, sizeof shown);
    path_add(s, s->path_length > 0 ? "." : "");
    path_add(s, shown);
    top->have_key = true;
    s->key_line = line;
    path_arrived(s, line);
    return AB_OK;
}

/* Checks a value whose path is set. */
static int check_scalar(scan *s, const yaml_event_t *event, size_t line)
{
    const char *value = (const char *)event->data.scalar.value;
    if (event->data.scalar.tag != NULL) {
        return refuse(s, line, "has a tag (tags are not supported: write the plain value)");
    }
    if (strlen(value) != event->data.scalar.length) {
        return refuse(s, line, "has the control character \\x00 (plain text only)");
    }
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && (value[0] == '\0' || strcmp(value, "~") == 0 || strcasecmp(value, "null") == 0)) {
        return refuse(s, line, "has no value (give one, or leave the key out)");
    }
    return AB_OK;
}

/* A scalar, or the start of a mapping or sequence. */
static int take_node(scan *s, const yaml_event_t *event)
{
    size_t line = event->start_mark.line + 1;
    frame *top = s->depth > 0 ? &s->stack[s->depth - 1] : NULL;
    if (top != NULL && top->mapping && !top->have_key) {
        return take_key(s, top, event, line);
    }
    if (top != NULL && !top->mapping) {
        char position[32];
        snprintf(position, sizeof position, "[%zu]", top->count++);
        path_cut(s, top->path_length);
        path_add(s, position);
        path_arrived(s, line);
    } else if (top != NULL) {
        top->have_key = false;
        line = s->key_line;
    }
    if (event->type == YAML_SCALAR_EVENT) {
        return in_application(s) ? AB_OK : check_scalar(s, event, line);
    }
    bool mapping = event->type == YAML_MAPPING_START_EVENT;
    const yaml_char_t *tag = mapping ? event->data.mapping_start.tag : event->data.sequence_start.tag;
    if (tag != NULL && !in_application(s)) {
        return refuse(s, line, "has a tag (tags are not supported: write the plain value)");
    }
    if (s->depth == AB_YAML_DEPTH_MAX) {
        return refuse(s, line, "is nested too deeply (at most 32 levels)");
    }
    s->stack[s->depth++] = (frame){.mapping = mapping, .path_length = s->path_length};
    return AB_OK;
}

static bool has_anchor(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor != NULL;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor != NULL;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor != NULL;
    default:
        return event->type == YAML_ALIAS_EVENT;
    }
}

static int take_event(scan *s, const yaml_event_t *event)
{
    size_t line = event->start_mark.line + 1;
    if (has_anchor(event)) {
        return refuse(s, line, "uses an anchor or an alias (& and * are not supported: write the value out)");
    }
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (s->documents++ > 0) {
            path_cut(s, 0);
            return refuse(s, line, "a second document starts here (one per file)");
        }
        return AB_OK;
    case YAML_SCALAR_EVENT:
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        return take_node(s, event);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        s->depth--;
        path_cut(s, s->stack[s->depth].path_length);
        return AB_OK;
    default:
        return AB_OK;
    }
}

/* What libyaml does not like. */
static int parser_failed(scan *s)
{
    const yaml_parser_t *parser = &s->parser;
    if (parser->error == YAML_MEMORY_ERROR) {
        return AB_ENOMEM;
    }
    path_cut(s, 0);
    s->line = parser->problem_mark.line + 1;
    if (parser->error == YAML_READER_ERROR) {
        s->line = parser->mark.line + 1;
        return ab_config_fail(s->fault, "", "not valid YAML: %s (the file must be UTF-8 text)",
                              parser->problem != NULL ? parser->problem : "unreadable");
    }
    return ab_config_fail(s->fault, "", "not valid YAML: %s%s%s (column %zu)",
                          parser->context != NULL ? parser->context : "", parser->context != NULL ? ": " : "",
                          parser->problem != NULL ? parser->problem : "unreadable",
                          parser->problem_mark.column + 1);
}

static int walk(scan *s, const char *text, size_t size)
{
    if (yaml_parser_initialize(&s->parser) == 0) {
        return AB_ENOMEM;
    }
    yaml_parser_set_input_string(&s->parser, (const unsigned char *)text, size);
    int code = AB_OK;
    for (bool end = false; code == AB_OK && !end;) {
        yaml_event_t event;
        if (yaml_parser_parse(&s->parser, &event) == 0) {
            code = parser_failed(s);
            break;
        }
        end = event.type == YAML_STREAM_END_EVENT;
        code = take_event(s, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&s->parser);
    return code;
}

int ab_yaml_check(const char *text, size_t size, size_t *line, ab_config_fault *fault)
{
    scan s = {.fault = fault};
    int code = walk(&s, text, size);
    *line = s.line;
    return code;
}

size_t ab_yaml_line(const char *text, size_t size, const char *path)
{
    ab_config_fault ignored;
    scan s = {.fault = &ignored, .target = path, .target_length = strlen(path), .line = 1};
    walk(&s, text, size);
    return s.line;
}

int ab_yaml_places(const char *text, size_t size, ab_yaml_place_fn fn, void *arg)
{
    ab_config_fault ignored;
    scan s = {.fault = &ignored, .place = fn, .place_arg = arg};
    return walk(&s, text, size);
}
