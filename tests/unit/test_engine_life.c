/* SPDX-License-Identifier: Apache-2.0 */
/* The engine through the public headers, one node with a standalone group: opening, what a start finds, closing. */
#include "tests/support/run.h"
#include "tests/unit/engine_fixture.h"

#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* On a memory file system, where there is one: a thousand openings are some thousand commits. */
static void setup_in_memory(void)
{
    if (access("/dev/shm", W_OK) == 0) {
        setenv("TMPDIR", "/dev/shm", 1);
    }
    engine_setup();
}

START_TEST(reopening_applies_what_is_missing_once)
{
    ck_assert_int_eq(test_write_range(group, "w", 0, 100), AB_OK);
    ck_assert(test_sm_wait(sm, 100, WAIT_MS));
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    ck_assert_uint_eq(test_sm_count(sm), 100);
    ck_assert_uint_eq(sm->closes, 1);
    engine_open();
    ck_assert_int_eq(test_write_range(group, "v", 0, 10), AB_OK);
    ck_assert(test_sm_wait(sm, 110, WAIT_MS));
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(test_sm_count(sm), 110);
    ck_assert_int_eq(sm->order_errors, 0);
}
END_TEST

static void no_checkpoints(ab_node_config *config)
{
    config->checkpoint_ms = 60000;
}

/* One that stores nothing gets everything again that the log still has. */
START_TEST(forgetful_state_machine_is_replayed)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    cluster.tune = no_checkpoints;
    sm->keep_durable = false;
    sm->forgets = true;
    engine_open();
    ck_assert_int_eq(test_write_range(group, "w", 0, 20), AB_OK);
    ck_assert(test_sm_wait(sm, 20, WAIT_MS));
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    sm->mark_count = 0;
    engine_open();
    ck_assert(test_sm_wait(sm, 40, WAIT_MS));
    ck_assert_str_eq(sm->entries[20].text, "w-0");
    ck_assert_int_eq(sm->order_errors, 0);
}
END_TEST

START_TEST(a_directory_belongs_to_one)
{
    ab_node *second = NULL;
    ab_message message;
    ab_node_config config;
    ab_node_config_init(&config);
    config.cluster = "test";
    config.node_id = 1;
    config.data_dir = cluster.nodes[0].dir;
    ck_assert_int_eq(ab_node_open(&config, &second, &message), AB_ELOCKED);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    config.node_id = 2;
    ck_assert_int_eq(ab_node_open(&config, &second, &message), AB_EIDENTITY);
    ck_assert_ptr_nonnull(strstr(message.text, "node 1"));
    config.node_id = 1;
    config.cluster = "elsewhere";
    ck_assert_int_eq(ab_node_open(&config, &second, &message), AB_EIDENTITY);
}
END_TEST

static size_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    size_t count = 0;
    while (dir != NULL && readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CYCLES 60u
#else
#define CYCLES 1000u
#endif

START_TEST(a_thousand_cycles_leak_nothing)
{
    unsigned cycles = getenv("AB_LONG") != NULL ? 1000 : CYCLES;
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    size_t files = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    for (unsigned i = 0; i < cycles; i++) {
        engine_open();
        ck_assert_int_eq(ab_write(group, "x", 1, NULL, NULL, NULL), AB_OK);
        ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    }
    ck_assert_uint_eq(count_entries("/proc/self/fd"), files);
    ck_assert_uint_eq(count_entries("/proc/self/task"), threads);
    engine_open(); /* what was not applied before closing is now */
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(test_sm_count(sm), cycles);
    ck_assert_int_eq(sm->order_errors, 0);
}
END_TEST

static void interval_mode(ab_node_config *config)
{
    config->durability = AB_DURABILITY_INTERVAL;
    config->durability_interval_ms = 20;
}

START_TEST(interval_durability_flushes_on_close)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    cluster.tune = interval_mode;
    engine_open();
    ck_assert_int_eq(test_write_range(group, "w", 0, 500), AB_OK);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    engine_open();
    ck_assert_int_eq(ab_read_wait(group, NULL), AB_OK);
    ck_assert_uint_eq(test_sm_count(sm), 500);
    ck_assert_int_eq(sm->order_errors, 0);
}
END_TEST

static void lazy_interval(ab_node_config *config)
{
    config->durability = AB_DURABILITY_INTERVAL;
    config->durability_interval_ms = 60000;
}

/* In a process of its own: acknowledged writes that never reach the disk, then a crash. Tells the epoch. */
static void crash_with_acknowledged(int fd)
{
    ab_write_result result = {.code = AB_OK};
    ab_bytes one = {"a", 1};
    if (test_cluster_open(&cluster, 0) != AB_OK) {
        _exit(1);
    }
    for (int i = 0; i < 20; i++) {
        (void)ab_write_wait(cluster.nodes[0].group, &one, 1, NULL, &result);
    }
    bool told = result.code == AB_OK && write(fd, &result.stream.epoch, sizeof result.stream.epoch) == 4;
    _exit(told ? 0 : 1);
}

/* A tail that may be missing is remembered until each group has drawn its conclusion, whatever happens to the directory
 * between. */
START_TEST(lost_tail_is_remembered_until_the_group_opens)
{
    int fds[2];
    uint32_t lost = 0;
    ab_write_result result;
    ck_assert_int_eq(test_write_range(group, "w", 0, 1), AB_OK);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    cluster.tune = lazy_interval;
    ck_assert_int_eq(pipe(fds), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        crash_with_acknowledged(fds[1]);
    }
    ck_assert_int_eq(read(fds[0], &lost, sizeof lost), sizeof lost);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ab_node *node = NULL;
    ab_node_config config;
    ab_node_config_init(&config);
    config.cluster = "elsewhere";
    config.node_id = 1;
    config.data_dir = cluster.nodes[0].dir;
    ck_assert_int_eq(ab_node_open(&config, &node, NULL), AB_EIDENTITY);
    config.cluster = "test";
    ck_assert_int_eq(ab_node_open(&config, &node, NULL), AB_OK); /* without the group */
    ck_assert_int_eq(ab_node_close(node), AB_OK);
    engine_open();
    ck_assert_int_eq(ab_write_wait(group, &(ab_bytes){"b", 1}, 1, NULL, &result), AB_OK);
    ck_assert_uint_ne(result.stream.epoch, lost);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static void short_stop(ab_node_config *config)
{
    config->stop_timeout_ms = 200;
}

static ab_node *volatile left_behind; /* on purpose: somebody is still in its state machine */

START_TEST(stuck_apply_does_not_hold_up_closing)
{
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_OK);
    cluster.tune = short_stop;
    engine_open();
    left_behind = cluster.nodes[0].node;
    test_sm_block(sm, true);
    ck_assert_int_eq(test_write_range(group, "w", 0, 3), AB_OK);
    pthread_mutex_lock(&sm->lock);
    while (sm->in_apply == 0) {
        pthread_cond_wait(&sm->changed, &sm->lock);
    }
    pthread_mutex_unlock(&sm->lock);
    ck_assert_int_eq(test_cluster_close(&cluster, 0), AB_ETIMEDOUT);
    ck_assert_uint_eq(sm->closes, 1); /* of the first opening */
    test_sm_block(sm, false);
    pthread_mutex_lock(&sm->lock);
    while (sm->in_apply > 0) {
        pthread_cond_wait(&sm->changed, &sm->lock);
    }
    pthread_mutex_unlock(&sm->lock);
    engine_open(); /* the log was closed in order */
    ck_assert(test_sm_wait(sm, 3, WAIT_MS));
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("life");
    tcase_add_checked_fixture(tcase, engine_setup, engine_teardown);
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, reopening_applies_what_is_missing_once);
    tcase_add_test(tcase, forgetful_state_machine_is_replayed);
    tcase_add_test(tcase, a_directory_belongs_to_one);
    tcase_add_test(tcase, interval_durability_flushes_on_close);
    tcase_add_test(tcase, lost_tail_is_remembered_until_the_group_opens);
    tcase_add_test(tcase, stuck_apply_does_not_hold_up_closing);
    Suite *suite = suite_create("engine_life");
    suite_add_tcase(suite, tcase);
    TCase *cycles = tcase_create("cycles");
    tcase_add_checked_fixture(cycles, setup_in_memory, engine_teardown);
    tcase_add_test(cycles, a_thousand_cycles_leak_nothing);
    tcase_set_timeout(cycles, 90);
    suite_add_tcase(suite, cycles);
    return test_run(suite);
}
