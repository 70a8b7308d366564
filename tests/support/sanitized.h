/* SPDX-License-Identifier: Apache-2.0 */
/** @file sanitized.h Whether this is a build with a sanitizer, in which memory and time say nothing. Any thread. */
#ifndef ANABRANCH_TESTS_SUPPORT_SANITIZED_H
#define ANABRANCH_TESTS_SUPPORT_SANITIZED_H

#include <stdbool.h>

static inline bool test_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#else
    return false;
#endif
}

#endif
