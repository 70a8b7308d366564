/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file layout.h
 * Which groups the series of a data directory are spread over. A series finds its group by hash modulo their number:
 * with other groups the same series would live in two places. Any thread.
 */
#ifndef ANABRANCHD_LAYOUT_H
#define ANABRANCHD_LAYOUT_H

#include <anabranch/config.h>

/** Compares the groups with what the directory was made with, or notes them (file "groups").
 *  @return AB_OK, AB_ECONFIG, AB_EIO, AB_ENOSPC, AB_ENOMEM; `message` says what */
int ab_layout_check(const char *points_dir, const ab_group_config *groups, size_t count, ab_message *message);

#endif
