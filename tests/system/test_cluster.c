/* SPDX-License-Identifier: Apache-2.0 */
/* Three real daemons that take readings at the same time while something happens to them. Each test ends with equal
 * digests and exports, nothing acknowledged missing, and every conflict won by the write that the rule names. The main
 * thread directs, a thread per node feeds. */
#define _GNU_SOURCE /* nftw, unshare */
#include "tests/support/run.h"
#include "tools/mainjob/verdict.h"
#include "tools/sensors/sensors.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NODES 3u
#define GROUPS 4u
#define BATCH_LINES 100u
#define WAIT_MS 120000u

static char base[64];
static ab_cluster cluster;
static ab_feed feeds[NODES + 1]; /* the last one is a second one of some node */
static size_t feed_count;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

static void setup(void)
{
    snprintf(base, sizeof base, "/tmp/test_cluster_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
}

static void teardown(void)
{
    ab_cluster_stop(&cluster);
    for (size_t i = 0; i < feed_count; i++) {
        ab_feed_free(&feeds[i]);
    }
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void start_cluster(const ab_cluster_options *more)
{
    ab_cluster_options options = *more;
    options.bin = AB_BIN;
    options.dir = base;
    options.count = NODES;
    options.groups = GROUPS;
    ck_assert_msg(ab_cluster_init(&cluster, &options), "%s", cluster.error);
    for (size_t i = 0; i < NODES; i++) {
        ck_assert_msg(ab_cluster_start(&cluster, i), "%s", cluster.error);
    }
}

static void start_feed(size_t i, size_t node, size_t lines_per_batch)
{
    feeds[i].cluster = &cluster;
    feeds[i].node = node;
    feeds[i].timeout_ms = WAIT_MS;
    ck_assert(ab_feed_start(&feeds[i], lines_per_batch));
    feed_count++;
}

static void start_feeds(size_t lines)
{
    ab_sensors sensors;
    char line[AB_SENSORS_LINE_MAX];
    ab_sensors_init(&sensors, 7);
    for (size_t i = 0; i < lines; i++) {
        ck_assert(ab_feed_add(&feeds[i % NODES], line, ab_sensors_next(&sensors, line)));
    }
    for (size_t i = 0; i < NODES; i++) {
        start_feed(i, i, BATCH_LINES);
    }
}

/* Far more lines to one node, in large batches. */
static void start_flood(size_t node, size_t lines)
{
    ab_sensors sensors;
    char line[AB_SENSORS_LINE_MAX];
    ab_sensors_init(&sensors, 8);
    for (size_t i = 0; i < lines; i++) {
        ck_assert(ab_feed_add(&feeds[NODES], line, ab_sensors_next(&sensors, line)));
    }
    start_feed(NODES, node, 10 * BATCH_LINES);
}

static void begin(size_t lines)
{
    start_cluster(&(ab_cluster_options){0});
    start_feeds(lines);
}

/* Until `share` hundredths of the feed are acknowledged. */
static void wait_for(size_t i, size_t share)
{
    uint64_t until = ab_now_ms() + WAIT_MS;
    while (atomic_load(&feeds[i].acknowledged) * 100 < feeds[i].batch_count * share) {
        ck_assert_msg(ab_now_ms() < until && (atomic_load(&feeds[i].running) || feeds[i].error[0] == '\0'),
                      "node %zu: no progress: %s", i + 1, feeds[i].error);
        ab_pause();
    }
}

static void send_signal(size_t i, int number)
{
    int status = 0;
    ck_assert_msg(ab_cluster_signal(&cluster, i, number, &status), "%s", cluster.error);
    if (number == SIGTERM) {
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "node %zu did not stop in order", i + 1);
    }
}

static void start(size_t i)
{
    ck_assert_msg(ab_cluster_start(&cluster, i), "%s", cluster.error);
}

static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    char *text = malloc(*size + 1);
    rewind(file);
    ck_assert_uint_eq(fread(text, 1, *size, file), *size);
    fclose(file);
    return text;
}

static void check_exports(char *path, size_t room)
{
    size_t first_size = 0;
    char *first = NULL;
    for (size_t i = 0; i < NODES; i++) {
        size_t size = 0;
        snprintf(path, room, "%s/export%zu.lp", base, i + 1);
        ck_assert_msg(ab_cluster_export(&cluster, i, path), "%s", cluster.error);
        char *text = read_file(path, &size);
        if (first == NULL) {
            first = text;
            first_size = size;
            continue;
        }
        ck_assert_msg(size == first_size && memcmp(text, first, size) == 0,
                      "the exports of node 1 and %zu differ", i + 1);
        free(text);
    }
    free(first);
}

/* All feeds have ended, or end now. */
static void finish(void)
{
    char path[128];
    ab_verdict_counts counts = {0};
    ab_verdict *verdict = ab_verdict_new(GROUPS);
    for (size_t i = 0; i < feed_count; i++) {
        ck_assert_msg(ab_feed_join(&feeds[i]), "node %zu: %s", feeds[i].node + 1, feeds[i].error);
        ck_assert_uint_eq(feeds[i].acknowledged, feeds[i].batch_count);
    }
    ck_assert_msg(ab_cluster_converge(&cluster, WAIT_MS, NULL), "%s; everything is in %s", cluster.error,
                  base);
    check_exports(path, sizeof path);
    for (size_t i = 0; i < feed_count; i++) {
        ck_assert_msg(ab_verdict_add(verdict, &feeds[i], &counts), "%s", counts.error);
    }
    ck_assert_msg(ab_verdict_check(verdict, path, &counts), "%s", counts.error);
    ck_assert_uint_gt(counts.conflicts, 10);
    ab_verdict_free(verdict);
}

START_TEST(kill_each_in_turn)
{
    begin(AB_LINES);
    for (size_t i = 0; i < NODES; i++) {
        wait_for(i, 20 + 20 * i);
        send_signal(i, SIGKILL);
        start(i);
    }
    finish();
}
END_TEST

/* Again and again the same node, also before it has caught up. */
START_TEST(kill_one_often)
{
    begin(AB_LINES);
    for (size_t share = 10; share <= 80; share += 10) {
        wait_for(1, share);
        send_signal(1, SIGKILL);
        start(1);
    }
    finish();
}
END_TEST

/* A node that does not move stops nobody, and catches up when it moves again. */
START_TEST(stop_and_continue)
{
    begin(AB_LINES);
    wait_for(1, 20);
    send_signal(1, SIGSTOP);
    wait_for(0, 100);
    wait_for(2, 100);
    ck_assert_uint_lt(feeds[1].acknowledged, feeds[1].batch_count);
    send_signal(1, SIGCONT);
    finish();
}
END_TEST

START_TEST(kill_all_at_once)
{
    begin(AB_LINES);
    wait_for(0, 40);
    for (size_t i = 0; i < NODES; i++) {
        send_signal(i, SIGKILL);
    }
    for (size_t i = 0; i < NODES; i++) {
        start(i);
    }
    finish();
}
END_TEST

START_TEST(restart_in_order)
{
    begin(AB_LINES);
    for (size_t i = 0; i < NODES; i++) {
        wait_for(i, 20 + 20 * i);
        send_signal(i, SIGTERM);
        start(i);
    }
    finish();
    for (size_t i = 0; i < NODES; i++) {
        send_signal(i, SIGTERM);
    }
    for (size_t i = 0; i < NODES; i++) {
        start(i);
    }
    ck_assert_msg(ab_cluster_converge(&cluster, WAIT_MS, NULL), "%s", cluster.error);
}
END_TEST

/* Takes all room there is. @return the file's descriptor */
static int fill_disk(const char *dir)
{
    static char zeros[65536];
    char path[160];
    snprintf(path, sizeof path, "%s/filler", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    for (size_t size = sizeof zeros; size > 0;) {
        if (write(fd, zeros, size) <= 0) {
            ck_assert_int_eq(errno, ENOSPC);
            size /= 2;
        }
    }
    return fd;
}

/* A node whose disk is full refuses writes with 503 and says so; the others go on. With room again it takes them. */
START_TEST(full_disk)
{
    char path[128];
    snprintf(path, sizeof path, "%s/small", base);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    /* In a mount namespace of this process: nothing of it is left, however the test ends. */
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", path, "tmpfs", 0, "size=96m") != 0) {
        printf("full_disk: not run: may not mount a small file system (%s)\n", strerror(errno));
        return;
    }
    char data[160];
    snprintf(data, sizeof data, "%s/data", path);
    start_cluster(
        &(ab_cluster_options){.data_dir = {NULL, data, NULL}, .application_extra = "  timeout_ms: 1000\n"});
    start_feeds(AB_LINES);
    wait_for(1, 30);
    int filler = fill_disk(path);
    start_flood(1, AB_FLOOD);
    uint64_t until = ab_now_ms() + WAIT_MS;
    while (atomic_load(&feeds[NODES].refused) == 0) {
        ck_assert_msg(ab_now_ms() < until && atomic_load(&feeds[NODES].running),
                      "node 2 never refused a write");
        ab_pause();
    }
    wait_for(0, 100);
    wait_for(2, 100);
    ck_assert_uint_lt(feeds[NODES].acknowledged, feeds[NODES].batch_count);
    ck_assert_int_eq(ftruncate(filler, 0), 0);
    close(filler);
    finish();
    for (size_t i = 0; i < NODES; i++) {
        send_signal(i, SIGTERM);
    }
    umount2(path, MNT_DETACH);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cluster");
    TCase *c = tcase_create("three daemons");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, kill_each_in_turn);
    tcase_add_test(c, kill_one_often);
    tcase_add_test(c, stop_and_continue);
    tcase_add_test(c, kill_all_at_once);
    tcase_add_test(c, restart_in_order);
    tcase_add_test(c, full_disk);
    tcase_set_timeout(c, 300);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_run(suite());
}
