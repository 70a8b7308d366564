/* SPDX-License-Identifier: Apache-2.0 */
/* How many lines per second go through HTTP into the stores: starts one or three anabranchd, writes batches to all of
 * them over several connections for a while, and waits until every point is in every store. A program to measure with, no
 * test. A thread per connection. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "tools/mainjob/cluster.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define NODES_MAX 3u
#define CONNECTIONS_MAX 64u
#define TIME_DIGITS 13u
#define SAMPLES_MAX 200000u

typedef struct load {
    size_t nodes;
    unsigned connections; /* per node */
    unsigned batch;
    unsigned series; /* per connection */
    unsigned fields;
    unsigned groups;
    double seconds;
    double warm_up;
    bool gzip;
    const char *dir;
    ab_cluster cluster;
    uint64_t begin_us; /* of what is measured */
    uint64_t end_us;
} load;

typedef struct writer {
    load *load;
    size_t node;
    unsigned number;
    pthread_t thread;
    char *text;
    size_t size;
    size_t *times; /* offsets of the time stamps */
    uint64_t sent; /* batches, all */
    uint64_t measured;
    uint32_t *latencies; /* us, of measured batches */
    char error[600];
} writer;

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static const char *const field_names[] = {"temperature", "humidity", "pressure", "voltage",
                                          "current",     "power",    "rpm",      "level"};

/* The lines of a batch, but for their times. */
static bool make_batch(writer *w)
{
    const load *l = w->load;
    size_t room = (size_t)l->batch * (96 + 24 * l->fields);
    unsigned seed = 7 + w->number;
    w->text = malloc(room);
    w->times = malloc(l->batch * sizeof *w->times);
    w->latencies = malloc(SAMPLES_MAX * sizeof *w->latencies);
    if (w->text == NULL || w->times == NULL || w->latencies == NULL) {
        return false;
    }
    size_t n = 0;
    for (unsigned i = 0; i < l->batch; i++) {
        n += (size_t)snprintf(w->text + n, room - n, "sensor,device=d%05u,line=l%02u", i % l->series,
                              w->number);
        for (unsigned k = 0; k < l->fields; k++) {
            seed = seed * 1103515245 + 12345;
            n += (size_t)snprintf(w->text + n, room - n, "%c%s=%u.%02u", k == 0 ? ' ' : ',', field_names[k],
                                  (seed >> 16) % 100, (seed >> 8) % 100);
        }
        w->text[n++] = ' ';
        w->times[i] = n;
        n += (size_t)snprintf(w->text + n, room - n, "%0*d\n", (int)TIME_DIGITS, 0);
    }
    w->size = n;
    return true;
}

/* No point is written twice: every batch goes on in time where the last one ended. */
static void set_times(writer *w)
{
    const load *l = w->load;
    uint64_t steps = (l->batch + l->series - 1) / l->series;
    for (unsigned i = 0; i < l->batch; i++) {
        char digits[TIME_DIGITS + 1];
        uint64_t time = 1700000000000 + w->sent * steps + i / l->series;
        for (unsigned k = TIME_DIGITS; k > 0; k--, time /= 10) {
            digits[k - 1] = (char)('0' + time % 10);
        }
        memcpy(w->text + w->times[i], digits, TIME_DIGITS);
    }
}

static size_t compress_batch(const writer *w, char *out, size_t room)
{
    z_stream stream = {0};
    if (deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return 0;
    }
    stream.next_in = (Bytef *)w->text;
    stream.avail_in = (uInt)w->size;
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)room;
    int code = deflate(&stream, Z_FINISH);
    deflateEnd(&stream);
    return code == Z_STREAM_END ? room - stream.avail_out : 0;
}

static bool post_batch(writer *w, ab_httpc *client, char *packed)
{
    const load *l = w->load;
    uint16_t port = ab_cluster_http_port(&l->cluster, w->node);
    ab_httpc_answer answer;
    set_times(w);
    size_t size = l->gzip ? compress_batch(w, packed, w->size) : w->size;
    uint64_t before = now_us();
    do {
        if (!ab_httpc_request(client, port, "POST", "/api/v2/write?precision=ms",
                              l->gzip ? "Content-Encoding: gzip\r\n" : NULL, l->gzip ? packed : w->text, size,
                              NULL, &answer)) {
            snprintf(w->error, sizeof w->error, "node %zu: the connection broke", w->node + 1);
            return false;
        }
    } while (answer.status == 503);
    if (answer.status != 204) {
        snprintf(w->error, sizeof w->error, "%d: %.500s", answer.status, answer.body);
        return false;
    }
    uint64_t after = now_us();
    w->sent++;
    if (after >= l->begin_us && after <= l->end_us && w->measured < SAMPLES_MAX) {
        w->latencies[w->measured++] = (uint32_t)(after - before);
    }
    return true;
}

static void *run_writer(void *arg)
{
    writer *w = arg;
    ab_httpc client;
    char *packed = malloc(w->size);
    if (packed == NULL || !ab_httpc_init(&client)) {
        snprintf(w->error, sizeof w->error, "out of memory");
        free(packed);
        return NULL;
    }
    while (now_us() < w->load->end_us && post_batch(w, &client, packed)) {
    }
    ab_httpc_free(&client);
    free(packed);
    return NULL;
}

static double cpu_seconds(const load *l)
{
    double all = 0;
    for (size_t i = 0; i < l->nodes; i++) {
        char path[64];
        unsigned long long user = 0;
        unsigned long long system = 0;
        snprintf(path, sizeof path, "/proc/%ld/stat", (long)l->cluster.nodes[i].pid);
        FILE *file = fopen(path, "re");
        if (file != NULL && fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                                   &user, &system) == 2) {
            all += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    return all;
}

static bool holds(ab_httpc *client, const load *l, size_t node, uint64_t points)
{
    char expected[64];
    ab_httpc_answer answer;
    int n = snprintf(expected, sizeof expected, "{\"points\":%" PRIu64 ",", points);
    return ab_httpc_get(client, ab_cluster_http_port(&l->cluster, node), "/digest", &answer) &&
           answer.status == 200 && strncmp(answer.body, expected, (size_t)n) == 0;
}

/* Until every node has every point in its store. */
static bool wait_stored(const load *l, uint64_t points)
{
    ab_httpc client;
    uint64_t start = now_us();
    bool all = ab_httpc_init(&client);
    for (size_t i = 0; i < l->nodes && all; i++) {
        while (!holds(&client, l, i, points) && all) {
            all = now_us() - start < 120000000;
            ab_pause();
        }
    }
    ab_httpc_free(&client);
    return all;
}

static int compare(const void *left, const void *right)
{
    const uint32_t *a = left;
    const uint32_t *b = right;
    return (*a > *b) - (*a < *b);
}

static void report(const load *l, writer *writers, size_t count, double stored_seconds, double cpu)
{
    uint64_t sent = 0;
    size_t measured = 0;
    uint32_t *all = malloc(count * SAMPLES_MAX * sizeof *all);
    for (size_t i = 0; i < count; i++) {
        sent += writers[i].sent;
        if (all != NULL) {
            memcpy(all + measured, writers[i].latencies, writers[i].measured * sizeof *all);
        }
        measured += writers[i].measured;
    }
    double lines = (double)sent * l->batch;
    printf("%zu node%s, %zu connections, batches of %u lines%s, %u field%s a line, %zu bytes a line\n",
           l->nodes, l->nodes > 1 ? "s" : "", count, l->batch, l->gzip ? " (gzip)" : "", l->fields,
           l->fields > 1 ? "s" : "", writers[0].size / l->batch);
    printf("  acknowledged       %10.0f lines/s  %10.0f points/s\n", (double)measured * l->batch / l->seconds,
           (double)measured * l->batch * l->fields / l->seconds);
    printf("  in all stores      %10.0f lines/s  (all %.0f, until the last was in the last store)\n",
           lines / stored_seconds, lines);
    printf("  CPU of the daemons %10.2f s per million lines\n", cpu / lines * 1e6);
    if (all != NULL && measured > 0) {
        qsort(all, measured, sizeof *all, compare);
        printf("  latency of a batch  p50 %.1f ms, p99 %.1f ms, max %.1f ms\n", all[measured / 2] / 1e3,
               all[measured * 99 / 100] / 1e3, all[measured - 1] / 1e3);
    }
    free(all);
}

static bool run(load *l)
{
    static writer writers[NODES_MAX * CONNECTIONS_MAX];
    size_t count = l->nodes * l->connections;
    uint64_t sent = 0;
    bool fine = true;
    double cpu = cpu_seconds(l);
    for (size_t i = 0; i < count; i++) {
        writers[i] = (writer){.load = l, .node = i % l->nodes, .number = (unsigned)i};
        if (!make_batch(&writers[i])) {
            fprintf(stderr, "out of memory\n");
            return false;
        }
    }
    uint64_t start = now_us();
    l->begin_us = start + (uint64_t)(l->warm_up * 1e6);
    l->end_us = l->begin_us + (uint64_t)(l->seconds * 1e6);
    for (size_t i = 0; i < count; i++) {
        if (pthread_create(&writers[i].thread, NULL, run_writer, &writers[i]) != 0) {
            fprintf(stderr, "cannot start a thread\n");
            exit(1);
        }
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(writers[i].thread, NULL);
        sent += writers[i].sent;
        if (writers[i].error[0] != '\0') {
            fprintf(stderr, "%s\n", writers[i].error);
            fine = false;
        }
    }
    if (fine && !wait_stored(l, sent * l->batch * l->fields)) {
        fprintf(stderr, "not all points are in all stores after two minutes\n");
        fine = false;
    }
    if (fine) {
        report(l, writers, count, (double)(now_us() - start) / 1e6, cpu_seconds(l) - cpu);
    }
    for (size_t i = 0; i < count; i++) {
        free(writers[i].text);
        free(writers[i].times);
        free(writers[i].latencies);
    }
    return fine;
}

static int usage(void)
{
    fputs("usage: http_load [OPTION VALUE]...\n"
          "\n"
          "  --dir DIR          empty directory on the disk in question (default: one is made in /tmp and "
          "stays)\n"
          "  --nodes N          1 (default) or 3\n"
          "  --connections N    per node, default 4\n"
          "  --batch N          lines of a batch, default 5000\n"
          "  --series N         per connection, default 1000\n"
          "  --fields N         of a line, 1 (default) to 8\n"
          "  --groups N         default 8\n"
          "  --seconds S        measured, default 10, after --warm-up S, default 1\n"
          "  --gzip 1           bodies are compressed\n",
          stderr);
    return 2;
}

static bool take_options(int argc, char **argv, load *l)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"nodes", required_argument, NULL, 'n'},
                                            {"connections", required_argument, NULL, 'c'},
                                            {"batch", required_argument, NULL, 'b'},
                                            {"series", required_argument, NULL, 's'},
                                            {"fields", required_argument, NULL, 'f'},
                                            {"groups", required_argument, NULL, 'g'},
                                            {"seconds", required_argument, NULL, 't'},
                                            {"warm-up", required_argument, NULL, 'w'},
                                            {"gzip", required_argument, NULL, 'z'},
                                            {NULL, 0, NULL, 0}};
    for (int option = 0; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        unsigned number = optarg != NULL ? (unsigned)strtoul(optarg, NULL, 10) : 0;
        switch (option) {
        case 'd':
            l->dir = optarg;
            break;
        case 'n':
            l->nodes = number;
            break;
        case 'c':
            l->connections = number;
            break;
        case 'b':
            l->batch = number;
            break;
        case 's':
            l->series = number;
            break;
        case 'f':
            l->fields = number;
            break;
        case 'g':
            l->groups = number;
            break;
        case 't':
            l->seconds = strtod(optarg, NULL);
            break;
        case 'w':
            l->warm_up = strtod(optarg, NULL);
            break;
        case 'z':
            l->gzip = number != 0;
            break;
        default:
            return false;
        }
    }
    return optind == argc && (l->nodes == 1 || l->nodes == 3) && l->connections >= 1 &&
           l->connections <= CONNECTIONS_MAX && l->batch >= 1 && l->series >= 1 && l->fields >= 1 &&
           l->fields <= sizeof field_names / sizeof *field_names && l->groups >= 1 && l->seconds > 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

int main(int argc, char **argv)
{
    static load l = {.nodes = 1,
                     .connections = 4,
                     .batch = 5000,
                     .series = 1000,
                     .fields = 1,
                     .groups = 8,
                     .seconds = 10,
                     .warm_up = 1};
    char made[] = "/tmp/http_load_XXXXXX";
    if (!take_options(argc, argv, &l)) {
        return usage();
    }
    if (l.dir == NULL && (l.dir = mkdtemp(made)) == NULL) {
        fprintf(stderr, "%s: %s\n", made, strerror(errno));
        return 1;
    }
    ab_cluster_options options = {.bin = AB_BIN, .dir = l.dir, .count = l.nodes, .groups = l.groups};
    bool fine = ab_cluster_init(&l.cluster, &options);
    for (size_t i = 0; i < l.nodes && fine; i++) {
        fine = ab_cluster_start(&l.cluster, i);
    }
    if (!fine) {
        fprintf(stderr, "%s\n", l.cluster.error);
    }
    fine = fine && run(&l);
    ab_cluster_stop(&l.cluster);
    if (l.dir == made) {
        nftw(made, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    return fine ? 0 : 1;
}
