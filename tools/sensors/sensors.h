/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file sensors.h
 * Simulated plant sensors: readings in line protocol, the same ones for the same seed. A generator is used by one
 * thread at a time.
 *
 * Pumps, ovens and tanks of three plants report once a second each. About one reading in ten is followed by a second
 * one for the same sensor, field and time with another value (two gateways that hear the same sensor): written through
 * different nodes, these are the conflicts.
 */
#ifndef ANABRANCH_SENSORS_H
#define ANABRANCH_SENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AB_SENSORS_LINE_MAX 160u

typedef struct ab_sensors {
    uint64_t state; /**< of the random numbers */
    uint64_t made;  /**< readings so far, doubles not counted */
    bool again;     /**< the next line doubles the last one */
} ab_sensors;

void ab_sensors_init(ab_sensors *sensors, uint64_t seed);

/** The next line, with newline and NUL. `out` has room for AB_SENSORS_LINE_MAX. @return bytes without the NUL */
size_t ab_sensors_next(ab_sensors *sensors, char *out);

#endif
