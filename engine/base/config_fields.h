/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file config_fields.h
 * One table per configuration struct: key, kind, place, range, meaning. The check of structs filled in code, the YAML
 * loader and the reference (docs/CONFIGURATION.md) are made of it. Constant data and pure functions; any thread.
 */
#ifndef ANABRANCH_ENGINE_BASE_CONFIG_FIELDS_H
#define ANABRANCH_ENGINE_BASE_CONFIG_FIELDS_H

#include <anabranch/config.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ab_field_kind {
    AB_FIELD_U16,
    AB_FIELD_U32,
    AB_FIELD_U64,
    AB_FIELD_SIZE32, /* bytes; a file may use KiB, MiB, GiB, TiB */
    AB_FIELD_SIZE64,
    AB_FIELD_BOOL,
    AB_FIELD_TEXT, /* min and max are lengths */
    AB_FIELD_DURABILITY,
    AB_FIELD_WRITE_LEVEL,
    AB_FIELD_READ_LEVEL,
    AB_FIELD_APPLY_ORDER,
    AB_FIELD_SEVERITY
} ab_field_kind;

typedef struct ab_config_field {
    const char *key;
    ab_field_kind kind;
    size_t offset;
    uint64_t min;
    uint64_t max;
    const char *unit;    /* "" if it has none */
    const char *meaning; /* Markdown, on one line */
} ab_config_field;

typedef struct ab_config_table {
    const ab_config_field *fields;
    size_t count;
} ab_config_table;

extern const ab_config_table ab_node_table;  /* of ab_node_config, without peers and log callback */
extern const ab_config_table ab_peer_table;  /* of ab_peer_config */
extern const ab_config_table ab_group_table; /* of ab_group_config, without members */

/* Most fields of each table. */
#define AB_NODE_FIELDS_MAX 32u
#define AB_PEER_FIELDS_MAX 4u
#define AB_GROUP_FIELDS_MAX 8u

/* Most peers and groups of one file; members have AB_MEMBERS_MAX. */
#define AB_CONFIG_PEERS_MAX 1024u
#define AB_CONFIG_GROUPS_MAX 65536u

/** A key that is wrong: path below the struct ("peers[2].port") and what is wrong with it. */
typedef struct ab_config_fault {
    char path[128];
    char text[320];
} ab_config_fault;

/** What ab_node_config_check() and ab_group_config_check() find, with path and text apart. */
int ab_node_config_fault(const ab_node_config *config, ab_config_fault *fault);
int ab_group_config_fault(const ab_group_config *config, ab_config_fault *fault);

/** Fills in `fault`; too long a text is cut. @return AB_ECONFIG */
int ab_config_fail(ab_config_fault *fault, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** Names of an enumerated kind, in the order of their values from 0; NULL for other kinds. */
const char *const *ab_field_names(ab_field_kind kind, size_t *count);

/** Puts what is allowed into `text`, e.g. "1 to 60000", "4KiB to 8MiB", "sync, interval, none". */
void ab_field_allowed(const ab_config_field *field, char *text, size_t size);

/** What a file would have to say for the value in `base`; "" if there is none. May be in `scratch`. */
const char *ab_field_text(const ab_config_field *field, const void *base, char *scratch, size_t size);

/** Number in the member of `base` that the field describes; for numeric and enumerated kinds and bool. */
uint64_t ab_field_number(const ab_config_field *field, const void *base);

/** Bytes as a short number with a binary unit, as a file may spell it. */
void ab_size_text(uint64_t bytes, char *text, size_t size);

/** 127.0.0.0/8, ::1 and localhost. */
bool ab_host_is_loopback(const char *host);

#endif
