/* SPDX-License-Identifier: Apache-2.0 */
/* Structs filled in code: defaults, ranges, names of levels; what a reference of the keys is made of. */
#include "engine/base/config_fields.h"
#include "engine/base/yaml_scan.h"
#include "tests/support/run.h"
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ab_node_config good_node(void)
{
    ab_node_config config;
    ab_node_config_init(&config);
    config.cluster = "plant";
    config.node_id = 1;
    config.data_dir = "/d";
    return config;
}

static ab_group_config good_group(void)
{
    static const uint32_t members[] = {1, 2};
    ab_group_config config;
    ab_group_config_init(&config);
    config.id = 1;
    config.name = "g";
    config.members = members;
    config.member_count = 2;
    return config;
}

/* The header's list of defaults against what ab_node_config_init() sets. */
START_TEST(header_defaults)
{
    ab_node_config c;
    ab_node_config_init(&c);
    ck_assert_uint_eq(c.size, sizeof c);
    ck_assert_uint_eq(c.log_max_bytes, AB_DEFAULT_LOG_MAX_BYTES);
    ck_assert_uint_eq(c.memory_budget, AB_DEFAULT_MEMORY_BUDGET);
    ck_assert_uint_eq(c.queue_bytes, AB_DEFAULT_QUEUE_BYTES);
    ck_assert_uint_eq(c.block_bytes, AB_DEFAULT_BLOCK_BYTES);
    ck_assert_uint_eq(c.payload_max, AB_DEFAULT_PAYLOAD_MAX);
    ck_assert_uint_eq(c.window_blocks, AB_DEFAULT_WINDOW_BLOCKS);
    ck_assert_uint_eq(c.window_bytes, AB_DEFAULT_WINDOW_BYTES);
    ck_assert_uint_eq(c.retry_min_ms, AB_DEFAULT_RETRY_MIN_MS);
    ck_assert_uint_eq(c.retry_max_ms, AB_DEFAULT_RETRY_MAX_MS);
    ck_assert_uint_eq(c.gossip_ms, AB_DEFAULT_GOSSIP_MS);
    ck_assert_uint_eq(c.checkpoint_ms, AB_DEFAULT_CHECKPOINT_MS);
    ck_assert_uint_eq(c.checkpoint_bytes, AB_DEFAULT_CHECKPOINT_BYTES);
    ck_assert_uint_eq(c.durability_interval_ms, AB_DEFAULT_INTERVAL_MS);
    ck_assert_uint_eq(c.max_clock_skew_ms, AB_DEFAULT_MAX_CLOCK_SKEW_MS);
    ck_assert_uint_eq(c.dispatcher_threads, AB_DEFAULT_DISPATCHER_THREADS);
    ck_assert_uint_eq(c.apply_threads, AB_DEFAULT_APPLY_THREADS);
    ck_assert_uint_eq(c.stop_timeout_ms, AB_DEFAULT_STOP_TIMEOUT_MS);
}
END_TEST

static void expect_node(const ab_node_config *config, const char *message)
{
    ab_message m = {"untouched"};
    int code = ab_node_config_check(config, &m);
    ck_assert_str_eq(m.text, message);
    ck_assert_int_eq(code, message[0] == '\0' ? AB_OK : AB_ECONFIG);
    ck_assert_int_eq(ab_node_config_check(config, NULL), code);
}

static void expect_group(const ab_group_config *config, const char *message)
{
    ab_message m = {"untouched"};
    int code = ab_group_config_check(config, &m);
    ck_assert_str_eq(m.text, message);
    ck_assert_int_eq(code, message[0] == '\0' ? AB_OK : AB_ECONFIG);
}

START_TEST(structs)
{
    ab_node_config node = good_node();
    expect_node(&node, "");
    node.size--;
    expect_node(&node, "size: does not fit this library (start from ab_node_config_init())");
    expect_node(NULL, "size: does not fit this library (start from ab_node_config_init())");
    node = good_node();
    node.payload_max = AB_PAYLOAD_MAX + 1;
    expect_node(&node, "payload_max: 16777217 is out of range (1 to 16MiB)");
    node = good_node();
    node.durability = (ab_durability)3;
    expect_node(&node, "durability: 3 is out of range (sync, interval, none)");
    node = good_node();
    node.peer_count = 1;
    expect_node(&node, "peers: has 1 entries (0 to 1024, and an array of as many)");
    node = good_node();
    node.cluster = NULL;
    expect_node(&node, "cluster: is missing or empty (1 to 63 bytes of text)");

    ab_group_config group = good_group();
    expect_group(&group, "");
    group.size = 0;
    expect_group(&group, "size: does not fit this library (start from ab_group_config_init())");
    group = good_group();
    group.members = NULL;
    expect_group(&group, "members: has 2 entries (at most 64, and an array of as many)");
    group = good_group();
    group.backend = "";
    expect_group(&group, "backend: is missing or empty (1 to 63 bytes of text)");
    group = good_group();
    group.backend = "mine";
    group.member_count = 0;
    expect_group(&group, "");
}
END_TEST

START_TEST(loopback)
{
    static const char *const inside[] = {"127.0.0.1", "127.255.255.254", "127.0.0.0",      "::1",
                                         "localhost", "LocalHost",       "0:0:0:0:0:0:0:1"};
    static const char *const outside[] = {
        "0.0.0.0", "::",          "126.255.255.255", "128.0.0.1",          "10.0.0.1",   "localhos",
        "::2",     "127.0.0.1.x", "127.1",           "localhost.evil.org", "127.0.0.1 ", "::ffff:127.0.0.1"};
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        ab_node_config node = good_node();
        node.listen_host = inside[i];
        expect_node(&node, "");
    }
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        ab_node_config node = good_node();
        node.listen_host = outside[i];
        ck_assert_msg(ab_node_config_check(&node, NULL) == AB_ECONFIG, "%s", outside[i]);
        node.insecure = true;
        expect_node(&node, "");
    }
}
END_TEST

static void set_number(const ab_config_field *field, void *base, uint64_t value)
{
    char *at = (char *)base + field->offset;
    uint16_t u16 = (uint16_t)value;
    uint32_t u32 = (uint32_t)value;
    if (field->kind == AB_FIELD_U16) {
        memcpy(at, &u16, sizeof u16);
    } else if (field->kind == AB_FIELD_U64 || field->kind == AB_FIELD_SIZE64) {
        memcpy(at, &value, sizeof value);
    } else {
        memcpy(at, &u32, sizeof u32);
    }
}

/* Both ends of each range: the end itself is never "out of range", one beyond always is. */
START_TEST(ends_of_ranges)
{
    for (size_t i = 0; i < ab_node_table.count; i++) {
        const ab_config_field *field = &ab_node_table.fields[i];
        if (field->kind == AB_FIELD_TEXT || field->kind == AB_FIELD_BOOL) {
            continue;
        }
        uint64_t tried[] = {field->min, field->max, field->min - 1, field->max + 1};
        for (size_t k = 0; k < 4; k++) {
            ab_node_config node = good_node();
            ab_config_fault fault = {{0}, {0}};
            set_number(field, &node, tried[k]);
            bool wrapped = ab_field_number(field, &node) != tried[k] || (k == 2 && field->min == 0);
            int code = ab_node_config_fault(&node, &fault);
            bool range = code != AB_OK && (strstr(fault.text, "out of range") != NULL ||
                                           strstr(fault.text, "missing or 0") != NULL);
            ck_assert_msg(wrapped || range == (k >= 2), "%s = %" PRIu64 ": %s", field->key, tried[k],
                          fault.text);
        }
    }
}
END_TEST

START_TEST(level_names)
{
    for (int i = 0; i <= AB_WRITE_ALL; i++) {
        ab_write_level level = AB_WRITE_DEFAULT;
        ck_assert_int_eq(ab_write_level_parse(ab_write_level_name((ab_write_level)i), &level), AB_OK);
        ck_assert_int_eq(level, i);
    }
    for (int i = 0; i <= AB_READ_STRONG; i++) {
        ab_read_level level = AB_READ_DEFAULT;
        ck_assert_int_eq(ab_read_level_parse(ab_read_level_name((ab_read_level)i), &level), AB_OK);
        ck_assert_int_eq(level, i);
    }
    for (int i = 0; i <= AB_DURABILITY_NONE; i++) {
        ab_durability durability = AB_DURABILITY_SYNC;
        ck_assert_int_eq(ab_durability_parse(ab_durability_name((ab_durability)i), &durability), AB_OK);
        ck_assert_int_eq(durability, i);
    }
    ab_write_level write = AB_WRITE_ALL;
    ab_read_level read = AB_READ_MID;
    ab_durability durability = AB_DURABILITY_NONE;
    ck_assert_int_eq(ab_write_level_parse("Quorum", &write), AB_EINVAL);
    ck_assert_int_eq(ab_write_level_parse(NULL, &write), AB_EINVAL);
    ck_assert_int_eq(ab_write_level_parse("all", NULL), AB_EINVAL);
    ck_assert_int_eq(ab_read_level_parse("", &read), AB_EINVAL);
    ck_assert_int_eq(ab_durability_parse("sync ", &durability), AB_EINVAL);
    ck_assert_int_eq(write, AB_WRITE_ALL);
    ck_assert_int_eq(read, AB_READ_MID);
    ck_assert_int_eq(durability, AB_DURABILITY_NONE);
    ck_assert_str_eq(ab_write_level_name((ab_write_level)5), "?");
    ck_assert_str_eq(ab_read_level_name((ab_read_level)-1), "?");
    ck_assert_str_eq(ab_durability_name((ab_durability)3), "?");
    ck_assert_str_eq(ab_write_level_name(AB_WRITE_QUORUM), "quorum");
    ck_assert_str_eq(ab_read_level_name(AB_READ_BOUNDED), "bounded");
    ck_assert_str_eq(ab_durability_name(AB_DURABILITY_INTERVAL), "interval");
}
END_TEST

static char *read_reference(void)
{
    FILE *file = fopen(CONFIGURATION_MD, "r");
    ck_assert_ptr_nonnull(file);
    char *text = calloc(1, 65536);
    ck_assert_ptr_nonnull(text);
    size_t size = fread(text, 1, 65535, file);
    ck_assert_uint_gt(size, 1000);
    ck_assert_uint_lt(size, 65535);
    fclose(file);
    return text;
}

typedef struct seen {
    char paths[64][64];
    size_t count;
    size_t tried;
    size_t stop_after;
} seen;

/* A file in which `path` has `value`. */
static void file_with(const char *path, const char *value, char *text, size_t size)
{
    const char *base = "node:\n  cluster: c\n  node_id: 1\n  data_dir: /d\n";
    const char *key = strrchr(path, '.') + 1;
    bool dialled = strcmp(key, "port") == 0 || strcmp(key, "listen_port") == 0;
    const char *host = dialled ? (path[5] == 'p' ? "    host: h\n" : "  listen_host: 127.0.0.1\n") : "";
    if (strncmp(path, "node.peers[].", 13) == 0) {
        snprintf(text, size, "%s  peers:\n  - node_id: 2\n%s    %s: %s\n", base, host, key, value);
    } else if (strncmp(path, "groups[].", 9) == 0) {
        snprintf(text, size, "%sgroups:\n- id: 1\n  name: g\n  members: [1]\n  %s: %s\n", base, key, value);
    } else {
        snprintf(text, size, "%s%s  %s: %s\n", base, host, key, value);
    }
}

static bool look_at_key(void *arg, const ab_config_key *key)
{
    seen *all = arg;
    for (size_t i = 0; i < all->count; i++) {
        ck_assert_str_ne(all->paths[i], key->path);
    }
    snprintf(all->paths[all->count++], sizeof all->paths[0], "%s", key->path);
    ck_assert_msg(key->meaning[0] != '\0' && key->allowed[0] != '\0' && key->type[0] != '\0', "%s",
                  key->path);
    ck_assert_msg(strpbrk(key->meaning, "|\n") == NULL, "%s: no row of a table", key->path);
    ck_assert_msg(!key->required || key->fallback == NULL, "%s", key->path);
    size_t length = strlen(key->path);
    bool ms = length > 3 && strcmp(key->path + length - 3, "_ms") == 0;
    ck_assert_msg(ms == (strcmp(key->unit, "ms") == 0), "%s: unit", key->path);
    /* What is the default is what a file may say. (0 is no port to dial.) */
    if (key->fallback != NULL && strcmp(key->path, "node.peers[].port") != 0) {
        char text[512];
        ab_config *config;
        ab_message message;
        file_with(key->path, key->fallback, text, sizeof text);
        int code = ab_config_parse("f", text, strlen(text), &config, &message);
        ck_assert_msg(code == AB_OK, "%s: %s", key->path, message.text);
        ab_config_free(config);
        all->tried++;
    }
    return all->count != all->stop_after;
}

START_TEST(keys_of_the_reference)
{
    seen all = {.count = 0};
    ck_assert_int_eq(ab_config_keys(NULL, NULL), AB_EINVAL);
    ck_assert_int_eq(ab_config_keys(look_at_key, &all), AB_OK);
    /* and the lists peers, groups and members */
    ck_assert_uint_eq(all.count, ab_node_table.count + ab_peer_table.count + ab_group_table.count + 3);
    ck_assert_uint_ge(all.tried, 25);
    size_t count = all.count;
    for (size_t i = 1; i <= count; i++) {
        all = (seen){.stop_after = i};
        ck_assert_int_eq(ab_config_keys(look_at_key, &all), AB_OK);
        ck_assert_uint_eq(all.count, i);
    }
}
END_TEST

/* What is written by hand. */
START_TEST(bounds_of_a_file)
{
    char *reference = read_reference();
    char bounds[96];
    snprintf(bounds, sizeof bounds, "nesting beyond %u\nlevels and files above %u MiB", AB_YAML_DEPTH_MAX,
             AB_YAML_SIZE_MAX >> 20);
    ck_assert_msg(strstr(reference, bounds) != NULL, "%s", bounds);
    free(reference);
}
END_TEST

START_TEST(example_of_the_reference_loads)
{
    char *reference = read_reference();
    ab_config *config;
    ab_message message;
    char *start = strstr(reference, "```yaml\n") + strlen("```yaml\n");
    char *end = strstr(start, "```");
    int code = ab_config_parse("example", start, (size_t)(end - start), &config, &message);
    ck_assert_msg(code == AB_OK, "%s", message.text);
    ab_config_free(config);
    free(reference);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_check");
    TCase *tc = tcase_create("check");
    tcase_add_test(tc, header_defaults);
    tcase_add_test(tc, structs);
    tcase_add_test(tc, loopback);
    tcase_add_test(tc, ends_of_ranges);
    tcase_add_test(tc, level_names);
    tcase_add_test(tc, keys_of_the_reference);
    tcase_add_test(tc, bounds_of_a_file);
    tcase_add_test(tc, example_of_the_reference_loads);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
