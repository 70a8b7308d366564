/* SPDX-License-Identifier: Apache-2.0 */
/* Ours and its reference: runs `anabranch bench` and takes its figures. Main thread. */
#ifndef ANABRANCH_TESTS_COMPARE_OURS_H
#define ANABRANCH_TESTS_COMPARE_OURS_H

#include "tests/compare/report.h"
#include "tests/compare/site.h"

/* Fills the cells of the loops and of ours for all cases that are measured. @return 0 or -1 */
int ab_cmp_ours_run(struct ab_cmp_site *site, struct ab_cmp_round *round);

/* The same from the JSON that bench has printed. `why` (may be NULL): what is missing in it. @return 0 or -1 */
int ab_cmp_ours_read(const char *text, size_t size, const struct ab_cmp_options *options,
                     struct ab_cmp_round *round, const char **why);

#endif
