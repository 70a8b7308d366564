/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file words.h
 * Traces for people: codes and messages in words. One thread.
 */
#ifndef ANABRANCH_TESTS_SIM_WORDS_H
#define ANABRANCH_TESTS_SIM_WORDS_H

#include "tests/sim/sim.h"

const char *word_of_code(int code);
void say_sealed(world *w, uint32_t node, const sim_block *block);
void say_message(world *w, uint32_t from, uint32_t to, ab_bytes bytes);

#endif
