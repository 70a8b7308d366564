/* SPDX-License-Identifier: Apache-2.0 */
/* Two looks at a node compared, see sample.h. Main thread. */
#include "tools/anabranch/sample.h"
#include "tools/anabranch/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t sample_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void sample_free(node_sample *s)
{
    json_decref(s->answer);
    free(s->peers);
    free(s->groups);
    *s = (node_sample){0};
}

const peer_sample *sample_peer(const node_sample *s, uint32_t peer)
{
    for (size_t i = 0; i < s->peer_count; i++) {
        if (s->peers[i].peer == peer) {
            return &s->peers[i];
        }
    }
    return NULL;
}

const group_sample *sample_group(const node_sample *s, uint64_t group)
{
    for (size_t i = 0; i < s->group_count; i++) {
        if (s->groups[i].group == group) {
            return &s->groups[i];
        }
    }
    return NULL;
}

double sample_rate(uint64_t before, uint64_t now, uint64_t ms)
{
    return ms > 0 && now >= before ? (double)(now - before) * 1000 / (double)ms : NAN;
}

double sample_figure_rate(const node_sample *before, const node_sample *now, figure f)
{
    double grown = now->figures[f] - before->figures[f];
    uint64_t ms = now->at_ms - before->at_ms;
    return ms > 0 && grown >= 0 ? grown * 1000 / (double)ms : NAN;
}

double sample_catch_up(const peer_sample *before, const peer_sample *now, uint64_t ms)
{
    if (now == NULL) {
        return NAN;
    }
    if (now->lag_entries == 0) {
        return 0;
    }
    double speed = before != NULL ? sample_rate(before->confirmed, now->confirmed, ms) : NAN;
    if (isnan(speed)) {
        return NAN;
    }
    double lag = (double)now->lag_entries;
    if (lag <= speed) {
        return lag / speed; /* it is under way, and no more than that: what follows it comes as fast */
    }
    double less = ((double)before->lag_entries - lag) * 1000 / (double)ms;
    return less > 0 ? lag / less : INFINITY;
}

void sample_catch_up_text(bool up, double seconds, char *text, size_t size)
{
    if (!up) {
        snprintf(text, size, "link is down"); /* what it was at the last interval says nothing now */
    } else if (isnan(seconds)) {
        snprintf(text, size, "?");
    } else if (seconds == 0) {
        snprintf(text, size, "in step");
    } else if (isinf(seconds) || seconds > 1e9) {
        snprintf(text, size, "falling behind");
    } else {
        text_duration((uint64_t)ceil(seconds * 1000), text, size);
    }
}
