/* SPDX-License-Identifier: Apache-2.0 */
/* Two nodes in one process write to the same register at the same time, and end with the same value in it. */
#include <anabranch/anabranch.h>
#include <stdio.h>
#include <stdlib.h>

/* The state machine: a register. The write with the highest (hlc, node) wins, in whatever order they come. */
typedef struct replica {
    uint32_t applied, node;
    uint64_t hlc;
    char value[32];
} replica;

static int apply(void *ctx, const ab_entry *entries, size_t count, ab_frontier after, size_t *failed)
{
    replica *r = ctx;
    (void)after, (void)failed;
    for (const ab_entry *e = entries; e < entries + count; e++) {
        if (e->hlc > r->hlc || (e->hlc == r->hlc && e->stream.node > r->node)) {
            r->hlc = e->hlc, r->node = e->stream.node;
            snprintf(r->value, sizeof r->value, "%.*s", (int)e->size, (const char *)e->payload);
        }
    }
    r->applied += (uint32_t)count;
    return AB_OK;
}

static void must(int code, const char *what, const ab_message *why)
{
    if (code != AB_OK) {
        fprintf(stderr, "%s: %s. %s\n", what, ab_strerror(code), why->text);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static const ab_statemachine machine = {.version = AB_STATEMACHINE_VERSION, .apply = apply};
    static replica replicas[2];
    ab_node *nodes[2];
    ab_group *groups[2];
    ab_message why = {{0}};
    for (uint32_t i = 0; i < 2; i++) { /* the first listens on a free port, the second dials it */
        char dir[256];
        snprintf(dir, sizeof dir, "%s/node%u", argc > 1 ? argv[1] : ".", i + 1);
        ab_peer_config peer = {.node_id = 2 - i,
                               .host = i == 1 ? "127.0.0.1" : NULL,
                               .port = i == 1 ? ab_node_port(nodes[0]) : 0};
        ab_node_config config;
        ab_node_config_init(&config);
        config.cluster = "example", config.node_id = i + 1, config.data_dir = dir;
        config.listen_host = "127.0.0.1", config.peers = &peer, config.peer_count = 1;
        must(ab_node_open(&config, &nodes[i], &why), "ab_node_open", &why);
        ab_group_config group;
        ab_group_config_init(&group);
        group.id = 1, group.name = "register", group.members = (uint32_t[]){1, 2}, group.member_count = 2;
        must(ab_group_open(nodes[i], &group, &machine, replicas + i, groups + i, &why), "ab_group_open",
             &why);
    }
    ab_token *seen = ab_token_new();
    for (int i = 1; i <= 1000; i++) { /* each node's last write is waited for: durable, with all before it */
        char text[32];
        ab_bytes payload = {text, (size_t)snprintf(text, sizeof text, "%d by node %d", i, i % 2 + 1)};
        ab_write_result result;
        if (i < 999) {
            must(ab_write(groups[i % 2], text, payload.size, NULL, NULL, NULL), "ab_write", &why);
        } else {
            must(ab_write_wait(groups[i % 2], &payload, 1, NULL, &result), "ab_write_wait", &why);
            must(ab_token_saw_write(seen, &result), "ab_token_saw_write", &why);
        }
    }
    ab_read_options options = {.level = AB_READ_SESSION, .token = seen};
    for (int i = 0; i < 2; i++) { /* a session read waits until what the token has seen was applied here */
        must(ab_read_wait(groups[i], &options), "ab_read_wait", &why);
        printf("node %d: %u writes, register: \"%s\"\n", i + 1, replicas[i].applied, replicas[i].value);
    }
    ab_token_free(seen);
    must(ab_node_close(nodes[0]), "ab_node_close", &why);
    must(ab_node_close(nodes[1]), "ab_node_close", &why);
    return replicas[0].hlc != replicas[1].hlc || replicas[0].node != replicas[1].node;
}
