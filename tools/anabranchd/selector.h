/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file selector.h
 * A selection as people and clients write it: names without escapes, predicates, times. One thread at a time.
 */
#ifndef ANABRANCHD_SELECTOR_H
#define ANABRANCHD_SELECTOR_H

#include "tools/anabranchd/selection.h"

/** A selection and the memory of its names. */
typedef struct ab_selector {
    ab_selection selection;
    char *names[AB_SELECTION_TAGS_MAX + 1];
    size_t name_count;
    bool has_start;
    bool has_stop;
    const char *reason; /**< static: what was wrong in the last call that returned AB_EINVAL */
} ab_selector;

void ab_selector_init(ab_selector *selector);
void ab_selector_free(ab_selector *selector);

/** Adds a condition. @return AB_OK, AB_EINVAL (`reason`), AB_ENOMEM */
int ab_selector_measurement(ab_selector *selector, ab_bytes name);
int ab_selector_tag(ab_selector *selector, ab_bytes key, ab_bytes value);

/** Adds those of a predicate: name = "value" AND ..., where the name _measurement is the measurement's. Names and values
 * may be in double or single quotes, in which a backslash takes the byte after it as it is. @return as above */
int ab_selector_predicate(ab_selector *selector, const char *text);

/** First and last time, each once: RFC 3339, or nanoseconds since 1970. @return as above */
int ab_selector_start(ab_selector *selector, const char *text);
int ab_selector_stop(ab_selector *selector, const char *text);

/** Whether no condition was added, not even one that everything meets. */
bool ab_selector_is_empty(const ab_selector *selector);

/** A time as RFC 3339 has it, or as nanoseconds since 1970. @return whether it is one, within int64 */
bool ab_time_parse(const char *text, int64_t *ns);

#endif
