/* SPDX-License-Identifier: Apache-2.0 */
/* Options of the bench: what is taken, what is refused with which words, and that the help tells the real defaults.
 * One thread. */
#include "tests/support/run.h"
#include "tools/anabranch/bench_opts.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static char said[512];

/* Parses a command line given as words separated by blanks. */
static int parse(const char *line, struct ab_bench_opts *opts)
{
    char copy[1024];
    char *argv[80];
    int argc = 0;
    char *save = NULL;
    snprintf(copy, sizeof copy, "bench %s", line);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    memset(said, 0, sizeof said);
    FILE *err = fmemopen(said, sizeof said, "w");
    ck_assert_ptr_nonnull(err);
    ab_bench_opts_init(opts);
    int rc = ab_bench_opts_parse(argc, argv, opts, err);
    fclose(err);
    return rc;
}

START_TEST(all_options_are_taken)
{
    struct ab_bench_opts o;
    ck_assert_int_eq(
        parse(
            "--cases one,latency --rounds 7 --duration 1.5 --warmup 0 --entries 99 --writers 4 --batch 10 "
            "--payload 64 "
            "--in-flight 9 --rate 1000 --nodes 5 --groups 8 --durability interval --level memory --order "
            "arrival --dispatchers 2 --apply-threads 3 --block-bytes 8192 --queue-bytes 70000 --dir /x "
            "--keep "
            "--ref-block 50 --ref-backlog 3 --json --verbose --backend raft --link-delay 2.5 --link-rate 20M "
            "--idle-groups 77 --svg /y",
            &o),
        0);
    ck_assert(!o.cases[AB_BENCH_MANY] && o.cases[AB_BENCH_ONE] && o.cases[AB_BENCH_LATENCY]);
    ck_assert_uint_eq(o.rounds, 7);
    ck_assert_uint_eq(o.load.duration_ns, 1500000000);
    ck_assert_uint_eq(o.load.warmup_ns, 0);
    ck_assert_uint_eq(o.load.entries, 99);
    ck_assert_uint_eq(o.load.writers, 4);
    ck_assert_uint_eq(o.load.batch, 10);
    ck_assert_uint_eq(o.load.payload, 64);
    ck_assert_uint_eq(o.load.in_flight, 9);
    ck_assert_uint_eq(o.load.rate, 1000);
    ck_assert_uint_eq(o.load.nodes, 5);
    ck_assert_uint_eq(o.load.groups, 8);
    ck_assert_int_eq(o.load.durability, AB_DURABILITY_INTERVAL);
    ck_assert_int_eq(o.load.level, AB_WRITE_MEMORY);
    ck_assert_int_eq(o.load.order, AB_APPLY_ARRIVAL);
    ck_assert_uint_eq(o.load.dispatcher_threads, 2);
    ck_assert_uint_eq(o.load.apply_threads, 3);
    ck_assert_uint_eq(o.load.block_bytes, 8192);
    ck_assert_uint_eq(o.load.queue_bytes, 70000);
    ck_assert_str_eq(o.dir, "/x");
    ck_assert(o.keep && o.json && o.verbose && !o.help);
    ck_assert_str_eq(o.load.backend, "raft");
    ck_assert_uint_eq(o.link_delay_ns, 2500000);
    ck_assert_uint_eq(o.link_rate, 20000000);
    ck_assert_uint_eq(o.idle_groups, 77);
    ck_assert_str_eq(o.svg, "/y");
    ck_assert_uint_eq(o.ref.block, 50);
    ck_assert_uint_eq(o.ref.backlog, 3);
}
END_TEST

START_TEST(latency_and_help)
{
    struct ab_bench_opts o;
    ck_assert_int_eq(parse("--latency", &o), 0);
    ck_assert(!o.cases[AB_BENCH_MANY] && !o.cases[AB_BENCH_ONE] && o.cases[AB_BENCH_LATENCY]);
    ck_assert_int_eq(parse("--idle", &o), 0);
    ck_assert(!o.cases[AB_BENCH_LATENCY] && o.cases[AB_BENCH_IDLE]);
    ck_assert_int_eq(parse("--rounds 1", &o), 0);
    ck_assert(o.cases[AB_BENCH_SILENCE] && !o.cases[AB_BENCH_IDLE]);
    ck_assert_int_eq(parse("-h", &o), 0);
    ck_assert(o.help);
}
END_TEST

static const struct {
    const char *line, *words;
} wrong[] = {
    {"--nonsense", "--nonsense: no such option"},
    {"--rounds", "--rounds: needs a value"},
    {"--rounds 0", "--rounds: bad value \"0\": needs a whole number, 1 to 1000."},
    {"--rounds 3x", "bad value \"3x\""},
    {"--rounds -1", "bad value \"-1\""},
    {"--rounds 99999999999999999999", "bad value"},
    {"--duration 0", "--duration: bad value \"0\": needs seconds, 0.05 to 86400."},
    {"--duration nan", "--duration: bad value"},
    {"--warmup -1", "needs seconds, 0 to 86400."},
    {"--payload 0", "--payload: bad value \"0\": needs a whole number, 16 to 1048576."},
    {"--payload 15", "--payload: bad value"},
    {"--entries 0", "--entries: bad value \"0\": needs a whole number of at least 1."},
    {"--writers 257", "needs a whole number, 1 to 256."},
    {"--batch 0", "needs a whole number, 1 to 100000."},
    {"--in-flight 0", "needs a whole number, 1 to 10000000."},
    {"--rate 0", "needs a whole number, 1 to 1000000000."},
    {"--nodes 8", "--nodes: bad value \"8\": needs a whole number, 1 to 7."},
    {"--groups 0", "needs a whole number, 1 to 10000."},
    {"--dispatchers 65", "needs a whole number, 1 to 64."},
    {"--apply-threads 0", "needs a whole number, 1 to 64."},
    {"--block-bytes 1", "needs a whole number, 4096 to 8388608."},
    {"--queue-bytes 1", "needs a whole number of at least 4096."},
    {"--ref-block 0", "needs a whole number, 1 to 100000."},
    {"--ref-backlog 0", "needs a whole number, 1 to 1000000."},
    {"--cases many,few", "--cases: bad value \"many,few\": needs some of many,one,latency,silence,idle."},
    {"--cases many,", "--cases: bad value"},
    {"--durability always", "--durability: bad value \"always\": needs sync, interval or none."},
    {"--level strong", "--level: bad value \"strong\": needs memory, local, quorum or all."},
    {"--order random", "--order: bad value \"random\": needs causal or arrival."},
    {"--batch 1000 --queue-bytes 5000", "could never be taken"},
    {"--cases silence --payload 39", "needs a --payload of 40"},
    {"--link-delay -1", "--link-delay: bad value \"-1\": needs milliseconds, 0 to 10000."},
    {"--link-rate 20X", "--link-rate: bad value \"20X\": needs bytes a second, 1K to 1000G."},
    {"--link-rate 20MM", "--link-rate: bad value"},
    {"--link-rate 10", "--link-rate: bad value"},
    {"--idle-groups 1", "--idle-groups: bad value \"1\": needs a whole number, 2 to 1000000."},
    {"extra", "unexpected argument \"extra\""},
};

START_TEST(wrong_use_is_told_with_the_option)
{
    struct ab_bench_opts o;
    ck_assert_int_eq(parse(wrong[_i].line, &o), 2);
    ck_assert_msg(strstr(said, wrong[_i].words), "\"%s\" said: %s", wrong[_i].line, said);
    ck_assert_ptr_nonnull(strstr(said, "anabranch bench"));
}
END_TEST

/* Each "--option ... (default)" of the help, held against ab_bench_opts_init(). */
START_TEST(help_tells_the_defaults)
{
    struct ab_bench_opts o;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    ab_bench_help(out);
    fclose(out);
    ab_bench_opts_init(&o);
    const struct {
        const char *option;
        unsigned long value;
    } defaults[] = {{"--rounds", o.rounds},
                    {"--duration", (unsigned long)(o.load.duration_ns / 1000000000u)},
                    {"--warmup", (unsigned long)(o.load.warmup_ns / 1000000000u)},
                    {"--writers", o.load.writers},
                    {"--batch", o.load.batch},
                    {"--payload", o.load.payload},
                    {"--in-flight", o.load.in_flight},
                    {"--nodes", o.load.nodes},
                    {"--groups", o.load.groups},
                    {"--dispatchers", o.load.dispatcher_threads},
                    {"--apply-threads", o.load.apply_threads},
                    {"--block-bytes", o.load.block_bytes},
                    {"--queue-bytes", (unsigned long)o.load.queue_bytes},
                    {"--ref-block", o.ref.block},
                    {"--ref-backlog", o.ref.backlog}};
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        char head[40], value[40];
        snprintf(head, sizeof head, "\n  %s ", defaults[i].option);
        snprintf(value, sizeof value, "(%lu)", defaults[i].value);
        const char *at = strstr(text, head);
        ck_assert_msg(at != NULL, "no help for %s", defaults[i].option);
        const char *next = strstr(at + 1, "\n  --");
        const char *found = strstr(at, value);
        ck_assert_msg(found && (!next || found < next), "help of %s does not tell %s", defaults[i].option,
                      value);
    }
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench options");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, all_options_are_taken);
    tcase_add_test(tcase, latency_and_help);
    tcase_add_loop_test(tcase, wrong_use_is_told_with_the_option, 0, (int)(sizeof wrong / sizeof wrong[0]));
    tcase_add_test(tcase, help_tells_the_defaults);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
