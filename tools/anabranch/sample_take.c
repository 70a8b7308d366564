/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a node for what a sample holds, see sample.h. Main thread. */
#define _GNU_SOURCE /* struct ucred */
#include "tools/anabranch/cli.h"
#include "tools/anabranch/sample.h"
#include "tools/anabranch/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static bool file_row(void *arg, json_t *row)
{
    return report_file(arg, row);
}

/* Its process, as the kernel names it to us: also across containers, where its own number would mislead. */
static void look_at_process(int fd, double *figures)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    char path[64];
    unsigned long long pages[2];
    unsigned long user;
    unsigned long kernel;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0) {
        return;
    }
    snprintf(path, sizeof path, "/proc/%d/statm", (int)peer.pid);
    FILE *file = fopen(path, "re");
    if (file != NULL && fscanf(file, "%llu %llu", &pages[0], &pages[1]) == 2) {
        figures[FIGURE_RESIDENT_BYTES] = (double)pages[1] * (double)sysconf(_SC_PAGESIZE);
    }
    if (file != NULL) {
        fclose(file);
    }
    snprintf(path, sizeof path, "/proc/%d/stat", (int)peer.pid);
    file = fopen(path, "re");
    /* The name, in parentheses, has 15 bytes at most and may hold anything. */
    char line[512] = "";
    const char *end = file != NULL && fgets(line, sizeof line, file) != NULL ? strrchr(line, ')') : NULL;
    if (end != NULL &&
        sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel) == 2) {
        figures[FIGURE_CPU] = (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
    }
    if (file != NULL) {
        fclose(file);
    }
}

static int ask(source *s, bool whole, json_t *answer)
{
    static const char *const commands_live[] = {"status", "peers", "metrics"};
    size_t count = source_live(s) ? sizeof commands_live / sizeof commands_live[0] : 1;
    int code = AB_OK;
    for (size_t i = 0; i < count && code == AB_OK; i++) {
        query q = {.command = commands_live[i], .detail = i == 0 && whole};
        if (strcmp(q.command, "peers") == 0) {
            json_object_del(answer, "links"); /* both give them */
        }
        code = source_ask(s, &q, file_row, answer);
    }
    return code;
}

/* Makes the answer: {"data", "running", "code", "message"} and the rows. */
static json_t *ask_node(const char *data_dir, bool whole, int silence_ms, double *figures)
{
    source s;
    if (whole) {
        source_open(&s, data_dir);
    } else {
        source_connect(&s, data_dir);
    }
    json_t *answer =
        json_pack("{s:o, s:b}", "data", json_text(data_dir, strlen(data_dir)), "running", source_live(&s));
    if (answer == NULL) {
        source_close(&s);
        return NULL;
    }
    s.silence_ms = silence_ms;
    int code = ask(&s, whole, answer);
    struct stat file;
    /* A socket by itself may be the end of a tunnel: its process is not the node. */
    if (source_live(&s) && code == AB_OK && stat(data_dir, &file) == 0 && S_ISDIR(file.st_mode)) {
        look_at_process(s.fd, figures);
    }
    if (s.message.text[0] == '\0' && code != AB_OK) {
        snprintf(s.message.text, sizeof s.message.text, "%s: %s", data_dir, ab_strerror(code));
    }
    json_object_set_new(answer, "code", json_string(ab_error_name(code)));
    json_object_set_new(answer, "message", json_text(s.message.text, strlen(s.message.text)));
    source_close(&s);
    return answer;
}

static void read_metrics(const json_t *answer, double *figures)
{
    static const struct {
        const char *name;
        figure figure;
    } names[] = {
        {"log_entries_total", FIGURE_LOGGED},       {"log_block_bytes_total", FIGURE_LOGGED_BYTES},
        {"log_commits_total", FIGURE_COMMITS},      {"log_used_bytes", FIGURE_LOG_BYTES},
        {"memory_used_bytes", FIGURE_MEMORY_BYTES}, {"write_ack_p50_seconds", FIGURE_ACK_P50},
        {"write_ack_p99_seconds", FIGURE_ACK_P99},  {"write_ack_p999_seconds", FIGURE_ACK_P999},
        {"write_ack_max_seconds", FIGURE_ACK_MAX},
    };
    size_t i;
    json_t *metric;
    json_array_foreach(json_object_get(answer, "metrics"), i, metric)
    {
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            if (strcmp(row_text(metric, "name"), names[k].name) == 0) {
                double value = json_number_value(json_object_get(metric, "value"));
                bool idle =
                    value == 0 && names[k].figure >= FIGURE_ACK_P50 && names[k].figure <= FIGURE_ACK_MAX;
                figures[names[k].figure] = idle ? NAN : value;
            }
        }
    }
}

static void read_sync(node_sample *s, const json_t *sync)
{
    uint64_t ms = row_uint(sync, "lag_ms");
    for (size_t i = 0; i < s->peer_count; i++) {
        peer_sample *p = &s->peers[i];
        if (p->peer == row_uint(sync, "peer")) {
            p->lag_entries += row_uint(sync, "lag_entries");
            p->lag_bytes += row_uint(sync, "lag_bytes");
            p->lag_ms = ms > p->lag_ms ? ms : p->lag_ms;
            p->confirmed += row_uint(sync, "sync_index");
            return;
        }
    }
}

static void read_peers(node_sample *s)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(s->answer, "links"), i, row)
    {
        s->peers[s->peer_count++] = (peer_sample){.peer = (uint32_t)row_uint(row, "peer"),
                                                  .up = row_bool(row, "up"),
                                                  .queued_bytes = row_uint(row, "queued_bytes"),
                                                  .sent_bytes = row_uint(row, "sent_bytes"),
                                                  .received_bytes = row_uint(row, "received_bytes")};
    }
    json_array_foreach(json_object_get(s->answer, "syncs"), i, row)
    {
        read_sync(s, row);
    }
}

static void read_groups(node_sample *s)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(s->answer, "groups"), i, row)
    {
        const char *name = row_text(row, "name");
        group_sample *g = &s->groups[s->group_count++];
        *g = (group_sample){.group = row_uint(row, "group"),
                            .good = row_good(row, "write_code") && row_good(row, "apply_code") &&
                                    row_good(row, "bad_code"),
                            .last_index = row_uint(row, "last_index"),
                            .applied_entries = row_uint(row, "applied_entries"),
                            .queued_entries = row_uint(row, "queued_entries"),
                            .apply_blocks = row_uint(row, "apply_blocks"),
                            .lag_entries = row_uint(row, "lag_entries"),
                            .lag_ms = row_uint(row, "lag_ms")};
        text_quote(name, strlen(name), g->name, sizeof g->name);
    }
}

/* What the node does not sum up itself. */
static void sum_up(node_sample *s)
{
    uint64_t sums[FIGURE_COUNT] = {0};
    size_t i;
    json_t *row;
    for (i = 0; i < s->peer_count; i++) {
        sums[FIGURE_SENT_BYTES] += s->peers[i].sent_bytes;
        sums[FIGURE_RECEIVED_BYTES] += s->peers[i].received_bytes;
    }
    json_array_foreach(json_object_get(s->answer, "groups"), i, row)
    {
        sums[FIGURE_WRITTEN] += row_uint(row, "last_index");
        sums[FIGURE_APPLIED] += row_uint(row, "applied_entries");
        sums[FIGURE_QUEUED_BYTES] += row_uint(row, "queued_bytes");
        sums[FIGURE_APPLY_BLOCKS] += row_uint(row, "apply_blocks");
    }
    static const figure summed[] = {FIGURE_SENT_BYTES, FIGURE_RECEIVED_BYTES, FIGURE_WRITTEN,
                                    FIGURE_APPLIED,    FIGURE_QUEUED_BYTES,   FIGURE_APPLY_BLOCKS};
    for (i = 0; i < sizeof summed / sizeof summed[0]; i++) {
        s->figures[summed[i]] = (double)sums[summed[i]];
    }
}

bool sample_take(node_sample *s, const char *data_dir, bool whole, int silence_ms)
{
    *s = (node_sample){.at_ms = sample_now_ms()};
    for (size_t i = 0; i < FIGURE_COUNT; i++) {
        s->figures[i] = NAN;
    }
    s->answer = ask_node(data_dir, whole, silence_ms, s->figures);
    size_t peers = json_array_size(json_object_get(s->answer, "links"));
    size_t groups = json_array_size(json_object_get(s->answer, "groups"));
    s->peers = calloc(peers + 1, sizeof *s->peers);
    s->groups = calloc(groups + 1, sizeof *s->groups);
    if (s->answer == NULL || s->peers == NULL || s->groups == NULL) {
        sample_free(s);
        return false;
    }
    s->node_id = (uint32_t)row_uint(json_object_get(s->answer, "node"), "node_id");
    read_peers(s);
    read_groups(s);
    if (row_bool(s->answer, "running") && row_good(s->answer, "code")) {
        read_metrics(s->answer, s->figures);
        sum_up(s);
    }
    return true;
}
