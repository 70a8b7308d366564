/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file relay.h
 * A TCP relay on loopback with a thread of its own, to be put between two nodes: delays, limits, cuts, drops and
 * damages what passes. Every function may be called from any thread; settings hold for what is read from then on.
 *
 * "Forth" is from who connected to the relay to the target, "back" the other way. A cut holds bytes and closings back,
 * as a network that loses everything does under TCP: what was sent arrives after the cut is healed, in order, if
 * both ends still hold on. A connection made during a cut stands for its maker, but nobody answers.
 */
#ifndef ANABRANCH_TESTS_RELAY_H
#define ANABRANCH_TESTS_RELAY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct relay relay;

/** Directions; may be or'ed. */
enum { RELAY_FORTH = 1, RELAY_BACK = 2, RELAY_BOTH = 3 };

/** Listens on an ephemeral loopback port. @param to  loopback port to forward to; may be changed later
 *  @return NULL: no memory, descriptor or thread */
relay *relay_start(uint16_t to);
void relay_stop(relay *r); /* NULL is allowed */
uint16_t relay_port(const relay *r);

/** New connections go there. */
void relay_target(relay *r, uint16_t to);
/** Each byte arrives so much later. */
void relay_delay(relay *r, int ways, uint32_t microseconds);
/** Bytes per second over all connections together; 0: no limit. */
void relay_rate(relay *r, int ways, uint64_t bytes_per_second);
/** Cuts the given directions and heals the others. 0: all is well. */
void relay_cut(relay *r, int ways);
/** Resets all connections now. */
void relay_drop(relay *r);
/** New connections are reset at once. */
void relay_refuse(relay *r, bool refuse);
/** Flips a bit of the byte that passes after `position` more bytes, counted over all connections. Once. */
void relay_corrupt(relay *r, int ways, uint64_t position);

/** Bytes that passed. */
uint64_t relay_bytes(relay *r, int ways);
/** Connections that stand. */
unsigned relay_connections(relay *r);
/** Damaged bytes so far. */
unsigned relay_damaged(relay *r);

#endif
