/* SPDX-License-Identifier: Apache-2.0 */
/* Linked with -Wl,--wrap: the objects' calls come here, the C library's own do not. */
#include "tests/support/alloc_fail.h"

#include <stdatomic.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);

static atomic_ulong countdown;
static atomic_bool happened;

void alloc_fail_at(unsigned long nth)
{
    atomic_store(&happened, false);
    atomic_store(&countdown, nth);
}

bool alloc_fail_happened(void)
{
    return atomic_load(&happened);
}

static bool fails_now(void)
{
    unsigned long left = atomic_load(&countdown);
    while (left > 0) {
        if (!atomic_compare_exchange_weak(&countdown, &left, left - 1)) {
            continue;
        }
        if (left == 1) {
            atomic_store(&happened, true);
        }
        return left == 1;
    }
    return false;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails_now() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
    return fails_now() ? NULL : __real_strdup(text);
}
