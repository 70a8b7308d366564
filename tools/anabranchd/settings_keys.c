/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of `application:`. Constant data, pure functions; any thread. */
#include "tools/anabranchd/settings_keys.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACE(member) offsetof(ab_settings, member)

const ab_setting ab_settings_keys[] = {
    {"http_host", AB_SETTING_TEXT, AB_CHANGE_RESTART, PLACE(http_host), "", 0, 0, 0, AB_DEFAULT_HTTP_HOST,
     "Address of HTTP, 0.0.0.0 for all. Anything but loopback needs `node.insecure: true`."},
    {"http_port", AB_SETTING_NUMBER, AB_CHANGE_RESTART, PLACE(http_port), "", AB_DEFAULT_HTTP_PORT, 0,
     UINT16_MAX, NULL, "Port of HTTP; 0: the system chooses, the log and the ready file say which."},
    {"http_threads", AB_SETTING_NUMBER, AB_CHANGE_RESTART, PLACE(http_threads), "", AB_DEFAULT_HTTP_THREADS,
     1, 64, NULL, "Threads that serve connections."},
    {"token", AB_SETTING_TEXT, AB_CHANGE_SIGHUP, PLACE(token), "", 0, 0, 0, NULL,
     "What requests must show. Without it everybody may do everything."},
    {"groups", AB_SETTING_NUMBER, AB_CHANGE_RESTART, PLACE(groups), "", AB_DEFAULT_GROUPS, 1, 4096, NULL,
     "How many groups are made where `groups:` lists none. The same on all nodes; cannot change while there "
     "is data."},
    {"write_level", AB_SETTING_LEVEL, AB_CHANGE_SIGHUP, PLACE(write_level), "", 0, 0, 0, "default",
     "When a write is answered. `default`: the group's."},
    {"timeout_ms", AB_SETTING_NUMBER, AB_CHANGE_SIGHUP, PLACE(timeout_ms), "ms", AB_DEFAULT_TIMEOUT_MS, 1,
     600000, NULL, "Of a write or a read; then 503."},
    {"max_body", AB_SETTING_SIZE, AB_CHANGE_SIGHUP, PLACE(max_body), "", AB_DEFAULT_MAX_BODY, 1024, 1u << 30,
     NULL, "Largest body, also when inflated; beyond it 413."},
    {"max_bodies", AB_SETTING_SIZE, AB_CHANGE_SIGHUP, PLACE(max_bodies), "", AB_DEFAULT_MAX_BODIES, 1024,
     1ull << 40, NULL,
     "All bodies being received, inflated or parsed together; beyond it 503. At least `max_body`."},
    {"max_connections", AB_SETTING_NUMBER, AB_CHANGE_RESTART, PLACE(max_connections), "",
     AB_DEFAULT_MAX_CONNECTIONS, 1, 65000, NULL,
     "Beyond it the one that waits for a request the longest is closed."},
    {"idle_timeout_s", AB_SETTING_NUMBER, AB_CHANGE_RESTART, PLACE(idle_timeout_s), "s",
     AB_DEFAULT_IDLE_TIMEOUT_S, 1, 86400, NULL, "Until an idle connection is closed."},
    {"delete_grace_s", AB_SETTING_NUMBER, AB_CHANGE_RESTART, PLACE(delete_grace_s), "s",
     AB_DEFAULT_DELETE_GRACE_S, 0, 315360000, NULL,
     "How much later than a delete every member must be heard before it is forgotten; 0: never. The same on "
     "all nodes."},
    {"log_format", AB_SETTING_FORMAT, AB_CHANGE_SIGHUP, PLACE(log_format), "", 0, 0, 0, "logfmt",
     "Form of a log line."},
};

_Static_assert(sizeof ab_settings_keys / sizeof ab_settings_keys[0] == AB_SETTINGS_COUNT,
               "AB_SETTINGS_COUNT is the number of keys");

void *ab_setting_member(const ab_setting *setting, ab_settings *settings)
{
    return (char *)settings + setting->offset;
}

const void *ab_setting_value(const ab_setting *setting, const ab_settings *settings)
{
    return (const char *)settings + setting->offset;
}

bool ab_setting_is_number(const ab_setting *setting)
{
    return setting->kind == AB_SETTING_NUMBER || setting->kind == AB_SETTING_SIZE;
}

static const char *const size_units[] = {"", "KiB", "MiB", "GiB", "TiB"};
#define SIZE_UNITS (sizeof size_units / sizeof size_units[0])

bool ab_setting_parse(const ab_setting *setting, const char *text, uint64_t *number)
{
    char *rest;
    bool octal = text[0] == '0' && text[1] >= '0' && text[1] <= '9';
    if (text[0] < '0' || text[0] > '9' || octal) {
        return false;
    }
    errno = 0;
    *number = strtoull(text, &rest, 10);
    if (errno != 0) {
        return false;
    }
    size_t units = setting->kind == AB_SETTING_SIZE ? SIZE_UNITS : 1;
    for (unsigned i = 0; i < units; i++) {
        if (strcmp(rest, size_units[i]) == 0 && *number <= UINT64_MAX >> (10 * i)) {
            *number <<= 10 * i;
            return true;
        }
    }
    return false;
}

void ab_setting_number(const ab_setting *setting, uint64_t number, char *text, size_t size)
{
    size_t unit = 0;
    while (setting->kind == AB_SETTING_SIZE && unit + 1 < SIZE_UNITS && number > 0 && number % 1024 == 0) {
        number /= 1024;
        unit++;
    }
    snprintf(text, size, "%" PRIu64 "%s", number, size_units[unit]);
}

const char *ab_log_format_name(unsigned format)
{
    static const char *const names[] = {[AB_LOG_LOGFMT] = "logfmt", [AB_LOG_JSON] = "json"};
    return format < sizeof names / sizeof names[0] ? names[format] : NULL;
}

static void add_name(const char *name, char *text, size_t size)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "", name);
}

void ab_setting_allowed(const ab_setting *setting, char *text, size_t size)
{
    char least[24];
    char most[24];
    text[0] = '\0';
    switch (setting->kind) {
    case AB_SETTING_NUMBER:
    case AB_SETTING_SIZE:
        ab_setting_number(setting, setting->least, least, sizeof least);
        ab_setting_number(setting, setting->most, most, sizeof most);
        snprintf(text, size, "%s to %s", least, most);
        return;
    case AB_SETTING_TEXT:
        snprintf(text, size, "1 to %u bytes of text", AB_SETTING_TEXT_MAX);
        return;
    case AB_SETTING_LEVEL:
        for (int level = 0; level <= AB_WRITE_ALL; level++) {
            add_name(ab_write_level_name((ab_write_level)level), text, size);
        }
        return;
    case AB_SETTING_FORMAT:
        for (unsigned format = 0; ab_log_format_name(format) != NULL; format++) {
            add_name(ab_log_format_name(format), text, size);
        }
        return;
    }
}

ab_change ab_key_change(const char *path)
{
    if (strcmp(path, "node.log_severity") == 0) {
        return AB_CHANGE_SIGHUP;
    }
    /* The daemon does not look at it: it is for inspectors, which read the file themselves. */
    return strcmp(path, "node.peers[].admin") == 0 ? AB_CHANGE_NOTHING : AB_CHANGE_RESTART;
}

const char *ab_change_name(ab_change change)
{
    return change == AB_CHANGE_RESTART ? "restart" : change == AB_CHANGE_SIGHUP ? "SIGHUP" : "nothing";
}
