/* SPDX-License-Identifier: Apache-2.0 */
/* The groups of a node, by id: chains from a table of buckets. The owner serializes the calls. */
#include "engine/group_table.h"
#include "engine/engine.h"

#include <stdlib.h>

#define BUCKETS_MIN 16u

/* Ids are chosen by users and often small or regular: spread them. */
static ab_group **bucket_of(const ab_group_table *table, uint64_t id)
{
    id = (id ^ id >> 32) * UINT64_C(0x9e3779b97f4a7c15);
    return &table->buckets[(id >> 32) & (table->bucket_count - 1)];
}

ab_group *ab_group_table_find(const ab_group_table *table, uint64_t id)
{
    ab_group *group = table->count > 0 ? *bucket_of(table, id) : NULL;
    while (group != NULL && group->id != id) {
        group = group->next_in_bucket;
    }
    return group;
}

static void put(ab_group_table *table, ab_group *group)
{
    ab_group **bucket = bucket_of(table, group->id);
    group->next_in_bucket = *bucket;
    *bucket = group;
}

static int grow(ab_group_table *table)
{
    size_t count = table->bucket_count == 0 ? BUCKETS_MIN : table->bucket_count * 2;
    ab_group **buckets = calloc(count, sizeof(ab_group *));
    if (buckets == NULL) {
        return AB_ENOMEM;
    }
    free(table->buckets);
    table->buckets = buckets;
    table->bucket_count = count;
    for (ab_group *group = table->first; group != NULL; group = group->next) {
        put(table, group);
    }
    return AB_OK;
}

int ab_group_table_add(ab_group_table *table, ab_group *group)
{
    if (table->count == table->bucket_count) {
        int code = grow(table);
        if (code != AB_OK) {
            return code;
        }
    }
    put(table, group);
    group->next = NULL;
    group->previous = table->last;
    *(table->last != NULL ? &table->last->next : &table->first) = group;
    table->last = group;
    table->count++;
    return AB_OK;
}

void ab_group_table_remove(ab_group_table *table, ab_group *group)
{
    ab_group **link = bucket_of(table, group->id);
    while (*link != group) {
        link = &(*link)->next_in_bucket;
    }
    *link = group->next_in_bucket;
    *(group->previous != NULL ? &group->previous->next : &table->first) = group->next;
    *(group->next != NULL ? &group->next->previous : &table->last) = group->previous;
    table->count--;
    if (table->count == 0) {
        free(table->buckets);
        *table = (ab_group_table){0};
    }
}
