/* SPDX-License-Identifier: Apache-2.0 */
/* SIGHUP: the configuration is read again; what can change while the daemon runs does, the rest is named. The main
 * thread. */
#include "tools/anabranchd/daemon.h"
#include "tools/anabranchd/log.h"
#include "tools/anabranchd/settings_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct differences {
    char keys[512];
    size_t size;
} differences;

static void add(differences *all, const char *key)
{
    int n =
        snprintf(all->keys + all->size, sizeof all->keys - all->size, "%s%s", all->size > 0 ? " " : "", key);
    size_t room = sizeof all->keys - all->size;
    all->size += (size_t)n < room ? (size_t)n : room - 1;
}

/* The values of a file, a line "KEY=VALUE" for each: of the node, of its peers, of the groups. The latter are compared as a
 * whole, because items may have come or gone. */
enum { NODE, PEERS, GROUPS, PARTS };

typedef struct values {
    FILE *out[PARTS];
    char *text[PARTS];
    size_t size[PARTS];
} values;

/* "groups[3].name" as the reference has it, "groups[].name". */
static void plain_path(const char *path, char *plain, size_t size)
{
    size_t used = 0;
    for (bool inside = false; *path != '\0' && used + 1 < size; path++) {
        inside = inside && *path != ']';
        if (!inside) {
            plain[used++] = *path;
        }
        inside = inside || *path == '[';
    }
    plain[used] = '\0';
}

static bool add_value(void *arg, const ab_config_value *value)
{
    values *all = arg;
    char path[96];
    plain_path(value->path, path, sizeof path);
    if (ab_key_change(path) == AB_CHANGE_RESTART) {
        size_t part = strncmp(path, "groups[", 7) == 0 ? GROUPS : strchr(path, '[') != NULL ? PEERS : NODE;
        /* What follows another key changes with that one. */
        fprintf(all->out[part], "%s=%s\n", path, value->follows != NULL ? "default" : value->text);
    }
    return true;
}

static void free_values(values *all)
{
    for (size_t i = 0; i < PARTS; i++) {
        free(all->text[i]);
    }
}

/* Free them in any case. @return AB_OK, AB_ENOMEM */
static int read_values(const ab_config *file, values *all)
{
    bool good = true;
    *all = (values){.out = {NULL}};
    for (size_t i = 0; i < PARTS; i++) {
        all->out[i] = open_memstream(&all->text[i], &all->size[i]);
        good = good && all->out[i] != NULL;
    }
    good = good && ab_config_each(file, add_value, all) == AB_OK;
    for (size_t i = 0; i < PARTS; i++) {
        bool closed = all->out[i] != NULL && fclose(all->out[i]) == 0;
        good = good && closed;
    }
    return good ? AB_OK : AB_ENOMEM;
}

/* Both have the same keys in the same order. */
static void compare_lines(differences *all, const char *was, const char *is)
{
    while (*was != '\0' && *is != '\0') {
        size_t old = strcspn(was, "\n");
        size_t new = strcspn(is, "\n");
        if (old != new || memcmp(was, is, old) != 0) {
            char key[96];
            snprintf(key, sizeof key, "%.*s", (int)strcspn(was, "="), was);
            add(all, key);
        }
        was += old + 1;
        is += new + 1;
    }
}

static bool same_setting(const ab_setting *setting, const ab_settings *was, const ab_settings *is)
{
    const void *old = ab_setting_value(setting, was);
    const void *new = ab_setting_value(setting, is);
    if (ab_setting_is_number(setting)) {
        return memcmp(old, new, sizeof(uint64_t)) == 0;
    }
    if (setting->kind == AB_SETTING_TEXT) {
        char *const *a = old;
        char *const *b = new;
        return *a == NULL || *b == NULL ? *a == *b : strcmp(*a, *b) == 0;
    }
    return memcmp(old, new, sizeof(int)) == 0; /* enumerations */
}

static void compare_settings(differences *all, const ab_settings *was, const ab_settings *is)
{
    for (size_t i = 0; i < AB_SETTINGS_COUNT; i++) {
        const ab_setting *setting = &ab_settings_keys[i];
        if (setting->change == AB_CHANGE_RESTART && !same_setting(setting, was, is)) {
            char key[64];
            snprintf(key, sizeof key, "application.%s", setting->key);
            add(all, key);
        }
    }
}

/* What is different and needs a start. @return AB_OK, AB_ENOMEM */
static int compare(const ab_daemon *daemon, const ab_daemon *fresh, differences *all)
{
    values was;
    values is;
    int code = read_values(daemon->file, &was);
    int other = read_values(fresh->file, &is);
    code = code != AB_OK ? code : other;
    if (code == AB_OK) {
        compare_lines(all, was.text[NODE], is.text[NODE]);
        if (strcmp(was.text[PEERS], is.text[PEERS]) != 0) {
            add(all, "node.peers");
        }
        if (strcmp(was.text[GROUPS], is.text[GROUPS]) != 0) {
            add(all, "groups");
        }
        compare_settings(all, daemon->settings, fresh->settings);
    }
    free_values(&was);
    free_values(&is);
    return code;
}

/* Requests under way may still look at the settings they began with: those are kept until the end. */
static void take(ab_daemon *daemon, ab_daemon *fresh)
{
    ab_settings *settings = fresh->settings;
    fresh->settings = NULL;
    ab_log_configure(fresh->node_config.log_severity, settings->log_format);
    settings->before = daemon->settings;
    daemon->settings = settings;
    ab_http_use(daemon->http, settings);
}

void ab_daemon_reload(ab_daemon *daemon)
{
    ab_message message = {""};
    differences all = {.size = 0};
    ab_daemon fresh;
    int code = ab_daemon_configure(&fresh, daemon->path, &message);
    code = code == AB_OK ? compare(daemon, &fresh, &all) : code;
    if (code == AB_OK) {
        take(daemon, &fresh);
        ab_log(AB_LOG_INFO, "configuration read again");
    } else {
        const char *why = message.text[0] != '\0' ? message.text : ab_strerror(code);
        ab_log_fields(AB_LOG_ERROR, "the configuration stays as it is", &(ab_log_field){"error", why, 0}, 1);
    }
    if (all.size > 0 && code == AB_OK) {
        ab_log_fields(AB_LOG_WARN, "what changed here needs a restart", &(ab_log_field){"keys", all.keys, 0},
                      1);
    }
    ab_daemon_stop(&fresh); /* nothing of it was opened */
}
