/* SPDX-License-Identifier: Apache-2.0 */
/* Round numbers for axes, and values in words; see plot.h. Pure functions; any thread. */
#include "tools/anabranch/plot.h"

#include <math.h>
#include <string.h>

/* The least of 1, 2, 5 times a power of ten that is not below `raw`. */
static double decimal_step(double raw)
{
    double power = pow(10, floor(log10(raw)));
    static const double factors[] = {1, 2, 5, 10};
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        /* What is a rounding error above a step is meant to be the step. */
        if (raw <= factors[i] * power * (1 + 1e-9)) {
            return factors[i] * power;
        }
    }
    return 10 * power;
}

static double clock_step(double raw)
{
    static const double steps[] = {1,   2,   5,    10,   15,   30,    60,    120,   300,
                                   600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400};
    if (raw < 1) {
        return decimal_step(raw);
    }
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (raw <= steps[i]) {
            return steps[i];
        }
    }
    return 86400 * decimal_step(raw / 86400);
}

static double step_of(plot_unit unit, double raw)
{
    switch (unit) {
    case PLOT_BYTES:
        return raw <= 1 ? 1 : exp2(ceil(log2(raw) - 1e-9));
    case PLOT_ELAPSED:
        return clock_step(raw);
    default:
        return decimal_step(raw);
    }
}

static size_t linear_ticks(plot_unit unit, double low, double high, size_t most, double *ticks)
{
    double step = step_of(unit, (high - low) / (double)(most - 1));
    double first = ceil(low / step - 1e-9) + 0.0; /* not -0 */
    size_t count = 0;
    while (count < most && (first + (double)count) * step <= high + step * 1e-9) {
        ticks[count] = (first + (double)count) * step;
        count++;
    }
    return count;
}

/* Powers of `base`, each `stride`-th, with 2 and 5 times them where there is room. */
static size_t log_ticks(plot_unit unit, double low, double high, size_t most, double *ticks)
{
    double base = unit == PLOT_BYTES ? 2 : 10;
    double first = ceil(log(low) / log(base) - 1e-9);
    double last = floor(log(high) / log(base) + 1e-9);
    double powers = last - first + 1;
    size_t count = 0;
    if (unit != PLOT_BYTES && powers * 3 <= (double)most) {
        static const double factors[] = {1, 2, 5};
        double tick = 0;
        for (size_t i = 0; count < most && tick <= high; i++) {
            size_t power = i / 3;
            tick = pow(10, first - 1 + (double)power) * factors[i % 3];
            if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) {
                ticks[count++] = tick;
            }
        }
        return count;
    }
    double stride = powers <= (double)most ? 1 : ceil(powers / (double)most);
    while (count < most && first + stride * (double)count <= last) {
        ticks[count] = pow(base, first + stride * (double)count);
        count++;
    }
    return count;
}

size_t plot_ticks(plot_unit unit, bool log, double low, double high, size_t most, double *ticks)
{
    if (most < 2 || !(high > low) || !isfinite(low) || !isfinite(high) || (log && !(low > 0))) {
        return 0;
    }
    return log ? log_ticks(unit, low, high, most, ticks) : linear_ticks(unit, low, high, most, ticks);
}

/* Three digits that count, without zeros at the end. */
static void digits(double value, const char *unit, char *text, size_t size)
{
    char number[48];
    double much = fabs(value);
    if (much != 0 && much < 0.01) {
        snprintf(number, sizeof number, "%.2g", value);
    } else {
        snprintf(number, sizeof number, "%.*f", much >= 99.95 ? 0 : much >= 9.995 ? 1 : 2, value);
        size_t end = strlen(number);
        while (strchr(number, '.') != NULL && (number[end - 1] == '0' || number[end - 1] == '.')) {
            bool point = number[--end] == '.';
            number[end] = '\0';
            if (point) {
                break;
            }
        }
    }
    snprintf(text, size, "%s%s", number, unit);
}

static void scaled(double value, double factor, const char *const *units, size_t count, char *text,
                   size_t size)
{
    size_t unit = 0;
    /* 999.6 would be written as 1000. */
    while (unit + 1 < count && fabs(value) >= factor - 0.5) {
        value /= factor;
        unit++;
    }
    digits(value, units[unit], text, size);
}

/* From a minute on: the two largest units. */
static void long_time(double seconds, char *text, size_t size)
{
    static const struct {
        double seconds;
        const char *name;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    size_t i = 0;
    seconds = round(seconds);
    while (units[i].seconds > seconds) {
        i++;
    }
    double much = floor(seconds / units[i].seconds);
    double rest = floor((seconds - much * units[i].seconds) / units[i + 1].seconds);
    if (rest > 0) {
        snprintf(text, size, "%.0f %s %.0f %s", much, units[i].name, rest, units[i + 1].name);
    } else {
        snprintf(text, size, "%.0f %s", much, units[i].name);
    }
}

static void time_value(plot_unit unit, double seconds, char *text, size_t size)
{
    static const char *const small[] = {" ns", " us", " ms"};
    if (seconds == 0) {
        snprintf(text, size, "0");
    } else if (fabs(seconds) < 0.9995 && unit == PLOT_SECONDS) {
        scaled(seconds * 1e9, 1000, small, sizeof small / sizeof small[0], text, size);
    } else if (seconds < 59.95) {
        digits(seconds, " s", text, size);
    } else {
        long_time(seconds, text, size);
    }
}

void plot_value(plot_unit unit, double value, char *text, size_t size)
{
    static const char *const thousands[] = {"", "k", "M", "G", "T", "P", "E"};
    static const char *const bytes[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    if (!isfinite(value)) {
        snprintf(text, size, "-");
    } else if (unit == PLOT_NUMBER) {
        scaled(value, 1000, thousands, sizeof thousands / sizeof thousands[0], text, size);
    } else if (unit == PLOT_BYTES) {
        scaled(value, 1024, bytes, sizeof bytes / sizeof bytes[0], text, size);
    } else {
        time_value(unit, value, text, size);
    }
}
