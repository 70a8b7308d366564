/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of the nodes, see page_cluster.h. One page: one thread. */
#include "tools/anabranch/page.h"
#include "tools/anabranch/page_cluster.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const told_heads[] = {"Node",         ">Port",           "Durability",
                                         ">Log at most", ">Memory at most", "Store"};
static const char *const setting_heads[] = {"Setting", ">Value"};
#define COLUMNS(heads) (sizeof(heads) / sizeof(heads)[0])

static void what_nodes_tell(const history *h, FILE *out)
{
    page_table t;
    page_table_begin(&t, out, "What the nodes themselves say", told_heads, COLUMNS(told_heads));
    for (size_t i = 0; i < h->node_count; i++) {
        const json_t *row = json_object_get(h->nodes[i].last.answer, "node");
        char text[256];
        page_node_name(&h->nodes[i], text, sizeof text);
        page_text(&t, text);
        snprintf(text, sizeof text, "%" PRIu64, row_uint(row, "port"));
        page_text(&t, row_uint(row, "port") > 0 ? text : "");
        page_text(&t, row_text(row, "durability"));
        text_bytes(row_uint(row, "log_max_bytes"), text, sizeof text);
        page_text(&t, row_uint(row, "log_max_bytes") > 0 ? text : "");
        text_bytes(row_uint(row, "memory_budget"), text, sizeof text);
        page_text(&t, row_uint(row, "memory_budget") > 0 ? text : "");
        page_text(&t, row_text(row, "store_id"));
    }
    page_table_end(&t);
}

static void setting(page_table *t, const char *name, const char *value)
{
    page_text(t, name);
    page_text(t, value);
}

/* Names are those of the configuration file. */
static void numbers(page_table *t, const ab_node_config *c)
{
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"window_blocks", c->window_blocks},
        {"retry_min_ms", c->retry_min_ms},
        {"retry_max_ms", c->retry_max_ms},
        {"gossip_ms", c->gossip_ms},
        {"checkpoint_ms", c->checkpoint_ms},
        {"max_clock_skew_ms", c->max_clock_skew_ms},
        {"dispatcher_threads", c->dispatcher_threads},
        {"apply_threads", c->apply_threads},
        {"stop_timeout_ms", c->stop_timeout_ms},
    };
    const struct {
        const char *name;
        uint64_t value;
    } sizes[] = {
        {"log_max_bytes", c->log_max_bytes},       {"memory_budget", c->memory_budget},
        {"queue_bytes", c->queue_bytes},           {"block_bytes", c->block_bytes},
        {"payload_max", c->payload_max},           {"window_bytes", c->window_bytes},
        {"checkpoint_bytes", c->checkpoint_bytes},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        page_text(t, sizes[i].name);
        page_bytes(t, sizes[i].value);
    }
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        page_text(t, counts[i].name);
        page_count(t, counts[i].value);
    }
}

static void one_file(const ab_config *config, FILE *out)
{
    const ab_node_config *c = ab_config_node(config);
    page_table t;
    char text[300];
    snprintf(text, sizeof text, "Configuration of node %" PRIu32, c->node_id);
    page_table_begin(&t, out, text, setting_heads, COLUMNS(setting_heads));
    setting(&t, "cluster", c->cluster);
    setting(&t, "data_dir", c->data_dir);
    snprintf(text, sizeof text, "%s, port %u%s", c->listen_host != NULL ? c->listen_host : "",
             (unsigned)c->listen_port, c->insecure ? ", insecure" : "");
    setting(&t, "listen", c->listen_host != NULL && c->listen_host[0] != '\0' ? text : "only dials");
    for (size_t i = 0; i < c->peer_count; i++) {
        snprintf(text, sizeof text, "%s, port %u", c->peers[i].host, (unsigned)c->peers[i].port);
        char name[32];
        snprintf(name, sizeof name, "peer %" PRIu32, c->peers[i].node_id);
        setting(&t, name, text);
    }
    setting(&t, "durability", ab_durability_name(c->durability));
    setting(&t, "write_level", ab_write_level_name(c->write_level));
    setting(&t, "read_level", ab_read_level_name(c->read_level));
    numbers(&t, c);
    page_table_end(&t);
}

void page_settings(const history *h, const options *o, FILE *out)
{
    page_section(out, "configuration", "Configuration");
    what_nodes_tell(h, out);
    for (size_t i = 0; i < o->config_count; i++) {
        one_file(o->configs[i], out);
    }
    if (o->config_count == 0) {
        page_note(out, "Nodes named by --config FILE show all their settings here.");
    }
    page_section_end(out);
}
