/* SPDX-License-Identifier: Apache-2.0 */
/* Runs `anabranch bench`, see ours.h. Main thread. */
#include "tests/compare/ours.h"
#include "tools/anabranch/bench_sys.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN_NS 120000000000u
#define RUNS_AT_MOST 5u

static int read_cell(const json_t *median, const char *column, struct ab_cmp_cell *cell, const char **why)
{
    static const char *const names[AB_CMP_FIGURES] = {"entries_per_s", "p50_us", "p99_us",
                                                      "cpu_s_per_million", "catch_up_ms"};
    const json_t *object = json_object_get(median, column);
    *why = column;
    if (!object) {
        return -1;
    }
    for (int f = 0; f < AB_CMP_FIGURES; f++) {
        const json_t *value = json_object_get(object, names[f]);
        bool optional = f == AB_CMP_CATCH_UP;
        if (!json_is_number(value) && !optional) {
            *why = names[f];
            return -1;
        }
        cell->figures[f] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    cell->entries = json_number_value(json_object_get(object, "entries"));
    cell->known = true;
    return 0;
}

int ab_cmp_ours_read(const char *text, size_t size, const struct ab_cmp_options *options,
                     struct ab_cmp_round *round, const char **why)
{
    static const char *const loops[AB_CMP_CASES] = {"loops", "loops", "loop1"};
    const char *missing = "JSON";
    json_t *root = json_loadb(text, size, 0, NULL);
    const json_t *median = json_object_get(root, "median");
    int rc = median ? 0 : -1;
    for (int c = 0; c < AB_CMP_CASES && rc == 0; c++) {
        if (options->cases[c]) {
            rc = read_cell(median, loops[c], &round->cells[AB_CMP_LOOP][c], &missing);
            rc = rc == 0 ? read_cell(median, ab_cmp_case_name((enum ab_cmp_case)c),
                                     &round->cells[AB_CMP_OURS][c], &missing)
                         : rc;
        }
    }
    json_decref(root);
    if (rc != 0 && why) {
        *why = missing;
    }
    return rc;
}

static int read_output(struct ab_cmp_site *site, struct ab_cmp_round *round)
{
    char path[AB_CMP_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/node1.log", site->dir);
    static char text[1 << 20];
    FILE *file = fopen(path, "re");
    size_t size = file ? fread(text, 1, sizeof text, file) : 0;
    if (file) {
        fclose(file);
    }
    const char *begin = memchr(text, '{', size), *why = NULL;
    size_t skip = begin ? (size_t)(begin - text) : 0;
    if (ab_cmp_ours_read(text + skip, size - skip, site->options, round, &why) != 0) {
        return ab_cmp_fail(site, "its report has no %s", why);
    }
    return 0;
}

int ab_cmp_ours_run(struct ab_cmp_site *site, struct ab_cmp_round *round)
{
    const struct ab_cmp_load *load = &site->options->load;
    char numbers[6][32], cases[64] = "";
    snprintf(numbers[0], sizeof numbers[0], "%u", load->writers);
    snprintf(numbers[1], sizeof numbers[1], "%u", load->in_flight);
    snprintf(numbers[2], sizeof numbers[2], "%u", load->batch);
    snprintf(numbers[3], sizeof numbers[3], "%u", load->payload);
    snprintf(numbers[4], sizeof numbers[4], "%.3f", (double)load->warmup_ns / 1e9);
    snprintf(numbers[5], sizeof numbers[5], "%.3f", (double)load->duration_ns / 1e9);
    for (int c = 0; c < AB_CMP_CASES; c++) {
        if (site->options->cases[c]) {
            size_t used = strlen(cases);
            snprintf(cases + used, sizeof cases - used, "%s%s", used ? "," : "",
                     ab_cmp_case_name((enum ab_cmp_case)c));
        }
    }
    const char *argv[] = {site->options->program,
                          "bench",
                          "--json",
                          "--rounds",
                          "1",
                          "--nodes",
                          "3",
                          "--level",
                          "local",
                          "--durability",
                          "sync",
                          "--dir",
                          site->dir,
                          "--cases",
                          cases,
                          "--writers",
                          numbers[0],
                          "--in-flight",
                          numbers[1],
                          "--batch",
                          numbers[2],
                          "--payload",
                          numbers[3],
                          "--warmup",
                          numbers[4],
                          "--duration",
                          numbers[5],
                          NULL};
    uint64_t until = ab_bench_now() + RUNS_AT_MOST * (load->warmup_ns + load->duration_ns) + MARGIN_NS;
    if (ab_cmp_site_start(site, (char *const *)argv) != 0 || ab_cmp_site_wait(site, until) != 0) {
        return -1;
    }
    return read_output(site, round);
}
