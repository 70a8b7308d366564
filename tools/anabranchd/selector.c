/* SPDX-License-Identifier: Apache-2.0 */
/* Predicates and times to selections. One thread at a time. */
#include "tools/anabranchd/selector.h"
#include "tools/anabranchd/lineprotocol.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SECOND 1000000000ll
#define DAY_SECONDS 86400ll

void ab_selector_init(ab_selector *selector)
{
    *selector = (ab_selector){.reason = ""};
    ab_selection_init(&selector->selection);
}

void ab_selector_free(ab_selector *selector)
{
    for (size_t i = 0; i < selector->name_count; i++) {
        free(selector->names[i]);
    }
    selector->name_count = 0;
}

static int fault(ab_selector *selector, const char *reason)
{
    selector->reason = reason;
    return AB_EINVAL;
}

/* Appends the name as line protocol has it: a backslash before each byte that would end it. */
static size_t escape(char *out, ab_bytes name, const char *stops)
{
    const char *from = name.data;
    size_t size = 0;
    for (size_t i = 0; i < name.size; i++) {
        if (strchr(stops, from[i]) != NULL) {
            out[size++] = '\\';
        }
        out[size++] = from[i];
    }
    return size;
}

static int check_name(ab_selector *selector, ab_bytes name)
{
    const unsigned char *text = name.data;
    if (name.size == 0) {
        return fault(selector, "an empty name or value");
    }
    if (name.size > AB_LP_KEY_MAX / 4) {
        return fault(selector, "a name or value is too long");
    }
    for (size_t i = 0; i < name.size; i++) {
        if (text[i] < 0x20 || text[i] == 0x7f) {
            return fault(selector, "a control character in a name or value");
        }
    }
    return AB_OK;
}

int ab_selector_measurement(ab_selector *selector, ab_bytes name)
{
    int code = check_name(selector, name);
    if (code != AB_OK) {
        return code;
    }
    if (selector->selection.measurement.size > 0) {
        return fault(selector, "more than one measurement");
    }
    char *text = malloc(2 * name.size);
    if (text == NULL) {
        return AB_ENOMEM;
    }
    selector->selection.measurement = (ab_bytes){text, escape(text, name, ", ")};
    selector->names[selector->name_count++] = text;
    return AB_OK;
}

int ab_selector_tag(ab_selector *selector, ab_bytes key, ab_bytes value)
{
    ab_selection *selection = &selector->selection;
    int code = check_name(selector, key);
    code = code == AB_OK ? check_name(selector, value) : code;
    if (code != AB_OK) {
        return code;
    }
    if (selection->tag_count == AB_SELECTION_TAGS_MAX) {
        return fault(selector, "too many tags");
    }
    char *text = malloc(2 * (key.size + value.size) + 1);
    if (text == NULL) {
        return AB_ENOMEM;
    }
    size_t size = escape(text, key, ",= ");
    text[size++] = '=';
    size_t key_size = size;
    size += escape(text + size, value, ",= ");
    size_t at = 0;
    while (at < selection->tag_count && ab_bytes_compare(selection->tags[at], (ab_bytes){text, size}) < 0) {
        at++;
    }
    for (size_t i = 0; i < selection->tag_count; i++) {
        if (selection->tags[i].size >= key_size && memcmp(selection->tags[i].data, text, key_size) == 0) {
            free(text);
            return fault(selector, "a tag is named twice");
        }
    }
    memmove(&selection->tags[at + 1], &selection->tags[at],
            (selection->tag_count - at) * sizeof selection->tags[0]);
    selection->tags[at] = (ab_bytes){text, size};
    selection->tag_count++;
    selector->names[selector->name_count++] = text;
    return AB_OK;
}

static const char *skip_blanks(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') {
        p++;
    }
    return p;
}

static bool ends_word(char c)
{
    return c == '\0' || strchr(" \t\r\n=!<>~()\"'", c) != NULL;
}

/* A word or quoted text, into `out`, which has room for all of the predicate. NULL: neither, or the quote has no end. */
static const char *take_word(const char *p, char *out, size_t *size)
{
    *size = 0;
    char quote = *p;
    if (quote != '"' && quote != '\'') {
        while (!ends_word(*p)) {
            out[(*size)++] = *p++;
        }
        return *size > 0 ? p : NULL;
    }
    for (p++; *p != quote; p++) {
        if (*p == '\\' && p[1] != '\0') {
            p++;
        }
        if (*p == '\0') {
            return NULL;
        }
        out[(*size)++] = *p;
    }
    return p + 1;
}

static const char unreadable[] = "the predicate must be name=\"value\" AND name=\"value\" ..., with "
                                 "_measurement as the measurement's name";

/* One condition. @return where it ends; NULL: *code */
static const char *take_condition(ab_selector *selector, const char *p, char *name, char *value, int *code)
{
    ab_bytes n = {name, 0};
    ab_bytes v = {value, 0};
    *code = fault(selector, unreadable);
    p = take_word(skip_blanks(p), name, &n.size);
    if (p == NULL) {
        return NULL;
    }
    p = skip_blanks(p);
    if (*p != '=' || p[1] == '~') {
        return NULL;
    }
    p += p[1] == '=' ? 2 : 1;
    p = take_word(skip_blanks(p), value, &v.size);
    if (p == NULL) {
        return NULL;
    }
    if (n.size == 12 && memcmp(name, "_measurement", 12) == 0) {
        *code = ab_selector_measurement(selector, v);
    } else if (n.size == 6 && (memcmp(name, "_field", 6) == 0 || memcmp(name, "_value", 6) == 0)) {
        *code = fault(selector, "_field and _value cannot be selected: fields of a series go together");
    } else {
        *code = ab_selector_tag(selector, n, v);
    }
    return *code == AB_OK ? skip_blanks(p) : NULL;
}

int ab_selector_predicate(ab_selector *selector, const char *text)
{
    size_t room = strlen(text) + 1;
    char *name = malloc(2 * room);
    int code = AB_OK;
    const char *p = skip_blanks(text);
    if (name == NULL) {
        return AB_ENOMEM;
    }
    while (*p != '\0') {
        p = take_condition(selector, p, name, name + room, &code);
        if (p == NULL || *p == '\0') {
            break;
        }
        if (strncasecmp(p, "and", 3) != 0 || *skip_blanks(p + 3) == '\0' ||
            (!ends_word(p[3]) || p[3] == '=')) {
            code = fault(selector, unreadable);
            break;
        }
        p += 3;
    }
    free(name);
    return code;
}

/* Days since 1970 of a date in the Gregorian calendar. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    /* Years begin in March, so that the leap day is the last. */
    int64_t y = month > 2 ? year : year - 1;
    int64_t m = (month + 9) % 12;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

/* Exactly `digits` of them. */
static const char *take_digits(const char *p, int digits, int64_t *number)
{
    *number = 0;
    for (int i = 0; i < digits; i++, p++) {
        if (*p < '0' || *p > '9') {
            return NULL;
        }
        *number = *number * 10 + (*p - '0');
    }
    return p;
}

/* Digits and the byte after them. */
static const char *take_part(const char *p, int digits, char after, int64_t *number)
{
    p = p != NULL ? take_digits(p, digits, number) : NULL;
    return p != NULL && *p == after ? p + 1 : NULL;
}

static const char *take_fraction(const char *p, int64_t *ns)
{
    *ns = 0;
    if (*p != '.') {
        return p;
    }
    int64_t scale = SECOND;
    const char *start = ++p;
    for (; *p >= '0' && *p <= '9'; p++) {
        scale /= 10; /* 0 beyond the ninth digit: not counted */
        *ns += scale * (*p - '0');
    }
    return p > start ? p : NULL;
}

static bool take_offset(const char *p, int64_t *seconds)
{
    int64_t hours = 0;
    int64_t minutes = 0;
    *seconds = 0;
    if (*p == 'Z' || *p == 'z') {
        return p[1] == '\0';
    }
    if (*p != '+' && *p != '-') {
        return false;
    }
    const char *rest = take_part(p + 1, 2, ':', &hours);
    rest = rest != NULL ? take_digits(rest, 2, &minutes) : NULL;
    if (rest == NULL || *rest != '\0' || hours > 23 || minutes > 59) {
        return false;
    }
    *seconds = (hours * 60 + minutes) * (*p == '-' ? -60 : 60);
    return true;
}

static bool parse_rfc3339(const char *text, int64_t *ns)
{
    static const int64_t lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year = 0;
    int64_t month = 0;
    int64_t day = 0;
    int64_t hour = 0;
    int64_t minute = 0;
    int64_t second = 0;
    int64_t fraction = 0;
    int64_t offset = 0;
    const char *p = take_part(text, 4, '-', &year);
    p = take_part(p, 2, '-', &month);
    p = p != NULL ? take_digits(p, 2, &day) : NULL;
    if (p == NULL || (*p != 'T' && *p != 't' && *p != ' ')) {
        return false;
    }
    p = take_part(p + 1, 2, ':', &hour);
    p = take_part(p, 2, ':', &minute);
    p = p != NULL ? take_digits(p, 2, &second) : NULL;
    p = p != NULL ? take_fraction(p, &fraction) : NULL;
    if (p == NULL || !take_offset(p, &offset) || month < 1 || month > 12 || day < 1 ||
        day > lengths[month - 1] || hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (month == 2 && day == 29 && !leap) {
        return false;
    }
    int64_t seconds = days_of(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
    return !__builtin_mul_overflow(seconds, SECOND, ns) && !__builtin_add_overflow(*ns, fraction, ns);
}

bool ab_time_parse(const char *text, int64_t *ns)
{
    const char *p = text + (*text == '-' ? 1 : 0);
    int64_t number = 0;
    if (parse_rfc3339(text, ns)) {
        return true;
    }
    if (*p == '\0') {
        return false;
    }
    for (; *p >= '0' && *p <= '9'; p++) {
        int digit = *text == '-' ? '0' - *p : *p - '0';
        if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, digit, &number)) {
            return false;
        }
    }
    *ns = number;
    return *p == '\0';
}

static const char no_time[] =
    "start and stop are times as RFC 3339 has them (2026-11-21T08:00:00Z), or nanoseconds since 1970";

/* A range that is the wrong way round selects nothing: that is no wish, it is a mistake. */
static int set_time(ab_selector *selector, const char *text, bool *has, int64_t *time)
{
    const ab_selection *selection = &selector->selection;
    if (*has) {
        return fault(selector, has == &selector->has_start ? "more than one start" : "more than one stop");
    }
    if (!ab_time_parse(text, time)) {
        return fault(selector, no_time);
    }
    *has = true;
    return selection->start <= selection->stop ? AB_OK : fault(selector, "stop is before start");
}

int ab_selector_start(ab_selector *selector, const char *text)
{
    return set_time(selector, text, &selector->has_start, &selector->selection.start);
}

int ab_selector_stop(ab_selector *selector, const char *text)
{
    return set_time(selector, text, &selector->has_stop, &selector->selection.stop);
}

bool ab_selector_is_empty(const ab_selector *selector)
{
    return selector->name_count == 0 && !selector->has_start && !selector->has_stop;
}
