/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file export.h
 * AB_API marks what libanabranch.so exports; everything else in the library is hidden.
 */
#ifndef ANABRANCH_EXPORT_H
#define ANABRANCH_EXPORT_H

#if defined(__GNUC__) || defined(__clang__)
#define AB_API __attribute__((visibility("default")))
#else
#define AB_API
#endif

#endif
