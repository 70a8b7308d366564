/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: what a good one gives, and for every kind of mistake the exact message with its line. */
#include "engine/base/yaml_scan.h"
#include "tests/support/run.h"
#include <anabranch/config.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE "node:\n  cluster: plant\n  node_id: 1\n  data_dir: /d\n" /* 4 lines */
#define PEERS "  peers:\n    - {node_id: 2, host: b, port: 7002}\n    - {node_id: 3}\n"

static ab_config *parse(const char *text)
{
    ab_config *config = NULL;
    ab_message message = {{0}};
    int code = ab_config_parse("f.yaml", text, strlen(text), &config, &message);
    ck_assert_msg(code == AB_OK, "%s", message.text);
    ck_assert_ptr_nonnull(config);
    return config;
}

static const char full[] = "node:\n"
                           "  cluster: plant\n"
                           "  node_id: 1\n"
                           "  data_dir: \"/var/lib/with space\"\n"
                           "  listen_host: 0.0.0.0\n"
                           "  listen_port: 7001\n"
                           "  insecure: true\n"
                           "  durability: interval\n"
                           "  durability_interval_ms: 50\n"
                           "  write_level: quorum\n"
                           "  read_level: session\n"
                           "  log_max_bytes: 2TiB\n"
                           "  memory_budget: 1GiB\n"
                           "  queue_bytes: 2097152\n"
                           "  block_bytes: 64KiB\n"
                           "  payload_max: 2MiB\n"
                           "  window_blocks: 7\n"
                           "  window_bytes: 1MiB\n"
                           "  retry_min_ms: 11\n"
                           "  retry_max_ms: 12\n"
                           "  gossip_ms: 13\n"
                           "  checkpoint_ms: 14\n"
                           "  checkpoint_bytes: 15\n"
                           "  max_clock_skew_ms: 0\n"
                           "  dispatcher_threads: 3\n"
                           "  apply_threads: 4\n"
                           "  stop_timeout_ms: 5\n"
                           "  log_severity: debug\n" PEERS "groups:\n"
                           "  - id: 18446744073709551615\n"
                           "    name: sensors\n"
                           "    members: [1, 2]\n"
                           "    write_level: all\n"
                           "    read_level: strong\n"
                           "    apply_order: arrival\n"
                           "  - {id: 2, name: local, backend: standalone}\n"
                           "application:\n"
                           "  anything: [~, {a: null}]\n";

START_TEST(full_node)
{
    ab_config *config = parse(full);
    const ab_node_config *n = ab_config_node(config);
    ck_assert_str_eq(n->cluster, "plant");
    ck_assert_uint_eq(n->node_id, 1);
    ck_assert_str_eq(n->data_dir, "/var/lib/with space");
    ck_assert_str_eq(n->listen_host, "0.0.0.0");
    ck_assert_uint_eq(n->listen_port, 7001);
    ck_assert(n->insecure);
    ck_assert_int_eq(n->durability, AB_DURABILITY_INTERVAL);
    ck_assert_uint_eq(n->durability_interval_ms, 50);
    ck_assert_int_eq(n->write_level, AB_WRITE_QUORUM);
    ck_assert_int_eq(n->read_level, AB_READ_SESSION);
    ck_assert_uint_eq(n->log_max_bytes, 2ull << 40);
    ck_assert_uint_eq(n->memory_budget, 1u << 30);
    ck_assert_uint_eq(n->queue_bytes, 2u << 20);
    ck_assert_uint_eq(n->block_bytes, 64u << 10);
    ck_assert_uint_eq(n->payload_max, 2u << 20);
    ck_assert_uint_eq(n->window_blocks, 7);
    ck_assert_uint_eq(n->window_bytes, 1u << 20);
    ck_assert_uint_eq(n->retry_min_ms, 11);
    ck_assert_uint_eq(n->retry_max_ms, 12);
    ck_assert_uint_eq(n->gossip_ms, 13);
    ck_assert_uint_eq(n->checkpoint_ms, 14);
    ck_assert_uint_eq(n->checkpoint_bytes, 15);
    ck_assert_uint_eq(n->max_clock_skew_ms, 0);
    ck_assert_uint_eq(n->dispatcher_threads, 3);
    ck_assert_uint_eq(n->apply_threads, 4);
    ck_assert_uint_eq(n->stop_timeout_ms, 5);
    ck_assert_int_eq(n->log_severity, AB_LOG_DEBUG);
    ck_assert(n->log == NULL);
    ab_config_free(config);
}
END_TEST

START_TEST(full_peers_and_groups)
{
    ab_config *config = parse(full);
    const ab_node_config *n = ab_config_node(config);
    ck_assert_uint_eq(n->peer_count, 2);
    ck_assert_uint_eq(n->peers[0].node_id, 2);
    ck_assert_str_eq(n->peers[0].host, "b");
    ck_assert_uint_eq(n->peers[0].port, 7002);
    ck_assert_uint_eq(n->peers[1].node_id, 3);
    ck_assert_ptr_null(n->peers[1].host);
    ck_assert_uint_eq(ab_config_group_count(config), 2);
    const ab_group_config *g = ab_config_group(config, 0);
    ck_assert_uint_eq(g->id, UINT64_MAX);
    ck_assert_str_eq(g->name, "sensors");
    ck_assert_str_eq(g->backend, "multimaster");
    ck_assert_uint_eq(g->member_count, 2);
    ck_assert_uint_eq(g->members[0], 1);
    ck_assert_uint_eq(g->members[1], 2);
    ck_assert_int_eq(g->write_level, AB_WRITE_ALL);
    ck_assert_int_eq(g->read_level, AB_READ_STRONG);
    ck_assert_int_eq(g->apply_order, AB_APPLY_ARRIVAL);
    g = ab_config_group(config, 1);
    ck_assert_uint_eq(g->id, 2);
    ck_assert_str_eq(g->backend, "standalone");
    ck_assert_uint_eq(g->member_count, 0);
    ck_assert_int_eq(g->apply_order, AB_APPLY_CAUSAL);
    ck_assert_ptr_null(ab_config_group(config, 2));
    ck_assert_ptr_null(ab_config_group(config, SIZE_MAX));
    ab_config_free(config);
}
END_TEST

START_TEST(defaults_stay_where_a_file_is_silent)
{
    ab_node_config expected;
    ab_config *config = parse(NODE);
    ab_node_config_init(&expected);
    expected.cluster = ab_config_node(config)->cluster;
    expected.data_dir = ab_config_node(config)->data_dir;
    expected.peers = ab_config_node(config)->peers;
    expected.node_id = 1;
    ck_assert_mem_eq(ab_config_node(config), &expected, sizeof expected);
    ck_assert_uint_eq(ab_config_group_count(config), 0);
    ab_config_free(config);
}
END_TEST

typedef struct mistake {
    const char *text;
    const char *message;
} mistake;

static const mistake structure[] = {
    {"", "f.yaml:1: node: is missing (the mapping with cluster, node_id, data_dir, ...)"},
    {"application: {a: b}\n",
     "f.yaml:1: node: is missing (the mapping with cluster, node_id, data_dir, ...)"},
    {"- a\n", "f.yaml:1: should be a mapping (key: value), not a list"},
    {"word\n", "f.yaml:1: should be a mapping (key: value), not a single value"},
    {"node: 3\n", "f.yaml:1: node: should be a mapping (key: value), not a single value"},
    {"node:\n", "f.yaml:1: node: has no value (give one, or leave the key out)"},
    {NODE "  bogus: 3\n", "f.yaml:5: node.bogus: is not a known key (docs/CONFIGURATION.md has all of them)"},
    {NODE "  payload_mx: 3\n", "f.yaml:5: node.payload_mx: is not a known key (did you mean payload_max?)"},
    {NODE "grops: []\n", "f.yaml:5: grops: is not a known key (did you mean groups?)"},
    {NODE "  \"\\e[2J\": 3\n",
     "f.yaml:5: node.\\x1b[2J: is not a known key (docs/CONFIGURATION.md has all of them)"},
    {NODE "  peers:\n  - {node_id: 2}\n  - node_id: 3\n    prot: 1\n",
     "f.yaml:8: node.peers[1].prot: is not a known key (did you mean port?)"},
    {NODE "groups:\n- id: 1\n  nmae: x\n",
     "f.yaml:7: groups[0].nmae: is not a known key (did you mean name?)"},
    {NODE "  cluster: again\n", "f.yaml:5: node.cluster: is given twice (give it once)"},
    {NODE "groups: []\ngroups: []\n", "f.yaml:6: groups: is given twice (give it once)"},
    {NODE "  peers: 4\n", "f.yaml:5: node.peers: should be a list, not a single value"},
    {NODE "  peers: {a: b}\n", "f.yaml:5: node.peers: should be a list, not a mapping (key: value)"},
    {NODE "  peers: [4]\n", "f.yaml:5: node.peers[0]: should be a mapping (key: value), not a single value"},
    {NODE "  gossip_ms: [4]\n", "f.yaml:5: node.gossip_ms: should be a single value, not a list"},
    {NODE "  gossip_ms: {a: 4}\n",
     "f.yaml:5: node.gossip_ms: should be a single value, not a mapping (key: value)"},
    {NODE "  gossip_ms:\n", "f.yaml:5: node.gossip_ms: has no value (give one, or leave the key out)"},
    {NODE "  listen_host: ~\n", "f.yaml:5: node.listen_host: has no value (give one, or leave the key out)"},
    {NODE "  listen_host: Null\n",
     "f.yaml:5: node.listen_host: has no value (give one, or leave the key out)"},
    {NODE "  ? [a]\n  : b\n", "f.yaml:5: node: has a key that is a mapping or a list (keys are names)"},
    {NODE "groups:\n- id: 1\n  members: [1, [2]]\n",
     "f.yaml:7: groups[0].members[1]: should be a single value, not a list"},
};

static const mistake yaml[] = {
    {"node: [",
     "f.yaml:2: not valid YAML: while parsing a flow node: did not find expected node content (column 1)"},
    {"node:\n\tcluster: a\n",
     "f.yaml:2: not valid YAML: while scanning for the next token: found character that "
     "cannot start any token (column 1)"},
    {"node: \"a\n",
     "f.yaml:2: not valid YAML: while scanning a quoted scalar: found unexpected end of stream "
     "(column 1)"},
    {"a: \x01", "f.yaml:1: not valid YAML: control characters are not allowed (the file must be UTF-8 text)"},
    {"a: \xff\xff", "f.yaml:1: not valid YAML: invalid leading UTF-8 octet (the file must be UTF-8 text)"},
    {NODE "---\na: b\n", "f.yaml:5: a second document starts here (one per file)"},
    {NODE "  listen_host: &a ::1\n",
     "f.yaml:5: node.listen_host: uses an anchor or an alias (& and * are not "
     "supported: write the value out)"},
    {NODE "  listen_host: *a\n", "f.yaml:5: node.listen_host: uses an anchor or an alias (& and * are not "
                                 "supported: write the value out)"},
    {NODE "application: {a: &x [*x]}\n",
     "f.yaml:5: application.a: uses an anchor or an alias (& and * are not supported: write the value out)"},
    {NODE "  gossip_ms: !!int 4\n",
     "f.yaml:5: node.gossip_ms: has a tag (tags are not supported: write the plain value)"},
    {NODE "  gossip_ms:\n\n    !!int 4\n", /* the line of the key */
     "f.yaml:5: node.gossip_ms: has a tag (tags are not supported: write the plain value)"},
    {NODE "  peers: !list []\n",
     "f.yaml:5: node.peers: has a tag (tags are not supported: write the plain value)"},
    {NODE "  listen_host: \"a\\0b\"\n",
     "f.yaml:5: node.listen_host: has the control character \\x00 (plain text only)"},
    {NODE "\"gro\\0ups\": []\n", "f.yaml:5: has a key with the control character \\x00 (keys are names)"},
};

static const mistake values[] = {
    {"node:\n  cluster: a\n  data_dir: d\n", "f.yaml:1: node.node_id: is missing or 0 (1 to 4294967295)"},
    {"node:\n  node_id: 1\n  data_dir: d\n",
     "f.yaml:1: node.cluster: is missing or empty (1 to 63 bytes of text)"},
    {"node:\n  node_id: 1\n  cluster: ''\n  data_dir: d\n",
     "f.yaml:3: node.cluster: is missing or empty (1 to 63 bytes of text)"},
    {"node:\n  cluster: a\n  node_id: 1\n",
     "f.yaml:1: node.data_dir: is missing or empty (1 to 4000 bytes of text)"},
    {"node:\n  cluster: 0123456789012345678901234567890123456789012345678901234567890123\n",
     "f.yaml:2: node.cluster: is 64 bytes long (1 to 63 bytes of text)"},
    {"node:\n  cluster: \"a\\tb\"\n",
     "f.yaml:2: node.cluster: has the control character \\x09 (plain text only)"},
    {NODE "  gossip_ms: fast\n", "f.yaml:5: node.gossip_ms: 'fast' is not a whole number (1 to 60000)"},
    {NODE "  gossip_ms: 12x\n", "f.yaml:5: node.gossip_ms: '12x' is not a whole number (1 to 60000)"},
    {NODE "  gossip_ms: -3\n", "f.yaml:5: node.gossip_ms: '-3' is not a whole number (1 to 60000)"},
    {NODE "  gossip_ms: 010\n", "f.yaml:5: node.gossip_ms: '010' is not a whole number (1 to 60000)"},
    {NODE "  gossip_ms: 0x10\n", "f.yaml:5: node.gossip_ms: '0x10' is not a whole number (1 to 60000)"},
    {NODE "  gossip_ms: 1.5\n", "f.yaml:5: node.gossip_ms: '1.5' is not a whole number (1 to 60000)"},
    {NODE "  gossip_ms: ''\n", "f.yaml:5: node.gossip_ms: '' is not a whole number (1 to 60000)"},
    {NODE "  gossip_ms: 10KiB\n", "f.yaml:5: node.gossip_ms: '10KiB' is not a whole number (1 to 60000)"},
    {NODE "  gossip_ms: 60001\n", "f.yaml:5: node.gossip_ms: '60001' is out of range (1 to 60000)"},
    {NODE "  gossip_ms: 4294967297\n", "f.yaml:5: node.gossip_ms: '4294967297' is out of range (1 to 60000)"},
    {NODE "  gossip_ms: 99999999999999999999\n",
     "f.yaml:5: node.gossip_ms: '99999999999999999999' is not a whole number (1 to 60000)"},
    {NODE "  listen_port: 65536\n", "f.yaml:5: node.listen_port: '65536' is out of range (0 to 65535)"},
    {NODE "  log_max_bytes: 1MiB\n",
     "f.yaml:5: node.log_max_bytes: '1MiB' is out of range (16MiB to 1024TiB)"},
    {NODE "  log_max_bytes: 64GB\n",
     "f.yaml:5: node.log_max_bytes: '64GB' is not a size: a number with KiB, MiB, "
     "GiB, TiB or nothing behind it (16MiB to 1024TiB)"},
    {NODE "  log_max_bytes: 99999999999TiB\n", "f.yaml:5: node.log_max_bytes: '99999999999TiB' is not a "
                                               "size: a number with KiB, MiB, GiB, TiB or nothing "
                                               "behind it (16MiB to 1024TiB)"},
    {NODE "  block_bytes: 9MiB\n", "f.yaml:5: node.block_bytes: '9MiB' is out of range (4KiB to 8MiB)"},
    {NODE "  insecure: yes\n", "f.yaml:5: node.insecure: 'yes' is unknown (true, false)"},
    {NODE "  durability: fsync\n", "f.yaml:5: node.durability: 'fsync' is unknown (sync, interval, none)"},
    {NODE "  write_level: strong\n",
     "f.yaml:5: node.write_level: 'strong' is unknown (default, memory, local, quorum, all)"},
    {NODE "  read_level: local\n", "f.yaml:5: node.read_level: 'local' is unknown (default, weak, session, "
                                   "bounded, monotonic, mid, strong)"},
    {NODE "  log_severity: loud\n",
     "f.yaml:5: node.log_severity: 'loud' is unknown (debug, info, warn, error)"},
};

static const mistake relations[] = {
    {NODE "  listen_host: 0.0.0.0\n", "f.yaml:5: node.listen_host: 0.0.0.0 is not a loopback address and "
                                      "there is no TLS (use 127.0.0.1, ::1 or "
                                      "localhost, or set insecure: true on a network you trust)"},
    {NODE "  listen_port: 7001\n",
     "f.yaml:5: node.listen_port: 7001 is given without listen_host (add the address "
     "to listen on, e.g. 127.0.0.1)"},
    {NODE "  retry_min_ms: 20000\n", "f.yaml:1: node.retry_max_ms: 10000 is below retry_min_ms 20000"},
    {NODE "  queue_bytes: 64KiB\n",
     "f.yaml:5: node.queue_bytes: 64KiB is below payload_max 1MiB: such an entry could never be queued"},
    {NODE "  queue_bytes: 1GiB\n",
     "f.yaml:5: node.queue_bytes: 1GiB is above memory_budget 256MiB, which all queues share"},
    {NODE "  peers:\n  - node_id: 0\n",
     "f.yaml:6: node.peers[0].node_id: '0' is out of range (1 to 4294967295)"},
    {NODE "  peers:\n  - {host: a, port: 1}\n",
     "f.yaml:6: node.peers[0].node_id: is missing or 0 (1 to 4294967295)"},
    {NODE "  peers:\n  - node_id: 1\n",
     "f.yaml:6: node.peers[0].node_id: 1 is this node itself (list only the others)"},
    {NODE "  peers:\n  - node_id: 2\n  - node_id: 3\n  - node_id: 2\n",
     "f.yaml:8: node.peers[2].node_id: 2 is listed already, as peers[0] (each node once)"},
    {NODE "  peers:\n  - node_id: 2\n    host: a\n",
     "f.yaml:6: node.peers[0].port: is missing or 0, but there is a host to dial (1 to 65535)"},
    {NODE "  peers:\n  - node_id: 2\n    port: 3\n",
     "f.yaml:7: node.peers[0].port: 3 is given without a host (add host, or leave both out: it dials us)"},
    {NODE "groups:\n- name: x\n  members: [1]\n",
     "f.yaml:6: groups[0].id: is missing or 0 (1 to 18446744073709551615)"},
    {NODE "groups:\n- id: 1\n", "f.yaml:6: groups[0].name: is missing or empty (1 to 63 bytes of text)"},
    {NODE "groups:\n- id: 1\n  name: x\n",
     "f.yaml:6: groups[0].members: is missing or empty (the node ids of the "
     "group, with this node's)"},
    {NODE "groups:\n- id: 1\n  name: x\n  members: [1, 1]\n",
     "f.yaml:8: groups[0].members[1]: 1 is listed already, as members[0] (each node once)"},
    {NODE "groups:\n- id: 1\n  name: x\n  members: [0]\n",
     "f.yaml:8: groups[0].members[0]: '0' is out of range (1 to 4294967295)"},
    {NODE "groups:\n- id: 1\n  name: x\n  members:\n  - 1\n  - 9\n",
     "f.yaml:10: groups[0].members[1]: node 9 is neither this node nor one of node.peers"},
    {NODE PEERS "groups:\n- id: 1\n  name: x\n  members: [2, 3]\n",
     "f.yaml:11: groups[0].members: does not contain this node (add 1, or leave the group out)"},
    {NODE "groups:\n- {id: 1, name: x, members: [1]}\n- {id: 2, name: y, members: [1]}\n"
          "- {id: 1, name: z, members: [1]}\n",
     "f.yaml:8: groups[2].id: 1 is the id of groups[0] already (each id once)"},
    {NODE "groups:\n- {id: 1, name: x, members: [1]}\n- {id: 2, name: x, members: [1]}\n",
     "f.yaml:7: groups[1].name: x is the name of groups[0] already (each name once)"},
};

static void check_all(const mistake *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ab_config *config = NULL;
        ab_message message = {{0}};
        int code = ab_config_parse("f.yaml", list[i].text, strlen(list[i].text), &config, &message);
        ck_assert_msg(code == AB_ECONFIG, "%s\ngave %s", list[i].text, ab_error_name(code));
        ck_assert_ptr_null(config);
        ck_assert_str_eq(message.text, list[i].message);
        /* Nobody has to take the message. */
        ck_assert_int_eq(ab_config_parse("f.yaml", list[i].text, strlen(list[i].text), &config, NULL),
                         AB_ECONFIG);
    }
}

START_TEST(mistakes_of_structure)
{
    check_all(structure, sizeof structure / sizeof structure[0]);
}
END_TEST

START_TEST(mistakes_of_yaml)
{
    check_all(yaml, sizeof yaml / sizeof yaml[0]);
}
END_TEST

START_TEST(mistakes_of_values)
{
    check_all(values, sizeof values / sizeof values[0]);
}
END_TEST

START_TEST(mistakes_of_relations)
{
    check_all(relations, sizeof relations / sizeof relations[0]);
}
END_TEST

/* Repeats `piece` `count` times between `head` and `tail`. */
static char *repeated(const char *head, const char *piece, size_t count, const char *tail)
{
    size_t size = strlen(head) + count * strlen(piece) + strlen(tail) + 1;
    char *text = malloc(size);
    char *at = text;
    ck_assert_ptr_nonnull(text);
    at = stpcpy(at, head);
    for (size_t i = 0; i < count; i++) {
        at = stpcpy(at, piece);
    }
    strcpy(at, tail);
    return text;
}

static void check_hostile(char *text, const char *expected)
{
    mistake m = {text, expected};
    check_all(&m, 1);
    free(text);
}

START_TEST(hostile_files_meet_bounds)
{
    check_hostile(
        repeated(NODE "application: ", "[", 100, ""),
        "f.yaml:5: application[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]"
        "[0][0][0][0][0]: is nested too deeply (at most 32 levels)");
    check_hostile(repeated("a: ", "[", 200000, ""),
                  "f.yaml:1: a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]"
                  "[0][0][0][0][0][0][0][0][0][0][0][0][0]: is nested too deeply "
                  "(at most 32 levels)");
    check_hostile(repeated(NODE "  peers: [", "{node_id: 2},", 1025, "]\n"),
                  "f.yaml:5: node.peers: has too many entries (at most 1024)");
    check_hostile(repeated(NODE "groups: [{id: 1, name: a, members: [", "1,", 65, "]}]\n"),
                  "f.yaml:5: groups[0].members: has too many entries (at most 64)");
    char *text = repeated(NODE "#", "x", AB_YAML_SIZE_MAX, "\n");
    char expected[128];
    snprintf(expected, sizeof expected, "f.yaml:1: the file has %zu bytes (at most 16777216)", strlen(text));
    check_hostile(text, expected);
}
END_TEST

START_TEST(many_groups_take_no_quadratic_time)
{
    size_t capacity = 60000 * 64;
    char *text = malloc(capacity);
    ck_assert_ptr_nonnull(text);
    size_t used = (size_t)snprintf(text, capacity, NODE "groups:\n");
    for (int i = 60000; i > 0; i--) {
        used += (size_t)snprintf(text + used, capacity - used, "- {id: %d, name: g%d, members: [1]}\n", i, i);
    }
    ab_config *config = parse(text);
    ck_assert_uint_eq(ab_config_group_count(config), 60000);
    ck_assert_uint_eq(ab_config_group(config, 59999)->id, 1);
    ab_config_free(config);
    free(text);
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
    ab_config *config = (ab_config *)&config;
    ab_message message;
    ck_assert_int_eq(ab_config_load("/nowhere/node.yaml", &config, &message), AB_ENOTFOUND);
    ck_assert_ptr_null(config);
    ck_assert_str_eq(message.text,
                     "/nowhere/node.yaml: cannot be read: No such file or directory (name a readable "
                     "YAML file)");
    ck_assert_int_eq(ab_config_load("/", &config, &message), AB_EIO);
    ck_assert_str_eq(message.text, "/: cannot be read: Is a directory (name a readable YAML file)");
    ck_assert_int_eq(ab_config_load(NULL, &config, &message), AB_EINVAL);
    ck_assert_int_eq(ab_config_load("/x", NULL, &message), AB_EINVAL);
    ck_assert_int_eq(ab_config_parse(NULL, "", 0, &config, &message), AB_EINVAL);
    ab_config_free(NULL);
}
END_TEST

START_TEST(a_file_on_disk)
{
    char path[] = "/tmp/anabranch-config-XXXXXX";
    ab_config *config = NULL;
    ab_message message;
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, full, sizeof full - 1), (ssize_t)sizeof full - 1);
    close(fd);
    int code = ab_config_load(path, &config, &message);
    ck_assert_msg(code == AB_OK, "%s", message.text);
    ck_assert_uint_eq(ab_config_group_count(config), 2);
    ab_config_free(config);
    ck_assert_int_eq(truncate(path, 9), 0); /* "node:\n  c" */
    ck_assert_int_eq(ab_config_load(path, &config, &message), AB_ECONFIG);
    char expected[128];
    snprintf(expected, sizeof expected, "%s:1: node: should be a mapping (key: value), not a single value",
             path);
    ck_assert_str_eq(message.text, expected);
    unlink(path);
}
END_TEST

/* What ab_config_each() says, one after another: "PATH=TEXT@LINE" or "@default" or "@KEY". */
typedef struct said {
    char text[8192];
    size_t used;
    size_t count, stop_after;
} said;

static bool say(void *arg, const ab_config_value *value)
{
    said *all = arg;
    char from[64];
    if (value->line > 0) {
        snprintf(from, sizeof from, "%zu", value->line);
    }
    all->used += (size_t)snprintf(all->text + all->used, sizeof all->text - all->used, "%s=%s@%s\n",
                                  value->path, value->text,
                                  value->line > 0          ? from
                                  : value->follows != NULL ? value->follows
                                                           : "default");
    return ++all->count != all->stop_after;
}

static void has(const said *all, const char *line)
{
    char whole[160];
    snprintf(whole, sizeof whole, "%s\n", line);
    ck_assert_msg(strstr(all->text, whole) != NULL, "no \"%s\" in\n%s", line, all->text);
}

START_TEST(values_and_where_they_come_from)
{
    said all = {.used = 0};
    ab_config *config = parse(NODE "  queue_bytes: 2097152\n"
                                   "  insecure: true\n"
                                   "  write_level: local\n" PEERS "groups:\n"
                                   "- {id: 1, name: a, members: [1, 2],\n"
                                   "   read_level: session}\n"
                                   "- {id: 2, name: b, backend: standalone}\n"
                                   "application: {node: {queue_bytes: 1}}\n");
    ck_assert_int_eq(ab_config_each(config, say, &all), AB_OK);
    ck_assert_ptr_eq(strstr(all.text, "node.cluster=plant@2\nnode.node_id=1@3\nnode.data_dir=/d@4\n"),
                     all.text);
    has(&all, "node.queue_bytes=2MiB@5");
    has(&all, "node.insecure=true@6");
    has(&all, "node.write_level=local@7");
    has(&all, "node.listen_host=@default");
    has(&all, "node.block_bytes=384KiB@default");
    has(&all, "node.durability=sync@default");
    has(&all, "node.peers[0].node_id=2@9");
    has(&all, "node.peers[0].host=b@9");
    has(&all, "node.peers[1].port=0@default");
    has(&all, "groups[0].members=1, 2@12");
    has(&all, "groups[0].read_level=session@13");
    has(&all, "groups[0].write_level=local@node.write_level");
    has(&all, "groups[1].backend=standalone@14");
    has(&all, "groups[1].members=@default");
    ck_assert_int_eq(ab_config_each(NULL, say, &all), AB_EINVAL);
    ck_assert_int_eq(ab_config_each(config, NULL, NULL), AB_EINVAL);
    all = (said){.stop_after = 3};
    ck_assert_int_eq(ab_config_each(config, say, &all), AB_OK);
    ck_assert_uint_eq(all.count, 3);
    ab_config_free(config);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *good = tcase_create("good");
    tcase_add_test(good, full_node);
    tcase_add_test(good, full_peers_and_groups);
    tcase_add_test(good, defaults_stay_where_a_file_is_silent);
    tcase_add_test(good, many_groups_take_no_quadratic_time);
    tcase_add_test(good, a_file_on_disk);
    tcase_set_timeout(good, 60);
    suite_add_tcase(suite, good);
    TCase *bad = tcase_create("bad");
    tcase_add_test(bad, mistakes_of_structure);
    tcase_add_test(bad, mistakes_of_yaml);
    tcase_add_test(bad, mistakes_of_values);
    tcase_add_test(bad, mistakes_of_relations);
    tcase_add_test(bad, hostile_files_meet_bounds);
    tcase_add_test(bad, files_that_cannot_be_read);
    tcase_add_test(bad, values_and_where_they_come_from);
    tcase_set_timeout(bad, 60);
    suite_add_tcase(suite, bad);
    return test_run(suite);
}
