/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file config_raw.h
 * A configuration file as libcyaml reads it: the right structure, every value still text. No shared state;
 * any thread.
 */
#ifndef ANABRANCH_ENGINE_BASE_CONFIG_RAW_H
#define ANABRANCH_ENGINE_BASE_CONFIG_RAW_H

#include "engine/base/config_fields.h"

/* text[i] is the value of field i of the table; NULL: the key is not there. */
typedef struct ab_raw_peer {
    char *text[AB_PEER_FIELDS_MAX];
} ab_raw_peer;

typedef struct ab_raw_node {
    char *text[AB_NODE_FIELDS_MAX];
    ab_raw_peer *peers;
    unsigned peer_count;
} ab_raw_node;

typedef struct ab_raw_group {
    char *text[AB_GROUP_FIELDS_MAX];
    char **members;
    unsigned member_count;
} ab_raw_group;

typedef struct ab_raw_config {
    ab_raw_node *node;
    ab_raw_group *groups;
    unsigned group_count;
} ab_raw_config;

/** Reads `text`, which passed ab_yaml_check(). `*raw` is NULL for a text without any key.
 *  @return AB_OK (free with ab_raw_config_free), AB_ECONFIG (`fault` has path and text), AB_ENOMEM */
int ab_raw_config_load(const char *text, size_t size, ab_raw_config **raw, ab_config_fault *fault);

void ab_raw_config_free(ab_raw_config *raw); /* NULL is allowed */

#endif
