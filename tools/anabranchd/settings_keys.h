/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file settings_keys.h
 * One table of the keys of `application:`: kind, place, default, range, meaning. What reads the file, SIGHUP and the
 * reference (docs/CONFIGURATION.md) are made of it. Constant data and pure functions; any thread.
 */
#ifndef ANABRANCHD_SETTINGS_KEYS_H
#define ANABRANCHD_SETTINGS_KEYS_H

#include "tools/anabranchd/settings.h"

typedef enum ab_setting_kind {
    AB_SETTING_NUMBER, /* the member is a uint64_t */
    AB_SETTING_SIZE,   /* the same, of bytes: KiB, MiB, GiB or TiB may stand behind it */
    AB_SETTING_TEXT,   /* a char *, not empty, of at most AB_SETTING_TEXT_MAX bytes */
    AB_SETTING_LEVEL,  /* an ab_write_level */
    AB_SETTING_FORMAT  /* an ab_log_format */
} ab_setting_kind;

/* What a change of a key needs to take effect. */
typedef enum ab_change { AB_CHANGE_RESTART, AB_CHANGE_SIGHUP, AB_CHANGE_NOTHING } ab_change;

typedef struct ab_setting {
    const char *key;
    ab_setting_kind kind;
    ab_change change;
    size_t offset;
    const char *unit;  /* "" if it has none */
    uint64_t fallback; /* of numbers and sizes, as the next two */
    uint64_t least;
    uint64_t most;
    const char *text;    /* default of the others; NULL: none */
    const char *meaning; /* Markdown, on one line */
} ab_setting;

#define AB_SETTING_TEXT_MAX 255u

extern const ab_setting ab_settings_keys[];
#define AB_SETTINGS_COUNT 13u

/** The member that the key describes. */
void *ab_setting_member(const ab_setting *setting, ab_settings *settings);
const void *ab_setting_value(const ab_setting *setting, const ab_settings *settings);

/** Whether the member is a number, of whatever kind. */
bool ab_setting_is_number(const ab_setting *setting);

/** Reads digits, and of a size the unit behind them; nothing else may be there. @return false: `text` is no such number */
bool ab_setting_parse(const ab_setting *setting, const char *text, uint64_t *number);

/** Puts a number as the file has it into `text`: "8086", "16MiB". */
void ab_setting_number(const ab_setting *setting, uint64_t number, char *text, size_t size);

/** "logfmt", "json"; NULL: there is no such format. */
const char *ab_log_format_name(unsigned format);

/** Puts what is allowed into `text`. */
void ab_setting_allowed(const ab_setting *setting, char *text, size_t size);

/** What a change of a key of the rest of the file needs; "node.log_severity", "node.peers[].host". */
ab_change ab_key_change(const char *path);

/** "restart", "SIGHUP", "nothing". */
const char *ab_change_name(ab_change change);

#endif
