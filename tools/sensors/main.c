/* SPDX-License-Identifier: Apache-2.0 */
/* ab_sensors: simulated plant sensors as line protocol on standard output. One thread. */
#include "tools/sensors/sensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: ab_sensors [--lines N] [--seed N]\n"
    "\n"
    "Writes N lines (default 200000) of simulated sensor readings in InfluxDB line protocol;\n"
    "the same ones for the same seed (default 1).\n";

static int read_number(const char *text, uint64_t *number)
{
    char *end = NULL;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-';
}

int main(int argc, char **argv)
{
    uint64_t lines = 200000;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        bool pair = i + 1 < argc;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if ((strcmp(argv[i], "--lines") == 0 && pair && read_number(argv[i + 1], &lines)) ||
            (strcmp(argv[i], "--seed") == 0 && pair && read_number(argv[i + 1], &seed))) {
            i++;
            continue;
        }
        fputs(usage, stderr);
        return 2;
    }
    ab_sensors sensors;
    char line[AB_SENSORS_LINE_MAX];
    ab_sensors_init(&sensors, seed);
    for (uint64_t i = 0; i < lines; i++) {
        fwrite(line, 1, ab_sensors_next(&sensors, line), stdout);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "ab_sensors: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
