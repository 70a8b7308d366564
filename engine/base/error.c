/* SPDX-License-Identifier: Apache-2.0 */
/* Names and messages of error codes, both made from AB_ERROR_LIST. Pure functions; any thread. */
#include <anabranch/error.h>

#include <stddef.h>

typedef struct error_entry {
    int code;
    const char *name;
    const char *text;
} error_entry;

static const error_entry errors[] = {
#define ERROR_ENTRY(name, value, text) {value, #name, text},
    AB_ERROR_LIST(ERROR_ENTRY)
#undef ERROR_ENTRY
};

static const error_entry *find(int code)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        if (errors[i].code == code) {
            return &errors[i];
        }
    }
    return NULL;
}

const char *ab_strerror(int code)
{
    const error_entry *entry = find(code);
    return entry != NULL ? entry->text : "unknown error";
}

const char *ab_error_name(int code)
{
    const error_entry *entry = find(code);
    return entry != NULL ? entry->name : "AB_E?";
}
