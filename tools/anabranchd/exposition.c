/* SPDX-License-Identifier: Apache-2.0 */
/* Samples to Prometheus' text format. One thread at a time. */
#include "tools/anabranchd/exposition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 128u

void ab_exposition_add(ab_exposition *exposition, const ab_sample *sample)
{
    if (exposition->count == exposition->capacity) {
        size_t capacity = exposition->capacity == 0 ? 256 : exposition->capacity * 2;
        ab_sample *list = realloc(exposition->list, capacity * sizeof *list);
        if (list == NULL) {
            exposition->failed = true;
            return;
        }
        exposition->list = list;
        exposition->capacity = capacity;
    }
    exposition->list[exposition->count++] = *sample;
}

/* A label's value: backslash, quote and newline are escaped; what does not fit is cut. */
static void set_label(ab_sample *sample, const char *label, const char *text)
{
    size_t size = (size_t)snprintf(sample->labels, sizeof sample->labels, "%s=\"", label);
    for (; *text != '\0' && size + 4 < sizeof sample->labels; text++) {
        if (*text == '\\' || *text == '"' || *text == '\n') {
            sample->labels[size++] = '\\';
        }
        sample->labels[size++] = *text;
        if (*text == '\n') {
            sample->labels[size - 1] = 'n';
        }
    }
    sample->labels[size++] = '"';
    sample->labels[size] = '\0';
}

void ab_exposition_put(ab_exposition *exposition, ab_metric_type type, const char *family, const char *help,
                       const char *label, const char *text, double value)
{
    ab_sample sample = {.family = family, .suffix = "", .help = help, .type = type, .value = value};
    if (label != NULL) {
        set_label(&sample, label, text);
    }
    ab_exposition_add(exposition, &sample);
}

/* Family by name, in it as added: labels that differ keep their order, buckets, too. */
static int compare(const void *left, const void *right)
{
    const ab_sample *const *a = left;
    const ab_sample *const *b = right;
    int order = strcmp((*a)->family, (*b)->family);
    return order != 0 ? order : (*a > *b) - (*a < *b);
}

static void make_name(const char *prefix, const char *family, char *out)
{
    snprintf(out, NAME_MAX_BYTES, "%s%s", strncmp(family, "process_", 8) == 0 ? "" : prefix, family);
}

static void write_value(double value, FILE *out)
{
    if (isfinite(value) && fabs(value) < 1e15 && value == floor(value)) {
        fprintf(out, "%.0f\n", value);
    } else if (isfinite(value)) {
        fprintf(out, "%.17g\n", value);
    } else {
        fputs(isnan(value) ? "NaN\n" : value > 0 ? "+Inf\n" : "-Inf\n", out);
    }
}

static void write_family(const ab_sample *const *list, size_t count, const char *prefix, FILE *out)
{
    static const char *const types[] = {"gauge", "counter", "histogram"};
    char name[NAME_MAX_BYTES];
    make_name(prefix, list[0]->family, name);
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, list[0]->help, name, types[list[0]->type]);
    for (size_t i = 0; i < count; i++) {
        bool bare = list[i]->labels[0] == '\0';
        fprintf(out, "%s%s%s%s%s ", name, list[i]->suffix, bare ? "" : "{", list[i]->labels, bare ? "" : "}");
        write_value(list[i]->value, out);
    }
}

void ab_exposition_write(ab_exposition *exposition, const char *prefix, FILE *out)
{
    const ab_sample **list = malloc((exposition->count + 1) * sizeof *list);
    if (list == NULL) {
        exposition->failed = true;
        return;
    }
    for (size_t i = 0; i < exposition->count; i++) {
        list[i] = &exposition->list[i];
    }
    qsort(list, exposition->count, sizeof *list, compare);
    for (size_t i = 0, end = 0; i < exposition->count; i = end) {
        while (end < exposition->count && strcmp(list[i]->family, list[end]->family) == 0) {
            end++;
        }
        write_family(list + i, end - i, prefix, out);
    }
    free(list);
}

void ab_exposition_free(ab_exposition *exposition)
{
    free(exposition->list);
    *exposition = (ab_exposition){0};
}
