/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the enumerations of the configuration, both ways. Constant data, pure functions; any thread. */
#include "engine/base/config_fields.h"

#include <string.h>

/* In the order of the values. */
static const char *const write_levels[] = {"default", "memory", "local", "quorum", "all"};
static const char *const read_levels[] = {"default",   "weak", "session", "bounded",
                                          "monotonic", "mid",  "strong"};
static const char *const durabilities[] = {"sync", "interval", "none"};
static const char *const apply_orders[] = {"causal", "arrival"};
static const char *const severities[] = {"debug", "info", "warn", "error"};

#define NAMES(list, last)                                                                                    \
    _Static_assert(sizeof(list) / sizeof(list)[0] == (last) + 1, "a name is missing in " #list)
NAMES(write_levels, AB_WRITE_ALL);
NAMES(read_levels, AB_READ_STRONG);
NAMES(durabilities, AB_DURABILITY_NONE);
NAMES(apply_orders, AB_APPLY_ARRIVAL);
NAMES(severities, AB_LOG_ERROR);
#undef NAMES

const char *const *ab_field_names(ab_field_kind kind, size_t *count)
{
    switch (kind) {
    case AB_FIELD_DURABILITY:
        *count = sizeof durabilities / sizeof durabilities[0];
        return durabilities;
    case AB_FIELD_WRITE_LEVEL:
        *count = sizeof write_levels / sizeof write_levels[0];
        return write_levels;
    case AB_FIELD_READ_LEVEL:
        *count = sizeof read_levels / sizeof read_levels[0];
        return read_levels;
    case AB_FIELD_APPLY_ORDER:
        *count = sizeof apply_orders / sizeof apply_orders[0];
        return apply_orders;
    case AB_FIELD_SEVERITY:
        *count = sizeof severities / sizeof severities[0];
        return severities;
    default:
        *count = 0;
        return NULL;
    }
}

/* Position of `name`, or -1. */
static int find_name(ab_field_kind kind, const char *name)
{
    size_t count;
    const char *const *names = ab_field_names(kind, &count);
    for (size_t i = 0; name != NULL && i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static const char *name_at(ab_field_kind kind, unsigned value)
{
    size_t count;
    const char *const *names = ab_field_names(kind, &count);
    return value < count ? names[value] : "?";
}

int ab_write_level_parse(const char *name, ab_write_level *level)
{
    int value = find_name(AB_FIELD_WRITE_LEVEL, name);
    if (value < 0 || level == NULL) {
        return AB_EINVAL;
    }
    *level = (ab_write_level)value;
    return AB_OK;
}

int ab_read_level_parse(const char *name, ab_read_level *level)
{
    int value = find_name(AB_FIELD_READ_LEVEL, name);
    if (value < 0 || level == NULL) {
        return AB_EINVAL;
    }
    *level = (ab_read_level)value;
    return AB_OK;
}

int ab_durability_parse(const char *name, ab_durability *durability)
{
    int value = find_name(AB_FIELD_DURABILITY, name);
    if (value < 0 || durability == NULL) {
        return AB_EINVAL;
    }
    *durability = (ab_durability)value;
    return AB_OK;
}

const char *ab_write_level_name(ab_write_level level)
{
    return name_at(AB_FIELD_WRITE_LEVEL, (unsigned)level);
}

const char *ab_read_level_name(ab_read_level level)
{
    return name_at(AB_FIELD_READ_LEVEL, (unsigned)level);
}

const char *ab_durability_name(ab_durability durability)
{
    return name_at(AB_FIELD_DURABILITY, (unsigned)durability);
}
