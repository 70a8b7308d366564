/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes of the bench: the reference loops for real, and what is told when a child fails, dies, is silent, or
 * the bench is interrupted. This program is its own child, as the bench is. */
#include "tests/support/run.h"
#include "tools/anabranch/bench_child.h"
#include "tools/anabranch/bench_cluster.h"
#include "tools/anabranch/bench_crew.h"

#include <check.h>
#include <lmdb.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* In place of a load's batch: what a made-up node of a whole run does wrong. */
enum { RIGHT = 1000, OTHER_DIGEST, ONE_MORE, NOT_EQUAL, LATE_FAILURE };

/* A node that says what a node says: 100 entries written after a warm-up of 50, all applied. Node 3 does what is wrong. */
static int act(const struct ab_bench_setup *setup, struct ab_bench_msg *msg)
{
    uint32_t wrong = setup->id == 3 ? setup->load.batch : RIGHT;
    struct ab_bench_ready ready = {.port = (uint16_t)(1000 + setup->id)};
    struct ab_bench_done done = {.entries = 150, .before = 50, .calls = 1};
    struct ab_bench_equal equal = {.entries = 450 + (wrong == ONE_MORE),
                                   .before = 150 - setup->id,
                                   .digest = {1, wrong == OTHER_DIGEST}};
    struct ab_bench_stats *stats = calloc(1, sizeof *stats);
    if (setup->id == 3 && (setup->ports[0] != 1001 || setup->ports[1] != 1002)) {
        free(stats);
        return ab_bench_fail("wrong ports");
    }
    ab_bench_answer(AB_BENCH_MSG_READY, &ready, sizeof ready);
    ab_bench_order(msg, AB_BENCH_MSG_LINK);
    ab_bench_answer(AB_BENCH_MSG_LINK, NULL, 0);
    ab_bench_order(msg, AB_BENCH_MSG_GO);
    done.last_ack = msg->as.go.mark + 1000000000;
    equal.last_apply = msg->as.go.mark + setup->id * 1000000000u;
    ab_bench_answer(AB_BENCH_MSG_DONE, &done, sizeof done);
    ab_bench_order(msg, AB_BENCH_MSG_AWAIT);
    if (msg->as.await.entries != 450 || wrong == NOT_EQUAL) {
        free(stats);
        return ab_bench_fail("applied 7 of %lu", (unsigned long)msg->as.await.entries);
    }
    ab_bench_answer(AB_BENCH_MSG_EQUAL, &equal, sizeof equal);
    ab_bench_order(msg, AB_BENCH_MSG_STATS);
    stats->usage = (struct ab_bench_usage){
        .cpu_ns = 1003333, .write_bytes = 60200, .write_known = true, .peak_kib = 1024 * setup->id};
    stats->sent_bytes = 22073;
    ab_hist_add(&stats->latency, 5000);
    ab_bench_answer(AB_BENCH_MSG_STATS, stats, sizeof *stats);
    free(stats);
    ab_bench_order(msg, AB_BENCH_MSG_QUIT);
    ab_bench_answer(AB_BENCH_MSG_QUIT, NULL, 0);
    return wrong == LATE_FAILURE ? 66 : 0;
}

/* Takes the node's place: a child whose id says how it ends, or one that plays a whole run. */
int ab_bench_node_main(const struct ab_bench_setup *setup)
{
    struct ab_bench_ready ready = {.port = 4711};
    struct ab_bench_msg *msg = calloc(1, sizeof *msg);
    if (setup->load.batch >= RIGHT) {
        int rc = act(setup, msg);
        free(msg);
        return rc;
    }
    switch (setup->id) {
    case 1: /* ready, then silent until it is left alone */
        ab_bench_answer(AB_BENCH_MSG_READY, &ready, sizeof ready);
        ab_bench_order(msg, AB_BENCH_MSG_GO);
        ab_bench_order(msg, AB_BENCH_MSG_GO);
        break;
    case 2:
        free(msg);
        return ab_bench_fail("the disk is %s", "gone");
    case 3:
        raise(SIGKILL);
        break;
    default: /* out of order */
        ab_bench_answer(AB_BENCH_MSG_DONE, NULL, 0);
    }
    free(msg);
    return 0;
}

static char said[512];
static FILE *err;
static char dir[64];

static void setup(void)
{
    memset(said, 0, sizeof said);
    err = fmemopen(said, sizeof said, "w");
    strcpy(dir, "bench-loop-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    fclose(err);
    ck_assert_int_eq(ab_bench_remove_tree(dir), 0);
}

/* Blocks follow each other without gap, and no more of them than the backlog. */
static void check_log(const char *path, uint32_t block, uint32_t backlog, uint32_t payload)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t last = 0;
    uint32_t blocks = 0;
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_open(env, path, MDB_RDONLY, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        uint64_t first = 0;
        ck_assert_uint_eq(key.mv_size, 24);
        for (unsigned i = 16; i < 24; i++) {
            first = first << 8 | ((const uint8_t *)key.mv_data)[i];
        }
        ck_assert(last == 0 || first == last + block);
        last = first;
        ck_assert_uint_eq(value.mv_size, block * (payload + 3));
        blocks++;
    }
    ck_assert_uint_gt(blocks, 0);
    ck_assert_uint_le(blocks, backlog);
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(env);
}

static void run_loops(const struct ab_bench_opts *opts, const struct ab_bench_loops *loops,
                      struct ab_bench_result *result)
{
    struct ab_bench_site site = {.opts = opts, .dir = dir, .cancel_fd = -1, .err = err};
    ck_assert_msg(ab_bench_run_loops(&site, loops, 1, result) == 0, "%s", said);
}

START_TEST(loops_log_and_trim)
{
    struct ab_bench_opts opts;
    struct ab_bench_result result;
    char path[128];
    ab_bench_opts_init(&opts);
    opts.keep = true;
    opts.load.warmup_ns = 50000000;
    opts.load.duration_ns = 200000000;
    const struct ab_bench_loops loops = {"loops", 2, {.block = 100, .backlog = 4}};
    run_loops(&opts, &loops, &result);
    double entries = result.figures[AB_FIG_ENTRIES];
    double rate = result.figures[AB_FIG_ENTRIES_PER_S];
    ck_assert(entries >= 200 && fmod(entries, 100) == 0);
    ck_assert(rate > 0 && rate * 0.15 < entries); /* of one loop, in at least the time asked for */
    ck_assert(result.figures[AB_FIG_P50_US] > 0);
    ck_assert(result.figures[AB_FIG_P99_US] >= result.figures[AB_FIG_P50_US]);
    ck_assert(result.figures[AB_FIG_CPU_S] > 0);
    ck_assert(result.figures[AB_FIG_PEAK_MIB] > 0);
    for (int i = 1; i <= 2; i++) {
        snprintf(path, sizeof path, "%s/1-loops/%d", dir, i);
        check_log(path, 100, 4, 100);
    }
}
END_TEST

START_TEST(a_run_leaves_nothing)
{
    struct ab_bench_opts opts;
    struct ab_bench_result result;
    ab_bench_opts_init(&opts);
    opts.load.warmup_ns = 0;
    opts.load.duration_ns = 50000000;
    const struct ab_bench_loops loops = {"loop1", 1, {.block = 1, .backlog = 64}};
    run_loops(&opts, &loops, &result);
    ck_assert_int_eq(rmdir(dir), 0);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
}
END_TEST

/* Four commits, then 20 ms of rest: in a second there cannot be more than 50 times that, however fast the disk. */
START_TEST(a_loop_that_rests)
{
    struct ab_bench_opts opts;
    struct ab_bench_result result;
    ab_bench_opts_init(&opts);
    opts.load.warmup_ns = 0;
    opts.load.duration_ns = 1000000000;
    const struct ab_bench_loops loops = {"loop1rest", 1, {.block = 1, .backlog = 64, .rests = true}};
    run_loops(&opts, &loops, &result);
    ck_assert(result.figures[AB_FIG_ENTRIES] >= 4 && result.figures[AB_FIG_ENTRIES] <= 200);
    ck_assert(result.figures[AB_FIG_P50_US] > 0);
}
END_TEST

/* Starts a child of the made-up kind; says what the bench said. */
static int start_node(uint32_t id, struct ab_bench_crew **crew, int cancel_fd)
{
    struct ab_bench_setup *order = calloc(1, sizeof *order);
    *crew = ab_bench_crew_new("node", cancel_fd, err);
    ck_assert(order && *crew);
    order->role = AB_BENCH_ROLE_NODE;
    order->id = id;
    int rc = ab_bench_crew_add(*crew, order);
    free(order);
    fflush(err);
    return rc;
}

START_TEST(failures_are_told)
{
    static const struct {
        uint32_t id;
        const char *words;
    } cases[] = {
        {2, "node 1: the disk is gone"}, {3, "node 1: ended by signal 9"}, {4, "answers out of order"}};
    struct ab_bench_crew *crew;
    ck_assert_int_eq(start_node(cases[_i].id, &crew, -1), 1);
    ck_assert_msg(strstr(said, cases[_i].words), "said: %s", said);
    ab_bench_crew_free(crew);
}
END_TEST

START_TEST(silence_is_told)
{
    struct ab_bench_crew *crew;
    ck_assert_int_eq(start_node(1, &crew, -1), 0);
    ck_assert_uint_eq(crew->members[0].last.as.ready.port, 4711);
    ck_assert_int_eq(ab_bench_crew_await(crew, AB_BENCH_MSG_DONE, 1000000), 1);
    fflush(err);
    ck_assert_msg(strstr(said, "does not answer in time"), "said: %s", said);
    ab_bench_crew_free(crew);
}
END_TEST

START_TEST(interruption_is_told)
{
    struct ab_bench_crew *crew;
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(start_node(1, &crew, fds[0]), 0);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    ck_assert_int_eq(ab_bench_crew_await(crew, AB_BENCH_MSG_DONE, 60000000000u), 1);
    fflush(err);
    ck_assert_msg(strstr(said, "interrupted"), "said: %s", said);
    ab_bench_crew_free(crew);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static int run_made_up(uint32_t wrong, struct ab_bench_result *result)
{
    struct ab_bench_opts opts;
    ab_bench_opts_init(&opts);
    opts.load.batch = wrong;
    struct ab_bench_site site = {.opts = &opts, .dir = dir, .cancel_fd = -1, .err = err};
    int rc = ab_bench_run_cluster(&site, AB_BENCH_MANY, 1, result);
    fflush(err);
    return rc;
}

START_TEST(figures_of_a_run)
{
    struct ab_bench_result result;
    const double *f = result.figures;
    ck_assert_msg(run_made_up(RIGHT, &result) == 0, "%s", said);
    ck_assert_double_eq_tol(f[AB_FIG_ENTRIES], 300, 1e-9);
    /* the first node had applied the most, all but 301, when the warm-up ended; the last apply is 3 s after that */
    ck_assert_double_eq_tol(f[AB_FIG_ENTRIES_PER_S], 301 / 3.0, 1e-9);
    ck_assert_double_eq_tol(f[AB_FIG_ACKED_PER_S], 300, 1e-9);
    ck_assert_double_eq_tol(f[AB_FIG_CATCH_UP_MS], 2000, 1e-9);
    ck_assert_double_eq_tol(f[AB_FIG_P50_US], 5, 0.05);
    ck_assert_double_eq_tol(f[AB_FIG_CPU_S], 10, 1e-5); /* 3.01 ms for 301 */
    ck_assert_double_eq_tol(f[AB_FIG_WIRE], 1.1, 1e-3); /* 66,219 for 30,100 to 2 peers */
    ck_assert_double_eq_tol(f[AB_FIG_DISK], 2, 1e-9);   /* 180,600 for 30,100 on 3 nodes */
    ck_assert_double_eq_tol(f[AB_FIG_PEAK_MIB], 3, 1e-9);
}
END_TEST

START_TEST(replicas_that_differ_are_a_failure)
{
    static const struct {
        uint32_t wrong;
        const char *words;
    } cases[] = {{OTHER_DIGEST, "replicas differ: digest of node 3 is not that of node 1"},
                 {ONE_MORE, "node 3 has applied 451 entries, acknowledged were 450"},
                 {NOT_EQUAL, "node 3: applied 7 of 450"},
                 {LATE_FAILURE, "node 3: ended with exit status 66"}};
    struct ab_bench_result result;
    ck_assert_int_eq(run_made_up(cases[_i].wrong, &result), 1);
    ck_assert_msg(strstr(said, cases[_i].words), "said: %s", said);
}
END_TEST

START_TEST(a_message_that_makes_no_sense_is_refused)
{
    struct ab_bench_msg *msg = calloc(1, sizeof *msg);
    uint32_t header[2] = {AB_BENCH_MSG_STATS, (uint32_t)sizeof msg->as + 1};
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ck_assert_int_eq(write(fds[1], header, sizeof header), sizeof header);
    ck_assert_int_eq(ab_bench_receive(fds[0], msg, UINT64_MAX, -1), AB_BENCH_RECV_GONE);
    ck_assert_int_eq(write(fds[1], header, 3), 3); /* the end in the middle of one */
    close(fds[1]);
    ck_assert_int_eq(ab_bench_receive(fds[0], msg, UINT64_MAX, -1), AB_BENCH_RECV_GONE);
    ck_assert_int_eq(ab_bench_send(fds[0], AB_BENCH_MSG_QUIT, NULL, 0), -1);
    close(fds[0]);
    free(msg);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "bench") == 0 && strcmp(argv[2], "--child") == 0) {
        return ab_bench_child_main();
    }
    Suite *suite = suite_create("bench loops");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, loops_log_and_trim);
    tcase_add_test(tcase, a_run_leaves_nothing);
    tcase_add_test(tcase, a_loop_that_rests);
    tcase_add_loop_test(tcase, failures_are_told, 0, 3);
    tcase_add_test(tcase, silence_is_told);
    tcase_add_test(tcase, interruption_is_told);
    tcase_add_test(tcase, figures_of_a_run);
    tcase_add_loop_test(tcase, replicas_that_differ_are_a_failure, 0, 4);
    tcase_add_test(tcase, a_message_that_makes_no_sense_is_refused);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
