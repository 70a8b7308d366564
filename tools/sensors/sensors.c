/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated readings. One thread per generator. */
#include "tools/sensors/sensors.h"

#include <inttypes.h>
#include <stdio.h>

#define SENSORS 300u
#define START_S 1767225600ull /* 2026-01-01 */
#define ONE_IN_AGAIN 10u

void ab_sensors_init(ab_sensors *sensors, uint64_t seed)
{
    *sensors = (ab_sensors){.state = seed * 2862933555777941757ull + 3037000493ull};
}

/* splitmix64 */
static uint64_t draw(ab_sensors *sensors)
{
    uint64_t z = sensors->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

size_t ab_sensors_next(ab_sensors *sensors, char *out)
{
    static const char *const plants[] = {"north", "south", "west"};
    uint64_t reading = sensors->again ? sensors->made - 1 : sensors->made;
    unsigned sensor = (unsigned)(reading % SENSORS);
    uint64_t time = (START_S + reading / SENSORS) * 1000000000ull + sensor * 1000000ull;
    const char *plant = plants[sensor % 3];
    uint64_t noise = draw(sensors);
    unsigned hundredths = (unsigned)(noise % 100);
    unsigned wobble = (unsigned)(noise >> 32) % 20;
    int size = 0;
    switch (sensor / 3 % 4) {
    case 0:
        size = snprintf(out, AB_SENSORS_LINE_MAX, "pump,plant=%s,unit=p%u flow=%u.%02u,rpm=%ui %" PRIu64 "\n",
                        plant, sensor, 40 + wobble, hundredths, 1400 + wobble * 3, time);
        break;
    case 1:
        size = snprintf(out, AB_SENSORS_LINE_MAX, "oven,plant=%s,unit=o%u temperature=%u.%02u %" PRIu64 "\n",
                        plant, sensor, 180 + wobble, hundredths, time);
        break;
    case 2:
        size = snprintf(out, AB_SENSORS_LINE_MAX, "tank,plant=%s,unit=t%u level=%u.%02u %" PRIu64 "\n", plant,
                        sensor, 2 + wobble, hundredths, time);
        break;
    default:
        size =
            snprintf(out, AB_SENSORS_LINE_MAX, "door,plant=%s,unit=d%u open=%s,by=\"badge %u\" %" PRIu64 "\n",
                     plant, sensor, wobble < 3 ? "true" : "false", hundredths, time);
        break;
    }
    sensors->made = reading + 1;
    sensors->again = !sensors->again && (noise >> 16) % ONE_IN_AGAIN == 0;
    return (size_t)size;
}
