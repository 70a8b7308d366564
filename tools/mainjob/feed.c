/* SPDX-License-Identifier: Apache-2.0 */
/* One thread per feed: a batch at a time, again until it is acknowledged. */
#include "tools/mainjob/feed.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool ab_feed_add(ab_feed *feed, const char *line, size_t size)
{
    if (feed->capacity < feed->size + size) {
        size_t capacity = 2 * (feed->size + size);
        char *text = realloc(feed->text, capacity);
        if (text == NULL) {
            return false;
        }
        feed->text = text;
        feed->capacity = capacity;
    }
    memcpy(feed->text + feed->size, line, size);
    feed->size += size;
    feed->lines++;
    return true;
}

static bool cut(ab_feed *feed, size_t lines_per_batch)
{
    size_t count = (feed->lines + lines_per_batch - 1) / lines_per_batch;
    feed->batches = calloc(count + 1, sizeof *feed->batches);
    if (feed->batches == NULL) {
        return false;
    }
    size_t lines = 0;
    size_t start = 0;
    for (size_t i = 0; i < feed->size; i++) {
        lines += feed->text[i] == '\n' ? 1 : 0;
        if (i + 1 == feed->size || (feed->text[i] == '\n' && lines == lines_per_batch)) {
            feed->batches[feed->batch_count++] =
                (ab_feed_batch){.text = feed->text + start, .size = i + 1 - start};
            start = i + 1;
            lines = 0;
        }
    }
    return true;
}

/* "group:node.epoch:first-last:hlc,..." */
static bool read_receipts(ab_feed_batch *batch, const char *text)
{
    size_t count = text[0] != '\0' ? 1 : 0;
    for (const char *p = text; *p != '\0'; p++) {
        count += *p == ',' ? 1 : 0;
    }
    free(batch->receipts);
    batch->receipts = calloc(count + 1, sizeof *batch->receipts);
    for (batch->receipt_count = 0; batch->receipts != NULL && batch->receipt_count < count;
         batch->receipt_count++) {
        ab_receipt *r = &batch->receipts[batch->receipt_count];
        int used = 0;
        if (sscanf(text, "%" SCNu64 ":%" SCNu32 ".%" SCNu32 ":%" SCNu64 "-%" SCNu64 ":%" SCNu64 "%n",
                   &r->group, &r->node, &r->epoch, &r->first, &r->last, &r->hlc, &used) != 6) {
            return false;
        }
        text += used + (text[used] == ',' ? 1 : 0);
    }
    return batch->receipts != NULL && count > 0;
}

static bool send_batch(ab_feed *feed, ab_httpc *client, ab_feed_batch *batch)
{
    uint64_t until = ab_now_ms() + feed->timeout_ms;
    ab_httpc_answer answer = {0};
    while (!atomic_load(&feed->stop)) {
        uint16_t port = ab_cluster_http_port(feed->cluster, feed->node);
        bool answered = false;
        if (port != 0) {
            batch->attempts++;
            answered = ab_httpc_post(client, port, "/write", batch->text, batch->size, &answer);
        }
        if (answered && answer.status == 204) {
            batch->acknowledged = read_receipts(batch, answer.writes);
            if (!batch->acknowledged) {
                snprintf(feed->error, sizeof feed->error, "no receipt in the answer: '%.100s'",
                         answer.writes);
            }
            return batch->acknowledged;
        }
        atomic_fetch_add(&feed->refused, answered && answer.status == 503 ? 1 : 0);
        if (answered && answer.status != 503) {
            snprintf(feed->error, sizeof feed->error, "status %d: %.200s", answer.status, answer.body);
            return false;
        }
        if (ab_now_ms() >= until) {
            snprintf(feed->error, sizeof feed->error,
                     "not acknowledged within %u ms; last answer: status %d %.120s", feed->timeout_ms,
                     answer.status, answered ? answer.body : "none");
            return false;
        }
        ab_pause();
    }
    return false;
}

static void *run(void *arg)
{
    ab_feed *feed = arg;
    ab_httpc client;
    if (!ab_httpc_init(&client)) {
        snprintf(feed->error, sizeof feed->error, "out of memory");
    }
    for (size_t i = 0; i < feed->batch_count && feed->error[0] == '\0' && !atomic_load(&feed->stop); i++) {
        if (send_batch(feed, &client, &feed->batches[i])) {
            atomic_fetch_add(&feed->acknowledged, 1);
        }
    }
    ab_httpc_free(&client);
    atomic_store(&feed->running, false);
    return NULL;
}

bool ab_feed_start(ab_feed *feed, size_t lines_per_batch)
{
    if (!cut(feed, lines_per_batch)) {
        return false;
    }
    atomic_store(&feed->running, true);
    return pthread_create(&feed->thread, NULL, run, feed) == 0;
}

bool ab_feed_join(ab_feed *feed)
{
    pthread_join(feed->thread, NULL);
    return feed->error[0] == '\0';
}

void ab_feed_free(ab_feed *feed)
{
    for (size_t i = 0; i < feed->batch_count; i++) {
        free(feed->batches[i].receipts);
    }
    free(feed->batches);
    free(feed->text);
    *feed = (ab_feed){0};
}
