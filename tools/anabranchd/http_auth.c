/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a request shows the token, in any of the ways in which clients of InfluxDB 1 and 2 do. Any thread. */
#include "tools/anabranchd/http_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Takes a time that tells nothing of where they differ. */
static bool same(const char *given, const char *token)
{
    size_t size = strlen(token);
    size_t given_size = strlen(given);
    unsigned difference = given_size == size ? 0 : 1;
    for (size_t i = 0; i < given_size; i++) {
        difference |= (unsigned char)given[i] ^ (unsigned char)token[size > 0 ? i % size : 0];
    }
    return difference == 0;
}

static bool shows(const char *header, const char *scheme, const char *token)
{
    size_t size = strlen(scheme);
    return strncasecmp(header, scheme, size) == 0 && header[size] == ' ' && same(header + size + 1, token);
}

bool ab_http_may(const ab_request *request)
{
    const char *token = request->settings->token;
    if (token == NULL || request->route->open) {
        return true;
    }
    const char *header =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    if (header != NULL && (shows(header, "Token", token) || shows(header, "Bearer", token))) {
        return true;
    }
    const char *argument = MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "p");
    if (argument != NULL && same(argument, token)) {
        return true;
    }
    char *password = NULL;
    char *user = MHD_basic_auth_get_username_password(request->connection, &password);
    bool may = user != NULL && password != NULL && same(password, token);
    MHD_free(user);
    MHD_free(password);
    return may;
}
