/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between multimaster cores: into the decoder, and into a core that has a stream, a link and something in flight. */
#include "replication/multimaster/message.h"
#include "replication/actions.h"
#include "replication/backends.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(ab_bytes bytes)
{
    ab_mm_message message;
    ab_mm_have have;
    size_t offset = 0;
    uint32_t count = 0;
    if (ab_mm_decode(bytes, &message) != AB_OK || message.kind != AB_MM_HAVE) {
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

static void play(ab_bytes bytes)
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
    step(core, &(ab_event){.type = AB_EV_PEER_UP, .peer = 2}, &actions);
    for (unsigned i = 0; i < 2; i++) {
        step(core, &(ab_event){.type = AB_EV_MESSAGE, .peer = 2, .bytes = bytes}, &actions);
        step(core, &(ab_event){.type = AB_EV_SENT, .peer = 2, .mark = {{1, 5}, 9}, .blocks_sent = 1},
             &actions);
    }
    step(core, &(ab_event){.type = AB_EV_PEER_DOWN, .peer = 2}, &actions);
    ab_actions_free(&actions);
    ab_backend_multimaster.destroy(core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode((ab_bytes){data, size});
    play((ab_bytes){data, size});
    return 0;
}
