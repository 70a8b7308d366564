/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: everything the library counts, the stores, HTTP and the process. libmicrohttpd's threads. */
#include "tools/anabranchd/exposition.h"
#include "tools/anabranchd/http_internal.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef struct collection {
    const ab_http_options *options;
    ab_exposition out;
} collection;

static void put(collection *all, ab_metric_type type, const char *family, const char *help, double value)
{
    ab_exposition_put(&all->out, type, family, help, NULL, NULL, value);
}

static const char *group_name(const ab_http_options *options, uint64_t id)
{
    for (size_t i = 0; i < options->shard_count; i++) {
        if (options->shards[i].id == id) {
            return options->shards[i].name;
        }
    }
    return "?";
}

static bool on_metric(void *arg, const ab_metric *metric)
{
    collection *all = arg;
    char peer[16];
    const char *label = NULL;
    const char *text = NULL;
    if (metric->group != 0) {
        label = "group";
        text = group_name(all->options, metric->group);
    } else if (metric->peer != 0) {
        label = "peer";
        snprintf(peer, sizeof peer, "%" PRIu32, metric->peer);
        text = peer;
    }
    ab_exposition_put(&all->out, metric->counter ? AB_METRIC_COUNTER : AB_METRIC_GAUGE, metric->name,
                      metric->help, label, text, metric->value);
    return true;
}

typedef struct lag {
    uint32_t peer;
    uint64_t entries;
    uint64_t bytes;
    uint64_t ms;
} lag;

typedef struct lags {
    lag list[AB_MEMBERS_MAX];
    size_t count;
} lags;

static bool on_sync(void *arg, const ab_sync_status *status)
{
    lags *all = arg;
    size_t i = 0;
    while (i < all->count && all->list[i].peer != status->peer.peer) {
        i++;
    }
    if (i == AB_MEMBERS_MAX) {
        return false;
    }
    if (i == all->count) {
        all->list[all->count++] = (lag){.peer = status->peer.peer};
    }
    lag *l = &all->list[i];
    l->entries += status->lag_entries;
    l->bytes += status->lag_bytes;
    l->ms = status->lag_ms > l->ms ? status->lag_ms : l->ms;
    return true;
}

static void put_lags(collection *all)
{
    lags found = {.count = 0};
    for (size_t i = 0; i < all->options->shard_count; i++) {
        ab_group_syncs(all->options->shards[i].group, on_sync, &found);
    }
    for (size_t i = 0; i < found.count; i++) {
        char peer[16];
        const lag *l = &found.list[i];
        snprintf(peer, sizeof peer, "%" PRIu32, l->peer);
        ab_exposition_put(&all->out, AB_METRIC_GAUGE, "replication_lag_entries",
                          "Entries logged here that the peer has not confirmed, all groups together.", "peer",
                          peer, (double)l->entries);
        ab_exposition_put(&all->out, AB_METRIC_GAUGE, "replication_lag_bytes",
                          "Their bytes, approximately where they are in the log only.", "peer", peer,
                          (double)l->bytes);
        ab_exposition_put(&all->out, AB_METRIC_GAUGE, "replication_lag_seconds",
                          "Age of the oldest entry that the peer has not confirmed.", "peer", peer,
                          (double)l->ms / 1000);
    }
}

static void put_stores(collection *all)
{
    for (size_t i = 0; i < all->options->shard_count; i++) {
        const ab_shard *shard = &all->options->shards[i];
        const char *name = shard->name;
        ab_store_summary summary;
        ab_store_summarize(shard->store, &summary);
        ab_exposition_put(&all->out, AB_METRIC_GAUGE, "store_points", "Points in the store, as flushed.",
                          "group", name, (double)summary.points);
        ab_exposition_put(&all->out, AB_METRIC_GAUGE, "store_columns",
                          "Series times fields in the store, as flushed.", "group", name,
                          (double)summary.columns);
        ab_exposition_put(&all->out, AB_METRIC_GAUGE, "store_tombstones", "Deletes that are kept.", "group",
                          name, (double)summary.tombstones);
    }
}

/* Cumulative, as the format wants it. */
static void put_write_duration(collection *all, const ab_http_counters *counters)
{
    ab_sample sample = {.family = "http_write_duration_seconds",
                        .suffix = "_bucket",
                        .help = "From the last byte of a write's body to its answer.",
                        .type = AB_METRIC_HISTOGRAM};
    uint64_t count = 0;
    for (size_t i = 0; i <= AB_HTTP_BUCKETS; i++) {
        count += atomic_load(&counters->write_buckets[i]);
        if (i < AB_HTTP_BUCKETS) {
            snprintf(sample.labels, sizeof sample.labels, "le=\"%g\"", ab_http_bucket_us[i] / 1e6);
        } else {
            snprintf(sample.labels, sizeof sample.labels, "le=\"+Inf\"");
        }
        sample.value = (double)count;
        ab_exposition_add(&all->out, &sample);
    }
    sample.labels[0] = '\0';
    sample.suffix = "_sum";
    sample.value = (double)atomic_load(&counters->write_us) / 1e6;
    ab_exposition_add(&all->out, &sample);
    sample.suffix = "_count";
    sample.value = (double)count;
    ab_exposition_add(&all->out, &sample);
}

static void put_http(collection *all, ab_http *http)
{
    static const char *const classes[] = {"0xx", "1xx", "2xx", "3xx", "4xx", "5xx"};
    const ab_http_counters *c = &http->counters;
    for (size_t i = 2; i < 6; i++) {
        ab_exposition_put(&all->out, AB_METRIC_COUNTER, "http_requests_total",
                          "Requests answered, by class of status.", "status", classes[i],
                          (double)atomic_load(&c->requests[i]));
    }
    const struct {
        const char *family;
        const char *help;
        const _Atomic uint64_t *counter;
    } counters[] = {
        {"http_received_bytes_total", "Bytes of bodies as sent.", &c->received_bytes},
        {"http_body_bytes_total", "Bytes of bodies after inflating.", &c->body_bytes},
        {"http_exported_bytes_total", "Bytes of exports.", &c->exported_bytes},
        {"lines_stored_total", "Lines of line protocol stored.", &c->lines_stored},
        {"lines_malformed_total", "Lines of line protocol refused.", &c->lines_malformed},
        {"points_stored_total", "Fields of the lines stored.", &c->points_stored},
        {"deletes_total", "Deletes taken.", &c->deletes},
        {"http_connections_displaced_total",
         "Connections that waited for a request and were closed to make place.", &c->displaced},
    };
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
        put(all, AB_METRIC_COUNTER, counters[i].family, counters[i].help,
            (double)atomic_load(counters[i].counter));
    }
    put(all, AB_METRIC_GAUGE, "http_connections", "Open connections.", (double)atomic_load(&c->connections));
    put(all, AB_METRIC_GAUGE, "http_bodies_bytes", "Memory of bodies being received or parsed.",
        (double)atomic_load(&http->body_bytes));
    pthread_mutex_lock(&http->lock);
    size_t waiting = http->suspended;
    pthread_mutex_unlock(&http->lock);
    put(all, AB_METRIC_GAUGE, "http_requests_waiting", "Requests that wait for their writes or reads.",
        (double)waiting);
    put_write_duration(all, c);
}

static double resident_bytes(void)
{
    unsigned long long size = 0;
    unsigned long long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    bool read = file != NULL && fscanf(file, "%llu %llu", &size, &resident) == 2;
    if (file != NULL) {
        fclose(file);
    }
    return read ? (double)resident * (double)sysconf(_SC_PAGESIZE) : 0;
}

static double open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    double count = -1; /* the directory's own */
    for (const struct dirent *entry = NULL; dir != NULL && (entry = readdir(dir)) != NULL;) {
        count += entry->d_name[0] != '.' ? 1 : 0;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count < 0 ? 0 : count;
}

static void put_process(collection *all, const ab_http *http)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    put(all, AB_METRIC_COUNTER, "process_cpu_seconds_total", "User and system CPU time.", seconds);
    put(all, AB_METRIC_GAUGE, "process_resident_memory_bytes",
        "Resident memory, pages of mapped files included.", resident_bytes());
    put(all, AB_METRIC_GAUGE, "process_open_fds", "Open file descriptors.", open_descriptors());
    put(all, AB_METRIC_GAUGE, "process_max_fds", "Most file descriptors it may have.",
        (double)limit.rlim_cur);
    put(all, AB_METRIC_GAUGE, "process_start_time_seconds", "When it began to serve, since 1970.",
        (double)http->started);
    ab_exposition_put(&all->out, AB_METRIC_GAUGE, "build_info", "1.", "version", ab_version(), 1);
}

static char *collect(ab_http *http, size_t *size)
{
    collection all = {.options = http->options};
    char *text = NULL;
    ab_node_metrics(http->options->node, on_metric, &all);
    put_lags(&all);
    put_stores(&all);
    put_http(&all, http);
    put_process(&all, http);
    FILE *out = open_memstream(&text, size);
    if (out != NULL) {
        ab_exposition_write(&all.out, "anabranch_", out);
        bool failed = all.out.failed || ferror(out) != 0;
        if (fclose(out) != 0 || failed) {
            free(text);
            text = NULL;
        }
    }
    ab_exposition_free(&all.out);
    return text;
}

enum MHD_Result ab_http_metrics(ab_request *request)
{
    size_t size = 0;
    char *text = collect(request->http, &size);
    if (text == NULL) {
        return ab_http_failure(request, AB_ENOMEM);
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            "text/plain; version=0.0.4; charset=utf-8");
    return ab_http_queue(request, MHD_HTTP_OK, response);
}
