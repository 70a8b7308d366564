/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzing of predicates and times: any text is read or refused; what was read selects a series that has just its names.
 * One thread. */
#include "tools/anabranchd/lineprotocol.h"
#include "tools/anabranchd/selector.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* A series with the measurement and the tags is read by the parser as one name each, and is selected. */
static void check_series(const ab_selection *selection)
{
    char *line = malloc(64 + 4 * AB_LP_KEY_MAX + AB_SELECTION_TAGS_MAX * 2 * AB_LP_KEY_MAX);
    size_t n = 0;
    ab_bytes m = selection->measurement.size > 0 ? selection->measurement : (ab_bytes){"m", 1};
    memcpy(line, m.data, m.size);
    n += m.size;
    for (size_t i = 0; i < selection->tag_count; i++) {
        line[n++] = ',';
        memcpy(line + n, selection->tags[i].data, selection->tags[i].size);
        n += selection->tags[i].size;
    }
    ab_bytes series = {line, n};
    /* A name that ends in a backslash, or begins with '#', cannot be said in line protocol: there are no such series. */
    bool sayable = line[0] != '#' && memchr(line, '\\', n) == NULL && n <= AB_LP_KEY_MAX;
    require(memchr(line, '\\', n) != NULL || ab_selection_has_series(selection, series));
    memcpy(line + n, " f=1\n", 5);
    if (sayable) {
        ab_lp_parser *parser = ab_lp_new();
        ab_lp_line read;
        ab_lp_error error;
        ab_lp_begin(parser, line, n + 5, 1, 0);
        require(ab_lp_next(parser, &read, &error) == AB_OK);
        require(ab_selection_has_series(selection, read.series));
        ab_lp_free(parser);
    }
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    ab_selector selector;
    int64_t ns = 0;
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    ab_time_parse(text, &ns);
    ab_selector_init(&selector);
    int code = ab_selector_predicate(&selector, text);
    require(code == AB_OK || (code == AB_EINVAL && selector.reason[0] != '\0'));
    if (code == AB_OK) {
        check_series(&selector.selection);
    }
    ab_selector_free(&selector);
    free(text);
    return 0;
}
