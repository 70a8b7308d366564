/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file group_table.h
 * The groups of a node: found by id, listed in the order in which they were opened. Links through the groups themselves,
 * so that an idle group costs little. The owner serializes the calls (the node's registry lock).
 */
#ifndef ANABRANCH_ENGINE_GROUP_TABLE_H
#define ANABRANCH_ENGINE_GROUP_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct ab_group;

/** All zero is empty. */
typedef struct ab_group_table {
    struct ab_group **buckets; /* a power of two of them; NULL while there are no groups */
    size_t bucket_count;
    size_t count;
    struct ab_group *first, *last; /* on with group->next */
} ab_group_table;

/** NULL if there is none. */
struct ab_group *ab_group_table_find(const ab_group_table *table, uint64_t id);

/** Adds a group whose id is not there yet. @return AB_OK, AB_ENOMEM */
int ab_group_table_add(ab_group_table *table, struct ab_group *group);

/** Takes out a group that is there. */
void ab_group_table_remove(ab_group_table *table, struct ab_group *group);

#endif
