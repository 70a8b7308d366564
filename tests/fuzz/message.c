/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between multimaster cores: into the decoder, and into a core that has a stream, a link and something in flight. */
#include "replication/multimaster/message.h"
#include "replication/actions.h"
#include "replication/backends.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_points(const ab_mm_message *message)
{
    if (message->point_count == 0 || message->point_count > AB_MM_POINTS_MAX) {
        abort();
    }
    for (uint32_t i = 1; i < message->point_count; i++) {
        if (message->points[i].index <= message->points[i - 1].index) {
            abort();
        }
    }
}

static void decode(ab_bytes bytes)
{
    ab_mm_message message;
    ab_mm_have have;
    size_t offset = 0;
    uint32_t count = 0;
    if (ab_mm_decode(bytes, &message) != AB_OK) {
        return;
    }
    if (message.kind == AB_MM_POINTS) {
        walk_points(&message);
    }
    if (message.kind != AB_MM_HAVE) {
        return;
    }
    while (ab_mm_next_have(&message, &offset, &have)) {
        count++;
    }
    ab_mm_folded folded;
    uint32_t folds = 0;
    offset = 0;
    while (ab_mm_next_folded(&message, &offset, &folded)) {
        folds++;
    }
    if (count != message.have_count || folds != message.fold_count) {
        abort();
    }
}

static void step(void *core, const ab_event *event, ab_actions *actions)
{
    int code = ab_backend_multimaster.step(core, event, 1000000, actions);
    if (code != AB_OK && code != AB_EPROTO) {
        abort();
    }
    ab_actions_clear(actions);
}

/* Answers to whatever the core may have asked its log for: blocks of one entry. What it did not ask for, it ignores. */
static void read_back(void *core, ab_stream stream, uint64_t last, ab_actions *actions)
{
    for (uint64_t first = 1; first <= last; first++) {
        ab_block_info blocks[9];
        size_t count = 0;
        for (uint64_t i = first; i <= last && count < 9; i++) {
            blocks[count++] = (ab_block_info){.stream = stream,
                                              .first = i,
                                              .last = i,
                                              .bytes = 100,
                                              .hash = i == last ? 77 : i,
                                              .prev_hash = i - 1};
        }
        step(core,
             &(ab_event){
                 .type = AB_EV_LOADED, .mark = {stream, first}, .blocks = blocks, .block_count = count},
             actions);
    }
}

static void message_from(void *core, uint32_t peer, ab_bytes bytes, ab_actions *actions)
{
    step(core, &(ab_event){.type = AB_EV_MESSAGE, .peer = peer, .bytes = bytes}, actions);
}

/* Peer 2 has another history of one of our streams, and the core looks for where they part. */
static void search(void *core, ab_bytes bytes, ab_actions *actions)
{
    static const ab_stream ours = {1, 5};
    uint8_t empty[AB_MM_MESSAGE_BYTES];
    uint8_t differs[AB_MM_MESSAGE_BYTES];
    const ab_mm_message message = {.kind = AB_MM_DIVERGED, .stream = ours, .first = 9, .hash = 1};
    ab_bytes none = {empty, ab_mm_encode_have_begin(AB_MM_FULL, 0, false, empty)};
    for (uint32_t peer = 2; peer <= 3; peer++) {
        step(core, &(ab_event){.type = AB_EV_PEER_UP, .peer = peer}, actions);
        message_from(core, peer, none, actions);
    }
    message_from(core, 2, (ab_bytes){differs, ab_mm_encode(&message, differs)}, actions);
    message_from(core, 2, bytes, actions);
    read_back(core, ours, 9, actions);
    message_from(core, 3, bytes, actions);
    step(core, &(ab_event){.type = AB_EV_TIMER}, actions);
}

static void talk(void *core, ab_bytes bytes, ab_actions *actions)
{
    step(core, &(ab_event){.type = AB_EV_PEER_UP, .peer = 2}, actions);
    for (unsigned i = 0; i < 2; i++) {
        step(core, &(ab_event){.type = AB_EV_MESSAGE, .peer = 2, .bytes = bytes}, actions);
        step(core, &(ab_event){.type = AB_EV_SENT, .peer = 2, .mark = {{1, 5}, 9}, .blocks_sent = 1},
             actions);
    }
    step(core, &(ab_event){.type = AB_EV_PEER_DOWN, .peer = 2}, actions);
}

static void play(ab_bytes bytes, bool searching)
{
    static const ab_member members[] = {{1, AB_MEMBER_ACTIVE}, {2, AB_MEMBER_ACTIVE}, {3, AB_MEMBER_ACTIVE}};
    static const ab_stream_state log[] = {{{1, 4}, 9, 66, 9, 66, 1},
                                          {{1, 5}, 0, 0, 9, 77, 1},
                                          {{2, 4}, 9, 88, 9, 88, 1},
                                          {{2, 5}, 3, 33, 9, 99, 1}};
    static const ab_mark applied[] = {{{1, 4}, 9}, {{2, 4}, 9}};
    const ab_core_init init = {.group = 1,
                               .self = 1,
                               .members = members,
                               .member_count = 3,
                               .streams = log,
                               .stream_count = 4,
                               .applied = {applied, 2},
                               .tail_safe = true,
                               .wall_seconds = 5,
                               .window_blocks = 4,
                               .window_bytes = 1000,
                               .retry_min_ms = 10,
                               .retry_max_ms = 100,
                               .gossip_ms = 10};
    ab_actions actions = {0};
    void *core = NULL;
    if (ab_backend_multimaster.create(&init, &core) != AB_OK) {
        return;
    }
    step(core, &(ab_event){.type = AB_EV_START}, &actions);
    if (searching) {
        search(core, bytes, &actions);
    } else {
        talk(core, bytes, &actions);
    }
    ab_actions_free(&actions);
    ab_backend_multimaster.destroy(core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode((ab_bytes){data, size});
    play((ab_bytes){data, size}, false);
    play((ab_bytes){data, size}, true);
    return 0;
}
