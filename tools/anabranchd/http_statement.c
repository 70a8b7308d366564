/* SPDX-License-Identifier: Apache-2.0 */
/* /query of InfluxDB 1: there is nothing to query, but its clients make their database before they write to it. As there
 * is one name space, that is answered as done; anything else is refused. libmicrohttpd's threads. */
#include "tools/anabranchd/http_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *skip_spaces(const char *text)
{
    while (isspace((unsigned char)*text)) {
        text++;
    }
    return text;
}

/* Behind `word`, which stands there alone; NULL: it does not. */
static const char *skip_word(const char *text, const char *word)
{
    size_t size = strlen(word);
    if (text == NULL || strncasecmp(text, word, size) != 0 || !isspace((unsigned char)text[size])) {
        return NULL;
    }
    return skip_spaces(text + size);
}

/* Behind a name, quoted or not; NULL: there is none. */
static const char *skip_name(const char *text)
{
    const char *from = text;
    if (*text != '"') {
        while (isalnum((unsigned char)*text) || *text == '_' || *text == '-' || *text == '.') {
            text++;
        }
        return text > from ? text : NULL;
    }
    for (text++; *text != '"'; text++) {
        text += *text == '\\' ? 1 : 0;
        if (*text == '\0') {
            return NULL;
        }
    }
    return text > from + 1 ? text + 1 : NULL;
}

static bool creates_database(const char *text)
{
    text = skip_word(skip_word(skip_spaces(text), "CREATE"), "DATABASE");
    text = text != NULL ? skip_name(text) : NULL;
    if (text == NULL) {
        return false;
    }
    text = skip_spaces(text);
    text = *text == ';' ? skip_spaces(text + 1) : text;
    return *text == '\0';
}

/* The parameter q of a form; the caller's to free. NULL: none, or out of memory */
static char *form_statement(const ab_request *request)
{
    size_t size = request->size;
    const char *body = request->body;
    for (size_t at = 0, end = 0; at < size; at = end + 1) {
        const char *stop = memchr(body + at, '&', size - at);
        end = stop != NULL ? (size_t)(stop - body) : size;
        if (end - at < 2 || memcmp(body + at, "q=", 2) != 0) {
            continue;
        }
        size_t length = end - at - 2;
        char *text = malloc(length + 1);
        if (text == NULL) {
            return NULL;
        }
        for (size_t i = 0; i < length; i++) {
            text[i] = body[at + 2 + i] == '+' ? ' ' : body[at + 2 + i];
        }
        text[length] = '\0'; /* the body has none */
        MHD_http_unescape(text);
        return text;
    }
    return NULL;
}

enum MHD_Result ab_http_statement(ab_request *request)
{
    const char *text = MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "q");
    char *form = text == NULL && request->size > 0 ? form_statement(request) : NULL;
    bool done = (text != NULL && creates_database(text)) || (form != NULL && creates_database(form));
    free(form);
    if (!done) {
        return ab_http_error(
            request, MHD_HTTP_BAD_REQUEST,
            "no queries here but CREATE DATABASE name, which does nothing: GET /export reads");
    }
    return ab_http_json(request, MHD_HTTP_OK, json_pack("{s:[{s:i}]}", "results", "statement_id", 0));
}
