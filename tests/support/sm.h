/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file sm.h
 * A state machine for tests: remembers what it applied in order, keeps its durable frontier across reopening, and
 * misbehaves when told to. Its own lock; any thread may look.
 */
#ifndef ANABRANCH_TESTS_SM_H
#define ANABRANCH_TESTS_SM_H

#include <anabranch/anabranch.h>
#include <pthread.h>

typedef struct test_entry {
    ab_stream stream;
    uint64_t index;
    uint64_t hlc;
    char text[64]; /* start of the payload */
    size_t size;
} test_entry;

typedef struct test_sm {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    test_entry *entries;
    size_t count, capacity;
    ab_mark marks[16]; /* frontier after the last apply */
    size_t mark_count;
    ab_mark durable[16]; /* of the last checkpoint; what open returns */
    size_t durable_count;
    bool keep_durable; /* false: open returns nothing */
    bool forgets;      /* checkpoint tells nothing */
    bool blocked;      /* apply waits until it is cleared */
    unsigned in_apply;
    int fail_code;       /* returned by apply ... */
    unsigned fail_times; /* ... so many times */
    const char *reject;  /* payload that is refused for good */
    unsigned applies, checkpoints, opens, closes;
    int order_errors; /* an index that did not follow in its stream */
} test_sm;

extern const ab_statemachine test_statemachine;

void test_sm_init(test_sm *sm);
void test_sm_free(test_sm *sm);

/** Waits until `count` entries were applied. @return false after `timeout_ms` */
bool test_sm_wait(test_sm *sm, size_t count, unsigned timeout_ms);

/** Waits until somebody is in `apply`. @return false after `timeout_ms` */
bool test_sm_wait_inside(test_sm *sm, unsigned timeout_ms);
size_t test_sm_count(test_sm *sm);
void test_sm_block(test_sm *sm, bool blocked);

#endif
