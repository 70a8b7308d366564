/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file exposition.h
 * Metrics in Prometheus' text format: samples in any order in, one family after the other out. One thread at a time.
 */
#ifndef ANABRANCHD_EXPOSITION_H
#define ANABRANCHD_EXPOSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef enum ab_metric_type { AB_METRIC_GAUGE, AB_METRIC_COUNTER, AB_METRIC_HISTOGRAM } ab_metric_type;

typedef struct ab_sample {
    const char *family;  /**< without prefix; static */
    const char *suffix;  /**< behind it: "", "_bucket", ...; static */
    const char *help;    /**< static */
    ab_metric_type type; /**< of the family */
    double value;
    char labels[128]; /**< as between braces, may be empty */
} ab_sample;

/** Zero it to begin. */
typedef struct ab_exposition {
    ab_sample *list;
    size_t count;
    size_t capacity;
    bool failed; /**< out of memory: what follows is dropped */
} ab_exposition;

/** Adds a copy. */
void ab_exposition_add(ab_exposition *exposition, const ab_sample *sample);

/** Adds one without suffix and with the label `label`="`text`" (NULL: none). */
void ab_exposition_put(ab_exposition *exposition, ab_metric_type type, const char *family, const char *help,
                       const char *label, const char *text, double value);

/** Writes all. `prefix` goes before each name that does not begin with "process_". No sample may be there twice. */
void ab_exposition_write(ab_exposition *exposition, const char *prefix, FILE *out);

void ab_exposition_free(ab_exposition *exposition);

#endif
