/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the page that `anabranch report` writes. One page: one thread. */
#ifndef ANABRANCH_TOOLS_PAGE_CLUSTER_H
#define ANABRANCH_TOOLS_PAGE_CLUSTER_H

#include "tools/anabranch/cli.h"
#include "tools/anabranch/history.h"

#include <stdio.h>

/* "node 2", or its directory where that is not known. */
void page_node_name(const history_node *node, char *text, size_t size);

/* Tables of nodes, peers, groups, streams and settings, as of the last look. */
void page_nodes(const history *h, FILE *out);
void page_peers(const history *h, FILE *out);
void page_groups(const history *h, FILE *out);
void page_streams(const history *h, FILE *out);
void page_settings(const history *h, const options *o, FILE *out);

/* Plots over the time of the looks; nothing if there was one look only. */
void page_plots(const history *h, FILE *out);

#endif
