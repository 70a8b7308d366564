/* SPDX-License-Identifier: Apache-2.0 */
/* A core under test: events in, actions out. One thread. */
#include "tests/unit/core_fixture.h"

#include <check.h>
#include <string.h>

static const ab_member members[] = {{1, AB_MEMBER_ACTIVE}, {2, AB_MEMBER_ACTIVE}, {3, AB_MEMBER_ACTIVE}};

ab_core_init fix_init(uint32_t self)
{
    return (ab_core_init){.group = 9,
                          .self = self,
                          .members = members,
                          .member_count = 3,
                          .tail_safe = true,
                          .wall_seconds = FIX_WALL,
                          .seed = 1,
                          .apply_order = AB_APPLY_CAUSAL,
                          .window_blocks = 4,
                          .window_bytes = 1000000,
                          .retry_min_ms = 100,
                          .retry_max_ms = 800,
                          .gossip_ms = 20};
}

void fix_open(fixture *f, const ab_backend *backend, const ab_core_init *init)
{
    memset(f, 0, sizeof *f);
    f->backend = backend;
    f->now = 1000 * FIX_MS;
    ck_assert_int_eq(backend->create(init, &f->core), AB_OK);
}

void fix_close(fixture *f)
{
    f->backend->destroy(f->core);
    ab_actions_free(&f->actions);
}

int fix_step(fixture *f, const ab_event *event)
{
    ab_actions_clear(&f->actions);
    f->code = f->backend->step(f->core, event, f->now, &f->actions);
    return f->code;
}

int fix_simple(fixture *f, ab_event_type type, uint32_t peer)
{
    return fix_step(f, &(ab_event){.type = type, .peer = peer});
}

int fix_mark(fixture *f, ab_event_type type, ab_stream stream, uint64_t index)
{
    return fix_step(f, &(ab_event){.type = type, .mark = {stream, index}});
}

int fix_block(fixture *f, ab_event_type type, uint32_t peer, const ab_block_info *block)
{
    return fix_step(f, &(ab_event){.type = type, .peer = peer, .block = block, .token = block->last});
}

int fix_message(fixture *f, uint32_t peer, const ab_mm_message *message)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + AB_MM_HAVE_BYTES];
    ab_bytes bytes = {data, ab_mm_encode(message, data)};
    return fix_step(f, &(ab_event){.type = AB_EV_MESSAGE, .peer = peer, .bytes = bytes});
}

int fix_have(fixture *f, uint32_t peer, uint32_t flags, const ab_mm_have *haves, uint32_t count)
{
    uint8_t data[AB_MM_MESSAGE_BYTES + 16 * AB_MM_HAVE_BYTES];
    size_t size = ab_mm_encode_have_begin(flags, count, false, data);
    for (uint32_t i = 0; i < count; i++) {
        size += ab_mm_encode_have(&haves[i], data + size);
    }
    return fix_step(f, &(ab_event){.type = AB_EV_MESSAGE, .peer = peer, .bytes = {data, size}});
}

int fix_sent(fixture *f, uint32_t peer, ab_stream stream, uint64_t upto, uint32_t blocks, int code)
{
    return fix_step(f, &(ab_event){.type = AB_EV_SENT,
                                   .peer = peer,
                                   .mark = {stream, upto},
                                   .blocks_sent = blocks,
                                   .bytes_sent = blocks * 100u,
                                   .code = code});
}

int fix_timer(fixture *f)
{
    uint64_t deadline = f->backend->deadline(f->core);
    ck_assert_uint_ne(deadline, AB_NEVER);
    f->now = deadline > f->now ? deadline : f->now;
    return fix_simple(f, AB_EV_TIMER, 0);
}

const ab_action *fix_action(const fixture *f, ab_action_type type, size_t n)
{
    for (size_t i = 0; i < f->actions.count; i++) {
        const ab_action *action = ab_actions_at(&f->actions, i);
        if (action->type == type && n-- == 0) {
            return action;
        }
    }
    return NULL;
}

size_t fix_count(const fixture *f, ab_action_type type)
{
    size_t count = 0;
    while (fix_action(f, type, count) != NULL) {
        count++;
    }
    return count;
}

bool fix_said(const fixture *f, uint32_t peer, ab_mm_kind kind, size_t n, ab_mm_message *message)
{
    const ab_action *action = NULL;
    for (size_t i = 0; (action = fix_action(f, AB_ACT_MESSAGE, i)) != NULL; i++) {
        if (action->peer == peer && ab_mm_decode(action->data, message) == AB_OK && message->kind == kind &&
            n-- == 0) {
            return true;
        }
    }
    return false;
}

bool fix_said_have(const fixture *f, uint32_t peer, ab_stream stream, ab_mm_have *have)
{
    ab_mm_message message;
    bool found = false;
    for (size_t n = 0; fix_said(f, peer, AB_MM_HAVE, n, &message); n++) {
        size_t offset = 0;
        ab_mm_have one;
        while (ab_mm_next_have(&message, &offset, &one)) {
            if (one.stream.node == stream.node && one.stream.epoch == stream.epoch) {
                *have = one;
                found = true;
            }
        }
    }
    return found;
}

static uint64_t hash_at(ab_stream stream, uint64_t index)
{
    return index == 0 ? 0 : stream.node * UINT64_C(1000000) + stream.epoch * UINT64_C(1000) + index;
}

ab_block_info fix_info(ab_stream stream, uint64_t first, uint64_t last)
{
    return (ab_block_info){.stream = stream,
                           .first = first,
                           .last = last,
                           .hlc_last = last,
                           .hash = hash_at(stream, last),
                           .prev_hash = hash_at(stream, first - 1),
                           .bytes = 100};
}

void fix_write(fixture *f, ab_stream stream, uint64_t first, uint64_t last)
{
    ab_frontier deps;
    ab_block_info info = fix_info(stream, first, last);
    ck_assert_int_eq(f->backend->seal(f->core, first, last, &deps), AB_OK);
    ck_assert_int_eq(fix_mark(f, AB_EV_TIMER, stream, 0), AB_OK);
    ck_assert_int_eq(fix_block(f, AB_EV_LOGGED, 0, &info), AB_OK);
}

void fix_link(fixture *f, uint32_t peer)
{
    ck_assert_int_eq(fix_simple(f, AB_EV_PEER_UP, peer), AB_OK);
    ck_assert_int_eq(fix_have(f, peer, AB_MM_FULL, NULL, 0), AB_OK);
}
