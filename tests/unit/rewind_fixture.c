/* SPDX-License-Identifier: Apache-2.0 */
/* A multimaster core with a stream that gets another history, and what it keeps over restarts. One thread. */
#include "tests/unit/rewind_fixture.h"

#include <check.h>
#include <string.h>

const ab_stream rewind_own = {1, 100};
const ab_stream rewind_theirs = {2, 7};
const ab_stream rewind_copy = {2, 9};
fixture f;

/* What a crash leaves. */
typedef struct kept {
    uint8_t key[AB_STATE_KEY_MAX];
    size_t key_size;
    uint8_t value[128];
    size_t value_size;
} kept;
static kept disk[8];
static size_t disk_count;

uint64_t rewind_hash_of(ab_stream stream, uint64_t index)
{
    return index == 0 ? 0 : fix_info(stream, index, index).hash;
}

void rewind_keep(ab_bytes key, ab_bytes value)
{
    size_t at = 0;
    while (at < disk_count &&
           (disk[at].key_size != key.size || memcmp(disk[at].key, key.data, key.size) != 0)) {
        at++;
    }
    ck_assert_uint_lt(at, 8);
    ck_assert_uint_le(value.size, sizeof disk[at].value);
    memcpy(disk[at].key, key.data, key.size);
    memcpy(disk[at].value, value.data, value.size);
    disk[at].key_size = key.size;
    disk[at].value_size = value.size;
    disk_count += at == disk_count;
}

void rewind_step(const ab_event *event)
{
    ck_assert_int_eq(fix_step(&f, event), AB_OK);
    const ab_action *action;
    for (size_t i = 0; (action = fix_action(&f, AB_ACT_PERSIST, i)) != NULL; i++) {
        rewind_keep(action->key, action->data);
    }
}

void rewind_simple(ab_event_type type, uint32_t peer)
{
    rewind_step(&(ab_event){.type = type, .peer = peer});
}

void rewind_mark(ab_event_type type, ab_stream stream, uint64_t index)
{
    rewind_step(&(ab_event){.type = type, .mark = {stream, index}});
}

ab_stream_state rewind_state_of(ab_stream stream, uint64_t base, uint64_t last)
{
    return (ab_stream_state){.stream = stream,
                             .base = base,
                             .base_hash = rewind_hash_of(stream, base),
                             .last = last,
                             .last_hash = rewind_hash_of(stream, last),
                             .hlc_last = last};
}

void rewind_open_with(const ab_stream_state *streams, size_t count, const ab_mark *applied, size_t marks)
{
    ab_state_value states[8];
    for (size_t i = 0; i < disk_count; i++) {
        states[i] = (ab_state_value){{disk[i].key, disk[i].key_size}, {disk[i].value, disk[i].value_size}};
    }
    ab_core_init init = fix_init(1);
    init.tail_safe = false;
    init.streams = streams;
    init.stream_count = count;
    init.applied = (ab_frontier){applied, marks};
    init.state = states;
    init.state_count = disk_count;
    fix_open(&f, &ab_backend_multimaster, &init);
    rewind_simple(AB_EV_START, 0);
}

void rewind_fresh(void)
{
    memset(&f, 0, sizeof f);
    disk_count = 0;
}

void rewind_done(void)
{
    fix_close(&f);
}

void rewind_have(uint32_t peer, uint32_t flags, const ab_mm_have *haves, uint32_t count)
{
    ck_assert_int_eq(fix_have(&f, peer, flags, haves, count), AB_OK);
    const ab_action *action;
    for (size_t i = 0; (action = fix_action(&f, AB_ACT_PERSIST, i)) != NULL; i++) {
        rewind_keep(action->key, action->data);
    }
}

ab_mm_have rewind_has(ab_stream stream, uint64_t upto, uint64_t hash, uint32_t rewound)
{
    return (ab_mm_have){
        .stream = stream, .durable = upto, .hash = hash, .accepted = upto, .rewound = rewound};
}

void rewind_link_with(uint32_t peer, const ab_mm_have *haves, uint32_t count)
{
    rewind_simple(AB_EV_PEER_UP, peer);
    rewind_have(peer, AB_MM_FULL, haves, count);
}

const ab_action *rewind_load_at(ab_stream stream, uint64_t index)
{
    const ab_action *action;
    for (size_t i = 0; (action = fix_action(&f, AB_ACT_LOAD, i)) != NULL; i++) {
        if (action->mark.stream.node == stream.node && action->mark.stream.epoch == stream.epoch &&
            action->mark.index == index) {
            return action;
        }
    }
    return NULL;
}

void rewind_loaded(ab_stream stream, uint64_t first, uint64_t last)
{
    ab_block_info blocks[128];
    size_t count = 0;
    ck_assert_uint_le(last - first + 1, 128);
    for (uint64_t i = first; i <= last; i++) {
        blocks[count++] = fix_info(stream, i, i);
    }
    rewind_step(
        &(ab_event){.type = AB_EV_LOADED, .mark = {stream, first}, .blocks = blocks, .block_count = count});
}

size_t rewind_count_in(uint64_t ms, ab_action_type type, uint32_t peer, ab_mm_kind kind)
{
    uint64_t until = f.now + ms * FIX_MS;
    size_t count = 0;
    ab_mm_message message;
    for (unsigned i = 0; i < 2000 && f.backend->deadline(f.core) <= until; i++) {
        ck_assert_int_eq(fix_timer(&f), AB_OK);
        count += peer != 0 ? fix_said(&f, peer, kind, 0, &message) : fix_count(&f, type);
    }
    f.now = until;
    return count;
}

ab_block_info rewind_copy_info(ab_stream copy, uint64_t index, uint64_t fork)
{
    ab_block_info info = fix_info(copy, index, index);
    info.origin =
        (ab_block_origin){.epoch = copy.node == 1 ? rewind_own.epoch : rewind_theirs.epoch,
                          .fork = fork,
                          .end = LAST,
                          .fork_hash = rewind_hash_of(copy.node == 1 ? rewind_own : rewind_theirs, fork),
                          .hash = rewind_hash_of(copy.node == 1 ? rewind_own : rewind_theirs, fork + index)};
    return info;
}

void rewind_assert_taken_back(ab_stream stream, uint64_t fork)
{
    const ab_action *back = fix_action(&f, AB_ACT_REWIND, 0);
    ck_assert_ptr_nonnull(back);
    ck_assert_uint_eq(fix_count(&f, AB_ACT_REWIND), 1);
    ck_assert_uint_eq(back->mark.stream.epoch, stream.epoch);
    ck_assert_uint_eq(back->mark.index, fork);
    ck_assert_uint_eq(back->hash, rewind_hash_of(stream, fork));
    ck_assert_uint_gt(back->key.size, 0);
    ck_assert_uint_gt(back->data.size, 0);
}

void rewind_assert_moved(ab_stream copy, uint64_t of_copy, ab_stream stream, uint64_t fork)
{
    ck_assert_uint_eq(fix_count(&f, AB_ACT_FRONTIER), 2);
    const ab_action *first = fix_action(&f, AB_ACT_FRONTIER, 0);
    const ab_action *second = fix_action(&f, AB_ACT_FRONTIER, 1);
    ck_assert_uint_eq(first->mark.stream.epoch, copy.epoch);
    ck_assert_uint_eq(first->mark.index, of_copy);
    ck_assert_uint_eq(second->mark.stream.epoch, stream.epoch);
    ck_assert_uint_eq(second->mark.index, fork);
}
