/* SPDX-License-Identifier: Apache-2.0 */
/** @file config_internal.h A loaded configuration, as the loader and what shows it see it. Constant once loaded. */
#ifndef ANABRANCH_ENGINE_BASE_CONFIG_INTERNAL_H
#define ANABRANCH_ENGINE_BASE_CONFIG_INTERNAL_H

#include "engine/base/config_raw.h"

struct ab_config {
    char *text; /* of the file, size bytes */
    size_t size;
    ab_raw_config *raw; /* owns all strings of the structs */
    ab_node_config node;
    ab_peer_config *peers;
    ab_group_config *groups;
    size_t group_count;
    uint32_t *members; /* of all groups, one after another */
};

#endif
