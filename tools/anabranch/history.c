/* SPDX-License-Identifier: Apache-2.0 */
/* Series of looks, see history.h. Main thread. */
#include "tools/anabranch/history.h"
#include "tools/anabranch/source.h"

#include <math.h>
#include <stdlib.h>

#define WINDOW_S 2.0
/* A look waits so long for a node: longer than a busy disk makes one wait, so that a gap means a node that hangs. */
#define SILENCE_MS 5000

static double *series_new(size_t capacity)
{
    double *series = malloc(capacity * sizeof *series);
    for (size_t i = 0; series != NULL && i < capacity; i++) {
        series[i] = NAN;
    }
    return series;
}

bool history_init(history *h, const char *const *data_dirs, size_t node_count, size_t capacity)
{
    *h = (history){.capacity = capacity, .began_ms = sample_now_ms()};
    h->at = series_new(capacity);
    h->nodes = calloc(node_count, sizeof *h->nodes);
    bool good = h->at != NULL && h->nodes != NULL;
    for (size_t i = 0; good && i < node_count; i++) {
        history_node *node = &h->nodes[h->node_count++];
        node->data_dir = data_dirs[i];
        for (size_t k = 0; good && k < FIGURE_COUNT; k++) {
            node->figures[k] = series_new(capacity);
            good = node->figures[k] != NULL;
        }
    }
    if (!good) {
        history_free(h);
    }
    return good;
}

void history_free(history *h)
{
    for (size_t i = 0; i < h->node_count; i++) {
        history_node *node = &h->nodes[i];
        sample_free(&node->last);
        for (size_t k = 0; k < FIGURE_COUNT; k++) {
            free(node->figures[k]);
        }
        for (size_t k = 0; k < node->peer_count; k++) {
            free(node->peers[k].lag_entries);
            free(node->peers[k].lag_seconds);
            free(node->peers[k].confirmed);
        }
        free(node->peers);
    }
    free(h->nodes);
    free(h->at);
    *h = (history){0};
}

/* NULL: out of memory. */
static history_peer *find_peer(const history *h, history_node *node, uint32_t peer)
{
    for (size_t i = 0; i < node->peer_count; i++) {
        if (node->peers[i].peer == peer) {
            return &node->peers[i];
        }
    }
    history_peer *larger = realloc(node->peers, (node->peer_count + 1) * sizeof *larger);
    if (larger == NULL) {
        return NULL;
    }
    node->peers = larger;
    history_peer *added = &larger[node->peer_count];
    *added = (history_peer){peer, series_new(h->capacity), series_new(h->capacity), series_new(h->capacity)};
    if (added->lag_entries == NULL || added->lag_seconds == NULL || added->confirmed == NULL) {
        free(added->lag_entries);
        free(added->lag_seconds);
        free(added->confirmed);
        return NULL;
    }
    node->peer_count++;
    return added;
}

static bool add_look(history *h, history_node *node, node_sample *now)
{
    size_t at = h->count;
    for (size_t k = 0; k < FIGURE_COUNT; k++) {
        bool total = k <= FIGURE_CPU;
        double rate = node->last.answer != NULL ? sample_figure_rate(&node->last, now, (figure)k) : NAN;
        node->figures[k][at] = total ? rate : now->figures[k];
    }
    for (size_t k = 0; k < now->peer_count; k++) {
        const peer_sample *p = &now->peers[k];
        history_peer *series = find_peer(h, node, p->peer);
        if (series == NULL) {
            return false;
        }
        series->lag_entries[at] = (double)p->lag_entries;
        series->lag_seconds[at] = (double)p->lag_ms / 1000;
        series->confirmed[at] = (double)p->confirmed;
    }
    node->missed += !row_bool(now->answer, "running") || !row_good(now->answer, "code");
    now->node_id = now->node_id != 0 ? now->node_id : node->last.node_id;
    sample_free(&node->last);
    node->last = *now;
    *now = (node_sample){0};
    return true;
}

bool history_look(history *h, bool whole)
{
    if (h->count == h->capacity) {
        return true;
    }
    h->at[h->count] = (double)(sample_now_ms() - h->began_ms) / 1000;
    for (size_t i = 0; i < h->node_count; i++) {
        node_sample now;
        if (!sample_take(&now, h->nodes[i].data_dir, whole, SILENCE_MS)) {
            return false;
        }
        bool added = add_look(h, &h->nodes[i], &now);
        sample_free(&now);
        if (!added) {
            return false;
        }
    }
    h->count++;
    return true;
}

double history_catch_up(const history *h, size_t node, uint32_t peer)
{
    const history_node *n = &h->nodes[node];
    const history_peer *series = NULL;
    for (size_t i = 0; i < n->peer_count; i++) {
        series = n->peers[i].peer == peer ? &n->peers[i] : series;
    }
    if (series == NULL || h->count == 0) {
        return NAN;
    }
    size_t last = h->count - 1;
    size_t early = last;
    while (early > 0 && h->at[last] - h->at[early] < WINDOW_S) {
        early--;
    }
    peer_sample ends[2];
    size_t places[2] = {early, last};
    for (size_t i = 0; i < 2; i++) {
        if (!(series->confirmed[places[i]] >= 0)) {
            return NAN; /* nobody answered then */
        }
        ends[i] = (peer_sample){.lag_entries = (uint64_t)series->lag_entries[places[i]],
                                .confirmed = (uint64_t)series->confirmed[places[i]]};
    }
    return sample_catch_up(&ends[0], &ends[1], (uint64_t)((h->at[last] - h->at[early]) * 1000));
}

double history_mean(const history *h, const double *series)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < h->count; i++) {
        if (isfinite(series[i])) {
            sum += series[i];
            count++;
        }
    }
    return count > 0 ? sum / (double)count : NAN;
}
