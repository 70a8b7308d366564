/* SPDX-License-Identifier: Apache-2.0 */
/* See markup_check.h. One thread. */
#include "tests/support/markup_check.h"

#include <stdbool.h>
#include <string.h>

#define DEPTH 32u

typedef struct element {
    const char *name;
    size_t length;
} element;

static bool is(const element *e, const char *name)
{
    return strlen(name) == e->length && strncmp(e->name, name, e->length) == 0;
}

/* The text behind the tag; sets `problem` where it is not one. */
static const char *attributes(const char *at, const char **problem)
{
    while (*at != '>' && *problem == NULL) {
        if (*at == '\0' || *at == '<') {
            *problem = "a tag that does not end";
        } else if (*at++ == '=') {
            const char *end = *at == '"' ? strchr(at + 1, '"') : NULL;
            if (end == NULL) {
                *problem = "an attribute without quotes";
            } else if (memchr(at, '<', (size_t)(end - at)) != NULL) {
                *problem = "< in an attribute";
            } else {
                at = end + 1;
            }
        }
    }
    return at;
}

static bool is_entity(const char *at)
{
    size_t length = strspn(at + 1, "abcdefghijklmnopqrstuvwxyz0123456789#");
    return length > 1 && length < 7 && at[1 + length] == ';';
}

static const char *check_elements(const char *text, const char **at)
{
    element open[DEPTH];
    size_t depth = 0;
    const char *problem = NULL;
    for (*at = text; **at != '\0' && problem == NULL;) {
        if (**at == '&' && !is_entity(*at)) {
            return "& that is no entity";
        }
        if (**at == '>') {
            return "> outside of a tag";
        }
        if (*(*at)++ != '<') {
            continue;
        }
        bool closing = **at == '/';
        element e = {*at + closing, strcspn(*at + closing, " />\n")};
        *at = attributes(*at, &problem);
        bool alone = (*at)[-1] == '/' || is(&e, "meta") || is(&e, "!DOCTYPE");
        *at += **at == '>';
        if (closing && (depth == 0 || open[depth - 1].length != e.length ||
                        strncmp(open[depth - 1].name, e.name, e.length) != 0)) {
            return "an end of what is not open";
        }
        depth -= closing;
        if (!closing && !alone) {
            if (depth == DEPTH) {
                return "elements too deep";
            }
            open[depth++] = e;
        }
        if (!closing && is(&e, "style")) { /* CSS, up to its end */
            const char *end = strstr(*at, "</style>");
            *at = end != NULL ? end : *at;
        }
    }
    return problem != NULL ? problem : depth > 0 ? "an element that does not end" : NULL;
}

/* Each id="…" once. */
static const char *check_ids(const char *text, const char **at)
{
    for (*at = text; (*at = strstr(*at, " id=\"")) != NULL; *at += 5) {
        size_t length = strcspn(*at + 5, "\"") + 6;
        for (const char *other = text; other < *at; other++) {
            if (strncmp(other, *at, length) == 0) {
                return "an id that is there twice";
            }
        }
    }
    *at = text;
    return NULL;
}

const char *markup_check(const char *text, size_t *where)
{
    static const char *const unwanted[] = {"<script", "javascript:", " src=", "<link", "@import",
                                           "url(",    "<iframe",     "nan",   ">inf"};
    const char *at = text;
    const char *problem = check_elements(text, &at);
    if (problem == NULL) {
        problem = check_ids(text, &at);
    }
    for (size_t i = 0; problem == NULL && i < sizeof unwanted / sizeof unwanted[0]; i++) {
        at = strstr(text, unwanted[i]);
        problem = at != NULL ? "something that a page must not have" : NULL;
    }
    *where = problem != NULL ? (size_t)(at - text) : 0;
    return problem;
}
